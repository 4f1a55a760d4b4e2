"""Page of hifv_solint."""

from __future__ import annotations

from typing import Any

from pl_hifv.solves import correlations
from pl_hifv.stages.solint import SolintResult
from pl_hifv.weblog import solutions
from pl_kernel import renderer


@renderer(SolintResult)
def solint_page(page: Any, ctx: Any, result: SolintResult) -> None:
    """The intervals, the trials they come from, and the gains of every antenna."""
    page.section("Solution intervals", "intervals")
    for failure in result.failures:
        page.note(f"{failure.item} has no solution intervals: {failure.reason}", "error")
    for b in result.bands:
        one = f" ({b.integration_s:.4g} s)" if b.short.solint == "int" else ""
        page.text(
            f"{b.vis}, {b.band} band: the long solution interval is {b.long.seconds:.4g} s ({b.long.reason}); the short"
            f" one is {b.short.solint}{one}: {b.short.reason}."
        )
        if b.missing_scans:
            page.note(f"{b.vis}: scans {', '.join(map(str, b.missing_scans))} are flagged altogether.", "warning")
    page.table(
        ["Measurement set", "Band", "Integration", "Short", "Long", "Median calibrator scan", "Limited by the user"],
        [
            [
                b.vis, b.band, b.integration_s, b.short.seconds, b.long.seconds, b.scan_s,
                "yes" if b.short.limited else "no",
            ]
            for b in result.bands
        ],
        units={"Integration": "s", "Short": "s", "Long": "s", "Median calibrator scan": "s"},
        formats={"Integration": ".3g", "Short": ".4g", "Long": ".4g", "Median calibrator scan": ".4g"},
    )  # fmt: skip
    page.table(
        ["Measurement set", "Band", "Interval", "Length", "Flagged", "Median SNR", "Taken"],
        [
            [
                b.vis, b.band, t.solint, t.seconds, 100 * t.flagged, t.snr,
                "yes" if t.table == b.choice.trial.table else "",
            ]
            for b in result.bands
            for t in b.choice.trials
        ],
        caption="Intervals that were tried on all calibrators; the shortest with at most 5 % flagged gains is taken.",
        units={"Length": "s", "Flagged": "%"}, formats={"Length": ".4g", "Flagged": ".1f", "Median SNR": ".0f"},
    )  # fmt: skip
    page.section("Test gains", "gains")
    items = []
    for b in result.bands:
        ms = ctx.context.measurement_set(b.vis)
        spws = sorted({s.spw for s in b.table.stats})
        found = solutions.windows(ctx, b.table.path, spws)
        if found:
            pictures = list(solutions.against_time(ms, b.band, found, correlations(ms, spws), "test gains"))
            items += solutions.grids(pictures, phase=False) + solutions.grids(pictures, phase=True)
    solutions.add_grids(page, items, "testgains", "Gains against time")
