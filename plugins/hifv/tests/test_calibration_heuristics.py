"""The decisions of the calibration stages, as tables of numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pl_hifv.heuristics import deformatter, fluxboot, solint
from pl_hifv.heuristics.bandpass import channels_per_solution
from pl_hifv.heuristics.channels import selection, spoiled
from pl_hifv.heuristics.delays import critical_fraction, delay_score, median_over_antennas

# ---- deformatters ----------------------------------------------------------------------------------------------------


def gains(amplitude: list[float] | np.ndarray, degrees: float | np.ndarray = 0.0) -> np.ndarray:
    return np.asarray(amplitude) * np.exp(1j * np.radians(degrees))


def test_edges_do_not_make_a_bad_passband() -> None:
    amplitude = np.ones(20)
    amplitude[[0, 1, 18, 19]] = 0.01  # 0.1 · 20 = 2 channels at each end
    found = deformatter.assess(gains(amplitude), np.zeros(20, bool))
    assert found.amplitude_ratio == pytest.approx(1.0)
    assert not found.bad_amplitude


def test_a_dip_to_a_tenth_is_a_bad_amplitude_unless_it_is_flagged() -> None:
    amplitude = np.ones(20)
    amplitude[10] = 0.1
    flag = np.zeros(20, bool)
    assert deformatter.assess(gains(amplitude), flag).bad_amplitude
    flag[10] = True
    assert not deformatter.assess(gains(amplitude), flag).bad_amplitude


@pytest.mark.parametrize(("ratio", "bad"), [(0.149, True), (0.151, False)])
def test_the_amplitude_limit_is_0_15(ratio: float, bad: bool) -> None:
    amplitude = np.ones(20)
    amplitude[7] = ratio
    assert deformatter.assess(gains(amplitude), np.zeros(20, bool)).bad_amplitude is bad


def test_phase_near_180_is_quiet_and_a_real_range_is_found() -> None:
    quiet = gains(np.ones(4), np.array([178.0, -179.0, 179.0, -178.0]))
    assert deformatter.phase_range_deg(quiet) == pytest.approx(4.0)
    turning = gains(np.ones(3), np.array([150.0, 175.0, -158.0]))  # 150 … 202
    assert deformatter.phase_range_deg(turning) == pytest.approx(52.0)


def test_the_verdict_names_the_correlation_that_failed() -> None:
    good = deformatter.Passband(amplitude_ratio=0.9, phase_range_deg=5.0)
    bad = deformatter.Passband(amplitude_ratio=0.05, phase_range_deg=5.0)
    found = deformatter.bad_window("ea01", 3, "C", "A0C0", ("RR", "LL"), (bad, good), "amplitude")
    assert found is not None
    assert found.correlations == ("RR",)
    assert found.value == 0.05
    assert deformatter.bad_window("ea01", 3, "C", "A0C0", ("RR", "LL"), (bad, good), "phase") is None


def windows(count: int, antenna: str = "ea01", kind: str = "amplitude") -> list[deformatter.BadWindow]:
    return [
        deformatter.BadWindow(
            antenna=antenna, spw=i, band="C", baseband="A0C0", kind=kind, value=0.1, correlations=("RR",)
        )
        for i in range(count)
    ]


def test_four_bad_windows_condemn_the_baseband_three_only_themselves() -> None:
    members = {("C", "A0C0"): tuple(range(8))}
    (found,) = deformatter.by_baseband(windows(4), members)
    assert found.whole
    assert found.spws == tuple(range(8))
    assert deformatter.by_baseband(windows(3), members) == ()
    (single,) = deformatter.by_baseband(windows(3), members, single_windows=True)
    assert single.spws == (0, 1, 2)


def test_a_baseband_of_few_windows_is_bad_when_all_of_them_are() -> None:
    (found,) = deformatter.by_baseband(windows(2), {("C", "A0C0"): (0, 1)})
    assert found.whole
    assert found.spws == (0, 1)
    assert deformatter.by_baseband(windows(2), {("C", "A0C0"): (0, 1, 2)}) == ()
    # One window alone is more likely interference.
    assert deformatter.by_baseband(windows(1), {("C", "A0C0"): (0,)}) == ()


def test_half_of_the_antennas_mean_the_reference_is_bad() -> None:
    members = {("C", "A0C0"): tuple(range(8))}
    one = deformatter.by_baseband(windows(4), members)
    assert not deformatter.reference_suspect(one, 8)
    many = [b for n in range(4) for b in deformatter.by_baseband(windows(4, f"ea0{n}", "phase"), members)]
    assert deformatter.reference_suspect(many, 8)
    assert not deformatter.reference_suspect(many, 9)


def test_flags_take_the_failed_hand_and_the_cross_hands_it_is_part_of() -> None:
    (found,) = deformatter.by_baseband(windows(4), {("C", "A0C0"): (0, 1, 2, 3)})
    present = ("RR", "RL", "LR", "LL")
    before, after = deformatter.flag_commands(found, present, ("ea00", "ea01", "ea02", "ea03"))[::-1]
    # R of ea01: the second letter with the antenna before it, the first letter with those after it.
    assert "antenna='ea01&ea00'" in before and "correlation='RR,LR'" in before
    assert "antenna='ea01&ea02,ea03'" in after and "correlation='RR,RL'" in after
    assert all("spw='0,1,2,3'" in c for c in (before, after))


def test_an_antenna_with_both_hands_bad_is_flagged_whole() -> None:
    (found,) = deformatter.by_baseband(windows(4), {("C", "A0C0"): (0, 1, 2, 3)})
    (one,) = deformatter.flag_commands(found, ("RR",), ("ea00", "ea01"))
    assert "antenna='ea01' " in one and "correlation" not in one


@pytest.mark.parametrize(
    ("ignore", "spared"),
    [
        ({"ea01": {}}, True), ({"ea01": {"X": {}}}, False), ({"ea01": {"C": {}}}, True), ({"ea01": {"C": "3~5"}}, True),
        ({"ea01": {"C": "5"}}, False), ({"ea02": {}}, False),
    ],
)  # fmt: skip
def test_ignore_list(ignore: dict, spared: bool) -> None:
    assert deformatter.ignored(ignore, "ea01", "C", 4) is spared


def test_ignore_list_knows_the_letters_of_bands() -> None:
    assert deformatter.ignored({"ea01": {"A": "4"}}, "ea01", "Ka", 4)
    assert deformatter.ignored({"ea01": {"KU": ""}}, "ea01", "Ku", 4)
    assert not deformatter.ignored({"ea01": {"K": ""}}, "ea01", "Ka", 4)


# ---- delays ----------------------------------------------------------------------------------------------------------


def test_critical_fraction_is_shared_by_the_basebands() -> None:
    names = [f"EVLA_C#{b}#{i}" for i, b in enumerate(["A0C0"] * 8 + ["B0D0"] * 8)]
    assert critical_fraction(names, ["C"] * 16) == pytest.approx(0.45)
    assert critical_fraction(["Subband:0"] * 16, ["C"] * 16) == pytest.approx(0.45)  # 0.9 / int(16 / 8)
    assert critical_fraction(["a", "b", "c"], ["C"] * 3) == pytest.approx(0.3)


def test_median_over_antennas() -> None:
    assert median_over_antennas({"a": 1, "b": 4}, {"a": 10, "b": 10, "c": 10}) == pytest.approx(0.1)
    assert median_over_antennas({}, {}) == 1.0


@pytest.mark.parametrize(("delay", "score"), [(3, 1), (14.9, 1), (15, 0.49), (20, 0.44), (100, 0.3), (-100, 0.3)])
def test_delay_score(delay: float, score: float) -> None:
    assert delay_score(delay) == pytest.approx(score)


# ---- bandpass --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("snr", "channels", "expected"),
    [
        (50, 64, 1), (49, 64, 2), (25, 64, 4),  # (50/25)² = 4
        (20, 64, 4),  # 6.25, but 64/16 = 4 is the most
        (0, 128, 8), (40, 96, 2),  # 1.56 → 2
        (10, 90, 6),  # 90/16 = 5.6 → 6, a divisor
        (10, 12, 1),
    ],
)  # fmt: skip
def test_channels_per_solution(snr: float, channels: int, expected: int) -> None:
    assert channels_per_solution(snr, channels) == expected


# ---- solution intervals ----------------------------------------------------------------------------------------------


def scan(number: int, start: float, seconds: float, field: int = 1) -> solint.ScanTime:
    return solint.ScanTime(id=number, start_s=start, end_s=start + seconds, field=field, spws=frozenset({0}))


def test_consecutive_scans_of_a_field_are_one() -> None:
    joined = solint.merged([scan(3, 0, 60), scan(4, 70, 60), scan(6, 400, 60), scan(7, 470, 60, field=2)])
    assert [s.duration_s for s in joined] == [130, 60, 60]
    long = solint.merged([scan(1, 0, 600), scan(2, 610, 600)])  # 1210 s together
    assert len(long) == 2


def test_long_interval_is_a_whole_number_of_integrations() -> None:
    # 1.01 · 60 = 60.6 → 65 s with 5 s integrations; nothing longer, so the first candidate has the largest remainder.
    assert solint.long_interval([scan(1, 0, 60), scan(5, 600, 55)], 5.0).seconds == 65.0
    # 0.45 s: 60.6 / 0.45 = 134.67 → 135 integrations. The reference pipeline falls back here.
    assert solint.long_interval([scan(1, 0, 60)], 0.45).seconds == pytest.approx(60.75)
    assert solint.long_interval([scan(1, 0, 60)], 10.0).seconds == 70.0


def test_an_outlier_among_the_scans_does_not_stretch_the_interval() -> None:
    usual = [scan(2 * i + 1, 1000 * i, 60) for i in range(15)]
    found = solint.long_interval([*usual, scan(99, 1e5, 900)], 5.0)
    # z of the long one is √15 = 3.87. 900 / 65 = 13.85, /70 = 12.86, /75 = 12, /80 = 11.25, /85 = 10.59.
    assert found.outliers == (99,)
    assert found.seconds == 70.0


def test_no_scans_are_refused() -> None:
    with pytest.raises(ValueError, match="needs scans"):
        solint.long_interval([], 5.0)


def trials(flagged: dict[int, float]):
    asked = []

    def one(n: int) -> solint.Trial:
        asked.append(n)
        return solint.Trial(integrations=n, seconds=5.0 * n, solint=f"{n}", flagged=flagged[n])

    return one, asked


def test_the_shortest_sufficient_interval_wins() -> None:
    one, asked = trials({1: 0.2, 3: 0.04, 10: 0.0})
    choice = solint.climb(one)
    assert choice.trial.integrations == 3
    assert asked == [1, 3]
    assert not choice.poor


def test_when_none_suffices_the_best_is_kept_and_called_poor() -> None:
    one, asked = trials({1: 0.2, 3: 0.12, 10: 0.15})
    choice = solint.climb(one)
    assert choice.trial.integrations == 3
    assert asked == [1, 3, 10]
    assert choice.poor


@pytest.mark.parametrize(
    ("limit", "seconds", "text", "combined"),
    [
        ("", 30.0, "30s", True), ("int", 10.0, "int", True), ("inf", 70.0, "inf", False), ("0.45", 10.0, "int", True),
        ("1e4", 70.0, "70s", True), ("20", 20.0, "20s", True), ("20s", 20.0, "20s", True),
    ],
)  # fmt: skip
def test_limit_of_the_short_interval(limit: str, seconds: float, text: str, combined: bool) -> None:
    found = solint.short_interval(30.0, 10.0, 70.0, limit)
    assert (found.seconds, found.solint, found.combine_scans) == (seconds, text, combined)
    assert found.limited is bool(limit)


def test_limit_that_is_no_time_is_refused() -> None:
    with pytest.raises(ValueError):
        solint.short_interval(30.0, 10.0, 70.0, "soon")


# ---- flux densities --------------------------------------------------------------------------------------------------


def curve(nu: np.ndarray, reference: float, *c: float) -> np.ndarray:
    x = np.log10(nu / reference)
    return 10 ** sum(k * x**i for i, k in enumerate(c))


def test_a_curved_spectrum_is_recovered_exactly_without_noise() -> None:
    nu = np.linspace(4e9, 8e9, 16)
    flux = curve(nu, 6e9, math.log10(2.0), -0.7, -0.15)
    fit = fluxboot.fit_spectrum(nu, flux, 0.01 * flux, 2)
    assert fit.reference_hz == 6e9
    assert fit.flux_jy == pytest.approx(2.0)
    assert fit.spectral_index == pytest.approx((-0.7, -0.15))


def test_referring_to_another_frequency_keeps_the_curve() -> None:
    nu = np.linspace(4e9, 8e9, 16)
    fit = fluxboot.fit_spectrum(nu, curve(nu, 6e9, 0.3, -0.7, -0.15), np.full(16, 0.01), 2).referred_to(4.5e9)
    assert fit.at(nu) == pytest.approx(curve(nu, 6e9, 0.3, -0.7, -0.15))
    # p'(x) at the new origin: -0.7 + 2 · (-0.15) · log10(4.5/6)
    assert fit.spectral_index[0] == pytest.approx(-0.7 - 0.3 * math.log10(0.75))


def test_errors_are_those_of_a_weighted_mean() -> None:
    fit = fluxboot.fit_spectrum([5e9, 5.1e9, 5.2e9, 5.3e9], [1.0] * 4, [0.02] * 4, 0)
    assert fit.flux_error_jy == pytest.approx(0.01)  # 0.02 / √4


def test_scatter_beyond_the_errors_widens_them() -> None:
    nu, flux = [5.0e9, 5.1e9, 5.2e9, 5.3e9], [1.0, 1.1, 0.9, 1.0]
    small, true = fluxboot.fit_spectrum(nu, flux, [0.001] * 4, 0), fluxboot.fit_spectrum(nu, flux, [0.1] * 4, 0)
    assert small.reduced_chi2 > 100
    assert 0.5 < small.flux_error_jy / true.flux_error_jy < 2


def test_the_order_bends_to_the_number_of_points() -> None:
    assert fluxboot.fit_spectrum([5e9], [1.0], [0.1], 3).order == 0
    assert fluxboot.fit_spectrum([5e9, 6e9], [1.0, 0.9], [0.1, 0.1], 3).order == 1
    with pytest.raises(ValueError, match="no positive"):
        fluxboot.fit_spectrum([5e9], [-1.0], [0.1], 1)


def test_gains_are_averaged_by_antenna_although_one_took_no_data() -> None:
    """Old observations list antennas that were not there: number 1 here. Powers of 4 and 9; a flagged 5 counts not."""
    from types import SimpleNamespace

    from pl_hif.solve import Solutions
    from pl_hifv.stages.fluxboot import _mean_log_power

    gain = np.array([[[2.0, 1.0, 3.0, 5.0]], [[2.0, 1.0, 3.0, 1.0]]]).astype(complex)
    flag = np.zeros(gain.shape, bool)
    flag[:, :, 1] = True
    flag[0, 0, 3] = True
    solutions = Solutions(
        time_s=np.zeros(4), antenna=np.array([0, 1, 2, 2]), field=np.zeros(4, int), spw=np.zeros(4, int),
        scan=np.ones(4, int), gain=gain, flag=flag, snr=np.ones(gain.shape), frequency_hz={0: np.array([1.4e9])},
    )  # fmt: skip
    found = _mean_log_power(solutions, [0], SimpleNamespace(antennas=[SimpleNamespace(id=0), SimpleNamespace(id=2)]))
    np.testing.assert_allclose(found[[0, 2], 0], np.log([4.0, 9.0]))
    assert found[2, 1] == pytest.approx((np.log(9.0) + np.log(1.0)) / 2)
    assert np.isnan(found[1]).all()


def test_residuals_and_absurd_indices() -> None:
    assert fluxboot.fractional_residuals([2.0, 0.0], [1.0, 1.0])[0] == 0.5
    assert np.isnan(fluxboot.fractional_residuals([2.0, 0.0], [1.0, 1.0])[1])
    assert fluxboot.indices_absurd([-4.0, 2.5])
    assert not fluxboot.indices_absurd([-4.0, 0.0])
    assert not fluxboot.indices_absurd([])


# ---- channels --------------------------------------------------------------------------------------------------------


def test_bright_channels_are_found_and_the_bandpass_is_not() -> None:
    x = np.arange(32)
    amplitude = 7.5 * (1 + 0.05 * np.cos(x / 4)) / (1 + np.exp(-2.0 * (x - 1.5))) / (1 + np.exp(-2.0 * (29.5 - x)))
    assert spoiled(amplitude) == ()
    amplitude[10:13] += 52.0  # 60 Jy of interference on a source of 7.5 Jy
    assert spoiled(amplitude) == (10, 11, 12)
    amplitude[10:13] = np.nan
    assert spoiled(amplitude) == ()


def test_selection_leaves_channels_out_until_too_few_remain() -> None:
    assert selection(1, 10, 22, (12, 13)) == "1:10~11;14~22"
    assert selection(1, 10, 22, ()) == "1:10~22"
    assert selection(1, 10, 12, (10, 11, 12)) == "1:10~12"
