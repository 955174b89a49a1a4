"""Finding what is stored by what people type: a run by the end of its id, a result by the beginning of its key."""

from __future__ import annotations

import os

from penstock.errors import UsageError
from penstock.journals.journal import RunRecord, process_of, read_record
from penstock.objects.texts import closest, did_you_mean
from penstock.process.identity import ProcessIdentity
from penstock.storage.records.records import FORMAT_NAME
from penstock.storage.results import maintenance
from penstock.storage.results.maintenance import Summary
from penstock.storage.results.store import ResultStore
from penstock.storage.stores.base import Store


def check_is_there(store: Store) -> None:
    """Raise `UsageError` if nothing was ever stored there, as at a mistyped address."""
    if store.get(FORMAT_NAME) is not None or any(next(iter(store.list(part)), None) for part in _PARTS):
        return
    path = store.local_path("results")
    folder, name = os.path.split(os.path.dirname(path)) if path else ("", "")
    try:
        beside = [entry.name for entry in os.scandir(folder) if entry.is_dir()] if path else []
    except OSError:
        beside = []
    close = closest(name, beside)
    otherwise = "`penstock config show` shows the store of the settings"
    hint = f"did you mean {os.path.join(folder, close)}?" if close else otherwise
    raise UsageError("there is no store here", where=store.url, because="nothing was ever stored in it", hint=hint)


_PARTS = ("results/", "runs/", "limits/")


def find_run(store: Store, text: str) -> RunRecord:
    """The run with this id, the only one whose id ends so, or `last`; raises `UsageError` if there is none."""
    ids = sorted({entry.name.split("/")[1] for entry in store.list("runs/") if entry.name.endswith("/run.json")})
    if text == "last" and ids:
        return read_record(store, ids[-1])
    found = [text] if text in ids else [each for each in ids if text and each.endswith(text)]
    if len(found) == 1:
        return read_record(store, found[0])
    if found:
        raise UsageError(f"{len(found)} runs end in {text}", hint=f"one of {', '.join(found[-5:])}")
    hint = did_you_mean(text, ids, "`penstock runs` lists the runs of a store")
    raise UsageError(f"there is no run {text}", where=store.url, hint=hint)


def is_running(record: RunRecord) -> bool:
    """True only if the run's process certainly is alive: a process of this machine, and not gone."""
    process, here = process_of(record), ProcessIdentity.current()
    if record.state != "running" or not process.started or not here.boot:
        return False
    same = (process.host, process.boot, process.namespace) == (here.host, here.boot, here.namespace)
    return same and not process.is_gone()


def may_go_on(record: RunRecord) -> bool:
    """False only if the run has ended, or its process certainly is gone."""
    return record.state == "running" and not process_of(record).is_gone()


def state_of(record: RunRecord) -> str:
    """The state of a run; `killed` if it never ended and its process certainly is gone."""
    return "killed" if record.state == "running" and process_of(record).is_gone() else record.state


def find_result(results: ResultStore, text: str, *, for_all: str = "") -> Summary:
    """The current result whose key begins so; raises `UsageError` if there is none, or more than one.

    `for_all` is the option of the command that takes a task in place of a key, if it has one.
    """
    found = maintenance.find(results, text)
    exact = [summary for summary in found if summary.key == text]
    if len(exact or found) == 1:
        return (exact or found)[0]
    if not found:
        is_task = text in {name for task in maintenance.tasks(results) for name in (task, task.rpartition(":")[2])}
        hint = "`penstock cache ls` lists them"
        if is_task:
            hint = f"{text} is a task: `penstock cache ls {text}` lists the keys of its results"
            hint += f", and {for_all} {text} means all of them" if for_all else ""
        raise UsageError(f"there is no result with the key {text}", where=results.store.url, hint=hint)
    which = ", ".join(f"{summary.key} of {summary.task}" for summary in found[:5])
    raise UsageError(f"{len(found)} results have a key that begins with {text}", hint=f"one of {which}")


def find_task(results: ResultStore, text: str) -> str:
    """The task with results that is called so, with or without its module; raises `UsageError`."""
    tasks = maintenance.tasks(results)
    found = [text] if text in tasks else [task for task in tasks if task.rpartition(":")[2] == text]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{len(found)} tasks are called {text}", hint=f"one of {', '.join(found)}")
    names = [*tasks, *(task.rpartition(":")[2] for task in tasks)]
    hint = did_you_mean(text, names, "`penstock cache ls` lists all results")
    raise UsageError(f"there are no results of task {text}", where=results.store.url, hint=hint)
