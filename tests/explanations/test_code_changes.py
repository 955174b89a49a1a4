"""What a plan reports about changed code: which function, class or constant, its old and its new form."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from penstock.graph.code.changes import CodeChange
from penstock.graph.plans import Plan
from penstock.settings import current_settings
from penstock.storage import open_store
from penstock.storage.results.maintenance import current_records
from penstock.storage.results.store import ResultStore

Project = Callable[..., ModuleType]
HEAD = "from penstock import INPUTS, TASK_CODE, TASK_SOURCE, flow, task\n"


@pytest.fixture
def edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """Write modules into a new folder and import `flows` again, as the next process after an edit does."""
    monkeypatch.setenv("PENSTOCK_STORE", str(tmp_path / "store"))
    versions = iter(range(100))

    def forget() -> None:
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
                del sys.modules[name]

    def write(**files: str) -> ModuleType:
        forget()
        folder = tmp_path / f"v{next(versions)}"
        folder.mkdir()
        for name, text in files.items():
            (folder / f"{name}.py").write_text((HEAD if name == "flows" else "") + textwrap.dedent(text))
        monkeypatch.syspath_prepend(folder)
        importlib.invalidate_caches()
        return importlib.import_module("flows")

    yield write
    forget()


FLOWS = """
    {before}

    @task(cache_policy=INPUTS + TASK_CODE)
    def clean(x):
        return {body}

    @flow
    def weekly(number=1):
        return [clean(x) for x in range(number)]
"""


def flows(body: str, before: str = "") -> str:
    return FLOWS.format(body=body, before=textwrap.indent(textwrap.dedent(before), " " * 4).strip())


def changes_of(plan: Plan, task: str = "clean") -> list[str]:
    return [str(change) for change in plan.changes.get(task, [])]


def after_edit(edited: Project, old: dict[str, str], new: dict[str, str]) -> Plan:
    edited(**old).weekly()
    plan: Plan = edited(**new).weekly.plan()
    assert plan.counts["miss"] == 1
    assert [node.reason for node in plan.nodes] == [plan.explain(0).summary]
    return plan


def test_a_changed_constant_is_shown_with_its_old_and_new_value(edited: Project) -> None:
    plan = after_edit(
        edited,
        {"flows": flows("x > THRESHOLD", "THRESHOLD = 0.5")},
        {"flows": flows("x > THRESHOLD", "THRESHOLD = 0.7")},
    )
    assert changes_of(plan) == ["constant THRESHOLD of flows: 0.5 → 0.7"]
    assert "constant THRESHOLD of flows: 0.5 → 0.7" in str(plan)
    assert "never computed" not in str(plan)


def test_a_changed_function_is_shown_with_its_lines(edited: Project) -> None:
    plan = after_edit(edited, {"flows": flows("x + 1")}, {"flows": flows("x + 2")})
    (change,) = plan.changes["clean"]
    assert str(change) == "function flows.clean changed"
    assert change.diff == " def clean(x):\n-    return x + 1\n+    return x + 2"


def test_a_changed_helper_in_another_module_is_shown_with_its_caller(edited: Project) -> None:
    body = flows("outer(x)", "from helpers import outer")
    helpers = "def outer(x):\n    return inner(x)\n\ndef inner(x):\n    return x + {}\n"
    plan = after_edit(
        edited, {"flows": body, "helpers": helpers.format(1)}, {"flows": body, "helpers": helpers.format(2)}
    )
    assert changes_of(plan) == ["function helpers.inner changed (used by helpers.outer)"]


def test_a_changed_method_is_named_by_class_and_name(edited: Project) -> None:
    model = """
        class Model:
            limit = {}

            def apply(self, x):
                return x + {}

            def other(self, x):
                return x
    """
    old, new = (textwrap.dedent(model.format(*numbers)) for numbers in ((1, 1), (1, 2)))
    plan = after_edit(edited, {"flows": flows("Model().apply(x)", old)}, {"flows": flows("Model().apply(x)", new)})
    assert changes_of(plan) == ["method flows.Model.apply changed"]
    body = textwrap.dedent(model.format(3, 2))
    assert changes_of(edited(flows=flows("Model().apply(x)", body)).weekly.plan()) == [
        "class flows.Model changed",
        "method flows.Model.apply changed",
    ]


def test_changed_closure_variables_and_defaults_are_named_with_their_function(edited: Project) -> None:
    maker = """
        def maker(k, y):
            def scaled(x, factor=y):
                return x * k * factor
            return scaled

        scaled = maker({})
    """
    old, new = (textwrap.dedent(maker.format(numbers)) for numbers in ("2, 3", "4, 5"))
    plan = after_edit(edited, {"flows": flows("scaled(x)", old)}, {"flows": flows("scaled(x)", new)})
    where = "flows.maker.<locals>.scaled"
    assert sorted(changes_of(plan)) == [
        f"closure variable k of {where}: 2 → 4 (used by {where})",
        f"default factor of {where}: 3 → 5 (used by {where})",
    ]


def test_a_task_source_policy_reports_the_same_changes(edited: Project) -> None:
    text = """
        def maker(k):
            @task(cache_policy=INPUTS + TASK_SOURCE, key_name="made")
            def made(x):
                return x + k
            return made

        made = maker({})

        @flow
        def weekly():
            return made(1)
    """
    plan = after_edit(edited, {"flows": text.format(1)}, {"flows": text.format(2)})
    assert changes_of(plan, "made") == ["closure variable k of flows.maker.<locals>.made: 1 → 2"]


def test_a_renamed_and_moved_task_with_a_key_name_is_compared(edited: Project) -> None:
    old = """
        LIMIT = 1

        @task(cache_policy=INPUTS + TASK_CODE, key_name="clean")
        def clean(x):
            return helper(x)

        def helper(x):
            return x + LIMIT

        @flow
        def weekly():
            return clean(1)
    """
    new = old.replace("def clean", "def tidied").replace("clean(1)", "tidied(1)").replace("LIMIT = 1", "LIMIT = 2")
    edited(flows=old).weekly()
    entry = "from moved import tidied\n\n@flow\ndef weekly():\n    return tidied(1)\n"
    moved = HEAD + textwrap.dedent(new)
    plan = edited(flows=entry, moved=moved).weekly.plan()
    assert changes_of(plan, "tidied") == ["constant LIMIT of moved: 1 → 2 (used by moved.helper)"]


def test_additions_and_removals_are_reported(edited: Project) -> None:
    old = flows("one(x)", "def one(x):\n    return x\n\ndef two(x):\n    return x")
    plan = after_edit(edited, {"flows": old}, {"flows": old.replace("return one(x)", "return two(x)")})
    assert changes_of(plan) == [
        "function flows.clean changed",
        "function flows.two is new",
        "function flows.one is no longer used",
    ]


def test_a_name_that_now_means_another_function_is_reported(edited: Project) -> None:
    both = "def one(x):\n    return x\n\ndef two(x):\n    return x\n\nuse = {}"
    plan = after_edit(
        edited,
        {"flows": flows("(one, two, use(x))[2]", both.format("one"))},
        {"flows": flows("(one, two, use(x))[2]", both.format("two"))},
    )
    assert changes_of(plan) == ["name use of flows: flows.one → flows.two"]


def test_a_constant_that_differs_only_in_its_content_is_named(edited: Project) -> None:
    plan = after_edit(edited, {"flows": flows("ROWS", "ROWS = b'1'")}, {"flows": flows("ROWS", "ROWS = b'2'")})
    assert changes_of(plan) == ["constant ROWS of flows changed (<bytes>)"]


def test_notes_contain_no_secrets(edited: Project, tmp_path: Path) -> None:
    before = """
        api_key = "constant-secret"
        SETTINGS = {"password": "nested-secret", "host": "db"}

        def connect(url="https://user:url-secret@host", token="default-secret"):
            password = "local-secret"
            client_secret: str = "annotated-secret"
            return url, dict(secret="keyword-secret"), password == "compared-secret", {"token": "dict-secret"}
    """
    edited(flows=flows("(connect(), api_key, SETTINGS)", before)).weekly()
    notes = [path.read_text() for path in (tmp_path / "store" / "code").rglob("*.json")]
    assert len(notes) == 1
    assert "def connect" in notes[0]
    assert "'host': 'db'" in notes[0]
    assert "-secret" not in notes[0]


def test_changes_are_reported_once_for_all_calls_of_a_task(edited: Project) -> None:
    edited(flows=flows("x + 1")).weekly(50)
    plan = edited(flows=flows("x + 2")).weekly.plan(50)
    assert changes_of(plan) == ["function flows.clean changed"]
    document = plan.to_dict()
    assert [change["name"] for change in document["changes"]["clean"]] == ["flows.clean"]
    assert {node["reason"] for node in document["nodes"]} == {"function flows.clean changed"}
    assert str(plan).count("function flows.clean changed") == 1
    assert "function flows.clean changed" in plan._repr_html_()


def test_never_computed_is_reported_only_if_the_task_has_no_results(edited: Project) -> None:
    module = edited(flows=flows("x + 1"))
    assert module.weekly.plan().nodes[0].reason == "never computed"
    module.weekly()
    assert {node.reason for node in module.weekly.plan(3).nodes} == {"same inputs and code", "input x changed"}


def test_the_comparison_uses_only_results_older_than_the_plan(edited: Project) -> None:
    module = edited(flows=flows("x + 1"))
    plan = module.weekly.plan()
    module.weekly()
    assert plan.nodes[0].reason == "never computed"


def test_a_changed_environment_is_named_beside_the_constant(edited: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from penstock.storage.results import producers

    monkeypatch.setattr(producers, "_packages", lambda: {"pandas": "2.2.3"})
    edited(flows=flows("ROWS", "ROWS = b'1'")).weekly()
    monkeypatch.setattr(producers, "_packages", lambda: {"pandas": "3.1.1"})
    plan = edited(flows=flows("ROWS", "ROWS = b'2'")).weekly.plan()  # as another version of pandas makes it
    assert plan.nodes[0].reason == (
        "constant ROWS of flows changed (<bytes>); made with pandas 2.2.3, here it is 3.1.1"
    )


def test_a_changed_policy_is_described_by_what_it_counts(edited: Project) -> None:
    edited(flows=flows("x + 1")).weekly()
    other = flows("x + 1").replace("INPUTS + TASK_CODE", "INPUTS + TASK_CODE + CacheKey('v1')")
    plan = edited(flows="from penstock import CacheKey\n" + textwrap.dedent(other)).weekly.plan()
    assert plan.nodes[0].reason == "its policy now includes a CacheKey"


def test_an_input_from_another_task_is_described_by_the_task(edited: Project) -> None:
    text = """
        @task(cache_policy=INPUTS + TASK_CODE)
        def read(x):
            return x * {}

        @task(cache_policy=INPUTS)
        def total(rows):
            return rows

        @flow
        def weekly():
            return total(read(1))
    """
    edited(flows=text.format(1)).weekly()
    module = edited(flows=text.format(2))
    assert [node.reason for node in module.weekly.plan().nodes] == [
        "function flows.read changed",
        "input rows is not known before read has run",
    ]
    module.read(1)
    reasons = [node.reason for node in module.weekly.plan().nodes]
    assert reasons[1].endswith("input rows changed: it comes from read, whose result changed")


def test_an_input_from_another_call_of_a_task_is_described_by_that(edited: Project) -> None:
    text = """
        @task(cache_policy=INPUTS)
        def read(x):
            return {"rows": x}

        @task(cache_policy=INPUTS)
        def total(rows, more):
            return rows

        @flow
        def weekly(x):
            return total(read(x), more=0)

        @flow
        def all_weeks(*xs):
            return total([read(x) for x in xs], more=0)

        @flow
        def of_part(x):
            return total(read(x)["rows"], more=0)
    """
    module = edited(flows=text)
    module.weekly(1)
    module.read(2)
    assert module.weekly.plan(2).nodes[1].reason == "input rows changed: it comes from another call of read"
    reason = "input rows changed: it comes from read: from another call, or its result changed"
    assert module.all_weeks.plan(1, 2).nodes[2].reason == reason
    reason = "input rows is a part of the result of read, which only a run takes"
    assert module.of_part.plan(2).nodes[2].reason == reason
    assert module.of_part.plan(9).nodes[2].reason == "input rows is not known before read has run"


def test_an_input_whose_earlier_result_is_gone_may_come_from_another_call_or_not(edited: Project) -> None:
    text = """
        @task(cache_policy=INPUTS)
        def read(x):
            return x

        @task(cache_policy=INPUTS)
        def total(rows):
            return rows

        @flow
        def weekly(x):
            return total(read(x))
    """
    module = edited(flows=text)
    module.weekly(1)
    results = ResultStore(open_store(current_settings().store))
    (first,) = (record for record in current_records(results) if record.task == "flows:read")
    results.invalidate(first.task, first.key)
    module.read(2)
    reason = "input rows changed: it comes from read: from another call, or its result changed"
    assert module.weekly.plan(2).nodes[1].reason == reason


def test_a_constant_that_cannot_be_read_twice_costs_only_its_note(
    edited: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from penstock.explanations import code_notes

    def exits(*_: object) -> None:
        raise SystemExit("a constant's own digest")

    monkeypatch.setattr(code_notes, "read_code", exits)
    module = edited(flows=flows("x + 1"))
    assert module.weekly() == [1]
    assert not list((tmp_path / "store").glob("code/*/*.json"))
    assert list((tmp_path / "store").glob("runs/*/run.json"))
    monkeypatch.undo()


def test_a_store_that_refuses_notes_stops_no_run(edited: Project, tmp_path: Path) -> None:
    module = edited(flows=flows("x + 1"))
    (tmp_path / "store").mkdir(mode=0o700)
    (tmp_path / "store" / "code").write_text("in the way")
    assert module.weekly() == [1]


def test_a_run_of_hits_writes_no_note(edited: Project, tmp_path: Path) -> None:
    module = edited(flows=flows("x + 1"))
    module.weekly()
    notes = list((tmp_path / "store" / "code").rglob("*.json"))
    for note in notes:
        note.unlink()
    module.weekly()
    assert notes
    assert not list((tmp_path / "store" / "code").rglob("*.json"))


@pytest.mark.parametrize(
    "planted",
    [
        b"",
        b"{",
        b"\xff" * 10,
        b"[" * 60_000,
        b"null",
        b'{"v":1,"digest":"%(digest)s","pieces":3}',
        b'{"v":2,"digest":"%(digest)s","pieces":[]}',
        b'{"v":1,"digest":"other","pieces":[]}',
        b" " * 70_000,
    ],
)
def test_a_damaged_note_counts_as_missing(edited: Project, tmp_path: Path, planted: bytes) -> None:
    edited(flows=flows("x + 1")).weekly()
    (note,) = (tmp_path / "store" / "code").rglob("*.json")
    note.write_bytes(planted.replace(b"%(digest)s", note.stem.encode()))
    module = edited(flows=flows("x + 2"))
    assert module.weekly.plan().nodes[0].reason == "its code changed"
    assert module.weekly() == [2]


def test_a_planted_note_is_bounded_and_cannot_control_the_terminal(edited: Project, tmp_path: Path) -> None:
    edited(flows=flows("x > LIMIT", "LIMIT = 1")).weekly()
    (note,) = (tmp_path / "store" / "code").rglob("*.json")
    text = note.read_text()
    evil = "\\u001b[2J\\n" + "y" * 5_000
    note.write_text(text.replace('"text":"1"', f'"text":"{evil}"'))
    plan = edited(flows=flows("x > LIMIT", "LIMIT = 2")).weekly.plan()
    (said,) = changes_of(plan)
    assert "\x1b" not in said
    assert "\n" not in said
    assert len(said) < 400


def test_a_long_diff_is_cut() -> None:
    from penstock.graph.code.changes import DIFF_LINES, code_changes
    from penstock.graph.code.code_notes import FUNCTION, CodeNote, Piece

    def note(digest: str, text: str) -> CodeNote:
        return CodeNote(1, digest * 40, [Piece(FUNCTION, "the task", "f", digest, text)])

    old, new = ("\n".join(f"{letter}{n}" for n in range(30_000)) for letter in "ab")
    (change,) = code_changes(note("a", old), note("b", new))
    assert len(change.diff.splitlines()) == DIFF_LINES + 1
    assert isinstance(change, CodeChange)


def test_the_note_of_a_large_program_is_cut_to_its_limit() -> None:
    from penstock.graph.code.code_notes import (
        CONSTANT,
        FUNCTION,
        MAX_BYTES,
        CodeNote,
        Piece,
        decode_code_note,
        encode_code_note,
    )

    pieces = [Piece(FUNCTION, f"f{n}", f"f{n}", "d", "x = 'é'\n" * 800) for n in range(300)]
    pieces.append(Piece(CONSTANT, "c", "c", "d", "1"))
    data = encode_code_note(CodeNote(1, "a" * 40, pieces))
    assert len(data) <= MAX_BYTES
    found = decode_code_note(data, "a" * 40)
    assert found is not None
    assert [piece.name for piece in found.pieces] == [piece.name for piece in pieces]
    assert found.pieces[-1].text == "1"


def test_the_note_of_a_program_with_very_many_parts_omits_their_sources() -> None:
    from penstock.graph.code.code_notes import FUNCTION, MAX_BYTES, CodeNote, Piece, decode_code_note, encode_code_note

    pieces = [Piece(FUNCTION, f"{n}" + "f" * 3_000, "f", "d", "") for n in range(400)]
    data = encode_code_note(CodeNote(1, "a" * 40, pieces))
    assert len(data) <= MAX_BYTES
    found = decode_code_note(data, "a" * 40)
    assert found is not None
    assert 0 < len(found.pieces) < len(pieces)
    assert [piece.name for piece in found.pieces] == [piece.name for piece in pieces[: len(found.pieces)]]


def test_defaults_are_reported_per_function_and_a_shared_constant_once(edited: Project) -> None:
    text = """
        RATE, NET, GROSS = {rate}, {net}, {gross}

        def net(x=NET):
            return x * RATE

        def gross(x=GROSS):
            return x + RATE
    """
    before, after = text.format(rate=1, net=2, gross=3), text.format(rate=4, net=5, gross=6)
    plan = after_edit(edited, {"flows": flows("net() + gross()", before)}, {"flows": flows("net() + gross()", after)})
    told = "\n".join(changes_of(plan))
    assert told.count("RATE of flows: 1 → 4") == 1
    assert told.count("default x of flows.net: 2 → 5") == 1
    assert told.count("default x of flows.gross: 3 → 6") == 1
