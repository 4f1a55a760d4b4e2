"""Rules and description of the VLA."""

from __future__ import annotations

import math

import attrs
import pytest

from pl_hifv.heuristics import bands, flagging, imaging, opacity
from pl_hifv.heuristics.flagging import ScanTiming
from pl_hifv.telescopes import STANDARDS, VLA, strength
from pl_kernel import InputError
from pl_kernel.common.importing import typed
from pl_kernel.ms.datatypes import DataType, default_types


def timing(i: int, field: int, dumps: int, spws: tuple[int, ...] = (0,)) -> ScanTiming:
    return ScanTiming(id=i, field=field, spws=spws, integrations=dumps)


@pytest.mark.parametrize(
    ("channels", "fraction", "expected"),
    [(63, 0.05, (0, 1, 2, 60, 61, 62)), (64, 0.01, (0, 63)), (64, 0.0, ()), (4, 0.05, ())],
)
def test_edge_channels(channels: int, fraction: float, expected: tuple[int, ...]) -> None:
    assert flagging.edge_channels(channels, fraction) == expected


def test_edges_as_a_selection() -> None:
    assert flagging.edge_selection([(0, 63), (2, 4), (3, 64)], 0.05) == "0:0~2;60~62,3:0~2;61~63"


def test_quack_takes_scans_that_moved() -> None:
    interval, scans, _ = flagging.quack([timing(1, 0, 50), timing(2, 0, 50), timing(3, 1, 50), timing(4, 1, 50, (1,))],
    3.0)
    assert interval == pytest.approx(4.5) and scans == (1, 3, 4)


def test_quack_spares_short_scans_of_averaged_data() -> None:
    interval, scans, reason = flagging.quack([timing(1, 0, 12), timing(2, 1, 2), timing(3, 2, 31)], 30.0)
    assert interval == pytest.approx(15.0) and scans == (1, 3) and "spared" in reason


@pytest.mark.parametrize(
    ("band", "low", "width", "channels", "line"),
    [
        ("L", 1.4127e9, 1.55e6, 63, True),  # 24.6 kHz
        ("L", 1.0e9, 64e6, 64, False),  # 1 MHz
        ("P", 0.3e9, 16e6, 1024, False),
        ("C", 5e9, 128e6, 64, False),
        ("C", 5e9, 32e6, 64, True),
        ("K", 22e9, 128e6, 256, True),
    ],
)
def test_line_or_continuum(band: str, low: float, width: float, channels: int, line: bool) -> None:
    assert bands.is_line_window(band, low, width, channels) is line


def test_opacity_is_wetter_in_the_monsoon() -> None:
    assert opacity.seasonal_pwv_mm(213) == pytest.approx(12.0)
    assert opacity.seasonal_pwv_mm(213 + 365.25 / 2) == pytest.approx(4.0)


def test_water_from_the_ground() -> None:
    # 293.15 K, 50 %: e = 0.5·2333 Pa (saturation at 20 °C is 2.33 kPa), ρ = 1167/(461.5·293.15) = 8.6 g/m³, × 2 km.
    assert opacity.surface_pwv_mm(293.15, 50.0) == pytest.approx(17.2, abs=0.3)
    assert math.isnan(opacity.surface_pwv_mm(None, 50.0))


def test_pwv_without_weather_is_the_seasons() -> None:
    value, reason = opacity.pwv_mm(103)
    assert value == pytest.approx(opacity.seasonal_pwv_mm(103)) and "season" in reason


@pytest.mark.parametrize(
    ("name", "ghz", "band"),
    [("none", 1.4134, "L"), ("EVLA_X#A0C0#0", 1.0, "X"), ("EVLA_KU#A0C0#0", 1.0, "Ku"), ("EVLA_K#A0C0#1", 1.0, "K"),
     ("EVLA_KA#B0D0#1", 1.0, "Ka"), ("Subband:7", 45.0, "Q")],
)  # fmt: skip
def test_band_by_name_then_by_frequency(name: str, ghz: float, band: str) -> None:
    assert VLA.band_of(ghz * 1e9, name) == band


def test_standards_are_found_under_all_their_names() -> None:
    for alias in ("3C286", "1331+305", "J1331+3030", "1328+307", "3c 286"):
        found = VLA.calibrator(alias)
        assert found is not None and found.name == "3C286"
    # The direction of 1331+305 in the demonstration data, 13:31:08.2873 +30.30.32.959.
    c286 = next(s for s in STANDARDS if s.name == "3C286")
    assert c286.ra_rad == pytest.approx(math.radians(15 * (13 + 31 / 60 + 8.2873 / 3600)), abs=1e-7)


def test_3c286_is_the_strongest_standard_at_high_frequencies_and_3c147_at_low() -> None:
    # Perley & Butler 2017: at 1.4 GHz 3C147 has 22 Jy, 3C286 15 Jy; at 8.4 GHz 3C286 5.2 Jy, 3C147 4.8 Jy, 3C48 3.2 Jy.
    names = [s.name for s in STANDARDS]
    assert max(names, key=lambda n: strength(n, 1.4e9)) == "3C147"
    assert max(names, key=lambda n: strength(n, 8.4e9)) == "3C286"


def test_old_and_new_words_for_intents() -> None:
    assert VLA.intents.intents_of("CALIBRATE_FLUX#UNSPECIFIED") == {"AMPLITUDE"}
    assert VLA.intents.intents_of("CALIBRATE_AMPLI#UNSPECIFIED,CALIBRATE_PHASE#UNSPECIFIED") == {"PHASE"}
    assert VLA.intents.intents_of("OBSERVE_TARGET#UNSPECIFIED") == {"TARGET"}


def test_imaging_rules_of_the_vla() -> None:
    assert imaging.robust("cube").value == 2.0 and imaging.robust("cont").value == 0.5
    assert imaging.view_level("cont", 20e9).value == 0.294 and imaging.view_level("cont", 1.4e9).value == 0.016
    assert imaging.view_level("cube", 1.4e9).value is None


def test_the_user_says_what_columns_hold() -> None:
    ms = attrs.make_class("Set", ["name", "columns", "data_types", "intents"])
    data = ms("a.ms", ("DATA", "CORRECTED_DATA"), default_types(("DATA",)), frozenset({"PHASE", "TARGET"}))
    found = typed(data, {"data": "regcal_contline"}).data_types
    assert [(t.column, t.data_type) for t in found] == [("DATA", DataType.REGCAL_CONTLINE_ALL)]
    assert typed(data, {}).data_types == data.data_types
    with pytest.raises(InputError, match="no CORRECTED_DATA"):
        typed(attrs.evolve(data, columns=("DATA",)), {"corrected": "raw"})
