"""Tests of users may replace what tasks use by mocks: the mock is called, and its results are never found again."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any
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
