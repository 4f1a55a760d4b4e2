"""Emission outside the channels that count as line: lines that nobody found, at the brightest voxel or extended."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pl_hsd.heuristics import cubes

FloatArray = NDArray[np.float64]
PEAK_SIGMA = 7.0
AREA_SIGMA = 5.0
VOXEL_SIGMA = 7.0
SAMPLE = 2_000_000
"""Voxels from which the noise is taken: more do not change it."""


@attrs.frozen(eq=False, kw_only=True)
class Missed:
    """One way of looking: `where` [y, x] weights of the pixels, spectrum [channel] in units of its noise (NaN: not
    looked at), spans of channels with a line, `significance` of the brightest channel."""

    found: bool
    significance: float
    spans: tuple[tuple[int, int], ...]
    where: FloatArray
    spectrum: FloatArray


@attrs.frozen(eq=False, kw_only=True)
class MissedLines:
    """At the brightest voxel, and over the area of extended emission (None: there is no such area)."""

    peak: Missed | None
    extended: Missed | None


def beam_kernel(major: float, minor: float, pa_deg: float) -> FloatArray:
    """A Gaussian beam [y, x] with sum 1; widths at half power in pixels, position angle east of north.

    Its side is 2 int(2.5 major) + 1 pixels; columns run west.
    """
    reach = int(2.5 * major)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(float)
    angle = math.radians(pa_deg)
    east = -x
    along = y * math.cos(angle) + east * math.sin(angle)
    across = -y * math.sin(angle) + east * math.cos(angle)
    kernel = np.exp(-4 * math.log(2) * ((along / major) ** 2 + (across / minor) ** 2))
    return np.asarray(kernel / kernel.sum())


def search(
    cube: Any, weight: ArrayLike, channels: NDArray[np.bool_], beam_pixels: tuple[float, float, float]
) -> MissedLines:
    """Look for lines in `channels` [channel]: those outside all line ranges, edges and sky lines.

    cube: [channel, y, x], NaN where masked; weight: map [y, x] of the weights of its pixels; beam_pixels: major and
    minor width in pixels, position angle in degrees.

    Thresholds of 7 (at the brightest voxel) and 5 (mean over the area of extended emission) times the noise, and runs
    of more than two channels above half of the threshold, are the reference pipeline's (2026), which forgets the last
    run of a spectrum; here all runs count.
    """
    heavy = np.nan_to_num(np.asarray(weight, float))
    top = float(heavy.max(initial=0.0))
    if not channels.any() or top <= 0:
        return MissedLines(peak=None, extended=None)
    heavy = heavy / top
    sigma = _noise(cube, heavy, channels)
    if not sigma > 0:
        return MissedLines(peak=None, extended=None)
    brightest, area = _bright(cube, heavy, channels, sigma, beam_kernel(*beam_pixels))
    if brightest is None:
        return MissedLines(peak=None, extended=None)
    beam = _beam_at(brightest, heavy.shape, beam_pixels)
    extended = _look(cube, heavy * area, channels, AREA_SIGMA) if area.any() else None
    return MissedLines(peak=_look(cube, heavy * beam, channels, PEAK_SIGMA), extended=extended)


def _noise(cube: Any, heavy: FloatArray, channels: NDArray[np.bool_]) -> float:
    """Scatter of weighted voxels: clipped at 6 σ for at most 3 rounds, σ from the median absolute deviation."""
    chosen = np.flatnonzero(channels)
    step = max(1, math.ceil(chosen.size * heavy.size / SAMPLE))
    parts = [(np.asarray(cube[k], float) * heavy).ravel()[k % step :: step] for k in chosen]
    values = np.concatenate(parts)
    values = values[np.isfinite(values) & (values != 0)]
    sigma = 0.0
    for _ in range(3):
        if not values.size:
            return 0.0
        middle = np.median(values)
        sigma = 1.4826 * float(np.median(np.abs(values - middle)))
        kept = np.abs(values - middle) <= 6 * sigma
        if kept.all():
            break
        values = values[kept]
    return sigma


def _bright(
    cube: Any, heavy: FloatArray, channels: NDArray[np.bool_], sigma: float, kernel: FloatArray
) -> tuple[tuple[int, int] | None, NDArray[np.bool_]]:
    """Pixel of the brightest weighted voxel, and pixels where, in any channel, more than half a beam is bright."""
    from scipy.signal import fftconvolve

    best, place = -math.inf, None
    area = np.zeros(heavy.shape, bool)
    for part, block in cubes.blocks(cube, channels):
        for plane, wanted in zip(block, channels[part], strict=True):
            if not wanted:
                continue
            data = np.nan_to_num(plane.astype(float) * heavy, nan=-np.inf)
            here = np.unravel_index(int(np.argmax(data)), data.shape)
            if data[here] > best:
                best, place = float(data[here]), (int(here[0]), int(here[1]))
            bright = data > VOXEL_SIGMA * sigma
            if bright.sum() > 1:
                area |= fftconvolve(bright.astype(float), kernel, mode="same") > 0.5
    return (place if math.isfinite(best) else None), area


def _beam_at(place: tuple[int, int], shape: tuple[int, ...], beam: tuple[float, float, float]) -> FloatArray:
    kernel = beam_kernel(*beam)
    reach = kernel.shape[0] // 2
    whole = np.zeros((shape[0] + 2 * reach, shape[1] + 2 * reach))
    whole[place[0] : place[0] + 2 * reach + 1, place[1] : place[1] + 2 * reach + 1] = kernel
    return whole[reach:-reach, reach:-reach] if reach else whole


def _look(cube: Any, where: FloatArray, channels: NDArray[np.bool_], threshold: float) -> Missed:
    spectrum = cubes.weighted_spectrum(cube, where)
    z, spans = significant(spectrum, channels, threshold)
    best = float(np.nanmax(z)) if np.isfinite(z).any() else 0.0
    return Missed(found=bool(spans), significance=best, spans=spans, where=where, spectrum=z)


def significant(
    spectrum: ArrayLike, channels: NDArray[np.bool_], threshold: float
) -> tuple[FloatArray, tuple[tuple[int, int], ...]]:
    """A spectrum over its noise (NaN outside `channels`), and its lines: runs of more than two channels above half the
    threshold, one of them above the threshold."""
    values = np.where(channels, np.asarray(spectrum, float), np.nan)
    good = values[np.isfinite(values)]
    if not good.size:
        return values, ()
    sigma = 1.4826 * float(np.median(np.abs(good - np.median(good))))
    if not sigma > 0:
        return np.where(np.isfinite(values), 0.0, np.nan), ()
    z = values / sigma
    runs = cubes.spans_of(np.nan_to_num(z, nan=-np.inf) > threshold / 2)
    return z, tuple((a, b) for a, b in runs if b - a >= 2 and np.nanmax(z[a : b + 1]) > threshold)
