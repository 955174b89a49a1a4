"""The parameters of a run, stored so that it can be resumed by its id: small ones beside its record, large ones once
for all runs with the same parameters.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Protocol

import cloudpickle
import msgspec
from blake3 import blake3

from penstock.errors import ParameterError, SignatureRefused, StoreError
from penstock.objects.secrets import secret_parameters
from penstock.storage.records.records import Signature
from penstock.storage.records.signing import Signatures, Verdict
from penstock.storage.stores.base import Store

BESIDE_BYTES = 64 * 1024
"""Parameters up to this size are stored in the run's own folder."""
MOST_BYTES = 128 * 2**20
"""A run with larger parameters cannot be resumed by its id. Pass a path, or create large data in a task."""
SHARED = "parameters/"
"""The folder of parameters that runs share, named by their checksum."""
_AGAIN = "run the flow again with the same arguments; published results are reused"


class Kept(Protocol):
    """The fields of a run's record that describe its parameters (penstock.journals.journal)."""

    id: str
    flow: str
    entry: str
    resumable: bool
    not_resumable: str
    parameters_checksum: str
    secrets: list[str]
    runner_address: str
    signature: Signature | None


class KeptParameters(msgspec.Struct, frozen=True):
    """Parameters in their stored form."""

    pickled: bytes = b""
    checksum: str = ""
    """blake3, hex."""
    why_not: str = ""
    """The reason why they cannot be stored."""
    secrets: tuple[str, ...] = ()
    """The names of secret parameters, which are not stored."""


def pickle_parameters(parameters: Mapping[str, Any]) -> KeptParameters:
    """Pickle the parameters that are not secret, or return the reason why they cannot be stored."""
    secrets = tuple(secret_parameters(parameters))
    try:
        kept = {name: value for name, value in parameters.items() if name not in secrets}
        pickled = cloudpickle.dumps(kept, protocol=5)
    except BaseException as error:  # noqa: BLE001 (a parameter's __reduce__ may raise anything; the run is then not resumable by id)
        return KeptParameters(
            why_not=f"its parameters could not be pickled when it started ({type(error).__name__})", secrets=secrets
        )
    if len(pickled) > MOST_BYTES:
        return KeptParameters(
            why_not=f"its parameters take {len(pickled):,} bytes, and the limit is {MOST_BYTES:,}",
            secrets=secrets,
        )
    return KeptParameters(pickled, blake3(pickled).hexdigest(), secrets=secrets)


def keep(store: Store, run_id: str, kept: KeptParameters) -> None:
    """Write parameters to the place where `read_parameters` reads them. Raises the store's errors."""
    own = len(kept.pickled) <= BESIDE_BYTES
    name = _beside(run_id) if own else shared_name(kept.checksum)
    if not own and _is_there(store, name):
        return
    try:
        with store.create(name) as file:
            file.write(kept.pickled)
    except StoreError:
        if not _is_there(store, name):  # otherwise another run has just written the same
            raise


def shared_name(checksum: str) -> str:
    return f"{SHARED}{checksum}.pkl"


def _beside(run_id: str) -> str:
    return f"runs/{run_id}/parameters.pkl"


def _is_there(store: Store, name: str) -> bool:
    try:
        store.open(name).close()
    except FileNotFoundError:
        return False
    return True


# -- reading ----------------------------------------------------------------------------------------------------------


def what_resuming_runs(record: Kept) -> bytes:
    """Return the bytes that the signature of a record covers."""
    said: list[Any] = [record.id, record.flow, record.entry, record.parameters_checksum]
    if record.secrets:
        said.append(record.secrets)
    if record.runner_address:
        said.append({"runner": record.runner_address})
    return b"penstock run 1\n" + msgspec.json.encode(said)


def check_resumable(store: Store, record: Kept, signatures: Signatures | None) -> None:
    """Check a record before anything it names is imported or read.

    Raises `ParameterError` if its parameters were not stored or may not be read here, and `SignatureRefused` if its
    signature is missing or invalid.
    """
    if not record.resumable:
        because = record.not_resumable or "its parameters could not be pickled when it started"
        raise _cannot_resume(record, because)
    verdict: Verdict = (
        "missing" if signatures is None else signatures.judge(what_resuming_runs(record), record.signature)
    )
    if signatures is not None and signatures.refuses(verdict):
        raise SignatureRefused(
            f"the record of run {record.id} has no valid signature",
            where=store.url,
            because=f"the verdict is: {verdict}",
            hint=_AGAIN,
            verdict=verdict,
            run=record.id,
        )
    if not store.trusted and verdict != "valid":
        raise _cannot_resume(
            record,
            "its parameters are pickled, and reading them could run code of anyone who can write to the store",
            where=store.url,
            hint=f"{_AGAIN}; runs that are started with signing keys can be resumed (docs/security.md)",
        )


def read_parameters(
    store: Store, record: Kept, signatures: Signatures | None = None, *, given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Read the parameters a run started with. `given` are the secret ones, which were not stored.

    Raises the errors of `check_resumable`, and `ParameterError` if a secret is missing, or a given parameter is not
    one of the secrets.
    """
    check_resumable(store, record, signatures)
    given = given or {}
    if missing := [name for name in record.secrets if name not in given]:
        raise _cannot_resume(
            record,
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} secret, and secrets are not stored",
            hint="pass it again: `penstock resume` asks for it on a terminal, or takes -p NAME=VALUE; in code, "
            f"flow.resume({record.id!r}, parameters={{{missing[0]!r}: ...}})",
        )
    if others := [name for name in given if name not in record.secrets]:
        raise _cannot_resume(
            record,
            f"it was started with a value for {', '.join(others)}, which cannot be changed",
            hint="omit it; to use another value, start a new run",
        )
    pickled = _read(store, record)
    if pickled is None:
        raise _cannot_resume(record, "its parameters are no longer in the store", where=store.url)
    if record.parameters_checksum and blake3(pickled).hexdigest() != record.parameters_checksum:
        raise _cannot_resume(record, "its stored parameters were changed", where=store.url)
    from penstock.storage.formats.pickles import load  # only needed to resume a run

    parameters: dict[str, Any] = load(pickled)
    return {**parameters, **given}


def _read(store: Store, record: Kept) -> bytes | None:
    for name in (_beside(record.id), shared_name(record.parameters_checksum)):
        with contextlib.suppress(FileNotFoundError), store.open(name) as file:
            return file.read(MOST_BYTES + 1)
    return None


def _cannot_resume(record: Kept, because: str, *, where: str = "", hint: str = _AGAIN) -> ParameterError:
    return ParameterError(f"run {record.id} cannot be resumed by its id", where=where, because=because, hint=hint)
