"""``pl timing``: where the time of a run went, per stage and per CASA task."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

from ..journal import RunFolder, read_object
from ..serialize import from_json

STAGE_COLUMNS = ("stage", "name", "total", "casa", "own", "score", "snapshot", "render", "peak_rss_mb")


@attrs.frozen(kw_only=True)
class StageTime:
    """Seconds of one stage: in all, inside CASA tasks, in its own code, scoring, snapshots, drawing its page."""

    number: int
    name: str
    total: float
    casa: float
    own: float
    score: float
    snapshot: float
    render: float
    peak_rss_mb: float


@attrs.frozen(kw_only=True)
class TaskTime:
    """Calls of one CASA task in one stage."""

    number: int
    stage: str
    task: str
    calls: int
    seconds: float


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

    @property
    def total(self) -> float:
        return sum(s.total for s in self.stages)

    @property
    def casa(self) -> float:
        return sum(s.casa for s in self.stages)

    @property
    def overhead(self) -> float:
        return 1.0 - self.casa / self.total if self.total else 0.0


def timing(root: Path | str) -> RunTime:
    """Read the times of a run.

    Raises
    ------
    JournalError : it is no run folder.
    """
    folder = RunFolder(root)
    folder.read_run()
    stages, tasks = [], []
    for path in folder.stage_dirs():
        record = folder.read_stage(path)
        if record is None or not (path / "timing.json").is_file():
            continue
        content = read_object(path / "timing.json")
        calls = from_json(content.get("calls", []), tuple[_Call, ...])
        got = {k: float(v) for k, v in content.items() if isinstance(v, (int, float))}
        casa = got.get("casa_seconds", 0.0)
        stages.append(
            StageTime(
                number=record.number, name=record.name, total=got.get("seconds", 0.0), casa=casa,
                own=max(got.get("run_seconds", 0.0) - casa, 0.0), score=got.get("score_seconds", 0.0),
                snapshot=got.get("snapshot_seconds", 0.0), render=got.get("render_seconds", 0.0),
                peak_rss_mb=got.get("peak_rss_mb", 0.0),
            )
        )  # fmt: skip
        by_task: dict[str, list[float]] = {}
        for call in calls:
            by_task.setdefault(call.task, []).append(call.seconds)
        tasks += [
            TaskTime(number=record.number, stage=record.name, task=task, calls=len(spent), seconds=sum(spent))
            for task, spent in sorted(by_task.items(), key=lambda item: -sum(item[1]))
        ]
    return RunTime(run=str(folder.root), stages=tuple(stages), tasks=tuple(tasks))


def as_csv(times: Iterable[RunTime]) -> str:
    """Return the stages of several runs as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("run", *STAGE_COLUMNS))
    for run in times:
        writer.writerows((run.run, *row(stage)) for stage in run.stages)
    return out.getvalue()


def row(stage: StageTime) -> Sequence[str | int]:
    """Return one stage as text, seconds with two decimals."""
    numbers = (stage.total, stage.casa, stage.own, stage.score, stage.snapshot, stage.render)
    return (stage.number, stage.name, *(f"{n:.2f}" for n in numbers), f"{stage.peak_rss_mb:.0f}")
