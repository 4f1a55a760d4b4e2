"""Compression templates from switched power."""

from __future__ import annotations

import numpy as np
import pytest

from pl_hifv.heuristics.compression import fill_gaps, gain_and_tsys, normalised, outliers, running_std, template

RNG = np.random.default_rng(11)


def test_switched_power_is_relative_to_the_reference_times():
    diff, gain = np.array([[8.0, 8.0, 4.0, 0.0]]), np.array([[2.0, 2.0, 2.0, 2.0]])
    found = normalised(diff, gain, np.array([True, True, False, False]))
    assert found[0, :3] == pytest.approx([1.0, 1.0, 0.5])
    assert np.isnan(found[0, 3]), "0 means not measured"


def test_running_deviation_by_hand():
    values = np.array([1.0, 3.0, 5.0, np.nan, 9.0])
    # Windows of three: (1,3) → 1; (1,3,5) → sqrt(8/3); (3,5) → 1; (5,9) → 2; (9) → unknown.
    assert running_std(values, 3)[:4] == pytest.approx([1.0, np.sqrt(8 / 3), 1.0, 2.0])
    assert np.isnan(running_std(values, 3)[4])


def test_a_glitch_is_flagged_and_noise_is_not():
    values = 1 + 0.01 * RNG.standard_normal(200)
    values[50] = 2.0
    found = outliers(values, 9, 8.0)
    assert found[50] and found.sum() == 1


def test_compression_by_a_fifth_is_measured():
    # Gain falls to 0.8 for a third of the time: power follows its square, the template is the gain.
    gain = np.ones(300)
    gain[100:200] = 0.8
    power = gain[None, :] ** 2 * (1 + 0.01 * RNG.standard_normal((4, 300)))
    power[:, 37] = 9.0
    found = template(power)
    assert np.median(found.values[120:180]) == pytest.approx(0.8, abs=0.01)
    assert np.median(found.values[:80]) == pytest.approx(1.0, abs=0.01)
    assert found.values[37] == pytest.approx(1.0, abs=0.02), "a glitch is no compression"
    assert found.flagged[37]
    assert found.flagged.mean() < 0.1


def test_gaps_are_filled_from_their_surroundings():
    values = np.array([1.0] * 30 + [np.nan] * 5 + [1.0] * 30)
    assert fill_gaps(values) == pytest.approx(np.ones(65))
    assert fill_gaps(np.full(10, np.nan)) == pytest.approx(np.ones(10))


def test_nothing_measured_is_flagged_entirely():
    found = template(np.full((2, 50), np.nan))
    assert found.flagged.all() and found.values == pytest.approx(np.ones(50))


def test_switched_power_tells_gain_and_system_temperature():
    """Tcal 2 K, Tsys 50 K: on 51, off 49 in units of the gain squared, 0.09 per K: Pdiff 0.18, Psum 9."""
    gain, tsys = gain_and_tsys(np.array([0.18, 0.0]), np.array([9.0, 9.0]), 2.0)
    assert (gain[0], tsys[0]) == (pytest.approx(0.3), pytest.approx(50.0))
    assert np.isnan(gain[1]) and np.isnan(tsys[1])


def test_an_antenna_in_compression_wants_an_operator_however_large_the_array_is():
    from pl_hifv.qa.preparation import compression_found
    from pl_hifv.stages.syspower import AntennaCompression, BandCompression, SyspowerResult

    def scores(worst):
        antennas = [
            AntennaCompression(antenna=f"ea{i:02d}", quartiles=(), flagged_fraction=0.0, outside_fraction=f)
            for i, f in enumerate([worst, *[0.0] * 26])
        ]
        band = BandCompression(
            vis="a.ms", band="S", spws=(0,), basebands={}, samples=2700, outside=int(100 * worst), antennas=antennas,
            file="",
        )  # fmt: skip
        return {s.metric: s.score for s in compression_found(SyspowerResult(bands=(band,), clip=(0.7, 1.2)))}

    assert scores(0.05)["syspower.compression"] > 0.99 and "syspower.antennas" not in scores(0.05)
    assert scores(0.2)["syspower.compression"] > 0.99 and scores(0.2)["syspower.antennas"] < 0.5
