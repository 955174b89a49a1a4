"""Private copies of values for each consumer, so that modifications by one task never affect others or the cache.

Copies are made where values remain objects of one process: between threads, and inside a bundle. Immutable values, and
values without other users, are not copied.
"""

from __future__ import annotations

import copy
from typing import Any

from penstock.objects.copies import own_copy, too_deep
from penstock.objects.package_copies import CannotCopy


def copied(value: Any) -> Any:
    """Return a copy like `own_copy`, using `copy.deepcopy` for other objects.

    Raises `CannotCopy` for objects that cannot be copied, such as locks and connections.
    """
    try:
        return own_copy(value)
    except CannotCopy:
        pass
    try:
        return copy.deepcopy(value)
    except RecursionError:
        raise too_deep(value) from None
    except BaseException as error:
        raise CannotCopy(value) from error
