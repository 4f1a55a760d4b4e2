"""Delays and bandpass again, on cleaner data, and applied to all calibrators so that they can be searched too."""

from __future__ import annotations

import attrs

from pl_hif import solve
from pl_hifv import calibrators, solves
from pl_hifv.calibrators import BandSelection, BandState, MsState
from pl_hifv.solves import BandSolutions
from pl_hifv.stages.testbpdcals import failed, need_calibrators, need_one
from pl_kernel import Inputs, PlError, Result, Stage, param
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.stage import ItemFailure
from pl_kernel.stage_context import StageContext


class SemiFinalBPdcalsInputs(Inputs):
    weakbp: bool = param(
        False, doc="Accepted for old recipes; noisy bandpasses are averaged wherever it is needed.", hidden=True
    )
    refantignore: tuple[str, ...] = param((), doc="Antennas that must not become reference.")
    refant: tuple[str, ...] = param((), doc="Antennas to use as reference, in this order; replaces the ranking.")


class SemiFinalBPdcalsResult(Result):
    """The second calibration of every measurement set and band; ``applied`` are the tables applied, by band."""

    bands: tuple[BandSolutions, ...]
    antennas: dict[str, tuple[str, ...]]
    refants: dict[str, tuple[str, ...]]
    applied: dict[str, tuple[str, ...]] = attrs.field(factory=dict)


class SemiFinalBPdcals(Stage[SemiFinalBPdcalsInputs, SemiFinalBPdcalsResult]):
    """Delays and bandpass again, on cleaner data, applied to all calibrators.

    For every band: phases and delays of the delay calibrator, phases of the bandpass calibrator in the interval found
    by hifv_testBPdcals, bandpass. Delays and bandpass are written into the corrected column of all calibrator scans,
    so that interference can be searched in them; the tables are of passage.

    Antennas that hifv_testBPdcals found unfit do not become reference. When too many delays fail, the next
    reference antenna is tried; the reference pipeline repeats the solve with the same list. A band without
    solutions fails visibly.
    """

    name = "hifv_semiFinalBPdcals"
    topic = "calibration"
    each_set = True
    mutates = frozenset({"flags", "corrected"})

    def check(self, ctx: StageContext, inputs: SemiFinalBPdcalsInputs) -> None:
        for ms in ctx.measurement_sets(inputs.vis):
            need_calibrators(ms)

    def run(self, ctx: StageContext, inputs: SemiFinalBPdcalsInputs) -> SemiFinalBPdcalsResult:
        ctx = solves.before_final(ctx)
        bands: list[BandSolutions] = []
        failures: list[ItemFailure] = []
        antennas: dict[str, tuple[str, ...]] = {}
        refants: dict[str, tuple[str, ...]] = {}
        applied: dict[str, tuple[str, ...]] = {}
        for ms in ctx.measurement_sets(inputs.vis):
            chosen, state = calibrators.selection(ms), calibrators.state_of(ctx, ms)
            antennas[ms.name] = ms.antenna_names
            refants[ms.name] = solves.ranked_refants(
                ctx, ms, chosen.calibrator_fields, inputs.refant, (*inputs.refantignore, *state.ignored_refants)
            )
            for number, band in enumerate(chosen.bands, 1):
                ctx.progress(number - 1, len(chosen.bands), f"{ms.name}, {band.band} band")
                try:
                    found, after = self._band(ctx, ms, band, state, refants[ms.name])
                except PlError as error:
                    failures.append(failed(ctx, ms, band, error))
                    continue
                bands.append(found)
                applied[f"{ms.name} {band.band}"] = solves.apply(
                    after, ms, band.spws, band.calibrator_fields, band.calibrator_scans, flagbackup=True
                )
        need_one(bands, failures)
        return SemiFinalBPdcalsResult(
            bands=tuple(bands), antennas=antennas, refants=refants, applied=applied, failures=tuple(failures)
        )

    def _band(
        self, ctx: StageContext, ms: MeasurementSet, band: BandSelection, state: MsState, refants: tuple[str, ...]
    ) -> tuple[BandSolutions, StageContext]:
        known: BandState = state.band(band.band)
        delay = solves.delays(
            ctx, ms, band, refants,
            (ctx.path(ms, "1_semiFinaldelayinitialgain", band.band), ctx.path(ms, "2_delay", band.band)),
        )  # fmt: skip
        solve.require(delay.table, f"the delays of {band.band} band")
        with_delay = solves.preapplying(ctx, ms, delay.table)
        gain = solves.gains(
            with_delay, ms, ctx.path(ms, "3_BPinitialgain", band.band), band.bandpass_fields, band.bandpass_scans,
            refants=delay.refants, calmode="p", solint=known.gain_solint, minsnr=3.0,
            spw=solve.central_spws(ms, band.spws),
        )  # fmt: skip
        solve.require(gain, f"the phases of the bandpass calibrator in {band.band} band")
        bandpass = solves.bandpass(
            solves.preapplying(with_delay, ms, gain), ms, band, delay.refants, ctx.path(ms, "4_BPcal", band.band)
        )
        solve.require(bandpass.table, f"the bandpass of {band.band} band")
        found = BandSolutions(
            vis=ms.name, band=band.band, spws=band.spws, basebands=band.basebands, refant=delay.refants[0],
            correlations=solves.correlations(ms, band.spws), line_spws=solves.line_windows(ctx, ms, band.spws),
            delay=delay, gain=gain, gain_solint=known.gain_solint, bandpass=bandpass,
        )  # fmt: skip
        # The phases are not applied: they belong to the bandpass calibrator alone.
        return found, solves.preapplying(with_delay, ms, bandpass.table)
