"""The comparison that says that two runs gave the same numbers must see a difference in a single cell."""

from __future__ import annotations

import numpy as np
import pytest

from pl_kernel.casa import Casa, Recorder
from pl_kernel.compute import Worker
from pl_kernel.testing.tables import _equal, differences


def make_tables(folder, value, flag):
    casa = Casa(Recorder(), folder / "casa.log")
    (folder / "work").mkdir()
    tool = casa.tool("table")
    columns = {
        name: {"valueType": kind, "option": 0, "maxlen": 0, "dataManagerType": "", "dataManagerGroup": "", "ndim": 1,
               "comment": "", "keywords": {}}
        for name, kind in (("GAIN", "double"), ("FLAG", "boolean"))
    }  # fmt: skip
    tool.create(str(folder / "work/a.tbl"), tabledesc=columns, nrow=3)
    for row in range(3):
        tool.putcell("GAIN", row, np.array([1.0, np.nan] if row == 1 else [0.5] * (row + 1)))
        tool.putcell("FLAG", row, np.zeros(2, bool))
    tool.putcell("GAIN", 2, np.array([value]))
    tool.putcell("FLAG", 0, np.array([flag, False]))
    tool.close()
    tool.done()


@pytest.mark.casa
def test_a_difference_in_one_cell_is_seen(tmp_path):
    folders = []
    for name in "abcd":
        folders.append(tmp_path / name)
        folders[-1].mkdir()
    with Worker() as worker:
        # 1 + 2^-52 is the double after 1.
        for folder, value, flag in zip(folders, (1.0, 1.0, 1.0 + 2.0**-52, 1.0), (0, 0, 0, 1), strict=True):
            worker.call(make_tables, folder, value, bool(flag))
        (tmp_path / "d/work/b.tbl").mkdir()
        (tmp_path / "d/work/b.tbl/table.dat").touch()
        a, b, c, d = (f / "work" for f in folders)
        assert worker.call(differences, a, b) == []
        assert worker.call(differences, a, c) == ["a.tbl: GAIN"]
        assert worker.call(differences, a, d) == ["b.tbl: absent", "a.tbl: FLAG"]


def test_images_may_differ_by_a_millionth_of_their_peak_tables_not_at_all():
    image = np.array([10.0, 0.0, np.nan])
    assert _equal(image, image + 0.9e-5, 1e-6) and not _equal(image, image + 1.1e-5, 1e-6)
    assert not _equal(image, np.array([10.0, np.nan, 0.0]), 1e-6)
    assert not _equal(image, image + 1e-15 * 2, 0.0)
    assert not _equal(np.float32([1]), np.float64([1]), 0.0)
