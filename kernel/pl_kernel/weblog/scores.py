"""Scores as the web log lists them: what says the same of several data is one line, however many data there are.

Only the pages gather; the stage's records and the reports keep every score.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from .views import as_dict, as_dicts, band_of, matching_pictures, number, say

_KEYS = ("pol", "antenna", "spw", "scan", "field", "intent", "vis")
"""Order in which scores are merged: first those that differ in polarization only, then in the antenna, and so on."""
_MOST_TEXTS = 4


@attrs.frozen(kw_only=True)
class ScoreView:
    """A score as it is listed; ``members`` are the scores behind a gathered one, worst first.

    ``numeric`` is the measured value where that is a number, ``value`` what is shown of it.
    """

    metric: str
    score: float | None
    band: str
    short: str
    long: str
    value: str
    applies_to: tuple[tuple[str, str], ...]
    origin: str
    topic: str
    anchor: str
    unit: str = ""
    numeric: float | None = None
    target: str = ""
    plots: int = 0
    members: tuple[ScoreView, ...] = ()

    @property
    def count(self) -> int:
        """How many scores this line stands for."""
        return max(len(self.members), 1)


def score_views(qa: Mapping[str, Any]) -> list[ScoreView]:
    """Return the visible scores, worst first."""
    views = []
    for position, data in enumerate(as_dicts(qa.get("scores"))):
        if data.get("hidden"):
            continue
        value = say(data.get("value"))
        applies = as_dict(data.get("applies_to"))
        views.append(
            ScoreView(
                metric=str(data.get("metric", "")),
                score=number(data.get("score")),
                band=band_of(data.get("score")),
                short=str(data.get("short") or data.get("metric") or ""),
                long=str(data.get("long") or data.get("short") or ""),
                value="" if value == "–" else f"{value} {data.get('unit') or ''}".strip(),
                applies_to=tuple((k, ", ".join(map(str, v))) for k, v in applies.items() if isinstance(v, list) and v),
                origin=str(data.get("origin", "")),
                topic=str(data.get("topic") or ""),
                anchor=f"score-{position}",
                unit=str(data.get("unit") or ""),
                numeric=number(data.get("value")),
            )
        )
    return sorted(views, key=_goodness)


def gathered(views: Iterable[ScoreView]) -> list[ScoreView]:
    """Merge scores that say the same (metric, short message, unit, score to two decimals) of different data.

    One kind of data is united at a time, where all other kinds agree, as the reference pipeline (2026) does for single
    dishes: what the line names is exactly what its scores name, not more.
    """
    parts: dict[tuple[Any, ...], list[_Part]] = {}
    for view in views:
        same = (view.metric, view.short, view.unit, view.topic, None if view.score is None else round(view.score, 2))
        parts.setdefault(same, []).append(_Part({k: tuple(v.split(", ")) for k, v in view.applies_to}, (view,)))
    lines = []
    for found in parts.values():
        for key in _KEYS:
            found = _united(found, key)
        lines += [_line(part) for part in found]
    return sorted(lines, key=_goodness)


def _goodness(view: ScoreView) -> tuple[bool, float]:
    return view.score is None, view.score if view.score is not None else 0.0


@attrs.frozen
class _Part:
    """Scores that become one line, and the data they name."""

    data: Mapping[str, tuple[str, ...]]
    members: tuple[ScoreView, ...]


def _united(parts: Sequence[_Part], key: str) -> list[_Part]:
    """Parts that agree in all data but those of one kind, as one."""
    alike: dict[tuple[Any, ...], list[_Part]] = {}
    for part in parts:
        # A score that names no antenna speaks of all: it is no neighbour of one that names some.
        others = tuple(sorted((k, v) for k, v in part.data.items() if k != key))
        alike.setdefault((key in part.data, others), []).append(part)
    united = []
    for same in alike.values():
        data = dict(same[0].data)
        if key in data:
            data[key] = tuple(dict.fromkeys(value for part in same for value in part.data[key]))
        united.append(_Part(data, tuple(member for part in same for member in part.members)))
    return united


def _line(part: _Part) -> ScoreView:
    if len(part.members) == 1:
        return part.members[0]
    members = tuple(sorted(part.members, key=_goodness))
    first, more = members[0], len(members) - 1
    return attrs.evolve(
        first, members=members, value=_values(members), anchor=f"{first.anchor}-and-more",
        long=f"{first.long} {more} more like it.", applies_to=tuple((k, ", ".join(v)) for k, v in part.data.items()),
    )  # fmt: skip


def _values(members: Sequence[ScoreView]) -> str:
    """Smallest and largest of numbers; texts, the first few of many."""
    numbers = [m.numeric for m in members if m.numeric is not None]
    if len(numbers) == len(members):
        low, high = say(min(numbers)), say(max(numbers))
        return f"{low} … {high} {members[0].unit}".strip() if low != high else f"{low} {members[0].unit}".strip()
    texts = list(dict.fromkeys(m.value for m in members if m.value))
    return ", ".join(texts[:_MOST_TEXTS]) + (" …" if len(texts) > _MOST_TEXTS else "")


def with_plots(view: ScoreView, tags: Sequence[Mapping[str, str]]) -> ScoreView:
    """The line, and the scores behind it, with the number of pictures of their data and the filter that shows them."""
    target = "&".join(f"{k}={v.replace(', ', ',')}" for k, v in view.applies_to if any(k in t for t in tags))
    return attrs.evolve(
        view, plots=matching_pictures([(k, v.split(", ")) for k, v in view.applies_to], tags), target=target,
        members=tuple(with_plots(member, tags) for member in view.members),
    )  # fmt: skip
