"""Digests of mocks (`unittest.mock`), which nothing outside of their process equals.

Nothing says what a mock returns, so it only equals itself, and only as long as it is configured as it was: what tests
have set counts, and what calls have left does not.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from penstock.digests.code.byte_code import byte_code_digest
from penstock.digests.code.syntax import function_code_digest
from penstock.digests.names import is_project_module
from penstock.digests.walk import SIZE, Branch, UndigestibleError, Walk, attributes, hash_leaf, hash_node, label
from penstock.errors import DigestError
from penstock.objects.questions import ask, is_mock, is_pending
from penstock.objects.texts import module_of, package_of

_MOST = 100_000
_tokens: dict[int, tuple[object, bytes]] = {}
"""By id. The objects are kept, so that no other gets the same id."""
_MOST_IN_ONE = 1000
_OF_SPECS = ("_mock_methods", "_mock_sealed", "_spec_class")
_OF_CLASSES = frozenset(
    {"__annotations_cache__", "__doc__", "__module__", "__signature__", "__slotnames__", "_mock_check_sig"}
)
"""What Python and `unittest.mock` themselves set on the class that a mock has for itself."""
_MADE_BY_USE = frozenset(
    {f"_get_{name}.<locals>.__{name}__" for name in ("eq", "ne", "iter")}
    | {"_get_async_iter.<locals>.__aiter__", "mock_open.<locals>._readline_side_effect"}
)


def mock_behind(fn: FunctionType) -> Any:
    """Return the mock of a function made by `create_autospec`; None for any other function."""
    found = vars(fn).get("mock")
    return found if is_mock(type(found)) else None


def is_double(value: Any) -> bool:
    """Return whether a value is a mock, or a function that stands for one."""
    return is_mock(type(value)) or (type(value) is FunctionType and mock_behind(value) is not None)


# -- digests


def kept(value: Any, walk: Walk) -> bytes:
    """Return the digest of a mock, or of anything that one holds.

    What has no digest counts by its identity and its attributes. Everything that is reached counts once, so that
    cycles do not matter.
    """
    reached: dict[int, Any] = {}

    def branch_for(cls: type) -> Branch:
        return functools.partial(part, None if is_mock(cls) else walk.find(cls))

    def part(branch: Branch | None, item: Any, inner: Walk) -> bytes:
        depth, functions = len(inner.stack), len(inner.functions)
        if type(item) is FunctionType and item.__globals__.get("__name__") == "unittest.mock" and not is_double(item):
            return _token(item)  # what it holds, such as the lines of an open file, changes with use
        try:
            if branch is not None:
                return branch(item, inner)
        except UndigestibleError:
            del inner.stack[depth:], inner.functions[functions:]
        if id(item) not in reached and len(reached) < _MOST_IN_ONE:
            reached[id(item)] = item
            waiting.append(item)
        return _token(item)

    waiting: list[Any] = []
    inner = Walk(walk.resolve, branch_for, _code)
    parts = {inner.of(value)}
    while waiting:
        item = waiting.pop()
        held = _configured(item) if is_mock(type(item)) else _attributes(item)
        parts.add(hash_node(b"held", (_token(item), *sorted(label(name) + inner.of(each) for name, each in held))))
    return hash_node(b"mock", (hash_leaf(b"process", b"%d" % os.getpid()), *sorted(parts)))


def _code(fn: FunctionType) -> bytes:
    try:
        return function_code_digest(fn)
    except DigestError:  # without a source
        return byte_code_digest(fn.__code__)


def _attributes(item: Any) -> Iterator[tuple[str, Any]]:
    """Yield the attributes that count of an object without a digest: of installed classes, only the public ones.

    What packages keep for themselves, such as counters of connections, changes with use.
    """
    kind = type(item)
    if is_pending(item) or isinstance(item, ModuleType) or package_of(kind) == "penstock":
        return
    is_own = is_project_module(module_of(kind))
    yield from ((name, held) for name, held in attributes(item).items() if is_own or not name.startswith("_"))


def _token(value: object) -> bytes:
    known = _tokens.get(id(value))
    if known is None or known[0] is not value:
        if len(_tokens) >= _MOST:
            _tokens.pop(next(iter(_tokens)), None)
        known = _tokens[id(value)] = value, os.urandom(SIZE)
    return known[1]


# -- what was set


def held_by_mock(value: Any) -> list[Any]:
    """Return what was set on a mock and on those that it has made."""
    return [item for _, item in _configured(value)]


def _configured(value: Any) -> list[tuple[str, Any]]:
    """Return what was set on a mock and on those that it has made, with dotted names."""
    held = vars(value)
    seen: set[int] = set()
    found = [(name, held[name]) for name in _OF_SPECS if held.get(name)]
    found += _set_on(value, None, "", seen)
    return [(name, item) for name, item in found if id(uncovered(item)) not in seen]


def _set_on(value: Any, maker: Any, name: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Yield what was set on a mock and on those that it has made.

    Args:
        value: The mock.
        maker: The mock that has made it. None for the first.
        name: What the maker has made it for: a name, or `()`.
        seen: The ids of mocks that were visited. Others are added.
    """
    seen.add(id(value))
    held = dict(vars(value))
    for each, item in held.items():
        if not each.startswith(("_mock_", "_spec_", "method_calls")):
            yield each, item
    for each, item in list(vars(type(value)).items()):
        if each not in _OF_CLASSES and type(item).__name__ != "MagicProxy":
            yield f"<class>.{each}", _as_set(item)
    for each in ("_mock_side_effect", "_mock_wraps"):
        item = held.get(each)
        if item is not None and not (_is_made_by_use(item) or _is_of_wrapped(item, maker, name)):
            yield each, item
    if isinstance(delegate := held.get("_mock_delegate"), FunctionType):
        yield "<function>.return_value", vars(delegate).get("return_value")
        if (effect := value.side_effect) is not None:  # asked for it, a mock replaces a list by an iterator
            yield "<function>.side_effect", effect
    made = {each: uncovered(child) for each, child in dict(held.get("_mock_children") or {}).items()}
    yield from ((each, "deleted") for each, child in made.items() if _is_sentinel(child, "DELETED"))
    returned = held.get("_mock_return_value")
    if is_mock(type(returned)):
        made["()"] = returned
    elif not (_is_sentinel(returned, "DEFAULT") or _is_default(returned, maker, name)):
        yield "()", returned
    for each, child in made.items():
        if is_mock(type(child)) and id(child) not in seen:
            yield from ((f"{each}.{inner}", item) for inner, item in _set_on(child, value, each, seen))


def uncovered(value: Any) -> Any:
    """Return the mock behind a function, or the value itself."""
    return (mock_behind(value) if type(value) is FunctionType else None) or value


def _as_set(item: Any) -> Any:
    """Return the function that was set as a special method, which a mock hides in one of its own."""
    is_hidden = type(item) is FunctionType and item.__code__.co_qualname == "_get_method.<locals>.method"
    return item.__closure__[0].cell_contents if is_hidden else item


def _is_sentinel(value: Any, name: str) -> bool:
    return type(value).__name__ == "_SentinelObject" and value.name == name


def _is_made_by_use(effect: Any) -> bool:
    """Return whether `unittest.mock` itself has set a side effect, when a mock was compared, iterated or opened."""
    code = ask(effect, "__code__") if type(effect) is FunctionType else ask(effect, "gi_code")
    return isinstance(code, CodeType) and code.co_qualname in _MADE_BY_USE


def _is_of_wrapped(wraps: Any, maker: Any, name: str) -> bool:
    """Return whether a mock wraps an attribute of what its maker wraps, as it does when it is first asked for."""
    around = None if maker is None else vars(maker).get("_mock_wraps")
    return around is not None and (name not in vars(maker) or ask(wraps, "__self__") is around)


def _is_default(returned: Any, maker: Any, name: str) -> bool:
    """Return whether a special method returns what it does without being configured."""
    if maker is None:
        return False
    known = vars(sys.modules["unittest.mock"])
    compute = known.get("_calculate_return_value", {}).get(name)
    default = compute(maker) if compute is not None else known.get("_return_values", {}).get(name)
    return type(returned) is type(default) and bool(returned == default)
