"""Measure the tests: make small changes in the source, one at a time, and see whether a test fails.

    python -m tests.mutants [--count 300] [--seed penstock] [--processes 2]

First, run the quick tests once and record the lines that each reaches. `--reach TEST …` measures only some tests again,
`--known` none. Then run, for each sampled mutant, the tests that reach it. `--again` tries only the survivors of the
last run. The exit code is 1 if less than 95 % of the mutants that are not equivalent were caught.
"""

from __future__ import annotations

import argparse
import json
import queue
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.mutants.changes import Change
from tests.mutants.lane import Lane
from tests.mutants.reach import FOLDER, HELPING, Reach, measure
from tests.mutants.sample import ROOMS, ROOT, modules, room, sample
from tests.mutants.survivors import entry, kept

WANTED = 0.95
OUTCOMES = FOLDER / "outcomes.json"


class Judges:
    """Try mutants in several lanes, each with its own copy of the tree."""

    def __init__(self, reach: Reach, processes: int) -> None:
        self._reach = reach
        self._lanes: queue.Queue[Lane] = queue.Queue()
        for number in range(processes):
            self._lanes.put(Lane(FOLDER / f"tree{number}"))
        self._unsound: set[str] = set()
        """Tests that fail on the unchanged source, alone or beside others: they prove nothing."""
        self._outcomes: dict[str, str] = json.loads(OUTCOMES.read_text()) if OUTCOMES.exists() else {}
        self._writing = threading.Lock()

    def close(self) -> None:
        while not self._lanes.empty():
            self._lanes.get().close()

    def outcome(self, change: Change) -> str | None:
        return self._outcomes.get(_name(change))

    def judge(self, change: Change) -> None:
        lane = self._lanes.get()
        try:
            outcome = self._judged(lane, change)
        finally:
            self._lanes.put(lane)
        with self._writing:
            self._outcomes[_name(change)] = outcome
            OUTCOMES.write_text(json.dumps(self._outcomes, indent=1))
        print(f"{change.file}:{change.line} {outcome}", flush=True)

    def _judged(self, lane: Lane, change: Change) -> str:
        mutant = change.applied((ROOT / change.file).read_bytes())
        tests = [test for test in self._reach.tests(change) if test not in self._unsound]
        for helping in (tests[:HELPING], tests[HELPING:]):
            if not helping:
                continue
            answer = self._asked(lane, change.file, mutant, helping)
            if answer["failed"]:
                return f"failed: {answer['failed']}"
            if answer["how"] != "passed":
                without = self._asked(lane, change.file, None, helping)["how"]
                return f"{answer['how']}: {helping[0]}" if without == "passed" else "not tried"
        return "survived"

    def prove(self) -> set[str]:
        """Run every test that caught something on the unchanged source; return the mutants that are open again."""
        lane = self._lanes.get()
        while True:
            blamed = {outcome.removeprefix("failed: ") for outcome in self._outcomes.values() if "::" in outcome}
            tests = sorted(test for test in blamed - self._unsound if test in self._reach.times)
            answer = self._asked(lane, modules()[0], None, tests)
            failed = answer["failed"]
            if answer["how"] == "passed":
                break
            if failed is None:
                raise RuntimeError(f"the tests that caught something cannot be run without a mutant: {answer['how']}")
            self._unsound.add(failed)
            print(f"fails without a mutant: {failed}", flush=True)
        self._lanes.put(lane)
        again = {name for name, outcome in self._outcomes.items() if outcome.removeprefix("failed: ") in self._unsound}
        self._outcomes = {name: outcome for name, outcome in self._outcomes.items() if name not in again}
        return again

    def _asked(self, lane: Lane, file: str, mutant: bytes | None, tests: list[str]) -> dict[str, Any]:
        seconds = 60 + 15 * sum(self._reach.times.get(test, 1) for test in tests)
        return lane.ask(file, mutant, tests, seconds)


def _name(change: Change) -> str:
    return "\n".join(change.name)


def report(sampled: list[Change], judges: Judges, reach: Reach) -> int:
    reasons = kept()
    rows = {each: Counter[str]() for each in ROOMS}
    survivors = []
    for change in sampled:
        outcome = judges.outcome(change) or "not tried"
        if outcome not in ("survived", "not tried"):
            outcome = "caught"
        elif change.name in reasons:
            outcome = "equivalent"
        else:
            survivors.append(change)
        rows[room(change.file)][outcome] += 1
    columns = ["caught", "survived", "equivalent", "not tried"]
    print(f"\n{'':26}" + "".join(f"{column:>12}" for column in columns))
    total = sum(rows.values(), Counter[str]())
    for name, row in [*rows.items(), ("all", total)]:
        print(f"{name:26}" + "".join(f"{row[column]:12}" for column in columns))
    for change in survivors:
        print(f"\n{change}")
        if reach.left_out(change):
            print(f"      (tried with {len(reach.tests(change))} tests; {reach.left_out(change)} more reach it)")
    (FOLDER / "survivors.toml").write_text("\n".join(entry(change) for change in survivors), encoding="utf-8")
    counted = len(sampled) - total["equivalent"]
    caught = total["caught"] / max(1, counted)
    print(f"\n{caught:.1%} of {counted} mutants that are not equivalent were caught; wanted: {WANTED:.0%}")
    return 0 if caught >= WANTED else 1


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.mutants")
    options.add_argument("--count", type=int, default=300)
    options.add_argument("--seed", default="penstock")
    options.add_argument("--processes", type=int, default=2)
    options.add_argument("--seconds", type=float, default=60, help="what the tests for one mutant may take in all")
    options.add_argument("--reach", nargs="*", metavar="TEST", help="measure these tests again, and only them")
    options.add_argument("--known", action="store_true", help="measure nothing: what tests reach is known")
    options.add_argument("--again", action="store_true", help="only what survived the last time, or was not tried")
    options.add_argument("--of", default="", help="only modules whose path begins so")
    given = options.parse_args()
    if not given.known:
        measure(given.reach or [], given.processes)
    sampled = [change for change in sample(given.count, given.seed) if change.file.startswith(given.of)]
    if not given.again:
        OUTCOMES.unlink(missing_ok=True)
    reach = Reach(sampled, given.seconds)
    judges = Judges(reach, given.processes)
    reasons = kept()
    asked = [
        change
        for change in sampled
        if judges.outcome(change) in (None, "survived", "not tried") and change.name not in reasons
    ]
    while asked:
        with ThreadPoolExecutor(given.processes) as pool:
            for done in [pool.submit(judges.judge, change) for change in asked]:
                done.result()
        again = judges.prove()
        asked = [change for change in asked if _name(change) in again]
    judges.close()
    return report(sampled, judges, reach)


if __name__ == "__main__":
    sys.exit(main())
