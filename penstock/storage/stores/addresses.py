"""`open_store`: from an address to the store behind it."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

from penstock.errors import ConfigurationError
from penstock.objects.texts import did_you_mean, misspelt_url
from penstock.plugins import load_plugin, plugin_names
from penstock.storage.stores.base import Store
from penstock.storage.stores.local import LocalStore
from penstock.storage.stores.locations import TRUSTED
from penstock.storage.stores.memory import MemoryStore


def open_store(url: str | os.PathLike[str]) -> Store:
    """Return the store at an address, without accessing it yet.

    A folder is created by the first write; a bucket must exist.

    Args:
        url: A folder (`/data/store`, `~/store`, `file:///data/store`), a bucket or a folder in one
            (`s3://bucket/folder`, `gs://…`, `az://…`), `memory://name`, or a scheme that a plugin registers. With
            `?trusted=true` at its end, a folder or bucket is trusted like one's own code, whoever can write there.

    Raises:
        ConfigurationError: The scheme is unknown, or the address has invalid options.
    """
    address = os.fspath(url)
    scheme, separator, _ = address.partition("://")
    if not separator:
        if meant := misspelt_url(address):
            raise ConfigurationError(
                f"{address} is neither a URL nor the usual name of a folder",
                hint=f"did you mean {meant}? A folder of that name is ./{address}",
            )
        folder, trusted = _without_trust(address)
        return LocalStore(folder, trusted=trusted)
    opener = _OPENERS.get(scheme) or load_plugin("penstock.stores", scheme)
    if opener is None:
        known = sorted([*_OPENERS, *plugin_names("penstock.stores")])
        raise ConfigurationError(
            f"there is no store for addresses that begin with {scheme}://",
            where=_without_secrets(address),
            because=f"stores are folders and {', '.join(f'{each}://' for each in known)}",
            hint="set a folder, for example PENSTOCK_STORE=/data/penstock, or install the package with that store",
        )
    store: Store = opener(address)
    return store


def _open_file(address: str) -> Store:
    address, trusted = _without_trust(address)
    parts = urlsplit(address)
    if parts.query or parts.fragment:
        raise ConfigurationError(
            "the only option of a file address is ?trusted=true",
            where=_without_secrets(address),
            hint="write %3F for a ? and %23 for a # in the name of a folder",
        )
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise ConfigurationError(
            "a file address must contain an absolute path",
            where=address,
            hint="write three slashes: file:///data/penstock",
        )
    return LocalStore(unquote(parts.path), trusted=trusted)


def _without_trust(address: str) -> tuple[str, bool]:
    """Split `?trusted=…` off the address of a folder, whose own name may have a `?`."""
    folder, _, option = address.rpartition("?")
    name, equals, said = option.partition("=")
    if not equals or not folder or "/" in option:
        return address, False
    if name != "trusted":
        raise ConfigurationError(
            f"addresses of folders have no option {name}",
            where=folder,
            hint=did_you_mean(
                name, ("trusted",), "the only option is ?trusted=true; write %3F for a ? in file:///folder"
            ),
            name=name,
        )
    if said not in TRUSTED:
        raise ConfigurationError("invalid value of trusted", where=folder, hint="write trusted=true", name=name)
    return folder, TRUSTED[said]


def _open_memory(address: str) -> Store:
    name, _, query = address.partition("://")[2].partition("?")
    if query:
        raise ConfigurationError("addresses of stores in memory have no options", where=address.partition("?")[0])
    return MemoryStore.named(name)


def _open_bucket(address: str) -> Store:
    # The module of a service is only loaded on use.
    scheme = address.partition("://")[0]
    module, name = _SERVICES[scheme]
    opener: Callable[[str], Store] = getattr(importlib.import_module(f"penstock.storage.stores.{module}"), name)
    return opener(address)


_SERVICES = {"s3": ("s3.store", "S3Store"), "gs": ("gcs", "GoogleStore"), "az": ("azure", "AzureStore")}
_OPENERS: dict[str, Callable[[str], Store]] = {
    "file": _open_file,
    "memory": _open_memory,
    **dict.fromkeys(_SERVICES, _open_bucket),
}


def _without_secrets(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
