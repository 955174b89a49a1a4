"""`penstock limits`: how many tasks with a tag may run at once, in all runs that share a store and its locks."""

from __future__ import annotations

import click

from penstock.cli.options import Invocation, json_option, shared_options
from penstock.cli.output import print_document, table
from penstock.storage.limits import read_limits, remove_limit, set_limit


@click.group()
@shared_options
def limits() -> None:
    """Limit how many tasks with a tag run at once, on all clusters together."""


@limits.command(name="set")
@click.argument("tag")
@click.argument("limit", type=click.IntRange(min=1))
@shared_options
@click.pass_obj
def set_(invocation: Invocation, tag: str, limit: int) -> None:
    """Let at most LIMIT tasks with TAG run at once. Runs under way see a changed number within seconds."""
    set_limit(invocation.environment().results().store, tag, limit)


@limits.command()
@json_option
@shared_options
@click.pass_obj
def ls(invocation: Invocation) -> None:
    """List the limits of a store."""
    store = invocation.environment().results().store
    found = read_limits(store)
    if invocation.json:
        print_document("limits-ls", {"store": store.url, "limits": found})
    elif found:
        click.echo(table(("tag", "at once"), list(found.items()), right=("at once",)))
    else:
        click.echo(f"no limits in {store.url}")


@limits.command()
@click.argument("tag")
@shared_options
@click.pass_obj
def rm(invocation: Invocation, tag: str) -> int | None:
    """Lift the limit of TAG."""
    if remove_limit(invocation.environment().results().store, tag):
        return None
    click.echo(f"there is no limit of {tag}", err=True)
    return 1
