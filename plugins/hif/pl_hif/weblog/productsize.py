"""Page of the predicted image sizes."""

from __future__ import annotations

from typing import Any

from pl_hif.heuristics.productsize import largest_cube_gb, product_gb
from pl_hif.stages.checkproductsize import CheckproductsizeResult
from pl_kernel.weblog.page import Page, renderer


@renderer(CheckproductsizeResult)
def checkproductsize_page(page: Page, ctx: Any, result: CheckproductsizeResult) -> None:
    """Allowed, predicted and mitigated sizes, and what was decided."""
    page.section("Sizes", anchor="sizes")
    page.note(result.reason, {"OK": "info", "MITIGATED": "warning", "ERROR": "error"}[result.status])  # type: ignore[arg-type]
    if result.crowded:
        page.note(
            "There are more than 30 targets, and more than 960 channels to image of each: this takes long.", "warning"
        )
    limits = result.limits

    def limit(value: float) -> float | str:
        return "none" if value == -1 else value

    if limits.by_bytes:
        last = "none" if limits.last_gb == -1 else f"{limits.last_gb:g} GB"
        page.table(
            ["Size", "Allowed", "Predicted", "Mitigated"],
            [["Largest cube", limit(limits.maxcubesize), largest_cube_gb(result.before), largest_cube_gb(result.after)],
             ["All products", limit(limits.maxproductsize), product_gb(result.before), product_gb(result.after)]],
            units={"Allowed": "GB", "Predicted": "GB", "Mitigated": "GB"}, caption="Sizes",
            formats={"Predicted": ".3g", "Mitigated": ".3g"},
        )  # fmt: skip
        page.facts({
            "Limit of a cube": last,
            "Binning": ", ".join(f"spw {s}: {n}" for s, n in result.nbins.items()) or "none",
            "Field of view": result.hm_imsize or "default", "Cell": result.hm_cell or "default",
            "Fields": ", ".join(result.fields) or "all", "Spws": ", ".join(map(str, result.spws)) or "all",
        })  # fmt: skip
    if not result.before:
        return
    after = {(s.field, s.spws): s for s in result.after}
    page.table(
        ["Field", "Spw", "Pixels", "Channels", "Pixels made", "Channels made"],
        [[s.field, ",".join(map(str, s.spws)), f"{s.nx} × {s.ny}", s.nchan,
          f"{a.nx} × {a.ny}" if (a := after.get((s.field, s.spws))) else "not imaged", a.nchan // a.nbin if a else None]
         for s in result.before],
        caption="Images predicted, and after mitigation", filters=("field", "spw"),
    )  # fmt: skip
