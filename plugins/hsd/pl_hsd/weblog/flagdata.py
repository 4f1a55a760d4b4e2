"""Page of the deterministic flags of single dishes."""

from __future__ import annotations

from typing import Any

from pl_hsd.heuristics.flagging import casa_time
from pl_hsd.rows import RowTable
from pl_hsd.stages.flagdata import AGENTS, FlagdataResult, MsFlags
from pl_hsd.weblog.pointing import draw_pointing, pointing_maps
from pl_kernel import renderer
from pl_kernel.common.applypages import flag_table

_WORDS = {
    "before": "came with the data", "intents": "calibration scans", "qa0": "first quality assurance",
    "qa2": "second quality assurance", "online": "online", "template": "user's flags", "autocorr": "autocorrelations",
    "shadow": "shadowed antennas", "pointing": "missing directions, odd maps", "scans": "named scans",
    "edgespw": "edge channels", "outliers": "pointing outliers",
}  # fmt: skip


@renderer(FlagdataResult)
def flagdata_page(page: Any, ctx: Any, result: FlagdataResult) -> None:
    """What each agent flagged on the target, outliers, and the tracks that are left."""
    for one in result.sets:
        page.section(f"Flags of {one.vis}")
        page.table(
            ["Agent", "Commands", "Newly flagged", "Flagged after", "Remark"],
            [
                [_WORDS[a], len(one.commands.get(a, ())) if a != "before" else None, 100 * one.newly(a), _after(one, a),
                 one.reasons.get(a, "")]
                for a in AGENTS
                if a == "before" or one.commands.get(a) or a in one.reasons
            ],
            units={"Newly flagged": "%", "Flagged after": "%"},
            formats={"Newly flagged": ".2f", "Flagged after": ".2f"},
            caption="In the order in which they worked; only data on the target are counted.",
        )  # fmt: skip
        flag_table(page, [(c.name, c) for c in one.counts], "antenna", "Flagged data by antenna, after each agent")
        flag_table(page, [(c.name, c) for c in one.counts], "spw", "Flagged data by window (own id), after each agent")
        _outliers(page, one)
    page.section("Where the antennas looked")
    items = []
    for one in result.sets:
        ms = ctx.context.measurement_set(one.vis)
        items += list(pointing_maps(ms, RowTable.open(ctx, ms).after(result.effects), with_off=False))
    page.plots(
        draw_pointing, items, caption=lambda m: f"{m.antenna} on {m.field} after flagging",
        tags=lambda m: {"vis": m.vis, "antenna": m.antenna, "field": m.field}, name="pointing",
    )  # fmt: skip
    for one in result.sets:
        page.section(f"Commands for {one.vis}", level="detail")
        page.code("\n".join(line for a in AGENTS for line in one.commands.get(a, ())), "flag commands")


def _after(one: MsFlags, agent: str) -> float | None:
    found = [c for c in one.counts if c.name == agent]
    return 100 * found[0].fraction if found else None


def _outliers(page: Any, one: MsFlags) -> None:
    if not one.outliers:
        page.text("No antenna left the map.")
        return
    page.table(
        ["Field", "Antenna", "Integrations", "Largest distance", "Limit", "From (UTC)", "To (UTC)"],
        [
            [o.field, o.antenna, o.n_integrations, o.largest_arcsec, o.limit_arcsec, casa_time(o.ranges_s[0][0])[:21],
             casa_time(o.ranges_s[-1][1])[:21]]
            for o in one.outliers
        ],
        units={"Largest distance": "arcsec", "Limit": "arcsec"},
        formats={"Largest distance": ".1f", "Limit": ".1f"},
        caption="Spectra further from the middle of the map than 2.26 times the median distance."
        + ("" if one.pointing_applied else " They are not flagged: flagging by pointing is off."),
    )  # fmt: skip
