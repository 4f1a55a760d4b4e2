"""The air: opacity against published values, turbulence against Kolmogorov, radiometers against hand calculation."""

from __future__ import annotations

import numpy as np
import pytest

from pl_sim.atmosphere import CHAJNANTOR, Air, FrozenScreen, pwv_series, sky_block


def grid(half_width_m: float, count: int) -> np.ndarray:
    axis = np.linspace(-half_width_m, half_width_m, count)
    return np.column_stack([np.repeat(axis, count), np.tile(axis, count), np.zeros(count**2)])


def test_screen_has_the_requested_rms_on_the_reference_baseline() -> None:
    ratios = []
    for seed in range(12):
        screen = FrozenScreen.kolmogorov(np.random.default_rng(seed), 0.060, 300.0, epoch_s=0.0)
        pairs = np.random.default_rng(100 + seed).uniform(-3e5, 3e5, (400, 2))
        angle = np.linspace(0, 2 * np.pi, 400)
        ends = pairs + 300.0 * np.column_stack([np.cos(angle), np.sin(angle)])
        difference = screen.at(ends, np.zeros(1))[:, 0] - screen.at(pairs, np.zeros(1))[:, 0]
        ratios.append(np.sqrt(np.mean(difference**2)) / 0.060)
    # 400 pairs give 3.5 % each; the mean of twelve screens is known to 1 %.
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.04)


def test_structure_function_rises_as_the_five_sixths_power() -> None:
    screen = FrozenScreen.kolmogorov(np.random.default_rng(1), 0.060, 300.0, epoch_s=0.0)
    baselines = np.geomspace(100.0, 500.0, 8)
    slope = np.polyfit(np.log(baselines), np.log(screen.structure_rms(baselines)), 1)[0]
    # 5/6 = 0.833 for an infinite outer scale; the finite one flattens it a little.
    assert 0.74 < slope < 0.85


def test_screen_drifts_with_the_wind() -> None:
    screen = FrozenScreen.kolmogorov(np.random.default_rng(2), 0.060, 300.0, epoch_s=50.0, wind=(7.0, 3.0))
    place = np.array([[10.0, -200.0], [400.0, 35.0]])
    later = screen.at(place + 20.0 * np.array([7.0, 3.0]), np.array([70.0]))
    np.testing.assert_allclose(later, screen.at(place, np.array([50.0])), atol=1e-12)


def test_interval_average_equals_the_mean_of_many_samples() -> None:
    screen = FrozenScreen.kolmogorov(np.random.default_rng(3), 0.060, 300.0, epoch_s=0.0)
    place = np.array([[0.0, 0.0], [150.0, 70.0]])
    fine = np.linspace(-3.0, 3.0, 4001)
    fine = (fine[1:] + fine[:-1]) / 2 + 1000.0
    np.testing.assert_allclose(
        screen.mean_over(place, np.array([1000.0]), 6.0)[:, 0], screen.at(place, fine).mean(axis=1), atol=1e-6
    )


def test_the_column_never_runs_dry() -> None:
    series = pwv_series(np.random.default_rng(4), np.linspace(0, 7200, 500), 0.3, 0.5)
    assert series.min() >= 0.05


@pytest.mark.casa
class TestAir:
    def test_zenith_opacity_agrees_with_the_published_transmission(self) -> None:
        """ALMA Technical Handbook, figure of zenith transmission: about 0.93 at 230 GHz and 0.97 at 100 GHz for
        1.3 mm."""
        air = Air(CHAJNANTOR, 1.3)
        assert np.exp(-air.tau([230e9])[0]) == pytest.approx(0.93, abs=0.015)
        assert np.exp(-air.tau([100e9])[0]) == pytest.approx(0.97, abs=0.015)

    def test_wet_opacity_scales_with_the_column(self) -> None:
        freq = np.linspace(229.1e9, 230.9e9, 50)
        one, three = Air(CHAJNANTOR, 1.0), Air(CHAJNANTOR, 3.0)
        np.testing.assert_allclose(
            three.tau(freq) - three.tau_dry(freq), 3 * (one.tau(freq) - one.tau_dry(freq)), rtol=1e-9
        )

    def test_sky_temperature_agrees_with_the_tool_away_from_the_zenith(self) -> None:
        from pl_sim.atmosphere import AtmosphereTool

        tool = AtmosphereTool(CHAJNANTOR, 230.5e9, 1e9, 31.25e6)
        tool.set_water(1.5, airmass=1 / np.sin(np.radians(50)))
        sky = Air(CHAJNANTOR, 1.5).sky_temperature_k(tool.freq_hz, np.radians(50))
        np.testing.assert_allclose(sky, tool.rayleigh_jeans(), rtol=0.01)

    def test_wet_path_is_six_to_seven_times_the_column(self) -> None:
        """TMS 2017, section 13.1: L = 1763 K / T of the vapour, here 258.8 K: 6.81; ATM's own constants give 3 %
        more, plus dispersion."""
        air = Air(CHAJNANTOR, 1.5)
        assert air.path_per_mm(100e9) == pytest.approx(1763 / 258.8, rel=0.05)
        assert 1.02 < air.path_per_mm(230e9) / air.path_per_mm(100e9) < 1.06

    def test_wet_path_does_not_depend_on_the_humidity_at_the_ground(self) -> None:
        import attrs

        humid = attrs.evolve(CHAJNANTOR, humidity_percent=60.0)
        assert Air(humid, 1.5).path_per_mm(100e9) == pytest.approx(Air(CHAJNANTOR, 1.5).path_per_mm(100e9), rel=0.01)

    def test_sky_is_computed_once(self) -> None:
        air = Air(CHAJNANTOR, 1.7)
        air.tau(np.array([231.2e9, 231.9e9]))
        misses = sky_block.cache_info().misses
        air.tau(np.linspace(231.1e9, 231.8e9, 400))
        assert sky_block.cache_info().misses == misses

    def test_channels_wider_than_the_grid_average_the_sky(self) -> None:
        """16 MHz on a grid of 1 MHz: a line of 2 MHz fills an eighth of its channel; a coarse grid has no more."""
        import attrs

        freq = 231e9 + 16e6 * np.arange(4)

        def box(nu: np.ndarray) -> np.ndarray:
            return (np.abs(nu - freq[2]) < 1e6).astype(float)

        fine = Air(attrs.evolve(CHAJNANTOR, grid_hz=1e6), 1.0)
        np.testing.assert_allclose(fine.channel_mean(box, freq), [0, 0, 1 / 8, 0])
        np.testing.assert_allclose(Air(CHAJNANTOR, 1.0).channel_mean(box, freq), [0, 0, 1, 0])

    def test_interpolation_is_continuous_across_blocks(self) -> None:
        freq = 231e9 + np.linspace(-5e6, 5e6, 101)
        tau = Air(CHAJNANTOR, 1.7).tau(freq)
        assert np.abs(np.diff(tau)).max() < 1e-5

    def test_radiometer_brightness(self) -> None:
        """The line centre saturates towards the air temperature, the wing is thin and grows with the column."""
        from pl_sim.wvr import Radiometer

        radiometer = Radiometer(CHAJNANTOR)
        low, high = radiometer.brightness_k(np.array([1.0, 2.0]), np.radians(60)).T
        assert np.all(np.diff(low) < 0) and np.all(np.diff(high) < 0)  # hottest at the line centre
        assert np.all(high > low) and high[0] < 275.0
        # Thin wing: twice the water, nearly twice the emission above dry air and background.
        dry = radiometer.brightness_k(np.array([0.05]), np.radians(60))[3, 0]
        assert (high[3] - dry) / (low[3] - dry) == pytest.approx(2.0, abs=0.2)

    def test_radiometer_refuses_an_impossible_column(self) -> None:
        from pl_sim.wvr import Radiometer

        with pytest.raises(ValueError, match="outside the radiometers' table"):
            Radiometer(CHAJNANTOR).brightness_k(np.array([20.0]), 1.0)
