"""Import of Nobeyama data: simulated maps, faults of converters, raw files, and what is refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from pl_hsd.rows import RowTable
from pl_hsdn.heuristics.merge import merge_version
from pl_hsdn.telescopes import NRO
from pl_kernel import PlError
from pl_kernel.compute import Worker
from pl_kernel.ms.datatypes import DataType
from pl_kernel.ms.importers import recognise
from pl_kernel.session import Session

BEAMS = ((-25.0, -25.0), (25.0, -25.0), (25.0, 25.0), (-25.0, 25.0))
CENTRE = (266.25, -5.0)


# ---- without CASA ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "intents"),
    [
        ("OBSERVE_TARGET#ON_SOURCE,POSITION_SWITCH", {"TARGET"}),
        ("OBSERVE_TARGET#OFF_SOURCE,POSITION_SWITCH", {"REFERENCE"}),
        ("CALIBRATE_ATMOSPHERE#R_SOURCE", {"ATMOSPHERE"}),
        ("CALIBRATE_ATMOSPHERE#SKY_SOURCE", {"ATMOSPHERE"}),
        ("CALIBRATE_ATMOSPHERE#ZERO_SOURCE", {"ATMOSPHERE"}),
        ("ZERO", set()),
    ],
)
def test_words_of_the_observatory_become_intents(mode: str, intents: set[str]) -> None:
    assert NRO.intents.intents_of(mode) == intents


def test_the_telescope_answers_to_the_names_of_both_converters() -> None:
    assert NRO.is_called("NRO")
    assert NRO.is_called("NRO45M")
    assert not NRO.is_called("ALMA")


def test_the_version_of_the_converter_is_its_number_or_nothing() -> None:
    assert merge_version(2.01) == "2.01"
    assert merge_version(0.0) == ""


def nostar(path: Path) -> Path:
    """A file with the marks of the format and nothing behind them."""
    content = bytearray(20_000)
    content[0:2] = b"RW"
    content[15136:15138] = b"LS"
    path.write_bytes(bytes(content))
    return path


def test_raw_files_are_recognised_by_their_content(tmp_path: Path) -> None:
    assert recognise(nostar(tmp_path / "anything.dat")).kind == "nostar"
    other = tmp_path / "data.nqm"
    other.write_bytes(b"NEWSTAR" + bytes(20_000))
    with pytest.raises(PlError, match="no known kind"):
        recognise(other)


# ---- with CASA, in a worker ------------------------------------------------------------------------------------------


def spoil(path: str) -> None:
    """Make the faults of a real converter: no OFF, exchanged axes of directions, a declination times 15."""
    from pl_kernel.casa import Casa, Recorder

    casa = Casa(Recorder(), os.devnull)
    with casa.table(f"{path}/STATE", nomodify=False) as table:
        for row in range(table.nrows()):
            if "OFF" in table.getcell("OBS_MODE", row):
                table.putcell("OBS_MODE", row, "ZERO")
    with casa.table(f"{path}/POINTING", nomodify=False) as table:
        values, words = table.getcol("DIRECTION"), table.getcolkeywords("DIRECTION")
        description = {"DIRECTION": {**table.getcoldesc("DIRECTION"), "ndim": 2, "option": 0, "dataManagerType":
                                     "StandardStMan", "dataManagerGroup": "spoilt"}}  # fmt: skip
        for word in ("shape", "keywords"):
            description["DIRECTION"].pop(word, None)
        table.removecols(["DIRECTION"])
        table.addcols(description)
        table.putcolkeywords("DIRECTION", words)
        for row in range(table.nrows()):
            table.putcell("DIRECTION", row, np.ascontiguousarray(values[:, :, row].T))
    with casa.table(f"{path}/FIELD", nomodify=False) as table:
        for name in ("PHASE_DIR", "DELAY_DIR", "REFERENCE_DIR"):
            cell = table.getcell(name, 0)
            cell[1] *= -30
            table.putcell(name, 0, cell)


@attrs.frozen
class _Context:
    work: Path
    context: Any


@attrs.frozen
class Imported:
    """A finished import: measurement set, result, scores, table of rows."""

    ms: Any
    result: Any
    scores: Any
    rows: RowTable


def imported(root: Path, vis: Path) -> Imported:
    with Session.create(root) as session:
        outcome = session.run_stage("hsdn_importdata", vis=[str(vis)])
        (ms,) = session.context.measurement_sets
        rows = RowTable.open(_Context(session.root / "work", session.context), ms)
        return Imported(ms, outcome.result, outcome.scores, rows)


@pytest.fixture(scope="module")
def good(simulated, tmp_path_factory) -> Imported:
    return imported(tmp_path_factory.mktemp("good") / "run", simulated("nobeyama", copy=False))


@pytest.fixture(scope="module")
def spoilt(simulated, tmp_path_factory) -> Imported:
    vis = simulated("nobeyama")
    with Worker() as worker:
        worker.call(spoil, str(vis))
    return imported(tmp_path_factory.mktemp("spoilt") / "run", vis)


@pytest.mark.casa
def test_each_beam_is_an_antenna_that_maps_its_own_raster(good: Imported) -> None:
    """The rasters of the four beams are centred where FOREST has the beams, to 0.5 arcsec."""
    assert good.ms.antenna_names == tuple(f"NRO-BEAM{k}" for k in range(4))
    for beam, (east, north) in enumerate(BEAMS):
        own = good.rows.select(antenna=beam, spw=0, field=0, on_source=True)
        x = (np.asarray(good.rows["ra_deg"])[own] - CENTRE[0]) * np.cos(np.radians(CENTRE[1])) * 3600
        y = (np.asarray(good.rows["dec_deg"])[own] - CENTRE[1]) * 3600
        assert ((x.min() + x.max()) / 2, (y.min() + y.max()) / 2) == pytest.approx((east, north), abs=0.5)


@pytest.mark.casa
def test_26_rows_of_34_spectra_are_found_in_every_beam_and_window(good: Imported) -> None:
    for antenna, spw, field in good.rows.header.members:
        own = good.rows.select(antenna=antenna, spw=spw, field=field, on_source=True)
        assert np.bincount(np.asarray(good.rows["raster_row"])[own]).tolist() == [34] * 26
    assert len(good.rows.header.members) == 8


@pytest.mark.casa
def test_the_strategy_is_off_positions_and_tsys_of_each_record(good: Imported) -> None:
    plan = good.result.strategies[good.ms.name]
    assert plan.calmode == "ps"
    assert plan.tsys_spw == {0: 0, 1: 1}
    assert plan.reference_fields == {0: 0}  # the OFF is an offset from the only field
    assert set(plan.pattern.values()) == {"RASTER"}
    assert min(s.score for s in good.scores) == 1.0


@pytest.mark.casa
def test_directions_are_the_same_after_the_faults_of_a_converter(good: Imported, spoilt: Imported) -> None:
    on = np.asarray(good.rows["on_source"])
    assert spoilt.rows.n == on.sum()  # what was an OFF has no purpose now
    for column in ("ra_deg", "dec_deg", "el_deg"):
        np.testing.assert_allclose(np.asarray(spoilt.rows[column]), np.asarray(good.rows[column])[on], atol=1e-6)
    assert np.degrees(spoilt.ms.fields[0].dec_rad) == pytest.approx(CENTRE[1], abs=0.03)


@pytest.mark.casa
def test_repairs_and_missing_off_spectra_are_said_and_scored(spoilt: Imported) -> None:
    sentences = spoilt.result.repairs[spoilt.ms.name]
    assert any("POINTING" in s for s in sentences)
    assert any("150.00 degrees, cannot be" in s for s in sentences)
    assert spoilt.result.strategies[spoilt.ms.name].calmode == "none"
    assert spoilt.result.calibrated == (spoilt.ms.name,)
    assert spoilt.ms.column_of(DataType.REGCAL_CONTLINE_ALL) == "FLOAT_DATA"
    low = {s.metric for s in spoilt.scores if s.score is not None and s.score < 0.9}
    assert low == {"import.off", "import.repairs"}


@pytest.mark.casa
def test_data_of_another_telescope_are_refused(simulated, tmp_path: Path) -> None:
    with Session.create(tmp_path / "run") as session, pytest.raises(PlError) as caught:
        session.run_stage("hsdn_importdata", vis=[str(simulated("alma-tp-b6", copy=False))])
    assert "not with the Nobeyama 45-m telescope" in str(caught.value)


@pytest.mark.casa
def test_a_damaged_raw_file_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with Session.create(tmp_path / "run") as session, pytest.raises(PlError) as caught:
        session.run_stage("hsdn_importdata", vis=[str(nostar(tmp_path / "map.nostar"))])
    assert "map.nostar" in str(caught.value)
    shutil.rmtree(tmp_path / "run")
