"""Results with mocks are not stored: the pickle of a mock often cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import MagicMock, create_autospec

import pytest

from penstock import INPUTS, NO_CACHE, flow, task
from penstock.errors import SerializationError
from penstock.runners import ProcessRunner


class Client:
    def get(self, name: str) -> str:
        return name


def called() -> MagicMock:
    """Return a mock whose pickle cannot be read, since it was called."""
    mock = MagicMock()
    mock.client(1)
    return mock


MOCKS: dict[str, Callable[[], Any]] = {
    "itself": called,
    "inside": lambda: [1, {"client": called()}],
    "specified": lambda: create_autospec(Client, instance=True),
    "function": lambda: create_autospec(Client.get),
}


@pytest.mark.parametrize("kind", MOCKS)
def test_a_result_with_a_mock_is_used_and_not_published(kind: str) -> None:
    made, calls = MOCKS[kind](), []

    @task(cache_policy=INPUTS)
    def make() -> Any:
        calls.append(kind)
        return made

    @task(cache_policy=INPUTS)
    def use(value: Any) -> str:
        return type(value).__name__

    @flow
    def main() -> Any:
        future = make()
        return future.result(), use(future).result()

    for _ in range(2):
        value, name = main()
        assert (type(value), name) == (type(made), type(made).__name__)
    assert calls == [kind] * 2


def test_a_run_gets_the_mock_itself() -> None:
    made = called()
    value = flow(lambda: task(cache_policy=INPUTS)(lambda: made)())()
    value(2)
    made.assert_called_once_with(2)


@pytest.mark.parametrize("policy", [INPUTS, NO_CACHE], ids=["cached", "plain"])
def test_a_mock_does_not_leave_a_process(policy: Any) -> None:
    @task(cache_policy=policy)
    def make() -> Any:
        return [MagicMock()]

    with pytest.raises(SerializationError, match="it is a mock") as caught:
        flow(lambda: make()).with_options(runner=ProcessRunner(1)).run().result()
    assert caught.value.where == "result[0]"
