"""What stages refuse, and the helpers that stand between heuristics and CASA."""

from __future__ import annotations

import datetime as dt

import attrs
import numpy as np
import pytest

from pl_hif import grids, solve
from pl_hif.flags import FlagCounts, counts, list_counts
from pl_hif.targets import LineRegion, channel_text
from pl_kernel import PlError
from pl_kernel.ms.model import (
    Antenna,
    AntennaArray,
    DataDescription,
    Field,
    Frame,
    MeasurementSet,
    Polarization,
    Scan,
    SpectralWindow,
)
from pl_kernel.ms.virtual import RealSpw

START = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


Positions = dict[int, tuple[float, float]]


def observation(intents: dict[int, set[str]], positions: Positions | None = None) -> MeasurementSet:
    """Fields 0, 1, 2 … observed one after another with the given intents; positions in degrees."""
    window = SpectralWindow(
        id=RealSpw(0), name="none", n_channels=63, first_hz=1.4e9, step_hz=24e3, resolution_hz=24e3,
        bandwidth_hz=63 * 24e3, ref_frequency_hz=1.4e9, frame=Frame.LSRK,
    )  # fmt: skip
    where = positions or {i: (10.0 * i, 0.0) for i in intents}
    fields = tuple(
        Field(
            id=i, name=f"f{i}", source_id=i,
            ra_rad=np.radians(where[i][0]), dec_rad=np.radians(where[i][1]),
            intents=frozenset(words), spws=frozenset({0}),
        )
        for i, words in intents.items()
    )  # fmt: skip
    scans = tuple(
        Scan(
            id=i + 1, start=START + dt.timedelta(minutes=i), end=START + dt.timedelta(minutes=i + 1), field_ids=(i,),
            spw_ids=(RealSpw(0),), antenna_ids=(0, 1), n_rows=10, intent_sets={i: frozenset({frozenset(words)})},
        )
        for i, words in intents.items()
    )  # fmt: skip
    return MeasurementSet(
        name="a.ms", path="a.ms", telescope="", sources=(), fields=fields, spws=(window,), states=(), scans=scans,
        array=AntennaArray("", tuple(Antenna(i, f"a{i}", "", 25.0, (100.0 * i, 0.0, 0.0)) for i in range(2))),
        polarizations=(Polarization(0, ("RR", "LL")),), data_descriptions=(DataDescription(0, RealSpw(0), 0),),
        columns=("DATA",), start=START, end=START + dt.timedelta(hours=1), n_rows=30, intents_from="rules",
    )  # fmt: skip


def test_a_missing_calibrator_is_named_with_what_to_do() -> None:
    with pytest.raises(PlError, match=r"BANDPASS.*the bandpass.*--intent") as error:
        solve.fields_for(observation({0: {"TARGET"}}), "BANDPASS", "the bandpass")
    assert "a.ms" in str(error.value)


def test_a_table_without_solutions_is_refused() -> None:
    empty = solve.Caltable(vis="a.ms", path="x", kind="phase", rows=0, fields=("f0",))
    with pytest.raises(PlError, match="f0"):
        solve.require(empty, "the gains")
    stats = solve.SolutionStats(
        antenna="a0", spw=0, pol=0, solutions=5, flagged=5, snr=0.0, amplitude=0.0, amplitude_rms=0.0,
        phase_rms_deg=0.0, phase_jumps=0.0,
    )  # fmt: skip
    with pytest.raises(PlError):
        solve.require(attrs.evolve(empty, rows=5, stats=(stats,)), "the gains")
    good = attrs.evolve(empty, rows=5, stats=(attrs.evolve(stats, flagged=1),))
    assert solve.require(good, "the gains") is good


def test_a_target_gets_the_phase_calibrator_nearest_in_the_sky() -> None:
    ms = observation({0: {"PHASE"}, 1: {"PHASE"}, 2: {"TARGET"}}, {0: (0.0, 0.0), 1: (358.0, 0.0), 2: (359.5, 0.0)})
    assert solve.nearest_phase_calibrator(ms, ms.field(2)).name == "f0"  # 0.5 against 1.5 degrees, across 0h


def test_central_windows_as_a_selection() -> None:
    assert solve.central_spws(observation({0: {"PHASE"}})) == "0:21~43"


def test_statistics_leave_out_antennas_that_took_no_data() -> None:
    n = 6
    solutions = solve.Solutions(
        time_s=np.arange(n, dtype=float), antenna=np.array([0, 0, 0, 9, 9, 9]), field=np.zeros(n, int),
        spw=np.zeros(n, int), scan=np.ones(n, int), gain=np.full((2, 1, n), 2 + 0j),
        flag=np.broadcast_to(np.array([0, 0, 1, 1, 1, 1], bool), (2, 1, n)), snr=np.full((2, 1, n), 50.0),
        frequency_hz={},
    )  # fmt: skip
    found = solve.statistics(solutions, {0: "a0"})
    assert [(s.antenna, s.pol, s.solutions, s.flagged, s.amplitude) for s in found] == [
        ("a0", 0, 3, 1, 2.0),
        ("a0", 1, 3, 1, 2.0),
    ]


@pytest.mark.parametrize(
    ("degrees", "expected"),
    # Steps of 1, 2, 3 degrees: MAD 1 around 2, so nothing beyond 7 but the jump of 60, one of 18 steps. A wrap is none.
    [
        (np.cumsum([1, 2, 3] * 6), 0.0),
        (np.cumsum([1, 2, 3] * 3 + [60] + [1, 2, 3] * 3), 1 / 18),
        (np.cumsum([31, 32, 33] * 6), 0.0),
        (np.cumsum([5] * 20), 0.0),
    ],
)
def test_phase_jumps_have_no_sign_and_wraps_are_none(degrees: np.ndarray, expected: float) -> None:
    assert solve.phase_jump_fraction(np.radians(degrees)) == pytest.approx(expected)
    assert solve.phase_jump_fraction(-np.radians(degrees)) == pytest.approx(expected)


def coverage(**changes: object) -> grids.Coverage:
    plain = grids.Coverage(
        vis="a.ms", spw=0, seen=np.ones(63, bool), first=3, last=59, first_hz=1000.0, last_hz=1560.0, frame="LSRK",
        shifted=False,
    )  # fmt: skip
    return attrs.evolve(plain, **changes)


def test_a_cube_of_data_in_its_own_frame_keeps_the_channels() -> None:
    grid = grids.cube_grid([coverage()])
    assert (grid.start_hz, grid.width_hz, grid.nchan, grid.interpolation) == (1000.0, 10.0, 57, "nearest")


def test_a_cube_of_shifting_data_loses_a_channel_and_a_half_at_each_end() -> None:
    grid = grids.cube_grid([coverage(shifted=True)])
    assert (grid.start_hz, grid.nchan, grid.interpolation) == (1015.0, 54, "linear")


def test_a_cube_covers_what_all_sets_have() -> None:
    grid = grids.cube_grid([coverage(), coverage(vis="b.ms", first_hz=1100.0, last_hz=1660.0)])
    assert grid.start_hz == 1115.0 and grid.centres_hz()[-1] <= 1545.0


def test_sets_without_a_common_frequency_are_refused() -> None:
    with pytest.raises(PlError, match="in common"):
        grids.cube_grid([coverage(), coverage(first_hz=2000.0, last_hz=2560.0)])


def test_frequencies_become_channels_whatever_the_orientation() -> None:
    assert coverage().channels(1000.0, 1050.0) == (3, 8)
    assert coverage(first_hz=1560.0, last_hz=1000.0).channels(1000.0, 1050.0) == (54, 59)
    assert coverage().channels(1700.0, 1800.0) is None


def test_pointings_of_one_name_are_a_mosaic_with_its_centre() -> None:
    single = observation({0: {"TARGET"}, 1: {"TARGET"}})
    assert grids.pointing([single], "f0").gridder == "standard"
    ms = observation({0: {"TARGET"}, 1: {"TARGET"}}, {0: (359.9, 60.0), 1: (0.3, 60.1)})
    both = attrs.evolve(ms, fields=tuple(attrs.evolve(f, name="m") for f in ms.fields))
    found = grids.pointing([both], "m")
    # 0.4 deg of right ascension are 0.4·cos(60.05°) = 0.1997 deg = 719 arcsec; 0.1 deg of declination are 360.
    assert found.gridder == "mosaic" and found.spread_arcsec == pytest.approx(718.9, abs=0.5)
    assert found.phasecenter == "J2000 0.1000000deg 60.0500000deg"


def test_flag_counts_of_casa() -> None:
    report = {"flagged": 10.0, "total": 40.0, "field": {"f": {"flagged": 10.0, "total": 20.0}}, "name": "x"}
    assert counts(report).fraction == 0.25 and counts(report).fraction_of("field", "f") == 0.5
    assert counts(report).fraction_of("field", "absent") == 1.0
    listed = list_counts({"type": "list", "report10": report, "report2": {**report, "name": "first"}})
    assert [c.name for c in listed] == ["first", "x"]
    assert FlagCounts(name="", flagged=0.0, total=0.0).fraction == 1.0


def test_texts_for_casa() -> None:
    assert channel_text([(3, 9), (48, 59)]) == "3~9;48~59"
    assert LineRegion(corners_deg=((230.5, 5.0), (230.4, 5.1))).casa == (
        "box[[230.500000deg,5.000000deg],[230.400000deg,5.100000deg]]"
    )


def test_the_order_of_the_fit_is_the_users_where_he_gave_one() -> None:
    from pl_hif.stages.uvcontsub import UvcontsubInputs, _fits
    from pl_hif.targets import ContinuumRecord
    from pl_kernel import InputError
    from pl_kernel.ms.virtual import VirtualSpws
    from pl_kernel.params import resolve

    ms = observation({0: {"TARGET"}, 1: {"TARGET"}})
    records = {
        name: ContinuumRecord(
            field=name, spw=0, frame="LSRK", ranges_hz=((1.4e9, 1.401e9),), channels={"a.ms": ((3, 9),)},
            all_continuum=False, low_bandwidth=False, low_spread=False, fit_order=1,
        )
        for name in ("f0", "f1")
    }  # fmt: skip

    def orders(**given: object) -> list[int]:
        inputs, _ = resolve(UvcontsubInputs, given, {}, "hif_uvcontsub")
        return [s.order for s in _fits(ms, records, inputs, VirtualSpws.of([ms]))[0]]  # type: ignore[arg-type]

    assert orders() == [1, 1]
    assert orders(fitorder=2) == [2, 2]
    assert orders(fitorder={"f1": {"0": 0}}) == [1, 0]
    assert orders(spw="1") == []
    for wrong in (-1, {"f1": {"0": -1}}):
        with pytest.raises(InputError):
            orders(fitorder=wrong)
