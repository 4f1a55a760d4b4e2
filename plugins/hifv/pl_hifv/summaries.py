"""Averages of a field's visibilities, from one pass over them: what the pictures of calibrated data are drawn from.

Nothing kept grows with the number of integrations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from pl_hif.visibilities import pieces
from pl_hifv.heuristics.delays import baseband_of
from pl_hifv.occupancy import PARALLEL, virtual_ids
from pl_kernel.ms.model import Field, MeasurementSet, SpectralWindow

BINS = 10
"""Points of time per scan, at most."""
_SPEED_OF_LIGHT = 299792458.0
_COLUMNS = ("FLAG", "TIME", "UVW", "SCAN_NUMBER", "ANTENNA1", "ANTENNA2")


def basebands(ms: MeasurementSet, windows: Iterable[SpectralWindow]) -> dict[str, tuple[SpectralWindow, ...]]:
    """Windows by band and baseband, ``C A0C0``; by the number of their converter where names do not tell."""
    found: dict[str, tuple[SpectralWindow, ...]] = {}
    for window in sorted(windows, key=lambda w: w.centre_hz):
        own = baseband_of(window.name)
        if own == window.name:
            own = f"baseband {window.baseband}" if window.baseband > 0 else ""
        key = f"{window.band} {own}".strip()
        found[key] = (*found.get(key, ()), window)
    return found


@attrs.define(kw_only=True)
class _Sums:
    """Sums (…, correlations) and counts of unflagged visibilities; of rows: their number, times and uv distances."""

    total: np.ndarray
    count: np.ndarray
    time: np.ndarray
    uv: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, shape: tuple[int, ...], correlations: int) -> _Sums:
        zeros = (np.zeros(shape), np.zeros(shape), np.zeros(shape))
        return cls(
            total=np.zeros((*shape, correlations), complex), count=np.zeros((*shape, correlations)),
            time=zeros[0], uv=zeros[1], rows=zeros[2],
        )  # fmt: skip

    def add(self, place: np.ndarray, columns: Sequence[int], data: np.ndarray, good: np.ndarray, time: np.ndarray,
            uv: np.ndarray) -> None:  # fmt: skip
        """Add rows at flat places; data and good are sums over channels (correlations, rows)."""
        order = np.argsort(place, kind="stable")
        present, first = np.unique(place[order], return_index=True)
        at = np.unravel_index(present, self.rows.shape)
        for i, column in enumerate(columns):
            self.total[(*at, column)] += np.add.reduceat(data[i, order], first)
            self.count[(*at, column)] += np.add.reduceat(good[i, order], first)
        for target, values in ((self.time, time), (self.uv, uv), (self.rows, np.ones(place.size))):
            target[at] += np.add.reduceat(values[order], first)

    def mean(self) -> np.ndarray:
        """Means, NaN where nothing is unflagged."""
        nothing = np.full(self.total.shape, np.nan, complex)
        return np.divide(self.total, self.count, out=nothing, where=self.count > 0)


class Spectra:
    """Sums per channel of one window: of all baselines, and of the baselines of each antenna as seen from it.

    The second are of the parallel hands; a visibility is that of its second antenna, too, conjugated.
    """

    def __init__(self, hands: Sequence[int], antennas: int, shape: tuple[int, int], by_antenna: bool) -> None:
        self.hands = list(hands)
        self.total, self.count = np.zeros(shape, complex), np.zeros(shape)
        inner = (len(self.hands), shape[1], antennas if by_antenna else 0)
        self.antenna_total, self.antenna_count = np.zeros(inner, complex), np.zeros(inner)

    def add(self, values: np.ndarray, good: np.ndarray, one: np.ndarray, two: np.ndarray) -> None:
        """Add visibilities (correlations, channels, rows), 0 where flagged; one, two : places of the antennas."""
        self.total += values.sum(axis=2)
        self.count += good.sum(axis=2)
        antennas = self.antenna_total.shape[2]
        if antennas:
            first, second = np.eye(antennas)[one], np.eye(antennas)[two]
            parallel = values[self.hands]
            self.antenna_total += parallel @ first + parallel.conj() @ second
            self.antenna_count += good[self.hands].astype(float) @ (first + second)

    def means(self) -> tuple[np.ndarray, np.ndarray]:
        """Means (correlations, channels) and (hands, channels, antennas); NaN where nothing is unflagged."""
        return _mean(self.total, self.count), _mean(self.antenna_total, self.antenna_count)


def _mean(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.divide(total, count, out=np.full(total.shape, np.nan, complex), where=count > 0)


def summarise(ctx: Any, ms: MeasurementSet, field: Field, column: str, *, is_target: bool) -> dict[str, np.ndarray]:
    """Average the visibilities of a field; empty where everything is flagged.

    Returns arrays to be kept: ``rows`` (spw, scan, antennas, time, baseline in wavelengths) and ``values`` (rows,
    ``names``) per scan, baseline and window; ``series_rows`` (place in ``bands``, time, antennas) and ``series`` (rows,
    ``names``) over the windows of a band, for up to BINS times of a scan; by virtual id of each window
    ``frequency_``, ``spectrum_`` (``correlations_``, channels) and, of calibrators, ``antennas_`` (hands, channels,
    ``antenna_names``). The spectra of targets are of the inner half of the uv range.
    """
    virtual = virtual_ids(ctx, ms)
    windows = [w for w in ms.science_spws if w.id in field.spws]
    names = sorted({c for w in windows for c in ms.polarization_of(w.id).correlations})
    antennas = sorted(ms.antennas, key=lambda a: a.id)
    place = np.zeros(max(a.id for a in antennas) + 1, int)
    place[[a.id for a in antennas]] = np.arange(len(antennas))
    inner_m = 0.5 * ms.array.max_baseline_m if is_target else np.inf
    bands = list(dict.fromkeys(w.band for w in windows))
    series = {band: dict[int, _Sums]() for band in bands}
    arrays: dict[str, np.ndarray] = {}
    rows, values = [], []
    for window in windows:
        correlations = ms.polarization_of(window.id).correlations
        columns = [names.index(c) for c in correlations]
        hands = [i for i, c in enumerate(correlations) if c in PARALLEL]
        scans: dict[int, _Sums] = {}
        spectra = Spectra(hands, len(antennas), (len(correlations), window.n_channels), not is_target)
        for piece in pieces(ctx, ms, [column, *_COLUMNS], [field.id], [int(window.id)]):
            read = piece.columns
            good = ~(read["FLAG"] | ~np.isfinite(read[column]))
            data = np.where(good, read[column], 0)
            one, two = place[read["ANTENNA1"]], place[read["ANTENNA2"]]
            uv = np.hypot(*read["UVW"][:2])
            inside = uv <= inner_m
            spectra.add(data[..., inside], good[..., inside], one[inside], two[inside])
            summed = data.sum(axis=1), good.sum(axis=1), read["TIME"], uv
            _by_scan(
                ms, len(antennas), len(names), columns, read["SCAN_NUMBER"], one * len(antennas) + two, summed, scans,
                series[window.band],
            )  # fmt: skip
        if not spectra.count.any() and not any(s.count.any() for s in scans.values()):
            continue
        spw = virtual[int(window.id)]
        arrays[f"spectrum_{spw}"], arrays[f"antennas_{spw}"] = spectra.means()
        arrays[f"frequency_{spw}"], arrays[f"correlations_{spw}"] = window.centres_hz, np.array(correlations)
        wavelength = _SPEED_OF_LIGHT / window.centre_hz
        for scan, sums in scans.items():
            pairs = np.flatnonzero(sums.count[0].any(axis=1))
            n = sums.rows[0, pairs]
            rows.append(np.column_stack([
                np.full(pairs.size, spw), np.full(pairs.size, scan), *_ids(antennas, pairs), sums.time[0, pairs] / n,
                sums.uv[0, pairs] / n / wavelength,
            ]))  # fmt: skip
            values.append(sums.mean()[0, pairs])
    if not values or not any(v.size for v in values):
        return {}
    arrays |= {"rows": np.concatenate(rows), "values": np.concatenate(values), "names": np.array(names)}
    arrays |= {"bands": np.array(bands), "antenna_names": np.array([a.name for a in antennas])}
    return arrays | _series(series, bands, antennas)


def _by_scan(
    ms: MeasurementSet, antennas: int, correlations: int, columns: Sequence[int], scan_of: np.ndarray,
    pair: np.ndarray, summed: tuple[np.ndarray, ...], scans: dict[int, _Sums], series: dict[int, _Sums],
) -> None:  # fmt: skip
    """Add rows to the sums of their scans: those of a window, and those of a band, which are divided in time."""
    data, good, time, uv = summed
    for scan in np.unique(scan_of).tolist():
        own = np.flatnonzero(scan_of == scan)
        begin, length = _span(ms, scan)
        bins = np.clip(((time[own] - begin) / length * BINS).astype(int), 0, BINS - 1)
        for store, count, which in ((scans, 1, np.zeros(own.size, int)), (series, BINS, bins)):
            sums = store.setdefault(scan, _Sums.of((count, antennas * antennas), correlations))
            flat = which * antennas * antennas + pair[own]
            sums.add(flat, columns, data[:, own], good[:, own], time[own], uv[own])


def _span(ms: MeasurementSet, scan: int) -> tuple[float, float]:
    from pl_kernel.weblog.observation import mjd_seconds

    record = ms.scan(scan)
    return mjd_seconds(record.start), max((record.end - record.start).total_seconds(), 1e-3)


def _ids(antennas: Sequence[Any], pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ids = np.array([a.id for a in antennas])
    return ids[pairs // len(antennas)], ids[pairs % len(antennas)]


def _series(
    series: Mapping[str, Mapping[int, _Sums]], bands: Sequence[str], antennas: Sequence[Any]
) -> dict[str, np.ndarray]:
    """The averages in time of all scans, one below the other."""
    rows, values = [], []
    for number, band in enumerate(bands):
        for sums in series[band].values():
            bins, pairs = np.nonzero(sums.count.any(axis=2))
            time = sums.time[bins, pairs] / sums.rows[bins, pairs]
            rows.append(np.column_stack([np.full(bins.size, number), time, *_ids(antennas, pairs)]))
            values.append(sums.mean()[bins, pairs])
    return {"series_rows": np.concatenate(rows), "series": np.concatenate(values)}
