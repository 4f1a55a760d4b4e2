"""``pl timing``: where the time of a run went, per stage, per CASA task, per group of plots, and in waiting."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import attrs

from ..journal import RunFolder, StageRecord, read_object
from ..serialize import from_json


class _Timed(Protocol):
    @property
    def seconds(self) -> float: ...


T = TypeVar("T", bound=_Timed)

STAGE_COLUMNS = ("stage", "name", "total", "casa", "own", "score", "snapshot", "wait", "render", "peak_rss_mb")
DETAIL_COLUMNS = ("run", "stage", "name", "kind", "what", "count", "seconds", "longest")


@attrs.frozen(kw_only=True)
class StageTime:
    """Seconds of one stage: in all, inside CASA tasks, in its own code, scoring, snapshots, drawing its page.

    ``casa`` is the sum over all workers, and may be more than the time that passed.  ``wait`` is the time it waited for
    pages of earlier stages, because it alters what they show; ``begin`` counts from the start of the run's first stage,
    ``passed`` is the time from its start to its end.  The page is drawn beside the next stage.
    """

    number: int
    name: str
    total: float
    casa: float
    own: float
    score: float
    snapshot: float
    render: float
    peak_rss_mb: float
    wait: float = 0.0
    begin: float = 0.0
    passed: float = 0.0

    @property
    def rest(self) -> float:
        """What passed and is none of the others: starting workers, writing records."""
        known = min(self.casa, self.passed) + self.own + self.score + self.snapshot + self.wait
        return max(self.passed - known, 0.0)


@attrs.frozen(kw_only=True)
class TaskTime:
    """Calls of one CASA task in one stage."""

    number: int
    stage: str
    task: str
    calls: int
    seconds: float
    longest: float = 0.0


@attrs.frozen(kw_only=True)
class PlotTime:
    """A group of plots of one stage's page."""

    number: int
    stage: str
    group: str
    plots: int
    seconds: float
    longest: float


def elapsed(stages: Iterable[tuple[float, float]]) -> float:
    """Seconds that pass for stages of (seconds until done, seconds to draw the page): pages are drawn one after the
    other, beside the stages that follow."""
    done = drawn = 0.0
    for seconds, render in stages:
        done += seconds
        drawn = max(done, drawn) + render
    return max(done, drawn)


@attrs.frozen
class _Call:
    task: str
    seconds: float = 0.0


@attrs.frozen(kw_only=True)
class RunTime:
    """Where the time of a run went; ``overhead`` is the part of it outside CASA tasks."""

    run: str
    stages: tuple[StageTime, ...]
    tasks: tuple[TaskTime, ...]
    plots: tuple[PlotTime, ...] = ()
    workers: int = 1

    @property
    def total(self) -> float:
        """Seconds that passed while stages ran, and after the last one until its page was drawn."""
        return elapsed((s.passed, s.render) for s in self.stages)

    @property
    def casa(self) -> float:
        return sum(s.casa for s in self.stages)

    @property
    def wait(self) -> float:
        return sum(s.wait for s in self.stages)

    @property
    def overhead(self) -> float:
        return max(1.0 - self.casa / self.total, 0.0) if self.total else 0.0

    @property
    def end(self) -> float:
        """Seconds from the start of the first stage to the end of the last."""
        return max((s.begin + s.passed for s in self.stages), default=0.0)

    def by_task(self) -> tuple[TaskTime, ...]:
        """CASA tasks of all stages together, the longest first."""
        return tuple(
            TaskTime(
                number=0, stage="", task=task, calls=sum(t.calls for t in found),
                seconds=sum(t.seconds for t in found), longest=max(t.longest for t in found),
            )
            for task, found in _grouped(self.tasks, lambda t: t.task)
        )  # fmt: skip


def timing(root: Path | str) -> RunTime:
    """Read the times of a run.

    Raises
    ------
    JournalError : it is no run folder.
    """
    folder = RunFolder(root)
    record = folder.read_run()
    found: list[StageTimes] = []
    for path in folder.stage_dirs():
        stage = folder.read_stage(path)
        if stage is not None and (path / "timing.json").is_file():
            found.append(stage_times(path, stage))
    workers = record.options.get("workers", 1)
    return run_time(str(folder.root), found, workers if isinstance(workers, int) else 1)


@attrs.frozen
class StageTimes:
    """The times of one stage, its CASA tasks and its plots; it begins at seconds since 1970 here."""

    stage: StageTime
    tasks: tuple[TaskTime, ...]
    plots: tuple[PlotTime, ...]


def stage_times(path: Path, stage: StageRecord) -> StageTimes:
    """Read the times of one stage from its folder.

    Raises
    ------
    PlError : its records are damaged.
    """
    content = read_object(path / "timing.json")
    calls = from_json(content.get("calls", []), tuple[_Call, ...])
    tasks = tuple(
        TaskTime(
            number=stage.number, stage=stage.name, task=task, calls=len(found),
            seconds=sum(c.seconds for c in found), longest=max(c.seconds for c in found),
        )
        for task, found in _grouped(calls, lambda c: c.task)
    )  # fmt: skip
    return StageTimes(_stage_time(stage, content), tasks, tuple(_plots(stage, path / "page.json")))


def run_time(run: str, parts: Sequence[StageTimes], workers: int) -> RunTime:
    """Put the times of stages together; the first one that began has its beginning at 0."""
    first = min((p.stage.begin for p in parts), default=0.0)
    return RunTime(
        run=run, stages=tuple(attrs.evolve(p.stage, begin=p.stage.begin - first) for p in parts),
        tasks=tuple(t for p in parts for t in p.tasks), plots=tuple(t for p in parts for t in p.plots), workers=workers,
    )  # fmt: skip


def _stage_time(stage: StageRecord, content: Mapping[str, Any]) -> StageTime:
    got = {k: float(v) for k, v in content.items() if isinstance(v, (int, float))}
    casa = got.get("casa_seconds", 0.0)
    return StageTime(
        number=stage.number, name=stage.name, total=got.get("seconds", 0.0), casa=casa,
        own=max(got.get("run_seconds", 0.0) - casa, 0.0), score=got.get("score_seconds", 0.0),
        snapshot=got.get("snapshot_seconds", 0.0), render=got.get("render_seconds", 0.0),
        peak_rss_mb=got.get("peak_rss_mb", 0.0), wait=got.get("wait_seconds", 0.0),
        begin=stage.started.timestamp(), passed=(stage.ended - stage.started).total_seconds(),
    )  # fmt: skip


def _plots(stage: StageRecord, page: Path) -> list[PlotTime]:
    if not page.is_file():
        return []
    found = []
    for section in read_object(page).get("sections") or []:
        for block in section.get("blocks") or [] if isinstance(section, Mapping) else []:
            if not isinstance(block, Mapping) or block.get("type") != "plots":
                continue
            seconds = [float(p.get("seconds") or 0.0) for p in block.get("pictures") or [] if isinstance(p, Mapping)]
            if sum(seconds) > 0:
                found.append(
                    PlotTime(
                        number=stage.number, stage=stage.name, group=str(block.get("title") or block.get("name")),
                        plots=len(seconds), seconds=sum(seconds), longest=max(seconds),
                    )
                )  # fmt: skip
    return sorted(found, key=lambda p: -p.seconds)


def _grouped(items: Iterable[T], key: Callable[[T], str]) -> list[tuple[str, list[T]]]:
    """Items by key, what took longest first."""
    found: dict[str, list[T]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return sorted(found.items(), key=lambda entry: -sum(i.seconds for i in entry[1]))


def as_csv(times: Iterable[RunTime]) -> str:
    """Return the stages of several runs as CSV."""
    return _csv(("run", *STAGE_COLUMNS), ((run.run, *row(stage)) for run in times for stage in run.stages))


def details_as_csv(times: Iterable[RunTime]) -> str:
    """Return the CASA tasks and plots of several runs as CSV, one line per stage and task or group of plots."""
    lines = []
    for run in times:
        for t in run.tasks:
            lines.append((run.run, t.number, t.stage, "task", t.task, t.calls, f"{t.seconds:.3f}", f"{t.longest:.3f}"))
        for p in run.plots:
            lines.append((run.run, p.number, p.stage, "plot", p.group, p.plots, f"{p.seconds:.3f}", f"{p.longest:.3f}"))
    return _csv(DETAIL_COLUMNS, lines)


def _csv(columns: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(lines)
    return out.getvalue()


def row(stage: StageTime) -> Sequence[str | int]:
    """Return one stage as text, seconds with two decimals."""
    numbers = (stage.total, stage.casa, stage.own, stage.score, stage.snapshot, stage.wait, stage.render)
    return (stage.number, stage.name, *(f"{n:.2f}" for n in numbers), f"{stage.peak_rss_mb:.0f}")


@attrs.frozen
class Compared:
    """One line of a comparison: seconds per run (None: it has no such stage or task), the last over the first."""

    what: str
    seconds: tuple[float | None, ...]

    @property
    def ratio(self) -> float | None:
        known = [s for s in self.seconds if s]
        return known[-1] / known[0] if len(known) > 1 and self.seconds[0] and self.seconds[-1] else None


def compared(runs: Sequence[RunTime]) -> dict[str, list[Compared]]:
    """Return the runs beside each other: by stage in their order, by CASA task with the longest first."""
    stages = [{f"{s.number:03d} {s.name}": s.total for s in run.stages} for run in runs]
    tasks = [{t.task: t.seconds for t in run.by_task()} for run in runs]
    found = {}
    for title, parts, order in (
        ("stages", stages, lambda line: line.what), ("tasks", tasks, lambda line: -max(s or 0.0 for s in line.seconds))
    ):  # fmt: skip
        lines = [Compared(key, tuple(p.get(key) for p in parts)) for key in dict.fromkeys(k for p in parts for k in p)]
        found[title] = sorted(lines, key=order)
    return found
