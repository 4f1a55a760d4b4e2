"""Scorers of the VLA's own stages, with good and with bad numbers."""

from __future__ import annotations

import pytest

from pl_hif.flags import FlagCounts
from pl_hifv.qa import scores
from pl_hifv.stages.flagdata import FlagdataResult, MsFlags
from pl_hifv.stages.importdata import ImportdataResult, IntentSource
from pl_hifv.stages.priorcals import Prior, PriorcalsResult
from pl_hifv.stages.vlasetjy import ModelFlux, StandardField, VlasetjyResult
from pl_kernel.qa import combine


def count(name: str, flagged: float) -> FlagCounts:
    return FlagCounts(name=name, flagged=flagged, total=100.0, by={"spw": {"0": (flagged, 100.0)}})


def flagged(*counts: FlagCounts, line: bool = True) -> float | None:
    one = MsFlags(vis="a.ms", counts=counts, commands={}, line_spws=("0",) if line else ())
    return combine(scores.deterministic_flags(FlagdataResult(sets=(one,))))


def test_planned_flags_cost_nothing() -> None:
    assert flagged(count("before", 0.0), count("clip", 0.0), count("autocorr", 10.0), count("edgespw", 20.0)) == 1.0


def test_lost_data_cost_their_share_of_sixty_percent() -> None:
    # 18 of the 90 cross-correlations are gone: 1 − 0.2/0.6.
    assert flagged(count("before", 0.0), count("autocorr", 10.0), count("quack", 28.0)) == pytest.approx(2 / 3)


def test_data_that_came_flagged_count_as_lost() -> None:
    assert flagged(count("before", 60.0)) == 0.0


@pytest.mark.parametrize(
    ("line", "zeros", "expected"), [(True, 2.0, 0.3), (False, 2.0, 1 - 0.02 / 0.6), (False, 6.0, 0.3)]
)
def test_zeros(line: bool, zeros: float, expected: float) -> None:
    assert flagged(count("before", 0.0), count("clip", zeros), line=line) == pytest.approx(expected)


def test_doubtful_intents_are_a_warning_and_none_are_an_error() -> None:
    def score(source: str, doubts: tuple[str, ...] = ()) -> float | None:
        result = ImportdataResult(
            imported=(), intents=(IntentSource(vis="a.ms", source=source, doubts=doubts),), spws=(), missing_scans={}
        )
        return combine(scores.imported(result))

    assert score("data") == 1.0 and score("inferred") == 0.95
    assert score("inferred", ("No standard.",)) == 0.6 and score("none") == 0.0


def test_a_recipe_for_calibrated_data_wants_what_others_fear() -> None:
    def result(**what: object) -> ImportdataResult:
        return ImportdataResult(
            imported=(), intents=(), spws=(), missing_scans={}, has_history={"a.ms": True}, **what
        )

    found = {s.metric: s for s in scores.imported(result())}
    assert found["import.processed_before"].score == 0.5
    assert "import.calibrated" not in found
    found = {s.metric: s for s in scores.imported(result(calibrated={"a.ms": True, "b.ms": False}))}
    assert found["import.calibrated"].score == 0.5
    assert "b.ms" in found["import.calibrated"].long and "a.ms" not in found["import.calibrated"].long
    assert "import.processed_before" not in found


def standard(fraction: float) -> StandardField:
    return StandardField(vis="a.ms", field="f", calibrator="3C286", flagged_fraction=fraction, offset_arcsec=0.0)


def model() -> ModelFlux:
    return ModelFlux(
        vis="a.ms", field="f", spw=0, band="L", frequency_hz=1.4e9, calibrator="3C286", model="3C286_L.im",
        stokes_jy=(15.0, 0.0, 0.0, 0.0),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("models", "expected", "fraction", "score"),
    [(1, 1, 0.2, 1.0), (1, 2, 0.2, 0.5), (0, 1, 0.2, 0.0), (1, 1, 0.999, 0.0)],
)
def test_standard_calibrators(models: int, expected: int, fraction: float, score: float) -> None:
    result = VlasetjyResult(
        fluxes=(model(),) * models, standards=(standard(fraction),), standard="x", expected=expected
    )
    assert combine(scores.standards_present(result)) == score


def test_no_standard_scores_zero() -> None:
    assert combine(scores.standards_present(VlasetjyResult(fluxes=(), standards=(), standard="x", expected=0))) == 0.0


def test_missing_priors() -> None:
    made = Prior(vis="a.ms", kind="opac", caltable="t", expected=True)
    lost = Prior(vis="a.ms", kind="gceff", expected=True, reason="CASA wrote no table")
    skipped = Prior(vis="a.ms", kind="rq", reason="too old")
    assert scores.priors_made(PriorcalsResult(priors=(made, skipped))).score == 1.0
    assert scores.priors_made(PriorcalsResult(priors=(made, lost))).score == 0.5
    assert scores.priors_made(PriorcalsResult(priors=(skipped,))).score is None


def test_a_template_of_the_user_wants_a_look() -> None:
    counts = (count("before", 0.0), count("template", 1.0))
    for commands, expected in (({"template": ("antenna='ea01'",)}, [0.3]), ({"clip": ("mode='clip'",)}, [])):
        sets = (MsFlags(vis="a.ms", counts=counts, commands=commands),)
        found = scores.deterministic_flags(FlagdataResult(sets=sets))
        assert [s.score for s in found if s.metric == "flags.template"] == expected


def test_flags_of_the_user_on_targets_want_a_look() -> None:
    from pl_hifv.occupancy import FlagMap
    from pl_hifv.qa.delivery import user_flags
    from pl_hifv.stages.flagtargetsdata import FlagtargetsdataResult, TargetFlags

    before, after = (FlagMap(antennas=("ea01",), spws=(0,), flagged=((n,),), total=((10.0,),)) for n in (1.0, 3.0))
    for commands, score in ((("antenna='ea01'",), 0.3), ((), 1.0)):
        one = TargetFlags(vis="a.ms", file="", commands=commands, before=before, after=after)
        (found,) = user_flags(FlagtargetsdataResult(sets=(one,)))
        assert found.score == score and "20.00%" in found.long


def test_line_windows_with_the_flags_they_came_with_cost_score() -> None:
    from pl_hifv.qa.delivery import targets_split
    from pl_hifv.stages.mstransform import AS_THEY_CAME, MstransformResult, Split

    whole = Split(vis="a.ms", kind="continuum", name="c.ms", path="c.ms", rows=5)
    for line, expected in (
        (Split(vis="a.ms", kind="line", name="l.ms", reason=AS_THEY_CAME, doubtful=True), [0.5, 1.0]),
        (Split(vis="a.ms", kind="line", reason="there are no line windows."), [1.0]),
    ):
        assert [s.score for s in targets_split(MstransformResult(splits=(whole, line)))] == expected


def test_counts_by_purpose_add_up_scans_and_count_a_scan_for_each_of_its_purposes() -> None:
    from types import SimpleNamespace

    from pl_hifv.weblog.pages import by_purpose

    counted = FlagCounts(
        name="clip", flagged=7.0, total=30.0, by={"scan": {"1": (1.0, 10.0), "2": (2.0, 10.0), "3": (4.0, 10.0)}}
    )
    scans = [(1, {"BANDPASS", "AMPLITUDE"}), (2, {"PHASE"}), (3, {"PHASE"}), (4, {"TARGET"})]
    ms = SimpleNamespace(scans=[SimpleNamespace(id=i, intents=intents) for i, intents in scans])
    assert by_purpose(counted, ms).by == {
        "purpose": {"BANDPASS": (1.0, 10.0), "PHASE": (6.0, 20.0), "AMPLITUDE": (1.0, 10.0)}
    }
