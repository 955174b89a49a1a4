"""`penstock runs` and `show`: what ran, how it ended, what failed and what took long."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import click

from penstock import events
from penstock.cli import run_removal
from penstock.cli.failures import skipped_calls
from penstock.cli.options import Invocation, json_option, shared_options
from penstock.cli.output import duration, moment, print_document, say, size, table
from penstock.cli.progress import held_by
from penstock.cli.run_log import RunLog
from penstock.cli.stored import find_run, state_of
from penstock.errors import StoreError, StoreUnreachable
from penstock.journals.journal import RunRecord, list_records, read_events
from penstock.objects.secrets import HIDDEN, is_secret_name, redacted_text
from penstock.objects.tracebacks import users_frames


@click.group(invoke_without_command=True)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="The number of runs to list.")
@json_option
@shared_options
@click.pass_obj
def runs(invocation: Invocation, limit: int) -> None:
    """List the runs of a store, latest first, or remove runs."""
    context = click.get_current_context()
    if context.invoked_subcommand is not None:
        return
    store = invocation.results().store
    records = list(itertools.islice(list_records(store), limit))
    if invocation.json:
        print_document("runs", {"store": store.url, "runs": [_facts(record) for record in records]})
        return
    if not records:
        say(f"no runs in {store.url}")
        return
    rows = [
        (
            record.id,
            record.flow,
            state_of(record),
            moment(record.started),
            duration(record.seconds),
            *(_counted(record, *names) for names in (("hit", "pruned"), ("executed",), ("failed",), ("not_run",))),
        )
        for record in records
    ]
    figures = ("took", "reused", "ran", "failed", "not run")
    say(table(("run", "flow", "state", "started", *figures), rows, right=figures))


runs.add_command(run_removal.rm)
runs.add_command(run_removal.gc)


@click.command()
@click.argument("run_id", default="last")
@json_option
@shared_options
@click.pass_obj
def show(invocation: Invocation, run_id: str) -> None:
    """Show one run: its tasks, its failures, its slowest calls.

    RUN_ID is the id of a run, the end of an id, or `last` (the default).
    """
    store = invocation.results().store
    record = find_run(store, run_id)
    log, unreadable = RunLog(), ""
    try:
        log = RunLog.of(read_events(store, record.id))
    except StoreUnreachable:
        raise
    except StoreError as error:  # the record is there all the same
        unreadable = str(error)
    if invocation.json:
        details = {
            "failures": [
                _plain(event, "node", "task", "attempt", "error", "message", "traceback") for event in log.failures
            ],
            "notes": [{"task": task, "note": note} for task, note in log.notes],
            "locks_lost": log.locks_lost,
            "locks_down": [_plain(event, "at", "doing", "reason", "unlocked") for event in log.outages.values()],
            "waits": [
                {**_plain(event, "node", "task", "key", "holder", "since"), "seconds": seconds}
                for event, seconds in log.waits.values()
            ],
            "slowest": [_plain(event, "node", "task", "attempt", "seconds", "size", "worker") for event in log.slowest],
        }
        print_document("show", {"run": _facts(record), **details})
        return
    say(_head(record))
    for title, text in (
        ("tasks", _tasks(record)),
        ("failures", _failures(log, debug=invocation.debug)),
        ("notes", "\n".join(f"{task}: {note}" for task, note in log.notes)),
        ("waited for others", _waited(list(log.waits.values()))),
        ("locks", _locks(log.locks_lost, list(log.outages.values()))),
        ("slowest", _slowest(log.slowest)),
        ("log", unreadable),
    ):
        if text:
            say(f"\n{title}\n{_indented(text)}")


def _facts(record: RunRecord) -> dict[str, Any]:
    """A record as `--json` prints it; fields that are not set included."""
    return {
        "id": record.id,
        "flow": record.flow,
        "entry": record.entry,
        "parameters": _parameters(record),
        "resumable": record.resumable,
        "state": state_of(record),
        "runner": record.runner,
        "host": record.host,
        "pid": record.pid,
        "started": record.started,
        "finished": record.finished,
        "seconds": record.seconds,
        "attempts": record.attempts,
        "counts": record.counts,
        "tasks": record.tasks,
        "stats": record.stats,
        "error": record.error,
    }


def _parameters(record: RunRecord) -> dict[str, str]:
    """As the record has them, without what an older one may show."""
    return {name: HIDDEN if is_secret_name(name) else redacted_text(text) for name, text in record.parameters.items()}


def _plain(event: events.Event, *names: str) -> dict[str, Any]:
    return {name: getattr(event, name) for name in names}


def _counted(record: RunRecord, *names: str) -> str:
    return str(sum(record.counts.get(name, 0) for name in names)) if record.counts else ""


def _head(record: RunRecord) -> str:
    lines = {
        "run": record.id,
        "flow": f"{record.flow}  ({record.entry})",
        "state": state_of(record) + (f", started {record.attempts} times" if record.attempts > 1 else ""),
        "started": moment(record.started),
        "took": duration(record.seconds),
        "runner": record.runner,
        "process": f"{record.pid} on {record.host}",
        **{f"  {name}": value for name, value in _parameters(record).items()},
        "error": _indented(record.error).strip(),
    }
    width = max(len(name) for name in lines)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines.items() if value)


def _tasks(record: RunRecord) -> str:
    names = list(dict.fromkeys(name for counts in record.tasks.values() for name in counts))
    kept = [name for name in names if any(counts.get(name) for counts in record.tasks.values())]
    rows = [(task, *(counts.get(name) or "." for name in kept)) for task, counts in record.tasks.items()]
    headings = [name.replace("_", " ") for name in kept]
    return table(("task", *headings), rows, right=headings) if rows else ""


def _failures(log: RunLog, *, debug: bool) -> str:
    shown = [_failure(event, debug=debug) for event in log.failures]
    more = log.failed - len(shown)
    return "\n".join([*shown, *([f"{more} more, in the log"] if more else [])])


def _failure(event: events.NodeFailed, *, debug: bool) -> str:
    head = f"{event.task} (node {event.node}, attempt {event.attempt}): {event.error}: {event.message}"
    if event.skipped:
        head += f"\n{skipped_calls(event)}"
    text = event.traceback if debug else users_frames(event.traceback)
    return f"{head}\n{_indented(text.rstrip())}" if text else head


def _waited(waits: Sequence[tuple[events.NodeParked, float | None]]) -> str:
    groups: dict[tuple[str, str], list[tuple[events.NodeParked, float | None]]] = {}
    for event, seconds in waits:
        groups.setdefault((event.task, held_by(event) if seconds is None else _run_of(event)), []).append(
            (event, seconds)
        )
    lines = []
    for (task, whom), group in groups.items():
        times = [seconds for _, seconds in group if seconds is not None]
        how = f"waited up to {duration(max(times))} for {whom}" if times else f"waiting for {whom}"
        lines.append(f"{task}: {len(group)} {how}")
    return "\n".join(lines)


def _run_of(event: events.NodeParked) -> str:
    if "limit" in event.holder:
        return held_by(event)
    run, host = event.holder.get("run"), event.holder.get("host")
    return (f"run {run}" if run else "somebody") + (f" on {host}" if host else "")


def _locks(lost: int, outages: Sequence[events.LocksDown]) -> str:
    lines = [f"the lease ran out {lost} times"] if lost else []
    for text in dict.fromkeys(f"cannot {event.doing}: {event.reason}" for event in outages):
        lines.append(text)
    if any(event.unlocked for event in outages):
        lines.append("tasks ran without locks")
    return "\n".join(lines)


def _slowest(finished: Sequence[events.NodeFinished]) -> str:
    rows = [(event.task, event.node, duration(event.seconds), size(event.size), event.worker) for event in finished]
    return table(("task", "node", "took", "size", "worker"), rows, right=("node", "took", "size")) if rows else ""


def _indented(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())
