"""Flux densities and spectra of the secondary calibrators: a polynomial in the logarithms, with its errors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import ArrayLike

SUSPICIOUS_INDEX = 5.0
"""No calibrator has a spectral index beyond ±5."""
NAMES = ("spix", "curvature", "gamma", "delta")


@attrs.frozen(kw_only=True)
class SpectralFit:
    """log₁₀ S(ν) = Σ cᵢ · (log₁₀ ν/ν₀)ⁱ, S in Jy.

    ``covariance`` is of the coefficients; ``order`` the highest power; c₁ is the spectral index, c₂ the curvature.
    """

    reference_hz: float
    coefficients: tuple[float, ...] = attrs.field(converter=tuple)
    covariance: tuple[tuple[float, ...], ...] = attrs.field(converter=lambda c: tuple(tuple(r) for r in c))
    reduced_chi2: float = 1.0

    @property
    def order(self) -> int:
        return len(self.coefficients) - 1

    @property
    def flux_jy(self) -> float:
        """Flux density at the reference frequency."""
        return 10 ** self.coefficients[0]

    @property
    def flux_error_jy(self) -> float:
        return self.flux_jy * math.log(10) * self.error(0)

    @property
    def spectral_index(self) -> tuple[float, ...]:
        """c₁, c₂ …: CASA's ``spix``."""
        return self.coefficients[1:]

    def error(self, power: int) -> float:
        """Standard error of a coefficient."""
        return math.sqrt(max(self.covariance[power][power], 0.0))

    def at(self, frequency_hz: ArrayLike) -> np.ndarray:
        """Flux density in Jy at these frequencies."""
        x = np.log10(np.asarray(frequency_hz, float) / self.reference_hz)
        return np.asarray(10 ** sum(c * x**i for i, c in enumerate(self.coefficients)))

    def referred_to(self, frequency_hz: float) -> SpectralFit:
        """The same curve with another reference frequency; exact, errors with their correlations.

        With s = log₁₀(ν/ν₀), p(x + s) has the coefficients Σⱼ C(j, i) s^(j−i) cⱼ: a linear map, so that the
        covariance follows without the random trials of the reference pipeline.
        """
        shift = math.log10(frequency_hz / self.reference_hz)
        n = len(self.coefficients)
        matrix = np.array([[math.comb(j, i) * shift ** (j - i) if j >= i else 0.0 for j in range(n)] for i in range(n)])
        covariance = matrix @ np.array(self.covariance) @ matrix.T
        return attrs.evolve(
            self, reference_hz=frequency_hz, coefficients=[float(c) for c in matrix @ np.array(self.coefficients)],
            covariance=covariance.tolist(),
        )  # fmt: skip


def fit_spectrum(
    frequency_hz: ArrayLike, flux_jy: ArrayLike, error_jy: ArrayLike, order: int, reference_hz: float | None = None,
    shared: ArrayLike | None = None,
) -> SpectralFit:  # fmt: skip
    """Least squares of log₁₀ S against log₁₀ ν/ν₀, of at most the order that the points can hold.

    Points of zero or unknown error get the median of the others' relative errors. When the points scatter more than
    their errors say, the covariance is scaled by the reduced χ².

    shared : (points, groups) relative errors, besides ``error_jy``, by which the points of a group are off together.

    Raises
    ------
    ValueError : no point has a positive flux density.
    """
    nu, flux, error = (np.asarray(a, float) for a in (frequency_hz, flux_jy, error_jy))
    good = np.isfinite(nu) & np.isfinite(flux) & (flux > 0)
    if not good.any():
        raise ValueError("no positive flux density to fit")
    nu, flux, error = nu[good], flux[good], error[good]
    known = np.isfinite(error) & (error > 0)
    relative = np.full(flux.size, float(np.median(error[known] / flux[known])) if known.any() else 0.01)
    relative[known] = error[known] / flux[known]
    reference = reference_hz or float((nu.min() + nu.max()) / 2)
    x, y = np.log10(nu / reference), np.log10(flux)
    spread = np.diag(relative**2)
    if shared is not None:
        groups = np.asarray(shared, float)[good]
        spread = spread + groups @ groups.T
    # With the root of the inverse covariance before them, all points have an error of 1 and no correlations.
    white = math.log(10) * np.linalg.inv(np.linalg.cholesky(spread))
    order = max(0, min(order, len(np.unique(nu)) - 1))
    design = white @ np.vander(x, order + 1, increasing=True)
    covariance = np.linalg.pinv(design.T @ design)
    coefficients = np.linalg.lstsq(design, white @ y, rcond=None)[0]
    freedom = flux.size - order - 1
    chi2 = float(np.sum((design @ coefficients - white @ y) ** 2)) / freedom if freedom > 0 else 1.0
    return SpectralFit(
        reference_hz=reference, coefficients=[float(c) for c in coefficients],
        covariance=(covariance * max(chi2, 1.0)).tolist(), reduced_chi2=chi2,
    )  # fmt: skip


def fractional_residuals(flux_jy: ArrayLike, fitted_jy: ArrayLike) -> np.ndarray:
    """(data − fit) / data; NaN where there are no data."""
    data, fit = np.asarray(flux_jy, float), np.asarray(fitted_jy, float)
    return np.divide(data - fit, data, out=np.full(data.shape, np.nan), where=data > 0)


def indices_absurd(indices: Sequence[float]) -> bool:
    """Whether every one of several spectral indices is below −3 or above 2: the flux scale itself must be wrong."""
    return len(indices) > 0 and all(i < -3 or i > 2 for i in indices)
