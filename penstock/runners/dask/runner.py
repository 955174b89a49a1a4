"""`DaskRunner` runs each bundle of calls as one task on a Dask cluster. Values stay with its workers."""

from __future__ import annotations

import contextlib
import multiprocessing.process
import shutil
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from penstock.errors import ConfigurationError, RunnerError
from penstock.runners.base import Engine
from penstock.runners.options import check_options, check_workers
from penstock.runners.remote.connecting import KeptConnection
from penstock.runners.remote.packages import imported
from penstock.runners.remote.refusals import GUARD, did_not_start
from penstock.runners.remote.settings import ClusterRunner
from penstock.runners.resources import WORKER_TIMEOUT
from penstock.storage.stores.base import Reach
from penstock.worker.messages import Preparation, Report, WorkerContext
from penstock.worker.shipping.code_packing import Ship

if TYPE_CHECKING:
    from penstock.runners.dask.connections import Connection


class DaskRunner(ClusterRunner):
    """Runs calls on Dask.

    * `DaskRunner()` starts a `LocalCluster` of processes for each run and closes it afterwards. It listens on
      127.0.0.1. If the package `cryptography` is installed, it uses TLS with its own key, which stays in memory, so
      that no other user of the machine can access it; `security=None` disables that.
    * `DaskRunner("tcp://scheduler:8786")`, `DaskRunner(cluster=...)` and `DaskRunner(client=...)` use an existing
      cluster and leave it running.
    * `DaskRunner(cluster_class=KubeCluster, ...)` starts a cluster of any Dask class for each run, and closes it
      afterwards.

    A cluster takes one or two seconds to start, and a connection 30 to 60 ms. `with DaskRunner(workers=4) as runner:`
    keeps both for all runs in the block.

    A call that is timed out or cancelled is interrupted at its next line of Python. Code in C extensions cannot be
    interrupted, and occupies its worker's thread until it returns.

    Args:
        address: The address of a scheduler.
        cluster: A cluster to use.
        client: A client whose cluster to use.
        cluster_class: The class of the cluster to start.
        workers: The number of workers to start. In a `LocalCluster` each has one thread.
        worker_timeout: How many seconds a call may wait while no worker can run it, for example because workers are
            starting or being replaced. Then it fails with a `RunnerError`.
        ship: Packages and modules of the project to send to workers that cannot import them, by name or path.
        worker_setup: Called without arguments once in each worker process, before the first call of a run.
        options: Options of `distributed.Client` for an address, such as `security=`; otherwise those of the cluster to
            start, such as `processes=False` for threads of this process.

    Raises:
        ConfigurationError: Arguments contradict each other or are invalid.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        cluster: Any = None,
        client: Any = None,
        cluster_class: Callable[..., Any] | None = None,
        workers: int | None = None,
        worker_timeout: float = WORKER_TIMEOUT,
        ship: Ship = (),
        worker_setup: Preparation | None = None,
        **options: Any,
    ) -> None:
        super().__init__(ship=ship, worker_setup=worker_setup, worker_timeout=worker_timeout)
        given = {"address": address, "cluster": cluster, "client": client, "cluster_class": cluster_class}
        named = [name for name, value in given.items() if value is not None]
        if len(named) > 1:
            raise ConfigurationError(f"{' and '.join(named)} were given", hint="give one of them")
        if workers is not None and (named and named != ["cluster_class"]):
            raise ConfigurationError(f"workers= and {named[0]} were given", because="that cluster has its own workers")
        if workers is not None:
            check_workers(workers)
        if options and named in (["cluster"], ["client"]):
            raise ConfigurationError(f"{', '.join(options)}: no options of a {named[0]} that is there already")
        self.address = address
        self.cluster = cluster
        self.client = client
        self.cluster_class = cluster_class
        self.workers = workers
        self.options = options
        self._kept: Any = None
        self._connection: KeptConnection[Connection] | None = None
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> DaskRunner:
        if self._starts_cluster:
            self._kept = self._start_cluster(_import_distributed(), self._undo)
        self._connection = KeptConnection(lambda: self._connect(_import_distributed(), self._undo))
        self._undo.callback(self._connection.close)
        return self

    def __exit__(self, *_: object) -> None:
        self._kept = self._connection = None
        self._undo.close()

    @property
    def _starts_cluster(self) -> bool:
        return self._kept is None and self.address is None and self.cluster is None and self.client is None

    def __repr__(self) -> str:
        if self.address is not None:
            return f"DaskRunner({self.address!r})"
        there = self.cluster if self.cluster is not None else self.client
        if there is not None:
            return f"DaskRunner({type(there).__name__}({_address_of(there)!r}))"
        kind = getattr(self.cluster_class, "__name__", "") or "LocalCluster"
        return f"DaskRunner({kind}{f', workers={self.workers}' if self.workers else ''})"

    @property
    def reach(self) -> Reach:
        there = self.cluster if self.cluster is not None else self.client
        address = self.address or (_address_of(there) if there is not None else "")
        if address.startswith("inproc:"):
            return "process"
        if there is not None:
            kind = type(getattr(there, "cluster", None) if there is self.client else there)
            return "host" if any(base.__name__ == "LocalCluster" for base in kind.__mro__) else "network"
        if self.address is not None or self.cluster_class is not None:
            return "network"
        return "host" if self.options.get("processes", True) else "process"

    def open(self, context: WorkerContext, report: Report) -> Engine:
        """Start an engine for a run.

        Raises:
            RunnerError: Dask is not installed, the scheduler does not answer, the cluster does not start, or it has
                other versions than this process.
            ConfigurationError: Workers cannot reach the store, or a package cannot be shipped.
        """
        distributed = _import_distributed()
        with contextlib.ExitStack() as undo:
            if self._connection is not None:
                connection = self._connection.get()
            else:
                connection = self._connect(distributed, undo)
                undo.callback(connection.close)
            from penstock.runners.dask.capacity import Workers
            from penstock.runners.dask.engine import DaskEngine
            from penstock.runners.remote.engine import run_name

            closing = contextlib.ExitStack()
            engine = DaskEngine(
                connection,
                report,
                run=run_name(context),
                setup=self.packed_setup(context),
                workers=Workers(patience=self.worker_timeout, this_machine=self.reach != "network"),
                on_close=closing.close,
            )
            closing.callback(undo.pop_all().close)
        return engine

    def _connect(self, distributed: Any, undo: contextlib.ExitStack) -> Connection:
        """Open a separate connection to the cluster. `undo` closes a cluster that was started for it."""
        from penstock.runners.dask.connections import CONNECT_SECONDS, Connection, check_answers

        options: dict[str, Any]
        if self.address is not None:
            address, options = self.address, dict(self.options)
            check_options("the DaskRunner, or the Client that it creates,", options, distributed.Client)
            check_answers(address, options.get("timeout", CONNECT_SECONDS))
        else:
            there = self._start_cluster(distributed, undo) if self._starts_cluster else self._kept
            there = next(each for each in (self.client, self.cluster, there) if each is not None)
            address, options = _address_of(there), {"security": getattr(there, "security", None)}
        if self.reach != "network":
            options["direct_to_workers"] = True  # otherwise values for the flow pass through the scheduler
        return Connection(distributed, address, options)

    def _start_cluster(self, distributed: Any, undo: contextlib.ExitStack) -> Any:
        if getattr(multiprocessing.process.current_process(), "_inheriting", False):
            raise RunnerError(
                "a worker process cannot start workers of its own",
                because="Dask's worker processes import the script that started them, and that calls its flow",
                hint=GUARD,
            )
        options = dict(self.options)
        make = self.cluster_class
        if make is None:
            make = distributed.LocalCluster
            options.setdefault("dashboard_address", "127.0.0.1:0")
            scratch = tempfile.mkdtemp(prefix="penstock-dask-")
            undo.callback(shutil.rmtree, scratch, ignore_errors=True)
            options.setdefault("local_directory", scratch)
            if self.workers is not None:
                options.setdefault("threads_per_worker", 1)
            if options.get("processes", True) and not {"security", "protocol", "host"} & options.keys():
                # Separate credentials, if the package that creates them is installed.
                options["security"] = distributed.Security.temporary() if find_spec("cryptography") else None
            takers = (DaskRunner, make.__init__, distributed.Nanny, distributed.Worker)
            if "worker_class" not in options:
                check_options("the DaskRunner, or the LocalCluster that it starts,", options, *takers)
        if self.workers is not None:
            options["n_workers"] = self.workers
        try:
            cluster = make(**options)
        except Exception as error:
            raise did_not_start("the Dask cluster", make, self.options, error) from error
        undo.callback(cluster.close)
        return cluster


def _import_distributed() -> Any:
    return imported("distributed", engine="Dask", extra="dask")


def _address_of(there: Any) -> str:
    """Return the scheduler's address of a cluster or client."""
    scheduler = getattr(there, "scheduler", None)
    address: str = getattr(there, "scheduler_address", "") or getattr(scheduler, "address", "") or ""
    return address
