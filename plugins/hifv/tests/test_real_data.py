"""Small real VLA observations: imported whole, taken as far as their content allows, and refused with a reason."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from pl_kernel.common.archives import extract
from pl_kernel.errors import StageFailed
from pl_kernel.session import Session

DATA = Path(__file__).parents[4] / "shared" / "data"
pytestmark = [pytest.mark.casa, pytest.mark.slow]


def unpacked(name: str, folder: Path) -> Path:
    """A real observation in a temporary folder; skips where there is none: they are not part of the repository."""
    source = DATA / name
    if not source.is_file():
        pytest.skip(f"real data {name} are not at hand ({DATA})")
    with tarfile.open(source) as packed:
        extract(packed, folder)
    return next(p for p in sorted(folder.iterdir()) if p.is_dir())


def refusal(session: Session, stage: str, **parameters: object) -> str:
    with pytest.raises(StageFailed) as caught:
        session.run_stage(stage, **parameters)
    return caught.value.sentence


def test_a_science_data_model_with_one_scan_of_fourteen(tmp_path: Path) -> None:
    data = unpacked("vla_sdm_16A-459.tar.gz", tmp_path / "data")
    with Session.create(tmp_path / "run") as session:
        (item,) = session.run_stage("hifv_importdata", vis=[str(data)]).result.imported
        # As the README of the data says: 27 antennas, 8 windows of 32 channels in S band, 186 online flags.
        assert (item.kind, item.how) == ("asdm", "converted")
        assert len(item.ms.antennas) == 27
        assert [(s.band, s.n_channels) for s in item.ms.spws] == [("S", 32)] * 8
        assert [s.id for s in item.ms.scans] == [7]
        flags = session.run_stage("hifv_flagdata").result.sets[0]
        assert len(flags.commands["online"]) + len(flags.commands["anos"]) == 186
        # A scan of one integration is not quacked away.
        assert flags.counts[-1].fraction < 0.5
        assert "intent BANDPASS or AMPLITUDE" in refusal(session, "hifv_testBPdcals")


def test_tables_that_were_not_closed_keep_their_rows(tmp_path: Path) -> None:
    # casacore left the number of rows of DATA_DESCRIPTION in its lock file.
    data = unpacked("evla_ka_tdem0003.ms.tar.gz", tmp_path / "data")
    with Session.create(tmp_path / "run") as session:
        (item,) = session.run_stage("hifv_importdata", vis=[str(data)]).result.imported
        assert [(s.band, s.n_channels) for s in item.ms.spws] == [("Ka", 64)]
        assert "has the intent AMPLITUDE" in refusal(session, "hifv_vlasetjy")


def test_data_of_another_telescope_are_refused_by_its_name(tmp_path: Path) -> None:
    source = DATA / "vlba_mojave_m87.uvfits"
    if not source.is_file():
        pytest.skip(f"real data {source.name} are not at hand ({DATA})")
    with Session.create(tmp_path / "run") as session:
        assert "observed with VLBA" in refusal(session, "hifv_importdata", vis=[str(source)])
