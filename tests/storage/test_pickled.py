"""Values that only pickle can store are named: before the run if an annotation tells, otherwise with their place."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from penstock import INPUTS, flow, task
from penstock.errors import CodecRefused, ConfigurationError, SerializationError
from penstock.storage.formats import registry as choosing
from penstock.storage.formats.pickled import annotated_pickle, pickled_parts
from penstock.storage.formats.registry import register_serializer
from penstock.storage.results.store import Absent, Published, ResultStore
from penstock.storage.stores.local import LocalStore
from penstock.storage.stores.memory import MemoryStore
from penstock.testing.runners import tasks
from tests.roundtrip import classes as c

pytestmark = pytest.mark.needs("pandas")


class Model:
    """An arbitrary object."""

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight


@pytest.fixture
def open_folder(tmp_path: Path) -> str:
    """A store that others can write to."""
    folder = tmp_path / "store"
    folder.mkdir()
    folder.chmod(0o777)
    return str(folder)


def mixed() -> Any:
    import pandas as pd

    return {"model": Model(), "auc": 0.9, "frame": pd.DataFrame({"a": [1]}), "more": [Model(2.0)]}


def test_pickled_parts_are_named_by_their_place() -> None:
    assert pickled_parts(mixed()) == (
        "result['model']: test_pickled.Model, result['more'][0]: test_pickled.Model".replace(
            "test_pickled", Model.__module__
        )
    )
    assert pickled_parts(Model()) == f"result: {Model.__module__}.Model"


def test_only_the_part_that_needs_pickle_is_pickled() -> None:
    store = MemoryStore()
    results = ResultStore(store)
    published = results.publish("t", "k", mixed(), after=Absent(0, "never"), attempt="a", digest="d")
    assert isinstance(published, Published)
    assert published.record.codec == "parts/pickle"
    names = sorted(entry.name.rpartition("-")[2].partition(".")[2] for entry in store.list("results/t/k/"))
    assert "parquet" in names
    assert "pkl" in names
    again = results.load(published.record)
    assert (again["auc"], again["model"].weight, again["more"][0].weight) == (0.9, 1.0, 2.0)
    assert list(again["frame"]["a"]) == [1]


def test_a_pickled_part_is_refused_by_name(open_folder: str) -> None:
    results = ResultStore(LocalStore(open_folder))
    with pytest.raises(CodecRefused) as caught:
        results.publish("t", "k", mixed(), after=Absent(0, "never"), attempt="a", digest="d")
    assert "result['model']" in caught.value.where
    assert "Model" in caught.value.where


def test_a_manifest_without_pickles_reads_none(open_folder: str, tmp_path: Path) -> None:
    own = ResultStore(LocalStore(tmp_path / "own"))
    published = own.publish("t", "k", mixed(), after=Absent(0, "never"), attempt="a", digest="d")
    assert isinstance(published, Published)
    import msgspec

    forged = msgspec.structs.replace(published.record, codec="parts")
    with pytest.raises(CodecRefused, match="pickle"):
        own.load(forged)


def test_a_task_annotated_to_return_an_arbitrary_object_does_not_run(open_folder: str, tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    @task(cache_policy=INPUTS)
    def train() -> tuple[int, Model]:
        ran.touch()
        return 1, Model()

    @flow(result_storage=open_folder)
    def pipeline() -> Any:
        return train()

    with pytest.raises(CodecRefused) as caught:
        pipeline()
    assert f"result[1]: {Model.__module__}." in caught.value.where
    assert not ran.exists()


class Other:
    """An object without a serializer."""


class Weights(Model):
    """An object with a serializer."""


class WeightsSerializer:
    name, suffix, safe = "weights", ".txt", True
    classes: tuple[type, ...] = (Weights,)

    def can(self, value: Any) -> bool:
        return isinstance(value, Weights)

    def write(self, value: Any, file: Any) -> None:
        file.write(repr(value.weight).encode())

    def read(self, data: memoryview, about: Any, *, limit: int) -> Weights:
        return Weights(float(bytes(data)))


class VagueSerializer(WeightsSerializer):
    name = "vague"
    classes = ("Weights",)  # type: ignore[assignment]


class AnySerializer(WeightsSerializer):
    name = "any"
    classes = (object,)


def test_a_registered_serializer_only_exempts_its_own_types(monkeypatch: pytest.MonkeyPatch) -> None:
    def weights() -> Weights: ...
    def perhaps_weights() -> Model: ...
    def other() -> Other: ...

    functions: Any = (weights, perhaps_weights, other)
    monkeypatch.setattr(choosing, "_registry", dict(choosing._registry))
    assert all(map(annotated_pickle, functions))
    register_serializer(WeightsSerializer())
    assert [bool(annotated_pickle(function)) for function in functions] == [False, False, True]
    register_serializer(AnySerializer())
    assert not any(map(annotated_pickle, functions))
    with pytest.raises(ConfigurationError, match="not a tuple of classes"):
        register_serializer(VagueSerializer())


def test_unclear_annotations_are_not_refused() -> None:
    def union() -> Model | None: ...
    def anything() -> Any: ...
    def many() -> list[Model]: ...
    def data() -> c.Point: ...
    def number() -> float: ...
    def nothing() -> None: ...
    def unknown() -> NotThere: ...  # type: ignore[name-defined]  # noqa: F821
    def none(): ...

    functions: Any = (union, anything, many, data, number, nothing, unknown, none, tasks.double.fn)
    assert [annotated_pickle(function) for function in functions] == [""] * len(functions)


def test_pickled_results_are_reported_once_per_task(caplog: pytest.LogCaptureFixture) -> None:
    results = ResultStore(MemoryStore())
    with caplog.at_level(logging.INFO, "penstock.results"):
        for key in ("k", "l"):
            results.publish("t", key, mixed(), after=Absent(0, "never"), attempt="a", digest="d")
    assert [record.message for record in caplog.records] == [
        f"results of t are stored as pickles: {pickled_parts(mixed())}"
    ]


def test_a_result_that_cannot_be_pickled_is_not_said_to_be_stored(caplog: pytest.LogCaptureFixture) -> None:
    results = ResultStore(MemoryStore())
    with caplog.at_level(logging.INFO, "penstock.results"), pytest.raises(SerializationError):
        results.publish("t", "k", threading.Lock(), after=Absent(0, "never"), attempt="a", digest="d")
    assert caplog.records == []
