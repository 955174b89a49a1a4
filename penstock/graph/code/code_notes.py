"""Code notes: the functions, classes and constants that a digest of code covers, for people.

Keys do not depend on code notes; one only lets a later plan say which function changed. It is stored under the digest
that it explains, so it is written once for many results. Anyone who can write to the store can write anything into it,
so its shape and size are checked when it is read, and its texts are cleaned when they are shown.
"""

from __future__ import annotations

import msgspec

VERSION = 1
MAX_BYTES = 64 * 1024
"""Larger code notes are neither written nor read."""
MAX_PIECES = 400
MAX_SOURCE = 8 * 1024
"""The most characters of a function's source; longer ones are omitted."""
MAX_TOLD = 200
"""The most characters of a constant."""

FUNCTION, METHOD, CLASS, MODULE, OBJECT = "function", "method", "class", "module", "object"
CONSTANT, CLOSURE, DEFAULT, NAME = "constant", "closure variable", "default", "name"
CODE_KINDS = frozenset({FUNCTION, METHOD, CLASS, MODULE, OBJECT})
THE_TASK = "the task"
"""The name of the piece for the task's own function, whatever the function is called."""


class Piece(msgspec.Struct, frozen=True, omit_defaults=True):
    """One function, class or constant."""

    kind: str
    name: str
    """The same in every process, and after the task's module is renamed."""
    shown: str
    """The name that people see."""
    digest: str
    """The shortened digest of this piece alone, for comparison only."""
    text: str = ""
    """Its source without comments and annotations, or the value of a constant."""
    user: str = ""
    """The name of a piece that uses it."""


class CodeNote(msgspec.Struct, frozen=True):
    """The pieces that one digest of code covers."""

    v: int
    digest: str
    """The key component that is explained, 40 hexadecimal digits."""
    pieces: list[Piece]


_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(CodeNote)


def encode_code_note(note: CodeNote) -> bytes:
    """Encode a code note in at most `MAX_BYTES`, omitting the longest sources and then the last pieces."""
    pieces = note.pieces[:MAX_PIECES]
    longest_last = sorted(range(len(pieces)), key=lambda number: len(pieces[number].text))
    while True:
        data = _encoder.encode(msgspec.structs.replace(note, pieces=pieces))
        over = len(data) - MAX_BYTES
        if over <= 0:
            return data
        if not longest_last:
            pieces = pieces[: len(pieces) // 2]
        while over > 0 and longest_last:
            number = longest_last.pop()
            over -= len(_encoder.encode(pieces[number].text))
            pieces[number] = msgspec.structs.replace(pieces[number], text="")


def decode_code_note(data: bytes | None, digest: str) -> CodeNote | None:
    """Decode the code note of a digest. Returns None for anything else, such as data that others have put there."""
    if data is None or len(data) > MAX_BYTES:
        return None
    try:
        note = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    fits = note.v == VERSION and note.digest == digest and len(note.pieces) <= MAX_PIECES
    return note if fits else None
