"""What the VLA does differently from the general rules of imaging (reference pipeline, 2026)."""

from __future__ import annotations

import math

from pl_hif.heuristics.imaging import Choice
from pl_kernel import heuristic

VLA = ("VLA", "EVLA", "JVLA")


@heuristic("imaging.robust", telescope=VLA)
def robust(specmode: str) -> Choice:
    """Natural weighting for cubes, where sensitivity counts; the compromise for continuum."""
    if specmode == "cube":
        return Choice(value=2.0, reason="VLA cubes are weighted for sensitivity.")
    return Choice(value=0.5, reason="VLA continuum images take the usual compromise between resolution and noise.")


@heuristic("imaging.view_level", telescope=VLA)
def view_level(specmode: str, lowest_hz: float) -> Choice:
    """Continuum images reach far out: bright sources in the sidelobes of the primary beam have to be cleaned."""
    if specmode == "cube":
        return Choice(value=None, reason="Cubes are 1.5 times as wide as the radius of the primary beam's first null.")
    if lowest_hz >= 17.9e9:
        return Choice(value=0.294, reason="Above 17.9 GHz the image reaches the first null of the primary beam.")
    return Choice(value=0.016, reason="Below 17.9 GHz the image reaches the second null of the primary beam.")


@heuristic("imaging.automask", telescope=VLA)
def automask(intent: str, specmode: str, baseline_75_m: float) -> dict[str, float | bool | int]:
    """Parameters of auto-multithresh for the VLA.

    Growing is not pruned, and one noise estimate serves: both cost half of the time of a cube and change nothing
    measurable.
    """
    return {
        "sidelobethreshold": 2.0, "noisethreshold": 5.0, "lownoisethreshold": 1.5, "negativethreshold": 0.0,
        "minbeamfrac": 0.3, "growiterations": 75, "dogrowprune": False, "fastnoise": True,
    }  # fmt: skip


@heuristic("imaging.deconvolver", telescope=VLA)
def deconvolver(specmode: str, bandwidth_fraction: float) -> tuple[str, int, str]:
    """Multi-term clean for all continuum, of two Taylor terms from a tenth of bandwidth on."""
    if specmode == "cube":
        return "hogbom", 1, "each channel is cleaned by itself"
    if bandwidth_fraction >= 0.1:
        return "mtmfs", 2, f"fractional bandwidth {bandwidth_fraction:.2f} is 0.1 or more: two Taylor terms"
    return "mtmfs", 1, f"fractional bandwidth {bandwidth_fraction:.2f} is below 0.1: one Taylor term"


@heuristic("imaging.limits_short_spacings", telescope=VLA)
def limits_short_spacings(specmode: str) -> bool:
    """Continuum images leave out the shortest spacings where these see very extended emission; cubes never do."""
    return specmode != "cube"


_PLANES = 384
_LENGTH_M = 20_000.0
"""Planes at S band with 20 km as the 75th percentile of the baselines, the VLA's A configuration."""


@heuristic("imaging.wproject_planes", telescope=VLA)
def wproject_planes(intent: str, band: str, baseline_75_m: float) -> Choice:
    """W projection for targets at L and S band: 384·B75/20 km planes, twice as many at L, where the field is wider."""
    if intent != "TARGET" or band not in ("L", "S"):
        return Choice(value=0, reason="W projection is for targets at L and S band")
    planes = math.ceil(_PLANES * baseline_75_m / _LENGTH_M * (2 if band == "L" else 1))
    return Choice(value=planes, reason=f"{planes} planes of W projection for baselines of {baseline_75_m / 1e3:.1f} km")


@heuristic("imaging.cubes_need_science_data", telescope=VLA)
def cubes_need_science_data() -> bool:
    """The VLA's windows are cubes only where hifv_mstransform split them off as line windows."""
    return True
