"""Phases of antennas against time on a field of unknown structure: two passes over the data, one more per step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import numpy as np

from pl_hif.visibilities import Piece, pieces
from pl_hifv.heuristics.phasejump import Jump, jumps
from pl_hifv.occupancy import PARALLEL
from pl_kernel.ms.model import MeasurementSet


@attrs.frozen(kw_only=True)
class PhaseJump:
    """An antenna whose phase is off for part of a scan; times in MJD seconds, edges of the integrations."""

    antenna: str
    field: str
    scan: int
    start_s: float
    end_s: float
    degrees: float


def find_jumps(
    ctx: Any, ms: MeasurementSet, field: int, scans: Sequence[int], spws: Iterable[int], column: str
) -> tuple[PhaseJump, ...]:
    """Look for steps of antenna phases while a field is observed. Sums are kept per antenna and time only."""
    spws = [int(s) for s in spws]
    wanted = [column, "FLAG", "TIME", "ANTENNA1", "ANTENNA2", "SCAN_NUMBER"]
    size = max(a.id for a in ms.antennas) + 1
    hands = {s: [i for i, c in enumerate(ms.polarization_of(ms.spw(s).id).correlations) if c in PARALLEL] for s in spws}
    total: dict[int, np.ndarray] = {}
    count: dict[int, np.ndarray] = {}
    scan_of: dict[float, int] = {}
    for piece in pieces(ctx, ms, wanted, [field], spws, scans):
        value, good = _averages(piece, column, hands[piece.spw])
        where = piece.columns["ANTENNA1"].astype(int) * size + piece.columns["ANTENNA2"]
        for store, array in ((total, np.where(good, value, 0)), (count, good.astype(float))):
            sums = store.setdefault(piece.spw, np.zeros((len(array), size * size), array.dtype))
            for hand in range(len(array)):
                np.add.at(sums[hand], where, array[hand])
        seen = np.round(piece.columns["TIME"], 3).tolist()
        scan_of.update(zip(seen, piece.columns["SCAN_NUMBER"].tolist(), strict=True))
    if not scan_of:
        return ()
    times = np.array(sorted(scan_of))
    numbers = np.array([scan_of[t] for t in times])
    names = {a.id: a.name for a in ms.antennas}
    half = 0.5 * max((v for s in ms.scans for w, v in s.interval_s.items() if int(w) in spws), default=1.0)
    off: list[Jump] = []
    while len(off) < size:
        # The step of one antenna is in the sums of all the others, one baseline of each: the largest is believed, and
        # the others are looked at again without it.
        sums, norms = np.zeros((times.size, size), complex), np.zeros((times.size, size))
        for piece in pieces(ctx, ms, wanted, [field], spws, scans):
            value, good = _averages(piece, column, hands[piece.spw])
            one, two = piece.columns["ANTENNA1"].astype(int), piece.columns["ANTENNA2"].astype(int)
            when = np.searchsorted(times, np.round(piece.columns["TIME"], 3))
            for j in off:
                good &= ~(((one == j.antenna) | (two == j.antenna)) & (when >= j.first) & (when <= j.last))
            mean = total[piece.spw] / np.maximum(count[piece.spw], 1)
            product = np.where(good, value * np.conj(mean[:, one * size + two]), 0).sum(axis=0)
            for antenna, term in ((one, product), (two, np.conj(product))):
                np.add.at(sums, (when, antenna), term)
                np.add.at(norms, (when, antenna), np.abs(term))
        more = jumps(sums, norms, numbers)
        if more:
            off.append(max(more, key=lambda j: abs(j.degrees)))
        if len(more) < 2:
            break
    return tuple(
        PhaseJump(
            antenna=names[j.antenna], field=ms.field(field).name, scan=int(numbers[j.first]),
            start_s=float(times[j.first] - half), end_s=float(times[j.last] + half), degrees=j.degrees,
        )
        for j in off
    )  # fmt: skip


def _averages(piece: Piece, column: str, hands: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Visibilities (hands, rows) averaged over channels, and where there are any."""
    data, flag = piece.columns[column][hands], piece.columns["FLAG"][hands]
    good = ~flag & np.isfinite(data)
    number = good.sum(axis=1)
    return np.where(good, data, 0).sum(axis=1) / np.maximum(number, 1), number > 0
