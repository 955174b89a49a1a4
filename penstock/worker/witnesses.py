"""Arguments that somebody else may change between the call and its body: a result is never published under the key of
what they were before.

Most arguments are copied at the call. Of objects whose copying is not known the graph keeps a *witness*, a digest of
what they were then (`KeyTemplate.witness`), and a worker compares.
"""

from __future__ import annotations

from typing import Any

from penstock.errors import DigestError
from penstock.objects.package_copies import CannotCopy
from penstock.worker.copies import copied
from penstock.worker.messages import Call, ShippedTask
from penstock.worker.passing import STAY, own_arguments


def hold_arguments(call: Call, task: ShippedTask, *, shares_memory: bool) -> bool:
    """Make the arguments the call's own, if they are still what they were at the call.

    Args:
        call: A call with a witness.
        task: Its task, which has a template.
        shares_memory: Whether the arguments are the very objects that the flow has.

    Returns:
        Whether they stay objects that somebody else can change: they have to be checked again when the body is done.

    Raises:
        DigestError: They were changed.
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
            call.arguments, lent = given, True  # a copy is not always the same
    check_arguments(call, task)
    return lent


def check_arguments(call: Call, task: ShippedTask) -> None:
    """Raise `DigestError` if the arguments are not what they were at the call."""
    assert task.template is not None
    if task.template.witness(call.arguments) != call.witness:
        raise DigestError(
            f"an argument of {task.task.name} changed after the call",
            where=", ".join(f"arguments[{n!r}]" for n, v in call.arguments.items() if type(v) not in STAY),
            because="it is an object of the flow's own, and the result would be found by what it was at the call",
            hint="pass a copy (copy.deepcopy), or change it only when the result is there",
        )
