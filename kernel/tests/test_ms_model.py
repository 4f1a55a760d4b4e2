"""Claims about the domain model and its reader; real data are read where they are at hand."""

import json
import math
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import attrs
import numpy as np
import pytest

from pl_kernel.common.archives import extract
from pl_kernel.compute import Worker
from pl_kernel.errors import DataError, InputError, UnknownName
from pl_kernel.ms.datatypes import ColumnType, DataType
from pl_kernel.ms.intents import parse_rule
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.ms.reader import read_cached, read_measurement_set
from pl_kernel.ms.records import Antenna, AntennaArray, Frame
from pl_kernel.ms.samples import SampleScan, sample_ms
from pl_kernel.ms.telescopes import (
    GENERIC,
    Band,
    ScienceSpwRule,
    StandardCalibrator,
    Telescope,
    find_telescope,
)
from pl_kernel.serialize import dumps, loads

DATA = Path(__file__).parents[3] / "shared" / "data"

# ---- queries on records ----

MS = sample_ms(fields=("3C286", "J1407", "J1407", "5921"), scans=(
    SampleScan(0, "BANDPASS,AMPLITUDE"), SampleScan(1, "PHASE", (1,)), SampleScan(3, ("TARGET", "REFERENCE")),
    SampleScan(2, "CHECK"),
))  # fmt: skip


def test_json_and_the_way_to_a_worker_are_exact() -> None:
    assert loads(dumps(MS), MeasurementSet) == MS
    with Worker() as worker:  # there and back through the pipe to a worker process
        assert worker.call(attrs.evolve, MS) == MS
    assert dumps(loads(dumps(MS), MeasurementSet)) == dumps(MS)


def test_queries_by_intent() -> None:
    assert [f.id for f in MS.fields_with_intent("PHASE,TARGET")] == [1, 3]
    assert [s.id for s in MS.scans_with_intent("REFERENCE")] == [3]
    assert [s.id for s in MS.scans_with_intent("PHASE", field=0)] == []
    assert MS.intents == {"BANDPASS", "AMPLITUDE", "PHASE", "TARGET", "REFERENCE", "CHECK"}
    assert MS.intent_labels("AMPLITUDE") == {"AMPLITUDE,BANDPASS"}
    assert MS.observing_modes("TARGET") == ("WORD_TARGET#ON",)
    assert (1, 1, "PHASE") in MS.observed
    assert (1, 0, "PHASE") not in MS.observed
    with pytest.raises(UnknownName, match="intent"):
        MS.fields_with_intent("PHAZE")


def test_records_by_id_and_name() -> None:
    assert MS.field("3C286").id == 0
    assert MS.antenna("ant03").id == 2
    assert MS.spw(1).name == "WINDOW#01"
    assert MS.scan(4).field_ids == (2,)
    with pytest.raises(DataError, match="2 entries called 'J1407'"):
        MS.field("J1407")
    with pytest.raises(UnknownName, match=r"no field called '3C287' in sample\.ms. Did you mean '3C286'"):
        MS.field("3C287")


def test_field_selections_use_ids_where_names_repeat() -> None:
    assert MS.field_selection("PHASE,TARGET") == "1,3"
    unique = sample_ms(fields=("a b", "123", "c"))
    assert unique.field_selection("BANDPASS,PHASE") == '"a b","123"'
    assert unique.field_selection([unique.field("c")]) == "c"


def test_integration_time_is_the_median_over_rows() -> None:
    scans = list(MS.scans)
    # 12 baselines-times of 3 s in scan 1 against the rest at 5 s: the 5 s rows are the majority.
    scans[0] = attrs.evolve(scans[0], interval_s={0: 3.0, 1: 3.0})
    ms = MS.with_scans(tuple(scans))
    assert ms.median_integration_time_s() == 5.0
    assert ms.median_integration_time_s("BANDPASS") == 3.0
    assert math.isnan(ms.median_integration_time_s("POLANGLE"))


def test_science_windows_follow_the_rule_of_the_telescope() -> None:
    base = sample_ms(n_spws=4, scans=(SampleScan(0, "PHASE", (0, 1, 2)), SampleScan(1, "POINTING", (3,))))
    spws = list(base.spws)
    spws[0] = attrs.evolve(spws[0], n_channels=4)
    spws[1] = attrs.evolve(spws[1], name="SQLD#1")
    rule = ScienceSpwRule(frozenset([1, 4]), ("^SQLD",), frozenset(["PHASE", "TARGET"]), frozenset(["POINTING"]))
    ms = attrs.evolve(base, spws=tuple(spws), science_rule=rule).with_scans(base.scans)
    assert ms.science_spw_ids == (2,)
    assert base.science_spw_ids == (0, 1, 2, 3)


def test_data_averaged_to_one_channel_or_without_intents_keep_their_windows() -> None:
    rule = ScienceSpwRule(frozenset([1, 4]), (), frozenset(["TARGET"]))
    averaged = sample_ms(n_channels=1, scans=(SampleScan(0),))
    assert attrs.evolve(averaged, science_rule=rule).science_spw_ids == (0, 1)


def test_baselines_of_a_line_of_antennas() -> None:
    # Antennas at 0, 100, 200, 300 m: lengths 3 x 100, 2 x 200, 1 x 300; numpy's 80th percentile is the 5th of 6: 200.
    array = MS.array
    assert (array.min_baseline_m, array.max_baseline_m) == pytest.approx((100.0, 300.0))
    assert array.l80_m == pytest.approx(200.0)
    assert array.baseline_lengths_m.shape == (4, 4)
    assert math.isnan(AntennaArray("x", array.antennas[:1]).max_baseline_m)


def test_local_coordinates_point_east_north_and_up() -> None:
    # On the equator at longitude 0: x is up, y east, z north (WGS 84 radius 6378137 m).
    places = [(6378137.0, 0.0, 0.0), (6378137.0, 300.0, 0.0), (6378137.0, 0.0, 30.0), (6378140.0, 0.0, 0.0)]
    array = AntennaArray("x", tuple(Antenna(i, str(i), "", 1.0, p) for i, p in enumerate(places)))
    enu = array.local_enu_m()
    np.testing.assert_allclose(enu - enu[0], [[0, 0, 0], [300, 0, 0], [0, 30, 0], [0, 0, 3]], atol=0.02)


def test_telescopes() -> None:
    one = Telescope(
        name="ONE",
        aliases=("OLD-ONE",),
        bands=(Band("L", 1e9, 2e9), Band("S", 2e9, 4e9)),
        band_in_spw_name=r"^ONE_([A-Z]+)#",
        band_names={"KU": "Ku"},
        calibrators=(StandardCalibrator("3C286", ("J1331+3030", "1331+305")),),
    )
    assert find_telescope(" old-one ", [one]) is one
    assert find_telescope("TWO", [one]) == attrs.evolve(GENERIC, name="TWO")
    assert one.band_of(2.0e9) == "S"
    assert one.band_of(2.0e9, "ONE_KU#A") == "Ku"
    assert one.band_of(9e9) == ""
    calibrator = one.calibrator("j1331 3030") or one.calibrator("3c-286")
    assert calibrator is not None
    assert loads(dumps(one), Telescope) == one


# ---- reading real data, in a process of its own as in a run ----

SOME_TELESCOPE = Telescope(name="EVLA", bands=(Band("L", 1e9, 2e9), Band("Ka", 26.5e9, 40e9)))


@pytest.fixture(scope="module")
def in_worker() -> Iterator[Callable[..., object]]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield lambda function, *args, **kwargs: pool.submit(function, *args, **kwargs).result(timeout=120)


def unpacked(archive: str, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    source = DATA / archive
    if not source.exists():
        pytest.skip(f"real data {archive} are not at hand ({DATA})")
    with tarfile.open(source) as tar:
        extract(tar, folder)
    return next(p for p in folder.iterdir() if (p / "table.dat").exists())


def read(in_worker: Callable[..., object], path: Path, *telescopes: Telescope) -> MeasurementSet:
    ms = in_worker(read_measurement_set, path, telescopes)
    assert isinstance(ms, MeasurementSet)
    assert loads(dumps(ms), MeasurementSet) == ms
    return ms


@pytest.mark.casa
def test_raw_set_with_absent_asdm_subtables(in_worker: Callable[..., object], tmp_path: Path) -> None:
    ms = read(in_worker, unpacked("alma_b3_raw_2014.ms.tgz", tmp_path))
    # Numbers from the README of the data and from the tables read with casatools alone.
    assert (len(ms.antennas), ms.n_rows) == (13, 1058)
    assert {f.name: set(f.intents) for f in ms.fields} == {
        "J1617-7717": {"ATMOSPHERE", "WVR"},
        "J1423-7829": {"PHASE", "DELAY"},
    }
    full = ms.spw(1)
    assert (full.n_channels, full.is_reversed, full.baseband, full.frame) == (64, True, 1, Frame.TOPO)
    assert full.centres_hz[1] == pytest.approx(86.259055e9, abs=1e3)
    assert full.min_hz < 84.4e9 < 86.3e9 < full.max_hz
    assert [p.correlations for p in ms.polarizations] == [("XX", "XY", "YX", "YY"), ("XX",)]
    assert ms.execution_block == "uid://A002/X8ca70c/X5"
    assert ms.weather is not None
    assert ms.weather.n_rows == 126
    assert "ASDM_ANTENNA" not in ms.subtables
    assert ms.observing_modes("PHASE") == ("CALIBRATE_PHASE#ON_SOURCE",)


@pytest.mark.casa
def test_set_from_uvfits_without_states(in_worker: Callable[..., object], tmp_path: Path) -> None:
    ms = read(in_worker, unpacked("evla_ka_tdem0003.ms.tar.gz", tmp_path), SOME_TELESCOPE)
    assert ms.intents == frozenset()
    assert ms.intents_from == "none"
    assert len(ms.antennas) == 18  # of 28 rows, ten are place holders
    assert ms.antenna_ids("1") == (0,)
    assert ms.spws[0].band == "Ka"
    assert ms.science_spw_ids == (0,)
    assert ms.with_intents([parse_rule("PHASE=J1008*")]).scans_with_intent("PHASE") != ()


@pytest.mark.casa
def test_set_with_states_in_other_words(in_worker: Callable[..., object], tmp_path: Path) -> None:
    ms = read(in_worker, unpacked("evla_lband_simple.ms.tar.gz", tmp_path), SOME_TELESCOPE)
    assert [f.name for f in ms.fields] == ["J0102+5824"]  # the others have no rows
    assert ms.fields[0].intents == {"AMPLITUDE", "PHASE"}
    assert ms.bands == ("L",)
    assert ms.source("J0102+5824").rest_frequencies_hz[0] == (1420405752.0,)
    assert ms.project == "uid://evla/pdb/38078528"


@pytest.mark.casa
def test_single_dish_set(in_worker: Callable[..., object], tmp_path: Path) -> None:
    ms = read(in_worker, unpacked("nro45_nmltau_h40.ms.tar.gz", tmp_path))
    assert ms.data_types == (ColumnType(DataType.RAW, "FLOAT_DATA"),)
    assert math.isnan(ms.array.max_baseline_m)
    assert [s.n_channels for s in ms.spws] == [4096] * 4
    assert {s.frame for s in ms.spws} == {Frame.LSRK}
    assert ms.fields[0].intents == {"TARGET"}
    assert (ms.fields[0].ra_rad, ms.fields[0].dec_rad) == pytest.approx((1.0187530, 2.9861420))


@pytest.mark.casa
def test_set_with_execution_block_and_proper_frame(in_worker: Callable[..., object], tmp_path: Path) -> None:
    ms = read(in_worker, unpacked("alma_b3_x5707.ms.tar.gz", tmp_path))
    assert ms.scheduling_block == "uid://A001/X1273/X6f6"
    assert ms.fields[0].frame == "ICRS"
    assert ms.sources[0].transitions == {0: ("CO_v_0_1_0(ID=3768098)",)}
    assert ms.start.isoformat() == "2018-03-16T05:38:50.160000+00:00"
    assert len(ms.antennas) == 2


@pytest.mark.casa
def test_incomplete_and_damaged_sets_are_one_sentence(in_worker: Callable[..., object], tmp_path: Path) -> None:
    path = unpacked("evla_ka_tdem0003.ms.tar.gz", tmp_path)
    for optional in ("SOURCE", "STATE", "HISTORY", "WEATHER", "FEED"):
        (path / optional).rename(tmp_path / optional) if (path / optional).exists() else None
    ms = read(in_worker, path)
    assert [s.name for s in ms.sources] == ["J1008+0730"]  # from the field, as SOURCE is gone
    (path / "FIELD").rename(tmp_path / "FIELD")
    with pytest.raises(DataError, match="subtable FIELD is missing"):
        in_worker(read_measurement_set, path)
    (tmp_path / "FIELD").rename(path / "FIELD")
    (path / "table.dat").write_bytes(b"not a table")
    with pytest.raises(DataError, match=r"main table .* cannot be read"):
        in_worker(read_measurement_set, path)
    with pytest.raises(InputError, match="no measurement set at"):
        in_worker(read_measurement_set, tmp_path / "absent.ms")


@pytest.mark.casa
def test_cache_answers_without_casa_until_a_table_changes(in_worker: Callable[..., object], tmp_path: Path) -> None:
    path = unpacked("evla_ka_tdem0003.ms.tar.gz", tmp_path)
    cache = tmp_path / "cache"
    first = in_worker(read_cached, path, cache)

    def no_casa(*_: object, **__: object) -> None:
        raise AssertionError("the cache was not used")

    assert read_cached(path, cache, open_table=no_casa) == first
    (file,) = cache.iterdir()
    file.write_text("{")
    assert in_worker(read_cached, path, cache) == first
    (path / "SOURCE" / "table.dat").touch()
    assert in_worker(read_cached, path, cache) == first
    assert len(list(cache.iterdir())) == 1


@pytest.mark.casa
def test_data_types_written_to_history_are_read_again(in_worker: Callable[..., object], tmp_path: Path) -> None:
    from pl_kernel.ms.datatypes import write_history

    path = unpacked("evla_ka_tdem0003.ms.tar.gz", tmp_path)
    types = (ColumnType(DataType.SELFCAL_CONT_SCIENCE, "DATA", frozenset(["J1008+0730"]), frozenset([0])),)
    in_worker(write_history, str(path), types)
    assert read(in_worker, path).data_types == types


SELECTIONS = """
import json, sys
from pl_kernel.casa import Casa, Recorder
casa = Casa(Recorder(), "casa.log")
answers = []
for path, key, selection in json.load(open("asked.json")):
    with casa.ms(path) as tool:
        tool.msselect({key: selection}, onlyparse=True)
        answers.append({k: v.tolist() for k, v in tool.msselectedindices().items()})
json.dump(answers, open("answers.json", "w"))
"""


@pytest.mark.casa
def test_selections_mean_what_they_mean_to_casa(in_worker: Callable[..., object], tmp_path: Path) -> None:
    numbers = unpacked("evla_ka_tdem0003.ms.tar.gz", tmp_path)  # antennas called '1' to '28' with ids 0 to 27
    words = unpacked("evla_lband_simple.ms.tar.gz", tmp_path / "other")
    asked: list[tuple[str, str, str]] = [(str(numbers), "baseline", s) for s in ("1", "2,28", "W09")]
    asked += [(str(words), "field", s) for s in ("1", "J0102*", "J0102?5824", '"J0102+5824"')]
    asked += [(str(words), "spw", s) for s in ("0", "0~1", "*", "*#1", "0:0,1:1;3")]
    asked += [(str(words), "scanintent", s) for s in ("CALIBRATE_PHASE#UNSPECIFIED",)]
    (tmp_path / "asked.json").write_text(json.dumps(asked))
    subprocess.run([sys.executable, "-c", SELECTIONS], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    sets = {str(p): read(in_worker, p) for p in (numbers, words)}
    for (path, key, selection), answer in zip(asked, json.loads((tmp_path / "answers.json").read_text()), strict=True):
        ms = sets[path]
        if key == "baseline":
            assert sorted(answer["antenna1"]) == list(ms.antenna_ids(selection)), selection
        elif key == "field":
            assert sorted(answer["field"]) == list(ms.field_ids(selection)), selection
        elif key == "spw":
            assert sorted(answer["spw"]) == list(ms.spw_ids(selection)), selection
        else:
            assert ms.observing_modes("PHASE") == (selection,)
            assert answer["stateid"] == [s.id for s in ms.states if "PHASE" in s.intents]
