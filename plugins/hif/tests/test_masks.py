"""Where to clean: simulated residuals, with what is in them known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pl_hif.heuristics import masks, weighting
from pl_hif.heuristics.imaging import C_M_S

N = 200
BEAM = 5.0


def gaussian(x0: float, y0: float, peak: float, fwhm: float = BEAM) -> np.ndarray:
    x, y = np.meshgrid(np.arange(N), np.arange(N), indexing="ij")
    return peak * np.exp(-4 * math.log(2) * ((x - x0) ** 2 + (y - y0) ** 2) / fwhm**2)


def noise(sigma: float, seed: int = 1) -> np.ndarray:
    """Noise with the beam's correlation length."""
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(np.random.default_rng(seed).standard_normal((N, N)), BEAM / 2.3548 / math.sqrt(2))
    return sigma * smooth / smooth.std()


def look(residual: np.ndarray, **changes: object) -> masks.Islands:
    given = {
        "restored": None, "response": np.ones((N, N)), "known": np.zeros((N, N), bool), "thermal": 1.0,
        "sidelobe": 0.1, "beam_px": BEAM,
    }  # fmt: skip
    return masks.significant(residual, **{**given, **changes})  # type: ignore[arg-type]


def test_a_source_of_eight_sigma_is_found_and_noise_is_not() -> None:
    assert look(noise(1.0)).count == 0
    found = look(noise(1.0) + gaussian(60, 120, 12.0))
    assert found.count == 1
    assert found.mask[60, 120] and found.mask.sum() < 4 * BEAM**2
    # The noise beside the source is that of the sky.
    assert found.noise == pytest.approx(1.0, rel=0.2)


def test_sidelobes_of_the_brightest_source_are_not_taken_for_sources() -> None:
    # A sidelobe of 30 % and a source of 60 % of the peak; thermal noise is far below both.
    sky = gaussian(100, 100, 1000.0) + gaussian(100, 60, 300.0) + gaussian(40, 100, 600.0)
    found = look(sky + noise(1.0), sidelobe=0.3)
    assert found.count == 2
    assert found.mask[100, 100] and found.mask[40, 100] and not found.mask[100, 60]
    assert found.unmasked_peak == pytest.approx(300.0, rel=0.05)


def test_the_next_round_finds_what_the_first_could_not() -> None:
    known = gaussian(100, 100, 1.0) > 0.5
    found = look(gaussian(40, 100, 50.0) + noise(1.0), sidelobe=0.3, known=known, restored=gaussian(100, 100, 1000.0))
    assert found.count == 2 and found.mask[40, 100] and found.mask[100, 100]


def test_errors_around_a_bright_source_raise_the_limit_there_and_only_there() -> None:
    from scipy.ndimage import gaussian_filter

    where = gaussian_filter(gaussian(100, 100, 1.0, 80.0), 5)
    residual = noise(1.0) + noise(10.0, 3) * where / where.max() + gaussian(25, 25, 12.0)
    found = look(residual, restored=residual, sidelobe=0.05)
    assert found.mask[25, 25]
    assert found.mask[70:130, 70:130].sum() == 0


def test_beyond_the_main_lobe_a_peak_must_be_higher() -> None:
    sky = noise(0.2) + gaussian(60, 120, 6.0)
    assert look(sky, sidelobe=0.0).count == 1
    assert look(sky, sidelobe=0.0, response=np.full((N, N), 0.05)).count == 0


def test_masked_pixels_and_forbidden_ones_hold_no_island() -> None:
    sky = noise(1.0) + gaussian(60, 120, 50.0)
    sky[50:70, 110:130] = np.nan
    assert look(sky).count == 0
    allowed = np.ones((N, N), bool)
    allowed[40:80] = False
    assert look(noise(1.0) + gaussian(60, 120, 50.0), allowed=allowed).mask[40:80].sum() == 0


def test_sidelobe_level_of_a_known_pattern() -> None:
    lobe = gaussian(100, 100, 1.0)
    assert masks.sidelobe_level(lobe, (BEAM, BEAM, 0.0)) == pytest.approx(0.0, abs=1e-6)
    assert masks.sidelobe_level(lobe - gaussian(130, 90, 0.23), (BEAM, BEAM, 0.0)) == pytest.approx(0.23, rel=1e-3)


def test_an_elongated_beam_is_subtracted_along_its_position_angle() -> None:
    # 12 by 5 pixels at 30 degrees, north (y) through east (−x).
    x, y = np.meshgrid(np.arange(N) - 100, np.arange(N) - 100, indexing="ij")
    pa = math.radians(30.0)
    along = y * math.cos(pa) - x * math.sin(pa)
    across = -x * math.cos(pa) - y * math.sin(pa)
    psf = np.exp(-4 * math.log(2) * ((along / 12) ** 2 + (across / 5) ** 2))
    assert masks.sidelobe_level(psf, (12.0, 5.0, 30.0)) < 1e-6
    assert masks.sidelobe_level(psf, (12.0, 5.0, -30.0)) > 0.3


@pytest.mark.parametrize("cell", [1, 3])
def test_rectangles_cover_the_mask_and_little_else(cell: int) -> None:
    mask = (gaussian(60, 120, 1.0, 20.0) > 0.3) | (gaussian(197, 3, 1.0, 12.0) > 0.5)
    covered = np.zeros_like(mask)
    boxes = masks.rectangles(mask, cell)
    for x1, y1, x2, y2 in boxes:
        assert not covered[x1 : x2 + 1, y1 : y2 + 1].any(), "rectangles overlap"
        covered[x1 : x2 + 1, y1 : y2 + 1] = True
    assert (covered & mask).sum() == mask.sum()
    assert covered.sum() <= (1.0 if cell == 1 else 1.6) * mask.sum()
    assert len(boxes) < 40
    assert masks.rectangles(np.zeros((9, 9), bool)) == []


def test_region_text_is_what_casa_reads() -> None:
    assert masks.region_text([(1, 2, 3, 4)]) == ["box[[1pix,2pix],[3pix,4pix]]"]


def test_natural_weights_cost_nothing_and_uniform_ones_cost_what_the_densities_say() -> None:
    # Nine visibilities in one cell, one in another: uniform weighting gives both cells the same weight, so that
    # w' = 1/9 and 1: √(9/81 + 1)·√10/2 = 1.6667.
    uv = np.array([[100.0] * 9 + [900.0], [0.0] * 10])
    hz = [C_M_S]  # a wavelength of one metre
    field = 206264.8062 / 100  # cells of 100 wavelengths
    assert weighting.briggs_noise_factor(uv, np.ones(10), hz, 2.0, field) == pytest.approx(1.0, abs=0.01)
    assert weighting.briggs_noise_factor(uv, np.ones(10), hz, -2.0, field) == pytest.approx(1.6667, rel=0.01)


def test_a_visibility_and_its_conjugate_share_a_cell() -> None:
    uv = np.array([[100.0] * 5 + [-100.0] * 4 + [900.0], [50.0] * 5 + [-50.0] * 4 + [0.0]])
    field = 206264.8062 / 100
    assert weighting.briggs_noise_factor(uv, np.ones(10), [C_M_S], -2.0, field) == pytest.approx(1.6667, rel=0.01)


def test_without_weights_the_factor_is_one() -> None:
    assert weighting.briggs_noise_factor(np.zeros((2, 0)), np.zeros(0), [1e9], 0.5, 100.0) == 1.0


def test_noise_of_channels_and_what_hanning_smoothing_makes_of_it() -> None:
    rng = np.random.default_rng(5)
    raw = rng.normal(0, 2.0, (2, 64, 3000)) + 1j * rng.normal(0, 2.0, (2, 64, 3000)) + 7.0
    bad = np.zeros(raw.shape, bool)
    bad[:, 10] = True
    raw[:, 10] = 1e4
    assert weighting.channel_noise(raw, bad) == pytest.approx((2.0, 1.0), rel=0.02)
    smooth = 0.25 * raw[:, :-2] + 0.5 * raw[:, 1:-1] + 0.25 * raw[:, 2:]
    # Scatter √(3/8) of the raw one; the mean over the band is as noisy as before: √(8/3) times σ/√N.
    touched = bad[:, :-2] | bad[:, 1:-1] | bad[:, 2:]
    assert weighting.channel_noise(smooth, touched) == pytest.approx((2 * (3 / 8) ** 0.5, (8 / 3) ** 0.5), rel=0.03)


def test_noise_of_a_few_channels_and_of_none() -> None:
    rng = np.random.default_rng(6)
    few = rng.normal(0, 3.0, (1, 4, 9000)).astype(complex)
    assert weighting.channel_noise(few, np.zeros(few.shape, bool)) == pytest.approx((3.0, 1.0), rel=0.02)
    assert weighting.channel_noise(few, np.ones(few.shape, bool)) == (0.0, 1.0)
