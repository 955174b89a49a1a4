"""Run one campaign, `python -m tests.nemesis COMBINATION`, and print the checker's verdict.

Combinations: redis+s3, redis+local, folder+local, store+s3. Those with s3 start a server, unless `--store s3://…` names
an empty store and the usual variables say how to reach it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from pathlib import Path

from tests.nemesis.campaign import KEYS, Campaign
from tests.nemesis.client import CLOCKS
from tests.nemesis.sabotage import SABOTAGES
from tests.servers.redis import running
from tests.servers.s3 import Endpoint
from tests.servers.shared import shared

COMBINATIONS = ("redis+s3", "redis+local", "folder+local", "store+s3")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.nemesis", description=__doc__)
    parser.add_argument("combination", choices=COMBINATIONS)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--folder", type=Path, default=None, help="where the history is kept")
    parser.add_argument("--store", default=None, help="an empty store in a bucket")
    parser.add_argument("--sabotage", choices=sorted(SABOTAGES), default="")
    parser.add_argument("--clocks", nargs="*", choices=sorted(CLOCKS), default=(), help="of clients, in turn")
    options = parser.parse_args()
    locks, _, store = options.combination.partition("+")
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4), "big")
    folder = options.folder or Path(tempfile.mkdtemp(prefix="penstock-nemesis-"))
    with contextlib.ExitStack() as stack:
        if store == "s3" and options.store is None:
            facts = stack.enter_context(shared(folder / "servers", "tests.servers.ceph"))
            endpoint = Endpoint(facts["url"], facts["access_key"], facts["secret_key"])
            os.environ.update(endpoint.environment())
            options.store = f"s3://{endpoint.new_bucket()}/nemesis"
        server = stack.enter_context(running()) if locks == "redis" else None
        campaign = Campaign(
            folder=folder / "history",
            store=options.store if store == "s3" else str(folder / "store"),
            locks=server.url if server is not None else locks,
            seconds=options.seconds,
            seed=seed,
            redis=server,
            proxied=os.environ["AWS_ENDPOINT_URL"] if store == "s3" else None,
            sabotage=options.sabotage,
            clocks=tuple(options.clocks),
            until_found=frozenset(SABOTAGES.get(options.sabotage, ())),
            keys=("a", "b") if options.sabotage else KEYS,
        ).run()
    print(campaign.summary())
    for violation in campaign.violations:
        print(violation)
    print(f"the history is in {campaign.folder}")
    return 1 if campaign.violations else 0


if __name__ == "__main__":
    sys.exit(main())
