"""Bandwidths of images, by hand."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pl_hif.measure import bandwidths, covered
from pl_hif.targets import CleanTarget, Selection


def context() -> Any:
    """Two windows of 64 channels of 2 MHz, the second half over the first and descending."""
    rows = {
        0: (5.001e9 + 2e6 * np.arange(64), np.full(64, 2e6)),
        1: (5.191e9 - 2e6 * np.arange(64), np.full(64, -2e6)),
    }
    table = SimpleNamespace(getcell=lambda column, row: rows[row][column == "CHAN_WIDTH"])
    return SimpleNamespace(casa=SimpleNamespace(table=lambda path: contextlib.nullcontext(table)))


def target(**changes: Any) -> CleanTarget:
    known = {
        "field": "S", "intent": "TARGET", "spws": (0, 1), "specmode": "cont", "imagename": "x", "cell_arcsec": 1.0,
        "imsize": (64, 64),
        "selections": (
            Selection(vis="a", path="a", field="0", spw="0:4~59,1", column="data"),
            Selection(vis="b", path="b", field="0", spw="0,1", column="data"),
        ),
    }  # fmt: skip
    return CleanTarget(**{**known, **changes})


def test_frequencies_count_once_in_however_many_sets_they_are() -> None:
    assert covered([(0, 2), (1, 3), (5, 6), (5.2, 5.8)]) == 4
    found = bandwidths(context(), target())
    # 5.000 to 5.128 and 5.064 to 5.192 GHz.
    assert found["bandwidth_hz"] == pytest.approx(192e6)
    assert found["effective_bandwidth_hz"] == pytest.approx(192e6)
    alone = target(selections=(Selection(vis="a", path="a", field="0", spw="0:4~9;50~59", column="data"),))
    assert bandwidths(context(), alone)["effective_bandwidth_hz"] == pytest.approx(32e6)
    assert bandwidths(context(), alone)["bandwidth_hz"] == pytest.approx(128e6)


def test_a_plane_of_a_cube_is_a_channel() -> None:
    assert set(bandwidths(None, target(specmode="cube", width_hz=-62.5e3)).values()) == {62.5e3}
