"""Tell the story of one store and two pipelines: what is computed, what is reused, what an edit costs.

Run it from the folder that holds `examples`:

    python -m examples.tpch.demo                     the whole story
    python -m examples.tpch.demo --step nightly      one run; edit a task and run it again

Every step is a Python process of its own. Only the store connects them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import penstock
from penstock import Flow

from .churn import churn
from .data import generate
from .forecast import forecast
from .nightly import nightly

HERE = Path(__file__).parent
FLOWS: dict[str, Flow[..., Any]] = {"churn": churn, "forecast": forecast, "nightly": nightly}
RUNNERS = ("threads", "processes", "dask", "ray")
COUNTS = ("hit", "pruned", "executed")


class Edit(NamedTuple):
    """A change of one line in one module of this example."""

    module: str
    before: str
    after: str


NEW_DEFINITION = Edit("features.py", "TREND_DAYS = 180", "TREND_DAYS = 90")
REFACTORING = Edit("data.py", 'pl.col("l_returnflag") == "R"', 'pl.col("l_returnflag").eq("R")')


def main() -> None:
    options = parse_arguments()
    generate(options.data, scale=options.scale)
    if options.step:
        run_step(options.step, str(options.data), runner=options.runner, store=str(options.store))
    else:
        tell_story(options)


def tell_story(options: argparse.Namespace) -> None:
    """All steps, in order, then a look into the store without Penstock."""
    if options.fresh:
        empty_store(options.store)
    data = options.data
    began = time.perf_counter()
    print(f"TPC-H tables: {shortened(data)}\nstore:        {shortened(options.store)}\nrunner:       {options.runner}")

    with tempfile.TemporaryDirectory(prefix="penstock-demo-") as scratch:
        copy = working_copy(Path(scratch, "code"))
        moved = Path(shutil.copytree(data, Path(scratch, "moved")))

        title(1, "churn: clean the tables, build features, train a model")
        start_step("churn", options, code=copy, data=data)
        title(2, "forecast: another pipeline, the same features")
        start_step("forecast", options, code=copy, data=data)
        title(3, "both, again")
        start_step("nightly", options, code=copy, data=data)
        title(4, "both, with the same data in another folder")
        start_step("nightly", options, code=copy, data=moved)
        title(5, "both, after a feature was defined anew")
        make_edit(copy, NEW_DEFINITION)
        start_step("nightly", options, code=copy, data=data)
        title(6, "both, after a line was written differently that means the same")
        make_edit(copy, REFACTORING)
        start_step("nightly", options, code=copy, data=data)

    title(7, "the feature table, read by DuckDB")
    query_features(options.store)
    print(f"\nAll of it took {time.perf_counter() - began:.0f} s.")


def run_step(name: str, data: str, *, runner: str, store: str) -> None:
    """Run one flow in this process and print what became of each task."""
    run = FLOWS[name].with_options(runner=runner, result_storage=store).run(data)
    result = run.result()
    print(f"   {'task':<24}" + "".join(f"{count:>10}" for count in COUNTS))
    for task_name, counts in run.by_task().items():
        print(f"   {task_name:<24}" + "".join(f"{counts.get(count, 0) or '.':>10}" for count in COUNTS))
    for metrics in result.values() if name == "nightly" else [result]:
        print("   " + ", ".join(f"{metric} {value:,}" for metric, value in metrics.items()))
    reused = run.counts["hit"] + run.counts["pruned"]
    print(f"   reused {reused}, ran {run.counts['executed']}, {run.seconds:.1f} s", flush=True)


def start_step(name: str, options: argparse.Namespace, *, code: Path, data: Path) -> None:
    """Run one flow in a new process, with the code of the working copy."""
    command = [sys.executable, "-m", "examples.tpch.demo", "--step", name, "--runner", options.runner]
    command += ["--data", str(data), "--store", str(options.store)]
    # The working copy comes first; a Penstock that is not installed is found as well.
    path = [str(code), str(Path(penstock.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))}
    if subprocess.run(command, cwd=code, env=environment, check=False).returncode != 0:
        raise SystemExit("that step failed, so the story ends here")


def working_copy(folder: Path) -> Path:
    """A copy of this example's code that can be edited; returns the folder to run it from."""
    shutil.copytree(HERE, folder / "examples" / "tpch", ignore=shutil.ignore_patterns(".data", "__pycache__"))
    return folder


def make_edit(copy: Path, edit: Edit) -> None:
    """Change the line in the working copy and show the difference."""
    path = copy / "examples" / "tpch" / edit.module
    source = path.read_text(encoding="utf-8")
    if source.count(edit.before) != 1:
        raise SystemExit(f"{edit.module} was changed: this demo no longer finds {edit.before!r} in it once")
    path.write_text(source.replace(edit.before, edit.after), encoding="utf-8")
    print(f"   {edit.module}:  - {edit.before}\n   {' ' * len(edit.module)}   + {edit.after}")


def query_features(store: Path) -> None:
    """Read the newest feature table straight from the store's folder."""
    import duckdb

    newest = max(store.glob("results/*customer_features*/*/*.parquet"), key=lambda path: path.stat().st_mtime)
    query = """
        SELECT segment, count(*) AS customers, avg(monetary) AS spent, 100 * avg(return_rate) AS returned
        FROM read_parquet(?) GROUP BY segment ORDER BY segment
    """
    print(f"   {shortened(newest.parent)}/\n   {newest.name}")
    print(f"   {'segment':<24}{'customers':>10}{'spent':>12}{'returned':>10}")
    for segment, customers, spent, returned in duckdb.execute(query, [str(newest)]).fetchall():
        print(f"   {segment:<24}{customers:>10,}{spent:>12,.0f}{returned:>8.1f} %")


def empty_store(store: Path) -> None:
    """Delete the store, if it is one."""
    if not store.exists():
        return
    if not (store / "penstock.json").exists():
        raise SystemExit(f"{store} does not look like a store, so it stays as it is")
    shutil.rmtree(store)


def title(number: int, text: str) -> None:
    print(f"\n{number}  {text}", flush=True)


def shortened(path: Path) -> str:
    """The path as seen from the current folder, if it lies below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.tpch.demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runner", choices=RUNNERS, default="threads", help="where tasks run (default: %(default)s)")
    parser.add_argument("--scale", type=float, default=0.05, help="TPC-H scale factor (default: %(default)s)")
    parser.add_argument("--data", type=Path, help="folder of the tables; generated there if it does not exist")
    parser.add_argument("--store", type=Path, default=HERE / ".data" / "store", help="folder of the results")
    parser.add_argument("--fresh", action="store_true", help="start with an empty store")
    parser.add_argument("--step", choices=FLOWS, help="run one flow only, with the code as it is")
    options = parser.parse_args()
    options.data = (options.data or HERE / ".data" / f"sf{options.scale:g}").absolute()
    options.store = options.store.absolute()
    return options


if __name__ == "__main__":
    main()
