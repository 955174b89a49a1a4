"""Files of a folder's store while they are written."""

from __future__ import annotations

import io
from typing import Any

from penstock.storage.stores.local_errors import translated


class Temporary(io.FileIO):
    """An open temporary file whose failing writes say what they mean to the store."""

    def __init__(self, file: int, path: str) -> None:
        super().__init__(file, "wb")
        self.path = path

    def write(self, data: Any) -> int:
        # Translated here and not around the caller's block: the caller's own OSErrors are not ours to rename.
        try:
            view, done = memoryview(data).cast("B"), 0
            while done < len(view):
                done += super().write(view[done:]) or 0
            return done
        except OSError as error:
            raise translated(error, "writing", self.path) from error
