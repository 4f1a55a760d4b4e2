"""Prior calibrations: what is made, what of it is applied, and the electron content of a map."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import attrs
import numpy as np
import pytest

from pl_hifv.atmosphere import Opacity
from pl_hifv.ionosphere import Ionosphere, TecMap, find_map
from pl_hifv.stages import priorcals, syspower
from pl_hifv.stages.priorcals import Priorcals, PriorcalsInputs
from pl_kernel import PlError
from pl_kernel.effects import RegisterCalibration, SetValue
from pl_kernel.ms.samples import sample_ms


class Casa:
    """Writes an empty folder for every table that gencal is asked for, and remembers the calls."""

    def __init__(self) -> None:
        self.calls: list[dict] = []

    def gencal(self, **given) -> None:
        self.calls.append(given)
        Path(given["caltable"]).mkdir()


def run(ms, monkeypatch, tmp_path: Path, **inputs):
    """Result of the stage, and the calls of gencal, without CASA."""
    monkeypatch.chdir(tmp_path)
    taus = tuple(Opacity(vis=ms.name, spw=int(w.id), frequency_hz=w.centre_hz, tau=0.01) for w in ms.spws)
    monkeypatch.setattr(priorcals, "opacities", lambda *_: (taus, ()))
    casa = Casa()
    silent = SimpleNamespace(**dict.fromkeys(("info", "warning", "attention", "error"), lambda *_: None))
    ctx = SimpleNamespace(
        casa=casa, log=silent, files=SimpleNamespace(rmtree=lambda *_: None), value=lambda *_: None,
        path=lambda ms, kind: f"{ms.name}.{kind}.tbl", measurement_sets=lambda *_: (ms,),
    )  # fmt: skip
    return Priorcals().run(ctx, PriorcalsInputs(**inputs)), casa.calls


def registered(result) -> list[str]:
    return [e.application.calfroms[0].caltype for e in result.effects if isinstance(e, RegisterCalibration)]


@pytest.fixture
def ms():
    return attrs.evolve(sample_ms(), subtables=("SYSPOWER", "CALDEVICE"))


def test_all_that_the_data_allow_is_made_and_registered_in_the_order_of_the_observatory(ms, monkeypatch, tmp_path):
    (tmp_path / "antennapos.csv").write_text("ms,antenna,x,y,z,comment\nsample.ms,ant01,0.001,0.002,0.003,moved\n")
    result, calls = run(ms, monkeypatch, tmp_path)
    assert {c["caltype"] for c in calls} == {"gceff", "opac", "rq", "swpow", "antpos"}
    assert registered(result) == ["gceff", "opac", "rq", "antpos"]
    assert [p.kind for p in result.priors] == ["gceff", "opac", "rq", "antpos", "tecim", "swpow"]


def test_what_is_switched_off_is_made_and_not_applied(ms, monkeypatch, tmp_path):
    off = dict.fromkeys(("apply_gaincurves", "apply_opcal", "apply_rqcal", "apply_antpos"), False)
    result, calls = run(ms, monkeypatch, tmp_path, **off)
    assert {"gceff", "opac", "rq", "swpow"} <= {c["caltype"] for c in calls}
    assert registered(result) == []
    assert not any(p.expected for p in result.priors)  # nothing that was not asked for costs score
    # The requantizer's gains are there for hifv_syspower.
    (known,) = [e.value for e in result.effects if isinstance(e, SetValue) and e.key == priorcals.RQ_VALUE]
    assert known == {"sample.ms": "sample.ms.rq.tbl"}


def test_of_requantizer_and_switched_power_one_is_applied(ms, monkeypatch, tmp_path):
    result, _ = run(ms, monkeypatch, tmp_path, apply_swpowcal=True)
    assert registered(result) == ["gceff", "opac", "swpow"]


def test_data_of_before_the_requantizer_have_neither(monkeypatch, tmp_path):
    old = attrs.evolve(sample_ms(), subtables=("SYSPOWER", "CALDEVICE"))
    old = attrs.evolve(old, start=old.start.replace(year=2010))
    _, calls = run(old, monkeypatch, tmp_path)
    assert [c["caltype"] for c in calls] == ["gceff", "opac"]


def test_an_ionosphere_that_was_asked_for_and_is_not_to_be_had_costs_score(ms, monkeypatch, tmp_path):
    for applied in (False, True):
        folder = tmp_path / str(applied)
        folder.mkdir()
        result, _ = run(ms, monkeypatch, folder, apply_tec_correction=applied)
        (one,) = [p for p in result.priors if p.kind == "tecim"]
        assert one.expected is applied and not one.caltable and "account" in one.reason


def test_compression_goes_into_gains_only_that_are_applied(monkeypatch):
    gains = SimpleNamespace(gaintable="x.rq.tbl")
    for held, expected in ((gains, True), (SimpleNamespace(gaintable="x.gceff.tbl"), False)):
        calibration = SimpleNamespace(merged=lambda ms, one=held: (SimpleNamespace(calfroms=(one,)),))
        assert syspower._is_applied(SimpleNamespace(calibration=calibration), None, gains) is expected


# ---- the ionosphere ------------------------------------------------------------------------------------------------


def world(times=(0.0, 7200.0)) -> TecMap:
    """A grid as the observatories' maps have it, latitudes from north to south, with a plane in it that goes up."""
    longitude, latitude = -180 + 5.0 * np.arange(73), 87.5 - 2.5 * np.arange(71)
    plane = 30 + 0.05 * longitude[:, None] + 0.1 * latitude
    return TecMap(
        longitude_deg=longitude, latitude_deg=latitude, time_s=np.array(times),
        tecu=np.stack([plane + k for k in range(len(times))], axis=-1),
    )  # fmt: skip


def test_electron_content_between_the_points_of_a_map_is_linear():
    assert world().over(-107.6, 34.1) == pytest.approx([30 - 5.38 + 3.41, 31 - 5.38 + 3.41])


def test_a_map_tells_nothing_of_places_outside():
    assert np.isnan(world().over(-107.6, 89.0)).all()


def test_the_plane_nearest_in_time_is_shown():
    assert world().at(5000.0)[0, 0] - world().at(1000.0)[0, 0] == pytest.approx(1.0)


def above(times, begin, end):
    return Ionosphere(
        vis="a.ms", source="x", time_s=times, tecu=[10.0, 20.0, 12.0], begin_s=begin, end_s=end, longitude_deg=0.0,
        latitude_deg=0.0,
    )  # fmt: skip


def test_the_range_during_the_observation_holds_its_ends_and_what_lies_between():
    one = above([0.0, 100.0, 200.0], 50.0, 150.0)
    assert one.covers and one.during == (15.0, 20.0)
    assert not above([0.0, 100.0, 200.0], 150.0, 250.0).covers


def test_maps_are_found_beside_the_run_by_the_names_of_tec_maps(tmp_path, monkeypatch, ms):
    work = tmp_path / "run" / "work"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    assert find_map(ms, None) is None
    for name in ("iono.IGS_TEC.im", "sample.ms.IGS_TEC.im"):  # the one of the data comes first
        (tmp_path / name).mkdir()
        (tmp_path / name / "table.dat").touch()
        assert find_map(ms, None).name == name
    with pytest.raises(PlError, match="no CASA image"):
        find_map(ms, tmp_path)
