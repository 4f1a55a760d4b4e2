"""Quality scores over many runs: which metric drifts, and which run stands apart from the others."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ..errors import PlError
from ..journal import RunFolder, read_object
from ..qa import QAScore
from ..serialize import from_json

OUTLYING = 5.0
"""What stands apart: so far from the median, in units of the scatter (1.4826 times the median absolute deviation)."""
_ENOUGH = 5  # runs, before a scatter means anything
_SIZE = (220.0, 36.0)


@attrs.frozen
class Point:
    """The worst score of one metric in one stage of one run, and the value it was given for."""

    run: str
    score: float
    value: float | None
    short: str
    href: str = ""


@attrs.frozen
class Trend:
    """One metric of one stage over the runs, in their order; None where a run has none."""

    stage: str
    metric: str
    points: tuple[Point | None, ...]

    @property
    def known(self) -> tuple[Point, ...]:
        return tuple(p for p in self.points if p is not None)

    @property
    def lowest(self) -> float:
        return min(p.score for p in self.known)

    @property
    def median(self) -> float:
        return statistics.median(p.score for p in self.known)

    @property
    def last(self) -> Point:
        return self.known[-1]

    def outlying(self) -> tuple[Point, ...]:
        """Runs whose value is far from that of the others, whatever its score."""
        values = {p.run: p.value for p in self.known if p.value is not None}
        if len(values) < _ENOUGH:
            return ()
        middle = statistics.median(values.values())
        scatter = 1.4826 * statistics.median(abs(v - middle) for v in values.values())
        if scatter <= 1e-12 * max(abs(middle), 1e-300):
            return ()  # most are the same: any other value would be infinitely far away
        return tuple(p for p in self.known if p.run in values and abs(values[p.run] - middle) > OUTLYING * scatter)

    def curve(self) -> list[tuple[float, float, Point]]:
        """Places of the points in a picture of 220 × 36: value over runs where there are values, else score."""
        width, height = _SIZE
        values = [None if p is None else p.value if self.has_values else p.score for p in self.points]
        numbers = [v for v in values if v is not None]
        low, high = (min(numbers), max(numbers)) if numbers else (0.0, 1.0)
        step = width / max(len(self.points) - 1, 1)
        return [
            (round(n * step, 1), round(height / 2 if high == low else height * (high - v) / (high - low), 1), p)
            for n, (v, p) in enumerate(zip(values, self.points, strict=True))
            if v is not None and p is not None
        ]

    @property
    def has_values(self) -> bool:
        return all(p.value is not None for p in self.known)


@attrs.frozen
class Run:
    """One run: when its data were observed (or, unknown, when it was made), as ISO text, and its scores."""

    name: str
    when: str
    points: Mapping[tuple[str, str], Point]


def read_run(root: Path, name: str) -> Run | None:
    """Read the scores of a run of a batch; None when there is no run, or nothing in it can be read."""
    folder = RunFolder(root / name)
    try:
        when = folder.read_run().created.isoformat(timespec="seconds")
        points: dict[tuple[str, str], Point] = {}
        seen: dict[str, int] = {}
        for path in folder.stage_dirs():
            record = folder.read_stage(path)
            if record is None or not record.done:
                continue
            seen[record.name] = seen.get(record.name, 0) + 1
            # The same stage twice in a recipe is two things; its number would differ between recipes.
            stage = record.name if seen[record.name] == 1 else f"{record.name} ({seen[record.name]})"
            href = f"{name}/weblog/stages/{path.name}.html"
            for score in _scores(path / "qa.json"):
                point = Point(name, float(score.score or 0.0), _number(score.value), score.short, href)
                known = points.get((stage, score.metric))
                if known is None or point.score < known.score:
                    points[stage, score.metric] = point
        return Run(name, _observed(root / name / "context.json") or when, points)
    except PlError:
        return None


def _scores(file: Path) -> Iterable[QAScore]:
    if not file.is_file():
        return ()
    scores = from_json(read_object(file).get("scores", []), tuple[QAScore, ...])
    return (s for s in scores if s.score is not None and not s.hidden)


def _number(value: Any) -> float | None:
    found = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if found else None


def _observed(context: Path) -> str:
    """Start of the earliest measurement set."""
    if not context.is_file():
        return ""
    sets = read_object(context).get("measurement_sets")
    starts = [str(ms.get("start") or "") for ms in sets or () if isinstance(ms, Mapping)]
    return min((s for s in starts if s), default="")


def trends(runs: Sequence[Run]) -> tuple[Trend, ...]:
    """All metrics of all stages over the runs, in the order given; what is worst at any time comes first."""
    keys = dict.fromkeys(key for run in runs for key in run.points)
    found = [Trend(stage, metric, tuple(run.points.get((stage, metric)) for run in runs)) for stage, metric in keys]
    return tuple(sorted(found, key=lambda t: (t.lowest, -len(t.outlying()))))


def read_runs(root: Path, names: Iterable[str]) -> tuple[Run, ...]:
    """Read the runs of a batch, the earliest observed first."""
    found = [run for run in (read_run(root, name) for name in names) if run is not None and run.points]
    return tuple(sorted(found, key=lambda run: (run.when, run.name)))


def as_csv(runs: Sequence[Run]) -> str:
    """Return all points, one a line."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("run", "when", "stage", "metric", "score", "value", "text"))
    for run in runs:
        for (stage, metric), p in run.points.items():
            value = "" if p.value is None else f"{p.value:.6g}"
            writer.writerow((run.name, run.when, stage, metric, f"{p.score:.3f}", value, p.short))
    return out.getvalue()
