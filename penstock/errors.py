"""Every error Penstock raises: one tree, each with a code, a place, a reason and a way out.

    PenstockError
    ├── UsageError                 the code or the configuration has to change           (exit 2)
    │   ├── ConfigurationError         a setting, a profile, an option
    │   ├── FlowImportError            a flow file or name that does not load
    │   ├── ParameterError             arguments that do not fit the signature
    │   ├── PolicyError                a cache policy that makes no sense
    │   ├── DigestError                a value without a stable digest
    │   ├── TracingError               a use of futures or graphs that cannot work
    │   └── CycleError                 nodes that wait for each other
    ├── InfrastructureError        something outside is missing, full, old or out of reach (exit 3)
    │   ├── StoreError                 the result store
    │   │   ├── StoreUnreachable           no answer: *unknown*, never a miss
    │   │   ├── StoreRefused               wrong credentials, no permission to read, no such bucket
    │   │   ├── StoreNotWritable           no permission, read-only
    │   │   ├── StoreFull                  no space or quota left
    │   │   └── StoreVersionError          written by a newer Penstock
    │   ├── LockError                  the lock manager
    │   │   ├── LocksUnreachable           no answer: some of the locks may be ours
    │   │   ├── LockTimeout                waited as long as was allowed
    │   │   └── SessionLost                the lease ran out while we held locks
    │   └── RunnerError                the engine: no workers, not installed, broken
    ├── ResultError                one stored result
    │   ├── SerializationError         the value does not fit its serializer
    │   ├── DamagedResult              bytes missing or not the ones that were written
    │   ├── CodecRefused               the reader does not accept this codec
    │   └── SignatureRefused           its record is not signed as it has to be
    └── TaskError                  one call of a task                                     (exit 1)
        ├── TaskFailed                 its function raised (used when the exception itself cannot travel)
        ├── TaskTimeout                it ran longer than `timeout_seconds`
        ├── WorkerLost                 the worker died under it
        ├── UpstreamFailed             it never ran: something it needs failed
        ├── ValuesChanged              a value changed after the flow had used it
        └── Cancelled                  it was cancelled

Every error survives pickling: a driver shows what a worker saw.
"""

from __future__ import annotations

from typing import Any, ClassVar, TypeGuard, TypeVar

E = TypeVar("E")


class PenstockError(Exception):
    """Base of all errors: *what* happened, *where*, *because* of what, and a *hint* what to do.

    `code` is stable and meant for programs; `data` holds the plain facts (JSON-able values).
    """

    code: ClassVar[str] = "penstock"
    usual_hint: ClassVar[str] = ""
    """The hint where whoever raises the error knows no better one."""

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
        """The error as plain data, for `--json` output and event logs."""
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
    """As `isinstance`, which asks the object itself where its class says no: users' exceptions may raise then."""
    return issubclass(type(error), kind)


class UsageError(PenstockError):
    """The user's code or configuration has to change."""

    code = "usage"


class ConfigurationError(UsageError):
    """A setting, a profile or an option is wrong."""

    code = "usage.configuration"
    usual_hint = "correct it where it is set"


class FlowImportError(UsageError):
    """A flow file or module does not import, or has no such flow."""

    code = "usage.flow-import"
    usual_hint = "name it as file.py:flow or package.module:flow"


class ParameterError(UsageError, TypeError):
    """Arguments that do not fit the signature of a flow or task."""

    code = "usage.parameters"
    usual_hint = "call it as its signature says"


class PolicyError(UsageError, ValueError):
    """A cache policy that cannot be computed: an unknown name, contradicting settings."""

    code = "usage.policy"
    usual_hint = "put the policy together from INPUTS, TASK_SOURCE and the like"


class DigestError(UsageError):
    """A value has no stable digest, so no key can be computed from it."""

    code = "key.no-digest"
    usual_hint = "leave it out of the key, register a digest for its type, or use NO_CACHE"


class TracingError(UsageError):
    """A future or a graph used in a way that cannot work."""

    code = "graph.tracing"
    usual_hint = "pass the future itself to a task, or its result()"


class CycleError(UsageError):
    """Nodes of a graph wait for each other."""

    code = "graph.cycle"
    usual_hint = "call the task it waits for first"


class InfrastructureError(PenstockError):
    """Something outside the program is missing, full, too new or out of reach."""

    code = "infrastructure"


class StoreError(InfrastructureError):
    """The result store refused or failed."""

    code = "store"
    usual_hint = "look whether the store is where its address says, and as Penstock left it"


class StoreUnreachable(StoreError):
    """The store did not answer. The state of the asked-for record is unknown, which is never a miss."""

    code = "store.unreachable"
    usual_hint = "try again when the store answers: whatever was published is a hit then"


class StoreRefused(StoreError):
    """The store answered, and will not let us in as we came: credentials, permissions or the address are wrong."""

    code = "store.refused"
    usual_hint = "correct the address of the store, the credentials or what they are allowed"


class StoreNotWritable(StoreError):
    """The store does not let us write."""

    code = "store.not-writable"
    usual_hint = "let this user write there, or choose another store with PENSTOCK_STORE"


class StoreFull(StoreError):
    """No space or no quota is left in the store."""

    code = "store.full"
    usual_hint = "make room there, or choose another store with PENSTOCK_STORE"


class StoreVersionError(StoreError):
    """The store was written by a newer Penstock than this one."""

    code = "store.version"
    usual_hint = "upgrade Penstock here"


class LockError(InfrastructureError):
    """The lock manager refused or failed."""

    code = "lock"
    usual_hint = "look whether the lock manager is where its address says"


class LocksUnreachable(LockError):
    """The lock manager did not answer. Whether a lock was taken or released is unknown; leases settle it."""

    code = "lock.unreachable"
    usual_hint = "try again when it answers: whatever was published is a hit then"


class LockTimeout(LockError):
    """A lock was not free within the time allowed."""

    code = "lock.timeout"
    usual_hint = "look who holds the key, or allow more time"


class SessionLost(LockError):
    """The session's lease ran out, so its locks may belong to others now."""

    code = "lock.session-lost"
    usual_hint = "run it again: whatever was published is a hit then"


class RunnerError(InfrastructureError):
    """The engine is missing, has no suitable worker, or broke."""

    code = "runner"
    usual_hint = "look whether the engine is installed and has workers"


class ResultError(PenstockError):
    """One stored result cannot be written or read."""

    code = "result"


class SerializationError(ResultError):
    """A value does not fit its serializer."""

    code = "result.serialization"
    usual_hint = "return a value of another type, or choose a result_serializer that keeps this one"


class DamagedResult(ResultError):
    """The stored bytes are missing or are not the ones that were written."""

    code = "result.damaged"
    usual_hint = "it is computed again where its task can run"


class CodecRefused(ResultError):
    """The record names a codec that this reader does not accept."""

    code = "result.codec-refused"
    usual_hint = "import the module that registers its serializer"


class SignatureRefused(ResultError):
    """The record's signature is missing, by a key that is not accepted, or wrong. Never treated as a miss.

    `data` holds the `verdict` (`missing`, `unknown key` or `wrong`) and which result it is.
    """

    code = "result.signature-refused"
    usual_hint = (
        "find out who wrote it; `penstock cache rm KEY`, or a run that refreshes it, puts a signed result in its place"
    )


class TaskError(PenstockError):
    """One call of a task did not succeed."""

    code = "task"


class TaskFailed(TaskError):
    """A task's function raised an exception that could not travel; its text and traceback are here."""

    code = "task.failed"
    usual_hint = "the traceback of the task is in `data`"


class TaskTimeout(TaskError, TimeoutError):
    """A task ran longer than its `timeout_seconds`."""

    code = "task.timeout"
    usual_hint = "raise timeout_seconds, or give the task retries"


class WorkerLost(TaskError):
    """The worker process died while it ran the task."""

    code = "task.worker-lost"
    usual_hint = "look for out-of-memory kills; ask for more memory with resources="


class UpstreamFailed(TaskError):
    """A task never ran because something it needs failed."""

    code = "task.upstream-failed"
    usual_hint = "see to that failure first; what finished and has a key is a hit then"


class ValuesChanged(TaskError):
    """A result came out differently when it was made again, after the flow had used it or what was made from it."""

    code = "task.values-changed"
    usual_hint = "run the flow again: all of it will be made from the new value"


class Cancelled(TaskError):
    """The run was cancelled before the task finished."""

    code = "task.cancelled"
    usual_hint = "run it again: what finished and has a key is a hit then"
