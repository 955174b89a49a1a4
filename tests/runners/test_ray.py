"""RayRunner: the conformance suite, and what is specific to Ray. All tests share one Ray."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock import events
from penstock.errors import ConfigurationError, RunnerError, TaskTimeout
from penstock.flows import Flow, flow
from penstock.graph.policies import INPUTS
from penstock.runners import DaskRunner, RayRunner, Runner, runner_from
from penstock.runtime import FlowRunInfo
from penstock.settings import load_settings
from penstock.storage import open_store
from penstock.storage.formats import registry as choosing
from penstock.storage.formats.registry import register_serializer
from penstock.tasks import task
from penstock.testing.runners import RunnerTests, tasks
from penstock.testing.runners.kills import KillTests, children_named
from penstock.testing.runners.support import PATIENCE, RunnerBench
from penstock.worker.messages import WorkerContext
from tests.amounts import amount

pytestmark = [pytest.mark.slow, pytest.mark.needs("ray", "numpy", "psutil")]
t: Any = tasks


@pytest.fixture(scope="module", autouse=True)
def own_ray(ray_environment: None) -> Iterator[None]:
    """A Ray for this module, shared by its tests."""
    with RayRunner(num_cpus=2):
        yield


class TestRayRunner(RunnerTests):
    kills_workers = True

    def make_runner(self, workers: int) -> Runner:
        return RayRunner()


class TestRayRunnerUnderFire(KillTests):
    flows = amount(here=4, in_ci=12)

    def make_runner(self, workers: int) -> Runner:
        return RayRunner()

    def worker_pids(self) -> list[int]:
        return sorted({*children_named("ray::")} - {*children_named("Agent")})


class TestRayItself(RunnerBench):
    def make_runner(self, workers: int) -> Runner:
        return RayRunner()

    # -- workers

    def test_each_worker_process_is_prepared_once_for_a_run(self) -> None:
        log = self.log

        def prepare() -> None:
            os.environ["TEST_PREPARED"] = str(os.getpid())
            tasks.mark(log, "prepared")

        @task
        def said(n: int) -> tuple[str, str | None]:
            return str(os.getpid()), os.environ.get("TEST_PREPARED")

        @flow(runner=RayRunner(worker_setup=prepare))
        def asks() -> Any:
            return [said(n) for n in range(10)]

        values = self.within(lambda: asks.run_with({}, settings=self.settings).result())
        assert all(pid == told for pid, told in values)
        assert self.executions() == {"prepared": len({pid for pid, _ in values})}

    # -- values

    def test_values_that_only_calls_need_never_reach_the_driver(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import ray

        answers: list[int] = []
        engine = engine_class()
        read = engine._read

        def counting(self: Any, flight: Any, answer: bytes) -> Any:
            answers.append(len(answer))
            return read(self, flight, answer)

        def refuse(*_: Any, **__: Any) -> Any:
            raise AssertionError("the driver got a value")

        monkeypatch.setattr(engine, "_read", counting)
        size = 20_000_000
        log = self.log

        def large() -> Any:
            text = t.text(log, size)
            text.wait()
            monkeypatch.setattr(ray, "get", refuse)
            sizes = [t.length(log, text, n) for n in range(3)]
            for each in sizes:
                each.wait()
            monkeypatch.undo()
            return sizes

        assert self.value(large) == [(size + n, True) for n in range(3)]
        assert max(answers) < 10_000

    def test_each_consumer_can_write_to_its_array_unseen_by_others(self) -> None:
        @task
        def ones(n: int) -> Any:
            import numpy

            return {"array": numpy.ones(n)}

        @task
        def spoil(made: Any) -> float:
            made["array"] += 1
            return float(made["array"].sum())

        def arrays() -> Any:
            made = ones(1_000_000)
            sums = [spoil.submit(made)]
            for _ in range(2):
                sums.append(spoil.submit(made, wait_for=[sums[-1]]))
            return sums, made

        sums, made = self.value(arrays)
        assert sums == [2e6, 2e6, 2e6]
        assert made["array"].flags.writeable
        assert made["array"].sum() == 1e6

    def test_a_published_value_that_cannot_be_pickled_comes_from_the_store(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(choosing, "_registry", dict(choosing._registry))  # the registration ends with the test
        register_serializer(ByText())

        def publishes() -> Any:
            return only_stored(3)

        assert self.value(publishes).n == 3

    def test_large_values_are_found_in_nested_containers(self) -> None:
        log = self.log

        def nested() -> Any:
            a, b, c = (t.text(log, 100_000 + n) for n in range(3))
            return sizes_in([a, (b, {"deep": [c, a]}), b"plain"])

        assert self.value(nested) == [100_000, (100_001, {"deep": [100_002, 100_000]}), 5]
        assert self.executions() == {"text": 3}

    # -- caching

    def test_nothing_is_submitted_if_everything_is_a_hit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        log = self.log
        cached = t.double.with_options(cache_policy=INPUTS)

        def warm() -> Any:
            return [cached(log, n) for n in range(10)]

        first = self.value(warm)

        def refuse(*_: Any) -> Any:
            raise AssertionError("asked for workers")

        monkeypatch.setattr(RayRunner, "open", refuse)
        assert self.value(warm) == first

    def test_a_resumed_run_does_not_mistake_its_tasks_for_those_of_the_first_attempt(self) -> None:
        log = self.log
        calls = [t.double, t.numbers]

        def changes() -> Any:
            value = calls.pop(0)(log, 4).result()
            if calls:
                raise LookupError("the first attempt ends here")
            return value

        bound: Flow[Any, Any] = flow(runner=self.make_runner(2))(changes)
        run = self.within(lambda: bound.run_with({}, settings=self.settings))
        assert run.state == "failed"
        assert self.within(lambda: bound.resume(run.id, settings=self.settings)).result() == [0, 1, 2, 3]

    # -- workers that die, and calls that are stopped

    def test_a_worker_killed_from_outside_is_replaced_and_its_call_runs_again(self) -> None:
        log = self.log

        def killed() -> Any:
            return linger(log, PATIENCE)

        self.when_marked("linger", lambda pid: os.kill(pid, signal.SIGKILL))
        assert self.value(killed) == 2
        [retried] = [event for event in self.seen if isinstance(event, events.NodeRetried)]
        assert "died" in retried.reason

    def test_a_call_whose_worker_is_interrupted_from_outside_runs_again(self) -> None:
        def interrupted() -> Any:
            return interrupt_at_first()

        assert self.value(interrupted) == 2
        [retried] = [event for event in self.seen if isinstance(event, events.NodeRetried)]
        assert "interrupted" in retried.reason

    def test_a_timed_out_call_that_ignores_interrupts_is_killed(self) -> None:
        log = self.log
        stubborn = refuse_to_stop.with_options(timeout_seconds=0.5)
        found: list[int] = []
        self.when_marked("stubborn", found.append)

        def stops() -> Any:
            late = [stubborn(log, PATIENCE).result(raise_on_failure=False) for _ in range(1)]
            return [type(each) for each in late], t.double(log, 1)

        assert self.value(stops) == ([TaskTimeout], 2)
        deadline = time.monotonic() + 200
        while alive(found[0]) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not alive(found[0])

    def test_a_timeout_counts_from_the_start_of_the_call(self) -> None:
        log = self.log
        busy = t.nap.with_options(resources={"cpu": 2}, timeout_seconds=PATIENCE)
        quick = t.double.with_options(timeout_seconds=0.7)

        def queued() -> Any:
            return busy(log, "busy", 1.5), quick(log, 1)

        assert self.value(queued)[1] == 2
        assert self.executions() == {"nap": 1, "double": 1}

    def test_a_value_outlives_the_worker_that_made_it(self) -> None:
        log = self.log

        def outlives() -> Any:
            made = t.text(log, 1_000_000)
            made.wait()
            for pid in {pid.result() for pid in [worker_of(n) for n in range(8)]}:
                kill_and_wait(pid)
            return t.length(log, made), len(made)

        assert self.value(outlives) == ((1_000_000, True), 1_000_000)
        assert self.executions() == {"text": 1, "length": 1}

    def test_a_call_killed_for_its_memory_is_retried_with_the_next_attempts_resources(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import ray

        log = self.log
        engine = engine_class()
        settle = engine.settle

        def for_memory(self: Any, flight: Any, error: BaseException, *, in_vain: bool) -> Any:
            assert isinstance(error, ray.exceptions.WorkerCrashedError)  # killed as by Ray's monitor
            return settle(self, flight, ray.exceptions.OutOfMemoryError("killed by the monitor"), in_vain=in_vain)

        monkeypatch.setattr(engine, "settle", for_memory)
        greedy = die_hungry.with_options(resources=lambda attempt: {"memory": f"{50 * attempt}MB"})

        def grows() -> Any:
            return greedy(log)

        assert self.value(grows) == (3, 150e6)
        retried = [event.reason for event in self.seen if isinstance(event, events.NodeRetried)]
        assert len(retried) == 2
        assert all("ran out of memory" in reason for reason in retried)

    def test_a_call_that_cannot_be_unpickled_does_not_fail_the_rest_of_its_bundle(self) -> None:
        log = self.log

        def mixed() -> Any:
            first = [t.show(log, n) for n in range(8)]
            for each in first:
                each.wait()  # from now on they are known to be quick, and are bundled
            many = [t.show(log, t.BreaksWhenLoaded() if n == 10 else n) for n in range(30)]
            return [each.result(raise_on_failure=False) for each in many]

        shown = self.value(mixed)
        assert isinstance(shown.pop(10), ZeroDivisionError)
        assert shown == [str(n) for n in range(30) if n != 10]

    # -- resources

    def test_ray_gives_a_call_the_resources_of_its_task(self) -> None:
        @task(resources={"cpu": 2, "memory": "50MB"})
        def assigned() -> Any:
            import ray

            return ray.get_runtime_context().get_assigned_resources()

        def asks() -> Any:
            return assigned()

        assert self.value(asks) == {"CPU": 2.0, "memory": 50e6}

    def test_the_capacity_is_that_of_the_cluster(self) -> None:
        engine = self.open_engine()
        try:
            capacity = dict(engine.capacity)
        finally:
            engine.close()
        assert (capacity["workers"], capacity["cpu"]) == (2.0, 2.0)
        assert capacity["memory"] > 0

    def test_resources_that_no_single_machine_has_are_an_error_at_once(self) -> None:
        from penstock.runners.ray.capacity import Nodes

        node = {"NodeID": "1", "Alive": True, "Resources": {"CPU": 4.0, "memory": 8e9}}
        gone = {"NodeID": "3", "Alive": False, "Resources": {"CPU": 64.0}}
        nodes = Nodes([node, node | {"NodeID": "2"}, gone], patience=60.0)
        nodes.check_fits("small", {"slots": 1.0, "cpu": 4.0, "memory": 1e9})
        with pytest.raises(RunnerError, match=r"no machine of the cluster has all of cpu 8 \(the most is 4\)"):
            nodes.check_fits("large", {"slots": 1.0, "cpu": 8.0})

    # -- addresses

    def test_a_ray_of_our_own_reaches_only_this_host(self) -> None:
        assert RayRunner().reach == "host"

    def test_another_address_than_the_one_connected_to_is_an_error(self) -> None:
        with pytest.raises(RunnerError, match="connected to another Ray"):
            RayRunner("ray://127.0.0.1:10001").open(self.context(), lambda _: None)

    def test_a_store_in_memory_is_refused(self) -> None:
        self.settings = load_settings(overrides={"store": "memory://here"})
        log = self.log
        with pytest.raises(ConfigurationError, match="cannot use MemoryStore"):
            self.value(lambda: t.double(log, 1))

    def test_a_worker_that_sees_another_store_is_an_error_that_says_so(self, tmp_path: Path) -> None:
        from penstock.runners.remote.setup import check_store

        store = open_store(str(tmp_path / "elsewhere"))
        with pytest.raises(RunnerError, match="does not see the run's store"):
            check_store(store, "runs/1/run.json")
        store.put("runs/1/run.json", b"{}")
        check_store(store, "runs/1/run.json")

    @pytest.mark.parametrize(
        ("address", "runner"),
        [
            ("ray", "RayRunner()"),
            ("ray?workers=2", "RayRunner(num_cpus=2)"),
            ("ray://head:10001", "RayRunner('ray://head:10001')"),
        ],
    )
    def test_an_address_names_a_runner(self, address: str, runner: str) -> None:
        assert repr(runner_from(address)) == runner
        assert load_settings(overrides={"runner": address}).runner == address

    def test_the_address_is_shown_without_its_secrets(self) -> None:
        runner = RayRunner("ray://host:10001", num_cpus=2, runtime_env={"env_vars": {"TOKEN": "hush"}})
        assert repr(runner) == "RayRunner('ray://host:10001', num_cpus=2)"

    # -- tools

    def context(self) -> WorkerContext:
        return WorkerContext(FlowRunInfo(), self.settings.store)

    def open_engine(self) -> Any:
        return RayRunner().open(self.context(), lambda _: None)

    def when_marked(self, name: str, act: Any) -> None:
        """Call `act` with the process id that a task left in `name.pid`, once, as soon as it exists."""
        path = Path(self.log, f"{name}.pid")

        def watch() -> None:
            deadline = time.monotonic() + PATIENCE
            while not path.exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            act(int(path.read_text()))

        threading.Thread(target=watch, daemon=True).start()


@pytest.mark.needs("distributed")
class TestRayBesideDask(RunnerBench):
    keeps_processes = True  # Dask's threads end some time later
    runner: Runner

    def make_runner(self, workers: int) -> Runner:
        return self.runner

    @pytest.mark.parametrize("outer", ["dask", "ray"])
    def test_a_flow_on_one_engine_inside_a_flow_on_the_other_is_a_separate_run(self, outer: str) -> None:
        on_ray, on_dask = RayRunner(), DaskRunner(workers=1, processes=False)
        runners: list[Any] = [on_dask, on_ray] if outer == "dask" else [on_ray, on_dask]
        log = self.log
        self.runner = runners[0]
        cached = t.text.with_options(cache_policy=INPUTS)

        @flow(runner=runners[1])
        def inside(text: Any) -> Any:
            return t.length(log, text), where()

        def outside() -> Any:
            text = cached(log, 100_000)
            length, there = inside(text)
            return length, there, where(), t.length(log, text, 1)

        length, there, here, longer = self.value(outside)
        assert (length, longer) == ((100_000, True), (100_001, True))
        assert [here, there] == ["dask", "ray"] if outer == "dask" else ["ray", "dask"]
        assert self.executions() == {"text": 1, "length": 2}


def engine_class() -> Any:
    from penstock.runners.ray import engine as ray_engine

    return ray_engine.RayEngine


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Unpicklable:
    def __init__(self, n: int) -> None:
        self.n = n

    def __reduce__(self) -> Any:
        raise TypeError("not by pickle")


class ByText:
    """A serializer for what pickle does not restore."""

    name, suffix, safe = "unpicklable", ".txt", True

    def can(self, value: Any) -> bool:
        return isinstance(value, Unpicklable)

    def write(self, value: Any, file: Any) -> None:
        file.write(str(value.n).encode())

    def read(self, data: memoryview, about: Any, *, limit: int) -> Any:
        return Unpicklable(int(bytes(data)))


@task(cache_policy=INPUTS, result_serializer=ByText())
def only_stored(n: int) -> Any:
    return Unpicklable(n)


@task
def interrupt_at_first() -> int:
    """At the first attempt, have the process interrupted as by `ray.cancel`; then return the attempt."""
    import _thread

    from penstock.runtime import task_run

    if task_run.run_count == 1:
        _thread.interrupt_main()
        time.sleep(PATIENCE)
    return int(task_run.run_count)


@task
def worker_of(n: int) -> int:
    time.sleep(0.05)  # so that all workers take part
    return os.getpid()


@task
def sizes_in(container: Any) -> Any:
    """Return the container with lengths instead of texts."""
    if isinstance(container, list | tuple):
        return type(container)(sizes_in.fn(each) for each in container)
    if isinstance(container, dict):
        return {name: sizes_in.fn(each) for name, each in container.items()}
    return len(container)


@task
def die_hungry(log: str) -> tuple[int, float]:
    """Be killed at the first two attempts; then return the attempt and its memory."""
    import ray

    from penstock.runtime import task_run

    if task_run.run_count < 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return task_run.run_count, ray.get_runtime_context().get_assigned_resources()["memory"]


@task
def where() -> str:
    """Return the engine on which it runs."""
    import ray

    in_ray = ray.is_initialized() and ray.get_runtime_context().worker.mode == ray.WORKER_MODE
    return "ray" if in_ray else "dask"


def kill_and_wait(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)


def leave_pid(log: str, name: str) -> None:
    path = Path(log, f"{name}.pid")
    path.with_suffix(".new").write_text(str(os.getpid()))
    path.with_suffix(".new").rename(path)


@task
def linger(log: str, seconds: float) -> int:
    """At the first attempt, wait to be killed; then return the attempt."""
    from penstock.runtime import task_run

    attempt = int(task_run.run_count)
    if attempt == 1:
        leave_pid(log, "linger")
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(0.01)
    return attempt


@task
def refuse_to_stop(log: str, seconds: float) -> None:
    leave_pid(log, "stubborn")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            time.sleep(0.01)
        except BaseException:  # noqa: BLE001, S112 (that it does not stop is under test)
            continue
