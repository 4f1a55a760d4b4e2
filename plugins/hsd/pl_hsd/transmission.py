"""The atmosphere above single-dish spectra: its lines, and its transmission for pictures."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pl_hsd.groups import ReductionGroup
from pl_hsd.ranges import RealSpw, SpectralRanges
from pl_kernel.common.skylines import affected, model_opacity
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.stage_context import StageContext


def sky_lines(ctx: StageContext, ms: MeasurementSet, spw: RealSpw) -> SpectralRanges:
    """Channels with lines of the atmosphere; none where the site is unknown."""
    opacity = _opacity(ctx, ms, spw)
    return SpectralRanges() if opacity is None else SpectralRanges.from_mask(affected(opacity))


def write_transmissions(ctx: StageContext, groups: Iterable[ReductionGroup]) -> dict[str, str]:
    """Write transmissions at zenith by channel; files in the stage's folder by window (number in the run).

    Windows of observations whose site is unknown have none.
    """
    found: dict[str, str] = {}
    for group in groups:
        spw = str(int(group.spw))
        if spw in found:
            continue
        member = group.members[0]
        opacity = _opacity(ctx, ctx.context.measurement_set(member.origin), member.origin_spw)
        if opacity is not None and np.isfinite(opacity).all():
            (ctx.stage_dir / "air").mkdir(exist_ok=True)
            found[spw] = f"air/spw{spw}.npy"
            np.save(ctx.stage_dir / found[spw], np.exp(-opacity), allow_pickle=False)
    return found


def _opacity(ctx: StageContext, ms: MeasurementSet, spw: RealSpw) -> NDArray[np.float64] | None:
    site = ctx.telescope(ms).site
    return None if site is None else model_opacity(ctx.casa, site, ms, ms.spw(int(spw)).centres_hz)
