"""The wording of differences between keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from penstock.digests.large import Large
from penstock.graph.code.reading import told
from penstock.graph.explained import Difference, Reason
from penstock.graph.graphs import Node
from penstock.objects.secrets import redacted_text
from penstock.objects.texts import clean

_DIGEST_SHOWN = 8
_SHOWN = 80
_COUNTED = {
    "task_source": "the code of its function",
    "task_code": "its code and the code it uses",
    "cache_key": "a CacheKey",
    "cache_key_fn": "the result of its key function",
}
"""Descriptions of components whose names do not speak for themselves."""


def told_difference(
    difference: Difference, node: Node, sources: Mapping[str, Sequence[str]], origin: str | None = None
) -> Reason:
    """Describe a component that differs.

    Args:
        difference: The component.
        node: The call that would have the key.
        sources: The tasks whose results each input contains.
        origin: Why an input from another task differs, as far as that is known (`EarlierInputs.origin`).
    """
    component, kind = difference.component, difference.kind
    scope, _, name = component.partition(".")
    what = clean(_what(component))
    if kind in ("added", "removed"):
        return Reason(f"its policy now includes {what}" if kind == "added" else f"its policy no longer includes {what}")
    if kind == "open":
        return Reason(f"{what} is not known yet")
    if scope != "inputs":
        values = f": {shortened(difference.old)} → {shortened(difference.new)}"
        return Reason(f"{what} changed" if _is_digest(difference.new) else what + values)
    if sources.get(name):
        tasks = ", ".join(sources[name])
        of_origin = {
            "call": f"another call of {tasks}",
            "result": f"{tasks}, whose result changed",
            None: f"{tasks}: from another call, or its result changed",
        }
        return Reason(f"{what} changed: it comes from {of_origin[origin]}")
    value = node.arguments.get(name)
    now = "" if isinstance(value, Large) else told(name, value)
    return Reason(f"{what} changed", f"{what} changed: now {clean(now)}" if now else "")


def _what(component: str) -> str:
    """Describe a component of keys."""
    scope, _, name = component.partition(".")
    if scope == "inputs":
        return f"input {name}"
    if scope == "files":
        return f"file {name}"
    if scope == "flow_parameters":
        return f"flow parameter {name}"
    if component.startswith("files("):
        return f"the content of the files of {component[6:-1]}"
    return _COUNTED.get(component, component)


def shortened(value: str | None, most: int = _SHOWN) -> str:
    """Return a component's value for display, shortened and without control characters."""
    text = value or ""
    if _is_digest(text):
        return f"{text[:_DIGEST_SHOWN]}…"
    text = clean(redacted_text(text[: 10 * most])).replace("\n", " ")
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _is_digest(value: str | None) -> bool:
    return value is not None and len(value) == 40 and all(letter in "0123456789abcdef" for letter in value)
