"""Cache policies: immutable values that define what the cache key of a task consists of.

A policy is a *set* of components. `a + b` is the union, so order, grouping and repetition do not matter; every added
component can only turn hits into misses. `- "name"` excludes an input. `NO_CACHE` is the empty set: adding it changes
nothing, and a task with no other policy is not cached.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from enum import Enum, StrEnum
from typing import Any, Self, TypeVar

from penstock.errors import PolicyError
from penstock.objects.texts import closest

KeyFunction = Callable[[Any, dict[str, Any]], str | None]
"""`fn(context, parameters)` returns a string that becomes part of the key, or None not to cache the call."""

T = TypeVar("T")


class IsolationLevel(StrEnum):
    """Whether several runs may compute the same key at the same time."""

    READ_COMMITTED = "READ_COMMITTED"
    """Every run may compute it; the first published result is used by all."""
    SERIALIZABLE = "SERIALIZABLE"
    """One run computes it under a lock; the others wait for its result."""


class Part(Enum):
    """The components of a key that take no argument.

    The names `Part`, `KeyFunctionPart` and `CachePolicy.parts` are older than the word: they are in pickles, and enter
    the digest of a policy.
    """

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
    """The content of the files that match a pattern or that a parameter names."""

    pattern: str | None = None
    parameter: str | None = None


@dataclass(frozen=True, slots=True)
class KeyFunctionPart:
    """The string that a user's function returns."""

    fn: KeyFunction


@dataclass(frozen=True, slots=True, eq=False)
class ComputedKey:
    """Adapts the `compute_key` method of a user's policy class to a key function."""

    policy: Any

    def __call__(self, context: Any, parameters: dict[str, Any]) -> Any:
        return self.policy.compute_key(context, parameters, dict(context.flow_parameters))


Component = Part | Constant | FileContent | KeyFunctionPart


@dataclass(frozen=True, slots=True, repr=False)
class CachePolicy:
    """A set of components, excluded inputs, and the places of records and locks.

    Policies with the same components and settings are equal, in whatever order they were combined. Adding two policies
    that set the isolation level, lock manager or key storage to different values raises `PolicyError`.

    A subclass with a method `compute_key(self, task_ctx, inputs, flow_parameters, **kwargs)` is a policy whose key is
    the string that this method returns; None means not to cache the call.
    """

    parts: frozenset[Component] = frozenset()
    """What the key consists of. Empty for `NO_CACHE`."""
    excluded: frozenset[str] = frozenset()
    """Parameters that INPUTS ignores."""
    isolation_level: IsolationLevel | None = None
    """None leaves it to the settings."""
    lock_manager: Any = None
    """The `LockManager` for keys of this policy. None leaves it to the settings."""
    key_storage: Any = None
    """The store of the records if it is not the store of the results: a path, an address or a `Store`."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        policy = object.__new__(cls)
        if cls is not CachePolicy:  # the __init__ of a subclass may not call ours
            for name, value in _UNSET.items():
                object.__setattr__(policy, name, value)
            policy.__post_init__()
        return policy

    def __init_subclass__(cls) -> None:
        # Objects of users' subclasses may have attributes of their own.
        cls.__setattr__ = object.__setattr__  # type: ignore[method-assign]

    def __post_init__(self) -> None:
        if callable(getattr(self, "compute_key", None)) and self.key_function is None:
            object.__setattr__(self, "parts", self.parts | {KeyFunctionPart(ComputedKey(self))})

    @staticmethod
    def from_cache_key_fn(cache_key_fn: KeyFunction) -> CachePolicy:
        """Return a policy whose key is the result of a function; see `CacheKeyFnPolicy`."""
        return CacheKeyFnPolicy(cache_key_fn=cache_key_fn)

    @property
    def caches(self) -> bool:
        """Whether the policy produces a key."""
        return bool(self.parts)

    @property
    def key_function(self) -> KeyFunction | None:
        """The user's key function, if there is one."""
        return next((each.fn for each in self.parts if isinstance(each, KeyFunctionPart)), None)

    @property
    def file_parameters(self) -> tuple[str, ...]:
        """The parameters that name files, sorted."""
        return tuple(sorted(p.parameter for p in self.parts if isinstance(p, FileContent) and p.parameter is not None))

    @property
    def file_patterns(self) -> tuple[str, ...]:
        """The paths and patterns that the policy contains, sorted."""
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
        """Return a copy with other settings. Arguments that are None keep the present value.

        Args:
            isolation_level: An `IsolationLevel` or its name.
            lock_manager: The `LockManager` that locks keys of this policy.
            key_storage: The store of the records: a path, an address or a `Store`.

        Raises:
            PolicyError: The isolation level is unknown.
        """
        return self._with(
            isolation_level=self.isolation_level if isolation_level is None else _level(isolation_level),
            lock_manager=self.lock_manager if lock_manager is None else lock_manager,
            key_storage=self.key_storage if key_storage is None else key_storage,
        )

    def __add__(self, other: CachePolicy) -> CachePolicy:
        if not isinstance(other, CachePolicy):
            return NotImplemented
        components = self.parts | other.parts
        if sum(isinstance(each, KeyFunctionPart) for each in components) > 1:
            raise PolicyError(
                "cannot add two policies that each have a cache key function",
                because="a policy takes one key function",
                hint="write one function that calls both",
            )
        return CachePolicy(
            parts=components,
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
        """Raise `PolicyError` if the policy names a parameter that the task does not have."""
        for name in sorted(self.excluded):
            _check_name(name, parameters, f'- "{name}"', task)
        for name in self.file_parameters:
            _check_name(name, parameters, f'Files(parameter="{name}")', task)

    def __hash__(self) -> int:
        # Lock managers and storages may be unhashable; equality looks at them.
        return hash((self.parts, self.excluded, self.isolation_level))

    def __repr__(self) -> str:
        terms = [name for name, component in _NAMED.items() if component in self.parts]
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
        raise PolicyError(f"unknown isolation level {level!r}", hint=f"use one of {names}") from None


def _merged(what: str, one: T | None, other: T | None) -> T | None:
    if one is not None and other is not None and one != other:
        raise PolicyError(
            f"cannot add policies with different {what}",
            because=f"one has {one!r}, the other {other!r}",
            hint="add the policies first, then call configure() on the sum",
        )
    return other if one is None else one


def _check_name(name: str, parameters: Collection[str], where: str, task: str) -> None:
    if name in parameters:
        return
    close = closest(name, parameters)
    known = f"its parameters are {', '.join(parameters)}" if parameters else "it has no parameters"
    raise PolicyError(
        f"{task!r} has no parameter {name!r}",
        where=f"cache policy of {task}: {where}",
        because=known,
        hint=f"did you mean {close!r}?" if close else "use the name of one of its parameters",
        parameter=name,
        parameters=list(parameters),
    )


INPUTS = CachePolicy(frozenset({Part.INPUTS}))
"""The arguments, by value."""
TASK_SOURCE = CachePolicy(frozenset({Part.TASK_SOURCE}))
"""The task's function: its syntax, defaults and closure values."""
TASK_CODE = CachePolicy(frozenset({Part.TASK_CODE}))
"""The task's function and all project code that it uses."""
FLOW_PARAMETERS = CachePolicy(frozenset({Part.FLOW_PARAMETERS}))
"""The arguments of the flow that calls the task."""
RUN_ID = CachePolicy(frozenset({Part.RUN_ID}))
"""The id of the run: results are shared within the run only."""
NO_CACHE = CachePolicy()
"""No key: the task runs every time. Has no effect in a sum."""
NONE = NO_CACHE
DEFAULT = INPUTS + TASK_SOURCE + RUN_ID
"""The policy of tasks that persist their result and set no policy."""

_NAMED = {component.name: component for component in Part}


def CacheKey(value: str) -> CachePolicy:
    """Return a policy that adds a fixed string to the key.

    Change the string to invalidate all results, for example `INPUTS + CacheKey("v2")`.

    Args:
        value: The string.

    Raises:
        PolicyError: The value is not a string.
    """
    if not isinstance(value, str):
        raise PolicyError(
            f"CacheKey({value!r}) is invalid",
            because="its argument is not a string",
            hint=f"write CacheKey({str(value)!r})",
        )
    return CachePolicy(frozenset({Constant(value)}))


def Files(pattern: str | None = None, *, parameter: str | None = None) -> CachePolicy:
    """Return a policy that adds the content of files to the key.

    Exactly one argument must be given. INPUTS still contains the path itself: use
    `INPUTS - "path" + Files(parameter="path")` to reuse results for equal files at another path.

    Args:
        pattern: A path or a glob pattern, such as `"data/*.csv"`. The pattern itself and the file names below its first
            wildcard are part of the key, too. The files count as they are when the task is called; they are read
            again in a run only if they have changed.
        parameter: The name of a parameter of the task whose argument is a path or a list of paths. Only the content
            of the files is part of the key.

    Raises:
        PolicyError: Both arguments are given, or neither.
    """
    if (pattern is None) == (parameter is None):
        raise PolicyError(
            "Files takes either a pattern or parameter=",
            because="both are given" if parameter is not None else "neither is given",
            hint='write Files("data/*.csv") or Files(parameter="path")',
        )
    return CachePolicy(frozenset({FileContent(None if pattern is None else str(pattern), parameter)}))


def CacheKeyFnPolicy(cache_key_fn: KeyFunction) -> CachePolicy:
    """Return a policy whose key is the result of a function, together with the task's identity.

    Args:
        cache_key_fn: A function `fn(context, parameters)` that receives a `TaskRunContext` and the arguments by name.
            It returns the key as a string, or None not to cache the call.

    Raises:
        PolicyError: `cache_key_fn` cannot be called with two arguments.
    """
    if not callable(cache_key_fn):
        raise PolicyError(
            f"cache_key_fn cannot be {cache_key_fn!r}", because="it cannot be called", hint="pass a function"
        )
    try:
        inspect.signature(cache_key_fn).bind(None, {})
    except TypeError as error:
        name = getattr(cache_key_fn, "__qualname__", repr(cache_key_fn))
        hint = "define it as fn(context, parameters)"
        raise PolicyError(f"cache_key_fn cannot be {name}", because=str(error), hint=hint) from None
    except ValueError:
        pass  # a builtin without a signature
    return CachePolicy(frozenset({KeyFunctionPart(cache_key_fn)}))
