"""Every stored pickle can be unpickled."""

from __future__ import annotations

import copyreg
import io

import pytest

from penstock.errors import SerializationError
from penstock.storage.formats.pickles import dump, load


class TakesMore(Exception):
    def __init__(self, one: int, other: int) -> None:
        super().__init__(one)
        self.other = other


class Fits(Exception):
    def __init__(self, one: int, other: int) -> None:
        super().__init__(one, other)


class NoWayBack:
    def __reduce__(self) -> tuple[object, ...]:
        return int, ("x",)


@pytest.mark.parametrize("value", [[TakesMore(1, 2)], [NoWayBack()]])
def test_a_pickle_that_cannot_be_unpickled_is_refused_when_it_is_written(
    value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    # If Dask was imported before, tblib has made existing exceptions picklable.
    monkeypatch.delitem(copyreg.dispatch_table, TakesMore, raising=False)
    for _ in range(2):
        with pytest.raises(SerializationError, match="but not unpickled"):
            dump(value, io.BytesIO())


def test_an_exception_that_can_be_unpickled_is_stored() -> None:
    file = io.BytesIO()
    dump([Fits(1, 2)], file)
    assert load(file.getvalue())[0].args == (1, 2)
