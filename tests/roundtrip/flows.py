"""Each value of the table, made by a cached task and checked by another one, on whatever worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock import INPUTS, flow, task
from penstock.storage.formats.typed.sameness import difference
from tests.roundtrip import values_python

if TYPE_CHECKING:
    from tests.roundtrip import classes, models  # noqa: F401 (what results hold; imported when they are read)


@task(cache_policy=INPUTS)
def make(group: str, name: str) -> Any:
    """Return the value of this name."""
    return values_python.NEEDS[group][0]()[name]


@task
def seen(value: Any, group: str, name: str) -> str | None:
    """Describe how the received value differs; None if it does not."""
    found = difference(values_python.NEEDS[group][0]()[name], value)
    return None if found is None else f"{type(value).__qualname__}{found}"


@flow
def check(names: list[tuple[str, str]]) -> dict[str, str]:
    """Return the values that a consumer receives changed, by name."""
    results = [(group, name, seen(make(group, name), group, name)) for group, name in names]
    found = {f"{group}: {name}": result.result() for group, name, result in results}
    return {name: told for name, told in found.items() if told is not None}


@flow
def read(group: str, name: str) -> Any:
    """Return the value as the result of the flow."""
    return make(group, name)
