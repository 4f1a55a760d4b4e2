"""Steps of antenna phases within scans."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from pl_hif.visibilities import Piece
from pl_hifv import phases as looking
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


def test_the_step_of_one_antenna_is_not_seen_in_the_others(monkeypatch):
    # Three antennas, 10 of 25 integrations of a scan off by 100 degrees: the mean of the baselines to the antenna is
    # 0.6 + 0.4 exp(i 100 deg) = 0.66 exp(i 37 deg), the sum of another one 1 + 0.66 exp(-i 37 deg) before (-14 deg) and
    # 1 + 0.66 exp(i 63 deg) after the step (25 deg): 39 degrees more, a ghost above the limit of 30.
    one, two = np.tile([0, 0, 1], 25), np.tile([1, 2, 2], 25)
    number = np.repeat(np.arange(25), 3)
    turned = np.where(number >= 15, np.exp(1j * np.radians(100.0)), 1.0)
    data = np.where(one == 1, turned, np.where(two == 1, turned.conj(), 1.0))[None, None, :]
    columns = {
        "DATA": data, "FLAG": np.zeros(data.shape, bool), "TIME": 10.0 * number, "ANTENNA1": one, "ANTENNA2": two,
        "SCAN_NUMBER": np.full(75, 4),
    }  # fmt: skip
    ms = SimpleNamespace(
        antennas=[SimpleNamespace(id=i, name=f"ea0{i}") for i in range(3)],
        scans=[SimpleNamespace(interval_s={0: 10.0})], spw=lambda s: SimpleNamespace(id=s),
        polarization_of=lambda s: SimpleNamespace(correlations=("RR",)), field=lambda f: SimpleNamespace(name="T"),
    )  # fmt: skip
    monkeypatch.setattr(looking, "pieces", lambda *a, **k: iter([Piece(spw=0, columns=columns)]))
    (found,) = looking.find_jumps(None, ms, 0, [4], [0], "DATA")
    assert (found.antenna, found.start_s, found.end_s) == ("ea01", 145.0, 245.0)
    assert found.degrees == pytest.approx(100, abs=3)
