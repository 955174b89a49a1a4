"""`penstock doctor`: check what runs rely on (store, locks, runner, packages) and report problems."""

from __future__ import annotations

import importlib.metadata
import itertools
import platform
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import click

from penstock.cli.failures import INFRASTRUCTURE
from penstock.cli.options import Invocation, json_option, shared_options
from penstock.cli.output import print_document, say, size
from penstock.environments import Environment
from penstock.errors import PenstockError, StoreError, is_a
from penstock.explanations.producers import other_environments
from penstock.limits.tables import all_limits
from penstock.locks.base import Examinable, Holder, LockManager, Repairable
from penstock.objects.texts import clean
from penstock.storage.records.encoding import check_format
from penstock.storage.records.records import FORMAT_NAME, Producer
from penstock.storage.results.maintenance import current_records
from penstock.storage.results.producers import VALUE_PACKAGES
from penstock.storage.stores.base import Conditions, ExplainedStore, ProbedStore, Store
from penstock.storage.stores.indexing import IndexableStore, index_from

LITTLE_SPACE = 1 << 30
"""Less free space than this is worth a warning."""
_LOOKED_AT = 200
_DISTRIBUTIONS = {"sklearn": "scikit-learn"}
_REACHES = ("process", "host", "network")
_CORE = ("blake3", "click", "cloudpickle", "msgspec", "pyarrow", "rich")
_OPTIONAL = (
    "dask",
    "distributed",
    "ray",
    "cryptography",
    "redis",
    "fsspec",
    "s3fs",
    "gcsfs",
    "adlfs",
    "numpy",
    "pandas",
    "polars",
    "pydantic",
)


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found."""

    name: str
    state: Literal["ok", "warn", "fail"]
    said: str
    hint: str = ""


@click.command()
@json_option
@shared_options
@click.pass_obj
def doctor(invocation: Invocation) -> int:
    """Check the store, locks, runner and packages; exit with 3 if something does not work."""
    environment: Environment = invocation.environment()
    checks = list(examine(environment))
    failed = any(check.state == "fail" for check in checks)
    if invocation.json:
        print_document("doctor", {"ok": not failed, "checks": [asdict(check) for check in checks]})
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            say(f"{check.state:<4}  {check.name:<{width}}  {' '.join(check.said.split())}")
            if check.hint:
                say(f"      hint: {check.hint}")
    return INFRASTRUCTURE if failed else 0


def examine(environment: Environment) -> Iterator[Check]:
    """Every check, in the order in which one depends on the other. None raises, and one fault is told once."""
    examinations: list[tuple[str, Callable[[Environment], Iterator[Check]]]] = [
        ("store", _store),
        ("results", _results),
        ("index", _index),
        ("locks", _locks),
        ("limits", _limits),
        ("single flight", _single_flight),
        ("runner", _runner),
    ]
    told: set[tuple[str, str]] = set()
    failed: set[str] = set()
    for name, examination in examinations:
        if name == "single flight" and failed & {"store", "locks"}:
            continue  # it rests on both
        try:
            for check in examination(environment):
                if check.state == "fail":
                    failed.add(check.name)
                yield check
        except PenstockError as error:
            failed.add(name)
            root = _root(error)
            if (root.what, root.because) in told:
                continue  # what several checks need, such as the store, has one fault
            told.add((root.what, root.because))
            because = ": ".join(text for text in (error.what, error.because) if text)
            where = f" ({error.where})" if error.where else ""
            yield Check(name, "fail", f"{because}{where}", error.hint)
        except Exception as error:  # noqa: BLE001 (whatever is raised is what the check found)
            failed.add(name)
            yield Check(name, "fail", f"{type(error).__name__}: {error}")
    yield from _packages()


def _root(error: PenstockError) -> PenstockError:
    cause = error.__cause__
    return _root(cause) if is_a(cause, PenstockError) else error


# -- the store --------------------------------------------------------------------------------------------------------


def _store(environment: Environment) -> Iterator[Check]:
    store = environment.results().store
    yield Check("store", "ok", store.url)
    data = store.get(FORMAT_NAME)
    if data is not None:
        check_format(data)
    yield Check("store version", "ok", "a new store" if data is None else "supported by this Penstock")
    yield _conditional_writes(store)
    if isinstance(store, ProbedStore) and (found := store.conditions()).versioned is not None:
        if found.versioned:
            hint = "add a lifecycle rule for old versions, so that what `penstock cache gc` removes costs nothing"
            yield Check("store versions", "warn", "the bucket is versioned: deleted objects are kept", hint)
        else:
            yield Check("store versions", "ok", "the bucket is not versioned")
    yield from _access(environment, store)
    path = store.local_path("results")
    if path is not None:
        yield _free_space(path)


def _results(environment: Environment) -> Iterator[Check]:
    """Whether they were made with other versions of what values are made of."""
    versions = {name: _version(_DISTRIBUTIONS.get(name, name)) for name in VALUE_PACKAGES}
    here = Producer(
        python=platform.python_version(), packages={name: v for name, v in versions.items() if v is not None}
    )
    records = list(itertools.islice(current_records(environment.results()), _LOOKED_AT))
    found = other_environments((record.producer for record in records), here)
    if found:
        more = f", and in {len(found) - 1} other environments" if len(found) > 1 else ""
        hint = "keys of text columns and of times may differ between these versions: docs/keys.md, section 8"
        yield Check("results", "warn", f"some were {found[0]}{more}", hint)
    elif records:
        yield Check("results", "ok", f"the {len(records)} that were checked were made with the versions installed here")


def _access(environment: Environment, store: Store) -> Iterator[Check]:
    """Who can write there, and what that means for what is read."""
    signatures = environment.signatures()
    if signatures is not None:
        first, *others = signatures.keys.ids()
        accepted = f", {len(others)} more accepted" if others else ""
        needed = "unsigned results are refused" if signatures.required else "required for pickles in shared stores"
        yield Check("signatures", "ok", f"by the key {first}{accepted}; {needed}")
    if store.trusted:
        return
    if signatures is None:
        hint = "pickled results are refused: remove the write permission, or sign results (`penstock keys new`)"
        yield Check("store access", "warn", f"others can write to it{_why_open(store)}", hint)
    else:
        yield Check("store access", "ok", f"others can write to it, but cannot sign{_why_open(store)}")


def _why_open(store: Store) -> str:
    why = store.open_to if isinstance(store, ExplainedStore) else ""
    return f" ({why})" if why else ""


def _conditional_writes(store: Store) -> Check:
    """The one primitive that everything rests on: the second to come must be told so."""
    if isinstance(store, ProbedStore):
        return _probed(store.conditions(afresh=True))
    name = f"doctor/{uuid.uuid4().hex}.json"
    try:
        first, second = store.put_if_absent(name, b"{}"), store.put_if_absent(name, b"[]")
        kept = store.get(name)
    finally:
        store.delete(name)
    if first and not second and kept == b"{}":
        return Check("store writes", "ok", "the first of two writers wins")
    return Check(
        "store writes",
        "fail",
        f"two writers of one name were told {first} and {second}",
        "this store does not protect results from concurrent writers: use another one",
    )


def _probed(found: Conditions) -> Check:
    if found.enforced:
        return Check("store writes", "ok", "one of 8 concurrent writers wins")
    because = ", as some services do in versioned buckets" if found.versioned else ""
    return Check(
        "store writes",
        "warn",
        f"conditional writes are {found.verdict}{because}",
        "SERIALIZABLE tasks and locks in the store are refused; concurrent runs may see different results of a key",
    )


def _index(environment: Environment) -> Iterator[Check]:
    address = environment.settings.index
    if address is None:
        return
    index = index_from(address)
    index.check()
    if isinstance(environment.results().store, IndexableStore):
        yield Check("index", "ok", f"{index!r}")
    else:
        yield Check("index", "warn", f"{index!r} is not used", "only stores in buckets use an index")


def _free_space(path: str) -> Check:
    folder = path
    while True:
        try:
            free = shutil.disk_usage(folder).free
        except FileNotFoundError:
            folder = folder.rpartition("/")[0] or "/"
            continue
        break
    if free < LITTLE_SPACE:
        return Check("free space", "warn", size(free), "`penstock cache gc` removes unused files")
    return Check("free space", "ok", size(free))


# -- locks and runner -------------------------------------------------------------------------------------------------


def _manager(environment: Environment) -> LockManager:
    return environment.locks_of_settings()


def _locks(environment: Environment) -> Iterator[Check]:
    manager, key = _manager(environment), f"doctor {uuid.uuid4().hex}"
    holder = manager.open_session(info={"run": "doctor"})
    try:
        other = manager.open_session(info={"run": "doctor"})
        try:
            first, second = holder.try_acquire([key])[0], other.try_acquire([key])[0]
        finally:
            other.close()
    finally:
        holder.close()
    if isinstance(first, Holder) or not isinstance(second, Holder):
        yield Check("locks", "fail", f"{manager!r} gave one lock to two sessions", "use another lock manager")
        return
    yield Check("locks", "ok", f"{manager!r}, reach: {manager.reach}")
    if isinstance(manager, Repairable) and (damages := manager.repair(dry_run=True)):
        said = f"{len(damages)} cannot be read, such as {damages[0].name}: {damages[0].said}"
        yield Check("lock files", "warn", said, "`penstock locks repair` removes them; they block no run")
    if isinstance(manager, Examinable):
        for finding in manager.examine():
            yield Check(finding.name, finding.state, finding.said, finding.hint)


def _limits(environment: Environment) -> Iterator[Check]:
    """Only those that nobody can read, and so that no run believes."""
    for tag, limit in all_limits(environment.results().store):
        if isinstance(limit, StoreError):
            yield Check("limits", "fail", clean(f"of {tag!r}: {limit.what}: {limit.because}"), limit.hint)


def _single_flight(environment: Environment) -> Iterator[Check]:
    """Whether runs at the same time compute a key once, for tasks that say nothing of it."""
    once, said = environment.single_flight()
    hint = "" if once else "set PENSTOCK_LOCKS=redis://…; a policy with SERIALIZABLE makes locks mandatory"
    yield Check("single flight", "ok" if once else "warn", said, hint)


def _runner(environment: Environment) -> Iterator[Check]:
    runner = environment.runner(None)
    yield Check("runner", "ok", f"{runner!r}")
    manager = _manager(environment)
    if _REACHES.index(manager.reach) < _REACHES.index(runner.reach):
        yield Check(
            "reach",
            "warn",
            f"the locks reach one {manager.reach}, and the workers may be anywhere in one {runner.reach}: "
            "SERIALIZABLE tasks are refused, others run",
            "set PENSTOCK_LOCKS=store, or redis://… to have locks that reach all workers",
        )


# -- packages ---------------------------------------------------------------------------------------------------------


def _packages() -> Iterator[Check]:
    yield Check("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    versions = {name: _version(name) for name in ("penstock", *_CORE, *_OPTIONAL)}
    missing = [name for name in _CORE if versions[name] is None]
    there = ", ".join(f"{name} {version}" for name, version in versions.items() if version is not None)
    yield Check("packages", "ok", there)
    if missing:
        yield Check("packages", "fail", f"not installed: {', '.join(missing)}", f"pip install {' '.join(missing)}")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
