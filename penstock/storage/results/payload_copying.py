"""Copy the files of a value to where another record has them: to another generation, or into another store."""

from __future__ import annotations

from blake3 import blake3

from penstock.storage.formats.parts.manifests import all_files, remove_files
from penstock.storage.records.records import ResultRecord
from penstock.storage.stores.base import Store

_CHUNK = 16 << 20


def copy_payload(source: Store, record: ResultRecord, target: Store, copy: ResultRecord) -> None:
    """Copy what `record` names in `source` to where `copy` names it in `target`; durable when it returns.

    Leaves nothing behind if it raises: `DamagedResult` for bytes that are gone or not as they were written, and what
    the stores raise.
    """
    try:
        # The manifest comes last, as when it was written. It holds for the copies: their names end as the originals'.
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
