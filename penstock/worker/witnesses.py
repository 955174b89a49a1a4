"""Detects arguments and input files that were modified between a call and the end of its execution, so that no result
is published under the key of their earlier state.

Most arguments are copied when the call is made. For other objects, the graph keeps a *witness*, a digest of their state
at that time (`KeyTemplate.witness`). It is compared with the copies that are made before the call runs, and compared
again afterwards if an object cannot be copied.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import CellType, FunctionType, ModuleType
from typing import Any

from penstock.digests.mocks import is_double
from penstock.errors import DigestError, ParameterError
from penstock.graph.constants.code_witness import Running
from penstock.graph.key_files import files_changed
from penstock.graph.keys import KeyTemplate
from penstock.input_files import file_digest, matching_files
from penstock.objects.copies import AsFar, immutable
from penstock.objects.places import place_of
from penstock.worker.copies import OwnCopies
from penstock.worker.messages import Call, ShippedTask
from penstock.worker.passing import STAY, own_arguments


def hold_arguments(call: Call, task: ShippedTask) -> bool:
    """Check that the arguments are unmodified since the call, and replace them by private copies if possible.

    Args:
        call: A call with a witness, whose arguments are the flow's own objects.
        task: Its task, which has a template.

    Returns:
        Whether other code can still modify them, so that they must be checked again after the task ran.

    Raises:
        DigestError: The arguments were modified.
    """
    assert task.template is not None
    shared: list[Any] = []
    given = call.arguments
    call.arguments = own_arguments(given, lambda: OwnCopies(shared), names=call.lent)
    lent = bool(shared)
    if task.template.witness(call.arguments) != call.witness:
        call.arguments, lent = given, True  # modified, or the copy has another digest
        check_arguments(call, task.template, task.task.name)
    if not lent and not task.template.file_parameters:
        call.lent = ()  # the function can have these copies, since nothing reads them afterwards
    return lent


def check_arguments(call: Call, template: KeyTemplate, task: str) -> None:
    """Raise `DigestError` if the arguments of a call with a witness were modified since the call.

    The driver checks before it submits a call, and a worker that shares the flow's objects also before and after it
    runs it. A worker in another process does not: functions among the arguments arrive there without their source.
    """
    if template.witness(call.arguments) != call.witness:
        raise _variable_changed(call, task) or DigestError(
            f"an argument of {task} changed after the call",
            where=", ".join(f"arguments[{n!r}]" for n, v in call.arguments.items() if type(v) not in STAY),
            because="the flow modified the object, but the result would be published under a key of its earlier state",
            hint="pass a copy (copy.deepcopy), or modify it only after the result is available",
        )


def _variable_changed(call: Call, task: str) -> DigestError | None:
    """Return the error of a call whose arguments changed, if only variables of functions in them can have changed."""
    shared: list[Any] = []
    holding: list[str] = []
    for name in call.lent:
        known = len(shared)
        own_arguments(call.arguments, lambda: AsFar(shared), names=(name,))
        holding += [name] if len(shared) > known else []
    cells: dict[str, CellType] = {}
    for fn in shared:
        if type(fn) is not FunctionType or not fn.__closure__ or vars(fn) or not immutable(_defaults(fn)):
            return None  # something else may have changed
        cells.update(zip(fn.__code__.co_freevars, fn.__closure__, strict=True))
    if not cells:
        return None
    names = [name for name, cell in cells.items() if not _is_code(cell)] or list(cells)
    own = ", ".join((*shared[0].__code__.co_varnames[: shared[0].__code__.co_argcount], *(f"{n}={n}" for n in names)))
    lambdas = shared[0].__name__ == "<lambda>"
    return DigestError(
        f"a variable of a function that {task} takes as an argument changed after the call",
        where=f"{', '.join(f'arguments[{n!r}]' for n in holding)}: "
        + (f"closure variable {names[0]}" if len(names) == 1 else f"one of the closure variables {', '.join(names)}"),
        because="the call runs later than it is made, and its result would be published under the key of the "
        "earlier value",
        hint=f"bind the value as a default ({f'lambda {own}: ...' if lambdas else f'def {shared[0].__name__}({own})'})"
        f"{'' if all(map(_is_fixed, cells.values())) else ', as a copy if it is modified in place'}"
        ", or call .result() before it changes",
    )


def _defaults(fn: FunctionType) -> tuple[Any, ...]:
    return (fn.__defaults__, *(fn.__kwdefaults__ or {}).values())


def _is_code(cell: CellType) -> bool:
    """Return whether a variable holds a function, class or module, of which few change."""
    return _holds(cell, lambda value: isinstance(value, FunctionType | type | ModuleType))


def _is_fixed(cell: CellType) -> bool:
    """Return whether the value of a variable cannot be modified in place."""
    return _holds(cell, lambda value: immutable(value) or isinstance(value, FunctionType))


def _holds(cell: CellType, of_kind: Callable[[Any], bool]) -> bool:
    try:
        return of_kind(cell.cell_contents)
    except ValueError:
        return False  # the variable has been deleted


def file_changed(task: str) -> DigestError:
    """Return the error of a stream that cannot be published, and is consumed."""
    return DigestError(
        f"an input file of {task} changed, appeared or vanished while the stream that it returns was read",
        because="the result would be published under a key of the earlier content, and a stream can be read only once",
        hint="run it again when the files no longer change",
    )


class _Files:
    """How a worker reads files."""

    file_digest = staticmethod(file_digest)
    expand = staticmethod(matching_files)


def as_of_now(
    template: KeyTemplate, key: str | None, components: Callable[[KeyTemplate], Mapping[str, Any]]
) -> KeyTemplate:
    """Return the template with the content that the files of its policy have now.

    If the driver knows the `key` of the call, and it is the key of other content, returns the template unchanged: the
    result will not be published. Raises `ParameterError` if there is no key yet, and a file is gone.
    """
    try:
        again = template.reread(_Files)
    except ParameterError:
        if key is None:
            raise
        return template
    if again is template or key is None or again.key_from_components(components(again)) == key:
        return again
    return template


def why_unpublished(
    template: KeyTemplate,
    running: Running | None,
    key: str,
    components: Callable[[], Mapping[str, Any]],
    value: Any = None,
) -> str:
    """Return why a result must not be published, since the key has the earlier content of something; or nothing.

    Args:
        template: The template of the task's keys.
        running: What has watched the code while the call ran.
        key: The cache key of the call.
        components: Computes the components of the key again.
        value: The result, which must not hold a mock.
    """
    if running is not None and running.doubtful:
        return "not published: what the task's code both reads and modifies was also modified by other code"
    if _inputs_changed(template, key, components):
        return "not published: an input file changed, appeared or vanished while the task ran"
    if "unittest.mock" in sys.modules and (place := place_of(value, is_double, most=_MOST)) is not None:
        return f"not published: result{place} is a mock, which no other process can read"
    return ""


_MOST = 1000
"""How many parts of a result are searched for mocks. The pickler refuses those that are missed."""


def _inputs_changed(template: KeyTemplate, key: str, components: Callable[[], Mapping[str, Any]]) -> bool:
    """Return whether files have other content than in the key, or patterns match other files."""
    try:
        if files_changed(template.patterns, template.files, file_digest, matching_files):
            return True
        return bool(template.file_parameters) and template.key_from_components(components()) != key
    except ParameterError:  # a file is gone that could be read when the key was computed
        return True
