"""Notes of code, into a store and from it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import msgspec

from penstock.errors import StoreError
from penstock.graph.code_notes import CodeNote, decode_note, encode_note
from penstock.graph.code_reading import read_code
from penstock.graph.graphs import Entry
from penstock.main_modules import main_module
from penstock.storage.code_notes import COMPONENTS, get_note, put_note
from penstock.storage.stores import Store

_log = logging.getLogger("penstock.store")
_MAX_REMEMBERED = 10_000


class _Written:
    """What this process wrote already: (store, digest)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: set[tuple[str, str]] = set()

    def first(self, store: str, digest: str) -> bool:
        with self._lock:
            if len(self._known) >= _MAX_REMEMBERED:
                self._known.clear()
            before = len(self._known)
            self._known.add((store, digest))
            return len(self._known) > before


_written = _Written()


def current_note(entry: Entry, component: str, digest: str) -> CodeNote | None:
    """The note of the code of a task as it is here, if it has this digest."""
    main = entry.template.main if entry.template is not None else ""
    try:
        with main_module(main):
            return read_code(entry.task.fn, component, digest)
    except Exception as error:  # noqa: BLE001 (constants are users' objects, which may do anything when they are asked)
        _log.debug("no note of the code of %s: %s", entry.task.name, type(error).__name__)
        return None


def write_notes(entry: Entry, store: Store, redact: Callable[[str], str]) -> None:
    """Note what the code of a task is made of, unless this process did. Never raises for what a store says: results do
    not depend on it."""
    if entry.template is None:
        return
    for component, digest in entry.template.static:
        if component not in COMPONENTS:
            continue
        if not _written.first(store.url, digest):
            continue
        note = current_note(entry, component, digest)
        if note is None:
            continue
        pieces = [msgspec.structs.replace(piece, text=redact(piece.text)) for piece in note.pieces]
        try:
            put_note(store, digest, encode_note(msgspec.structs.replace(note, pieces=pieces)))
        except StoreError as error:
            _log.debug("no note of the code of %s: %s", entry.task.name, error.what)


def read_note(store: Store, digest: str) -> CodeNote | None:
    """What is noted of the code with this digest; None if nothing that can be used is."""
    return decode_note(get_note(store, digest), digest)
