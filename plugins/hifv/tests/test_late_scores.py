"""Scores of the later stages fall where an operator has to look, and name the data."""

from __future__ import annotations

import attrs
import numpy as np
import pytest

from pl_hif.flags import FlagCounts
from pl_hifv.heuristics.antenna_weights import box
from pl_hifv.models import UnitModel
from pl_hifv.occupancy import FlagMap
from pl_hifv.qa import delivery, fluxboot
from pl_hifv.stages.applycals import ApplycalsResult
from pl_hifv.stages.fluxboot import FluxbootResult
from pl_hifv.stages.mstransform import MstransformResult, Split
from pl_hifv.stages.statwt import BandWeights, StatwtResult
from pl_kernel.context import Context
from pl_kernel.ms.samples import sample_ms
from pl_kernel.qa import QAScore

ANTENNAS = tuple(f"ea{i:02d}" for i in range(1, 11))


def by_metric(scores: list[QAScore]) -> dict[str, QAScore]:
    return {s.metric: s for s in scores}


def flags(target: float, *dead: str, others: float = 0.0) -> FlagMap:
    """Ten antennas with 100 visibilities each in one window; of 1000 of the target ``target`` are flagged."""
    return FlagMap(
        antennas=ANTENNAS, spws=(0,), total=((100.0,),) * 10,
        flagged=tuple((100.0 if a in dead else others,) for a in ANTENNAS),
        by_field={"M51": (1000 * target, 1000.0), "J1310": (0.0, 1000.0)},
    )  # fmt: skip


# ---- hifv_applycals --------------------------------------------------------------------------------------------------


def applied(before: FlagMap, after: FlagMap, **more: object) -> dict[str, QAScore]:
    result = ApplycalsResult(
        applied=(), before={"a.ms": before}, after={"a.ms": after}, target_fields={"a.ms": ("M51",)}, **more
    )
    return by_metric(delivery.calibration_applied(result))


@pytest.mark.parametrize(("newly", "score"), [(0.2, 1.0), (0.515, 0.5), (0.8, 0.0)])
def test_targets_that_the_calibration_flags(newly: float, score: float) -> None:
    # From 0.24 to 0.79: 0.515 is half way. The calibrator in the same set does not thin it.
    found = applied(flags(0.1), flags(0.1 + newly))["applycals.newly_flagged"]
    assert found.score == pytest.approx(score)
    assert found.applies_to.field == ("M51",) and f"{100 * newly:.2f}%" in found.long


def test_antennas_without_calibration_are_named() -> None:
    assert "applycals.lost_antennas" not in applied(flags(0.0), flags(0.0))
    # 0.9 for none to 0 for five of ten.
    found = applied(flags(0.0), flags(0.2, "ea03", "ea07"))["applycals.lost_antennas"]
    assert found.score == pytest.approx(0.9 * 3 / 5)
    assert found.applies_to.antenna == ("ea03", "ea07") and "ea03, ea07" in found.long
    # One that was flagged before lost nothing now.
    assert "applycals.lost_antennas" not in applied(flags(0.0, "ea03"), flags(0.0, "ea03"))


def test_tables_left_out_and_fields_without_calibration_want_an_operator() -> None:
    found = applied(
        flags(0.0), flags(0.0), dropped={"a.ms": ("x.finalBPcal.tbl",)}, uncalibrated={"a.ms": ("J9",)}
    )  # fmt: skip
    assert found["applycals.dropped"].score == 0.3 and "x.finalBPcal.tbl" in found["applycals.dropped"].long
    assert found["applycals.uncalibrated"].score == 0.5 and "J9" in found["applycals.uncalibrated"].long


def test_without_counts_there_is_nothing_to_say() -> None:
    (one,) = delivery.calibration_applied(ApplycalsResult(applied=()))
    assert one.score == 1.0 and "switched off" in one.long


# ---- hifv_statwt -----------------------------------------------------------------------------------------------------


def weighed(values: list[np.ndarray], newly: float = 0.0, **more: object) -> dict[str, QAScore]:
    every = np.concatenate(values)
    good = every[np.isfinite(every)]
    band = BandWeights(
        vis="a.ms", band="C", mean=float(good.mean()) if good.size else float("nan"),
        variance=float(good.var()) if good.size else float("nan"),
        antennas=[box(a, v) for a, v in zip(ANTENNAS, values, strict=False)], spws=(), scans=(),
    )  # fmt: skip
    result = StatwtResult(
        mode="VLA", before=(band,), after=(band,), flags_before={"a.ms": flags(0.0)},
        flags_after={"a.ms": flags(0.0, others=100 * newly)}, **more,
    )  # fmt: skip
    return by_metric(delivery.weights_plausible(result))


USUAL = [np.full(50, 14.0)] * 5


def test_what_statwt_flags_counts_above_two_percent() -> None:
    assert weighed(USUAL, 0.019)["statwt.newly_flagged"].score == 1.0
    found = weighed(USUAL, 0.03)["statwt.newly_flagged"]
    assert found.score == 0.4 and "3.00%" in found.long


def test_means_and_missing_weights() -> None:
    assert weighed(USUAL)["statwt.mean"].score > 0.9
    high = weighed([v * 1e4 for v in USUAL])["statwt.mean"]
    assert high.score is not None and high.score < 0.75 and "high" in high.long
    nothing = weighed([np.full(5, np.nan)] * 3)["statwt.mean"]
    assert nothing.score == 0.0 and "flagged" in nothing.long


def test_an_antenna_with_other_weights_is_named() -> None:
    assert "statwt.outlying" not in weighed(USUAL)
    found = weighed([*USUAL[:4], np.full(50, 2.0)])["statwt.outlying"]
    assert found.score is not None and found.score < 0.9 and found.applies_to.antenna == ("ea05",)


def test_cont_dat_is_said() -> None:
    found = weighed(USUAL, contdat={"a.ms": ("M51",)})["statwt.contdat"]
    assert found.score == 1.0 and "M51" in found.long


# ---- hifv_mstransform ------------------------------------------------------------------------------------------------


def test_targets_that_were_not_split_off() -> None:
    made = Split(vis="a.ms", kind="continuum", name="a_targets_cont.ms", path="p", rows=7, fields=("M51",))
    for split, score in ((made, 1.0), (attrs.evolve(made, rows=0), 0.0)):
        found = by_metric(delivery.targets_split(MstransformResult(splits=(split,))))["mstransform.made"]
        assert found.score == score


# ---- hifv_fluxboot ---------------------------------------------------------------------------------------------------


def scored(**what: object) -> list[QAScore]:
    usual = {"points": (), "spectra": (), "references": {"sample.ms C": ("3C286",)}, "expected": {}}
    context = Context(run_name="r", root=None, measurement_sets=(sample_ms(name="sample.ms"),))  # type: ignore[arg-type]
    return fluxboot.flux_densities(FluxbootResult(**{**usual, **what}), context)  # type: ignore[arg-type]


def test_flux_densities_that_are_missing_are_named() -> None:
    found = by_metric(scored(expected={"sample.ms C": ("J1310", "J1407")}))["flux.derived"]
    assert found.score == 0.0 and "J1310" in found.long and "J1407" in found.long


def test_flags_of_the_calibrators_and_lost_windows() -> None:
    def counts(first: float, second: float) -> dict[str, FlagCounts]:
        by = {"spw": {"0": (first, 100.0), "1": (second, 100.0)}}
        return {"sample.ms": FlagCounts(name="c", flagged=first + second, total=200.0, by=by)}

    good = by_metric(scored(flag_counts=counts(5.0, 5.0)))
    assert good["flux.flagged"].score == pytest.approx(0.95) and "flux.lost_spw" not in good
    bad = by_metric(scored(flag_counts=counts(5.0, 80.0)))
    assert bad["flux.flagged"].score == pytest.approx(1 - 85 / 200)
    assert bad["flux.lost_spw"].score == pytest.approx(0.2) and bad["flux.lost_spw"].applies_to.spw == ("1",)
    assert len([s for s in scored(flag_counts=counts(60.0, 100.0)) if s.metric == "flux.lost_spw"]) == 2


def test_a_calibrator_that_is_still_one_jansky() -> None:
    found = by_metric(scored(unit=(UnitModel(vis="sample.ms", field="J1310", spws=(0,)),)))["flux.model"]
    assert found.score == 0.33 and found.applies_to.field == ("J1310",)
