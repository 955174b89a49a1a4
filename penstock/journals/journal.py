"""The journal of a run: its record (`run.json`) and its log of events, in the store under `runs/<run id>/`."""

from __future__ import annotations

import contextlib
import logging
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import msgspec

from penstock import events
from penstock.clocks import Clock
from penstock.errors import StoreError, StoreUnreachable
from penstock.journals.parameters import KeptParameters, keep, what_resuming_runs
from penstock.journals.writers import JournalWriter
from penstock.objects.secrets import HIDDEN, Redactor, is_secret_name, redacted_text
from penstock.objects.texts import all_encodable, encodable, text_of, told
from penstock.process.identity import ProcessIdentity
from penstock.storage.records.records import Signature
from penstock.storage.records.signing import Signatures
from penstock.storage.stores.base import AppendStore, Store

FLUSH_SECONDS = 0.5
"""The longest delay before an event is written, and so the most that a killed run loses of its log."""
PART_SECONDS = 3.0
"""The same for stores that cannot append, in which every write creates an object."""
RECORD_SECONDS = 2.0
"""How long the start of a run waits for its record to be written."""
END_SECONDS = 30.0
"""How long the end of a run waits for its log to be written."""
MAX_ERROR = 4000
"""The most characters of an error in a record; the log has the full text."""


class RunRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The stored record of a run, readable as JSON."""

    v: int = 1
    id: str
    flow: str
    """The name that people see."""
    entry: str = ""
    """Where the flow is imported from: `module:name` or `file.py:name`."""
    parameters: dict[str, str] = {}
    """For people: the repr of each argument, shortened and without secrets."""
    resumable: bool = False
    """Whether its parameters are stored (penstock.journals.parameters)."""
    not_resumable: str = ""
    """The reason why they are not."""
    parameters_checksum: str = ""
    """blake3 of the stored parameters, hex."""
    secrets: list[str] = []
    """The names of secret parameters, which are not stored and must be passed again to resume the run."""
    signature: Signature | None = None
    """Covers what resuming uses: id, flow, entry, parameters' checksum, names of secret ones, runner's address."""
    state: str = "running"
    runner: str = ""
    runner_address: str = ""
    """The address of the runner if a flag named it, for `penstock resume`. Never contains a password."""
    host: str = ""
    pid: int = 0
    boot: str = ""
    namespace: str = ""
    process_started: str = ""
    """Identifies the driver's process together with host, pid, boot and namespace (`process_of`)."""
    started: float = 0.0
    finished: float | None = None
    seconds: float | None = None
    attempts: int = 1
    """How many times it was started: 1, plus one for each resume."""
    counts: dict[str, int] = {}
    tasks: dict[str, dict[str, int]] = {}
    stats: dict[str, Any] = {}
    error: str = ""


def run_name(run_id: str, name: str) -> str:
    """Return the name of a run's file in the store."""
    return f"runs/{run_id}/{name}"


class Journal:
    """Writes the record and events of a run, and passes each event to subscribers.

    If something cannot be written, it is lost with a warning and the run continues.
    """

    def __init__(
        self,
        record: RunRecord | None,
        store: Store | None,
        clock: Clock,
        subscribers: tuple[Callable[[events.Event], None], ...] = (),
        *,
        parameters: KeptParameters | None = None,
        redact: Callable[[str], str] = redacted_text,
    ) -> None:
        """Create a journal.

        `parameters` are stored beside the record. `redact` removes secrets from texts of events and errors.
        """
        self.record = record
        self._store = store
        self._appends = _appending(store)  # checked once, because checking a protocol is slow
        self._clock = clock
        self._subscribers = subscribers
        self._parameters = parameters
        self._redact = redact
        self._parts = 0  # of the log, for stores that cannot append
        self._recorded = False
        self._writer: JournalWriter | None = None
        if store is not None and record is not None:
            wait = FLUSH_SECONDS if self._appends is not None else PART_SECONDS
            self._writer = JournalWriter(self._write_lines, seconds=wait, on_trouble=self._tell_loss)

    def emit(self, event: events.Event) -> None:
        """Record an event. May be called from any thread."""
        event = _redacted(event, self._redact)
        for subscriber in self._subscribers:
            subscriber(event)
        if self._writer is not None:
            self._writer.add(events.encode_event(event))

    def beside(self, job: Callable[[Callable[[str], str]], None]) -> None:
        """Run a job in the writer's thread without waiting for it. Does nothing if there is no log.

        `job(redact)` must not raise; `redact` removes secrets from texts.
        """
        if self._writer is not None:
            self._writer.do(lambda: job(self._redact))

    def started(self, runner: str) -> None:
        """Write the record of a starting run, so that it can be listed, and resumed if it is killed."""
        record = self.record
        if record is None:
            return
        record.runner = self._redact(runner)
        record.started, record.finished, record.seconds = self._clock.now(), None, None
        _note_process(record)
        if self._writer is not None:
            self._writer.do(self._keep_parameters)
            self._writer.do(self._write_record)
            self._writer.wait(RECORD_SECONDS)
        store = self._store.url if self._store is not None else ""
        self.emit(
            events.RunStarted(
                at=record.started,
                run=record.id,
                flow=record.flow,
                attempt=record.attempts,
                runner=record.runner,
                store=store,
            )
        )

    def recorded(self) -> bool:
        """Return whether the record of the started run is in the store. Waits until that is known."""
        if self._writer is not None:
            self._writer.wait(None)
        return self._recorded

    def finished(self, state: str, seconds: float, error: BaseException | None) -> None:
        """Complete the record and the log. `counts`, `tasks` and `stats` of the record must be set before."""
        record = self.record
        if record is None:
            return
        record.state, record.seconds, record.finished = state, seconds, self._clock.now()
        record.error = self._redact(told(error))[:MAX_ERROR] if error is not None else ""
        self.emit(
            events.RunFinished(
                at=record.finished,
                run=record.id,
                state=state,
                seconds=seconds,
                counts=record.counts,
                error=record.error,
            )
        )
        if self._writer is not None:
            self._writer.do(self._write_record)
            if not self._writer.close(END_SECONDS):
                self._tell_loss(f"the rest of it was not written within {END_SECONDS:.0f} s")

    # -- the writer's thread

    def _keep_parameters(self) -> None:
        assert self._store is not None  # there is a writer
        assert self.record is not None
        parameters, self._parameters = self._parameters, None
        if parameters is None or not parameters.checksum:
            return
        try:
            keep(self._store, self.record.id, parameters)
        except Exception:
            self.record.resumable = False
            self.record.not_resumable = "its parameters could not be written when it started"
            raise

    def _write_record(self) -> None:
        if self._store is not None and self.record is not None:
            self._store.put(run_name(self.record.id, "run.json"), _encoded(self.record))
            self._recorded = True

    def _write_lines(self, lines: bytes) -> None:
        assert self._store is not None  # there is a writer
        assert self.record is not None
        if self._appends is not None:
            self._appends.append(run_name(self.record.id, _LOG), lines)
        else:
            self._parts += 1
            part = f"{_LOG_PARTS}{self.record.attempts:04d}-{self._parts:06d}.jsonl"
            with self._store.create(run_name(self.record.id, part)) as file:
                file.write(lines)

    def _tell_loss(self, reason: str) -> None:
        run = self.record.id if self.record is not None else ""
        reason = self._redact(f"{reason} (in {self._store.url})" if self._store is not None else reason)
        _log.warning("the log of run %s is incomplete: %s", run, reason)
        event = events.LogLost(at=self._clock.now(), reason=reason)
        for subscriber in self._subscribers:
            subscriber(event)


def _encoded(record: RunRecord) -> bytes:
    try:
        return msgspec.json.encode(record)
    except UnicodeEncodeError:  # a task's name or a runner's repr may contain lone surrogates
        return msgspec.json.encode(all_encodable(msgspec.to_builtins(record)))


def _appending(store: object) -> AppendStore | None:
    return store if isinstance(store, AppendStore) else None


def new_record(
    run_id: str,
    flow: str,
    entry: str,
    parameters: Mapping[str, Any],
    *,
    kept: KeptParameters,
    signatures: Signatures | None,
    runner_address: str,
) -> RunRecord:
    """Return the record of a run that starts in this process."""
    record = RunRecord(
        id=run_id,
        flow=encodable(flow),
        entry=encodable(entry),
        parameters={encodable(name): _shown(name, value, kept.secrets) for name, value in parameters.items()},
        resumable=not kept.why_not,
        not_resumable=kept.why_not,
        parameters_checksum=kept.checksum,
        secrets=[encodable(name) for name in kept.secrets],
        runner_address=runner_address,
    )
    if signatures is not None:
        record.signature = signatures.sign(what_resuming_runs(record))
    return record


def _shown(name: str, value: Any, secrets: Sequence[str]) -> str:
    if is_secret_name(name) and name in secrets:
        return HIDDEN
    return Redactor({name: value})(text_of(value, _SHORT.repr))


def _redacted(event: events.Event, redact: Callable[[str], str]) -> events.Event:
    """Return the event without secrets in texts that do not come from Penstock."""
    changes: dict[str, Any] = {}
    for name in _WORDED.get(type(event), ()):
        said = getattr(event, name)
        if not said:
            continue
        told = redact(said) if isinstance(said, str) else tuple(map(redact, said))
        if told != said:
            changes[name] = told
    return msgspec.structs.replace(event, **changes) if changes else event


_WORDED: dict[type[events.Event], tuple[str, ...]] = {
    events.NodeFinished: ("notes",),
    events.NodeRetried: ("reason",),
    events.NodeFailed: ("message", "traceback"),
    events.NodeRevived: ("reason",),
    events.LocksDown: ("reason",),
}
"""The fields of events that contain texts of errors."""
_log = logging.getLogger("penstock.store")
_LOG = "events.jsonl"
_LOG_PARTS = "events/"
"""The folder of the log's parts in stores that cannot append."""
_BATCH = 256
_CHUNK = 1 << 20
MAX_LINE = 16 << 20
"""Longer than any event, whose traceback is cut before."""
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 120
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxset = _SHORT.maxdict = 8


def _note_process(record: RunRecord) -> None:
    """Write the identity of this process into the record, at the start and at each resume."""
    process = ProcessIdentity.current()
    record.host, record.pid = process.host, process.pid
    record.boot, record.namespace, record.process_started = process.boot, process.namespace, process.started


def process_of(record: RunRecord) -> ProcessIdentity:
    """Return the process that drives or drove the run."""
    return ProcessIdentity(record.host, record.boot, record.namespace, record.pid, record.process_started)


def read_record(store: Store, run_id: str) -> RunRecord:
    """Read the record of a run. Raises `StoreError` if it does not exist, is damaged, or belongs to another run."""
    data = store.get(run_name(run_id, "run.json"))
    if data is None:
        raise StoreError(f"there is no run {run_id}", where=store.url, hint="`penstock runs` lists the runs of a store")
    try:
        return _decoded(data, run_id)
    except _UNREADABLE as error:
        raise StoreError(f"the record of run {run_id} is damaged", where=store.url, because=str(error)) from None


def _decoded(data: bytes, run_id: str) -> RunRecord:
    """Decode a record. Raises one of `_UNREADABLE` if it is not a record of this run."""
    record = msgspec.json.decode(data, type=RunRecord)
    if record.id != run_id:
        raise ValueError(f"it is the record of {record.id}")
    return record


_UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError, ValueError)
"""The exceptions for bytes that are not JSON of the right shape."""


def list_records(store: Store) -> Iterator[RunRecord]:
    """Yield the records of all runs in a store, latest first. Damaged ones are skipped (`read_record` says why)."""
    names = [entry.name for entry in store.list("runs/") if entry.name.endswith("/run.json")]
    names.sort(reverse=True)
    for start in range(0, len(names), _BATCH):
        batch = names[start : start + _BATCH]
        for name, data in zip(batch, _each(store, batch), strict=True):
            try:
                if data is not None:
                    yield _decoded(data, name.split("/")[1])
            except _UNREADABLE:
                continue


def _each(store: Store, names: list[str]) -> list[bytes | None]:
    """Return the bytes under each name; None also for a name that alone cannot be read."""
    try:
        return store.get_many(names)
    except StoreUnreachable:
        raise
    except StoreError:
        if len(names) == 1:
            return [None]
        half = len(names) // 2
        return [*_each(store, names[:half]), *_each(store, names[half:])]


def read_events(store: Store, run_id: str) -> Iterator[events.Event]:
    """Yield the events in the log of a run. Reads lazily, because a log may exceed the memory.

    Invalid lines are skipped, such as a last one truncated by a crash. Raises `StoreError`.
    """
    if isinstance(store, AppendStore):
        names = [run_name(run_id, _LOG)]
    else:
        names = [entry.name for entry in store.list(run_name(run_id, _LOG_PARTS))]
    for name in names:
        try:
            file = store.open(name)
        except FileNotFoundError:
            continue
        with file:
            for line in _lines(file):
                with contextlib.suppress(msgspec.MsgspecError, UnicodeError, RecursionError):
                    yield events.decode_event(line)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a file, except those that are too long for an event."""
    rest, skipping = b"", False
    while chunk := file.read(_CHUNK):
        first, *others = chunk.split(b"\n")
        lines = [rest + first, *others]
        rest = lines.pop()
        for line in lines:
            if not skipping and len(line) <= MAX_LINE:
                yield line
            skipping = False
        if len(rest) > MAX_LINE:
            rest, skipping = b"", True
    if rest and not skipping:
        yield rest
