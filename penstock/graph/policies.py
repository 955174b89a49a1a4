"""Cache policies: what the cache key of a task is made of. Immutable values with `+`, `-` and `configure`.

A policy is a *set* of parts. `a + b` is the union, so order, grouping and repetition do not matter; each further part
makes keys easier to miss, never easier to hit. `- "name"` leaves an input out. `NO_CACHE` is the empty set: adding it
changes nothing, and a task that has nothing else is not cached.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from enum import Enum, StrEnum
from typing import Any, Self, TypeVar

from penstock.errors import PolicyError

KeyFunction = Callable[[Any, dict[str, Any]], str | None]
"""`fn(context, parameters)`: a string to be part of the key, or None for "do not cache this call"."""

T = TypeVar("T")


class IsolationLevel(StrEnum):
    """How calls with one key treat each other."""

    READ_COMMITTED = "READ_COMMITTED"
    """Everyone may compute; the first published result counts."""
    SERIALIZABLE = "SERIALIZABLE"
    """One computes under a lock while the others wait for its result."""


class Part(Enum):
    """The parts of a key that need no argument."""

    INPUTS = "inputs"
    TASK_SOURCE = "task_source"
    TASK_CODE = "task_code"
    FLOW_PARAMETERS = "flow_parameters"
    RUN_ID = "run_id"


@dataclass(frozen=True, slots=True)
class Constant:
    """A fixed string."""

    value: str


@dataclass(frozen=True, slots=True)
class FileContent:
    """The content of files: those a pattern finds, or those a parameter names."""

    pattern: str | None = None
    parameter: str | None = None


@dataclass(frozen=True, slots=True)
class KeyFunctionPart:
    """What a user's function answers."""

    fn: KeyFunction


@dataclass(frozen=True, slots=True, eq=False)
class ComputedKey:
    """The method `compute_key` of a user's policy class, as a key function."""

    policy: Any

    def __call__(self, context: Any, parameters: dict[str, Any]) -> Any:
        return self.policy.compute_key(context, parameters, dict(context.flow_parameters))


AnyPart = Part | Constant | FileContent | KeyFunctionPart


@dataclass(frozen=True, slots=True, repr=False)
class CachePolicy:
    """A set of key parts, the inputs left out, and where records and locks live.

    Policies are equal if they say the same, however they were put together. Adding two policies whose isolation
    level, lock manager or key storage are set and differ is a PolicyError.

    A class of your own with a method `compute_key(self, task_ctx, inputs, flow_parameters, **kwargs)` is a policy whose
    key is what that answers: a string, or None for a call that is not to be cached.
    """

    parts: frozenset[AnyPart] = frozenset()
    excluded: frozenset[str] = frozenset()
    """Parameters that INPUTS leaves out."""
    isolation_level: IsolationLevel | None = None
    lock_manager: Any = None
    key_storage: Any = None
    """Where records live if not beside the results: a path, an address or a store."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        policy = object.__new__(cls)
        if cls is not CachePolicy:  # a class that may not call our __init__ from its own
            for name, value in _UNSET.items():
                object.__setattr__(policy, name, value)
            policy.__post_init__()
        return policy

    def __init_subclass__(cls) -> None:
        # Its objects are the user's, and may have attributes of their own.
        cls.__setattr__ = object.__setattr__  # type: ignore[method-assign]

    def __post_init__(self) -> None:
        if callable(getattr(self, "compute_key", None)) and self.key_function is None:
            object.__setattr__(self, "parts", self.parts | {KeyFunctionPart(ComputedKey(self))})

    @staticmethod
    def from_cache_key_fn(cache_key_fn: KeyFunction) -> CachePolicy:
        """A policy whose key is what a function answers (and the task's identity)."""
        return CacheKeyFnPolicy(cache_key_fn=cache_key_fn)

    @property
    def caches(self) -> bool:
        """Whether there is a key at all."""
        return bool(self.parts)

    @property
    def key_function(self) -> KeyFunction | None:
        """The user's key function, if there is one."""
        return next((part.fn for part in self.parts if isinstance(part, KeyFunctionPart)), None)

    @property
    def file_parameters(self) -> tuple[str, ...]:
        """The parameters that name files, sorted."""
        return tuple(sorted(p.parameter for p in self.parts if isinstance(p, FileContent) and p.parameter is not None))

    @property
    def file_patterns(self) -> tuple[str, ...]:
        """The paths and patterns written down in the policy, sorted."""
        return tuple(sorted(p.pattern for p in self.parts if isinstance(p, FileContent) and p.pattern is not None))

    @property
    def constants(self) -> tuple[str, ...]:
        """The fixed strings, sorted."""
        return tuple(sorted(p.value for p in self.parts if isinstance(p, Constant)))

    def configure(
        self,
        *,
        isolation_level: IsolationLevel | str | None = None,
        lock_manager: Any = None,
        key_storage: Any = None,
    ) -> CachePolicy:
        """A copy with these settings; what is None stays as it is. Raises PolicyError for an unknown level."""
        return self._with(
            isolation_level=self.isolation_level if isolation_level is None else _level(isolation_level),
            lock_manager=self.lock_manager if lock_manager is None else lock_manager,
            key_storage=self.key_storage if key_storage is None else key_storage,
        )

    def __add__(self, other: CachePolicy) -> CachePolicy:
        if not isinstance(other, CachePolicy):
            return NotImplemented
        parts = self.parts | other.parts
        if sum(isinstance(part, KeyFunctionPart) for part in parts) > 1:
            raise PolicyError(
                "two cache key functions were added",
                because="their answers could not be told apart",
                hint="write one function that calls both",
            )
        return CachePolicy(
            parts=parts,
            excluded=self.excluded | other.excluded,
            isolation_level=_merged("isolation levels", self.isolation_level, other.isolation_level),
            lock_manager=_merged("lock managers", self.lock_manager, other.lock_manager),
            key_storage=_merged("key storages", self.key_storage, other.key_storage),
        )

    def __sub__(self, name: str) -> CachePolicy:
        if not isinstance(name, str):
            return NotImplemented
        return self._with(excluded=self.excluded | {name})

    def _with(self, **changes: Any) -> CachePolicy:
        return CachePolicy(**{name: changes.get(name, getattr(self, name)) for name in _UNSET})

    def check_parameters(self, parameters: Collection[str], *, task: str) -> None:
        """Raises PolicyError if the policy names a parameter that the task does not have."""
        for name in sorted(self.excluded):
            _check_name(name, parameters, f'- "{name}"', task)
        for name in self.file_parameters:
            _check_name(name, parameters, f'Files(parameter="{name}")', task)

    def __hash__(self) -> int:
        # Lock managers and storages may be unhashable; equality looks at them.
        return hash((self.parts, self.excluded, self.isolation_level))

    def __repr__(self) -> str:
        terms = [name for name, part in _NAMED.items() if part in self.parts]
        terms += [f"CacheKey({value!r})" for value in self.constants]
        terms += [f"Files({pattern!r})" for pattern in self.file_patterns]
        terms += [f"Files(parameter={name!r})" for name in self.file_parameters]
        if self.key_function is not None:
            name = getattr(self.key_function, "__qualname__", repr(self.key_function))
            terms.append(f"CacheKeyFnPolicy(cache_key_fn={name})")
        text = " + ".join(terms) or "NO_CACHE"
        text += "".join(f" - {name!r}" for name in sorted(self.excluded))
        level = None if self.isolation_level is None else f"IsolationLevel.{self.isolation_level.name}"
        settings = [f"isolation_level={level}"] if level else []
        settings += [f"lock_manager={self.lock_manager!r}"] if self.lock_manager is not None else []
        settings += [f"key_storage={self.key_storage!r}"] if self.key_storage is not None else []
        if not settings:
            return text
        return f"{f'({text})' if ' ' in text else text}.configure({', '.join(settings)})"


_UNSET = {each.name: each.default for each in fields(CachePolicy)}
_UNSET |= {"parts": frozenset(), "excluded": frozenset()}


def _level(level: IsolationLevel | str) -> IsolationLevel:
    try:
        return IsolationLevel(level)
    except ValueError:
        names = ", ".join(IsolationLevel)
        raise PolicyError(f"{level!r} is no isolation level", hint=f"use one of {names}") from None


def _merged(what: str, one: T | None, other: T | None) -> T | None:
    if one is not None and other is not None and one != other:
        raise PolicyError(
            f"policies with different {what} were added",
            because=f"{one!r} is not {other!r}",
            hint="add the policies first and configure the sum",
        )
    return other if one is None else one


def _check_name(name: str, parameters: Collection[str], where: str, task: str) -> None:
    if name in parameters:
        return
    import difflib  # for mistakes alone

    close = difflib.get_close_matches(name, parameters, n=1)
    known = f"its parameters are {', '.join(parameters)}" if parameters else "it has no parameters"
    raise PolicyError(
        f"{task!r} has no parameter {name!r}",
        where=f"cache policy of {task}: {where}",
        because=known,
        hint=f"did you mean {close[0]!r}?" if close else "use the name of one of its parameters",
        parameter=name,
        parameters=list(parameters),
    )


INPUTS = CachePolicy(frozenset({Part.INPUTS}))
"""The arguments, by value."""
TASK_SOURCE = CachePolicy(frozenset({Part.TASK_SOURCE}))
"""The task's function: syntax, defaults, closure values."""
TASK_CODE = CachePolicy(frozenset({Part.TASK_CODE}))
"""The task's function and all project code it reaches."""
FLOW_PARAMETERS = CachePolicy(frozenset({Part.FLOW_PARAMETERS}))
"""The arguments of the flow that calls the task."""
RUN_ID = CachePolicy(frozenset({Part.RUN_ID}))
"""The run: results are shared within it and never beyond."""
NO_CACHE = CachePolicy()
"""No key: the task runs each time. Neutral in sums."""
NONE = NO_CACHE
DEFAULT = INPUTS + TASK_SOURCE + RUN_ID
"""The policy of tasks that persist their result and name no policy."""

_NAMED = {part.name: part for part in Part}


def CacheKey(value: str) -> CachePolicy:
    """A fixed string in the key: change it to start afresh (`INPUTS + CacheKey("v2")`)."""
    if not isinstance(value, str):
        raise PolicyError(f"CacheKey({value!r})", because="it is not a string", hint=f"write CacheKey({str(value)!r})")
    return CachePolicy(frozenset({Constant(value)}))


def Files(pattern: str | None = None, *, parameter: str | None = None) -> CachePolicy:
    """The content of files in the key: those a path or pattern finds, or those that a parameter names.

    `Files("data/*.csv")` is read once per run; the pattern as written and the names below its first wildcard count
    too. `Files(parameter="path")` reads the file (or the list of files) given in that parameter, and only its content
    counts. INPUTS still holds the path itself: with `INPUTS - "path" + Files(parameter="path")` equal data under
    another path is a hit.
    """
    if (pattern is None) == (parameter is None):
        raise PolicyError("Files takes a path or pattern, or the name of a parameter", hint='Files("data/*.csv")')
    return CachePolicy(frozenset({FileContent(None if pattern is None else str(pattern), parameter)}))


def CacheKeyFnPolicy(cache_key_fn: KeyFunction) -> CachePolicy:
    """A policy whose key is what `cache_key_fn(context, parameters)` answers (and the task's identity)."""
    if not callable(cache_key_fn):
        raise PolicyError(f"cache_key_fn={cache_key_fn!r}", because="it cannot be called", hint="give a function")
    return CachePolicy(frozenset({KeyFunctionPart(cache_key_fn)}))
