"""`penstock keys`: make and replace the keys that sign results. A key itself is never printed."""

from __future__ import annotations

import os

import click

from penstock.cli.options import Invocation, json_option, shared_options
from penstock.cli.output import print_document, say, table
from penstock.storage.records.signing_keys import SigningKeys, rotate_file, write_new_file


@click.group()
@shared_options
def keys() -> None:
    """Make and replace the keys that sign results."""


@keys.command()
@click.argument("file")
@shared_options
def new(file: str) -> None:
    """Make FILE with one new key, readable for you alone. A file that is there is left as it is."""
    path = os.path.abspath(file)
    id = write_new_file(path)
    say(f"wrote the key {id}\nsign with it: PENSTOCK_SIGNING_KEYS={path}, on every machine the same")


@keys.command()
@click.argument("file")
@shared_options
def rotate(file: str) -> None:
    """Put a new key into FILE, which signs from now on. What older ones signed is still accepted.

    Where machines have files of their own, give the new one to all of them first to accept: the first line signs.
    """
    say(f"the key {rotate_file(os.path.abspath(file))} signs from now on")


@keys.command()
@click.argument("file", required=False)
@json_option
@shared_options
@click.pass_obj
def ls(invocation: Invocation, file: str | None) -> None:
    """List the ids of the keys in FILE, or where the setting signing_keys says."""
    source = os.path.abspath(file) if file else invocation.settings().signing_keys
    ids = SigningKeys(source).ids() if source else []
    if invocation.json:
        print_document("keys-ls", {"source": source, "signs": ids[0] if ids else None, "accepted": ids})
    elif ids:
        say(table(("key", ""), [(id, "accepted" if n else "signs") for n, id in enumerate(ids)]))
    else:
        say("no keys: results are not signed")
