"""Where a map lies on the sky, how large it is, and which channels it has: from positions of spectra alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pl_hsd.geometry import unwrapped
from pl_kernel import PlError, heuristic

FloatArray = NDArray[np.float64]


@attrs.frozen(kw_only=True)
class ImagingRules:
    """What differs between observatories when spectra become maps.

    cells_per_beam: pixels per beam; margin: pixels added to either size of the map; convsupport: half width of the
    spheroidal gridding function in pixels; kernel_1d, kernel_2d: factors by which that function reduces noise that is
    common to a raster row (of the OFF), and noise of single spectra (of the ON); raw_correlations: also image every
    correlation by itself; register_antennas: images of single antennas are products, too; prefix: names of images begin
    with observation and stage; sky_lines: channels of atmospheric lines are no evidence.
    """

    cells_per_beam: float = 9.0
    margin: int = 10
    convsupport: int = 6
    kernel_1d: float = 0.3954
    kernel_2d: float = 0.1597
    raw_correlations: bool = False
    register_antennas: bool = False
    prefix: bool = True
    sky_lines: bool = True


@heuristic("hsd.imaging_rules")
def imaging_rules() -> ImagingRules:
    """Rules for 12 m dishes with rasters sampled at a ninth of the beam (reference pipeline, 2026)."""
    return ImagingRules()


@attrs.frozen(kw_only=True)
class MapGeometry:
    """A map in the plane of the sky: centre (degrees, in the frame of the positions), square pixels, even sizes."""

    ra_deg: float
    dec_deg: float
    cell_arcsec: float
    n_x: int
    n_y: int
    beam_arcsec: float

    def pixels(self, ra_deg: ArrayLike, dec_deg: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Fractional pixels (column, row; from 0) of positions: SIN projection, east to the left.

        CASA puts the reference pixel of an image of n pixels at n // 2.
        """
        ra, dec = np.radians(np.asarray(ra_deg, float)), np.radians(np.asarray(dec_deg, float))
        ra0, dec0 = math.radians(self.ra_deg), math.radians(self.dec_deg)
        east = np.cos(dec) * np.sin(ra - ra0)
        north = np.sin(dec) * math.cos(dec0) - np.cos(dec) * math.sin(dec0) * np.cos(ra - ra0)
        cell = math.radians(self.cell_arcsec / 3600)
        return self.n_x // 2 - east / cell, self.n_y // 2 + north / cell


def map_geometry(ra_deg: ArrayLike, dec_deg: ArrayLike, beam: float, rules: ImagingRules) -> MapGeometry:
    """The map that holds all positions of spectra [n], for a beam in arcsec.

    The size is int(width / cell) + 1, made even by one or two more pixels, plus the margin made even (reference
    pipeline, 2026); at least as many as the gridding function needs around a single point.

    Raises:
        PlError: no position is finite, or the map would be larger than 8192 pixels (a wild position was not flagged).
    """
    ra, dec = unwrapped(ra_deg), np.asarray(dec_deg, float)
    good = np.isfinite(ra) & np.isfinite(dec)
    if not good.any():
        raise PlError("No spectrum has a valid position; a map cannot be placed on the sky.")
    ra, dec = ra[good], dec[good]
    centre = (float(ra.min() + ra.max()) / 2, float(dec.min() + dec.max()) / 2)
    cell = beam / rules.cells_per_beam
    width = float(np.ptp(ra)) * 3600 * math.cos(math.radians(centre[1]))
    height = float(np.ptp(dec)) * 3600
    least = 2 * (rules.convsupport + 2)
    n_x, n_y = (max(_even(int(side / cell) + 1) + rules.margin, least) for side in (width, height))
    if max(n_x, n_y) > 8192:
        raise PlError(
            f"The positions extend over {width / 60:.0f} × {height / 60:.0f} arcmin, {n_x} × {n_y} pixels; "
            "flag wild pointings first."
        )
    return MapGeometry(
        ra_deg=centre[0] % 360.0, dec_deg=centre[1], cell_arcsec=cell, n_x=n_x, n_y=n_y, beam_arcsec=beam
    )


def _even(number: int) -> int:
    """The next even number above."""
    return number + 2 - number % 2


@attrs.frozen(kw_only=True)
class ChannelAxis:
    """Channels of an image: image channel i is channel start + step × i of the measurement set; frequency ascends."""

    start: int
    step: int
    count: int


def channel_axis(n_channels: int, edge: Sequence[int], is_reversed: bool) -> ChannelAxis:
    """The axis of an image without `edge` (low, high) channels of the window; turned where frequency falls.

    Raises:
        PlError: the edges leave no channel.
    """
    low, high = int(edge[0]), int(edge[-1])
    count = n_channels - low - high
    if low < 0 or high < 0 or count < 1:
        raise PlError(f"Edges of {low} and {high} channels leave nothing of a window of {n_channels} channels.")
    if is_reversed:
        return ChannelAxis(start=n_channels - 1 - high, step=-1, count=count)
    return ChannelAxis(start=low, step=1, count=count)
