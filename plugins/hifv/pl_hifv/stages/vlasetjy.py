"""Set the models of the standard flux-density calibrators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from pl_hif import flags
from pl_hif.heuristics.intents import MATCH_RADIUS_RAD, separation_rad
from pl_hifv import fluxfile
from pl_hifv.modelsample import sample
from pl_hifv.telescopes import MODEL_LETTERS
from pl_kernel import InputError, Inputs, PlError, Result, Stage, param
from pl_kernel.effects import SetValue
from pl_kernel.ms.model import Field, MeasurementSet, SpectralWindow
from pl_kernel.ms.selection import expand_ids
from pl_kernel.ms.telescopes import StandardCalibrator
from pl_kernel.stage import joined
from pl_kernel.stage_context import StageContext

ASKED = "hifv.models"
"""Run value: by measurement set and field id, what was asked for the model of a standard calibrator; the later stages
that set models in copies of the data ask for the same."""
STATED = "hifv.stated_models"
"""Run value: by measurement set and field id of a flux calibrator that is no standard, its flux densities by window."""
REMEMBERED = ("standard", "model", "scalebychan", "fluxdensity", "spix", "reffreq")


class VlasetjyInputs(Inputs):
    intent: str = param("AMPLITUDE", doc="Fields with this intent get a model, if they are standard calibrators.")
    standard: str = param("Perley-Butler 2017", doc="Flux-density standard, as CASA calls it.")
    model: str = param("", doc="Model image to use instead of the one of the calibrator and band.")
    scalebychan: bool = param(True, doc="Scale the model for every channel instead of once per window.")
    fluxdensity: float | None = param(
        None, unit="Jy", doc="Stokes I to set instead of the standard's; negative: the standard's."
    )
    spix: float = param(0.0, doc="Spectral index of the flux density that is given.")
    reffreq: float | None = param(
        None, unit="GHz", doc="Frequency of the flux density that is given; default: the centre of each band."
    )
    field: str = param("", doc="Fields to set models of, as a CASA selection; default all with the intent.")
    spw: str = param("", doc="Windows to set models of; default all that observed the field.")
    reffile: Path | None = param(
        None, doc="File of flux densities (flux.csv) for calibrators that are no standards; default: what"
        " hifv_importdata read.",
    )  # fmt: skip
    normfluxes: bool = param(False, doc="Divide flux densities of that file by Stokes I: relative scale, 1 Jy.")

    @property
    def given_jy(self) -> float | None:
        """Stokes I that is asked for; old scripts say -1 for none."""
        return self.fluxdensity if self.fluxdensity is not None and self.fluxdensity >= 0 else None


@attrs.frozen(kw_only=True)
class ModelFlux:
    """Model of one field and window: Stokes I, Q, U, V in Jy at the window's reference frequency, as setjy says it."""

    vis: str
    field: str
    spw: int
    band: str
    frequency_hz: float
    calibrator: str
    model: str
    stokes_jy: tuple[float, float, float, float] = attrs.field(converter=tuple)


@attrs.frozen(kw_only=True)
class StandardField:
    """A flux calibrator of a measurement set, and how much of its data is flagged.

    ``stated``: its flux densities are those of a file (``calibrator`` is the name of the field), not of a standard.
    ``sample``: file in the stage's folder with model amplitudes against baseline (`pl_hifv.modelsample`).
    """

    vis: str
    field: str
    calibrator: str
    flagged_fraction: float
    offset_arcsec: float
    stated: bool = False
    sample: str = ""


class VlasetjyResult(Result):
    """Models that were set, and the standard calibrators they are of."""

    fluxes: tuple[ModelFlux, ...]
    standards: tuple[StandardField, ...]
    standard: str
    expected: int = joined(sum)


class Vlasetjy(Stage[VlasetjyInputs, VlasetjyResult]):
    """Set the models of the standard flux-density calibrators.

    A field is a standard calibrator when its direction lies within 0.0012 rad of one of 3C48, 3C138, 3C147, 3C286 and
    it has the intent AMPLITUDE. It gets the resolved model image of its band (3C286_L.im …), scaled to the Perley &
    Butler (2017, ApJS 230, 7) flux density of every channel, in the model column.

    A flux calibrator that is none of them gets the flux densities that a file states of it (reffile, or the flux.csv
    that hifv_importdata found), window by window at its centre; standards need no file and do not look there.

    The match is by position because names vary (3C286, 1331+305, J1331+3030). Where the reference pipeline warns and
    goes on without a flux scale (no standard calibrator, no model image), this stage fails: every flux afterwards
    would be arbitrary.
    """

    name = "hifv_vlasetjy"
    page_reads = frozenset()
    topic = "calibration"
    each_set = True
    mutates = frozenset({"model"})

    def check(self, ctx: StageContext, inputs: VlasetjyInputs) -> None:
        if inputs.reffile is not None and not inputs.reffile.is_file():
            raise InputError(f"There is no file of flux densities {inputs.reffile}; leave reffile unset to use none.")

    def run(self, ctx: StageContext, inputs: VlasetjyInputs) -> VlasetjyResult:
        fluxes: list[ModelFlux] = []
        standards: list[StandardField] = []
        expected = 0
        asked: dict[str, dict[str, dict[str, Any]]] = {}
        others = dict(ctx.value(STATED, {}))
        if inputs.model:
            ctx.log.warning(f"The model image {inputs.model} takes the place of the calibrators' own.")
        for ms in ctx.measurement_sets(inputs.vis):
            stated = _stated(ctx, ms, inputs)
            matched = standards_of(ctx, ms, inputs.intent, inputs.field, spare=bool(stated))
            stated = {k: v for k, v in stated.items() if int(k) not in {f.id for f, _, _ in matched}}
            others[ms.name] = stated
            for key, values in stated.items():
                field = ms.field(int(key))
                windows = _windows(ms, field, inputs.spw)
                expected += len(windows)
                ctx.log.warning(f"{ms.name}: {field.name} is no standard; its flux densities are taken from a file.")
                fluxes += set_stated(ctx, ms, field, windows, values)
                standards.append(_present(ctx, ms, field, windows, field.name, stated=True))
            for field, calibrator, offset in matched:
                windows = _windows(ms, field, inputs.spw)
                expected += len(windows)
                fluxes += set_models(ctx, ms, field, calibrator, windows, inputs)
                options = {n: getattr(inputs, n) for n in REMEMBERED}
                asked.setdefault(ms.name, {**(ctx.value(ASKED, {}).get(ms.name) or {})})[str(field.id)] = options
                standards.append(_present(ctx, ms, field, windows, calibrator.name, offset))
        return VlasetjyResult(
            fluxes=tuple(fluxes), standards=tuple(standards), standard=inputs.standard, expected=expected,
            effects=(SetValue(ASKED, {**ctx.value(ASKED, {}), **asked}), SetValue(STATED, others)),
        )


def _present(
    ctx: StageContext, ms: MeasurementSet, field: Field, windows: Sequence[SpectralWindow], calibrator: str,
    offset: float = float("nan"), *, stated: bool = False,
) -> StandardField:  # fmt: skip
    seen = flags.summary(ctx, ms.path, f"setjy_{field.id}", field=str(field.id))
    return StandardField(
        vis=ms.name, field=field.name, calibrator=calibrator, flagged_fraction=seen.fraction, offset_arcsec=offset,
        stated=stated, sample=sample(ctx, ms, field, windows),
    )  # fmt: skip


def _stated(ctx: StageContext, ms: MeasurementSet, inputs: VlasetjyInputs) -> dict[str, dict[str, list[float]]]:
    """What a file says of the fields with the intent: by field id and window, Stokes I, Q, U, V and spectral index."""
    if inputs.reffile is not None:
        known = fluxfile.stated(fluxfile.read_file(inputs.reffile, ms))
    else:
        known = ctx.value(fluxfile.FLUXES, {}).get(ms.name, {})
    wanted = {str(f.id) for f in _candidates(ms, inputs.intent, inputs.field)}
    found = {field: values for field, values in known.items() if field in wanted}
    if not inputs.normfluxes:
        return found
    return {
        field: {spw: [*(v / values[0] for v in values[:4]), values[4]] for spw, values in by_spw.items()}
        for field, by_spw in found.items()
    }


def set_stated(
    ctx: StageContext, ms: MeasurementSet, field: Field, windows: Sequence[SpectralWindow],
    values: Mapping[str, Sequence[float]],
) -> list[ModelFlux]:  # fmt: skip
    """Set stated flux densities (by window: Stokes I, Q, U, V in Jy, spectral index), each at the window's centre.

    Windows of which nothing is stated stay without a model; the score of the stage counts them.
    """
    fluxes = []
    for window in windows:
        if str(window.id) not in values:
            ctx.log.warning(f"{ms.name}: no flux density of {field.name} is stated for spw {window.id}.")
            continue
        *stokes, spix = values[str(window.id)]
        ctx.casa.setjy(
            vis=ms.path, field=str(field.id), spw=str(window.id), selectdata=False, scalebychan=True, usescratch=True,
            standard="manual", fluxdensity=list(stokes), spix=[spix], reffreq=f"{window.centre_hz / 1e9:.9g}GHz",
        )  # fmt: skip
        fluxes.append(
            ModelFlux(
                vis=ms.name, field=field.name, spw=int(window.id), band=window.band, frequency_hz=window.centre_hz,
                calibrator=field.name, model="", stokes_jy=stokes,
            )
        )  # fmt: skip
    return fluxes


def _windows(ms: MeasurementSet, field: Field, spw: str) -> list[SpectralWindow]:
    """Science windows that observed a field, those of the selection if there is one."""
    observed = [s for s in ms.science_spws if not field.spws or int(s.id) in field.spws]
    wanted = {int(s) for s in expand_ids(spw)} if spw else {int(s.id) for s in observed}
    found = [s for s in observed if int(s.id) in wanted]
    if not found:
        raise InputError(f"Field {field.name} of {ms.name} was not observed in spw {spw}.")
    return found


def _candidates(ms: MeasurementSet, intent: str, chosen: str) -> list[Field]:
    wanted = set(ms.field_ids(chosen)) if chosen else {f.id for f in ms.fields}
    return [f for f in ms.fields_with_intent(intent) if f.id in wanted]


def standards_of(
    ctx: StageContext, ms: MeasurementSet, intent: str, chosen: str = "", *, spare: bool = False
) -> list[tuple[Field, StandardCalibrator, float]]:
    """Fields with the intent that lie on a standard calibrator, with the distance in arcsec.

    Raises PlError when there is none, unless the run can ``spare`` them.
    """
    candidates = _candidates(ms, intent, chosen)
    if not candidates:
        where = f"field {chosen} of {ms.name}" if chosen else ms.name
        raise PlError(
            f"No scan of {where} has the intent {intent}, so the flux scale cannot be set;"
            ' name the flux calibrator with --intent "AMPLITUDE=NAME" when importing.'
        )
    found = []
    known = [c for c in ctx.telescope(ms).calibrators if c.ra_rad is not None and c.dec_rad is not None]
    for field in candidates:
        for calibrator in known:
            assert calibrator.ra_rad is not None and calibrator.dec_rad is not None
            angle = separation_rad(field.ra_rad, field.dec_rad, calibrator.ra_rad, calibrator.dec_rad)
            if angle <= MATCH_RADIUS_RAD:
                found.append((field, calibrator, angle * 206264.806))
                break
    if not found and not spare:
        names = ", ".join(f.name for f in candidates)
        raise PlError(
            f"{names} in {ms.name} has the intent {intent} but lies at the position of no standard calibrator"
            f" ({', '.join(c.name for c in known)}); the flux scale cannot be set."
            " State its flux densities in a flux.csv beside the data, or take recipe hifv_nofluxcal."
        )
    return found


def set_models(
    ctx: StageContext, ms: MeasurementSet, field: Field, calibrator: StandardCalibrator,
    windows: list[SpectralWindow], inputs: VlasetjyInputs,
) -> list[ModelFlux]:  # fmt: skip
    """One setjy call per band of a field: windows of the same band share the model image."""
    fluxes = []
    for band in dict.fromkeys(s.band for s in windows):
        chosen = [s for s in windows if s.band == band]
        model = inputs.model or f"{calibrator.model or calibrator.name}_{MODEL_LETTERS.get(band, band)}.im"
        given = inputs.given_jy is not None
        middle = (min(s.centre_hz for s in chosen) + max(s.centre_hz for s in chosen)) / 2e9
        report = ctx.casa.setjy(
            vis=ms.path, field=str(field.id), spw=",".join(str(s.id) for s in chosen), selectdata=False,
            scalebychan=inputs.scalebychan, usescratch=True,
            model=None if given else model, standard="manual" if given else inputs.standard,
            fluxdensity=[inputs.given_jy, 0.0, 0.0, 0.0] if given else None,
            spix=[inputs.spix] if given else None, reffreq=f"{inputs.reffreq or middle:.9g}GHz" if given else None,
        )  # fmt: skip
        answer = (report or {}).get(str(field.id), {})
        for window in chosen:
            value = answer.get(str(window.id), {}).get("fluxd")
            if value is None:
                raise PlError(
                    f"CASA set no model for {field.name}, spw {window.id} of {ms.name}: is there a model image {model}?"
                )
            fluxes.append(
                ModelFlux(
                    vis=ms.name, field=field.name, spw=int(window.id), band=band,
                    frequency_hz=window.ref_frequency_hz or window.centre_hz,
                    calibrator=calibrator.name, model="" if given else model, stokes_jy=[float(v) for v in value],
                )
            )  # fmt: skip
    return fluxes
