"""Apply the calibration library to the data of an interferometer."""

from __future__ import annotations

from pl_kernel.common.applycal import Applied, ApplycalResult, ApplyStage, BasicApplycalInputs

__all__ = ["Applied", "Applycal", "ApplycalInputs", "ApplycalResult"]


class ApplycalInputs(BasicApplycalInputs):
    """What the data are; all of them are calibrated."""


class Applycal(ApplyStage[ApplycalInputs]):
    __doc__ = ApplyStage.__doc__

    name = "hif_applycal"
