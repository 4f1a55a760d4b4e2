"""How far the Earth's orientation is known: CASA's tables, and the score of data taken after them."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace
from typing import Any

import pytest

from pl_kernel.common.earth import earth_scores
from pl_kernel.common.earthtables import EarthTables, read_earth_tables

MJD_0 = dt.datetime(1858, 11, 17, tzinfo=dt.UTC)


def imported(mjd: float, earth: EarthTables | None) -> Any:
    return SimpleNamespace(ms=SimpleNamespace(name="a.ms", end=MJD_0 + dt.timedelta(days=mjd)), earth=earth)


@pytest.mark.parametrize(
    ("mjd", "score"),
    [(60000.0, 1.0), (60001.0, 0.9), (60091.0, 0.9), (60092.0, 0.5), (60300.0, 0.5), (60301.0, 0.3)],
)
def test_scores_by_the_day_of_the_last_integration(mjd: float, score: float) -> None:
    (found,) = earth_scores([imported(mjd, EarthTables(60000.0, 60300.0))])
    assert found.score == score
    assert ("2023-02-25" in found.long) and ("casadata" in found.long) == (score < 1)  # MJD 60000


def test_without_tables_nothing_is_known_and_old_runs_say_nothing() -> None:
    (found,) = earth_scores([imported(60000.0, EarthTables(0.0, 0.0))])
    assert found.score == 0.3 and "until never" in found.long
    assert earth_scores([imported(60000.0, None)]) == []


@pytest.mark.casa
def test_tables_of_casa_reach_into_this_decade() -> None:
    from pl_kernel.compute import Worker

    with Worker() as worker:
        measured, predicted = worker.call(limits)
    assert 60000 < measured < predicted  # MJD 60000: 2023-02-25


def limits() -> tuple[float, float]:
    import os

    from pl_kernel.casa import Casa, Recorder

    found = read_earth_tables(Casa(Recorder(), os.devnull))
    return found.measured_until, found.predicted_until
