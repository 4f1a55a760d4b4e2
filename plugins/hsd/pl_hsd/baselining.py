"""Subtracting baselines from one measurement set: whole raster rows at a time, read once and written once."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_hsd import bltable, spectra
from pl_hsd.bltable import FittedSpectra, Function
from pl_hsd.heuristics import fitorder
from pl_hsd.heuristics.fitting import fit_polynomial, fit_sinusoid, fit_spline
from pl_hsd.heuristics.flatness import integrated_flatness
from pl_hsd.heuristics.skygrid import SkyGrid
from pl_hsd.heuristics.spectralstats import difference_noise, spectrum_rms
from pl_hsd.linesearch import edge_mask, masks_by_channel
from pl_hsd.ranges import SpectralRanges
from pl_kernel.stage_context import ItemContext

BoolArray = NDArray[np.bool_]
Float32Array = NDArray[np.float32]
IntArray = NDArray[np.int64]


@attrs.frozen(kw_only=True)
class FitChoice:
    """What to fit in one window: ``order`` None is found from the spectra; ``waves`` are for a sinusoid."""

    kind: str = "cspline"
    order: int | None = None
    switchpoly: bool = True
    waves: tuple[int, ...] = ()


@attrs.frozen(eq=False, kw_only=True)
class FitMember:
    """Spectra of one member, all arrays [row]: row numbers in the new measurement set and raster rows; masked spans.

    keys : SCANNO, BEAMNO, ANTNO, IFNO, TIME of the rows in the measurement set the baselines belong to.
    spw, field, antenna : virtual id and names, for the reader.  lines : channels with lines anywhere on the map.
    pols : numbers of the polarizations that get baselines; spectra of others are flagged.
    valid : [row, polarization], False for spectra that an earlier hsd_blflag rejected: they get a baseline, so that
    they can be judged anew, but have no say in the order for their raster row, and count in no mean and no median.
    """

    spw: int
    field: str
    antenna: str
    n_chan: int
    rows: IntArray
    raster_row: IntArray
    mask_offsets: IntArray
    mask_spans: IntArray
    ra_deg: NDArray[np.float64]
    dec_deg: NDArray[np.float64]
    time_s: NDArray[np.float64]
    keys: dict[str, NDArray[Any]]
    deviation: SpectralRanges
    lines: SpectralRanges
    grid: SkyGrid
    choice: FitChoice
    correlations: tuple[str, ...]
    pols: tuple[int, ...]
    valid: BoolArray
    file: str


@attrs.frozen(eq=False, kw_only=True)
class FitJob:
    """One measurement set to be baselined in place; ``parameters`` and ``table`` are files to be written."""

    ms: str
    path: str
    column: str
    edge: tuple[int, int]
    members: tuple[FitMember, ...]
    parameters: str
    table: str

    @property
    def name(self) -> str:
        return self.ms


@attrs.frozen(kw_only=True)
class PolFit:
    """What came of one polarization of a member.

    spectra, failed : fitted, and those without enough channels, which were flagged.  rejected : those of the fitted
    that an earlier hsd_blflag rejected; they count in nothing that follows.  functions : how many spectra each
    function was fitted to.  rms_before, rms_after : medians over the spectra, of the channels that were fitted;
    noise : what differences of channels say the rms after could be.
    flatness : peak to peak over standard deviation of the binned mean spectrum (None: too little data).
    """

    ms: str
    spw: int
    field: str
    antenna: str
    pol: str
    spectra: int
    failed: int
    clipped: int
    functions: dict[str, int]
    rms_before: float | None
    rms_after: float | None
    noise: float | None
    flatness: float | None
    file: str
    rejected: int = 0


def fit_measurement_set(ctx: ItemContext, job: FitJob) -> tuple[PolFit, ...]:
    """Fit and subtract the baselines of one measurement set."""
    results: list[PolFit] = []
    with contextlib.ExitStack() as stack:
        text = stack.enter_context(Path(job.parameters).open("w", encoding="utf-8"))
        table = stack.enter_context(ctx.casa.table(job.path, nomodify=False))
        baselines = stack.enter_context(_new_table(ctx, job.table))
        for member in job.members:
            results += _fit_member(table, baselines, text, member, job)
    return tuple(results)


@contextlib.contextmanager
def _new_table(ctx: ItemContext, path: str) -> Iterator[Any]:
    tool = ctx.casa.tool("table")
    tool.create(path, bltable.description(), nrow=0)
    try:
        tool.putkeyword("ApplyType", "BASELINE")
        tool.putkeyword("VERSION", 1)
        measure = {"type": "epoch", "Ref": "UTC"}
        tool.putcolkeywords("TIME", {"QuantumUnits": ["s"], "MEASINFO": measure})
        yield tool
    finally:
        tool.close()
        tool.done()


@attrs.define(eq=False)
class _Tally:
    """Sums over the spectra of a member, by polarization."""

    n_pol: int
    functions: list[Counter[str]]
    failed: IntArray
    fitted: IntArray
    clipped: IntArray
    rejected: IntArray


def _fit_member(table: Any, baselines: Any, text: IO[str], member: FitMember, job: FitJob) -> list[PolFit]:
    order = np.lexsort((member.time_s, member.raster_row))
    order = order[member.rows[order] >= 0]
    if not order.size:
        return []
    n_pol = len(member.correlations)
    tally = _Tally(n_pol, [Counter() for _ in range(n_pol)], *(np.zeros(n_pol, int) for _ in range(4)))
    means = _Means.of(member, n_pol)
    keep_out = edge_mask(member.n_chan, job.edge) | member.deviation.mask(member.n_chan)
    limit = spectra.rows_per_block(n_pol, member.n_chan)
    rms = np.full((member.rows.size, n_pol, 3), np.nan)
    for part in raster_blocks(member.raster_row[order], limit):
        here = order[part]
        rms[here] = _fit_block(table, baselines, text, member, job, here, keep_out, tally, means)
    means.save(Path(member.file), rms)
    return [_summary(job, member, pol, tally, means, rms) for pol in member.pols]


def raster_blocks(raster_row: IntArray, limit: int) -> Iterator[slice]:
    """Cut rows sorted by raster row into blocks of about ``limit`` rows that never part a raster row."""
    if not raster_row.size:
        return
    starts = np.flatnonzero(np.diff(raster_row, prepend=raster_row[0] - 1))
    ends = np.append(starts[1:], raster_row.size)
    first = 0
    for start, end in zip(starts, ends, strict=True):
        if end - first > limit and start > first:
            yield slice(int(first), int(start))
            first = start
    yield slice(int(first), int(raster_row.size))


def _fit_block(
    table: Any, baselines: Any, text: IO[str], member: FitMember, job: FitJob, here: IntArray, keep_out: BoolArray,
    tally: _Tally, means: _Means,
) -> NDArray[np.float64]:  # fmt: skip
    """Fit the spectra of some whole raster rows; returns rms before, after and possible, [row, polarization, 3]."""
    rows, n_pol, n_chan = member.rows[here], tally.n_pol, member.n_chan
    data, flags = spectra.read_open(table, job.column, rows)
    masked = masks_by_channel(member.mask_offsets, member.mask_spans, here, n_chan) | keep_out
    wanted = np.isin(np.arange(n_pol), member.pols)
    use = (~flags & ~masked[:, None, :] & wanted[None, :, None]).reshape(-1, n_chan)
    flat = data.reshape(-1, n_chan)
    valid = member.valid[here][:, :n_pol]
    orders = _orders(flat, use, member, job.edge, here, valid)
    fitted, functions = fit_spectra(flat, use, orders, member.choice, n_chan - sum(job.edge))
    after, ok = flat.copy(), np.zeros(len(flat), dtype=bool)
    for part in fitted:
        after[part.index] -= part.fit.model
        ok[part.index] = part.fit.ok
        clipped = use[part.index].sum(axis=1) - part.fit.used.sum(axis=1)
        for pol in range(n_pol):
            mine = part.index % n_pol == pol
            tally.functions[pol][part.function.text] += int((part.fit.ok & mine).sum())
            tally.clipped[pol] += int(clipped[mine].sum())
    flat_flags = flags.reshape(-1, n_chan)
    failed = ~ok & ~flat_flags.all(axis=1)
    good = ok.reshape(-1, n_pol)
    tally.fitted += good.sum(axis=0)
    tally.failed += failed.reshape(-1, n_pol).sum(axis=0)
    tally.rejected += (good & ~valid).sum(axis=0)
    before_rms, after_rms = spectrum_rms(flat, use), spectrum_rms(after, use)
    spectra.put(table, job.column, rows, after.reshape(data.shape))
    if failed.any():
        # Nothing was subtracted from them; sdbaseline flags such spectra, too.
        some = failed.reshape(-1, n_pol).any(axis=1)
        spectra.put(table, "FLAG", rows[some], (flags | failed.reshape(-1, n_pol, 1))[some])
    spectra.put_scalars(table, "WEIGHT", rows, _weights(after_rms.reshape(-1, n_pol), good))
    text.write("".join(f"{line}\n" for line in bltable.parameter_lines(rows, n_pol, use, functions)))
    bltable.append_rows(baselines, {k: v[here] for k, v in member.keys.items()}, n_pol, n_chan, fitted)
    counted = ~flat_flags & (ok & valid.ravel())[:, None]
    means.add(here, flat, after, counted, n_pol)
    found = np.stack([before_rms, after_rms, difference_noise(after, use)], axis=1).reshape(-1, n_pol, 3)
    return np.where((good & valid)[:, :, None] & (found >= 0), found, np.nan)


def _weights(rms: NDArray[np.float64], good: BoolArray) -> Float32Array:
    """One over the variance of the residual, as sdbaseline gives it (updateweight); 0 where there is none."""
    known = good & (rms > 0)
    return np.where(known, 1.0 / np.where(known, rms, 1.0) ** 2, 0.0).astype(np.float32)


def _orders(
    flat: Float32Array, use: BoolArray, member: FitMember, edge: tuple[int, int], here: IntArray, valid: BoolArray
) -> IntArray:
    """Order for each spectrum: that of its raster row and polarization, or the given one; limited by its lines."""
    n_chan, n_pol = member.n_chan, valid.shape[1]
    if member.choice.order is None:
        _, number = np.unique(member.raster_row[here], return_inverse=True)
        unit = (number.ravel()[:, None] * n_pol + np.arange(n_pol)).ravel()
        inner = slice(edge[0], n_chan - edge[1])
        heard = spoken_for(valid.ravel(), unit)
        power = fitorder.mean_power(flat[:, inner], use[:, inner] & heard[:, None], unit, int(unit.max()) + 1)
        orders = fitorder.polynomial_orders(power, n_chan - sum(edge))[unit]
    else:
        return np.full(len(flat), member.choice.order, dtype=np.int64)
    counts = member.mask_offsets[here + 1] - member.mask_offsets[here]
    widths = member.mask_spans[:, 1] - member.mask_spans[:, 0] + 1
    widest = np.zeros(here.size, dtype=np.int64)
    which = np.repeat(np.arange(here.size), counts)
    place = np.repeat(member.mask_offsets[here] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
    np.maximum.at(widest, which, widths[place])
    return fitorder.capped(orders, n_chan - sum(edge), np.repeat(widest, n_pol))


def spoken_for(valid: BoolArray, unit: IntArray) -> BoolArray:
    """Spectra that have a say in the order of their unit: the valid ones, or all where none is."""
    some = np.bincount(unit, weights=valid) > 0
    return valid | ~some[unit]


def fit_spectra(
    flat: Float32Array, use: BoolArray, orders: IntArray, choice: FitChoice, n_chan: int
) -> tuple[list[FittedSpectra], list[Function]]:
    """Fit spectra [spectrum, channel] with functions chosen from their orders; spectra of one function go together."""
    clip = {"clip_sigma": bltable.CLIP_SIGMA, "clip_rounds": bltable.CLIP_ROUNDS}
    if choice.kind == "sinusoid":
        function = Function("sinusoid", waves=choice.waves)
        fit = fit_sinusoid(flat, use, choice.waves, **clip)  # type: ignore[arg-type]
        return [FittedSpectra(np.arange(len(flat)), function, fit)], [function] * len(flat)
    chosen = fitorder.choose_functions(
        orders, use, n_chan, spline=choice.kind == "cspline", switchpoly=choice.switchpoly
    )
    parts: list[FittedSpectra] = []
    functions: list[Function] = [Function("poly", 1)] * len(flat)
    for polynomial in (True, False):
        for number in np.unique(chosen.number[chosen.polynomial == polynomial]):
            index = np.flatnonzero((chosen.polynomial == polynomial) & (chosen.number == number))
            function = Function("poly" if polynomial else "cspline", int(number))
            fit = fit_polynomial if polynomial else fit_spline
            everyone = index.size == len(flat)
            some = (flat, use) if everyone else (flat[index], use[index])
            parts.append(FittedSpectra(index, function, fit(*some, int(number), **clip)))  # type: ignore[arg-type]
            for i in index:
                functions[i] = function
    return parts, functions


@attrs.define(eq=False)
class _Means:
    """Mean spectra before and after: by cell of the grid, and over the map by polarization."""

    member: FitMember
    cells: IntArray
    before: Float32Array
    after: Float32Array
    count: Float32Array
    total_before: NDArray[np.float64]
    total_after: NDArray[np.float64]
    total_count: NDArray[np.float64]

    @classmethod
    def of(cls, member: FitMember, n_pol: int) -> _Means:
        shape = (member.grid.n_cells, member.n_chan)
        whole = (n_pol, member.n_chan)
        return cls(
            member, member.grid.cells(member.ra_deg, member.dec_deg), np.zeros(shape, np.float32),
            np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(whole), np.zeros(whole), np.zeros(whole),
        )  # fmt: skip

    def add(self, here: IntArray, before: Float32Array, after: Float32Array, good: BoolArray, n_pol: int) -> None:
        from scipy.sparse import csr_array

        cell = np.repeat(self.cells[here], n_pol)
        kept = np.flatnonzero(cell >= 0)
        target, slot = np.unique(cell[kept], return_inverse=True)
        one = np.ones(kept.size, dtype=np.float32)
        deal = csr_array((one, (slot.ravel(), kept)), shape=(target.size, cell.size))
        weight = good.astype(np.float32)
        before, after = before * weight, after * weight
        self.before[target] += deal @ before
        self.after[target] += deal @ after
        self.count[target] += deal @ weight
        shape = (-1, n_pol, good.shape[1])
        self.total_before += before.reshape(shape).sum(axis=0)
        self.total_after += after.reshape(shape).sum(axis=0)
        self.total_count += weight.reshape(shape).sum(axis=0)

    def mean_after(self, pol: int) -> NDArray[np.float64]:
        """Mean spectrum of one polarization; NaN where nothing counts."""
        n = self.total_count[pol]
        return np.divide(self.total_after[pol], n, out=np.full(n.shape, np.nan), where=n > 0)

    def save(self, path: Path, rms: NDArray[np.float64]) -> None:
        """Keep what the web log draws."""
        path.parent.mkdir(parents=True, exist_ok=True)
        member, known = self.member, self.count > 0
        first = np.full(member.grid.n_cells, -1, dtype=np.int64)
        first[self.cells[::-1]] = np.arange(self.cells.size)[::-1]
        cells = np.flatnonzero(first >= 0)
        masks = masks_by_channel(member.mask_offsets, member.mask_spans, first[cells], member.n_chan)
        cell_masks = np.zeros((member.grid.n_cells, member.n_chan), dtype=bool)
        cell_masks[cells] = masks
        nothing = np.full(self.before.shape, np.nan, dtype=np.float32)
        np.savez_compressed(
            path,
            before=np.divide(self.before, self.count, out=nothing.copy(), where=known),
            after=np.divide(self.after, self.count, out=nothing.copy(), where=known),
            masks=cell_masks,
            total_before=_ratio(self.total_before, self.total_count),
            total_after=_ratio(self.total_after, self.total_count),
            deviation=np.array(member.deviation.spans, dtype=np.int64).reshape(-1, 2),
            lines=np.array(member.lines.spans, dtype=np.int64).reshape(-1, 2),
            time_s=member.time_s, rms=rms.astype(np.float32),
            shape=np.array([member.grid.n_y, member.grid.n_x]), cell_deg=np.array(member.grid.cell_deg),
            origin=np.array([member.grid.x_deg, member.grid.y_deg, member.grid.ra_deg, member.grid.dec_deg]),
        )  # fmt: skip


def _ratio(total: NDArray[np.float64], count: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _summary(
    job: FitJob, member: FitMember, pol: int, tally: _Tally, means: _Means, rms: NDArray[np.float64]
) -> PolFit:
    outside = edge_mask(member.n_chan, job.edge) | member.deviation.mask(member.n_chan) | member.lines.mask(
        member.n_chan
    )
    before, after, noise = (_median(rms[:, pol, k]) for k in range(3))
    return PolFit(
        ms=job.ms, spw=member.spw, field=member.field, antenna=member.antenna, pol=member.correlations[pol],
        spectra=int(tally.fitted[pol]), failed=int(tally.failed[pol]), clipped=int(tally.clipped[pol]),
        functions=dict(sorted(tally.functions[pol].items())), rms_before=before, rms_after=after, noise=noise,
        flatness=integrated_flatness(means.mean_after(pol), ~outside), file=f"spectra/{Path(member.file).name}",
        rejected=int(tally.rejected[pol]),
    )  # fmt: skip


def _median(values: NDArray[np.float64]) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else None
