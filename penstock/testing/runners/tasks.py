"""Tasks for the conformance suite of runners. Each leaves a mark in a folder when it runs."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from penstock.runtime import flow_run, task_run
from penstock.tasks import task

if TYPE_CHECKING:  # not imported by workers without tables
    import pyarrow.dataset


def mark(log: str, name: str) -> None:
    """Record that `name` runs, in a file of its own, so that no process can overwrite the mark of another."""
    path = os.path.join(log, f"{name}@{uuid.uuid4().hex}")
    os.close(os.open(path, os.O_CREAT | os.O_EXCL))


def marks(log: str, name: str) -> int:
    """Return how many times `name` was marked."""
    return sum(each.startswith(f"{name}@") for each in os.listdir(log))


def until_marked(log: str, name: str, seconds: float) -> bool:
    """Wait for a mark. Return False if there is none after `seconds`."""
    deadline = time.monotonic() + seconds
    while not marks(log, name):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


class Unpicklable(Exception):
    """An exception that cannot be restored from its arguments."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")


class BreaksWhenLoaded:
    """An object that can be pickled but not unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (divmod, (1, 0))


class MarksReading:
    """An object that is unpickled as a text, and leaves a mark with the process id each time."""

    def __init__(self, log: str) -> None:
        self.log = log

    def __reduce__(self) -> tuple[Any, ...]:
        return (_marked_text, (self.log,))


def _marked_text(log: str) -> str:
    mark(log, f"read {os.getpid()}")
    return "x" * 100_000


@task
def marks_reading(log: str) -> Any:
    mark(log, "marks_reading")
    return MarksReading(log)


@task
def count_and_clear(log: str, data: bytearray, numbers: list[int], n: Any) -> tuple[int, int, int]:
    """Return what the arguments contain, and then clear them."""
    found = len(data), data[0], sum(numbers)
    data.clear()
    numbers.clear()
    return found


@task
def reads(log: str, value: str, n: int) -> tuple[int, int]:
    """Return the process id and the length of the value."""
    time.sleep(0.02)  # so that one worker does not take all of them
    return os.getpid(), len(value) + n


@task
def until(log: str, name: str, seconds: float, n: int) -> int:
    mark(log, f"until {n}")
    assert until_marked(log, name, seconds)
    return n


@task
def double(log: str, n: Any) -> Any:
    mark(log, "double")
    return n * 2


@task
def add(log: str, a: Any, b: Any) -> Any:
    mark(log, "add")
    return a + b


@task
def total(log: str, items: Any) -> Any:
    mark(log, "total")
    return sum(items)


@task
def show(log: str, value: Any) -> str:
    mark(log, "show")
    return repr(value)


@task
def make_record(log: str, n: int) -> dict[str, Any]:
    mark(log, "make_record")
    return {"n": n, "point": complex(1, n + 2)}


@task
def numbers(log: str, count: int) -> list[int]:
    mark(log, "numbers")
    return list(range(count))


@task
def append_to(log: str, items: list[int], item: int) -> list[int]:
    mark(log, "append_to")
    items.append(item)
    return items


@task
def text(log: str, size: int) -> str:
    mark(log, "text")
    return "x" * size


@task
def length(log: str, value: str, more: int = 0) -> tuple[int, bool]:
    mark(log, "length")
    return len(value) + more, set(value) == {"x"}


@task
def table(log: str, rows: int) -> Iterator[Any]:
    import pyarrow

    mark(log, "table")
    for start in range(0, rows, 1_000):
        yield pyarrow.record_batch({"n": range(start, min(start + 1_000, rows))})


@task
def rows_of(log: str, table: pyarrow.dataset.Dataset) -> int:
    mark(log, "rows_of")
    return int(table.count_rows())


@task
def moment(log: str, name: str) -> float:
    mark(log, "moment")
    return time.time()


@task
def nap(log: str, name: str, seconds: float) -> float:
    mark(log, "nap")
    time.sleep(seconds)
    return time.time()


@task
def spin(log: str, seconds: float) -> None:
    """Run Python code for some time, so that every engine can interrupt it."""
    mark(log, "spin")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.001)


@task
def slow_at_first(log: str, seconds: float) -> int:
    mark(log, "slow_at_first")
    deadline = time.monotonic() + (seconds if task_run.run_count == 1 else 0)
    while time.monotonic() < deadline:
        time.sleep(0.001)
    return int(task_run.run_count)


@task
def meet(log: str, me: str, other: str, seconds: float) -> bool:
    """Return whether the call named `other` runs at the same time."""
    mark(log, me)
    return until_marked(log, other, seconds)


@task
def wait_for_mark(log: str, name: str, seconds: float) -> bool:
    return until_marked(log, name, seconds)


@task
def alone(log: str, n: int) -> int:
    """Fail if another call runs at the same time."""
    path = os.path.join(log, "alone@now")
    os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    time.sleep(0.02)
    os.unlink(path)
    return n


@task
def fail(log: str, message: str) -> NoReturn:
    mark(log, "fail")
    raise ValueError(message)


@task
def fail_unpicklably(log: str) -> NoReturn:
    mark(log, "fail_unpicklably")
    raise Unpicklable("two", "parts")


class HoldsLock(Exception):
    """An exception that can only leave its process as text."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


@task
def fail_after_others(log: str, how: str) -> NoReturn:
    """Fail because of a `KeyError`, or while one is handled, which has an `OSError` as its cause."""
    mark(log, "fail_after_others")
    try:
        raise KeyError("earlier") from OSError("first")
    except KeyError as earlier:
        if how == "while":
            raise ValueError("failed")  # noqa: B904 (without a cause)
        if how == "from None":
            raise ValueError("failed") from None
        if how == "unpicklable":
            locked = HoldsLock("locked")
            locked.__cause__ = earlier
            raise ValueError("failed") from locked
        if how == "group":
            inner = ValueError("inner")
            inner.__cause__ = earlier
            raise ExceptionGroup("outer", [ExceptionGroup("middle", [inner])]) from earlier
        raise ValueError("failed") from earlier


@task
def flaky(log: str, name: str, succeeds_at: int) -> int:
    """Fail until the attempt `succeeds_at`."""
    mark(log, "flaky")
    attempt = int(task_run.run_count)
    if attempt < succeeds_at:
        raise ValueError(f"attempt {attempt}")
    return attempt


@task
def make_lock(log: str) -> Any:
    """Return an object that cannot be pickled."""
    mark(log, "make_lock")
    return threading.Lock()


@task
async def async_double(log: str, n: int) -> int:
    mark(log, "async_double")
    return n * 2


@task
def stream(log: str, count: int) -> Any:
    mark(log, "stream")
    yield from range(count)


@task
def say(log: str, line: str) -> None:
    print(line)  # noqa: T201 (that prints are caught is under test)


@task
def about_the_run(log: str, n: int) -> dict[str, Any]:
    if task_run.run_count == 1:
        raise ValueError("first attempt")
    parameters = {name: value for name, value in task_run.parameters.items() if name != "log"}
    return {
        "flow": (flow_run.flow_name, flow_run.id, flow_run.run_count, flow_run.tags),
        "task": (task_run.task_name, task_run.run_count, task_run.tags, parameters, task_run.flow_run_id),
    }


@task
def calls_another(log: str, n: int) -> int:
    doubled: int = double(log, n)
    return doubled + 1


@task
def leave(log: str) -> NoReturn:
    mark(log, "leave")
    raise SystemExit(3)


def caught(future: Any) -> str:
    """Return the name of the type of what a future raises."""
    try:
        future.result()
    except BaseException as error:  # noqa: BLE001 (its type is asked for)
        return type(error).__name__
    return "nothing"


@task
def die_at_first(log: str) -> int:
    """Kill the process in the first attempt."""
    tried = marks(log, "die_at_first")
    mark(log, "die_at_first")
    if not tried:
        os.kill(os.getpid(), signal.SIGKILL)
    return tried + 1


@task
def die(log: str) -> None:
    mark(log, "die")
    os.kill(os.getpid(), signal.SIGKILL)
