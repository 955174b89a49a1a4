"""Every value of the table made by a cached task and looked at by another one, wherever the runner has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock import INPUTS, flow, task
from penstock.storage.formats.typed.sameness import difference
from tests.roundtrip import values_python

if TYPE_CHECKING:
    from tests.roundtrip import classes, models  # noqa: F401 (what results hold; imported when they are read)


@task(cache_policy=INPUTS)
def make(group: str, name: str) -> Any:
    """The value of this name."""
    return values_python.NEEDS[group][0]()[name]


@task
def seen(value: Any, group: str, name: str) -> str | None:
    """Where the value that came is another one; None if it is the same."""
    found = difference(values_python.NEEDS[group][0]()[name], value)
    return None if found is None else f"{type(value).__qualname__}{found}"


@flow
def check(names: list[tuple[str, str]]) -> dict[str, str]:
    """What comes to a consumer as another value, by name."""
    results = [(group, name, seen(make(group, name), group, name)) for group, name in names]
    found = {f"{group}: {name}": result.result() for group, name, result in results}
    return {name: told for name, told in found.items() if told is not None}


@flow
def read(group: str, name: str) -> Any:
    """The value as the flow's result."""
    return make(group, name)
