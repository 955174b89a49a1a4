"""Tests of users may replace what tasks use by mocks: the mock is called, and its results are never found again."""

from __future__ import annotations

import calendar
import copy
import dataclasses
import datetime
import os
import pathlib
import sys
import textwrap
import threading
import urllib.request
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import pytest

from penstock import INPUTS, TASK_CODE, flow, task
from penstock.digests.python import digest

THIS = sys.modules[__name__]


def fetch(day: str) -> str:
    raise AssertionError(f"{day} was fetched")


@dataclasses.dataclass
class Client:
    url: str

    def get(self, day: str) -> str:
        return fetch(day)


client = Client("https://example.com")


@task(cache_policy=INPUTS + TASK_CODE)
def features(day: str) -> str:
    return fetch(day)


@task(cache_policy=INPUTS + TASK_CODE)
def by_client(day: str) -> str:
    return client.get(day)


@task(cache_policy=INPUTS + TASK_CODE)
def given(source: Any, day: str) -> str:
    return source.get(day)


@flow
def weekly() -> list[str]:
    return [features("a"), by_client("a")]


def test_a_function_replaced_by_a_mock_is_called() -> None:
    with mock.patch.object(THIS, "fetch", return_value="m") as fetched:
        assert weekly() == ["m", "m"]
    assert fetched.call_count == 2


def test_a_function_replaced_with_its_signature_is_called() -> None:
    with mock.patch.object(THIS, "fetch", autospec=True, return_value="m") as fetched:
        assert weekly() == ["m", "m"]
    fetched.assert_called_with("a")


def test_results_computed_with_another_mock_are_not_found() -> None:
    for value in ("one", "two"):
        with mock.patch.object(THIS, "fetch", return_value=value) as fetched:
            assert [weekly(), weekly()] == [[value, value]] * 2
        assert fetched.call_count == 2


@pytest.mark.parametrize("autospec", [False, True])
def test_a_method_replaced_by_a_mock_is_called(autospec: bool) -> None:
    for value in ("one", "two"):
        with mock.patch.object(Client, "get", return_value=value, **({"autospec": True} if autospec else {})):
            assert by_client("a") == value


@pytest.mark.parametrize("spec", [None, Client, dict, type(fetch)])
def test_an_object_replaced_by_a_mock_is_used(spec: Any) -> None:
    with mock.patch.object(THIS, "client", mock.MagicMock(spec=spec, get=lambda day: day + "!")):
        assert by_client("a") == "a!"


def test_a_mock_as_an_argument_is_used() -> None:
    source = mock.create_autospec(Client, instance=True)
    source.get.return_value = "m"
    assert given(source, "a") == "m"


def test_a_mock_equals_no_other() -> None:
    one, other = mock.MagicMock(), mock.MagicMock()
    before = digest(one)
    one("called")
    assert digest(one) == before != digest(other)


def test_a_mock_that_is_configured_anew_is_another() -> None:
    with mock.patch.object(THIS, "fetch") as fetched:
        fetched.return_value = "one"
        assert [features("a"), features("a")] == ["one", "one"]
        fetched.return_value = "two"
        assert features("a") == "two"
        fetched.side_effect = lambda day: "three"
        assert features("a") == "three"
    assert fetched.call_count == 3
    with mock.patch.object(THIS, "fetch", autospec=True, return_value="four") as fetched:
        assert features("a") == "four"
        fetched.return_value = "five"
        assert features("a") == "five"
        fetched.side_effect = OSError
        with pytest.raises(OSError):
            features("a")


def test_what_calls_leave_in_a_mock_does_not_count() -> None:
    one = mock.MagicMock()
    one.get.return_value.json.return_value = {"a": [1]}
    before = digest(one)
    one.get("x").json()
    one.other.method(1)[2]
    assert digest(one) == before
    one.get.return_value.json.return_value["a"].append(2)
    assert digest(one) != before


def test_a_copy_of_a_mock_is_another() -> None:
    one = mock.Mock(return_value=1)
    assert len({digest(one), digest(copy.copy(one)), digest(copy.deepcopy(one))}) == 3


@pytest.mark.parametrize("made", [mock.Mock, mock.MagicMock, mock.AsyncMock, lambda: mock.create_autospec(fetch)])
def test_any_mock_can_be_an_argument_or_a_constant(made: Any) -> None:
    double = made()

    @task(cache_policy=INPUTS + TASK_CODE)
    def use(given: Any) -> bool:
        return given is not None and double is not None

    assert [use(double), use([double]), use({"a": double})] == [True] * 3


@task(cache_policy=INPUTS + TASK_CODE)
def dedented(text: str) -> str:
    return textwrap.dedent(text)


@task(cache_policy=INPUTS + TASK_CODE)
def dedented_by_import(text: str) -> str:
    import textwrap

    return textwrap.dedent(text)


@task(cache_policy=INPUTS + TASK_CODE)
def filled(text: str) -> str:
    return textwrap.TextWrapper().fill(text)


@task(cache_policy=INPUTS + TASK_CODE)
def read(path: str) -> str:
    return Path(path).read_text()


REPLACED = [(dedented, "textwrap.dedent"), (dedented_by_import, "textwrap.dedent")]
REPLACED += [(filled, "textwrap.TextWrapper.fill"), (read, "pathlib.Path.read_text")]
WAYS: dict[str, dict[str, Any]] = {
    "mock": {"return_value": "mocked"},
    "autospec": {"autospec": True, "return_value": "mocked"},
    "function": {"new": lambda *_: "mocked"},
}


@pytest.mark.parametrize(
    ("used", "target", "way"),
    [(*each, way) for each in REPLACED for way in ("mock", "autospec")] + [(*REPLACED[0], "function")],
)
def test_results_computed_with_a_replaced_installed_function_are_not_found_without_it(
    used: Any, target: str, way: str, tmp_path: Path
) -> None:
    file = tmp_path / "file.txt"
    file.write_text("real")
    given = str(file) if used is read else "real"
    for _ in range(2):
        with mock.patch(target, **WAYS[way]):
            assert used(given) == "mocked"
        assert used(given) == "real"


class Settings:
    client: ClassVar[Any] = dict()  # noqa: C408 (a call, which the class statement computes)


@task(cache_policy=INPUTS + TASK_CODE)
def by_settings(name: str) -> Any:
    return Settings.client.get(name)


def test_a_class_attribute_that_is_computed_can_be_replaced() -> None:
    with mock.patch.object(Settings, "client", mock.Mock(get=lambda name: "mocked")):
        assert by_settings("x") == "mocked"
    assert by_settings("x") is None


@task(cache_policy=INPUTS + TASK_CODE)
def filled_by_module(text: str) -> str:
    return textwrap.TextWrapper().fill(text)


@pytest.mark.parametrize("autospec", [False, True])
def test_results_computed_with_a_replaced_installed_class_are_not_found_without_it(autospec: bool) -> None:
    for _ in range(2):
        with mock.patch("textwrap.TextWrapper", **({"autospec": True} if autospec else {})) as wrapper:
            wrapper.return_value.fill.return_value = "mocked"
            assert filled_by_module("real") == "mocked"
        assert filled_by_module("real") == "real"


@pytest.mark.parametrize("autospec", [False, True])
def test_a_class_of_the_project_replaced_by_a_mock_is_called(autospec: bool) -> None:
    with mock.patch.object(THIS, "Client", **({"autospec": True} if autospec else {})) as made:
        made.return_value.get.return_value = "m"
        assert by_new_client("a") == "m"
    with pytest.raises(AssertionError, match="was fetched"):
        by_new_client("a")


@task(cache_policy=INPUTS + TASK_CODE)
def by_new_client(day: str) -> str:
    return Client("https://example.com").get(day)


class Unclear:
    def __bool__(self) -> bool:
        raise ValueError("neither true nor false, as an array")


@pytest.mark.parametrize("autospec", [False, True])
def test_each_return_value_counts(autospec: bool) -> None:
    with mock.patch.object(THIS, "fetch", **({"autospec": True} if autospec else {})) as fetched:
        found = {digest(fetched)}
        fetched("a")
        assert digest(fetched) in found
        for value in (0, [], False, None, Unclear(), mock.sentinel.one, mock.sentinel.two):
            fetched.return_value = value
            found.add(digest(fetched))
    assert len(found) == 8


@task(cache_policy=INPUTS + TASK_CODE)
def this_year(number: int) -> int:
    return datetime.datetime.now(datetime.UTC).year


@task(cache_policy=INPUTS + TASK_CODE)
def folder(number: int) -> str:
    return str(pathlib.Path.cwd())


@task(cache_policy=INPUTS + TASK_CODE)
def folder_by_class(number: int) -> str:
    return str(Path.cwd())


@task(cache_policy=INPUTS + TASK_CODE)
def address(number: int) -> str:
    return urllib.request.Request("http://a").full_url


@task(cache_policy=INPUTS + TASK_CODE)
def address_by_import(number: int) -> str:
    import urllib.request as requests

    return requests.Request("http://a").full_url


@task(cache_policy=INPUTS + TASK_CODE)
def loaded_by_import(number: int) -> Any:
    from json import loads

    return loads("[1]")


@task(cache_policy=INPUTS + TASK_CODE)
def month(number: int) -> str:
    return calendar.c.formatmonth(2000, 1)  # type: ignore[attr-defined, no-any-return]


@task(cache_policy=INPUTS + TASK_CODE)
def read_by_open(number: int) -> str:
    with open(os.devnull) as file:
        return file.read()


@task(cache_policy=INPUTS + TASK_CODE)
def answer(number: int) -> str:
    try:
        return input()
    except (EOFError, OSError):  # pytest reads nothing
        return "none"


class Year2000(datetime.datetime):
    @classmethod
    def now(cls, tz: Any = None) -> Year2000:
        return cls(2000, 1, 1, tzinfo=tz)


def _mine(*_: Any) -> str:
    return "mine"


IN_PLACE: list[tuple[Any, str, dict[str, Any]]] = [
    (this_year, "datetime.datetime", {"new": mock.Mock(**{"now.return_value.year": 1999})}),
    (this_year, "datetime.datetime", {"new": Year2000}),
    (folder, "pathlib.Path.cwd", {"return_value": "mocked"}),
    (folder, "pathlib.Path.cwd", {"new": _mine}),
    (folder_by_class, "pathlib.Path.cwd", {"new": _mine}),
    (folder_by_class, "pathlib.Path.cwd", {"new": classmethod(_mine)}),
    (address, "urllib.request", {"new": mock.Mock(**{"Request.return_value.full_url": "mocked"})}),
    (address_by_import, "urllib.request", {"new": mock.Mock(**{"Request.return_value.full_url": "mocked"})}),
    (loaded_by_import, "json.loads", {"new": _mine}),
    (month, "calendar.c.formatmonth", {"return_value": "mocked"}),
    (read_by_open, "builtins.open", {"new": mock.mock_open(read_data="mocked")}),
    (answer, "builtins.input", {"return_value": "mocked"}),
    (answer, "builtins.input", {"new": _mine}),
]


@pytest.mark.parametrize(("used", "target", "how"), IN_PLACE)
def test_results_computed_with_something_in_place_of_what_a_name_means_are_not_found_without_it(
    used: Any, target: str, how: dict[str, Any]
) -> None:
    real = used(1)
    with mock.patch(target, **how):
        assert used(1) == used.fn(1) != real
        used(2)
    assert used(2) == real


@pytest.mark.needs("pandas")
def test_results_computed_with_a_replaced_class_method_of_a_package_are_not_found_without_it() -> None:
    @task(cache_policy=INPUTS + TASK_CODE)
    def rows(number: int) -> int:
        import pandas as pd

        return len(pd.DataFrame.from_dict({"a": [number]}))

    assert rows(1) == 1
    with mock.patch("pandas.DataFrame.from_dict", return_value=[1, 2, 3]):
        assert [rows(1), rows(2)] == [3, 3]
    assert rows(2) == 1


def test_a_property_set_on_the_class_of_a_mock_counts() -> None:
    service = mock.Mock()

    @task(cache_policy=INPUTS + TASK_CODE)
    def version(given: Any) -> int:
        return given.version + service.version

    found = []
    for number in (1, 2):
        made = mock.PropertyMock(return_value=number)
        type(service).version = made
        found.append(version(service))
        made.return_value = number + 4
        found.append(version(service))
    assert found == [2, 10, 4, 12]


class Reply:
    def __init__(self) -> None:
        self.code = 200
        self.lock = threading.Lock()


@pytest.mark.parametrize("within", [lambda reply: reply, lambda reply: [{"reply": reply}]])
def test_a_change_in_what_a_mock_returns_counts(within: Any) -> None:
    reply = Reply()
    one = mock.Mock(return_value=within(reply))
    before = digest(one)
    assert digest(one) == before
    reply.code = 404
    assert digest(one) != before


def test_what_a_mock_returns_equals_no_other() -> None:
    one = mock.Mock(return_value=threading.Lock())
    before = digest(one)
    one.return_value = threading.Lock()
    assert digest(one) != before


def test_what_holds_itself_can_be_returned_by_a_mock() -> None:
    reply = Reply()
    reply.again = [reply]  # type: ignore[attr-defined]
    one = mock.Mock(return_value=reply)
    one.side_effect = lambda: one(reply)
    assert digest(one) == digest(one)


def _use(given: Any) -> list[Any]:
    with given("x") as file:
        found = [file.readline(), list(file), file == given, hash(file), bool(file), str(file)]
    return [*found[:2], given.other.method(1) is None]


def _served(given: Any) -> Any:
    return given.get("a")


@pytest.mark.parametrize(
    ("made", "used"),
    [
        (lambda: mock.mock_open(mock.MagicMock(), read_data="a\nb"), _use),
        (lambda: mock.MagicMock(), _use),
        (lambda: mock.Mock(wraps=Wrapped()), _served),
        (lambda: mock.MagicMock(wraps=Wrapped()), len),
        (lambda: mock.create_autospec(Wrapped, instance=True), lambda given: str(given.inner.get("a"))),
        (lambda: mock.Mock(get=mock.create_autospec(fetch, side_effect=["a", "b"])), _served),
        (lambda: mock.Mock(**{"get.return_value": threading.Event()}), lambda given: given.get().set()),
    ],
)
def test_what_a_call_makes_in_a_mock_does_not_count(made: Any, used: Any) -> None:
    given = made()
    before = digest(given)
    used(given)
    assert digest(given) == before


class Wrapped:
    inner = Client("https://example.com")

    def get(self, day: str) -> str:
        return day

    def __len__(self) -> int:
        return 3


def test_a_mock_of_open_can_be_an_argument() -> None:
    @task(cache_policy=INPUTS + TASK_CODE)
    def read_all(opener: Any) -> str:
        with opener("x") as file:
            return str(file.read())

    opener = mock.mock_open(read_data="a")
    assert read_all(opener) == "a"
    mock.mock_open(opener, read_data="b")
    assert read_all(opener) == "b"


def test_an_attribute_deleted_from_a_mock_counts() -> None:
    one = mock.Mock()
    one.get("a")
    before = digest(one)
    del one.get
    assert digest(one) != before


RATE = 1
_LOCK = threading.Lock()
service = mock.Mock()
services = {"one": service}


def priced(number: int) -> int:
    with _LOCK:  # which has no digest
        return number * RATE if service.calm else 0


class Prices:
    def get(self, number: int) -> int:
        return number * RATE


@task(cache_policy=INPUTS + TASK_CODE)
def price(number: int) -> Any:
    return service.price(number)


@task(cache_policy=INPUTS + TASK_CODE)
def price_of_many(number: int) -> Any:
    return services["one"].price(number)


@pytest.mark.parametrize("used", [price, price_of_many])
@pytest.mark.parametrize(
    "how",
    [
        {"price.side_effect": priced},
        {"price": mock.Mock(wraps=priced)},
        {"price": priced},
        {"price.side_effect": Prices().get},
        {"price": mock.create_autospec(priced, side_effect=priced)},
    ],
)
def test_a_function_that_a_mock_calls_is_followed(
    used: Any, how: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with mock.patch.object(THIS, "service", mock.Mock(**how)) as made, mock.patch.dict(services, one=made):
        assert used(10) == 10
        monkeypatch.setattr(THIS, "RATE", 2)
        assert used(10) == 20


def test_a_mock_that_calls_what_has_no_digest_or_source_is_called() -> None:
    lock = threading.Lock()
    scope: dict[str, Any] = {"__name__": __name__}
    exec("def unwritten(number): return number", scope)
    for effect in (scope["unwritten"], lambda number: number if lock else None):
        with mock.patch.object(THIS, "service", mock.Mock(**{"price.side_effect": effect})):
            assert price(3) == 3


class Session:
    url = "real"

    def __enter__(self) -> str:
        return self.url

    def __exit__(self, *error: object) -> None:
        pass

    def __call__(self) -> str:
        return self.url


def used() -> str:
    with Session() as entered:
        return f"{entered} {Session()()}"


@pytest.mark.parametrize(
    ("name", "changes", "value"),
    [
        ("__enter__", {"return_value": "mocked"}, "mocked real"),
        ("__call__", {"return_value": "mocked"}, "real mocked"),
        ("url", {"new_callable": mock.PropertyMock, "return_value": "mocked"}, "mocked mocked"),
        ("__call__", {"new": lambda self: "other"}, "real other"),
    ],
)
def test_what_takes_the_place_of_special_methods_and_constants_of_a_class_counts(
    name: str, changes: dict[str, Any], value: str
) -> None:
    uses = task(cache_policy=INPUTS + TASK_CODE)(used)
    with mock.patch.object(Session, name, **changes):
        assert uses() == value
    assert uses() == "real real"
    with mock.patch.object(Session, name, **changes):
        assert uses() == value
