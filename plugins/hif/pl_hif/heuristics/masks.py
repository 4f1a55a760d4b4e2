"""Where to clean: regions of significant emission in a residual image, as rectangles that CASA reads as text.

CASA's automatic masks compare the residual with the noise of the whole plane. An array of few antennas has sidelobes of
30 % and more, and there the sidelobes are the noise: no mask is found. Here a peak counts when it is above the noise
that the visibilities promise, above the noise of its surroundings, and above what sidelobes of the brightest
emission can reach.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

SIDELOBE_FACTOR = 1.5
"""A peak is trusted above this many times the highest sidelobe of the brightest residual: sidelobes of several sources
add up. The automatic masks of the reference pipeline take 2, and pay with more rounds."""
HIGHEST = 0.9
"""However high the sidelobes, what exceeds this part of the peak counts, or nothing would ever be cleaned."""
TIP = 0.3
"""Radius of an island around the tip of a peak, in beams: where a Gaussian has fallen to 0.78."""
NOISE_FACTOR = 5.0
"""A peak is trusted above this many sigma of its surroundings (the reference's noise threshold for the VLA)."""
OUTER_FACTOR = 1.4
"""Beyond the main lobe of the primary beam (response below 0.1) a peak must be this much higher: sources are rare
there, and errors of the brightest ones are not."""
MARGIN = 0.4
"""Islands get a margin of this part of the beam. Wider masks let the clean fit errors of the calibration: on simulated
fields with a dynamic range of 1000 they cost an extended source 5 % of its flux density."""


@attrs.frozen(kw_only=True, eq=False)
class Islands:
    """Regions found in a residual image.

    ``core`` (nx, ny) are the pixels of ``count`` islands, ``mask`` the same with a margin; ``level`` is the limit in
    the middle of the image, ``noise`` the median noise around the islands (of the image, without islands),
    ``unmasked_peak`` the highest residual outside the mask; Jy/beam.
    """

    core: NDArray[np.bool_]
    mask: NDArray[np.bool_]
    count: int
    level: float
    noise: float
    unmasked_peak: float


def sidelobe_level(psf: NDArray[np.floating], beam_px: tuple[float, float, float]) -> float:
    """The highest absolute value of a point spread function without its main lobe.

    Parameters
    ----------
    psf : (nx, ny) with its peak, 1, in the middle.
    beam_px : major and minor axis (FWHM, pixels) and position angle (degrees, north through east) of the Gaussian
        fitted to the main lobe, which is subtracted.
    """
    major, minor, angle = beam_px
    x0, y0 = np.unravel_index(int(np.nanargmax(psf)), psf.shape)
    east = -(np.arange(psf.shape[0]) - x0)[:, None]  # right ascension grows to the left
    north = (np.arange(psf.shape[1]) - y0)[None, :]
    pa = math.radians(angle)
    along = north * math.cos(pa) + east * math.sin(pa)
    across = east * math.cos(pa) - north * math.sin(pa)
    lobe = np.exp(-4 * math.log(2) * ((along / major) ** 2 + (across / minor) ** 2))
    return float(np.nanmax(np.abs(psf - lobe)))


def robust_sigma(values: NDArray[np.floating]) -> float:
    """1.4826 times the median absolute deviation; 0 without values."""
    values = values[np.isfinite(values)]
    return 1.4826 * float(np.median(np.abs(values - np.median(values)))) if values.size else 0.0


def local_noise(residual: NDArray[np.floating], without: NDArray[np.bool_], tile: int) -> NDArray[np.float64]:
    """Noise of the surroundings of every pixel, (nx, ny).

    Robust noise in tiles of ``tile`` pixels that overlap by half, without the pixels of ``without`` and those that are
    not finite; interpolated linearly. A tile without pixels takes the noise of the whole image.
    """
    # Two pixels per beam say all there is (tiles are ten beams wide): the medians are most of the time.
    every = max(1, tile // 20)
    usable = np.where(without | ~np.isfinite(residual), np.nan, residual)
    whole = robust_sigma(usable)
    step = max(tile // 2, 1)
    centres = [np.arange(step, max(n - step, step) + 1, step) for n in residual.shape]
    grid = np.full((len(centres[0]), len(centres[1])), whole)
    for i, x in enumerate(centres[0]):
        band = usable[max(x - step, 0) : x + step : every]
        if band.shape[1] < 2 * step:
            parts = band[:, ::every].reshape(1, -1)
        else:
            tiles = np.lib.stride_tricks.sliding_window_view(band, 2 * step, axis=1)[:, ::step]
            parts = tiles[:, : len(centres[1]), ::every].transpose(1, 0, 2).reshape(len(centres[1]), -1)
        finite = np.isfinite(parts)
        full = finite.all(axis=1)
        middle = np.median(parts[full], axis=1, keepdims=True)
        grid[i, full] = 1.4826 * np.median(np.abs(parts[full] - middle), axis=1)
        for j in np.flatnonzero(~full & (finite.mean(axis=1) > 0.25)):
            grid[i, j] = robust_sigma(parts[j])
    # Along one axis after the other: A configuration has images of 16,384 pixels, which leave no room for coordinates.
    rows = _stretched(grid, residual.shape[0], step)
    return _stretched(rows.T, residual.shape[1], step).T


def _stretched(values: NDArray[np.float64], size: int, step: int) -> NDArray[np.float64]:
    """Values at step, 2 step, … interpolated linearly to the pixels 0 … size - 1 along the first axis."""
    at = np.clip((np.arange(size) - step) / step, 0, len(values) - 1)
    below = np.minimum(at.astype(int), max(len(values) - 2, 0))
    part = (at - below)[:, None]
    found = values[below]
    found += part * (values[np.minimum(below + 1, len(values) - 1)] - found)
    return found


def significant(
    residual: NDArray[np.floating], *, restored: NDArray[np.floating] | None, response: NDArray[np.floating],
    known: NDArray[np.bool_], thermal: float, sidelobe: float, beam_px: float,
    allowed: NDArray[np.bool_] | None = None,
) -> Islands:  # fmt: skip
    """Find the islands of significant emission and join them to those that are ``known``.

    Parameters
    ----------
    residual : (nx, ny) residual of flat noise, not corrected for the primary beam, Jy/beam; not finite where masked.
    restored : (nx, ny) restored image, in which islands grow; None before anything was cleaned. Then the noise of the
        residual is that of sidelobes, and only ``thermal`` counts.
    response : (nx, ny) primary beam.
    thermal : noise that the visibilities promise, Jy/beam; 0 when it is not known.
    sidelobe : highest sidelobe of the point spread function, of a peak of 1.
    beam_px : width of the synthesized beam in pixels.
    allowed : where islands may be; default everywhere.
    """
    from scipy.ndimage import binary_dilation, label

    good = np.isfinite(residual) & (np.ones(residual.shape, bool) if allowed is None else allowed)
    sky = np.where(good, residual, -np.inf)
    nearby = local_noise(residual, known, max(32, round(10 * beam_px)))
    noise = np.full(residual.shape, thermal) if restored is None and thermal > 0 else np.maximum(nearby, thermal)
    noise = np.where(response < 0.1, OUTER_FACTOR * noise, noise)
    outside = good & ~known
    peak = float(sky[outside].max()) if outside.any() else 0.0
    # What is already in the mask is cleaned to a fraction of its sidelobes: only the rest can fool us.
    reach = min(SIDELOBE_FACTOR * sidelobe, HIGHEST) * max(peak, 0.0)
    level = np.maximum(NOISE_FACTOR * noise, reach)
    bright = residual if restored is None else restored
    seeds = good & ((residual > level) | known)
    labels, count = label(seeds | (good & (bright > level)))
    seeded = np.zeros(count + 1, bool)
    seeded[labels[seeds]] = True
    # Noise has no islands of a beam; a source has, once it is that significant.
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    keep = seeded & (sizes >= max(2.0, 0.2 * math.pi / 4 * beam_px**2))
    keep[0] = False
    core = keep[labels] | known
    if not core.any() and (good & (sky >= peak) & (reach > NOISE_FACTOR * noise)).any():
        # The sidelobes are so high that only the tip of the peak stands out, less than an island: it is one.
        core = binary_dilation(good & (sky >= peak), _disc(max(1, round(TIP * beam_px)))) & good
    mask = binary_dilation(core, _disc(max(1, round(MARGIN * beam_px)))) & good
    rest = good & ~mask
    return Islands(
        core=core, mask=mask, count=int(label(core)[1]), level=float(level[tuple(n // 2 for n in level.shape)]),
        noise=max(float(np.median(nearby[mask])) if mask.any() else robust_sigma(residual[good]), thermal),
        unmasked_peak=max(float(sky[rest].max()), 0.0) if rest.any() else 0.0,
    )  # fmt: skip


def _disc(radius: int) -> NDArray[np.bool_]:
    x = np.arange(-radius, radius + 1)
    return x[:, None] ** 2 + x[None, :] ** 2 <= radius**2


def rectangles(mask: NDArray[np.bool_], cell: int = 1) -> list[tuple[int, int, int, int]]:
    """Rectangles (x1, y1, x2, y2), inclusive pixels, that cover a mask and little else.

    The mask is rounded up to squares of ``cell`` pixels first, so that a round island takes a handful of rectangles.
    """
    nx, ny = mask.shape
    cell = max(cell, 1)
    padded = np.zeros((-(-nx // cell) * cell, -(-ny // cell) * cell), bool)
    padded[:nx, :ny] = mask
    coarse = padded.reshape(padded.shape[0] // cell, cell, padded.shape[1] // cell, cell).any(axis=(1, 3))
    found = []
    left = coarse.copy()
    for x, y in np.argwhere(coarse).tolist():
        if not left[x, y]:
            continue
        column = left[x, y:]
        height = int(np.argmin(column)) if not column.all() else column.size
        width = 1
        while x + width < left.shape[0] and left[x + width, y : y + height].all():
            width += 1
        left[x : x + width, y : y + height] = False
        found.append((
            x * cell, y * cell, min((x + width) * cell, nx) - 1, min((y + height) * cell, ny) - 1,
        ))  # fmt: skip
    return found


def line_channels(
    start_hz: float, width_hz: float, nchan: int, continuum: Sequence[tuple[float, float]]
) -> list[tuple[int, int]]:
    """Runs of channels of a cube (inclusive) whose centres lie in none of the continuum's ranges (Hz)."""
    free = [not any(low <= start_hz + i * width_hz <= high for low, high in continuum) for i in range(nchan)]
    edges = np.flatnonzero(np.diff(np.array([False, *free, False]).astype(int)))
    return [(int(a), int(b) - 1) for a, b in edges.reshape(-1, 2)]


def region_text(boxes: list[tuple[int, int, int, int]]) -> list[str]:
    """Rectangles of pixels as CASA's region text."""
    return [f"box[[{x1}pix,{y1}pix],[{x2}pix,{y2}pix]]" for x1, y1, x2, y2 in boxes]
