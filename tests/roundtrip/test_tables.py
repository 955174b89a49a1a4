"""Any other process reads the same tables, arrays and containers of them that were stored."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.storage.results.store import Absent, Published, ResultStore
from penstock.storage.stores.local import LocalStore
from penstock.storage.stores.memory import MemoryStore

pytestmark = pytest.mark.needs("numpy", "pandas", "polars")
ROOT = Path(__file__).parents[2]
READ = """
import json, sys, warnings
from penstock.storage.stores.local import LocalStore
from penstock.storage.results.store import ResultStore

results, found = ResultStore(LocalStore(sys.argv[1])), {}
for key in sys.stdin.read().splitlines():
    try:
        found[key] = results.load(results.look_up("t", key).record)
    except Exception as error:
        found[key] = error
# Only now: what makes the values registers types that a reader may not have.
from tests.roundtrip.likeness import unlike
from tests.roundtrip.values_tables import VALUES
warnings.simplefilter("ignore")
print(json.dumps({key: unlike(value, VALUES[key]()) for key, value in found.items()}))
"""


@pytest.mark.parametrize("group", ["pandas", "polars", "arrow", "numpy", "containers"])
def test_tables_arrays_and_containers_are_restored_equal_without_a_pickle(group: str) -> None:
    from tests.roundtrip.likeness import unlike
    from tests.roundtrip.values_tables import GROUPS

    results = ResultStore(MemoryStore())
    for name, make in GROUPS[group].items():
        published = results.publish("t", name, make(), after=Absent(0, "never"), attempt="a", digest="d")
        assert isinstance(published, Published)
        assert not published.record.codec.endswith("pickle"), name
        assert unlike(results.load(published.record), make()) == "", name


@pytest.mark.slow
def test_values_are_restored_equal_in_a_process_that_has_imported_none_of_their_packages(tmp_path: Path) -> None:
    from tests.roundtrip.values_tables import VALUES

    results = ResultStore(LocalStore(tmp_path / "store"))
    for key, make in VALUES.items():
        results.publish("t", key, make(), after=Absent(0, "never"), attempt="a", digest="d")
    assert len(VALUES) >= 150
    command = [sys.executable, "-c", READ, str(tmp_path / "store")]
    done = subprocess.run(
        command, input="\n".join(VALUES), capture_output=True, text=True, cwd=ROOT, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert {key: why for key, why in json.loads(done.stdout).items() if why} == {}
