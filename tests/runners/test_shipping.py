"""`ship=`: what is packed, and how workers that cannot import a package still run its tasks."""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock import flow
from penstock.errors import ConfigurationError, RunnerError
from penstock.runners import DaskRunner, ProcessRunner, RayRunner, ThreadRunner, runner_from
from penstock.settings import load_settings
from penstock.worker.shipping import code_packing, code_unpacking
from penstock.worker.shipping.code_packing import Shipment, pack

MODULE = "penstock_shipped_example"
PATIENCE = 240.0


def write_package(folder: Path, value: int, name: str = MODULE) -> Path:
    """Write a package whose tasks return `value`, from a module of its own and from a file beside it."""
    package = folder / name
    (package / "inner").mkdir(parents=True, exist_ok=True)
    # Python would treat a file written twice within a second as unchanged, and load the old bytecode.
    for cache in package.rglob("__pycache__"):
        shutil.rmtree(cache)
    (package / "__pycache__").mkdir(exist_ok=True)
    (package / "__pycache__" / "old.pyc").write_bytes(b"stale")
    (package / "__init__.py").write_text("")
    (package / "inner" / "__init__.py").write_text(f"VALUE = {value}\nclass Mine:\n    n = VALUE\n")
    (package / "data.txt").write_text(str(value))
    (package / "tasks.py").write_text(
        "import os\n"
        "from penstock import task\n"
        f"from {name}.inner import VALUE, Mine\n"
        "@task\n"
        "def make():\n"
        "    return Mine()\n"
        "@task\n"
        "def read(mine):\n"
        "    assert type(mine) is Mine\n"
        "    with open(os.path.join(os.path.dirname(__file__), 'data.txt')) as file:\n"
        "        return VALUE, mine.n, int(file.read())\n"
        "@task\n"
        "def meet(folder, me, other, seconds):\n"
        "    from penstock.testing.runners.tasks import mark, until_marked\n"
        "    mark(folder, me)\n"
        "    return until_marked(folder, other, seconds)\n"
    )
    return package


@pytest.fixture
def hidden(tmp_path: Path) -> Iterator[Path]:
    """A folder with the package that is on nobody's path."""
    folder = tmp_path / "hidden"
    write_package(folder, 1)
    yield folder
    forget()


def forget(name: str = MODULE) -> None:
    for each in [each for each in sys.modules if each.partition(".")[0] == name]:
        del sys.modules[each]


def load(folder: Path) -> Any:
    """Import the package's tasks from there, without changing the path afterwards."""
    forget()
    importlib.invalidate_caches()
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(f"{MODULE}.tasks")
    finally:
        sys.path.remove(str(folder))


# -- what is packed


def names_in(shipment: Shipment | None) -> list[str]:
    import io
    import zipfile

    assert shipment is not None
    with zipfile.ZipFile(io.BytesIO(shipment.archive)) as archive:
        return sorted(archive.namelist())


def test_a_package_is_packed_with_its_data_and_without_pythons_caches(hidden: Path) -> None:
    expected = [f"{MODULE}/{name}" for name in ("__init__.py", "data.txt", "inner/__init__.py", "tasks.py")]
    assert names_in(pack([hidden / MODULE])) == expected


def test_a_package_is_found_by_name_without_importing_it(hidden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (hidden / MODULE / "__init__.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(str(hidden))
    shipment = pack([MODULE])
    assert shipment is not None
    assert shipment.names == {MODULE}


def test_a_single_module_can_be_shipped(tmp_path: Path) -> None:
    (tmp_path / "lonely.py").write_text("n = 1\n")
    shipment = pack([str(tmp_path / "lonely.py")])
    assert names_in(shipment) == ["lonely.py"]
    assert shipment is not None
    assert shipment.names == {"lonely"}


def test_the_digest_depends_on_contents_not_times(hidden: Path, tmp_path: Path) -> None:
    first = pack([hidden / MODULE])
    os.utime(hidden / MODULE / "tasks.py", (1, 1))
    again = pack([hidden / MODULE])
    write_package(hidden, 2)
    changed = pack([hidden / MODULE])
    assert first is not None
    assert again is not None
    assert changed is not None
    assert first.digest == again.digest != changed.digest


@pytest.mark.parametrize(
    ("entry", "because"),
    [
        ("no_such_package_anywhere", "no package or module of that name"),
        ("./no/such/folder", "the path does not exist"),
        ("xml.dom", "only whole packages"),
        ("sys", "not come from files"),
        ("penstock", "workers need it to unpack"),
        ("__main__", "always sent with their tasks"),
    ],
)
def test_what_cannot_be_shipped_is_one_clear_error(entry: str, because: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot ship") as caught:
        pack([entry])
    assert because in str(caught.value)


def test_a_name_instead_of_a_list_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="list of names"):
        DaskRunner(ship="pkg")


def test_the_error_for_too_much_names_the_largest_file(hidden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_packing, "MAX_BYTES", 5_000)
    (hidden / MODULE / "model.bin").write_bytes(bytes(6_000))
    with pytest.raises(ConfigurationError, match="too large to be shipped") as caught:
        pack([hidden / MODULE])
    assert f"{MODULE}/model.bin with 6,000" in str(caught.value)


def test_compiled_extensions_are_shipped_to_the_same_platform_only(hidden: Path) -> None:
    (hidden / MODULE / f"fast{importlib.machinery.EXTENSION_SUFFIXES[0]}").write_bytes(b"\x7fELF")
    shipment = pack([hidden / MODULE])
    assert shipment is not None
    assert shipment.platform == code_packing.this_platform()
    elsewhere = Shipment(shipment.names, "0" * 64, shipment.archive, "win-amd64, cpython-39")
    with pytest.raises(RunnerError, match="cannot be shipped to this worker"), code_unpacking.in_use(elsewhere):
        pass


def write_again(path: Path, text: str) -> None:
    """Change a file as if within the same second."""
    stat = path.stat()
    path.write_text(text)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_modules_loaded_from_stale_bytecode_are_not_shipped_with_newer_source(
    hidden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Functions of tasks are shipped as loaded, so half of a call would run the older source."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    load(hidden)
    inner = hidden / MODULE / "inner" / "__init__.py"
    write_again(inner, inner.read_text().replace("VALUE = 1", "VALUE = 2"))
    load(hidden)
    assert sys.modules[f"{MODULE}.inner"].VALUE == 1  # as Python does
    with pytest.raises(ConfigurationError, match=rf"cannot ship '{MODULE}.inner'") as caught:
        pack([hidden / MODULE])
    assert "__pycache__" in str(caught.value)
    shutil.rmtree(inner.parent / "__pycache__")
    load(hidden)
    assert pack([hidden / MODULE]) is not None


@pytest.mark.parametrize("bytecode", [True, False])
@pytest.mark.parametrize(
    ("old", "new"),
    [("return Mine()", "return Mine"), ("return VALUE, mine.n", "return VALUE, -mine.n"), ("def make():", "def make(")],
)
def test_source_edited_since_it_was_loaded_is_not_shipped(
    old: str, new: str, bytecode: bool, hidden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", not bytecode)
    load(hidden)
    tasks = hidden / MODULE / "tasks.py"
    tasks.write_text(tasks.read_text().replace(old, new))
    with pytest.raises(ConfigurationError, match=rf"cannot ship '{MODULE}.tasks'"):
        pack([hidden / MODULE])


@pytest.mark.parametrize("bytecode", [True, False])
def test_comments_and_times_are_not_edits(bytecode: bool, hidden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", not bytecode)
    load(hidden)
    tasks = hidden / MODULE / "tasks.py"
    tasks.write_text("# edited\n\n" + tasks.read_text() + "\n# to its end\n")
    assert pack([hidden / MODULE]) is not None


def test_a_reloaded_module_is_shipped_again(hidden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    code = load(hidden)
    tasks = hidden / MODULE / "tasks.py"
    tasks.write_text(tasks.read_text().replace("def make():", "def make_another():"))
    monkeypatch.syspath_prepend(str(hidden))
    importlib.reload(code)
    assert pack([hidden / MODULE]) is not None


@pytest.mark.parametrize(
    ("address", "ship", "shown"),
    [
        ("dask+tcp://host:8786?ship=one,two", ("one", "two"), "DaskRunner('tcp://host:8786')"),
        ("ray://host:10001?ship=one", ("one",), "RayRunner('ray://host:10001')"),
        ("dask?workers=2&ship=one", ("one",), "DaskRunner(LocalCluster, workers=2)"),
    ],
)
def test_an_address_can_contain_what_to_ship(address: str, ship: tuple[str, ...], shown: str) -> None:
    runner: Any = runner_from(address)
    assert (runner.ship, repr(runner)) == (ship, shown)


def test_runners_that_share_the_file_system_accept_it_too() -> None:
    for runner in (ThreadRunner(1, ship=["pkg"]), ProcessRunner(1, ship=["pkg"]), RayRunner(ship=["pkg"])):
        assert list(runner.ship) == ["pkg"]
    with pytest.raises(ConfigurationError):
        ProcessRunner(1, ship="pkg")


# -- in the process of a worker


@pytest.fixture
def in_process(tmp_path: Path) -> Path:
    """Do in a separate process what a worker does. Return the folder for its program."""
    folder = tmp_path / "worker"
    folder.mkdir()
    return folder


def program(folder: Path, text: str) -> list[str]:
    """Return the lines that a program prints."""
    path = folder / "program.py"
    path.write_text(textwrap.dedent(text))
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    environment = {**os.environ, "TMPDIR": str(scratch), "PENSTOCK_STORE": str(folder / "store")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(path)],
        cwd=folder,
        env=environment,
        text=True,
        capture_output=True,
        timeout=PATIENCE * 2,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [line[2:] for line in done.stdout.splitlines() if line.startswith("> ")]


def test_contents_are_unpacked_once_and_removed_at_the_end(hidden: Path, in_process: Path) -> None:
    lines = program(
        in_process,
        f"""
        import glob, os, tempfile
        from penstock.worker.shipping.code_unpacking import in_use
        from penstock.worker.shipping.code_packing import pack
        one = pack([{str(hidden / MODULE)!r}])
        again = pack([{str(hidden / MODULE)!r}])
        for each in (one, again):
            with in_use(each):
                from {MODULE}.inner import VALUE
        print(">", VALUE, len(glob.glob(os.path.join(tempfile.gettempdir(), "penstock-ship*"))))
        """,
    )
    assert lines == ["1 1"]
    assert list((in_process / "scratch").iterdir()) == []


def test_the_remains_of_a_killed_worker_are_removed_by_the_next(hidden: Path, in_process: Path) -> None:
    text = f"""
        import glob, os, signal, tempfile
        from penstock.worker.shipping.code_unpacking import in_use
        from penstock.worker.shipping.code_packing import pack
        with in_use(pack([{str(hidden / MODULE)!r}])):
            print(">", len(glob.glob(os.path.join(tempfile.gettempdir(), "penstock-ship*"))), flush=True)
        """
    with pytest.raises(AssertionError):
        program(in_process, text + "    os.kill(os.getpid(), signal.SIGKILL)\n")
    assert len(list((in_process / "scratch").iterdir())) == 1
    assert program(in_process, text) == ["1"]
    assert list((in_process / "scratch").iterdir()) == []


def test_new_contents_wait_for_those_in_use_and_then_replace_them(hidden: Path, in_process: Path) -> None:
    other = hidden.parent / "other"
    write_package(other, 2)
    lines = program(
        in_process,
        f"""
        import threading
        from penstock.worker.shipping.code_unpacking import in_use
        from penstock.worker.shipping.code_packing import pack
        one, two = (pack([f"{{folder}}/{MODULE}"]) for folder in ({str(hidden)!r}, {str(other)!r}))
        seen = []
        def use_other():
            with in_use(two):
                from {MODULE}.inner import VALUE
                seen.append(VALUE)
        with in_use(one) as first:
            from {MODULE}.inner import VALUE
            thread = threading.Thread(target=use_other)
            thread.start()
            thread.join(0.5)
            seen.append(VALUE)
        thread.join()
        with in_use(one) as second:
            from {MODULE}.inner import VALUE
            seen.append(VALUE)
        print(">", seen, first != second)
        """,
    )
    assert lines == ["[1, 2, 1] True"]


# -- on clusters


@pytest.fixture(scope="module")
def dask_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    distributed = importlib.import_module("distributed")
    scratch = tmp_path_factory.mktemp("shipped")
    with contextlib.ExitStack() as stack:
        before = os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = str(scratch)
        try:
            cluster = distributed.LocalCluster(
                n_workers=1,
                threads_per_worker=2,
                dashboard_address="127.0.0.1:0",
                local_directory=str(scratch / "dask"),
            )
        finally:
            os.environ.pop("TMPDIR") if before is None else os.environ.update(TMPDIR=before)
        stack.enter_context(cluster)
        yield cluster


def on(runner: Any, body: Any, store: Path) -> Any:
    bound: Any = flow(runner=runner)(body)
    return bound.run_with({}, settings=load_settings(overrides={"store": str(store)})).result()


@pytest.mark.slow
@pytest.mark.needs("distributed")
class TestOnDask:
    def test_without_ship_the_error_suggests_it(self, hidden: Path, dask_cluster: Any, tmp_path: Path) -> None:
        code = load(hidden)
        with pytest.raises(RunnerError, match=f"cannot import {MODULE}") as caught:
            on(DaskRunner(cluster=dask_cluster), lambda: code.make(), tmp_path / "store")
        assert f"ship=['{MODULE}']" in str(caught.value)

    @pytest.mark.parametrize("by", ["name", "path"])
    def test_a_package_that_workers_lack_is_shipped_with_the_run(
        self, by: str, hidden: Path, dask_cluster: Any, tmp_path: Path
    ) -> None:
        code = load(hidden)
        runner = DaskRunner(cluster=dask_cluster, ship=[MODULE if by == "name" else hidden / MODULE])
        assert on(runner, lambda: code.read(code.make()), tmp_path / "store") == (1, 1, 1)

    def test_changed_source_never_meets_the_old_modules(self, hidden: Path, dask_cluster: Any, tmp_path: Path) -> None:
        found = []
        for value in (1, 2, 1):
            write_package(hidden, value)
            code = load(hidden)
            runner = DaskRunner(cluster=dask_cluster, ship=[hidden / MODULE])
            found.append(on(runner, lambda code=code: code.read(code.make()), tmp_path / "store"))  # type: ignore[misc]
        assert found == [(1, 1, 1), (2, 2, 2), (1, 1, 1)]

    def test_calls_of_one_shipment_run_concurrently(self, hidden: Path, dask_cluster: Any, tmp_path: Path) -> None:
        code, marks = load(hidden), tmp_path / "marks"
        marks.mkdir()
        runner = DaskRunner(cluster=dask_cluster, ship=[hidden / MODULE])

        def meeting() -> Any:
            return [code.meet(str(marks), me, other, PATIENCE / 2) for me, other in (("a", "b"), ("b", "a"))]

        assert on(runner, meeting, tmp_path / "store") == [True, True]

    def test_threads_in_the_drivers_own_process_need_no_shipment(self, hidden: Path, tmp_path: Path) -> None:
        code = load(hidden)
        runner = DaskRunner(workers=1, processes=False, ship=[hidden / MODULE])
        before = list(sys.path)
        assert on(runner, lambda: code.read(code.make()), tmp_path / "store") == (1, 1, 1)
        assert sys.path == before

    def test_two_concurrent_runs_with_different_contents_take_turns(
        self, hidden: Path, dask_cluster: Any, tmp_path: Path
    ) -> None:
        """There are two drivers, because a driver also has one module per name."""
        folders = []
        for value in (1, 2):
            folders.append(tmp_path / f"driver{value}")
            write_package(folders[-1] / "hidden", value)
        lines: list[list[str]] = []
        threads = [
            threading.Thread(
                target=lambda folder=folder: lines.append(  # type: ignore[misc]
                    program(folder, driver_of(f"DaskRunner({dask_cluster.scheduler_address!r}", folder, times=3))
                )
            )
            for folder in folders
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(lines) == [["(1, 1, 1)"] * 3, ["(2, 2, 2)"] * 3]


def driver_of(runner: str, folder: Path, *, times: int = 1) -> str:
    """Return a driver whose flow runs tasks of the package in `folder/hidden`, which its workers cannot import."""
    return f"""
        import importlib, sys
        from penstock import flow
        from penstock.runners import DaskRunner, RayRunner
        def load():
            sys.path.insert(0, {str(folder / "hidden")!r})
            try:
                return importlib.import_module("{MODULE}.tasks")
            finally:
                del sys.path[0]
        code = load()
        @flow
        def reads():
            return [code.read(code.make()) for _ in range({times})]
        if __name__ == "__main__":
            for value in reads.with_options(runner={runner}, ship=["{MODULE}"]))():
                print(">", value)
        """


@pytest.fixture
def short_folder() -> Iterator[str]:
    """Ray's sockets are in its folder, and the path of a socket has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="penstock-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield folder


@pytest.mark.slow
@pytest.mark.needs("ray")
@pytest.mark.in_ci
def test_rays_workers_get_the_shipment_and_never_modules_of_older_source(tmp_path: Path, short_folder: str) -> None:
    write_package(tmp_path / "hidden", 1)
    other = tmp_path / "other"
    write_package(other, 2)
    lines = program(
        tmp_path,
        f"""
        import importlib, os, shutil, sys
        os.environ["RAY_TMPDIR"] = {short_folder!r}
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = os.urandom(16).hex()
        from penstock import flow
        from penstock.errors import RunnerError
        from penstock.runners import RayRunner

        def load(folder):
            for name in [name for name in sys.modules if name.startswith("{MODULE}")]:
                del sys.modules[name]
            sys.path.insert(0, folder)
            try:
                return importlib.import_module("{MODULE}.tasks")
            finally:
                del sys.path[0]

        def on(runner, code):
            @flow(runner=runner)
            def reads():
                return code.read(code.make())
            return reads()

        with RayRunner(num_cpus=1):
            code = load({str(tmp_path / "hidden")!r})
            try:
                on(RayRunner(), code)
            except RunnerError as error:
                print(">", error.what)
            for folder in ({str(tmp_path / "hidden")!r}, {str(other)!r}, {str(tmp_path / "hidden")!r}):
                print(">", on(RayRunner(ship=[folder + "/{MODULE}"]), load(folder)))
        """,
    )
    assert lines == [f"a worker cannot import {MODULE}", "(1, 1, 1)", "(2, 2, 2)", "(1, 1, 1)"]
