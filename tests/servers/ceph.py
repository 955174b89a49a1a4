"""A real S3 store: one Ceph monitor, one object store daemon in memory and a gateway, without root or installation.

    with running(folder) as ceph:
        ceph.endpoint

As a program (`python -m tests.servers.ceph <folder>`) it prints what a client needs and runs until its input ends.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tests.servers.packages import Unavailable, Unpacked, unpacked
from tests.servers.s3 import Endpoint, wait_until_it_answers

PACKAGES = ("radosgw", "ceph-mon", "ceph-osd")
START_SECONDS = 300.0
STARTS = 3

# Everything that waits for peers, rebalances or cleans up is off: one daemon of each kind, for a few minutes.
# The two `paxos` lines save ten seconds at the start, and `tcp_nodelay` forty milliseconds per answer.
_CONFIGURATION = """
[global]
fsid = {fsid}
mon host = [v1:127.0.0.1:{monitor_port}]
mon initial members = a
ms bind msgr2 = false
ms type = async+posix
public addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
keyring = {folder}/keyring
run dir = {folder}
log file = {folder}/$name.log
log to stderr = false
err to stderr = true
mon cluster log file = {folder}/cluster.log
pid file = {folder}/$name.pid
admin socket = {folder}/$name.asok
crash dir = {folder}
plugin dir = {libraries}/ceph
erasure code dir = {libraries}/ceph/erasure-code
osd class dir = {libraries}/rados-classes
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false

[mon]
mon data = {folder}/mon
mon data avail crit = 1
mon data avail warn = 2
paxos propose interval = 0.02
paxos min wait = 0.01

[osd]
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = {gigabytes}G
osd journal =
osd class load list = *
osd class default list = *

[client]
rgw data = {folder}
rgw frontends = beast endpoint=127.0.0.1:{gateway_port} tcp_nodelay=1
rgw enable gc threads = false
rgw enable lc threads = false
rgw enable quota threads = false
rgw run sync thread = false
rgw dynamic resharding = false
"""


class Ceph:
    """The daemons below an empty `folder`, killed when the block ends."""

    def __init__(self, folder: Path, *, gigabytes: int = 1) -> None:
        """Create a store that holds so much, in memory."""
        self._folder = folder
        self._packages: Unpacked = unpacked(*PACKAGES)
        self._libraries = self._packages.libraries()[0]
        self._environment = self._packages.environment(self._libraries / "ceph")
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        port = free_port()
        self.endpoint = Endpoint(f"http://127.0.0.1:{port}", "penstock", secrets.token_hex(20))
        self.reader = Endpoint(self.endpoint.url, "reader", secrets.token_hex(20))
        """Another user, who has no rights until a bucket's policy grants some."""
        self._settings = _CONFIGURATION.format(
            fsid=uuid.uuid4(),
            folder=folder,
            libraries=self._libraries,
            monitor_port=free_port(),
            gateway_port=port,
            gigabytes=gigabytes,
        )

    def __enter__(self) -> Ceph:
        return self

    def start(self) -> None:
        """Start everything and make the endpoint's user."""
        try:
            for name in ("mon", "osd"):
                (self._folder / name).mkdir(parents=True)
            (self._folder / "ceph.conf").write_text(self._settings)
            self._start_monitor()
            self._start_storage()
            self.add_user(self.endpoint)
            self.add_user(self.reader)
            self.start_gateway()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for daemon in self._daemons.values():
            daemon.kill()
        for daemon in self._daemons.values():
            daemon.wait()

    # -- control by tests --

    def add_user(self, user: Endpoint) -> None:
        """Add a user with these keys."""
        self._run(
            "radosgw-admin", "user", "create", f"--uid={user.access_key}", f"--display-name={user.access_key}",
            f"--access-key={user.access_key}", f"--secret={user.secret_key}",
        )  # fmt: skip

    def start_gateway(self) -> None:
        """Start or restart the gateway, and wait until it answers."""
        self._start("radosgw", "-n", "client.rgw")
        wait_until_it_answers(self.endpoint, lambda: self._refuse_if_dead("radosgw"), START_SECONDS)

    def kill_gateway(self) -> None:
        daemon = self._daemons.pop("radosgw")
        daemon.kill()
        daemon.wait()

    def pause_storage(self) -> None:
        """Suspend the daemon that stores the objects, so that the gateway accepts requests but does not answer."""
        self._daemons["ceph-osd"].send_signal(signal.SIGSTOP)

    def resume_storage(self) -> None:
        self._daemons["ceph-osd"].send_signal(signal.SIGCONT)

    # -- starting

    def _start_monitor(self) -> None:
        keyring, names = f"{self._folder}/keyring", f"{self._folder}/monmap"
        for name, capabilities in (("mon.", ["mon"]), ("client.admin", ["mon", "osd", "mgr"])):
            caps = [word for each in capabilities for word in ("--cap", each, "allow *")]
            create = [] if os.path.exists(keyring) else ["--create-keyring"]
            self._run("ceph-authtool", *create, keyring, "--gen-key", "-n", name, *caps)
        settings = self._settings.splitlines()
        fsid = next(line.partition("= ")[2] for line in settings if line.startswith("fsid"))
        address = next(line.partition("= ")[2] for line in settings if line.startswith("mon host"))
        self._run("monmaptool", "--create", "--addv", "a", address, "--fsid", fsid, names)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", names, "--keyring", keyring)
        self._start("ceph-mon", "-i", "a")

    def _start_storage(self) -> None:
        identity = str(uuid.uuid4())
        self._command({"prefix": "osd new", "uuid": identity})
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", identity)
        self._start("ceph-osd", "-i", "0")

    def _command(self, command: dict[str, str]) -> None:
        """Send the monitor a command through the library, because the program `ceph` needs another Python."""
        subprocess.run(
            [sys.executable, "-c", _TELL, f"{self._folder}/ceph.conf", json.dumps(command)],
            env=self._environment,
            timeout=START_SECONDS,
            check=True,
        )

    def _start(self, program: str, *arguments: str) -> None:
        with open(self._folder / f"{program}.out", "ab") as out:
            self._daemons[program] = subprocess.Popen(
                self._line(program, *arguments, "-f"), env=self._environment, stdout=out, stderr=out, cwd=self._folder
            )

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            self._line(program, *arguments),
            env=self._environment,
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
        )
        if done.returncode != 0:
            raise Unavailable(f"{program} failed: {' '.join((done.stderr or done.stdout).split())[-400:]}")

    def _line(self, program: str, *arguments: str) -> Sequence[str]:
        tool = program in ("ceph-authtool", "monmaptool")
        # Daemons that ask the monitor for settings forget which cluster they are in, and may be refused.
        where = [] if tool else ["-c", f"{self._folder}/ceph.conf", "--no-mon-config"]
        return [self._packages.program(program), *where, *arguments]

    def _refuse_if_dead(self, program: str) -> None:
        if self._daemons[program].poll() is not None:
            said = (self._folder / f"{program}.out").read_text(errors="replace")
            raise Unavailable(f"{program} ended at once: {' '.join(said.split())[-400:]}")


_TELL = """
import ctypes, sys
rados = ctypes.CDLL("librados.so.2")
cluster = ctypes.c_void_p()
def done(code):
    if code < 0:
        sys.exit(f"librados: error {code}")
done(rados.rados_create(ctypes.byref(cluster), b"admin"))
done(rados.rados_conf_read_file(cluster, sys.argv[1].encode()))
done(rados.rados_connect(cluster))
done(rados.rados_wait_for_latest_osdmap(cluster))
commands = (ctypes.c_char_p * 1)(sys.argv[2].encode())
out, said = ctypes.c_char_p(), ctypes.c_char_p()
sizes = ctypes.c_size_t(), ctypes.c_size_t()
done(rados.rados_mon_command(cluster, commands, ctypes.c_size_t(1), b"", ctypes.c_size_t(0),
    ctypes.byref(out), ctypes.byref(sizes[0]), ctypes.byref(said), ctypes.byref(sizes[1])))
rados.rados_shutdown(cluster)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def running(folder: Path, *, gigabytes: int = 1) -> Ceph:
    """A running cluster, for `with`. On a busy machine a daemon may fail to start; then another one is tried."""
    for attempt in range(STARTS):
        ceph = Ceph(folder / f"ceph-{attempt}", gigabytes=gigabytes)
        try:
            ceph.start()
            return ceph
        except (Unavailable, subprocess.SubprocessError, TimeoutError) as error:
            problem = error
    raise Unavailable(f"Ceph did not start: {problem}")


def main(folder: Path) -> None:
    began = time.monotonic()
    with running(folder) as ceph:
        print(
            json.dumps({**ceph.endpoint.facts(), "reader": ceph.reader.facts(), "seconds": time.monotonic() - began}),
            flush=True,
        )
        sys.stdin.read()


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except Unavailable as error:
        sys.exit(str(error))
