"""Hanning-smooth the windows that need it."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from pl_hifv.heuristics.smoothing import Smoothing, Window, decide
from pl_hifv.lines import line_spws
from pl_kernel import Inputs, PlError, Result, Stage, param
from pl_kernel.effects import Effect, ReplaceMeasurementSet, SetValue
from pl_kernel.ms.model import Frame, MeasurementSet, SpectralWindow
from pl_kernel.stage_context import StageContext

SMOOTHED = "hifv.smoothed"
"""Run value: real ids of the windows smoothed here, by measurement set."""
COLUMN = "OFFLINE_HANNING_SMOOTH"
"""Column of SPECTRAL_WINDOW that remembers it in the data, as the reference pipeline writes it."""


class HanningInputs(Inputs):
    maser_detection: bool = param(True, doc="Smooth line windows near known masers, which ring.")
    spws_to_smooth: str | None = param(
        None, doc="Windows to smooth, as a CASA selection; the others are left alone. '' smooths none."
    )
    keep_original: bool = param(True, doc="The unsmoothed data always stay; accepted for old scripts.", hidden=True)


@attrs.frozen(kw_only=True)
class WindowSmoothing:
    """One window and what happened to it."""

    spw: int
    name: str
    centre_hz: float
    bandwidth_hz: float
    channel_hz: float
    smoothed: bool
    reason: str


@attrs.frozen(kw_only=True)
class MsSmoothing:
    """One measurement set: where the smoothed data are (empty: nothing was smoothed), and window by window."""

    vis: str
    path: str = ""
    windows: tuple[WindowSmoothing, ...] = attrs.field(converter=tuple)
    already: bool = False


class HanningResult(Result):
    """What was smoothed, by measurement set."""

    sets: tuple[MsSmoothing, ...]


class Hanning(Stage[HanningInputs, HanningResult]):
    """Hanning-smooth the windows that need it.

    Strong narrow signals ring over the channels of an unsmoothed spectrum, and so does interference. Each channel
    becomes a quarter of both neighbours plus half of itself; the first and last channel, and the neighbours of flagged
    channels, are flagged. Which windows, and why: `pl_hifv.heuristics.smoothing.decide`.

    The smoothed data are a new measurement set, which takes the place of the old one in the run under the same name;
    the raw data stay as they are (the reference replaces them). Data that say in SPECTRAL_WINDOW that they were
    smoothed before are left alone. Windows that are not smoothed get their raw data, flags and weights back whatever
    the CASA at hand does to them.
    """

    name = "hifv_hanning"
    page_reads = frozenset()
    topic = "dataset"
    each_set = True

    def check(self, ctx: StageContext, inputs: HanningInputs) -> None:
        for ms in ctx.measurement_sets(inputs.vis):
            if "DATA" not in ms.columns:
                raise PlError(f"{ms.name} has no DATA column, so there is nothing to smooth.")
            if inputs.spws_to_smooth and not ms.spw_ids(inputs.spws_to_smooth):
                raise PlError(f"{ms.name} has none of the windows '{inputs.spws_to_smooth}' that are to be smoothed.")

    def run(self, ctx: StageContext, inputs: HanningInputs) -> HanningResult:
        sets, effects, done = [], [], dict(ctx.value(SMOOTHED) or {})
        for ms in ctx.measurement_sets(inputs.vis):
            one, changed = self._one(ctx, ms, inputs)
            sets.append(one)
            effects += changed
            if not one.already:
                done[ms.name] = [w.spw for w in one.windows if w.smoothed]
        return HanningResult(sets=tuple(sets), effects=(*effects, SetValue(SMOOTHED, done)))

    def _one(self, ctx: StageContext, ms: MeasurementSet, inputs: HanningInputs) -> tuple[MsSmoothing, list[Effect]]:
        before = recorded(ctx, ms)
        if before is not None:
            ctx.log.warning(f"{ms.name} was Hanning-smoothed before it came here; it is not smoothed again.")
            choices = tuple(
                Smoothing(spw=int(w.id), smooth=int(w.id) in before, reason="settled before this run")
                for w in ms.science_spws
            )  # fmt: skip
            return MsSmoothing(vis=ms.name, windows=_described(ms, choices), already=True), []
        chosen = None if inputs.spws_to_smooth is None else [
            int(s) for s in (ms.spw_ids(inputs.spws_to_smooth) if inputs.spws_to_smooth else ())
        ]  # fmt: skip
        choices = decide(_windows(ctx, ms, inputs.maser_detection and chosen is None), chosen, inputs.maser_detection)
        wanted = [c.spw for c in choices if c.smooth]
        if not wanted:
            ctx.log.info(f"No window of {ms.name} is smoothed.")
            return MsSmoothing(vis=ms.name, windows=_described(ms, choices)), []
        path = smooth(ctx, ms, wanted)
        return (
            MsSmoothing(vis=ms.name, path=path, windows=_described(ms, choices)),
            [ReplaceMeasurementSet(moved(ctx, ms, path))],
        )


def recorded(ctx: StageContext, ms: MeasurementSet) -> set[int] | None:
    """Windows that the data say were smoothed, or None where they say nothing."""
    with ctx.casa.table(f"{ms.path}/SPECTRAL_WINDOW") as table:
        if COLUMN not in table.colnames():
            return None
        return {int(i) for i in np.flatnonzero(np.asarray(table.getcol(COLUMN), bool))}


def smooth(ctx: StageContext, ms: MeasurementSet, spws: list[int]) -> str:
    """Make a smoothed measurement set; return its path. Windows other than ``spws`` keep their data and flags."""
    path = ctx.path(ms, ext="ms")
    ctx.files.rmtree(path)
    observed = {int(s) for scan in ms.scans for s in scan.spw_ids} or {int(s.id) for s in ms.spws}
    others = sorted(observed - set(spws))
    options: dict[str, Any] = {}
    if others and _can_select(ctx):
        options["smooth_spw"] = spws
    ctx.casa.hanningsmooth(vis=ms.path, outputvis=path, datacolumn="data", **options)
    # Old CASA has smoothed them as well, new CASA has changed their weights.
    for description in ms.data_descriptions:
        if int(description.spw_id) in others:
            _put_back(ctx, ms.path, path, description.id)
    _remember(ctx, path, spws)
    return path


def _remember(ctx: StageContext, path: str, spws: list[int]) -> None:
    """Write into the data which windows are smoothed."""
    with ctx.casa.table(f"{path}/SPECTRAL_WINDOW", nomodify=False) as table:
        table.addcols({COLUMN: {
            "comment": "Smoothed by the pipeline", "dataManagerGroup": "", "dataManagerType": "", "maxlen": 0,
            "option": 0, "valueType": "boolean", "keywords": {},
        }})  # fmt: skip
        for row in range(table.nrows()):
            table.putcell(COLUMN, row, row in spws)


def smooth_in_order(ctx: StageContext, ms: MeasurementSet, spws: list[int]) -> str:
    """The same with the rows in the order of the raw data, for flags from pipelines that smoothed in place."""
    path = smooth(ctx, ms, spws)
    other = f"{path}.sorted"
    ctx.files.rmtree(other)
    ctx.files.move(path, other)
    ctx.files.copytree(ms.path, path)
    for description in ms.data_descriptions:
        if int(description.spw_id) in spws:
            _put_back(ctx, other, path, description.id)
    ctx.files.rmtree(other)
    _remember(ctx, path, spws)
    return path


def _can_select(ctx: StageContext) -> bool:
    return "smooth_spw" in (ctx.casa.hanningsmooth.__doc__ or "")  # since CASA 6.7.2


_KEYS = ("TIME", "ANTENNA1", "ANTENNA2", "FEED1", "FEED2", "ARRAY_ID", "OBSERVATION_ID")


def _put_back(ctx: StageContext, source: str, target: str, description: int, rows: int = 20_000) -> None:
    """Copy data, flags and weights of one data description; CASA has sorted the rows in its own way."""
    query = f"DATA_DESC_ID=={description}"
    with ctx.casa.table(source) as old, ctx.casa.table(target, nomodify=False) as new:
        one, two = old.query(query), new.query(query)
        try:
            from_rows, to_rows = _order(one), _order(two)
            if len(from_rows) != len(to_rows):
                raise PlError(f"{target} has not the rows of {source} in data description {description}.")
            back = np.empty(len(to_rows), int)
            back[to_rows] = from_rows
            numbers = np.asarray(one.rownumbers())
            columns = ["DATA", "FLAG", "FLAG_ROW", "WEIGHT", "SIGMA"]
            both = set(one.colnames()) & set(two.colnames())
            columns += [c for c in ("WEIGHT_SPECTRUM", "SIGMA_SPECTRUM") if c in both and one.iscelldefined(c, 0)]
            for start in range(0, len(back), rows):
                wanted = back[start : start + rows]
                # Rows are read in the order in which they lie on disk, and put in the order of the target.
                order = np.argsort(wanted, kind="stable")
                chosen = old.selectrows(numbers[wanted[order]].tolist())
                for column in columns:
                    values = chosen.getcol(column)
                    moved = np.empty_like(values)
                    moved[..., order] = values
                    two.putcol(column, moved, start, len(wanted))
                chosen.close()
        finally:
            one.close()
            two.close()


def _order(table: Any) -> np.ndarray:
    columns = [table.getcol(k) for k in _KEYS]
    columns[0] = np.round(columns[0], 4)
    return np.lexsort(columns[::-1])


def moved(ctx: StageContext, ms: MeasurementSet, path: str) -> MeasurementSet:
    with ctx.casa.table(path) as table:
        columns = tuple(sorted(table.colnames()))
    return attrs.evolve(
        ms, path=path, columns=columns, data_types=tuple(t for t in ms.data_types if t.column in columns)
    )


def _windows(ctx: StageContext, ms: MeasurementSet, masers: bool) -> list[Window]:
    found, lines = [], set(line_spws(ctx, ms))
    for w in ms.science_spws:
        line = int(w.id) in lines
        low, high = _lsrk_range(ctx, ms, w) if line and masers else (None, None)
        found.append(Window(id=int(w.id), line=line, online_binning=w.online_binning, low_hz=low, high_hz=high))
    return found


def _lsrk_range(
    ctx: StageContext, ms: MeasurementSet, window: SpectralWindow
) -> tuple[float | None, float | None]:
    """Frequencies of a window in LSRK over the observation, seen towards the first target that has it."""
    if window.frame is Frame.LSRK:
        return window.min_hz, window.max_hz
    if window.frame is not Frame.TOPO:
        ctx.log.info(f"Spw {window.id} of {ms.name} is in the frame {window.frame.name}; masers are not looked for.")
        return None, None
    fields = [f for f in ms.fields_with_intent("TARGET") if window.id in f.spws] or [
        f for f in ms.fields if window.id in f.spws
    ]
    tool: Any = ctx.casa.tool("synthesisutils")
    try:
        answer = tool.advisechansel(
            msname=ms.path, getfreqrange=True, freqframe="LSRK", fieldid=fields[0].id if fields else 0,
            spwselection=str(window.id),
        )  # fmt: skip
        low, high = (_hz(answer[k]) for k in ("freqstart", "freqend"))
    except (RuntimeError, KeyError, IndexError) as error:
        ctx.log.info(f"CASA cannot convert the frequencies of spw {window.id} of {ms.name}: {error}")
        return None, None
    finally:
        tool.done()
    return min(low, high), max(low, high)


def _hz(value: Any) -> float:
    """A frequency in Hz, which CASA gives as a number or as a quantity in Hz."""
    return float(np.ravel(value["value"] if isinstance(value, dict) else value)[0])


def _described(ms: MeasurementSet, choices: tuple[Smoothing, ...]) -> tuple[WindowSmoothing, ...]:
    windows = {int(w.id): w for w in ms.science_spws}
    return tuple(
        WindowSmoothing(
            spw=c.spw, name=windows[c.spw].name, centre_hz=windows[c.spw].centre_hz,
            bandwidth_hz=windows[c.spw].bandwidth_hz, channel_hz=windows[c.spw].channel_width_hz, smoothed=c.smooth,
            reason=c.reason,
        )
        for c in choices
    )  # fmt: skip
