"""`penstock locks`: who computes what just now, and how to take a lock away from a holder that hangs."""

from __future__ import annotations

import time
from dataclasses import asdict

import click

from penstock.cli.options import Invocation, json_option, shared_options
from penstock.cli.output import duration, moment, print_document, say, table
from penstock.errors import UsageError
from penstock.locks.base import Holder, LockManager, Repairable
from penstock.objects.texts import clean


@click.group()
@shared_options
def locks() -> None:
    """See who holds which locks, and take one away.

    These are the locks of the settings; `--locks` names others, such as those of a policy.
    """


@locks.command()
@json_option
@shared_options
@click.pass_obj
def ls(invocation: Invocation) -> None:
    """List the locks that are held, the oldest first."""
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
@click.option("--token", type=int, help="Only if the lock still is the one with this token.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@json_option
@shared_options
@click.pass_obj
def break_(invocation: Invocation, key: str, token: int | None, yes: bool) -> int | None:
    """Take the lock of KEY (or of the one key that begins so) away from its holder.

    Whoever waits takes over at once. The old holder goes on if it lives: the work may be done twice, and the result is
    of whoever publishes first.
    """
    manager = _manager(invocation)
    holder = _found(manager, key)
    token = holder.fencing_token if token is None else token
    if not yes and not invocation.json:
        click.confirm(clean(f"take {holder.key[:32]} away from {holder.described()}?"), abort=True)
    broken = manager.break_lock(holder.key, token)
    if invocation.json:
        print_document("locks-break", {"broken": broken, "lock": asdict(holder)})
    else:
        say("taken away" if broken else "it is no longer that lock: nothing was done")
    return None if broken else 1


@locks.command()
@click.option("--dry-run", is_flag=True, help="Say what is damaged, and leave it.")
@json_option
@shared_options
@click.pass_obj
def repair(invocation: Invocation, dry_run: bool) -> int:
    """Say which lock files nobody can read, as a power cut may leave them, and free what they held.

    Runs may go on meanwhile. Exits with 1 if something is left.
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
            f"{len(found) or 'no'} locks that are held begin with {key!r}",
            where=repr(manager),
            hint="`penstock locks ls --json` shows them with their whole keys",
        )
    return found[0]


def _manager(invocation: Invocation) -> LockManager:
    manager: LockManager = invocation.environment().locks_of_settings()
    return manager
