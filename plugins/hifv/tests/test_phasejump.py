"""Steps of antenna phases within scans."""

from __future__ import annotations

import numpy as np
import pytest

from pl_hifv.heuristics.phasejump import jumps

RNG = np.random.default_rng(4)
SCANS = np.repeat([5, 7], 20)


def made(phases_deg, noise_deg=3.0, norm=None):
    """Sums of four antennas that agree with the reference but for their phases, (times, antennas)."""
    phases = np.radians(phases_deg + noise_deg * RNG.standard_normal(np.shape(phases_deg)))
    return np.exp(1j * phases), np.ones(np.shape(phases_deg)) if norm is None else norm


def flat():
    return np.zeros((40, 4))


def test_a_step_to_the_end_of_a_scan_is_found_with_its_size():
    phases = flat()
    phases[12:20, 2] = 90.0
    (found,) = jumps(*made(phases), SCANS)
    assert (found.antenna, found.first, found.last) == (2, 12, 19)
    assert found.degrees == pytest.approx(90, abs=5)


def test_quiet_phases_and_slow_drifts_stay():
    assert jumps(*made(flat()), SCANS) == ()
    drift = flat()
    drift[:, 1] = np.linspace(-70, 70, 40)
    assert jumps(*made(drift), SCANS) == ()


def test_a_change_between_scans_is_the_calibrators_business():
    phases = flat()
    phases[20:, 3] = 25.0
    assert jumps(*made(phases), SCANS) == ()


def test_noise_without_signal_tells_nothing():
    sums = RNG.standard_normal((40, 4)) + 1j * RNG.standard_normal((40, 4))
    assert jumps(sums, np.full((40, 4), 10.0), SCANS) == ()


def test_noisy_phases_need_a_larger_step():
    phases = flat()
    phases[12:20, 0] = 60.0
    assert jumps(*made(phases, noise_deg=20.0), SCANS) == ()
    assert len(jumps(*made(phases, noise_deg=2.0), SCANS)) == 1


def test_phases_near_half_a_turn_are_no_jump():
    assert jumps(*made(np.full((40, 4), 180.0)), SCANS) == ()
