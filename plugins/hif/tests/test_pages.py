"""Pages of the images: what is shown of a list, and that every list can be shown."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pl_hif.stages.makeimages import MakeimagesResult
from pl_hif.stages.makeimlist import MakeimlistResult
from pl_hif.targets import CleanTarget
from pl_hif.weblog.images import makeimages_page
from pl_hif.weblog.imaging import makeimlist_page
from pl_kernel.weblog.page import Note, Page, Table

PLAIN: dict[str, Any] = {
    "field": "A", "intent": "TARGET", "spws": (0, 1), "specmode": "cont", "imagename": "a", "selections": (),
    "cell_arcsec": 0.5, "imsize": (64, 32),
}  # fmt: skip
CUBE = {"specmode": "cube", "start_hz": 1.4e9, "width_hz": 4e3, "nchan": 9, "restfreq_hz": 1.42040575e9}


def blocks(tmp_path: Path, render: Any, result: Any) -> list[Any]:
    page = Page(SimpleNamespace(stage_dir=tmp_path, stage_number=1, stage_name="hif_makeimlist"))
    render(page, None, result)
    return [b for section in page.record().sections for b in section.blocks]


def listed(*targets: CleanTarget, **more: Any) -> MakeimlistResult:
    return MakeimlistResult(
        targets=targets, expected=len(targets), intent="TARGET", specmode="cont", datatype="RAW", **more
    )


@pytest.mark.parametrize(
    ("changes", "columns"),
    [
        ({}, set()),
        (CUBE, {"Start", "Width", "Channels", "Rest frequency"}),
        ({"uvrange": ">2klambda", "uvtaper": ("5klambda",)}, {"Baselines", "Taper"}),
        ({"gridder": "wproject", "wprojplanes": 12, "phasecenter": "J2000 0h 0d"}, {"Gridder", "Planes", "Centre"}),
    ],
)
def test_columns_are_those_that_some_image_makes_use_of(tmp_path, changes, columns):
    always = {"Field", "Intent", "Spw", "Kind", "Stokes", "Pixel", "Size", "Robust", "Deconvolver",
              "Beam (estimated)", "Image"}  # fmt: skip
    made = listed(CleanTarget(**{**PLAIN, **changes}), CleanTarget(**PLAIN))
    table = next(b for b in blocks(tmp_path, makeimlist_page, made) if isinstance(b, Table))
    assert set(table.columns) == always | columns
    assert len(table.rows) == 2


def test_an_empty_list_says_why(tmp_path):
    notes = [b for b in blocks(tmp_path, makeimlist_page, listed(refusal="Too large.")) if isinstance(b, Note)]
    assert "Too large." in str(notes[0])
    notes = [
        b for b in blocks(tmp_path, makeimages_page, MakeimagesResult(images=(), expected=0)) if isinstance(b, Note)
    ]
    assert notes
