"""The records of transactions: their decisions, which alone say whether intents are results.

A transaction has an id, and each transaction inside it the path of its id: `4f9c…/1/2`. Only the outermost one decides.
Its decision names those inside it that were rolled back while it went on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from penstock.storage.records.records import RECORD_VERSION, Signature

TransactionOutcome = Literal["commit", "rollback"]


class Decision(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What became of a transaction. Written once, and never changed."""

    v: int = RECORD_VERSION
    transaction: str
    """The id of the outermost transaction."""
    outcome: TransactionOutcome
    without: list[str] = []
    """The paths of the transactions inside it that were rolled back."""
    because: str = ""
    """Why it was rolled back, for people."""
    created: float = 0.0
    signature: Signature | msgspec.UnsetType = msgspec.UNSET

    def commits(self, path: str) -> bool:
        """Return whether the results of this transaction, or of one inside it, count."""
        return self.outcome == "commit" and not any(each in self.without for each in _with_outer(path))


def outermost(path: str) -> str:
    """Return the id of the outermost transaction."""
    return path.partition("/")[0]


def is_inside(path: str, outer: str) -> bool:
    """Return whether a transaction is another one, or inside of it."""
    return outer in _with_outer(path)


def _with_outer(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path.rpartition("/")[0]
