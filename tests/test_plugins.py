"""Entry points of other packages. CONTRIBUTING.md has a complete package, which `test_contributing.py` tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from penstock import plugins
from penstock.errors import ConfigurationError
from penstock.locks import lock_manager_from
from penstock.runners import runner_from
from penstock.storage import open_store

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Put a package with these entry points of one group on the path."""

    def installed(name: str, group: str, **points: str) -> None:
        about = tmp_path / f"{name}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [f"{point} = {value}" for point, value in points.items()]
        (about / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
        plugins._found.cache_clear()

    monkeypatch.syspath_prepend(str(tmp_path))
    yield installed
    plugins._found.cache_clear()


@pytest.mark.parametrize(
    ("group", "opened"),
    [
        ("penstock.stores", lambda: open_store("other://x")),
        ("penstock.locks", lambda: lock_manager_from("other://x")),
        ("penstock.runners", lambda: runner_from("other://x")),
    ],
)
def test_the_error_names_a_package_that_cannot_be_loaded(
    install: Install, group: str, opened: Callable[[], object]
) -> None:
    install("broken", group, other="nowhere_to_be_found:thing")
    with pytest.raises(ConfigurationError, match="cannot be loaded") as caught:
        opened()
    assert caught.value.where == "nowhere_to_be_found:thing"
    assert "ModuleNotFoundError" in caught.value.because


def test_the_error_names_both_packages_that_add_the_same_name(install: Install) -> None:
    install("one", "penstock.stores", other="json:loads")
    install("two", "penstock.stores", other="json:dumps")
    with pytest.raises(ConfigurationError, match="two packages") as caught:
        open_store("other://x")
    assert caught.value.because == "json:dumps and json:loads"


def test_a_package_cannot_take_a_name_of_penstock(install: Install, tmp_path: Path) -> None:
    install("thief", "penstock.stores", file="json:loads")
    assert open_store(f"file://{tmp_path}").url == f"file://{tmp_path}"


def test_the_error_for_an_unknown_address_lists_what_packages_add(install: Install) -> None:
    install("one", "penstock.stores", sqlite="json:loads")
    with pytest.raises(ConfigurationError) as caught:
        open_store("other://x")
    assert "sqlite://" in caught.value.because
