"""Look-up indexes: quick places that may remember a store's records, and may forget them."""

from __future__ import annotations

from penstock.errors import ConfigurationError
from penstock.redis.schemes import REDIS_SCHEMES
from penstock.settings import redacted
from penstock.storage.indexing import IndexableStore, LookupIndex
from penstock.storage.stores import Store

__all__ = ["LookupIndex", "index_from", "with_index"]


def index_from(address: str) -> LookupIndex:
    """The index at an address, which is the URL of a Redis. Touches nothing yet; raises `ConfigurationError`."""
    if address.partition("://")[0] not in REDIS_SCHEMES:
        raise ConfigurationError(
            "this is no address of a look-up index",
            where=redacted(address),
            because=f"those begin with {', '.join(f'{scheme}://' for scheme in REDIS_SCHEMES)}",
        )
    from penstock.indexes.redis import RedisIndex  # on use, as all that needs an extra

    return RedisIndex.from_url(address)


def with_index(store: Store, index: LookupIndex | None) -> Store:
    """The same store, which from now on uses the index if it is one in a bucket; others are as quick by themselves."""
    if index is not None and isinstance(store, IndexableStore):
        store.use_index(index)
    return store
