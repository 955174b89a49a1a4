"""Former modules of Penstock's own classes, so that pickles of earlier versions stay readable.

Stored parameters and results name the modules of the classes in them. Add a module here when it moves and stored data
may name it; tests/frozen contains data of earlier versions.
"""

from __future__ import annotations

_FORMER = {
    "penstock.flow_options": "penstock.flows.options",
    "penstock.graph.hashing": "penstock.digests.python",
    "penstock.graph.signatures": "penstock.graph.binding",
    "penstock.locks.redis": "penstock.locks.redis.manager",
    "penstock.locks.redis_address": "penstock.redis.address",
    "penstock.logs": "penstock.logs.run_logger",
    "penstock.runners.dask": "penstock.runners.dask.runner",
    "penstock.runners.local": "penstock.runners.local.threads",
    "penstock.runners.processes": "penstock.runners.local.processes",
    "penstock.runners.ray": "penstock.runners.ray.runner",
    "penstock.runners.retries": "penstock.driver.retries",
    "penstock.storage.azure": "penstock.storage.stores.azure",
    "penstock.storage.commits": "penstock.storage.results.commits",
    "penstock.storage.gcs": "penstock.storage.stores.gcs",
    "penstock.storage.local": "penstock.storage.stores.local",
    "penstock.storage.memory": "penstock.storage.stores.memory",
    "penstock.storage.records": "penstock.storage.records.records",
    "penstock.storage.results": "penstock.storage.results.store",
    "penstock.storage.s3": "penstock.storage.stores.s3.store",
    "penstock.storage.signing": "penstock.storage.records.signing",
    "penstock.storage.signing_keys": "penstock.storage.records.signing_keys",
    "penstock.storage.stored": "penstock.storage.results.stored",
    "penstock.storage.trust": "penstock.storage.results.trust",
}


def home_of(module: str) -> str:
    """Return the present name of a module that stored data calls `module`."""
    return _FORMER.get(module, module)
