"""Which scans calibrate what, and the scores of calibration results, without any data."""

from __future__ import annotations

import attrs
import numpy as np
import pytest

from pl_hif.solve import Caltable, SolutionStats
from pl_hifv import calibrators
from pl_hifv.calibrators import BandState, FieldSpectrum, MsState
from pl_hifv.heuristics.deformatter import BadBaseband
from pl_hifv.heuristics.fluxboot import SpectralFit
from pl_hifv.heuristics.jumps import phase_jumps
from pl_hifv.heuristics.solint import Choice, LongInterval, ShortInterval, Trial
from pl_hifv.qa import bpdcals, fluxboot, solint
from pl_hifv.solves import BandpassSolve, DelaySolve
from pl_hifv.stages.fluxboot import BandSpectrum, FluxbootResult, FluxPoint
from pl_hifv.stages.semifinalbpdcals import SemiFinalBPdcalsResult
from pl_hifv.stages.solint import BandIntervals, SolintResult
from pl_hifv.stages.testbpdcals import TestBand, TestBPdcalsResult
from pl_kernel.context import Context
from pl_kernel.ms.samples import SampleScan, sample_ms
from pl_kernel.serialize import from_json, to_json
from pl_kernel.stage import ItemFailure

# ---- selection -------------------------------------------------------------------------------------------------------


def banded(ms):
    """Windows 0 and 1 in C band, 2 and 3 in Ka."""
    names = {0: "EVLA_C#A0C0#0", 1: "EVLA_C#B0D0#1", 2: "EVLA_KA#A0C0#2", 3: "EVLA_KA#A0C0#3"}
    spws = tuple(attrs.evolve(s, band="C" if s.id < 2 else "Ka", name=names[int(s.id)]) for s in ms.spws)
    return attrs.evolve(ms, spws=spws)


def test_every_band_has_its_own_calibrators() -> None:
    ms = banded(
        sample_ms(
            fields=("3C286", "3C84", "J1407", "M51"), n_spws=4,
            scans=(
                SampleScan(0, "AMPLITUDE,BANDPASS", (0, 1)), SampleScan(2, "PHASE", (0, 1)),
                SampleScan(3, "TARGET", (0, 1)), SampleScan(0, "AMPLITUDE", (2, 3)), SampleScan(1, "BANDPASS", (2, 3)),
                SampleScan(1, "DELAY", (2, 3)), SampleScan(2, "PHASE", (2, 3)), SampleScan(3, "TARGET", (2, 3)),
            ),
        )
    )  # fmt: skip
    c, ka = calibrators.selection(ms).bands
    assert (c.band, ka.band) == ("C", "Ka")
    assert (c.bandpass_fields, c.bandpass_scans, c.delay_scans) == ((0,), (1,), (1,))
    assert (ka.bandpass_fields, ka.bandpass_scans, ka.delay_scans) == ((1,), (5,), (6,))
    assert (ka.flux_fields, ka.phase_scans) == ((0,), (7,))
    assert ka.test_scans == (5, 6)
    assert c.calibrator_scans == (1, 2)
    assert ka.calibrator_scans == (4, 5, 6, 7)
    assert c.basebands == {"A0C0": (0,), "B0D0": (1,)}
    assert ka.basebands == {"A0C0": (2, 3)}


def test_without_bandpass_calibrator_the_flux_calibrator_serves_and_the_first_of_several_is_taken() -> None:
    scans = (SampleScan(0, "AMPLITUDE"), SampleScan(1, "PHASE"), SampleScan(2, "TARGET"))
    (band,) = calibrators.selection(sample_ms(scans=scans)).bands
    assert (band.bandpass_fields, band.delay_fields) == ((0,), (0,))
    two = (SampleScan(1, "BANDPASS"), SampleScan(0, "BANDPASS"), SampleScan(1, "BANDPASS"))
    (band,) = calibrators.selection(sample_ms(scans=two)).bands
    assert (band.bandpass_fields, band.bandpass_scans) == ((1,), (1, 3))


def test_a_band_without_calibrators_says_so() -> None:
    scans = (SampleScan(1, "PHASE"), SampleScan(2, "TARGET"))
    (band,) = calibrators.selection(sample_ms(scans=scans)).bands
    assert "neither a bandpass nor a flux calibrator" in band.missing


def test_state_survives_json() -> None:
    fit = SpectralFit(reference_hz=5e9, coefficients=[0.1, -0.3], covariance=[[1e-4, 0.0], [0.0, 1e-3]])
    state = MsState(
        vis="a.ms", bands=[BandState(band="C", long_s=65.0, long_solint="65s")], ignored_refants=["ea01"],
        spectra=[FieldSpectrum(field=1, name="J1310", fit=fit)],
    )  # fmt: skip
    assert from_json(to_json(state), MsState) == state
    assert state.band("X") == BandState(band="X")
    assert state.with_band(BandState(band="C", long_s=5.0)).band("C").long_s == 5.0


# ---- phase jumps -----------------------------------------------------------------------------------------------------


def test_a_step_is_a_jump_and_weather_is_not() -> None:
    rng = np.random.default_rng(1)
    time, scan = np.arange(40) * 5.0, np.repeat([2, 4], 20)
    quiet = np.radians(rng.normal(0, 2.0, 40))
    stepped = quiet.copy()
    stepped[30:] += np.radians(90)
    (jump,) = phase_jumps("ea01", 0, 1, time, scan, stepped, np.full(40, 50.0))
    assert (jump.scan, jump.time_s) == (4, 147.5)
    assert jump.degrees == pytest.approx(90, abs=10)
    between_scans = quiet + np.radians(90) * (scan == 4)
    assert phase_jumps("ea01", 0, 1, time, scan, between_scans, np.full(40, 50.0)) == []
    stormy = np.radians(rng.normal(0, 40.0, 40))
    assert phase_jumps("ea01", 0, 1, time, scan, stormy, np.full(40, 50.0)) == []
    weak = stepped + np.radians(rng.normal(0, 20.0, 40))
    assert phase_jumps("ea01", 0, 1, time, scan, weak, np.full(40, 1.0)) == []


# ---- scores ----------------------------------------------------------------------------------------------------------


def context() -> Context:
    return Context(run_name="x", root=".", measurement_sets=(sample_ms(name="a.ms", n_antennas=10),))


def caltable(kind: str, values: dict[str, tuple[float, int]]) -> Caltable:
    """antenna → (amplitude, flagged of 10), two windows, two receptors."""
    stats = [
        SolutionStats(
            antenna=a, spw=s, pol=p, solutions=10, flagged=n, snr=100.0, amplitude=v, amplitude_rms=0.0,
            phase_rms_deg=0.0, phase_jumps=0.0,
        )
        for a, (v, n) in values.items() for s in (0, 1) for p in (0, 1)
    ]  # fmt: skip
    return Caltable(vis="a.ms", path="x.tbl", kind=kind, rows=1, stats=stats)


def test_band(flagged: int = 0, delay_ns: float = 3.0, channels: int = 1, **more) -> TestBand:
    names = [f"ant{i:02d}" for i in range(1, 11)]
    table = caltable("delay", dict.fromkeys(names, (delay_ns, 0)))
    trial = Trial(integrations=1, seconds=5.0, solint="int", flagged=0.0)
    return TestBand(
        vis="a.ms", band="C", spws=(0, 1), basebands={"A0C0": (0, 1)}, correlations=("RR", "LL"), refant="ant01",
        delay=DelaySolve(
            table=table, initial=table, refants=names, flagged=0.0, critical=0.45, largest_ns=delay_ns,
            median_ns=delay_ns,
        ),
        gain=caltable("gain", dict.fromkeys(names, (1.0, 0))), gain_solint="int",
        bandpass=BandpassSolve(
            table=caltable("bandpass", dict.fromkeys(names, (1.0, flagged))), flagged=flagged / 10,
            snr={0: 100.0, 1: 100.0}, channels={0: channels, 1: 1},
        ),
        choice=Choice(trial=trial, trials=[trial], reason="", poor=False), **more,
    )  # fmt: skip


test_band.__test__ = False  # a builder


def by_metric(scores) -> dict[str, float]:
    found: dict[str, float] = {}
    for s in scores:
        found[s.metric] = min(s.score, found.get(s.metric, 1.0))
    return found


def first(band: TestBand | None, **more) -> dict[str, float]:
    bands = (band,) if band else ()
    result = TestBPdcalsResult(bands=bands, antennas={"a.ms": tuple(f"ant{i:02d}" for i in range(1, 11))},
                               refants={}, **more)  # fmt: skip
    return by_metric(bpdcals.first_calibration(result, context()))


def test_good_solutions_score_one() -> None:
    assert set(first(test_band()).values()) == {1.0}


def test_flagged_bandpass_delay_and_averaging_follow_the_reference() -> None:
    # 3 of 10 flagged: (0.6 − 0.3) / 0.55 = 0.5454…
    assert first(test_band(flagged=3))["calibration.flagged.bandpass"] == pytest.approx(0.3 / 0.55)
    assert first(test_band(flagged=7))["calibration.flagged.bandpass"] == 0.0
    assert first(test_band(delay_ns=20.0))["calibration.delay"] == pytest.approx(0.44)
    assert first(test_band(delay_ns=20.0))["calibration.median_delay"] == 0.33
    assert first(test_band(channels=4))["calibration.bandpass_channels"] == 0.33


def bad(antenna: str) -> BadBaseband:
    return BadBaseband(antenna=antenna, band="C", baseband="A0C0", kind="amplitude", whole=True, spws=(0, 1),
                       bad_spws=(0, 1), correlations=("RR",), value=0.05)  # fmt: skip


def test_bad_deformatters_cost_by_their_share_of_the_array() -> None:
    # one of ten antennas: 1 − 0.1 / 0.3; five of ten: 0, and more than four antennas: 0.33
    assert first(test_band(bad=[bad("ant03")]))["deformatter.antennas"] == pytest.approx(2 / 3)
    many = first(test_band(bad=[bad(f"ant{i:02d}") for i in range(1, 6)]))
    assert (many["deformatter.antennas"], many["deformatter.many"]) == (0.0, 0.33)
    assert first(test_band(rejected=["ant01"]))["calibration.refant"] == 0.33


def test_a_missing_result_never_looks_like_success() -> None:
    assert min(first(None).values()) == 0.0
    lost = (ItemFailure("a.ms C band", "all solutions failed"),)
    assert first(test_band(), failures=lost)["calibration.missing"] == 0.0
    second = SemiFinalBPdcalsResult(bands=(), antennas={}, refants={})
    assert [s.score for s in bpdcals.second_calibration(second, context())] == [0.0]
    assert [s.score for s in solint.solution_intervals(SolintResult(bands=(), copies={}))] == [0.0]
    empty = FluxbootResult(points=(), spectra=(), references={}, expected={"a.ms C": ("J1310",)})
    assert min(s.score for s in fluxboot.flux_densities(empty, context())) == 0.0


def test_a_flux_scale_that_is_relative_by_decision_is_a_warning_and_worse_when_needless_or_empty() -> None:
    def score(names: tuple[str, ...], tables: tuple) -> float:
        result = FluxbootResult(
            points=(), spectra=(), references={"a.ms C": names}, expected={}, tables=tables, relative=True
        )
        return by_metric(fluxboot.flux_densities(result, context()))["flux.scale"]

    solved = (caltable("gain", {}),)
    assert 0.33 < score(("3C286",), solved) < score((), solved) <= 0.66
    assert score((), ()) == 0.0


def intervals(
    short: float, long: float, scan: float, tried: float = 0.0, limited: bool = False, table: Caltable | None = None,
    **more: object,
) -> dict[str, float]:  # fmt: skip
    trial = Trial(integrations=1, seconds=tried or short, solint="int", flagged=0.0)
    band = BandIntervals(
        vis="a.ms", band="C", integration_s=5.0, scan_s=scan, table=table or caltable("gain", {}),
        long=LongInterval(seconds=long, reason="", longest_s=scan),
        short=ShortInterval(seconds=short, solint=f"{short}s", combine_scans=True, limited=limited, reason=""),
        choice=Choice(trial=trial, trials=[trial], reason="", poor=False), **more,
    )  # fmt: skip
    return by_metric(solint.solution_intervals(SolintResult(bands=(band,), copies={})))


@pytest.mark.parametrize(
    ("short", "long", "scan", "scores"), [(5, 65, 60, (1.0, 1.0)), (65, 65, 60, (0.3, 1.0)), (5, 100, 60, (1.0, 0.3))]
)
def test_interval_scores(short: float, long: float, scan: float, scores: tuple[float, float]) -> None:
    found = intervals(short, long, scan)
    assert (found["solint.short"], found["solint.long"]) == scores


def test_a_short_interval_that_is_hardly_shorter_is_a_warning() -> None:
    # Tried up to 30 s: 60 - 35 = 25 s is within that, 65 - 30 = 35 s is not.
    assert intervals(35, 60, 60, tried=30)["solint.short"] == 0.66
    assert intervals(30, 65, 60, tried=30)["solint.short"] == 1.0


def test_what_an_interval_of_the_user_flags_counts_not_what_was_found_before() -> None:
    weak = caltable("gain", {f"ant{i:02d}": (1.0, 5) for i in range(5)})
    assert intervals(5, 65, 60, limited=True, table=weak)["solint.flagged"] < 0.5
    assert intervals(5, 65, 60, table=weak)["solint.flagged"] == 1.0


def test_phase_scans_that_are_gone_cost_score_by_their_share() -> None:
    assert "solint.missing_scans" not in intervals(5, 65, 60)
    one = intervals(5, 65, 60, missing_scans=[6], phase_scans=20)["solint.missing_scans"]
    many = intervals(5, 65, 60, missing_scans=[4, 6], phase_scans=4)["solint.missing_scans"]
    assert 0.8 < one < 0.9 and many == pytest.approx(0.4)


def fluxes(residuals: list[float], index: float = -0.3) -> dict[str, float]:
    points = tuple(
        FluxPoint(vis="a.ms", field="J1310", band="C", spw=i, frequency_hz=5e9, flux_jy=1.0, error_jy=0.01,
                  solutions=10, fitted_jy=1 - r, residual=r)
        for i, r in enumerate(residuals)
    )  # fmt: skip
    fit = SpectralFit(reference_hz=5e9, coefficients=[0.0, index], covariance=[[0.0, 0.0], [0.0, 0.0]])
    result = FluxbootResult(
        points=points, spectra=(BandSpectrum(vis="a.ms", field="J1310", band="C", reason="", fit=fit),),
        references={"a.ms C": ("3C286",)}, expected={"a.ms C": ("J1310",)},
    )  # fmt: skip
    return by_metric(fluxboot.flux_densities(result, context()))


def test_a_standard_with_a_second_field_keeps_its_model() -> None:
    from types import SimpleNamespace

    from pl_hifv.stages.fluxboot import Fluxboot, _Findings

    ms = sample_ms(
        fields=("3C286", "J1310", "3C286"), n_spws=2,
        scans=(SampleScan(0, "AMPLITUDE,BANDPASS"), SampleScan(2, "PHASE"), SampleScan(1, "PHASE")),
    )  # fmt: skip
    found = _Findings()
    found.standards[ms.name] = (0,)
    found.points = [
        FluxPoint(
            vis=ms.name, field=name, band="C", spw=s, frequency_hz=ms.spw(s).centre_hz, flux_jy=v, error_jy=0.01,
            solutions=10,
        )
        for name, v in (("3C286", 7.3), ("J1310", 1.2)) for s in (0, 1)
    ]  # fmt: skip
    ctx = SimpleNamespace(log=SimpleNamespace(warning=print))
    spectra = Fluxboot()._fit(ctx, ms, 0, found)
    assert {(s.field, s.name) for s in spectra} == {(2, "3C286"), (1, "J1310")}


def test_a_spectrum_is_no_model_in_bands_where_it_was_not_measured() -> None:
    from types import SimpleNamespace

    from pl_hifv.models import set_spectra

    ms = banded(sample_ms(fields=("J1310",), n_spws=4, scans=(SampleScan(0, "PHASE", (0, 1, 2, 3)),)))
    fit = SpectralFit(reference_hz=5e9, coefficients=[0.0, -0.3], covariance=[[0.0, 0.0], [0.0, 0.0]])
    calls: list[dict] = []
    ctx = SimpleNamespace(casa=SimpleNamespace(setjy=lambda **how: calls.append(how)))
    for bands in (("C",), ("C", "Ka"), (), ("X",)):
        set_spectra(ctx, ms, [FieldSpectrum(field=0, name="J1310", fit=fit, bands=bands)])
    assert [c["spw"] for c in calls] == ["0,1", "0,1,2,3", "0,1,2,3"]


def test_flux_residuals_count_whatever_their_sign() -> None:
    assert fluxes([0.005, -0.009])["flux.residual"] == 1.0
    assert fluxes([0.001, -0.2])["flux.residual"] == pytest.approx(0.8)
    # 1 - 0.31 would be no warning; beyond 0.3 it is one.
    assert fluxes([0.001, 0.31])["flux.residual"] == 0.66 and fluxes([0.001, -0.5])["flux.residual"] == 0.5
    assert fluxes([0.001, 0.002], index=-4.0)["flux.residual"] == 0.0
    assert fluxes([0.001, 0.002], index=6.0)["flux.spectral_index"] == 0.33
