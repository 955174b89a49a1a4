"""Writing code notes to a store, and reading them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import msgspec

from penstock.graph.code.code_notes import CodeNote, decode_code_note, encode_code_note
from penstock.graph.code.reading import read_code
from penstock.graph.graphs import Entry
from penstock.objects.texts import text_of
from penstock.process.main_modules import main_module
from penstock.storage.results.code_notes import COMPONENTS, get_code_note, put_code_note
from penstock.storage.stores.base import Store

_log = logging.getLogger("penstock.store")
_MAX_REMEMBERED = 10_000
_AGAIN_SECONDS = 600.0
"""After this time a code note is written again, in case the store was emptied."""


class _Written:
    """The code notes that this process has written recently, by store and digest."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._when: dict[tuple[str, str], float] = {}

    def is_due(self, store: str, digest: str) -> bool:
        """Return whether a code note is due, and count it as written."""
        now = time.monotonic()
        with self._lock:
            before = self._when.get((store, digest))
            if before is not None and now - before < _AGAIN_SECONDS:
                return False
            if len(self._when) >= _MAX_REMEMBERED:
                self._when.clear()
            self._when[store, digest] = now
            return True


_written = _Written()


def current_code_note(entry: Entry, component: str, digest: str) -> CodeNote | None:
    """Return a code note of a task's present code if this has this digest, else None."""
    main = entry.template.main if entry.template is not None else ""
    try:
        with main_module(main):
            return read_code(entry.task.fn, component, digest)
    except Exception as error:  # noqa: BLE001 (constants are users' objects, whose methods may raise anything)
        _log.debug("no code note of %s: %s", entry.task.name, type(error).__name__)
        return None


def write_code_notes(entry: Entry, store: Store, redact: Callable[[str], str]) -> None:
    """Write a code note of a task unless this process did so recently. Never raises: it is only informative."""
    try:
        for component, digest in entry.template.static if entry.template is not None else ():
            if component in COMPONENTS and _written.is_due(store.url, digest):
                _write(entry, component, digest, store, redact)
    except BaseException as error:  # noqa: BLE001 (as above; errors of the store must not fail the run either)
        _log.debug("no code note of %s: %s", entry.task.name, text_of(error))


def _write(entry: Entry, component: str, digest: str, store: Store, redact: Callable[[str], str]) -> None:
    note = current_code_note(entry, component, digest)
    if note is not None:
        pieces = [msgspec.structs.replace(piece, text=redact(piece.text)) for piece in note.pieces]
        put_code_note(store, digest, encode_code_note(msgspec.structs.replace(note, pieces=pieces)))


def read_code_note(store: Store, digest: str) -> CodeNote | None:
    """Return the code note with this digest, or None if there is no usable one."""
    return decode_code_note(get_code_note(store, digest), digest)
