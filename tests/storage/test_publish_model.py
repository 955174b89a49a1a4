"""Search every state that the rules of publishing can reach; broken rules are found."""

from __future__ import annotations

import pytest

from tests.amounts import amount
from tests.storage.model_publishing import Broken, Rules, search

pytestmark = pytest.mark.untraced


@pytest.mark.slow
@pytest.mark.parametrize(("other", "generations"), [("invalidator", amount(here=2, in_ci=3)), ("collector", 2)])
def test_no_state_breaks_a_promise(other: str, generations: int) -> None:
    assert search(Rules(), other, generations=generations) > 100_000


@pytest.mark.parametrize(
    ("rules", "other", "invariant"),
    [
        (Rules(put_if_absent=False), "invalidator", "I1"),
        (Rules(settle_by_reading=False), "invalidator", "I2"),
        (Rules(close_before_deleting=False), "collector", "I2"),
        (Rules(redirect=False), "invalidator", "I5"),
        (Rules(payload_first=False), "collector", "I2"),
    ],
    ids=["overwrites", "taken is lost", "deletes without closing", "invalidates by deleting", "record first"],
)
def test_a_broken_rule_is_found(rules: Rules, other: str, invariant: str) -> None:
    with pytest.raises(Broken) as caught:
        search(rules, other)
    assert caught.value.invariant == invariant
