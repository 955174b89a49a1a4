"""`penstock locks`: who computes what just now, and how to take a lock away from a holder that hangs."""

from __future__ import annotations

import time
from dataclasses import asdict

import click

from penstock.cli.failures import FAILED
from penstock.cli.options import Invocation, json_option, shared_options
from penstock.cli.output import confirmed, duration, moment, print_document, say, table
from penstock.errors import UsageError
from penstock.locks.base import Holder, LockManager, Repairable
from penstock.objects.texts import clean


@click.group()
@shared_options
def locks() -> None:
    """List locks and their holders, take a lock away, or repair lock files.

    Uses the lock manager of the settings; use `--locks` for another one, such as that of a policy.
    """


@locks.command()
@json_option
@shared_options
@click.pass_obj
def ls(invocation: Invocation) -> None:
    """List the locks that are held, oldest first."""
    manager = _manager(invocation)
    held = sorted(manager.ls(), key=lambda holder: (holder.since, holder.key))
    if invocation.json:
        print_document("locks-ls", {"manager": repr(manager), "locks": [asdict(holder) for holder in held]})
        return
    now = time.time()
    rows = [
        (
            holder.key[:32],
            holder.info.get("run", "."),
            holder.info.get("flow", "."),
            f"{holder.info.get('pid', '?')} on {holder.info.get('host', '?')}",
            moment(holder.since),
            duration(max(0.0, now - holder.since)),
            holder.fencing_token,
        )
        for holder in held
    ]
    if rows:
        headings = ("key", "run", "flow", "process", "since", "for", "token")
        say(table(headings, rows, right=("for", "token")))
    say(f"{len(rows)} held, in {manager!r}")


@locks.command(name="break")
@click.argument("key")
@click.option("--token", type=int, help="Only break the lock if it still has this token.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@json_option
@shared_options
@click.pass_obj
def break_(invocation: Invocation, key: str, token: int | None, yes: bool) -> int | None:
    """Take the lock of KEY (or of the only key with this beginning) away from its holder.

    A waiting run takes over immediately. If the old holder is alive, it continues: the work may be done twice, and the
    first published result wins.
    """
    manager = _manager(invocation)
    holder = _found(manager, key)
    token = holder.fencing_token if token is None else token
    if not (yes or invocation.json or confirmed(clean(f"Take {holder.key[:32]} away from {holder.described()}?"))):
        say("nothing was done", err=True)
        return FAILED
    broken = manager.break_lock(holder.key, token)
    if invocation.json:
        print_document("locks-break", {"broken": broken, "lock": asdict(holder)})
    else:
        say("taken away" if broken else "the lock has changed: nothing was done")
    return None if broken else 1


@locks.command()
@click.option("--dry-run", is_flag=True, help="Only show what is damaged.")
@json_option
@shared_options
@click.pass_obj
def repair(invocation: Invocation, dry_run: bool) -> int:
    """Remove unreadable lock files, for example after a power cut, and free their locks.

    Safe beside running flows. Exits with 1 if damaged files remain.
    """
    manager = _manager(invocation)
    damages = manager.repair(dry_run=dry_run) if isinstance(manager, Repairable) else []
    done = "can be mended" if dry_run else "mended"
    if invocation.json:
        print_document("locks-repair", {"dry_run": dry_run, "damages": [asdict(damage) for damage in damages]})
    else:
        if damages:
            rows = [(each.name, each.said, done if each.mendable else "left") for each in damages]
            say(table(("file", "what is wrong", ""), rows))
        say(f"{len(damages)} damaged, in {manager!r}")
    return 1 if any(dry_run or not damage.mendable for damage in damages) else 0


def _found(manager: LockManager, key: str) -> Holder:
    held = manager.ls()
    found = [holder for holder in held if holder.key == key] or [h for h in held if h.key.startswith(key)]
    if len(found) != 1:
        raise UsageError(
            f"{len(found) or 'no'} held locks begin with {key!r}",
            where=repr(manager),
            hint="`penstock locks ls --json` shows complete keys",
        )
    return found[0]


def _manager(invocation: Invocation) -> LockManager:
    manager: LockManager = invocation.environment().locks_of_settings()
    return manager
