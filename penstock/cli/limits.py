"""`penstock limits`: how many tasks with a tag may run at once, or begin in a time, in all runs that share a store."""

from __future__ import annotations

import click

from penstock.cli.options import Invocation, json_option, shared_options
from penstock.cli.output import print_document, table
from penstock.storage.limits import read_limits, read_rates, remove_limit, set_limit, set_rate
from penstock.storage.rates import parse_rate


@click.group()
@shared_options
def limits() -> None:
    """Limit how many tasks with a tag run at once, or begin in a time, on all clusters together."""


@limits.command(name="set")
@click.argument("tag")
@click.argument("limit")
@shared_options
@click.pass_obj
def set_(invocation: Invocation, tag: str, limit: str) -> None:
    """Let at most LIMIT tasks with TAG run at once, such as 10, or begin in a time, such as 100/minute.

    A tag may have both. Runs under way see a changed number within seconds.
    """
    store = invocation.environment().results().store
    if "/" in limit:
        set_rate(store, tag, parse_rate(limit))
    elif limit.isdecimal():
        set_limit(store, tag, int(limit))
    else:
        raise click.BadParameter(f"{limit!r} is neither a number nor a rate such as 10/second", param_hint="LIMIT")


@limits.command()
@json_option
@shared_options
@click.pass_obj
def ls(invocation: Invocation) -> None:
    """List the limits of a store."""
    store = invocation.environment().results().store
    limits, rates = read_limits(store), {tag: str(rate) for tag, rate in read_rates(store).items()}
    if invocation.json:
        print_document("limits-ls", {"store": store.url, "limits": limits, "rates": rates})
    elif limits or rates:
        rows = [(tag, limits.get(tag, ""), rates.get(tag, "")) for tag in sorted(limits.keys() | rates.keys())]
        click.echo(table(("tag", "at once", "rate"), rows, right=("at once", "rate")))
    else:
        click.echo(f"no limits in {store.url}")


@limits.command()
@click.argument("tag")
@shared_options
@click.pass_obj
def rm(invocation: Invocation, tag: str) -> int | None:
    """Lift the limit and the rate of TAG."""
    if remove_limit(invocation.environment().results().store, tag):
        return None
    click.echo(f"there is no limit of {tag}", err=True)
    return 1
