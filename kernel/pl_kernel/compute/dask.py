"""``ctx.map`` on a Dask cluster: a running scheduler, or one started on a batch system.

Each Dask worker keeps a child process of its own that runs the items: CASA is imported once in it, and when
CASA kills it, the Dask worker lives on.  Workers need the run's file system and one thread each.
"""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError, WorkerDied
from .pool import attempt
from .process import Worker

BATCH_SYSTEMS = {
    "slurm": "SLURMCluster", "pbs": "PBSCluster", "lsf": "LSFCluster", "sge": "SGECluster",
    "htcondor": "HTCondorCluster", "oar": "OARCluster", "local": "LocalCluster",
}  # fmt: skip


PATIENCE_SECONDS = 60.0
"""How long items wait for a cluster without any worker, or for a scheduler that does not answer."""
_LOOK_SECONDS = 2.0


class DaskPool:
    """Items on the workers of a running scheduler.

    An item whose worker is lost is repeated by the scheduler on another one.  A cluster that has lost all its workers,
    or its scheduler, is given up after ``patience`` seconds: what is not done then is lost, and said so.
    """

    def __init__(self, address: str, patience: float = PATIENCE_SECONDS) -> None:
        self._client = connect(address)
        self._address = address
        self._patience = patience

    def map(
        self, function: Callable[..., Any], items: Sequence[tuple[Any, ...]], names: Sequence[str],
        done: Callable[[int], None] = lambda _count: None,
    ) -> list[Any]:  # fmt: skip
        """Like ``Pool.map``: answers in the order of the items, an exception in the place of an answer that failed."""
        # Dask gives the answer of a known key without running anything: no key may ever come twice.
        batch = uuid.uuid4().hex
        futures = [
            self._client.submit(run_in_child, function, item, name, pure=False, key=f"pl-{batch}-{index}-{name}")
            for index, (item, name) in enumerate(zip(items, names, strict=True))
        ]
        finished: queue.SimpleQueue[int] = queue.SimpleQueue()
        for index, future in enumerate(futures):
            future.add_done_callback(lambda _future, index=index: finished.put(index))
        reason = self._wait(finished, len(items), done)
        answers: list[Any] = []
        for future, name in zip(futures, names, strict=True):
            if future.status == "finished":
                answers.append(future.result(timeout=self._patience))
                continue
            why = reason or "the cluster could not run it"
            if future.status == "error":  # the cluster lost the item, not the item itself
                error = future.exception(timeout=self._patience)
                why = f"{type(error).__name__}: {' '.join(str(error).split())}"
            answers.append(WorkerDied(f"'{name}' was lost by the cluster at {self._address}: {why}"))
        if reason:
            for future in futures:
                future.release()
        return answers

    def _wait(self, finished: queue.SimpleQueue[int], wanted: int, done: Callable[[int], None]) -> str:
        """Wait until all items are done; return why, when that is hopeless."""
        count, since = 0, time.monotonic()
        while count < wanted:
            try:
                finished.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                trouble = self._trouble()
                if not trouble:
                    since = time.monotonic()
                elif time.monotonic() - since > self._patience:
                    return trouble
                continue
            count += 1
            since = time.monotonic()
            done(count)
        return ""

    def _trouble(self) -> str:
        if self._client.status != "running":
            return "its scheduler does not answer"
        try:
            workers = self._client.sync(self._client.scheduler.ncores, callback_timeout=_LOOK_SECONDS)
        except Exception:  # closed, timed out, refused: all say the same
            return "its scheduler does not answer"
        return "" if workers else "it has no workers left"

    def close(self) -> None:
        self._client.close()


def connect(address: str) -> Any:
    """Return a client of the scheduler at ``address``.

    Raises
    ------
    InputError : Dask is not installed, or nobody answers there.
    """
    try:
        from dask.distributed import Client
    except ImportError:
        raise InputError("Dask is not installed: pip install 'pl-kernel[dask]'.") from None
    try:
        return Client(address, timeout="10s", set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(f"No Dask scheduler answers at {address}: {error}.") from None


def start_cluster(kind: str, workers: int, settings: Mapping[str, Any]) -> Any:
    """Start ``workers`` one-thread workers on a batch system; return the cluster, whose ``scheduler_address`` is known.

    ``settings`` are the arguments of the dask-jobqueue class (``queue``, ``memory``, ``walltime`` …).

    Raises
    ------
    InputError : unknown batch system, dask-jobqueue missing, or settings it refuses.
    """
    if kind not in BATCH_SYSTEMS:
        raise InputError(f"There is no batch system '{kind}'; known: {', '.join(BATCH_SYSTEMS)}.")
    try:
        if kind == "local":
            from dask.distributed import LocalCluster

            options = {"threads_per_worker": 1, "dashboard_address": None, **settings}
            return LocalCluster(n_workers=workers, **options)  # type: ignore[no-untyped-call]
        import dask_jobqueue
    except ImportError:
        raise InputError("Clusters need dask-jobqueue: pip install 'pl-kernel[dask]'.") from None
    try:
        cluster = getattr(dask_jobqueue, BATCH_SYSTEMS[kind])(**{"cores": 1, "processes": 1, **settings})
        cluster.scale(jobs=workers)
    except Exception as error:
        raise InputError(f"The {kind} cluster cannot be started: {error}") from None
    return cluster


def read_settings(path: Path | str) -> dict[str, Any]:
    """Read queue settings from YAML.

    Raises
    ------
    InputError : no such file, or not a mapping.
    """
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"The cluster settings {path} cannot be read: {error.strerror}.") from None
    except yaml.YAMLError:
        raise InputError(f"The cluster settings {path} are no YAML.") from None
    if not isinstance(content, dict):
        raise InputError(f"The cluster settings {path} must be written as name: value.")
    return content


_children: dict[int, Worker] = {}


def run_in_child(function: Callable[..., Any], item: tuple[Any, ...], name: str) -> Any:
    """Run one item in the child process of this Dask worker's thread."""
    child = _children.setdefault(threading.get_ident(), Worker())
    return attempt(child, function, item, name)
