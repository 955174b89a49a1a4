"""A small store with one of everything that is read from it, and what an attacker can make of each document."""

from __future__ import annotations

import contextlib
import copy
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pyarrow as pa
import pyarrow.dataset as ds
from blake3 import blake3

from penstock import INPUTS, flow, task
from penstock.clocks import SYSTEM_CLOCK
from penstock.errors import PenstockError
from penstock.journals.journal import RunRecord, list_records, process_of, read_events, read_record
from penstock.journals.parameters import read_parameters
from penstock.limits.rates import Rate, RateTable
from penstock.limits.tables import all_limits, read_limits, read_rates, set_limit, set_rate
from penstock.locks import FileSystemLockManager, Lease
from penstock.locks.slots import SlotLockManager
from penstock.settings import load_settings
from penstock.storage import LocalStore
from penstock.storage.records.records import RecipeEntry
from penstock.storage.records.signing import Signatures
from penstock.storage.results import maintenance
from penstock.storage.results.generations import Absent, Found, Unknown
from penstock.storage.results.salts import salt_of
from penstock.storage.results.store import ResultStore
from penstock.storage.stores import indexing
from penstock.storage.stores.indexing import IndexedReads, LookupIndex

ROWS = pa.table({"a": list(range(50)), "b": [str(n) for n in range(50)]})
VALUES: dict[str, Any] = {
    "json": {"n": 1, "names": ["a", "b"]},
    "table": ROWS,
    "parts": ROWS,
    "mixed": {"table": ROWS, "n": 1},
    "pickle": frozenset({("a", 1), ("b", 2)}),
}
SERIALIZERS = {"parts": "parquet/dataset", "pickle": "pickle"}
HOME = "home/penstock.toml"
EPOCHS, CLAIMS = "epochs", "/claims/"


@task(cache_policy=INPUTS)
def double(n: int) -> int:
    return n * 2


@flow
def doubling(n: int) -> int:
    return double(n)


class IndexedFolder(LocalStore):
    """A folder whose records are first read from a lookup index, however few they are."""

    def __init__(self, folder: Path, index: LookupIndex) -> None:
        super().__init__(folder, durable=False)
        self._reads = IndexedReads(self, index)

    def get_many(self, names: Sequence[str]) -> list[bytes | None]:
        with mock.patch.object(indexing, "MIN_BATCH", 1):
            return self._reads.get_many(names)

    def get(self, name: str) -> bytes | None:
        return super().get_many([name])[0] if name == indexing.ID_NAME else self.get_many([name])[0]

    def read_many(self, names: Sequence[str]) -> list[bytes | None]:
        return super().get_many(names)


class PlantedIndex:
    """An index with planted content."""

    def __init__(self, planted: Mapping[str, bytes]) -> None:
        self._planted = planted
        self.asked: set[str] = set()

    def get_many(self, space: str, names: Sequence[str]) -> list[bytes | None]:
        self.asked.update(names)
        return [self._planted.get(name) for name in names]

    def put_many(self, space: str, records: Mapping[str, bytes]) -> None:
        pass

    def check(self) -> None:
        pass


def results_of(folder: Path, keys: str | None, index: LookupIndex | None = None) -> ResultStore:
    signatures = None if keys is None else Signatures(keys)
    store = LocalStore(folder / "store", durable=False) if index is None else IndexedFolder(folder / "store", index)
    return ResultStore(store, signatures=signatures)


def build(folder: Path, keys: str | None) -> None:
    """Create the store in `folder`, with signed results if there are keys."""
    results = results_of(folder, keys)
    for name, value in VALUES.items():
        stored = ds.dataset(value) if name == "parts" else value
        results.publish(
            "t", name, stored, after=Absent(0, "never"), attempt="a", digest="d", serializer=SERIALIZERS.get(name)
        )
    results.publish("t", "closed", 1, after=Absent(0, "never"), attempt="a", digest="d")
    results.invalidate("t", "closed")
    results.put_recipe(RecipeEntry(recipe="r", key="json", task="t", digest="d", inputs=["i"]))
    said = {"store": str(folder / "store"), **({} if keys is None else {"signing_keys": keys})}
    assert doubling.run_with({"n": 3}, settings=load_settings(overrides=said)).result() == 6
    set_limit(results.store, "db", 3)
    set_rate(results.store, "api", Rate(5, 1.0))
    salt_of(results.store, make=True)
    locks, held = folder / "store" / "locks", folder / "held"
    session = FileSystemLockManager(locks).open_session(info={"run": "r"})
    session.try_acquire(["k"])
    shutil.copytree(locks, held)  # as while somebody holds the key
    session.close()
    shutil.rmtree(locks)
    held.rename(locks)
    build_epochs(folder)
    (folder / "home").mkdir()
    (folder / HOME).write_text('runner = "processes"\nlease_seconds = 5\n[profiles.a]\nlog_level = "DEBUG"\n')


def build_epochs(folder: Path) -> None:
    """Create locks as in a bucket or network folder: one held, one released."""
    first = epochs_in(folder, "first").open_session(info={"run": "r"})
    first.try_acquire(["k"])
    (let_go,) = first.try_acquire(["l"])
    assert isinstance(let_go, Lease)
    first.release([let_go], "published")
    shutil.copytree(folder / "first", folder / EPOCHS)
    first.close()
    shutil.rmtree(folder / "first")


def epochs_in(folder: Path, name: str) -> SlotLockManager:
    return SlotLockManager(LocalStore(folder / name, durable=False), reach="network", poll_seconds=(0.01, 0.1))


# -- changing a document -------------


@dataclass(frozen=True, repr=False)
class Raw:
    """JSON that no encoder writes."""

    text: str

    def __repr__(self) -> str:
        return f"Raw({self.text[:20]!r}, {len(self.text)} characters)"


def places_in(name: str, data: bytes) -> Iterator[tuple[Any, ...]]:
    """Like `places`, for a document by its name: claims files are one line of JSON and lines of words."""
    if CLAIMS not in name:
        yield from places(json.loads(data))
        return
    opening, *lines = data.split(b"\n")
    yield from ((0, *at) for at in places(json.loads(opening)))
    yield from ((n, m) for n, line in enumerate(lines, 1) for m in range(len(line.split(b" "))))


def value_in(name: str, data: bytes, at: tuple[Any, ...]) -> Any:
    """Return what is at one of its places."""
    value: Any = json.loads(data) if CLAIMS not in name else data.decode().split("\n")
    if CLAIMS in name:
        line, *at_last = at
        value = json.loads(value[0]) if line == 0 else value[line].split(" ")
        at = tuple(at_last)
    for step in at:
        value = value[step]
    return value


def changed_in(name: str, data: bytes, at: tuple[Any, ...], to: Any) -> bytes:
    """Like `changed`."""
    if CLAIMS not in name:
        return changed(data, at, to)
    lines = data.split(b"\n")
    line, *inner = at
    if line == 0:
        lines[0] = changed(lines[0], tuple(inner), to)
    else:
        words = lines[line].split(b" ")
        said = to.text if isinstance(to, Raw) else to if isinstance(to, str) else json.dumps(to)
        words[inner[0]] = said.encode("utf-8", "surrogatepass")
        lines[line] = b" ".join(words)
    return b"\n".join(lines)


GONE = Raw("")
"""The field is missing."""
ODD: list[Any] = [
    GONE,
    *(None, True, False, 0, -1, 2**31, 2**63, 1.5, 1e300, "", "x", [], {}, [[]], {"": None}),
    *("../../outside/secret", "/etc/passwd", "a/b", ".", "..", "\0", "\u202e\x1b[2J", "nan"),
    Raw('"' + "x" * 10_000 + '"'),
    *(Raw("1e400"), Raw("NaN"), Raw("-Infinity"), Raw('"\\ud800"'), Raw("9" * 5_000), Raw("[" * 5_000 + "]" * 5_000)),
    *(Raw('{"a":' * 5_000 + "1" + "}" * 5_000), Raw("1" + "0" * 400), Raw('"\xff"')),
]
"""In the place of any value."""


def places(document: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a document, starting with the whole."""
    yield at
    if isinstance(document, dict):
        for name, inner in document.items():
            yield from places(inner, (*at, name))
    elif isinstance(document, list):
        for number, inner in enumerate(document):
            yield from places(inner, (*at, number))


def changed(data: bytes, at: tuple[Any, ...], to: Any) -> bytes:
    """Return the bytes of a document with one value replaced; the checksum of a record is adapted."""
    document = json.loads(data)
    whole = {"": copy.deepcopy(document)}
    inner: Any = whole
    *way, last = ("", *at)
    for step in way:
        inner = inner[step]
    mark = "\x01planted\x01"
    if to == GONE:
        del inner[last]
        if not at:
            return b""
    else:
        inner[last] = mark if isinstance(to, Raw) else to
    text = json.dumps(whole[""], ensure_ascii=False, separators=(",", ":"))
    if isinstance(to, Raw):
        text = text.replace(json.dumps(mark), to.text)
    encoded = text.encode("latin-1" if isinstance(to, Raw) and "\xff" in to.text else "utf-8", "surrogatepass")
    return with_check(encoded) if isinstance(document, dict) and "check" in document else encoded


_CHECK = re.compile(rb',"check":"[0-9a-f]*"\}\Z')


def with_check(encoded: bytes) -> bytes:
    body = _CHECK.sub(b"", encoded)
    if body == encoded:
        return encoded  # its end was changed
    return body + b',"check":"' + blake3(body).hexdigest(16).encode() + b'"}'


def documents(folder: Path) -> dict[str, bytes]:
    """Return the documents in the store, its locks and its home, by name, if they are JSON or claims."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and CLAIMS in name:
            found[name] = path.read_bytes()
        elif path.is_file():
            with contextlib.suppress(ValueError):
                json.loads(path.read_bytes())
                found[name] = path.read_bytes()
    return found


# -- readers -


def read_everything(folder: Path, keys: str | None, index: LookupIndex | None = None) -> dict[str, Any]:
    """Read everything, each item separately. Return refusals, and raise other errors."""
    results = results_of(folder, keys, index)
    store, seen = results.store, {}

    def reading(name: str, read: Callable[[], Any]) -> None:
        try:
            seen[name] = read()
        except PenstockError as error:
            str(error)
            json.dumps(error.to_dict())
            seen[name] = error

    for name in VALUES:
        reading(f"value {name}", lambda name=name: value_of(results, name))
    reading("closed", lambda: results.look_up("t", "closed"))
    reading("recipe", lambda: results.get_recipes(["r"]))
    for job in (maintenance.ls, maintenance.du, maintenance.verify):
        reading(job.__name__, lambda job=job: list(job(results)) if job is maintenance.ls else job(results))
    reading("show", lambda: [maintenance.show(results, "t", name) for name in VALUES])
    reading("gc", lambda: maintenance.gc(results, grace_seconds=0.0, dry_run=True))
    reading("runs", lambda: [(each, process_of(each).is_gone()) for each in list_records(store)])
    for run in sorted({entry.name.split("/")[1] for entry in store.list("runs/")}):
        reading("run", lambda run=run: run_of(results, run))
        reading("events", lambda run=run: list(read_events(store, run)))
    for read in (read_limits, read_rates, all_limits):
        reading(read.__name__, lambda read=read: list(read(store)))
    reading("salt", lambda: salt_of(store, make=True))
    reading("rates taken", lambda: RateTable(store, SYSTEM_CLOCK).take("api", Rate(5, 1.0), 1))
    for kind in (FileSystemLockManager(folder / "store" / "locks"), epochs_in(folder, EPOCHS)):
        reading(f"{kind.reach} locks", lambda kind=kind: locks_of(kind))
        reading(f"{kind.reach} locks, repaired", lambda kind=kind: repaired(kind))
    reading("settings", lambda: load_settings(cwd=folder, environ={"PENSTOCK_HOME": str(folder / "home")}))
    return seen


def value_of(results: ResultStore, name: str) -> Any:
    found = results.look_up("t", name)
    if isinstance(found, Unknown):
        raise found.error
    if isinstance(found, Absent):
        return found
    if found.refused is not None:
        raise found.refused
    value = results.load(found.record)
    return value.to_table() if isinstance(value, ds.Dataset) else value


def run_of(results: ResultStore, run: str) -> RunRecord:
    record = read_record(results.store, run)
    assert record.id == run
    with contextlib.suppress(PenstockError):
        assert read_parameters(results.store, record, results.trust.signatures) == {"n": 3}
    return record


def locks_of(manager: FileSystemLockManager | SlotLockManager) -> None:
    for holder in manager.ls():
        json.dumps(asdict(holder), allow_nan=False)
        holder.described()
    session = manager.open_session(info={"run": "other"})
    try:
        session.free(["k", "l", "other"])
        for answer in session.try_acquire(["k", "l", "other"]):
            if isinstance(answer, Lease):
                session.release([answer], "published")
    finally:
        session.close()


def repaired(manager: FileSystemLockManager | SlotLockManager) -> None:
    """Check that after a repair that mended everything, the locks work."""
    found = manager.repair()
    if all(damage.mendable for damage in found):
        again = manager.repair(dry_run=True)
        assert again == [], (found, again)
        try:
            locks_of(manager)
        except PenstockError as error:
            raise AssertionError(f"{found} was mended") from error


def is_right(name: str, value: Any) -> bool:
    """Tell whether what was read is what was stored, or missing."""
    if isinstance(value, PenstockError | Absent):
        return True
    expected = VALUES[name]
    return value.equals(expected) if isinstance(expected, pa.Table) else bool(value == expected)


__all__ = [
    "GONE",
    "ODD",
    "Found",
    "PlantedIndex",
    "build",
    "changed",
    "changed_in",
    "documents",
    "is_right",
    "msgspec",
    "places_in",
    "read_everything",
    "value_in",
]
