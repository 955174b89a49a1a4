"""Tell what is imported without importing it; a module still being imported does not count."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from penstock.imported import loaded

SLOW = """
import threading
begun, may_end = threading.Event(), threading.Event()
begun.set()
may_end.wait(100)
class Value: ...
"""


def test_a_module_that_was_not_imported_is_absent_and_stays_so() -> None:
    assert loaded("penstock_has_no_such_module") is None
    assert "penstock_has_no_such_module" not in sys.modules


def test_an_imported_module_is_present() -> None:
    assert loaded("threading") is threading


def test_a_module_that_another_thread_is_importing_is_absent_until_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_to_import.py").write_text(SLOW)
    monkeypatch.syspath_prepend(str(tmp_path))
    thread = threading.Thread(target=__import__, args=["slow_to_import"])
    thread.start()
    while "slow_to_import" not in sys.modules or not hasattr(sys.modules["slow_to_import"], "begun"):
        thread.join(0.001)
    try:
        assert sys.modules["slow_to_import"].begun.wait(100)
        assert loaded("slow_to_import") is None
    finally:
        sys.modules["slow_to_import"].may_end.set()
        thread.join()
    assert loaded("slow_to_import").Value is not None
    del sys.modules["slow_to_import"]
