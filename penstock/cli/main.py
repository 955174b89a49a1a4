"""The command `penstock`: its commands, and what becomes of their errors."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from penstock import __version__
from penstock.cli.options import Invocation, shared_options
from penstock.errors import is_a

# Modules are imported when their command is asked for, so that one command does not pay for the others.
_COMMANDS = {
    "run": "penstock.cli.commands.run:run",
    "resume": "penstock.cli.commands.run:resume",
    "plan": "penstock.cli.commands.run:plan",
    "why": "penstock.cli.commands.why:why",
    "runs": "penstock.cli.commands.inspecting:runs",
    "show": "penstock.cli.commands.inspecting:show",
    "cache": "penstock.cli.commands.cache:cache",
    "locks": "penstock.cli.commands.locks:locks",
    "limits": "penstock.cli.commands.limits:limits",
    "keys": "penstock.cli.commands.keys:keys",
    "config": "penstock.cli.commands.config:config",
    "doctor": "penstock.cli.commands.doctor:doctor",
}


class _Commands(click.Group):
    """Commands that are imported on use; `main` turns errors into messages and exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = _COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(f"there is no command {args[0]!r}{self._meant(ctx, args[0])}", ctx)
        return super().resolve_command(ctx, args)

    def _meant(self, ctx: click.Context, name: str) -> str:
        """Return a question with the command that a wrong name probably means: `ls` is one of `cache`."""
        from penstock.objects.texts import closest

        groups = [(each, self.get_command(ctx, each)) for each in ("cache", "runs", "locks", "limits", "keys")]
        inside = [
            f"{each} {name}" for each, group in groups if isinstance(group, click.Group) and name in group.commands
        ]
        meant = inside or [close for close in [closest(name, _COMMANDS)] if close]
        return f". Did you mean {' or '.join(f'`penstock {each}`' for each in meant)}?" if meant else ""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Run one command line and exit. Commands return their exit code, None for 0."""
        invocation = Invocation()
        try:
            code = super().main(args, prog_name or "penstock", complete_var, False, obj=invocation, **extra)
        except (click.Abort, KeyboardInterrupt):
            click.echo("interrupted", err=True)
            code = 130
        except click.ClickException as error:
            from penstock.cli.output import say

            text = io.StringIO()
            error.show(text)
            say(text.getvalue().rstrip("\n"), err=True)
            code = 2
        except BrokenPipeError:
            # Whoever read our output went away (`| head`): the interpreter must not try to flush it once more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 1
        except Exception as error:  # noqa: BLE001 (whatever it is, it is shown, and its kind decides the exit code)
            code = _show(error, invocation)
        sys.exit(code if isinstance(code, int) else 0)


def _show(error: Exception, invocation: Invocation) -> int:
    from penstock.cli.failures import describe_error, exit_code_of
    from penstock.cli.output import print_document, say
    from penstock.errors import PenstockError
    from penstock.objects.secrets import Redactor
    from penstock.objects.texts import kind_of, text_of

    redact = Redactor()
    if invocation.json:
        facts = error.to_dict() if is_a(error, PenstockError) else {"code": "", "what": text_of(error)}
        facts = redact.facts(facts)
        print_document("error", {"error": {"type": kind_of(error), **facts}})
    say(redact(describe_error(error, debug=invocation.debug)), err=True)
    return exit_code_of(error)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="penstock", message="%(prog)s %(version)s")
@shared_options
def main() -> None:
    """Run flows, plan and explain what they do, and manage their results.

    \b
    Exit codes: 0 success; 1 a task failed, or a check found problems; 2 the command line, code
    or configuration must be changed; 3 something outside is missing or unreachable;
    4 `plan --exit-code` found work; 130 interrupted (Ctrl-C); 143 terminated (SIGTERM).
    """
