"""Flag counts as records: what ``flagdata(mode="summary")`` says, in a form that can be scored and shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

KEYS = ("antenna", "field", "spw", "scan", "correlation")
"""What counts are kept by; field and antenna are names, the others ids as text."""


@attrs.frozen(kw_only=True)
class FlagCounts:
    """Flagged and all visibilities (counted per channel and correlation) of one summary.

    ``flagged`` and ``total`` are sums; ``by`` holds (flagged, total) for every value of every key of `KEYS`.
    """

    name: str
    flagged: float
    total: float
    by: Mapping[str, Mapping[str, tuple[float, float]]] = attrs.field(factory=dict)

    @property
    def fraction(self) -> float:
        """Flagged part of everything; 1 when there is nothing."""
        return self.flagged / self.total if self.total else 1.0

    def fraction_of(self, key: str, value: str) -> float:
        """Flagged part of one antenna, field …; 1 when it has no data."""
        flagged, total = self.by.get(key, {}).get(value, (0.0, 0.0))
        return flagged / total if total else 1.0


def counts(report: Mapping[str, Any], name: str = "") -> FlagCounts:
    """Turn one report of CASA into `FlagCounts`."""
    return FlagCounts(
        name=name or str(report.get("name", "")),
        flagged=float(report.get("flagged", 0.0)),
        total=float(report.get("total", 0.0)),
        by={
            key: {str(k): (float(v["flagged"]), float(v["total"])) for k, v in report.get(key, {}).items()}
            for key in KEYS
        },
    )


def list_counts(report: Mapping[str, Any]) -> tuple[FlagCounts, ...]:
    """All summaries of a ``flagdata(mode="list")`` call, in the order in which they were asked for."""
    if "flagged" in report:
        return (counts(report),)
    keys = sorted((k for k in report if k.startswith("report")), key=lambda k: int(k[6:] or 0))
    return tuple(counts(report[k]) for k in keys if isinstance(report[k], Mapping) and "flagged" in report[k])


def summary(ctx: Any, vis: str, name: str, **selection: str) -> FlagCounts:
    """Ask CASA for the flag counts of a selection."""
    report = ctx.casa.flagdata(vis=vis, mode="summary", name=name, **selection)
    return counts(report or {}, name)
