"""`penstock config`: the current settings and their origins."""

from __future__ import annotations

import click
import msgspec

from penstock.cli.options import Invocation, json_option, shared_options
from penstock.cli.output import print_document, say, table


@click.group()
@shared_options
def config() -> None:
    """Show the settings."""


@config.command()
@json_option
@shared_options
@click.pass_obj
def show(invocation: Invocation) -> None:
    """Show every setting with its origin. Passwords in URLs are left out."""
    described = invocation.settings().describe()
    if invocation.json:
        print_document("config-show", {"settings": msgspec.to_builtins(described)})
        return
    rows = [(each.name, "-" if each.value is None else each.value, each.origin) for each in described]
    say(table(("setting", "value", "origin"), rows))
