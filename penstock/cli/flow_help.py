"""`--help` of a command that takes a flow: its own options, and the parameters of the flow that is named."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Sequence
from typing import Any

import click

from penstock.errors import FlowImportError
from penstock.flows.definition import Flow
from penstock.objects.secrets import is_secret_name
from penstock.objects.texts import repr_of

_HELP = ("--help", "-h")


class FlowCommand(click.Command):
    """A command whose help names the parameters of the flow on its command line, if one is there."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does; asked for help with a flow named, print both and exit."""
        target = _target(args) if any(word in _HELP for word in args) else None
        if target is None:
            return super().parse_args(ctx, args)
        click.echo(f"{ctx.get_help()}\n\n{describe_parameters(target)}")
        ctx.exit()


def describe_parameters(target: str) -> str:
    """The parameters of a flow as options, or why they are not known."""
    from penstock.cli.loading import load_flow

    try:
        flow = load_flow(target)
    except FlowImportError as error:
        return f"Parameters of {target}: unknown, {error.what}" + (f" ({error.because})" if error.because else "")
    rows = [_row(flow, parameter) for parameter in flow.binding.inspected.parameters.values()]
    if not rows:
        return f"{flow.name} takes no parameters."
    width = max(len(option) for option, _ in rows)
    about = inspect.getdoc(flow.fn)
    lines = [f"  {option:<{width}}  {text}".rstrip() for option, text in rows]
    return "\n".join([f"Parameters of {flow.name}:" + (f" {about.splitlines()[0]}" if about else ""), *lines])


def _row(flow: Flow[..., Any], parameter: inspect.Parameter) -> tuple[str, str]:
    from penstock.cli.annotations import annotations_of, described, is_flag
    from penstock.cli.parameters import option_of

    annotation = annotations_of(flow.fn, {parameter.name: parameter}).get(parameter.name, Any)
    option = option_of(parameter.name)
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
        return "--NAME VALUE", "any other parameters"
    if not option:
        option = f"-p {parameter.name}=VALUE"
    elif is_flag(annotation):
        option += f" / --no-{option[2:]}"
    kind = "" if parameter.annotation is inspect.Parameter.empty else described(annotation)
    if parameter.default is not inspect.Parameter.empty:
        default = "…" if is_secret_name(parameter.name) else _default(parameter.default)
        return option, f"{kind}  [default: {default}]".strip()
    return option, kind if parameter.kind is inspect.Parameter.VAR_POSITIONAL else f"{kind}  [required]".strip()


def _default(value: Any) -> str:
    return value.name if isinstance(value, enum.Enum) else repr_of(value)


def _target(words: Sequence[str]) -> str | None:
    """The word that names a flow, as far as a look at the words tells."""
    plain = [word for word in words if not word.startswith("-") and "=" not in word]
    return next((word for word in plain if word.endswith(".py") or (":" in word and "//" not in word)), None)
