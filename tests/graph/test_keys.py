"""Cache keys and recipe keys: what they consist of, and that components and key agree."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.digests.names import main_module
from penstock.digests.python import combine, digest
from penstock.digests.refs import Ref
from penstock.digests.sources import importable_name
from penstock.errors import DigestError, PolicyError
from penstock.graph.key_functions import task_input_hash
from penstock.graph.keys import KeyContext, KeyTemplate, compile_template
from penstock.graph.policies import (
    DEFAULT,
    FLOW_PARAMETERS,
    INPUTS,
    NO_CACHE,
    RUN_ID,
    TASK_CODE,
    TASK_SOURCE,
    CacheKey,
    CacheKeyFnPolicy,
    CachePolicy,
    Files,
)

DISK = {"data/a.csv": "1", "data/b.csv": "2", "data/note.txt": "3", "elsewhere/a.csv": "1"}


def file_digest(path: str) -> str:
    return combine("content", (DISK[path],))


def expand(pattern: str) -> list[str]:
    return [path for path in reversed(DISK) if fnmatch(path, pattern)]


CONTEXT = KeyContext(
    run_id="run-1", flow_parameters={"day": "mon"}, flow_name="weekly", file_digest=file_digest, expand=expand
)


def task(x: Any, y: Any = 1, path: Any = None) -> Any:
    return x, y, path


def compiled(
    policy: CachePolicy, *, context: KeyContext = CONTEXT, identity: str = "shop:task", fn: Any = task
) -> KeyTemplate:
    template = compile_template(policy, identity=identity, fn=fn, parameters=["x", "y", "path"], context=context)
    assert template is not None
    return template


def arguments(x: Any = 1, y: Any = 1, path: Any = None) -> dict[str, Any]:
    return {"x": x, "y": y, "path": path}


def key(policy: CachePolicy, args: Mapping[str, Any] | None = None, **compile_with: Any) -> str | None:
    return compiled(policy, **compile_with).cache_key(arguments() if args is None else args)


def golden_keys() -> dict[str, str | None]:
    """Recorded keys. All tests of keys in this folder read this file."""
    ref = compiled(INPUTS)
    return {
        "inputs": key(INPUTS),
        "inputs and constant": key(INPUTS + CacheKey("v2")),
        "everything fixed": key(INPUTS - "y" + RUN_ID + FLOW_PARAMETERS + CacheKey("v2") + Files("data/*.csv")),
        "file parameter": key(Files(parameter="path"), arguments(path="data/a.csv")),
        "key function": key(CacheKeyFnPolicy(lambda context, parameters: f"x={parameters['x']}")),
        "source": key(TASK_SOURCE),
        "ref": ref.cache_key(arguments(x=[Ref(0)]), lambda _: digest(42)),
        "recipe": ref.recipe_key(arguments(x=Ref(0)), lambda _: "ab" * 20),
    }


def test_keys_are_the_golden_ones_on_every_python() -> None:
    import json

    text = (Path(__file__).parent / "golden_keys.json").read_text(encoding="utf-8")
    assert golden_keys() == json.loads(text)["keys"]


# -- the components of a key -----------------------------------------------------------------------------------------


def test_no_cache_has_no_template() -> None:
    assert compile_template(NO_CACHE, identity="m:f", fn=task, parameters=["x"], context=CONTEXT) is None


@pytest.mark.parametrize("policy", [INPUTS, TASK_SOURCE, RUN_ID, CacheKey("v"), CacheKeyFnPolicy(lambda c, p: "k")])
def test_the_identity_of_the_task_is_part_of_every_key(policy: CachePolicy) -> None:
    assert key(policy, identity="a:f") != key(policy, identity="b:f")


def test_each_input_counts_and_an_excluded_one_does_not() -> None:
    assert key(INPUTS) != key(INPUTS, arguments(y=2))
    assert key(INPUTS - "y") == key(INPUTS - "y", arguments(y=2))
    assert key(INPUTS - "y") != key(INPUTS - "y", arguments(x=2))


def test_swapping_inputs_changes_the_key() -> None:
    assert key(INPUTS, arguments(x=1, y=2)) != key(INPUTS, arguments(x=2, y=1))


def test_an_excluded_input_needs_no_digest() -> None:
    items = iter([1])
    assert key(INPUTS - "y", arguments(y=items)) == key(INPUTS - "y")
    assert list(items) == [1]


def test_an_input_without_a_digest_is_an_error_that_names_it() -> None:
    with pytest.raises(DigestError) as caught:
        key(INPUTS, arguments(y=[1, {"a": iter([])}]))
    assert caught.value.where == "arguments['y'][1]['a']"
    assert '- "y"' in caught.value.hint


def test_an_unknown_name_is_an_error_when_the_policy_meets_the_task() -> None:
    with pytest.raises(PolicyError, match="no parameter 'pth'") as caught:
        compiled(INPUTS - "pth")
    assert "did you mean 'path'" in caught.value.hint
    with pytest.raises(PolicyError):
        compile_template(NO_CACHE - "typo", identity="m:f", fn=task, parameters=["x"], context=CONTEXT)


def test_a_task_without_a_name_is_told_by_its_identity() -> None:
    with pytest.raises(PolicyError, match="'m:f' has no parameter 'typo'"):
        compile_template(INPUTS - "typo", identity="m:f", fn=task, parameters=["x"], context=CONTEXT)
    with pytest.raises(PolicyError, match="'named' has no parameter 'typo'"):
        compile_template(INPUTS - "typo", identity="m:f", fn=task, parameters=["x"], context=CONTEXT, name="named")


def test_source_counts_only_with_task_source() -> None:
    def other(x: Any, y: Any = 1, path: Any = None) -> Any:
        return y, x, path

    assert key(TASK_SOURCE) != key(TASK_SOURCE, fn=other)
    assert key(TASK_CODE) != key(TASK_CODE, fn=other)
    assert key(INPUTS) == key(INPUTS, fn=other)


def test_a_renamed_task_that_keeps_its_identity_keeps_its_key() -> None:
    def renamed(x: Any, y: Any = 1, path: Any = None) -> Any:
        return x, y, path

    assert key(DEFAULT) == key(DEFAULT, fn=renamed)


def test_the_run_counts_only_with_run_id() -> None:
    other = replace(CONTEXT, run_id="run-2")
    assert key(INPUTS) == key(INPUTS, context=other)
    assert key(RUN_ID) != key(RUN_ID, context=other)
    assert compiled(DEFAULT).private
    assert not compiled(INPUTS).private


def test_flow_parameters_count_only_with_flow_parameters() -> None:
    other = replace(CONTEXT, flow_parameters={"day": "tue"})
    assert key(INPUTS) == key(INPUTS, context=other)
    assert key(FLOW_PARAMETERS) != key(FLOW_PARAMETERS, context=other)


def test_constants_count_as_a_set() -> None:
    assert (
        len(
            {
                key(policy)
                for policy in (
                    INPUTS,
                    INPUTS + CacheKey("a"),
                    INPUTS + CacheKey("b"),
                    INPUTS + CacheKey("a") + CacheKey("b"),
                )
            }
        )
        == 4
    )
    assert key(CacheKey("a") + CacheKey("b")) == key(CacheKey("b") + CacheKey("a"))


def test_equal_policies_give_the_same_key() -> None:
    assert key(INPUTS + TASK_SOURCE + RUN_ID) == key(RUN_ID + INPUTS + DEFAULT)


# -- files -----------------------------------------------------------------------------------------------------------


def test_equal_data_at_another_path_is_a_hit() -> None:
    policy = INPUTS - "path" + Files(parameter="path")
    assert key(policy, arguments(path="data/a.csv")) == key(policy, arguments(path=Path("elsewhere/a.csv")))
    assert key(policy, arguments(path="data/a.csv")) != key(policy, arguments(path="data/b.csv"))


def test_without_the_exclusion_the_path_counts_too() -> None:
    policy = INPUTS + Files(parameter="path")
    assert key(policy, arguments(path="data/a.csv")) != key(policy, arguments(path="elsewhere/a.csv"))


def test_a_list_of_files_counts_in_order_and_none_means_no_file() -> None:
    policy = Files(parameter="path")
    given: tuple[Any, ...] = (["data/a.csv", "data/b.csv"], ["data/b.csv", "data/a.csv"], ["data/a.csv"], [], None)
    assert len({key(policy, arguments(path=paths)) for paths in given}) == len(given)


def test_a_parameter_that_names_no_file_is_an_error() -> None:
    with pytest.raises(PolicyError, match="type int"):
        key(Files(parameter="path"), arguments(path=3))


def test_a_pattern_depends_on_contents_names_and_number_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [key(Files("data/*.csv"))]
    for path, content in (("data/a.csv", "new"), ("data/c.csv", "1"), ("data/note.txt", "new")):
        monkeypatch.setitem(DISK, path, content)
        found.append(key(Files("data/*.csv")))
    assert len(set(found[:3])) == 3
    assert found[3] == found[2]  # no match of the pattern
    monkeypatch.delitem(DISK, "data/b.csv")
    assert key(Files("data/*.csv")) not in found


def test_a_file_lister_that_breaks_its_promise_is_an_error() -> None:
    context = replace(CONTEXT, expand=lambda pattern: ["/abs/data/a.csv"], file_digest=lambda path: "ab" * 20)
    with pytest.raises(ValueError, match="does not begin with"):
        compiled(Files("data/*.csv"), context=context)


def test_two_files_that_swap_their_contents_change_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = Files("data/a.csv") + Files("data/b.csv")
    before = key(policy)
    monkeypatch.setitem(DISK, "data/a.csv", "2")
    monkeypatch.setitem(DISK, "data/b.csv", "1")
    assert key(policy) != before


def test_the_files_of_a_key_are_listed_for_the_worker_to_check() -> None:
    template = compiled(Files("data/*.csv") + Files(parameter="path"))
    fixed = (("data/a.csv", file_digest("data/a.csv")), ("data/b.csv", file_digest("data/b.csv")))
    assert template.files == fixed
    assert template.files_of(arguments(path="data/note.txt")) == (
        *fixed,
        ("data/note.txt", file_digest("data/note.txt")),
    )


def test_the_error_for_an_unreadable_file_is_that_of_its_reader() -> None:
    with pytest.raises(KeyError):
        compiled(Files("data/missing.csv"))


# -- components and key ----------------------------------------------------------------------------------------------

PARTS = [INPUTS, INPUTS - "y", TASK_SOURCE, FLOW_PARAMETERS, RUN_ID, CacheKey("a")]
PARTS += [Files("data/*.csv"), Files(parameter="path"), CacheKeyFnPolicy(task_input_hash)]
POLICIES = st.lists(st.sampled_from(PARTS), min_size=1).map(lambda policies: sum(policies, NO_CACHE))


@given(POLICIES, st.integers() | st.text(), st.lists(st.integers()))
def test_the_key_consists_exactly_of_its_parts(policy: CachePolicy, x: Any, y: Any) -> None:
    template = compiled(policy)
    given_arguments = arguments(x, y, "data/a.csv")
    components = template.components(given_arguments)
    assert components is not None
    assert KeyTemplate.key_from_components(components) == template.cache_key(given_arguments)
    assert KeyTemplate.key_from_components(dict(reversed(components.items()))) == template.cache_key(given_arguments)


def test_parts_are_labelled() -> None:
    template = compiled(INPUTS - "path" + RUN_ID + FLOW_PARAMETERS + CacheKey("v2") + Files("data/a.csv"))
    assert template.components(arguments(1, 2)) == {
        "task": "shop:task",
        "run_id": "run-1",
        "flow_parameters.day": digest("mon"),
        "cache_key": '["v2"]',
        "files.data/a.csv": file_digest("data/a.csv"),
        "inputs": {"x": digest(1), "y": digest(2)},
    }


def test_parts_can_be_written_as_json() -> None:
    import json

    components = compiled(DEFAULT + CacheKey("ü")).components(arguments())
    assert components is not None
    assert KeyTemplate.key_from_components(json.loads(json.dumps(components))) == key(DEFAULT + CacheKey("ü"))


@given(
    st.dictionaries(st.text(max_size=3), st.text(max_size=3)), st.dictionaries(st.text(max_size=3), st.text(max_size=3))
)
def test_different_parts_make_different_keys(one: dict[str, str], other: dict[str, str]) -> None:
    one, other = (
        {name: value for name, value in components.items() if name != "inputs"} for components in (one, other)
    )
    assert (KeyTemplate.key_from_components(one) == KeyTemplate.key_from_components(other)) == (one == other)


# -- refs and recipes ------------------------------------------------------------------------------------------------


def test_a_value_and_a_node_that_returns_it_have_the_same_cache_key() -> None:
    template = compiled(INPUTS)
    assert template.cache_key(arguments(x=Ref(3)), lambda _: digest(42)) == template.cache_key(arguments(x=42))
    assert template.cache_key(arguments(x=[Ref(3), 1]), lambda _: digest(42)) == template.cache_key(
        arguments(x=[42, 1])
    )


def test_a_recipe_key_depends_on_the_recipes_upstream() -> None:
    template = compiled(INPUTS)
    one, other = (
        template.recipe_key(arguments(x=Ref(0)), lambda _, recipe=recipe: recipe) for recipe in ("aa" * 20, "bb" * 20)
    )
    assert one != other


def test_a_recipe_key_is_never_a_cache_key() -> None:
    template = compiled(INPUTS)
    assert template.recipe_key(arguments(), lambda _: "") != template.cache_key(arguments())


def test_an_edit_upstream_changes_all_recipes_downstream() -> None:
    def first(x: Any, y: Any = 1, path: Any = None) -> Any:
        return x

    def edited(x: Any, y: Any = 1, path: Any = None) -> Any:
        return x + 1

    def chain(fn: Callable[..., Any]) -> list[str | None]:
        recipes: list[str | None] = [
            compiled(INPUTS + TASK_SOURCE, fn=fn, identity="m:first").recipe_key(arguments(), lambda _: "")
        ]
        for _ in range(3):
            above = recipes[-1]
            assert above is not None
            recipes.append(compiled(INPUTS + TASK_SOURCE).recipe_key(arguments(x=Ref(0)), lambda _, above=above: above))
        return recipes

    assert not set(chain(first)) & set(chain(edited))
    assert chain(first) == chain(first)


@pytest.mark.parametrize("policy", [CacheKeyFnPolicy(lambda c, p: "k"), Files(parameter="path")])
def test_a_key_that_needs_values_has_no_recipe_before_they_exist(policy: CachePolicy) -> None:
    template = compiled(policy + INPUTS)
    waiting = arguments(x=[{"a": Ref(0)}], path="data/a.csv")
    assert template.needs_values
    assert template.recipe_key(waiting, lambda _: "ab" * 20) is None
    assert template.recipe_key(arguments(path="data/a.csv"), lambda _: "") is not None
    with pytest.raises(PolicyError, match="needs the values"):
        template.cache_key(waiting, lambda _: digest(42))
    values = arguments(x=[{"a": 42}], path="data/a.csv")
    assert template.cache_key(waiting, lambda _: digest(42), values) == template.cache_key(values)


# -- key functions ---------------------------------------------------------------------------------------------------


def test_a_key_function_sees_what_prefects_examples_use() -> None:
    seen: list[Any] = []

    def fn(context: Any, parameters: dict[str, Any]) -> str:
        seen[:] = [context.task.name, context.task.fn, context.task.task_key, context.task_run.flow_run_id,
                   context.flow_run_id, context.parameters, parameters]  # fmt: skip
        return "k"

    key(CacheKeyFnPolicy(fn))
    assert seen == ["task", task, "shop:task", "run-1", "run-1", arguments(), arguments()]


def test_the_key_combines_the_result_of_a_key_function_and_the_identity() -> None:
    policy = CacheKeyFnPolicy(lambda context, parameters: f"x={parameters['x']}")
    assert key(policy) == key(policy, arguments(y=99))
    assert key(policy) != key(policy, arguments(x=99))


def test_none_from_a_key_function_means_do_not_cache() -> None:
    template = compiled(CacheKeyFnPolicy(lambda context, parameters: None) + INPUTS)
    assert template.cache_key(arguments()) is None
    assert template.components(arguments()) is None
    assert template.recipe_key(arguments(), lambda _: "") is None


def test_a_key_function_that_returns_no_string_is_an_error() -> None:
    with pytest.raises(PolicyError, match="returned int"):
        key(CacheKeyFnPolicy(lambda context, parameters: 5))  # type: ignore[arg-type,return-value]


def test_a_key_function_cannot_change_the_arguments() -> None:
    def greedy(context: Any, parameters: dict[str, Any]) -> str:
        parameters.clear()
        return "k"

    given_arguments = arguments()
    compiled(CacheKeyFnPolicy(greedy)).cache_key(given_arguments)
    assert given_arguments == arguments()


def test_task_input_hash_depends_on_task_and_inputs() -> None:
    policy = CacheKeyFnPolicy(task_input_hash)
    assert key(policy) == key(policy)
    assert key(policy) != key(policy, arguments(y=2))


def test_the_id_of_a_task_run_depends_on_call_and_run_but_not_on_process() -> None:
    policy = CacheKeyFnPolicy(lambda context, parameters: context.task_run.id)
    assert key(policy) == key(policy)
    assert key(policy) != key(policy, arguments(x=2))
    assert key(policy) != key(policy, context=replace(CONTEXT, run_id="run-2"))


# -- pickled templates -----------------------------------------------------------------------------------------------


def test_a_template_has_a_small_pickle_and_computes_the_same_keys_elsewhere() -> None:
    template = compiled(DEFAULT + Files("data/*.csv"))
    packed = pickle.dumps(template)
    assert len(packed) < 1000
    assert pickle.loads(packed).cache_key(arguments()) == template.cache_key(arguments())


def test_a_template_with_a_key_function_is_pickled_by_cloudpickle() -> None:
    template = compiled(CacheKeyFnPolicy(lambda context, parameters: f"{context.task.name}-{parameters['x']}"))
    assert pickle.loads(cloudpickle.dumps(template)).cache_key(arguments()) == template.cache_key(arguments())


@pytest.mark.parametrize("policy", [INPUTS, CacheKeyFnPolicy(task_input_hash)])
def test_a_worker_digests_the_drivers_classes_under_the_drivers_name(
    policy: CachePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Config:
        pass

    monkeypatch.setattr(Config, "__module__", "__main__")
    with main_module("weekly"):
        template = compiled(policy)
        there = template.cache_key(arguments(x=Config))
    with main_module("distributed.cli.dask_worker"):
        assert template.cache_key(arguments(x=Config)) == there
        assert compiled(policy).cache_key(arguments(x=Config)) != there
    monkeypatch.setattr(Config, "__module__", "weekly")
    assert template.cache_key(arguments(x=Config)) == there


def test_the_attributes_of_a_template_describe_it() -> None:
    template = compiled(INPUTS + RUN_ID)
    assert template.identity == "shop:task"
    assert template.static == (("run_id", "run-1"), ("task", "shop:task"))
    assert template.inputs == ("path", "x", "y")
    assert not template.needs_values
    assert template.files == ()


def test_a_key_can_be_computed_from_the_specification_alone() -> None:
    from blake3 import blake3

    def hashed(data: bytes) -> bytes:
        return blake3(data).digest(length=20)

    def framed(text: str) -> bytes:
        return str(len(text.encode())).encode() + b":" + text.encode()

    one, mon = hashed(b"int\0" + b"1"), hashed(b"str\0" + b"mon")
    components = [
        ("cache_key", '["v2"]'),
        ("flow_parameters.day", mon.hex()),
        ("run_id", "run-1"),
        ("task", "shop:task"),
    ]
    data = b"cache key 2\0" + b"4:" + b"".join(framed(name) + framed(value) for name, value in components)
    data += b"inputs\0" + b"2:" + framed("x") + hashed(b"list\0" + one + one) + framed("y") + one
    assert key(INPUTS - "path" + RUN_ID + FLOW_PARAMETERS + CacheKey("v2"), arguments(x=[1, 1])) == hashed(data).hex()


def test_functions_of_one_factory_differ_by_the_plain_values_in_their_closures() -> None:
    def make(scale: int) -> Callable[..., Any]:
        log: list[int] = []

        def scaled(x: int, y: int = 0, path: str = "") -> int:
            log.append(x)
            return x * scale

        return scaled

    def key(scale: int) -> str | None:
        fn = make(scale)
        identity = ":".join(importable_name(fn))
        parameters = ["x", "y", "path"]
        template = compile_template(INPUTS, identity=identity, fn=fn, parameters=parameters, context=CONTEXT)
        assert template is not None
        return template.cache_key({"x": 1, "y": 0, "path": ""})

    assert key(2) != key(3)
    assert key(2) == key(2)
