"""`penstock keys`: create and rotate the keys that sign results. Keys are never printed."""

from __future__ import annotations

import os

import click

from penstock.cli.options import Invocation, json_option, shared_options
from penstock.cli.output import print_document, say, table
from penstock.storage.records.signing_keys import SigningKeys, rotate_file, write_new_file


@click.group()
@shared_options
def keys() -> None:
    """Create and rotate the keys that sign results."""


@keys.command()
@click.argument("file")
@shared_options
def new(file: str) -> None:
    """Create the private FILE with one new key. Never overwrites a file."""
    path = os.path.abspath(file)
    id = write_new_file(path)
    say(f"wrote the key {id}\nto use it, set PENSTOCK_SIGNING_KEYS={path} on every machine")


@keys.command()
@click.argument("file")
@shared_options
def rotate(file: str) -> None:
    """Add a new key to FILE that signs from now on. Older keys are still accepted.

    If machines have separate files, first add the new key below the others on all machines: the first line signs.
    """
    say(f"key {rotate_file(os.path.abspath(file))} signs from now on")


@keys.command()
@click.argument("file", required=False)
@json_option
@shared_options
@click.pass_obj
def ls(invocation: Invocation, file: str | None) -> None:
    """List the ids of the keys in FILE, or of those that the setting signing_keys names."""
    source = os.path.abspath(file) if file else invocation.settings().signing_keys
    ids = SigningKeys(source).ids() if source else []
    if invocation.json:
        print_document("keys-ls", {"source": source, "signs": ids[0] if ids else None, "accepted": ids})
    elif ids:
        say(table(("key", ""), [(id, "accepted" if n else "signs") for n, id in enumerate(ids)]))
    else:
        say("no keys: results are not signed")
