"""Flux densities from gains of antennas: what is common to the windows moves the flux density, not the spectrum."""

from __future__ import annotations

import numpy as np
import pytest

from pl_hifv.heuristics import fluxboot
from pl_hifv.heuristics.fluxratios import flux_ratios

NU = np.array([8.55e9, 8.68e9, 9.55e9, 9.68e9])
TRUTH = 1.2 * (NU / 9e9) ** -0.3


def test_what_an_antenna_does_in_all_windows_leaves_the_spectrum_alone() -> None:
    drift = np.exp(0.01 * np.random.default_rng(1).standard_normal(16))
    found = flux_ratios(TRUTH * drift[:, None])
    assert found.value / found.value[0] == pytest.approx(TRUTH / TRUTH[0], rel=1e-12)
    assert found.value[0] == pytest.approx(TRUTH[0] * np.exp(np.log(drift).mean()))
    assert found.error == pytest.approx(0, abs=1e-12)
    assert found.shared == pytest.approx(np.log(drift).std(ddof=1) / 4)  # a mean of sixteen


def test_errors_are_those_of_a_mean_and_hold() -> None:
    rng = np.random.default_rng(2)
    off, errors, shared = [], [], []
    for _ in range(300):
        noise = 0.02 * rng.standard_normal((16, 1)) + 0.01 * rng.standard_normal((16, 4))
        found = flux_ratios(TRUTH * np.exp(noise))
        off.append(np.log(found.value / TRUTH))
        errors.append(np.mean(found.error**2))
        shared.append(found.shared**2)
    assert np.sqrt(np.mean(errors)) == pytest.approx(0.01 / 4, rel=0.1)
    assert np.sqrt(np.mean(shared)) == pytest.approx(0.02 / 4, rel=0.1)
    assert np.std(off) == pytest.approx(np.hypot(0.01, 0.02) / 4, rel=0.1)


def test_a_bad_antenna_and_a_bad_window_do_not_count() -> None:
    ratio = TRUTH * np.exp(0.002 * np.random.default_rng(3).standard_normal((16, 4)))
    ratio[3] *= 1.09  # pointing: too little for the clip of gains at 10 %
    ratio[7, 2] *= 0.92
    found = flux_ratios(ratio)
    assert found.value == pytest.approx(TRUTH, rel=0.002)
    assert found.used[2] <= 14
    assert found.used.min() >= 12


def test_a_missing_solution_is_stood_in_for_by_the_antennas_other_windows() -> None:
    ratio = TRUTH * np.linspace(0.97, 1.03, 16)[:, None]
    ratio[0, 1] = np.nan  # the mean of the rest of this window would be 0.2 % high
    found = flux_ratios(ratio)
    assert found.value / found.value[0] == pytest.approx(TRUTH / TRUTH[0], rel=1e-6)
    assert list(found.used) == [16, 15, 16, 16]


def test_windows_without_solutions_and_single_windows() -> None:
    ratio = np.tile(TRUTH, (6, 1))
    ratio[:, 2] = np.nan
    assert list(np.isfinite(flux_ratios(ratio).value)) == [True, True, False, True]
    assert not np.isfinite(flux_ratios(np.full((6, 2), np.nan)).value).any()
    alone = flux_ratios(np.array([[0.98], [1.02], [1.0], [1.0]]))
    assert alone.value[0] == pytest.approx(1.0, abs=1e-3)
    assert alone.error[0] == pytest.approx(0.0163 / 2, rel=0.02)  # √((0.02² + 0.02²) / 3) over √4
    assert alone.shared == 0.0


def test_shared_errors_widen_the_flux_density_and_not_the_index() -> None:
    own = 0.002 * TRUTH
    alone = fluxboot.fit_spectrum(NU, TRUTH, own, 1)
    both = fluxboot.fit_spectrum(NU, TRUTH, own, 1, shared=np.full((4, 1), 0.01))
    assert both.error(1) == pytest.approx(alone.error(1))
    assert both.flux_error_jy == pytest.approx(np.hypot(alone.flux_error_jy, 0.01 * both.flux_jy), rel=1e-3)
    assert both.spectral_index[0] == pytest.approx(-0.3)
