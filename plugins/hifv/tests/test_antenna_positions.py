"""Corrections of antenna positions: the observatory's list, worked out by hand."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from pl_hifv import antenna_positions as positions
from pl_hifv.heuristics.antenna_positions import offsets, parse_line

LIST = """<html><pre>
; MOVED OBSDATE Put_In_ MC(IAT)  ANT  PAD     Bx      By      Bz
          JAN27  FEB01 16:02     2  W36   0.0010 -0.0030  0.0015
          MAR10  MAR12 12:30     2  W36   0.0020  0.0000  0.0005
JAN20     JAN25  JAN26 01:00     3  E12   0.0100  0.0000  0.0000
          FEB10  FEB12 01:00     3  E12   0.0001  0.0002  0.0003
FEB20     FEB25  FEB26 01:00     4  N08   0.0500  0.0500  0.0500
          FEB28  MAR01 01:00     5  N16   0.0070  0.0000  0.0000
          DEC01  DEC02 01:00     2  W36   0.9000  0.9000  0.9000
</pre>""".splitlines()
PADS = {"ea02": "W36", "ea03": "E12", "ea04": "N04", "ea05": "N20"}


def corrections(limit_days: float, observed: datetime) -> dict[str, tuple[float, float, float]]:
    found = [c for line in LIST if (c := parse_line(line, 2024)) is not None]
    assert len(found) == 7
    return offsets(found, PADS, observed, limit_days)


def test_what_was_put_in_after_the_observation_is_summed() -> None:
    found = corrections(150, datetime(2024, 2, 1, 12))
    # ea02: both of spring, not December's, 306 days later. ea03 moved before: what was put in since. ea04 moved later:
    # its corrections are for another pad. ea05 stood on another pad than the correction is for.
    assert found == {
        "ea02": pytest.approx((0.003, -0.003, 0.002)), "ea03": pytest.approx((0.0001, 0.0002, 0.0003)),
    }  # fmt: skip


def test_what_was_put_in_before_is_in_the_data_already() -> None:
    assert corrections(150, datetime(2024, 2, 2))["ea02"] == pytest.approx((0.002, 0.0, 0.0005))
    assert corrections(0, datetime(2024, 4, 1))["ea02"] == pytest.approx((0.9, 0.9, 0.9))


MS = SimpleNamespace(
    start=datetime(2024, 2, 1, 12), name="day1.ms",
    antennas=[SimpleNamespace(name=n, station=p) for n, p in PADS.items()],
)  # fmt: skip


def test_only_the_years_of_the_limit_are_asked_for_and_the_answer_is_kept(tmp_path: Path) -> None:
    asked = []

    def fetch(address: str, timeout_s: float) -> list[str]:
        asked.append((address[-4:], timeout_s))
        return LIST

    found, source = positions.ask(MS, 150, 7.0, fetch)
    assert asked == [("2024", 7.0)]
    assert "2024" in source
    positions.write_offsets(tmp_path / "antennapos.csv", found, source)
    assert positions.read_offsets(tmp_path / "antennapos.csv", "day1.ms") == found


def test_a_list_that_does_not_come_is_a_reason_not_an_error() -> None:
    def fetch(address: str, timeout_s: float) -> list[str]:
        raise TimeoutError("timed out")

    found, reason = positions.ask(MS, 150, 0.1, fetch)
    assert not found
    assert "did not answer (timed out)" in reason
