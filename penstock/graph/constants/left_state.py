"""The state in which tasks have left what their own code modifies, such as a cache that they filled.

It is no constant: a later run in the same process must find what the earlier one has computed. So the digest of code in
this state stands for the digest that it had before.
"""

from __future__ import annotations

from collections.abc import Mapping

_MOST = 4096
_before: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
"""The digests of code before its tasks ran, by those afterwards. Both are digests of content, so any process and any
run may use them."""


def note_left(digests: Mapping[str, str], before: Mapping[str, str]) -> None:
    """Note the digests of code as its tasks have left it, and those it had before."""
    if digests == before:
        return
    if len(_before) >= _MOST:
        _before.pop(next(iter(_before)), None)
    _before[_state(digests)] = dict(before)


def as_before(digests: dict[str, str]) -> dict[str, str]:
    """Return the digests that count in keys for code with these digests."""
    return _before.get(_state(digests), digests) if _before else digests


def _state(digests: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(digests.items()))
