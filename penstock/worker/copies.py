"""Each consumer gets a value of its own, as on a cluster: what one task does to it never reaches another or the
cache.

Copies are made where values stay objects of one process: between threads, and inside of a bundle. What nobody can
change is not copied, nor is a value that nobody else will see.
"""

from __future__ import annotations

import copy
from typing import Any

from penstock.objects.copies import own_copy, too_deep
from penstock.objects.package_copies import CannotCopy


def copied(value: Any) -> Any:
    """As `own_copy`, and other objects as they copy themselves; raises `CannotCopy` for those that do not: locks,
    connections and the like.
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
