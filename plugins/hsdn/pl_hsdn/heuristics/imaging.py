"""How maps of the 45-m telescope are made."""

from __future__ import annotations

from pl_hsd.heuristics.mapgeometry import ImagingRules
from pl_kernel import heuristic


@heuristic("hsd.imaging_rules", telescope="NRO")
def imaging_rules() -> ImagingRules:
    """Three pixels per beam, no margin; beams and correlations are products of their own (reference pipeline, 2026)."""
    return ImagingRules(
        cells_per_beam=3.0, margin=0, convsupport=3, kernel_1d=0.5592, kernel_2d=0.3193, raw_correlations=True,
        register_antennas=True, prefix=False, sky_lines=False,
    )  # fmt: skip
