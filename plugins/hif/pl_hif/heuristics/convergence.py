"""Has clean converged? What the residual still says about the flux density of each island.

With few antennas the sidelobes of several sources nearly cancel within their masks: clean stops there while flux
densities are off by many percent, and the misfit hides outside of the masks. As the residual is linear in what the
model lacks, a fit of each island's own dirty response to the whole residual finds it.

What stays below clean's threshold is no failure of clean: an extended source keeps a plateau there, a quarter of its
flux density and more, which the restored image, the model's and the residual's sum, has.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

LARGEST = 512
"""Side of the part of an image that is looked at, in pixels: around the brightest island."""
MOST = 8
"""So many of the brightest islands are looked at."""


@attrs.frozen(kw_only=True, eq=False)
class Missing:
    """Flux density that islands lack, relative to their model, and its error from thermal noise; by island.

    ``pixel`` (island, 2) is the peak of the model, ``flux`` its sum in Jy. ``peak`` is the highest dirty response to
    the model of an island, Jy/beam: what fraction of it is below clean's threshold, clean leaves on purpose.
    """

    fraction: NDArray[np.float64]
    error: NDArray[np.float64]
    peak: NDArray[np.float64]
    flux: NDArray[np.float64]
    pixel: NDArray[np.int_]


def missing_flux(
    residuals: Sequence[NDArray[np.floating]], model: NDArray[np.floating], psfs: Sequence[NDArray[np.floating]],
    mask: NDArray[np.bool_], thermal: float,
) -> Missing:  # fmt: skip
    """Fit residual(i) = sum over islands k and terms j of c(k, j) model(k) * psf(i + j), * a convolution.

    Parameters
    ----------
    residuals : n Taylor terms of the residual, (nx, ny), Jy/beam; not finite where unknown.
    model : first term of the model, Jy/pixel; the islands have its shape in all terms.
    psfs : 2n − 1 terms of the point spread function, peak of the first 1 in the middle of the image.
    mask : where clean could put flux density.
    thermal : noise that the visibilities promise, Jy/beam.
    """
    from scipy.fft import irfft2, next_fast_len, rfft2
    from scipy.ndimage import label

    whole = np.nan_to_num(np.asarray(model, float))
    centre = np.unravel_index(int(np.argmax(np.abs(whole))), whole.shape)
    window = tuple(
        slice(max(0, min(c - LARGEST // 2, n - LARGEST)), max(0, min(c - LARGEST // 2, n - LARGEST)) + min(n, LARGEST))
        for c, n in zip(centre, whole.shape, strict=True)
    )
    inside = np.where(mask, whole, 0.0)[window]
    labels, count = label(mask[window])
    sums = np.array([inside[labels == k].sum() for k in range(1, count + 1)])
    islands = [int(k) + 1 for k in np.argsort(-sums)[:MOST] if sums[k] > 0]
    if not islands:
        none = np.zeros(0)
        return Missing(fraction=none, error=none, peak=none, flux=none, pixel=np.zeros((0, 2), int))
    shape = [next_fast_len(2 * n) for n in inside.shape]
    kernels = [rfft2(_kernel(p, inside.shape, shape)) for p in psfs]

    def convolved(image: NDArray[np.floating], kernel: NDArray[np.complexfloating]) -> NDArray[np.floating]:
        full = irfft2(rfft2(image.astype(np.float32), shape) * kernel, shape)
        return np.asarray(full[: image.shape[0], : image.shape[1]])

    terms = len(residuals)
    good = np.isfinite(residuals[0])[window].ravel()
    columns, noisy = [], []
    for k in islands:
        part = np.where(labels == k, inside, 0.0)
        for j in range(terms):
            response = [convolved(part, kernels[i + j]) for i in range(terms)]
            columns.append(np.concatenate([r.ravel()[good] for r in response]))
            # Noise is correlated as the point spread function is; between terms it is not followed.
            noisy.append(np.concatenate([convolved(r, kernels[2 * i]).ravel()[good] for i, r in enumerate(response)]))
    a, b = np.stack(columns, axis=1).astype(float), np.stack(noisy, axis=1).astype(float)
    y = np.concatenate([np.nan_to_num(np.asarray(r, float))[window].ravel()[good] for r in residuals])
    inverse = np.linalg.pinv(a.T @ a)
    found = inverse @ (a.T @ y)
    covariance = thermal**2 * inverse @ (a.T @ b) @ inverse
    peaks = [np.unravel_index(int(np.argmax(np.where(labels == k, inside, -np.inf))), inside.shape) for k in islands]
    return Missing(
        fraction=found[::terms], error=np.sqrt(np.maximum(np.diag(covariance)[::terms], 0.0)),
        peak=a[: int(good.sum()), ::terms].max(axis=0), flux=sums[[k - 1 for k in islands]],
        pixel=np.array([[p + w.start for p, w in zip(peak, window, strict=True)] for peak in peaks]),
    )  # fmt: skip


def _kernel(psf: NDArray[np.floating], size: Sequence[int], padded: Sequence[int]) -> NDArray[np.float32]:
    """The middle of a point spread function with its peak moved to the first pixel."""
    halves = [min(n // 2, m) for n, m in zip(psf.shape, size, strict=True)]
    part = tuple(slice(n // 2 - h, n // 2 + h) for n, h in zip(psf.shape, halves, strict=True))
    grid = np.zeros(padded, np.float32)
    grid[: 2 * halves[0], : 2 * halves[1]] = np.nan_to_num(psf[part])
    return np.roll(grid, (-halves[0], -halves[1]), axis=(0, 1))
