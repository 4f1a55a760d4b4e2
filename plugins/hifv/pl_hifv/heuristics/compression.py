"""How much the receivers' gain is compressed, from the switched noise power; numbers in, template out.

The switched power divided by the square of the requantizer gain follows the gain of the receiver. Relative to
its value while the reference calibrator is observed it is 1, and less when strong interference drives the amplifiers
into compression.
"""

from __future__ import annotations

import attrs
import numpy as np
import scipy

MIN_STD = 1e-12


@attrs.frozen(kw_only=True)
class Template:
    """Compression of one antenna, baseband and polarization: gain relative to the reference, and where it is known.

    ``values`` and ``flagged`` are (times,); ``flagged`` samples carry an interpolated value.
    """

    values: np.ndarray
    flagged: np.ndarray


def normalised(diff: np.ndarray, requantizer: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """P_diff / rq², relative to its median over the reference times; NaN where there is no measurement.

    diff, requantizer : (spws, times), 0 where not measured.  reference : (times,) True while the reference is observed.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        raw = np.where((diff > 0) & (requantizer > 0), diff / requantizer**2, np.nan)
    chosen = np.where(reference[None, :], raw, np.nan)
    found = np.array([np.nanmedian(row) if np.isfinite(row).any() else np.nan for row in chosen])
    return raw / found[:, None]


def running_std(values: np.ndarray, window: int) -> np.ndarray:
    """Standard deviation in a centred window along the last axis, NaN left out; NaN for fewer than two samples."""
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(window // 2, window // 2)], constant_values=np.nan)
    views = np.lib.stride_tricks.sliding_window_view(padded, window, axis=-1)
    count = np.isfinite(views).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.nansum(views, axis=-1) / count
        variance = np.nansum((views - mean[..., None]) ** 2, axis=-1) / count
    return np.where(count > 1, np.sqrt(variance), np.nan)


def outliers(values: np.ndarray, window: int, threshold: float, *, by_std: bool = False) -> np.ndarray:
    """Samples that stand out, True where flagged; shape of ``values`` (…, times), NaN counts as flagged.

    By value: |x − running median| above ``threshold`` times the median of the running standard deviations. By std:
    where the running standard deviation itself exceeds ``threshold`` times its median.
    """
    spread = running_std(values, window)
    usable = np.where(spread > MIN_STD, spread, np.nan)
    typical = _nanmedian(usable)
    bad = ~np.isfinite(values)
    if by_std:
        return bad | (spread > threshold * typical[..., None])
    middle = _running_median(values, window)
    with np.errstate(invalid="ignore"):
        return bad | (np.abs(values - middle) > threshold * typical[..., None])


def template(values: np.ndarray) -> Template:
    """Compression against time from all windows of a baseband, (spws, times), NaN where unknown or flagged online.

    Passes and their thresholds are those of the reference pipeline (2026): on differences between samples a median cut
    (9 samples, 8) and a scatter cut (5, 8), the same on what is left above the median window (11 and 5, 7), and on the
    square root after smoothing (5, 6). Then a running median over gaps (21 samples) and a Savitzky-Golay filter (7
    samples, order 3).
    """
    work = np.array(values, dtype=float)
    if work.ndim == 1:
        work = work[None, :]
    step = np.diff(work, axis=-1, append=np.nan)
    step[:, -1] = 0.0
    work[outliers(step, 9, 8.0) & np.isfinite(step)] = np.nan
    step = np.diff(work, axis=-1, append=np.nan)
    work[outliers(step, 5, 8.0, by_std=True) & np.isfinite(step)] = np.nan
    for window, threshold, by_std in ((11, 7.0, False), (5, 7.0, True)):
        left = work - _columns_median(work)[None, :] if len(work) > 1 else work - _running_median(work, 21)
        work[outliers(left, window, threshold, by_std=by_std)] = np.nan
    smooth = np.sqrt(np.clip(_smoothed(_columns_median(work)), 0, None))
    with np.errstate(invalid="ignore"):
        root = np.sqrt(np.where(work > 0, work, np.nan))
    left = root - smooth[None, :]
    for by_std in (False, True):
        root[outliers(left, 5, 6.0, by_std=by_std)] = np.nan
    middle = _columns_median(root)
    return Template(values=_smoothed(middle), flagged=~np.isfinite(middle))


def fill_gaps(values: np.ndarray, window: int = 21, tries: int = 11) -> np.ndarray:
    """Gaps (NaN) filled with the running median while it reaches further, then by interpolation."""
    filled = np.array(values, float)
    for _ in range(tries):
        gaps = ~np.isfinite(filled)
        if not gaps.any():
            return filled
        filled[gaps] = _running_median(filled, window)[gaps]
    good = np.flatnonzero(np.isfinite(filled))
    if good.size == 0:
        return np.ones_like(filled)
    return np.interp(np.arange(filled.size), good, filled[good])


def _smoothed(values: np.ndarray) -> np.ndarray:
    filled = fill_gaps(values)
    return scipy.signal.savgol_filter(filled, 7, 3, mode="nearest") if filled.size >= 7 else filled


def _running_median(values: np.ndarray, window: int) -> np.ndarray:
    if np.isfinite(values).all():
        size = (1,) * (values.ndim - 1) + (window,)
        return scipy.ndimage.median_filter(values, size=size, mode="nearest")
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(window // 2, window // 2)], constant_values=np.nan)
    return _nanmedian(np.lib.stride_tricks.sliding_window_view(padded, window, axis=-1))


def _columns_median(values: np.ndarray) -> np.ndarray:
    return _nanmedian(values.T)


def _nanmedian(values: np.ndarray) -> np.ndarray:
    """Median along the last axis without NaN; NaN where nothing is left."""
    ordered = np.sort(values, axis=-1)  # NaN sort to the end
    count = np.isfinite(values).sum(axis=-1)
    low = np.take_along_axis(ordered, np.maximum((count - 1) // 2, 0)[..., None], axis=-1)[..., 0]
    high = np.take_along_axis(ordered, np.minimum(count // 2, values.shape[-1] - 1)[..., None], axis=-1)[..., 0]
    return np.where(count > 0, (low + high) / 2, np.nan)


def gain_and_tsys(difference: np.ndarray, total: np.ndarray, noise_k: float) -> tuple[np.ndarray, np.ndarray]:
    """Gain and system temperature in K from the switched power.

    The noise diode adds ``noise_k`` half of the time: with Pdiff = P(on) − P(off) and Psum = P(on) + P(off), the gain
    (in voltage) is √(Pdiff/Tcal) and Tsys = Tcal·Psum/(2·Pdiff), the diode's mean half included, as CASA's
    gencal has them but for its digital factors of the gain. NaN where the difference is not positive.
    """
    good = (difference > 0) & (noise_k > 0)
    safe = np.where(good, difference, 1.0)
    gain = np.sqrt(safe / noise_k) if noise_k > 0 else safe
    return np.where(good, gain, np.nan), np.where(good, noise_k * total / (2 * safe), np.nan)
