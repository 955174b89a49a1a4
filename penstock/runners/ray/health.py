"""Whether the Ray that a run uses is still there, and what it has.

Of a head that is gone Ray itself says nothing for a minute, and then ends the whole process. So it is asked all the
time, by a thread of its own: an answer may take long.
"""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

LOOK_SECONDS = 2.0
"""The time between two looks."""
RETURN_SECONDS = 20.0
"""How long a cluster's head may be away: one that is kept by somebody (KubeRay, say) is started again meanwhile."""
ANSWER_SECONDS = 5.0
_CUT_OFF = "its processes on this machine died"

Nodes = Sequence[Mapping[str, Any]]


class Watch:
    """A thread that looks at Ray until it is closed, or Ray is lost."""

    def __init__(
        self,
        ray: Any,
        *,
        head: str | None,
        node: str | None,
        raylet: str | None,
        patience: float,
        on_look: Callable[[Nodes], None],
        on_lost: Callable[[str], None],
    ) -> None:
        """`head` is where Ray listens, as `host:port`, if that is known; it may be away for `patience` seconds. `node`
        is the machine of the cluster by which this process is connected to it, and `raylet` the socket of its raylet.

        `on_look(nodes)` and `on_lost(why)` are called in the thread, the latter once, as the last thing.
        """
        self._ray, self._head, self._node, self._raylet, self._patience = ray, head, node, raylet, patience
        self._on_look, self._on_lost = on_look, on_lost
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="penstock-ray-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop looking."""
        self._closed.set()
        self._thread.join(ANSWER_SECONDS)  # it may be waiting for an answer that never comes

    def _watch(self) -> None:
        seen = time.monotonic()
        while not self._closed.wait(LOOK_SECONDS):
            cut_off = self._is_cut_off()  # nothing brings that back, and Ray soon ends this process for it
            seen = -math.inf if cut_off else seen
            why = _CUT_OFF if cut_off else self._look()
            if why is None:
                seen = time.monotonic()
            elif time.monotonic() - seen >= self._patience and not self._closed.is_set():
                self._on_lost(why)
                return

    def _is_cut_off(self) -> bool:
        """Whether the process of Ray's that connects this one to the cluster is gone."""
        if self._raylet is None:
            return False
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(ANSWER_SECONDS)
            try:
                line.connect(self._raylet)
            except (ConnectionRefusedError, FileNotFoundError):
                return True
            except OSError:
                pass  # it has too much to do
        return False

    def _look(self) -> str | None:
        """Why Ray seems lost, or None."""
        if self._head is not None:
            host, _, port = self._head.rpartition(":")
            try:
                socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
            except OSError as error:
                return f"its head does not answer: {error}"
        try:
            nodes = self._ray.nodes()
        except Exception as error:  # noqa: BLE001 (whatever it is, it is no answer)
            return f"its head does not answer: {str(error).strip().partition(chr(10))[0]}"
        if not any(node["Alive"] for node in nodes):
            return "none of its machines is there any more"
        if any(node["NodeID"] == self._node and not node["Alive"] for node in nodes):
            return _CUT_OFF
        self._on_look(nodes)
        return None
