"""A store in a container of Azure Blob Storage: `az://container/folder`.

adlfs creates blobs with `If-None-Match: *`, which the service documents as atomic. Tested with the emulator Azurite,
not with the service itself; the probe tests the service before Penstock relies on it.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from penstock.errors import StoreError
from penstock.storage.stores.objects import ObjectStore

# adlfs treats paths as URLs, and would write such a name under another one.
_CHANGED = re.compile(r"[?\0-\x1f]")


class AzureStore(ObjectStore):
    """Records and payloads below `az://container/folder`. Account and credentials come from `AZURE_STORAGE_…`."""

    options: ClassVar = ("account_name", "trusted")
    extra: ClassVar = "azure"
    variables: ClassVar = "AZURE_"

    def _key(self, name: str, data: bytes | None = None) -> str:
        if _CHANGED.search(name):
            raise StoreError(
                f"refused the name {name[:200]!r}",
                where=self.url,
                because="it would be written under another name",
                hint="only use names without question marks and control characters",
            )
        return super()._key(name, data)

    def _new_filesystem(self, *, commits: bool) -> Any:
        import adlfs

        account = self._location.option("account_name")
        return adlfs.AzureBlobFileSystem(
            use_listings_cache=False, skip_instance_cache=True, **({"account_name": account} if account else {})
        )
