"""Averages of calibrated spectra, read once in blocks: what the check of the polarizations and the plots need."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_hsd import spectra
from pl_kernel.stage_context import ItemContext


@attrs.frozen(kw_only=True)
class Window:
    """Spectra on the source of one window of one measurement set; rows are numbers in it."""

    vis: str
    path: str
    column: str
    spw: int
    rows: Any
    antenna: Any
    field: Any
    scan: Any

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.vis}, spw {self.spw}"


@attrs.frozen(eq=False, kw_only=True)
class Averages:
    """Averages of one window.

    ``groups`` [group, 3] are (antenna, field, scan); ``spectrum`` [group, polarization, channel] their mean spectra
    (NaN: flagged), ``count`` [group, polarization, channel] of how many; ``level`` [row, polarization] the mean over
    channels of every row.
    """

    spw: int
    groups: NDArray[Any]
    spectrum: NDArray[Any]
    count: NDArray[Any]
    level: NDArray[Any]

    def over_scans(self, antenna: int, field: int) -> NDArray[np.float64]:
        """Mean spectrum [polarization, channel] of an antenna on a field, all scans together."""
        own = (self.groups[:, 0] == antenna) & (self.groups[:, 1] == field)
        count = self.count[own].sum(axis=0)
        total = np.nansum(self.spectrum[own] * self.count[own], axis=0)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def average(ctx: ItemContext, window: Window) -> Averages:
    """Read a window once; memory grows with the number of groups, not of rows."""
    keys = np.stack([window.antenna, window.field, window.scan], axis=1)
    groups, group = np.unique(keys, axis=0, return_inverse=True)
    group = group.ravel()
    total: NDArray[Any] | None = None
    level: NDArray[Any] | None = None
    for block in spectra.blocks(ctx.casa, window.path, window.column, window.rows):
        if total is None or level is None:
            shape = (len(groups), *block.data.shape[1:])
            total, count = np.zeros(shape), np.zeros(shape, dtype=np.int64)
            level = np.full((len(window.rows), shape[1]), np.nan)
        good = ~block.flags
        values = np.where(good, block.data, 0.0)
        here = group[block.positions]
        for k in np.unique(here):
            total[k] += values[here == k].sum(axis=0, dtype=float)
            count[k] += good[here == k].sum(axis=0)
        number = good.sum(axis=2)
        level[block.positions] = np.where(number > 0, values.sum(axis=2) / np.maximum(number, 1), np.nan)
    if total is None or level is None:
        nothing = np.zeros((0, 0, 0))
        return Averages(spw=window.spw, groups=groups[:0], spectrum=nothing, count=nothing, level=np.zeros((0, 0)))
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return Averages(spw=window.spw, groups=groups, spectrum=mean, count=count, level=level)
