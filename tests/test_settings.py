"""Where settings come from, which one wins, and what is refused."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import os
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import ConfigurationError
from penstock.settings import Settings, load_settings, redacted


class Places:
    """A home, a project and a working folder inside it, all without settings until written to."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.project = folder / "project"
        self.cwd = self.project / "src" / "deep"
        self.home.mkdir()
        self.cwd.mkdir(parents=True)
        self.environ = {"PENSTOCK_HOME": str(self.home)}

    def user_file(self, text: str) -> Path:
        return self._write(self.home / "penstock.toml", text)

    def project_file(self, text: str, name: str = "penstock.toml") -> Path:
        return self._write(self.project / name, text)

    def load(self, **said: Any) -> Settings:
        return load_settings(cwd=self.cwd, environ=self.environ, **said)

    def _write(self, path: Path, text: str) -> Path:
        path.write_text(text)
        return path


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path)


def refusal(places: Places, **said: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        places.load(**said)
    return caught.value


# --- precedence ------------------------------------------------------------------------------------------------------


def test_everything_has_a_default_and_results_go_to_the_home_folder(places: Places) -> None:
    settings = places.load()
    assert settings == Settings(store=str(places.home / "store"))
    assert {each.origin for each in settings.describe()} == {"default"}


def test_each_source_wins_over_the_ones_before_it(places: Places) -> None:
    seen = [places.load()]
    user = places.user_file("lease_seconds = 2")
    seen.append(places.load())
    project = places.project_file("lease_seconds = 3")
    seen.append(places.load())
    places.environ["PENSTOCK_LEASE_SECONDS"] = "4"
    seen.append(places.load())
    seen.append(places.load(flags={"lease_seconds": 5}))
    seen.append(places.load(flags={"lease_seconds": 5}, overrides={"lease_seconds": 6}))
    assert [(settings.lease_seconds, settings.origin("lease_seconds")) for settings in seen] == [
        (30, "default"),
        (2, f"user file {user}"),
        (3, f"project file {project}"),
        (4, "environment PENSTOCK_LEASE_SECONDS"),
        (5, "flag"),
        (6, "call"),
    ]


def test_a_source_that_sets_one_setting_leaves_the_others(places: Places) -> None:
    places.user_file('runner = "processes"')
    places.project_file('on_unknown = "recompute"')
    places.environ["PENSTOCK_LOG_LEVEL"] = "debug"
    settings = places.load()
    assert (settings.runner, settings.on_unknown, settings.log_level) == ("processes", "recompute", "DEBUG")


def test_none_and_empty_variables_are_ignored(places: Places) -> None:
    places.project_file('runner = "processes"')
    places.environ["PENSTOCK_RUNNER"] = ""
    assert places.load(flags={"runner": None}, overrides={"runner": None}).runner == "processes"


def test_every_setting_has_an_environment_variable(places: Places) -> None:
    places.project_file("[profiles.p]")
    said = {
        "store": "s3://bucket/results",
        "locks": "redis://cache:6379",
        "index": "redis://cache:6379/1",
        "runner": "dask+tcp://scheduler:8786",
        "lease_seconds": 1.5,
        "bundle_seconds": 0.5,
        "bundle_nodes": 100,
        "on_unknown": "recompute",
        "on_locks_down": "run_unlocked",
        "isolation": "read_committed",
        "lock_wait_seconds": 60.0,
        "on_failure": "keep_going",
        "finish_seconds": 5.0,
        "signing_keys": "/etc/penstock/keys",
        "require_signatures": True,
        "log_level": "ERROR",
        "extra_loggers": ("mine", "theirs"),
        "profile": "p",
    }
    assert said.keys() == {f.name for f in dataclasses.fields(Settings)} - {"origins"}
    places.environ |= {
        f"PENSTOCK_{name.upper()}": ",".join(value) if isinstance(value, tuple) else str(value)
        for name, value in said.items()
    }
    assert {each.name: each.value for each in places.load().describe()} == said


@pytest.mark.parametrize("said", ["off", "0", 0])
def test_bundles_can_be_turned_off(said: object, places: Places) -> None:
    places.environ["PENSTOCK_BUNDLE_SECONDS"] = str(said)
    assert places.load().bundle_seconds == 0


def test_signing_keys_are_a_file_relative_to_its_source_or_a_function(places: Places) -> None:
    path = places.project_file('signing_keys = "secrets/keys"')
    assert places.load().signing_keys == str(Path(path).parent / "secrets" / "keys")
    places.environ["PENSTOCK_SIGNING_KEYS"] = "company.secrets:penstock_keys"
    assert places.load().signing_keys == "company.secrets:penstock_keys"


def test_a_key_in_place_of_its_file_is_refused_and_not_shown(places: Places) -> None:
    key = os.urandom(32).hex()
    for said in (key, f"20260101-abc {key}"):
        places.environ["PENSTOCK_SIGNING_KEYS"] = said
        error = refusal(places)
        assert key not in f"{error}{error.data}"
        assert "not a key" in error.because


@pytest.mark.parametrize("said", ["maybe", 2, "2", 1.0])
def test_a_switch_is_on_or_off(said: object, places: Places) -> None:
    with pytest.raises(ConfigurationError, match="require_signatures"):
        places.load(overrides={"require_signatures": said})
    assert [places.load(overrides={"require_signatures": each}).require_signatures for each in ("on", "NO", True)] == [
        True,
        False,
        True,
    ]


@pytest.mark.parametrize("said", [0, 1.5, -1, True, "many"])
def test_a_bundle_of_zero_or_half_a_node_is_refused(said: object, places: Places) -> None:
    with pytest.raises(ConfigurationError, match="bundle_nodes"):
        places.load(overrides={"bundle_nodes": said})


def test_settings_are_read_again_on_every_call(places: Places) -> None:
    places.project_file('runner = "processes"')
    assert places.load().runner == "processes"
    places.project_file('runner = "ray"')
    assert places.load().runner == "ray"


def test_without_arguments_the_environment_and_working_folder_are_used(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    places.project_file('runner = "processes"')
    monkeypatch.chdir(places.cwd)
    monkeypatch.setenv("PENSTOCK_STORE", "memory://here")
    settings = load_settings()
    assert (settings.runner, settings.store) == ("processes", "memory://here")


def test_a_deleted_working_folder_is_an_error_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigurationError, match="the working folder no longer exists"):
        load_settings()


# --- files -----------------------------------------------------------------------------------------------------------


def test_only_the_nearest_project_file_is_read(places: Places) -> None:
    places.project_file('runner = "processes"\nlog_level = "ERROR"')
    (places.cwd / "penstock.toml").write_text('runner = "ray"')
    settings = places.load()
    assert (settings.runner, settings.log_level) == ("ray", "INFO")


def test_pyproject_settings_are_in_its_table(places: Places) -> None:
    path = places.project_file('[project]\nname = "x"\n[tool.penstock]\nrunner = "ray"', "pyproject.toml")
    settings = places.load()
    assert (settings.runner, settings.origin("runner")) == ("ray", f"project file {path}")


def test_penstock_toml_takes_precedence_over_pyproject_in_one_folder(places: Places) -> None:
    places.project_file('[tool.penstock]\nrunner = "ray"', "pyproject.toml")
    places.project_file('runner = "processes"')
    assert places.load().runner == "processes"


def test_a_pyproject_without_the_table_is_skipped(places: Places) -> None:
    (places.cwd / "pyproject.toml").write_text('[project]\ndependencies = ["penstock"]')
    places.project_file('[tool.penstock]\nrunner = "ray"', "pyproject.toml")
    assert places.load().runner == "ray"


def test_a_broken_pyproject_that_does_not_mention_penstock_is_ignored(places: Places) -> None:
    (places.cwd / "pyproject.toml").write_text("[project\n")
    assert places.load().runner == "threads"


def test_the_user_file_is_not_a_project_file_for_folders_beside_it(places: Places) -> None:
    path = places.user_file('runner = "ray"')
    settings = load_settings(cwd=places.home, environ=places.environ)
    assert settings.origin("runner") == f"user file {path}"


# --- folders ---------------------------------------------------------------------------------------------------------


def test_relative_paths_resolve_against_the_file_that_sets_them(places: Places) -> None:
    places.user_file('store = "results"')
    assert places.load().store == str(places.home / "results")
    places.project_file('store = "../shared"')
    assert places.load().store == str(places.project.parent / "shared")
    places.environ["PENSTOCK_STORE"] = "results"
    assert places.load().store == str(places.cwd / "results")
    assert places.load(overrides={"store": Path("here")}).store == str(places.cwd / "here")


def test_a_tilde_means_the_users_home(places: Places) -> None:
    assert places.load(flags={"store": "~/results"}).store == os.path.expanduser("~/results")


@pytest.mark.parametrize("url", ["s3://bucket/prefix", "memory://x", "file:///data/x", "redis://u:p@h:1/0"])
def test_a_url_is_unchanged(places: Places, url: str) -> None:
    settings = places.load(flags={"store": url, "locks": url})
    assert (settings.store, settings.locks) == (url, url)


@pytest.mark.parametrize("word", ["store", "memory", "stroe"])
def test_a_bare_word_for_locks_is_never_a_folder(places: Places, word: str) -> None:
    assert places.load(flags={"locks": word}).locks == word


@pytest.mark.parametrize("said", ["./locks", "a/../locks", Path("locks")])
def test_a_folder_for_locks_becomes_absolute(places: Places, said: Any) -> None:
    assert places.load(flags={"locks": said}).locks == str(places.cwd / "locks")


# --- profiles --------------------------------------------------------------------------------------------------------

PROFILES = """
store = "s3://team/results"
runner = "ray"
[profiles.laptop]
store = "memory://laptop"
[profiles.ci]
store = "memory://ci"
"""


def test_a_profile_wins_over_the_plain_keys_of_its_file(places: Places) -> None:
    path = places.project_file(PROFILES)
    settings = places.load(flags={"profile": "laptop"})
    assert (settings.store, settings.runner) == ("memory://laptop", "ray")
    assert settings.origin("store") == f"project file {path}, profile laptop"
    assert places.load().store == "s3://team/results"


def test_a_profile_of_the_user_file_does_not_win_over_the_project_file(places: Places) -> None:
    places.user_file('[profiles.laptop]\nstore = "memory://user"\nrunner = "processes"')
    places.project_file('store = "memory://project"')
    settings = places.load(flags={"profile": "laptop"})
    assert (settings.store, settings.runner) == ("memory://project", "processes")


def test_the_environment_wins_over_a_profile(places: Places) -> None:
    places.project_file(PROFILES)
    places.environ |= {"PENSTOCK_STORE": "memory://environment", "PENSTOCK_PROFILE": "laptop"}
    assert places.load().store == "memory://environment"


def test_a_profile_is_chosen_by_file_then_variable_then_flag_then_call(places: Places) -> None:
    places.project_file('profile = "ci"\n' + PROFILES)
    assert places.load().store == "memory://ci"
    places.environ["PENSTOCK_PROFILE"] = "laptop"
    assert places.load().store == "memory://laptop"
    assert places.load(flags={"profile": "ci"}).store == "memory://ci"
    assert places.load(flags={"profile": "ci"}, overrides={"profile": "laptop"}).store == "memory://laptop"


def test_the_error_for_an_unknown_profile_suggests_a_similar_one(places: Places) -> None:
    places.project_file(PROFILES)
    error = refusal(places, flags={"profile": "labtop"})
    assert (error.what, error.where, error.hint) == ("there is no profile labtop", "flag", "did you mean laptop?")


def test_a_profile_without_any_file_is_refused(places: Places) -> None:
    places.environ["PENSTOCK_PROFILE"] = "laptop"
    error = refusal(places)
    assert (error.where, error.because) == ("environment PENSTOCK_PROFILE", "there is no settings file")


def test_a_profile_cannot_choose_a_profile(places: Places) -> None:
    places.project_file('[profiles.a]\nprofile = "b"')
    assert refusal(places).what == "there is no setting profile"


# --- refusals --------------------------------------------------------------------------------------------------------


def test_the_error_for_an_unknown_key_names_its_file_and_a_similar_key(places: Places) -> None:
    path = places.project_file('stroe = "x"')
    error = refusal(places)
    assert (error.what, error.where) == ("there is no setting stroe", f"project file {path}")
    assert error.hint == "did you mean store?"


def test_the_error_for_an_unknown_key_unlike_any_other_lists_all(places: Places) -> None:
    places.user_file("zzz = 1")
    assert "lease_seconds, lock_wait_seconds, locks, log_level" in refusal(places).hint


@pytest.mark.parametrize("profile", ["[profiles.laptop]\nruner = 1", "[profiles.unused]\nruner = 1"])
def test_every_profile_is_checked_even_if_it_is_not_chosen(places: Places, profile: str) -> None:
    places.project_file(profile)
    assert refusal(places).hint == "did you mean runner?"


@pytest.mark.parametrize("said", ["flags", "overrides"])
def test_an_unknown_flag_or_argument_is_refused(places: Places, said: str) -> None:
    assert refusal(places, **{said: {"lease": 3}}).what == "there is no setting lease"


def test_a_mistyped_variable_is_refused(places: Places) -> None:
    places.environ["PENSTOCK_LOCK"] = "redis://cache"
    error = refusal(places)
    assert (error.what, error.hint) == ("there is no variable PENSTOCK_LOCK", "did you mean PENSTOCK_LOCKS?")


def test_variables_of_other_programs_are_ignored(places: Places) -> None:
    # Kubernetes sets these in every pod next to services called `penstock` and `penstock-store`.
    for name in ("PORT", "PORT_80_TCP", "SERVICE_HOST", "STORE_PORT", "STORE_SERVICE_HOST", "STORE_PORT_80_TCP_ADDR"):
        places.environ[f"PENSTOCK_{name}"] = "10.0.0.1"
    assert places.load() == Settings(store=str(places.home / "store"))


@pytest.mark.parametrize(
    "line",
    [
        "store = 1",
        'store = ""',
        'store = ["a"]',
        "locks = false",
        'runner = " "',
        'lease_seconds = "30"',
        "lease_seconds = true",
        "lease_seconds = 0",
        "lease_seconds = -1.0",
        "lease_seconds = inf",
        "lease_seconds = nan",
        'on_unknown = "ignore"',
        'log_level = "LOUD"',
        "log_level = 10",
        "profile = 1",
        "[store]\nurl = 1",
    ],
)
def test_the_error_for_an_invalid_value_names_its_file(places: Places, line: str) -> None:
    path = places.project_file(line)
    error = refusal(places)
    assert error.where == f"project file {path}"
    assert error.because.startswith("it must be ")


def test_the_error_for_an_invalid_number_names_its_variable(places: Places) -> None:
    places.environ["PENSTOCK_LEASE_SECONDS"] = "half a minute"
    error = refusal(places)
    assert error.what == "the setting lease_seconds cannot be 'half a minute'"
    assert error.where == "environment PENSTOCK_LEASE_SECONDS"


def test_the_error_for_invalid_toml_names_the_line(places: Places) -> None:
    path = places.project_file('runner = "ray"\nstore = \n')
    assert refusal(places).where == f"{path}:2"


def test_a_binary_file_is_refused(places: Places) -> None:
    path = places.home / "penstock.toml"
    path.write_bytes(b'store = "\xff"')
    assert refusal(places).where == str(path)


def test_an_unreadable_settings_file_is_not_skipped(places: Places) -> None:
    path = places.home / "penstock.toml"
    path.symlink_to(path)  # a loop, which no user can read, not even root
    assert refusal(places).where == str(path)


@pytest.mark.parametrize("text", ["profiles = 1", "[profiles]\nlaptop = 1"])
def test_profiles_that_are_not_tables_are_refused(places: Places, text: str) -> None:
    places.project_file(text)
    assert refusal(places).what == "a profile must be a table"


def test_a_tool_entry_that_is_not_a_table_is_refused(places: Places) -> None:
    places.project_file("[tool]\npenstock = 1", "pyproject.toml")
    assert refusal(places).what == "tool.penstock must be a table"


# --- secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:pw@cache:6379/0", "redis://:***@cache:6379/0"),
        ("redis://user:pw@cache:6379/0", "redis://user:***@cache:6379/0"),
        ("s3://bucket/x?secret_key=abc&region=eu", "s3://bucket/x?secret_key=***&region=eu"),
        ("https://x.net/a?sv=1&sig=abc%3D", "https://x.net/a?sv=1&sig=***"),
        ("abfs://container@account.dfs.core.windows.net/x", "abfs://container@account.dfs.core.windows.net/x"),
        ("dask+tcp://[::1]:8786", "dask+tcp://[::1]:8786"),
        ("/data/a:b@c", "/data/a:b@c"),
    ],
)
def test_a_url_is_shown_without_its_secrets_and_otherwise_unchanged(url: str, shown: str) -> None:
    assert redacted(url) == shown


@given(
    password=st.text(min_size=1).map(lambda text: f"S3cr{text}T"),
    scheme=st.sampled_from(["redis", "rediss", "https", "dask+tcp"]),
    user=st.sampled_from(["", "user"]),
)
def test_no_password_is_shown_whatever_characters_it_has(password: str, scheme: str, user: str) -> None:
    settings = Settings(store="memory://x", locks=f"{scheme}://{user}:{password}@cache:6379/0")
    shown = f"{settings!r} {settings.describe()} {redacted(settings.locks or '')}"
    assert "S3cr" not in shown
    assert password not in shown


def test_a_refused_value_is_quoted_without_its_password(places: Places) -> None:
    assert "hunter2" not in str(refusal(places, flags={"log_level": "redis://u:hunter2@h"}))


# --- the value -------------------------------------------------------------------------------------------------------


def test_with_values_returns_a_checked_copy_with_its_origin(places: Places) -> None:
    before = places.load(flags={"runner": "ray"})
    after = before.with_values(lease_seconds=5, store=None)
    assert (after.lease_seconds, after.store, after.runner) == (5, before.store, "ray")
    assert (after.origin("lease_seconds"), after.origin("store"), after.origin("runner")) == ("call", "default", "flag")
    assert before.lease_seconds == 30


@pytest.mark.parametrize("values", [{"lease_seconds": 0}, {"leese_seconds": 1}, {"profile": "laptop"}])
def test_with_values_refuses_invalid_values(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Settings(store="memory://x").with_values(**values)


def test_settings_are_immutable(places: Places) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        places.load().store = "elsewhere"  # type: ignore[misc]


def test_settings_with_equal_values_are_equal_whatever_their_source(places: Places) -> None:
    assert places.load(flags={"runner": "ray"}) == places.load(overrides={"runner": "ray"})


def test_settings_survive_pickling_and_copying(places: Places) -> None:
    settings = places.load(flags={"runner": "ray"})
    for twin in (pickle.loads(pickle.dumps(settings)), copy.deepcopy(settings)):
        assert (twin, twin.origin("runner")) == (settings, "flag")


@pytest.mark.skipif(os.environ.get("PENSTOCK_CORE_ONLY") == "1", reason="the documentation is not beside these tests")
def test_the_documentation_lists_every_setting_with_its_variable_and_default() -> None:
    page = (Path(__file__).parent.parent / "docs" / "settings.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| `(PENSTOCK_\w+)` \| (.*?) \|", page, re.MULTILINE)
    home = "`~/.penstock/store`, or `store` in the folder that `PENSTOCK_HOME` names"
    in_words = {"store": home, "locks": "the folder `locks` of a local store", "profile": "none"}
    in_words |= {
        "lock_wait_seconds": "none",
        "index": "none",
        "extra_loggers": "none",
        "signing_keys": "none",
        "require_signatures": "`false`",
    }
    assert rows == [
        (each.name, f"PENSTOCK_{each.name.upper()}", in_words.get(each.name) or f"`{each.value}`".replace(".0`", "`"))
        for each in Settings(store="").describe()
    ]


def test_the_password_of_the_locks_is_not_sent_to_workers() -> None:
    settings = Settings(store="/s", locks="rediss://me:hidden@cache:6379/0?prefix=p", origins={"locks": "call"})
    data = pickle.dumps(settings)
    assert b"hidden" not in data
    copy = pickle.loads(data)
    assert copy.locks == "rediss://me@cache:6379/0?prefix=p"
    assert (copy.store, copy.origin("locks"), copy.lease_seconds) == ("/s", "call", 30.0)


# -- ownership of files ---------------------------------------------------------------------------------------------


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a file to another user; without the right to, become another user."""
    if os.geteuid() == 0:
        os.chown(path, 54_321, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 54_321)


@pytest.mark.parametrize("name", ["penstock.toml", "pyproject.toml"])
@pytest.mark.parametrize("how", ["foreign", 0o666, 0o2664])
def test_settings_of_another_user_are_refused_with_a_fix(
    places: Places, monkeypatch: pytest.MonkeyPatch, name: str, how: Any
) -> None:
    text = 'signing_keys = "evil:keys"'
    path = places.project_file(text if name == "penstock.toml" else f"[tool.penstock]\n{text}", name)
    if how == "foreign":
        give_away(path, monkeypatch)
    else:
        path.chmod(how)
    refused = refusal(places)
    assert refused.where == str(path)
    assert f"PENSTOCK_SAFE_FOLDERS={places.project}" in refused.hint
    for safe in (str(places.project), f"/elsewhere:{places.project}/", "*"):
        places.environ["PENSTOCK_SAFE_FOLDERS"] = safe
        assert places.load().signing_keys == "evil:keys"
    places.environ["PENSTOCK_SAFE_FOLDERS"] = "/elsewhere::"
    assert refusal(places).where == str(path)


def test_the_user_file_is_checked_in_the_same_way(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    path = places.user_file('runner = "processes"')
    give_away(path, monkeypatch)
    assert refusal(places).where == str(path)


def test_a_foreign_project_that_does_not_mention_penstock_is_ignored(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_away(places.project_file('[project]\nname = "penstock-user"', "pyproject.toml"), monkeypatch)
    assert places.load().runner == "threads"


@pytest.mark.parametrize("name", ["penstock.toml", "pyproject.toml"])
def test_a_settings_file_that_is_a_pipe_is_refused_without_waiting(places: Places, name: str) -> None:
    os.mkfifo(places.project / name)
    assert refusal(places).where == str(places.project / name)


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "# " + "x" * 2_000_000, "a = \x00", "[profiles]\nx = 1"])
def test_the_error_for_nonsensical_settings_names_them(places: Places, text: str) -> None:
    assert str(places.project) in refusal_of(places, text).where


def refusal_of(places: Places, text: str) -> ConfigurationError:
    places.project_file(text)
    return refusal(places)


LITERALS = [
    *(
        "true",
        "false",
        "0",
        "-1",
        "1.5",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "9" * 400,
        '""',
        '"x"',
        '"../../x"',
        "[]",
        "{}",
    ),
    *('"/etc/passwd"', '"a:b"', '"nan"', '"\\u001b[2J"', '"' + "x" * 10_000 + '"', "[1, [2]]", '{a = {b = "c"}}'),
    *("1979-05-27", "07:32:00", "0x10"),
]


@pytest.mark.parametrize("literal", LITERALS, ids=range(len(LITERALS)))
def test_any_value_of_any_setting_is_accepted_or_refused(places: Places, literal: str) -> None:
    for name in [*(each.name for each in dataclasses.fields(Settings)), "profiles", "no_such", "profiles.a.store"]:
        places.project_file(f"{name} = {literal}")
        with contextlib.suppress(ConfigurationError):
            assert places.load().describe()
