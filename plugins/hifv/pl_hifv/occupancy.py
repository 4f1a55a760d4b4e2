"""How much of the data is flagged, and how the rest looks: one pass over a selection, for scores and plots."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
import numpy as np

from pl_hif.visibilities import pieces
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.ms.virtual import RealSpw, VirtualSpws

PARALLEL = ("RR", "LL", "XX", "YY")


@attrs.frozen(kw_only=True)
class FlagMap:
    """Counts of visibilities (channels and correlations) of a selection.

    ``flagged`` and ``total`` are (antennas, spws): a baseline counts for both of its antennas. ``spws`` are virtual.
    ``by_field``, ``by_scan`` and ``by_correlation`` hold (flagged, total); ``channels`` the flagged part of each
    channel by spw.
    """

    antennas: tuple[str, ...] = attrs.field(converter=tuple)
    spws: tuple[int, ...] = attrs.field(converter=tuple)
    flagged: tuple[tuple[float, ...], ...] = attrs.field(converter=lambda v: tuple(map(tuple, v)))
    total: tuple[tuple[float, ...], ...] = attrs.field(converter=lambda v: tuple(map(tuple, v)))
    by_field: dict[str, tuple[float, float]] = attrs.field(factory=dict)
    by_scan: dict[str, tuple[float, float]] = attrs.field(factory=dict)
    channels: dict[str, tuple[float, ...]] = attrs.field(factory=dict)
    by_correlation: dict[str, tuple[float, float]] = attrs.field(factory=dict)

    @property
    def fraction(self) -> float:
        """Flagged part of everything; 1 when there is nothing."""
        return _ratio(np.sum(self.flagged), np.sum(self.total))

    @property
    def matrix(self) -> np.ndarray:
        """Flagged part by antenna and spw; NaN where there are no data."""
        flagged, total = np.array(self.flagged, float), np.array(self.total, float)
        return np.where(total > 0, flagged / np.maximum(total, 1), np.nan).reshape(len(self.antennas), len(self.spws))

    def by_antenna(self) -> dict[str, float]:
        """Flagged part of the data of each antenna."""
        return {a: _ratio(sum(f), sum(t)) for a, f, t in zip(self.antennas, self.flagged, self.total, strict=True)}

    def by_spw(self) -> dict[int, float]:
        """Flagged part of each window."""
        flagged, total = np.array(self.flagged, float), np.array(self.total, float)
        shape = (len(self.antennas), len(self.spws))
        sums = flagged.reshape(shape).sum(axis=0), total.reshape(shape).sum(axis=0)
        return {s: _ratio(f, t) for s, f, t in zip(self.spws, *sums, strict=True)}


@attrs.frozen(kw_only=True)
class Spectrum:
    """Amplitudes of one window and parallel hand against frequency: mean and largest of what is not flagged."""

    spw: int
    correlation: str
    frequency_hz: np.ndarray
    mean: np.ndarray
    peak: np.ndarray


def _ratio(part: float, whole: float) -> float:
    return float(part) / float(whole) if whole else 1.0


def virtual_ids(ctx: Any, ms: MeasurementSet) -> dict[int, int]:
    """Virtual id of every window of a measurement set; a window the run does not number keeps its own."""
    known = VirtualSpws.of(ctx.context.measurement_sets)
    found = {}
    for window in ms.spws:
        virtual = known.to_virtual(RealSpw(int(window.id)), ms.name)
        found[int(window.id)] = int(window.id) if virtual is None else int(virtual)
    return found


class _Counter:
    """Collects the counts of one measurement set."""

    def __init__(self, ms: MeasurementSet, spws: list[int]) -> None:
        self.spws = spws
        shape = (max((a.id for a in ms.antennas), default=0) + 1, len(spws))
        self.flagged, self.total = np.zeros(shape), np.zeros(shape)
        self.fields: dict[int, list[float]] = {}
        self.scans: dict[int, list[float]] = {}
        self.channels: dict[int, tuple[np.ndarray, float]] = {}
        self.hands = {int(w.id): ms.polarization_of(w.id).correlations for w in ms.spws if int(w.id) in spws}
        self.correlations: dict[str, list[float]] = {}

    def add(self, spw: int, columns: dict[str, np.ndarray]) -> None:
        flag = columns["FLAG"]
        rows = flag.sum(axis=(0, 1)).astype(float)
        size = float(flag.shape[0] * flag.shape[1])
        column = self.spws.index(spw)
        for side in ("ANTENNA1", "ANTENNA2"):
            ids = columns[side]
            self.flagged[:, column] += np.bincount(ids, weights=rows, minlength=len(self.flagged))
            self.total[:, column] += size * np.bincount(ids, minlength=len(self.total))
        for store, ids in ((self.fields, columns["FIELD_ID"]), (self.scans, columns["SCAN_NUMBER"])):
            for key in np.unique(ids).tolist():
                part = store.setdefault(int(key), [0.0, 0.0])
                chosen = ids == key
                part[0] += float(rows[chosen].sum())
                part[1] += size * int(chosen.sum())
        for hand, lost in zip(self.hands[spw], flag.sum(axis=(1, 2)).tolist(), strict=True):
            part = self.correlations.setdefault(hand, [0.0, 0.0])
            part[0] += float(lost)
            part[1] += float(flag.shape[1] * flag.shape[2])
        sums, count = self.channels.get(spw, (np.zeros(flag.shape[1]), 0.0))
        self.channels[spw] = (sums + flag.sum(axis=(0, 2)), count + flag.shape[0] * flag.shape[2])


def look(
    ctx: Any, ms: MeasurementSet, *, fields: Iterable[int] = (), scans: Iterable[int] = (), spws: Iterable[int] = (),
    column: str = "",
) -> tuple[FlagMap, tuple[Spectrum, ...]]:  # fmt: skip
    """Count flags of a selection (empty: everything) in the science windows; with ``column`` also look at amplitudes.

    Memory does not grow with the number of integrations: data are read in pieces and summed.
    """
    ids = sorted({int(s) for s in spws} or {int(s) for s in ms.science_spw_ids})
    virtual = virtual_ids(ctx, ms)
    counter = _Counter(ms, ids)
    sums: dict[tuple[int, str], list[np.ndarray]] = {}
    wanted = ["FLAG", "ANTENNA1", "ANTENNA2", "FIELD_ID", "SCAN_NUMBER"] + ([column] if column else [])
    for piece in pieces(ctx, ms, wanted, fields, ids, scans):
        counter.add(piece.spw, piece.columns)
        if column:
            _add_amplitudes(sums, ms, piece.spw, piece.columns[column], piece.columns["FLAG"])
    antennas = sorted(ms.antennas, key=lambda a: a.id)
    rows = [a.id for a in antennas]
    names = {f.id: f.name for f in ms.fields}
    counts = FlagMap(
        antennas=[a.name for a in antennas], spws=[virtual[s] for s in ids],
        flagged=counter.flagged[rows].tolist(), total=counter.total[rows].tolist(),
        by_field=_by_name((names.get(k, str(k)), v) for k, v in counter.fields.items()),
        by_scan=_by_name((str(k), v) for k, v in sorted(counter.scans.items())),
        channels={str(virtual[s]): tuple((f / max(n, 1)).tolist()) for s, (f, n) in sorted(counter.channels.items())},
        by_correlation=_by_name(counter.correlations.items()),
    )  # fmt: skip
    spectra = tuple(
        Spectrum(
            spw=virtual[spw], correlation=name, frequency_hz=ms.spw(spw).centres_hz,
            mean=np.where(count > 0, total / np.maximum(count, 1), np.nan),
            peak=np.where(count > 0, peak, np.nan),
        )
        for (spw, name), (total, count, peak) in sorted(sums.items())
    )  # fmt: skip
    return counts, spectra


def _by_name(counts: Iterable[tuple[str, list[float]]]) -> dict[str, tuple[float, float]]:
    """(flagged, total) by name; fields of one name and several ids add up."""
    found: dict[str, tuple[float, float]] = {}
    for name, (flagged, total) in counts:
        before = found.get(name, (0.0, 0.0))
        found[name] = (before[0] + flagged, before[1] + total)
    return found


def _add_amplitudes(
    sums: dict[tuple[int, str], list[np.ndarray]], ms: MeasurementSet, spw: int, data: np.ndarray, flag: np.ndarray
) -> None:
    for i, name in enumerate(ms.polarization_of(ms.spw(spw).id).correlations):
        if name not in PARALLEL:
            continue
        amplitude = np.where(flag[i] | ~np.isfinite(data[i]), 0.0, np.abs(data[i]))
        good = ~flag[i]
        nothing = np.zeros(data.shape[1])
        total, count, peak = sums.setdefault((spw, name), [nothing, nothing.copy(), nothing.copy()])
        highest = np.maximum(peak, amplitude.max(axis=1, initial=0.0))
        sums[spw, name] = [total + amplitude.sum(axis=1), count + good.sum(axis=1), highest]
