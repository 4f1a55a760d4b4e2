"""Interference that comes and goes, found in the data of some scans and flagged where it is."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import numpy as np

from pl_hif.visibilities import pieces
from pl_hifv.heuristics.bursts import bursts
from pl_hifv.occupancy import PARALLEL, virtual_ids
from pl_kernel.ms.model import MeasurementSet


@attrs.frozen(kw_only=True)
class Burst:
    """Channels of a window (virtual id), and the middles of the integrations (MJD seconds) that are flagged there."""

    spw: int
    channels: tuple[int, ...] = attrs.field(converter=tuple)
    times_s: tuple[float, ...] = attrs.field(converter=tuple)
    integrations: int
    """… of so many that were looked at."""


def flag_bursts(
    ctx: Any, ms: MeasurementSet, fields: Sequence[int], scans: Sequence[int], spws: Iterable[int], column: str
) -> tuple[Burst, ...]:
    """Flag all baselines and correlations in the integrations and channels of bursts; say which."""
    found = tuple(b for spw in spws for b in _window(ctx, ms, fields, scans, int(spw), column))
    if found:
        half = 0.4 * min((v for s in ms.scans if s.id in set(scans) for v in s.interval_s.values()), default=1.0)
        chosen = f"field='{','.join(map(str, fields))}' scan='{','.join(map(str, scans))}'"
        ctx.casa.flagdata(
            vis=ms.path, mode="list", action="apply", flagbackup=False, savepars=False,
            inpfile=[f"mode='manual' {chosen} {_selection(b, half)} reason='burst'" for b in found],
        )  # fmt: skip
    virtual = virtual_ids(ctx, ms)
    return tuple(attrs.evolve(b, spw=virtual[b.spw]) for b in found)


def _window(
    ctx: Any, ms: MeasurementSet, fields: Sequence[int], scans: Sequence[int], spw: int, column: str
) -> list[Burst]:
    """The bursts of one window, those of the same integrations' channels together."""
    hands = [i for i, c in enumerate(ms.polarization_of(ms.spw(spw).id).correlations) if c in PARALLEL]
    spectra: dict[float, tuple[int, int, np.ndarray]] = {}
    for piece in pieces(ctx, ms, [column, "FLAG", "TIME", "SCAN_NUMBER"], fields, [spw], scans, whole=True):
        data = piece.columns[column][hands]
        size = np.where(piece.columns["FLAG"][hands] | ~np.isfinite(data), np.nan, np.abs(data))
        when = np.round(piece.columns["TIME"], 3)
        for time in np.unique(when):
            rows = np.flatnonzero(when == time)
            if rows.size > spectra.get(time, (0,))[0]:  # an integration cut by the end of a piece: its larger part
                values = np.moveaxis(size[:, :, rows], 1, 0).reshape(size.shape[1], -1)
                spectrum = np.full(len(values), np.nan)
                seen = np.isfinite(values).any(axis=1)
                spectrum[seen] = np.nanmedian(values[seen], axis=1)
                spectra[time] = (rows.size, int(piece.columns["SCAN_NUMBER"][rows[0]]), spectrum)
    if not spectra:
        return []
    times = sorted(spectra)
    hit = bursts([spectra[t][2] for t in times], [spectra[t][1] for t in times])
    groups: dict[tuple[int, ...], list[float]] = {}
    for time, channels in zip(times, hit, strict=True):
        if channels.any():
            groups.setdefault(tuple(np.flatnonzero(channels).tolist()), []).append(float(time))
    return [Burst(spw=spw, channels=c, times_s=t, integrations=len(times)) for c, t in groups.items()]


def _selection(burst: Burst, half_s: float) -> str:
    runs: list[list[int]] = []
    for channel in burst.channels:
        if runs and channel == runs[-1][1] + 1:
            runs[-1][1] = channel
        else:
            runs.append([channel, channel])
    times = ",".join(f"{_utc(t - half_s)}~{_utc(t + half_s)}" for t in burst.times_s)
    return f"spw='{burst.spw}:{';'.join(f'{a}~{b}' for a, b in runs)}' timerange='{times}'"


def _utc(mjd_s: float) -> str:
    moment = dt.datetime(1858, 11, 17, tzinfo=dt.UTC) + dt.timedelta(seconds=mjd_s)
    return f"{moment:%Y/%m/%d/%H:%M:%S.%f}"
