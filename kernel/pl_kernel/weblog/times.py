"""What the page about time shows: the stages of a run on a line of time, and each as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from pl_kernel.errors import PlError
from pl_kernel.journal import StageRecord
from pl_kernel.reports.timing import PlotTime, RunTime, StageTime, StageTimes, TaskTime, run_time, stage_times
from pl_kernel.serialize import read_json


@attrs.frozen
class Part:
    """A piece of a stage's time: when it began, in seconds after the run, and how long it took."""

    kind: str
    title: str
    at: float
    width: float


def stage_facts(folder: Path) -> dict[str, Any]:
    """Times of a stage as plain JSON, which is kept until its files change; empty when they do not tell."""
    try:
        return attrs.asdict(stage_times(folder, read_json(folder / "stage.json", StageRecord)))
    except (PlError, OSError, ValueError, TypeError, AttributeError):  # files of a strange shape cost no page
        return {}


def run_times(root: Path, facts: Iterable[Mapping[str, Any]], workers: Any) -> RunTime:
    """Times of a run from those of its stages."""
    parts = [
        StageTimes(
            StageTime(**f["stage"]), tuple(TaskTime(**t) for t in f["tasks"]), tuple(PlotTime(**p) for p in f["plots"])
        )
        for f in facts
        if f
    ]
    return run_time(str(root), parts, workers if isinstance(workers, int) else 1)


def parts_of(stage: StageTime) -> list[Part]:
    """The time of a stage in pieces, in the order in which most of them happen; together they are what passed."""
    left = stage.passed
    found = []
    at = stage.begin
    for kind, title, seconds in (
        ("wait", "waiting for pages", stage.wait), ("snapshot", "snapshot", stage.snapshot),
        ("casa", "CASA", stage.casa), ("own", "own code", stage.own), ("rest", "scores, records, start-up", left),
    ):  # fmt: skip
        width = min(seconds, left)  # several workers spend more inside CASA than passes
        if width > 0:
            found.append(Part(kind, title, at, width))
            at, left = at + width, left - width
    return found


def times_view(times: RunTime) -> dict[str, Any]:
    """Values for the template ``timing.html``."""
    stages: list[Mapping[str, Any]] = [
        {**{a.name: getattr(s, a.name) for a in attrs.fields(StageTime)}, "parts": parts_of(s)} for s in times.stages
    ]
    return {
        "stages": stages, "tasks": times.tasks, "plots": times.plots, "end": times.end, "casa": times.casa,
        "wait": times.wait, "workers": times.workers,
    }  # fmt: skip
