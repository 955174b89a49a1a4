"""Read what an attacker put into a store, case by case; print each refusal and how much memory it took.
It is a separate process because only then does its memory use mean anything.
"""

from __future__ import annotations

import json
import resource
import sys
import zlib
from collections.abc import Callable
from typing import Any

import cloudpickle
import msgspec
from blake3 import blake3

from penstock.errors import PenstockError
from penstock.storage import MemoryStore
from penstock.storage.records.encoding import encode
from penstock.storage.records.names import slot_name
from penstock.storage.records.records import PayloadFile, ResultRecord
from penstock.storage.records.signing import Signatures
from penstock.storage.results.generations import Absent, Found
from penstock.storage.results.store import ResultStore
from penstock.storage.stores.base import MAX_RECORD_BYTES
from penstock.testing.stores.faults import FlakyStore


class Shared(FlakyStore):
    trusted = False  # type: ignore[assignment]


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("BOOM",)


class Case:
    """A store with one result, signed by a writer whom we trust, and an attacker."""

    def __init__(self, keys: str) -> None:
        self.store = Shared(MemoryStore())
        self.results = ResultStore(self.store, signatures=Signatures(keys), max_bytes=20 << 20)
        done = self.results.publish(
            "t", "k", {1}, after=Absent(0, "never"), attempt="a", digest="d", serializer="pickle"
        )
        self.record: ResultRecord = done.record  # type: ignore[union-attr]

    def payload(self, data: bytes, suffix: str = ".pkl", **more: Any) -> None:
        """Write a forged record for a forged payload, consistent with each other."""
        payload = PayloadFile(suffix, len(data), blake3(data).hexdigest())
        self.put(attempt="evil", payload=payload, **more)
        name = f"results/t/k/000000.evil{suffix}"
        with self.store.inner.create(name) as file:
            file.write(data)

    def put(self, **fields: Any) -> None:
        record = msgspec.structs.replace(self.record, **fields)
        self.store.inner.put(slot_name("t", "k", 0), encode(record))

    def body(self, text: bytes) -> None:
        """Write a record of these bytes, with a correct checksum."""
        self.store.inner.put(slot_name("t", "k", 0), text + b',"check":"' + blake3(text).hexdigest(16).encode() + b'"}')


def unsigned_pickle(case: Case) -> None:
    case.payload(cloudpickle.dumps(Bomb()), signature=None)


def pickle_with_the_signature_of_another(case: Case) -> None:
    case.payload(cloudpickle.dumps(Bomb()))


def compressed_pickle(case: Case) -> None:
    packer = zlib.compressobj(wbits=31)
    data = packer.compress(cloudpickle.dumps(Bomb())) + packer.flush()
    case.payload(data, ".pkl.gz", codec="compressed/pickle", signature=None)


def pickle_under_a_harmless_name(case: Case) -> None:
    case.payload(cloudpickle.dumps(Bomb()), ".parquet", codec="parquet/arrow", signature=None)


def pickle_in_an_array(case: Case) -> None:
    import io

    import numpy as np

    file = io.BytesIO()
    np.save(file, np.array([Bomb()], dtype=object), allow_pickle=True)
    case.payload(file.getvalue(), ".npy", codec="npy", signature=None)


def no_such_codec(case: Case) -> None:
    case.payload(b"1", codec="penstock.testing.runners.tasks:double", signature=None)


def a_path_out_of_the_store(case: Case) -> None:
    case.put(attempt="../../../../etc/passwd", codec="json", signature=None)


def a_suffix_out_of_the_store(case: Case) -> None:
    case.put(payload=PayloadFile(".json/../../../penstock.json", 2, "0" * 64), codec="json", signature=None)


def ten_gigabytes(case: Case) -> None:
    case.put(payload=PayloadFile(".json", 10 << 30, "0" * 64), codec="json", signature=None)


def a_zip_bomb(case: Case) -> None:
    # 1 : 1 000 is the maximum of gzip, and more than a reader may unpack.
    packer = zlib.compressobj(wbits=31)
    data = b"".join(packer.compress(bytes(1 << 20)) for _ in range(200)) + packer.flush()
    assert len(data) < 1 << 18
    case.payload(data, ".json.gz", codec="compressed/json", signature=None)


def deep_json(case: Case) -> None:
    case.payload(b"[" * 100_000 + b"]" * 100_000, ".json", codec="json", signature=None)


def deep_json_in_the_record(case: Case) -> None:
    half = MAX_RECORD_BYTES // 2 - 500
    deep = b"[" * half + b"]" * half
    case.body(encode(case.record)[:-1].rpartition(b',"check"')[0] + b',"key_parts":{"a":' + deep + b"}")


def a_record_of_many_megabytes(case: Case) -> None:
    case.store.inner._files[slot_name("t", "k", 0)] = (b"{" + b" " * (30 << 20), 0.0)  # type: ignore[attr-defined]


CASES: list[Callable[[Case], None]] = [
    unsigned_pickle,
    pickle_with_the_signature_of_another,
    compressed_pickle,
    pickle_under_a_harmless_name,
    pickle_in_an_array,
    no_such_codec,
    a_path_out_of_the_store,
    a_suffix_out_of_the_store,
    ten_gigabytes,
    a_zip_bomb,
    deep_json,
    deep_json_in_the_record,
    a_record_of_many_megabytes,
]


def outcome(case: Case) -> str:
    try:
        found = case.results.look_up("t", "k")
        if isinstance(found, Found):
            return f"read: {case.results.load(found.record)!r}"
        return f"absent: {found.reason}"
    except PenstockError as error:
        return error.code


def main(keys: str) -> None:
    import pyarrow.parquet  # what reading tables takes in any case

    assert pyarrow.parquet
    for make in CASES:
        case = Case(keys)
        make(case)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        opened = case.store.count("open")
        print(
            json.dumps(
                {
                    "case": make.__name__,
                    "outcome": outcome(case),
                    "opened": case.store.count("open") - opened,
                    "kilobytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before,
                }
            )
        )


if __name__ == "__main__":
    main(sys.argv[1])
