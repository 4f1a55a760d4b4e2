"""What renderers can rely on when they write a page."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest

from pl_kernel.errors import PlError
from pl_kernel.serialize import read_json
from pl_kernel.weblog.names import slug
from pl_kernel.weblog.page import Link, Page, PageRecord, Pictures, Score, Table, make_page, picture_size


def _load_sample() -> ModuleType:
    spec = importlib.util.spec_from_file_location("weblog_sample", Path(__file__).with_name("weblog_sample.py"))
    assert spec and spec.loader
    module = sys.modules.setdefault("weblog_sample", importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module


sample = _load_sample()
PNG: bytes = sample.TINY
FakeContext = Any


@pytest.fixture
def ctx(tmp_path: Path) -> FakeContext:
    return sample.FakeContext(tmp_path, 1, "my_stage")


def draw_number(ctx_item: Any, item: int, path: Path) -> dict[str, float] | bool:
    if item == 13:
        raise ValueError("thirteen brings bad luck")
    if item == 0:
        return False
    if item < 0:
        return {}  # claims success, but draws nothing
    path.write_bytes(PNG)
    return {"number": item}


def test_page_json_reads_back_as_it_was_written(ctx: FakeContext) -> None:
    page = Page(ctx, "Title")
    page.section("Fluxes")
    page.table(["Field", "Flux"], [["3C286", 15.016], ["<b>x</b>", math.nan]], units={"Flux": "Jy"}, filters=["field"])
    page.facts({"Reference antenna": "ea05", "Table": Link("open", "stage:3#x")})
    page.text("All well.")
    page.write()
    record = read_json(ctx.stage_dir / "page.json", PageRecord)
    assert record == page.record()
    table = record.sections[0].blocks[0]
    assert isinstance(table, Table)
    assert table.rows == (("3C286", 15.016), ("<b>x</b>", "NaN"))
    assert (table.units, table.filters) == (("", "Jy"), ("Field",))


def test_a_formatted_number_keeps_its_exact_value_for_sorting(ctx: FakeContext) -> None:
    page = Page(ctx)
    page.table(["Flux"], [[15.01649]], formats={"flux": ".2f"})
    table = page.record().sections[0].blocks[0]
    assert isinstance(table, Table)
    assert table.rows[0][0] == {"kind": "number", "value": 15.01649, "text": "15.02"}


def test_a_table_with_a_short_row_or_a_filter_on_no_column_is_refused(ctx: FakeContext) -> None:
    page = Page(ctx)
    with pytest.raises(PlError, match="Row 1 of table 'fluxes' has 1 cells for 2 columns"):
        page.table(["a", "b"], [[1, 2], [1]], caption="fluxes")
    with pytest.raises(PlError, match="column 'spw'; the table has a, b"):
        page.table(["a", "b"], [], filters=["spw"])
    with pytest.raises(PlError, match="1 units for 2 columns"):
        page.table(["a", "b"], [], units=["Jy"])


def test_a_plot_that_fails_is_a_note_and_the_others_stand(ctx: FakeContext) -> None:
    page = Page(ctx)
    drawn = page.plots(draw_number, [1, 13, 0, -1, 2], caption=lambda n: f"number {n}", tags=lambda n: {"spw": n})
    group = page.record().sections[0].blocks[0]
    assert isinstance(group, Pictures)
    assert drawn == 2
    assert [p.caption for p in group.pictures] == ["number 1", "number 2"]
    assert group.failed == (
        "number 13: ValueError: thirteen brings bad luck",
        "number -1: draw_number wrote no picture",
    )
    assert group.pictures[0].tags == {"spw": "1"}
    assert group.pictures[0].facts == (("number", 1),)
    assert (group.pictures[0].width, group.pictures[0].height) == (2, 1)
    assert len(ctx.log.records) == 2


def test_hostile_names_make_harmless_and_distinct_file_names(ctx: FakeContext) -> None:
    names = ["<b>x</b>", "A\"B'", "../x", "x", "été", "a/b", "a\\b", ".hidden", "日本", "", "x" * 300]
    page = Page(ctx)
    for name in names:
        page.plots(draw_number, [1], tags={"field": name}, name="field")
    files = [p.file for b in page.record().sections[0].blocks if isinstance(b, Pictures) for p in b.pictures]
    assert len(set(files)) == len(files)
    for file in files:
        assert (ctx.stage_dir / file).is_file()
        assert (ctx.stage_dir / file).parent == ctx.stage_dir / "plots"
        assert set(file) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-/")
        assert len(Path(file).name) < 150
    assert len({slug(n) for n in names}) == len(names)
    assert slug("3C286") == "3C286"


def test_a_renderer_that_raises_leaves_a_note_and_the_result_itself_is_shown(ctx: FakeContext) -> None:
    @attrs.frozen(kw_only=True)
    class FluxResult:
        flux_jy: float
        tables: dict[str, str]
        effects: tuple[str, ...] = ("hidden",)

    def broken(page: Page, ctx: Any, result: FluxResult) -> None:
        page.section("Before")
        page.text("written before the failure")
        raise KeyError("spw 3")

    failures = make_page(ctx, FluxResult(flux_jy=2.5, tables={"a.ms": "a.tbl"}), [broken])
    assert len(failures) == 1 and "broken failed: KeyError: 'spw 3'" in failures[0]
    text = (ctx.stage_dir / "page.json").read_text()
    record = json.loads(text)
    assert [s["title"] for s in record["sections"]] == ["Before", "Result"]
    facts, table = record["sections"][1]["blocks"]
    assert facts["items"] == [["Flux jy", 2.5]]
    assert table["rows"] == [["a.ms", "a.tbl"]]
    assert "hidden" not in text


def test_pictures_and_downloads_outside_the_run_are_refused(ctx: FakeContext, tmp_path: Path) -> None:
    page = Page(ctx)
    outside = tmp_path / "elsewhere.png"
    outside.write_bytes(PNG)
    with pytest.raises(PlError, match="outside the stage's folder"):
        page.image(outside)
    with pytest.raises(PlError, match="outside the run folder"):
        page.download("/etc/passwd")
    with pytest.raises(PlError, match="leads out of the run folder"):
        page.download("../x")


def test_consecutive_images_form_one_group_and_a_missing_one_is_named(ctx: FakeContext) -> None:
    for n in range(2):
        (ctx.stage_dir / f"{n}.png").write_bytes(PNG)
    page = Page(ctx)
    page.image("0.png", "zero", {"field": "a"})
    page.image("1.png", "one")
    page.image("2.png", "two")
    first, second = page.record().sections[0].blocks
    assert isinstance(first, Pictures) and isinstance(second, Pictures)
    assert [p.caption for p in first.pictures] == ["zero", "one"]
    assert second.failed == ("two: there is no such picture",)


def test_anchors_are_unique_and_scores_are_cells(ctx: FakeContext) -> None:
    page = Page(ctx)
    for _ in range(2):
        page.section("Gain solutions")
        page.table(["Score"], [[Score(0.5)]])
    sections = page.record().sections
    assert [s.anchor for s in sections] == ["gain-solutions", "gain-solutions-2"]
    assert sections[0].blocks[0].rows == (({"kind": "score", "score": 0.5, "text": ""},),)  # type: ignore[attr-defined]


def test_size_of_svg_in_points_comes_out_in_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    path.write_text('<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="72pt" height="36pt"></svg>')
    assert picture_size(path) == (96, 48)  # CSS: 72 pt = 1 inch = 96 px
    assert picture_size(tmp_path / "absent.png") == (0, 0)
