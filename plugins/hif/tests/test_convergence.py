"""What the residual says about flux densities that clean got wrong: arrays of few antennas, known sources."""

from __future__ import annotations

import numpy as np
import pytest

from pl_hif.heuristics.convergence import missing_flux

N = 128
SOURCES = ((64, 64, 0.12), (50, 72, 0.08), (75, 45, 0.10))


def weights(antennas: int) -> np.ndarray:
    """Weights in the plane of u and v of a snapshot, symmetric."""
    rng = np.random.default_rng(antennas)
    u, v = rng.integers(-16, 17, (2, antennas))
    found = np.zeros((N, N))
    for i in range(antennas):
        for j in range(antennas):
            if i != j:
                found[(u[i] - u[j]) % N, (v[i] - v[j]) % N] += 1
    return found / found.sum()


def dirty(sky: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Dirty image in Jy/beam; the point spread function of an array is that of a 1 in the middle."""
    return np.fft.ifft2(np.fft.fft2(sky) * weight).real * N * N


def point_spread(weight: np.ndarray) -> np.ndarray:
    sky = np.zeros((N, N))
    sky[N // 2, N // 2] = 1.0
    return dirty(sky, weight)


def scene(scale: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(truth, model with these parts of the flux densities, mask)."""
    truth, model, mask = np.zeros((N, N)), np.zeros((N, N)), np.zeros((N, N), bool)
    for (x, y, flux), part in zip(SOURCES, scale, strict=True):
        truth[x, y], model[x, y] = flux, part * flux
        mask[x - 2 : x + 3, y - 2 : y + 3] = True
    return truth, model, mask


@pytest.mark.parametrize("antennas", [6, 14])
def test_missing_flux_is_found_island_by_island(antennas: int) -> None:
    weight, scale = weights(antennas), (0.96, 0.85, 0.9)
    truth, model, mask = scene(scale)
    rng = np.random.default_rng(1)
    # Noise of the visibilities: correlated in the image as the point spread function is; 0.1 mJy/beam.
    noise = np.fft.ifft2(np.fft.fft2(rng.standard_normal((N, N))) * np.sqrt(weight)).real
    noise *= 1e-4 / noise.std()
    residual = dirty(truth - model, weight) + noise
    # The plane wraps round here, which an image does not: only the middle is compared.
    residual[:8], residual[-8:], residual[:, :8], residual[:, -8:] = np.nan, np.nan, np.nan, np.nan
    found = missing_flux([residual], model, [point_spread(weight)], mask, 1e-4)
    order = np.argsort(-np.array([f * s for (_, _, f), s in zip(SOURCES, scale, strict=True)]))
    assert [tuple(p) for p in found.pixel] == [SOURCES[k][:2] for k in order]
    expected = np.array([1 / scale[k] - 1 for k in order])
    assert found.fraction == pytest.approx(expected, abs=0.02)
    assert (found.error < 0.01).all() and (found.error > 1e-5).all()


def test_a_converged_model_lacks_nothing_and_no_model_has_no_islands() -> None:
    weight = weights(14)
    truth, model, mask = scene((1.0, 1.0, 1.0))
    found = missing_flux([dirty(truth - model, weight)], model, [point_spread(weight)], mask, 1e-4)
    assert found.fraction == pytest.approx(0, abs=1e-6)
    empty = np.zeros((N, N))
    assert missing_flux([empty], empty, [point_spread(weight)], mask, 1e-4).fraction.size == 0


def test_an_error_of_the_spectrum_is_not_taken_for_missing_flux() -> None:
    # Two terms: the second point spread function is the first weighted with the frequencies' offsets.
    low, high = weights(10), weights(11)
    psf = [point_spread(low * a + high * b) for a, b in ((0.5, 0.5), (-0.03, 0.03), (0.0018, 0.0018))]
    truth, model, mask = scene((1.0, 1.0, 1.0))
    slope = 0.5 * truth  # what the model lacks in the second term
    residual = [dirty(slope, low * a + high * b) for a, b in ((-0.03, 0.03), (0.0018, 0.0018))]
    found = missing_flux(residual, model, psf, mask, 1e-4)
    assert found.fraction == pytest.approx(0, abs=0.01)


def test_the_response_to_an_extended_source_is_far_below_its_flux_density() -> None:
    # A dense array, whose point spread function is a Gaussian: exp(−2π²σ²f²) with σ of 3 pixels.
    u, v = np.meshgrid(np.fft.fftfreq(N), np.fft.fftfreq(N), indexing="ij")
    weight = np.exp(-2 * np.pi**2 * 9 * (u**2 + v**2))
    weight /= weight.sum()
    x, y = np.mgrid[:N, :N] - N // 2
    source = 0.1 * np.exp(-(x**2 + y**2) / (2 * 36)) / (2 * np.pi * 36)
    mask = x**2 + y**2 < 24**2
    found = missing_flux([dirty(0.25 * source, weight)], 0.75 * source * mask, [point_spread(weight)], mask, 1e-6)
    # A quarter is left of what three quarters are in the model.
    assert found.fraction == pytest.approx(1 / 3, abs=0.001)
    # A Gaussian of σ 6 pixels seen with one of 3: σ² / (σ² + 6²) of the flux density at the peak.
    assert found.peak == pytest.approx(0.075 * 9 / 45, rel=0.01)
