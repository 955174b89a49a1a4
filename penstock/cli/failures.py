"""How errors look on the command line, and which exit code they mean."""

from __future__ import annotations

import re
from collections.abc import Iterable

from penstock.errors import InfrastructureError, PenstockError, TaskFailed, UpstreamFailed, UsageError, is_a
from penstock.events import NodeFailed
from penstock.objects.chains import links_of
from penstock.objects.texts import text_of, traceback_of
from penstock.objects.tracebacks import place_in_users_code, users_frames
from penstock.process.termination import EXIT_CODE, Terminated

FAILED, USAGE, INFRASTRUCTURE, WORK_TO_DO, INTERRUPTED = 1, 2, 3, 4, 130
"""Exit codes other than 0: a task failed or a check found problems; the call or the configuration has to change;
something outside is missing or out of reach; `plan --exit-code` found work; Ctrl-C."""


def exit_code_of(error: BaseException) -> int:
    """The exit code that an error means."""
    if is_a(error, KeyboardInterrupt):
        return INTERRUPTED
    if is_a(error, Terminated):
        return EXIT_CODE
    if is_a(error, UsageError):
        return USAGE
    return INFRASTRUCTURE if is_a(error, InfrastructureError) else FAILED


def describe_error(error: BaseException, *, debug: bool = False) -> str:
    """What is shown of an error outside of a run: Penstock's own as they say it, others with the user's frames."""
    if debug:
        return traceback_of(error).rstrip()
    if is_a(error, PenstockError):
        place = place_in_users_code(error)
        return text_of(error) + (f"\n  at: {place}" if place and place not in error.where else "")
    return users_frames(traceback_of(error)).rstrip()


def describe_failure(error: BaseException, failures: Iterable[NodeFailed], *, debug: bool = False) -> str:
    """What is shown of the error that a run ended with: which call failed, and the user's frames of its traceback.

    `failures` are the run's failed nodes: their tracebacks come from where the task ran.
    """
    root, met = error, {id(error)}  # a task may raise an `UpstreamFailed` of its own, with causes that form a circle
    while is_a(root, UpstreamFailed) and (cause := links_of(root).cause) is not None and id(cause) not in met:
        root = cause
        met.add(id(root))
    failed = list(failures)
    notes = _notes(root)
    of_error, path = next(((each, path) for each in failed if (path := _path_in(notes, each))), (None, ""))
    if of_error is None:
        return describe_error(root, debug=debug)
    lines = [f"task {path} failed (node {of_error.node}, attempt {of_error.attempt})"]
    if is_a(root, PenstockError) and not is_a(root, TaskFailed) and not debug:
        lines.append(text_of(root))
    else:
        lines.append((of_error.traceback if debug else users_frames(of_error.traceback)).rstrip())
    if len(failed) > 1:
        others = ", ".join(f"{failure.task} (node {failure.node})" for failure in failed if failure is not of_error)
        lines.append(f"also failed: {others}")
    if of_error.skipped:
        lines.append(skipped_calls(of_error))
    return "\n".join(lines)


def skipped_calls(failure: NodeFailed) -> str:
    """Return in words how many calls did not run because of a failure."""
    return f"{failure.skipped} dependent call{'' if failure.skipped == 1 else 's'} did not run"


def _path_in(notes: str, failure: NodeFailed) -> str:
    """The name of the failed task, or the path of the failed part of a result, if the notes of an error name it."""
    found = re.search(rf"task (.*), node {failure.node}, attempt {failure.attempt}$", notes, re.MULTILINE)
    return found[1] if found else ""


def _notes(error: BaseException) -> str:
    """Where an error says that it comes from."""
    if is_a(error, PenstockError):
        return "\n".join([error.where, *getattr(error, "__notes__", ())])
    return text_of(error, lambda each: "\n".join(getattr(each, "__notes__", ())))
