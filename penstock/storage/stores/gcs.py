"""A store in a bucket of Google Cloud Storage: `gs://bucket/folder`.

gcsfs creates objects with `ifGenerationMatch=0`, which the service documents as atomic. Only the common code is tested,
not the service itself; the probe tests the service before Penstock relies on it.
"""

from __future__ import annotations

from typing import Any, ClassVar

from penstock.storage.stores.objects import CALL_SECONDS, ObjectStore


class GoogleStore(ObjectStore):
    """Records and payloads below `gs://bucket/folder`. Credentials are those that `google.auth` finds."""

    options: ClassVar = ("endpoint_url", "project", "trusted")
    extra: ClassVar = "gcs"
    variables: ClassVar = "GOOGLE_"

    def _new_filesystem(self, *, commits: bool) -> Any:
        import gcsfs

        wanted = {"endpoint_url": self._location.option("endpoint_url"), "project": self._location.option("project")}
        return gcsfs.GCSFileSystem(
            timeout=CALL_SECONDS,
            use_listings_cache=False,
            skip_instance_cache=True,
            **{name: value for name, value in wanted.items() if value},
        )
