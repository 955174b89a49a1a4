"""Tells which context variables callers have set, besides Penstock's own."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Context, ContextVar
from typing import Any

from penstock.runtime import OWN_VARIABLES


class CallersVariables:
    """The variables of a sequence of calls, of which most have the same ones, or none."""

    __slots__ = ("_latest", "bare")

    def __init__(self) -> None:
        self.bare: Context | None = None
        """The latest context without variables of the user.

        `bare == copy_context()` is as fast as comparing pointers if nothing was set since. Otherwise it compares values
        of Penstock's own variables, never those of users.
        """
        self._latest: Mapping[ContextVar[Any], Any] = {}

    def of(self, context: Context) -> Mapping[ContextVar[Any], Any] | None:
        """Return the variables that the user has set; the same mapping as long as they do not change."""
        latest = self._latest
        found = {variable: value for variable, value in context.items() if variable not in OWN_VARIABLES}
        if not found:
            self.bare = context
        if len(found) == len(latest) and all(
            latest.get(variable, latest) is value for variable, value in found.items()
        ):
            return latest or None
        self._latest = found
        return found or None
