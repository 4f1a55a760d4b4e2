"""Pages of delivery and restore, for the stages of every telescope."""

from __future__ import annotations

from typing import Any

from ..weblog.page import Link, Page, renderer
from .applypages import applied_table
from .exportdata import ExportdataResult, Exported
from .restoredata import RestoredataResult

GROUPS = (
    ("Images", "images", ("fits",)),
    ("Calibration", "calibration", ("flags", "applied", "caltables", "baselines", "restore", "ms")),
    ("Scripts and reports", "scripts", ("script", "report", "weblog", "manifest", "auxiliary")),
)
"""Headings of the page, anchors, and the kinds of products below them; other kinds follow the last."""


@renderer(ExportdataResult)
def exportdata_page(page: Page, ctx: Any, result: ExportdataResult) -> None:
    """The products, by what they are for."""
    for failure in result.failures:
        page.note(f"{failure.item}: {failure.reason}", "error")
    total = sum(p.size_bytes for p in result.products)
    page.facts({
        "Products": len(result.products), "Size": f"{total / 1e6:.1f} MB", "Manifest": _link(result.manifest),
        **{f"Session {name}": ", ".join(sets) for name, sets in result.sessions.items()},
    })  # fmt: skip
    listed = {kind for _, _, kinds in GROUPS for kind in kinds}
    for title, anchor, kinds in GROUPS:
        _products(page, title, anchor, [p for p in result.products if p.kind in kinds])
    _products(page, "Others", "others", [p for p in result.products if p.kind not in listed])


def _products(page: Page, title: str, anchor: str, products: list[Exported]) -> None:
    if not products:
        return
    page.section(title, anchor=anchor)
    # Names of images say what they are of.
    of = {p.name: p.source or "the run" for p in products if p.kind != "fits"}
    page.table(
        ["File", *(["Of"] if of else []), "Content", "Size"],
        [[_link(p.name), *([of[p.name]] if of else []), p.doc or p.kind, p.size_bytes / 1e6] for p in products],
        units={"Size": "MB"}, formats={"Size": ".2f"},
    )  # fmt: skip


def _link(name: str) -> Link:
    return Link(name, f"products/{name}")


@renderer(RestoredataResult)
def restoredata_page(page: Page, ctx: Any, result: RestoredataResult) -> None:
    """What was restored from what."""
    page.section("Restored", anchor="restored")
    for one in result.sets:
        for what in one.missing:
            page.note(f"{one.vis}: the delivery lacks {what}.", "warning")
        page.facts({
            "Measurement set": one.vis, "Products": one.products, "Made with CASA": one.casa or "unknown",
            "Made with pl": one.pl or "unknown", **one.facts, "Flag versions": ", ".join(one.versions),
        })  # fmt: skip
    page.section("Applied calibration", anchor="applied")
    applied_table(page, result.applied)
