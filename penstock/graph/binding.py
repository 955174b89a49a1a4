"""Binding arguments to parameter names and calling functions with them, optimised for common parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from penstock.digests.large import PLAIN
from penstock.digests.python import digest_of_default
from penstock.digests.refs import OwnDefault
from penstock.errors import ParameterError
from penstock.objects.markers import is_frozen_record, is_own_marker, is_stateless
from penstock.objects.questions import has
from penstock.objects.secrets import shows_secret

_KEYWORD_CALLABLE = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_ANY = inspect.Signature(
    [
        inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL),
        inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD),
    ]
)
"""The parameters of callables that do not declare their parameters: some functions and classes written in C."""


class Named(Protocol):
    """A task or a flow. Its name is asked for only when an error needs it."""

    @property
    def name(self) -> str: ...


class Style(NamedTuple):
    """How a caller passed the arguments: the number of positional ones, and the names of the others."""

    positional: int
    named: frozenset[str]


class Binding:
    """A function's parameters, prepared for binding many calls.

    `bind` returns a mapping from parameter name to value with defaults applied; `call` runs the function with such a
    mapping. A variadic parameter is one entry: a tuple for `*args`, a dict for `**kwargs`.

    The parameters are read on first use: a function that is being unpickled may not have its defaults yet.
    """

    __slots__ = (
        "_defaults",
        "_fn",
        "_names",
        "_positional",
        "_rest",
        "_simple",
        "decorated",
        "inspected",
        "markers",
        "parameters",
    )

    inspected: inspect.Signature
    parameters: tuple[str, ...]
    decorated: bool
    """Whether the callable is a wrapper that declares the parameters of another function (`functools.wraps`)."""
    markers: dict[str, OwnDefault]
    """What stands in arguments for each default that is a marker, by parameter."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._fn = fn
        self._read()

    def _read(self) -> None:
        try:
            self.inspected = inspect.signature(self._fn)
        except ValueError:  # a builtin that does not tell its parameters
            self.inspected = _ANY
        parameters = self.inspected.parameters.values()
        self.parameters = tuple(p.name for p in parameters)
        self.decorated = has(self._fn, "__wrapped__") or has(self._fn, "__signature__")
        self._simple = not self.decorated and all(p.kind in _KEYWORD_CALLABLE for p in parameters)
        self._positional = tuple(p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD)
        self._defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
        self.markers = {
            name: OwnDefault(default, digest_of_default)
            for name, default in self._defaults.items()
            if type(default) not in PLAIN and is_own_marker(self._fn, default) and _is_harmless(default)
        }
        self._names = frozenset(self.parameters)
        self._rest = [self._defaults_from(position) for position in range(len(self._positional) + 1)]

    def _defaults_from(self, position: int) -> tuple[Any, ...] | None:
        """Return the defaults of the parameters from a position on, or None if one has no default."""
        rest = self.parameters[position:]
        return tuple(map(self._defaults.get, rest)) if self._defaults.keys() >= set(rest) else None

    def __getattr__(self, name: str) -> Any:
        if name not in Binding.__slots__ or name == "_fn":
            raise AttributeError(name)
        self._read()
        return getattr(self, name)

    def style(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Style | None:
        """Return how the arguments were passed if that matters, as it does for wrappers; else None."""
        return Style(len(args), frozenset(kwargs)) if self.decorated else None

    def bind(self, of: Named, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments by name, in the order of the parameters.

        Raises `ParameterError` if they mismatch, which says whose they are: `of`, a task or flow.
        """
        if self._simple and len(args) <= len(self._positional):
            rest = self._rest[len(args)]
            if rest is not None and not kwargs:
                return dict(zip(self.parameters, (*args, *rest), strict=True))
            bound = dict(zip(self._positional, args, strict=False))
            if self._names.issuperset(kwargs) and bound.keys().isdisjoint(kwargs):
                filled = {**self._defaults, **bound, **kwargs}
                if len(filled) == len(self.parameters):
                    return {p: filled[p] for p in self.parameters}
        return self._bind_slowly(of, args, kwargs)

    def _bind_slowly(self, of: Named, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        try:
            bound = self.inspected.bind(*args, **kwargs)
        except TypeError as error:
            hint = "pass the arguments that the function takes"
            if self.decorated:
                hint += "; if a decorator adds arguments of its own, set its `__signature__` to what callers pass"
            raise ParameterError(
                f"the arguments do not match {of.name}{self.inspected}", because=str(error), hint=hint
            ) from None
        bound.apply_defaults()
        return dict(bound.arguments)

    def mark(self, arguments: dict[str, Any]) -> None:
        """Replace the defaults among arguments that are markers, and are markers still, by what stands for them."""
        for name, own in self.markers.items():
            if arguments.get(name) is own.value and (is_stateless(own.value) or is_frozen_record(type(own.value))):
                arguments[name] = own

    def unmarked(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return arguments with the function's own defaults in place of what stands for them."""
        if OwnDefault not in map(type, arguments.values()):
            return arguments
        return {name: self._defaults[name] if type(v) is OwnDefault else v for name, v in arguments.items()}

    def call(self, fn: Callable[..., Any], arguments: Mapping[str, Any], style: Style | None = None) -> Any:
        """Call `fn` with arguments as `bind` returns them, passed in the caller's style if it is given."""
        if self._simple:
            return fn(**arguments)
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        by_position = len(self.parameters) if style is None else style.positional
        for parameter in self.inspected.parameters.values():
            value, kind = arguments[parameter.name], parameter.kind
            if kind is inspect.Parameter.VAR_POSITIONAL:
                args.extend(value)
            elif kind is inspect.Parameter.VAR_KEYWORD:
                kwargs.update(value)
            elif kind is not inspect.Parameter.KEYWORD_ONLY and len(args) < by_position:
                args.append(value)
            elif style is None or parameter.name in style.named:
                kwargs[parameter.name] = value
            # otherwise the function or its wrapper has a default
        return fn(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return binding_of, (self._fn,)


def _is_harmless(default: Any) -> bool:
    from penstock.objects.copies import immutable  # slow to import, and only needed by such defaults

    return is_stateless(default) or (immutable(default) and not shows_secret(default))


def binding_of(fn: Callable[..., Any]) -> Binding:
    """Return the binding of a function that is still being unpickled."""
    binding = Binding.__new__(Binding)
    binding._fn = fn
    return binding
