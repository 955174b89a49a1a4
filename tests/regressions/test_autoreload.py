"""Functions that IPython's autoreload has changed in place have the digest of their present source."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SESSION = """
import pathlib, time
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell()


def cell(text):
    done = shell.run_cell(text)
    done.raise_error()
    return done.result


def write(factor, extra=""):
    path = pathlib.Path("helpers.py")
    path.write_text(f"import math{{extra}}\\n\\n\\ndef scaled(x):\\n    return x * {{factor}}\\n\\n\\nclass Scale:\\n"
                    f"    def by(self, x):\\n        return x * {{factor}}\\n".format(extra=extra, factor=factor))


write(2)
cell("%load_ext autoreload")
cell("%autoreload 2")
cell("import helpers")
cell('''
from penstock import INPUTS, TASK_CODE, task

@task(cache_policy=INPUTS + TASK_CODE)
def t(x):
    return helpers.scaled(x), helpers.Scale().by(x)
''')
for number, factor in enumerate((2, 3, 40, 500)):
    if number:
        write(factor, "\\nimport os" * number)
    assert cell("t(1)") == (factor, factor), (factor, cell("t(1)"))
print("done")
"""


@pytest.mark.slow
@pytest.mark.needs("IPython")
def test_a_module_that_autoreload_changes_again_and_again_gives_its_present_values(tmp_path: Path) -> None:
    script = tmp_path / "session.py"
    script.write_text(textwrap.dedent(SESSION))
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.stdout.endswith("done\n"), done.stdout + done.stderr
