"""How errors are printed, and which exit codes they have."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

import penstock.flows.definition
from penstock import errors
from penstock.cli.failures import exit_code_of
from penstock.objects.tracebacks import users_frames


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UsageError("x"), 2),
        (errors.ParameterError("x"), 2),
        (errors.DigestError("x"), 2),
        (errors.InfrastructureError("x"), 3),
        (errors.StoreUnreachable("x"), 3),
        (errors.RunnerError("x"), 3),
        (errors.TaskTimeout("x"), 1),
        (errors.UpstreamFailed("x"), 1),
        (errors.DamagedResult("x"), 1),
        (ValueError("x"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_the_class_of_an_error_decides_the_exit_code(error: BaseException, code: int) -> None:
    assert exit_code_of(error) == code


def test_a_traceback_keeps_only_the_frames_of_the_user() -> None:
    text = (
        "Traceback (most recent call last):\n"
        f'  File "{penstock.flows.definition.__file__}", line 3, in run\n    call()\n    ^^^^^^\n'
        '  File "/home/me/flows.py", line 7, in mine\n    json.loads("{")\n    ~~~~~~~~~~^^^^^\n'
        f'  File "{traceback.__file__}", line 9, in library\n    raise\n'
        "ValueError: what\n  it says\n"
    )
    assert users_frames(text) == (
        "Traceback (most recent call last):\n"
        '  File "/home/me/flows.py", line 7, in mine\n    json.loads("{")\n    ~~~~~~~~~~^^^^^\n'
        "ValueError: what\n  it says\n"
    )


def test_both_parts_of_a_chained_traceback_are_shortened() -> None:
    ours = f'  File "{penstock.flows.definition.__file__}", line 3, in run\n    call()\n'
    mine = '  File "/home/me/flows.py", line 7, in mine\n    f()\n'
    head, middle = "Traceback (most recent call last):\n", "\nDuring handling of the above exception:\n\n"
    text = head + ours + mine + "KeyError: 1\n" + middle + head + ours + mine + "ValueError: 2\n"
    assert users_frames(text) == text.replace(ours, "")


def test_a_traceback_without_user_frames_stays_readable() -> None:
    frame = f'  File "{penstock.flows.definition.__file__}", line 3, in run\n    call()\n'
    ours = f"Traceback (most recent call last):\n{frame}KeyError\n"
    assert users_frames(ours) == ours


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("ls", "`penstock cache ls` or `penstock locks ls` or `penstock limits ls` or `penstock keys ls`"),
        ("verify", "`penstock cache verify`"),
        ("docter", "`penstock doctor`"),
    ],
)
def test_the_error_for_an_unknown_command_names_the_one_that_is_meant(call, typed: str, meant: str) -> None:
    done = call(typed)
    assert done.exit_code == 2
    assert f"there is no command '{typed}'. Did you mean {meant}?" in done.stderr


def test_an_empty_store_of_a_variable_is_said_to_be_empty(
    call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "typo"))
    done = call("cache", "ls")
    assert done.exit_code == 0
    assert f"nothing was ever stored in file://{tmp_path}/typo" in done.stderr
