"""Live values, which are more than their data: references into a running cluster, open files, views of memory.

A copy in another process or at a later time would not work, so live values are neither stored nor sent. Most refuse to
be pickled; this module lists those that do not, and the most common ones, for better messages.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Iterator
from types import AsyncGeneratorType, FunctionType, GeneratorType
from typing import Any

import cloudpickle.cloudpickle

from penstock.errors import is_a
from penstock.objects.code_pickles import CodePickler
from penstock.objects.places import parts, place_of
from penstock.objects.questions import is_mock
from penstock.objects.records import defaults_of
from penstock.objects.texts import kind_name, module_of, text_of, told
from penstock.objects.tracebacks import place_in_users_code

_LIVE = {
    ("ray", "ObjectRef"): "a reference to a Ray object, which is deleted with its last reference",
    ("ray", "ObjectRefGenerator"): "a stream of references to Ray objects, which are deleted with their last reference",
    ("ray.actor", "ActorHandle"): "a handle to a Ray actor, which ends with its last handle",
    ("ray.util.client.common", "ClientActorHandle"): "a handle to a Ray actor, which ends with its client",
    ("distributed.client", "Future"): "a Dask future, whose value is deleted with its last future",
    ("distributed.actor", "Actor"): "a Dask actor, which ends with its last reference",
    ("builtins", "generator"): "a generator, which can be read only once",
    ("builtins", "async_generator"): "a generator, which can be read only once",
    **{("_io", name): "an open file" for name in ("TextIOWrapper", "BufferedReader", "BufferedWriter", "FileIO")},
    **{("_thread", name): "a lock of its process" for name in ("lock", "RLock")},
    **{(module, "socket"): "an open connection" for module in ("socket", "_socket")},
    ("sqlite3", "Connection"): "an open connection",
    ("subprocess", "Popen"): "a running process",
    ("threading", "Thread"): "a thread of its process",
    ("builtins", "memoryview"): "a view of memory that belongs to something else",
    ("penstock.graph.futures", "Future"): "a future, which belongs to its run",
}
_MOCK = "a mock, whose pickle may not be readable, and whose calls only its own process sees"
_COLLECTION = "a Dask collection"
"""Its graph may contain futures that its creator keeps alive; Dask resolves them."""
_ARRAY = "an array of numpy, which is not live"
_LOSSY = "a value whose own pickles lose something, which is not live"
MOST_LEVELS = 32


class LiveValue(TypeError):
    """A part of a value is live."""

    def __init__(self, part: Any, what: str) -> None:
        super().__init__(f"it is {what}")
        self.part = part
        self._what = what

    def __reduce__(self) -> tuple[Any, ...]:
        # Without the part, which cannot be pickled, for example as the cause of another error.
        return LiveValue, (None, self._what)


def _what(kind: type) -> str | None:
    """Return a description of a class whose values are live, or None."""
    for base in kind.__mro__:
        why = _LIVE.get((module_of(base), kind_name(base)))
        if why is not None:
            return why
        if "__dask_graph__" in vars(base):
            return _COLLECTION
    return None


class Pickler(CodePickler):
    """A cloudpickle pickler that raises `LiveValue` for live parts, and keeps read-only arrays read-only."""

    of_result = False
    """Whether mocks are live, too. Arguments and code may hold them."""

    def __init__(self, file: Any, **options: Any) -> None:
        super().__init__(file, **options)
        self._known: dict[type, str | None] = {}

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        try:
            why = self._known[kind]
        except KeyError:
            name = (module_of(kind), kind_name(kind))
            why = _ARRAY if name == ("numpy", "ndarray") else _LOSSY if name in _REDUCED else _what(kind)
            if why is None and self.of_result and is_mock(kind):
                why = _MOCK
            self._known[kind] = why
        if why is None or obj is sys.stdout or obj is sys.stderr:  # these two exist in every process
            return super().reducer_override(obj)
        if why is _ARRAY:
            return _reduced_array(obj)
        if why is _LOSSY:
            return _REDUCED[module_of(kind), kind_name(kind)](obj)
        if why is _COLLECTION:
            return cloudpickle.loads, (cloudpickle.dumps(obj),)
        raise LiveValue(obj, why)


def _reduced_array(array: Any) -> Any:
    """Return how to pickle an array. numpy itself only remembers that it is read-only if its bytes are in one piece."""
    flags = array.flags
    if flags.writeable or (flags.forc and not array.dtype.hasobject):
        return NotImplemented  # as numpy does
    kind = type(array)
    return kind.view, (array.copy(order="F" if flags.fnc else "C"),), False, None, None, kind.setflags


def _reduced_text(value: Any) -> Any:
    """Keep NULs at the end, which numpy drops."""
    held = str.__str__(value) if isinstance(value, str) else bytes.__getitem__(value, slice(None))
    return (type(value), (held,)) if held[-1:] in ("\0", b"\0") else NotImplemented


def _reduced_map(kind: Any) -> Any:
    """Keep whether the keys are sorted."""
    import pyarrow as pa

    return (pa.map_, (kind.key_field, kind.item_field, True)) if kind.keys_sorted else NotImplemented


def _reduced_list(kind: Any) -> Any:
    """Keep the field of the items: its name, metadata, and whether it allows nulls."""
    import pyarrow as pa

    return pa.list_, (kind.value_field, kind.list_size)


_REDUCED: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("numpy", "str_"): _reduced_text,
    ("numpy", "bytes_"): _reduced_text,
    ("pyarrow.lib", "MapType"): _reduced_map,
    ("pyarrow.lib", "FixedSizeListType"): _reduced_list,
}
"""How to pickle instances of classes, by module and name, whose own pickles lose something."""


class ResultPickler(Pickler):
    """A pickler of results, which may be read by other programs."""

    of_result = True


def dumps(value: Any, pickler: type[Pickler] = Pickler) -> bytes:
    """Pickle a value. Raises `LiveValue`, and whatever pickling raises."""
    file = io.BytesIO()
    pickler(file, protocol=5).dump(value)
    return file.getvalue()


def find_live(value: Any, *, most: int, one_way: bool = False) -> LiveValue | None:
    """Find a live part among the first `most` parts of a value; with `one_way`, only one that can be read once."""
    found: list[LiveValue] = []

    def is_live(part: Any) -> bool:
        kind = type(part)
        what = _what(kind) if kind is GeneratorType or kind is AsyncGeneratorType or not one_way else None
        if what is not None and what is not _COLLECTION and part is not sys.stdout and part is not sys.stderr:
            found.append(LiveValue(part, what))
        return bool(found)

    place_of(value, is_live, most=most)
    return found[0] if found else None


def culprit(value: Any, error: BaseException) -> tuple[str, Any]:
    """Return the path of the innermost part that cannot be pickled, and that part."""
    if is_a(error, LiveValue):
        path = place_of(value, lambda part: part is error.part)
        if path is not None:
            return path, error.part
    path, met = "", {id(value)}
    for _ in range(MOST_LEVELS):
        inside = [(step, part) for step, part in (*parts(value), *_of_code(value)) if id(part) not in met]
        broken = next((each for each in inside if why_unpicklable(each[1])), None)
        if broken is None:
            break
        path, value = path + broken[0], broken[1]
        met.add(id(value))
    return path, value


def _of_code(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a function or class is pickled with besides its parts: globals, defaults, methods."""
    if type(value) is FunctionType:
        for name in cloudpickle.cloudpickle._extract_code_globals(value.__code__):
            if name in value.__globals__:
                yield f".<global {name}>", value.__globals__[name]
        yield from ((f".<default {name}>", default) for name, default in defaults_of(value).items())
    elif issubclass(type(value), type):
        for name, item in list(type.__dict__["__dict__"].__get__(value).items()):
            if type(item) is property:
                yield from ((f".{name}", accessor) for accessor in (item.fget, item.fset, item.fdel))
            yield f".{name}", item.__func__ if type(item) in (classmethod, staticmethod) else item


def said_place(path: str) -> str:
    """Return the path of a part in words: `use: global LOCK` for `use.<global LOCK>`."""
    return re.sub(r"\.<(global|closure|default) (\w+)>", _said_step, path)


def _said_step(step: re.Match[str]) -> str:
    return f": {_SAID[step[1]]} {step[2]}"


_SAID = {"global": "global", "closure": "closure variable", "default": "default of"}


def shown_cause(error: BaseException) -> BaseException | None:
    """Return an error of pickling if it comes from a user's code, and otherwise None: its text says everything."""
    return error if place_in_users_code(error) and not is_a(error, LiveValue) else None


def why_not(error: BaseException) -> str:
    """Return the reason why something cannot be pickled, in one line if possible."""
    return text_of(error) if is_a(error, LiveValue) else told(error)


def why_unpicklable(value: Any, pickler: type[Pickler] = Pickler) -> BaseException | None:
    """Return what pickling the value raises, or None if it succeeds."""
    try:
        dumps(value, pickler)
    except BaseException as error:  # noqa: BLE001 (a __reduce__ may raise anything, or exit)
        return error
    return None
