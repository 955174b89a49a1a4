"""Signatures of records, so that write access to a store is not enough to forge results.

A signature is an HMAC-SHA256 of a whole record (task, key, generation, attempt, codec, digest, size and checksum of the
payload, …). So the record cannot be changed or moved to another name or generation. It is verified before any byte of
the value is parsed. It does not prove that a record is the *latest* one: anyone who can write to the store can restore
an older record that was signed for the same place.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import msgspec

from penstock.errors import ConfigurationError, SignatureRefused
from penstock.storage.records.encoding import canonical
from penstock.storage.records.records import RecipeEntry, ResultRecord, Signature
from penstock.storage.records.signing_keys import SigningKeys
from penstock.storage.records.transactions import Decision

Verdict = Literal["valid", "missing", "unknown key", "wrong"]
_Signed = TypeVar("_Signed", ResultRecord, RecipeEntry, Decision)


class Signatures:
    """Signs and verifies records with the keys of one location. Safe for use by several threads.

    Can be pickled and printed: only the location of the keys is included, and each process reads them itself. With
    `required`, records without a valid signature are refused, whatever their codec.
    """

    def __init__(self, keys: SigningKeys | str, *, required: bool = False) -> None:
        """`keys` may be the path of a file or `module:function`."""
        self.keys = SigningKeys(keys) if isinstance(keys, str) else keys
        self.required = required

    @classmethod
    def of(cls, keys: str | None, *, required: bool = False) -> Signatures | None:
        """Return the signatures for the settings, or None without keys.

        Raises `ConfigurationError` if signatures are required without keys, or the keys cannot be read.
        """
        if keys is None:
            if required:
                raise ConfigurationError(
                    "signatures are required, but there are no keys to verify them",
                    where="require_signatures",
                    hint="set PENSTOCK_SIGNING_KEYS to a file of keys; `penstock keys new FILE` creates one",
                )
            return None
        signatures = cls(keys, required=required)
        signatures.keys.ids()
        return signatures

    def signed(self, record: _Signed) -> _Signed:
        """Return the record with a signature by the current key."""
        return msgspec.structs.replace(record, signature=self.sign(canonical(record)))

    def verdict(self, record: ResultRecord | RecipeEntry | Decision) -> Verdict:
        """Verify the record's signature."""
        signature = record.signature
        return self.judge(canonical(record), signature if isinstance(signature, Signature) else None)

    def sign(self, message: bytes) -> Signature:
        """Sign bytes. They must state their kind, so that a signature cannot be used for another kind of object."""
        id, key = self.keys.current()
        return Signature(id, _mac(key, message))

    def judge(self, message: bytes, signature: Signature | None) -> Verdict:
        """Verify a signature of bytes, comparing in constant time."""
        if signature is None:
            return "missing"
        key = self.keys.get(signature.key)
        if key is None:
            return "unknown key"
        import hmac  # only needed by processes that sign or verify

        right = hmac.compare_digest(_mac(key, message).encode(), signature.mac.encode("utf-8", "surrogatepass"))
        return "valid" if right else "wrong"

    def refuses(self, verdict: Verdict) -> bool:
        """Return whether a record with this verdict must not be used, even if its codec is safe.

        A wrong signature is always refused, because the record was changed.
        """
        return verdict == "wrong" or (self.required and verdict != "valid")

    def refusal(self, record: ResultRecord, verdict: Verdict, *, store: str) -> SignatureRefused:
        """Return the error for a record that is refused."""
        why = "signatures are required here" if self.required else _RUNS_CODE
        what, because = {
            "missing": ("is not signed", why),
            "unknown key": (f"is signed with the key {_id(record)!r}, which is not accepted here", why),
        }.get(verdict, ("has a wrong signature", "someone without the key changed or moved the record"))
        return SignatureRefused(
            f"a result of {record.task} {what}",
            where=f"{store} {record.slot_name}",
            because=because,
            verdict=verdict,
            task=record.task,
            key=record.key,
            generation=record.generation,
        )

    def __repr__(self) -> str:
        return f"Signatures({self.keys!r}{', required=True' if self.required else ''})"


_RUNS_CODE = "reading it could run code of anyone who can write to the store"


def _id(record: ResultRecord) -> str:
    return record.signature.key[:64] if record.signature else ""


def _mac(key: bytes, message: bytes) -> str:
    import hmac

    return hmac.digest(key, message, "sha256").hex()
