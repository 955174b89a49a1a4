"""Exceptions between processes: they arrive with their causes, contexts and the members of groups."""

from __future__ import annotations

import sys
import threading
from types import ModuleType
from typing import Any

import pytest

from penstock.errors import TaskFailed
from penstock.objects import sent_exceptions
from penstock.objects.chains import Links, link, links_of
from penstock.objects.sent_exceptions import MOST_BYTES, MOST_SENT
from penstock.worker.failures import arrived, describe, portable, to_exception
from penstock.worker.messages import Failure
from penstock.worker.shipping.wire import pack_outcomes, unpack_outcomes


def sent(error: BaseException) -> Any:
    """Return an exception as the flow receives it from another process."""
    failure, _ = unpack_outcomes(pack_outcomes(portable(describe(error)), []))
    assert not isinstance(failure, list)
    return to_exception(failure, task="load", node=3, attempt=1)


def chained(error: BaseException, *, cause: Any = None, context: Any = None) -> Any:
    link(error, Links(cause, context, cause is not None))
    return error


class Locked(Exception):
    """Cannot be pickled in any way."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()


class Holds(Exception):
    """Holds its cause, as many libraries' exceptions do."""

    def __init__(self, inner: BaseException) -> None:
        super().__init__(inner)
        self.inner = inner


def test_causes_contexts_and_the_suppressed_arrive() -> None:
    error = chained(ValueError("a"), cause=chained(KeyError("b"), context=OSError(2, "c")), context=TypeError("d"))
    again = sent(error)
    assert [type(again), type(again.__cause__), type(again.__context__)] == [ValueError, KeyError, TypeError]
    assert again.__suppress_context__
    assert not again.__cause__.__suppress_context__
    assert again.__cause__.__context__.errno == 2


def test_a_suppressed_context_without_a_cause_stays_suppressed() -> None:
    error = ValueError("a")
    link(error, Links(None, KeyError("b"), True))
    again = sent(error)
    assert again.__cause__ is None
    assert type(again.__context__) is KeyError
    assert again.__suppress_context__


def test_a_cause_that_is_also_the_context_is_one_exception() -> None:
    cause = KeyError("b")
    again = sent(chained(ValueError("a"), cause=cause, context=cause))
    assert again.__cause__ is again.__context__


def test_an_exception_that_holds_its_cause_still_does() -> None:
    cause = KeyError("b")
    again = sent(chained(Holds(cause), cause=cause))
    assert again.inner is again.args[0] is again.__cause__


@pytest.mark.parametrize("length", [1, 2, 5])
def test_chains_that_lead_back_arrive_as_they_are(length: int) -> None:
    errors = [ValueError(number) for number in range(length)]
    for error, following in zip(errors, [*errors[1:], errors[0]], strict=True):
        chained(error, context=following)
    again = each = sent(errors[0])
    for number in range(length):
        assert each.args == (number,)
        each = each.__context__
    assert each is again


def test_each_member_of_a_group_keeps_its_causes() -> None:
    shared = KeyError("shared")
    members = [chained(ValueError(n), cause=chained(OSError(n), context=shared)) for n in range(3)]
    group = chained(ExceptionGroup("outer", [members[0], ExceptionGroup("inner", members[1:])]), cause=shared)
    again = sent(group)
    first, inner = again.exceptions
    assert [each.args[0] for each in (first, *inner.exceptions)] == [0, 1, 2]
    assert [each.__cause__.args[0] for each in (first, *inner.exceptions)] == [0, 1, 2]
    assert all(each.__cause__.__context__ is again.__cause__ for each in (first, *inner.exceptions))


def test_a_member_raised_again_while_its_group_was_handled_is_the_groups_member() -> None:
    member = ValueError("a")
    group = ExceptionGroup("several", [KeyError("b"), member])
    again = sent(chained(member, context=group))
    assert again.__context__.exceptions[1] is again
    raised = sent(chained(LookupError("c"), cause=member, context=group))
    assert raised.__context__.exceptions[1] is raised.__cause__


def test_a_cause_that_cannot_be_pickled_is_replaced_by_its_text_and_keeps_its_own() -> None:
    again = sent(chained(ValueError("a"), cause=chained(Locked("b"), cause=KeyError("c"))))
    cause = again.__cause__
    assert type(again) is ValueError
    assert type(cause) is TaskFailed
    assert cause.what == "Locked: b"
    assert cause.data["traceback"].startswith("tests.errors.test_sent_exceptions.Locked: b")
    assert type(cause.__cause__) is KeyError


def test_an_exception_that_cannot_be_pickled_is_replaced_by_its_text_with_its_causes() -> None:
    again = sent(chained(Locked("a"), cause=KeyError("b")))
    assert type(again) is TaskFailed
    assert (again.what, again.where) == ("Locked: a", "task load, node 3, attempt 1")
    assert type(again.__cause__) is KeyError


def test_a_member_that_cannot_be_pickled_is_replaced_and_the_group_stays() -> None:
    again = sent(ExceptionGroup("several", [ValueError("a"), chained(Locked("b"), cause=KeyError("c"))]))
    assert [type(each) for each in again.exceptions] == [ValueError, TaskFailed]
    assert type(again.exceptions[1].__cause__) is KeyError


def test_a_cause_that_only_the_worker_knows_is_replaced_by_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("only_on_the_worker")
    package.Unknown = type("Unknown", (Exception,), {"__module__": package.__name__})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, package.__name__, package)
    inner = chained(package.Unknown("b"), context=KeyError("c"))
    failure = portable(describe(chained(Holds(inner), cause=inner)))
    assert failure.chain[1].pickled is not None
    monkeypatch.delitem(sys.modules, package.__name__)
    again: Any = to_exception(arrived(failure), task="load", node=3, attempt=1)
    assert type(again) is Holds
    assert again.inner is again.__cause__
    assert again.inner.what == "Unknown: b"
    assert type(again.inner.__context__) is KeyError


def test_an_exit_arrives_as_the_cause_of_the_tasks_failure_with_its_own_causes() -> None:
    again = sent(chained(SystemExit(3), cause=KeyError("a")))
    assert type(again) is TaskFailed
    assert type(again.__cause__) is SystemExit
    assert type(again.__cause__.__cause__) is KeyError


def test_a_chain_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent_exceptions, "MOST_SENT", 200)
    error = ValueError(0)
    for number in range(1, 300):
        error = chained(ValueError(number), context=error)
    again, length = sent(error), 0
    assert again.args == (299,)
    while again is not None:
        again, length = links_of(again).context, length + 1
    assert length == 200


@pytest.mark.slow
def test_a_cause_that_holds_too_much_arrives_as_text() -> None:
    large = chained(KeyError(bytearray(MOST_BYTES)), cause=OSError("c"))
    again = sent(chained(ValueError("a"), cause=large))
    assert type(again) is ValueError
    assert type(again.__cause__) is TaskFailed
    assert type(again.__cause__.__cause__) is OSError
    assert type(sent(large)) is KeyError
    assert type(sent(ExceptionGroup("several", [large])).exceptions[0]) is KeyError


def test_a_group_with_more_members_than_a_chain_may_have_keeps_them_all() -> None:
    again = sent(ExceptionGroup("many", [ValueError(n) for n in range(MOST_SENT + 10)]))
    assert [each.args[0] for each in again.exceptions] == list(range(MOST_SENT + 10))


def test_groups_that_hold_a_group_twice_arrive() -> None:
    group = ExceptionGroup("0", [ValueError("a")])
    for level in range(1, 8):
        group = ExceptionGroup(str(level), [group, group])
    failure = portable(Failure("ExceptionGroup", "7", "", group))
    again: Any = arrived(failure).error
    while again.message != "0":
        first, second = again.exceptions
        assert first is second
        again = first
    assert type(again.exceptions[0]) is ValueError


def test_exceptions_that_hold_each_other_arrive() -> None:
    first, second = ValueError("a"), KeyError("b")
    vars(first)["other"], vars(second)["other"] = second, first
    again = sent(chained(first, cause=second))
    assert type(again) is ValueError
    assert type(again.__cause__) is KeyError
    assert type(again.other) is KeyError


def test_an_exception_that_is_restored_as_one_of_the_process_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    class Only(Exception):
        __module__ = "holds_one"

        def __reduce__(self) -> str:
            return "THE_ONLY"

    module = ModuleType("holds_one")
    only = module.THE_ONLY = Only()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    again = sent(chained(only, context=KeyError("a")))
    assert again is only
    assert type(again.__context__) is KeyError
