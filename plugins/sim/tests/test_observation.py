"""Descriptions: what is refused, and the arithmetic of schedules and spectra."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np
import pytest

from pl_sim.errors import ImpossibleObservation, UnknownFault, UnknownPreset
from pl_sim.evla import FLUX_CALIBRATORS, RECEIVERS
from pl_sim.faults import make_fault, parse_fault
from pl_sim.instrument import Instrument
from pl_sim.observation import Antenna, Array, Component, Line, Observation, Scan, Source, Spw
from pl_sim.presets import get_preset
from pl_sim.schedule import casa_time, mjd_seconds, time_range, timeline

VLA = (-1601188.99, -5042000.52, 3554843.38)
ARRAY = Array("EVLA", "D", (Antenna("ea01", "W01", VLA), Antenna("ea02", "W05", (VLA[0] - 200.0, VLA[1], VLA[2]))))
SPW = Spw("EVLA_C#A0C0#0", RECEIVERS["C"], 5.0e9, 2e6, 64, "A0C0", 12)


def observation(**changes: Any) -> Observation:
    source = Source("CAL", 202.78, 30.51, (Component(1.0, 5e9),))
    base: dict[str, Any] = {
        "name": "test",
        "array": ARRAY,
        "spws": (SPW,),
        "sources": (source,),
        "start": "2024-01-10T11:10:00",
        "scans": (Scan.simple(1, "CAL", 60.0, ("OBSERVE_TARGET#UNSPECIFIED",), (0,)),),
        "integration_s": 5.0,
        "instrument": Instrument(),
    }
    return Observation(**{**base, **changes})


def test_a_possible_observation_is_accepted():
    assert observation().array.names == ("ea01", "ea02")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"start": "2024-01-10T23:10:00"}, "below the horizon"),
        ({"sources": (Source("CAL", 202.78, -45.0, (Component(1.0, 5e9),)),)}, "limit of 8 deg"),
        ({"spws": (attrs.evolve(SPW, start_hz=8.1e9),)}, "outside the 4-8 GHz of receiver EVLA_C"),
        ({"sources": (Source("CAL", 202.78, 30.51, (Component(-1.0, 5e9),)),)}, "are not negative"),
        (
            {"sources": (Source("CAL", 202.78, 30.51, (Component(1.0, 5e9, polarized_fraction=1.2),)),)},
            "between 0 and 1",
        ),
        ({"sources": (Source("CAL", 202.78, 30.51, (), (Line(5e9, 1.0, 0.0, 0.0),)),)}, "must be positive"),
        ({"integration_s": 0.0}, "must be positive"),
        ({"scans": ()}, "has no scans"),
        ({"scans": (Scan.simple(1, "CAL", 2.0, ("X#UNSPECIFIED",), (0,)),)}, "shorter than one integration"),
        ({"scans": (Scan.simple(1, "NOWHERE", 60.0, ("X#UNSPECIFIED",), (0,)),)}, "NOWHERE, which is not described"),
        ({"scans": (Scan.simple(1, "CAL", 60.0, ("X#UNSPECIFIED",), (3,)),)}, "spw 3, which is not described"),
        ({"array": attrs.evolve(ARRAY, antennas=(ARRAY.antennas[0],) * 2)}, "names an antenna twice"),
    ],
)
def test_an_impossible_observation_is_refused_with_a_sentence(changes: dict[str, Any], words: str):
    with pytest.raises(ImpossibleObservation) as caught:
        observation(**changes)
    sentence = str(caught.value)
    assert words in sentence
    assert sentence.endswith(".") and "\n" not in sentence


def test_unknown_names_are_refused_with_what_is_near():
    with pytest.raises(UnknownPreset, match="vla-c-cont-d"):
        get_preset("vla-c-cont")
    with pytest.raises(UnknownFault, match="dead-antenna"):
        parse_fault("dead-antena")
    with pytest.raises(UnknownFault, match="has no parameter volume; it has antenna"):
        parse_fault("dead-antenna=volume:11")
    with pytest.raises(UnknownFault, match="must be a float, not loud"):
        parse_fault("rfi-narrow=jy:loud")
    with pytest.raises(UnknownFault, match="has no parameter jy"):
        make_fault("dead-antenna", jy=3)


def test_faults_are_read_from_the_command_line():
    assert parse_fault("dead-antenna=ea05").antenna == "ea05"
    rfi = parse_fault("rfi-narrow=30,width:5")
    assert (rfi.jy, rfi.width, rfi.spw) == (30.0, 5, -1)


def test_times_are_modified_julian_seconds():
    # J2000.0 noon is MJD 51544.5.
    assert mjd_seconds("2000-01-01T12:00:00") == 51544.5 * 86400
    assert casa_time(51544.5 * 86400 + 1.5) == "2000/01/01/12:00:01.500"


def test_the_timeline_has_midpoints_and_gaps():
    scans = (
        Scan.simple(1, "CAL", 20.0, ("A#UNSPECIFIED",), (0,), gap_s=12.0),
        Scan.simple(4, "CAL", 10.0, ("B#UNSPECIFIED",), (0,)),
    )
    obs = observation(scans=scans)
    start = mjd_seconds(obs.start)
    one, two = timeline(obs)
    assert np.allclose(one.times - start, [2.5, 7.5, 12.5, 17.5])
    assert np.allclose(two.times - start, [34.5, 39.5])
    assert (one.first, two.first, one.state, two.state) == (0, 4, 0, 1)
    assert time_range(obs) == (start, start + 42.0)


def test_3c286_follows_the_published_scale():
    # Perley & Butler 2017: log S = 1.2481 - 0.4507 x - 0.1798 x^2 + 0.0357 x^3; by hand at 10 GHz (x = 1): 0.6533.
    source = FLUX_CALIBRATORS["3C286"]
    assert math.isclose(float(source.flux(10e9)), 10**0.6533, rel_tol=1e-12)
    # CASA's setjy on the same scale gives 7.7210 Jy at 4.488 GHz.
    assert math.isclose(float(source.flux(4.488e9)), 7.7210, rel_tol=2e-5)


def test_polarization_turns_with_the_rotation_measure():
    component = Component(2.0, 5e9, polarized_fraction=0.1, polarization_angle_deg=30.0, rotation_measure=100.0)
    turn = 100 * 299_792_458.0**2 * (1 / 6e9**2 - 1 / 5e9**2)
    value = complex(component.linear_polarization(6e9))
    assert math.isclose(abs(value), 0.2, rel_tol=1e-12)
    assert math.isclose(
        math.remainder(math.atan2(value.imag, value.real) / 2 - math.radians(30) - turn, math.pi), 0, abs_tol=1e-12
    )


@pytest.mark.parametrize(
    "name",
    [
        "vla-c-cont-a",
        "vla-c-cont-d",
        "vla-ka-line-d",
        "vla-l-cont-a",
        "vla-l-line-d",
        "vla-multiband-d",
        "vla-two-blocks-d",
        "vla-x-cont-d",
        "vlass-s-b",
    ],
)
@pytest.mark.parametrize("scale", ["tiny", "small", "full"])
def test_every_preset_describes_a_possible_observation_at_every_scale(name: str, scale: str):
    for obs in get_preset(name).observations(scale):
        words = {i for s in obs.scans for sub in s.subscans for i in sub.intents}
        assert {"CALIBRATE_FLUX#UNSPECIFIED", "CALIBRATE_PHASE#UNSPECIFIED", "OBSERVE_TARGET#UNSPECIFIED"} <= words
        assert all(spw.name.startswith(f"{spw.receiver.name}#{spw.baseband}#") for spw in obs.spws)
        assert [int(spw.name.rsplit("#", 1)[1]) for spw in obs.spws] == list(range(len(obs.spws)))
        assert {"full": 27}.get(scale, len(obs.array.antennas)) == len(obs.array.antennas)
