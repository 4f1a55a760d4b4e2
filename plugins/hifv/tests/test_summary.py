"""What the pictures of calibrated data are drawn from: averages, kinds of gains, antennas that stand out."""

from __future__ import annotations

from types import SimpleNamespace

import attrs
import numpy as np
import pytest

from pl_hifv import summaries
from pl_hifv.heuristics.gainkind import GainSums
from pl_hifv.stages.plotsummary import phase_scatter, some_of
from pl_hifv.weblog.summaryplots import standing_out
from pl_kernel.ms.samples import SampleScan, sample_ms
from pl_kernel.weblog.observation import mjd_seconds

RNG = np.random.default_rng(1)


# ---- kinds of gains ------------------------------------------------------------------------------------------------


def kind(amplitude, phase_deg, flags=None) -> str:
    gains = (np.asarray(amplitude) * np.exp(1j * np.radians(phase_deg))).astype(np.complex64)
    flags = np.zeros(gains.shape, bool) if flags is None else flags
    sums = GainSums()
    for start in range(0, gains.size, 7):  # tables are read in pieces
        sums = sums.add(gains[start : start + 7], flags[start : start + 7])
    return sums.kind


def test_gains_are_told_apart_by_their_values():
    amplitude, phase = RNG.uniform(0.5, 2, 50), RNG.uniform(-180, 180, 50)
    assert kind(np.ones(50), phase) == "phase only"
    assert kind(amplitude, np.zeros(50)) == "amplitude only"
    assert kind(amplitude, phase) == "amplitude and phase"
    assert kind([], []) == ""


def test_flagged_gains_tell_nothing():
    amplitude, flags = np.ones(50), np.zeros(50, bool)
    amplitude[3], flags[3] = 4.0, True
    assert kind(amplitude, np.linspace(0, 90, 50), flags) == "phase only"
    assert kind(amplitude, np.linspace(0, 90, 50)) == "amplitude and phase"


# ---- antennas and targets to be shown ------------------------------------------------------------------------------


def test_an_antenna_that_differs_stands_out_and_good_ones_do_not():
    spectra = 2.0 + 0.01 * (RNG.normal(size=(100, 27)) + 1j * RNG.normal(size=(100, 27)))
    assert standing_out(spectra) == []
    spectra[:, 5] *= 1.3
    spectra[:, 20] *= np.exp(1j * np.radians(40.0))  # |exp(i 40°) - 1| = 0.68
    assert standing_out(spectra) == [20, 5]


def test_an_antenna_without_data_does_not_stand_out():
    spectra = np.full((10, 4), 1 + 0j)
    spectra[:, 2] = np.nan
    assert standing_out(spectra) == []


@pytest.mark.parametrize(("number", "shown"), [(0, 0), (1, 1), (29, 29), (30, 30), (31, 16), (100, 25), (500, 30)])
def test_at_most_thirty_targets_are_shown(number, shown):
    assert len(some_of(range(number))) == shown


def test_windows_are_grouped_by_band_and_baseband():
    ms = sample_ms(n_spws=4, spw_names={0: "EVLA_C#A0C0#0", 1: "EVLA_C#A0C0#1", 2: "EVLA_C#B0D0#2", 3: "old"})
    spws = [attrs.evolve(w, band="C") for w in ms.spws]
    found = summaries.basebands(ms, spws)
    assert {name: [int(w.id) for w in group] for name, group in found.items()} == {
        "C A0C0": [0, 1], "C B0D0": [2], "C": [3],
    }  # fmt: skip


# ---- averages ------------------------------------------------------------------------------------------------------


GAINS = np.array([1.0, 1.0, np.exp(1j * np.radians(40.0)), 1.2])
FLUX = 3.0


def observed(monkeypatch, integrations: int):
    """One field with two scans of a minute; four antennas, of which one has 40 deg of phase left and one 20 %."""
    ms = sample_ms(fields=("3C286",), scans=(SampleScan(0, "BANDPASS"), SampleScan(0, "PHASE")), n_channels=8)
    one, two = np.triu_indices(4, 1)
    parts = []
    for scan in ms.scans:
        times = mjd_seconds(scan.start) + (np.arange(integrations) + 0.5) * 60 / integrations
        rows = one.size * integrations
        data = np.tile(FLUX * GAINS[one] * GAINS[two].conj(), integrations) * np.ones((2, 8, 1))
        flag = np.zeros(data.shape, bool)
        flag[1, 3] = True  # a channel of LL
        data[1, 3] = 1e6
        parts.append({
            "CORRECTED_DATA": data, "FLAG": flag, "TIME": np.repeat(times, one.size),
            "UVW": np.array([np.tile(100.0 * (two - one), integrations), np.zeros(rows), np.zeros(rows)]),
            "SCAN_NUMBER": np.full(rows, scan.id), "ANTENNA1": np.tile(one, integrations),
            "ANTENNA2": np.tile(two, integrations),
        })  # fmt: skip

    def pieces(ctx, ms, columns, fields, spws):
        for part in parts:
            rows = part["TIME"].size
            for start in range(0, rows, 17):  # pieces end in the middle of an integration
                yield SimpleNamespace(columns={c: v[..., start : start + 17] for c, v in part.items()})

    monkeypatch.setattr(summaries, "pieces", pieces)
    context = SimpleNamespace(context=SimpleNamespace(measurement_sets=(ms,)))
    return ms, context


@pytest.mark.parametrize("is_target", [False, True])
def test_averages_are_those_of_the_data(monkeypatch, is_target):
    ms, ctx = observed(monkeypatch, 12)
    kept = summaries.summarise(ctx, ms, ms.fields[0], "CORRECTED_DATA", is_target=is_target)
    # Two windows, two scans, six baselines: the average of constant visibilities is the visibility.
    assert kept["rows"].shape == (24, 6) and list(kept["names"]) == ["LL", "RR"]
    where = kept["rows"].astype(int)
    assert kept["values"] == pytest.approx(
        np.repeat((FLUX * GAINS[where[:, 2]] * GAINS[where[:, 3]].conj())[:, None], 2, 1)
    )
    wavelength = 299792458.0 / ms.spw(0).centre_hz
    first = where[:, 0] == 0
    assert kept["rows"][first, 5] == pytest.approx(100.0 * (where[first, 3] - where[first, 2]) / wavelength)
    assert np.isnan(kept["spectrum_0"][1, 3]) and np.isfinite(kept["spectrum_0"][0]).all()  # RR, LL
    pairs = [(0, 1), (1, 2), (2, 3)] if is_target else [(i, j) for i in range(4) for j in range(i + 1, 4)]
    # Antennas stand 100 m apart in a row; of targets, the inner half of 300 m counts.
    expected = np.mean([FLUX * GAINS[i] * GAINS[j].conj() for i, j in pairs])
    assert kept["spectrum_0"][0] == pytest.approx(np.full(8, expected))


def test_what_an_antenna_has_left_shows_in_the_mean_of_its_baselines(monkeypatch):
    ms, ctx = observed(monkeypatch, 12)
    kept = summaries.summarise(ctx, ms, ms.fields[0], "CORRECTED_DATA", is_target=False)
    by_antenna = kept["antennas_1"][0, 0]  # RR, first channel
    # Antenna 2, turned by 40 deg, sees 3, 3 and 3.6 Jy so; antenna 3 sees 3.6 Jy twice, and once turned back.
    assert by_antenna[2] == pytest.approx(3.2 * GAINS[2])
    assert by_antenna[3] == pytest.approx((3.6 + 3.6 + 3.6 * GAINS[2].conj()) / 3)
    assert np.isnan(kept["antennas_1"][1, 3]).all()  # the flagged channel of LL
    rms, worst, own = phase_scatter(ms, [str(n) for n in kept["names"]], kept["rows"], kept["values"])
    # Three of six baselines have 40 deg: 40/√2 of all, 40 of those of antenna 2.
    assert (worst, own) == (ms.antennas[2].name, pytest.approx(40.0))
    assert rms == pytest.approx(40.0 / np.sqrt(2))


def test_the_series_has_ten_times_a_scan_however_many_integrations(monkeypatch):
    for integrations, times in ((5, 5), (12, 10), (120, 10)):
        ms, ctx = observed(monkeypatch, integrations)
        kept = summaries.summarise(ctx, ms, ms.fields[0], "CORRECTED_DATA", is_target=False)
        assert kept["series_rows"].shape == (2 * times * 6, 4)  # scans, times, baselines
        begin = mjd_seconds(ms.scans[0].start)
        assert kept["series_rows"][:, 1].min() == pytest.approx(begin + 60 / times / 2, abs=2.5)
        # Sums over both windows, weighted by what is not flagged.
        turned = kept["series_rows"][:, 3] == 2
        assert np.degrees(np.angle(kept["series"][turned & (kept["series_rows"][:, 2] == 0)])) == pytest.approx(-40.0)


def test_a_field_that_is_flagged_altogether_has_no_averages(monkeypatch):
    ms, ctx = observed(monkeypatch, 5)
    whole = summaries.pieces

    def flagged(*given):
        for piece in whole(*given):
            piece.columns["FLAG"] = np.ones_like(piece.columns["FLAG"])
            yield piece

    monkeypatch.setattr(summaries, "pieces", flagged)
    assert summaries.summarise(ctx, ms, ms.fields[0], "CORRECTED_DATA", is_target=False) == {}
