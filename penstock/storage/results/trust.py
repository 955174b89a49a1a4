"""Trust in a store: which records and pickles are read from it, and what is signed when it is written."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from penstock.errors import CodecRefused, SignatureRefused
from penstock.storage.records.encoding import encode, encode_signed
from penstock.storage.records.records import RecipeEntry, ResultRecord
from penstock.storage.records.signing import Signatures, Verdict
from penstock.storage.records.transactions import Decision
from penstock.storage.stores.base import ExplainedStore, Store


class Trust:
    """The rules for one store: all writers are trusted, or only signed records."""

    def __init__(self, store: Store, *, signatures: Signatures | None, allow_pickle: bool | None) -> None:
        self._store = store
        self.signatures = signatures
        self._allow_pickle = allow_pickle

    @property
    def any_pickle(self) -> bool:
        """Whether pickles are read even without a signature."""
        return self._store.trusted if self._allow_pickle is None else self._allow_pickle

    @property
    def own_pickles(self) -> bool:
        """Whether pickles written by this process will be readable."""
        return self.any_pickle or (self.signatures is not None and self._allow_pickle is None)

    def allows_pickle(self, record: ResultRecord) -> bool:
        """Return whether this record may be a pickle.

        Raises `SignatureRefused` if it must not be used at all, or is a pickle that must not be used.
        """
        # Only for pickles, since checking whether a folder is trusted inspects its whole path.
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
        """Raise `CodecRefused` if a pickle written here could not be read. `parts` describes what needs it."""
        if self.own_pickles:
            return
        open_to = self.why_open()
        raise CodecRefused(
            f"refused to store a result of {task} as {codec!r}",
            where=f"{parts}, {self._store.url}",
            because="reading it could run code of anyone who can write to this store"
            + (f" ({open_to})" if open_to else ""),
            hint="return tables, arrays and plain data (docs/values.md); or sign results (docs/security.md); or add "
            "?trusted=true to the address if you trust everyone who can write there like your own code",
            codec=codec,
        )

    def allow_scan(self, record: ResultRecord) -> None:
        """Raise `SignatureRefused` if a record must not be scanned.

        If signatures are required, no record may: a scan reads parts of a file, but the signature covers the checksum
        of the whole file.
        """
        self.allows_pickle(record)
        if self.signatures is not None and self.signatures.required and not self._store.trusted:
            raise SignatureRefused(
                f"a result of {record.task} cannot be scanned where signatures are required",
                where=f"{self._store.url} {record.slot_name}",
                because="a scan reads parts of a file, but the signature covers the checksum of the whole file",
                hint="use load(), which verifies the whole file",
                verdict="valid",
                task=record.task,
                key=record.key,
                generation=record.generation,
            )

    def refusal(self, record: ResultRecord) -> SignatureRefused | None:
        """Return the error if a record must not be used, whatever its codec: a wrong or missing required signature."""
        if self.signatures is None:
            return None
        verdict = self.signatures.verdict(record)
        refused = self.signatures.refuses(verdict)
        return self.signatures.refusal(record, verdict, store=self._store.url) if refused else None

    def believing(self) -> Callable[[RecipeEntry], bool]:
        """Return a function that decides whether an index entry may be used. Others are silently ignored.

        In an untrusted store, only entries with a valid signature may: a forged entry could lead to a signed result of
        other inputs.
        """
        if self.signatures is None:
            return lambda entry: True
        accepted: tuple[Verdict, ...] = ("valid", "missing", "unknown key")
        if self.signatures.required or not self._store.trusted:
            accepted = ("valid",)
        judge = self.signatures.verdict
        return lambda entry: judge(entry) in accepted

    def why_open(self) -> str:
        """Return the reason why others can write to the store, if it is known."""
        return self._store.open_to if isinstance(self._store, ExplainedStore) else ""

    def vouches_for(self, record: ResultRecord | RecipeEntry) -> bool:
        """Return whether a record that was read here may be signed again for another store."""
        verdict = "missing" if self.signatures is None else self.signatures.verdict(record)
        return verdict == "valid" or (verdict == "missing" and self.any_pickle)

    def believes_code(self, record: ResultRecord) -> Callable[[], bool]:
        """Return a function that decides whether a record's names may be imported, by the rules for pickles.

        The decision is made on first use, since few values need it and it may inspect the whole path of a folder.
        """
        answer: list[bool] = []

        def believed() -> bool:
            if not answer:
                answer.append(self.own_pickles and self.vouches_for(record))
            return answer[0]

        return believed

    def sealed(self, record: ResultRecord, *, sign: bool) -> tuple[ResultRecord, bytes]:
        """Return the record to write, signed if results are, and its bytes: those of an intent in a transaction."""
        if self.signatures is not None and sign:
            return encode_signed(record, self.signatures.signed)
        plain = msgspec.structs.replace(record, signature=None)
        return plain, encode(plain)

    def sealed_decision(self, decision: Decision) -> bytes:
        """Return the bytes of a decision, signed if results are."""
        return encode(decision if self.signatures is None else self.signatures.signed(decision))

    def believes_decision(self, decision: Decision) -> bool:
        """Return whether a decision may be used: unless its signature is wrong, or missing where it is required."""
        return self.signatures is None or not self.signatures.refuses(self.signatures.verdict(decision))

    def sealed_entry(self, entry: RecipeEntry, *, sign: bool) -> bytes:
        """Return the bytes of an entry, signed if results are."""
        if self.signatures is not None and sign:
            return encode_signed(entry, self.signatures.signed)[1]
        return encode(msgspec.structs.replace(entry, signature=msgspec.UNSET))
