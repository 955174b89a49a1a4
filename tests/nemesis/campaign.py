"""One campaign: clients at work, a nemesis that disturbs them, and the checker's verdict on what they recorded."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penstock.storage import open_store
from penstock.storage.records.records import ResultRecord
from penstock.storage.results.maintenance import gc, show, verify
from penstock.storage.results.store import ResultStore
from tests.nemesis.checker import Terms, Violation, check
from tests.nemesis.client import TASK, Orders, fork, manager_of, preload
from tests.nemesis.history import Event, Recorder, operations, read_history
from tests.servers.proxy import FaultProxy
from tests.servers.redis import RedisServer

CLIENTS = 4
KEYS = ("a", "b.1", "../c", "d" * 300)
LEASE = 1.0
DRAIN_SECONDS = 30.0
"""The time for undisturbed clients to end. Only reached if something is wrong."""
WATCH_SECONDS = 0.5
"""The interval between checks whether a control's fault was found, which ends it."""


@dataclass(slots=True)
class Campaign:
    """The parameters of a campaign. `redis` and `proxied` say what the nemesis can disturb."""

    folder: Path
    store: str
    locks: str
    seconds: float
    seed: int
    redis: RedisServer | None = None
    proxied: str | None = None
    """The address of an S3 server behind a proxy that loses answers and refuses requests."""
    sabotage: str = ""
    until_found: frozenset[str] = frozenset()
    """End as soon as one of these invariants is broken."""
    keys: tuple[str, ...] = KEYS
    clocks: tuple[str, ...] = ()
    violations: list[Violation] = field(default_factory=list)

    def run(self) -> Campaign:
        """Run the campaign. Only in a process without threads, because clients are forked."""
        self.folder.mkdir(parents=True, exist_ok=True)
        preload(self._orders(0.0))
        assert threading.active_count() == 1
        with _Troubled(self.proxied, self.seed) as environment:
            _Nemesis(self, environment).play()
        self._look_at_what_is_left()
        self.violations = check(self.history(), self.terms)
        return self

    def _orders(self, until: float) -> Orders:
        return Orders(self.folder, self.store, self.locks, self.keys, LEASE, until, self.sabotage, self.clocks)

    @property
    def terms(self) -> Terms:
        return Terms(lease=LEASE)

    def history(self) -> list[Event]:
        return read_history(self.folder)

    def found(self) -> bool:
        """Tell whether the expected violations were found."""
        return any(each.invariant in self.until_found for each in check(self.history(), self.terms))

    def _look_at_what_is_left(self) -> None:
        """Record what is left once all is quiet and the garbage is collected."""
        if self.sabotage:
            return
        manager, results = manager_of(self._orders(0.0)), ResultStore(open_store(self.store))
        time.sleep(LEASE)
        leftovers: list[str] = []
        for _ in range(CLIENTS):
            manager.open_session().close()  # the next client removes dead sessions
        if self.redis is not None:
            with self.redis.client() as client:
                leftovers = sorted(set(client.keys()) - {"{penstock}:fence"})
        gc(results, grace_seconds=0.0)
        names = [file.name for file in results.store.list("results/") if not file.name.endswith(".record.json")]
        slots = {key: show(results, TASK, key) for key in self.keys}
        final = [slot for each in slots.values() for slot in each if isinstance(slot, ResultRecord)]
        recorder = Recorder(self.folder, "end")
        for record in final:
            noted = recorder.invoke("read", record.key)
            digest = record.digest
            noted.ok(generation=record.generation, attempt=record.attempt, digest=digest, recorded=digest)
        recorder.note(
            "left",
            locks=[str(holder) for holder in manager.ls()],
            leftovers=leftovers,
            payloads=names,
            referenced=[record.payload_name for record in final if record.payload_name],
            problems=[f"{problem.name}: {problem.what}" for problem in verify(results).problems],
        )

    def summary(self) -> str:
        """Describe in one paragraph what was done."""
        history = self.history()
        done = list(operations(history))
        ops = Counter(op.invoke.op for op in done if op.invoke.process != "end")
        faults = Counter(event.op for event in history if event.process == "nemesis" and event.type != "ok")
        publishes = [op.answer for op in done if op.invoke.op == "publish"]
        unknown = sum(op.end is None or op.end.type == "info" for op in done)
        outcomes = Counter(
            "won" if each.get("won") else "adopted" if "won" in each else "refused" if "restart" in each else "unknown"
            for each in publishes
        )
        lost = len({event.about["session"] for event in history if event.op == "lost"})
        told = ", ".join(f"{count} {name}" for name, count in sorted(ops.items()) if name != "outage")
        return (
            f"seed {self.seed}: {told}; publishes: {dict(outcomes)}; {lost} sessions lost; {unknown} outcomes unknown; "
            f"faults: {dict(faults)}; {len(self.violations)} violations"
        )


class _Nemesis:
    """Stop, kill, cut and restart, in an order determined by the seed."""

    def __init__(self, campaign: Campaign, environment: dict[str, str]) -> None:
        self._campaign = campaign
        self._environment = environment
        self._rng = random.Random(campaign.seed)
        self._recorder = Recorder(campaign.folder, "nemesis")
        self._clients: dict[str, int] = {}
        self._numbers = itertools.count()
        self._due: list[tuple[float, Callable[[], None]]] = []
        self._stopped: set[str] = set()
        self._until = time.monotonic() + campaign.seconds

    def play(self) -> None:
        faults = self._faults()
        try:
            for _ in range(CLIENTS):
                self._start()
            self._let_them_begin()
            # Quiet for the last one and a half leases, so that clients that lost a lock learn it in time.
            while (now := time.monotonic()) < self._until - 1.5 * LEASE and not self._found(now):
                self._do_what_is_due(now)
                self._rng.choice(faults)()
                time.sleep(self._rng.uniform(0.05, 0.4))
            if self._campaign.found():
                return
            self._do_what_is_due(float("inf"))
            self._drain()
        finally:
            for pid in self._clients.values():
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    def _faults(self) -> list[Callable[[], None]]:
        # As often as they are listed.
        if self._campaign.sabotage:
            # A sabotage shows without help, but a loss has to be caused.
            return [self._stop if self._campaign.sabotage == "never lost" else lambda: None]
        faults = [self._stop] * 4 + [self._kill] * 2
        if self._campaign.redis is not None:
            faults += [lambda: self._cut("normal"), lambda: self._cut("pubsub"), self._freeze, self._restart]
        return faults

    def _let_them_begin(self) -> None:
        """Wait until each client has done something: stopping one while it imports its S3 client tests nothing."""
        limit = time.monotonic() + 0.4 * self._campaign.seconds
        while time.monotonic() < limit and {e.process for e in self._campaign.history() if e.type == "ok"} < set(
            self._clients
        ):
            time.sleep(0.05)

    _last_look = 0.0

    def _found(self, now: float) -> bool:
        if not self._campaign.until_found or now - self._last_look < WATCH_SECONDS:
            return False
        self._last_look = now
        return self._campaign.found()

    def _do_what_is_due(self, now: float) -> None:
        due = [each for each in self._due if each[0] <= now]
        self._due = [each for each in self._due if each[0] > now]
        for _, act in sorted(due, key=lambda each: each[0]):
            act()

    def _drain(self) -> None:
        limit = self._until + DRAIN_SECONDS
        while self._clients and time.monotonic() < limit:
            for name, pid in list(self._clients.items()):
                if os.waitpid(pid, os.WNOHANG)[0]:
                    del self._clients[name]
            time.sleep(0.01)
        for name in self._clients:
            self._recorder.note("hung", target=name)

    # -- clients

    def _start(self) -> None:
        number = next(self._numbers)
        name = f"client-{number}"
        orders = self._campaign._orders(self._until)
        self._clients[name] = fork(orders, name, self._campaign.seed * 1000 + number, self._environment)

    def _victim(self) -> str | None:
        running = sorted(self._clients.keys() - self._stopped)
        return self._rng.choice(running) if running else None

    def _stop(self) -> None:
        name = self._victim()
        if name is None or len(self._stopped) >= CLIENTS // 2:
            return
        os.kill(self._clients[name], signal.SIGSTOP)
        self._recorder.note("stop", target=name)
        self._stopped.add(name)
        pause = self._rng.choice([0.3, 0.9, 1.6, 2.5]) * LEASE

        def go_on() -> None:
            self._recorder.note("continue", target=name)
            os.kill(self._clients[name], signal.SIGCONT)
            self._stopped.discard(name)

        self._due.append((time.monotonic() + pause, go_on))

    def _kill(self) -> None:
        name = self._victim()
        if name is None:
            return
        self._recorder.note("kill", target=name)
        pid = self._clients.pop(name)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self._due.append((time.monotonic() + self._rng.uniform(0.0, 0.3), self._start))

    # -- Redis

    def _cut(self, kind: str) -> None:
        assert self._campaign.redis is not None
        with self._campaign.redis.client() as client:
            client.client_kill_filter(_type=kind, skipme=True)
        self._recorder.note("cut", kind=kind)

    def _freeze(self) -> None:
        assert self._campaign.redis is not None
        noted = self._recorder.invoke("outage")
        self._campaign.redis.pause()
        time.sleep(self._rng.choice([0.2, 0.7, 1.4]) * LEASE)
        self._campaign.redis.resume()
        noted.ok()

    def _restart(self) -> None:
        assert self._campaign.redis is not None
        noted = self._recorder.invoke("outage", empty=True)
        self._campaign.redis.kill()
        time.sleep(self._rng.choice([0.0, 0.5]) * LEASE)
        self._campaign.redis.start()
        noted.ok()


class _Troubled:
    """The clients' way to an S3 server: a proxy that the seed disturbs, in its own process, as this has no threads."""

    def __init__(self, upstream: str | None, seed: int) -> None:
        self._upstream, self._seed = upstream, seed
        self._process: Any = None

    def __enter__(self) -> dict[str, str]:
        if self._upstream is None:
            return {}
        here, there = multiprocessing.Pipe()
        context = multiprocessing.get_context("fork")
        self._process = context.Process(target=_disturb, args=(self._upstream, self._seed, there), daemon=True)
        self._process.start()
        return {"AWS_ENDPOINT_URL": str(here.recv())}

    def __exit__(self, *about: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()


def _disturb(upstream: str, seed: int, told: Any) -> None:
    rng = random.Random(seed)
    with FaultProxy(upstream) as proxy:
        told.send(proxy.url)
        while True:
            time.sleep(rng.uniform(0.05, 0.3))
            proxy.heal()
            kind = rng.choice(["lose answer", "lose answer", "refuse", "drop", "twice"])
            proxy.fault(kind, method=rng.choice(["PUT", "GET", "PUT"]), part=rng.choice(["record.json", ""]))
            proxy.seen.clear()
