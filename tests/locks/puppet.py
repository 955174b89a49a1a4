"""A process with one lock session that follows commands, line by line; started by puppets.py."""

from __future__ import annotations

import ctypes
import json
import os
import random
import signal
import sys
import threading
import time
from typing import Any

from penstock.errors import SessionLost
from penstock.locks import FileSystemLockManager, Lease, LockManager, Session, lock_manager_from
from penstock.process.identity import ProcessIdentity


class Puppet:
    def __init__(self, place: str, lease_seconds: float, blind: bool) -> None:
        if blind:
            # Judge by heartbeats only, as on another machine.
            ProcessIdentity.is_gone = lambda self: False  # type: ignore[method-assign]
        self.manager: LockManager
        if "://" in place:
            self.manager = lock_manager_from(place, lease_seconds=lease_seconds)
        else:
            self.manager = FileSystemLockManager(place, lease_seconds=lease_seconds, poll_seconds=(0.002, 0.05))
        self.session: Session | None = None
        self.leases: dict[str, Lease] = {}
        self.told = threading.Semaphore(0)

    def open(self) -> str:
        self.session = self.manager.open_session(on_lost=self.told.release)
        return self.session.id

    def join(self, session_id: str) -> None:
        self.session = self.manager.join_session(session_id)

    def acquire(self, key: str, at: float = 0.0) -> int | str | None:
        """Return the token; None if the key is held, "lost" if the session is. Try when the clock shows `at`."""
        assert self.session
        while time.monotonic() < at:
            pass
        try:
            (answer,) = self.session.try_acquire([key])
        except SessionLost:
            return "lost"
        if not isinstance(answer, Lease):
            return None
        self.leases[key] = answer
        return answer.fencing_token

    def block(self, key: str) -> float:
        """Block until the lock is acquired. Return the time at which it was, on the clock shared by all processes."""
        assert self.session
        while not isinstance(self.acquire(key), int):
            self.session.wait_any([key], 60.0)
        return time.monotonic()

    def wait_for(self, key: str) -> float:
        """Like `block` for a key that is held, but report before the waiting starts."""
        assert self.acquire(key) is None
        print(json.dumps("waiting"), flush=True)
        return self.block(key)

    def release(self, key: str) -> None:
        assert self.session
        self.session.release([self.leases[key]], "failed")

    def lost(self) -> bool:
        assert self.session
        return self.session.lost

    def heard_of_loss(self) -> int:
        """Return how often `on_lost` was called, after waiting for the first call."""
        heard = self.told.acquire(timeout=100)
        return heard + sum(iter(lambda: self.told.acquire(blocking=False), False))

    def close(self) -> None:
        assert self.session
        self.session.close()

    def set_wall_clock(self, seconds: float) -> float:
        """Set this process's wall clock forward or back; files that it touches get its times. Return the new time."""
        real = time.time
        time.time = lambda: real() + seconds  # type: ignore[assignment]

        write = os.write

        def at_that_time(file: int, data: bytes) -> int:
            written = write(file, data)
            if os.path.isfile(f"/proc/self/fd/{file}"):
                os.utime(file, (time.time(), time.time()))
            return written

        os.write = at_that_time
        return time.time()

    def fork(self, key: str) -> list[Any]:
        """Fork a child that tries to use what it inherited and then stays until it is killed.
        Return its pid and what it saw.
        """
        assert self.session
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            saw: list[Any] = [self.session.lost, self.acquire(key)]
            self.session.release([self.leases[key]], "published")
            self.session.close()
            os.write(write, json.dumps(saw).encode())
            os.close(write)
            while True:
                signal.pause()
        os.close(write)
        with os.fdopen(read) as file:
            return [pid, *json.load(file)]

    def sacrifice(self, key: str) -> None:
        """Fork a child that takes the key and is killed. Only before `open`: a fork copies no threads."""
        pid = os.fork()
        if pid == 0:
            self.open()
            self.acquire(key)
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)

    def killed_waiters(self, key: str, count: int) -> int:
        """Fork children and kill each while it waits for the key. Only before `open`: a fork copies no threads."""
        for _ in range(count):
            read, write = os.pipe()
            pid = os.fork()
            if pid == 0:
                self.open()
                assert self.session
                if self.acquire(key) is None:
                    waiting = threading.Thread(target=self.session.wait_any, args=[[key], 600.0])
                    waiting.start()
                    os.write(write, b".")
                    waiting.join()
                os._exit(1)
            os.close(write)
            assert os.read(read, 1) == b".", "the child did not come to wait"
            os.close(read)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        return count

    def block_python(self, seconds: float) -> None:
        """Hold the interpreter's lock in C, so that no thread of this process runs meanwhile."""
        ctypes.PyDLL(None).usleep(int(seconds * 1e6))

    def acquire_many(self, count: int) -> int:
        """Return how many of that many keys this session now holds."""
        assert self.session
        answers = self.session.try_acquire([f"k{number}" for number in range(count)])
        return sum(isinstance(answer, Lease) for answer in answers)

    def toss(self, keys: list[str], seed: int) -> None:
        """Take and release keys as fast as possible, until killed."""
        assert self.session
        rng = random.Random(seed)
        while True:
            if self.session.lost:
                self.open()
            try:
                leases = self.session.try_acquire(rng.sample(keys, k=rng.randrange(1, len(keys) + 1)))
                self.session.release([lease for lease in leases if isinstance(lease, Lease)], "failed")
            except SessionLost:
                continue

    def contend(self, keys: list[str], entries: int, markers: str) -> list[int]:
        """Enter each key in turn. Return how often, and how often another process was inside."""
        entered = overlaps = 0
        for number in range(entries):
            key = keys[number % len(keys)]
            self.block(key)
            marker = os.path.join(markers, key)
            try:
                os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
                entered += 1
                time.sleep(0)
                os.unlink(marker)
            except FileExistsError:
                overlaps += 1
            self.release(key)
        return [entered, overlaps]


def main() -> None:
    place, lease_seconds, blind = sys.argv[1:]
    puppet = Puppet(place, float(lease_seconds), blind == "blind")
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(getattr(puppet, name)(*arguments)), flush=True)


if __name__ == "__main__":
    main()
