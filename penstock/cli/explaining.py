"""Why a result is not found: the components of the key it would have, beside those of the nearest earlier key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Kind = Literal["changed", "added", "removed", "open"]


class Keyed(Protocol):
    """A stored result, as far as it matters here."""

    @property
    def key_parts(self) -> Mapping[str, Any]: ...

    @property
    def created(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Difference:
    """One component that keeps two keys apart."""

    component: str
    """`task_source`, `inputs.day`, …"""
    kind: Kind
    """`open`: not known before the run."""
    old: str | None = None
    new: str | None = None

    def __str__(self) -> str:
        if self.kind == "open":
            return f"{self.component} is not known yet"
        if self.kind != "changed":
            return f"{self.component} {self.kind}"
        if self.component in _CODE:
            return f"{self.component} changed"
        return f"{self.component}: {_short(self.old)} → {_short(self.new)}"


_CODE = ("task_source", "task_code")
_DIGEST_SHOWN = 8


def flattened(parts: Mapping[str, Any]) -> dict[str, str | None]:
    """Key parts as `component → value`, with `inputs.<parameter>` for each input."""
    flat: dict[str, str | None] = {name: value for name, value in parts.items() if name != "inputs"}
    for name, digest in (parts.get("inputs") or {}).items():
        flat[f"inputs.{name}"] = digest
    return flat


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    """What is different between the parts of two keys, code first. A None in `new` is a component not known yet."""
    before, after = flattened(old), flattened(new)
    found = []
    for component in sorted(before.keys() | after.keys(), key=lambda name: (name not in _CODE, name)):
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


def nearest(parts: Mapping[str, Any], records: Iterable[Keyed]) -> tuple[Keyed, list[Difference]] | None:
    """The record whose key is nearest to one of these parts: fewest differences, the latest among equals."""
    best: tuple[Keyed, list[Difference]] | None = None
    for record in records:
        found = differences(record.key_parts, parts)
        if best is None or (len(found), -record.created) < (len(best[1]), -best[0].created):
            best = record, found
    return best


def _short(value: str | None) -> str:
    text = value or ""
    is_digest = len(text) == 40 and all(letter in "0123456789abcdef" for letter in text)
    return f"{text[:_DIGEST_SHOWN]}…" if is_digest else text
