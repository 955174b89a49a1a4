"""`penstock run`, `resume` and `plan`: run a flow, or show what a run would do."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from penstock.cli.failures import FAILED, INFRASTRUCTURE, INTERRUPTED, WORK_TO_DO, describe_failure, exit_code_of
from penstock.cli.flow_help import FlowCommand
from penstock.cli.loading import load_flow
from penstock.cli.options import Invocation, json_option, keep_going_option, shared_options
from penstock.cli.output import duration, output_for_people, print_document, say, short
from penstock.cli.parameters import read_assignments, read_parameters
from penstock.cli.progress import Watch, watching
from penstock.cli.stored import find_run, is_running
from penstock.errors import PenstockError, StoreUnreachable, UsageError, is_a
from penstock.flows.definition import Flow
from penstock.journals.journal import RunRecord, read_record
from penstock.journals.parameters import check_resumable
from penstock.logs.visible import ErrorStream
from penstock.objects.secrets import Redactor, secret_parameters
from penstock.objects.texts import clean, kind_of, text_of
from penstock.process.termination import EXIT_CODE, Terminated
from penstock.runs import Run
from penstock.settings.urls import redacted

if TYPE_CHECKING:
    from penstock.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])
Start = Callable[..., Run[Any]]

TAKES_PARAMETERS = {"ignore_unknown_options": True, "allow_interspersed_args": True}
"""A command whose further options are the flow's parameters."""


def takes_flow(command: Command) -> Command:
    """Add the arguments that name a flow and its parameters."""
    for decorate in (
        click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[PARAMETERS]..."),
        click.argument("target", metavar="FILE_OR_MODULE:FLOW"),
        click.option("--parameters", "document", metavar="JSON", help="All parameters as JSON, or @FILE."),
        click.option("-p", "assignments", multiple=True, metavar="NAME=VALUE", help="One parameter."),
    ):
        command = decorate(command)
    return command


def load_call(
    invocation: Invocation,
    target: str,
    words: tuple[str, ...],
    assignments: tuple[str, ...],
    document: str | None,
    *,
    refresh: bool = False,
    further: int = 0,
) -> tuple[Flow[..., Any], dict[str, Any], list[str]]:
    """The flow, its parameters, and up to `further` words that are neither. With `refresh` it reuses no results."""
    flow = load_flow(target)
    check_flags(flow, invocation)
    parameters, rest = read_parameters(flow, words, assignments=assignments, document=document, words=further)
    return (flow.with_options(refresh_cache=True) if refresh else flow), parameters, rest


def check_flags(flow: Flow[..., Any], invocation: Invocation) -> None:
    """Raise `UsageError` if a flag contradicts what the flow's code says.

    Code wins over flags, but a flag must not be ignored silently: a run that would use another runner or store than the
    flag says does not start.
    """
    from penstock.runners import runner_from
    from penstock.storage import open_store

    runner, store = flow.options.runner, flow.options.result_storage
    said, other = invocation.flags.get("runner"), invocation.flags.get("store")
    in_code = runner_from(runner) if isinstance(runner, str) else runner
    if said is not None and in_code is not None and runner_from(said) != in_code:
        raise _contradiction(flow, "--runner", f"runner={runner!r}")
    if other is not None and store is not None:
        opened = open_store(store) if isinstance(store, str | os.PathLike) else store
        if open_store(other).url != opened.url:
            raise _contradiction(flow, "--store", f"result_storage={opened.url}")


def _contradiction(flow: Flow[..., Any], flag: str, in_code: str) -> UsageError:
    return UsageError(
        f"{flag} cannot be used with {flow.name}",
        because=f"its decorator says {in_code}, and code wins over flags",
        hint="omit the flag, or configure this in the settings instead of in the code",
    )


@click.command(cls=FlowCommand, context_settings=TAKES_PARAMETERS)
@takes_flow
@click.option("--refresh", is_flag=True, help="Run every task, even if its result is stored.")
@keep_going_option
@click.option("--quiet", "-q", is_flag=True, help="Do not show progress.")
@json_option
@shared_options
@click.pass_obj
def run(
    invocation: Invocation,
    target: str,
    words: tuple[str, ...],
    assignments: tuple[str, ...],
    document: str | None,
    refresh: bool,
    quiet: bool,
) -> int:
    """Run a flow and print what it returns.

    Each parameter of the flow is an option: --days 2024-01-01 --days 2024-01-02.
    """
    with _tidy_output(invocation):
        flow, parameters, _ = load_call(invocation, target, words, assignments, document, refresh=refresh)
    settings = invocation.settings()
    return _carry_out(
        invocation, settings, lambda watch: flow.run_with(parameters, settings=settings, subscribers=(watch,)), quiet
    )


@click.command()
@click.argument("run_id")
@click.option("-p", "assignments", multiple=True, metavar="NAME=VALUE", help="A secret parameter.")
@keep_going_option
@click.option("--quiet", "-q", is_flag=True, help="Do not show progress.")
@json_option
@shared_options
@click.pass_obj
def resume(invocation: Invocation, run_id: str, assignments: tuple[str, ...], quiet: bool) -> int:
    """Continue a failed, cancelled or killed run and reuse its published results.

    RUN_ID is the id of a run, the end of an id, or `last`. Tasks run where --runner said before, unless it says
    otherwise now. Secret parameters are not kept: enter them when asked, or pass them with -p.
    """
    environment = invocation.environment()
    store = environment.results().store
    record = find_run(store, run_id)
    check_resumable(store, record, environment.signatures())  # before the record says what is imported
    if is_running(record):
        raise UsageError(f"run {record.id} is still running", where=f"process {record.pid} on {record.host}")
    if record.state == "completed":
        raise UsageError(
            f"run {record.id} is completed",
            because="nothing is left to do",
            hint=f"`penstock show {record.id}` shows it; `penstock run {record.entry}` starts a new one",
        )
    if record.runner_address and "runner" not in invocation.flags:
        invocation.flags["runner"] = record.runner_address
        say(f"note: continues on {clean(record.runner_address)}, as --runner said when it was started", err=True)
    settings = invocation.settings()
    with _tidy_output(invocation):
        flow = load_flow(record.entry)
        check_flags(flow, invocation)
        secrets = _secrets_of(record, flow, assignments)
    return _carry_out(
        invocation,
        settings,
        lambda watch: flow.resume(record.id, parameters=secrets, settings=settings, subscribers=(watch,)),
        quiet,
    )


def _secrets_of(record: RunRecord, flow: Flow[..., Any], assignments: tuple[str, ...]) -> dict[str, Any]:
    """The parameters that were not kept, from the command line or from who sits at the terminal."""
    named = {assignment.partition("=")[0] for assignment in assignments}
    asked = [name for name in record.secrets if name not in named] if sys.stdin.isatty() else []
    answers = [f"{name}={click.prompt(clean(name), hide_input=True, err=True)}" for name in asked]
    return read_assignments(flow, [*assignments, *answers])


@click.command(cls=FlowCommand, context_settings=TAKES_PARAMETERS)
@takes_flow
@click.option("--refresh", is_flag=True, help="Plan as if no result were stored.")
@click.option("--exit-code", is_flag=True, help="Exit with 4 if a run would execute anything.")
@json_option
@shared_options
@click.pass_obj
def plan(
    invocation: Invocation,
    target: str,
    words: tuple[str, ...],
    assignments: tuple[str, ...],
    document: str | None,
    refresh: bool,
    exit_code: bool,
) -> int:
    """Show what a run would do. Looks up the keys of a flow; runs the flow function, but no tasks."""
    with _tidy_output(invocation):
        flow, parameters, _ = load_call(invocation, target, words, assignments, document, refresh=refresh)
        planned = flow.plan_with(parameters, settings=invocation.settings())
    if invocation.json:
        print_document("plan", {"work": planned.work, **planned.to_dict()})
    else:
        say(str(planned))
    if not exit_code:
        return 0
    # Not knowing is neither work nor no work.
    return INFRASTRUCTURE if planned.counts["unknown"] else WORK_TO_DO if planned.work else 0


# -- a run from its start to its exit code ----------------------------------------------------------------------------


def _carry_out(invocation: Invocation, settings: Settings, start: Callable[[Watch], Run[Any]], quiet: bool) -> int:
    interrupted: int | None = None
    with _tidy_output(invocation), _logging(settings.log_level, settings.extra_loggers), watching(quiet=quiet) as watch:
        try:
            finished = start(watch)
        except KeyboardInterrupt:
            interrupted = INTERRUPTED
        except Terminated:
            interrupted = EXIT_CODE
    for note, count in watch.notes.items():
        say(f"note: {note}" + (f" ({count} times)" if count > 1 else ""), err=True)
    again = f"penstock resume {watch.run}{_store_option(watch.store, settings, invocation)}{_other_flags(invocation)}"
    if interrupted is not None:
        if invocation.json:
            print_document("run", {"run": watch.run, "flow": watch.flow, "state": "cancelled"})
        said = "interrupted" if interrupted == INTERRUPTED else "terminated"
        resumable = watch.run and not _not_resumable(watch, invocation)
        say(f"{said}; continue with: {again}" if resumable else said, err=True)
        return interrupted
    if invocation.json:
        print_document("run", _facts(finished))
    if finished.error is None:
        if not invocation.json:
            say(short(finished.result()))
            say(f"{summary(finished)}  (run {finished.id})")
        return 0
    redact = Redactor(finished.parameters)
    say(redact(describe_failure(finished.error, watch.failures, debug=invocation.debug)), err=True)
    say(f"{finished.state}: {summary(finished)}  (run {finished.id})", err=True)
    secrets = "".join(f" -p {name}=…" for name in secret_parameters(finished.parameters))  # those were not kept
    why_not = _not_resumable(watch, invocation)
    say(f"it cannot be resumed: {why_not}" if why_not else f"continue with: {again}{secrets}", err=True)
    return exit_code_of(finished.error) if isinstance(finished.error, Exception) else FAILED


def _not_resumable(watch: Watch, invocation: Invocation) -> str:
    """Why a run that ended cannot be resumed; empty if it can, or if that is unknown."""
    from penstock.storage import open_store

    try:
        store = open_store(watch.store)
        record = read_record(store, watch.run)
    except StoreUnreachable:
        return ""
    except PenstockError:
        return "nothing was recorded of it"
    try:
        check_resumable(store, record, invocation.environment().signatures())
    except PenstockError as error:
        return error.because or error.what
    return ""


def summary(finished: Run[Any]) -> str:
    """`reused 12, ran 3, 4.2 s`."""
    counts = finished.counts
    parts = [f"reused {counts['hit'] + counts['pruned']}", f"ran {counts['executed']}"]
    others = {"retried": "retried", "failed": "failed", "not_run": "not run"}
    parts += [f"{said} {counts[name]}" for name, said in others.items() if counts[name]]
    return ", ".join([*parts, duration(finished.seconds)])


def _facts(finished: Run[Any]) -> dict[str, Any]:
    """What `--json` prints of a run; the value itself only if it is JSON."""
    import msgspec

    error = finished.error
    value, text = None, None
    if error is None:
        result = finished.result()
        text = short(result)
        with contextlib.suppress(Exception):  # whatever a value that is no JSON raises: its repr is shown
            value = msgspec.Raw(msgspec.json.encode(result))
    facts = None
    if error is not None:
        known = error.to_dict() if is_a(error, PenstockError) else {"code": "", "what": text_of(error)}
        known = Redactor(finished.parameters).facts(known)
        facts = {"type": kind_of(error), **known}
    return {
        "run": finished.id,
        "flow": finished.flow_name,
        "state": finished.state,
        "seconds": finished.seconds,
        "counts": finished.counts,
        "tasks": finished.by_task(),
        "stats": finished.stats,
        "result": value,
        "result_repr": text,
        "error": facts,
    }


def _store_option(store: str, settings: Settings, invocation: Invocation) -> str:
    """` --store URL` where the settings alone would not lead to the run's store again."""
    from penstock.storage import open_store

    default = replace(invocation, flags={**invocation.flags, "store": None}).settings()
    if not store or store == open_store(default.store).url:
        return ""
    return f" --store {shlex.quote(store)}"


def _other_flags(invocation: Invocation) -> str:
    """The flags that say where else the run goes on as it began; without those that contain a password."""
    flags = {name: invocation.flags.get(name) for name in ("runner", "locks", "profile")}
    shown = {name: said for name, said in flags.items() if said and said == redacted(said)}
    return "".join(f" --{name} {shlex.quote(said)}" for name, said in shown.items())


@contextlib.contextmanager
def _tidy_output(invocation: Invocation) -> Iterator[None]:
    """With `--json`, whatever the user's code prints goes to standard error."""
    with output_for_people() if invocation.json else contextlib.nullcontext():
        yield


def _of_an_engine(logger: str, asked_for: Iterable[str]) -> bool:
    return logger.partition(".")[0] in ("distributed", "ray") and not any(
        logger == name or logger.startswith(f"{name}.") for name in asked_for
    )


@contextlib.contextmanager
def _logging(level: str, extra: Iterable[str]) -> Iterator[None]:
    """What tasks and flows log is shown on standard error, from `level` on, and so is what other code logs."""
    handler = ErrorStream()
    # What an engine says of its own comings and goings is no news of the run; who wants it names it in extra_loggers.
    handler.addFilter(lambda record: record.levelno >= logging.WARNING or not _of_an_engine(record.name, extra))
    loggers = [logging.getLogger(name) for name in ("penstock", *extra)]
    if not (root := logging.getLogger()).handlers:
        loggers.append(root)  # the user's own `logging.info`
    before = [(logger, logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, old, propagate in before:
            logger.removeHandler(handler)
            logger.setLevel(old)
            logger.propagate = propagate
