"""A cluster that dies while items run: they are repeated elsewhere, or end in a sentence, and never in a hang."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from pl_kernel.errors import WorkerDied

distributed = pytest.importorskip("dask.distributed")


WORK = """
import os, time
from pathlib import Path

def work(folder, number, seconds):
    # The mark holds the process of the Dask worker, which has this one as its child.
    (Path(folder) / f"{number}-{os.getppid()}").touch()
    time.sleep(seconds)
    return number * number
"""


class Cluster:
    """A scheduler and workers that are processes of their own, to be killed one by one."""

    def __init__(self, folder, workers):
        self.folder = folder
        file = folder / "scheduler.json"
        self.scheduler = self._start("scheduler", "--port", "0", "--scheduler-file", str(file), "--no-dashboard")
        self.workers = [
            self._start("worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-nanny", "--no-dashboard")
            for _ in range(workers)
        ]
        with distributed.Client(scheduler_file=str(file), timeout="60s", set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=60)
            self.address = client.scheduler.address

    def _start(self, *words):
        return subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_" + words[0], *words[1:]], cwd=self.folder,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(self.folder)},
        )  # fmt: skip

    def when_begun(self, items, action):
        """Do something as soon as so many items have begun."""

        def watch():
            deadline = time.monotonic() + 60
            while len(list((self.folder / "marks").iterdir())) < items and time.monotonic() < deadline:
                time.sleep(0.05)
            action()

        threading.Thread(target=watch, daemon=True).start()

    def close(self):
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    (tmp_path / "marks").mkdir()
    (tmp_path / "work_on_cluster.py").write_text(WORK)
    monkeypatch.syspath_prepend(str(tmp_path))
    made = []

    def make(workers):
        made.append(Cluster(tmp_path, workers))
        return made[-1]

    yield make
    sys.modules.pop("work_on_cluster", None)
    for one in made:
        one.close()


def run(cluster, items, seconds, patience):
    from work_on_cluster import work

    from pl_kernel.compute.dask import DaskPool

    pool = DaskPool(cluster.address, patience=patience)
    try:
        jobs = [(str(cluster.folder / "marks"), n, seconds) for n in range(items)]
        return pool.map(work, jobs, [f"item {n}" for n in range(items)])
    finally:
        pool.close()


@pytest.mark.slow
def test_the_items_of_a_lost_worker_are_repeated_on_another(cluster):
    hands = cluster(2)
    hands.when_begun(2, lambda: os.kill(hands.workers[0].pid, signal.SIGKILL))
    assert run(hands, 4, 1.0, patience=20) == [0, 1, 4, 9]


@pytest.mark.slow
def test_a_cluster_without_workers_ends_in_a_sentence(cluster):
    hands = cluster(1)
    hands.when_begun(1, lambda: os.kill(hands.workers[0].pid, signal.SIGKILL))
    begin = time.monotonic()
    answers = run(hands, 2, 3.0, patience=4)
    assert time.monotonic() - begin < 60
    assert all(isinstance(a, WorkerDied) for a in answers)
    assert "'item 0'" in str(answers[0]) and "no workers left" in str(answers[0])


@pytest.mark.slow
def test_a_scheduler_that_dies_ends_in_a_sentence(cluster):
    hands = cluster(1)
    hands.when_begun(1, lambda: os.kill(hands.scheduler.pid, signal.SIGKILL))
    begin = time.monotonic()
    answers = run(hands, 2, 3.0, patience=4)
    assert time.monotonic() - begin < 60
    assert all(isinstance(a, WorkerDied) for a in answers)
    assert hands.address in str(answers[1])
