"""Comparing the components of two keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penstock.graph.explained import Difference
from penstock.storage.results.code_notes import COMPONENTS


def flattened(components: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the components of a key as `component → value`, with `inputs.<parameter>` for each input.

    Values that are not strings are omitted: they do not come from Penstock.
    """
    inputs = components.get("inputs")
    flat = {name: value for name, value in components.items() if name != "inputs"}
    if isinstance(inputs, Mapping):
        flat |= {f"inputs.{name}": value for name, value in inputs.items()}
    return {name: value for name, value in flat.items() if value is None or isinstance(value, str)}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    """Return the differences between the components of two keys, code first.

    None in `new` is a component not yet known.
    """
    return flat_differences(flattened(old), flattened(new))


def flat_differences(before: Mapping[str, str | None], after: Mapping[str, str | None]) -> list[Difference]:
    """Return the `differences` between components that are `flattened`."""
    found = []
    for component in sorted(before.keys() | after.keys(), key=lambda name: (name not in COMPONENTS, name)):
        was, now = before.get(component), after.get(component)
        if component not in after:
            found.append(Difference(component, "removed", was))
        elif component not in before:
            found.append(Difference(component, "added", None, now))
        elif now is None:
            found.append(Difference(component, "open", was))
        elif was != now:
            found.append(Difference(component, "changed", was, now))
    return found
