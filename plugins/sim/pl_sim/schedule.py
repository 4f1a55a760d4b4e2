"""The timeline of an observation: when each subscan happens, integration by integration."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import numpy as np
from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pl_sim.observation import Observation, Scan, Subscan

_MJD_EPOCH = dt.datetime(1858, 11, 17)


def mjd_seconds(iso: str) -> float:
    """UTC as modified Julian date in seconds, the unit of TIME columns."""
    return (dt.datetime.fromisoformat(iso) - _MJD_EPOCH).total_seconds()


def casa_time(seconds: float) -> str:
    """A time of a TIME column as CASA writes it in selections: `2023/05/10/04:50:00.000`."""
    moment = _MJD_EPOCH + dt.timedelta(seconds=round(seconds, 3))
    return moment.strftime("%Y/%m/%d/%H:%M:%S.") + f"{moment.microsecond // 1000:03d}"


@frozen
class Entry:
    """One subscan on the time axis."""

    scan: Scan
    subscan: Subscan
    number: int
    """Number of the subscan in its scan, from 1."""
    field: int
    state: int
    times: NDArray[np.float64] = field(eq=False)
    """Midpoints of the integrations, MJD seconds UTC."""
    first: int
    """Index of the first integration in the run of all integrations of the observation."""

    def track_arcsec(self) -> NDArray[np.float64]:
        """(east, north) offset of the pointing from the field at every integration, shape (time, 2)."""
        if self.subscan.track_arcsec is None:
            return np.zeros((len(self.times), 2))
        (e0, n0), (e1, n1) = self.subscan.track_arcsec
        fraction = (np.arange(len(self.times)) + 0.5) / len(self.times)
        return np.stack([e0 + (e1 - e0) * fraction, n0 + (n1 - n0) * fraction], axis=-1)


def timeline(observation: Observation) -> Iterator[Entry]:
    """Subscans in order of time."""
    modes = observation.obs_modes
    step = observation.integration_s
    now, first = mjd_seconds(observation.start), 0
    for scan in observation.scans:
        for number, sub in enumerate(scan.subscans, start=1):
            count = round(sub.seconds / step)
            times = now + (np.arange(count) + 0.5) * step
            mode = (",".join(sub.intents), number if len(scan.subscans) > 1 else 1)
            yield Entry(scan, sub, number, observation.field_index(sub.field), modes.index(mode), times, first)
            first += count
            now += count * step + sub.gap_s
        now += scan.gap_s


def all_times(observation: Observation) -> NDArray[np.float64]:
    """Midpoints of every integration of the observation, MJD seconds UTC."""
    return np.concatenate([entry.times for entry in timeline(observation)])


def time_range(observation: Observation) -> tuple[float, float]:
    """Start of the first and end of the last integration, MJD seconds UTC."""
    times = all_times(observation)
    half = observation.integration_s / 2
    return float(times[0] - half), float(times[-1] + half)
