"""``ctx.map`` on a Dask cluster: a running scheduler, or one started on a batch system.

Each Dask worker keeps a child process of its own that runs the items: CASA is imported once in it, and when
CASA kills it, the Dask worker lives on.  Workers need the run's file system and one thread each.
"""

from __future__ import annotations

import threading
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


class DaskPool:
    """Items on the workers of a running scheduler."""

    def __init__(self, address: str) -> None:
        self._client = connect(address, default=True)  # as_completed() looks for a default client

    def map(
        self, function: Callable[..., Any], items: Sequence[tuple[Any, ...]], names: Sequence[str],
        done: Callable[[int], None] = lambda _count: None,
    ) -> list[Any]:  # fmt: skip
        """Like ``Pool.map``: answers in the order of the items, an exception in the place of an answer that failed."""
        from dask.distributed import as_completed

        # Dask gives the answer of a known key without running anything: no key may ever come twice.
        batch = uuid.uuid4().hex
        futures = [
            self._client.submit(run_in_child, function, item, name, pure=False, key=f"pl-{batch}-{index}-{name}")
            for index, (item, name) in enumerate(zip(items, names, strict=True))
        ]
        for count, _ in enumerate(as_completed(futures), 1):  # type: ignore[no-untyped-call]
            done(count)
        answers = []
        for future, name in zip(futures, names, strict=True):
            try:
                answers.append(future.result())
            except Exception as error:  # the cluster lost the item, not the item itself
                answers.append(WorkerDied(f"'{name}' was lost by the cluster: {type(error).__name__}: {error}"))
        return answers

    def close(self) -> None:
        self._client.close()


def connect(address: str, *, default: bool = False) -> Any:
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
        return Client(address, timeout="10s", set_as_default=default)  # type: ignore[no-untyped-call]
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
