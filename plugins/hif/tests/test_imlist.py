"""Parameters of the list of images: their texts understood, axes of cubes, types of data; expected values by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pl_hif import imlist, linefiles
from pl_hif.heuristics import cubeaxis, taper, uvrange
from pl_hif.heuristics.weighting import briggs_noise_factor
from pl_hif.stages.makeimlist import MakeimlistInputs
from pl_kernel import InputError, UnknownName
from pl_kernel.ms.datatypes import DataType
from pl_kernel.params import resolve

C = 299_792_458.0


# ---- baselines -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        (">5klambda", ((5e3, math.inf, True),)),
        ("<100m", ((0.0, 100.0, False),)),
        ("0.5~10klambda", ((500.0, 1e4, True),)),
        ("100~200", ((100.0, 200.0, False),)),
        (">1km, <2e-1Mlambda", ((1e3, math.inf, False), (0.0, 2e5, True))),
    ],
)
def test_ranges_of_baselines(text, expected):
    assert tuple((r.low, r.high, r.wavelengths) for r in uvrange.parse_uvrange(text)) == expected


@pytest.mark.parametrize("text", ["5", ">", "5..3", ">5miles", "10~2klambda", "~5m"])
def test_what_is_no_range_is_refused(text):
    with pytest.raises(InputError, match="uvrange"):
        uvrange.parse_uvrange(text)


def test_a_range_in_wavelengths_selects_by_channel():
    # 300 m at 1 GHz are 1000.7 wavelengths, at 2 GHz twice as many.
    length, frequency = np.array([[300.0, 30.0]]), np.array([[1e9], [2e9]])
    inside = uvrange.within(uvrange.parse_uvrange("150~1500lambda"), length, frequency)
    assert inside.tolist() == [[True, False], [False, True]]
    assert uvrange.within(uvrange.parse_uvrange("<100m"), length, frequency).tolist() == [[False, True]] * 2
    assert uvrange.within((), length, frequency).all()


def test_extended_emission_leaves_out_a_twentieth_of_the_longest_baseline():
    # 95th percentile of 1, 2, 3 is 2.9; middle 1: ratio 2.9, and 5 % of 100 klambda are 5.
    found = uvrange.extended_emission(1e5, [1.0, 2.0, 3.0], [1.0, 1.0, math.nan])
    assert found.value == ">5.0klambda"
    assert "2.9 times" in found.reason
    assert uvrange.extended_emission(1e5, [1.0, 2.0], [1.0, 1.0]).value == ""  # 1.95
    assert uvrange.extended_emission(1e5, [math.nan], [1.0]).value == ""
    assert uvrange.extended_emission(1e5, [3.0], []).value == ""


# ---- tapers ----------------------------------------------------------------------------------------------------------


def test_a_taper_halves_the_weight_at_its_half_width():
    round_one = taper.parse_uvtaper(["5klambda"])
    assert round_one is not None
    assert round_one.weights(np.array([[5e3, 3e3, 0.0], [0.0, 4e3, 0.0]])) == pytest.approx([0.5, 0.5, 1.0])
    long_one = taper.parse_uvtaper(["8klambda", "2klambda", "90deg"])  # 90 degrees: along u
    assert long_one is not None
    assert long_one.weights(np.array([[8e3, 0.0], [0.0, 2e3]])) == pytest.approx([0.5, 0.5])
    assert taper.parse_uvtaper([""]) is None


def test_a_taper_on_the_sky_is_the_fourier_transform_of_its_gaussian():
    # exp(-4 ln2 x²/θ²) transforms to exp(-π² θ² u²/(4 ln2)): half at u = 2 ln2/(π θ), 9.1 klambda for 10 arcsec.
    found = taper.parse_uvtaper(["10arcsec"])
    theta = math.radians(10 / 3600)
    assert found is not None
    assert found.along == pytest.approx(2 * math.log(2) / math.pi / theta)
    assert found.along == pytest.approx(9.1e3, rel=0.01)


@pytest.mark.parametrize("values", [["5 miles"], ["0klambda"], ["x"], ["1klambda"] * 4, ["1klambda", "2klambda", "3m"]])
def test_what_is_no_taper_is_refused(values):
    with pytest.raises(InputError):
        taper.parse_uvtaper(values)


def test_a_taper_costs_sensitivity_as_if_the_weights_were_counted():
    # Natural weights (robust 2 of one point per cell): 100 baselines short, 100 at the taper's half width.
    uv = np.zeros((2, 200))
    uv[0, :100] = np.arange(100) * 1e-3  # all but zero: weight 1 each
    uv[1, 100:] = 1000.0 * C / 1e9 + np.arange(100) * 1e-3
    factor = briggs_noise_factor(uv, np.ones(200), [1e9], 2.0, 1.0, taper.parse_uvtaper(["1klambda"]))
    # Weights 1 and 1/2: √(Σw²)·√N/Σw = √125·√200/150
    assert factor == pytest.approx(math.sqrt(125 * 200) / 150, rel=1e-3)


# ---- spectral axes ---------------------------------------------------------------------------------------------------


def test_bins_by_window():
    assert cubeaxis.parse_nbins("0:2, 3:4") == {"0": 2, "3": 4}
    assert cubeaxis.bins_of(cubeaxis.parse_nbins("*:2,1:8"), 1) == 8
    assert cubeaxis.bins_of(cubeaxis.parse_nbins("*:2,1:8"), 5) == 2
    assert cubeaxis.bins_of({}, 0) == 1
    for text in ("2", "a:2", "0:0", "0:-3"):
        with pytest.raises(InputError, match="nbins"):
            cubeaxis.parse_nbins(text)


def test_binned_channels_lie_within_the_edges():
    # Ten channels of 1 MHz from 1000 MHz on: three bins of 3, the first centred at 1001.5.
    axis = cubeaxis.axis(1000e6, 1010e6, 1e6, nbin=3)
    assert (axis.start_hz, axis.width_hz, axis.nchan) == (1001.5e6, 3e6, 3)


def test_a_start_and_a_number_of_channels():
    axis = cubeaxis.axis(1000e6, 1010e6, 1e6, start="1004.5MHz", nchan=4)
    assert (axis.start_hz, axis.nchan, axis.remarks) == (1004.5e6, 4, ())
    axis = cubeaxis.axis(1000e6, 1010e6, 1e6, start="1004.5MHz", nchan=40)
    assert axis.nchan == 6  # 1004.5 to 1009.5
    assert "room for 6 of the 40" in axis.remarks[0]


def test_velocities_count_downwards_in_frequency():
    # Radio definition: at 1 km/s per channel and 1500 MHz a channel has 5.0035 kHz.
    step = 1500e6 * 1e3 / C
    axis = cubeaxis.axis(1499e6, 1501e6, 1e3, start="0km/s", width="1km/s", nchan=3, restfreq_hz=1500e6)
    assert axis.width_hz == pytest.approx(step)
    assert axis.nchan == 3
    assert axis.start_hz + 2 * axis.width_hz == pytest.approx(1500e6)  # the first in velocity is the last in frequency
    rising = cubeaxis.axis(1499e6, 1501e6, 1e3, start="0km/s", width="-1km/s", nchan=3, restfreq_hz=1500e6)
    assert rising.start_hz == pytest.approx(1500e6)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"start": "999MHz"}, "outside of the data"),
        ({"width": "0.5MHz"}, "narrower"),
        ({"width": "2MHz", "nbin": 2}, "exclude"),
        ({"start": "0km/s"}, "rest frequency"),
        ({"width": "20MHz"}, "no room"),
        ({"start": "first"}, "start is a frequency"),
    ],
)
def test_impossible_axes_are_refused(wanted, message):
    with pytest.raises(InputError, match=message):
        cubeaxis.axis(1000e6, 1010e6, 1e6, **wanted)


def test_a_width_within_five_per_cent_is_that_of_the_data():
    assert cubeaxis.axis(1000e6, 1010e6, 1e6, width="0.96MHz").width_hz == 1e6
    assert cubeaxis.axis(1000e6, 1010e6, 1e6, width="1.04MHz").width_hz == 1e6


# ---- types of data, groups -------------------------------------------------------------------------------------------


def data(*types: DataType, session: str = "s1", stem: str = "a", column: str = "DATA") -> Any:
    return SimpleNamespace(
        column_of=lambda t, **_: column if t in types else None, session=session, stem=stem, name=f"{stem}.ms"
    )


REGCAL, SELFCAL, RAW = DataType.REGCAL_CONT_SCIENCE, DataType.SELFCAL_CONT_SCIENCE, DataType.RAW


def test_the_best_type_is_taken_and_words_choose_others():
    sets = [data(REGCAL, RAW), data(SELFCAL)]
    assert imlist.chosen_types(sets, "TARGET", "cont", "") == (SELFCAL,)
    assert imlist.chosen_types(sets, "TARGET", "cont", "best") == (SELFCAL,)
    assert imlist.chosen_types(sets, "TARGET", "cont", "regcal") == (REGCAL,)
    assert imlist.chosen_types(sets, "TARGET", "cont", "all") == (SELFCAL, REGCAL)
    assert imlist.chosen_types(sets, "TARGET", "cont", "regcal_cont_science, raw") == (REGCAL, RAW)
    assert imlist.chosen_types(sets, "PHASE", "cont", "") == (RAW,)
    assert imlist.chosen_types([data(REGCAL)], "TARGET", "cont", "selfcal") == ()
    with pytest.raises(UnknownName, match="better"):
        imlist.chosen_types(sets, "TARGET", "cont", "better")
    with pytest.raises(InputError, match="stand alone"):
        imlist.chosen_types(sets, "TARGET", "cont", "best,regcal")


def test_a_column_is_labelled_with_its_type():
    sets = [data(DataType.REGCAL_CONTLINE_ALL, column="CORRECTED_DATA")]
    assert imlist.chosen_types(sets, "TARGET", "cont", "", "corrected") == (DataType.REGCAL_CONTLINE_ALL,)
    with pytest.raises(InputError, match="column DATA"):
        imlist.chosen_types(sets, "TARGET", "cont", "", "data")


def test_execution_blocks_and_sessions():
    sets = [data(RAW, stem="a"), data(RAW, stem="b"), data(RAW, stem="c", session="s2")]
    assert [(n, len(s)) for n, s in imlist.groups(sets, False, False)] == [("", 3)]
    assert [(n, len(s)) for n, s in imlist.groups(sets, True, False)] == [("a", 1), ("b", 1), ("c", 1)]
    assert [(n, len(s)) for n, s in imlist.groups(sets, False, True)] == [("s1", 2), ("s2", 1)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"per_eb": True, "per_session": True}, "exclude"),
        ({"datatype": "raw", "datacolumn": "data"}, "exclude"),
        ({"specmode": "cube", "width": "1MHz", "nbins": "0:2"}, "exclude"),
        ({"specmode": "cont", "nchan": 5}, "only cubes"),
        ({"hm_imsize": "wide"}, "hm_imsize"),
        ({"phasecenter": "over there"}, "phasecenter"),
        ({"uvrange": ">5 stones"}, "uvrange"),
        ({"uvtaper": ["5 stones"]}, "uvtaper"),
        ({"specmode": "cube", "start": "soon"}, "start"),
        ({"hm_cell": "5 stones"}, "hm_cell"),
        ({"datatype": "better"}, "data type"),
    ],
)
def test_parameters_are_judged_before_work_starts(given, message):
    with pytest.raises(InputError, match=message):
        resolve(MakeimlistInputs, {}, given)


# ---- lines.dat -------------------------------------------------------------------------------------------------------


def test_what_is_outside_the_lines_is_continuum(tmp_path):
    file = tmp_path / "lines.dat"
    file.write_text("# HI\n1.4200~1.4210GHz LSRK\n1425~1426MHz; 1.4255~1.4270GHz\n")
    lines = linefiles.read_linesfile(file)
    assert lines == ((1420e6, 1421e6), (1425e6, 1426e6), (1425.5e6, 1427e6))
    assert linefiles.without_lines(1419e6, 1430e6, lines) == (
        (1419e6, 1420e6), (1421e6, 1425e6), (1427e6, 1430e6),
    )  # fmt: skip
    assert linefiles.without_lines(1420.2e6, 1420.8e6, lines) == ()
    assert linefiles.without_lines(1400e6, 1410e6, lines) == ((1400e6, 1410e6),)


def test_a_file_of_lines_that_is_none_is_refused(tmp_path):
    bad = tmp_path / "lines.dat"
    bad.write_text("around 1420 MHz\n")
    with pytest.raises(InputError, match="line 1"):
        linefiles.read_linesfile(bad)
    with pytest.raises(InputError, match="Cannot read"):
        linefiles.read_linesfile(tmp_path / "absent.dat")


def test_a_file_of_ranges_is_looked_for_beside_the_run_then_in_what_was_restored(tmp_path) -> None:
    import tarfile
    from types import SimpleNamespace

    from pl_hif.linefiles import known_contfile

    work, stage, products = tmp_path / "data/run/work", tmp_path / "data/run/stages/1", tmp_path / "products"
    for folder in (work, stage, products):
        folder.mkdir(parents=True)
    restored: list[str] = []
    ctx = SimpleNamespace(work=work, stage_dir=stage, value=lambda key: restored[0] if restored else None)
    assert known_contfile(ctx) is None
    restored.append(str(products))
    assert known_contfile(ctx) is None, "nothing was delivered"
    (tmp_path / "cont.dat").write_text("of the archive")
    with tarfile.open(products / "run.auxproducts.tgz", "w:gz") as archive:
        archive.add(tmp_path / "cont.dat", "cont.dat")
    found = known_contfile(ctx)
    assert found is not None and found.read_text() == "of the archive"
    (tmp_path / "data/cont.dat").write_text("of the user")
    found = known_contfile(ctx)
    assert found is not None and found.read_text() == "of the user", "a hand edit wins"


def test_a_rest_frequency_is_that_of_the_window_and_not_of_another() -> None:
    from types import SimpleNamespace

    from pl_hif.imagegeometry import named_rest_frequency

    def named(frequencies: dict[int, tuple[float, ...]], spw: int, low_hz: float) -> float | None:
        source = SimpleNamespace(id=7, rest_frequencies_hz=frequencies)
        ms = SimpleNamespace(fields=(SimpleNamespace(name="A", source_id=7),), sources=(source,))
        return named_rest_frequency([(ms, SimpleNamespace(id=spw, min_hz=low_hz))], "A")

    both = {0: (1.4204e9,), 1: (1.6674e9,)}
    assert named(both, 0, 1.418e9) == 1.4204e9
    assert named(both, 1, 1.665e9) == 1.6674e9
    assert named(both, 2, 1.300e9) is None, "a window without a line of its own"
    assert named({-1: (1.4204e9,)}, 5, 1.0e9) == 1.4204e9, "one for all, seen at a redshift of 0.4"
    assert named({0: (1.4204e9,)}, 0, 8.0e9) is None, "left over from another receiver"
    assert named({0: (115.2712e9,)}, 0, 115.4e9) == 115.2712e9, "M31 comes towards us with 300 km/s"
    assert named({0: ()}, 0, 1e9) is None
