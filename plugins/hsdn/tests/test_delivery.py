"""Nobeyama deliveries: scaling factors of a restore, and nothing else, change the spectra."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from pl_kernel.compute import Worker
from pl_kernel.recipe import loads
from pl_kernel.session import Session

CALIBRATE = """
name: nro
stages: [hsdn_importdata, h_tsyscal, hsd_skycal, hsd_applycal, hsdn_exportdata: {images: false}]
"""


def _columns(path: str, description: int) -> tuple[np.ndarray, ...]:
    from pl_kernel.casa import Casa, Recorder

    with Casa(Recorder(), os.devnull).table(path) as table:
        part = table.query(f"DATA_DESC_ID=={description}")
        found = tuple(part.getcol(name) for name in ("CORRECTED_DATA", "FLAG", "ANTENNA1"))
        part.close()
    return found


@pytest.mark.casa
def test_a_factor_of_four_makes_spectra_four_times_larger(simulated, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    vis = simulated("nobeyama", copy=False)
    with Session.create(tmp_path / "made", loads(CALIBRATE).bind({}), [vis]) as made:
        outcome = made.run()
        assert outcome.status == "done", outcome.message
        # Without baselines and images there is no script, and that must show.
        assert {s.metric for s in outcome.stages[-1].scores if s.score != 1.0} == {"export.rebase", "item-failures"}
    products = tmp_path / "products"
    shutil.copytree(made.root / "products", products)
    table = products / "nroscalefile.csv"
    line = f"{vis.name},NRO-BEAM1,0,XX,1.0"
    assert line in table.read_text()
    table.write_text(table.read_text().replace(line, line.replace("1.0", "4.0")))
    # The table is meant to be edited: its checksum must not count.
    recipe = loads(f"stages: [{{hsdn_restoredata: {{products_dir: '{products}'}}}}]").bind({})
    with Session.create(tmp_path / "again", recipe, [vis]) as again:
        outcome = again.run()
        assert outcome.status == "done", outcome.message
        assert outcome.score == 1.0
        assert again.context.values["hsd.unit"] == {vis.name: "K"}
        changed = [f for f in outcome.stages[-1].result.factors if f.factor != 1.0]
        assert [(f.beam, f.spw, f.polarization, f.factor) for f in changed] == [("NRO-BEAM1", 0, "XX", 4.0)]
    with Worker() as worker:
        for description in (0, 1):
            one, two = (
                worker.call(_columns, str(s.root / "work" / vis.name), description) for s in (made, again)
            )
            assert np.array_equal(one[1], two[1]) and np.array_equal(one[2], two[2])
            expected = one[0].copy()
            if description == 0:
                scaled = (one[2] == 1) & (np.abs(one[0] - two[0]).max(axis=(0, 1)) > 0)
                assert scaled.any()
                expected[0][:, scaled] *= 4
            np.testing.assert_allclose(two[0], expected, rtol=1e-6, atol=0)
