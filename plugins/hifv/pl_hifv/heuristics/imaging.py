"""What the VLA does differently from the general rules of imaging (reference pipeline, 2026)."""

from __future__ import annotations

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
