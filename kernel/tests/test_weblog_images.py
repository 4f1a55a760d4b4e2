"""Pictures of CASA images, checked on an image of which everything is known."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.casa
NX, NY, NCHAN, CELL = 40, 32, 7, 15.0
REST, STEP = 1.42040575e9, 24414.0625


def _sample() -> Any:
    spec = importlib.util.spec_from_file_location("weblog_sample", Path(__file__).with_name("weblog_sample.py"))
    assert spec and spec.loader
    module = sys.modules.setdefault("weblog_sample", importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def ctx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A context with CASA in this process, in a folder with an image; its file names are relative, as in a run."""
    from pl_kernel.casa import Casa, Recorder

    root = tmp_path_factory.mktemp("run")
    context = _sample().FakeContext(root, 1, "images")
    context.casa = Casa(Recorder(), root / "casa.log")
    make_cube(context, str(root / "cube.image"))
    context.root = root
    yield context


def make_cube(context: Any, path: str) -> None:
    """A line of 1, 2, 3, 2, 1 Jy/beam in channels 1 to 5 at column 10 (east of the centre), row 20; an edge masked."""
    image = context.casa.tool("image")
    try:
        image.fromshape(path, [NX, NY, 1, NCHAN], overwrite=True)
        system = image.coordsys()
        system.setunits(["arcmin", "arcmin", "", "Hz"])
        system.setreferencevalue([230.5 * 60, 5.0 * 60], "direction")
        system.setincrement([-CELL / 60, CELL / 60], "direction")
        system.setreferencepixel([20, 16], "direction")
        system.setrestfrequency(f"{REST}Hz")
        system.setreferencevalue(f"{REST}Hz", "spectral")
        system.setincrement(f"{STEP}Hz", "spectral")
        system.setreferencepixel(3, "spectral")
        image.setcoordsys(system.torecord())
        system.done()
        data = np.zeros((NX, NY, 1, NCHAN))
        data[10, 20, 0, 1:6] = [1, 2, 3, 2, 1]
        mask = np.ones(data.shape, dtype=bool)
        mask[0] = False
        image.putregion(pixels=data, pixelmask=mask, usemask=False)
        image.setbrightnessunit("Jy/beam")
        image.setrestoringbeam("51.4arcsec", "47.1arcsec", "-9.5deg")
    finally:
        image.close()
        image.done()


def test_an_image_is_read_with_north_up_east_left_and_its_axes(ctx: Any) -> None:
    from pl_kernel.weblog.images import read_cut

    cut = read_cut(ctx, str(ctx.root / "cube.image"))
    assert cut.plane.shape == (NY, NX)
    assert (cut.channel, cut.plane[20, 10]) == (3, 3.0)
    assert np.isnan(cut.plane[:, 0]).all() and np.isfinite(cut.plane[:, 1:]).all()
    assert cut.peak_map is not None and cut.peak_map[20, 10] == 3.0 and np.nansum(cut.peak_map) == 3.0
    assert cut.spectrum.tolist() == [0, 1, 2, 3, 2, 1, 0]
    assert cut.frequency_hz == pytest.approx(REST + STEP * (np.arange(NCHAN) - 3), abs=1.0)
    assert cut.rest_hz == pytest.approx(REST)
    assert (cut.ra_deg, cut.dec_deg, cut.cell_arcsec) == pytest.approx((230.5, 5.0, CELL))
    assert (cut.x0, cut.y0) == (20, 16)
    assert cut.beam == pytest.approx((51.4, 47.1, -9.5))
    assert cut.unit == "Jy/beam"
    assert cut.sample.size == (NX - 1) * NY * NCHAN


def test_small_blocks_give_the_same_as_one_large_one(ctx: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from pl_kernel.weblog import images

    whole = images.read_cut(ctx, str(ctx.root / "cube.image"))
    monkeypatch.setattr(images, "_BLOCK_PIXELS", 2 * NX * NY)
    pieces = images.read_cut(ctx, str(ctx.root / "cube.image"))
    assert (pieces.channel, pieces.sample.size) == (whole.channel, whole.sample.size)
    assert np.array_equal(pieces.peak_map, whole.peak_map, equal_nan=True)  # type: ignore[arg-type]


def test_images_appear_on_a_page_and_one_that_cannot_be_read_is_named(ctx: Any) -> None:
    from pl_kernel.context import ImageRecord
    from pl_kernel.weblog.images import show_images
    from pl_kernel.weblog.page import Page, Pictures

    page = Page(ctx)
    good = str(ctx.root / "cube.image")
    records = [ImageRecord(name=good, field="<b>x</b>", spws=(0,)), ImageRecord(name="absent.image", field="y")]
    assert show_images(page, ctx, records) == 1
    first, second = (b for b in page.record().sections[0].blocks if isinstance(b, Pictures))
    assert [p.tags["type"] for p in first.pictures] == ["plane", "peak", "spectrum", "histogram"]
    assert all((ctx.stage_dir / p.file).stat().st_size > 5000 for p in first.pictures)
    assert dict(first.pictures[0].facts)["peak"] == "3 Jy/beam"
    assert second.pictures == () and "absent.image" in second.failed[0]


def test_overview_pictures_of_a_measurement_set_can_be_drawn(ctx: Any, tiny_ms: Any, tmp_path: Path) -> None:
    from pl_kernel.ms.reader import read_measurement_set
    from pl_kernel.weblog.observation import KINDS, draw_observation
    from pl_kernel.weblog.page import picture_size

    ms = read_measurement_set(tiny_ms.path)
    drawn = draw_observation(ctx, ms, tmp_path)
    assert [p.name.split(".")[-2] for p in drawn] == list(KINDS)
    assert all(picture_size(p)[0] > 500 for p in drawn)
