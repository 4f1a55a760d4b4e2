"""Make the final calibration tables and register them for all data."""

from __future__ import annotations

import glob
from pathlib import Path

import attrs
import numpy as np

from pl_hif import solve
from pl_hif.solve import Caltable
from pl_hif.stages.refant import KEY as REFANT_KEY
from pl_hifv import calibrators, copies, models, solves
from pl_hifv.calibrators import BandSelection, MsState, Selection
from pl_hifv.heuristics.jumps import PhaseJump, phase_jumps
from pl_hifv.models import UnitModel
from pl_hifv.solves import BandSolutions
from pl_hifv.stages.testbpdcals import failed, need_calibrators
from pl_kernel import Inputs, PlError, Result, Stage, param
from pl_kernel.calibration import CalApplication, CalFrom, CalTo
from pl_kernel.effects import Effect, RegisterCalibration, SetValue, UnregisterCalibration
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.stage import ItemFailure
from pl_kernel.stage_context import StageContext

TABLES_KEY = "hifv.finaltables"
"""Value of the run: measurement set → kind (delay, bandpass, average_phase, short_phase, amplitude, phase) → table."""
REGISTERED = (
    ("delay", "linear"), ("bandpass", solves.BANDPASS_INTERP), ("average_phase", "linear"), ("amplitude", "linear"),
    ("phase", "linear"),
)  # fmt: skip
"""Tables that are applied to the data, in this order, and how CASA interpolates them."""


class FinalcalsInputs(Inputs):
    weakbp: bool = param(
        False, doc="Accepted for old recipes; noisy bandpasses are averaged wherever it is needed.", hidden=True
    )
    refantignore: tuple[str, ...] = param((), doc="Antennas that must not become reference.")
    refant: tuple[str, ...] = param((), doc="Antennas to use as reference, in this order; replaces the ranking.")
    use_flux_cal: bool = param(
        True, doc="Use the flux scale; False normalises all gains, for data without flux calibrator."
    )


@attrs.frozen(kw_only=True)
class FinalBand(BandSolutions):
    """The ladder of a band with its gains against time; ``jumps`` are steps of phase inside a scan.

    ``average_phase`` leads from the bandpass to the gains; ``short_phase`` serves the amplitudes and is not applied.
    """

    average_phase: Caltable
    short_phase: Caltable
    amplitude: Caltable
    phase: Caltable
    jumps: tuple[PhaseJump, ...] = attrs.field(default=(), converter=tuple)


class FinalcalsResult(Result):
    """The final tables: per band, and by kind for each measurement set. ``unit``: calibrators with a 1 Jy model."""

    bands: tuple[FinalBand, ...]
    antennas: dict[str, tuple[str, ...]]
    refants: dict[str, tuple[str, ...]]
    tables: dict[str, dict[str, str]]
    normalised: bool = False
    unit: tuple[UnitModel, ...] = ()


class Finalcals(Stage[FinalcalsInputs, FinalcalsResult]):
    """Make the final calibration tables of the VLA and register them for all data.

    Delays, bandpass and an average phase are solved once more; with them applied, all calibrators are split off and
    get their models. On this copy phases follow in the short interval, amplitudes in the long one with the short
    phases applied, and phases in the long interval with the amplitudes applied. Delays, bandpass, average phase,
    amplitudes and long phases are registered for the whole measurement set, in this order; the bandpass with
    interpolation linear,linearflag. All bands share one table of each kind.

    The average phase is unflagged, so that it never takes data away. With use_flux_cal=False the bandpass and, field by
    field, the amplitudes are normalised (median). In data with polarization calibrators the reference antenna stays
    strictly the same.

    Solves and limits are the reference pipeline's (2026). Different here: the copy is corrected with the same
    interpolation of the bandpass as the data later; a calibrator without a model and a band without solutions are
    failures that the score shows; one table that is missing altogether ends the stage, because registering the
    others would calibrate wrongly.
    """

    name = solves.FINAL
    page_reads = frozenset()
    topic = "calibration"
    each_set = True
    mutates = frozenset({"flags", "corrected"})

    def check(self, ctx: StageContext, inputs: FinalcalsInputs) -> None:
        for ms in ctx.measurement_sets(inputs.vis):
            need_calibrators(ms)

    def run(self, ctx: StageContext, inputs: FinalcalsInputs) -> FinalcalsResult:
        ctx = solves.before_final(ctx)
        bands: list[FinalBand] = []
        failures: list[ItemFailure] = []
        effects: list[Effect] = []
        unit: list[UnitModel] = []
        antennas: dict[str, tuple[str, ...]] = {}
        refants: dict[str, tuple[str, ...]] = {}
        tables: dict[str, dict[str, str]] = {}
        for ms in ctx.measurement_sets(inputs.vis):
            chosen, state = calibrators.selection(ms), calibrators.state_of(ctx, ms)
            antennas[ms.name] = ms.antenna_names
            refants[ms.name] = solves.ranked_refants(
                ctx, ms, chosen.calibrator_fields, inputs.refant, (*inputs.refantignore, *state.ignored_refants)
            )
            paths = _paths(ctx, ms)
            for path in paths.values():
                ctx.files.rmtree(path)
            first, after = self._first(ctx, ms, chosen, state, refants[ms.name], paths, inputs, failures)
            for found in first:
                band = chosen.band(found.band)
                solves.apply(
                    after[found.band], ms, band.spws, band.calibrator_fields, band.calibrator_scans, flagbackup=True
                )
            copy = copies.split_corrected(ctx, ms, chosen, ctx.path(ms, "finalcalibrators", ext="ms"))
            if inputs.use_flux_cal:
                unit += self._models(ctx, copy, chosen, state)
            for number, found in enumerate(first):
                band = chosen.band(found.band)
                ctx.progress(number, len(first), f"{ms.name}, {band.band} band")
                try:
                    bands.append(self._gains(ctx, copy, band, state, found, refants[ms.name], paths, inputs))
                except PlError as error:
                    failures.append(failed(ctx, ms, band, error))
            effects += [UnregisterCalibration(_earlier(ctx, ms)), *_registrations(ms, paths)]
            tables[ms.name] = paths
        known = dict(ctx.value(REFANT_KEY, {}))
        known.update({name: list(order) for name, order in refants.items()})
        effects += [SetValue(TABLES_KEY, {**ctx.value(TABLES_KEY, {}), **tables}), SetValue(REFANT_KEY, known)]
        return FinalcalsResult(
            bands=tuple(bands), antennas=antennas, refants=refants, tables=tables, normalised=not inputs.use_flux_cal,
            unit=tuple(unit), failures=tuple(failures), effects=tuple(effects),
        )  # fmt: skip

    def _first(
        self, ctx: StageContext, ms: MeasurementSet, chosen: Selection, state: MsState, refants: tuple[str, ...],
        paths: dict[str, str], inputs: FinalcalsInputs, failures: list[ItemFailure],
    ) -> tuple[list[BandSolutions], dict[str, StageContext]]:  # fmt: skip
        """Delays, bandpass and average phase of every band, appended to common tables."""
        first: list[BandSolutions] = []
        after: dict[str, StageContext] = {}
        for number, band in enumerate(chosen.bands):
            ctx.progress(number, len(chosen.bands), f"{ms.name}, {band.band} band")
            try:
                if band.missing:
                    raise PlError(band.missing)
                found, inner = self._ladder(ctx, ms, band, state, refants, paths, inputs, append=number > 0)
            except PlError as error:
                failures.append(failed(ctx, ms, band, error))
                continue
            first.append(found)
            after[band.band] = inner
        if not first:
            raise PlError(f"No band of {ms.name} could be calibrated: {failures[-1].reason}")
        return first, after

    def _ladder(
        self, ctx: StageContext, ms: MeasurementSet, band: BandSelection, state: MsState, refants: tuple[str, ...],
        paths: dict[str, str], inputs: FinalcalsInputs, append: bool,
    ) -> tuple[BandSolutions, StageContext]:  # fmt: skip
        known = state.band(band.band)
        delay = solves.delays(
            ctx, ms, band, refants, (paths["delay_phase"], paths["delay"]), append=append, attempts=1
        )
        solve.require(delay.table, f"the delays of {band.band} band")
        with_delay = solves.preapplying(ctx, ms, delay.table)
        gain = solves.gains(
            with_delay, ms, paths["bandpass_phase"], band.bandpass_fields, band.bandpass_scans, refants=refants,
            calmode="p", solint=known.gain_solint, minsnr=3.0, spw=solve.central_spws(ms, band.spws), append=append,
        )  # fmt: skip
        gain = solves.of_spws(gain, band.spws)
        solve.require(gain, f"the phases of the bandpass calibrator in {band.band} band")
        bandpass = solves.bandpass(
            solves.preapplying(with_delay, ms, gain), ms, band, refants, paths["bandpass"],
            solnorm=not inputs.use_flux_cal, append=append,
        )  # fmt: skip
        solve.require(bandpass.table, f"the bandpass of {band.band} band")
        with_bandpass = solves.preapplying(with_delay, ms, bandpass.table)
        average = solves.gains(
            with_bandpass, ms, paths["average_phase"], band.bandpass_fields, band.bandpass_scans, refants=refants,
            calmode="p", solint="inf", minsnr=1.0, spw=band.spw, append=append, refantmode=_refantmode(ms),
        )  # fmt: skip
        solve.require(solves.of_spws(average, band.spws), f"the average phase of {band.band} band")
        ctx.casa.flagdata(vis=average.path, mode="unflag", action="apply", flagbackup=False, savepars=False)
        found = BandSolutions(
            vis=ms.name, band=band.band, spws=band.spws, basebands=band.basebands, refant=refants[0],
            correlations=solves.correlations(ms, band.spws), line_spws=solves.line_windows(ctx, ms, band.spws),
            delay=delay, gain=gain, gain_solint=known.gain_solint, bandpass=bandpass,
        )  # fmt: skip
        return found, solves.preapplying(with_bandpass, ms, average)

    def _models(
        self, ctx: StageContext, copy: MeasurementSet, chosen: Selection, state: MsState
    ) -> list[UnitModel]:
        models.set_standards(ctx, copy)
        models.set_spectra(ctx, copy, state.spectra)
        unset = models.unit_models(ctx, copy, chosen)
        for model in unset:
            ctx.log.warning(f"{copy.name}: {model.field} has no model; its flux density is taken as 1 Jy.")
        return unset

    def _gains(
        self, ctx: StageContext, copy: MeasurementSet, band: BandSelection, state: MsState, found: BandSolutions,
        refants: tuple[str, ...], paths: dict[str, str], inputs: FinalcalsInputs,
    ) -> FinalBand:  # fmt: skip
        """Short phases, amplitudes and long phases of all calibrators of a band."""
        known = state.band(band.band)
        if not known.short_solint or not known.long_solint:
            raise PlError(f"hifv_solint found no solution intervals for {band.band} band of {copy.name}")
        bare = solves.without_calibration(ctx, copy)
        present = copies.fields_with_data(ctx, copy)
        fields = [f for f in band.calibrator_fields if f in present]

        def one(inner: StageContext, kind: str, which: list[int], **how: object) -> Caltable:
            # Bands share a table; run() removed it before the first.
            table = solves.gains(
                inner, copy, paths[kind], which, band.calibrator_scans, refants=refants, spw=band.spw, append=True,
                **how,
            )  # fmt: skip
            return solves.of_spws(table, band.spws)

        short = one(
            bare, "short_phase", fields, calmode="p", solint=known.short_solint, minsnr=3.0,
            combine="scan" if known.combine_short else "", refantmode=_refantmode(copy),
        )  # fmt: skip
        solve.require(short, f"the short phases of {band.band} band")
        with_short = solves.preapplying(bare, copy, short)
        how = {"calmode": "ap", "solint": known.long_solint, "minsnr": 5.0}
        if inputs.use_flux_cal:
            amplitude = one(with_short, "amplitude", fields, **how)
        else:
            # One solve per field: the norm is taken over all solutions of a solve, and fields differ in flux density.
            for field in fields:
                amplitude = one(with_short, "amplitude", [field], **how, solnorm=True, normtype="median")
        solve.require(amplitude, f"the amplitudes of {band.band} band")
        phase = one(
            solves.preapplying(bare, copy, amplitude), "phase", fields, calmode="p", solint=known.long_solint,
            minsnr=3.0, refantmode=_refantmode(copy),
        )  # fmt: skip
        solve.require(phase, f"the phases of {band.band} band")
        own = {a.name: getattr(found, a.name) for a in attrs.fields(BandSolutions)}
        return FinalBand(
            **own, average_phase=Caltable(
                vis=copy.name, path=paths["average_phase"], kind="phase", rows=1, solint="inf",
            ),
            short_phase=short, amplitude=amplitude, phase=phase, jumps=_jumps(ctx, copy, band, short),
        )  # fmt: skip


def _paths(ctx: StageContext, ms: MeasurementSet) -> dict[str, str]:
    names = {
        "delay_phase": "1_finaldelayinitialgain", "delay": "2_finaldelay", "bandpass_phase": "3_finalBPinitialgain",
        "bandpass": "4_finalBPcal", "average_phase": "5_averagephasegain", "short_phase": "6_phaseshortgaincal",
        "amplitude": "7_finalampgaincal", "phase": "8_finalphasegaincal",
    }  # fmt: skip
    return {kind: ctx.path(ms, name) for kind, name in names.items()}


def _earlier(ctx: StageContext, ms: MeasurementSet) -> str:
    """Names of the tables that an earlier run of this stage may have registered, as a pattern."""
    return f"{glob.escape(ctx.path(ms, ext='').split(f'.s{ctx.stage_number}')[0])}.s*"


def _refantmode(ms: MeasurementSet) -> str:
    """Strict with polarization calibrators, which need one reference for all times; else CASA may bridge gaps."""
    return "strict" if any(i.startswith("POL") for i in ms.intents) else "flex"


def _registrations(ms: MeasurementSet, paths: dict[str, str]) -> list[Effect]:
    missing = [kind for kind, _ in REGISTERED if not Path(paths[kind]).is_dir()]
    if missing:
        raise PlError(
            f"The calibration of {ms.name} is incomplete: no table of {', '.join(missing)} could be made, and the"
            " others alone would calibrate wrongly. Look at the flags and scores of the stages before."
        )
    return [
        RegisterCalibration(
            CalApplication(
                CalTo(vis=ms.name),
                (CalFrom(gaintable=paths[kind], interp=interp, calwt=False, caltype="finalcal"),),
                origin=Finalcals.name,
            )
        )
        for kind, interp in REGISTERED
    ]


def _jumps(ctx: StageContext, ms: MeasurementSet, band: BandSelection, table: Caltable) -> list[PhaseJump]:
    """Steps in the short phases of any antenna, window by window."""
    found: list[PhaseJump] = []
    for spw in band.spws:
        solutions = solve.read_solutions(ctx, table.path, spw)
        for antenna in ms.antennas:
            for pol in range(solutions.gain.shape[0]):
                rows = np.flatnonzero((solutions.antenna == antenna.id) & ~solutions.flag[pol, 0])
                found += phase_jumps(
                    antenna.name, spw, pol, solutions.time_s[rows], solutions.scan[rows],
                    np.angle(solutions.gain[pol, 0, rows]), solutions.snr[pol, 0, rows],
                )  # fmt: skip
    return found
