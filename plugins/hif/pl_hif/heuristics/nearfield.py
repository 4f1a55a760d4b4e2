"""Noise close to bright emission, where errors of calibration and deconvolution are, against that of the image."""

from __future__ import annotations

import math

import numpy as np
import scipy
from numpy.typing import NDArray

from pl_hif.heuristics.masks import robust_sigma

_FWHM = 2 * math.sqrt(2 * math.log(2))
_TOUCHED = 0.1
_REACHED = 0.01
"""The zone begins where the mask smoothed with the beam falls to the first part of its maximum, and ends where it,
smoothed further, falls to the second (reference pipeline, 2026)."""


def largest_scale_px(psf: NDArray[np.floating], beam_px: float, las_px: float) -> float:
    """How far errors of deconvolution reach, in pixels.

    The largest of 5 beams, of the distance from the peak of the point spread function, (nx, ny), to its farthest pixel
    above 0.1, and of 5 times the largest angular scale that the array sees.
    """
    finite = np.nan_to_num(psf)
    x0, y0 = np.unravel_index(int(np.argmax(finite)), finite.shape)
    xs, ys = np.nonzero(finite > _TOUCHED)
    reach = float(np.hypot(xs - x0, ys - y0).max()) if xs.size else 0.0
    return max(5 * beam_px, reach, 5 * las_px)


def near_field_ratio(
    image: NDArray[np.floating], mask: NDArray[np.bool_], beam_px: float, scale_px: float
) -> float:
    """Noise (1.4826·MAD) of the surroundings of the mask over that of everything outside it; at least 1.

    Parameters
    ----------
    image : (nx, ny) Jy/beam, NaN where there is nothing; mask : (nx, ny) what was cleaned.
    beam_px, scale_px : full widths at half maximum of the Gaussians that the mask is smoothed with, for the inner and
        the outer limit of the zone.

    1 without a mask, or where the zone has fewer than 50 pixels.
    """
    if not mask.any():
        return 1.0
    smooth = _smoothed(mask.astype(np.float32), beam_px)
    touched = smooth > _TOUCHED * smooth.max()
    far = _smoothed(touched.astype(np.float32), scale_px)
    zone = (far >= _REACHED * far.max()) & ~touched & np.isfinite(image)
    outside = robust_sigma(image[~mask])
    if zone.sum() < 50 or not outside > 0:
        return 1.0
    return max(1.0, robust_sigma(image[zone]) / outside)


def _smoothed(values: NDArray[np.float32], fwhm_px: float) -> NDArray[np.float32]:
    """Convolve with a Gaussian; by Fourier transform, since the wide one has hundreds of pixels."""
    pad = math.ceil(1.5 * fwhm_px)
    wide = np.pad(values, pad)
    shape = [scipy.fft.next_fast_len(n, real=True) for n in wide.shape]
    spectrum = scipy.fft.rfft2(wide, shape)
    response = scipy.ndimage.fourier_gaussian(spectrum, fwhm_px / _FWHM, n=shape[1])
    whole: NDArray[np.float32] = scipy.fft.irfft2(response, shape)
    return whole[pad : pad + values.shape[0], pad : pad + values.shape[1]]


def las_arcsec(wavelength_m: float, baseline_5_m: float) -> float:
    """Largest angular scale, 0.6 λ/B₅ with B₅ the 5th percentile of the baselines; 0 when that is not known."""
    return 0.6 * wavelength_m / baseline_5_m * 180 * 3600 / math.pi if baseline_5_m > 0 else 0.0
