"""Every scorer with good and with bad numbers: each must be able to fall."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from pl_hif.cleaning import Attempt
from pl_hif.flags import FlagCounts
from pl_hif.heuristics.refant import RankedAntenna
from pl_hif.islandflux import IslandFlux
from pl_hif.measure import ImageNumbers
from pl_hif.qa import calibration as cal
from pl_hif.qa import imaging as img
from pl_hif.solve import Caltable, SolutionStats
from pl_hif.stages.applycal import ApplycalResult
from pl_hif.stages.bandpass import BandpassResult
from pl_hif.stages.findcont import FindcontResult, FoundContinuum
from pl_hif.stages.fluxscale import FluxMeasurement, FluxscaleResult, SourceFit
from pl_hif.stages.gaincal import GaincalResult
from pl_hif.stages.makeimages import MadeImage, MakeimagesResult
from pl_hif.stages.makeimlist import MakeimlistResult
from pl_hif.stages.refant import MsRanking, RefantResult
from pl_hif.stages.uvcontsub import Subtraction, UvcontsubResult
from pl_hif.targets import CleanTarget, ContinuumRecord, Selection
from pl_kernel import QAScore
from pl_kernel.context import Context
from pl_kernel.qa import combine
from pl_kernel.stage import ItemFailure


def by_metric(scores: QAScore | list[QAScore]) -> dict[str, QAScore]:
    return {s.metric: s for s in ([scores] if isinstance(scores, QAScore) else scores)}


def stats(antenna: str = "1", **changes: object) -> SolutionStats:
    plain = SolutionStats(
        antenna=antenna, spw=0, pol=0, solutions=50, flagged=0, snr=200.0, amplitude=1.0, amplitude_rms=0.01,
        phase_rms_deg=1.0, phase_jumps=0.0,
    )  # fmt: skip
    return attrs.evolve(plain, **changes)


def table(*rows: SolutionStats, kind: str = "bandpass") -> Caltable:
    return Caltable(vis="a.ms", path="a.tbl", kind=kind, rows=len(rows), stats=rows, fields=("f",))


def bandpass(*rows: SolutionStats) -> dict[str, QAScore]:
    return by_metric(
        cal.bandpass_solutions(BandpassResult(tables=(table(*rows),), phaseup=(), intent="BANDPASS", refants={}))
    )


def test_a_good_bandpass_scores_one() -> None:
    assert combine(bandpass(stats("1"), stats("2")).values()) == pytest.approx(1.0)


def test_a_weak_bandpass_falls_and_names_the_antenna() -> None:
    score = bandpass(stats("1"), stats("7", snr=0.5))["bandpass.snr"]
    assert score.score == pytest.approx(0.383, abs=1e-3)  # erf(0.5/√2)
    assert "7" in score.long and score.applies_to.antenna == ("7",)


@pytest.mark.parametrize(
    ("fraction", "expected"),
    # erf(0.03/(f√2)): f = 0.1 → 0.2358, between 0.2 and 0.3: 0.67 + 0.358·0.23; f = 0.3 → 0.0797 → 0.34 + 0.3271·0.32.
    [(0.0, 1.0), (0.1, 0.7524), (0.3, 0.4447)],
)
def test_phase_jumps(fraction: float, expected: float) -> None:
    assert cal.jump_score(fraction) == pytest.approx(expected, abs=2e-3)


def test_an_antenna_without_bandpass_costs_its_baselines() -> None:
    score = bandpass(stats("1"), stats("2"), stats("3"), stats("4", flagged=50))["bandpass.antennas"]
    assert score.score == pytest.approx(0.5) and "4" in score.long


def test_a_window_without_bandpass_scores_zero() -> None:
    assert bandpass(stats("1", flagged=50))["bandpass.snr"].score == 0.0


@pytest.mark.parametrize(("flagged", "expected"), [(0, 1.0), (25, 0.5), (26, 0.0)])
def test_flagged_gains(flagged: int, expected: float) -> None:
    result = GaincalResult(
        tables=(table(stats(flagged=flagged), kind="phase"),), calmode="p", solint="int", apply_to="all", refants={}
    )
    assert by_metric(cal.gain_solutions(result))["gains.flagged"].score == pytest.approx(expected)


def ranked(good: float) -> RankedAntenna:
    return RankedAntenna(
        name="1", score=1.0, geometry=1.0, flagging=0.0, distance_m=0.0, good_fraction=good, reason="near the centre"
    )


@pytest.mark.parametrize(("antennas", "expected"), [((ranked(1.0),), 1.0), ((ranked(0.3),), 0.6), ((), 0.0)])
def test_reference_antenna(antennas: tuple[RankedAntenna, ...], expected: float) -> None:
    assert combine(cal.refant_found(RefantResult(rankings=(MsRanking(vis="a.ms", ranked=antennas),)))) == expected


def measurement(**changes: object) -> FluxMeasurement:
    plain = FluxMeasurement(
        vis="a.ms", field="p", spw=0, frequency_hz=1.4e9, flux_jy=2.5, error_jy=0.002, solutions=54, gain_scatter=0.01
    )
    return attrs.evolve(plain, **changes)


def fluxes(*found: FluxMeasurement, expected: tuple[str, ...] = ("p",), index: float = 0.0) -> dict[str, QAScore]:
    fit = SourceFit(vis="a.ms", field="p", flux_jy=2.5, frequency_hz=1.4e9, spectral_index=(index,) if index else ())
    return by_metric(
        cal.flux_scale(
            FluxscaleResult(measurements=found, fits=(fit,), references={"a.ms": ("f",)}, expected=expected, tables=())
        )
    )


def test_flux_scale_good_and_bad() -> None:
    assert combine(fluxes(measurement()).values()) == 1.0
    assert fluxes(measurement(error_jy=0.5))["fluxscale.error"].score == pytest.approx(0.8)
    assert fluxes(measurement(gain_scatter=0.3))["fluxscale.antenna_scatter"].score == pytest.approx(0.33)
    assert fluxes(measurement(), expected=("p", "q"))["fluxscale.measured"].score == pytest.approx(0.5)
    assert fluxes(measurement(), index=-7.0)["fluxscale.spectral_index"].score == 0.33


def counts(flagged: float) -> FlagCounts:
    return FlagCounts(name="x", flagged=flagged, total=100.0, by={"field": {"t": (flagged, 100.0)}})


@pytest.mark.parametrize(("flagged", "expected"), [(20.0, 1.0), (24.0 + 27.5, 0.5), (90.0, 0.0)])
def test_flags_of_applycal(flagged: float, expected: float) -> None:
    result = ApplycalResult(
        applied=(), before={"a.ms": counts(0.0)}, after={"a.ms": counts(flagged)}, target_fields={"a.ms": ("t",)}
    )
    assert combine(cal.applied_flags(result)) == pytest.approx(expected)


def test_an_uncalibrated_field_is_an_error() -> None:
    result = ApplycalResult(
        applied=(), before={"a.ms": counts(0.0)}, after={"a.ms": counts(0.0)}, target_fields={"a.ms": ("t",)},
        uncalibrated={"a.ms": ("check",)},
    )  # fmt: skip
    assert combine(cal.applied_flags(result)) == 0.33


def found(fraction: float, ranges: tuple[tuple[int, int], ...]) -> FoundContinuum:
    record = ContinuumRecord(
        field="t", spw=0, frame="LSRK", ranges_hz=((1.0, 2.0),), channels={}, all_continuum=False, low_bandwidth=False,
        low_spread=False, fit_order=1,
    )  # fmt: skip
    return FoundContinuum(
        record=record, status="found", frequency_hz=(), spectrum=(), cube_ranges=ranges, line_hz=(), threshold_high=1.0,
        threshold_low=-1.0, noise=1.0, peak_snr=5.0, mask_pixels=10, fraction=fraction, restfreq_hz=None, image="x",
        reason="",
    )  # fmt: skip


def test_continuum_scores() -> None:
    good = FindcontResult(found=(found(0.5, ((0, 9),)),), expected=1, datatype="RAW")
    assert combine(img.continuum_found(good)) == 1.0
    assert combine(img.continuum_found(attrs.evolve(good, expected=2))) == 0.5
    assert combine(img.continuum_found(attrs.evolve(good, found=(found(0.03, ((0, 2),)),)))) == 0.6
    assert combine(img.continuum_found(attrs.evolve(good, found=()))) == 0.0


def test_subtraction_scores() -> None:
    part = Subtraction(vis="a", outputvis="b", field="t", field_id=0, spw=0, channels="", order=1, reason="")
    assert img.continuum_subtracted(UvcontsubResult(subtractions=(part,), outputs={"a": "b"})).score == 1.0
    assert img.continuum_subtracted(UvcontsubResult(subtractions=(), outputs={})).score == 0.0


def target(**changes: object) -> CleanTarget:
    plain = CleanTarget(
        field="t", intent="TARGET", spws=(0,), specmode="cont", imagename="x", cell_arcsec=1.0, imsize=(64, 64),
        selections=(Selection(vis="a.ms", path="a.ms", field="0", spw="0", column="data"),), continuum=((1.0, 2.0),),
    )  # fmt: skip
    return attrs.evolve(plain, **changes)


def test_listed_images() -> None:
    result = MakeimlistResult(targets=(target(),), expected=1, intent="TARGET", specmode="cont", datatype="RAW")
    looked = Context(run_name="r", root=Path("/r"), values={"hif.continuum": {}})
    never = Context(run_name="r", root=Path("/r"))
    assert combine(img.images_listed(attrs.evolve(result, targets=(target(continuum=()),)), never)) == 1.0
    assert combine(img.images_listed(result, looked)) == 1.0
    assert combine(img.images_listed(attrs.evolve(result, expected=4), looked)) == 0.25
    assert combine(img.images_listed(attrs.evolve(result, targets=(), expected=0), looked)) is None
    refused = attrs.evolve(result, targets=(), expected=0, refusal="The images are too large.")
    assert combine(img.images_listed(refused, looked)) == 0.0


@pytest.mark.parametrize(
    ("left", "lost", "score"),
    [((0,), (), 1.0), ((0,), (0,), 0.3), ((0, 1), (2,), 0.9), ((0,), (1,), 0.6), ((0, 1, 2), (3, 4), 0.6),
     ((0, 1), (2, 3, 4), 0.5)],
)  # fmt: skip
def test_windows_without_continuum_cost_what_the_reference_says(left, lost, score):
    # All 0.3; one and less than half 0.9; two, or exactly half, 0.6; more 0.5.
    one = target(spws=left, without_continuum=lost)
    result = MakeimlistResult(targets=(one,), expected=1, intent="TARGET", specmode="cont", datatype="RAW")
    looked = Context(run_name="r", root=Path("/r"), values={"hif.continuum": {}})
    assert combine(img.images_listed(result, looked)) == score


def test_no_images_are_a_fault_only_where_they_were_refused():
    nothing = MakeimagesResult(images=(), expected=0)
    refused = Context(run_name="r", root=Path("/r"), values={"hif.size_mitigation": {"status": "ERROR"}})
    assert combine(img.images_made(nothing, refused)) == 0.0
    assert combine(img.images_made(nothing, Context(run_name="r", root=Path("/r")))) is None


def test_spacings_left_out_by_rule_are_told_and_those_left_out_by_hand_are_not():
    by_rule = target(uvrange=">2klambda", reasons={"uvrange": "very extended emission"})
    result = MakeimlistResult(targets=(by_rule,), expected=1, intent="TARGET", specmode="cont", datatype="RAW")
    context = Context(run_name="r", root=Path("/r"))
    assert combine(img.images_listed(result, context)) == 0.9
    by_hand = attrs.evolve(result, targets=(target(uvrange=">2klambda"),))
    assert combine(img.images_listed(by_hand, context)) == 1.0


def made(rms: float, diverged: bool = False, **changes: object) -> MadeImage:
    attempt = Attempt(
        gain=0.1, cyclefactor=1.0, nsigma=4.0, niter=10, masking="auto", stop_code=5 if diverged else 2, iterations=3,
        major_cycles=1, residual_peak=1.0, threshold_jy=None, diverged=diverged, reason="it grew",
    )  # fmt: skip
    numbers = ImageNumbers(
        peak=0.05, minimum=-0.01, rms=rms, unit="Jy/beam", beam=None, peak_pixel=(0, 0, 0), shape=(64, 64, 1, 1),
        mask_pixels=0, expected_rms=0.001,
    )  # fmt: skip
    return MadeImage(
        target=target(**changes),
        name="x",
        files={"image": "x.image"},
        numbers=numbers,
        dirty_peak=1.0,
        attempts=(attempt,),
    )


def images(*found: MadeImage, expected: int = 1, failures: tuple[ItemFailure, ...] = ()) -> dict[str, QAScore]:
    return by_metric(img.images_made(MakeimagesResult(images=found, expected=expected, failures=failures)))


def test_an_image_at_the_noise_of_its_data_is_good_and_one_far_above_is_not() -> None:
    assert images(made(0.001))["image.noise_ratio"].score == pytest.approx(1.0, abs=0.01)
    # Half way between 1 and 5 the error function is at its middle: 0.34 + 0.66/2; the peak adds next to nothing.
    assert images(made(0.003))["image.noise_ratio"].score == pytest.approx(0.67, abs=2e-3)
    assert images(made(0.01))["image.noise_ratio"].score == pytest.approx(0.34, abs=1e-3)


def test_flux_densities_that_clean_did_not_settle_cost_score_and_are_named() -> None:
    def found(missing: float, error: float = 0.001, below: float = 0.0) -> QAScore:
        islands = (
            IslandFlux(pixel=(64, 64), flux_jy=0.12, missing=0.001, error=error),
            IslandFlux(pixel=(40, 71), flux_jy=0.06, missing=missing, error=error, below=below),
        )
        return images(attrs.evolve(made(0.001), islands=islands, sidelobe=0.57))["image.convergence"]

    assert found(0.02).score == 1.0
    # (23 % - 3 · 0.1 %) of half the brightest: beyond 5 % of it.
    low = found(0.23)
    assert low.score == pytest.approx(0.34)
    assert "(40, 71)" in low.long and "57 %" in low.long
    assert found(0.23, error=0.08).score == 1.0  # noise
    assert found(0.23, below=0.24).score == 1.0  # an extended source's plateau, which clean leaves on purpose
    # (−23 % + 18 % + 0.3 %) of half the brightest: 2.35 %.
    assert found(-0.23, below=0.18).score == pytest.approx(1 - 0.66 * (0.0235 - 0.02) / 0.03)
    assert "image.convergence" not in images(made(0.001))


def test_a_diverged_or_missing_image_scores_zero() -> None:
    assert images(made(0.001, diverged=True))["image.diverged"].score == 0.0
    assert images(expected=1, failures=(ItemFailure("x", "no data"),))["images.made"].score == 0.0
    assert images(made(0.001), expected=2)["images.made"].score == 0.5


def test_noise_at_a_thousandth_of_the_peak_is_the_calibrations_and_not_the_images() -> None:
    # 1 mJy of noise beside a source of 1 Jy, where the visibilities promise 0.01 mJy: a dynamic range of 1000.
    bright = made(0.001)
    bright = attrs.evolve(bright, numbers=attrs.evolve(bright.numbers, peak=1.0, expected_rms=1e-5))
    score = images(bright)["image.noise_ratio"]
    assert score.score is not None and score.score > 0.99 and "self-calibration would lower it" in score.long
    # The same noise beside 0.2 Jy is five times too much.
    faint = attrs.evolve(bright, numbers=attrs.evolve(bright.numbers, peak=0.2))
    low = images(faint)["image.noise_ratio"]
    assert low.score == pytest.approx(0.34, abs=0.01)
    assert "sidelobes" in low.long and "self-calibration would" not in low.long  # that is not what ails it
    # At the receivers' noise there is nothing to be done.
    good = attrs.evolve(bright, numbers=attrs.evolve(bright.numbers, rms=1.5e-5))
    assert images(good)["image.noise_ratio"].long.endswith("allows 1 mJy/beam.")


def test_antennas_that_are_flagged_do_not_raise_the_dynamic_range_that_can_be_reached() -> None:
    # 27 antennas reach 1000; of these, 7 with data have 21 of 351 baselines: 1000 · √(21/351) = 245.
    image = made(0.001, antennas=27)
    left = attrs.evolve(image, numbers=attrs.evolve(image.numbers, antennas=7, peak=1.0, expected_rms=1e-5))
    assert "a dynamic range of 245" in images(left)["image.noise_ratio"].long


def test_few_antennas_reach_a_lower_dynamic_range() -> None:
    assert img.attainable_range(27) == pytest.approx(1000.0)
    # 28 of 351 baselines: √(28/351) = 0.2824.
    assert img.attainable_range(8) == pytest.approx(282.4, abs=0.1)
    assert img.attainable_range(60) == 1000.0 and img.attainable_range(0) == 1000.0


def test_a_residual_that_was_not_cleaned_is_noticed() -> None:
    def left(peak: float) -> QAScore:
        image = made(0.001)
        return images(attrs.evolve(image, attempts=(attrs.evolve(image.attempts[0], residual_peak=peak),)))[
            "image.residual"
        ]

    assert left(0.005).score == pytest.approx(1.0, abs=0.01)
    shallow = left(0.06)
    assert shallow.score == pytest.approx(0.34, abs=0.01) and "shallow" in shallow.long


def test_dynamic_range_counts_for_calibrators_only() -> None:
    assert "image.dynamic_range" not in images(made(0.001))
    # 0.05/0.001 = 50: (50 − 5)/95.
    assert images(made(0.001, intent="PHASE"))["image.dynamic_range"].score == pytest.approx(45 / 95)


def test_nothing_to_do_is_no_score_and_a_refusal_is_none_at_all() -> None:
    for result in (
        FindcontResult(found=(), expected=0, datatype="", skipped="No lines."),
        UvcontsubResult(subtractions=(), outputs={}, skipped="No lines."),
    ):
        (found,) = _scores(result)
        assert (found.score, found.long) == (None, "No lines.")
        (found,) = _scores(attrs.evolve(result, skipped="", refusal="Too large."))
        assert (found.score, found.long) == (0.0, "Too large.")


def test_windows_without_continuum_cost_their_part() -> None:
    fit = Subtraction(
        vis="a.ms", outputvis="b.ms", field="f", field_id=0, spw=0, channels="", order=1, reason=""
    )
    lacking = ItemFailure("a.ms, f, spw 1", "hif_findcont found no continuum.")
    (found,) = _scores(UvcontsubResult(subtractions=(fit,), outputs={"a.ms": "b.ms"}, failures=(lacking,)))
    assert found.score == 0.5 and "1 of 2" in found.long and "a.ms, f, spw 1" in found.long


def _scores(result: FindcontResult | UvcontsubResult) -> list[QAScore]:
    found = (
        img.continuum_found(result) if isinstance(result, FindcontResult) else img.continuum_subtracted(result)
    )
    return found if isinstance(found, list) else [found]
