"""What is noted of the code behind a key, for people: of which functions, classes and constants its digest is made.

A note says nothing that a key depends on, and nobody acts on it: it lets a later plan say which function changed. It
lies in the store under the digest that it explains, so it is written once for many results. Whoever can write there
can write anything into it: what is read is checked for its shape and size, and cleaned where it is shown.
"""

from __future__ import annotations

import msgspec

VERSION = 1
MAX_BYTES = 64 * 1024
"""A larger note is neither written nor read."""
MAX_PIECES = 400
MAX_SOURCE = 8 * 1024
"""Characters of a function's source; a longer one is noted without."""
MAX_TOLD = 200
"""Characters of a constant."""

FUNCTION, METHOD, CLASS, MODULE, OBJECT = "function", "method", "class", "module", "object"
CONSTANT, CLOSURE, DEFAULT, NAME = "constant", "closure variable", "default", "name"
CODE_KINDS = frozenset({FUNCTION, METHOD, CLASS, MODULE, OBJECT})
THE_TASK = "the task"
"""The name of the piece that is the task's own function, whatever that is called."""


class Piece(msgspec.Struct, frozen=True, omit_defaults=True):
    """One function, class or constant."""

    kind: str
    name: str
    """The same in every process, and where the task's module was renamed."""
    shown: str
    """What people call it."""
    digest: str
    """Of this piece alone, shortened. It is only compared."""
    text: str = ""
    """Its source without comments and annotations; of a constant, how it is told."""
    user: str = ""
    """The name of a piece that uses it."""


class CodeNote(msgspec.Struct, frozen=True):
    """All that one digest of code is made of."""

    v: int
    digest: str
    """The component of keys that is explained, 40 hexadecimal digits."""
    pieces: list[Piece]


_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(CodeNote)


def encode_note(note: CodeNote) -> bytes:
    """The bytes of a note, at most `MAX_BYTES`: left out are the longest sources, and then the last pieces."""
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


def decode_note(data: bytes | None, digest: str) -> CodeNote | None:
    """The note of this digest; None for anything else, such as what somebody put in its place."""
    if data is None or len(data) > MAX_BYTES:
        return None
    try:
        note = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    fits = note.v == VERSION and note.digest == digest and len(note.pieces) <= MAX_PIECES
    return note if fits else None
