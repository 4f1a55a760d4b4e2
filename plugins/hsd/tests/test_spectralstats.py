"""Outlying spectra: injected ones are flagged, the others are not."""

from __future__ import annotations

import numpy as np
import pytest

from pl_hsd.heuristics.spectralstats import (
    UNKNOWN,
    clip,
    difference_noise,
    expected_rms,
    read_factors,
    running_mean_deviation,
    spectrum_rms,
    within_expectation,
)

ROWS, PER_ROW, CHANNELS = 15, 28, 128
GROUPS = np.repeat(np.arange(ROWS), PER_ROW)


def spectra(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(ROWS * PER_ROW, CHANNELS)).astype(np.float32)


ALL = np.ones((ROWS * PER_ROW, CHANNELS), dtype=bool)


class TestInjected:
    @pytest.mark.parametrize("seed", range(5))
    def test_20_times_the_noise_is_flagged_and_nothing_else(self, seed: int) -> None:
        data = spectra(seed)
        bad = np.random.default_rng(seed).choice(len(data), 6, replace=False)
        data[bad] *= 20
        judged = clip(spectrum_rms(data, ALL), 8.0)
        assert (~judged.good[bad]).mean() >= 0.95
        assert (~np.delete(judged.good, bad)).mean() <= 0.03

    @pytest.mark.parametrize("seed", range(5))
    def test_a_drifting_spectrum_is_seen_against_its_neighbours(self, seed: int) -> None:
        """A slope across the band that a few spectra of one row have: 10 sigma from end to end."""
        data = spectra(seed)
        bad = np.array([100, 101, 300])
        data[bad] += np.linspace(-8, 8, CHANNELS, dtype=np.float32)
        statistic = running_mean_deviation(data, ALL, GROUPS)
        judged = clip(statistic, 10.0)
        assert not judged.good[bad].any()
        assert (~np.delete(judged.good, bad)).mean() <= 0.03

    def test_a_wild_spectrum_does_not_make_its_neighbours_outlying(self) -> None:
        """20 spectra at 20 times the noise: each is in the mean of ten others, which are good."""
        data = spectra()
        bad = np.arange(10, len(data), 21)
        data[bad] *= 20
        outlying = ~clip(spectrum_rms(data, ALL), 8.0).good
        judged = clip(running_mean_deviation(data, ALL, GROUPS, outlying=outlying), 10.0)
        assert not judged.good[bad].any() and np.delete(judged.good, bad).all()
        clean = np.zeros((5, 2), dtype=np.float32)
        clean[2] = 100.0, -100.0
        use, wild = np.ones((5, 2), dtype=bool), np.arange(5) == 2
        assert running_mean_deviation(clean, use, np.zeros(5), outlying=wild) == pytest.approx([0, 0, 100, 0, 0])

    def test_a_slow_change_along_the_row_is_not_an_outlier(self) -> None:
        """What all neighbours share goes with their mean."""
        data = spectra()
        data += (0.05 * (np.arange(len(data)) % PER_ROW)).astype(np.float32)[:, None]
        assert clip(running_mean_deviation(data, ALL, GROUPS), 10.0).good.all()

    def test_an_outlying_tsys_is_flagged_and_so_is_zero(self) -> None:
        tsys = np.random.default_rng(1).normal(80, 2, 500)
        tsys[[3, 77]] = 400.0, 0.0
        judged = clip(tsys, 3.0, lower=0.0, robust=False)
        assert not judged.good[[3, 77]].any()
        assert (~np.delete(judged.good, [3, 77])).mean() <= 0.03

    def test_noise_alone_loses_nothing_at_8_sigma(self) -> None:
        assert clip(spectrum_rms(spectra(), ALL), 8.0).good.all()


class TestStatistics:
    def test_rms_is_that_of_the_channels_that_count(self) -> None:
        data = np.array([[1, 3, 99, 1, 3], [5, 5, 5, 5, 5]], dtype=np.float32)
        use = np.array([[1, 1, 0, 1, 1], [0, 0, 0, 0, 0]], dtype=bool)
        assert spectrum_rms(data, use).tolist() == [1.0, UNKNOWN]

    def test_noise_from_differences_does_not_see_the_baseline(self) -> None:
        """Also under the spectrometer's Hanning smoothing, which leaves sqrt(3/8) of the noise."""
        data = np.random.default_rng(0).normal(size=(50, 1024)).astype(np.float32)
        use = np.ones(data.shape, dtype=bool)
        slope = np.linspace(0, 20, 1024, dtype=np.float32)
        assert difference_noise(data + slope, use).mean() == pytest.approx(1.0, rel=0.02)
        smooth = 0.25 * np.roll(data, 1, axis=1) + 0.5 * data + 0.25 * np.roll(data, -1, axis=1)
        assert difference_noise(smooth, use).mean() == pytest.approx(np.sqrt(3 / 8), rel=0.02)
        assert (difference_noise(data, np.zeros_like(use)) == UNKNOWN).all()

    def test_running_mean_of_a_hand_calculation(self) -> None:
        """Three spectra of two channels: the first less the mean of the others is (0,0)-(3,1), std 1."""
        data = np.array([[0, 0], [2, 0], [4, 2], [9, 9]], dtype=np.float32)
        found = running_mean_deviation(data, np.ones((4, 2), dtype=bool), [0, 0, 0, 1])
        # Second: (2,0) - (2,1) = (0,-1), std 0.5; third: (4,2) - (1,0) = (3,2), std 0.5; a row of one gives 0.
        np.testing.assert_allclose(found, [1.0, 0.5, 0.5, 0.0])

    def test_flagged_spectra_are_no_neighbours(self) -> None:
        data = spectra()[:5]
        use = np.ones(data.shape, dtype=bool)
        use[2] = False
        data[2] = 1e6
        found = running_mean_deviation(data, use, np.zeros(5, dtype=int))
        assert found[2] == UNKNOWN
        assert (found[[0, 1, 3, 4]] < 2).all()
        use[:] = False
        use[0] = True
        assert (running_mean_deviation(data, use, np.zeros(5, dtype=int)) == UNKNOWN).all()

    def test_clipping_is_repeated_without_those_rejected(self) -> None:
        """1,000 hides 100 in the first round; once it is gone, 100 stands out."""
        values = np.concatenate([np.random.default_rng(0).normal(10, 1, 50), [1000.0, 100.0]])
        assert clip(values, 5.0, rounds=0, robust=False).good[51]
        assert not clip(values, 5.0, rounds=3, robust=False).good[50:].any()

    def test_outliers_do_not_hide_each_other(self) -> None:
        """13 of 400 at 20 times the others: mean + 8 sigma is above them, the median is not misled."""
        values = np.concatenate([np.random.default_rng(0).normal(0.2, 0.012, 400), np.full(13, 4.0)])
        assert clip(values, 8.0, robust=False).good.all()
        judged = clip(values, 8.0)
        assert not judged.good[400:].any() and judged.good[:400].all()

    def test_equal_values_are_all_good(self) -> None:
        assert clip(np.full(10, 3.0), 3.0).good.all()
        assert clip(np.full(4, UNKNOWN), 3.0).good.all()


class TestExpectation:
    def test_radiometer_equation(self) -> None:
        """100 K x 40 Jy/K / sqrt(1e6 Hz x 4 s) = 2 Jy."""
        assert expected_rms([100.0], 40.0, 1e6, [4.0])[0] == pytest.approx(2.0)
        scaled = expected_rms([100.0], 40.0, 1e6, [4.0], {"tsys_fact": 2.0, "nebw_fact": 4.0})
        assert scaled[0] == pytest.approx(2.0)

    def test_unknown_expectations_judge_nobody(self) -> None:
        noise = expected_rms([UNKNOWN, 100.0], 1.0, 1e6, [1.0, 1.0])
        assert within_expectation([5.0, 5.0], noise, 2.6666).tolist() == [True, False]
        assert within_expectation([UNKNOWN], [0.1], 2.0).tolist() == [True]

    def test_factors_are_read_and_errors_named(self) -> None:
        assert read_factors("# mine\ntsys_fact 1.5\nnebw_fact = 2\n") == {"tsys_fact": 1.5, "nebw_fact": 2.0}
        with pytest.raises(ValueError, match="line 1"):
            read_factors("tsys 3")
