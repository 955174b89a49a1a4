"""What one session claims, as a file of lines that only grows: how they are written, and what they add up to.

    {"v": 1, "session_id": …}          who it is, written when it opens
    .                                  a beat
    w BATCH SINCE KEY KEY …            keys it wants
    r BATCH KEY …                      those it does not get (without keys: none)
    h BATCH TOKEN                      the others of the batch are held
    p TOKEN KEY …                      released: published (f failed, a abandoned)

Lines are added whole or, by a process that was killed while it wrote, in part. So each addition begins with an end of
line, and a line counts when its own end is there. A part of a line names a batch, a token or a key that nobody has.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from urllib.parse import quote_from_bytes, unquote_to_bytes

from penstock.errors import LockError
from penstock.locks import documents
from penstock.locks.base import Holder, Outcome
from penstock.process.identity import ProcessIdentity

_PLAIN = re.compile(r"[!-$&-~]+")
"""Keys that are written as they are: no blanks, no ends of lines, and no percent sign."""
_EMPTY = "%"
_LETTERS: Mapping[Outcome, str] = {"published": "p", "failed": "f", "abandoned": "a"}
_OUTCOMES: Mapping[str, Outcome] = {letter: outcome for outcome, letter in _LETTERS.items()}
_ENDED = 10_000
"""Of so many keys that were released it is remembered how."""

BEAT = b"\n.\n"


@dataclass(frozen=True, slots=True)
class Opening:
    """What a session says of itself when it opens."""

    session_id: str
    lease_seconds: float
    info: dict[str, str]
    process: ProcessIdentity

    def line(self) -> bytes:
        return json.dumps({"v": documents.FORMAT, **asdict(self)}).encode("ascii") + b"\n"


@dataclass(slots=True)
class Claim:
    """A key that a session wants or holds."""

    since: float
    batch: str
    token: int = 0
    """Above zero once it is held."""

    @property
    def held(self) -> bool:
        return self.token > 0


def wants(batch: str, since: float, keys: Iterable[str]) -> bytes:
    return _line("w", batch, repr(since), *map(_written, keys))


def gets(batch: str, token: int, but: Iterable[str]) -> bytes:
    """The batch is decided: all of it is held, but these keys."""
    refused = [_written(key) for key in but]
    return (_line("r", batch, *refused) if refused else b"") + _line("h", batch, str(token))


def gives_up(batch: str) -> bytes:
    """Nothing of the batch is held."""
    return _line("r", batch)


def releases(token: int, keys: Iterable[str], outcome: Outcome) -> bytes:
    return _line(_LETTERS[outcome], str(token), *map(_written, keys))


class Table:
    """One session's claims, as far as its file was read. Safe to use from several threads."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self.opening: Opening | None = None
        """None as long as its first line is not there, or if it is damaged."""
        self.refusal: LockError | None = None
        """What another version wrote is not read."""
        self.beats = 0
        self.highest = 0
        """The highest token so far."""
        self.claims: dict[str, Claim] = {}
        self.ended: dict[str, tuple[int, Outcome]] = {}
        """How the last claims of some keys ended."""
        self.read = 0
        """Bytes that were read; what follows is to be absorbed."""
        self._opened = False
        self._batches: dict[str, list[str]] = {}
        self._rest = b""
        self._mutex = threading.Lock()

    def absorb(self, start: int, data: bytes) -> None:
        """Bytes of the file from `start` on, which may have been absorbed by another thread already."""
        with self._mutex:
            new = data[self.read - start :]
            if not new or start > self.read:
                return
            *lines, self._rest = (self._rest + new).split(b"\n")
            self.read += len(new)
            for line in lines:
                if not self._opened:
                    self._opened = True
                    said = _opening(line, self.session_id)
                    self.opening = said if isinstance(said, Opening) else None
                    self.refusal = said if isinstance(said, LockError) else None
                elif line == b".":
                    self.beats += 1
                elif line[1:2] == b" ":
                    # A line that somebody else planted, or a disk garbled, is none.
                    with contextlib.suppress(ValueError):
                        self._take(line.decode("ascii").split(" "))

    def holder(self, key: str, claim: Claim) -> Holder:
        info = dict(self.opening.info) if self.opening else {}
        return Holder(key, self.session_id, claim.token, info, claim.since)

    def _take(self, fields: list[str]) -> None:
        kind, name, *rest = fields
        if kind == "w" and rest:
            self._want(name, rest)
        elif kind == "r":
            for key in map(_meant, rest) if rest else self._batches.pop(name, ()):
                claim = self.claims.get(key)
                if claim is not None and claim.batch == name and not claim.held:
                    del self.claims[key]
        elif kind == "h" and rest:
            token = documents.token(rest[0])
            self.highest = max(self.highest, token)
            for key in self._batches.pop(name, ()):
                claim = self.claims.get(key)
                if claim is not None and claim.batch == name:
                    claim.token = token
        elif kind in _OUTCOMES:
            self._end(documents.token(name), map(_meant, rest), _OUTCOMES[kind])

    def _want(self, batch: str, rest: list[str]) -> None:
        since = documents.moment(float(rest[0]))
        keys = self._batches[batch] = [_meant(key) for key in rest[1:]]
        for key in keys:
            # Of two that act in the session's name the first one's claim is the session's.
            self.claims.setdefault(key, Claim(since, batch))

    def _end(self, token: int, keys: Iterable[str], outcome: Outcome) -> None:
        for key in keys:
            claim = self.claims.get(key)
            if claim is not None and claim.held and claim.token == token:
                del self.claims[key]
                self.ended.pop(key, None)
                self.ended[key] = token, outcome
        while len(self.ended) > _ENDED:
            del self.ended[next(iter(self.ended))]


def _line(*words: str) -> bytes:
    return b"\n" + " ".join(words).encode("ascii") + b"\n"


def _written(key: str) -> str:
    if _PLAIN.fullmatch(key):
        return key
    return quote_from_bytes(key.encode("utf-8", "surrogatepass")) or _EMPTY


def _meant(word: str) -> str:
    if "%" not in word:
        return word
    return "" if word == _EMPTY else unquote_to_bytes(word).decode("utf-8", "surrogatepass")


def _opening(line: bytes, session_id: str) -> Opening | LockError | None:
    """What the first line says; None if it is damaged, an error if another version wrote it."""
    try:
        fields = documents.fields_of(line, "a session's file of claims")
        if fields["session_id"] != session_id:
            raise documents.Damaged("another session's")
        return Opening(
            session_id=session_id,
            lease_seconds=documents.lease(fields["lease_seconds"]),
            info=documents.info(fields.get("info")),
            process=documents.process(fields["process"]),
        )
    except LockError as error:
        return error
    except (KeyError, documents.Damaged):
        return None
