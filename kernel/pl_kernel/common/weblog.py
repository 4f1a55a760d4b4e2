"""h_weblog: the web log, written now, and as an archive if wanted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..context import ProductRecord
from ..effects import AddProduct
from ..ms.selection import clean_file_name
from ..params import Inputs, param
from ..qa import QAScore, scorer
from ..stage import Result, Stage
from ..weblog.page import Link, Page, renderer
from .archives import pack
from .report import finished_stages

if TYPE_CHECKING:
    from ..stage_context import StageContext


class WeblogInputs(Inputs):
    """What is made of it."""

    pack: bool = param(False, doc="Write it as an archive into the products as well.")
    relpath: str | None = param(None, doc="Accepted for old scripts: the web log has one place.", hidden=True)


class WeblogResult(Result):
    """First page (seen from the run), stages with and without a page of their own, and the archive."""

    index: str
    stages: tuple[str, ...]
    without: tuple[str, ...]
    archive: str = ""
    size_bytes: int = 0


class Weblog(Stage[WeblogInputs, WeblogResult]):
    """Write the web log now.

    It is written after every stage anyway; this stage waits until the pages of all stages before are drawn, writes
    them, and can pack the whole for somebody who has no access to the run. ``pl weblog RUN`` opens it.
    """

    name = "h_weblog"
    topic = "misc"

    def run(self, ctx: StageContext, inputs: WeblogInputs) -> WeblogResult:
        from ..weblog.site import write_site

        root = ctx.context.root
        ctx.wait_for_pages()
        index = write_site(root, live=False)
        done = [(path, record) for path, record in finished_stages(root) if record.status == "ok"]
        archive, size = "", 0
        effects: tuple[AddProduct, ...] = ()
        if inputs.pack:
            name = f"{clean_file_name(ctx.context.recipe_name or ctx.context.run_name)}.weblog.tgz"
            path = pack(Path(ctx.products) / name, [(index.parent, f"{root.name}/weblog")])
            archive, size = name, path.stat().st_size
            product = ProductRecord(name=name, kind="weblog", stage=self.name, size_bytes=size, doc="web log")
            effects = (AddProduct(product),)
        return WeblogResult(
            index=str(index.relative_to(root)), stages=tuple(path.name for path, _ in done),
            without=tuple(path.name for path, _ in done if not (path / "page.json").is_file()),
            archive=archive, size_bytes=size, effects=effects,
        )  # fmt: skip


@scorer(WeblogResult)
def pages_written(result: WeblogResult) -> QAScore:
    """Every finished stage should have a page."""
    missing = len(result.without)
    return QAScore(
        metric="weblog.pages", value=len(result.stages) - missing, short=f"{len(result.stages) - missing} pages",
        score=1 - missing / len(result.stages) if result.stages else 1.0,
        long=f"The web log has pages of {len(result.stages) - missing} of {len(result.stages)} stages"
        + (f"; missing: {', '.join(result.without[:3])}." if missing else "."),
    )  # fmt: skip


@renderer(WeblogResult)
def weblog_page(page: Page, ctx: Any, result: WeblogResult) -> None:
    """Where it is."""
    page.section("Web log", anchor="weblog")
    archive = Link(result.archive, f"products/{result.archive}") if result.archive else "not wanted"
    page.facts({"Stages": len(result.stages), "First page": result.index, "Archive": archive})
    for name in result.without:
        page.note(f"Stage {name} has no page.", "warning")
