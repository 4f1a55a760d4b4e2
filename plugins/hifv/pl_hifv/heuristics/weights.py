"""Weights of VLA data."""

from __future__ import annotations

from pl_hifv.heuristics.imaging import VLA
from pl_kernel import heuristic


@heuristic("calibration.calwt", telescope=VLA)
def calwt(kind: str) -> bool:
    """Never: the VLA's raw weights are no noise estimates, so gains say nothing of them (reference pipeline, 2026)."""
    return False
