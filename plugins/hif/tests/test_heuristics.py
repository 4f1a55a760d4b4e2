"""Decisions as tables of numbers: expectations are hand calculations or published values, shown beside."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pl_hif.heuristics import continuum, flux, imaging, solint
from pl_hif.heuristics.intents import FieldFacts, ScanFacts, StandardFacts, infer, separation_rad
from pl_hif.heuristics.refant import rank

# ---- reference antenna -----------------------------------------------------------------------------------------------

LINE = {"A": (0.0, 0.0), "B": (10.0, 0.0), "C": (-10.0, 0.0), "D": (100.0, 0.0)}


def test_the_central_antenna_wins_when_all_data_are_good() -> None:
    good = {"PHASE": dict.fromkeys(LINE, 100.0)}
    ranked, left_out = rank(LINE, good)
    # Median of 0, 10, -10, 100 is 5: distances 5, 5, 15, 95; geometry 4(1-d/95): 3.789, 3.789, 3.368, 0; flags 4 each.
    assert [a.name for a in ranked] == ["A", "B", "C", "D"]
    assert ranked[0].geometry == pytest.approx(4 * (1 - 5 / 95))
    assert ranked[3].score == pytest.approx(4.0)
    assert not left_out


def test_flags_of_the_worst_intent_decide() -> None:
    good = {"PHASE": dict.fromkeys(LINE, 100.0), "BANDPASS": {"A": 10.0, "B": 100.0, "C": 100.0, "D": 100.0}}
    ranked, _ = rank(LINE, good)
    # A: 3.789 + 4·0.1 = 4.189 falls behind B (7.789) and C (7.368), stays before D (4.0).
    assert [a.name for a in ranked] == ["B", "C", "A", "D"]


def test_an_antenna_without_good_data_is_left_out_and_named() -> None:
    ranked, left_out = rank(LINE, {"PHASE": {"A": 0.0, "B": 5.0, "C": 5.0, "D": 5.0}})
    assert "A" not in [a.name for a in ranked]
    assert any("A" in sentence for sentence in left_out)


def test_when_nobody_has_good_data_everybody_stays() -> None:
    ranked, _ = rank(LINE, {"PHASE": dict.fromkeys(LINE, 0.0)})
    assert len(ranked) == 4


def test_ignored_antennas_are_left_out() -> None:
    ranked, left_out = rank(LINE, {}, ignore=["A"])
    assert next(a.name for a in ranked) == "B" and left_out


def test_equal_scores_are_ordered_by_name() -> None:
    ranked, _ = rank({"z": (1.0, 0.0), "a": (-1.0, 0.0)}, {})
    assert [a.name for a in ranked] == ["a", "z"]


# ---- intents ---------------------------------------------------------------------------------------------------------

C286 = StandardFacts(name="3C286", ra_rad=math.radians(202.784533), dec_rad=math.radians(30.509155), strength=15.0)
C48 = StandardFacts(name="3C48", ra_rad=math.radians(24.422081), dec_rad=math.radians(33.159759), strength=16.0)


def field(i: int, name: str, ra_deg: float, dec_deg: float) -> FieldFacts:
    return FieldFacts(id=i, name=name, ra_rad=math.radians(ra_deg), dec_rad=math.radians(dec_deg))


def scans(*rows: tuple[int, float]) -> list[ScanFacts]:
    """Scans one after another, as (field, minutes)."""
    found, start = [], 0.0
    for i, (field_id, minutes) in enumerate(rows, 1):
        found.append(ScanFacts(id=i, field=field_id, start_s=start, end_s=start + 60 * minutes))
        start += 60 * minutes + 30
    return found


def test_a_line_observation_of_the_nineties_is_understood() -> None:
    # The order of NGC 5921: flux standard, then phase calibrator and galaxy in turn.
    fields = [
        field(0, "1331+305", 202.7845, 30.5092),
        field(1, "1445+099", 221.32, 9.98),
        field(2, "N5921", 230.5, 5.07),
    ]
    decisions, doubts = infer(fields, scans((0, 6), (1, 2.5), (2, 15), (1, 1), (1, 1.5), (2, 17), (1, 2)), [C48, C286])
    assert [d.intents for d in decisions] == [("BANDPASS", "AMPLITUDE"), ("PHASE",), ("TARGET",)]
    assert decisions[0].calibrator == "3C286" and "3C286" in decisions[0].reason
    assert "N5921" in decisions[1].reason
    assert not doubts


def test_the_stronger_of_two_standards_serves_the_bandpass() -> None:
    fields = [field(0, "a", 202.7845, 30.5092), field(1, "b", 24.422081, 33.159759), field(2, "c", 100.0, 0.0)]
    decisions, _ = infer(fields, scans((0, 5), (1, 5), (2, 20)), [C286, C48])
    assert "BANDPASS" not in decisions[0].intents and "BANDPASS" in decisions[1].intents


def test_a_lone_target_makes_the_standard_calibrate_phases_and_says_so() -> None:
    fields = [field(0, "a", 202.7845, 30.5092), field(1, "t", 200.0, 30.0)]
    decisions, doubts = infer(fields, scans((0, 5), (1, 60)), [C286])
    assert decisions[0].intents == ("BANDPASS", "AMPLITUDE", "PHASE")
    assert any("phase calibrator" in d for d in doubts)


def test_without_a_standard_the_doubt_is_said() -> None:
    _, doubts = infer([field(0, "a", 10.0, 10.0), field(1, "b", 12.0, 10.0)], scans((0, 2), (1, 20), (0, 2)), [C286])
    assert any("flux" in d for d in doubts)


def test_two_targets_of_equal_length_are_no_calibrators_of_each_other() -> None:
    decisions, _ = infer(
        [field(0, "a", 10.0, 10.0), field(1, "b", 12.0, 10.0)], scans((0, 20), (1, 20), (0, 20), (1, 20)), []
    )
    assert {d.intents for d in decisions} == {("TARGET",)}


def test_a_field_beyond_four_arcmin_is_no_standard() -> None:
    # 0.0012 rad is 4.125 arcmin.
    near, far = field(0, "n", 202.784533, 30.509155 + 4.0 / 60), field(1, "f", 202.784533, 30.509155 + 4.2 / 60)
    decisions, _ = infer([near, far], scans((0, 5), (1, 5)), [C286])
    assert decisions[0].calibrator == "3C286" and decisions[1].calibrator == ""


def test_separation_across_the_zero_of_right_ascension() -> None:
    assert math.degrees(separation_rad(math.radians(359.5), 0.0, math.radians(0.5), 0.0)) == pytest.approx(1.0)


# ---- channels and intervals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "expected"), [(63, (21, 43)), (64, (21, 43)), (3, (1, 2)), (1, (0, 0))])
def test_central_third(n: int, expected: tuple[int, int]) -> None:
    assert solint.central_channels(n) == expected


@pytest.mark.parametrize(
    ("snr", "expected"),
    # wanted 10: 12 ≥ 10 at once; 8·√2 = 11.3; 5·√5 = 11.2; 3·√20 = 13.4 but 3·√10 = 9.5; 1·√20 = 4.5 fails.
    [(12.0, "int"), (8.0, "20.00s"), (5.0, "50.00s"), (3.0, "200.00s"), (1.0, "inf")],
)
def test_shortest_good_interval(snr: float, expected: str) -> None:
    assert solint.shortest_good(10.0, snr, 10.0)[0] == expected


@pytest.mark.parametrize(("antennas", "expected"), [(27, 4), (5, 4), (4, 3), (3, 2), (2, 2)])
def test_baselines_per_antenna(antennas: int, expected: int) -> None:
    assert solint.min_baselines_per_antenna(antennas) == expected


# ---- geometry of images ----------------------------------------------------------------------------------------------


def test_primary_beam_of_a_25_m_dish_at_the_hydrogen_line() -> None:
    # 1.22·0.21106 m / 25 m = 0.0103 rad = 2124.5 arcsec.
    assert imaging.primary_beam_radius_arcsec(1.420405752e9, 25.0) == pytest.approx(2124.5, abs=0.5)


@pytest.mark.parametrize(("beam", "ppb", "expected"), [(47.9, 5.0, 9.6), (0.0432, 5.0, 0.0086), (100.0, 4.0, 25.0)])
def test_cell_has_two_digits(beam: float, ppb: float, expected: float) -> None:
    assert imaging.cell_arcsec(beam, ppb) == pytest.approx(expected)


@pytest.mark.parametrize(("wish", "expected"), [(332, 360), (549, 576), (257, 270), (1, 32), (100, 100), (101, 108)])
def test_sizes_have_small_prime_factors(wish: int, expected: int) -> None:
    # Even products of 2, 3 and 5 only: 360 = 2³·3²·5, 576 = 2⁶·3², 270 = 2·3³·5, 108 = 2²·3³.
    assert imaging.good_size(wish) == expected


def test_field_of_view_to_a_level_of_the_beam() -> None:
    # R = 2135: 1.1·(1.12/1.22·R)·√(−ln 0.016/ln 2) = 1.1·0.91803·2.4426·R.
    radius = imaging.primary_beam_radius_arcsec(1.4134e9, 25.0)
    assert imaging.field_of_view_arcsec(1.4134e9, 25.0, 0.016) == pytest.approx(2.4667 * radius, rel=1e-3)
    assert imaging.field_of_view_arcsec(1.4134e9, 25.0) == pytest.approx(1.5 * radius)


def test_beam_of_a_gaussian_distribution_of_baselines_is_its_fourier_transform() -> None:
    # Density exp(−r²/2σ²) with uniform spacing of points and Gaussian weights: FWHM = √(8 ln 2)/(2πσ).
    u, v = (a.ravel() for a in np.meshgrid(np.arange(-2000, 2001, 40.0), np.arange(-2000, 2001, 40.0)))
    sigma = 500.0
    weights = np.exp(-(u**2 + v**2) / (2 * sigma**2))
    expected = math.sqrt(8 * math.log(2)) / (2 * math.pi * sigma) * 206264.806
    assert imaging.beam_from_uv_arcsec(np.stack([u, v]), weights, 1.0, robust=8.0) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(
    ("specmode", "fraction", "expected"),
    [("cont", 0.2, "mtmfs"), ("cont", 0.1, "mtmfs"), ("cont", 0.05, "hogbom"), ("cube", 0.2, "hogbom")],
)
def test_deconvolver(specmode: str, fraction: float, expected: str) -> None:
    assert imaging.deconvolver(specmode, fraction)[0] == expected


@pytest.mark.parametrize(
    ("dirty", "residual", "stop", "peaks", "diverged"),
    [
        (1.0, 0.1, 2, (), False),
        (1.0, 0.1, 5, (), True),
        (1.0, 1.2, 1, (), True),
        (1.0, 1.05, 1, (), False),
        (1.0, 0.5, 1, (1.0, 0.2, 0.5), True),
        (1.0, math.nan, 2, (), True),
    ],
)
def test_divergence_is_noticed(
    dirty: float, residual: float, stop: int, peaks: tuple[float, ...], diverged: bool
) -> None:
    assert imaging.clean_health(dirty, residual, stop, peaks).diverged is diverged


# ---- continuum -------------------------------------------------------------------------------------------------------


def _gauss(n: int, centre: float, sigma: float) -> np.ndarray:
    return np.exp(-0.5 * ((np.arange(n) - centre) / sigma) ** 2)


@pytest.mark.parametrize("seed", range(5))
def test_noise_alone_is_all_continuum(seed: int) -> None:
    found = continuum.find(np.random.default_rng(seed).normal(5.0, 1.0, 128))
    assert found.all_continuum and found.ranges == ((0, 127),)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("seed", range(3))
def test_a_line_is_kept_out_and_the_rest_is_kept(seed: int, sign: int) -> None:
    spectrum = np.random.default_rng(seed).normal(0.0, 1.0, 128) + sign * 40 * _gauss(128, 50, 5)
    found = continuum.find(spectrum)
    inside = {c for a, b in found.ranges for c in range(a, b + 1)}
    # The injected line exceeds half a sigma up to 14.8 channels from its centre; the far channels are free of it.
    assert not inside & set(range(40, 61))
    assert {*range(25), *range(80, 128)} <= inside
    assert found.fit_order == 1


def test_two_lines_leave_three_ranges() -> None:
    spectrum = np.random.default_rng(7).normal(0.0, 1.0, 200) + 60 * (_gauss(200, 60, 4) + _gauss(200, 140, 4))
    assert len(continuum.find(spectrum).ranges) == 3


def test_a_wide_line_leaves_the_edges_and_their_slope() -> None:
    spectrum = np.random.default_rng(3).normal(7.0, 0.5, 63) + np.where(np.abs(np.arange(63) - 30) < 20, 10.0, 0.0)
    found = continuum.find(spectrum)
    inside = {c for a, b in found.ranges for c in range(a, b + 1)}
    assert inside and not inside & set(range(11, 50)) and found.fit_order == 1


def test_continuum_in_one_corner_gets_a_constant() -> None:
    spectrum = np.random.default_rng(3).normal(0.0, 0.3, 100) + np.where(
        np.arange(100) > 20, 30.0 + np.arange(100.0), 0.0
    )
    found = continuum.find(spectrum)
    assert found.low_spread and found.fit_order == 0


def test_flagged_channels_take_no_part() -> None:
    spectrum = np.random.default_rng(1).normal(0.0, 1.0, 64)
    spectrum[:3] = np.nan
    found = continuum.find(spectrum)
    assert found.ranges[0][0] >= 3


def test_a_constant_spectrum_is_refused() -> None:
    assert continuum.find(np.zeros(64)).ranges == ()


def _dirty_beam(n: int) -> np.ndarray:
    """A core of 2 pixels (sigma) with four sidelobes of 30 %, 20 pixels away."""
    x, y = np.mgrid[:n, :n] - n // 2
    beam = np.exp(-(x**2 + y**2) / 8)
    for dx, dy in ((20, 0), (-20, 0), (0, 20), (0, -20)):
        beam += 0.3 * np.exp(-((x - dx) ** 2 + (y - dy) ** 2) / 8)
    return beam


def test_a_line_is_found_without_its_sidelobes() -> None:
    from scipy.signal import fftconvolve

    n, channels = 96, 12
    sky = np.zeros((n, n, channels))
    # A source whose two sides emit in different channels, and a fainter one at the level of the first one's sidelobes.
    for c in range(channels):
        sky[44 + c // 3, 48, c] = 50.0
    sky[70, 70, 4:8] = 20.0
    beam = _dirty_beam(n)
    dirty = np.stack([fftconvolve(sky[:, :, c], beam[1:, 1:], mode="same") for c in range(channels)], axis=2)
    dirty += np.random.default_rng(5).normal(size=dirty.shape)
    mask = continuum.line_mask(dirty, beam, np.ones((n, n)), 18.0)
    assert mask[44:48, 48].all() and mask[70, 70]
    for x, y in ((26, 48), (66, 48), (46, 28), (46, 68), (90, 70), (70, 50)):
        assert not mask[x - 2 : x + 3, y - 2 : y + 3].any(), (x, y)


def test_no_line_gives_no_mask() -> None:
    noise = np.random.default_rng(4).normal(size=(64, 64, 9))
    assert not continuum.line_mask(noise, _dirty_beam(64), np.ones((64, 64)), 18.0).any()


def test_mask_of_noise_falls_back_to_the_inner_beam_and_says_so() -> None:
    response = np.fromfunction(lambda x, y: np.exp(-((x - 32) ** 2 + (y - 32) ** 2) / 400), (64, 64))
    mask, found = continuum.emission_mask(
        np.random.default_rng(1).normal(size=(64, 64, 8)), response, np.arange(8), 10.0
    )
    assert not found and mask[32, 32] and not mask[32, 60]


def test_line_channels_are_the_rest() -> None:
    assert continuum.line_channels([(0, 3), (8, 9)], [False, *[True] * 11]) == ((4, 7), (10, 11))


# ---- flux scale ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bands", "low", "high", "order"),
    [
        (("L",), 1.4126e9, 1.4142e9, 0),  # 1.6 MHz
        (("Q",), 40e9, 48e9, 1),
        (("L",), 1.0e9, 2.0e9, 2),  # 0.67
        (("C",), 4.0e9, 8.0e9, 2),
        (("S",), 2.0e9, 2.5e9, 1),  # 0.22
        (("A", "Q"), 30e9, 48e9, 1),
        (("L", "X"), 1e9, 12e9, 4),  # 1.69
        (("S", "C"), 2e9, 6e9, 3),  # 1.0
    ],
)
def test_order_of_the_spectral_fit(bands: tuple[str, ...], low: float, high: float, order: int) -> None:
    assert flux.fit_order(bands, low, high)[0] == order


def test_scatter_is_blind_to_one_bad_antenna() -> None:
    middle, mad, _ = flux.scatter([1.0, 1.01, 0.99, 1.02, 0.98, 9.0])
    assert middle == pytest.approx(1.005) and mad < 0.05
