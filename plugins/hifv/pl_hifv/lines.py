"""Which windows hold spectral lines, as the import stage decided."""

from __future__ import annotations

from typing import Any

from pl_hifv.heuristics.bands import is_line_window
from pl_kernel.ms.model import MeasurementSet

KEY = "hifv.line_spws"
"""Run value: real ids of the line windows by measurement set."""


def line_spws(ctx: Any, ms: MeasurementSet) -> tuple[int, ...]:
    """Real ids of the line windows of a measurement set, or of the one it was made from; by the general rule where
    nobody has decided."""
    decided = ctx.value(KEY) or {}
    for name in (ms.name, ms.origin):
        if name in decided:
            present = {int(s.id) for s in ms.spws}
            return tuple(int(s) for s in decided[name] if int(s) in present)
    return tuple(
        int(w.id) for w in ms.science_spws if is_line_window(w.band, w.min_hz, w.bandwidth_hz, w.n_channels)
    )
