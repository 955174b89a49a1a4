"""Flow parameters from the command line."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import json
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Optional

import msgspec
import pytest

from penstock import flow
from penstock.cli.parameters import read_parameters
from penstock.errors import ParameterError


class Colour(enum.Enum):
    RED = "r"
    BLUE = "b"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass
class Window:
    start: dt.date
    days: int = 7


Positive = typing.Annotated[int, msgspec.Meta(gt=0)]


def flow_with(annotation: Any, **default: Any) -> Any:
    """Return a flow with one parameter `x`, declared as given."""

    def one(x):
        return x

    one.__annotations__ = {"x": annotation}
    one.__defaults__ = (default["default"],) if default else None
    return flow(one)


def read(annotation: Any, *words: str, **default: Any) -> Any:
    parameters, rest = read_parameters(flow_with(annotation, **default), words)
    assert rest == []
    return parameters["x"]


@pytest.mark.parametrize(
    ("annotation", "words", "value"),
    [
        (int, ["--x", "3"], 3),
        (int, ["--x=-3"], -3),
        (int, ["--x", "-3"], -3),
        (float, ["--x", "2.5"], 2.5),
        (float, ["--x", "1e3"], 1000.0),
        (str, ["--x", "3"], "3"),
        (str, ["--x", "[1]"], "[1]"),
        (str, ["--x", ""], ""),
        (bool, ["--x"], True),
        (bool, ["--no-x"], False),
        (bool, ["--x=false"], False),
        (bool | None, ["--x"], True),
        (dt.date, ["--x", "2024-02-29"], dt.date(2024, 2, 29)),
        (dt.datetime, ["--x", "2024-02-29T12:00:00"], dt.datetime(2024, 2, 29, 12)),
        (dt.timedelta, ["--x", "90"], dt.timedelta(seconds=90)),
        (decimal.Decimal, ["--x", "0.10"], decimal.Decimal("0.10")),
        (Path, ["--x", "a/b"], Path("a/b")),
        (int | None, ["--x", "3"], 3),
        (Optional[int], ["--x", "null"], None),  # noqa: UP045 (users write it so)
        (str | None, ["--x", "3"], "3"),
        (int | str, ["--x", "3"], 3),
        (int | str, ["--x", "three"], "three"),
        (dt.date | str, ["--x", "2024-01-01"], dt.date(2024, 1, 1)),
        (Literal["a", "b"], ["--x", "b"], "b"),
        (Literal[1, 2], ["--x", "2"], 2),
        (Colour, ["--x", "r"], Colour.RED),
        (Colour, ["--x", "BLUE"], Colour.BLUE),
        (Colour | None, ["--x", "BLUE"], Colour.BLUE),
        (Level, ["--x", "2"], Level.HIGH),
        (list[Colour], ["--x", "RED", "--x", "b"], [Colour.RED, Colour.BLUE]),
        (list[int], ["--x", "1", "--x", "2"], [1, 2]),
        (list[int], ["--x", "[1, 2]"], [1, 2]),
        (list[dt.date], ["--x", "2024-01-01"], [dt.date(2024, 1, 1)]),
        (list[str] | None, ["--x", "1"], ["1"]),
        (list, ["--x", "1", "--x", "a"], [1, "a"]),
        (tuple[int, ...], ["--x", "1", "--x", "2"], (1, 2)),
        (tuple[int, str], ["--x", "1", "--x", "2"], (1, "2")),
        (set[int], ["--x", "1", "--x", "1"], {1}),
        (Sequence[int], ["--x", "1"], [1]),
        (Iterable[int], ["--x", "1"], [1]),
        (list[list[int]], ["--x", "[1, 2]", "--x", "[3]"], [[1, 2], [3]]),
        (dict[str, float], ["--x", '{"a": 1}'], {"a": 1.0}),
        (Window, ["--x", '{"start": "2024-01-01"}'], Window(dt.date(2024, 1, 1))),
        (list[Window], ["--x", '{"start": "2024-01-01", "days": 1}'], [Window(dt.date(2024, 1, 1), 1)]),
        (Positive, ["--x", "3"], 3),
        (Any, ["--x", "3"], 3),
        (Any, ["--x", "three"], "three"),
        ("NotImportedHere", ["--x", "three"], "three"),
        ("list[int]", ["--x", "3"], [3]),
    ],
)
def test_the_annotation_decides_how_a_value_is_read(annotation: Any, words: list[str], value: Any) -> None:
    found = read(annotation, *words)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("annotation", "words", "because"),
    [
        (int, ["--x", "three"], "a whole number"),
        (float, ["--x", "much"], "a number"),
        (bool, ["--x=perhaps"], "bool"),
        (dt.date, ["--x", "2024-02-30"], "date"),
        (int | None, ["--x", "three"], "a whole number"),
        (Literal["a", "b"], ["--x", "c"], "none of a, b"),
        (Colour, ["--x", "green"], "none of RED, BLUE"),
        (list[int], ["--x", "1", "--x", "two"], "$[1]"),
        (tuple[int, str], ["--x", "1"], "2 values"),
        (int, ["--x", "1", "--x", "2"], "2 times"),
        (Window, ["--x", "2024-01-01"], "JSON"),
        (Window, ["--x", "{}"], "start"),
        (Positive, ["--x", "0"], ">= 1"),
        (type, ["--x", "int"], "cannot be given"),
    ],
)
def test_the_error_for_an_invalid_value_names_the_parameter(annotation: Any, words: list[str], because: str) -> None:
    with pytest.raises(ParameterError) as caught:
        read(annotation, *words)
    assert caught.value.data["name"] == "x"
    assert "parameter x of one" in caught.value.what
    assert because in caught.value.because


@pytest.mark.needs("pydantic")
def test_pydantic_models_validate_the_given_values() -> None:
    import pydantic

    class Model(pydantic.BaseModel):
        depth: int
        day: dt.date = dt.date(2024, 1, 1)

    assert read(Model, "--x", '{"depth": "3"}') == Model(depth=3)
    assert read(list[Model], "--x", '{"depth": 1}', "--x", '{"depth": 2}') == [Model(depth=1), Model(depth=2)]
    assert read(Model | None, "--x", '{"depth": 1}') == Model(depth=1)
    with pytest.raises(ParameterError, match="depth"):
        read(Model, "--x", '{"depth": "deep"}')


def test_the_default_gives_the_type_if_there_is_no_annotation() -> None:
    def guessed(n=3, rate=0.5, name="x", items=(), level=Level.LOW, other=None):
        return n

    words = ["--n", "4", "--rate", "1", "--name", "7", "--items", "1", "--level", "HIGH", "--other", "true"]
    parameters, _ = read_parameters(flow(guessed), words)
    expected = {"n": 4, "rate": 1.0, "name": "7", "items": (1,), "level": Level.HIGH, "other": True}
    assert parameters == expected


@flow
def many(days: list[dt.date], max_rows: int = 10, *, full: bool = False) -> None: ...


def test_options_assignments_and_json_are_equivalent() -> None:
    expected = {"days": [dt.date(2024, 1, 1)], "max_rows": 3, "full": True}
    ways = [
        read_parameters(many, ["--days", "2024-01-01", "--max-rows", "3", "--full"]),
        read_parameters(many, [], assignments=["days=2024-01-01", "max_rows=3", "full=true"]),
        read_parameters(many, [], document=json.dumps({"days": ["2024-01-01"], "max_rows": 3, "full": True})),
    ]
    assert ways == [(expected, [])] * 3


def test_options_win_over_json_and_json_over_defaults() -> None:
    parameters, _ = read_parameters(many, ["--max-rows", "5"], document='{"days": [], "max_rows": 4, "full": true}')
    assert parameters == {"days": [], "max_rows": 5, "full": True}


def test_json_can_be_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "parameters.json"
    file.write_text('{"days": ["2024-01-01"]}')
    parameters, _ = read_parameters(many, [], document=f"@{file}")
    assert parameters == {"days": [dt.date(2024, 1, 1)], "max_rows": 10, "full": False}


@pytest.mark.parametrize("document", ["{", "[]", "@nowhere.json", '{"dayz": []}', '{"days": 3}', '{"days": ["x"]}'])
def test_an_invalid_document_is_a_parameter_error(document: str) -> None:
    with pytest.raises(ParameterError):
        read_parameters(many, [], document=document)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--dayz", "1"], "--days"),
        (["--max-row", "1"], "--max-rows"),
        (["--runer", "threads"], "--runner"),
        (["--bananas", "1"], "days, max_rows, full"),
    ],
)
def test_the_error_for_an_unknown_option_suggests_a_similar_one(words: list[str], hint: str) -> None:
    with pytest.raises(ParameterError, match="has no parameter") as caught:
        read_parameters(many, words)
    assert hint in caught.value.hint


@pytest.mark.parametrize("words", [["--max-rows"], ["--max-rows", "--full"], ["--no-full=1"]])
def test_an_option_without_its_value_is_an_error(words: list[str]) -> None:
    with pytest.raises(ParameterError):
        read_parameters(many, [*words])


def test_the_error_for_a_missing_parameter_shows_all_parameters() -> None:
    with pytest.raises(ParameterError, match="needs the parameter days") as caught:
        read_parameters(many, [])
    assert "max_rows: int = 10" in caught.value.because.replace("'", "")
    assert "--days" in caught.value.hint


def test_variadic_parameters_take_the_remaining_values() -> None:
    @flow
    def open_ended(*items: int, **rest: Any) -> None: ...

    assert read_parameters(open_ended, []) == ({"items": (), "rest": {}}, [])
    given = ["--items", "1", "--items", "2", "--colour", "red", "--n", "3"]
    assert read_parameters(open_ended, given) == ({"items": (1, 2), "rest": {"colour": "red", "n": 3}}, [])


def test_words_that_belong_to_no_option_are_returned() -> None:
    tokens = ["first", "--days", "2024-01-01", "--full", "last"]
    parameters, rest = read_parameters(many, tokens, words=2)
    assert parameters["full"] is True
    assert rest == ["first", "last"]
    with pytest.raises(ParameterError, match="unexpected argument 'last'"):
        read_parameters(many, tokens, words=1)


@pytest.mark.parametrize(
    ("annotation", "words", "value"),
    [
        (Colour, ("--x", "BLUE"), Colour.BLUE),
        (Colour, ("--x", "b"), Colour.BLUE),
        (Level, ("--x", "HIGH"), Level.HIGH),
        (Level, ("--x", "2"), Level.HIGH),
        (list[Colour], ("--x", "RED", "--x", "b"), [Colour.RED, Colour.BLUE]),
        (Literal["fast", 2, True, None], ("--x", "2"), 2),
        (Literal["fast", 2, True, None], ("--x", "true"), True),
        (Literal[Colour.RED], ("--x", "RED"), Colour.RED),
        (Literal["fast"] | None, ("--x", "None"), None),
        (dt.date, ("--x", "2026-11-28"), dt.date(2026, 11, 28)),
        (dt.datetime, ("--x", "2026-11-28T17:30"), dt.datetime(2026, 11, 28, 17, 30)),
        (dt.datetime | None, ("--x", "2026-11-28T17:30Z"), dt.datetime(2026, 11, 28, 17, 30, tzinfo=dt.UTC)),
        (list[dt.date], ("--x", "2026-11-28"), [dt.date(2026, 11, 28)]),
        (dt.time, ("--x", "17:30"), dt.time(17, 30)),
    ],
)
def test_enums_literals_and_dates_accept_what_people_write(annotation: Any, words: Any, value: Any) -> None:
    found = read(annotation, *words)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("annotation", "text", "because"),
    [
        (Colour, "BLU", "it is none of RED, BLUE; did you mean BLUE?"),
        (Level, "3", "it is none of LOW, HIGH"),
        (Literal["fast", "slow"], "fsat", "it is none of fast, slow; did you mean fast?"),
        (list[Colour], "green", "it is none of RED, BLUE"),
        (dt.date, "tomorrow", "it is not a date such as 2026-11-28"),
        (dt.datetime, "noon", "it is not a time such as 2026-11-28T17:30 or 2026-11-28T17:30+01:00"),
    ],
)
def test_the_error_for_an_invalid_choice_or_date_lists_the_valid_ones(annotation: Any, text: str, because: str) -> None:
    with pytest.raises(ParameterError) as refused:
        read(annotation, "--x", text)
    assert refused.value.because == because


def test_json_accepts_the_values_and_the_names_of_choices() -> None:
    def given(value: Any) -> Any:
        return read_parameters(flow_with(Colour), (), document=json.dumps({"x": value}))[0]["x"]

    assert [given("r"), given("RED")] == [Colour.RED, Colour.RED]
    with pytest.raises(ParameterError, match="none of RED, BLUE"):
        given(3)


def test_the_error_for_a_missing_parameter_names_the_place_of_the_flow() -> None:
    with pytest.raises(ParameterError) as refused:
        read_parameters(flow_with(int), ())
    assert refused.value.where.startswith(f"{__file__}:")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--parameters", "{days: 1}"), "hint: write names and texts in double quotes"),
        (("--parameters", "@nowhere.json"), "because: No such file or directory\n  hint: write the name of a file"),
    ],
)
def test_a_parameter_that_cannot_be_read_is_explained(flows: Path, call, words: tuple[str, str], said: str) -> None:
    done = call("run", "pipelines.py:weekly", *words)
    assert done.exit_code == 2
    assert said in done.stderr
