"""Detects arguments that were modified between a call and its execution, so that no result is published under the key
of their earlier state.

Most arguments are copied when the call is made. For objects that cannot be copied, the graph keeps a *witness*, a
digest of their state at that time (`KeyTemplate.witness`), which the worker compares.
"""

from __future__ import annotations

from typing import Any

from penstock.errors import DigestError
from penstock.objects.package_copies import CannotCopy
from penstock.worker.copies import copied
from penstock.worker.messages import Call, ShippedTask
from penstock.worker.passing import STAY, own_arguments


def hold_arguments(call: Call, task: ShippedTask, *, shares_memory: bool) -> bool:
    """Check that the arguments are unmodified since the call, and replace them by private copies if possible.

    Args:
        call: A call with a witness.
        task: Its task, which has a template.
        shares_memory: Whether the arguments are the flow's own objects.

    Returns:
        Whether other code can still modify them, so that they must be checked again after the task ran.

    Raises:
        DigestError: The arguments were modified.
    """
    assert task.template is not None
    lent, given = False, call.arguments

    def own(part: Any) -> Any:
        nonlocal lent
        try:
            return copied(part)
        except CannotCopy:
            lent = True
            raise

    if shares_memory:
        call.arguments = own_arguments(given, own)
        if not lent and task.template.witness(call.arguments) != call.witness:
            call.arguments, lent = given, True  # the copy has another digest
    check_arguments(call, task)
    return lent


def check_arguments(call: Call, task: ShippedTask) -> None:
    """Raise `DigestError` if the arguments were modified since the call."""
    assert task.template is not None
    if task.template.witness(call.arguments) != call.witness:
        raise DigestError(
            f"an argument of {task.task.name} changed after the call",
            where=", ".join(f"arguments[{n!r}]" for n, v in call.arguments.items() if type(v) not in STAY),
            because="the flow modified the object, but the result would be published under a key of its earlier state",
            hint="pass a copy (copy.deepcopy), or modify it only after the result is available",
        )
