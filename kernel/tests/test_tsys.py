"""Tsys: what is wrong with spectra of known faults, and whose Tsys calibrates what. Arrays and metadata, no CASA."""

from __future__ import annotations

import datetime as dt

import attrs
import numpy as np
import pytest

from pl_kernel.common import skylines, tsysmaps, tsysmetrics, viewflag
from pl_kernel.common.calspectra import CalSpectra
from pl_kernel.common.tsysflag import TsysFlagInputs, wanted
from pl_kernel.common.tsysmetrics import Limits
from pl_kernel.errors import InputError, UnknownName
from pl_kernel.ms.model import (
    Antenna,
    AntennaArray,
    DataDescription,
    Field,
    MeasurementSet,
    Polarization,
    Scan,
    SpectralWindow,
)
from pl_kernel.ms.virtual import RealSpw

CHANNELS = 128


def healthy(antennas: int = 4, times: int = 5, seed: int = 1, fields: int = 1) -> CalSpectra:
    """Tsys of 100 K with 5 % between receptors, a 2 % ripple with a phase per antenna, and noise of 0.3 %."""
    rng = np.random.default_rng(seed)
    rows = antennas * times
    antenna = np.tile(np.arange(antennas), times)
    frequency = 230e9 + np.arange(CHANNELS) * 15.625e6
    level = 100 * (1 + 0.05 * np.clip(rng.standard_normal((antennas, 2, 1)), -2.5, 2.5))
    ripple = 1 + 0.02 * np.sin(2 * np.pi * frequency / 1.3e9 + np.arange(antennas)[:, None, None])
    values = np.tile(level * ripple, (times, 1, 1)) * (1 + 0.003 * rng.standard_normal((rows, 2, CHANNELS)))
    time = np.repeat(5.19e9 + 300.0 * np.arange(times), antennas)
    return CalSpectra(
        spw=0, frequency_hz=frequency, values=values, flags=np.zeros(values.shape, bool), antenna=antenna,
        field=np.repeat(np.arange(times) % fields, antennas), scan=np.repeat(np.arange(times), antennas), time_s=time,
    )  # fmt: skip


def spoiled(spectra: CalSpectra, antenna: int, factor: float, channels: slice = slice(None)) -> CalSpectra:
    values = spectra.values.copy()
    own = np.flatnonzero(spectra.antenna == antenna)
    values[own, :, channels] *= factor
    return attrs.evolve(spectra, values=values)


def flagged(spectra: CalSpectra, **changes: float) -> np.ndarray:
    """[row, channel] after all metrics in their order."""
    limits = Limits(**changes)  # type: ignore[arg-type]
    for name in tsysmetrics.METRICS:
        spectra = tsysmetrics.with_flags(spectra, tsysmetrics.evaluate(name, spectra, limits).bad)
    return spectra.flags.all(axis=1)


def shares(found: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Share of the truth that was found, and share of the rest that was flagged as well."""
    return float(found[truth].mean()), float(found[~truth].mean())


@pytest.mark.parametrize("antennas", [2, 3, 4, 12])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_antenna_with_three_times_the_tsys_is_flagged_and_no_other(antennas: int, seed: int) -> None:
    spectra = spoiled(healthy(antennas, seed=seed), antenna=1, factor=3.0)
    truth = np.repeat((spectra.antenna == 1)[:, None], CHANNELS, axis=1)
    found, false = shares(flagged(spectra), truth)
    assert found >= 0.95 and false <= 0.03


@pytest.mark.parametrize("antennas", [2, 3, 4, 12])
@pytest.mark.parametrize("width", [1, 2, 4, 10])
def test_a_spike_is_flagged_with_its_flat_top_and_nothing_beside_it(antennas: int, width: int) -> None:
    spectra = spoiled(healthy(antennas), antenna=1, factor=5.0, channels=slice(40, 40 + width))
    truth = np.zeros((spectra.antenna.size, CHANNELS), bool)
    truth[np.ix_(spectra.antenna == 1, range(40, 40 + width))] = True
    found, false = shares(flagged(spectra), truth)
    assert found >= 0.95 and false <= 0.03


def test_two_spikes_do_not_swallow_what_lies_between_them() -> None:
    spectra = spoiled(spoiled(healthy(), 2, 4.0, slice(30, 33)), 2, 4.0, slice(80, 84))
    bad = tsysmetrics.evaluate("birdies", spectra, Limits()).bad
    assert not bad[:, 35:78].any()
    assert bad[spectra.antenna == 2][:, [30, 31, 32, 80, 81, 82, 83]].all()


@pytest.mark.parametrize("seed", range(5))
def test_healthy_spectra_lose_nothing_worth_mentioning(seed: int) -> None:
    assert flagged(healthy(4, seed=seed)).mean() <= 0.03


def test_a_noisy_spectrum_is_found_by_its_derivative() -> None:
    spectra = healthy()
    values = spectra.values.copy()
    # Steps of noise of 10 % have a MAD of 0.6745 x sqrt(2) x 10 % = 9.5 %, above the limit of 5.
    values[7] *= 1 + 0.1 * np.random.default_rng(3).standard_normal(values[7].shape)
    finding = tsysmetrics.evaluate("derivative", attrs.evolve(spectra, values=values), Limits())
    assert np.flatnonzero(finding.bad.any(axis=1)).tolist() == [7]
    assert finding.value is not None and finding.value[7, 0] == pytest.approx(9.5, rel=0.25)


def test_steep_ends_are_edges_and_a_line_of_the_air_there_is_none() -> None:
    spectra = healthy()
    roll = np.ones(CHANNELS)
    roll[:6] = 1 + 0.5 * np.arange(6, 0, -1)
    bad = tsysmetrics.evaluate("edgechans", attrs.evolve(spectra, values=spectra.values * roll), Limits()).bad
    assert bad[:, :6].all() and not bad[:, 10:].any()
    line = 1 + 0.5 / (1 + ((np.arange(CHANNELS) - 124) / 2) ** 2)
    lines = np.arange(CHANNELS) > 110
    steep = attrs.evolve(spectra, values=spectra.values * line)
    assert tsysmetrics.evaluate("edgechans", steep, Limits()).bad.any()
    assert not tsysmetrics.evaluate("edgechans", steep, Limits(), spared=lines).bad[:, 100:].any()


def test_another_shape_than_the_reference_field_is_found() -> None:
    spectra = healthy(antennas=3, times=6, fields=2)
    values = spectra.values.copy()
    # A slope from -40 % to +40 % deviates by 20 % on average, above the limit of 13.
    wrong = (spectra.field == 1) & (spectra.antenna == 0)
    values[wrong] *= np.linspace(0.6, 1.4, CHANNELS)
    finding = tsysmetrics.evaluate("fieldshape", attrs.evolve(spectra, values=values), Limits(), reference_fields=[0])
    assert np.array_equal(finding.bad.all(axis=1), wrong)
    assert finding.value is not None
    np.testing.assert_allclose(finding.value[wrong], 20.0, rtol=0.1)


def test_what_is_left_of_a_mostly_flagged_time_goes_too() -> None:
    spectra = healthy(antennas=4, times=3)
    flags = spectra.flags.copy()
    flags[:3] = True  # three of four antennas at the first time: 0.75 > 0.666
    bad = tsysmetrics.evaluate("toomany", attrs.evolve(spectra, flags=flags), Limits()).bad
    assert np.flatnonzero(bad.any(axis=1)).tolist() == [3]
    dead = spectra.flags | (spectra.antenna < 3)[:, None, None]
    assert tsysmetrics.evaluate("toomany", attrs.evolve(spectra, flags=dead), Limits()).bad[spectra.antenna == 3].all()


def test_commands_say_the_same_as_the_mask_in_few_words() -> None:
    spectra = healthy(antennas=3, times=4)
    bad = np.zeros((12, CHANNELS), bool)
    bad[spectra.antenna == 1] = True
    bad[:, 5:8] = True
    bad[0, 60] = True
    finding = tsysmetrics.Finding(metric="birdies", spw=17, bad=bad)
    lines = tsysmetrics.commands(finding, spectra, {0: "A0", 1: "A1", 2: "A2"})
    assert len(lines) == 3
    assert "spw='17:5~7'" in lines[0] and "antenna" not in lines[0]
    assert "antenna='A0'" in lines[1] and "spw='17:60~60'" in lines[1] and "timerange=" in lines[1]
    assert "antenna='A1'" in lines[2] and "timerange" not in lines[2]


def test_an_unknown_metric_and_a_forgotten_one_are_refused() -> None:
    with pytest.raises(UnknownName, match="birdie"):
        wanted(TsysFlagInputs(metric_order="nmedian, birdie"))
    with pytest.raises(InputError, match="toomany"):
        wanted(TsysFlagInputs(metric_order="nmedian, derivative, edgechans, fieldshape, birdies"))
    assert wanted(TsysFlagInputs(flag_birdies=False))[-2:] == ("fieldshape", "toomany")


# ---- rules for any view ----------------------------------------------------------------------------------------------


def test_rules_for_matrices() -> None:
    values = np.full((20, 6), 10.0) + 0.1 * np.random.default_rng(0).standard_normal((20, 6))
    good = np.zeros(values.shape, bool)
    values[3, 2] = 14.0
    assert np.argwhere(viewflag.outliers(values, good, 10.0)).tolist() == [[3, 2]]
    assert not viewflag.outliers(values, good, 10.0, side="low").any()
    assert np.argwhere(viewflag.beside_median(values, good)).tolist() == [[3, 2]]
    values[:4, 5] = 5.0  # four low outliers: more than three make the whole antenna bad
    assert np.flatnonzero(viewflag.bad_columns(values, good, 10.0).all(axis=0)).tolist() == [5]
    bad = good.copy()
    bad[0, :5] = True
    assert np.argwhere(viewflag.full_rows(bad, good, 0.8)).tolist() == [[0, 5]]
    assert viewflag.entirely_bad(np.ones((2, 3), bool), np.zeros((2, 3), bool), 1.0)


def test_a_quarter_full_of_outliers_is_flagged_and_single_outliers_are_forgotten() -> None:
    pairs = np.array([(0, 1), (0, 2), (1, 2)])
    values = np.ones((40, 3)) + 0.01 * np.random.default_rng(0).standard_normal((40, 3))
    values[10:18, :2] += 5  # 8 of 10 channels of the second quarter, on all baselines of antenna 0
    values[35, 2] += 5
    bad = viewflag.bad_quadrants(values, np.zeros(values.shape, bool), pairs)
    assert bad[10:20, :2].all() and bad.sum() == 20


def test_the_lower_of_two_middle_values_tells_the_wrong_from_the_right() -> None:
    assert viewflag.low_median([1.0, 3.0]) == 1.0
    assert viewflag.low_median([3.0, 1.0, 2.0, np.nan]) == 2.0
    assert np.isnan(viewflag.low_median([np.nan, np.nan]))


def test_lines_of_the_air_are_found_with_their_width() -> None:
    x = np.arange(256)
    tau = 0.05 + 1e-5 * x + 0.04 * np.exp(-0.5 * ((x - 150) / 6.0) ** 2)
    (line,) = skylines.sky_lines(tau)
    # A Gaussian falls to 0.3 at sqrt(2 ln(1/0.3)) = 1.552 sigma: 9.3 channels on either side.
    assert line.peak == 150 and line.height == pytest.approx(0.04, rel=0.05)
    assert (line.first, line.last) == (141, 159)
    assert skylines.sky_lines(0.05 + 1e-5 * x) == ()
    assert not skylines.affected(0.05 + 1e-5 * x).any() and skylines.affected(tau)[140:161].all()


# ---- whose Tsys ------------------------------------------------------------------------------------------------------


def window(
    number: int, centre: float, width: float, channels: int, setup: str = "X1", baseband: int = 1
) -> SpectralWindow:
    step = width / channels
    return SpectralWindow(
        id=RealSpw(number), name=f"{setup}#ALMA_RB_06#BB_{baseband}#SW-01#FULL_RES", n_channels=channels,
        first_hz=centre - width / 2 + step / 2, step_hz=step, resolution_hz=step, bandwidth_hz=width,
        ref_frequency_hz=centre, baseband=baseband,
    )  # fmt: skip


def test_a_window_takes_the_tsys_of_its_baseband_and_tuning_that_covers_it() -> None:
    windows = [
        window(0, 230e9, 2e9, 128), window(1, 240e9, 2e9, 128, baseband=2), window(2, 230e9, 2e9, 128, setup="X2"),
        window(3, 230.2e9, 0.5e9, 2048), window(4, 240e9, 0.5e9, 2048, baseband=2),
        window(5, 230e9, 0.5e9, 2048, setup="X2"), window(6, 230.9e9, 0.5e9, 2048),
    ]  # fmt: skip
    mapping = tsysmaps.spw_map(windows, [0, 1, 2])
    assert mapping == {0: 0, 1: 1, 2: 2, 3: 0, 4: 1, 5: 2}  # window 6 sticks out by 150 MHz
    assert tsysmaps.as_list(mapping) == (0, 1, 2, 0, 1, 2)
    assert tsysmaps.as_list({0: 0, 1: 1}) == ()


@pytest.mark.parametrize(("beyond", "expected"), [(0.9, {0: 0, 1: 0}), (1.1, {0: 0})])
def test_a_window_may_stick_out_by_one_tsys_channel(beyond: float, expected: dict[int, int]) -> None:
    tsys = window(0, 230e9, 2e9, 128)
    science = window(1, 230e9 + 0.75e9 + beyond * 2e9 / 128, 0.5e9, 2048)
    assert tsysmaps.spw_map([tsys, science], [0]) == expected


def observation(intents: dict[int, set[str]], degrees: dict[int, float], spws: list[SpectralWindow]) -> MeasurementSet:
    start = dt.datetime(2023, 1, 1, tzinfo=dt.UTC)
    ids = tuple(s.id for s in spws)
    fields = tuple(
        Field(id=i, name=f"f{i}", source_id=i, ra_rad=np.radians(degrees[i]), dec_rad=0.0, intents=frozenset(words),
              spws=frozenset(int(s) for s in ids))
        for i, words in intents.items()
    )  # fmt: skip
    scans = tuple(
        Scan(id=i + 1, start=start, end=start, field_ids=(i,), spw_ids=ids, antenna_ids=(0,), n_rows=1,
             intent_sets={i: frozenset(frozenset({w}) for w in words)})
        for i, words in intents.items()
    )  # fmt: skip
    return MeasurementSet(
        name="a.ms", path="a.ms", telescope="", sources=(), fields=fields, spws=tuple(spws), states=(), scans=scans,
        array=AntennaArray("", (Antenna(0, "A0", "", 12.0, (0.0, 0.0, 0.0)),)), start=start, end=start, n_rows=1,
        polarizations=(Polarization(0, ("XX", "YY")),), columns=("DATA",), intents_from="rules",
        data_descriptions=tuple(DataDescription(i, s, 0) for i, s in enumerate(ids)),
    )  # fmt: skip


def test_targets_take_the_nearest_tsys_and_never_that_of_a_bright_calibrator() -> None:
    spws = [window(0, 230e9, 2e9, 128)]
    air = "ATMOSPHERE"
    intents = {0: {"BANDPASS", air}, 1: {"PHASE"}, 2: {"TARGET", air}, 3: {"TARGET"}, 4: {air}}
    where = {0: 3.2, 1: 1.0, 2: 0.0, 3: 3.0, 4: 2.0}
    ms = observation(intents, where, spws)
    found = tsysmaps.plan(ms, {0: 0}, {0: frozenset({0, 2, 4})})
    chosen = {(f, u.intent): u.tsys_field for u in found.uses for f in u.fields}
    # The bandpass calibrator takes its own; the phase calibrator, without Tsys, that of the Tsys-only field 1 degree
    # away and not the target's; target 3 takes the field at 1 degree although the calibrator is at 0.2.
    assert chosen == {(0, "BANDPASS"): 0, (1, "PHASE"): 4, (2, "TARGET"): 2, (3, "TARGET"): 4}
    assert found.without == () and found.missing == ()


def test_the_nearest_field_must_have_the_tuning_and_what_has_none_is_named() -> None:
    spws = [window(0, 230e9, 2e9, 128), window(1, 240e9, 2e9, 128, baseband=2)]
    ms = observation({0: {"TARGET"}, 1: {"ATMOSPHERE"}, 2: {"ATMOSPHERE"}}, {0: 0.0, 1: 1.0, 2: 2.0}, spws)
    found = tsysmaps.plan(ms, {0: 0, 1: 1}, {0: frozenset({1, 2}), 1: frozenset({2})})
    assert {(u.spws, u.tsys_field) for u in found.uses} == {((0,), 1), ((1,), 2)}
    assert tsysmaps.plan(ms, {0: 0, 1: 1}, {0: frozenset({1})}).missing == ((0, 1),)
    assert tsysmaps.plan(ms, {0: 0, 1: 1}, {}).without == ("TARGET",)


@pytest.mark.parametrize(
    ("name", "set_up"),
    [
        ("ALMA_RB_06#BB_1#SW-01#FULL_RES", ""),
        ("X0000000010#ALMA_RB_06#BB_1#SW-01#FULL_RES", "X0000000010"),
        ("G1#X0000000010#ALMA_RB_06#BB_1#SW-01#FULL_RES", "G1#X0000000010"),
        ("EVLA_C#A0C0#0", ""),
    ],
)
def test_a_set_up_stands_before_the_band(name: str, set_up: str) -> None:
    assert tsysmaps.set_up(attrs.evolve(window(0, 230e9, 2e9, 128), name=name)) == set_up


def test_the_tsys_of_another_set_up_is_better_than_none() -> None:
    coarse, other = window(0, 230e9, 2e9, 128), window(1, 230e9, 2e9, 128, setup="X2")
    fine = window(2, 230e9, 5e8, 2048)
    assert tsysmaps.spw_map([coarse, other, fine], [0, 1]) == {0: 0, 1: 1, 2: 0}
    assert tsysmaps.spw_map([other, fine], [1]) == {1: 1, 2: 1}
