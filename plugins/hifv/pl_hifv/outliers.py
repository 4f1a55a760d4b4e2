"""Gains of calibrators that are off the mean of their field: they mark times of bad data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import attrs
import numpy as np

from pl_hif import solve
from pl_hifv.calibrators import BandSelection
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.stage_context import StageContext

CLIP = (0.9, 1.1)
"""Gains further off from their mean mark times of bad data (reference pipeline, 2026)."""


@attrs.frozen(kw_only=True)
class FlaggedGain:
    """Data of a calibrator flagged in the copy because the gain was off its mean; ``amplitude`` relative to it.

    ``time_s`` is the middle of the solution in MJD seconds.
    """

    antenna: str
    spw: int
    pol: int
    scan: int
    time_s: float
    amplitude: float


def outlying_gains(ctx: StageContext, copy: MeasurementSet, band: BandSelection, path: str) -> list[FlaggedGain]:
    """Solutions of a normalised table whose amplitude is more than 10 % off."""
    found = []
    for spw in band.spws:
        solutions = solve.read_solutions(ctx, path, spw)
        amplitude = np.abs(solutions.gain)
        off = ~solutions.flag & ((amplitude < CLIP[0]) | (amplitude > CLIP[1]))
        for pol, channel, row in zip(*np.nonzero(off), strict=True):
            found.append(
                FlaggedGain(
                    antenna=copy.antenna(int(solutions.antenna[row])).name, spw=spw, pol=int(pol),
                    scan=int(solutions.scan[row]), time_s=float(solutions.time_s[row]),
                    amplitude=float(amplitude[pol, channel, row]),
                )
            )  # fmt: skip
    return found


def flag_commands(outliers: Iterable[FlaggedGain], hands: Sequence[str], interval_s: float) -> list[str]:
    """Commands of flagdata that flag the data behind these solutions, and no others.

    hands : correlation of each receptor.  interval_s : length of a solution.
    """
    return [
        f"mode='manual' antenna='{o.antenna}' spw='{o.spw}' scan='{o.scan}' correlation='{hands[o.pol]}'"
        f" timerange='{_time_range(o.time_s, interval_s)}'"
        for o in outliers
        if o.pol < len(hands)
    ]


def _time_range(middle_s: float, length_s: float) -> str:
    """CASA's selection of an interval around a time in MJD seconds."""
    epoch = datetime(1858, 11, 17, tzinfo=UTC)
    ends = (epoch + timedelta(seconds=middle_s + half) for half in (-length_s / 2, length_s / 2))
    return "~".join(end.strftime("%Y/%m/%d/%H:%M:%S.%f")[:-5] for end in ends)
