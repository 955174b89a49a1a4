"""Every kind of value that the tests have names for, as far as this environment can make it."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

_DICTS = [("tests.roundtrip.values_tables", "VALUES")]


def values() -> tuple[dict[str, Any], dict[str, str]]:
    """Return values by name, and those that cannot be made here with the reason."""
    made: dict[str, Any] = {}
    failed: dict[str, str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _python(made, failed)
        _tables(made, failed)
    return made, failed


def _python(made: dict[str, Any], failed: dict[str, str]) -> None:
    from tests.roundtrip import values_python

    for group, (make, _) in values_python.NEEDS.items():
        try:
            made |= {f"{group}: {name}": value for name, value in make().items()}
        except Exception as error:  # noqa: BLE001 - an older release may lack what a value is made of
            failed[group] = _said(error)


def _tables(made: dict[str, Any], failed: dict[str, str]) -> None:
    tables = importlib.import_module("tests.roundtrip.values_tables")
    for name, make in tables.VALUES.items():
        try:
            made[name] = make()
        except Exception as error:  # noqa: BLE001 - as above
            failed[name] = _said(error)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:160]
