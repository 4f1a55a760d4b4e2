"""Measure the compression of the receivers from the switched noise power."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from pl_hifv.heuristics import compression
from pl_hifv.occupancy import virtual_ids
from pl_hifv.stages.priorcals import RQ_VALUE
from pl_kernel import Inputs, PlError, Result, Stage, param
from pl_kernel.calibration import CalApplication, CalFrom, CalTo
from pl_kernel.common.flagcommands import find_file
from pl_kernel.effects import Effect, RegisterCalibration, UnregisterCalibration
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.stage import first_of, joined
from pl_kernel.stage_context import StageContext

BANDS = ("L", "S", "C", "X", "Ku", "K", "Ka", "Q")
BASEBANDS = ("A0C0", "B0D0", "A1C1", "A2C2", "B1D1", "B2D2")
_FLAGGED = re.compile(r"antenna='(\w+)&&\*'.*timerange='([^~']+)~([^']+)'")


class SyspowerInputs(Inputs):
    clip_sp_template: tuple[float, float] = param((0.7, 1.2), doc="Template values outside are flagged.")
    antexclude: dict[str, dict[str, dict[str, bool]]] = param(
        factory=dict,
        doc="Antennas whose template is replaced, by band: {S: {ea02: {usemedian: true}}} takes the median of the"
        " others, false takes 1.",
    )  # fmt: skip
    apply: bool = param(False, doc="Multiply the requantizer gains by the template.")
    do_not_apply: tuple[str, ...] = param((), doc="Bands whose requantizer gains stay as they are.")


@attrs.frozen(kw_only=True)
class AntennaCompression:
    """The template of one antenna, all basebands and polarizations together (quartiles of samples that are good)."""

    antenna: str
    quartiles: tuple[float, ...] = attrs.field(converter=tuple)
    flagged_fraction: float
    outside_fraction: float


@attrs.frozen(kw_only=True)
class BandCompression:
    """One band of one measurement set; ``file`` holds times and templates for the plots."""

    vis: str
    band: str
    spws: tuple[int, ...] = attrs.field(converter=tuple)
    basebands: dict[str, tuple[float, float]]
    samples: int
    outside: int
    antennas: tuple[AntennaCompression, ...] = attrs.field(converter=tuple)
    file: str


class SyspowerResult(Result):
    """Compression by band; ``tables`` holds the requantizer table with the template by measurement set."""

    bands: tuple[BandCompression, ...]
    clip: tuple[float, float] = joined(first_of)
    skipped: dict[str, str] = attrs.field(factory=dict)
    tables: dict[str, str] = attrs.field(factory=dict)
    applied: tuple[str, ...] = ()


class Syspower(Stage[SyspowerInputs, SyspowerResult]):
    """Measure the compression of the receivers from the switched noise power.

    Satellites and other strong transmitters drive amplifiers into compression: the switched power drops against the
    square of the requantizer gain. For every antenna, baseband and polarization a template is made from all windows,
    cleaned of glitches (`pl_hifv.heuristics.compression`), relative to the time of the flux calibrator. Values outside
    the limits are flagged. With ``apply`` the requantizer gains times the template take the place of the gains alone.

    Designed for the sky survey below 4 GHz. A new table is made and registered; the one from hifv_priorcals stays as
    it was (the reference overwrites it, and a second run fails on its backup).
    """

    name = "hifv_syspower"
    page_reads = frozenset()
    topic = "calibration"
    each_set = True

    def check(self, ctx: StageContext, inputs: SyspowerInputs) -> None:
        low, high = inputs.clip_sp_template
        if not low < high:
            raise PlError(f"clip_sp_template must be a lower and an upper limit; got {low:g} and {high:g}.")

    def run(self, ctx: StageContext, inputs: SyspowerInputs) -> SyspowerResult:
        bands: list[BandCompression] = []
        skipped, tables, effects, applied = {}, {}, [], []
        for ms in ctx.measurement_sets(inputs.vis):
            registered = _requantizer(ctx, ms)
            groups = eligible(ms)
            reason = _why_not(ms, registered, groups)
            if reason:
                ctx.log.info(f"{ms.name}: {reason}")
                skipped[ms.name] = reason
                continue
            assert registered is not None
            table = ctx.path(ms, "rq")
            ctx.files.rmtree(table)
            ctx.files.copytree(registered.gaintable, table)
            for band, basebands in groups.items():
                found, templates = _band(ctx, ms, band, basebands, inputs)
                bands.append(found)
                if band not in inputs.do_not_apply:
                    _multiply(ctx, table, templates)
            tables[ms.name] = table
            if inputs.apply and _is_applied(ctx, ms, registered):
                applied.append(ms.name)
                effects += _replace(ms, registered, table, self.name)
            elif inputs.apply:
                ctx.log.warning(f"{ms.name}: the requantizer gains are not applied, so the template is not, either.")
        return SyspowerResult(
            bands=tuple(bands), clip=inputs.clip_sp_template, skipped=skipped, tables=tables,
            applied=tuple(applied), effects=tuple(effects),
        )  # fmt: skip


def eligible(ms: MeasurementSet) -> dict[str, dict[str, list[int]]]:
    """Windows (real ids) by band and baseband, where the samplers have switched power."""
    found: dict[str, dict[str, list[int]]] = {}
    for w in ms.science_spws:
        parts = w.name.split("#")
        if w.band in BANDS and len(parts) > 2 and parts[1] in BASEBANDS:
            found.setdefault(w.band, {}).setdefault(parts[1], []).append(int(w.id))
    return found


def _requantizer(ctx: StageContext, ms: MeasurementSet) -> CalFrom | None:
    """The registered requantizer table; one that is not registered is found through the run value."""
    for group in ctx.calibration.merged(ms):
        for calfrom in group.calfroms:
            if calfrom.caltype == "rq":
                return calfrom
    path = str((ctx.value(RQ_VALUE) or {}).get(ms.name, ""))
    return CalFrom(gaintable=path, interp="", caltype="rq", calwt=False) if path else None


def _is_applied(ctx: StageContext, ms: MeasurementSet, requantizer: CalFrom) -> bool:
    """Whether a table is registered; the gains of the switched power contain those of the requantizer."""
    return any(requantizer in group.calfroms for group in ctx.calibration.merged(ms))


def _why_not(ms: MeasurementSet, registered: CalFrom | None, groups: dict[str, Any]) -> str:
    if registered is None or not Path(registered.gaintable).is_dir():
        return "there is no table of requantizer gains, so the compression of the receivers is not looked at."
    if not groups:
        return "no window belongs to a baseband with switched power."
    if not (Path(ms.path) / "SYSPOWER").is_dir():
        return "the data hold no switched power."
    if not _reference(ms):
        return "there is neither a flux nor a bandpass calibrator to refer the switched power to."
    return ""


def _reference(ms: MeasurementSet) -> list[tuple[float, float]]:
    """Spans (MJD s) of the first flux calibrator, failing that of the first bandpass calibrator."""
    for intent in ("AMPLITUDE", "BANDPASS"):
        fields = ms.fields_with_intent(intent)
        if fields:
            return [
                (_mjd_s(s.start), _mjd_s(s.end)) for s in ms.scans_with_intent(intent, field=fields[0].id)
            ]
    return []


def _band(
    ctx: StageContext, ms: MeasurementSet, band: str, basebands: dict[str, list[int]], inputs: SyspowerInputs
) -> tuple[BandCompression, dict[tuple[int, int, int], tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """Templates of one band: by (antenna, spw, polarization) times, values and flags."""
    spws = sorted(s for group in basebands.values() for s in group)
    times, diff, gain = _read(ctx, ms, spws)
    reference = np.zeros(times.size, bool)
    for start, end in _reference(ms):
        reference |= (times >= start) & (times <= end)
    online = _online(ctx, ms, times)
    low, high = inputs.clip_sp_template
    names = [a.name for a in sorted(ms.antennas, key=lambda a: a.id)]
    ids = {a.name: a.id for a in ms.antennas}
    shape = (len(names), len(basebands), 2, times.size)
    values, flags = np.ones(shape), np.ones(shape, bool)
    for a, name in enumerate(names):
        for b, group in enumerate(basebands.values()):
            rows = [spws.index(s) for s in group]
            for pol in (0, 1):
                measured = compression.normalised(
                    diff[ids[name], rows, pol], gain[ids[name], rows, pol], reference
                )
                measured[:, online.get(name, np.zeros(times.size, bool))] = np.nan
                if np.isfinite(measured).sum() < 7:
                    continue  # never measured: no template, all flagged
                made = compression.template(measured)
                values[a, b, pol], flags[a, b, pol] = made.values, made.flagged
        ctx.progress(a + 1, len(names), f"{ms.name}, band {band}")
    known = ~flags
    outside = known & ((values < low) | (values > high))
    flags |= outside
    _exclude(values, flags, names, inputs.antexclude.get(band, {}))
    virtual = virtual_ids(ctx, ms)
    file = f"compression-{ms.stem}-{band}.npz"
    with np.errstate(all="ignore"):
        raw = np.nanmedian(np.where(diff > 0, diff, np.nan), axis=(0, 1, 2)) if diff.size else np.zeros(0)
    np.savez_compressed(ctx.stage_dir / file, times=times, values=values, flags=flags, diff=raw)
    templates = {
        (ids[name], spw, pol): (times, values[a, b, pol], flags[a, b, pol])
        for a, name in enumerate(names)
        for b, group in enumerate(basebands.values())
        for spw in group
        for pol in (0, 1)
    }
    windows = {int(w.id): w for w in ms.science_spws}
    return BandCompression(
        vis=ms.name, band=band, spws=[virtual[s] for s in spws],
        basebands={
            k: (min(windows[s].min_hz for s in v), max(windows[s].max_hz for s in v)) for k, v in basebands.items()
        },
        samples=int(known.sum()), outside=int(outside.sum()),
        antennas=[_summary(n, values[a], flags[a], known[a], outside[a]) for a, n in enumerate(names)], file=file,
    ), templates  # fmt: skip


def _summary(
    name: str, values: np.ndarray, flags: np.ndarray, known: np.ndarray, outside: np.ndarray
) -> AntennaCompression:
    good = values[~flags]
    quartiles = np.percentile(good, [0, 25, 50, 75, 100]).tolist() if good.size else [float("nan")] * 5
    return AntennaCompression(
        antenna=name, quartiles=quartiles, flagged_fraction=float(flags.mean()) if flags.size else 1.0,
        outside_fraction=float(outside.sum() / known.sum()) if known.any() else 0.0,
    )  # fmt: skip


def _exclude(values: np.ndarray, flags: np.ndarray, names: list[str], excluded: dict[str, dict[str, bool]]) -> None:
    others = [i for i, n in enumerate(names) if n not in excluded]
    for name, how in excluded.items():
        if name not in names:
            continue
        a = names.index(name)
        values[a] = np.median(values[others], axis=0) if how.get("usemedian") and others else 1.0
        flags[a] = False


def _read(ctx: StageContext, ms: MeasurementSet, spws: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times (MJD s), SWITCHED_DIFF and REQUANTIZER_GAIN as (antennas, spws, 2, times), 0 where not measured."""
    with ctx.casa.table(f"{ms.path}/SYSPOWER") as table:
        part = table.query(f"SPECTRAL_WINDOW_ID IN [{','.join(map(str, spws))}]")
        try:
            if part.nrows() == 0:
                return np.zeros(0), np.zeros((0, 0, 2, 0)), np.zeros((0, 0, 2, 0))
            time, antenna, spw = (part.getcol(c) for c in ("TIME", "ANTENNA_ID", "SPECTRAL_WINDOW_ID"))
            columns = [part.getcol(c) for c in ("SWITCHED_DIFF", "REQUANTIZER_GAIN")]
        finally:
            part.close()
    times, where = np.unique(np.round(time, 3), return_inverse=True)
    place = {s: i for i, s in enumerate(spws)}
    index = np.array([place[int(s)] for s in spw])
    arrays = []
    for column in columns:
        array = np.zeros((max(a.id for a in ms.antennas) + 1, len(spws), 2, times.size), np.float32)
        kept = antenna < array.shape[0]
        for pol in (0, 1):
            values = column[min(pol, column.shape[0] - 1)]
            array[antenna[kept], index[kept], pol, where.ravel()[kept]] = values[kept]
        arrays.append(array)
    return times, arrays[0], arrays[1]


def _online(ctx: StageContext, ms: MeasurementSet, times: np.ndarray) -> dict[str, np.ndarray]:
    """Times at which the observatory flagged each antenna, by its file or else the data's own FLAG_CMD table."""
    path = find_file(None, f"{ms.stem}.flagonline.txt")
    text = path.read_text(encoding="utf-8") if path else ""
    if path is None and "FLAG_CMD" in ms.subtables:
        with ctx.casa.table(f"{ms.path}/FLAG_CMD") as table:
            text = "\n".join(map(str, table.getcol("COMMAND"))) if table.nrows() else ""
    found: dict[str, np.ndarray] = {}
    for antenna, start, end in _FLAGGED.findall(text):
        try:
            inside = (times >= _parse(start)) & (times <= _parse(end))
        except ValueError:
            continue  # a selection by time of day only; the data themselves are flagged by hifv_flagdata
        found[antenna] = found.get(antenna, np.zeros(times.size, bool)) | inside
    return found


def _parse(text: str) -> float:
    pattern = "%Y/%m/%d/%H:%M:%S.%f" if "." in text else "%Y/%m/%d/%H:%M:%S"
    return _mjd_s(dt.datetime.strptime(text.strip(), pattern).replace(tzinfo=dt.UTC))


def _mjd_s(moment: dt.datetime) -> float:
    return moment.replace(tzinfo=moment.tzinfo or dt.UTC).timestamp() + 40587 * 86400.0


def _multiply(
    ctx: StageContext, table: str, templates: dict[tuple[int, int, int], tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> None:
    """Multiply the gains of a requantizer table by the templates; parameters 0 and 2 are the gains of R and L."""
    with ctx.casa.table(table, nomodify=False) as rq:
        gain, flag = rq.getcol("FPARAM"), rq.getcol("FLAG")
        time, antenna, spw = (rq.getcol(c) for c in ("TIME", "ANTENNA1", "SPECTRAL_WINDOW_ID"))
        for (a, s, pol), (times, values, bad) in templates.items():
            rows = np.flatnonzero((antenna == a) & (spw == s))
            if not rows.size or not times.size:
                continue
            nearest = np.clip(np.searchsorted(times, time[rows]), 0, times.size - 1)
            gain[2 * pol, :, rows] *= np.interp(time[rows], times, values)[:, None]
            flag[2 * pol, :, rows] |= bad[nearest][:, None]
        rq.putcol("FPARAM", gain)
        rq.putcol("FLAG", flag)


def _replace(ms: MeasurementSet, old: CalFrom, table: str, origin: str) -> list[Effect]:
    new = attrs.evolve(old, gaintable=table)
    return [
        UnregisterCalibration(old.gaintable),
        RegisterCalibration(CalApplication(CalTo(vis=ms.name), (new,), origin=origin)),
    ]
