"""What a delivery of VLA data holds besides: smoothed and line windows, and the flags from before statwt.

The restore repeats hifv_statwt, which needs the flags as they were before it, and smooths what was smoothed.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from pl_hifv.lines import line_spws
from pl_kernel.common import delivery as common
from pl_kernel.common.delivery import Delivery
from pl_kernel.ms.model import MeasurementSet

PURPOSES = {**common.PURPOSES, "target": "hifv_checkflag_target-vla", "before_statwt": "statwt_1"}
"""Names of flag versions in a delivery, by purpose; the reference pipeline's."""


def state(ctx: Any, ms: MeasurementSet) -> dict[str, Any]:
    """Smoothed windows (None: not known) and line windows, by real id."""
    smoothed = (ctx.value("hifv.smoothed") or {}).get(ms.name)
    return {
        "smoothed": None if smoothed is None else [int(s) for s in smoothed],
        "lines": [int(s) for s in line_spws(ctx, ms)],
    }


IN_PLACE_UNTIL = (2026, 1, 1, 3)
"""Pipelines of the observatory before this one smoothed some of the windows in place: rows kept their raw order."""


def in_raw_order(found: Delivery, smoothed: Collection[int], ms: MeasurementSet) -> bool:
    """Whether the flags of a delivery are for rows in the order of the raw data, though some windows were smoothed.

    Smoothing of all windows was done by CASA's task then as now, which may sort the rows (reference pipeline, 2026).
    """
    version = tuple(int(n) for n in re.findall(r"\d+", found.pipeline)[:4])
    some = 0 < len(set(smoothed)) < len(ms.science_spw_ids)
    return some and not found.state.rows and bool(version) and version < IN_PLACE_UNTIL


def windows(found: Delivery, ms: MeasurementSet, name: str) -> tuple[int, ...] | None:
    """Windows of a delivery: ``smoothed`` or ``lines``; None where neither its record nor its manifest says."""
    if name in found.state.more:
        known = found.state.more[name]
        return None if known is None else tuple(int(s) for s in known)
    text = found.asdm.get({"smoothed": "smoothed_spws", "lines": "specline_spws"}[name])
    if text is None:
        return None
    return tuple(int(s) for s in ms.spw_ids(text)) if text.strip() not in ("", "none") else ()
