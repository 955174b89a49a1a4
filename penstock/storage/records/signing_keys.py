"""Where signing keys come from: a private file, or a function of the user's own. Only that place ever travels.

    # a file: the first key signs, all of them are accepted
    20260301-5f0c9a 9d1c…          an id, and the key in hex: 32 bytes or more

    # a function, named by `module:function`
    def keys() -> Mapping[str, bytes]: ...        the same: the first one signs

Keys are kept in memory only. What is pickled, printed or put into an error is where they come from, and their ids.
"""

from __future__ import annotations

import importlib
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from penstock.clocks import SYSTEM_CLOCK, Clock
from penstock.errors import ConfigurationError
from penstock.ownership import others_can_change

KEY_BYTES = 32
"""New keys are as long, and none may be shorter."""
_MAX_FILE_BYTES = 64 * 1024
_READ_AGAIN_SECONDS = 10.0
_ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


def is_import_path(source: str) -> bool:
    """Whether this is `module:function`, and not a file."""
    return ":" in source and os.sep not in source


class SigningKeys:
    """The keys of one place, read on first need. Safe for threads; pickles and prints as the place alone.

    An id that is not known has the place read again, at most every ten seconds, so that a new key is accepted without
    a restart.
    """

    def __init__(self, source: str, *, clock: Clock = SYSTEM_CLOCK) -> None:
        """`source` is the path of a file, or `module:function`."""
        self.source = source
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: dict[str, bytes] = {}
        self._read_at = 0.0

    def current(self) -> tuple[str, bytes]:
        """The id of the key that signs, and the key. Raises `ConfigurationError` as `ids`."""
        return next(iter(self._known().items()))

    def get(self, id: str) -> bytes | None:
        """The key with this id, None if there is none."""
        found = self._known().get(id)
        if found is None and self._clock.monotonic() - self._read_at >= _READ_AGAIN_SECONDS:
            found = self._read().get(id)
        return found

    def ids(self) -> list[str]:
        """The ids of all keys, the one that signs first.

        Raises `ConfigurationError` if there is no such place, others can read it, or what it holds are no keys.
        """
        return list(self._known())

    def _known(self) -> dict[str, bytes]:
        return self._keys or self._read()

    def _read(self) -> dict[str, bytes]:
        with self._lock:
            self._keys = _called(self.source) if is_import_path(self.source) else read_key_file(self.source)
            self._read_at = self._clock.monotonic()
            return self._keys

    def __reduce__(self) -> tuple[Any, ...]:
        return SigningKeys, (self.source,)

    def __repr__(self) -> str:
        return f"SigningKeys({self.source!r})"


# -- files


def read_key_file(path: str) -> dict[str, bytes]:
    """The keys of a file by id. Raises `ConfigurationError`, which never shows what a line holds."""
    try:
        # Without waiting, should it be a pipe. Links are followed: secrets are often mounted as such.
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            _check_private(path, os.fstat(file))
            data = os.read(file, _MAX_FILE_BYTES + 1)
        finally:
            os.close(file)
    except OSError as error:
        because = error.strerror or str(error)
        hint = "make one with `penstock keys new FILE`, on every machine the same"
        raise ConfigurationError("the signing keys cannot be read", where=path, because=because, hint=hint) from error
    keys: dict[str, bytes] = {}
    for number, line in enumerate(data[:_MAX_FILE_BYTES].splitlines(), 1):
        words = line.split()
        if words and not words[0].startswith(b"#"):
            id, key = _parsed(path, number, words)
            if id in keys:
                raise _no_keys(path, f"line {number} has the id of an earlier one")
            keys[id] = key
    if not keys or len(data) > _MAX_FILE_BYTES:
        raise _no_keys(path, "there is no key in it" if not keys else "it is too long")
    return keys


def _check_private(path: str, found: os.stat_result) -> None:
    mode = found.st_mode
    if not stat.S_ISREG(mode):
        raise _no_keys(path, "it is no file")
    if mode & 0o077:
        raise ConfigurationError(
            "the signing keys are not private",
            where=path,
            because=f"others than its owner may open the file (its mode is {stat.S_IMODE(mode):04o})",
            hint=f"chmod 600 {path}; if others could read it before, make new keys: `penstock keys rotate {path}`",
        )
    if reason := others_can_change(found):
        raise ConfigurationError(
            "the signing keys are somebody else's",
            where=path,
            because=f"{reason}: who knows a key can sign anything",
            hint="use a file of your own, or one of root's",
        )


def _parsed(path: str, number: int, words: list[bytes]) -> tuple[str, bytes]:
    id = words[0].decode("ascii", "replace")
    try:
        (text,) = words[1:]
        key = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        raise _no_keys(path, f"line {number} is not an id and a key in hex") from None
    return _checked(path, id, key, f"line {number}")


def _checked(where: str, id: str, key: bytes, which: str) -> tuple[str, bytes]:
    if not re.fullmatch(_ID, id):
        raise _no_keys(where, f"{which} has no id of letters, digits, `.`, `_` and `-`")
    if len(key) < KEY_BYTES:
        raise _no_keys(where, f"{which} has a key of {len(key)} bytes, and {KEY_BYTES} are the least")
    return id, key


def _no_keys(where: str, because: str) -> ConfigurationError:
    return ConfigurationError(
        "these are no signing keys",
        where=where,
        because=because,
        hint="`penstock keys new FILE` makes a file of them",
    )


def new_key() -> tuple[str, bytes]:
    """A fresh id and a fresh random key."""
    return f"{time.strftime('%Y%m%d', time.gmtime())}-{os.urandom(3).hex()}", os.urandom(KEY_BYTES)


def write_new_file(path: str) -> str:
    """Make a file with one new key, for this user alone; returns the key's id. Raises `ConfigurationError`."""
    id, key = new_key()
    _write(path, {id: key})
    return id


def rotate_file(path: str) -> str:
    """Put a new key in front, which signs from now on; the older ones are still accepted. Returns its id."""
    older, path = read_key_file(path), os.path.realpath(path)
    id, key = new_key()
    temporary = f"{path}.{os.urandom(6).hex()}"
    _write(temporary, {id: key, **older})
    try:
        os.replace(temporary, path)
    except OSError as error:
        os.unlink(temporary)
        raise _not_written(path, error) from error
    return id


def _write(path: str, keys: Mapping[str, bytes]) -> None:
    lines = [_HEAD, *(f"{id} {key.hex()}\n" for id, key in keys.items())]
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "w", encoding="ascii") as opened:
            opened.writelines(lines)
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        raise _not_written(path, error) from error


_HEAD = "# Keys that sign Penstock's results: the first one signs, all of them are accepted. Keep this file private.\n"


def _not_written(path: str, error: OSError) -> ConfigurationError:
    hint = "`penstock keys rotate FILE` puts a new key into a file that is there" if os.path.exists(path) else ""
    return ConfigurationError(
        "the signing keys cannot be written", where=path, because=error.strerror or str(error), hint=hint
    )


# -- functions


def _called(source: str) -> dict[str, bytes]:
    """What the user's function says."""
    module, _, name = source.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        function: Callable[[], Mapping[Any, Any]] = found
        said: Any = function()
    except Exception as error:
        raise ConfigurationError(
            "the function that gives the signing keys does not",
            where=source,
            because=f"{type(error).__name__}: {error}",
            hint="it is named as module:function, is called without arguments, and each worker has to import it",
        ) from error
    if not isinstance(said, Mapping) or not said:
        raise _no_keys(source, f"it returned a {type(said).__name__}, not a mapping of ids to keys")
    keys: dict[str, bytes] = {}
    for number, (id, key) in enumerate(said.items(), 1):
        if not isinstance(id, str) or not isinstance(key, bytes):
            raise _no_keys(source, f"entry {number} is not a str and bytes")
        keys.update([_checked(source, id, key, f"entry {number}")])
    return keys
