"""Check whether the Ray cluster of a run still answers.

If the head of a cluster ends, Ray does not report that for a minute, and then ends the whole process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.runners.remote.probing import check_listens, is_dead, place_of
from penstock.runners.remote.watching import ANSWER_SECONDS, Away, Gone, answered

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
    nodes: Sequence[Mapping[str, Any]] = answered(ray.nodes)
    if not any(each["Alive"] for each in nodes):
        raise Away("none of its machines is there any more")
    if any(each["NodeID"] == node and not each["Alive"] for each in nodes):
        raise Away(_CUT_OFF)
    return nodes
