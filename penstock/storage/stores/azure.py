"""A store in a container of Azure Blob Storage: `az://container/folder`.

adlfs creates with `If-None-Match: *`, which the service documents as atomic. Tested on Azurite, the service's emulator,
and not against the service; the probe tries it there before anything rests on it.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from penstock.errors import StoreError
from penstock.storage.stores.objects import ObjectStore

# adlfs takes paths for URLs: it would write such a name under another one.
_CHANGED = re.compile(r"[?\0-\x1f]")


class AzureStore(ObjectStore):
    """Records and payloads below `az://container/folder`; account and credentials from `AZURE_STORAGE_…`."""

    options: ClassVar = ("account_name", "trusted")
    extra: ClassVar = "azure"
    variables: ClassVar = "AZURE_"

    def _key(self, name: str, data: bytes | None = None) -> str:
        if _CHANGED.search(name):
            raise StoreError(
                f"refused the name {name[:200]!r}",
                where=self.url,
                because="it would be written under another one",
                hint="names that Penstock makes have no question marks and control characters",
            )
        return super()._key(name, data)

    def _new_filesystem(self, *, commits: bool) -> Any:
        import adlfs

        account = self._location.option("account_name")
        return adlfs.AzureBlobFileSystem(
            use_listings_cache=False, skip_instance_cache=True, **({"account_name": account} if account else {})
        )
