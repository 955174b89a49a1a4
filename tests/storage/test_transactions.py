"""Results of transactions in a store: all of them count or none, whoever reads, whatever was there before."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import msgspec
import pytest
from blake3 import blake3

from penstock.errors import DamagedResult, SignatureRefused, StoreError, StoreUnreachable
from penstock.storage import LocalStore, MemoryStore
from penstock.storage.records.encoding import decode_slot_at, encode
from penstock.storage.records.names import decision_name, slot_name
from penstock.storage.records.records import IntentRecord, RedirectRecord, ResultRecord
from penstock.storage.records.signing import Signatures
from penstock.storage.records.signing_keys import write_new_file
from penstock.storage.records.transactions import Decision
from penstock.storage.results import copying, maintenance
from penstock.storage.results.generations import Absent, Found, Unknown, read_slot
from penstock.storage.results.store import Published, Restart, ResultStore, Undecided
from penstock.testing.stores.faults import FlakyStore, HastyClock

OURS = "aaaa"
BIG = b"x" * 10_000
"""Stored as a payload, not inline."""


@pytest.fixture
def store() -> FlakyStore:
    return FlakyStore(MemoryStore())


@pytest.fixture
def results(store: FlakyStore) -> ResultStore:
    return ResultStore(store, clock=HastyClock())


@pytest.fixture
def other(store: FlakyStore) -> ResultStore:
    """Another process."""
    return ResultStore(store, clock=HastyClock())


def publish(
    results: ResultStore, key: str, value: Any, *, transaction: str = OURS, attempt: str = "a", after: Any = None
) -> Published | Restart | Undecided:
    after = after or results.look_up("t", key, inside=transaction)
    return results.publish(
        "t", key, value, attempt=attempt, digest=repr(value)[:60], after=after, transaction=transaction
    )


def published(results: ResultStore, key: str, value: Any, **more: Any) -> Published:
    outcome = publish(results, key, value, **more)
    assert isinstance(outcome, Published)
    return outcome


def commit(results: ResultStore, *members: Published, **more: Any) -> Decision:
    for member in members:
        results.commits.close_replaced(member)
    return results.commits.decisions.decide(OURS, "commit", **more)


def values(results: ResultStore, keys: str = "pq", **more: Any) -> list[Any]:
    found = results.look_up_many([("t", key) for key in keys], **more)
    return [results.load(each.record) if isinstance(each, Found) else None for each in found]


# -- readers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["commit", "rollback"])
def test_all_results_of_a_transaction_count_for_others_or_none(
    results: ResultStore, other: ResultStore, outcome: Any
) -> None:
    published(results, "p", 1)
    published(results, "q", BIG)
    assert values(other) == [None, None]
    assert values(results, inside=OURS) == [1, BIG]
    assert values(results, inside=f"{OURS}/1") == [1, BIG]
    assert values(results, inside="bbbb") == [None, None]
    results.commits.decisions.decide(OURS, outcome)
    expected = [1, BIG] if outcome == "commit" else [None, None]
    assert values(other) == values(results) == values(results, inside=OURS) == expected


def test_a_decision_is_looked_up_once_for_all_results_and_remembered(results: ResultStore, other: ResultStore) -> None:
    commit(results, published(results, "p", 1), published(results, "q", 2))
    for trips in (2, 3):
        values(other)
        assert other.counters.round_trips == trips


def test_an_undecided_transaction_is_looked_up_again(results: ResultStore, other: ResultStore) -> None:
    published(results, "p", 1)
    found = other.look_up("t", "p")
    assert isinstance(found, Absent)
    assert (found.reason, found.transaction) == ("undecided", OURS)
    commit(results)
    assert values(other, "p") == [1]


def test_readers_of_an_unreadable_decision_do_not_take_results_for_absent(
    results: ResultStore, other: ResultStore, store: FlakyStore
) -> None:
    published(results, "p", 1)
    published(results, "q", 2, transaction="")
    store.put(decision_name(OURS), b"damaged")
    found, beside = other.look_up_many([("t", "p"), ("t", "q")])
    assert isinstance(found, Unknown)
    assert isinstance(beside, Found), "a decision concerns its own transaction"
    assert [each.key for each in maintenance.ls(other)] == ["q"]
    store.delete(decision_name(OURS))
    commit(results)
    assert values(other) == [1, 2]


def test_an_intent_of_a_transaction_that_cannot_be_is_no_result_and_disturbs_no_other(
    results: ResultStore, other: ResultStore
) -> None:
    published(results, "p", 1, transaction="../records")
    published(results, "q", 2, transaction="")
    found, beside = other.look_up_many([("t", "p"), ("t", "q")])
    assert isinstance(found, Unknown)
    assert isinstance(beside, Found)


def test_what_a_process_knows_of_decisions_is_not_sent_to_others(tmp_path: Path) -> None:
    results = ResultStore(LocalStore(tmp_path))
    results.commits.decisions.decide("decided-here", "commit")
    assert b"decided-here" not in pickle.dumps(results)


def test_a_decision_is_tried_again_after_a_while_if_the_store_does_not_answer(
    results: ResultStore, store: FlakyStore
) -> None:
    store.fail("put_if_absent", StoreUnreachable("no answer"), name="transactions/", times=2)
    began = results.clock.monotonic()
    assert results.commits.decisions.decide(OURS, "commit").outcome == "commit"
    assert results.clock.monotonic() > began


def test_a_result_that_a_transaction_replaces_counts_until_it_commits(results: ResultStore, other: ResultStore) -> None:
    published(results, "p", "old", transaction="")
    member = published(results, "p", "new", after=results.look_up("t", "p"))
    assert values(other, "p") == ["old"]
    commit(results, member)
    assert values(other, "p") == ["new"]


def test_a_result_that_a_transaction_would_have_replaced_stays_when_it_is_rolled_back(
    results: ResultStore, other: ResultStore
) -> None:
    published(results, "p", "old", transaction="")
    published(results, "p", "new", after=results.look_up("t", "p"))
    results.commits.decisions.decide(OURS, "rollback")
    assert values(other, "p") == ["old"]
    maintenance.gc(other, grace_seconds=0)
    assert values(other, "p") == ["old"]
    assert [each.generation for each in maintenance.ls(other)] == [0]


def test_what_was_rolled_back_inside_a_transaction_does_not_count_when_it_commits(
    results: ResultStore, other: ResultStore
) -> None:
    for key, transaction in (("p", OURS), ("q", f"{OURS}/1"), ("r", f"{OURS}/1/2"), ("s", f"{OURS}/11")):
        published(results, key, key, transaction=transaction)
    commit(results, without=[f"{OURS}/1"])
    assert values(other, "pqrs") == ["p", None, None, "s"]


# -- other writers ----------------------------------------------------------------------------------------------------


def test_a_value_computed_by_others_stands_while_the_transaction_is_undecided(
    results: ResultStore, other: ResultStore
) -> None:
    published(results, "p", 1)
    outcome = publish(other, "p", 2, transaction="", attempt="b")
    assert isinstance(outcome, Undecided)
    assert outcome.record.transaction == OURS


def test_others_adopt_a_result_that_was_committed_meanwhile(results: ResultStore, other: ResultStore) -> None:
    absent = other.look_up("t", "p")
    commit(results, published(results, "p", 1))
    outcome = published(other, "p", 2, transaction="", attempt="b", after=absent)
    assert (outcome.won, outcome.record.attempt) == (False, "a")


@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize("value", [2, BIG])
def test_others_publish_in_place_of_a_result_that_was_rolled_back(
    results: ResultStore, other: ResultStore, seen: bool, value: Any
) -> None:
    absent = other.look_up("t", "p")
    published(results, "p", 1)
    results.commits.decisions.decide(OURS, "rollback")
    outcome = published(other, "p", value, transaction="", attempt="b", after=None if seen else absent)
    assert outcome.won
    assert values(results, "p") == [value]


def test_a_transaction_adopts_what_others_have_published(results: ResultStore, other: ResultStore) -> None:
    absent = results.look_up("t", "p")
    published(other, "p", 1, transaction="")
    member = published(results, "p", 2, attempt="b", after=absent)
    assert (member.won, member.replaces) == (False, None)
    results.commits.decisions.decide(OURS, "rollback")
    assert values(other, "p") == [1]


def test_two_attempts_of_one_transaction_have_one_result(results: ResultStore) -> None:
    absent = results.look_up("t", "p")
    published(results, "p", 1)
    member = published(results, "p", 2, attempt="b", after=absent)
    assert (member.won, member.record.attempt) == (False, "a")


def test_an_invalidated_result_does_not_come_back_when_its_transaction_commits(
    results: ResultStore, other: ResultStore
) -> None:
    published(results, "p", 1)
    published(results, "q", 2)
    assert other.invalidate("t", "p")
    commit(results)
    assert values(other) == [None, 2]
    assert other.invalidate("t", "q")
    assert values(results) == [None, None]


def test_a_result_of_a_transaction_moves_on_if_its_generation_was_collected(
    results: ResultStore, other: ResultStore
) -> None:
    staged = results.stage("t", "p", BIG, after=Absent(0, "never"), attempt="a", digest="d", transaction=OURS)
    other.close("t", "p", 0, "gc")
    member = results.commit(staged)
    assert isinstance(member, Published)
    assert (member.record.generation, member.record.transaction) == (1, OURS)
    commit(results, member)
    assert values(other, "p") == [BIG]


# -- decisions --------------------------------------------------------------------------------------------------------


def test_a_transaction_is_decided_once(results: ResultStore, other: ResultStore) -> None:
    published(results, "p", 1)
    assert other.commits.decisions.decide(OURS, "rollback", because="its driver is gone").outcome == "rollback"
    late = commit(results)
    assert (late.outcome, late.because) == ("rollback", "its driver is gone")
    assert values(results, "p") == values(other, "p") == [None]


def test_a_decision_whose_answer_is_lost_is_read_back(results: ResultStore, store: FlakyStore) -> None:
    published(results, "p", 1)
    store.fail("put_if_absent", StoreUnreachable("the answer is lost"), when="after", name="transactions/")
    assert commit(results).outcome == "commit"
    assert values(results, "p") == [1]


@pytest.mark.parametrize("id", ["", "..", "a/b", "A", "record"])
def test_a_transaction_with_a_name_that_could_be_another_file_is_refused(results: ResultStore, id: str) -> None:
    with pytest.raises(StoreError):
        results.commits.decisions.decide(id, "commit")


# -- maintenance ------------------------------------------------------------------------------------------------------


def test_listings_have_what_counts(results: ResultStore, other: ResultStore) -> None:
    published(results, "p", "old", transaction="")
    members = [published(results, "p", "new", after=results.look_up("t", "p")), published(results, "q", 1)]
    assert [(each.key, each.generation) for each in maintenance.ls(other)] == [("p", 0)]
    assert [type(slot) for slot in maintenance.show(other, "t", "p")] == [ResultRecord, IntentRecord]
    commit(results, *members)
    assert [(each.key, each.generation) for each in maintenance.ls(other)] == [("p", 1), ("q", 0)]


def test_collecting_garbage_keeps_what_counts_or_may_count(results: ResultStore, other: ResultStore) -> None:
    members = [published(results, key, BIG) for key in "pq"]
    published(results, "r", BIG, transaction="bbbb")
    collected = maintenance.gc(other, grace_seconds=0)
    assert (collected.payloads, collected.closed) == (0, 0)
    commit(results, *members)
    results.commits.decisions.decide("bbbb", "rollback")
    collected = maintenance.gc(other, grace_seconds=0)
    assert (collected.payloads, collected.closed) == (1, 1)
    assert isinstance(read_slot(other.store, slot_name("t", "r", 0)), RedirectRecord)
    assert values(other, "pqr") == [BIG, BIG, None]
    assert not maintenance.verify(other).problems


def test_copies_of_committed_results_are_results_by_themselves(results: ResultStore) -> None:
    published(results, "q", 2, transaction="bbbb")
    commit(results, published(results, "p", BIG))
    target = ResultStore(MemoryStore())
    assert copying.copy(results, target).results == 1
    assert values(target) == [BIG, None]


# -- forgers ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def signed(store: FlakyStore, tmp_path: Path) -> ResultStore:
    path = str(tmp_path / "keys")
    write_new_file(path)
    return ResultStore(store, clock=HastyClock(), signatures=Signatures(path, required=True))


def test_signed_results_of_transactions_count(signed: ResultStore) -> None:
    commit(signed, published(signed, "p", 1))
    assert values(signed, "p") == [1]


def test_a_signed_intent_cannot_be_published_without_its_transaction(signed: ResultStore, store: FlakyStore) -> None:
    member = published(signed, "p", 1)
    store.put(slot_name("t", "p", 0), encode(msgspec.structs.replace(member.record, transaction="")))
    found = signed.look_up("t", "p")
    assert isinstance(found, Found)
    assert isinstance(found.refused, SignatureRefused)


def test_an_intent_that_claims_to_be_a_result_is_damaged(results: ResultStore) -> None:
    member = published(results, "p", 1)
    body = msgspec.json.Encoder(order="deterministic").encode(member.record)[:-1]
    forged = body + b',"check":"' + blake3(body).hexdigest(16).encode() + b'"}'
    with pytest.raises(DamagedResult):
        decode_slot_at(forged, slot_name("t", "p", 0))


def test_an_unsigned_decision_does_not_count_where_signatures_are_required(
    signed: ResultStore, store: FlakyStore
) -> None:
    published(signed, "p", 1)
    store.put(decision_name(OURS), encode(Decision(transaction=OURS, outcome="commit")))
    (found,) = signed.look_up_many([("t", "p")])
    assert isinstance(found, Unknown)
    with pytest.raises(StoreError, match="not signed"):
        commit(signed)
