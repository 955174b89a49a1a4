"""Secret parameters of a flow appear in no record, log, stored parameter or message. Resuming asks for them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from penstock.errors import ParameterError
from penstock.storage import open_store

SECRET = "hunter2-and-more"
FLOWS = """
    import logging
    from pathlib import Path
    from penstock import INPUTS, flow, get_run_logger, task

    HERE = Path(__file__).parent

    @task(cache_policy=INPUTS)
    def connect(day, token):
        return day

    @task(retries=1)
    def query(day, url):
        get_run_logger().warning("asking %s", url)
        if (HERE / "broken").exists():
            raise ConnectionError(f"no answer from {url}")
        return day

    @flow
    def loading(day: int, token: str, url: str = "", config: dict = None):
        first = connect(day, token)
        if (HERE / "refused").exists():
            raise PermissionError(f"{token} was refused")
        return query(first, url or f"postgres://me:{token}@db/x")
"""
GIVEN = ["--day", "1", "--token", SECRET]


@pytest.fixture
def store(write: Any) -> Path:
    write("flows.py", FLOWS)
    return write("store/.keep", "").parent


@pytest.fixture
def penstock(call: Any, store: Path) -> Any:
    """Run `penstock ...` and check that it neither prints nor stores a secret."""

    def penstock(*words: str, **more: Any) -> Any:
        done = call(*words, "--store", str(store), **more)
        assert SECRET not in done.output
        assert [path for path in store.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()] == []
        return done

    return penstock


@pytest.mark.parametrize("failing", ["broken", "refused", None])
@pytest.mark.parametrize("more", [(), ("--json",), ("--debug",)])
def test_a_secret_appears_nowhere(penstock: Any, store: Path, failing: str | None, more: tuple[str, ...]) -> None:
    if failing:
        (store.parent / failing).touch()
    done = penstock("run", "flows.py:loading", *GIVEN, *more)
    assert done.exit_code == (1 if failing else 0)
    assert not failing or "***" in done.output
    shown = json.loads(penstock("show", "last", "--json").stdout)["run"]
    assert shown["parameters"]["token"] == "***"
    assert shown["parameters"]["day"] == "1"
    penstock("show", "last", "--debug")


def test_a_secret_inside_a_parameter_is_not_shown(penstock: Any) -> None:
    config = json.dumps({"day": 1, "token": "", "config": {"db": {"password": "s3cr3t-one"}}})
    penstock("run", "flows.py:loading", "--parameters", config)
    shown = json.loads(penstock("show", "last", "--json").stdout)["run"]["parameters"]
    assert shown["config"] == "{'db': {'password': '***'}}"


def test_resuming_a_run_requires_its_secrets_again(penstock: Any, store: Path) -> None:
    (store.parent / "broken").touch()
    failed = penstock("run", "flows.py:loading", *GIVEN)
    (store.parent / "broken").unlink()
    assert " -p token=…" in failed.output
    refused = penstock("resume", "last")
    assert refused.exit_code == 2
    assert "token is secret" in refused.output
    assert "-p NAME=VALUE" in refused.output
    assert penstock("resume", "last", "-p", "day=2", "-p", f"token={SECRET}").exit_code == 2
    done = penstock("resume", "last", "-p", f"token={SECRET}")
    assert done.exit_code == 0
    assert "reused 1, ran 1" in done.output


def test_a_terminal_prompts_for_a_secret(penstock: Any, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import click

    from penstock.cli.commands import run

    (store.parent / "broken").touch()
    penstock("run", "flows.py:loading", *GIVEN)
    (store.parent / "broken").unlink()
    asked = []

    class Terminal:
        def isatty(self) -> bool:
            return True

    class Sys:
        stdin = Terminal()
        stderr = run.sys.stderr

    def prompt(text: str, *, hide_input: bool, err: bool) -> str:
        asked.append((text, hide_input))
        return SECRET

    monkeypatch.setattr(run, "sys", Sys)
    monkeypatch.setattr(click, "prompt", prompt)
    assert penstock("resume", "last").exit_code == 0
    assert asked == [("token", True)]


@pytest.mark.needs("pydantic")
def test_a_secret_value_is_stored_nowhere_at_any_depth(tmp_path: Path) -> None:
    from pydantic import BaseModel, SecretStr

    from penstock import flow
    from penstock.settings import load_settings

    class Login(BaseModel):
        user: str
        phrase: SecretStr

    seen = []

    @flow
    def logging_in(login: Any, day: int) -> int:
        seen.append(login.phrase.get_secret_value())
        if len(seen) == 1:
            raise ValueError(f"{login.phrase.get_secret_value()} is wrong")
        return day

    settings = load_settings(overrides={"store": str(tmp_path / "store")})
    login = Login(user="me", phrase=SecretStr(SECRET))
    run = logging_in.run_with({"login": login, "day": 7}, settings=settings)
    assert run.state == "failed"
    kept = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert any(path.name == "parameters.pkl" for path in kept)
    assert [path for path in kept if SECRET.encode() in path.read_bytes()] == []
    with pytest.raises(ParameterError, match="login is secret"):
        logging_in.resume(run.id, settings=settings)
    assert logging_in.resume(run.id, parameters={"login": login}, settings=settings).result() == 7
    with pytest.raises(ParameterError, match="cannot be changed"):
        logging_in.resume(run.id, parameters={"login": login, "day": 8}, settings=settings)


def test_an_error_does_not_repeat_an_invalid_secret(penstock: Any, write: Any) -> None:
    write(
        "typed.py",
        """
        from penstock import flow

        @flow
        def typed(token: int):
            return 1
    """,
    )
    done = penstock("run", "typed.py:typed", "--token", SECRET)
    assert done.exit_code == 2
    assert "cannot be the given value" in done.output


def test_a_signature_covers_which_parameters_are_secret(tmp_path: Path) -> None:
    from penstock import flow
    from penstock.errors import SignatureRefused
    from penstock.settings import load_settings
    from penstock.storage.records.signing_keys import write_new_file

    @flow
    def signed(token: str) -> int:
        raise LookupError("no")

    write_new_file(str(tmp_path / "keys"))
    settings = load_settings(
        overrides={"store": str(tmp_path / "store"), "signing_keys": str(tmp_path / "keys"), "require_signatures": True}
    )
    run = signed.run_with({"token": SECRET}, settings=settings)
    name = f"runs/{run.id}/run.json"
    store = open_store(settings.store)
    record = json.loads(store.get(name) or b"")
    assert record["secrets"] == ["token"]
    store.put(name, json.dumps(record | {"secrets": []}).encode())
    with pytest.raises(SignatureRefused):
        signed.resume(run.id, settings=settings)


@dataclasses.dataclass
class Account:
    host: str
    password: str


@dataclasses.dataclass(slots=True)
class Slotted:
    password: str


@pytest.mark.parametrize(
    "value",
    [
        Account("db", SECRET),
        [Slotted(SECRET)],
        {"headers": {"Authorization": f"Bearer {SECRET}"}},
        f"postgres://me:{SECRET}@db/x",
        {"urls": [f"https://x/?token={SECRET}&page=1"]},
    ],
)
def test_a_parameter_that_contains_a_secret_is_not_stored(tmp_path: Path, value: Any) -> None:
    from penstock import flow
    from penstock.settings import load_settings

    seen = []

    @flow
    def loading(day: int, source: Any) -> int:
        seen.append(source)
        if len(seen) == 1:
            raise ValueError("not yet")
        return day

    settings = load_settings(overrides={"store": str(tmp_path / "store")})
    run = loading.run_with({"day": 7, "source": value}, settings=settings)
    kept = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert any(path.name == "parameters.pkl" for path in kept)
    assert [path for path in kept if SECRET.encode() in path.read_bytes()] == []
    with pytest.raises(ParameterError, match="source is secret"):
        loading.resume(run.id, settings=settings)
    assert loading.resume(run.id, parameters={"source": value}, settings=settings).result() == 7


def test_parameters_without_secrets_are_stored(tmp_path: Path) -> None:
    from penstock.objects.secrets import secret_parameters

    assert secret_parameters({"a": Account("db", ""), "url": "https://x/?page=1", "n": {"max_tokens": 3}}) == []
