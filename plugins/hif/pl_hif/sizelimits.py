"""What hif_checkproductsize decided, for the stages that have to heed it."""

from __future__ import annotations

from typing import Any

from pl_hif.targets import SIZE_MITIGATION
from pl_kernel.stage_context import StageContext


def decided(ctx: StageContext) -> dict[str, Any]:
    """The decision; empty where the stage did not run."""
    return dict(ctx.value(SIZE_MITIGATION) or {})


def refusal(ctx: StageContext) -> str:
    """Why nothing is to be imaged; empty where the images fit."""
    found = decided(ctx)
    if found.get("status") != "ERROR":
        return ""
    reason = str(found.get("reason") or "The images would be too large.")
    return f"hif_checkproductsize refused to make images of the targets. {reason}"
