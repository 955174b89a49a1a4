"""Check whether the Ray cluster of a run still answers.

If the head of a cluster ends, Ray does not report that for a minute, and then ends the whole process.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from penstock.runners.remote.probing import check_listens, is_dead, place_of
from penstock.runners.remote.watching import ANSWER_SECONDS, Away, Gone

RETURN_SECONDS = 20.0
"""How long the head of a cluster may be away, in seconds. KubeRay, for example, starts it again meanwhile."""
_CUT_OFF = "its processes on this machine died"


def look(ray: Any, *, head: str | None, node: str | None, raylet: str | None) -> Sequence[Mapping[str, Any]]:
    """Return what `ray.nodes()` returns. Raises `Away` or `Gone` if the cluster does not answer.

    `head` is the `host:port` of the head, if it is known. `node` is the machine through which this process is connected
    to the cluster, and `raylet` the socket of its raylet.
    """
    if raylet is not None and is_dead(raylet, ANSWER_SECONDS):
        raise Gone(_CUT_OFF)  # Ray soon ends this process because of it
    if head is not None:
        try:
            check_listens(place_of(head), ANSWER_SECONDS)
        except OSError as error:
            raise Away(f"its head does not answer: {error}") from error
    nodes = _nodes(ray)
    if not any(each["Alive"] for each in nodes):
        raise Away("none of its machines is there any more")
    if any(each["NodeID"] == node and not each["Alive"] for each in nodes):
        raise Away(_CUT_OFF)
    return nodes


def _nodes(ray: Any) -> Sequence[Mapping[str, Any]]:
    """Return what `ray.nodes()` returns, in a thread of its own: it waits for a head that ends in the middle of it."""
    answers: queue.SimpleQueue[Sequence[Mapping[str, Any]] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(ray.nodes())
        except Exception as error:  # noqa: BLE001 (any error means no answer)
            answers.put(error)

    threading.Thread(target=ask, name="penstock-ray-nodes", daemon=True).start()
    try:
        answer = answers.get(timeout=ANSWER_SECONDS)
    except queue.Empty:
        raise Away("its head does not answer") from None
    if isinstance(answer, Exception):
        raise Away(f"its head does not answer: {str(answer).strip().partition(chr(10))[0]}") from answer
    return answer
