"""What a task is: a function, an identity and options. Pure data; calling and running are done elsewhere."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from typing import Any

from penstock.digests.sources import importable_name
from penstock.errors import ConfigurationError
from penstock.graph.binding import Signature, signature_of
from penstock.graph.carried import carry_code, code_to_carry
from penstock.graph.policies import DEFAULT, CachePolicy

Delays = float | int | Sequence[float] | Callable[[int], Sequence[float]]
Resources = Mapping[str, Any] | Callable[[int], Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """How a task is cached, retried and placed. `None` means: not said here, so the flow or the settings decide."""

    name: str | None = None
    """What people see; the function's name if not given."""
    key_name: str | None = None
    """The identity in cache keys instead of module and qualified name: shares results across renames and moves."""
    cache_policy: CachePolicy | None = None
    """What the cache key is made of."""
    cache_expiration: timedelta | None = None
    """How long a result may be used after it was made."""
    refresh_cache: bool = False
    """Run even if there is a result, and publish the new one over it."""
    persist_result: bool | None = None
    """Keep the result in the store. With no policy, DEFAULT is used."""
    result_storage: Any = None
    """Another store than the run's, as an address, a path or a store."""
    result_serializer: Any = None
    """A serializer's name or object; chosen by the value's type if not given."""
    retries: int = 0
    """How often a failed call is tried again."""
    retry_delay_seconds: Delays = 0.0
    """Seconds before each new try: one number, one per try, or a function of the number of retries that gives a
    list.
    """
    retry_jitter_factor: float = 0.0
    """Each delay is stretched by a random share of up to this factor."""
    retry_condition_fn: Callable[..., bool] | None = None
    """Called as `fn(task, task_run, state)`; a false answer ends the tries."""
    timeout_seconds: float | None = None
    """A call that runs longer fails with TaskTimeout."""
    log_prints: bool | None = None
    """Send what the function prints to the log."""
    tags: frozenset[str] = frozenset()
    """Labels for people and limits."""
    resources: Resources | None = None
    """What a call needs (`{"cpu": 2, "memory": "4GiB"}`), or a function of the attempt (from 1) that says so."""

    def merged(self, changes: Mapping[str, Any]) -> TaskOptions:
        """A copy with some options replaced; an unknown name is a `ConfigurationError`."""
        known = {f.name for f in fields(self)}
        for name in changes:
            if name not in known:
                raise ConfigurationError(
                    f"a task has no option {name!r}", hint=f"the options are {', '.join(sorted(known))}"
                )
        return replace(self, **changes).checked()

    def checked(self) -> TaskOptions:
        """The options themselves; `ConfigurationError` for one that makes no sense."""
        check_retries(self.retries, self.retry_delay_seconds)
        _check("retry_jitter_factor", self.retry_jitter_factor, _is_number(self.retry_jitter_factor, 0), "0 or more")
        timeout = self.timeout_seconds
        fits = timeout is None or (_is_number(timeout, 0) and timeout > 0)
        _check("timeout_seconds", timeout, fits, "a number of seconds above 0")
        policy: Any = self.cache_policy
        fits = policy is None or isinstance(policy, CachePolicy)
        _check("cache_policy", policy, fits, "a policy such as INPUTS + TASK_SOURCE")
        after: Any = self.cache_expiration
        fits = after is None or (isinstance(after, timedelta) and after >= timedelta(0))
        _check("cache_expiration", after, fits, "a datetime.timedelta, such as timedelta(days=1)")
        condition: Any = self.retry_condition_fn
        fits = condition is None or callable(condition)
        _check("retry_condition_fn", condition, fits, "a function of (task, task_run, state)")
        return self

    def policy(self, *, persist_by_default: bool | None) -> CachePolicy | None:
        """The policy that holds for a run, or None for a plain task (no key, no look-up, no record)."""
        if self.persist_result is False:
            return None
        if self.cache_policy is not None:
            return self.cache_policy
        return DEFAULT if self.persist_result or persist_by_default else None


def check_retries(retries: Any, delays: Any) -> None:
    """Raises `ConfigurationError` if these cannot be `retries` and `retry_delay_seconds`, of a task or of a flow."""
    counted = isinstance(retries, int) and not isinstance(retries, bool) and retries >= 0
    _check("retries", retries, counted, "the number of further tries, 0 or more")
    if isinstance(delays, list | tuple):
        fits = all(_is_number(delay, 0) for delay in delays)
    else:
        fits = callable(delays) or _is_number(delays, 0)
    _check("retry_delay_seconds", delays, fits, "seconds, a list of them, or a function such as exponential_backoff(2)")


def check_names(name: str, parameters: Sequence[str]) -> None:
    """Raises `ConfigurationError` if calls could not pass these parameters: the words mean something else there."""
    check_text("name", name)
    for word in RESERVED:
        if word in parameters:
            raise ConfigurationError(
                f"{name} cannot have a parameter named {word!r}",
                because=f"{word}= in a call is for Penstock, so the function would never get it",
                hint="give the parameter another name",
                name=word,
            )


def check_text(option: str, text: str) -> None:
    """Raises `ConfigurationError` for a name that cannot be written into a record."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(
            f"{option} cannot be {text!r}",
            because=f"the character at {error.start} is half of one (a lone surrogate), which no record can hold",
            hint="give a name of whole characters",
            name=option,
        ) from None


RESERVED = ("wait_for", "return_state")
"""What calls of tasks and flows take besides the parameters of the function."""


def _is_number(value: Any, least: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= least


def _check(name: str, value: Any, fits: bool, hint: str) -> None:
    if not fits:
        raise ConfigurationError(f"{name} cannot be {value!r}", hint=f"give {hint}", name=name)


@dataclass(frozen=True, slots=True, eq=False)
class TaskDefinition:
    """A function with its options: what `@task` makes. Nodes are calls of it."""

    fn: Callable[..., Any]
    options: TaskOptions = field(default_factory=TaskOptions)
    derived: bool = False
    """Made by Penstock to take a part of a result (`future["x"]`): no record of its own, as certain as its input."""
    signature: Signature = field(init=False)
    identity: str = field(init=False)
    """`module:qualified name` or `key_name`: the part of every cache key that keeps two tasks apart."""
    is_async: bool = field(init=False)

    def __post_init__(self) -> None:
        if not callable(self.fn):
            raise ConfigurationError(
                f"{self.fn!r} cannot be a task",
                because=f"a {type(self.fn).__name__} cannot be called",
                hint="make a function a task: @task above `def`",
            )
        put = object.__setattr__
        put(self, "signature", Signature(self.fn))
        if not self.derived:
            check_names(self.name, self.signature.parameters)
        check_text("key_name", self.options.key_name or "")
        put(self, "identity", self.options.key_name or ":".join(importable_name(self.fn)))
        put(self, "is_async", inspect.iscoroutinefunction(self.fn))

    @property
    def name(self) -> str:
        """What people see."""
        return self.options.name or str(getattr(self.fn, "__name__", type(self.fn).__name__))

    def with_options(self, **changes: Any) -> TaskDefinition:
        """The same function with some options replaced."""
        return TaskDefinition(self.fn, self.options.merged(changes), self.derived)

    def for_workers(self) -> TaskDefinition:
        """The definition without what only the driver uses: policies hold locks, delays and conditions hold code."""
        kept = replace(
            self.options,
            cache_policy=None,
            result_storage=None,  # they are told where, by call
            retry_delay_seconds=0.0,
            retry_condition_fn=None,
            resources=None,
        )
        return _rebuild(self.fn, kept, self.derived, self.identity, {})

    def __reduce__(self) -> tuple[Any, ...]:
        policy = self.options.cache_policy
        code = code_to_carry(self.fn, policy, self.identity) if policy is not None else {}
        return (_rebuild, (self.fn, self.options, self.derived, self.identity, code))

    def __repr__(self) -> str:
        return f"TaskDefinition({self.identity})"


def _rebuild(
    fn: Callable[..., Any], options: TaskOptions, derived: bool, identity: str, code: Mapping[str, str]
) -> TaskDefinition:
    # The identity is kept as the driver computed it, and so is what its code digests to: in a worker the function may
    # have neither a module nor a source to ask. A function that reaches itself is not complete yet: nothing is read.
    carry_code(fn, code)
    task = object.__new__(TaskDefinition)
    made = {
        "fn": fn,
        "options": replace(options, key_name=identity),
        "derived": derived,
        "signature": signature_of(fn),
        "identity": identity,
        "is_async": inspect.iscoroutinefunction(fn),
    }
    for name, value in made.items():
        object.__setattr__(task, name, value)
    return task
