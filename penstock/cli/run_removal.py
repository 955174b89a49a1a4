"""`penstock runs rm` and `runs gc`: remove the records and logs of runs. Their results stay."""

from __future__ import annotations

import time

import click

from penstock.cli.failures import FAILED
from penstock.cli.options import Invocation, as_seconds, json_option, shared_options
from penstock.cli.output import confirmed, print_document, say, size
from penstock.cli.stored import find_run, may_go_on
from penstock.errors import UsageError
from penstock.journals import removal as run_removal
from penstock.journals.removal import Removed


@click.command()
@click.argument("run_ids", nargs=-1, required=True, metavar="RUN_ID...")
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@click.option(
    "--force",
    is_flag=True,
    help="Also remove runs that may still be active, for example on a machine that no longer exists.",
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@json_option
@shared_options
@click.pass_obj
def rm(invocation: Invocation, run_ids: tuple[str, ...], dry_run: bool, force: bool, yes: bool) -> int:
    """Remove the records and logs of runs, named by id, end of an id, or `last`. Results stay."""
    store = invocation.results().store
    records = {record.id: record for record in (find_run(store, each) for each in run_ids)}
    for record in records.values():
        if may_go_on(record) and not force:
            raise UsageError(
                f"run {record.id} may still be active",
                where=f"process {record.pid} on {record.host}",
                hint="stop it first; if you are sure it is gone, add --force",
            )
    if not (yes or dry_run) and not confirmed(f"Remove {_runs(len(records))}?"):
        click.echo("nothing was removed", err=True)
        return FAILED
    _tell(invocation, "runs-rm", run_removal.remove_runs(store, records, dry_run=dry_run), dry_run=dry_run)
    return 0


@click.command()
@click.option(
    "--keep",
    callback=as_seconds,
    required=True,
    metavar="AGE",
    help="Keep runs that ended within this time: 30d, 12h, 4w.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@json_option
@shared_options
@click.pass_obj
def gc(invocation: Invocation, keep: float, dry_run: bool) -> None:
    """Remove the records and logs of old runs. Results stay, and so do runs that may still be active."""
    store = invocation.results().store
    removed = run_removal.collect_runs(store, before=time.time() - keep, goes_on=may_go_on, dry_run=dry_run)
    _tell(invocation, "runs-gc", removed, dry_run=dry_run)


def _tell(invocation: Invocation, name: str, removed: Removed, *, dry_run: bool) -> None:
    facts = {field: getattr(removed, field) for field in Removed.__slots__}
    if invocation.json:
        print_document(name, {"store": invocation.results().store.url, "dry_run": dry_run, **facts})
        return
    verb = "would remove" if dry_run else "removed"
    say(f"{verb} {_runs(removed.runs)}: {removed.files} files, {size(removed.bytes)}")
    if removed.going_on:
        say(f"{_runs(removed.going_on)} may still be active: `penstock runs rm RUN_ID --force` removes one")


def _runs(number: int) -> str:
    return f"{number} run" if number == 1 else f"{number} runs"
