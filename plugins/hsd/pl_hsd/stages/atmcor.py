"""hsd_atmcor: residual lines of the atmosphere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from pl_hsd import aftercal, airmodel, spectra
from pl_hsd.averages import Window, average
from pl_hsd.baselineplan import check_polarizations
from pl_hsd.heuristics import atmosphere
from pl_hsd.heuristics.atmosphere import AirModel
from pl_hsd.heuristics.skylevel import off_blocks
from pl_hsd.k2jy import k2jy
from pl_hsd.rowmap import rows_in
from pl_hsd.rows import RowTable
from pl_hsd.strategy import strategy
from pl_kernel import Inputs, Result, Stage, param
from pl_kernel.common.skylines import SkyLine
from pl_kernel.effects import AddMeasurementSet, Effect, RemoveMeasurementSet
from pl_kernel.errors import CasaError, DataError, InputError
from pl_kernel.ms.datatypes import DataType
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.ms.reader import read_measurement_set
from pl_kernel.stage import ItemFailure
from pl_kernel.stage_context import ItemContext, StageContext

_INPUT_TYPES = (DataType.REGCAL_CONTLINE_ALL, DataType.RAW)
_COLUMNS = {"CORRECTED_DATA": "corrected", "FLOAT_DATA": "float_data", "DATA": "data"}


class AtmcorInputs(Inputs):
    atmtype: tuple[str, ...] = param(
        ("auto",), doc="Climates: 1 tropical, 2/3 mid-latitude summer/winter, 4/5 subarctic summer/winter; auto: 1~4."
    )  # fmt: skip
    dtem_dh: tuple[float, ...] = param((-5.6,), unit="K/km", doc="Lapse rates to try.")
    h0: tuple[float, ...] = param((2.0,), unit="km", doc="Scale heights of the water to try.")
    maxalt: float = param(120.0, unit="km", minimum=10, doc="Top of the air in the choice of the model.")
    antenna: str = param("", doc="Antennas to correct, as a CASA selection; default all.")
    field: str = param("", doc="Fields to correct, as a CASA selection; default all targets.")
    spw: str = param("", doc="Windows to correct, as a CASA selection of real ids; default all science windows.")
    pol: tuple[str, ...] = param(
        (), doc="Polarizations to correct: all of a window, such as XX, YY, or none named; the air is the same for all."
    )


@attrs.frozen(kw_only=True)
class Trial:
    """One model that was tried, and what it leaves (see `heuristics.atmosphere.metric`; NaN: could not be judged)."""

    model: AirModel
    metric: float


@attrs.frozen(kw_only=True)
class Corrected:
    """The correction of one measurement set.

    ``status`` is Y (the best of several models), Fallback (they could not be compared; ``reason``), or N (one model was
    asked for). ``spw`` and ``antenna`` are those in which models were compared; ``gains`` Jy/K by window.
    """

    vis: str
    output: str
    status: str
    model: AirModel
    trials: tuple[Trial, ...] = ()
    reason: str = ""
    spw: int = -1
    antenna: str = ""
    gains: dict[str, float] = attrs.field(factory=dict)
    pictures: str = ""


class AtmcorResult(Result):
    """What was corrected, and why others could not be (``uncorrected``) or need not be (``unneeded``)."""

    corrected: tuple[Corrected, ...] = ()
    unneeded: dict[str, str] = attrs.field(factory=dict)
    uncorrected: dict[str, str] = attrs.field(factory=dict)


class Atmcor(Stage[AtmcorInputs, AtmcorResult]):
    """Correct residual lines of the atmosphere in spectra on the source.

    ON and OFF are seen through different air where their elevations differ; what that leaves is modelled and
    subtracted by CASA's sdatmcor, into a new measurement set.

    With more than one model the best is chosen first, on the spectra of the least flagged antenna in the window with
    the best atmospheric line: the one whose subtraction leaves the smoothest spectrum around its lines. Models are
    computed once each for that, without trial corrections of the data. Where no window has a line, or the air was not
    measured, the default model is applied, and called a fallback. What was tried is in modelparam_….txt in the stage's
    folder. Unlike in the reference pipeline, models are compared with the data as if they had been calibrated with Tsys
    of coarse channels, which makes narrow lines weaker.

    A measurement set that cannot be corrected stays as it is, is named, and scores 0. One whose spectra were compared
    with the edges of the map needs no correction: sdatmcor would correct for OFF positions that were not used. It
    knows one Jy/K per window: it is the mean over antennas with a factor.
    """

    name = "hsd_atmcor"
    topic = "calibration"
    page_reads = frozenset()
    each_set = True

    def sets(self, ctx: StageContext, inputs: AtmcorInputs) -> Sequence[MeasurementSet]:
        return tuple(ms for ms in ctx.measurement_sets(inputs.vis, types=_INPUT_TYPES) if not ms.origin)

    def check(self, ctx: StageContext, inputs: AtmcorInputs) -> None:
        candidates(inputs)
        check_polarizations(ctx, inputs)
        if not inputs.pol:
            return
        for ms in self.sets(ctx, inputs):
            left_out = sorted({c for spw in ms.science_spws for c in ms.polarization_of(spw.id).correlations}
                              - set(inputs.pol))  # fmt: skip
            if left_out:
                raise InputError(
                    f"hsd_atmcor corrects all polarizations of {ms.name}, also {', '.join(left_out)}: the air is the "
                    "same for all, and a set corrected in part would be judged as a whole; leave pol empty, and choose "
                    "polarizations with hsd_baseline."
                )

    def run(self, ctx: StageContext, inputs: AtmcorInputs) -> AtmcorResult:
        corrected, failures = [], []
        uncorrected: dict[str, str] = {}
        unneeded: dict[str, str] = {}
        effects: list[Effect] = []
        for ms in self.sets(ctx, inputs):
            if _compared_with_edges(ctx, ms):
                unneeded[ms.name] = "its spectra were compared with the edges of the map, seen through the same air"
                ctx.log.attention(f"{ms.name} is not corrected for the atmosphere: {unneeded[ms.name]}.")
                continue
            try:
                record, found = self._correct(ctx, ms, inputs)
            except (CasaError, DataError) as error:
                uncorrected[ms.name] = str(error).rstrip(".")
                failures.append(ItemFailure(ms.name, str(error)))
                ctx.log.error(f"{ms.name} is not corrected for the atmosphere: {error}")
                continue
            corrected.append(record)
            effects += found
        return AtmcorResult(
            corrected=tuple(corrected), unneeded=unneeded, uncorrected=uncorrected, failures=tuple(failures),
            effects=tuple(effects),
        )  # fmt: skip

    def _correct(
        self, ctx: StageContext, ms: MeasurementSet, inputs: AtmcorInputs
    ) -> tuple[Corrected, list[Effect]]:
        ground = airmodel.read_ground(ctx.casa, ms)
        tried = candidates(inputs)
        gains = mean_gains(ctx, ms)
        choice = Choice(ctx, ms, ground, inputs.maxalt).best(tried) if len(tried) > 1 else Chosen(tried[0], "N")
        model = choice.model
        older = [m for m in ctx.context.measurement_sets if m.origin == ms.name and _is_corrected(m)]
        name = f"{ms.basename}.atmcor.atmtype{model.atmtype}"
        if any(m.name == name for m in ctx.context.measurement_sets):
            name = f"{name}.s{ctx.stage_number}"  # the earlier one stays for a run that goes back
        ctx.files.rmtree(name)
        selected = inputs.spw or ms.science_spw_selection
        ctx.casa.sdatmcor(
            infile=ms.path, datacolumn=_COLUMNS[data_column(ms)], outfile=name, overwrite=True, antenna=inputs.antenna,
            field=inputs.field, spw=selected, outputspw=selected, intent=",".join(ms.observing_modes("TARGET")),
            gainfactor=gains or 1.0, atmtype=model.atmtype, dtem_dh=f"{model.dtem_dh}K/km", h0=f"{model.h0}km",
        )  # fmt: skip
        if not (ctx.work / name).is_dir():
            raise DataError(f"sdatmcor wrote nothing for {ms.name}")
        unit = ctx.value(aftercal.UNIT, {}).get(ms.name, "")
        if unit:
            with ctx.casa.table(name, nomodify=False) as main:
                main.putcolkeyword("DATA", "UNIT", unit)
        new = read_measurement_set(
            ctx.work / name, ctx.telescopes, name=name, session=ms.session, relative_to=ctx.work,
            open_table=ctx.casa.table,
        )  # fmt: skip
        new = attrs.evolve(new, data_types=(), origin=ms.name).with_data_type(DataType.ATMCORR, "DATA")
        record = Corrected(
            vis=ms.name, output=name, status=choice.status, model=model, trials=choice.trials, reason=choice.reason,
            spw=choice.spw, antenna=choice.antenna, gains={str(k): v for k, v in gains.items()},
            pictures=_pictures(ctx, ms, new, choice),
        )  # fmt: skip
        if record.trials:
            name = f"modelparam_{ms.basename}.txt"
            (ctx.stage_dir / name).write_text(modelparam(record, inputs.maxalt), encoding="utf-8")
        return record, [*(RemoveMeasurementSet(m.name) for m in older), AddMeasurementSet(new)]


def candidates(inputs: AtmcorInputs) -> tuple[AirModel, ...]:
    """The models to try.

    Raises:
        InputError: an atmtype is none of auto, 1, 2, 3, 4, 5.
    """
    types: list[int] = []
    for word in inputs.atmtype:
        if word == "auto":
            types += atmosphere.AUTOMATIC
        elif word in ("1", "2", "3", "4", "5"):
            types.append(int(word))
        else:
            raise InputError(f"'{word}' is no climate; atmtype takes auto or numbers from 1 to 5.")
    return atmosphere.models(dict.fromkeys(types), inputs.dtem_dh, inputs.h0)


def modelparam(record: Corrected, maxalt_km: float) -> str:
    """The models tried and what each leaves, as a table of text: one line per model, the applied one marked."""
    lines = [
        f"# {record.vis}: models of the air compared in antenna {record.antenna}, spw {record.spw}",
        "# atmtype dtem_dh(K/km) h0(km) maxalt(km) intsqdiff",
    ]
    for trial in record.trials:
        m = trial.model
        mark = "  # applied" if m == record.model else ""
        lines.append(f"{m.atmtype} {m.dtem_dh:g} {m.h0:g} {maxalt_km:g} {trial.metric:.6g}{mark}")
    return "\n".join(lines) + "\n"


def data_column(ms: MeasurementSet) -> str:
    """The column to correct: the calibrated one, else the raw one."""
    return next(c for c in _COLUMNS if c in ms.columns)


def _is_corrected(ms: MeasurementSet) -> bool:
    return ms.column_of(DataType.ATMCORR) is not None


def _compared_with_edges(ctx: StageContext, ms: MeasurementSet) -> bool:
    rows = ctx.calibration.active.of(ms.name).registrations
    return any(c.caltype in ("otf", "otfraster") for r in rows for c in r.calfroms)


def mean_gains(ctx: StageContext, ms: MeasurementSet) -> dict[int, float]:
    """Jy/K by window, when the spectra are in jansky; the mean over antennas and correlations."""
    if ctx.value(aftercal.UNIT, {}).get(ms.name) != "Jy":
        return {}
    by_spw: dict[int, list[float]] = {}
    for (spw, _, _), factor in k2jy(ctx, ms).items():
        by_spw.setdefault(spw, []).append(factor)
    return {spw: float(np.mean(values)) for spw, values in sorted(by_spw.items())}


@attrs.frozen(eq=False)
class Chosen:
    """A model, how it was chosen, and the projected spectra that spoke for it (for the pictures)."""

    model: AirModel
    status: str
    reason: str = ""
    trials: tuple[Trial, ...] = ()
    spw: int = -1
    antenna: str = ""
    lines: tuple[SkyLine, ...] = ()
    observed: Any = None
    corrected: Any = None


class Choice:
    """The choice of a model for one measurement set."""

    def __init__(self, ctx: StageContext, ms: MeasurementSet, ground: airmodel.Ground, maxalt_km: float) -> None:
        self._ctx, self._ms, self._ground, self._maxalt = ctx, ms, ground, maxalt_km
        self._rows = RowTable.open(ctx, ms)

    def best(self, tried: Sequence[AirModel]) -> Chosen:
        """The best of several models, or the default with the reason why they could not be compared."""
        try:
            return self._compare(tried)
        except (CasaError, DataError, RuntimeError, ValueError) as error:
            return self._fallback(str(error).rstrip("."))

    def _fallback(self, reason: str, trials: tuple[Trial, ...] = ()) -> Chosen:
        self._ctx.log.attention(f"{self._ms.name}: the default model of the air is applied: {reason}.")
        return Chosen(atmosphere.DEFAULT, "Fallback", reason, trials)

    def _compare(self, tried: Sequence[AirModel]) -> Chosen:
        windows = sorted({spw for _, spw, _ in self._rows.header.members})
        opacity = airmodel.measured_opacity(self._ctx.casa, self._ms, windows)
        found = atmosphere.best_window(opacity)
        if found is None:
            return self._fallback("no window has an atmospheric line that could tell the models apart")
        spw, lines = found
        antenna = self._antenna(spw)
        observed, on, off = self._project(antenna, spw)
        if not np.isfinite(observed).any():
            return self._fallback("ON and OFF are at the same elevation, or all spectra are flagged")
        receiver = airmodel.read_receiver(self._ctx.casa, self._ms, spw, self._ms.antenna(antenna).name)
        frequency, nodes = self._ms.spw(spw).centres_hz, _nodes(on, off)
        jobs = [(model, self._ground, frequency, nodes, self._maxalt, receiver) for model in tried]
        airs = self._ctx.map(compute, jobs, label="models of the air")
        factors = self._factors(spw, antenna, observed.shape[0])
        trials, leftovers = {}, {}
        for model, air in zip(tried, airs, strict=True):
            expected = atmosphere.predicted(on, off, air.nodes, air.brightness_k, air.opacity, air.calibration)
            leftovers[model] = observed - factors[:, None] * expected[None, :]
            trials[model] = atmosphere.metric(leftovers[model], observed, lines)
        listed = tuple(Trial(model=m, metric=v) for m, v in trials.items())
        best = atmosphere.choose(trials)
        if best is None:
            return self._fallback("the models could not be judged", listed)
        return Chosen(
            best, "Y", "", listed, spw, self._ms.antenna(antenna).name, lines, observed, leftovers
        )

    def _antenna(self, spw: int) -> int:
        valid = np.asarray(self._rows["online_valid"]).any(axis=1)
        members = sorted({a for a, s, _ in self._rows.header.members if s == spw})
        share = {a: float(valid[self._rows.select(antenna=a, spw=spw, on_source=True)].mean()) for a in members}
        return max(members, key=lambda a: (share[a], -a))

    def _project(self, antenna: int, spw: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Projected spectra [polarization, channel], airmass of ON and of OFF of the rows, of the first target."""
        plan = strategy(self._ctx, self._ms)
        fields = [f for a, s, f in self._rows.header.members if (a, s) == (antenna, spw) and f in plan.reference_fields]
        field = min(fields)
        time, elevation = np.asarray(self._rows["time_s"]), np.asarray(self._rows["el_deg"])
        on = self._rows.select(antenna=antenna, spw=spw, field=field, on_source=True, valid=True)
        reference = plan.reference_fields[field]
        off = self._rows.select(antenna=antenna, spw=spw, field=reference, on_source=False, valid=True)
        when, level = off_blocks(time[off], elevation[off])
        if not on.size or not when.size:
            raise DataError(f"antenna {self._ms.antenna(antenna).name} has no valid ON and OFF spectra")
        # The sky table is interpolated linearly in time, so the OFF that was subtracted is, too.
        on_mass, off_mass = atmosphere.airmass(elevation[on]), atmosphere.airmass(np.interp(time[on], when, level))
        projection = atmosphere.Projection()
        column = data_column(self._ms)
        for block in spectra.blocks(self._ctx.casa, self._ms.path, column, np.asarray(self._rows["row"])[on]):
            part = block.positions
            projection.add(block.data, ~block.flags, (on_mass - off_mass)[part])
        return projection.result, on_mass, off_mass

    def _factors(self, spw: int, antenna: int, polarizations: int) -> np.ndarray:
        if self._ctx.value(aftercal.UNIT, {}).get(self._ms.name) != "Jy":
            return np.ones(polarizations)
        known, name = k2jy(self._ctx, self._ms), self._ms.antenna(antenna).name
        correlations = self._ms.polarization_of(self._ms.spw(spw).id).correlations
        return np.array([known.get((spw, name, c), math.nan) for c in correlations])


def _nodes(on: np.ndarray, off: np.ndarray) -> np.ndarray:
    """Airmasses at which models are computed: five over the range of the observation."""
    low, high = min(on.min(), off.min()), max(on.max(), off.max())
    return np.linspace(low - 1e-6, max(high, low + 1e-3), 5)


def compute(
    ctx: ItemContext, job: tuple[AirModel, airmodel.Ground, Any, Any, float, airmodel.Receiver]
) -> airmodel.Air:
    """One model."""
    model, ground, frequency, nodes, maxalt, receiver = job
    return airmodel.model_air(ctx.casa, model, ground, frequency, nodes, maxalt, receiver)


def _pictures(ctx: StageContext, ms: MeasurementSet, new: MeasurementSet, choice: Chosen) -> str:
    """Averages before and after, and the projected spectra of all models; one file for the page."""
    arrays: dict[str, Any] = {}
    rows = RowTable.open(ctx, ms)
    for spw in sorted({spw for _, spw, _ in rows.header.members}):
        own = rows.select(spw=spw, on_source=True)
        there = rows_in(ctx, new, np.asarray(rows["row"])[own])
        own, there = own[there >= 0], there[there >= 0]
        if not own.size:
            continue
        keys = {name: np.asarray(rows[name])[own] for name in ("antenna", "field")}
        window = Window(
            vis=new.name, path=new.path, column="DATA", spw=spw, rows=there, scan=np.zeros(own.size, dtype=int), **keys
        )
        found = average(ctx, window)
        arrays[f"spw{spw}.pairs"] = found.groups[:, :2]
        arrays[f"spw{spw}.spectrum"] = found.spectrum.astype(np.float32)
    if choice.corrected is not None:
        arrays["models.observed"] = choice.observed
        arrays["models.corrected"] = np.stack(list(choice.corrected.values()))
        arrays["models.lines"] = np.array([(line.first, line.last) for line in choice.lines])
    name = ctx.path(ms, "overview", ext="npz")
    np.savez_compressed(Path(ctx.work) / name, **arrays)
    return name
