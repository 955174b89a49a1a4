"""The functions, classes and constants that differ between two code notes."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

from penstock.graph.code.code_notes import CODE_KINDS, DEFAULT, MAX_TOLD, NAME, OBJECT, THE_TASK, CodeNote, Piece
from penstock.objects.secrets import HIDDEN
from penstock.objects.texts import clean

MAX_CHANGES = 20
"""Further changes are only counted."""
DIFF_LINES = 16
_COMPARED_LINES = 400
"""The most lines of each side that are compared, since the cost is their product."""


@dataclass(frozen=True, slots=True)
class CodeChange:
    """One piece of code that was changed, added or removed."""

    kind: str
    """function, method, class, module, object, constant, closure variable, default, name."""
    name: str
    how: str
    """changed, added or removed."""
    old: str = ""
    """The earlier value of a constant, as noted."""
    new: str = ""
    used_by: str = ""
    """A piece of code that uses it; empty for the task's own."""
    diff: str = ""
    """The lines of code that differ, if both sources are known."""

    def __str__(self) -> str:
        used = f" (used by {self.used_by})" if self.used_by else ""
        if self.how == "added":
            return f"{self.kind} {self.name} is new{self._value(self.new)}{used}"
        if self.how == "removed":
            return f"{self.kind} {self.name} is no longer used"
        if self.kind in CODE_KINDS and self.kind != OBJECT:
            return f"{self.kind} {self.name} changed{used}"
        if self.old == self.new:
            return f"{self.kind} {self.name} changed{self._value(self.new)}{used}"
        return f"{self.kind} {self.name}: {self.old} → {self.new}{used}"

    def _value(self, text: str) -> str:
        return "" if self.kind in CODE_KINDS or text in ("", HIDDEN) else f" ({text})"

    def to_dict(self) -> dict[str, str]:
        """Return the change as JSON-compatible data."""
        return {name: getattr(self, name) for name in self.__slots__}


def code_changes(old: CodeNote, new: CodeNote) -> list[CodeChange]:
    """Return the differences between two code notes, changed code first; empty if these do not show any."""
    before = {(piece.kind, piece.name): piece for piece in old.pieces}
    after = {(piece.kind, piece.name): piece for piece in new.pieces}
    users = {name: piece for (kind, name), piece in after.items() if kind in CODE_KINDS}
    found = [_change(each, before.get(each), after.get(each), users) for each in {**after, **before}]
    differing = [change for change in found if change is not None]
    # Names and defaults of edited code are not listed, since the edit shows them. Defaults of unedited functions
    # differ because of the values from which they are computed.
    edited = {change.name for change in differing if change.how == "changed" and change.kind in CODE_KINDS}
    telling = [change for change in differing if not _told_by_edit(change, edited)] or differing
    return sorted(telling, key=lambda change: (_HOW[change.how], change.kind not in CODE_KINDS, change.kind == NAME))


_HOW = {"changed": 0, "added": 1, "removed": 2}


def _change(key: tuple[str, str], was: Piece | None, now: Piece | None, users: dict[str, Piece]) -> CodeChange | None:
    if was is not None and now is not None and was.digest == now.digest:
        return None
    piece = now or was
    assert piece is not None  # the key comes from one of them
    how = "added" if was is None else "removed" if now is None else "changed"
    is_code = piece.kind in CODE_KINDS
    diff = _diff(was.text, now.text) if is_code and was is not None and now is not None else ""
    told = not is_code or piece.kind == OBJECT
    old, new = (_line(each.text) if each is not None and told else "" for each in (was, now))
    user = users.get(piece.user)
    used_by = "" if user is None or piece.user == THE_TASK else _line(user.shown)
    return CodeChange(_line(piece.kind), _line(piece.shown), how, old, new, used_by, diff)


def _told_by_edit(change: CodeChange, edited: set[str]) -> bool:
    if change.kind == DEFAULT:
        return change.name.rpartition(" of ")[2] in edited
    return change.kind == NAME and change.how != "changed"


def _diff(old: str, new: str) -> str:
    if not old or not new:
        return ""
    before, after = (text.splitlines()[:_COMPARED_LINES] for text in (old, new))
    lines = [line for line in difflib.unified_diff(before, after, n=1, lineterm="") if not line.startswith("@@")][2:]
    shown = [_line(line) for line in lines[:DIFF_LINES]]
    return "\n".join([*shown, f"… {len(lines) - DIFF_LINES} more lines"] if len(lines) > DIFF_LINES else shown)


def _line(text: str) -> str:
    """Return untrusted text in a form that is safe within one line."""
    return clean(text[:MAX_TOLD]).replace("\n", " ").replace("\t", " ")


def told_changes(changes: list[CodeChange]) -> Iterator[str]:
    """Yield one line for each of the first `MAX_CHANGES` changes."""
    yield from map(str, changes[:MAX_CHANGES])
    if len(changes) > MAX_CHANGES:
        yield f"… and {len(changes) - MAX_CHANGES} more changes of its code"
