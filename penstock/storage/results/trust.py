"""What is believed of a store: which records and pickles are read from it, and what is signed before it goes there."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from penstock.errors import CodecRefused, SignatureRefused
from penstock.storage.records.encoding import encode, encode_signed
from penstock.storage.records.records import RecipeEntry, ResultRecord
from penstock.storage.records.signing import Signatures, Verdict
from penstock.storage.stores.base import ExplainedStore, Store


class Trust:
    """One store's: whoever can write there is trusted, or is not, and then signatures tell what is."""

    def __init__(self, store: Store, *, signatures: Signatures | None, allow_pickle: bool | None) -> None:
        self._store = store
        self.signatures = signatures
        self._allow_pickle = allow_pickle

    @property
    def any_pickle(self) -> bool:
        """Whether pickles are read, signed or not."""
        return self._store.trusted if self._allow_pickle is None else self._allow_pickle

    @property
    def own_pickles(self) -> bool:
        """Whether pickles that are written here will be read here."""
        return self.any_pickle or (self.signatures is not None and self._allow_pickle is None)

    def allows_pickle(self, record: ResultRecord) -> bool:
        """Whether this record may be a pickle.

        Raises `SignatureRefused` for one that must not be used at all, or not as the pickle that it is.
        """
        # Whether the store is trusted is asked for pickles only: a folder is looked at on all of the way to it.
        from penstock.storage.formats.registry import is_safe  # formats are loaded with the first value

        safe = is_safe(record.codec)
        if self.signatures is None:
            return not safe and self.any_pickle
        verdict = self.signatures.verdict(record)
        needed = not safe and self._allow_pickle is None and not self.any_pickle
        if self.signatures.refuses(verdict) or (needed and verdict != "valid"):
            raise self.signatures.refusal(record, verdict, store=self._store.url)
        return not safe and (needed or self.any_pickle)

    def refuse_pickle(self, task: str, codec: str, parts: str) -> None:
        """Raises `CodecRefused` where a pickle that is written here would not be read here; `parts` need it."""
        if self.own_pickles:
            return
        open_to = self.why_open()
        raise CodecRefused(
            f"refused to store a result of {task} as {codec!r}",
            where=f"{parts}, {self._store.url}",
            because="reading it back would run code that whoever can write to this store has chosen"
            + (f" ({open_to})" if open_to else ""),
            hint="return tables, arrays and plain data (docs/values.md); or sign results (docs/security.md); or add "
            "?trusted=true to the address if all who can write there are trusted like your own code",
            codec=codec,
        )

    def allow_scan(self, record: ResultRecord) -> None:
        """Raises `SignatureRefused` for a record that must not be used, and for any where nothing but what is signed
        may be read: a scan reads parts of a file, and the signature is over the checksum of the whole."""
        self.allows_pickle(record)
        if self.signatures is not None and self.signatures.required and not self._store.trusted:
            raise SignatureRefused(
                f"a result of {record.task} cannot be scanned where signatures are required",
                where=f"{self._store.url} {record.slot_name}",
                because="a scan reads parts of a file, and what is signed is the checksum of the whole",
                hint="use load(), which compares it",
                verdict="valid",
                task=record.task,
                key=record.key,
                generation=record.generation,
            )

    def refusal(self, record: ResultRecord) -> SignatureRefused | None:
        """Why a record must not be used whatever its codec: its signature is wrong, or one is required."""
        if self.signatures is None:
            return None
        verdict = self.signatures.verdict(record)
        refused = self.signatures.refuses(verdict)
        return self.signatures.refusal(record, verdict, store=self._store.url) if refused else None

    def believing(self) -> Callable[[RecipeEntry], bool]:
        """What tells whether an index entry may be used. One that may not is as good as none, so nothing is said.

        Where others can write only a valid signature counts: an entry that somebody made up leads to results that are
        signed, of other inputs.
        """
        if self.signatures is None:
            return lambda entry: True
        accepted: tuple[Verdict, ...] = ("valid", "missing", "unknown key")
        if self.signatures.required or not self._store.trusted:
            accepted = ("valid",)
        judge = self.signatures.verdict
        return lambda entry: judge(entry) in accepted

    def why_open(self) -> str:
        """Why others can write to the store, where it can say so."""
        return self._store.open_to if isinstance(self._store, ExplainedStore) else ""

    def vouches_for(self, record: ResultRecord | RecipeEntry) -> bool:
        """Whether what was read here may be signed anew for another store."""
        verdict = "missing" if self.signatures is None else self.signatures.verdict(record)
        return verdict == "valid" or (verdict == "missing" and self.any_pickle)

    def believes_code(self, record: ResultRecord) -> Callable[[], bool]:
        """What tells whether a record's names may be imported: as for a pickle, which could do it as well.

        Few values need to know, and a folder is looked at on all of the way to it: so it is found out when asked for.
        """
        answer: list[bool] = []

        def believed() -> bool:
            if not answer:
                answer.append(self.own_pickles and self.vouches_for(record))
            return answer[0]

        return believed

    def sealed(self, record: ResultRecord, *, sign: bool) -> tuple[ResultRecord, bytes]:
        """The record as it is to be written, signed where results are, and its bytes."""
        if self.signatures is not None and sign:
            return encode_signed(record, self.signatures.signed)
        plain = msgspec.structs.replace(record, signature=None)
        return plain, encode(plain)

    def sealed_entry(self, entry: RecipeEntry, *, sign: bool) -> bytes:
        """As `sealed`, the bytes alone."""
        if self.signatures is not None and sign:
            return encode_signed(entry, self.signatures.signed)[1]
        return encode(msgspec.structs.replace(entry, signature=msgspec.UNSET))
