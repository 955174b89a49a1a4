"""Binding a call's arguments to parameter names: quick for the usual shapes, `inspect` for the rest."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from penstock.errors import ParameterError

_KEYWORD_CALLABLE = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Signature:
    """A function's parameters, ready to bind many calls.

    `bind` gives a mapping from parameter name to value with defaults filled in; `call` runs the function with such a
    mapping. A variadic parameter is one entry: a tuple for `*args`, a dict for `**kwargs`.
    """

    __slots__ = ("_defaults", "_names", "_positional", "_simple", "inspected", "parameters")

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.inspected = inspect.signature(fn)
        parameters = self.inspected.parameters.values()
        self.parameters: tuple[str, ...] = tuple(p.name for p in parameters)
        self._simple = all(p.kind in _KEYWORD_CALLABLE for p in parameters)
        self._positional = tuple(p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD)
        self._defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
        self._names = frozenset(self.parameters)

    def bind(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments by parameter name, in the order of the parameters; raises `ParameterError` if they do not fit."""
        if self._simple and len(args) <= len(self._positional):
            bound = dict(zip(self._positional, args, strict=False))
            if kwargs:
                if not self._names.issuperset(kwargs) or not bound.keys().isdisjoint(kwargs):
                    return self._bind_slowly(name, args, kwargs)
                bound.update(kwargs)
            if len(bound) == len(self.parameters):
                return bound if not kwargs else {p: bound[p] for p in self.parameters}
            filled = {**self._defaults, **bound}
            if len(filled) == len(self.parameters):
                return {p: filled[p] for p in self.parameters}
        return self._bind_slowly(name, args, kwargs)

    def _bind_slowly(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        try:
            bound = self.inspected.bind(*args, **kwargs)
        except TypeError as error:
            raise ParameterError(
                f"the arguments do not fit {name}{self.inspected}",
                because=str(error),
                hint="call it as the signature says",
            ) from None
        bound.apply_defaults()
        return dict(bound.arguments)

    def call(self, fn: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
        """`fn` called with arguments as `bind` gives them."""
        if self._simple:
            return fn(**arguments)
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for parameter in self.inspected.parameters.values():
            value = arguments[parameter.name]
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                args.extend(value)
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                kwargs.update(value)
            elif parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                kwargs[parameter.name] = value
            else:
                args.append(value)
        return fn(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a Signature belongs to a live function; ship the function instead")
