"""Blocks of spectra hold the same numbers as CASA's cells, in the order that was asked for."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from pl_hsd import spectra
from pl_kernel.errors import DataError


def test_blocks_hold_at_least_one_row() -> None:
    assert spectra.rows_per_block(2, 1000, limit_bytes=80_000) == 10
    assert spectra.rows_per_block(2, 1_000_000, limit_bytes=10) == 1


@pytest.fixture(scope="module")
def vis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from pl_sim.testing import cached_simulation

    path = tmp_path_factory.mktemp("spectra") / "x.ms"
    shutil.copytree(cached_simulation("nobeyama"), path)
    return path


@pytest.fixture(scope="module")
def casa():  # type: ignore[no-untyped-def]
    from pl_kernel.casa import Casa, Recorder

    return Casa(Recorder(), os.devnull)



@pytest.mark.casa
class TestReading:
    def test_blocks_are_cells_in_the_order_asked_for(self, vis: Path, casa) -> None:  # type: ignore[no-untyped-def]
        with casa.table(vis, nomodify=False) as table:
            dd = table.getcol("DATA_DESC_ID")
            rows = np.flatnonzero(dd == dd[0])[:40][::-1].copy()
            flag = table.getcell("FLAG", int(rows[3]))
            flag[0, 5:9] = True
            table.putcell("FLAG", int(rows[3]), flag)
            table.putcell("FLAG_ROW", int(rows[7]), True)
            cells = [table.getcell("FLOAT_DATA", int(r)) for r in rows]
        n_pol, n_chan = cells[0].shape
        found = list(spectra.blocks(casa, vis, "FLOAT_DATA", rows, limit_bytes=4 * n_pol * n_chan * 16))
        assert [b.rows.size for b in found] == [16, 16, 8]
        assert [b.positions for b in found] == [slice(0, 16), slice(16, 32), slice(32, 40)]
        data = np.concatenate([b.data for b in found])
        flags = np.concatenate([b.flags for b in found])
        np.testing.assert_array_equal(data, np.array(cells, dtype=np.float32))
        assert flags[3, 0, 5:9].all() and not flags[3, 0, :5].any()
        assert flags[7].all() and not flags[8].any()
        whole, bad = spectra.read(casa, vis, "FLOAT_DATA", rows)
        np.testing.assert_array_equal(whole, data)
        np.testing.assert_array_equal(bad, flags)

    def test_what_is_written_is_read(self, vis: Path, casa) -> None:  # type: ignore[no-untyped-def]
        with casa.table(vis) as table:
            dd = table.getcol("DATA_DESC_ID")
        rows = np.flatnonzero(dd == dd[0])[[9, 2, 30]]
        data, _ = spectra.read(casa, vis, "FLOAT_DATA", rows)
        marked = np.arange(3, dtype=np.float32)[:, None, None] + np.zeros_like(data)
        spectra.write(casa, vis, "FLOAT_DATA", [(rows, marked)])
        again, _ = spectra.read(casa, vis, "FLOAT_DATA", np.sort(rows))
        np.testing.assert_array_equal(again[:, 0, 0], [1.0, 0.0, 2.0])

    def test_an_absent_column_is_named(self, vis: Path, casa) -> None:  # type: ignore[no-untyped-def]
        with pytest.raises(DataError, match="no column CORRECTED_DATA"):
            spectra.read(casa, vis, "CORRECTED_DATA", [0])
