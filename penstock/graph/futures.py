"""Future: stands for a value that may not exist yet. Passing it on does not wait; using it as a value does."""

from __future__ import annotations

import contextlib
import math
import operator
import sys
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Set
from typing import Any, Generic, NoReturn, Protocol, TypeVar, cast

from penstock.errors import ParameterError, TracingError, is_a
from penstock.objects.questions import Pending
from penstock.objects.texts import kind_name, package_of, repr_of

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_ABSENT: Any = object()
_LABELLED = frozenset({"pandas", "polars", "pyarrow"})
_TABLE_PROTOCOLS = frozenset({"__arrow_c_array__", "__arrow_c_schema__", "__arrow_c_stream__", "__dataframe__"})
"""Protocols of table libraries. A future has those that its value has."""


class WaitedInVain(TimeoutError):
    """The call did not finish within the timeout."""


class Source(Protocol):
    """Where futures get their values: the trace that created them."""

    own_values: dict[int, Any]
    """The values of the futures that were asked for them, by `id`. A mutable one is in no other future."""

    def value(self, node: int, timeout: float | None) -> Any:
        """Return the node's value for one caller, after a sync point if needed. Raises what the task raised.

        Each call returns another object, unless the value is immutable.
        """

    def refuse_in_tasks(self, node: int) -> None:
        """Raise `TracingError` inside of a task, which must not use futures of its flow."""

    def wait(self, node: int, timeout: float | None) -> None:
        """Return once the node has finished, successfully or not, without fetching its value.

        Raises `WaitedInVain` after `timeout` seconds, as `value` does.
        """

    def settled(self, node: int) -> bool:
        """Return whether the value or the failure is known without waiting."""

    def part(self, node: int, how: str, what: Any) -> Future[Any]:
        """Return the future of an item or attribute of the value, without waiting."""

    def stored(self, node: int) -> Any:
        """Return the node's stored result without its value, after a sync point. Raises what the task raised."""

    def describe(self, node: int) -> str:
        """Return the task's name and the node's state, without waiting."""

    def hold(self, node: int) -> None:
        """Count one more living future of this node."""

    def let_go(self, node: int) -> None:
        """Count one less living future of this node."""

    def values_in(self, arguments: Any) -> Any:
        """Return arguments (a tuple or a dict) with their futures replaced by values."""

    def call_value(
        self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], changed: Callable[[], Exception]
    ) -> Any:
        """Call a method of a value, with futures replaced by values. Raises `changed()` if it modified the value."""

    def awaitable(self, node: int) -> Generator[Any, None, Any]:
        """Implement `await future`: wait without blocking the event loop."""


class Future(Pending, Generic[R_co]):
    """The result of a task called inside a flow.

    Passing a future to another task, also inside lists and dicts, adds an edge to the graph without waiting.
    `future["column"]` and `future.name` are futures, too. `.result()`, `if`, `for`, `len()`, comparison, arithmetic,
    `str()` and f-strings need the value: everything called so far is then planned and submitted, and the flow waits for
    this value only. `repr()` never waits. Futures compare and hash like their values. A task's result cannot be
    modified through its future: get a value of your own with `.result()`.
    """

    __slots__ = ("__weakref__", "_node", "_source")
    _node: int
    _source: Source

    def __init__(self, node: int, source: Source | None = None, held: bool = False) -> None:
        if source is None:
            raise TypeError("a Future cannot be created from a value; call a task inside a flow instead")
        _set_node(self, node)
        if not held:  # otherwise the source has counted it
            source.hold(node)  # first: an interrupt in between leaves a value for longer, and takes none away
        _set_source(self, source)

    def __del__(self) -> None:
        # The driver keeps the value of a plain task only while a future of it exists.
        source = getattr(self, "_source", None)
        if source is not None:
            if source.own_values:
                source.own_values.pop(id(self), None)
            source.let_go(self._node)

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> R_co:
        """Wait for the task and return its value: the same object each time, which no other future returns.

        Args:
            timeout: The longest time to wait, in seconds. None waits without limit.
            raise_on_failure: False returns the exception of a failed task instead of raising it.

        Returns:
            The value that the task returned.

        Raises:
            TimeoutError: The task did not finish within the timeout.
            UpstreamFailed: The task did not run because one of its dependencies failed.
            Exception: Whatever the task's function raised.
        """
        try:
            value: R_co = self._source.own_values.get(id(self), _ABSENT)
            if value is _ABSENT:
                value = self._own(self._source.value(self._node, _seconds(timeout)))
            else:
                self._source.refuse_in_tasks(self._node)
        except Exception as error:
            if raise_on_failure or is_a(error, WaitedInVain):
                raise
            return error  # type: ignore[return-value]
        return value

    def _own(self, value: Any) -> Any:
        """Make a value the future's own and return it; or the one that another thread was faster with."""
        return self._source.own_values.setdefault(id(self), value)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the task has finished, successfully or not, without fetching its value.

        Call `done()` afterwards to see whether it has. A failure that the flow never retrieves with `result` makes the
        flow fail at its end.

        Args:
            timeout: The longest time to wait, in seconds. None waits without limit.
        """
        with contextlib.suppress(WaitedInVain):
            self._source.wait(self._node, _seconds(timeout))

    def stored(self) -> Any:
        """Wait for the task and return its `penstock.StoredResult`, without fetching the value.

        To read an attribute of the value that is called `stored`, write `future.result().stored`.

        Raises:
            TracingError: The task's result is not stored.
            Exception: Whatever the task's function raised.
        """
        return self._source.stored(self._node)

    def done(self) -> bool:
        """Return whether the task has finished, successfully or not. Never waits."""
        return has_value(self) or self._source.settled(self._node)

    def __getitem__(self, item: Any) -> Future[Any]:
        return self._source.part(self._node, "item", item)

    def __getattr__(self, name: str) -> Future[Any]:
        # copy, pickle, notebooks and debuggers look up dunder and private names; these must not create nodes.
        if name.startswith("_"):
            if name in _TABLE_PROTOCOLS:
                return cast("Future[Any]", getattr(self.result(), name))
            raise AttributeError(name)
        return self._source.part(self._node, "attribute", name)

    def __setitem__(self, item: Any, value: Any) -> NoReturn:
        raise self._not_changed("an item was set")

    def __delitem__(self, item: Any) -> NoReturn:
        raise self._not_changed("an item was deleted")

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(f"cannot set the attribute {name} of a Future")
        raise self._not_changed(f"the attribute {name} was set")

    def __delattr__(self, name: str) -> NoReturn:
        raise self._not_changed(f"the attribute {name} was deleted")

    def _not_changed(self, how: str) -> TracingError:
        return TracingError(
            f"{how} in {self!r}",
            because="every user of a result receives it as the task returned it, so the change would be lost",
            hint="get a value of your own with .result(), modify that, and pass it on",
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        function: Any = self.result()
        if not callable(function):
            raise TypeError(f"cannot call {self!r}: its value is not callable; use .result() to get the value itself")
        return self._source.call_value(
            function, args, kwargs, lambda: self._not_changed("the value was changed by a call")
        )

    def __await__(self) -> Generator[Any, None, R_co]:
        # Not a plain return: this frame keeps the future, and therefore the value, alive during the wait.
        value: R_co = self._own((yield from self._source.awaitable(self._node)))
        return value

    def __repr__(self) -> str:
        return f"Future({self._source.describe(self._node)})"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("cannot pickle a Future, which belongs to its run; pass it to a task, or use future.result()")

    def __hash__(self) -> int:
        # asyncio only needs to distinguish awaitables, and its event loop must not block.
        if sys._getframe(1).f_globals.get("__name__") == "asyncio.tasks":
            return object.__hash__(self)
        value: Any = self.result()
        try:
            return hash(value)
        except TypeError as error:
            raise TypeError(
                f"cannot hash {self!r}, which hashes like its value: {error}; "
                "keep futures in a list, or use a hashable part of .result()"
            ) from error

    def __bool__(self) -> bool:
        return bool(self.result())

    def __iter__(self) -> Iterator[Any]:
        value: Any = self.result()
        return iter(value)

    async def __aiter__(self) -> AsyncIterator[Any]:
        value: Any = await self
        for item in value:
            yield item

    def __format__(self, spec: str) -> str:
        return format(self.result(), spec)


# As fast as writing an attribute can be in a class that refuses that.
_set_node: Callable[[Any, int], None] = vars(Future)["_node"].__set__
_set_source: Callable[[Any, Source], None] = vars(Future)["_source"].__set__


def has_value(future: Future[Any]) -> bool:
    """Return whether the future was asked for its value, and has it."""
    return id(future) in future._source.own_values


def forget_value(future: Future[Any]) -> None:
    """Make the future get its value again when it is asked for it."""
    del future._source.own_values[id(future)]


def value_as_returned(future: Future[Any]) -> Any:
    """Return the value as the task returned it, whatever the flow did to the object that the future returns."""
    return future._source.value(future._node, None)


def _forward(function: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Future[Any], *args: Any) -> Any:
        return function(self.result(), *(a.result() if isinstance(a, Future) else a for a in args))

    return method


def _reflected(function: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Future[Any], other: Any) -> Any:
        return function(other, self.result())

    return method


def wait_for_all(futures: Iterable[Future[Any]], timeout: float | None) -> None:
    """Wait until all calls have finished, at most `timeout` seconds."""
    left = _until(timeout)
    for future in futures:
        future.wait(left())


def _seconds(timeout: Any) -> float | None:
    if timeout is not None and not isinstance(timeout, int | float):
        raise ParameterError(f"timeout cannot be {repr_of(timeout)}", hint="give a number of seconds, or None")
    return timeout


def _until(timeout: float | None) -> Callable[[], float | None]:
    """Return a function that returns how much of a timeout is left."""
    seconds = _seconds(timeout)
    deadline = None if seconds is None else time.monotonic() + seconds
    return lambda: None if deadline is None else max(0.0, deadline - time.monotonic())


class FutureList(list[R]):
    """The futures of a `map`, in order. Type checkers see them as the values, as they do for calls."""

    def futures(self) -> list[Future[R]]:
        """Return the same futures, typed as futures."""
        return cast("list[Future[R]]", list(self))

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> list[R]:
        """Wait for all calls, at most `timeout` seconds, and return their values in order.

        Takes and raises what `Future.result` does.
        """
        left = _until(timeout)
        return [f.result(left(), raise_on_failure) for f in self.futures()]

    def wait(self, timeout: float | None = None) -> None:
        """Wait until every call has finished, successfully or not; at most `timeout` seconds for all of them."""
        wait_for_all(self.futures(), timeout)


_UNARY: dict[str, Callable[..., Any]] = {
    "len": len, "str": str, "int": int, "float": float, "complex": complex, "bytes": bytes, "abs": abs,
    "neg": operator.neg, "pos": operator.pos, "invert": operator.invert, "index": operator.index, "round": round,
    "trunc": math.trunc, "floor": math.floor, "ceil": math.ceil, "reversed": reversed,
    "fspath": lambda value: value.__fspath__() if hasattr(value, "__fspath__") else value,
}  # fmt: skip
_BINARY = ("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "pow", "lshift", "rshift", "and", "or", "xor")
_COMPARE: dict[str, Callable[..., Any]] = {
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge,
    "contains": operator.contains, "divmod": divmod,
}  # fmt: skip

for _name, _function in (_UNARY | _COMPARE).items():
    setattr(Future, f"__{_name}__", _forward(_function))
for _name in _BINARY:
    _function = getattr(operator, f"{_name}_" if _name in ("and", "or") else _name)
    setattr(Future, f"__{_name}__", _forward(_function))
    setattr(Future, f"__r{_name}__", _reflected(_function))
Future.__rdivmod__ = _reflected(divmod)  # type: ignore[attr-defined]


def _array(self: Future[Any], *args: Any, **kwargs: Any) -> Any:
    # numpy calls this when np.asarray and the like receive a future, which is a use of the value.
    import numpy

    value: Any = self.result()
    caller = sys._getframe(1).f_globals.get("__name__", "")
    if caller.partition(".")[0] == "pandas" and package_of(type(value)) in _LABELLED:
        # pandas treats unknown objects as arrays and would silently drop the labels.
        raise TracingError(
            f"cannot pass {self!r} to pandas: its value is a {kind_name(type(value))}",
            because="pandas treats a future as an array and would lose the column names and the index",
            hint="pass .result()",
        )
    return numpy.asarray(value, *args, **kwargs)


def _array_ufunc(self: Future[Any], ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
    if any(isinstance(each, Future) for each in kwargs.get("out", ())):
        raise self._not_changed(f"the result of numpy's {ufunc.__name__} was written")
    return getattr(ufunc, method)(*self._source.values_in(inputs), **self._source.values_in(kwargs))


def _array_function(self: Future[Any], function: Any, types: Any, args: Any, kwargs: Any) -> Any:
    if isinstance(kwargs.get("out"), Future):
        raise self._not_changed(f"the result of numpy's {function.__name__} was written")
    return function(*self._source.values_in(args), **self._source.values_in(kwargs))


Future.__array__ = _array  # type: ignore[attr-defined]
Future.__array_ufunc__ = _array_ufunc  # type: ignore[attr-defined]
Future.__array_function__ = _array_function  # type: ignore[attr-defined]
Future.__pandas_priority__ = 1_000_000  # type: ignore[attr-defined]  # makes `series + future` call the future


class Futures(Set[Future[Any]]):
    """An ordered set of futures that are compared by their calls, not by their values."""

    def __init__(self, futures: Iterable[Future[Any]] = ()) -> None:
        self._by_call = {_call_of(future): future for future in futures}

    def __contains__(self, future: object) -> bool:
        return isinstance(future, Future) and _call_of(future) in self._by_call

    def __iter__(self) -> Iterator[Future[Any]]:
        return iter(self._by_call.values())

    def __len__(self) -> int:
        return len(self._by_call)

    def __repr__(self) -> str:
        return f"Futures({list(self)})"


def _call_of(future: Future[Any]) -> tuple[int, int]:
    return id(future._source), future._node
