"""Digests of mocks (`unittest.mock`), which nothing outside of their process equals.

Nothing says what a mock returns, so it only equals itself, and only as long as it is configured as it was: what tests
have set counts, and what calls have left does not.
"""

from __future__ import annotations

import os
from types import FunctionType
from typing import Any

from penstock.digests.walk import SIZE, UndigestibleError, Walk, hash_leaf, hash_node, label

_MOST = 10_000
_tokens: dict[int, tuple[object, bytes]] = {}
"""By id. The objects are kept, so that no other gets the same id."""
_SET = ("_mock_side_effect", "_mock_wraps")
_SET_ON_FUNCTIONS = ("return_value", "side_effect")


def is_mock(cls: type) -> bool:
    """Return whether a class is one of `unittest.mock`, which makes a class for each mock."""
    return any(base.__name__ == "NonCallableMock" and base.__module__ == "unittest.mock" for base in cls.__mro__)


def mock_behind(fn: FunctionType) -> Any:
    """Return the mock of a function made by `create_autospec`; None for any other function."""
    found = vars(fn).get("mock")
    return found if is_mock(type(found)) else None


def is_double(value: Any) -> bool:
    """Return whether a value is a mock, or a function that stands for one."""
    return is_mock(type(value)) or (type(value) is FunctionType and mock_behind(value) is not None)


def mock(value: Any, walk: Walk) -> bytes:
    """Return the digest of a mock."""
    parts = [label(name) + _of(item, walk) for name, item in sorted(_configuration(value, set()).items())]
    return hash_node(b"mock", (_token(value), hash_leaf(b"process", b"%d" % os.getpid()), *parts))


def _configuration(value: Any, seen: set[int]) -> dict[str, Any]:
    """Return what was set on a mock and on those that it has made, by dotted name."""
    seen.add(id(value))
    held = vars(value)
    found = {name: held[name] for name in _SET if held.get(name) is not None}
    found |= {name: item for name, item in held.items() if not name.startswith(("_mock_", "_spec_", "method_calls"))}
    if isinstance(delegate := held.get("_mock_delegate"), FunctionType):
        found |= {f"function.{name}": vars(delegate)[name] for name in _SET_ON_FUNCTIONS if name in vars(delegate)}
    made = {f".{name}": child for name, child in dict(held.get("_mock_children") or {}).items()}
    returned = held.get("_mock_return_value")
    if is_mock(type(returned)):
        made["()"] = returned
    elif type(returned).__name__ != "_SentinelObject" or returned.name != "DEFAULT":
        found["()"] = returned
    for name, child in made.items():
        if is_mock(type(child)) and id(child) not in seen:
            found |= {f"{name}{inner}": item for inner, item in _configuration(child, seen).items()}
    return {name: item for name, item in found.items() if not (is_mock(type(item)) and id(item) in seen)}


def _of(item: Any, walk: Walk) -> bytes:
    try:
        return walk.of(item)
    except UndigestibleError:
        return _token(item)


def _token(value: object) -> bytes:
    known = _tokens.get(id(value))
    if known is None or known[0] is not value:
        if len(_tokens) >= _MOST:
            _tokens.pop(next(iter(_tokens)), None)
        known = _tokens[id(value)] = value, os.urandom(SIZE)
    return known[1]
