"""Exceptions as bytes, with their causes, contexts and the members of groups, which pickling leaves out.

Each exception of a chain is pickled by itself and refers to the others by number. One that cannot be restored is
replaced by a `TaskFailed` with its text, and affects none of the others. Each is restored once before it is sent, by
its own pickling, otherwise by class, `args` and attributes.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.errors import TaskFailed, is_a
from penstock.objects.chains import Links, chain_of, link, links_of, members_of
from penstock.objects.code_pickles import CodePickler
from penstock.objects.texts import kind_of, text_of, traceback_of

MOST_SENT = 1_000
"""The longest chain that is sent. What is further away is left out."""
MOST_BYTES = 16 * 2**20
"""The largest total of the exceptions behind the one that was raised. Those that hold more are sent as text."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One exception of a chain."""

    type_name: str
    message: str
    traceback: str
    """Without those of the others."""
    pickled: bytes | None
    """None if it cannot be restored."""
    cause: int | None
    context: int | None
    suppresses: bool


Chain = Mapping[int, Sent]
"""Exceptions by number, in the order in which they are restored. Number 0 is the one that was raised."""


def packed(error: BaseException) -> Chain:
    """Return an exception and all that are linked to it as bytes. Never raises."""
    chain = chain_of(error, most=MOST_SENT)
    numbers = {id(each): number for number, each in enumerate(chain)}
    sent: dict[int, Sent] = {}
    restored: dict[int, BaseException] = {}
    limited, room = _behind(chain, numbers), MOST_BYTES
    for number in _members_first(chain, numbers):
        each, links = chain[number], links_of(chain[number])
        # The one that was raised is described by its `Failure`.
        text = (kind_of(each), text_of(each), traceback_of(each, chain=False)) if number else ("", "", "")
        file = _File(room if number in limited else sys.maxsize)
        data, restored[number] = _survivor(each, file, numbers, restored) or (None, stand_in(*text))
        room -= len(data or b"") if number in limited else 0
        cause, context = (numbers.get(id(other)) for other in (links.cause, links.context))
        sent[number] = Sent(*text, data, cause, context, links.suppresses)
    return sent


def unpacked(chain: Chain, raised: TaskFailed) -> BaseException:
    """Return the exception that was raised with all that are linked to it. Never raises.

    `raised` replaces it if it cannot be restored here.
    """
    restored: dict[int, BaseException] = {}
    for number, sent in chain.items():
        again: Any = None
        if sent.pickled is not None:
            with contextlib.suppress(BaseException):  # unpickling runs the user's code
                again = _restored(sent.pickled, restored)
        if not is_a(again, BaseException):
            again = stand_in(sent.type_name, sent.message, sent.traceback) if number else raised
        restored[number] = again
    for number, sent in chain.items():
        cause, context = (None if other is None else restored[other] for other in (sent.cause, sent.context))
        link(restored[number], Links(cause, context, sent.suppresses))
    return restored[0]


def stand_in(type_name: str, message: str, traceback: str) -> TaskFailed:
    """Return what replaces an exception that cannot be restored."""
    return TaskFailed(
        f"{type_name}: {message}" if message else type_name,
        because="the exception itself could not be pickled; its traceback is in `data`",
        traceback=traceback,
    )


def _behind(chain: Sequence[BaseException], numbers: Mapping[int, int]) -> set[int]:
    """Return the numbers of the exceptions that are neither the one that was raised nor in its groups."""
    raised = {0: chain[0]}
    waiting = [chain[0]]
    while waiting:
        inside = {numbers[id(each)]: each for each in members_of(waiting.pop()) if id(each) in numbers}
        waiting += [each for number, each in inside.items() if number not in raised]
        raised |= inside
    return set(range(len(chain))) - set(raised)


def _members_first(chain: Sequence[BaseException], numbers: Mapping[int, int]) -> Iterator[int]:
    """Yield the numbers of a chain: groups after their members, and others, if possible, after what led to them."""
    waiting, opened, done = list(range(len(chain))), set[int](), set[int]()
    while waiting:
        number = waiting.pop()
        members = {numbers[id(member)] for member in members_of(chain[number]) if id(member) in numbers} - done
        if number in done:
            continue
        if members and number not in opened:
            opened.add(number)
            waiting += [number, *members]
        else:
            done.add(number)
            yield number


def _survivor(
    error: BaseException, file: _File, numbers: Mapping[int, int], restored: Mapping[int, BaseException]
) -> tuple[bytes, BaseException] | None:
    """Return the pickled exception with its copy if that is one of the same class, else None."""
    for form in (error, _Bare(error)):
        try:
            file.seek(0)
            file.truncate()
            # With cloudpickle, so that exceptions defined in a script are pickled with their class.
            _Pickler(file, numbers, restored).dump(form)
            again = _restored(file.getvalue(), restored)
        except BaseException:  # noqa: BLE001, S112 (a user's __reduce__ may raise anything, or exit; the text stays)
            continue
        if type(again) is type(error):
            return file.getvalue(), again
    return None


def _restored(data: bytes, restored: Mapping[int, BaseException]) -> Any:
    return _Unpickler(io.BytesIO(data), restored).load()


class _File(io.BytesIO):
    """A file with a size limit."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room

    def write(self, data: Any) -> int:
        if self.tell() + memoryview(data).nbytes > self._room:
            raise ValueError("too large")
        return super().write(data)


class _Pickler(CodePickler):
    """Writes the exceptions of a chain that are restored before by their number."""

    def __init__(self, file: Any, numbers: Mapping[int, int], restored: Mapping[int, BaseException]) -> None:
        super().__init__(file)
        self._numbers, self._restored = numbers, restored

    def persistent_id(self, obj: Any) -> int | None:
        number = self._numbers.get(id(obj))
        return number if number in self._restored else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, restored: Mapping[int, BaseException]) -> None:
        super().__init__(file)
        self._restored = restored

    def persistent_load(self, pid: Any) -> BaseException:
        return self._restored[pid]


class _Bare:
    """Pickles an exception by its class, `args` and attributes.

    For exceptions whose own pickling fails, because `__init__` takes other arguments than `args` or attributes cannot
    be set.
    """

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        error = self.error
        return _from_bare, (type(error), _ARGS(error), _ATTRIBUTES(error))


def _from_bare(kind: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]) -> BaseException:
    error = BaseException.__new__(kind, *args)
    _ATTRIBUTES(error).update(attributes)
    return error


# Bypasses whatever the exception's class defines for these attributes.
_ARGS = BaseException.__dict__["args"].__get__
_ATTRIBUTES = BaseException.__dict__["__dict__"].__get__
