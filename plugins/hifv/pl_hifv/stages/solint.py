"""Choose the solution intervals: a short one that follows the atmosphere, a long one of about a scan."""

from __future__ import annotations

import math

import attrs

from pl_hif.solve import Caltable
from pl_hifv import calibrators, copies, solves
from pl_hifv.calibrators import BandSelection, BandState, MsState
from pl_hifv.heuristics.solint import (
    LADDER,
    Choice,
    LongInterval,
    ShortInterval,
    Trial,
    climb,
    long_interval,
    merged,
    short_interval,
    spelled,
    too_close,
)
from pl_hifv.stages.testbpdcals import failed, need_calibrators, need_one
from pl_kernel import InputError, Inputs, PlError, Result, Stage, param
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.stage import ItemFailure
from pl_kernel.stage_context import StageContext


class SolintInputs(Inputs):
    limit_short_solint: str = param("", doc="Use this short interval instead: seconds, 'int', or 'inf' (one per scan).")
    refantignore: tuple[str, ...] = param((), doc="Antennas that must not become reference.")
    refant: tuple[str, ...] = param((), doc="Antennas to use as reference, in this order; replaces the ranking.")


@attrs.frozen(kw_only=True)
class BandIntervals:
    """The intervals of one band and how they were found.

    ``scan_s`` is the median length of a calibrator scan, consecutive ones joined as the long interval joins them;
    ``missing_scans`` are scans of the phase calibrator that are flagged altogether, of ``phase_scans``.
    """

    vis: str
    band: str
    integration_s: float
    long: LongInterval
    short: ShortInterval
    choice: Choice
    scan_s: float
    table: Caltable
    missing_scans: tuple[int, ...] = attrs.field(default=(), converter=tuple)
    phase_scans: int = 0

    @property
    def close(self) -> bool:
        """Whether the two intervals differ by no more than the longest that was tried."""
        return too_close(self.short.seconds, self.long.seconds, self.choice)


class SolintResult(Result):
    """Intervals per measurement set and band, and the copies of the calibrators that were made for them."""

    bands: tuple[BandIntervals, ...]
    copies: dict[str, str]


class Solint(Stage[SolintInputs, SolintResult]):
    """Choose the short and the long solution interval of every band.

    The corrected data of all calibrators are split off. The long interval covers the longest scan of the phase
    calibrator (consecutive scans joined below 1000 s, outliers of three standard deviations left out), stretched by
    1 %, in whole integrations. The short interval is the shortest of one, three and ten integrations, or one per
    scan, that leaves at most 5 % of the gains flagged, and not shorter than that of hifv_testBPdcals.

    limit_short_solint replaces the short interval: never below an integration or above the long interval. Limits are
    the reference pipeline's (2026); there the second trial reads the first one's flags and can never win,
    integrations that are no divisors of whole seconds miss the long interval, and a band whose solves fail is dropped
    with a warning, which leaves later stages without an interval. Here that band fails visibly.
    """

    name = "hifv_solint"
    page_reads = frozenset()
    topic = "calibration"
    each_set = True

    def check(self, ctx: StageContext, inputs: SolintInputs) -> None:
        try:
            short_interval(1.0, 1.0, 2.0, inputs.limit_short_solint)
        except ValueError:
            raise InputError(
                f"limit_short_solint is a number of seconds, 'int' or 'inf'; got '{inputs.limit_short_solint}'."
            ) from None
        for ms in ctx.measurement_sets(inputs.vis):
            need_calibrators(ms)
            if "CORRECTED_DATA" not in ms.columns and not copies.has_corrected(ctx, ms):
                raise PlError(
                    f"{ms.name} has no corrected data to find solution intervals on: run hifv_testBPdcals or"
                    " hifv_semiFinalBPdcals first."
                )

    def run(self, ctx: StageContext, inputs: SolintInputs) -> SolintResult:
        bands: list[BandIntervals] = []
        made: dict[str, str] = {}
        changed: list[MsState] = []
        failures: list[ItemFailure] = []
        for ms in ctx.measurement_sets(inputs.vis):
            chosen, state = calibrators.selection(ms), calibrators.state_of(ctx, ms)
            made[ms.name] = ctx.path(ms, "calibrators", ext="ms")
            copy = copies.split_corrected(ctx, ms, chosen, made[ms.name])
            refants = solves.ranked_refants(
                ctx, ms, chosen.calibrator_fields, inputs.refant, (*inputs.refantignore, *state.ignored_refants)
            )
            for band in chosen.bands:
                try:
                    found = self._band(ctx, ms, copy, band, state.band(band.band), refants, inputs.limit_short_solint)
                except PlError as error:
                    failures.append(failed(ctx, ms, band, error))
                    continue
                bands.append(found)
                state = state.with_band(_remembered(state.band(band.band), found))
            changed.append(attrs.evolve(state, calibrators_path=made[ms.name]))
        need_one(bands, failures)
        return SolintResult(
            bands=tuple(bands), copies=made, failures=tuple(failures), effects=(calibrators.remember(ctx, changed),)
        )

    def _band(
        self, ctx: StageContext, ms: MeasurementSet, copy: MeasurementSet, band: BandSelection, known: BandState,
        refants: tuple[str, ...], limit: str,
    ) -> BandIntervals:  # fmt: skip
        if band.missing:
            raise PlError(band.missing)
        present = copies.scans_with_data(ctx, copy)
        wanted = band.phase_scans or band.calibrator_scans
        kept = [s for s in wanted if s in present]
        gone = tuple(s for s in wanted if s not in present)
        if gone:
            ctx.log.warning(f"{ms.name}, {band.band} band: scans {', '.join(map(str, gone))} are flagged altogether.")
        if not kept:
            raise PlError("all scans of its calibrators are flagged")
        long = long_interval(calibrators.scan_times(ms, kept, band.spws), band.integration_s)
        choice, table = self._short(ctx, copy, band, refants, long)
        needed = max(choice.trial.seconds, known.gain_s)
        short = short_interval(needed, band.integration_s, long.seconds, limit)
        if not short.limited and choice.trial.integrations == 0:
            short = attrs.evolve(short, solint="inf", combine_scans=False, seconds=long.seconds, reason=choice.reason)
        if short.limited:
            path = ctx.path(ms, "1_testgaincal", "limit", band.band)
            table = self._solve(ctx, copy, band, refants, path, short.solint, short.combine_scans)
            ctx.log.warning(
                f"{ms.name}, {band.band} band: the short interval is {short.reason};"
                f" {100 * solves.flagged_median(table):.1f} % of its solutions are flagged."
            )
        if short.seconds >= long.seconds:
            ctx.log.warning(f"{ms.name}, {band.band} band: the short interval is as long as the long one.")
        elif too_close(short.seconds, long.seconds, choice):
            ctx.log.warning(
                f"{ms.name}, {band.band} band: the short interval, {short.seconds:g} s, is nearly as long as the long"
                f" one, {long.seconds:g} s."
            )
        lengths = sorted(s.duration_s for s in merged(calibrators.scan_times(ms, band.calibrator_scans, band.spws)))
        return BandIntervals(
            vis=ms.name, band=band.band, integration_s=band.integration_s, long=long, short=short, choice=choice,
            scan_s=lengths[len(lengths) // 2], table=table, missing_scans=gone,
            phase_scans=len(wanted),
        )  # fmt: skip

    def _short(
        self, ctx: StageContext, copy: MeasurementSet, band: BandSelection, refants: tuple[str, ...], long: LongInterval
    ) -> tuple[Choice, Caltable]:
        tables: dict[str, Caltable] = {}

        def trial(integrations: int) -> Trial:
            seconds = integrations * band.integration_s if integrations else long.seconds
            solint = spelled(seconds, band.integration_s) if integrations else "inf"
            name = {0: "scan", 1: ""}.get(integrations, str(integrations))
            path = ctx.path(copy.name, "1_testgaincal", name, band.band)
            table = self._solve(ctx, copy, band, refants, path, solint, combined=integrations > 0)
            tables[path] = table
            return Trial(
                integrations=integrations, seconds=seconds, solint=solint, flagged=solves.flagged_median(table),
                snr=_median_snr(table), table=path,
            )  # fmt: skip

        # An interval longer than a scan would join scans without need.
        steps = [n for n in LADDER if n == 1 or n * band.integration_s < long.seconds]
        choice = climb(trial, (*steps, 0))
        if math.isclose(choice.trial.flagged, 1.0):
            raise PlError("no interval gives a solution on the calibrators: they may be flagged, or too weak")
        if choice.poor:
            ctx.log.warning(f"{copy.name}, {band.band} band: {choice.reason}.")
        return choice, tables[choice.trial.table]

    def _solve(
        self, ctx: StageContext, copy: MeasurementSet, band: BandSelection, refants: tuple[str, ...], path: str,
        solint: str, combined: bool,
    ) -> Caltable:  # fmt: skip
        return solves.of_spws(
            solves.gains(
                solves.without_calibration(ctx, copy), copy, path, band.calibrator_fields, band.calibrator_scans,
                refants=refants, calmode="ap", solint=solint, minsnr=5.0, spw=band.spw,
                combine="scan" if combined else "",
            ),
            band.spws,
        )  # fmt: skip


def _median_snr(table: Caltable) -> float:
    values = sorted(s.snr for s in table.stats if s.flagged < s.solutions)
    return values[len(values) // 2] if values else 0.0


def _remembered(state: BandState, found: BandIntervals) -> BandState:
    return attrs.evolve(
        state, short_s=found.short.seconds, short_solint=found.short.solint, combine_short=found.short.combine_scans,
        long_s=found.long.seconds, long_solint=f"{found.long.seconds:.6g}s",
    )  # fmt: skip
