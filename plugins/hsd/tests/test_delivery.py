"""Single-dish deliveries: what is restored from products is what was delivered."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from pl_hsd.baselineproducts import Baselined, apply_call
from pl_kernel.compute import Worker
from pl_kernel.recipe import loads
from pl_kernel.session import Session

CALIBRATE = """
name: tp
stages:
  - hsd_importdata
  - h_tsyscal
  - hsd_skycal
  - hsd_k2jycal: {{dbservice: false, reffile: "{factors}"}}
  - hsd_applycal
  - hsd_exportdata: {{weblog: false}}
"""


def columns(path: Path) -> list[dict[str, np.ndarray]]:
    """CORRECTED_DATA, FLAG and WEIGHT by data description."""
    with Worker() as worker:
        found: list[dict[str, np.ndarray]] = worker.call(_columns, str(path))
        return found


def _columns(path: str) -> list[dict[str, np.ndarray]]:
    from pl_kernel.casa import Casa, Recorder

    found = []
    with Casa(Recorder(), os.devnull).table(path) as table:
        for description in sorted(set(table.getcol("DATA_DESC_ID"))):
            part = table.query(f"DATA_DESC_ID=={description}")
            found.append({name: part.getcol(name) for name in ("CORRECTED_DATA", "FLAG", "WEIGHT", "ANTENNA1")})
            part.close()
    return found


def rows_of(session: Session, name: str) -> np.ndarray:
    """A column of the table of rows, as the run sees it now."""
    (key,) = [k for k in session.context.values if k.startswith("hsd.columns/") and k.endswith(f"/{name}")]
    value: Any = session.context.values[key]
    file = value if isinstance(value, str) else value["file"]
    return np.load(next((session.root / "work").rglob(Path(file).name)), allow_pickle=False)


def test_the_call_that_applies_baselines_names_everything() -> None:
    found = Baselined(origin="a.ms", source="a.ms", column="corrected", vis="a.ms_bl", table="t.bl.tbl", spw="17")
    assert apply_call(found) == (
        "sdbaseline(infile='a.ms', datacolumn='corrected', spw='17', blmode='apply', bltable='t.bl.tbl',"
        " outfile='a.ms_bl', reindex=False, overwrite=True)\n"
    )


def test_factors_are_delivered_from_the_copies_in_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two stages read different files of one name: both are found, and the delivery is refused."""
    from types import SimpleNamespace

    from pl_hsd.stages import exportdata
    from pl_hsd.stages.k2jycal import K2jycalResult

    for name, factor in (("work/jy.csv", 40), ("stages/008/jy.csv", 50)):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(f"MS,Antenna,Spwid,Polarization,Factor\na.ms,PM01,17,I,{factor}\n")
    read = [K2jycalResult(sets=(), reffile=name) for name in ("work/jy.csv", "work/jy.csv", "stages/008/jy.csv", "")]
    monkeypatch.setattr(exportdata, "earlier_results", lambda *_: read)
    monkeypatch.setattr(exportdata.SingleDishExporter, "check", lambda *_: None)
    ctx: Any = SimpleNamespace(context=SimpleNamespace(root=tmp_path))
    assert exportdata.factor_files(ctx) == [tmp_path / "work/jy.csv", tmp_path / "stages/008/jy.csv"]
    with pytest.raises(exportdata.PlError, match="different files of Jy/K factors"):
        exportdata.Exportdata().check(ctx, exportdata.ExportdataInputs())


@pytest.mark.casa
def test_a_restore_gives_the_same_spectra_flags_and_units(simulated, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    vis = simulated("alma-tp-b6", copy=False)
    factors = tmp_path / "jyperk.csv"
    lines = [f"{vis.name},PM0{a},{s},{p},{40 + a}" for a in (1, 2) for s in range(30) for p in ("XX", "YY")]
    factors.write_text("MS,Antenna,Spwid,Polarization,Factor\n" + "\n".join(lines) + "\n")
    recipe = loads(CALIBRATE.format(factors=factors)).bind({})
    with Session.create(tmp_path / "made", recipe, [vis]) as made:
        outcome = made.run()
        assert outcome.status == "done", outcome.message
        assert not [s.metric for s in outcome.stages[-1].scores if s.score != 1.0]  # no image was asked for
    products = made.root / "products"
    root = ElementTree.parse(products / "tp.pipeline_manifest.xml").getroot()
    assert {e.tag for e in root.find("ous/session/asdm")} >= {"finalflags", "applycmds"}
    recipe = loads(f"stages: [{{hsd_restoredata: {{products_dir: '{products}'}}}}]").bind({})
    with Session.create(tmp_path / "again", recipe, [vis]) as again:
        outcome = again.run()
        assert outcome.status == "done", outcome.message
        assert outcome.score == 1.0, [s.long for s in outcome.stages[-1].scores]
    for one, two in zip(*(columns(s.root / "work" / vis.name) for s in (made, again)), strict=True):
        for name in one:
            assert np.array_equal(one[name], two[name]), name
    for key in ("hsd.unit", "hsd.caltables", "hsd.strategy"):
        assert made.context.values[key] == again.context.values[key], key
    one, two = (s.context.values["hsd.k2jy"][vis.name] for s in (made, again))
    assert [f[:3] for f in one] == [f[:3] for f in two]
    # The table holds 1/sqrt(factor) in single precision.
    assert [f[3] for f in two] == pytest.approx([f[3] for f in one], rel=1e-6)
    assert again.context.values["hsd.unit"] == {vis.name: "Jy"}
    for name in ("tsys_k", "online_valid"):
        assert np.array_equal(rows_of(made, name), rows_of(again, name)), name
