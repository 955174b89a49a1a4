"""The README's figures, written from those that were kept last: no number is there that no command gave."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import penstock
from benchmarks.figures import Figure, Measured, from_json, told
from benchmarks.sampling import ROOT

README = ROOT / "README.md"
BEGIN, END = "<!-- written by `python -m benchmarks readme` -->", "<!-- until here -->"


@dataclass(frozen=True)
class Row:
    """A line of the table. `{NAME}` stands for a figure, `{NAME, NAME}` for all between the least and the
    most, `{wall: NAME}` for a time on the wall."""

    what: str
    measured: str
    remark: str = ""
    """Said where a promise of `measured` is missed."""


def _both(names: str) -> str:
    """A time of the processor, and what it was on the wall beside the machine's other work."""
    return f"{{{names}}} ({{wall: {names}}} on the wall)"


ROWS = (
    Row("trace a node and compute its key", _both("tracing.fan, tracing.chain, tracing.layers")),
    Row("memory of a graph of 1 000 000 nodes", "{graphs.fan.memory, graphs.chain.memory}"),
    Row("memory of each of its nodes", "{graphs.fan.node, graphs.chain.node}"),
    Row("plan 10 000 cached nodes, tracing included", _both("warm.plan")),
    Row(
        "memory of a cached node in a plan, a cold run, a warm run",
        "{graphs.plan.node, graphs.cold.node, graphs.warm.node}",
    ),
    Row("look up and reuse one cached result (`joblib.Memory`: {warm.joblib})", _both("warm.node")),
    Row("look-ups of a cached result with 1 000 cached inputs", "{warm.fan_in.lookups}"),
    Row("run one plain task in a flow (a bare thread pool: {workers.pool})", _both("workers.plain, workers.chain")),
    Row(
        "run a cached task and publish its result, synced (`joblib.Memory`, not synced: {workers.joblib})",
        "{workers.cached}",
        "The disk's part is what a call takes to publish: without its syncs it is {workers.cached.unsynced}.",
    ),
    Row("run a task that returns an 80 MiB table, publish it", "{tables_io.write.speed} of pyarrow's speed"),
    Row("load that table, size and checksum verified", "{tables_io.read.speed} of pyarrow's speed"),
    Row(
        "10 000 trivial tasks on Dask / Ray, against the bare engine",
        "{dask.independent.faster} / {ray.independent.faster} as fast",
    ),
    Row(
        "a chain of 1 000 on Dask / Ray, against the bare engine",
        "{dask.chain.faster} / {ray.chain.faster} as fast",
        "A link of a chain takes {dask.chain} on Dask and {ray.chain} on Ray; "
        "bare Ray ({ray.chain.bare}) is quicker than bare Dask ({dask.chain.bare}).",
    ),
    Row(
        "100 ms tasks on Dask / Ray, against the bare engine",
        "{dask.sleeping.against_bare} / {ray.sleeping.against_bare} the time",
    ),
    Row(
        "memory that 2 GB of results on Dask / Ray add to the driver",
        "{memory.dask.plain, memory.dask.cached} / {memory.ray.plain, memory.ray.cached}",
    ),
    Row(
        "plan 10 000 cached nodes in a bucket, with a look-up index (without: {buckets.plan})",
        "{buckets.plan.index}, {buckets.plan.index.requests} requests",
    ),
    Row("a task yields a table of 512 MiB into a bucket: speed against pyarrow and s3fs", "{large.stream.speed}"),
    Row("a task yields a table of 2 GiB into a bucket: memory of its worker", "{large.whole.memory}"),
    Row("a waiter wakes after the result it waits for is there, Redis", "{locks.wake}"),
    Row("a run of 10 000 nodes with locks in Redis, against one without", "{locks.serializable.ratio} the time"),
    Row(
        "2 000 tiny cached tasks, computed once by locks in files / Redis, against no locks",
        "{locks.files.ratio} / {locks.redis.ratio} the time",
    ),
    Row("8 runs on 4 Dask clusters that want the same 1 000 keys: executions", "{clusters.executions}"),
    Row("`from penstock import flow, task`, beyond a bare interpreter", _both("imports.beyond")),
)  # fmt: skip


def kept_file() -> Path:
    """Where the figures of this version are kept."""
    return ROOT / "benchmarks" / "results" / f"{penstock.__version__}.json"


def _newest() -> dict[str, Measured]:
    """What was kept last."""
    kept = [from_json(file) for file in kept_file().parent.glob("*.json")]
    return max(kept, key=lambda each: max(measured.began for measured in each.values()))


def write() -> None:
    """Put the table into the README."""
    README.write_text(_with_section(README.read_text(encoding="utf-8"), _section()), encoding="utf-8")


def is_current() -> bool:
    """Whether the README has the table of the figures that were kept last."""
    text = README.read_text(encoding="utf-8")
    return text == _with_section(text, _section())


def _with_section(text: str, section: str) -> str:
    before, found, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (found and ended):
        raise ValueError(f"README.md has no place for the figures, between the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{section}{END}{after}"


def _section() -> str:
    kept = _newest()
    figures = {f"{name}.{figure.name}": figure for name, each in kept.items() for figure in each.figures}
    lines = [_where(kept, figures), "", "| what | measured | promised |", "| --- | --- | --- |"]
    remarks, missed, absent = [], 0, 0
    for row in ROWS:
        named = [figures[name] for name in _names(row.measured) if name in figures]
        if not named:
            absent += 1
            continue
        promises = list(dict.fromkeys(_promise(figure) for figure in named if figure.promise is not None))
        broken = any(figure.kept is False for figure in named)
        missed += broken
        promised = " / ".join(promises) + (" (missed)" if broken else "")
        lines.append(f"| {_filled(row.what.strip(), figures)} | {_filled(row.measured, figures)} | {promised} |")
        if broken and row.remark:
            remarks.append(_filled(row.remark, figures))
    count = {0: "No promise is missed.", 1: "One promise is missed."}.get(missed, f"{missed} promises are missed.")
    if absent:
        remarks.append(f"Not measured on this machine: {absent} more.")
    return "\n".join([*lines, "", *_wrapped(" ".join([count, *remarks])), ""])


def _where(kept: Mapping[str, Measured], figures: Mapping[str, Figure]) -> str:
    loads = [load for each in kept.values() for load in each.load]
    machines = " and ".join(dict.fromkeys(each.machine for each in kept.values()))
    load = f"a load of {min(loads):.1f} to {max(loads):.1f}, with what is measured"
    times = "times are the shortest of some repeats, and the processor's where nothing is waited for"
    disk = "; a disk that takes {workers.by_hand} to sync a new file, its folder and the folder above"
    told_disk = _filled(disk, figures) if "workers.by_hand" in figures else ""
    return "\n".join(_wrapped(f"{machines}; {load}; {times}{told_disk}:"))


def _names(template: str) -> Iterator[str]:
    for group in re.findall(r"\{([^}]+)\}", template):
        yield from group.removeprefix("wall: ").split(", ")


def _filled(template: str, figures: Mapping[str, Figure]) -> str:
    def value(match: re.Match[str]) -> str:
        names = match[1].removeprefix("wall: ")
        found = [figures[name] for name in names.split(", ") if name in figures]
        values = [figure.value if names == match[1] else figure.wall or 0.0 for figure in found]
        if not values:
            return "not measured"
        ends = dict.fromkeys([told(min(values)), told(max(values))])
        return f"{'–'.join(ends)} {_unit(found[0])}".rstrip()

    return re.sub(r"\{([^}]+)\}", value, template)


def _promise(figure: Figure) -> str:
    return f"{told(figure.promise or 0.0)} {_unit(figure)}".rstrip()


def _unit(figure: Figure) -> str:
    return {"x": "times"}.get(figure.unit, figure.unit)


def _wrapped(text: str, width: int = 120) -> list[str]:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
