"""Page of hsdn_restoredata."""

from __future__ import annotations

from typing import Any

from pl_hsdn.scaling import FILE
from pl_hsdn.stages.restoredata import NobeyamaRestoredataResult
from pl_kernel.common.delivery_pages import restoredata_page as common_page
from pl_kernel.weblog.page import Page, renderer


@renderer(NobeyamaRestoredataResult)
def restoredata_page(page: Page, ctx: Any, result: NobeyamaRestoredataResult) -> None:
    """What was restored, and by which factors the spectra were multiplied."""
    common_page(page, ctx, result)
    page.section("Scaling factors", anchor="factors")
    if not result.file:
        page.note(f"There was no {FILE}: the spectra were restored as they were.")
        return
    for remark in result.remarks:
        page.text(remark)
    changed = [f for f in result.factors if f.factor != 1.0]
    if not changed:
        page.note(f"All {len(result.factors)} factors are 1: the spectra were restored as they were.")
    page.table(
        ["Measurement set", "Beam", "Spw", "Polarization", "Factor"],
        [[f.vis, f.beam, f.spw, f.polarization, f.factor] for f in result.factors],
        filters=("beam", "spw"), formats={"Factor": ".4g"}, caption="Calibrated spectra are multiplied by these",
    )  # fmt: skip
