"""Digests of functions, methods, classes, builtins, partials and modules.

Users' functions are digested by their syntax tree and the values of their defaults and closure variables; installed
ones and modules by name, because their source changes with their version and that of Python.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from penstock.digests.code.byte_code import byte_code_digest
from penstock.digests.code.local_classes import held_by_class
from penstock.digests.code.named_classes import is_named
from penstock.digests.code.syntax import class_syntax, encode_tree, module_syntax
from penstock.digests.mocks import mock_behind
from penstock.digests.names import is_project_module, offered_name, stable_module, stable_name
from penstock.digests.walk import UndigestibleError, Walk, attributes, hash_leaf, hash_node, hash_str, hash_type, label
from penstock.errors import DigestError
from penstock.objects.markers import is_marker, is_plain
from penstock.objects.questions import ask
from penstock.objects.texts import module_of


def function(value: types.FunctionType, walk: Walk) -> bytes:
    if (again := walk.recursion(value)) is not None:  # a function that refers to itself through a closure
        return again
    if (double := mock_behind(value)) is not None:
        return walk.of(double)
    home = value.__globals__.get("__name__") or value.__module__
    if is_project_module(home):
        return hash_node(b"function", (hash_str(stable_name(value)), function_content(value, walk)))
    if implementations := list(dispatched(value)):
        inner = walk.at(".__wrapped__", value.__wrapped__)  # type: ignore[attr-defined]
        return hash_node(b"dispatch", (inner, _constants(walk, ".registry", implementations)))
    # Installed code changes with versions, so its name stands for it; its closure counts, too.
    walk.functions.append(value)
    qualname = value.__code__.co_qualname
    # A decorated function counts under the decorator's name: `functools.wraps` only copies the visible one.
    name = stable_name(value) if qualname == value.__qualname__ else f"{stable_module(home)}:{qualname}"
    closure = _constants(walk, ".__closure__", closure_items(value))
    walk.functions.pop()
    return hash_node(b"library", (hash_str(name), closure))


def function_content(fn: types.FunctionType, walk: Walk) -> bytes:
    """Return the digest of a function without its name: its syntax tree, defaults and closure variables."""
    walk.functions.append(fn)
    try:
        syntax = walk.code(fn)
    except DigestError as error:
        raise UndigestibleError(error.what, because=error.because) from error
    parts = (
        syntax,
        hash_node(b"defaults", [_constant(walk, ".__defaults__", item) for item in fn.__defaults__ or ()]),
        _constants(walk, ".__kwdefaults__", (fn.__kwdefaults__ or {}).items()),
        _constants(walk, ".__closure__", closure_items(fn)),
    )
    walk.functions.pop()
    return hash_node(b"code", parts)


def class_digest(value: type, walk: Walk) -> bytes:
    """Return the digest of a class as a value: its name, and if that does not identify it, what it holds."""
    if (again := walk.recursion(value)) is not None:  # a method refers to its class
        return again
    if is_named(value):
        return hash_type(value)
    return hash_node(b"localclass", (hash_type(value), _fields(value, walk)))


def class_of(value: Any, walk: Walk) -> bytes:
    """Return the digest of the class of an object, as that of the class as a value."""
    cls = type(value)
    if is_named(cls):
        return hash_type(cls)
    known = None if walk.functions else walk.memo.get(id(cls))  # inside a class, it depends on the classes around it
    if known is None:
        code, walk.code = walk.code, functools.partial(_source_or_byte_code, walk.code)
        try:
            known = (cls, walk.at(".__class__", cls))
        finally:
            walk.code = code
        if not walk.functions:
            walk.memo[id(cls)] = known  # many objects have one class
    return known[1]


def local_content(value: type, walk: Walk) -> bytes:
    """Return the digest of a class that a function made, without its name: its statement, and what it holds."""
    return hash_node(b"class", (hash_leaf(b"syntax", encode_tree(class_syntax(value))), _fields(value, walk)))


def _source_or_byte_code(code: Callable[[types.FunctionType], bytes], fn: types.FunctionType) -> bytes:
    """Return the digest of a function's own part. Of the class of an unpickled object, it may have no source."""
    try:
        return code(fn)
    except DigestError:
        return byte_code_digest(fn.__code__)


def _fields(cls: type, walk: Walk) -> bytes:
    return _counted(cls, held_by_class(cls), walk)


def _counted(owner: object, held: Iterable[tuple[str, Any]], walk: Walk) -> bytes:
    """Return the node of what a class, or an object in one, holds. What has no digest is left out, such as a lock."""
    walk.functions.append(owner)
    found = []
    for name, item in held:
        depth, inside = len(walk.stack), len(walk.functions)
        try:
            found.append(label(name) + walk.at(f".{name}", item))
        except UndigestibleError:
            if _must_count(item) or any(item is each for each in walk.functions):
                raise
            del walk.stack[depth:], walk.functions[inside:]
            if type(item) in _CONTAINERS:
                found.append(label(name) + _counted(item, _items(item, walk), walk))
    walk.functions.pop()
    return hash_node(b"fields", sorted(found))


def _items(container: Any, walk: Walk) -> Iterator[tuple[str, Any]]:
    """Yield what is in a container, of which some has no digest, under names that do not depend on others."""
    if type(container) is dict:
        yield from ((walk.of(key).hex(), item) for key, item in container.items())
    else:
        ordered = type(container) in (list, tuple)
        yield from ((str(place) if ordered else "", item) for place, item in enumerate(container))


_CONTAINERS = (list, tuple, dict, set, frozenset)


def _must_count(item: Any) -> bool:
    """Return whether an object is code or state of the project, so that it is an error if it has no digest."""
    if isinstance(item, types.MethodType | functools.partial):
        held = (item.__self__, item.__func__) if isinstance(item, types.MethodType) else (item.func,)
        return any(_must_count(each) for each in held)
    return isinstance(item, types.FunctionType | type) or is_project_module(module_of(type(item)))


def state(value: Any, walk: Walk) -> bytes | None:
    """Return the digest of an object of the project that a class made by a function holds: its class and attributes.

    None for all others: objects that are not in such a class, and those of which attributes do not tell everything.
    """
    cls = type(value)
    if not walk.functions or isinstance(walk.functions[-1], types.FunctionType):
        return None
    if not is_project_module(module_of(cls)) or not is_plain(cls):
        return None
    if (again := walk.recursion(value)) is not None:
        return again
    return hash_node(b"object", (class_of(value, walk), _counted(value, attributes(value).items(), walk)))


def dispatched(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the implementations registered with a `singledispatch` function, by class."""
    registry = getattr(value, "registry", None) if isinstance(value, types.FunctionType) else None
    if registry is None or not hasattr(value, "dispatch") or value.__globals__.get("__name__") != "functools":
        return
    for kind, implementation in registry.items():
        if kind is not object:
            yield f"register {stable_name(kind)}", implementation


def closure_items(fn: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of closure variables. One without a value yet counts as an empty cell."""
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:
            yield name, NotImplemented


def _constants(walk: Walk, step: str, items: Iterable[tuple[str, Any]]) -> bytes:
    return hash_node(
        b"fields", sorted(label(name) + _constant(walk, f"{step}[{name!r}]", item) for name, item in items)
    )


def _constant(walk: Walk, step: str, value: Any) -> bytes:
    # An `object()` used as a marker has no content; the syntax tree says which one is meant.
    if type(value) is object:
        return _MARKER
    depth = len(walk.stack)
    try:
        return walk.at(step, value)
    except UndigestibleError:
        if not is_marker(value):
            raise
        del walk.stack[depth:]
        return marker(value)


def marker(value: Any) -> bytes:
    """Return the digest of an object without state that has no other digest."""
    return _MARKER if type(value) is object else hash_node(b"marker", (hash_type(type(value)),))


_MARKER = hash_leaf(b"marker", b"")


def builtin(value: Any, walk: Walk) -> bytes:
    """Return the digest of a compiled function: its name, and the object that it is bound to."""
    owner = ask(value, "__self__")
    if owner is None or isinstance(owner, types.ModuleType):
        return hash_leaf(b"builtin", stable_name(value).encode())
    if offered := offered_name(value):
        return hash_leaf(b"builtin", offered.encode())
    return hash_node(b"boundbuiltin", (walk.at(".__self__", owner), hash_str(value.__name__)))


def descriptor(value: Any, _: Walk) -> bytes:
    owner = stable_name(value.__objclass__)
    return hash_leaf(b"builtin", f"{owner}.{value.__name__}".encode())


def method(value: types.MethodType, walk: Walk) -> bytes:
    if offered := offered_name(value):
        return hash_leaf(b"builtin", offered.encode())
    return hash_node(b"method", (walk.at(".__self__", value.__self__), walk.at(".__func__", value.__func__)))


def partial(value: functools.partial[Any], walk: Walk) -> bytes:
    parts = (value.func, value.args, value.keywords)
    return hash_node(b"partial", map(walk.at, (".func", ".args", ".keywords"), parts))


def module(value: types.ModuleType, _: Walk) -> bytes:
    """Return the digest of a module: its name, and the source of project modules without their imports."""
    name = stable_module(value.__name__)
    if not is_project_module(value.__name__) or not getattr(value, "__file__", None):
        return hash_leaf(b"module", name.encode())
    try:
        source = hash_leaf(b"syntax", encode_tree(module_syntax(value)))
    except DigestError as error:
        raise UndigestibleError(error.what, because=error.because) from error
    return hash_node(b"projectmodule", (hash_str(name), source))


def operator_object(value: Any, walk: Walk) -> bytes:
    reduced: tuple[Any, ...] = value.__reduce__()
    return hash_node(b"operator", (hash_type(type(value)), walk.of(reduced[1:])))
