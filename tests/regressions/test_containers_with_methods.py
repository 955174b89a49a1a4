"""Methods of constants whose classes derive from containers are code of the tasks that use them."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from penstock.digests.sources import task_code

BASES = ["dict", "list", "tuple", "set", "frozenset", "defaultdict", "OrderedDict", "Counter"]

SOURCE = """
from collections import Counter, OrderedDict, UserDict, defaultdict, deque
from typing import NamedTuple


class Config({base}):
    def rate(self):
        return {rate}


CONFIG = {make}
NESTED = {{"a": [CONFIG]}}


def by_name(x):
    return x * CONFIG.rate()


def nested(x):
    return x * NESTED["a"][0].rate()


def by_default(x, config=CONFIG):
    return x * config.rate()


def maker():
    config = CONFIG

    def by_closure(x):
        return x * config.rate()

    return by_closure


by_closure = maker()
"""


@pytest.mark.parametrize("base", [*BASES, "NamedTuple"])
@pytest.mark.parametrize("used", ["by_name", "nested", "by_default", "by_closure"])
def test_an_edited_method_of_a_container_counts(base: str, used: str, project: Callable[..., ModuleType]) -> None:
    found = set()
    for rate in (1, 2, 2):
        module = project(config=SOURCE.format(base=base, rate=rate, make="Config()"))
        found.add(task_code(getattr(module, used)))
    assert len(found) == 2
