"""Copying the files of a value to another generation or another store."""

from __future__ import annotations

from blake3 import blake3

from penstock.storage.formats.parts.manifests import all_files, remove_files
from penstock.storage.records.records import ResultRecord
from penstock.storage.stores.base import Store

_CHUNK = 16 << 20


def copy_payload(source: Store, record: ResultRecord, target: Store, copy: ResultRecord) -> None:
    """Copy the files that `record` names in `source` to the names that `copy` gives them in `target`, durably.

    Raises `DamagedResult` if bytes are missing or changed, and the stores' errors. Leaves no files behind then.
    """
    try:
        # The manifest is copied last, and is valid for the copies, since their names have the same suffixes.
        for file in all_files(source, record):
            hasher = blake3()
            with file.open() as data, target.create(copy.files + file.name.removeprefix(record.files)) as out:
                while chunk := data.read(_CHUNK):
                    hasher.update(chunk)
                    out.write(chunk)
                if hasher.hexdigest() != file.checksum:
                    raise file.damaged("its payload has another checksum")
    except BaseException:
        remove_files(target, copy.files)
        raise
