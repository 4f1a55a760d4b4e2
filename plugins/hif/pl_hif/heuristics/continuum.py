"""Where a spectral window shows continuum only: the channels to fit, found in a dirty cube.

The way of the reference pipeline's continuum finder (2026), reduced to its ideas: a mask of pixels with emission in the
moment images, the mean spectrum inside it, the noise of its quiet channels, runs of quiet channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import numpy as np
import scipy

ALL_CONTINUUM = 0.925
"""One range over at least this fraction of the channels means there is no line."""
LOW_BANDWIDTH = 0.05
"""Less continuum than this fraction of the band cannot hold a slope."""
LOW_SPREAD = 0.33
"""Ranges that span less than this fraction of the band cannot either."""


@attrs.frozen(kw_only=True)
class ContinuumRanges:
    """The outcome: inclusive channel ranges, what they mean, and what was seen on the way.

    ``spectrum`` is the mean spectrum (in the unit of the cube, NaN where nothing was observed), ``threshold_high`` and
    ``threshold_low`` bound the quiet channels.
    """

    ranges: tuple[tuple[int, int], ...]
    all_continuum: bool
    low_bandwidth: bool
    low_spread: bool
    spectrum: np.ndarray
    baseline: float
    noise: float
    threshold_high: float
    threshold_low: float
    peak_snr: float
    mask_pixels: int
    reason: str

    @property
    def channels(self) -> int:
        """Number of continuum channels."""
        return sum(b - a + 1 for a, b in self.ranges)

    @property
    def fit_order(self) -> int:
        """Order of the continuum fit: a slope where the ranges can hold one, else a constant (reference pipeline)."""
        return 0 if self.low_bandwidth or self.low_spread else 1


def robust_noise(values: np.ndarray) -> tuple[float, float]:
    """Median and scaled median absolute deviation of finite values, after four rounds of clipping at 5 sigma."""
    x = np.asarray(values, float)
    x = x[np.isfinite(x)]
    if x.size == 0:
        return math.nan, math.nan
    for _ in range(4):
        middle = np.median(x)
        sigma = 1.4826 * np.median(np.abs(x - middle))
        keep = np.abs(x - middle) <= 5 * sigma
        if sigma == 0 or keep.all():
            break
        x = x[keep]
    return float(np.median(x)), float(1.4826 * np.median(np.abs(x - np.median(x))))


def emission_mask(
    cube: np.ndarray, beam_response: np.ndarray, channels: np.ndarray, beam_px: float, least_response: float = 0.3
) -> tuple[np.ndarray, bool]:
    """Pixels (nx, ny) that hold emission or absorption, judged on the mean and the largest of the observed channels.

    ``cube`` (nx, ny, nchan), ``beam_response`` (nx, ny) the primary beam, ``channels`` indices of observed channels,
    ``beam_px`` the area of the synthesized beam in pixels. Regions smaller than 0.3 beams (at least 4 pixels) are
    dropped. Where nothing is found (the second value is False) the mask is the inner part of the primary beam.
    """
    allowed = np.isfinite(beam_response) & (beam_response > least_response)
    observed = cube[:, :, channels]
    mean, largest = observed.mean(axis=2), observed.max(axis=2)
    mask = np.zeros(mean.shape, bool)
    # The deviation at which one of all pixels is expected by chance is no detection.
    chance = math.sqrt(2 * math.log(max(int(allowed.sum()), 2)))
    for image, sigmas, signs in ((mean, 5.0, (1, -1)), (largest, 4.0, (1,))):
        middle, sigma = robust_noise(image[allowed])
        for sign in signs:
            mask |= sign * (image - middle) > max(sigmas, chance) * sigma
    mask &= allowed
    labels, count = scipy.ndimage.label(mask, structure=np.ones((3, 3)))
    if count:
        sizes = scipy.ndimage.sum_labels(mask, labels, np.arange(1, count + 1))
        small = 1 + np.flatnonzero(sizes < max(4, 0.3 * beam_px))
        mask[np.isin(labels, small)] = False
    if mask.sum() >= 3:
        return mask, True
    inner = allowed & (beam_response > 0.7)
    return (inner if inner.any() else allowed), False


def deconvolve(
    dirty: np.ndarray, beam: np.ndarray, allowed: np.ndarray, floor: float, gain: float = 0.2, cycles: int = 2000
) -> np.ndarray:
    """What of a dirty plane is no sidelobe: Högbom's clean down to ``floor``, sources put back with the beam's core.

    ``beam`` is the dirty beam on a plane of the same shape, its peak of 1 in the middle; ``allowed`` the pixels where
    sources may lie.
    """
    nx, ny = dirty.shape
    cx, cy = (int(v) for v in np.unravel_index(int(np.argmax(beam)), beam.shape))
    residual = np.array(dirty, float)
    found = np.zeros_like(residual)
    for _ in range(cycles):
        spot = int(np.argmax(np.where(allowed, np.abs(residual), 0)))
        x, y = divmod(spot, ny)
        height = residual[x, y]
        if abs(height) <= floor:
            break
        found[x, y] += gain * height
        # The part of the plane that the shifted beam covers.
        x0, x1, y0, y1 = max(0, x - cx), min(nx, x - cx + nx), max(0, y - cy), min(ny, y - cy + ny)
        residual[x0:x1, y0:y1] -= gain * height * beam[x0 - x + cx : x1 - x + cx, y0 - y + cy : y1 - y + cy]
    core = beam > 0.5
    label, _ = scipy.ndimage.label(core)
    core &= label == label[cx, cy]
    # A Gaussian with the area of the beam above half its peak: π·ln 2·2σ² pixels.
    sigma = float(np.sqrt(core.sum() / (2 * np.pi * np.log(2))))
    restored = scipy.ndimage.gaussian_filter(found, sigma) * 2 * np.pi * sigma**2
    return np.asarray(restored + residual)


def line_mask(
    cube: np.ndarray, beam: np.ndarray, beam_response: np.ndarray, beam_px: float, parts: int = 3,
    least_response: float = 0.3,
) -> np.ndarray:  # fmt: skip
    """Pixels (nx, ny) with line emission or absorption in the planes (nx, ny, n) of a line, sidelobes taken away.

    The mean of all planes and of their thirds are cleaned, so that a rotating source shows with all its sides, and
    pixels above 5 sigma are kept in regions of at least 0.3 beams. All False when nothing stands out.
    """
    allowed = np.isfinite(beam_response) & (beam_response > least_response)
    n = cube.shape[2]
    pieces = [np.arange(n)] + ([p for p in np.array_split(np.arange(n), parts) if len(p)] if n >= parts else [])
    mask = np.zeros(cube.shape[:2], bool)
    chance = math.sqrt(2 * math.log(max(int(allowed.sum()), 2)))
    for channels in pieces:
        dirty = cube[:, :, channels].mean(axis=2)
        _, sigma = robust_noise(dirty[allowed])
        cleaned = deconvolve(dirty, beam, allowed, 4 * sigma)
        middle, sigma = robust_noise(cleaned[allowed])
        mask |= np.abs(cleaned - middle) > max(5.0, chance) * sigma
    mask &= allowed
    labels, count = scipy.ndimage.label(mask, structure=np.ones((3, 3)))
    if count:
        sizes = scipy.ndimage.sum_labels(mask, labels, np.arange(1, count + 1))
        mask[np.isin(labels, 1 + np.flatnonzero(sizes < max(4, 0.3 * beam_px)))] = False
    return mask


def find(
    spectrum: np.ndarray, observed: np.ndarray | None = None, mask_pixels: int = 0, sigmas: float | None = None,
    reason: str = "",
) -> ContinuumRanges:  # fmt: skip
    """Find the continuum channels of a mean spectrum.

    Parameters
    ----------
    spectrum : (nchan,) mean over the mask; NaN or ``observed`` False for channels without data.
    sigmas : half-width of the band of quiet channels in units of their noise; by default the reference pipeline's
        knob, which is wider for strong lines (4.2 above peak/MAD 6 in windows of less than 750 channels, else 4.5; 2.5
        and 3.2 above).

    The quiet channels are the fifth of the spectrum with the lowest (or, for absorption, the highest) values whose
    scatter is smaller. Their median and scatter, corrected for having been picked from one tail, set the thresholds:
    +σ and −1.15·σ.
    """
    values = np.asarray(spectrum, float)
    n = len(values)
    seen = np.isfinite(values) if observed is None else (np.isfinite(values) & np.asarray(observed, bool))
    if seen.sum() < 4:
        return _nothing(values, mask_pixels, "fewer than four channels hold data")
    level, noise, side = _quiet(values[seen])
    if noise == 0:
        return _nothing(values, mask_pixels, "the spectrum is constant")
    peak_snr = float(np.max(np.abs(values[seen] - level)) / noise)
    if sigmas is None:
        sigmas = (4.2 if peak_snr > 6 else 4.5) if n < 750 else (2.5 if peak_snr > 6 else 3.2)
    high, low = level + sigmas * noise, level - 1.15 * sigmas * noise
    if side == "absorption":
        high, low = level + 1.15 * sigmas * noise, level - sigmas * noise
    quiet = seen & (values <= high) & (values >= low)
    ranges = runs(quiet)
    ranges = _tidy(ranges, n, seen)
    if not ranges:
        return _nothing(
            values, mask_pixels, "no run of quiet channels is long enough", level, noise, high, low, peak_snr
        )
    width = int(seen.sum())
    total = sum(b - a + 1 for a, b in ranges)
    everything = len(ranges) == 1 and total >= (ALL_CONTINUUM if n >= 75 else 0.91) * width
    span = ranges[-1][1] - ranges[0][0] + 1
    said = f"{total} of {width} channels lie within {low:.3g} … {high:.3g}"
    return ContinuumRanges(
        ranges=tuple(ranges), all_continuum=everything, low_bandwidth=total < LOW_BANDWIDTH * width,
        low_spread=span < LOW_SPREAD * width, spectrum=values, baseline=level, noise=noise, threshold_high=high,
        threshold_low=low, peak_snr=peak_snr, mask_pixels=mask_pixels,
        reason=f"{reason + '; ' if reason else ''}{said}"
        + (" (no line)" if everything else f"; the strongest line is at {peak_snr:.0f} sigma"),
    )  # fmt: skip


def _quiet(values: np.ndarray) -> tuple[float, float, str]:
    """Level and noise of the quietest channels, and on which side of them the lines are."""
    count = max(4, round(0.19 * len(values)))
    # A median of three keeps single noise peaks from choosing the sample, lines are wider than that.
    ordered = np.sort(scipy.ndimage.median_filter(values, 3, mode="nearest"))
    tails = {"emission": ordered[:count], "absorption": ordered[-count:]}
    scatter = {side: np.median(np.abs(tail - np.median(tail))) for side, tail in tails.items()}
    # Emission is the usual case: for absorption the upper tail has to be clearly the calmer one (factor 1.5, reference
    # pipeline), and to be what the ends of the band look like; else it is the flat top of a wide line.
    end = max(3, round(0.08 * len(values)))
    ends = float(np.median(np.concatenate([values[:end], values[-end:]])))
    near_top = abs(ends - np.median(tails["absorption"])) < abs(ends - np.median(tails["emission"]))
    calmer = scatter["absorption"] * 1.5 < scatter["emission"]
    side = "absorption" if calmer and near_top else "emission"
    near = float(np.median(tails[side]))
    # The tail is biased and too narrow; a second look takes all channels near it, on both sides.
    step = np.diff(values)
    step_noise = 1.4826 * float(np.median(np.abs(step - np.median(step)))) / math.sqrt(2)
    sigma = max(1.4826 * float(scatter[side]), min(step_noise, 3 * float(np.std(tails[side])) or step_noise))
    for _ in range(5):
        members = values[np.abs(values - near) <= 3.5 * sigma]
        if len(members) < 3:
            break
        level = float(np.median(members))
        noise = 1.4826 * float(np.median(np.abs(members - level)))
        if noise == 0 or (abs(level - near) < 1e-3 * noise and abs(noise - sigma) < 1e-2 * noise):
            break
        near, sigma = level, noise
    return near, sigma, side


def runs(quiet: np.ndarray) -> list[tuple[int, int]]:
    """Runs of True as inclusive ranges."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], quiet.astype(int), [0]))))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _tidy(ranges: list[tuple[int, int]], n: int, seen: np.ndarray) -> list[tuple[int, int]]:
    """Trim what borders on a line, and drop runs too short to trust."""
    shortest = max(2, math.ceil(math.log10(n)))
    first, last = int(np.flatnonzero(seen)[0]), int(np.flatnonzero(seen)[-1])
    kept = []
    for a, b in ranges:
        trim = min(int(0.1 * (b - a + 1)), 20)
        # A single noisy channel inside a quiet stretch is no line: it costs no trimming.
        lower = a if a == first else a + max(trim, 1)
        upper = b if b == last else b - max(trim, 1)
        if upper - lower + 1 >= shortest:
            kept.append((lower, upper))
    return kept


def _nothing(
    values: np.ndarray, mask_pixels: int, reason: str, level: float = math.nan, noise: float = math.nan,
    high: float = math.nan, low: float = math.nan, snr: float = math.nan,
) -> ContinuumRanges:  # fmt: skip
    return ContinuumRanges(
        ranges=(), all_continuum=False, low_bandwidth=True, low_spread=True, spectrum=values, baseline=level,
        noise=noise,
        threshold_high=high, threshold_low=low, peak_snr=snr, mask_pixels=mask_pixels, reason=reason,
    )  # fmt: skip


def line_channels(ranges: Sequence[tuple[int, int]], seen: Sequence[bool]) -> tuple[tuple[int, int], ...]:
    """Channels that hold data but are no continuum, as inclusive ranges."""
    line = np.array(seen, bool)
    for a, b in ranges:
        line[a : b + 1] = False
    return tuple(runs(line))
