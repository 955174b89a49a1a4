"""The base of the conformance suites, which says what a subclass has to override."""

from __future__ import annotations

from abc import ABC
from typing import Any

import pytest


class Suite(ABC):  # noqa: B024 (the suites have them)
    """A class of tests with abstract methods, for subclasses named `Test…`.

    A subclass that pytest collects must override all of them. If it does not, that is one error when its file is
    collected: a `pytest.UsageError` that names the missing methods.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not cls.__name__.startswith("Test"):
            return
        methods = {name: getattr(cls, name, None) for name in dir(cls)}
        missing = [name for name, method in methods.items() if getattr(method, "__isabstractmethod__", False)]
        if missing:
            told = [f"\n  {name}: {(methods[name].__doc__ or '').partition('.')[0]}." for name in missing]
            raise pytest.UsageError(f"{cls.__qualname__} must override {', '.join(missing)}:{''.join(told)}")
