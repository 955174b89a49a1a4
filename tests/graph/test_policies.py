"""The algebra of cache policies, and the combinations that are refused."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import PolicyError
from penstock.graph.policies import (
    DEFAULT,
    FLOW_PARAMETERS,
    INPUTS,
    NO_CACHE,
    NONE,
    RUN_ID,
    TASK_CODE,
    TASK_SOURCE,
    CacheKey,
    CacheKeyFnPolicy,
    CachePolicy,
    Files,
    IsolationLevel,
)


def my_key(context: Any, parameters: dict[str, Any]) -> str:
    return "k"


atoms = st.sampled_from(
    [
        INPUTS,
        TASK_SOURCE,
        TASK_CODE,
        FLOW_PARAMETERS,
        RUN_ID,
        NO_CACHE,
        DEFAULT,
        CacheKey("a"),
        CacheKey("b"),
        Files("x.csv"),
        Files(parameter="p"),
        CacheKeyFnPolicy(my_key),
        INPUTS - "p",
        TASK_SOURCE - "q",
        INPUTS.configure(key_storage="here"),
        RUN_ID.configure(isolation_level="SERIALIZABLE"),
    ]
)


@given(atoms, atoms)
def test_addition_is_commutative(a: CachePolicy, b: CachePolicy) -> None:
    assert a + b == b + a
    assert hash(a + b) == hash(b + a)
    assert repr(a + b) == repr(b + a)


@given(atoms, atoms, atoms)
def test_addition_is_associative(a: CachePolicy, b: CachePolicy, c: CachePolicy) -> None:
    assert (a + b) + c == a + (b + c)


@given(atoms)
def test_addition_is_idempotent_and_no_cache_is_neutral(a: CachePolicy) -> None:
    assert a + a == a
    assert a + NO_CACHE == a == NO_CACHE + a


@given(atoms, atoms)
def test_excluding_commutes_with_adding(a: CachePolicy, b: CachePolicy) -> None:
    assert (a - "x") + b == (a + b) - "x" == a + (b - "x")


@given(atoms, atoms)
def test_equal_policies_have_equal_hashes_and_different_ones_different_reprs(a: CachePolicy, b: CachePolicy) -> None:
    assert (a == b) == (repr(a) == repr(b))
    if a == b:
        assert hash(a) == hash(b)


@given(atoms, atoms)
def test_a_pickled_policy_equals_the_original(a: CachePolicy, b: CachePolicy) -> None:
    assert pickle.loads(pickle.dumps(a + b)) == a + b


@given(atoms, atoms)
def test_the_repr_evaluates_to_an_equal_policy(a: CachePolicy, b: CachePolicy) -> None:
    assert eval(repr(a + b)) == a + b


def test_the_default_combines_inputs_source_and_run() -> None:
    assert repr(DEFAULT) == "INPUTS + TASK_SOURCE + RUN_ID"
    assert DEFAULT == RUN_ID + TASK_SOURCE + INPUTS


def test_only_no_cache_turns_caching_off() -> None:
    assert not NO_CACHE.caches
    assert NONE is NO_CACHE
    assert INPUTS.caches


def test_configure_returns_a_copy_that_keeps_its_settings_in_sums_and_differences() -> None:
    manager = object()
    configured = INPUTS.configure(isolation_level="SERIALIZABLE", lock_manager=manager, key_storage="keys")
    assert INPUTS.isolation_level is None
    for policy in (configured + TASK_SOURCE, TASK_SOURCE + configured, configured - "debug", configured.configure()):
        assert policy.isolation_level is IsolationLevel.SERIALIZABLE
        assert policy.lock_manager is manager
        assert policy.key_storage == "keys"


def test_configuring_one_setting_keeps_the_others() -> None:
    policy = INPUTS.configure(key_storage="keys").configure(isolation_level=IsolationLevel.READ_COMMITTED)
    assert policy.key_storage == "keys"
    assert policy != INPUTS.configure(key_storage="keys")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"isolation_level": "SERIALIZABLE"}, {"isolation_level": "READ_COMMITTED"}),
        ({"lock_manager": "a"}, {"lock_manager": "b"}),
        ({"key_storage": "a"}, {"key_storage": "b"}),
    ],
)
def test_two_different_configurations_cannot_be_added(one: dict[str, Any], other: dict[str, Any]) -> None:
    with pytest.raises(PolicyError, match="different"):
        INPUTS.configure(**one) + TASK_SOURCE.configure(**other)
    assert INPUTS.configure(**one) + TASK_SOURCE.configure(**one) == (INPUTS + TASK_SOURCE).configure(**one)


def test_an_unhashable_lock_manager_does_not_make_a_policy_unhashable() -> None:
    policy = INPUTS.configure(lock_manager=[1])
    assert hash(policy) == hash(INPUTS.configure(lock_manager=[2]))
    assert policy != INPUTS.configure(lock_manager=[2])


def test_the_error_for_an_unknown_isolation_level_lists_the_known_ones() -> None:
    with pytest.raises(PolicyError) as caught:
        INPUTS.configure(isolation_level="serialisable")
    assert "SERIALIZABLE" in caught.value.hint


def test_two_key_functions_cannot_be_added() -> None:
    with pytest.raises(PolicyError, match="each have a cache key function"):
        CacheKeyFnPolicy(my_key) + CachePolicy.from_cache_key_fn(lambda context, parameters: "k")
    assert CacheKeyFnPolicy(my_key) + CacheKeyFnPolicy(cache_key_fn=my_key) == CachePolicy.from_cache_key_fn(my_key)


def test_excluding_a_name_the_task_lacks_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(PolicyError) as caught:
        (INPUTS - "debgu").check_parameters(["x", "debug"], task="train")
    assert caught.value.what == "'train' has no parameter 'debgu'"
    assert "x, debug" in caught.value.because
    assert caught.value.hint == "did you mean 'debug'?"
    assert caught.value.data["parameters"] == ["x", "debug"]


def test_a_file_parameter_the_task_lacks_is_an_error() -> None:
    with pytest.raises(PolicyError, match="no parameter 'path'"):
        Files(parameter="path").check_parameters([], task="read")


def test_names_the_task_has_are_accepted() -> None:
    (INPUTS - "debug" + Files(parameter="path")).check_parameters(["path", "debug"], task="read")


@pytest.mark.parametrize(
    "make", [lambda: Files(), lambda: Files("a", parameter="b"), lambda: CacheKey(2), lambda: CacheKeyFnPolicy(None)]
)
def test_invalid_policies_are_refused(make: Any) -> None:
    with pytest.raises(PolicyError):
        make()


@pytest.mark.parametrize("other", [1, None, "x"])
def test_only_policies_can_be_added_and_only_names_subtracted(other: Any) -> None:
    with pytest.raises(TypeError):
        INPUTS + other
    with pytest.raises(TypeError):
        INPUTS - INPUTS  # type: ignore[operator]


def test_policies_are_immutable() -> None:
    with pytest.raises(AttributeError):
        INPUTS.key_storage = "x"  # type: ignore[misc]
