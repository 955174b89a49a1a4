"""Files of a folder's store while they are being written."""

from __future__ import annotations

import io
import os
from typing import Any, NamedTuple

from penstock.storage.stores.folders import Descent
from penstock.storage.stores.local_errors import translated

CREATE = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


class Temporary(io.FileIO):
    """An open temporary file whose write errors are translated to errors of the store."""

    def __init__(self, file: int, path: str) -> None:
        super().__init__(file, "wb")
        self.path = path

    def write(self, data: Any) -> int:
        # Here rather than around the caller's block, whose own OSErrors must pass unchanged.
        try:
            view, done = memoryview(data).cast("B"), 0
            while done < len(view):
                done += super().write(view[done:]) or 0
            return done
        except OSError as error:
            raise translated(error, "writing", self.path) from error


class Name(NamedTuple):
    """A name in an open folder, in addition to the folders of a descent."""

    descent: Descent
    folder: int
    name: str


def new_file(at: Name, path: str) -> Temporary:
    """Create a file of that name, which will become the file at `path`."""
    try:
        return Temporary(os.open(at.name, CREATE | os.O_EXCL, 0o600, dir_fd=at.folder), path)
    except OSError as error:
        raise translated(error, "writing", path) from error
