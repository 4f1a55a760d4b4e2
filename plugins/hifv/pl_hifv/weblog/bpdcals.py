"""Pages of the stages that solve for delays, bandpass and gains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pl_hifv import calibrators
from pl_hifv.qa.bpdcals import SpwNames
from pl_hifv.solves import BandSolutions, flagged_median
from pl_hifv.stages.finalcals import FinalBand, FinalcalsResult
from pl_hifv.stages.semifinalbpdcals import SemiFinalBPdcalsResult
from pl_hifv.stages.testbpdcals import TestBPdcalsResult
from pl_hifv.weblog import solutions
from pl_kernel import renderer


@renderer(TestBPdcalsResult)
def test_page(page: Any, ctx: Any, result: TestBPdcalsResult) -> None:
    """Bad deformatters first, then delays, gains and bandpass of every antenna."""
    _summary(page, ctx, result.bands, result.failures)
    _avoided(page, ctx, result)
    _deformatters(page, ctx, result)
    _calibrated(page, ctx, result.bands, "test")
    _ladder(page, ctx, result.bands)
    page.section("Gains before the bandpass", "gains", level="detail")
    grids: list[solutions.GridPicture] = []
    for band in result.bands:
        found = solutions.windows(ctx, band.gain.path, band.spws)
        pictures = list(solutions.against_time(_ms(ctx, band), band.band, found, band.correlations, "gains"))
        grids += solutions.grids(pictures, phase=False) + solutions.grids(pictures, phase=True)
    solutions.add_grids(page, grids, "gains", "Gains against time")
    page.table(
        ["Measurement set", "Band", "Solution interval", "Flagged", "Median over antennas of its solutions"],
        [
            [b.vis, b.band, t.solint, 100 * t.flagged, "taken" if t.table == b.choice.trial.table else ""]
            for b in result.bands
            for t in b.choice.trials
        ],
        caption="Intervals that were tried for these gains.", units={"Flagged": "%"}, formats={"Flagged": ".1f"},
    )  # fmt: skip


test_page.__test__ = False  # type: ignore[attr-defined]


@renderer(SemiFinalBPdcalsResult)
def semifinal_page(page: Any, ctx: Any, result: SemiFinalBPdcalsResult) -> None:
    """Delays and bandpass of every antenna, and the calibrators they were applied to."""
    _summary(page, ctx, result.bands, result.failures)
    _calibrated(page, ctx, result.bands, "calibrator")
    _ladder(page, ctx, result.bands)


@renderer(FinalcalsResult)
def final_page(page: Any, ctx: Any, result: FinalcalsResult) -> None:
    """The tables that are registered, and the solutions of every antenna."""
    _summary(page, ctx, result.bands, result.failures)
    if result.normalised:
        page.note("All gains are normalised: these data have no flux scale (use_flux_cal=False).", "warning")
    for model in result.unit:
        page.note(f"{model.field} in {model.vis} has no model and was calibrated as a source of 1 Jy.", "warning")
    names = {
        "delay": "delays", "bandpass": "bandpass", "average_phase": "average phase",
        "amplitude": "amplitudes, long interval", "phase": "phases, long interval",
        "short_phase": "phases, short interval", "delay_phase": "phases for the delays",
        "bandpass_phase": "phases for the bandpass",
    }  # fmt: skip
    registered = ("delay", "bandpass", "average_phase", "amplitude", "phase")
    page.section("Tables", "tables")
    page.table(
        ["Measurement set", "Solutions", "Table", "Applied to the data"],
        [
            [vis, names.get(kind, kind), tables[kind], "yes" if kind in registered else "no"]
            for vis, tables in result.tables.items()
            for kind in (*registered, *(k for k in tables if k not in registered))
        ],
        caption="In the order of their application.",
    )  # fmt: skip
    jumps = [(b, j) for b in result.bands for j in b.jumps]
    if jumps:
        spws = SpwNames(ctx.context)
        page.section("Phase jumps", "jumps")
        page.table(
            ["Measurement set", "Band", "Antenna", "Spw", "Hand", "Scan", "Step"],
            [
                [b.vis, b.band, j.antenna, spws(b.vis, [j.spw])[0], b.correlations[j.pol], j.scan, j.degrees]
                for b, j in jumps
            ],
            units={"Step": "deg"}, formats={"Step": ".0f"}, filters=("antenna", "spw", "scan"),
        )  # fmt: skip
    _ladder(page, ctx, result.bands)
    page.section("Gains", "final-gains")
    page.text("Amplitudes and phases in the long interval, as they are applied to the data.")
    solutions.add_antennas(
        page, [i for band in result.bands for i in _final_gains(ctx, band)], "gains", "Gains against time"
    )
    page.section("Short phases", "short-phases", level="detail")
    grids: list[solutions.GridPicture] = []
    single: list[solutions.AntennaPicture] = []
    for band in result.bands:
        found = solutions.windows(ctx, band.short_phase.path, band.spws)
        pictures = list(
            solutions.against_time(
                _ms(ctx, band), band.band, found, band.correlations, "short phases", phase_only=True
            )
        )
        grids += solutions.grids(pictures, phase=True)
        jumping = {j.antenna for j in band.jumps}
        single += [p for p in pictures if p.antenna in jumping]
    solutions.add_grids(page, grids, "shortphases", "Short phases against time")
    solutions.add_antennas(page, single, "jumps", "Antennas whose phase jumps")


# ---- parts ---------------------------------------------------------------------------------------------------------


def _ms(ctx: Any, band: BandSolutions) -> Any:
    return ctx.context.measurement_set(band.vis)


def _final_gains(ctx: Any, band: FinalBand) -> list[solutions.AntennaPicture]:
    ms = _ms(ctx, band)
    found = solutions.together(
        solutions.windows(ctx, band.amplitude.path, band.spws), solutions.windows(ctx, band.phase.path, band.spws)
    )
    items = list(solutions.against_time(ms, band.band, found, band.correlations, "final gains"))
    spws = SpwNames(ctx.context)
    for line in band.line_spws:
        if line in found and len(found) > 1:
            name = spws(band.vis, [line])[0]
            items += solutions.against_time(ms, band.band, {line: found[line]}, band.correlations, "final gains", name)
    return items


def _summary(page: Any, ctx: Any, bands: Sequence[BandSolutions], failures: Sequence[Any]) -> None:
    page.section("Summary", "summary")
    for failure in failures:
        page.note(f"{failure.item} could not be calibrated: {failure.reason}", "error")
    page.table(
        [
            "Measurement set", "Band", "Reference antenna", "Delays flagged", "Largest delay", "Median delay",
            "Gain interval", "Bandpass flagged", "Lowest bandpass SNR", "Channels averaged",
        ],
        [
            [
                b.vis, b.band, b.refant, 100 * b.delay.flagged, b.delay.largest_ns, b.delay.median_ns, b.gain_solint,
                100 * b.bandpass.flagged, min(b.bandpass.snr.values(), default=float("nan")),
                max(b.bandpass.channels.values(), default=1),
            ]
            for b in bands
        ],
        caption="Flagged: part of the solutions, median over the antennas.",
        units={"Delays flagged": "%", "Largest delay": "ns", "Median delay": "ns", "Bandpass flagged": "%"},
        formats={
            "Delays flagged": ".1f", "Largest delay": ".2f", "Median delay": ".2f", "Bandpass flagged": ".1f",
            "Lowest bandpass SNR": ".0f",
        },
    )  # fmt: skip


def _deformatters(page: Any, ctx: Any, result: TestBPdcalsResult) -> None:
    page.section("Bad deformatters", "deformatters")
    spws = SpwNames(ctx.context)
    for kind, column in (("amplitude", "Smallest / largest amplitude"), ("phase", "Range of phase")):
        rows = [
            [
                b.vis, i.antenna, b.band, i.baseband, ", ".join(spws(b.vis, i.spws)), ", ".join(i.correlations),
                i.value, "yes" if b.applied else "no",
            ]
            for b in result.bands
            for i in b.bad
            if i.kind == kind
        ]  # fmt: skip
        if rows:
            page.table(
                ["Measurement set", "Antenna", "Band", "Baseband", "Spws", "Correlations", column, "Flagged"], rows,
                caption=f"Bandpass {kind}s of bad deformatters (or interference).",
                units={column: "deg"} if kind == "phase" else None,
                formats={column: ".2f" if kind == "amplitude" else ".0f"},
            )  # fmt: skip
        else:
            page.text(f"No baseband is bad by the {kind} of its bandpass.")
    rejected = [(b, r) for b in result.bands for r in b.rejected]
    for band, name in rejected:
        page.note(
            f"{band.vis}, {band.band} band: with {name} as reference half of the antennas looked bad; it is not used as"
            " reference in the rest of this run.", "warning",
        )  # fmt: skip
    lonely = [
        [b.vis, w.antenna, b.band, w.baseband, spws(b.vis, [w.spw])[0], w.kind, ", ".join(w.correlations), w.value]
        for b in result.bands
        for w in b.windows
    ]
    if lonely:
        page.table(
            ["Measurement set", "Antenna", "Band", "Baseband", "Spw", "Test", "Correlations", "Value"], lonely,
            caption="Every window that fails a test; fewer than four in a baseband are not flagged by default.",
            filters=("antenna", "spw"), formats={"Value": ".2f"},
        )  # fmt: skip


def _avoided(page: Any, ctx: Any, result: TestBPdcalsResult) -> None:
    spws = SpwNames(ctx.context)
    for band in result.bands:
        for spw, channels in band.avoided.items():
            page.note(
                f"{band.vis}, {band.band} band: channels {', '.join(map(str, channels))} of spw"
                f" {spws(band.vis, [spw])[0]} are bright with interference; delays and gains were solved without them."
            )


def _calibrated(page: Any, ctx: Any, bands: Sequence[BandSolutions], purpose: str) -> None:
    page.section("Calibrated data", "calibrated")
    spws = SpwNames(ctx.context)
    items: list[solutions.CalibratedPicture] = []
    for band in bands:
        ms = _ms(ctx, band)
        chosen = calibrators.selection(ms).band(band.band)
        fields, scans = getattr(chosen, f"{purpose}_fields"), getattr(chosen, f"{purpose}_scans")
        wide = [s for s in band.spws if s not in band.line_spws] or list(band.spws)
        items += solutions.calibrated(ctx, ms, band.band, fields, wide, scans)
        for line in band.line_spws:
            if line not in wide:
                items += solutions.calibrated(
                    ctx, ms, band.band, fields, [line], scans, spws(band.vis, [line])[0]
                )
    page.data_read()
    solutions.add_calibrated(page, items)


def _ladder(page: Any, ctx: Any, bands: Sequence[BandSolutions]) -> None:
    """Delays and bandpass."""
    spws = SpwNames(ctx.context)
    page.section("Delays", "delays")
    solutions.add_delays(
        page,
        [
            solutions.delays(
                _ms(ctx, b), b.band, solutions.windows(ctx, b.delay.table.path, b.spws), b.correlations
            )
            for b in bands
        ],
    )
    page.section("Bandpass", "bandpass")
    items: list[solutions.AntennaPicture] = []
    for band in bands:
        ms = _ms(ctx, band)
        found = solutions.windows(ctx, band.bandpass.table.path, band.spws)
        items += solutions.against_frequency(ms, band.band, found, band.correlations, "bandpass")
        for line in band.line_spws:
            if line in found and len(found) > 1:
                items += solutions.against_frequency(
                    ms, band.band, {line: found[line]}, band.correlations, "bandpass", spws(band.vis, [line])[0]
                )
    solutions.add_antennas(page, items, "bandpass", "Bandpass")
    page.section("Flagged solutions", "flagged", level="detail")
    rows = []
    for band in bands:
        table = band.bandpass.table
        for antenna in dict.fromkeys(s.antenna for s in table.stats):
            mine = [s for s in table.stats if s.antenna == antenna]
            lost = sorted({s.spw for s in mine if s.flagged >= s.solutions})
            part = sum(s.flagged for s in mine) / max(sum(s.solutions for s in mine), 1)
            snr = sorted(s.snr for s in mine)[len(mine) // 2]
            rows.append([band.vis, band.band, antenna, 100 * part, ", ".join(spws(band.vis, lost)) or "none", snr])
    page.table(
        ["Measurement set", "Band", "Antenna", "Flagged", "Spws without solution", "Median SNR"], rows,
        caption="Bandpass solutions by antenna; edges of windows left out.", filters=("antenna", "band"),
        units={"Flagged": "%"}, formats={"Flagged": ".1f", "Median SNR": ".0f"},
    )  # fmt: skip
    total = {b.band: flagged_median(b.bandpass.table) for b in bands}
    page.facts({f"Median flagged, {name} band": f"{100 * value:.1f} %" for name, value in total.items()})
