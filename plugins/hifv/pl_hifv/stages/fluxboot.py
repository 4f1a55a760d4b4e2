"""Derive the flux densities and spectra of the secondary calibrators."""

from __future__ import annotations

import math
from pathlib import Path

import attrs
import numpy as np

from pl_hif import flags, solve
from pl_hif.flags import FlagCounts
from pl_hif.heuristics.flux import fit_order
from pl_hif.heuristics.solint import inner_channels
from pl_hif.solve import Caltable, Solutions
from pl_hifv import calibrators, copies, models, solves
from pl_hifv.calibrators import BandSelection, BandState, FieldSpectrum, MsState, Selection
from pl_hifv.heuristics.fluxboot import SUSPICIOUS_INDEX, SpectralFit, fit_spectrum, fractional_residuals
from pl_hifv.heuristics.fluxratios import flux_ratios
from pl_hifv.models import UnitModel
from pl_hifv.outliers import FlaggedGain, flag_commands, outlying_gains
from pl_hifv.stages.testbpdcals import failed
from pl_kernel import Inputs, PlError, Result, Stage, param
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.stage import ItemFailure
from pl_kernel.stage_context import StageContext


class FluxbootInputs(Inputs):
    caltable: str | None = param(None, doc="Table of amplitudes to take flux densities from, instead of solving.")
    fitorder: int = param(
        -1, doc="Order of the fit of log S against log ν; -1 lets the bands decide.", minimum=-1, maximum=4
    )
    refantignore: tuple[str, ...] = param((), doc="Antennas that must not become reference.")
    refant: tuple[str, ...] = param((), doc="Antennas to use as reference, in this order; replaces the ranking.")
    use_flux_cal: bool = param(
        True, doc="Derive flux densities; False for data without flux calibrator: amplitudes are only looked at."
    )


@attrs.frozen(kw_only=True)
class FluxPoint:
    """Flux density of a field in one window, in Jy, with its fit; ``residual`` is (data - fit) / data.

    ``shared_jy`` is the part of the error that moves all windows of the band together.
    """

    vis: str
    field: str
    band: str
    spw: int
    frequency_hz: float
    flux_jy: float
    error_jy: float
    solutions: int
    shared_jy: float = 0.0
    fitted_jy: float = math.nan
    residual: float = math.nan


@attrs.frozen(kw_only=True)
class BandSpectrum:
    """The fit of a field referred to the centre of a band; band "Multi" refers to the centre of all its bands."""

    vis: str
    field: str
    band: str
    reason: str
    fit: SpectralFit


class FluxbootResult(Result):
    """Spectra of the secondary calibrators. ``references`` are the flux calibrators by measurement set and band.

    ``expected`` are the secondary calibrators, ``unit`` calibrator data whose model is still 1 Jy, ``lost_spws`` are
    windows without any unflagged calibrator data, by measurement set. ``relative``: no flux densities were asked for,
    and ``references`` are flux calibrators that the data have all the same.
    """

    points: tuple[FluxPoint, ...]
    spectra: tuple[BandSpectrum, ...]
    references: dict[str, tuple[str, ...]]
    expected: dict[str, tuple[str, ...]]
    flagged_gains: dict[str, tuple[FlaggedGain, ...]] = attrs.field(factory=dict)
    tables: tuple[Caltable, ...] = ()
    flag_counts: dict[str, FlagCounts] = attrs.field(factory=dict)
    lost_spws: dict[str, tuple[int, ...]] = attrs.field(factory=dict)
    unit: tuple[UnitModel, ...] = ()
    relative: bool = False


class Fluxboot(Stage[FluxbootInputs, FluxbootResult]):
    """Derive the flux densities and spectra of the secondary calibrators, and set them as models.

    On the copy of the calibrators that hifv_solint made: models of the standards, phases in the short interval,
    amplitudes in the long one. Gains more than 10 % off the mean of their field, antenna and window mark bad data,
    which are flagged in the copy before the amplitudes are solved for good. Their ratio to the flux calibrator
    gives a flux density per window; a polynomial of log S against log ν gives the spectrum, referred to the centre of
    every band. The order follows from the bands and the fractional bandwidth (reference pipeline, 2026).

    The spectra become the models in the copy and in the measurement set. Done differently: flux densities are the
    mean of the antennas without outliers, the same ones in all windows, where CASA's fluxscale takes each window's
    median and so lets drifts of single antennas tilt the spectrum; errors come from the
    covariance of the fit instead of random trials; outliers are flagged exactly where they occur, while a flagged
    solution that is applied would be interpolated over; a measurement set without flux calibrator, a calibrator
    without flux density and a failed fit are failures that the score shows, where the reference pipeline ends with
    an empty result and 1 Jy.

    With use_flux_cal=False, for data without flux calibrator, amplitudes are solved and looked at, and no model is set.
    Recipe hifv_nofluxcal asks for it; the reference pipeline runs into its missing calibrator there and scores 0.
    """

    name = "hifv_fluxboot"
    topic = "calibration"
    each_set = True
    mutates = frozenset({"model"})

    def check(self, ctx: StageContext, inputs: FluxbootInputs) -> None:
        for ms in ctx.measurement_sets(inputs.vis):
            path = calibrators.state_of(ctx, ms).calibrators_path
            if not path or not Path(path).is_dir():
                raise PlError(f"There is no copy of the calibrators of {ms.name}: run hifv_solint first.")
        if inputs.caltable and not Path(inputs.caltable).is_dir():
            raise PlError(f"There is no table {inputs.caltable} in the work folder to take flux densities from.")

    def run(self, ctx: StageContext, inputs: FluxbootInputs) -> FluxbootResult:
        found = _Findings()
        changed: list[MsState] = []
        for ms in ctx.measurement_sets(inputs.vis):
            state = calibrators.state_of(ctx, ms)
            copy = copies.as_copy(ms, state.calibrators_path)
            _fresh(ctx, copy)
            chosen = calibrators.selection(ms)
            standards = models.set_standards(ctx, copy) if inputs.use_flux_cal else ()
            found.standards[ms.name] = standards
            refants = solves.ranked_refants(
                ctx, ms, chosen.calibrator_fields, inputs.refant, (*inputs.refantignore, *state.ignored_refants)
            )
            with_data = copies.fields_with_data(ctx, copy)
            for band in chosen.bands:
                try:
                    self._band(ctx, copy, band, state.band(band.band), refants, standards, with_data, inputs, found)
                except PlError as error:
                    found.failures.append(failed(ctx, ms, band, error))
            spectra = self._fit(ctx, ms, inputs.fitorder, found)
            for target in (copy, ms) if spectra else ():
                models.set_spectra(ctx, target, spectra)
            seen = flags.summary(ctx, copy.path, "calibrators", spw=_inner(copy, chosen))
            found.counts[ms.name] = seen
            found.lost[ms.name] = tuple(
                s for b in chosen.bands for s in b.spws if seen.fraction_of("spw", str(s)) >= 1.0
            )
            if inputs.use_flux_cal:
                found.unit += models.unit_models(ctx, copy, chosen)
            changed.append(attrs.evolve(state, spectra=spectra))
        return FluxbootResult(
            points=tuple(found.points), spectra=tuple(found.spectra), references=found.references,
            expected=found.expected, flagged_gains={k: tuple(v) for k, v in found.outliers.items()},
            tables=tuple(found.tables), flag_counts=found.counts, lost_spws=found.lost, unit=tuple(found.unit),
            relative=not inputs.use_flux_cal, failures=tuple(found.failures),
            effects=(calibrators.remember(ctx, changed),),
        )  # fmt: skip

    def _band(
        self, ctx: StageContext, copy: MeasurementSet, band: BandSelection, known: BandState,
        refants: tuple[str, ...], standards: tuple[int, ...], with_data: set[int], inputs: FluxbootInputs,
        found: _Findings,
    ) -> None:  # fmt: skip
        fields = [f for f in band.calibrator_fields if f in with_data]
        key = f"{copy.name} {band.band}"
        if not inputs.use_flux_cal:
            found.references[key] = tuple(copy.field(f).name for f in band.flux_fields if f in with_data)
            self._amplitudes(ctx, copy, band, known, refants, fields, found)
            return
        references = [f for f in band.flux_fields if f in standards and f in with_data]
        transfer = [f for f in fields if f not in references]
        found.references[key] = tuple(copy.field(f).name for f in references)
        found.expected[key] = tuple(copy.field(f).name for f in transfer)
        if not references:
            raise PlError(
                f"{copy.name} has no flux calibrator with good data in {band.band} band: the flux densities of"
                f" {', '.join(found.expected[key]) or 'its calibrators'} stay at 1 Jy, and its flux scale is arbitrary"
            )
        if len(references) > 1:
            ctx.log.attention(f"{copy.name}, {band.band} band: {len(references)} flux calibrators are used together.")
        table = inputs.caltable or self._amplitudes(ctx, copy, band, known, refants, fields, found)
        for field in transfer:
            try:
                found.points += _measured(ctx, copy, band, table, references, field)
            except PlError as error:
                name = copy.field(field).name
                found.failures.append(ItemFailure(item=f"{key} {name}", reason=str(error)))
                ctx.log.error(f"{copy.name}, {band.band} band: no flux density of {name}: {error}")

    def _amplitudes(
        self, ctx: StageContext, copy: MeasurementSet, band: BandSelection, known: BandState,
        refants: tuple[str, ...], fields: list[int], found: _Findings,
    ) -> str:  # fmt: skip
        if not known.short_solint or not known.long_solint:
            raise PlError(f"hifv_solint found no solution intervals for {band.band} band of {copy.name}")
        bare = solves.without_calibration(ctx, copy)
        phase = solves.gains(
            bare, copy, ctx.path(copy.name, "1_fluxphaseshort", band.band), fields, band.calibrator_scans,
            refants=refants, calmode="p", solint=known.short_solint, minsnr=3.0, spw=band.spw,
            combine="scan" if known.combine_short else "",
        )  # fmt: skip
        solve.require(phase, f"the phases of the calibrators in {band.band} band")
        inner = solves.preapplying(bare, copy, phase)
        found.outliers.setdefault(copy.name, []).extend(self._flag(inner, copy, band, known, refants, fields))
        amplitude = solves.gains(
            inner, copy, ctx.path(copy.name, "3_fluxgain", band.band), fields, band.calibrator_scans, refants=refants,
            calmode="ap", solint=known.long_solint, minsnr=5.0, spw=band.spw,
        )  # fmt: skip
        solve.require(amplitude, f"the amplitudes of the calibrators in {band.band} band")
        found.tables += [solves.without_statistics(phase), solves.of_spws(amplitude, band.spws)]
        return amplitude.path

    def _flag(
        self, inner: StageContext, copy: MeasurementSet, band: BandSelection, known: BandState,
        refants: tuple[str, ...], fields: list[int],
    ) -> list[FlaggedGain]:  # fmt: skip
        """Flag data of the copy where the gain of a scan is off the mean of its field, antenna and window."""
        path = inner.path(copy.name, "2_fluxflag", band.band)
        purposes = [f for f in fields if copy.field(f).intents & {"AMPLITUDE", "BANDPASS", "PHASE"}]
        for number, field in enumerate(purposes):
            # One solve per field: the norm is taken over all solutions of a solve, and fields differ in flux density.
            solves.gains(
                inner, copy, path, [field], band.calibrator_scans, refants=refants, calmode="ap", solnorm=True,
                solint=known.long_solint, combine="", minsnr=5.0, spw=band.spw,
                append=number > 0 and Path(path).is_dir(),
            )  # fmt: skip
        outliers = outlying_gains(inner, copy, band, path) if Path(path).is_dir() else []
        commands = flag_commands(outliers, solves.correlations(copy, band.spws), known.long_s)
        if commands:
            inner.casa.flagdata(
                vis=copy.path, mode="list", inpfile=commands, action="apply", flagbackup=False, savepars=False
            )
        return outliers

    def _fit(
        self, ctx: StageContext, ms: MeasurementSet, order: int, found: _Findings
    ) -> tuple[FieldSpectrum, ...]:
        """Fit the spectrum of every field over all bands; the points learn their residuals."""
        spectra = []
        names = list(dict.fromkeys(p.field for p in found.points if p.vis == ms.name))
        for name in names:
            mine = [p for p in found.points if p.vis == ms.name and p.field == name]
            bands = list(dict.fromkeys(p.band for p in mine))
            windows = [ms.spw(p.spw) for p in mine]
            low, high = min(w.min_hz for w in windows), max(w.max_hz for w in windows)
            chosen, reason = (order, "given by the user") if order >= 0 else fit_order(bands, low, high)
            frequency = [p.frequency_hz for p in mine]
            own = [math.sqrt(max(p.error_jy**2 - p.shared_jy**2, 0.0)) for p in mine]
            shared = [[p.shared_jy / p.flux_jy if p.band == b else 0.0 for b in bands] for p in mine]
            fit = fit_spectrum(frequency, [p.flux_jy for p in mine], own, chosen, shared=shared)
            if fit.order < chosen:
                reason += f"; {len(mine)} windows hold order {fit.order}"
            fitted = fit.at(frequency)
            residuals = fractional_residuals([p.flux_jy for p in mine], fitted)
            for point, value, residual in zip(mine, fitted, residuals, strict=True):
                better = attrs.evolve(point, fitted_jy=float(value), residual=float(residual))
                found.points[found.points.index(point)] = better
            for band in bands:
                centres = [p.frequency_hz for p in mine if p.band == band]
                referred = fit.referred_to((min(centres) + max(centres)) / 2)
                found.spectra.append(BandSpectrum(vis=ms.name, field=name, band=band, reason=reason, fit=referred))
            if len(bands) > 1:
                found.spectra.append(BandSpectrum(vis=ms.name, field=name, band="Multi", reason=reason, fit=fit))
            if fit.order and abs(fit.spectral_index[0]) > SUSPICIOUS_INDEX:
                ctx.log.warning(f"{ms.name}: {name} has an incredible spectral index of {fit.spectral_index[0]:.1f}.")
            # A standard may have a second field for other purposes: the model of its own stays what it is.
            ids = [f for f in calibrators.selection(ms).calibrator_fields if ms.field(f).name == name]
            ids = [f for f in ids if f not in found.standards.get(ms.name, ())]
            spectra += [FieldSpectrum(field=i, name=name, fit=fit, bands=bands) for i in ids]
        return tuple(spectra)


def _inner(ms: MeasurementSet, chosen: Selection) -> str:
    """The windows without their edges, which are flagged on purpose."""
    parts = []
    for spw in sorted(s for b in chosen.bands for s in b.spws):
        first, last = inner_channels(ms.spw(spw).n_channels)
        parts.append(f"{spw}:{first}~{last}")
    return ",".join(parts)


class _Findings:
    """What accumulates while the stage walks over measurement sets and bands."""

    def __init__(self) -> None:
        self.points: list[FluxPoint] = []
        self.spectra: list[BandSpectrum] = []
        self.references: dict[str, tuple[str, ...]] = {}
        self.standards: dict[str, tuple[int, ...]] = {}
        self.expected: dict[str, tuple[str, ...]] = {}
        self.outliers: dict[str, list[FlaggedGain]] = {}
        self.tables: list[Caltable] = []
        self.counts: dict[str, FlagCounts] = {}
        self.lost: dict[str, tuple[int, ...]] = {}
        self.unit: list[UnitModel] = []
        self.failures: list[ItemFailure] = []


def _fresh(ctx: StageContext, copy: MeasurementSet) -> None:
    """Begin with flags and models as the copy was made: a stage that is repeated must see what it saw the first time.

    The amplitudes take the secondary calibrators for sources of 1 Jy; with the spectra of an earlier run as models
    each would be found to be one.
    """
    ctx.casa.delmod(vis=copy.path, otf=True, scr=True)
    version = "as_split"
    known = Path(f"{copy.path}.flagversions").is_dir()
    ctx.casa.flagmanager(vis=copy.path, mode="restore" if known else "save", versionname=version)


def _measured(
    ctx: StageContext, copy: MeasurementSet, band: BandSelection, table: str, references: list[int], field: int
) -> list[FluxPoint]:
    """Flux densities of one field, for which the table's amplitudes took 1 Jy, from those of the flux calibrators."""
    windows = [solve.read_solutions(ctx, table, spw) for spw in band.spws]
    ratios = [_mean_log_power(w, [field], copy) - _mean_log_power(w, references, copy) for w in windows]
    found = flux_ratios(np.exp(np.stack([r.ravel() for r in ratios], axis=1)))
    points = [
        FluxPoint(
            vis=copy.name, field=copy.field(field).name, band=band.band, spw=spw, frequency_hz=copy.spw(spw).centre_hz,
            flux_jy=float(value), error_jy=float(value * math.hypot(error, found.shared)), solutions=int(used),
            shared_jy=float(value * found.shared),
        )
        for spw, value, error, used in zip(band.spws, found.value, found.error, found.used, strict=True)
        if value > 0
    ]  # fmt: skip
    if not points:
        raise PlError(f"{copy.field(field).name} has no good amplitude solutions in {band.band} band of {copy.name}")
    return points


def _mean_log_power(window: Solutions, fields: list[int], copy: MeasurementSet) -> np.ndarray:
    """ln of squared gains, averaged over time; (antenna id, receptor), NaN without good solutions."""
    chosen = np.isin(window.field, fields)
    gain, flag = (a[:, :, chosen].reshape(a.shape[0], -1) for a in (np.abs(window.gain), window.flag))
    antenna = np.tile(window.antenna[chosen], window.gain.shape[1])
    # By id, not by number: old observations list antennas that took no data.
    found = np.full((max(a.id for a in copy.antennas) + 1, gain.shape[0]), np.nan)
    for receptor, (amplitude, bad) in enumerate(zip(gain, flag, strict=True)):
        good = ~bad & (amplitude > 0)
        count = np.bincount(antenna[good], minlength=len(found))
        total = np.bincount(antenna[good], 2 * np.log(amplitude[good]), minlength=len(found))
        found[count > 0, receptor] = (total / np.maximum(count, 1))[count > 0]
    return found
