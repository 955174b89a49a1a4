"""Commands and options that texts of Penstock name exist."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from penstock.cli.main import main
from penstock.cli.options import GLOBAL_OPTIONS

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "penstock").rglob("*.py"))
PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")})
SETTINGS = {name for name in GLOBAL_OPTIONS if name != "--json"}


def texts_of(source: Path) -> Iterator[str]:
    """Yield the texts of a module, with `X` for what is inserted."""
    inside: set[int] = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            inside.update(map(id, node.values))
            yield "".join(part.value if isinstance(part, ast.Constant) else "X" for part in node.values)  # type: ignore[misc]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.value


def wrong(text: str) -> Iterator[str]:
    """Yield what does not exist of the command lines in a text."""
    for line in re.findall(r"(?:`|: )penstock ([a-z][^`\n]*)", text):
        command: click.Command = main
        words = line.split()
        while isinstance(command, click.Group) and words and (found := command.get_command(CONTEXT, words[0])):
            command = found
            del words[0]
        if command is main:
            yield f"penstock {line}"
        own = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
        takes_parameters = command.context_settings.get("ignore_unknown_options", False)
        for word in words:
            option = word.partition("=")[0].strip("[].,;")
            if re.fullmatch("-[a-z]|--[a-z-]+", option) and option not in own | SETTINGS and not takes_parameters:
                yield f"{option} in: penstock {line}"


CONTEXT = click.Context(main)


@pytest.mark.skipif(os.environ.get("PENSTOCK_CORE_ONLY") == "1", reason="the source is not beside these tests")
@pytest.mark.slow
def test_commands_in_messages_exist_with_their_options() -> None:
    lines = [text for source in SOURCES for text in texts_of(source) if "penstock " in text]
    assert len(lines) > 30
    assert [found for text in lines for found in wrong(text)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_the_documentation_exist_with_their_options(page: Path) -> None:
    assert list(wrong(page.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "line", ["`penstock cashe ls`", "`penstock cache show --task x`", "use: penstock runs rm --keep"]
)
def test_commands_and_options_that_do_not_exist_are_found(line: str) -> None:
    assert list(wrong(line))
