"""Whole runs on a store that others can write to: what they plant is reported, and never used."""

from __future__ import annotations

import importlib
import multiprocessing.connection
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from penstock import INPUTS, flow, task
from penstock.cli.main import main
from penstock.errors import CodecRefused, ParameterError, SignatureRefused
from penstock.journals.journal import RunRecord, read_record
from penstock.runners import DaskRunner
from penstock.runtime import FlowRunInfo
from penstock.storage import LocalStore
from penstock.storage.records.encoding import decode_recipe_at, encode
from penstock.storage.records.signing import Signatures
from penstock.storage.records.signing_keys import write_new_file
from penstock.storage.results.maintenance import current_records
from penstock.storage.results.store import ResultStore
from penstock.worker.messages import WorkerContext
from tests.opaque import Opaque


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "keys"
    write_new_file(str(path))
    monkeypatch.setenv("PENSTOCK_SIGNING_KEYS", str(path))
    return path


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ResultStore:
    """A store that others can write to, as they see it."""
    folder = tmp_path / "store"
    folder.mkdir()
    folder.chmod(0o777)
    monkeypatch.setenv("PENSTOCK_STORE", str(folder))
    store = LocalStore(folder)
    assert not store.trusted
    return ResultStore(store)


ran: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()


@task(cache_policy=INPUTS)
def start(n: int) -> set[int]:
    ran.append(("start", n))
    return Opaque({n, n + 1})


@task(cache_policy=INPUTS)
def total(numbers: set[int]) -> int:
    ran.append(("total", numbers))
    return sum(numbers)


@task
def plain(n: int) -> set[int]:
    return Opaque({n})


@flow
def sums(n: int) -> int:
    return total(start(n))


@flow
def of_a_plain_one(n: int) -> int:
    return total(plain(n))


def forge(results: ResultStore, task: Callable[..., Any], **fields: Any) -> None:
    """Change the one record of a task, as an attacker with write access can."""
    (record,) = current_records(results, task=task.definition.identity)  # type: ignore[attr-defined]
    results.store.put(record.slot_name, encode(msgspec.structs.replace(record, **fields)))


@pytest.mark.parametrize("runner", ["threads", pytest.param("processes?workers=1", marks=pytest.mark.slow)])
def test_everyone_with_the_key_shares_pickles(
    runner: str, keys: Path, shared: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_RUNNER", runner)
    assert sums.run(1).counts["executed"] == 2
    (record,) = [each for each in current_records(shared) if each.codec == "pickle"]
    assert record.signature is not None
    again = flow(lambda: start(1)).run()
    assert (again.result(), again.counts["hit"]) == ({1, 2}, 1)
    monkeypatch.delenv("PENSTOCK_SIGNING_KEYS")
    with pytest.raises(CodecRefused):
        flow(lambda: start(1))()


@pytest.mark.slow
@pytest.mark.needs("distributed")
def test_cluster_workers_sign_with_the_key_that_they_read_themselves(
    keys: Path, shared: ResultStore, tmp_path: Path
) -> None:
    distributed = importlib.import_module("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0", local_directory=str(tmp_path)
    ) as cluster:
        runner = DaskRunner(cluster=cluster)
        setup = runner.packed_setup(WorkerContext(FlowRunInfo(), shared.store.url, Signatures(str(keys))))
        run = flow(lambda: [weigh(start(1), {}), environment(1)], runner=runner).run()
        assert run.result()[0] == {1, 2}
    by_task = {record.task.rpartition(":")[2]: record for record in current_records(shared)}
    assert by_task.keys() == {"start", "weigh", "environment"}
    signatures = Signatures(str(keys))
    assert {signatures.verdict(record) for record in by_task.values()} == {"valid"}
    secret = keys.read_text().split()[-1]
    assert str(keys).encode() in setup
    assert not any(form in setup for form in (secret.encode(), bytes.fromhex(secret)))
    assert secret not in str(run.result()[1])


@pytest.mark.parametrize("on_unknown", ["fail", "recompute"])
def test_a_changed_record_ends_the_run_before_anything_runs(
    on_unknown: str, keys: Path, shared: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_ON_UNKNOWN", on_unknown)
    sums(1)
    forge(shared, total, inline=msgspec.Raw(b"666"))
    ran.clear()
    with pytest.raises(SignatureRefused, match="wrong signature") as caught:
        flow(lambda: [start(5), sums(1)])()
    assert caught.value.data["task"] == total.definition.identity
    assert ran == []
    plan = sums.plan(1)
    assert plan.counts["unknown"] == 1
    assert "must not be used" in str(plan)


def test_a_changed_record_whose_key_only_the_worker_learns_fails_its_node(keys: Path, shared: ResultStore) -> None:
    of_a_plain_one(1)
    forge(shared, total, inline=msgspec.Raw(b"666"))
    run = of_a_plain_one.run(1)
    assert isinstance(run.error, SignatureRefused)
    assert ran == [("total", {1})]


@pytest.mark.parametrize("which", [sums, of_a_plain_one])
def test_a_refresh_replaces_a_changed_result_by_a_signed_one(which: Any, keys: Path, shared: ResultStore) -> None:
    right = which(1)
    forge(shared, total, inline=msgspec.Raw(b"666"))
    assert which.with_options(refresh_cache=True)(1) == right
    run = which.run(1)
    assert (run.result(), run.counts["executed"] - (which is of_a_plain_one)) == (right, 0)


def test_a_changed_input_fails_its_consumers(keys: Path, shared: ResultStore) -> None:
    start_it = flow(lambda: start(1))
    start_it()
    forge(shared, start, signature=None)
    with pytest.raises(SignatureRefused, match="is not signed"):
        sums(1)
    assert ("total", {1, 2}) not in ran


def test_an_index_entry_cannot_lead_to_another_signed_result(
    keys: Path, shared: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both results are signed and of the same task, so only the entry tells them apart."""
    monkeypatch.setenv("PENSTOCK_REQUIRE_SIGNATURES", "true")
    assert (sums(1), sums(10)) == (3, 21)
    store = shared.store
    entries = {file.name: decode_recipe_at(store.get(file.name) or b"", file.name) for file in store.list("recipes/")}
    first, second = entries.values()
    for name, mine, other in zip(entries, (first, second), (second, first), strict=True):
        store.put(name, encode(msgspec.structs.replace(other, recipe=mine.recipe)))
    ran.clear()
    assert (sums(1), sums(10)) == (3, 21)
    assert ran == []


@pytest.mark.slow
def test_an_unsigned_table_is_refused_if_signatures_are_required(
    keys: Path, shared: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    pa = pytest.importorskip("pyarrow")

    @task(cache_policy=INPUTS)
    def table(n: int) -> Any:
        return pa.table({"n": [n]})

    @flow
    def one() -> Any:
        return table(1)

    monkeypatch.delenv("PENSTOCK_SIGNING_KEYS")
    one()
    monkeypatch.setenv("PENSTOCK_SIGNING_KEYS", str(keys))
    assert one.run().counts["hit"] == 1
    monkeypatch.setenv("PENSTOCK_REQUIRE_SIGNATURES", "true")
    with pytest.raises(SignatureRefused) as caught:
        one()
    assert "required" in caught.value.because


# -- resumed runs --------


@flow
def shaky(numbers: set[int]) -> int:
    if not ran:
        ran.append("failed")
        raise LookupError("the first time")
    return sum(numbers)


@pytest.fixture
def failed(keys: Path, shared: ResultStore) -> RunRecord:
    """A run that can be resumed."""
    run = shaky.run({1, 2})
    assert isinstance(run.error, LookupError)
    return read_record(shared.store, run.id)


def put(results: ResultStore, record: RunRecord) -> None:
    results.store.put(f"runs/{record.id}/run.json", msgspec.json.encode(record))


def test_a_signed_run_can_be_resumed_in_a_shared_store(failed: RunRecord) -> None:
    run = shaky.resume(failed.id)
    assert (run.id, run.result()) == (failed.id, 3)


def test_an_unsigned_run_cannot_be_resumed_in_a_shared_store(failed: RunRecord, shared: ResultStore) -> None:
    put(shared, msgspec.structs.replace(failed, signature=None))
    with pytest.raises(ParameterError) as caught:
        shaky.resume(failed.id)
    assert "signing keys" in caught.value.hint


@pytest.mark.parametrize(
    "changed",
    [
        {"entry": "os:system"},
        {"flow": "other"},
        {"parameters_checksum": "0"},
        {"id": "x"},
        {"runner_address": "dask+tcp://elsewhere:8786"},
    ],
)
def test_a_changed_run_is_refused_before_its_code_is_imported(
    failed: RunRecord, shared: ResultStore, changed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = msgspec.structs.replace(failed, **changed)  # type: ignore[arg-type]
    put(shared, record)
    with pytest.raises(SignatureRefused):
        shaky.resume(record.id)
    loaded: list[str] = []
    monkeypatch.setattr("penstock.cli.commands.run.load_flow", loaded.append)
    answer = CliRunner().invoke(main, ["resume", record.id])
    assert answer.exit_code != 0
    assert "result.signature-refused" in answer.output
    assert loaded == []


def test_changed_parameters_of_a_signed_run_are_not_unpickled(failed: RunRecord, shared: ResultStore) -> None:
    name = f"runs/{failed.id}/parameters.pkl"
    shared.store.delete(name)
    with shared.store.create(name) as file:
        file.write(pickle.dumps(Bomb()))
    with pytest.raises(ParameterError, match="cannot be resumed"):
        shaky.resume(failed.id)
    assert "boom" not in ran


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return go_off, ("boom",)


def go_off(how: str) -> None:
    ran.append(how)


@task(cache_policy=INPUTS)
def environment(n: int) -> dict[str, str]:
    return dict(os.environ)


@task(cache_policy=INPUTS)
def weigh(numbers: set[int], around: dict[str, str]) -> set[int]:
    return numbers


@pytest.mark.slow
def test_keys_are_in_no_worker_message_environment_store_or_log(
    keys: Path, shared: ResultStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sent: list[bytes] = []
    send = multiprocessing.connection.Connection.send_bytes

    def noting(self: Any, data: Any, *rest: Any) -> None:
        sent.append(bytes(data))
        send(self, data, *rest)

    monkeypatch.setattr(multiprocessing.connection.Connection, "send_bytes", noting)

    @flow(runner="processes?workers=1")
    def all_of_it() -> Any:
        around = environment(1)
        return [weigh(start(1), around), around]

    caplog.set_level("DEBUG")
    numbers, around = all_of_it()
    forge(shared, weigh, digest="other")
    failed = all_of_it.run()
    assert numbers == {1, 2}
    assert isinstance(failed.error, SignatureRefused)
    assert any(str(keys).encode() in each for each in sent)  # the path of the key file is sent
    secret = bytes.fromhex(keys.read_text().split()[-1])
    folder = Path(shared.store.local_path("results") or "").parent
    written = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    texts = [caplog.text, str(around), str(failed.error), repr(failed)]
    assert len(written) > 5
    for form in (secret, secret.hex().encode()):
        assert not any(form in each for each in [*sent, *written, *(text.encode() for text in texts)])
