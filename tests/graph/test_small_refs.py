"""What is looked for in arguments: futures and functions, in plain containers, without asking users' objects."""

from __future__ import annotations

from collections import namedtuple
from typing import Any, NoReturn

import pytest

from penstock.digests.refs import Ref, holds_code, holds_ref

Pair = namedtuple("Pair", "one two")


class Hostile(dict[Any, Any]):
    def _raise(self, *_: object) -> NoReturn:
        raise SystemExit("asked")

    __iter__ = keys = values = items = __len__ = _raise  # type: ignore[assignment]
    __class__ = property(_raise)  # type: ignore[assignment]


@pytest.mark.parametrize("make", [lambda x: x, lambda x: [x], lambda x: {x}, lambda x: {1: (x,)}, lambda x: Pair(1, x)])
def test_what_is_in_plain_containers_is_found(make: Any) -> None:
    assert holds_ref({"x": make(Ref(1))})
    assert holds_code({"x": make(test_what_is_in_plain_containers_is_found)})
    assert not holds_ref({"x": make(1)})
    assert not holds_code({"x": make(1)})


def test_an_object_of_a_user_is_not_asked_what_it_is_or_holds() -> None:
    assert holds_ref({"x": Hostile(a=Ref(1))})
    assert not holds_code({"x": Hostile(a=1)})


def test_a_container_in_itself_is_read_once() -> None:
    inside: list[Any] = []
    inside.append(inside)
    assert not holds_ref({"x": inside})
