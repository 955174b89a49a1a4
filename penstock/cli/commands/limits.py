"""`penstock limits`: how many tasks with a tag may run at once, or start per period, in all runs that share a store."""

from __future__ import annotations

import click

from penstock.cli.options import Invocation, json_option, shared_options
from penstock.cli.output import print_document, say, table
from penstock.errors import StoreError
from penstock.limits.rates import Rate, parse_rate
from penstock.limits.tables import all_limits, remove_limit, set_limit, set_rate


@click.group()
@shared_options
def limits() -> None:
    """Limit how many tasks with a tag run at once, or start per period, across all runs and clusters."""


@limits.command(name="set", context_settings={"ignore_unknown_options": True})  # -1 is a wrong limit, and no option
@click.argument("tag")
@click.argument("limit")
@shared_options
@click.pass_obj
def set_(invocation: Invocation, tag: str, limit: str) -> None:
    """Limit tasks with TAG: LIMIT is how many may run at once (10), or start per period (100/minute). 0 pauses them.

    A tag may have a limit and a rate. Active runs notice a change within seconds.
    """
    store = invocation.environment().results().store
    if "/" in limit:
        set_rate(store, tag, parse_rate(limit))
        say(f"{tag}: at most {limit}")
    elif limit.isdecimal():
        set_limit(store, tag, int(limit))
        if not int(limit):
            say(f"{tag} is paused: its tasks wait until the limit changes", err=True)
        else:
            say(f"{tag}: at most {int(limit)} at once")
    else:
        raise click.BadParameter(f"{limit!r} is neither a number nor a rate such as 10/second", param_hint="LIMIT")


@limits.command()
@json_option
@shared_options
@click.pass_obj
def ls(invocation: Invocation) -> None:
    """List the limits and rates of a store."""
    store = invocation.results().store
    found = list(all_limits(store))
    limits = {tag: limit for tag, limit in found if isinstance(limit, int)}
    rates = {tag: str(limit) for tag, limit in found if isinstance(limit, Rate)}
    unreadable = [limit for _, limit in found if isinstance(limit, StoreError)]
    if invocation.json:
        problems = [error.to_dict() for error in unreadable]
        print_document("limits-ls", {"store": store.url, "limits": limits, "rates": rates, "unreadable": problems})
        return
    if limits or rates:
        shown = {tag: limit or "paused" for tag, limit in limits.items()}
        rows = [(tag, shown.get(tag, ""), rates.get(tag, "")) for tag in sorted(limits.keys() | rates.keys())]
        say(table(("tag", "at once", "rate"), rows, right=("at once", "rate")))
    elif not unreadable:
        say(f"no limits in {store.url}")
    for error in unreadable:
        say(str(error), err=True)


@limits.command()
@click.argument("tag")
@shared_options
@click.pass_obj
def rm(invocation: Invocation, tag: str) -> int | None:
    """Remove the limit and the rate of TAG."""
    if remove_limit(invocation.results().store, tag):
        say(f"{tag}: limit removed")
        return None
    say(f"{tag} has no limit", err=True)
    return 1
