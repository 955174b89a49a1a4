"""What is imported is told without importing it, and what is being imported is not there yet."""

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
may_end.wait(30)
class Value: ...
"""


def test_a_module_that_nobody_imported_is_not_there_and_is_not_imported() -> None:
    assert loaded("penstock_has_no_such_module") is None
    assert "penstock_has_no_such_module" not in sys.modules


def test_a_module_that_was_imported_is_there() -> None:
    assert loaded("threading") is threading


def test_a_module_that_another_thread_is_importing_is_not_there_before_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_to_import.py").write_text(SLOW)
    monkeypatch.syspath_prepend(str(tmp_path))
    thread = threading.Thread(target=__import__, args=["slow_to_import"])
    thread.start()
    while "slow_to_import" not in sys.modules or not hasattr(sys.modules["slow_to_import"], "begun"):
        thread.join(0.001)
    try:
        assert sys.modules["slow_to_import"].begun.wait(30)
        assert loaded("slow_to_import") is None
    finally:
        sys.modules["slow_to_import"].may_end.set()
        thread.join()
    assert loaded("slow_to_import").Value is not None
    del sys.modules["slow_to_import"]
