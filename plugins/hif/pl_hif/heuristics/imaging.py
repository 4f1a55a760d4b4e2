"""Geometry of images: field of view, pixels, weighting, which clean algorithm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
import numpy as np

from pl_kernel import heuristic

if TYPE_CHECKING:
    from pl_hif.heuristics.taper import Taper

ARCSEC = 180 * 3600 / math.pi
C_M_S = 299_792_458.0


@attrs.frozen(kw_only=True)
class Choice:
    """A decision and the sentence that explains it."""

    value: object
    reason: str


def primary_beam_radius_arcsec(frequency_hz: float, dish_m: float) -> float:
    """Radius of the first null of a uniformly lit dish, 1.22·λ/D."""
    return 1.22 * C_M_S / frequency_hz / dish_m * ARCSEC


def primary_beam_fwhm_arcsec(frequency_hz: float, dish_m: float) -> float:
    """Full width at half maximum of the main beam, 1.13·λ/D (tapered illumination)."""
    return 1.13 * C_M_S / frequency_hz / dish_m * ARCSEC


def beam_from_uv_arcsec(
    uv_m: np.ndarray, weights: np.ndarray, wavelength_m: float, robust: float = 0.5, taper: Taper | None = None
) -> float:
    """Estimate the minor axis (FWHM) of the synthesized beam from the baselines, without gridding.

    Parameters
    ----------
    uv_m : (2, n) u and v in metres of unflagged visibilities; weights : (n,) their weights. taper : applied after the
        weighting, as CASA does.

    The visibilities are gridded in cells of a fiftieth of the longest baseline and weighted as Briggs does; the second
    moments of the weighted density give the curvature of the beam at its peak, hence the Gaussian with the same core:
    FWHM = √(8 ln 2) / (2π σ_uv).
    """
    u, v = np.asarray(uv_m, float) / wavelength_m
    weights = np.asarray(weights, float)
    if u.size == 0 or weights.sum() <= 0:
        return math.nan
    limit = max(np.abs(u).max(), np.abs(v).max())
    if limit == 0:
        return math.nan
    cell = limit / 50
    key = np.round(u / cell).astype(int) * 4096 + np.round(v / cell).astype(int)
    _, where = np.unique(key, return_inverse=True)
    density = np.bincount(where, weights)
    f2 = (5 * 10**-robust) ** 2 / (np.sum(density**2) / np.sum(weights))
    w = weights / (1 + density[where] * f2)
    if taper is not None:
        w = w * taper.weights(np.stack([u, v]))
    moments = np.array([[np.sum(w * u * u), np.sum(w * u * v)], [np.sum(w * u * v), np.sum(w * v * v)]]) / w.sum()
    sigma = math.sqrt(max(np.linalg.eigvalsh(moments).max(), 1e-30))
    return math.sqrt(8 * math.log(2)) / (2 * math.pi * sigma) * ARCSEC


def cell_arcsec(beam_minor_arcsec: float, pixels_per_beam: float = 5.0) -> float:
    """Pixel: the beam's minor axis divided by pixels per beam, to two significant digits."""
    if not (math.isfinite(beam_minor_arcsec) and beam_minor_arcsec > 0):
        raise ValueError("the beam's minor axis must be positive")
    return float(f"{beam_minor_arcsec / pixels_per_beam:.2g}")


def good_size(pixels: float, smallest: int = 32) -> int:
    """The next even number with no prime factor above 5, the sizes CASA calls efficient."""
    n = max(math.ceil(pixels), smallest)
    n += n % 2
    while True:
        rest = n
        for p in (2, 3, 5):
            while rest % p == 0:
                rest //= p
        if rest == 1:
            return n
        n += 2


def field_of_view_arcsec(
    frequency_hz: float, dish_m: float, level: float | None = None, spread_arcsec: float = 0.0
) -> float:
    """Width of the image: 1.5 times the primary beam's radius, or out to where the beam has fallen to ``level``.

    ``level`` uses the Gaussian of the reference pipeline, 1.1·(1.12/1.22·R)·√(−ln p/ln 2); ``spread_arcsec`` is the
    width of a mosaic.
    """
    radius = primary_beam_radius_arcsec(frequency_hz, dish_m)
    if level is None:
        return 1.5 * radius + spread_arcsec
    return 1.1 * (1.12 / 1.22 * radius) * math.sqrt(-math.log(level) / math.log(2)) + spread_arcsec


def fractional_bandwidth(low_hz: Sequence[float], high_hz: Sequence[float]) -> float:
    """(highest − lowest) / centre of several windows."""
    low, high = min(low_hz), max(high_hz)
    return 2 * (high - low) / (high + low)


@heuristic("imaging.robust")
def robust(specmode: str) -> Choice:
    """Briggs' robustness for any array."""
    return Choice(value=0.5, reason="0.5 is the usual compromise between resolution and noise.")


@heuristic("imaging.view_level")
def view_level(specmode: str, lowest_hz: float) -> Choice:
    """Primary-beam level out to which the image reaches; None means 1.5 times the beam's radius."""
    return Choice(value=None, reason="The image is 1.5 times as wide as the radius of the primary beam's first null.")


@heuristic("imaging.automask")
def automask(intent: str, specmode: str, baseline_75_m: float) -> dict[str, float | bool | int]:
    """Parameters of auto-multithresh; CASA's own defaults serve an array nobody tuned them for."""
    return {
        "sidelobethreshold": 3.0, "noisethreshold": 5.0, "lownoisethreshold": 1.5, "negativethreshold": 0.0,
        "minbeamfrac": 0.3, "growiterations": 75, "dogrowprune": False, "fastnoise": True,
    }  # fmt: skip


@heuristic("imaging.wproject_planes")
def wproject_planes(intent: str, band: str, baseline_75_m: float) -> Choice:
    """Number of planes of W projection, 0 for none; asked only where the user allows it."""
    return Choice(value=0, reason="W projection has no rule for this telescope")


@heuristic("imaging.cubes_need_science_data")
def cubes_need_science_data() -> bool:
    """Whether cubes of targets are made only of data that were split off for their lines."""
    return False


@heuristic("imaging.deconvolver")
def deconvolver(specmode: str, bandwidth_fraction: float) -> tuple[str, int, str]:
    """Clean algorithm and number of Taylor terms, with the reason."""
    if specmode != "cube" and bandwidth_fraction >= 0.1:
        return "mtmfs", 2, f"fractional bandwidth {bandwidth_fraction:.2f} is 0.1 or more: two Taylor terms"
    return "hogbom", 1, "narrow band: one term" if specmode != "cube" else "each channel is cleaned by itself"


def iterations(
    size_px: int, cell_as: float, beam_as: float, peak: float, threshold: float, mask_fraction: float = 0.45,
    lowest: int = 1000, highest: int = 1_000_000,
) -> int:  # fmt: skip
    """Number of minor cycles that cleaning a mask of ``mask_fraction`` of the image down to the threshold can need.

    κ/γ·(r_mask/beam)²·peak/threshold with κ = 5, γ = 0.1 (reference pipeline), to one significant digit.
    """
    if not (peak > 0 and threshold > 0 and beam_as > 0):
        return lowest
    n = 5 / 0.1 * (mask_fraction * size_px * cell_as / beam_as) ** 2 * peak / threshold
    return int(min(max(float(f"{n:.0e}"), lowest), highest))


@attrs.frozen(kw_only=True)
class CleanHealth:
    """How a deconvolution went."""

    diverged: bool
    reason: str


def clean_health(dirty_peak: float, residual_peak: float, stop_code: int, peaks: Sequence[float] = ()) -> CleanHealth:
    """Decide whether clean diverged.

    ``dirty_peak`` and ``residual_peak`` are the largest absolute residuals before and after; ``peaks`` those of the
    major cycles in between. CASA's stop codes 5 and 6 are its own two criteria of divergence.
    """
    if not math.isfinite(residual_peak):
        return CleanHealth(diverged=True, reason="the residual image holds no finite number")
    if stop_code in (5, 6):
        return CleanHealth(diverged=True, reason=f"CASA stopped for divergence (stop code {stop_code})")
    if residual_peak > 1.1 * dirty_peak > 0:
        return CleanHealth(
            diverged=True,
            reason=f"the residual peak ({residual_peak:.3g}) is above that of the dirty image ({dirty_peak:.3g})",
        )
    if len(peaks) > 2 and peaks[-1] > 2 * min(peaks):
        return CleanHealth(
            diverged=True, reason=f"the residual peak grew again from {min(peaks):.3g} to {peaks[-1]:.3g}"
        )
    return CleanHealth(diverged=False, reason="the residual peak fell")
