"""Small promises of the words in which a miss is explained."""

from __future__ import annotations

from typing import Any, cast

import pytest

from penstock.explanations.wording import shortened, told_difference
from penstock.graph.explained import Difference
from penstock.graph.graphs import Node

D1, D2 = "1" * 40, "2" * 40


class _Node:
    arguments: dict[str, Any] = {"token": "hunter2", "n": 3}  # noqa: RUF012


def told(component: str, old: str | None, new: str | None, kind: str = "changed") -> str:
    return told_difference(Difference(component, kind, old, new), cast(Node, _Node()), {}).text


@pytest.mark.parametrize(
    ("component", "words"),
    [
        ("files.config", "file config changed"),
        ("files(paths)", "the content of the files of paths changed"),
        ("flow_parameters.day", "flow parameter day changed"),
        ("task_source", "the code of its function changed"),
        ("inputs.n", "input n changed"),
    ],
)
def test_each_component_of_a_key_is_named_in_words(component: str, words: str) -> None:
    assert told(component, D1, D2) == words


def test_a_component_that_was_or_is_a_text_is_shown_with_digests_shortened() -> None:
    assert told("cache_key", D1, "v2") == "a CacheKey: 11111111… → v2"
    assert shortened(D1) == "11111111…"
    assert shortened(None) == ""


def test_a_long_or_secret_text_is_never_shown_whole() -> None:
    assert shortened("x" * 500) == "x" * 79 + "…"
    assert "hunter2" not in shortened("https://me:hunter2@example.org/a")
    assert "\x1b" not in shortened("a\x1b[31m\nb")
    assert "\n" not in shortened("a\nb")
