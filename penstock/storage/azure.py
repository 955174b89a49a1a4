"""A store in a container of Azure Blob Storage: `az://container/folder`.

adlfs creates with `If-None-Match: *`, which the service documents as atomic. Tested against the shared code only, not
against the service; the probe tries it there before anything rests on it.
"""

from __future__ import annotations

from typing import Any, ClassVar

from penstock.storage.objects import ObjectStore


class AzureStore(ObjectStore):
    """Records and payloads below `az://container/folder`; account and credentials from `AZURE_STORAGE_…`."""

    options: ClassVar = ("account_name", "trusted")
    extra: ClassVar = "azure"
    variables: ClassVar = "AZURE_"

    def _new_filesystem(self, *, commits: bool) -> Any:
        import adlfs

        account = self._location.option("account_name")
        return adlfs.AzureBlobFileSystem(
            use_listings_cache=False, skip_instance_cache=True, **({"account_name": account} if account else {})
        )
