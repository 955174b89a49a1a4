"""What every error must have: a class, a code, a hint, and a pickle that restores it."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest

from penstock.errors import PenstockError


@pytest.fixture
def sound() -> Callable[..., None]:
    """Check an error: its class, its stable code, a hint that says what to do, and that it can be pickled."""

    def check(error: BaseException, kind: type[PenstockError], code: str) -> None:
        assert type(error) is kind
        assert isinstance(error, PenstockError)
        assert error.code == code
        assert error.hint, error
        assert error.hint in str(error)
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is kind
        assert again.to_dict() == error.to_dict()

    return check


@pytest.fixture(params=["threads", pytest.param("processes", marks=pytest.mark.slow)])
def runner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each local runner in turn, chosen in the settings."""
    monkeypatch.setenv("PENSTOCK_RUNNER", f"{request.param}?workers=2")
    return request.param
