"""The factors from kelvin to jansky that the run has learnt."""

from __future__ import annotations

from collections.abc import Mapping

from pl_hsd.heuristics.jyperk import Key
from pl_hsd.rows import origin_name
from pl_kernel.effects import SetValue
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.stage_context import StageContext

KEY = "hsd.k2jy"


def k2jy(ctx: StageContext, ms: MeasurementSet | str) -> dict[Key, float]:
    """Jy/K by (real spw of the imported set, antenna name, correlation); empty where none are known."""
    found = ctx.value(KEY, {}).get(origin_name(ctx, ms), [])
    return {(int(spw), str(antenna), str(pol)): float(factor) for spw, antenna, pol, factor in found}


def remember(ctx: StageContext, found: Mapping[str, Mapping[Key, float]]) -> SetValue:
    """The effect that keeps the factors of imported measurement sets, beside those known already."""
    lists = {vis: [[*key, value] for key, value in sorted(factors.items())] for vis, factors in found.items()}
    return SetValue(KEY, {**ctx.value(KEY, {}), **lists})
