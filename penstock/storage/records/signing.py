"""Signatures of records: who can write to a store is not who is believed.

A signature is an HMAC-SHA256 over all of a record (task, key, generation, attempt, codec, digest, the size and checksum
of the payload, …), so a record stands for exactly its bytes in exactly its place: nothing of it can be changed, and it
cannot be moved to another name or generation. It is checked before a byte of the value is parsed. What it does not
say is that a record is the *latest* one: whoever can write to a store can put back an older one that was signed there.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import msgspec

from penstock.errors import ConfigurationError, SignatureRefused
from penstock.storage.records.encoding import canonical
from penstock.storage.records.records import RecipeEntry, ResultRecord, Signature
from penstock.storage.records.signing_keys import SigningKeys

Verdict = Literal["valid", "missing", "unknown key", "wrong"]
_Signed = TypeVar("_Signed", ResultRecord, RecipeEntry)


class Signatures:
    """Signs what is written and judges what is read, with the keys of one place. Safe for threads.

    May be pickled and printed: what travels is where the keys come from, and each process reads them for itself.
    With `required`, nothing is read that is not signed, whatever its codec.
    """

    def __init__(self, keys: SigningKeys | str, *, required: bool = False) -> None:
        """`keys` is, as a text, the path of a file or `module:function`."""
        self.keys = SigningKeys(keys) if isinstance(keys, str) else keys
        self.required = required

    @classmethod
    def of(cls, keys: str | None, *, required: bool = False) -> Signatures | None:
        """As the settings say it: None without keys. Raises `ConfigurationError` if signatures are required all the
        same, or the keys cannot be had."""
        if keys is None:
            if required:
                raise ConfigurationError(
                    "signatures are required, and there are no keys to check them with",
                    where="require_signatures",
                    hint="name a file of keys with PENSTOCK_SIGNING_KEYS; `penstock keys new FILE` makes one",
                )
            return None
        signatures = cls(keys, required=required)
        signatures.keys.ids()
        return signatures

    def signed(self, record: _Signed) -> _Signed:
        """The record with a signature by the key that signs now."""
        return msgspec.structs.replace(record, signature=self.sign(canonical(record)))

    def verdict(self, record: ResultRecord | RecipeEntry) -> Verdict:
        """What the record's signature is worth."""
        signature = record.signature
        return self.judge(canonical(record), signature if isinstance(signature, Signature) else None)

    def sign(self, message: bytes) -> Signature:
        """Of bytes that say of what kind they are, so that one thing's signature is not another's."""
        id, key = self.keys.current()
        return Signature(id, _mac(key, message))

    def judge(self, message: bytes, signature: Signature | None) -> Verdict:
        """What a signature of such bytes is worth. Compared in constant time."""
        if signature is None:
            return "missing"
        key = self.keys.get(signature.key)
        if key is None:
            return "unknown key"
        import hmac  # on use: most processes sign nothing

        right = hmac.compare_digest(_mac(key, message).encode(), signature.mac.encode("utf-8", "surrogatepass"))
        return "valid" if right else "wrong"

    def refuses(self, verdict: Verdict) -> bool:
        """Whether a record of this verdict must not be used, however harmless its codec is.

        A signature that is wrong is told even where none is needed: somebody has changed the record.
        """
        return verdict == "wrong" or (self.required and verdict != "valid")

    def refusal(self, record: ResultRecord, verdict: Verdict, *, store: str) -> SignatureRefused:
        """The error that tells of it."""
        why = "signatures are required here" if self.required else _RUNS_CODE
        what, because = {
            "missing": ("is not signed", why),
            "unknown key": (f"is signed with the key {_id(record)!r}, which is not accepted here", why),
        }.get(verdict, ("has a wrong signature", "somebody without the key changed the record, or moved it there"))
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


_RUNS_CODE = "reading it back would run code that whoever can write there has chosen"


def _id(record: ResultRecord) -> str:
    return record.signature.key[:64] if record.signature else ""


def _mac(key: bytes, message: bytes) -> str:
    import hmac

    return hmac.digest(key, message, "sha256").hex()
