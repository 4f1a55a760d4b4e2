"""Rules of cleaning: noise near the sources, unusual beams, the tip of a peak; what the user sets by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pl_hif.heuristics import cubebeams, masks, nearfield
from pl_hif.stages.makeimages import MakeimagesInputs
from pl_kernel import InputError
from pl_kernel.params import resolve

RNG = np.random.default_rng(7)
SIDE, BEAM = 400, 5.0


def field(near: float) -> tuple[np.ndarray, np.ndarray]:
    """Noise of 1, of ``near`` within 40 pixels of the middle, and a mask of 6 pixels radius there."""
    x, y = np.meshgrid(np.arange(SIDE) - SIDE // 2, np.arange(SIDE) - SIDE // 2, indexing="ij")
    radius = np.hypot(x, y)
    return RNG.standard_normal((SIDE, SIDE)) * np.where(radius < 40, near, 1.0), radius < 6


@pytest.mark.parametrize("near", [1.0, 3.0])
def test_noise_around_the_sources_against_the_rest(near):
    image, mask = field(near)
    # The zone ends where a Gaussian of 25 pixels around the mask has fallen to a hundredth: some 32 pixels.
    ratio = nearfield.near_field_ratio(image, mask, BEAM, 25.0)
    # 40 pixels radius are 3 % of the image, which hardly changes the median of the whole.
    assert ratio == pytest.approx(near, rel=0.07)


def test_quiet_surroundings_never_lower_the_limits():
    image, mask = field(0.3)
    assert nearfield.near_field_ratio(image, mask, BEAM, 25.0) == 1.0
    assert nearfield.near_field_ratio(image, np.zeros_like(mask), BEAM, 25.0) == 1.0


def test_the_zone_is_as_wide_as_errors_reach():
    psf = np.zeros((101, 101))
    psf[50, 50], psf[50, 90] = 1.0, 0.2  # a sidelobe 40 pixels away
    assert nearfield.largest_scale_px(psf, 5.0, 0.0) == pytest.approx(40.0)
    assert nearfield.largest_scale_px(psf, 10.0, 0.0) == pytest.approx(50.0)  # 5 beams
    assert nearfield.largest_scale_px(psf, 5.0, 11.0) == pytest.approx(55.0)  # 5 largest scales
    # 0.6 · 0.06 m / 100 m in arcsec
    assert nearfield.las_arcsec(0.06, 100.0) == pytest.approx(0.6 * 0.06 / 100 * 206264.8, rel=1e-6)
    assert nearfield.las_arcsec(0.06, math.nan) == 0.0


def test_a_plane_with_a_stretched_beam_does_not_count():
    major, minor = np.full(40, 10.0), np.full(40, 8.0) + 0.05 * RNG.standard_normal(40)
    major[7] = 30.0
    major[9] = np.nan
    good = cubebeams.good_beams(major, minor)
    assert not good[7]
    assert not good[9]
    assert good.sum() >= 36  # three sigma twice takes one or two of 38 at most
    assert cubebeams.good_beams(np.full(3, 10.0), np.full(3, 8.0)).all()


def test_where_sidelobes_are_nearly_the_peak_its_tip_is_still_a_source():
    x, y = np.meshgrid(np.arange(200) - 100, np.arange(200) - 100, indexing="ij")

    def spot(dx: int, height: float) -> np.ndarray:
        return height * np.exp(-4 * math.log(2) * ((x - dx) ** 2 + y**2) / BEAM**2)

    residual = spot(0, 1.0) + spot(40, 0.75) + spot(-40, 0.75) + 1e-3 * RNG.standard_normal(x.shape)
    found = masks.significant(
        residual, restored=None, response=np.ones(x.shape), known=np.zeros(x.shape, bool), thermal=1e-3, sidelobe=0.75,
        beam_px=BEAM,
    )  # fmt: skip
    assert found.count == 1
    assert found.mask[100, 100]
    assert not found.mask[140, 100]
    assert not found.mask[60, 100]


def test_noise_has_no_tip():
    noise = RNG.standard_normal((200, 200))
    found = masks.significant(
        noise, restored=None, response=np.ones(noise.shape), known=np.zeros(noise.shape, bool), thermal=1.0,
        sidelobe=0.75, beam_px=BEAM,
    )  # fmt: skip
    assert found.count == 0


def test_channels_outside_the_continuum():
    # Ten channels of 1 kHz from 100 kHz on; continuum 100 to 102 and 107.5 to 120 kHz.
    ranges = [(100e3, 102e3), (107.5e3, 120e3)]
    assert masks.line_channels(100e3, 1e3, 10, ranges) == [(3, 7)]
    assert masks.line_channels(100e3, 1e3, 10, [(102e3, 104e3)]) == [(0, 1), (5, 9)]
    assert masks.line_channels(100e3, 1e3, 10, [(0.0, 1e6)]) == []


def inputs(**given: object) -> MakeimagesInputs:
    made, _ = resolve(MakeimagesInputs, {}, given)
    assert isinstance(made, MakeimagesInputs)
    return made


def test_parameters_of_automatic_masks_ask_for_automatic_masks():
    assert inputs().masking == "auto"
    assert inputs(hm_noisethreshold=4.0).masking == "multithresh"
    assert inputs(hm_noisethreshold=4.0, hm_dogrowprune=True).automask == {"noisethreshold": 4.0, "dogrowprune": True}
    assert inputs(hm_sidelobethreshold=-999.0).masking == "auto"  # the observatories' word for unset
    assert inputs(mask=["box[[1pix,1pix],[9pix,9pix]]"]).masking == "manual"
    assert inputs(hm_noisethreshold=4.0, hm_masking="centralregion").masking == "centralregion"
    assert inputs(hm_nmajor=20, hm_maxpsffraction=-999).tclean == {"nmajor": 20}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"hm_masking": "manual"}, "needs a mask"),
        ({"hm_masking": "none", "mask": ["a.mask"]}, "only manual"),
        ({"threshold": 1e-3, "tlimit": 2.0}, "exclude"),
        ({"hm_weighting": "heavy"}, "hm_weighting"),
    ],
)
def test_masks_and_limits_that_do_not_go_together_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        inputs(**given)
