"""Profile maps: which cell shows what, and that nothing is lost when spectra are thinned for a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pl_hsd.heuristics.cubes import sparse_edges
from pl_hsd.imagenoise import _masks
from pl_hsd.weblog.profilemaps import ProfileMap, _thinned, draw_profile_map, pages


def profiles(rows: int, columns: int, channels: int) -> ProfileMap:
    rng = np.random.default_rng(1)
    return ProfileMap(
        spectra=rng.normal(0, 1, (rows, columns, channels)), frequency_hz=np.linspace(230e9, 230.1e9, channels),
        x_offset=np.linspace(60, -60, columns), y_offset=np.linspace(-60, 60, rows),
        line_masks={(0, 0): [(3, 7)], (rows - 1, columns - 1): [(10, 20)]},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("first", "last", "pixels", "most"), [(5, 60, 4, 7), (0, 6, 4, 7), (3, 3, 5, 7), (0, 500, 5, 48)]
)
def test_cells_are_equal_inside_the_map_and_wide_enough(first: int, last: int, pixels: int, most: int) -> None:
    edges = sparse_edges(first, last, pixels, most)
    widths = np.diff(edges)
    assert len(set(widths)) == 1 and len(widths) <= most
    assert edges[0] >= first and edges[-1] <= last + 1
    assert widths[0] >= min(pixels, last - first + 1)
    # No more than a cell's width is left over, shared by both ends.
    assert (edges[0] - first) + (last + 1 - edges[-1]) < len(widths)
    assert abs((edges[0] - first) - (last + 1 - edges[-1])) <= 1


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (9, 17), (24, 5)])
def test_pages_hold_every_cell_once(shape: tuple[int, int]) -> None:
    seen = np.zeros(shape, int)
    for rows, columns in pages(*shape):
        assert rows.stop - rows.start <= 8 and columns.stop - columns.start <= 8
        seen[rows, columns] += 1
    assert (seen == 1).all()


def test_a_part_keeps_its_masks_and_the_average_of_all() -> None:
    whole = profiles(4, 5, 64)
    part = whole.part(slice(2, 4), slice(3, 5))
    assert part.line_masks == {(1, 1): [(10, 20)]}
    np.testing.assert_allclose(part.mean_spectrum(), whole.spectra.reshape(-1, 64).mean(axis=0))
    assert part.x_offset.tolist() == whole.x_offset[3:].tolist()


def test_thinning_keeps_extremes() -> None:
    spectrum = np.random.default_rng(2).normal(0, 1, 4096)
    spectrum[1234], spectrum[77] = 50.0, -40.0
    _, shown = _thinned(np.linspace(0, 1, 4096), spectrum)
    assert shown.size <= 260 and shown.max() == 50.0 and shown.min() == -40.0


@pytest.mark.parametrize("scale", ["common", "each"])
def test_a_picture_shows_the_spectra_that_exist(tmp_path: Path, scale: str) -> None:
    found = profiles(3, 4, 300)
    found.spectra[1, 2] = np.nan
    facts = draw_profile_map(tmp_path / "p.png", found, title="A & <b>", subtitle="all antennas", scale=scale)
    assert facts["Spectra"] == 11 and (tmp_path / "p.png").stat().st_size > 5000
    found.spectra[:] = np.nan
    assert draw_profile_map(tmp_path / "q.png", found, scale=scale)["Spectra"] == 0


def test_line_masks_of_rows_are_those_of_each_row() -> None:
    offsets = np.array([0, 2, 2, 3])
    spans = np.array([[2, 4], [8, 30], [0, 0]], np.int32)
    mask = _masks(offsets, spans, np.array([2, 0, 1]), 10)
    expected = np.zeros((3, 10), bool)
    expected[0, 0] = True
    expected[1, 2:5] = expected[1, 8:] = True
    np.testing.assert_array_equal(mask, expected)
