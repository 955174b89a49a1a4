"""Task definitions: a function, an identity and options. Pure data; other modules call and run them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from typing import Any

from penstock.digests.sources import importable_name
from penstock.errors import ConfigurationError
from penstock.graph.binding import Binding, binding_of
from penstock.graph.carried import carry_code, code_to_carry
from penstock.graph.policies import DEFAULT, CachePolicy
from penstock.objects.texts import did_you_mean, repr_of

Delays = float | int | Sequence[float] | Callable[[int], Sequence[float]]
Resources = Mapping[str, Any] | Callable[[int], Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """The options of `@task`. None leaves a decision to the flow or the settings."""

    name: str | None = None
    """The name that people see. Defaults to the function's name."""
    key_name: str | None = None
    """The identity in cache keys, in place of module and qualified name, so that the function can be renamed."""
    cache_policy: CachePolicy | None = None
    """What the cache key consists of."""
    cache_expiration: timedelta | None = None
    """How long a result may be reused after it was computed."""
    refresh_cache: bool = False
    """Whether to run even if a result exists, and to replace that result."""
    persist_result: bool | None = None
    """Whether to store the result, under the policy DEFAULT if no other is set. None: if it says where or how."""
    result_storage: Any = None
    """The store of the results if it is not the run's: an address, a path or a store."""
    result_serializer: Any = None
    """The name of a serializer or a `Serializer`. By default the type of the value decides."""
    retries: int = 0
    """How many times to retry a failed call."""
    retry_delay_seconds: Delays = 0.0
    """The wait before each retry in seconds: a number, one number per retry, or a function of `retries` that returns
    a list."""
    retry_jitter_factor: float = 0.0
    """Lengthens each wait by a random fraction between 0 and this factor."""
    retry_condition_fn: Callable[..., bool] | None = None
    """Called as `fn(task, task_run, state)`; a false result ends the retries."""
    timeout_seconds: float | None = None
    """A call that runs longer than this fails with `TaskTimeout`."""
    log_prints: bool | None = None
    """Whether to send what the function prints to its logger."""
    tags: frozenset[str] = frozenset()
    """Labels. Limits apply to tags."""
    resources: Resources | None = None
    """What a call needs, for example `{"cpu": 2, "memory": "4GiB"}`, or a function of the attempt (from 1)."""

    def merged(self, changes: Mapping[str, Any]) -> TaskOptions:
        """Return a copy with some options replaced. Raises `ConfigurationError` for an unknown or invalid option."""
        known = {f.name for f in fields(self)}
        for name in changes:
            if name not in known:
                raise no_such_option("tasks", name, (*known, "cache_key_fn"))
        return replace(self, **changes).checked()

    def checked(self) -> TaskOptions:
        """Return the options unchanged. Raises `ConfigurationError` if one has an invalid value."""
        check_retries(self.retries, self.retry_delay_seconds)
        check_kinds(self)
        jitter = self.retry_jitter_factor
        _check("retry_jitter_factor", jitter, _is_number(jitter, 0), "a number that is not negative")
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


def no_such_option(kind: str, name: str, known: Iterable[str]) -> ConfigurationError:
    """Return the error for an unknown option of tasks or flows."""
    hint = did_you_mean(name, known, f"the options are {', '.join(sorted(known))}")
    return ConfigurationError(f"{kind} have no option {name!r}", hint=hint, name=name)


def check_kinds(options: Any) -> None:
    """Raise `ConfigurationError` if a name is no text, or a switch of a task or flow neither on nor off."""
    for name in ("name", "key_name"):
        text = getattr(options, name, None)
        _check(name, text, text is None or (isinstance(text, str) and text != ""), "a text")
    _check("refresh_cache", options.refresh_cache, isinstance(options.refresh_cache, bool), "True or False")
    for name in ("persist_result", "log_prints"):
        said = getattr(options, name)
        _check(name, said, said is None or isinstance(said, bool), "True, False, or None to leave it to the flow")


def check_retries(retries: Any, delays: Any) -> None:
    """Raise `ConfigurationError` if `retries` or `retry_delay_seconds` of a task or flow is invalid."""
    counted = isinstance(retries, int) and not isinstance(retries, bool) and retries >= 0
    _check("retries", retries, counted, "the number of retries, 0 or more")
    if isinstance(delays, list | tuple):
        fits = all(_is_number(delay, 0) for delay in delays)
    else:
        fits = callable(delays) or _is_number(delays, 0)
    _check("retry_delay_seconds", delays, fits, "seconds, a list of them, or a function such as exponential_backoff(2)")


def checked_tags(tags: Iterable[str] | None) -> frozenset[str]:
    """Return the tags as a set; raise `ConfigurationError` for a single text, whose letters would be the tags."""
    if isinstance(tags, str):
        raise ConfigurationError(
            f"tags={tags!r}", because="it has to be several texts, such as a list", hint=f"tags=[{tags!r}]"
        )
    _check("tags", tags, isinstance(tags, Iterable | None), 'labels such as ["etl"]')
    found = tuple(tags or ())
    _check("tags", tags, all(isinstance(tag, str) for tag in found), 'labels such as ["etl"]')
    return frozenset(found)


def check_names(name: str, parameters: Sequence[str]) -> None:
    """Raise `ConfigurationError` if a parameter has a name that Penstock reserves in calls."""
    check_text("name", name)
    for word in RESERVED:
        if word in parameters:
            raise ConfigurationError(
                f"{name} cannot have a parameter named {word!r}",
                because=f"Penstock itself takes {word}= in calls, so the function would never receive it",
                hint="rename the parameter",
                name=word,
            )


def check_text(option: str, text: str) -> None:
    """Raise `ConfigurationError` if a name cannot be written into a record."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(
            f"{option} cannot be {text!r}",
            because=f"the character at position {error.start} is a lone surrogate, which UTF-8 cannot encode",
            hint="choose a name of valid Unicode characters",
            name=option,
        ) from None


RESERVED = ("wait_for", "return_state")
"""Keyword arguments that calls of tasks and flows take in addition to the function's parameters."""


def _is_number(value: Any, least: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= least


def _check(name: str, value: Any, fits: bool, hint: str) -> None:
    if not fits:
        raise ConfigurationError(f"{name} cannot be {repr_of(value)}", hint=f"pass {hint}", name=name)


@dataclass(frozen=True, slots=True, eq=False)
class TaskDefinition:
    """A function with its options. Nodes are calls of it."""

    fn: Callable[..., Any]
    options: TaskOptions = field(default_factory=TaskOptions)
    derived: bool = False
    """Whether it takes a part of a result (`future["x"]`): it has no record, and its key is as certain as its input."""
    binding: Binding = field(init=False)
    identity: str = field(init=False)
    """`module:qualified name` or `key_name`. Part of every cache key, so that tasks never share a key."""
    is_async: bool = field(init=False)

    def __post_init__(self) -> None:
        if not callable(self.fn):
            raise ConfigurationError(
                f"{self.fn!r} cannot be a task",
                because=f"a {type(self.fn).__name__} cannot be called",
                hint="put @task above the `def` of a function",
            )
        put = object.__setattr__
        put(self, "binding", Binding(self.fn))
        if not self.derived:
            check_names(self.name, self.binding.parameters)
        check_text("key_name", self.options.key_name or "")
        put(self, "identity", self.options.key_name or ":".join(importable_name(self.fn)))
        put(self, "is_async", inspect.iscoroutinefunction(self.fn))

    @property
    def name(self) -> str:
        """The name that people see."""
        return self.options.name or str(getattr(self.fn, "__name__", type(self.fn).__name__))

    def policy(self, *, persist_by_default: bool | None) -> CachePolicy | None:
        """Return the policy that applies in a run, or None for a plain task: no key, no lookup, no record.

        Raises `ConfigurationError` if results that are not kept should expire: whoever says so expects them to be kept.
        """
        options = self.options
        if self.derived or options.persist_result is False:
            return None
        if options.cache_policy is not None:
            return options.cache_policy
        where_or_how = options.result_storage is not None or options.result_serializer is not None
        if options.persist_result or persist_by_default or where_or_how:
            return DEFAULT
        if options.cache_expiration is not None:
            raise ConfigurationError(
                f"cache_expiration of {self.name} has no effect",
                because="the task has no cache policy, so its results are not kept",
                hint="add cache_policy=INPUTS + TASK_SOURCE, or persist_result=True to keep results within one run",
                name="cache_expiration",
            )
        return None

    def with_options(self, **changes: Any) -> TaskDefinition:
        """Return a definition of the same function with some options replaced."""
        return TaskDefinition(self.fn, self.options.merged(changes), self.derived)

    def for_workers(self) -> TaskDefinition:
        """Return the definition without the options that only the driver uses: they may hold locks and code."""
        kept = replace(
            self.options,
            cache_policy=None,
            result_storage=None,  # each call says where
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
    # Keeps the identity and the digest of the code as the driver computed them: on a worker the function may have
    # neither module nor source. Reads nothing of the function: one that refers to itself is still incomplete here.
    carry_code(fn, code)
    task = object.__new__(TaskDefinition)
    made = {
        "fn": fn,
        "options": replace(options, key_name=identity),
        "derived": derived,
        "binding": binding_of(fn),
        "identity": identity,
        "is_async": inspect.iscoroutinefunction(fn),
    }
    for name, value in made.items():
        object.__setattr__(task, name, value)
    return task
