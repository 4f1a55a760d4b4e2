"""Derive the flux densities of the secondary calibrators."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np

from pl_hif import solve
from pl_hif.heuristics import flux
from pl_hif.solve import Caltable, Solutions
from pl_hif.stages.refant import refants
from pl_kernel import Inputs, PlError, Result, Stage, param
from pl_kernel.ms.model import Field, MeasurementSet
from pl_kernel.stage_context import StageContext


class FluxscaleInputs(Inputs):
    reference: str = param("AMPLITUDE", doc="Intent of the fields whose models set the scale.")
    transfer: str = param("PHASE,BANDPASS,CHECK", doc="Intents of the fields whose flux densities are wanted.")
    solint: str = param("inf", doc="Solution interval of the amplitudes.")
    phasesolint: str = param("int", doc="Solution interval of the phases applied before.")
    minsnr: float = param(3.0, doc="Solutions below this signal-to-noise ratio are flagged.", minimum=0.0)
    fitorder: int = param(
        -1, doc="Order of the fit of the spectrum; -1: from bandwidth and bands.", minimum=-1, maximum=4
    )
    setmodels: bool = param(True, doc="Set the flux densities as models of the fields, for the solves that follow.")


@attrs.frozen(kw_only=True)
class FluxMeasurement:
    """Flux density of one field in one window.

    ``gain_scatter`` is the relative scatter of the flux densities that the single antennas and receptors give.
    """

    vis: str
    field: str
    spw: int
    frequency_hz: float
    flux_jy: float
    error_jy: float
    solutions: int
    gain_scatter: float


@attrs.frozen(kw_only=True)
class SourceFit:
    """Spectrum of a field: flux density at the reference frequency, log-log coefficients, order and its reason."""

    vis: str
    field: str
    flux_jy: float
    frequency_hz: float
    spectral_index: tuple[float, ...] = attrs.field(default=(), converter=tuple)
    order: int = 0
    reason: str = ""


@attrs.frozen(kw_only=True)
class AntennaFlux:
    """Flux density of a field as one antenna and receptor see it."""

    vis: str
    field: str
    spw: int
    antenna: str
    pol: int
    flux_jy: float


class FluxscaleResult(Result):
    """Flux densities of the transfer fields, their fits, and the tables they come from."""

    measurements: tuple[FluxMeasurement, ...]
    fits: tuple[SourceFit, ...]
    references: dict[str, tuple[str, ...]]
    expected: tuple[str, ...]
    tables: tuple[Caltable, ...]
    by_antenna: tuple[AntennaFlux, ...] = ()


class Fluxscale(Stage[FluxscaleInputs, FluxscaleResult]):
    """Derive the flux densities of the secondary calibrators.

    Phases per integration, then amplitudes per scan of all calibrators, the secondary ones against a model of 1 Jy:
    the ratio of the squared gains on a secondary calibrator and on the flux standard is its flux density (CASA
    fluxscale: median over antennas). With several windows a spectrum is fitted whose order follows from the bandwidth;
    below 257 MHz it is flat (reference pipeline, 2026). The flux densities become models, so that later solves are on
    the right scale at once.

    All tables made here are of passage. A field without a flux density is an error: it would calibrate its targets to
    1 Jy.
    """

    name = "hif_fluxscale"
    topic = "calibration"
    page_reads = frozenset()
    each_set = True
    mutates = frozenset({"model"})

    def check(self, ctx: StageContext, inputs: FluxscaleInputs) -> None:
        for ms in ctx.measurement_sets(inputs.vis):
            solve.fields_for(ms, inputs.reference, "the flux scale")

    def run(self, ctx: StageContext, inputs: FluxscaleInputs) -> FluxscaleResult:
        measurements: list[FluxMeasurement] = []
        fits: list[SourceFit] = []
        tables: list[Caltable] = []
        by_antenna: list[AntennaFlux] = []
        expected: list[str] = []
        references: dict[str, tuple[str, ...]] = {}
        for ms in ctx.measurement_sets(inputs.vis):
            reference = solve.fields_for(ms, inputs.reference, "the flux scale")
            transfer = [f for f in ms.fields_with_intent(inputs.transfer) if f not in reference]
            references[ms.name] = tuple(f.name for f in reference)
            expected += [f.name for f in transfer]
            if not transfer:
                ctx.log.info(f"{ms.name}: every calibrator is a standard; there is no flux density to derive.")
                continue
            found = self._one(ctx, ms, inputs, reference, transfer)
            measurements += found[0]
            fits += found[1]
            tables += found[2]
            by_antenna += found[3]
            if inputs.setmodels:
                _set_models(ctx, ms, transfer, found[1])
        return FluxscaleResult(
            measurements=tuple(measurements), fits=tuple(fits), references=references, expected=tuple(expected),
            tables=tuple(tables), by_antenna=tuple(by_antenna),
        )  # fmt: skip

    def _one(
        self, ctx: StageContext, ms: MeasurementSet, inputs: FluxscaleInputs, reference: tuple[Field, ...],
        transfer: list[Field],
    ) -> tuple[list[FluxMeasurement], list[SourceFit], list[Caltable], list[AntennaFlux]]:  # fmt: skip
        fields = [*reference, *transfer]
        refant = refants(ctx, ms)
        phase = solve.gaincal(
            ctx, ms, ctx.path(ms, "phase", "gpcal"), fields, refant=refant, solint=inputs.phasesolint, calmode="p",
            minsnr=inputs.minsnr,
        )  # fmt: skip
        solve.require(phase, "the phases of the calibrators")
        inner = ctx.what_if(
            solve.application(ctx, ms, phase, field=solve.ids(fields), gainfield="nearest", interp="linear")
        )
        gains = solve.gaincal(
            inner, ms, ctx.path(ms, "gcal"), fields, refant=refant, solint=inputs.solint, calmode="ap",
            minsnr=inputs.minsnr,
        )  # fmt: skip
        solve.require(gains, "the amplitudes of the calibrators")
        order, why = _order(ms, inputs.fitorder)
        table = ctx.path(ms, "fcal")
        ctx.files.rmtree(table)
        # refspwmap is left to CASA: an empty list kills the process.
        report = ctx.casa.fluxscale(
            vis=ms.path, caltable=gains.path, fluxtable=table, reference=[str(f.id) for f in reference],
            transfer=[str(f.id) for f in transfer], fitorder=max(order, 1),
        )  # fmt: skip
        per_antenna = _by_antenna(ctx, ms, gains.path, reference, transfer)
        measurements, fits = _read(ms, report or {}, transfer, order, why, per_antenna)
        return measurements, fits, [phase, gains], per_antenna


def _order(ms: MeasurementSet, given: int) -> tuple[int, str]:
    if given >= 0:
        return given, "given by the user"
    windows = ms.science_spws
    return flux.fit_order(ms.bands, min(s.min_hz for s in windows), max(s.max_hz for s in windows))


def _read(
    ms: MeasurementSet, report: dict[str, Any], transfer: list[Field], order: int, why: str, seen: list[AntennaFlux]
) -> tuple[list[FluxMeasurement], list[SourceFit]]:
    """Take CASA's answer apart; windows without solutions come back as -1 and are left out."""
    measurements, fits = [], []
    for field in transfer:
        answer = report.get(str(field.id), {})
        here = []
        for window in ms.science_spws:
            part = answer.get(str(window.id), {})
            value = float(part["fluxd"][0]) if "fluxd" in part else math.nan
            if not value > 0:
                continue
            antennas = [a.flux_jy for a in seen if a.field == field.name and a.spw == int(window.id)]
            middle, mad, _ = flux.scatter(antennas)
            here.append(
                FluxMeasurement(
                    vis=ms.name, field=field.name, spw=int(window.id), frequency_hz=window.centre_hz, flux_jy=value,
                    error_jy=float(part["fluxdErr"][0]), solutions=int(part["numSol"][0]),
                    gain_scatter=mad / middle if middle > 0 else math.nan,
                )
            )  # fmt: skip
        if not here:
            raise PlError(
                f"No flux density of {field.name} could be derived in {ms.name}: it has no good amplitude solutions."
            )
        measurements += here
        if order > 0 and len(here) > 1:
            coefficients = [float(c) for c in answer.get("spidx", [])]
            fits.append(
                SourceFit(
                    vis=ms.name, field=field.name, flux_jy=float(answer["fitFluxd"]),
                    frequency_hz=float(answer["fitRefFreq"]), spectral_index=coefficients[1 : order + 1], order=order,
                    reason=why,
                )
            )  # fmt: skip
        else:
            weights = np.array([1 / max(m.error_jy, 1e-12) ** 2 for m in here])
            mean = float(np.average([m.flux_jy for m in here], weights=weights))
            centre = float(np.average([m.frequency_hz for m in here], weights=weights))
            fits.append(
                SourceFit(vis=ms.name, field=field.name, flux_jy=mean, frequency_hz=centre, order=0, reason=why)
            )
    return measurements, fits


def _set_models(ctx: StageContext, ms: MeasurementSet, transfer: list[Field], fits: list[SourceFit]) -> None:
    ids = {f.name: f.id for f in transfer}
    for fit in fits:
        ctx.casa.setjy(
            vis=ms.path, field=str(ids[fit.field]), spw=ms.science_spw_selection, standard="manual",
            fluxdensity=[fit.flux_jy, 0.0, 0.0, 0.0], spix=list(fit.spectral_index) or [0.0],
            reffreq=f"{fit.frequency_hz:.0f}Hz", scalebychan=True, usescratch=True, selectdata=False,
        )  # fmt: skip


def _by_antenna(
    ctx: StageContext, ms: MeasurementSet, caltable: str, reference: tuple[Field, ...], transfer: list[Field]
) -> list[AntennaFlux]:
    """What each antenna and receptor says, for a model of 1 Jy: (gain on the transfer field / on the reference)²."""
    found = []
    for window in ms.science_spws:
        solutions = solve.read_solutions(ctx, caltable, int(window.id))
        references = {f.id for f in reference}
        for antenna in ms.antennas:
            for pol in range(solutions.gain.shape[0]):
                base = _amplitude(solutions, antenna.id, references, pol)
                for field in transfer:
                    own = _amplitude(solutions, antenna.id, {field.id}, pol)
                    if base > 0 and own > 0:
                        found.append(
                            AntennaFlux(
                                vis=ms.name, field=field.name, spw=int(window.id), antenna=antenna.name, pol=pol,
                                flux_jy=(own / base) ** 2,
                            )
                        )  # fmt: skip
    return found


def _amplitude(solutions: Solutions, antenna: int, fields: set[int], pol: int) -> float:
    rows = (solutions.antenna == antenna) & np.isin(solutions.field, list(fields))
    good = ~solutions.flag[pol, 0, rows]
    values = np.abs(solutions.gain[pol, 0, rows][good])
    return float(np.median(values)) if values.size else math.nan
