"""Whether there is emission at the OFF position: a dip in every spectrum, best seen where the map is empty."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_hsd.heuristics import cubes

FloatArray = NDArray[np.float64]
SLICES = 10
SKIPPED = 2
EMPTIEST = 0.1
DEPTH = 4.0


@attrs.frozen(eq=False, kw_only=True)
class Contamination:
    """peak_snr [y, x]: largest value of every pixel over its noise; mask [y, x]: the emptiest pixels; spectrum
    [channel]: their mean, noise: its scatter; depth: of the deepest dip, in units of the noise (positive);
    spans: channels of dips.
    """

    contaminated: bool
    depth: float
    noise: float
    spans: tuple[tuple[int, int], ...]
    peak_snr: FloatArray
    mask: NDArray[np.bool_]
    spectrum: FloatArray


def noise_and_peak(cube: Any) -> tuple[FloatArray, FloatArray]:
    """Maps of noise and of the largest value over the channels.

    Noise: sqrt(std² + mean²) over the channels of that tenth of the band where its mean over the map is least; the two
    outermost tenths on either side do not compete (reference pipeline, 2026).
    """
    count, shape = cube.shape[0], cube.shape[1:]
    bounds = np.linspace(0, count, SLICES + 1).astype(int)
    which = np.searchsorted(bounds, np.arange(count), side="right") - 1
    squares, numbers = np.zeros((SLICES, *shape)), np.zeros((SLICES, *shape), int)
    peak = np.full(shape, -np.inf)
    for part, block in cubes.blocks(cube):
        data = block.astype(float)
        good = np.isfinite(data)
        peak = np.maximum(peak, np.where(good, data, -np.inf).max(axis=0))
        filled = np.where(good, data, 0.0)
        for piece in np.unique(which[part]):
            here = which[part] == piece
            squares[piece] += (filled[here] ** 2).sum(axis=0)
            numbers[piece] += good[here].sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        # sqrt(std² + mean²) is the root of the mean square.
        noise = np.where(numbers > 0, np.sqrt(squares / numbers), np.nan)
    levels = [np.nanmean(n) if np.isfinite(n).any() else np.inf for n in noise[SKIPPED : SLICES - SKIPPED]]
    return noise[SKIPPED + int(np.argmin(levels))], np.where(np.isfinite(peak), peak, np.nan)


def judge(
    cube: Any, edges: tuple[int, int] = (0, 0), atmosphere: NDArray[np.bool_] | None = None
) -> Contamination | None:
    """Look for a dip in the mean spectrum of the tenth of the pixels with the least peak signal-to-noise.

    edges: channels at either end without all spectra; atmosphere [channel]: channels of sky lines; both are ignored.

    The threshold of 4 σ is the reference pipeline's (2026). It takes σ from all channels, the dip included, and so
    misses dips wider than a tenth of the band; here σ is 1.4826 × the median absolute deviation, and a dip has more
    than two neighbouring channels below half of the threshold, so that a wild channel among thousands makes no dip.
    None: the cube has no valid pixel.
    """
    noise, peak = noise_and_peak(cube)
    with np.errstate(invalid="ignore", divide="ignore"):
        snr = np.where(noise > 0, peak / noise, np.nan)
    valid = np.isfinite(snr)
    if not valid.any():
        return None
    rank = np.argsort(np.where(valid, snr, np.inf), axis=None, kind="stable")
    mask = np.zeros(snr.size, bool)
    mask[rank[: max(1, int(EMPTIEST * valid.sum()))]] = True
    mask = mask.reshape(snr.shape)
    spectrum = cubes.weighted_spectrum(cube, mask)
    looked_at = cubes.inside(spectrum.size, edges) & np.isfinite(spectrum)
    if atmosphere is not None:
        looked_at &= ~atmosphere
    if not looked_at.any():
        return None
    middle = float(np.median(spectrum[looked_at]))
    sigma = 1.4826 * float(np.median(np.abs(spectrum[looked_at] - middle)))
    if not sigma > 0:
        sigma = float(np.std(spectrum[looked_at])) or 1.0
    low = looked_at & (spectrum <= -DEPTH / 2 * sigma)
    spans = tuple((a, b) for a, b in cubes.spans_of(low) if b - a >= 2 and spectrum[a : b + 1].min() <= -DEPTH * sigma)
    depth = max(0.0, -float(spectrum[looked_at].min()) / sigma)
    return Contamination(
        contaminated=bool(spans), depth=depth, noise=sigma, spans=spans, peak_snr=snr, mask=mask, spectrum=spectrum
    )
