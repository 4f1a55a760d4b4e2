"""``ctx.map``: items side by side in worker processes, answers in the order of the items."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import PlError, WorkerDied
from .process import Worker


class Pool:
    """A fixed number of warm workers."""

    def __init__(self, workers: int, output: Path | None = None) -> None:
        self.size = workers
        self._output = output
        self._workers: list[Worker] = []
        self._warming: list[threading.Thread] = []

    def _start(self, wanted: int) -> None:
        while len(self._workers) < min(self.size, wanted):
            self._workers.append(Worker(self._output))
        for worker in self._workers:
            worker.start()  # by this thread, whose end would take the process along

    def warm(self, function: Callable[..., Any], *args: Any) -> None:
        """Call a function in every worker, whatever comes of it, while this process does something else."""

        def prepare(worker: Worker) -> None:
            with contextlib.suppress(PlError):
                worker.call(function, *args)

        self._start(self.size)
        self._warming = [threading.Thread(target=prepare, args=(w,), daemon=True) for w in self._workers]
        for thread in self._warming:
            thread.start()

    def map(
        self, function: Callable[..., Any], items: Sequence[tuple[Any, ...]], names: Sequence[str],
        done: Callable[[int], None] = lambda _count: None,
    ) -> list[Any]:  # fmt: skip
        """Call ``function(*item)`` for every item; an exception takes the place of its item's answer.

        An item whose worker dies is tried once more in a new one; then its answer is a WorkerDied that names it.
        """
        self._start(len(items))
        for thread in self._warming:
            thread.join()
        self._warming.clear()
        answers: list[Any] = [None] * len(items)
        todo: queue.SimpleQueue[int] = queue.SimpleQueue()
        for index in range(len(items)):
            todo.put(index)
        finished: queue.SimpleQueue[int] = queue.SimpleQueue()

        def drain(worker: Worker) -> None:
            while True:
                try:
                    index = todo.get_nowait()
                except queue.Empty:
                    return
                answers[index] = attempt(worker, function, items[index], names[index])
                finished.put(index)

        threads = [threading.Thread(target=drain, args=(w,), daemon=True) for w in self._workers]
        for thread in threads:
            thread.start()
        for count in range(1, len(items) + 1):
            finished.get()
            done(count)
        for thread in threads:
            thread.join()
        return answers

    def close(self) -> None:
        for worker in self._workers:
            worker.stop()
        self._workers.clear()


def attempt(worker: Worker, function: Callable[..., Any], item: tuple[Any, ...], name: str) -> Any:
    """Call the function; once more in a new process when it dies.  Exceptions are returned."""
    for last in (False, True):
        try:
            return worker.call(function, *item)
        except WorkerDied as death:
            if last:
                return WorkerDied(f"'{name}' ended two worker processes; the last one: {death.sentence}")
        except Exception as error:
            return error
    raise AssertionError("unreachable")
