"""Errors in code and options: raised at once, with the name of the culprit and a fix."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock import INPUTS, TASK_SOURCE, CacheKeyFnPolicy, Files, flow, task
from penstock.errors import (
    ConfigurationError,
    CycleError,
    DigestError,
    ParameterError,
    PenstockError,
    PolicyError,
    RunnerError,
    TaskFailed,
    TaskTimeout,
    TracingError,
    UpstreamFailed,
)
from penstock.graph.graphs import Entry, Graph
from penstock.graph.tasks import TaskDefinition
from penstock.runners import ProcessRunner, ThreadRunner

RAN: list[object] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


@task(cache_policy=INPUTS)
def keep(value: object) -> int:
    RAN.append("keep")
    return 1


@flow
def keeping(value: object) -> int:
    return keep(value)


class Opaque:
    """A value without a stable digest: it holds a lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


# -- values and policies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [Opaque(), threading.Lock(), [1, {"deep": Opaque()}], object()], ids=type)
def test_an_argument_without_a_digest(value: object, sound) -> None:
    with pytest.raises(DigestError) as caught:
        keeping(value)
    sound(caught.value, DigestError, "key.no-digest")
    assert "value" in str(caught.value)
    assert RAN == []


def test_the_error_for_a_missing_digest_lists_three_fixes() -> None:
    with pytest.raises(DigestError) as caught:
        keep(Opaque())
    said = str(caught.value)
    assert '- "value"' in said
    assert "register_digest" in said
    assert "NO_CACHE" in said


def test_the_error_for_self_without_a_digest_says_what_excluding_it_means() -> None:
    class Model(Opaque):
        @task(cache_policy=INPUTS)
        def keep(self) -> int:
            return 1

    with pytest.raises(DigestError) as caught:
        Model().keep()
    assert caught.value.hint.startswith("give its class a digest with register_digest()")
    assert '`- "self"` (all instances then share results)' in caught.value.hint


def test_a_result_without_a_digest_as_the_input_of_a_cached_task(sound) -> None:
    @task
    def make() -> Opaque:
        return Opaque()

    @flow
    def pipeline() -> int:
        return keep(make())

    with pytest.raises(DigestError) as caught:
        pipeline()
    sound(caught.value, DigestError, "key.no-digest")


def test_a_generator_as_an_argument(sound) -> None:
    with pytest.raises(TracingError) as caught:
        keeping(iter([1]))
    sound(caught.value, TracingError, "graph.tracing")


def test_an_unknown_name_in_a_policy(sound) -> None:
    @task(cache_policy=INPUTS - "vale")
    def typo(value: int) -> int:
        return value

    with pytest.raises(PolicyError) as caught:
        typo(1)
    sound(caught.value, PolicyError, "usage.policy")
    assert "'value'" in caught.value.hint


def test_an_unknown_isolation_level(sound) -> None:
    with pytest.raises(PolicyError) as caught:
        INPUTS.configure(isolation_level="SERIALISABLE")
    sound(caught.value, PolicyError, "usage.policy")


def test_a_key_function_that_returns_no_string(sound) -> None:
    @task(cache_policy=CacheKeyFnPolicy(cache_key_fn=lambda context, parameters: 5))  # type: ignore[arg-type, return-value]
    def wrong(x: int) -> int:
        return x

    with pytest.raises(PolicyError) as caught:
        wrong(1)
    sound(caught.value, PolicyError, "usage.policy")


def test_a_key_function_that_raises_fails_with_its_own_exception() -> None:
    def broken(context: object, parameters: dict[str, object]) -> str:
        raise LookupError("no such customer")

    @task(cache_key_fn=broken)
    def wrong(x: int) -> int:
        return x

    with pytest.raises(LookupError, match="no such customer"):
        wrong(1)


def test_a_policy_and_a_key_function_at_once(sound) -> None:
    with pytest.raises(ConfigurationError) as caught:
        task(cache_policy=INPUTS, cache_key_fn=lambda context, parameters: "x")(lambda: 1)
    sound(caught.value, ConfigurationError, "usage.configuration")


def test_two_key_functions(sound) -> None:
    with pytest.raises(PolicyError) as caught:
        CacheKeyFnPolicy(lambda c, p: "a") + CacheKeyFnPolicy(lambda c, p: "b") + TASK_SOURCE
    sound(caught.value, PolicyError, "usage.policy")


# -- arguments --------------------------------------------------------------------------------------------------------


@task
def add(x: int, y: int) -> int:
    return x + y


@flow
def adding(x: int, y: int) -> int:
    return add(x, y)


@pytest.mark.parametrize(
    "call",
    [
        lambda: add(1),
        lambda: add(1, 2, 3),
        lambda: add(1, 2, z=3),
        lambda: add(1, x=2),
        lambda: adding(1),
        lambda: adding(1, 2, z=3),
        lambda: adding.run(1),
        lambda: adding.plan(1, 2, 3),
        lambda: flow(lambda: add(1))(),
        lambda: add.submit(1, 2),
        lambda: flow(lambda: add.map([1, 2], [1, 2, 3]))(),
        lambda: flow(lambda: add.map(1, 2))(),
    ],
    ids=[
        "task, too few", "task, too many", "task, unknown", "task, twice", "flow, too few", "flow, unknown",
        "run", "plan", "task in a flow", "submit outside of a flow", "map, lengths", "map, nothing to map",
    ],
)  # fmt: skip
def test_wrong_arguments(call, sound) -> None:
    with pytest.raises(ParameterError) as caught:
        call()
    sound(caught.value, ParameterError, "usage.parameters")
    assert isinstance(caught.value, TypeError)


# -- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: task(retry=3)(lambda: 1),
        lambda: add.with_options(retry=3),
        lambda: flow(retry=3)(lambda: 1),
        lambda: adding.with_options(cache_policy=INPUTS),
        lambda: task(retries=-1)(lambda: 1),
        lambda: task(timeout_seconds=0)(lambda: 1),
        lambda: task(timeout_seconds=-1)(lambda: 1),
        lambda: task(cache_policy=INPUTS, cache_expiration=3600)(lambda: 1),
        lambda: task(cache_policy="INPUTS")(lambda: 1),
        lambda: task(retries="3")(lambda: 1),
        lambda: task(retry_jitter_factor=-1)(lambda: 1),
        lambda: task(retry_delay_seconds=-5)(lambda: 1),
        lambda: task(cache_policy=INPUTS, cache_expiration=timedelta(days=-1))(lambda: 1),
        lambda: task(timeout_seconds="10")(lambda: 1),
        lambda: flow(retries=-1)(lambda: 1),
        lambda: task(tags="etl")(lambda: 1),
        lambda: flow(tags="etl")(lambda: 1),
        lambda: ThreadRunner(0),
        lambda: ProcessRunner(0),
    ],
    ids=[
        "task option", "task.with_options", "flow option", "flow.with_options", "retries", "timeout 0", "timeout -1",
        "expiration in seconds", "policy by name", "retries as text", "jitter", "delay", "expiration in the past",
        "timeout as text", "flow retries", "one tag", "one tag of a flow", "no threads", "no processes",
    ],
)  # fmt: skip
def test_invalid_options(make, sound) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make()
    sound(caught.value, ConfigurationError, "usage.configuration")


@pytest.mark.parametrize("kind", [ThreadRunner, ProcessRunner])
def test_a_mistyped_setting_of_a_runner_is_named(kind: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{kind.__name__} has no option 'worker'") as raised:
        kind(worker=2)
    assert raised.value.hint == "did you mean workers?"


@pytest.mark.parametrize("workers", [0, "2", 1.5])
def test_the_number_of_workers_is_a_positive_whole_number(workers: Any) -> None:
    with pytest.raises(ConfigurationError, match="workers cannot be"):
        ThreadRunner(workers=workers)


@pytest.mark.parametrize("address", ["spark", "threads?workers=many", "threads?cores=3", "threads?workers=0"])
def test_runners_that_do_not_exist(address: str, monkeypatch: pytest.MonkeyPatch, sound) -> None:
    monkeypatch.setenv("PENSTOCK_RUNNER", address)
    with pytest.raises(ConfigurationError) as caught:
        adding(1, 2)
    sound(caught.value, ConfigurationError, "usage.configuration")


@pytest.mark.parametrize("address", ["s4://bucket", "redis://host", "file://host/store"])
def test_stores_that_do_not_exist(address: str, monkeypatch: pytest.MonkeyPatch, sound) -> None:
    monkeypatch.setenv("PENSTOCK_STORE", address)
    with pytest.raises(ConfigurationError) as caught:
        adding(1, 2)
    sound(caught.value, ConfigurationError, "usage.configuration")


def test_an_unknown_serializer(sound) -> None:
    @task(cache_policy=INPUTS, result_serializer="yaml")
    def wrong(x: int) -> int:
        return x

    with pytest.raises(ConfigurationError) as caught:
        wrong(1)
    sound(caught.value, ConfigurationError, "usage.configuration")


# -- resources --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "resources",
    [
        {"memory": "lots"},
        {"memory": "4 GiB GiB"},
        {"cpu": None},
        5,
        lambda attempt: 5,
        {"memory": "1.2.3GB"},
        {"cpu": -1},
    ],
    ids=["a word", "units twice", "nothing", "a number", "a function of a number", "no number", "negative"],
)
def test_invalid_resources(resources, sound) -> None:
    @task(resources=resources)
    def wrong() -> int:
        RAN.append("ran")
        return 1

    with pytest.raises(ConfigurationError) as caught:
        wrong()
    sound(caught.value, ConfigurationError, "usage.configuration")
    assert RAN == []


@pytest.mark.parametrize("resources", [{"memory": "1000000TiB"}, {"gpu": 1}, {"cpu": 10_000}], ids=str)
def test_resources_that_no_worker_has(resources, sound) -> None:
    @task(resources=resources)
    def wants_too_much() -> int:
        RAN.append("ran")
        return 1

    with pytest.raises(RunnerError) as caught:
        wants_too_much()
    sound(caught.value, RunnerError, "runner")
    assert next(iter(resources)) in str(caught.value)
    assert RAN == []


def test_the_error_for_a_misspelt_resource_names_the_one_that_is_meant() -> None:
    @task(resources={"cpus": 2})
    def wants_cpus() -> int:
        return 1

    with pytest.raises(RunnerError) as caught:
        wants_cpus()
    assert caught.value.hint == "did you mean cpu instead of cpus?"


def test_a_resource_that_only_resembles_another_is_not_taken_for_it() -> None:
    with pytest.raises(RunnerError) as caught:
        flow(lambda: task(resources={"gpu": 1})(lambda: 1)())()
    assert "did you mean" not in caught.value.hint
    assert "ThreadRunner(resources={'gpu': 1})" in caught.value.hint


def test_a_key_function_that_takes_other_arguments_is_refused_where_it_is_given() -> None:
    with pytest.raises(PolicyError, match="cache_key_fn cannot be") as caught:
        task(cache_key_fn=lambda parameters: "k")
    assert caught.value.hint == "define it as fn(context, parameters)"


def test_an_open_file_is_passed_by_its_path() -> None:
    with open(__file__) as file, pytest.raises(TracingError) as caught:
        flow(lambda: task(lambda file: 1)(file))()
    assert caught.value.hint == "pass its path, and open it in the task"


def test_map_says_that_a_text_is_one_value() -> None:
    with pytest.raises(ParameterError, match="got no iterable") as caught:
        flow(lambda: task(lambda text: text).map("abc"))()
    assert "a text" in caught.value.because


@pytest.mark.parametrize(
    ("part", "path"), [(lambda rows: rows[0]["x"], "rows[0]['x']"), (lambda rows: rows[1].name, "rows[1].name")]
)
def test_an_error_of_a_part_of_a_result_names_its_path(part: Any, path: str) -> None:
    rows = task(name="rows")(lambda: [{}, 1])
    with pytest.raises((KeyError, AttributeError)) as caught:
        flow(lambda: part(rows()))()
    (note,) = caught.value.__notes__
    assert note.startswith(f"in task {path}, node ")


def test_resources_for_a_retry_that_no_worker_has(sound) -> None:
    @task(retries=1, resources=lambda attempt: {"cpu": 1 if attempt == 1 else 10_000})
    def grows() -> int:
        RAN.append("ran")
        raise MemoryError

    with pytest.raises(RunnerError) as caught:
        grows()
    sound(caught.value, RunnerError, "runner")
    assert RAN == ["ran"]


# -- time -------------------------------------------------------------------------------------------------------------


def test_a_task_that_runs_too_long(runner: str, sound) -> None:
    @task(timeout_seconds=0.1)
    def slow() -> None:
        import time

        for _ in range(3000):
            time.sleep(0.01)

    @task
    def after(x: None) -> int:
        return 1

    @flow
    def pipeline() -> int:
        return after(slow())

    with pytest.raises(TaskTimeout) as caught:
        pipeline()
    sound(caught.value, TaskTimeout, "task.timeout")
    assert isinstance(caught.value, TimeoutError)


@pytest.mark.parametrize("method", ["submit", "map"])
def test_the_error_outside_of_a_flow_names_the_method_that_was_called(method: str) -> None:
    with pytest.raises(ParameterError, match=rf"add\.{method}\(\) was called outside of a flow"):
        getattr(add, method)([1], [2])


def test_a_pattern_without_files_is_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    counting = task(cache_policy=INPUTS + Files("nofile*.csv"))(lambda x: x)
    assert flow(lambda: counting(1))() == 1
    (told,) = [record.getMessage() for record in caplog.records if record.name == "penstock.keys"]
    assert told == f"no file matches Files('nofile*.csv') in {tmp_path}: keys contain that there is none"


def test_waiting_for_a_result_longer_than_its_timeout() -> None:
    go_on = threading.Event()

    @task
    def blocked() -> bool:
        return go_on.wait(100)

    @flow
    def pipeline() -> bool:
        future = blocked.submit()
        with pytest.raises(TimeoutError, match="blocked"):
            future.result(timeout=0.01)
        go_on.set()
        return future.result()

    assert pipeline()


@pytest.mark.parametrize("timeout", ["1", b"1", [1]], ids=repr)
def test_a_timeout_that_is_no_number(timeout, sound) -> None:
    @flow
    def pipeline() -> None:
        add.submit(1, 2).result(timeout=timeout)

    with pytest.raises(ParameterError) as caught:
        pipeline()
    sound(caught.value, ParameterError, "usage.parameters")


# -- graphs -----------------------------------------------------------------------------------------------------------


def test_a_node_that_waits_for_a_later_one(sound) -> None:
    graph = Graph()
    entry = Entry(TaskDefinition(lambda: 1), None, "flow")
    graph.add(entry, {})
    for wrong in ({"order": (1,)}, {"deps": (7,)}, {"order": (-1,)}):
        with pytest.raises(CycleError) as caught:
            graph.add(entry, {}, **wrong)
        sound(caught.value, CycleError, "graph.cycle")
    assert len(graph) == 1


def test_a_future_used_after_its_run(sound) -> None:
    kept: list[object] = []

    @flow
    def pipeline() -> None:
        kept.extend([add.submit(1, 2), keep.submit(5)])

    pipeline()
    plain, cached = kept
    with pytest.raises(TracingError) as caught:
        plain.result()
    sound(caught.value, TracingError, "graph.tracing")
    assert cached.result() == 1  # it has a record


def test_a_future_inside_an_object_given_to_a_task(sound) -> None:
    class Holder:
        def __init__(self, inside: object) -> None:
            self.inside = inside

    @task
    def open_it(holder: Holder) -> int:
        return holder.inside + 1  # type: ignore[operator]

    @flow(runner=ThreadRunner(1))
    def pipeline() -> int:
        return open_it(Holder(add(1, 2)))

    with pytest.raises(TracingError) as caught:
        pipeline()
    sound(caught.value, TracingError, "graph.tracing")


# -- failures of tasks ------------------------------------------------------------------------------------------------


class TwoArguments(Exception):
    """Cannot be unpickled: its __init__ takes more arguments than `args` holds."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


def test_the_exception_of_a_task_reaches_the_caller_unchanged(runner: str) -> None:
    @task
    def fails(x: int) -> int:
        raise ValueError(f"no {x}")

    @flow
    def pipeline() -> int:
        return fails(3)

    with pytest.raises(ValueError, match="no 3") as caught:
        pipeline()
    assert any("fails" in note for note in caught.value.__notes__)


def test_an_exception_that_cannot_be_pickled_keeps_its_text(runner: str) -> None:
    error_class = TwoArguments

    @task
    def fails() -> int:
        raise error_class("what happened", 5)

    @flow
    def pipeline() -> int:
        return fails()

    with pytest.raises(Exception, match="what happened") as caught:
        pipeline()
    assert "TwoArguments" in f"{type(caught.value).__name__} {caught.value}"


def test_dependents_of_a_failure_never_run_and_name_it(sound) -> None:
    @task
    def fails() -> int:
        raise ValueError("no")

    @task
    def after(x: int) -> int:
        RAN.append("after")
        return x

    seen: list[BaseException] = []

    @flow
    def pipeline() -> None:
        seen.append(after.submit(fails()).result(raise_on_failure=False))

    with pytest.raises(ValueError, match="no"):
        pipeline()
    (error,) = seen
    sound(error, UpstreamFailed, "task.upstream-failed")
    assert "fails" in error.because
    assert RAN == []


@pytest.mark.parametrize("how", [SystemExit(3), KeyboardInterrupt()], ids=["exit", "interrupt"])
def test_a_task_that_exits_the_program_fails_only_itself(how: BaseException) -> None:
    @task
    def leaves() -> None:
        raise how

    @task(cache_policy=INPUTS)
    def stays(x: int) -> int:
        return x

    @flow
    def pipeline() -> int:
        kept, left = stays(1), leaves()
        with pytest.raises(TaskFailed, match=type(how).__name__):
            left.result()
        return kept

    assert pipeline() == 1


# -- the errors themselves --------------------------------------------------------------------------------------------


def leaves(kind: type[PenstockError]) -> Iterator[type[PenstockError]]:
    below = kind.__subclasses__()
    if not below:
        yield kind
    for each in below:
        yield from leaves(each)


@pytest.mark.parametrize("kind", sorted(leaves(PenstockError), key=lambda kind: kind.code), ids=lambda kind: kind.code)
def test_every_kind_of_error_has_a_hint_and_survives_pickling(kind: type[PenstockError], sound) -> None:
    sound(kind("it happened", where="here", because="of that", number=5), kind, kind.code)
    assert kind("it happened", hint="do this").hint == "do this"


def test_every_kind_of_error_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in leaves(PenstockError)]
    assert len(codes) == len(set(codes))
