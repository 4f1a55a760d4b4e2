"""hsd_applycal: Tsys, sky and Jy/K go into the spectra; the polarizations are compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import numpy as np

from pl_hsd import aftercal
from pl_hsd.aftercal import COLUMN
from pl_hsd.averages import Averages, Window, average
from pl_hsd.deviations import FILE as DEVIATIONS
from pl_hsd.deviations import write as write_deviations
from pl_hsd.heuristics import xxyy
from pl_hsd.rows import RowTable
from pl_kernel import param
from pl_kernel.common import skylines
from pl_kernel.common.applycal import ApplycalResult, ApplyStage, BasicApplycalInputs, Selection
from pl_kernel.effects import Effect, MarkApplied, ReplaceMeasurementSet
from pl_kernel.ms.datatypes import DataType
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.stage_context import StageContext


class HsdApplycalInputs(BasicApplycalInputs):
    field: str = param("", doc="Fields to calibrate, as a CASA selection; default all targets.")
    spw: str = param("", doc="Windows to calibrate, as a CASA selection of real ids; default all.")
    intent: str = param("TARGET", doc="Intents to calibrate.")
    antenna: str = param("*&&&", doc="Autocorrelations of these antennas.")
    flagbackup: bool = param(True, doc="Save the flags before, so that an exact restore is possible.")
    flagsum: bool = param(True, doc="Accepted for old scripts: flags are always counted.", hidden=True)
    flagdetailedsum: bool = param(
        True, doc="Accepted for old scripts: flags are always counted by antenna, field and window.", hidden=True
    )


@attrs.frozen(kw_only=True)
class Deviation:
    """XX against YY of one average; ``scan`` is -1 for all scans together. ``frequency_hz`` is of the deviation."""

    vis: str
    antenna: str
    field: str
    spw: int
    scan: int
    frequency_hz: float
    verdict: xxyy.Verdict


@attrs.frozen(kw_only=True)
class Calibrated:
    """What is left of the target data of an antenna in a window: share of good spectra (any polarization), Tsys (K)."""

    vis: str
    antenna: str
    spw: int
    good: float
    tsys_k: float


class HsdApplycalResult(ApplycalResult):
    """Beside what was applied: units by measurement set, the comparison of polarizations, files with averages."""

    units: dict[str, str] = attrs.field(factory=dict)
    mixed_units: dict[str, tuple[str, ...]] = attrs.field(factory=dict)
    deviations: tuple[Deviation, ...] = ()
    calibrated: tuple[Calibrated, ...] = ()
    overviews: dict[str, str] = attrs.field(factory=dict)


class HsdApplycal(ApplyStage[HsdApplycalInputs]):
    """Apply Tsys, sky level and Jy/K to the spectra on the source.

    One applycal per group of data with the same tables, flag counts of the target data before and after. The corrected
    spectra are in kelvin when Tsys and sky were applied, in jansky when the Jy/K factors were as well; the unit is
    written to the data columns when it is the same for all targets, and a mixture is a warning.

    The table of rows learns which spectra have any valid channel left, and the Tsys of each spectrum: the mean over the
    good channels inside its window, linear in time.

    XX and YY are compared for every antenna, window, field and scan, and for all scans together: a feature that only
    one of them has is no sky.
    """

    name = "hsd_applycal"
    topic = "flagging"
    page_reads = frozenset()
    counted_intent = "TARGET"
    result_class = HsdApplycalResult

    def sets(self, ctx: StageContext, inputs: HsdApplycalInputs) -> Sequence[MeasurementSet]:
        return tuple(ms for ms in ctx.measurement_sets(inputs.vis) if not ms.origin)

    def registrations(self, ms: MeasurementSet, part: Selection) -> list[Effect]:
        typed = ms.with_data_type(DataType.REGCAL_CONTLINE_ALL, COLUMN, overwrite=True)
        effects: list[Effect] = [ReplaceMeasurementSet(typed)]
        # Only targets are registered, so that with them all has been applied.
        return [*effects, MarkApplied(ms.name)] if not (part.field or part.spw) else effects

    def run(self, ctx: StageContext, inputs: HsdApplycalInputs) -> HsdApplycalResult:
        base = super().run(ctx, inputs)
        effects: list[Effect] = list(base.effects)
        units: dict[str, str] = {}
        mixed: dict[str, tuple[str, ...]] = {}
        deviations: list[Deviation] = []
        calibrated: list[Calibrated] = []
        overviews: dict[str, str] = {}
        tables: dict[str, dict[str, str]] = {}
        for ms in self.sets(ctx, inputs):
            learnt = aftercal.learn(ctx, ms)
            units[ms.name], tables[ms.name], tsys = learnt.unit, learnt.tables, learnt.tsys_k
            effects += learnt.effects
            if len(learnt.kinds) > 1:
                mixed[ms.name] = learnt.kinds
                told = ", ".join(learnt.kinds)
                ctx.log.warning(f"{ms.name}: the targets are in different units ({told}); none is written.")
            rows = RowTable.open(ctx, ms)
            windows = target_windows(ms, rows)
            averages = ctx.map(average, windows, label="average spectra")
            overviews[ms.name] = write_overview(ctx, ms, rows, windows, averages)
            deviations += compare(ctx, ms, averages)
            calibrated += _left(ms, rows, windows, averages, tsys)
            ctx.log.info(f"{ms.name} is calibrated to {units[ms.name] or 'raw units'}.")
        write_deviations(ctx.stage_dir / DEVIATIONS, deviations)
        effects += aftercal.remember(ctx, units, tables)
        fields = {f.name: getattr(base, f.name) for f in attrs.fields(type(base)) if f.name != "effects"}
        return HsdApplycalResult(
            **fields, units=units, mixed_units=mixed, deviations=tuple(deviations), calibrated=tuple(calibrated),
            overviews=overviews, effects=tuple(effects),
        )  # fmt: skip


def target_windows(ms: MeasurementSet, rows: RowTable) -> list[Window]:
    """The spectra on the source, by window."""
    windows = []
    for spw in sorted({spw for _, spw, _ in rows.header.members}):
        own = rows.select(spw=spw, on_source=True)
        if own.size:
            values = {name: np.asarray(rows[name])[own] for name in ("antenna", "field", "scan")}
            windows.append(
                Window(vis=ms.name, path=ms.path, column=COLUMN, spw=spw, rows=np.asarray(rows["row"])[own], **values)
            )
    return windows


def write_overview(
    ctx: StageContext, ms: MeasurementSet, rows: RowTable, windows: Iterable[Window], averages: Iterable[Averages]
) -> str:
    """Averages over scans and levels against time, for the pictures; one file per measurement set."""
    arrays: dict[str, Any] = {}
    for window, found in zip(windows, averages, strict=True):
        own = rows.select(spw=window.spw, on_source=True)
        key = f"spw{window.spw}"
        pairs = np.unique(found.groups[:, :2], axis=0)
        spectra = [found.over_scans(int(a), int(f)) for a, f in pairs]
        arrays[f"{key}.pairs"] = pairs
        arrays[f"{key}.spectrum"] = np.asarray(spectra, dtype=np.float32)
        arrays[f"{key}.level"] = found.level.astype(np.float32)
        arrays[f"{key}.time_s"] = np.asarray(rows["time_s"])[own]
        arrays[f"{key}.antenna"] = window.antenna
        arrays[f"{key}.field"] = window.field
    name = ctx.path(ms, "overview", ext="npz")
    np.savez_compressed(ctx.work / name, **arrays)
    return name


def compare(ctx: StageContext, ms: MeasurementSet, averages: Iterable[Averages]) -> list[Deviation]:
    """XX against YY: all scans of every (antenna, field, window), and the single scans that deviate."""
    found = []
    for item in averages:
        names = ms.polarization_of(ms.spw(item.spw).id).correlations
        if not {"XX", "YY"} <= set(names) or not len(item.groups):
            continue
        pair = [names.index("XX"), names.index("YY")]
        judge = Judge(ctx, ms, item.spw)
        for antenna, field in np.unique(item.groups[:, :2], axis=0):
            found.append(judge(int(antenna), int(field), -1, item.over_scans(int(antenna), int(field))[pair]))
            own = np.flatnonzero((item.groups[:, 0] == antenna) & (item.groups[:, 1] == field))
            for k in own if own.size > 1 else ():
                scan = judge(int(antenna), int(field), int(item.groups[k, 2]), item.spectrum[k][pair])
                if scan.verdict.score < 1:
                    found.append(scan)
    return found


class Judge:
    """Judges spectra of one window; what costs time (model of the air, receiver temperatures) only where needed."""

    def __init__(self, ctx: StageContext, ms: MeasurementSet, spw: int) -> None:
        self._ctx, self._ms, self._window = ctx, ms, ms.spw(spw)
        self._air: np.ndarray | None = None

    def __call__(self, antenna: int, field: int, scan: int, pair: np.ndarray) -> Deviation:
        verdict = xxyy.judge(pair[0], pair[1])
        if verdict.sigma > xxyy.DATA_SIGMA:
            air = self._lines_of_air()
            verdict = xxyy.judge(pair[0], pair[1], sky_lines=air) if air.any() else verdict
        frequency = float(self._window.centres_hz[verdict.channel]) if verdict.channel >= 0 else float("nan")
        if verdict.sigma > xxyy.DATA_SIGMA:
            receiver = self._receiver(antenna, frequency)
            verdict = xxyy.with_receiver(verdict, *receiver) if receiver else verdict
        return Deviation(
            vis=self._ms.name, antenna=self._ms.antenna(antenna).name, field=self._ms.field(field).name,
            spw=int(self._window.id), scan=scan, frequency_hz=frequency, verdict=verdict,
        )  # fmt: skip

    def _lines_of_air(self) -> np.ndarray:
        if self._air is None:
            site = self._ctx.telescope(self._ms).site
            frequency = self._window.centres_hz
            self._air = np.zeros(frequency.shape, dtype=bool)
            if site is not None:
                tau = skylines.model_opacity(self._ctx.casa, site, self._ms, frequency)
                self._air = skylines.affected(tau)
        return self._air

    def _receiver(self, antenna: int, frequency_hz: float) -> tuple[np.ndarray, int] | None:
        """Mean receiver temperatures [2, channel] of the Tsys window, and the channel of a frequency."""
        mapped = dict((self._ctx.value("h.tsyscal") or {}).get(self._ms.name, {}).get("mapped", ()))
        source = mapped.get(int(self._window.id))
        if source is None:
            return None
        with self._ctx.casa.table(f"{self._ms.path}/SYSCAL") as syscal:
            if "TRX_SPECTRUM" not in syscal.colnames():
                return None
            part = syscal.query(f"ANTENNA_ID=={antenna} && SPECTRAL_WINDOW_ID=={source}")
            try:
                values = part.getcol("TRX_SPECTRUM") if part.nrows() else np.zeros((0, 0, 0))
            finally:
                part.close()
        if values.shape[0] < 2:
            return None
        axis = self._ms.spw(source).centres_hz
        return np.mean(values, axis=2)[:2], int(np.argmin(np.abs(axis - frequency_hz)))


def _left(
    ms: MeasurementSet, rows: RowTable, windows: Iterable[Window], averages: Iterable[Averages], tsys: np.ndarray
) -> list[Calibrated]:
    found = []
    for window, item in zip(windows, averages, strict=True):
        own = rows.select(spw=window.spw, on_source=True)
        good = np.isfinite(item.level).any(axis=1) if item.level.size else np.zeros(own.size, dtype=bool)
        for antenna in np.unique(window.antenna):
            mine = window.antenna == antenna
            used = tsys[own[mine]]
            found.append(
                Calibrated(
                    vis=ms.name, antenna=ms.antenna(int(antenna)).name, spw=window.spw, good=float(good[mine].mean()),
                    tsys_k=float(np.mean(used[used != 1.0])) if (used != 1.0).any() else float("nan"),
                )
            )  # fmt: skip
    return found
