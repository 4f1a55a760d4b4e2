"""Tables of rows on disk, and rows found again in derived measurement sets."""

from __future__ import annotations

from multiprocessing.reduction import ForkingPickler as Sent
from pathlib import Path
from types import SimpleNamespace

import attrs
import numpy as np
import pytest

from pl_hsd.rowmap import match_rows, spw_translation, translations
from pl_hsd.rows import COLUMNS, PER_POLARIZATION, Header, RowTable, origin_name, ragged_of, spans_of, write_table
from pl_kernel import DataError, InputError
from pl_kernel.effects import SetValue
from pl_kernel.ms.samples import sample_ms


def context(work: Path, *sets, values=None, stage: int = 3):
    """As much of a stage's context as a table asks for."""
    return SimpleNamespace(
        work=work, stage_number=stage, context=SimpleNamespace(measurement_sets=sets, values=dict(values or {}))
    )


@pytest.fixture
def table(tmp_path: Path):
    n = 6
    columns = {name: np.zeros((n, 2) if name in PER_POLARIZATION else n) for name in COLUMNS}
    columns["antenna"] = np.array([0, 1, 0, 1, 0, 1])
    columns["spw"] = np.array([4, 4, 6, 6, 4, 4])
    columns["on_source"] = np.array([1, 1, 1, 1, 0, 0])
    columns["online_valid"] = np.array([[1, 1], [0, 0], [1, 0], [1, 1], [1, 1], [1, 1]])
    columns["ra_deg"] = np.linspace(10, 11, n)
    write_table(tmp_path / "a.rows", Header(ms="a.ms", n_rows=n, npol=2), columns)
    ms = sample_ms("a.ms")
    return context(tmp_path, ms), ms


def test_columns_come_back_as_they_were_written(table) -> None:
    ctx, ms = table
    rows = RowTable.open(ctx, ms)
    assert (rows.n, rows.npol) == (6, 2)
    np.testing.assert_allclose(rows["ra_deg"], np.linspace(10, 11, 6))
    assert rows["antenna"].dtype == np.int32
    assert isinstance(rows["ra_deg"], np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        rows["ra_deg"][0] = 5.0


def test_rows_are_selected_by_what_they_are(table) -> None:
    rows = RowTable.open(*table)
    assert rows.select(antenna=0).tolist() == [0, 2, 4]
    assert rows.select(antenna=1, spw=4, on_source=True).tolist() == [1]
    assert rows.select(antenna=1, on_source=True, valid=True).tolist() == [3]


def test_a_new_column_leaves_the_old_file_alone(table) -> None:
    """A run that goes back must see what was there: only the effect makes the new file the current one."""
    ctx, ms = table
    rows = RowTable.open(ctx, ms)
    effects = rows.with_columns(ctx, {"ra_deg": np.full(6, 5.0), "own_column": np.arange(6)})
    np.testing.assert_allclose(RowTable.open(ctx, ms)["ra_deg"], np.linspace(10, 11, 6))
    later = context(ctx.work, ms, values={e.key: e.value for e in effects})
    assert RowTable.open(later, ms)["ra_deg"].tolist() == [5.0] * 6
    assert RowTable.open(later, ms)["own_column"].tolist() == list(range(6))
    assert rows.after(effects)["ra_deg"].tolist() == [5.0] * 6
    assert "own_column" in rows.after(effects)
    assert "own_column" not in rows


def test_two_sets_may_change_columns_in_one_stage(table) -> None:
    ctx, ms = table
    keys = {e.key for e in RowTable.open(ctx, ms).with_columns(ctx, {"ra_deg": np.zeros(6), "dec_deg": np.zeros(6)})}
    assert keys == {"hsd.columns/a.ms/ra_deg", "hsd.columns/a.ms/dec_deg"}


def test_columns_of_another_length_are_refused(table) -> None:
    ctx, ms = table
    rows = RowTable.open(ctx, ms)
    with pytest.raises(InputError, match="6 rows"):
        rows.with_columns(ctx, {"ra_deg": np.zeros(5)})
    with pytest.raises(InputError, match="6 rows"):
        rows.with_columns(ctx, {"tsys_k": np.zeros(6)})


def test_line_masks_have_any_number_of_spans_per_row(table) -> None:
    ctx, ms = table
    rows = RowTable.open(ctx, ms)
    offsets, spans = rows.ragged("line_mask")
    assert len(spans) == 0
    assert offsets.tolist() == [0] * 7
    effects = rows.with_ragged(ctx, "line_mask", *ragged_of([[], [(3, 9)], [(1, 2), (5, 7)], [], [], [(0, 0)]]))
    offsets, spans = rows.after(effects).ragged("line_mask")
    assert spans_of(offsets, spans, 2).tolist() == [[1, 2], [5, 7]]
    assert spans_of(offsets, spans, 3).tolist() == []
    assert spans_of(offsets, spans, 5).tolist() == [[0, 0]]
    with pytest.raises(InputError, match="offsets"):
        rows.with_ragged(ctx, "line_mask", np.array([0, 1]), np.zeros((1, 2)))


def test_a_table_travels_to_another_process_by_its_names(table) -> None:
    rows = RowTable.open(*table)
    rows["ra_deg"]
    assert len(Sent.dumps(rows)) < 3000
    assert Sent.loads(Sent.dumps(rows))["antenna"].tolist() == rows["antenna"].tolist()


def test_a_set_without_a_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"other\.ms has no table"):
        RowTable.open(context(tmp_path, sample_ms("other.ms")), "other.ms")


def test_derived_sets_have_the_table_of_their_origin(table) -> None:
    ctx, ms = table
    child = attrs.evolve(ms, name="a.ms.atmcor", origin="a.ms")
    grandchild = attrs.evolve(ms, name="a.ms.atmcor_bl", origin="a.ms.atmcor")
    ctx = context(ctx.work, ms, child, grandchild)
    assert origin_name(ctx, grandchild) == "a.ms"
    assert RowTable.open(ctx, "a.ms.atmcor_bl").ms == "a.ms"
    # The one between has been replaced since: the chain still ends somewhere sensible.
    assert origin_name(context(ctx.work, ms, grandchild), grandchild) == "a.ms.atmcor"


def test_setvalue_keeps_the_name_of_the_file(table) -> None:
    ctx, ms = table
    (effect,) = RowTable.open(ctx, ms).with_columns(ctx, {"tsys_k": np.ones((6, 2))})
    assert effect == SetValue("hsd.columns/a.ms/tsys_k", "tsys_k.s3.npy")


# ---- rows in derived sets --------------------------------------------------------------------------------------------


def main(times, antennas, descriptions, **more):
    n = len(times)
    base = {k: np.zeros(n, dtype=int) for k in ("OBSERVATION_ID", "SCAN_NUMBER", "FIELD_ID", "FEED1")}
    return {**base, "TIME": np.array(times, dtype=float), "ANTENNA1": np.array(antennas),
            "DATA_DESC_ID": np.array(descriptions), **{k: np.array(v) for k, v in more.items()}}  # fmt: skip


def test_rows_are_found_after_selection_sorting_and_renumbering() -> None:
    origin = main([10, 10, 10, 10, 20, 20], [0, 1, 0, 1, 0, 1], [4, 4, 6, 6, 4, 4])
    derived = main([20.00001, 10, 10], [1, 1, 0], [0, 1, 0])  # windows 4, 6 became 0, 1; times lost a digit
    found = match_rows(origin, derived, {"DATA_DESC_ID": {4: 0, 6: 1}}, np.arange(6))
    assert found.tolist() == [2, -1, -1, 1, -1, 0]


def test_rows_of_other_scans_and_beams_are_others() -> None:
    origin = main([10, 10], [0, 0], [0, 0], SCAN_NUMBER=[1, 1], FEED1=[0, 1])
    derived = main([10, 10], [0, 0], [0, 0], SCAN_NUMBER=[2, 1], FEED1=[0, 1])
    assert match_rows(origin, derived, {}, np.arange(2)).tolist() == [-1, 1]


def test_ids_that_the_derived_set_lacks_match_nothing() -> None:
    origin = main([10, 10], [0, 1], [4, 4])
    assert match_rows(origin, main([10], [0], [4]), {"ANTENNA1": {0: 0}}, np.arange(2)).tolist() == [0, -1]
    assert match_rows(origin, main([], [], []), {}, np.arange(2)).tolist() == [-1, -1]


def test_a_large_set_is_matched_row_for_row() -> None:
    rng = np.random.default_rng(4)
    times = 5.2e9 + np.repeat(np.arange(20000) * 0.144, 4)
    origin = main(times, np.tile([0, 1, 2, 3], 20000), np.zeros(80000, dtype=int))
    order = rng.permutation(80000)[:50000]
    derived = {k: v[order] for k, v in origin.items()}
    found = match_rows(origin, derived, {}, np.arange(80000))
    np.testing.assert_array_equal(found[order], np.arange(50000))
    assert (found == -1).sum() == 30000


def test_windows_are_translated_by_what_they_are_not_by_their_ids() -> None:
    one = sample_ms("a.ms", n_spws=3)
    other = attrs.evolve(
        one, spws=tuple(attrs.evolve(s, id=i) for i, s in enumerate(one.spws[1:])),
        data_descriptions=tuple(attrs.evolve(d, id=i, spw_id=i) for i, d in enumerate(one.data_descriptions[1:])),
    )  # fmt: skip
    assert spw_translation(one, other) == {1: 0, 2: 1}
    assert translations(one, other)["DATA_DESC_ID"] == {1: 0, 2: 1}
