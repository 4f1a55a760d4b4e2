"""Tables of applied calibration: what went where, and what it cost in flags."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from ..flagcounts import FlagCounts
from ..weblog.page import renderer
from .applycal import ApplycalResult
from .applying import Applied


@renderer(ApplycalResult)
def applycal_page(page: Any, ctx: Any, result: ApplycalResult) -> None:
    """Applied tables and flags; plugins add pictures of their kind of data."""
    applied_tables(page, result)
    by_intent(page, ctx, result)
    spw_flags(page, result)
    antenna_flags(page, result)


def applied_tables(page: Any, result: ApplycalResult) -> None:
    """Sections with the applied tables, and with the flags before and after by field."""
    page.section("Applied calibration")
    applied_table(page, result.applied)
    for vis, names in result.uncalibrated.items():
        page.note(f"Nothing is registered for {', '.join(names)} of {vis}.", "warning")
    for vis, tables in result.dropped.items():
        page.note(f"{vis} was calibrated without {', '.join(tables)}, which hold no solutions.", "error")
    page.section("Flags")
    for vis, after in result.after.items():
        flag_table(page, [("before", result.before[vis]), ("after", after)], "field", f"{vis}: flagged data by field")


def applied_table(page: Any, applied: Iterable[Applied]) -> None:
    """One row per call of applycal and table; what none of them says, or all windows and one set, is no column."""
    rows = []
    calls = list(applied)
    several = len({a.vis for a in calls}) > 1
    of = f" of {calls[0].vis}" if calls and not several else ""
    for a in calls:
        empty = [""] * len(a.tables)
        for table, gainfield, interp, kind, spwmap, size in zip(
            a.tables, a.gainfields, a.interps, a.kinds or empty, a.spwmaps or empty, a.sizes or empty, strict=True
        ):
            rows.append(
                {
                    "Measurement set": a.vis if several else "", "Field": a.field or "all",
                    "Spw": a.spw if a.spw != "all" else "", "Intent": a.intent.replace(",", ", "),
                    "Antenna": a.antenna if a.antenna != "*&*" else "", "Kind": kind, "Table": table,
                    "Spw map": spwmap, "Gains from": gainfield or "all", "Interpolation": interp or "default",
                    "Weights": "changed" if a.calwt else "kept", "Size": size / 1e6 if size else "",
                }
            )  # fmt: skip
    said = [name for name in (rows[0] if rows else ()) if any(row[name] != "" for row in rows)]
    page.table(
        said, [[row[name] for name in said] for row in rows], units={"Size": "MB"}, formats={"Size": ".2f"},
        caption=f"Tables{of} in the order in which they were applied; numbers under 'Gains from' are field ids.",
        filters=("Field",),
    )  # fmt: skip


def by_intent(page: Any, ctx: Any, result: ApplycalResult) -> None:
    """The flags before and after by what the data are for; a scan with several intents counts for each."""
    for vis, after in result.after.items():
        scans = {str(s.id): s.intents for s in ctx.context.measurement_set(vis).scans}
        counts = [(name, _intents(c, scans)) for name, c in (("before", result.before[vis]), ("after", after))]
        flag_table(page, counts, "intent", f"{vis}: flagged data by intent")


def _intents(counted: FlagCounts, scans: dict[str, frozenset[str]]) -> FlagCounts:
    found: dict[str, tuple[float, float]] = {}
    for scan, (flagged, total) in counted.by.get("scan", {}).items():
        for intent in sorted(scans.get(scan, ())):
            one, all_ = found.get(intent, (0.0, 0.0))
            found[intent] = (one + flagged, all_ + total)
    return attrs.evolve(counted, by={"intent": found})


def spw_flags(page: Any, result: ApplycalResult) -> None:
    """A section of details with the flags before and after by window."""
    page.section("Flags by window", level="detail")
    for vis, after in result.after.items():
        flag_table(page, [("before", result.before[vis]), ("after", after)], "spw", f"{vis}: flagged data by window")


def antenna_flags(page: Any, result: ApplycalResult) -> None:
    """A section of details with the flags before and after by antenna."""
    page.section("Flags by antenna", level="detail")
    for vis, after in result.after.items():
        flag_table(
            page, [("before", result.before[vis]), ("after", after)], "antenna", f"{vis}: flagged data by antenna"
        )


def flag_table(page: Any, counts: list[tuple[str, FlagCounts]], key: str, caption: str) -> None:
    """Flagged percentage per value of a key, one column per count."""
    values = list(counts[-1][1].by.get(key, {}))
    if all(v.isdigit() for v in values):
        values.sort(key=int)
    page.table(
        [key.capitalize(), *(name.capitalize() for name, _ in counts)],
        [[v, *(100 * c.fraction_of(key, v) for _, c in counts)] for v in values],
        caption=caption, units={name.capitalize(): "%" for name, _ in counts},
        formats={name.capitalize(): ".1f" for name, _ in counts},
    )  # fmt: skip
