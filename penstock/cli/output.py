"""How results of commands look: JSON documents for programs, aligned tables and short numbers for people.

Everything that is printed goes through `say` or `print_document`: names, messages and whatever lies in a store may hold
what steers a terminal or turns text around, and who reads it would see something else than what is there.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from penstock.clocks import moment as moment
from penstock.errors import UsageError
from penstock.objects.texts import STEERING, all_encodable, clean, repr_of, text_of


def print_document(command: str, content: Mapping[str, Any]) -> None:
    """Print the one JSON document of a command: `{"schema": "penstock/<command>/1", ...}`."""
    import msgspec

    document = {"schema": f"penstock/{command}/1", **content}
    try:
        text = msgspec.json.format(msgspec.json.encode(document, enc_hook=text_of), indent=2).decode()
    except (UnicodeEncodeError, OverflowError):  # names may hold what UTF-8 does not, numbers more than 64 bits
        text = json.dumps(all_encodable(msgspec.to_builtins(document, enc_hook=text_of)), indent=2)
    click.echo(STEERING.sub(lambda found: json.dumps(found[0])[1:-1], text))


def say(text: str, *, err: bool = False) -> None:
    """Print text for people, to standard output or to standard error, with nothing in it that steers a terminal."""
    click.echo(clean(text), err=err)


_CELL = 200
"""The widest cell of a table: what is longer was made to be."""


def _cell(value: Any) -> str:
    text = clean(str(value)).replace("\n", "\\n").replace("\t", "\\t")
    return text if len(text) <= _CELL else f"{text[: _CELL - 1]}…"


@contextlib.contextmanager
def output_for_people() -> Iterator[None]:
    """What is printed in this block, worker processes included, goes to standard error.

    So that a flow that prints does not spoil the one JSON document on standard output.
    """
    kept = None
    try:
        own = sys.stdout.fileno()
        kept = os.dup(own)
    except (OSError, ValueError, AttributeError):
        own = -1  # not a file of the system's: nobody but this process writes to it
    try:
        sys.stdout.flush()
        if kept is not None:
            os.dup2(sys.stderr.fileno(), own)
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        if kept is not None:
            os.dup2(kept, own)
            os.close(kept)


def table(headings: Sequence[str], rows: Sequence[Sequence[Any]], *, right: Sequence[str] = ()) -> str:
    """Aligned columns; those named in `right` are aligned to the right."""
    cells = [[_cell(heading) for heading in headings], *([_cell(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headings))]
    aligned = [
        [
            cell.rjust(width) if heading in right else cell.ljust(width)
            for cell, width, heading in zip(row, widths, headings, strict=True)
        ]
        for row in cells
    ]
    return "\n".join("  ".join(row).rstrip() for row in aligned)


def size(count: int | None) -> str:
    """Bytes, in three digits or so."""
    if count is None:
        return ""
    try:
        amount = float(count)
    except OverflowError:
        return "?"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def duration(seconds: float | None) -> str:
    """Seconds as people say them."""
    if seconds is None:
        return ""
    if not abs(seconds) < 1e12:
        return "?"  # no number, or no time
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def short(value: Any, *, limit: int = 500, lines: int = 12) -> str:
    """The repr of a value, cut where it gets long."""
    text = repr_of(value)
    shown = text.splitlines()
    if len(shown) > lines:
        text = "\n".join([*shown[:lines], "…"])
    return text if len(text) <= limit else text[: limit - 1] + "…"


def confirmed(question: str) -> bool:
    """Whether the user confirms. Raises `UsageError` without a terminal."""
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        if sys.stdin is not None and sys.stdin.isatty():
            raise
        raise UsageError("cannot ask for confirmation", because="there is no terminal", hint="add --yes") from None
