"""Amplitudes of the shortest and of middle baselines, for the rule about very extended emission."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pl_hif.grids import UvSample
from pl_hif.heuristics import uvrange
from pl_hif.heuristics.imaging import C_M_S, Choice
from pl_hif.targets import Selection
from pl_kernel.stage_context import StageContext

_ROWS = 2_000
"""Rows of a window and a range of baselines that are looked at: a mean amplitude of them is good to a few per cent."""
_COLUMN = {"corrected": "CORRECTED_DATA", "data": "DATA"}


def short_spacings(ctx: StageContext, selections: Sequence[Selection], samples: Sequence[UvSample]) -> Choice:
    """The range of baselines for a continuum image, by `uvrange.extended_emission`.

    The longest baseline is that of the unflagged data at the highest window; the reference pipeline (2026) takes it
    from the first measurement set only, and the amplitudes, too.
    """
    longest = max(float(np.hypot(*s.uv_m).max()) * s.highest_hz / C_M_S for s in samples)
    short: list[float] = []
    middle: list[float] = []
    for part in selections:
        for spw in dict.fromkeys(int(piece.partition(":")[0]) for piece in part.spw.split(",")):
            for found, (low, high) in ((short, uvrange.SHORT), (middle, uvrange.MIDDLE)):
                found.append(_mean_amplitude(ctx, part, spw, low * longest, high * longest))
    return uvrange.extended_emission(longest, short, middle)


def _mean_amplitude(ctx: StageContext, part: Selection, spw: int, low: float, high: float) -> float:
    """Mean amplitude (Jy) of the parallel hands on baselines between two lengths in wavelengths; NaN without any."""
    with ctx.casa.table(f"{part.path}/SPECTRAL_WINDOW") as table:
        wavelength = C_M_S / float(np.mean(table.getcell("CHAN_FREQ", spw)))
    with ctx.casa.table(f"{part.path}/DATA_DESCRIPTION") as table:
        ids = [i for i, s in enumerate(table.getcol("SPECTRAL_WINDOW_ID").tolist()) if s == spw]
    with ctx.casa.table(part.path) as table:
        # Squares: CASA's queries know no hypotenuse.
        length = "SUMSQR(UVW[1:2])"
        chosen = table.query(
            f"DATA_DESC_ID IN {ids} && FIELD_ID IN [{part.field}] && ANTENNA1!=ANTENNA2"
            f" && {length}>={(low * wavelength) ** 2!r} && {length}<{(high * wavelength) ** 2!r} && NOT ALL(FLAG)"
        )
        try:
            rows = chosen.nrows()
            if not rows:
                return float("nan")
            step = max(1, -(-rows // _ROWS))
            data = chosen.getcol(_COLUMN[part.column], 0, -1, step)
            bad = chosen.getcol("FLAG", 0, -1, step)
        finally:
            chosen.close()
    hands = [0, data.shape[0] - 1] if data.shape[0] in (2, 4) else [0]
    good = ~bad[hands]
    return float(np.abs(data[hands][good]).mean()) if good.any() else float("nan")
