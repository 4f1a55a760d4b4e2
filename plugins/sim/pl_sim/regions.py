"""Boxes in the data: which antennas, channels, correlations, scans and times something is about.

Faults declare the visibilities they spoil as boxes, act on the data through the same boxes, and the truth keeps them,
so that what was done and what is said to have been done cannot differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


@frozen
class Region:
    """A box of visibilities; None means all."""

    reason: str
    """Name of the fault."""
    severity: str = "bad"
    """`bad`: should be flagged. `calibratable`: real but correctable (a phase jump, swapped receptors). `weak`: too
    faint to be found in a single visibility, not counted against a flagger."""
    scans: tuple[int, ...] | None = None
    fields: tuple[str, ...] | None = None
    spws: tuple[int, ...] | None = None
    antennas: tuple[str, ...] | None = None
    """Baselines to any of these."""
    baselines: tuple[tuple[str, str], ...] | None = None
    channels: tuple[int, int] | None = None
    """First and last channel, both included."""
    correlations: tuple[str, ...] | None = None
    times: tuple[float, float] | None = None
    """MJD seconds UTC, both included."""

    def to_json(self) -> dict[str, Any]:
        return {k: v for k, v in attrs.asdict(self).items() if v is not None}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Region:
        def tuples(value: Any) -> Any:
            return tuple(tuples(v) for v in value) if isinstance(value, list) else value

        return cls(**{k: tuples(v) for k, v in record.items()})

    def rows(
        self,
        *,
        times: NDArray,
        antenna1: NDArray,
        antenna2: NDArray,
        names: Sequence[str],
        scan: NDArray | int,
        field_name: NDArray | str,
        spw: NDArray | int,
    ) -> NDArray[np.bool_]:
        """Which rows are inside, from columns of equal (or broadcastable) shape."""
        inside = np.ones(np.broadcast_shapes(np.shape(times), np.shape(antenna1), np.shape(scan)), bool)
        if self.scans is not None:
            inside &= np.isin(scan, self.scans)
        if self.spws is not None:
            inside &= np.isin(spw, self.spws)
        if self.fields is not None:
            inside &= np.isin(field_name, self.fields)
        if self.times is not None:
            inside &= (times >= self.times[0] - 1e-3) & (times <= self.times[1] + 1e-3)
        if self.antennas is not None:
            ids = [list(names).index(a) for a in self.antennas]
            inside &= np.isin(antenna1, ids) | np.isin(antenna2, ids)
        if self.baselines is not None:
            index = {name: number for number, name in enumerate(names)}
            hit = np.zeros(np.broadcast_shapes(np.shape(antenna1), np.shape(antenna2)), bool)
            for one, two in self.baselines:
                a, b = index[one], index[two]
                hit |= ((antenna1 == a) & (antenna2 == b)) | ((antenna1 == b) & (antenna2 == a))
            inside &= hit
        return inside

    def channel_mask(self, channels: int) -> NDArray[np.bool_]:
        """Which channels are inside, shape (channel,)."""
        number = np.arange(channels)
        return (
            np.ones(channels, bool)
            if self.channels is None
            else ((number >= self.channels[0]) & (number <= self.channels[1]))
        )

    def correlation_mask(self, correlations: Sequence[str]) -> NDArray[np.bool_]:
        """Which correlations are inside, shape (correlation,)."""
        return np.array([self.correlations is None or c in self.correlations for c in correlations], bool)
