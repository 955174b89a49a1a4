"""Private copies of values for each consumer, so that modifications by one task never affect others or the cache.

Copies are made where values remain objects of one process: between threads, and inside a bundle. Immutable values, and
values without other users, are not copied.
"""

from __future__ import annotations

import copy
from typing import Any

from msgspec import Struct

from penstock.objects.copies import Done, copy_into, own_copy, too_deep
from penstock.objects.finalizers import is_finalized, reached
from penstock.objects.package_copies import CannotCopy
from penstock.objects.questions import has, is_mock
from penstock.objects.struct_pickles import reduced_struct


def copied(value: Any) -> Any:
    """Return a copy like `own_copy`, using `copy.deepcopy` for other objects.

    Raises `CannotCopy` for objects that cannot be copied, such as locks and connections.
    """
    try:
        return own_copy(value)
    except CannotCopy:
        pass
    try:
        return copy_into(value, _DeepCopies())
    except CannotCopy as error:
        raise CannotCopy(value) from error
    except RecursionError:
        raise too_deep(value) from None


# A mock is never copied: a copy would not record its calls in the mock that a test examines.


class _DeepCopies(Done):
    by_fields = Struct  # `copy.deepcopy` would run its `__post_init__` again

    def unknown(self, value: Any) -> Any:
        return value if is_mock(type(value)) else _deep_copy(value, self)


class OwnCopies(Done):
    """The copies of the parts of one value. An object that is in several places is copied once."""

    by_fields = object

    def __init__(self, shared: list[Any] | None = None) -> None:
        super().__init__()
        self.shared = [] if shared is None else shared
        """The objects that could not be copied, and are shared."""

    def of(self, value: Any) -> Any:
        """Return a copy like `copied`, in which only the objects that cannot be copied are shared.

        Raises `RecursionError`.
        """
        known = len(self)
        try:
            return copy_into(value, self)
        except RecursionError:
            self._forget(known)
            raise

    def whole(self, value: Any) -> Any:
        """Return what `of` does. Raises `SerializationError` for a value that is nested too deeply."""
        try:
            return self.of(value)
        except RecursionError:
            raise too_deep(value) from None

    def unknown(self, value: Any) -> Any:
        known = len(self)
        try:
            if not is_mock(type(value)):
                return _deep_copy(value, self)
        except CannotCopy:
            self._forget(known)
        self.shared.append(value)
        return value

    def _forget(self, known: int) -> None:
        """Forget all copies but the first `known`: some are not complete."""
        while len(self) > known:
            self.popitem()


def _deep_copy(value: Any, memo: Done) -> Any:
    if not has(type(value), "__deepcopy__"):
        structs = []
        for part in reached(value):
            if is_finalized(part):
                raise CannotCopy(value)  # the copy, even an incomplete one, would close the connection of the original
            if part is not value and issubclass(type(part), Struct) and reduced_struct(part):
                structs.append(part)
        for part in structs:
            copy_into(part, memo)
    try:
        return copy.deepcopy(value, memo)
    except RecursionError:
        raise
    except (Exception, SystemExit) as error:  # an interrupted copy must end the call, not make it share the object
        raise CannotCopy(value) from error
