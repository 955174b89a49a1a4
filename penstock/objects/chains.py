"""Chains of exceptions: causes, the exceptions during whose handling others were raised, and the members of groups.

Everything is read and set through the descriptors of `BaseException`, whatever the class of an exception defines.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from penstock.errors import is_a


class Links(NamedTuple):
    """What Python keeps of an exception beside its class and content."""

    cause: BaseException | None
    context: BaseException | None
    suppresses: bool
    """Whether tracebacks leave out the context."""


def links_of(error: BaseException) -> Links:
    return Links(_CAUSE.__get__(error), _CONTEXT.__get__(error), bool(_SUPPRESSES.__get__(error)))


def link(error: BaseException, links: Links) -> None:
    _CAUSE.__set__(error, links.cause)
    _CONTEXT.__set__(error, links.context)
    _SUPPRESSES.__set__(error, links.suppresses)  # last, because a cause sets it


def members_of(error: BaseException) -> tuple[BaseException, ...]:
    """Return the exceptions in a group; none for other exceptions."""
    return _MEMBERS.__get__(error) or () if is_a(error, BaseExceptionGroup) else ()


def chain_of(error: BaseException, *, most: int | None = None) -> list[BaseException]:
    """Return an exception and all that are linked to it, each once; the nearest `most` of them."""
    found = {id(error): error}
    waiting = deque([error])
    while waiting:
        each = waiting.popleft()
        links = links_of(each)
        for other in (links.cause, links.context, *members_of(each)):
            if other is not None and id(other) not in found:
                if len(found) == most:
                    return list(found.values())
                found[id(other)] = other
                waiting.append(other)
    return list(found.values())


_CAUSE = BaseException.__dict__["__cause__"]
_CONTEXT = BaseException.__dict__["__context__"]
_SUPPRESSES = BaseException.__dict__["__suppress_context__"]
_MEMBERS = BaseExceptionGroup.__dict__["exceptions"]
