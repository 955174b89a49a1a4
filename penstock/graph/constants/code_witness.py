"""Detects that a constant or closure variable of a task changed after a call, so that no result is published under the
key of its earlier value.

Flows run their calls later than they make them: in `for i in range(3): @task … def f(x): return x + i`, each call would
see the last `i`. A `CodeWitness` keeps the values that the code had when its digest was made. Comparing their identity
takes about a microsecond; only if one is another object, the code is digested again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from penstock.errors import DigestError
from penstock.graph.constants.places import places_of


class CodeWitness:
    """The values that a task's code reads: closure variables, constants, attributes, and what is inside them.

    What the code itself modifies (counters, caches) is not compared, nor are the contents of large arrays and tables
    and of objects of installed packages.
    """

    __slots__ = ("_digests", "_find", "_places", "_read")

    def __init__(
        self, fn: Callable[..., Any], digests: Mapping[str, str], read: Callable[[], Mapping[str, str]]
    ) -> None:
        """Create a witness of the present values.

        Args:
            fn: The task's function.
            digests: The digests of its code, by component of the key.
            read: Computes them again.
        """
        self._digests = dict(digests)
        self._read = read
        self._find = functools.partial(places_of, fn, globals_count="task_code" in digests)
        self._places = self._find()

    def changed(self) -> bool:
        """Return whether the digests are others now. Raises `DigestError` if a new value has none."""
        if not self._places or self._same():
            return False
        if self._read() != self._digests:
            return True
        self._places = self._find()  # equal objects
        return False

    def _same(self) -> bool:
        try:
            for unchanged in self._places:
                if not unchanged():
                    return False
        except Exception:  # noqa: BLE001 (a name is gone, or an object can no longer be read)
            return False
        return True

    def check(self, task: str) -> None:
        """Raise `DigestError` if the code changed."""
        if self.changed():
            raise DigestError(
                f"a constant or closure variable of {task} changed after the call",
                because="the call runs later than it is made, and its result would be published under the key of the "
                "earlier value",
                hint="pass the value as an argument or a default (def f(x, i=i)), or call .result() before it changes",
            )
