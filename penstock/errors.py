"""All errors that Penstock raises, in one tree. Each has a code, a location, a reason and a hint.

    PenstockError
    ├── UsageError                 the user's code or configuration must change           (exit 2)
    │   ├── ConfigurationError         invalid setting, profile or option
    │   ├── FlowImportError            a flow file or name that cannot be loaded
    │   ├── ParameterError             arguments that do not match the parameters
    │   ├── PolicyError                an invalid cache policy
    │   ├── DigestError                a value without a stable digest
    │   ├── TracingError               an invalid use of futures or graphs
    │   └── CycleError                 nodes that depend on each other
    ├── InfrastructureError        something external is missing, full, too new or unreachable (exit 3)
    │   ├── StoreError                 the result store
    │   │   ├── StoreUnreachable           no answer: *unknown*, never a miss
    │   │   ├── StoreRefused               wrong credentials, no read permission, no such bucket
    │   │   ├── StoreNotWritable           no write permission, read-only
    │   │   ├── StoreFull                  no space or quota left
    │   │   └── StoreVersionError          written by a newer Penstock
    │   ├── LockError                  the lock manager
    │   │   ├── LocksUnreachable           no answer: some locks may be held by this session
    │   │   ├── LockTimeout                the lock was not free in time
    │   │   └── SessionLost                the lease expired while locks were held
    │   └── RunnerError                the engine: no workers, not installed, broken
    ├── ResultError                one stored result
    │   ├── SerializationError         a value that cannot be stored, or sent to a worker
    │   ├── DamagedResult              bytes are missing or differ from what was written
    │   ├── CodecRefused               the reader does not accept this codec
    │   └── SignatureRefused           the record's signature is missing or invalid
    └── TaskError                  one call of a task                                     (exit 1)
        ├── TaskFailed                 its function raised an exception that cannot be sent
        ├── TaskTimeout                it ran longer than `timeout_seconds`
        ├── WorkerLost                 the worker died while running it
        ├── UpstreamFailed             it never ran because a dependency failed
        ├── ValuesChanged              a value changed after the flow had used it
        └── Cancelled                  the run was cancelled

All errors can be pickled, so the driver shows what happened on a worker.
"""

from __future__ import annotations

from typing import Any, ClassVar, TypeGuard, TypeVar

E = TypeVar("E")


class PenstockError(Exception):
    """Base class of all errors.

    `code` is a stable identifier for programs. It never changes between versions.

    Args:
        what: What happened, in one line.
        where: The file, address, task or setting concerned.
        because: The cause.
        hint: What the user can do. Defaults to the `usual_hint` of the class.
        **data: Facts for programs, as JSON-compatible values.
    """

    code: ClassVar[str] = "penstock"
    usual_hint: ClassVar[str] = ""
    """The hint used when none is passed."""

    def __init__(self, what: str, *, where: str = "", because: str = "", hint: str = "", **data: Any) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.because = because
        self.hint = hint or self.usual_hint
        self.data = data

    def __str__(self) -> str:
        lines = [f"{self.what} [{self.code}]"]
        for label, text in (("where", self.where), ("because", self.because), ("hint", self.hint)):
            if text:
                lines.append(f"  {label}: {text}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own __reduce__ calls cls(*args) and would lose the keyword fields.
        return (_rebuild, (type(self), self.what, self.where, self.because, self.hint, self.data))

    def to_dict(self) -> dict[str, Any]:
        """Return the error as plain data, for `--json` output and event logs."""
        return {
            "code": self.code,
            "what": self.what,
            "where": self.where,
            "because": self.because,
            "hint": self.hint,
            "data": self.data,
        }


def _rebuild(
    cls: type[PenstockError], what: str, where: str, because: str, hint: str, data: dict[str, Any]
) -> PenstockError:
    return cls(what, where=where, because=because, hint=hint, **data)


def is_a(error: object, kind: type[E]) -> TypeGuard[E]:
    """Return whether `type(error)` is a subclass of `kind`.

    Unlike `isinstance`, this never runs code of the object, which may raise for users' exceptions.
    """
    return issubclass(type(error), kind)


class UsageError(PenstockError):
    """The user's code or configuration must change."""

    code = "usage"


class ConfigurationError(UsageError):
    """A setting, a profile or an option is invalid."""

    code = "usage.configuration"
    usual_hint = "correct the value where it is set"


class FlowImportError(UsageError):
    """A flow file or module cannot be imported, or does not contain the flow."""

    code = "usage.flow-import"
    usual_hint = "name the flow as file.py:flow or package.module:flow"


class ParameterError(UsageError, TypeError):
    """Arguments do not match the parameters of a flow or task."""

    code = "usage.parameters"
    usual_hint = "pass the arguments that the function takes"


class PolicyError(UsageError, ValueError):
    """A cache policy is invalid, for example because of an unknown parameter name or conflicting settings."""

    code = "usage.policy"
    usual_hint = "build the policy from INPUTS, TASK_SOURCE and the other parts"


class DigestError(UsageError):
    """A value has no stable digest, so no key can be computed from it."""

    code = "key.no-digest"
    usual_hint = "exclude it from the key, register a digest for its type, or use NO_CACHE"


class TracingError(UsageError):
    """A future or a graph is used in a way that cannot work."""

    code = "graph.tracing"
    usual_hint = "pass the future itself or its result() to a task"


class CycleError(UsageError):
    """Nodes of a graph depend on each other."""

    code = "graph.cycle"
    usual_hint = "call the task that it depends on first"


class InfrastructureError(PenstockError):
    """Something outside the program is missing, full, too new or unreachable."""

    code = "infrastructure"


class StoreError(InfrastructureError):
    """The result store rejected an operation or failed."""

    code = "store"
    usual_hint = "check that the store's address is correct and that no other program changed its files"


class StoreUnreachable(StoreError):
    """The store did not answer, so the state of the record is unknown. Never treated as a miss."""

    code = "store.unreachable"
    usual_hint = "run it again when the store is reachable; published results are reused"


class StoreRefused(StoreError):
    """The store denied access: the credentials, the permissions or the address are wrong."""

    code = "store.refused"
    usual_hint = "correct the store's address, the credentials or their permissions"


class StoreNotWritable(StoreError):
    """The store cannot be written to."""

    code = "store.not-writable"
    usual_hint = "grant this user write permission there, or choose another store with PENSTOCK_STORE"


class StoreFull(StoreError):
    """The store has no space or quota left."""

    code = "store.full"
    usual_hint = "free some space there, or choose another store with PENSTOCK_STORE"


class StoreVersionError(StoreError):
    """The store was written by a newer version of Penstock."""

    code = "store.version"
    usual_hint = "upgrade Penstock on this machine"


class LockError(InfrastructureError):
    """The lock manager rejected an operation or failed."""

    code = "lock"
    usual_hint = "check that the lock manager's address is correct"


class LocksUnreachable(LockError):
    """The lock manager did not answer.

    Whether a lock was acquired or released is unknown until its lease expires.
    """

    code = "lock.unreachable"
    usual_hint = "run it again when the lock manager is reachable; published results are reused"


class LockTimeout(LockError):
    """A lock was not free in time."""

    code = "lock.timeout"
    usual_hint = "run `penstock locks ls` to see who holds the key, or allow more time"


class SessionLost(LockError):
    """The session's lease expired, so other sessions may hold its locks now."""

    code = "lock.session-lost"
    usual_hint = "run it again; published results are reused"


class RunnerError(InfrastructureError):
    """The engine is not installed, has no suitable worker, or failed."""

    code = "runner"
    usual_hint = "check that the engine is installed and has workers"


class ResultError(PenstockError):
    """A stored result cannot be written or read."""

    code = "result"


class SerializationError(ResultError):
    """A value cannot be stored by its serializer, or cannot be sent to another process."""

    code = "result.serialization"
    usual_hint = "return a value of another type, or choose a result_serializer that supports this one"


class DamagedResult(ResultError):
    """The stored bytes are missing or differ from what was written."""

    code = "result.damaged"
    usual_hint = "run the flow again: it recomputes the result"


class CodecRefused(ResultError):
    """The reader does not accept the codec that the record names."""

    code = "result.codec-refused"
    usual_hint = "import the module that registers the serializer"


class SignatureRefused(ResultError):
    """The record's signature is missing, wrong, or made with a key that is not accepted. Never treated as a miss.

    `data` holds the `verdict` (`missing`, `unknown key` or `wrong`) and identifies the result.
    """

    code = "result.signature-refused"
    usual_hint = (
        "find out who wrote it; then remove it with `penstock cache rm KEY`, or replace it by a run that refreshes it"
    )


class TaskError(PenstockError):
    """A call of a task did not succeed."""

    code = "task"


class TaskFailed(TaskError):
    """A task's function raised an exception that cannot be pickled. This error holds its text and traceback."""

    code = "task.failed"
    usual_hint = "see the traceback of the task in `data`"


class TaskTimeout(TaskError, TimeoutError):
    """A task ran longer than its `timeout_seconds`."""

    code = "task.timeout"
    usual_hint = "increase timeout_seconds, or set retries for the task"


class WorkerLost(TaskError):
    """The worker process died while running the task."""

    code = "task.worker-lost"
    usual_hint = "check whether the system killed it for lack of memory; if so, request more memory with resources="


class UpstreamFailed(TaskError):
    """A task never ran because one of its dependencies failed."""

    code = "task.upstream-failed"
    usual_hint = "fix that failure and run it again; published results are reused"


class ValuesChanged(TaskError):
    """A recomputed result differs from the lost one, after the flow had used that one or a value made from it."""

    code = "task.values-changed"
    usual_hint = "run the flow again, so that everything is computed from the new value"


class Cancelled(TaskError):
    """The run was cancelled before the task finished."""

    code = "task.cancelled"
    usual_hint = "run it again; published results are reused"
