"""The checker on handwritten histories: it finds every violation, and reports none where there is none."""

from __future__ import annotations

import cProfile
import itertools
from pathlib import Path
from typing import Any

import pytest

from tests.nemesis.checker import Terms, check
from tests.nemesis.history import Event, Recorder, operations, read_history

TERMS = Terms(lease=1.0, poll=0.5, call=0.25, margin=0.5)


class Story:
    """A history written line by line."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._numbers = itertools.count()

    def op(self, process: str, op: str, key: str, begun: float, ended: float | None, **answer: Any) -> Story:
        n, type = next(self._numbers), answer.pop("type", "ok")
        self.events.append(
            Event(begun, process, n, "invoke", op, key, {k: answer[k] for k in ("empty",) if k in answer})
        )
        if ended is not None:
            self.events.append(Event(ended, process, n, type, op, key, answer))
        return self

    def note(self, process: str, op: str, t: float, key: str = "", **about: Any) -> Story:
        self.events.append(Event(t, process, next(self._numbers), "note", op, key, about))
        return self

    # -- the most frequent events

    def reads(self, process: str, begun: float, ended: float, generation: int, attempt: str | None) -> Story:
        about = {} if attempt is None else {"digest": f"of {attempt}", "recorded": f"of {attempt}"}
        return self.op(process, "read", "k", begun, ended, generation=generation, attempt=attempt, **about)

    def publishes(self, process: str, begun: float, ended: float, generation: int, attempt: str, won: bool) -> Story:
        told = {"generation": generation, "attempt": attempt, "digest": f"of {attempt}", "won": won}
        return self.op(process, "publish", "k", begun, ended, **told)

    def invalidates(self, process: str, begun: float, ended: float) -> Story:
        return self.op(process, "invalidate", "k", begun, ended, closed=True)

    def takes(self, session: str, begun: float, ended: float, fence: int) -> Story:
        return self.op(f"p{session}", "acquire", "k", begun, ended, session=session, fence=fence)

    def holds(self, session: str, t: float, fence: int) -> Story:
        return self.note(f"p{session}", "holds", t, "k", session=session, fence=fence)

    def releases(self, session: str, begun: float, ended: float, fence: int) -> Story:
        n = next(self._numbers)
        about = {"session": session, "fence": fence}
        self.events.append(Event(begun, f"p{session}", n, "invoke", "release", "k", about))
        self.events.append(Event(ended, f"p{session}", n, "ok", "release", "k", {}))
        return self

    def outage(self, begun: float, ended: float, *, empty: bool) -> Story:
        return self.op("nemesis", "outage", "", begun, ended, empty=empty)

    def left(self, **about: Any) -> Story:
        nothing: dict[str, Any] = {"locks": [], "leftovers": [], "payloads": [], "referenced": [], "problems": []}
        return self.note("end", "left", 99.0, **{**nothing, **about})

    def broken(self) -> set[str]:
        return {violation.invariant for violation in check(self.events, TERMS)}


def test_a_history_without_violations_passes() -> None:
    story = Story().takes("A", 0.0, 0.1, 10).reads("pA", 0.1, 0.2, 0, None).holds("A", 0.3, 10)
    story.publishes("pA", 0.3, 0.4, 0, "a", True).holds("A", 0.45, 10).releases("A", 0.5, 0.6, 10)
    story.op("pB", "acquire", "k", 0.2, 0.25, holder="A").op("pB", "wait", "k", 0.25, 0.55, outcome=["published"])
    story.reads("pB", 0.6, 0.7, 0, "a").invalidates("pC", 0.7, 0.8).reads("pB", 0.9, 1.0, 1, None)
    story.takes("B", 1.0, 1.1, 11).publishes("pB", 1.1, 1.2, 1, "b", True).releases("B", 1.3, 1.4, 11)
    story.reads("pA", 1.5, 1.6, 1, "b").note("pA", "bye", 2.0, threads=[]).left(payloads=["b"], referenced=["b"])
    assert story.broken() == set()


# -- I1 ---------------------------------------------------------------------------------------------------------------


def test_two_records_of_one_generation_break_i1() -> None:
    assert Story().reads("p", 0.0, 0.1, 0, "a").reads("q", 0.2, 0.3, 0, "b").broken() == {"I1", "I4"}


def test_a_record_that_disappears_without_a_redirect_breaks_i1() -> None:
    assert Story().reads("p", 0.0, 0.1, 2, "a").reads("q", 0.2, 0.3, 2, None).broken() == {"I1"}


def test_an_earlier_generation_that_comes_back_breaks_i1() -> None:
    assert Story().reads("p", 0.0, 0.1, 2, None).reads("q", 0.2, 0.3, 1, None).broken() == {"I1"}


def test_concurrent_reads_can_see_either() -> None:
    assert Story().reads("p", 0.0, 0.3, 2, "a").reads("q", 0.2, 0.4, 2, None).broken() == set()


def test_a_refused_writer_can_report_an_older_generation() -> None:
    story = Story().reads("p", 0.0, 0.1, 5, None)
    assert story.op("q", "publish", "k", 0.2, 0.3, restart="invalidated", generation=3).broken() == set()


# -- I2 ---------------------------------------------------------------------------------------------------------------


def test_a_record_without_its_payload_breaks_i2() -> None:
    assert Story().op("p", "read", "k", 0.0, 0.1, type="fail", damaged=True).broken() == {"I2"}


def test_a_store_that_does_not_answer_breaks_nothing() -> None:
    assert Story().op("p", "read", "k", 0.0, 0.1, type="fail", error="no answer").broken() == set()


def test_other_bytes_than_the_record_says_break_i2() -> None:
    told = {"generation": 0, "attempt": "a", "digest": "of b", "recorded": "of a"}
    assert Story().op("p", "read", "k", 0.0, 0.1, **told).broken() == {"I2"}


def test_damage_found_at_the_end_breaks_i2() -> None:
    assert Story().left(problems=["a record"]).broken() == {"I2"}


# -- I3 ---------------------------------------------------------------------------------------------------------------


def test_two_winners_of_one_generation_break_i3() -> None:
    story = Story().publishes("p", 0.0, 0.1, 0, "a", True).publishes("q", 0.05, 0.2, 0, "b", True)
    assert story.broken() == {"I3", "I4"}


def test_a_success_that_nobody_sees_breaks_i3() -> None:
    story = Story().reads("q", 0.0, 0.1, 0, "b").publishes("p", 0.0, 0.2, 0, "a", True)
    assert "I3" in story.broken()


def test_adopting_the_winners_result_breaks_nothing() -> None:
    story = Story().publishes("p", 0.0, 0.1, 0, "a", True).publishes("q", 0.0, 0.2, 0, "a", False)
    assert story.broken() == set()


# -- I4 ---------------------------------------------------------------------------------------------------------------


def test_two_values_of_one_generation_break_i4() -> None:
    story = Story().reads("p", 0.0, 0.1, 0, "a")
    told = {"generation": 0, "attempt": "a", "digest": "other bytes", "recorded": "other bytes"}
    assert story.op("q", "read", "k", 0.2, 0.3, **told).broken() == {"I4"}


# -- I5 ---------------------------------------------------------------------------------------------------------------


def test_reading_a_result_after_its_invalidation_breaks_i5() -> None:
    story = Story().reads("p", 0.0, 0.1, 0, "a").invalidates("q", 0.2, 0.3)
    assert story.reads("p", 0.4, 0.5, 0, "a").broken() == {"I5"}


def test_publishing_a_result_after_its_invalidation_breaks_i5() -> None:
    story = Story().reads("p", 0.0, 0.1, 1, "a").invalidates("q", 0.2, 0.3)
    assert "I5" in story.publishes("p", 0.4, 0.5, 0, "b", True).broken()


def test_a_read_that_started_before_the_invalidation_ended_can_return_the_result() -> None:
    story = Story().reads("p", 0.0, 0.1, 0, "a").invalidates("q", 0.2, 0.3)
    assert story.reads("p", 0.25, 0.5, 0, "a").broken() == set()


def test_an_invalidation_does_not_close_what_was_published_meanwhile() -> None:
    story = Story().invalidates("q", 0.2, 0.3).reads("p", 0.25, 0.28, 1, "b")
    assert story.reads("p", 0.4, 0.5, 1, "b").broken() == set()


# -- I6 ---------------------------------------------------------------------------------------------------------------


def two_holders() -> Story:
    """Let A have the lock from 0.1 to 2.0 at least; B gets it at 1.0 and holds it at 1.5."""
    return Story().takes("A", 0.0, 0.1, 1).holds("A", 2.0, 1).takes("B", 0.9, 1.0, 2).holds("B", 1.5, 2)


def test_two_holders_at_once_break_i6() -> None:
    assert two_holders().broken() == {"I6"}


def test_a_holder_that_was_lost_before_the_next_one_breaks_nothing() -> None:
    story = Story().takes("A", 0.0, 0.1, 1).holds("A", 0.8, 1).note("pA", "lost", 2.0, session="A")
    assert story.takes("B", 0.9, 1.0, 2).holds("B", 1.5, 2).note("pA", "bye", 3.0, threads=[]).broken() == set()


def test_a_released_lock_can_be_anothers() -> None:
    story = Story().takes("A", 0.0, 0.1, 1).releases("A", 0.5, 0.6, 1).holds("A", 0.4, 1)
    assert story.takes("B", 0.51, 0.55, 2).holds("B", 0.7, 2).broken() == set()


def test_two_holders_are_allowed_for_a_lease_after_a_server_came_back_empty() -> None:
    assert two_holders().holds("B", 1.9, 2).outage(0.85, 0.9, empty=True).broken() == {"I6"}
    story = Story().takes("A", 0.0, 0.1, 1).holds("A", 1.4, 1).takes("B", 0.9, 1.0, 2).holds("B", 1.5, 2)
    assert story.broken() == {"I6"}
    assert story.outage(0.85, 0.9, empty=True).broken() == set()


def test_an_outage_without_data_loss_excuses_no_second_holder() -> None:
    story = Story().takes("A", 0.0, 0.1, 1).holds("A", 1.4, 1).takes("B", 0.9, 1.0, 2).holds("B", 1.5, 2)
    assert story.outage(0.85, 0.9, empty=False).broken() == {"I6"}


def test_a_holder_that_is_never_informed_of_its_loss_breaks_i6() -> None:
    story = Story().takes("A", 0.0, 0.1, 1).takes("B", 2.0, 2.1, 2).note("pA", "bye", 9.0, threads=[])
    assert story.broken() == {"I6"}
    assert story.note("pA", "lost", 3.0, session="A").broken() == set()


def test_a_holder_that_ends_before_its_next_heartbeat_need_not_be_informed() -> None:
    story = Story().takes("A", 0.0, 0.1, 1).takes("B", 2.0, 2.1, 2)
    assert story.note("pA", "bye", 2.5, threads=[]).broken() == set()


# -- I7 ---------------------------------------------------------------------------------------------------------------


def test_a_token_that_does_not_grow_breaks_i7() -> None:
    for second in (5, 4):
        story = Story().takes("A", 0.0, 0.1, 5).releases("A", 0.2, 0.3, 5).takes("B", 0.4, 0.5, second)
        assert story.broken() == {"I7"}


def test_one_token_for_two_holders_at_the_same_time_breaks_i7() -> None:
    assert "I7" in Story().takes("A", 0.0, 0.3, 5).takes("B", 0.1, 0.4, 5).broken()


def test_a_lease_requested_again_keeps_its_token() -> None:
    assert Story().takes("A", 0.0, 0.1, 5).takes("A", 0.2, 0.3, 5).broken() == set()


# -- I9 ---------------------------------------------------------------------------------------------------------------


def test_a_wait_that_continues_long_after_the_release_breaks_i9() -> None:
    story = Story().takes("A", 0.0, 0.1, 1).releases("A", 1.0, 1.1, 1)
    story.op("q", "wait", "k", 0.2, 3.0)
    assert story.broken() == set()
    story.op("q", "wait", "k", 0.2, 3.2)
    assert story.broken() == {"I9"}


def test_a_wait_that_never_ends_breaks_i9() -> None:
    assert Story().op("q", "wait", "k", 0.2, None).left().broken() == {"I9"}


def test_a_killed_waiter_does_not_have_to_end() -> None:
    assert Story().op("q", "wait", "k", 0.2, None).note("nemesis", "kill", 1.0, target="q").left().broken() == set()


def test_a_wait_can_last_while_the_lock_is_held() -> None:
    story = Story().takes("A", 0.0, 0.1, 1).op("q", "wait", "k", 0.2, 9.0)
    for t in range(1, 9):
        story.holds("A", float(t), 1)
    assert story.broken() == set()


def test_a_stopped_waiter_counts_from_when_it_continues() -> None:
    story = Story().op("q", "wait", "k", 0.2, 6.0)
    assert story.broken() == {"I9"}
    assert story.note("nemesis", "continue", 5.0, target="q").broken() == set()


def test_a_wait_that_misses_a_release_breaks_i9_even_if_the_lock_is_taken_again() -> None:
    story = Story().takes("A", 0.0, 0.1, 1).op("q", "wait", "k", 0.2, 9.0).releases("A", 2.0, 2.1, 1)
    for t in range(3, 9):
        story.takes(f"B{t}", t, t + 0.1, t).releases(f"B{t}", t + 0.2, t + 0.3, t)
    assert story.broken() == {"I9"}
    assert story.note("nemesis", "cut", 1.9, kind="pubsub").broken() == set()


def test_an_outage_extends_a_wait_by_its_length() -> None:
    for ended, broken in ((4.0, set()), (4.2, {"I9"})):
        story = Story().op("q", "wait", "k", 0.2, ended).outage(0.5, 1.0, empty=False).outage(1.5, 2.3, empty=True)
        assert story.outage(5.0, 9.0, empty=False).broken() == broken


def test_only_the_kill_of_a_holder_counts() -> None:
    story = Story().takes("A", 0.0, 0.1, 1).op("q", "wait", "k", 0.2, 6.0)
    assert story.note("nemesis", "kill", 5.0, target="r").broken() == {"I9"}
    assert story.note("nemesis", "kill", 5.0, target="pA").broken() == set()


# -- I10 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "left",
    [
        {"locks": ["k"]},
        {"leftovers": ["{penstock}:held:1"]},
        {"payloads": ["a", "b"], "referenced": ["a"]},
        {"payloads": [], "referenced": ["a"]},
    ],
)
def test_anything_left_at_the_end_breaks_i10(left: dict[str, Any]) -> None:
    assert Story().left(**left).broken() == {"I10"}


def test_a_heartbeat_that_continues_breaks_i10() -> None:
    assert Story().note("p", "bye", 1.0, threads=["penstock-heartbeat"]).broken() == {"I10"}


def test_a_client_that_failed_or_hung_is_reported() -> None:
    assert Story().note("p.crash", "crash", 1.0, error="KeyError").broken() == {"client"}
    assert Story().note("nemesis", "hung", 1.0, target="p").broken() == {"client"}


# -- histories --------------------------------------------------------------------------------------------------------


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    one, two = Recorder(tmp_path, "one"), Recorder(tmp_path, "two")
    first = one.invoke("read", "k")
    second = two.invoke("wait", "k")
    first.ok(generation=3, attempt=None)
    second.info(error="gone")
    one.invoke("publish", "k")  # and killed
    history = read_history(tmp_path)
    assert [event.op for event in history] == ["read", "wait", "read", "wait", "publish"]
    read, wait, publish = operations(history)
    assert read.ok
    assert read.answer == {"generation": 3, "attempt": None}
    assert (wait.ok, publish.end) == (False, None)


def test_checking_takes_linear_time() -> None:
    def calls_for(count: int) -> int:
        story = Story()
        for i in range(count):
            t = float(i)
            story.reads("p", t, t + 0.1, i, None).takes("A", t + 0.2, t + 0.3, i).holds("A", t + 0.35, i)
            story.publishes("p", t + 0.4, t + 0.5, i, str(i), True).releases("A", t + 0.6, t + 0.7, i)
            story.op("q", "wait", "k", t, t + 0.65).invalidates("r", t + 0.8, t + 0.9)
        profile = cProfile.Profile()
        assert profile.runcall(check, story.events, TERMS) == []
        return sum(entry.callcount for entry in profile.getstats())

    small, large = calls_for(250), calls_for(2_000)
    assert large < 8 * small * 1.5
