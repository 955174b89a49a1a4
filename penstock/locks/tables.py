"""The claims of one session, as a file of lines that only grows: how lines are written and read.

    {"v": 1, "session_id": …}          the session, written when it opens
    .                                  a beat
    w BATCH SINCE KEY KEY …            keys that it wants
    r BATCH KEY …                      those that it does not get (without keys: it gets none)
    h BATCH TOKEN                      it holds the others of the batch
    h - TOKEN                          a token of a session whose file is removed; no batch has that name
    p TOKEN KEY …                      released: published (f failed, a abandoned)

A line is added as a whole or, if the process was killed during the write, in part. So each addition begins with an end
of line, and a line counts only with its own end. A part of a line names a batch, a token or a key that does not exist.
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
from penstock.locks.base import Holder, LockOutcome
from penstock.process.identity import ProcessIdentity

_PLAIN = re.compile(r"[!-$&-~]+")
"""Keys that are written unchanged: without blanks, ends of lines and percent signs."""
_EMPTY = "%"
_LETTERS: Mapping[LockOutcome, str] = {"published": "p", "failed": "f", "abandoned": "a"}
_OUTCOMES: Mapping[str, LockOutcome] = {letter: outcome for outcome, letter in _LETTERS.items()}
_ENDED = 10_000
"""The number of released keys whose outcome is kept."""

BEAT = b"\n.\n"


@dataclass(frozen=True, slots=True)
class Opening:
    """What a session states about itself when it opens."""

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
    """Above zero when the key is held."""

    @property
    def held(self) -> bool:
        return self.token > 0


def wants(batch: str, since: float, keys: Iterable[str]) -> bytes:
    return _line("w", batch, repr(since), *map(_written, keys))


def gets(batch: str, token: int, but: Iterable[str]) -> bytes:
    """Return lines that decide a batch: the session holds all its keys except these."""
    refused = [_written(key) for key in but]
    return (_line("r", batch, *refused) if refused else b"") + _line("h", batch, str(token))


def gives_up(batch: str) -> bytes:
    """Return a line that decides a batch: the session holds none of its keys."""
    return _line("r", batch)


def passes_on(token: int) -> bytes:
    """Return a line that tells a token of a session whose file is removed."""
    return _line("h", "-", str(token))


def releases(token: int, keys: Iterable[str], outcome: LockOutcome) -> bytes:
    return _line(_LETTERS[outcome], str(token), *map(_written, keys))


class Table:
    """The claims of one session, as far as its file was read. Safe to use from several threads."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self.opening: Opening | None = None
        """None until the first line was read, or if it is damaged."""
        self.refusal: LockError | None = None
        """Set if another version wrote the file, which is then not read."""
        self.beats = 0
        self.highest = 0
        """The highest token that was read."""
        self.claims: dict[str, Claim] = {}
        self.ended: dict[str, tuple[int, LockOutcome]] = {}
        """For some keys the token and outcome of the last claim."""
        self.read = 0
        """The number of bytes that were read."""
        self._opened = False
        self._batches: dict[str, list[str]] = {}
        self._rest = b""
        self._mutex = threading.Lock()

    def absorb(self, start: int, data: bytes) -> None:
        """Process bytes of the file from `start` on. Another thread may have processed some of them before."""
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
                    # Ignore a line that no session wrote, or that was damaged on disk.
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
            # If two processes act for the session, the first claim counts.
            self.claims.setdefault(key, Claim(since, batch))

    def _end(self, token: int, keys: Iterable[str], outcome: LockOutcome) -> None:
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
    """Return what the first line states; None if it is damaged, an error if another version wrote it."""
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
