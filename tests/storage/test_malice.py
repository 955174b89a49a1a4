"""What an attacker puts into a shared store is refused before it is decoded, with little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.storage.records.signing_keys import write_new_file

MEGABYTES = 50
"""The maximum, although one payload unpacks to 200 and another claims 10 000. Its readers may use 20."""


@pytest.mark.slow
@pytest.mark.needs("numpy")
def test_each_attack_is_refused_for_the_right_reason(tmp_path: Path) -> None:
    write_new_file(str(tmp_path / "keys"))
    program = str(Path(__file__).with_name("programs_malice.py"))
    done = subprocess.run(
        [sys.executable, program, str(tmp_path / "keys")], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "BOOM" not in done.stdout
    seen = {each["case"]: each for each in map(json.loads, done.stdout.splitlines())}
    before_a_byte_is_read = {
        "unsigned_pickle": "result.signature-refused",
        "pickle_with_the_signature_of_another": "result.signature-refused",
        "compressed_pickle": "result.signature-refused",
        "no_such_codec": "result.codec-refused",
        "a_path_out_of_the_store": "store",
        "a_suffix_out_of_the_store": "store",
        "ten_gigabytes": "result.serialization",
        "deep_json_in_the_record": "store.version",
        "a_record_of_many_megabytes": "absent: damaged",
    }
    by_its_decoder = dict.fromkeys(
        ("pickle_under_a_harmless_name", "pickle_in_an_array", "a_zip_bomb", "deep_json"), "result.serialization"
    )
    assert {name: each["outcome"] for name, each in seen.items()} == before_a_byte_is_read | by_its_decoder
    assert [name for name in before_a_byte_is_read if seen[name]["opened"]] == []
    assert {name: each["kilobytes"] for name, each in seen.items() if each["kilobytes"] > MEGABYTES * 1024} == {}
