"""Secrets among names, values, texts and keys."""

from __future__ import annotations

import random
import string
from pathlib import Path
from typing import Any

import pytest

from penstock import INPUTS, flow, task
from penstock.digests.python import digest
from penstock.objects.secrets import (
    Redactor,
    holds_secret,
    is_secret_name,
    redacted_text,
    secret_parameters,
    shows_secret,
)
from penstock.settings import Settings, load_settings
from penstock.storage import open_store
from penstock.storage.records.records import ResultRecord
from penstock.storage.results import copying
from penstock.storage.results.salts import SALT_NAME, salt_of
from penstock.storage.results.store import ResultStore

SECRET = "hunter2-and-more"


@pytest.mark.parametrize(
    "name",
    [
        *("password", "passwd", "pwd", "passphrase", "db_password", "token", "hf_token", "auth_token", "accessToken"),
        *("secret", "client_secret", "api_key", "apikey", "API_KEY", "apiKey", "private_key", "credentials", "auth"),
        *("aws_secret_access_key", "signing_key", "password_text"),
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *("tokens", "max_tokens", "tokenizer", "n_tokens", "key", "keys", "primary_key", "sort_key", "key_name"),
        *("token_path", "password_file", "secret_name", "author", "path", "passes", "compass", "bypass", "pass_rate"),
    ],
)
def test_names_that_do_not_mean_secrets(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgres://me:p@ss/w@host/db is down", "postgres://me:***@host/db is down"),
        ("https://ghp_0123456789abcdefgh@github.com/a", "https://***@github.com/a"),
        ("GET https://h/x?a=1&token=abc&b=2 failed", "GET https://h/x?a=1&token=***&b=2 failed"),
        ("password=hunter2 host=db", "password=*** host=db"),
        ("{'password': 'hunter2', 'user': 'me'}", "{'password': '***', 'user': 'me'}"),
        ('{"api_key": "a\\"b"}', '{"api_key": "***"}'),
        ("Login(token='abc', n=1)", "Login(token='***', n=1)"),
        ("Authorization: Bearer abcdef.ghijkl", "Authorization: Bearer ***"),
        ("unexpected token: ')'", "unexpected token: ')'"),
        ("max_tokens=5, sort_key=a", "max_tokens=5, sort_key=a"),
        ("ssh://git@github.com/a and s3://bucket/key", "ssh://git@github.com/a and s3://bucket/key"),
        ("see http://host:80/path", "see http://host:80/path"),
    ],
)
def test_texts_without_secrets_are_unchanged(text: str, expected: str) -> None:
    assert redacted_text(text) == expected


def test_the_secrets_of_a_run_are_found_in_its_texts() -> None:
    redact = Redactor(
        {"token": "abc-123-xyz", "config": {"db": {"password": "s3cr3t!"}, "user": "me"}, "n": 5, "pwd": "ab"}
    )
    assert redact("abc-123-xyz of me: s3cr3t!, ab, 5") == "*** of me: ***, ab, 5"


def test_every_text_is_redacted_quickly() -> None:
    for unit in ("a-", "://", "a://b:", "password", "token=", "'password' : ", "bearer ", "a", "=", '"'):
        redacted_text(unit * (200_000 // len(unit)))


@pytest.mark.needs("pydantic")
def test_values_of_secret_types() -> None:
    from pydantic import BaseModel, SecretBytes, SecretStr

    class Login(BaseModel):
        user: str
        phrase: SecretStr

    class Holder:
        def __init__(self, what: Any) -> None:
            self.what = what

    login = Login(user="me", phrase=SecretStr(SECRET))
    for value in (SecretStr(SECRET), SecretBytes(b"x"), [1, {"a": SecretStr(SECRET)}], login, [login]):
        assert holds_secret(value)
        assert shows_secret(value)
    assert holds_secret(Holder([login]))
    for plain in (Login, "text", [1, 2], {"a": "b"}, None, Holder(1), lambda: 0, (n for n in [1])):
        assert not holds_secret(plain)
        assert not shows_secret(plain)
    named = {"token": SECRET, "auth": True, "pwd": "", "api_key": None, "login": login, "day": 1}
    assert secret_parameters(named) == ["token", "login"]
    assert Redactor({"login": login})(f"no {SECRET} here") == "no *** here"


# -- keys


runs: list[Any] = []


@task(cache_policy=INPUTS)
def fetch(day: int, token: str) -> int:
    runs.append(day)
    return day


@task(cache_policy=INPUTS)
def log_in(login: Any) -> int:
    runs.append(login)
    return 1


@flow
def fetching(token: str) -> int:
    return fetch(1, token)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    runs.clear()
    return load_settings(overrides={"store": str(tmp_path / "store")})


def records(settings: Settings) -> list[ResultRecord]:
    from penstock.storage.results.maintenance import current_records

    return list(current_records(ResultStore(open_store(settings.store))))


def test_no_record_reveals_the_secret(settings: Settings) -> None:
    fetching.run_with({"token": SECRET}, settings=settings).result()
    (record,) = records(settings)
    assert record.key_parts["inputs"]["day"] == digest(1)
    assert record.key_parts["inputs"]["token"] != digest(SECRET)
    assert digest(SECRET) not in "".join(path.read_text("latin-1") for path in files(settings))


def files(settings: Settings) -> list[Path]:
    return [path for path in Path(settings.store).rglob("*") if path.is_file()]


def test_the_same_secret_is_a_hit_and_another_is_not(settings: Settings) -> None:
    for token in (SECRET, SECRET, "another", SECRET):
        fetching.run_with({"token": token}, settings=settings).result()
    assert len(runs) == 2
    assert fetching.plan_with({"token": SECRET}, settings=settings).counts["hit"] == 1
    assert fetching.plan_with({"token": "third"}, settings=settings).counts["hit"] == 0


@pytest.mark.parametrize("runner", ["threads", pytest.param("processes", marks=pytest.mark.slow)])
@pytest.mark.needs("pydantic")
def test_a_secret_value_is_keyed_whatever_its_name(settings: Settings, runner: str) -> None:
    from pydantic import SecretStr

    @flow
    def logging_in() -> int:
        return log_in(SecretStr(SECRET))

    for _ in range(2):
        run = logging_in.run_with({}, settings=settings.with_values(runner=runner))
        run.result()
    assert run.counts["executed"] == 0
    (record,) = records(settings)
    assert record.key_parts["inputs"]["login"] != digest(SecretStr(SECRET))


def test_every_store_has_its_own_salt_and_a_plan_creates_none(settings: Settings, tmp_path: Path) -> None:
    fetching.plan_with({"token": SECRET}, settings=settings)
    assert not Path(settings.store).exists()
    fetching.run_with({"token": SECRET}, settings=settings).result()
    other = settings.with_values(store=str(tmp_path / "other"))
    fetching.run_with({"token": SECRET}, settings=other).result()
    assert len({record.key for record in [*records(settings), *records(other)]}) == 2


def test_copies_are_found_in_a_store_that_had_no_salt(settings: Settings, tmp_path: Path) -> None:
    fetching.run_with({"token": SECRET}, settings=settings).result()
    other = settings.with_values(store=str(tmp_path / "other"))
    copying.copy(ResultStore(open_store(settings.store)), ResultStore(open_store(other.store)))
    fetching.run_with({"token": SECRET}, settings=other).result()
    assert len(runs) == 1


def test_an_overwritten_salt_is_reported(settings: Settings) -> None:
    store = open_store(settings.store)
    store.put(SALT_NAME, b"not a salt")
    with pytest.raises(Exception, match="salt of the store is damaged"):
        salt_of(store, make=True)


def test_no_salt_is_made_without_a_secret(settings: Settings) -> None:
    @task(cache_policy=INPUTS)
    def plain(day: int) -> int:
        return day

    @flow
    def plainly() -> int:
        return plain(1)

    plainly.run_with({}, settings=settings).result()
    assert not (Path(settings.store) / SALT_NAME).exists()


def test_redaction_leaves_ordinary_texts_unchanged() -> None:
    chosen = random.Random(7)
    for _ in range(200):
        text = "".join(chosen.choices(string.ascii_letters + "   \n", k=200))
        assert redacted_text(text) == text


def test_a_salt_has_the_size_of_a_key_whether_it_is_kept_or_not(settings: Settings) -> None:
    store = open_store(settings.store)
    assert len(salt_of(store, make=False)) == 32
    kept = salt_of(store, make=True)
    assert len(kept) == 32
    assert salt_of(store, make=False) == kept
