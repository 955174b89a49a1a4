"""Canonical digests of the metadata of Arrow schemas and fields."""

from __future__ import annotations

import json
from typing import Any

from penstock.digests.walk import UndigestibleError, Walk


def metadata_digest(metadata: Any, walk: Walk) -> bytes:
    return walk.of(kept_metadata(metadata))


def kept_metadata(metadata: Any) -> dict[bytes, Any]:
    kept: dict[bytes, Any] = {}
    for key, value in (metadata or {}).items():
        if key == b"pandas":
            kept[key] = _pandas_document(value)
        elif not key.startswith((b"PARQUET:", b"ARROW:schema")):
            kept[key] = value
    return kept


def _pandas_document(text: bytes) -> Any:
    """Return how to rebuild an index, without the writer's versions and how its pandas holds text labels.

    Text that pandas did not write counts as it is.
    """
    try:
        document = json.loads(text)
    except RecursionError as error:
        raise UndigestibleError("the metadata `pandas` of an Arrow schema is nested too deeply") from error
    except ValueError:
        return text
    if not isinstance(document, dict) or not isinstance(document.get("column_indexes"), list | None):
        return text
    kept = {name: item for name, item in document.items() if name not in ("creator", "pandas_version")}
    if not kept.get("attributes"):  # written by newer releases only
        kept.pop("attributes", None)
    kept["column_indexes"] = [_label_document(entry) for entry in kept.get("column_indexes") or ()]
    return kept


def _label_document(entry: Any) -> Any:
    texts = ("unicode", "string", "object")
    if not isinstance(entry, dict) or entry.get("pandas_type") not in texts:
        return entry
    if entry.get("numpy_type") not in ("object", "str", "string") or entry.get("metadata") != {"encoding": "UTF-8"}:
        return entry
    return entry | {"pandas_type": "unicode", "numpy_type": "object"}
