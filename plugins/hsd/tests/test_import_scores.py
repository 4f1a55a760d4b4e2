"""Scores of imports that are about the measurement sets themselves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pl_hsd.groups import Member, ReductionGroup
from pl_hsd.qa import importsets as qa
from pl_kernel.ms.virtual import RealSpw, VirtualSpw


def imported(name: str, ra: float = 1.0, *, origins: tuple[str, ...] = (), moving: bool = False) -> Any:
    field = SimpleNamespace(name="M 100", ra_rad=ra, dec_rad=0.0, is_moving=moving)
    ms = SimpleNamespace(name=name, history_origins=origins, fields_with_intent=lambda intent: (field,))
    return SimpleNamespace(ms=ms)


def group(spw: int, *sets: str, field: str = "M 100") -> ReductionGroup:
    members = tuple(Member(n, 0, RealSpw(spw), 0, n, RealSpw(spw), 0, "PM01") for n in sets)
    return ReductionGroup(spw, VirtualSpw(spw), f"window {spw}", field, 1e11, 1.01e11, 512, members)


def result(*sets: Any, groups: tuple[ReductionGroup, ...] = ()) -> Any:
    return SimpleNamespace(imported=sets, groups=groups)


def test_a_window_without_a_like_in_another_block_is_named() -> None:
    two = imported("a.ms"), imported("b.ms")
    (good,) = qa.windows_match(result(*two, groups=(group(17, "a.ms", "b.ms"),)))
    assert good.score == 1.0
    scores = qa.windows_match(result(*two, groups=(group(17, "a.ms", "b.ms"), group(19, "a.ms"), group(21, "b.ms"))))
    assert [(s.score, s.applies_to.spw, s.applies_to.vis) for s in scores] == [
        (0.0, ("19",), ("b.ms",)), (0.0, ("21",), ("a.ms",)),
    ]  # fmt: skip
    # A target that one block did not observe at all is no mismatch, and a single block has nothing to match.
    (apart,) = qa.windows_match(result(*two, groups=(group(17, "a.ms"), group(17, "b.ms", field="M 101"))))
    assert apart.score == 1.0
    assert qa.windows_match(result(two[0], groups=(group(17, "a.ms"),))) == []


@pytest.mark.parametrize(
    ("origins", "score"),
    [(("importasdm", "flagdata"), 1.0), (("importasdm", "applycal"), 0.75), (("sdbaseline",), 0.75)],
)
def test_one_of_two_sets_that_was_processed_costs_a_quarter(origins: tuple[str, ...], score: float) -> None:
    (found,) = qa.not_processed_before(result(imported("a.ms", origins=origins), imported("b.ms")))
    assert found.score == score and found.applies_to.vis == (("a.ms",) if score < 1 else ())


def test_a_target_at_zero_has_lost_its_ephemeris_unless_one_is_attached() -> None:
    sets = imported("a.ms", 0.0), imported("b.ms", 0.0, moving=True)
    (found,) = qa.targets_have_coordinates(result(*sets))
    assert found.score == 0.5 and "M 100 of a.ms" in found.long
    assert qa.targets_have_coordinates(result(sets[1]))[0].score == 1.0
