"""Signing keys, read from a private file or by a user's function. Only their location is ever sent to other processes.

    # a file: the first key signs, all of them are accepted
    20260301-5f0c9a 9d1c…          an id, and the key in hex: 32 bytes or more

    # a function, named by `module:function`
    def keys() -> Mapping[str, bytes]: ...        the same: the first one signs

Keys are kept in memory only. Pickles, printed texts and errors only contain their location and ids.
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
"""The length of new keys, and the minimum for all."""
_MAX_FILE_BYTES = 64 * 1024
_READ_AGAIN_SECONDS = 10.0
_ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


def is_import_path(source: str) -> bool:
    """Return whether the source is `module:function`, not a file."""
    return ":" in source and os.sep not in source


class SigningKeys:
    """The keys of one location, read on first use. Safe for use by several threads; pickled as the location only.

    An unknown id causes the location to be read again, at most every ten seconds, so that new keys are accepted without
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
        """Return the id of the key that signs, and the key. Raises the error of `ids`."""
        return next(iter(self._known().items()))

    def get(self, id: str) -> bytes | None:
        """Return the key with this id, or None."""
        found = self._known().get(id)
        if found is None and self._clock.monotonic() - self._read_at >= _READ_AGAIN_SECONDS:
            found = self._read().get(id)
        return found

    def ids(self) -> list[str]:
        """Return the ids of all keys, starting with the one that signs.

        Raises `ConfigurationError` if the location does not exist, is readable by others, or does not contain keys.
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
    """Read the keys of a file by id. Raises `ConfigurationError`, which never shows the content of a line."""
    try:
        # Non-blocking, in case it is a pipe. Links are followed, since secrets are often mounted as links.
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            _check_private(path, os.fstat(file))
            data = os.read(file, _MAX_FILE_BYTES + 1)
        finally:
            os.close(file)
    except OSError as error:
        because = error.strerror or str(error)
        hint = "create a file with `penstock keys new FILE`, and use the same one on every machine"
        raise ConfigurationError("cannot read the signing keys", where=path, because=because, hint=hint) from error
    keys: dict[str, bytes] = {}
    for number, line in enumerate(data[:_MAX_FILE_BYTES].splitlines(), 1):
        words = line.split()
        if words and not words[0].startswith(b"#"):
            id, key = _parsed(path, number, words)
            if id in keys:
                raise _no_keys(path, f"line {number} repeats the id of an earlier line")
            keys[id] = key
    if not keys or len(data) > _MAX_FILE_BYTES:
        raise _no_keys(path, "the file contains no key" if not keys else "the file is too large")
    return keys


def _check_private(path: str, found: os.stat_result) -> None:
    mode = found.st_mode
    if not stat.S_ISREG(mode):
        raise _no_keys(path, "it is not a regular file")
    if mode & 0o077:
        raise ConfigurationError(
            "the signing keys are not private",
            where=path,
            because=f"users other than the owner may open the file (its mode is {stat.S_IMODE(mode):04o})",
            hint=f"chmod 600 {path}; if others could read it before, create a new key: `penstock keys rotate {path}`",
        )
    if reason := others_can_change(found):
        raise ConfigurationError(
            "another user can change the signing keys",
            where=path,
            because=f"{reason}, and anyone who knows a key can sign any result",
            hint="use a file that you or root own",
        )


def _parsed(path: str, number: int, words: list[bytes]) -> tuple[str, bytes]:
    id = words[0].decode("ascii", "replace")
    try:
        (text,) = words[1:]
        key = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        raise _no_keys(path, f"line {number} does not consist of an id and a hexadecimal key") from None
    return _checked(path, id, key, f"line {number}")


def _checked(where: str, id: str, key: bytes, which: str) -> tuple[str, bytes]:
    if not re.fullmatch(_ID, id):
        raise _no_keys(where, f"{which} has no id that consists of letters, digits, `.`, `_` and `-`")
    if len(key) < KEY_BYTES:
        raise _no_keys(where, f"{which} has a key of {len(key)} bytes, and the minimum is {KEY_BYTES}")
    return id, key


def _no_keys(where: str, because: str) -> ConfigurationError:
    return ConfigurationError(
        "invalid signing keys",
        where=where,
        because=because,
        hint="create a valid file with `penstock keys new FILE`",
    )


def new_key() -> tuple[str, bytes]:
    """Return a new id and a new random key."""
    return f"{time.strftime('%Y%m%d', time.gmtime())}-{os.urandom(3).hex()}", os.urandom(KEY_BYTES)


def write_new_file(path: str) -> str:
    """Create a file with one new key, readable by this user only. Return the key's id. Raises `ConfigurationError`."""
    id, key = new_key()
    _write(path, {id: key})
    return id


def rotate_file(path: str) -> str:
    """Insert a new key at the front, which signs from then on. Older keys are still accepted. Return the new id."""
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
    hint = "`penstock keys rotate FILE` adds a new key to an existing file" if os.path.exists(path) else ""
    return ConfigurationError(
        "cannot write the signing keys", where=path, because=error.strerror or str(error), hint=hint
    )


# -- functions


def _called(source: str) -> dict[str, bytes]:
    """Call the user's function and check its result."""
    module, _, name = source.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        function: Callable[[], Mapping[Any, Any]] = found
        said: Any = function()
    except Exception as error:
        raise ConfigurationError(
            "the function for the signing keys failed",
            where=source,
            because=f"{type(error).__name__}: {error}",
            hint="name it as module:function; it takes no arguments, and every worker must be able to import it",
        ) from error
    if not isinstance(said, Mapping) or not said:
        raise _no_keys(source, f"it returned a {type(said).__name__}, not a mapping of ids to keys")
    keys: dict[str, bytes] = {}
    for number, (id, key) in enumerate(said.items(), 1):
        if not isinstance(id, str) or not isinstance(key, bytes):
            raise _no_keys(source, f"entry {number} does not consist of a str and bytes")
        keys.update([_checked(source, id, key, f"entry {number}")])
    return keys
