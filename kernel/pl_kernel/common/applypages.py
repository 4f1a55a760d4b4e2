"""Tables of applied calibration: what went where, and what it cost in flags."""

from __future__ import annotations

from typing import Any

from ..flagcounts import FlagCounts
from ..weblog.page import renderer
from .applycal import ApplycalResult


@renderer(ApplycalResult)
def applycal_page(page: Any, ctx: Any, result: ApplycalResult) -> None:
    """Applied tables and flags; plugins add pictures of their kind of data."""
    applied_tables(page, result)
    antenna_flags(page, result)


def applied_tables(page: Any, result: ApplycalResult) -> None:
    """Sections with the applied tables, and with the flags before and after by field."""
    page.section("Applied calibration")
    page.table(
        ["Measurement set", "Fields", "Spw", "Table", "Gains from", "Interpolation", "Weights"],
        [
            [a.vis, a.field, a.spw or "all", table, gainfield or "all", interp or "default",
             "changed" if a.calwt else "kept"]
            for a in result.applied
            for table, gainfield, interp in zip(a.tables, a.gainfields, a.interps, strict=True)
        ],
        caption="In the order of application; numbers under 'Gains from' are field ids.", filters=("Fields",),
    )  # fmt: skip
    for vis, names in result.uncalibrated.items():
        page.note(f"Nothing is registered for {', '.join(names)} of {vis}.", "warning")
    for vis, tables in result.dropped.items():
        page.note(f"{vis} was calibrated without {', '.join(tables)}, which hold no solutions.", "error")
    page.section("Flags")
    for vis, after in result.after.items():
        flag_table(page, [("before", result.before[vis]), ("after", after)], "field", f"{vis}: flagged data by field")


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
