"""Flow parameters from the command line: text and JSON, turned into what the flow's annotations ask for.

--days 2024-01-01 --days 2024-01-02      a list, an option for each item
--n 3    --n=3    -p n=3                 equivalent
--full   --no-full                       a bool
--parameters '{"n": 3}'                  JSON, or @FILE with JSON in it; overridden by the others
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from penstock.cli.annotations import Unfit, annotations_of, from_json, from_texts, is_flag
from penstock.cli.options import GLOBAL_OPTIONS, own_options
from penstock.errors import ParameterError
from penstock.flows.definition import Flow
from penstock.objects.secrets import is_secret_name
from penstock.objects.texts import did_you_mean


def read_parameters(
    flow: Flow[..., Any],
    tokens: Sequence[str],
    *,
    assignments: Iterable[str] = (),
    document: str | None = None,
    words: int = 0,
) -> tuple[dict[str, Any], list[str]]:
    """The flow's arguments by parameter name, defaults filled in, and up to `words` tokens that belong to no option.

    `tokens` is what the command line holds beyond the command's own options, `assignments` are `NAME=VALUE` texts and
    `document` is JSON or `@FILE`. Raises `ParameterError` that names the parameter.
    """
    reader = _Reader(flow)
    rest = reader.read_tokens(tokens)
    if len(rest) > words:
        raise ParameterError(
            f"unexpected argument {rest[words]!r}",
            because="it belongs to no option",
            hint="write parameters as --NAME VALUE; repeat the option for each item of a list",
        )
    for assignment in assignments:
        reader.assign(assignment)
    return reader.arguments(_read_document(document)), rest


def read_assignments(flow: Flow[..., Any], assignments: Iterable[str]) -> dict[str, Any]:
    """What `NAME=VALUE` texts alone say. Raises as `read_parameters`."""
    reader = _Reader(flow)
    for assignment in assignments:
        reader.assign(assignment)
    return reader.given()


class _Reader:
    """Collects texts by parameter, then converts each by its annotation."""

    def __init__(self, flow: Flow[..., Any]) -> None:
        self.flow = flow
        self._parameters = flow.binding.inspected.parameters
        self._annotations = annotations_of(flow.fn, self._parameters)
        self._texts: dict[str, list[str]] = {}
        kinds = {name: parameter.kind for name, parameter in self._parameters.items()}
        self._rest = next((name for name, kind in kinds.items() if kind is inspect.Parameter.VAR_KEYWORD), None)
        self._named = [name for name in kinds if name != self._rest]

    def read_tokens(self, tokens: Sequence[str]) -> list[str]:
        """Note every option; returns what is none."""
        rest, waiting = [], list(reversed(tokens))
        while waiting:
            token = waiting.pop()
            if not token.startswith("--") or token == "--":
                rest.append(token)
                continue
            option, equals, text = token.partition("=")
            name, off = self._option(option)
            if not equals and is_flag(self._annotations.get(name)):
                text = "false" if off else "true"
            elif off:
                raise ParameterError(f"{option} takes no value", where=option, name=name)
            elif not equals:
                if not waiting or waiting[-1].startswith("--"):
                    raise ParameterError(
                        f"{option} needs a value", where=option, hint=f"write {option}=VALUE", name=name
                    )
                text = waiting.pop()
            self.add(name, text)
        return rest

    def add(self, name: str, text: str) -> None:
        """Note one text for a parameter."""
        self._texts.setdefault(name, []).append(text)

    def assign(self, assignment: str) -> None:
        """Note a `NAME=VALUE`."""
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ParameterError(f"-p {assignment} gives no value", hint="write -p NAME=VALUE")
        self.add(self.known(name, f"-p {name}"), text)

    def given(self) -> dict[str, Any]:
        """The parameters that were noted."""
        return {name: self._value(name, {}) for name in self._texts}

    def _option(self, option: str) -> tuple[str, bool]:
        """The parameter that an option names, and whether it says `no`."""
        name = option.removeprefix("--").replace("-", "_")
        positive = name.removeprefix("no_")
        if name not in self._named and positive in self._named and is_flag(self._annotations.get(positive)):
            return positive, True
        return self.known(name, option), False

    def known(self, name: str, given: str) -> str:
        """The name itself if the flow has such a parameter."""
        if name in self._named or self._rest is not None:
            return name
        options = {f"--{known.replace('_', '-')}" for known in self._named}
        there = f"its parameters are {', '.join(self._named)}" if self._named else "it takes none"
        raise ParameterError(
            f"{self.flow.name} has no parameter {name}",
            where=given,
            hint=did_you_mean(f"--{name.replace('_', '-')}", [*options, *GLOBAL_OPTIONS], there),
            name=name,
        )

    def arguments(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Every parameter's value. Texts win over the document, the document over defaults."""
        for name in document:
            self.known(name, "--parameters")
        values: dict[str, Any] = {}
        for name, parameter in self._parameters.items():
            if name == self._rest:
                others = [other for other in (*document, *self._texts) if other not in self._named]
                values[name] = {other: self._value(other, document) for other in others}
            elif name in self._texts or name in document:
                value = self._value(name, document)
                values[name] = tuple(value) if parameter.kind is inspect.Parameter.VAR_POSITIONAL else value
            elif parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                values[name] = ()
            elif parameter.default is not inspect.Parameter.empty:
                values[name] = parameter.default
            else:
                raise ParameterError(
                    f"{self.flow.name} needs the parameter {name}",
                    where=_place_of(self.flow),
                    because=f"it is defined as {self.flow.name}{self.flow.binding.inspected}",
                    hint=f"add {option_of(name)} VALUE" if option_of(name) else f"add -p {name}=VALUE",
                    name=name,
                )
        return values

    def _value(self, name: str, document: Mapping[str, Any]) -> Any:
        annotation = self._annotations.get(name, Any)
        texts = self._texts.get(name)
        try:
            return from_json(document[name], annotation) if texts is None else from_texts(texts, annotation)
        except Unfit as problem:
            raise ParameterError(
                f"the parameter {name} of {self.flow.name} cannot be {_shown(name, texts, document.get(name))}",
                where=" or ".join(filter(None, (option_of(name), f"-p {name}"))) if texts else f"--parameters, {name}",
                because=str(problem),
                hint=f"it is declared as {inspect.formatannotation(annotation)}",
                name=name,
            ) from problem


def option_of(name: str) -> str:
    """The option for a parameter; empty if the command has an option of that name."""
    option = f"--{name.replace('_', '-')}"
    return "" if option in own_options() else option


def _place_of(flow: Flow[..., Any]) -> str:
    """`file:line` of the flow's function, if it has one."""
    code = getattr(inspect.unwrap(flow.fn), "__code__", None)
    return "" if code is None else f"{code.co_filename}:{code.co_firstlineno}"


def _shown(name: str, texts: list[str] | None, value: Any) -> str:
    if is_secret_name(name):
        return "the given value"
    given = value if texts is None else texts[0] if len(texts) == 1 else texts
    text = repr(given)
    return text if len(text) <= 80 else text[:79] + "…"


def _read_document(document: str | None) -> dict[str, Any]:
    if document is None:
        return {}
    where, text = "--parameters", document
    if document.startswith("@"):
        where = document[1:]
        try:
            with open(where, encoding="utf-8") as file:
                text = file.read()
        except (OSError, UnicodeDecodeError) as error:
            because = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            hint = "write the name of a file with JSON after the @"
            raise ParameterError("cannot read the parameters", where=where, because=because, hint=hint) from error
    try:
        value = json.loads(text)
    except ValueError as error:
        hint = """write names and texts in double quotes: '{"days": 1, "name": "x"}'"""
        raise ParameterError("the parameters are not valid JSON", where=where, because=str(error), hint=hint) from error
    if not isinstance(value, dict):
        raise ParameterError("the parameters are not a JSON object", where=where, hint='write {"name": value, ...}')
    return value
