"""Pages of finished stages, drawn in a process of their own while the next stage runs.

A page shows what its stage left.  Before a stage that alters measurement sets, the runner therefore waits until the
pages that read what it alters have read it; what other stages make is new, and shows on no earlier page.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs

from . import execute
from .casa import LogRecord
from .compute import Worker
from .context import Context
from .errors import PlError
from .execute import StageJob
from .packing import Packer
from .serialize import write_json
from .stage_context import Place


@attrs.frozen(kw_only=True)
class Drawing:
    """A page to be made: whose, of which result in which context; log and timing of the stage, to be completed.

    ``reads``: what of the measurement sets it shows, so that it must be read before that is altered; ``read`` is set
    once it has been.
    """

    place: Place
    context: Context
    result: Any
    logs: tuple[LogRecord, ...]
    timing: Mapping[str, Any]
    reads: frozenset[str]
    read: threading.Event = attrs.field(factory=threading.Event, eq=False, init=False)


@attrs.frozen(kw_only=True)
class Drawn:
    """A page that was made, or tried: complaints for the run's log, and the seconds the web log took (None: failed)."""

    number: int
    stage: str
    complaints: tuple[str, ...] = ()
    site_seconds: float | None = None


class Pages:
    """Draws one page after the other.

    Parameters
    ----------
    output : file that takes what the drawing process prints.
    write_site : writes the web log; called after every page, in this object's thread.
    workers : processes that draw the pictures of a page.
    """

    def __init__(self, output: Path, write_site: Callable[[], float], workers: int = 1) -> None:
        # A picture may be late; the stage that runs meanwhile is what one waits for.
        self._worker = Worker(output, background=True)
        self._workers = workers
        self._packer = Packer(self._worker)
        self._write_site = write_site
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pages")
        self._pending: deque[tuple[Drawing, Future[Drawn]]] = deque()

    def warm(self, logfile: Path) -> None:
        """Have the drawing process import what it needs, while the first stage runs."""
        self._worker.start()
        self._thread.submit(self._worker.call, execute.warm_up, logfile)

    def submit(self, drawing: Drawing) -> None:
        """Have a page drawn when those before it are."""
        # Started by this thread: a process ends with the thread that started it.
        self._worker.start()
        self._pending.append((drawing, self._thread.submit(self._draw, drawing)))

    def wait(self, altered: frozenset[str] | None = None) -> list[Drawn]:
        """Wait for all pages, or only until none is left that reads what will be ``altered``.

        Returns how those went that nobody has asked for yet.
        """
        drawn = []
        while any(altered is None or drawing.reads & altered for drawing, _ in self._pending):
            drawn.append(self._pending[0][1].result())
            self._pending.popleft()
        return drawn

    def wait_read(self, altered: frozenset[str]) -> None:
        """Wait until no page is left that has still to read what will be ``altered``."""
        for drawing, _ in self._pending:
            if drawing.reads & altered:
                drawing.read.wait()

    def give_up(self) -> list[Drawn]:
        """End the drawing now: the page being drawn stays incomplete, those behind it are not begun."""
        for pending in list(self._pending)[1:]:
            if pending[1].cancel():
                self._pending.remove(pending)
        self._worker.kill()
        return self.wait()

    def close(self) -> None:
        """End the drawing process; what it still has to do is given up."""
        self.give_up()
        self._thread.shutdown()
        self._worker.stop()

    def _draw(self, drawing: Drawing) -> Drawn:
        place, begin = drawing.place, time.monotonic()
        timing, complaints = dict(drawing.timing), []
        site_seconds = None
        try:
            logs = list(drawing.logs)
            try:
                job = StageJob(
                    place=place, context=self._packer.pack(drawing.context), recipe={}, user={}, workers=self._workers
                )
                answer = self._worker.call(
                    execute.render_stage, job, drawing.result,
                    on_message=lambda message: drawing.read.set() if message[0] == execute.DATA_READ else None,
                )  # fmt: skip
                error, new = answer.error, answer.logs
                timing["render_casa_seconds"] = sum(c.seconds for c in answer.calls)
            except PlError as failure:  # matplotlib, too, can kill its process
                error, new = f"The page could not be drawn: {failure.sentence}", []
            if error:
                new = [*new, LogRecord(level="warning", message=error, origin=place.stage_name)]
            logs += [record for record in new if record not in logs]
            write_json(place.stage_dir / "log.json", logs)
            timing["render_seconds"] = time.monotonic() - begin
            timing["seconds"] = timing.get("seconds", 0.0) + timing["render_seconds"]
            write_json(place.stage_dir / "timing.json", timing)
        except (PlError, OSError) as failure:
            complaints.append(f"The page of stage {place.stage_number} is not complete: {failure}")
        drawing.read.set()
        try:
            site_seconds = self._write_site()
        except Exception as failure:  # the web log can be made again at any time: pl weblog
            complaints.append(f"The web log could not be written: {failure}")
        return Drawn(
            number=place.stage_number, stage=place.stage_name, complaints=tuple(complaints), site_seconds=site_seconds
        )
