"""The data themselves: the measurement equation, the noise, reproducibility, what the tables say."""

# ruff: noqa: E741 - l, m and n are direction cosines in every paper.
from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from pl_kernel.errors import DataError
from pl_sim.errors import ImpossibleObservation
from pl_sim.truth import Truth

pytestmark = pytest.mark.casa
C = 299_792_458.0


def digest(path: Path) -> str:
    """Hash of all files of the main table that hold data (table.lock holds a process number)."""
    total = hashlib.sha256()
    for file in sorted(path.glob("table.f*")):
        total.update(file.name.encode() + file.read_bytes())
    return total.hexdigest()


def test_data_follow_the_measurement_equation(tmp_path: Path, base_observation: Any, read_rows: Callable[..., Any]):
    """V = J_p S J_q^H with 2 x 2 matrices, computed here from the truth for single rows."""
    from pl_sim.engine import simulate

    obs = attrs.evolve(
        base_observation,
        noise=attrs.evolve(base_observation.noise, scale=0.0),
        extensions=(base_observation.extensions[0],),
        # The shapes of standard calibrators have a test of their own, against CASA.
        sources=tuple(attrs.evolve(source, shape="") for source in base_observation.sources),
    )
    path = simulate(obs, tmp_path / "noiseless.ms")
    truth, rows = Truth.load(path), read_rows(path)
    from pl_sim.geometry import Geometry

    geometry = Geometry(obs.array.positions_m)
    rng = np.random.default_rng(5)
    for row in rng.choice(len(rows.data), 12, replace=False):
        p, q, s = (int(rows.columns[k][row]) for k in ("ANTENNA1", "ANTENNA2", "DATA_DESC_ID"))
        t = int(np.argmin(np.abs(truth.array("times") - rows.columns["TIME"][row])))
        fld = obs.fields[int(rows.columns["FIELD_ID"][row])]
        ra, dec = math.radians(fld.ra_deg), math.radians(fld.dec_deg)
        psi = float(geometry.parallactic_angle([rows.columns["TIME"][row]], ra, dec)[0])
        source = obs.source(fld.source)
        for channel in (3, 17):
            nu = float(truth.frequency_hz(s)[channel])
            u, v, w = rows.columns["UVW"][row] * nu / C
            sky = np.zeros((2, 2), complex)
            for c in source.components:
                l, m = (x / 3600 * math.pi / 180 for x in (c.east_arcsec, c.north_arcsec))
                phase = np.exp(2j * np.pi * (u * l + v * m + w * (math.sqrt(1 - l * l - m * m) - 1)))
                if c.major_arcsec:
                    angle = math.radians(c.position_angle_deg)
                    along = u * math.sin(angle) + v * math.cos(angle)
                    across = u * math.cos(angle) - v * math.sin(angle)
                    size = np.array([c.major_arcsec, c.minor_arcsec]) / 3600 * math.pi / 180
                    phase *= math.exp(
                        -(math.pi**2) / (4 * math.log(2)) * ((size[0] * along) ** 2 + (size[1] * across) ** 2)
                    )
                i, linear = float(c.flux(nu)), complex(c.linear_polarization(nu))
                # E field (R, L) turned by the parallactic angle.
                sky += phase * np.array([[i, linear * np.exp(-2j * psi)], [np.conj(linear) * np.exp(2j * psi), i]])
            jones = []
            for a in (p, q):
                d = truth.array(f"leakage_{s}")[a, :, 0]
                delay = np.exp(
                    2j * np.pi * truth.array("delay_s")[a, :, s] * (nu - truth.array("delay_reference_hz")[s])
                )
                path_phase = np.exp(-2j * np.pi * truth.array("path_m")[t, a] * nu / C)
                g = (
                    truth.array("gain")[t, a, :, s]
                    * truth.array("transmission")[t, a, s]
                    * path_phase
                    * delay
                    * truth.array(f"bandpass_{s}")[a, :, channel]
                )
                jones.append(np.diag(g) @ np.array([[1, d[0]], [d[1], 1]]))
            expected = (jones[0] @ sky @ jones[1].conj().T).ravel()
            scale = np.abs(expected).max()
            assert np.allclose(rows.data[row, channel], expected, atol=2e-4 * scale), (row, channel)


def test_noise_in_an_empty_field_is_that_of_the_radiometer(
    tmp_path: Path, base_observation: Any, read_rows: Callable[..., Any]
):
    from pl_sim.engine import simulate

    obs = attrs.evolve(
        base_observation,
        sources=tuple(attrs.evolve(s, components=()) for s in base_observation.sources),
        scans=base_observation.scans[4:5],
        extensions=base_observation.extensions[:1],
    )
    path = simulate(obs, tmp_path / "empty.ms")
    truth, rows = Truth.load(path), read_rows(path)
    p, q, s = (rows.columns[k] for k in ("ANTENNA1", "ANTENNA2", "DATA_DESC_ID"))
    times = np.argmin(np.abs(truth.array("times")[None] - rows.columns["TIME"][:, None]), axis=1)
    gain = np.abs(truth.array("gain")) * truth.array("transmission")[:, :, None]
    for hand, (a, b) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        ratio = []
        for spw in range(4):
            mine = s == spw
            response = (gain[times, p, a, s] * gain[times, q, b, s])[mine, None] * np.abs(
                truth.array(f"bandpass_{spw}")[p[mine], a] * truth.array(f"bandpass_{spw}")[q[mine], b]
            )
            sefd = truth.array(f"sefd_jy_{spw}")[..., 0]
            air = truth.array("transmission")[times, :, spw][mine]
            both = np.sqrt(sefd[p[mine], a] * sefd[q[mine], b]) / (
                air[np.arange(mine.sum()), p[mine]] * air[np.arange(mine.sum()), q[mine]]
            )
            # SEFD / (efficiency sqrt(2 bandwidth time)), 4 MHz and 5 s.
            sigma = both / (0.92 * math.sqrt(2 * 4e6 * 5.0))
            jansky = rows.data[mine, :, hand] / response / sigma[:, None]
            ratio += [jansky.real.std(), jansky.imag.std()]
            assert abs(jansky.mean()) < 5 / math.sqrt(jansky.size)
        assert np.all(np.abs(np.array(ratio) - 1) < 0.03), ratio
        assert abs(np.mean(ratio) - 1) < 0.01


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, base_observation: Any, clean: tuple[Path, Any]):
    from pl_sim.engine import simulate

    again = simulate(base_observation, tmp_path / "again.ms")
    assert digest(again) == digest(clean[0])


def test_another_seed_gives_other_noise_and_the_same_truth(
    tmp_path: Path, base_observation: Any, clean: tuple[Path, Any], read_rows: Callable[..., Any]
):
    from pl_sim.engine import simulate

    other = simulate(base_observation, tmp_path / "other.ms", seed=2)
    assert np.mean(read_rows(other).data != clean[1].data) > 0.999
    one, two = Truth.load(clean[0]), Truth.load(other)
    with np.load(one.path / "arrays.npz") as a, np.load(two.path / "arrays.npz") as b:
        assert set(a) == set(b)
        assert all(np.array_equal(a[k], b[k]) for k in a)
    assert {**one.record, "seed": 2} == two.record


def test_data_do_not_depend_on_how_the_work_is_cut(
    tmp_path: Path,
    base_observation: Any,
    clean: tuple[Path, Any],
    read_rows: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
):
    from pl_sim import engine

    monkeypatch.setattr(engine, "BUFFER_BYTES", 300_000)
    monkeypatch.setattr(engine, "_CACHE_BYTES", 40_000)
    cut = read_rows(engine.simulate(base_observation, tmp_path / "cut.ms"))
    assert np.allclose(cut.data, clean[1].data, rtol=1e-5)
    assert np.array_equal(cut.columns["TIME"], clean[1].columns["TIME"])


def test_what_is_not_a_simulation_is_not_overwritten(tmp_path: Path, base_observation: Any):
    from pl_sim.engine import simulate

    (tmp_path / "real.ms").mkdir()
    with pytest.raises(ImpossibleObservation, match="is not a simulation"):
        simulate(base_observation, tmp_path / "real.ms")


def test_an_interrupted_simulation_may_be_replaced(tmp_path: Path, base_observation: Any):
    from pl_sim.engine import simulate

    def stop(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(base_observation, tmp_path / "x.ms", progress=stop)
    with pytest.raises(DataError, match="has no truth"):
        Truth.load(tmp_path / "x.ms")
    assert Truth.load(simulate(base_observation, tmp_path / "x.ms")).antennas == base_observation.array.names


def test_rows_are_in_order_of_time_and_flags_as_a_correlator_leaves_them(clean: tuple[Path, Any]):
    from pl_sim.casa import open_table

    assert np.all(np.diff(clean[1].columns["TIME"]) >= 0)
    with open_table(clean[0]) as tb:
        assert not tb.getcol("FLAG").any()
        # 2 x 4 MHz x 5 s.
        assert np.all(tb.getcol("WEIGHT") == 4e7)
        assert np.allclose(tb.getcol("SIGMA"), 4e7**-0.5)


def test_the_set_looks_like_one_of_the_evla(clean: tuple[Path, Any], tmp_path: Path):
    from pl_sim.casa import open_table, tool

    md = tool("msmetadata")
    md.open(str(clean[0]))
    try:
        assert md.observatorynames() == ["EVLA"]
        assert list(md.namesforspws()) == ["EVLA_C#A0C0#0", "EVLA_C#A0C0#1", "EVLA_C#B0D0#2", "EVLA_C#B0D0#3"]
        assert [md.baseband(k) for k in range(4)] == [12, 12, 15, 15]
        assert md.fieldnames() == ["1331+305=3C286", "J1407+2827", "J1310+3220", "SIM_TARGET"]
        assert set(md.intentsforscan(2)) == {
            f"CALIBRATE_{x}#UNSPECIFIED" for x in ("BANDPASS", "DELAY", "FLUX", "POL_ANGLE")
        }
        assert list(md.scansforintent("OBSERVE_TARGET#UNSPECIFIED")) == [5, 7]
        assert list(md.corrtypesforpol(0)) == [5, 6, 7, 8]
        assert md.nantennas() == 8
        assert md.antennastations()[0] in {f"{arm}{n:02d}" for arm in "NEW" for n in range(1, 10)}
        assert md.schedule(0)[1].startswith("ExecBlock uid://evla/")
    finally:
        md.done()
    with open_table(clean[0] / "WEATHER") as tb:
        assert tb.nrows() > 8 and np.all(np.abs(tb.getcol("TEMPERATURE") - 285) < 1)


def test_switched_power_holds_the_gains_and_system_temperatures(clean: tuple[Path, Any]):
    """By hand: SWITCHED_DIFF = G rq^2 Tcal and SWITCHED_SUM = G rq^2 (2 Tsys + Tcal)."""
    from pl_sim.casa import open_table

    truth = Truth.load(clean[0])
    with open_table(clean[0] / "SYSPOWER") as tb, open_table(clean[0] / "CALDEVICE") as device:
        mine = (tb.getcol("ANTENNA_ID") == 2) & (tb.getcol("SPECTRAL_WINDOW_ID") == 1)
        difference, total, rq = (tb.getcol(k)[:, mine] for k in ("SWITCHED_DIFF", "SWITCHED_SUM", "REQUANTIZER_GAIN"))
        times = tb.getcol("TIME")[mine]
        noise = device.getcol("NOISE_CAL").reshape(2, -1)
        row = np.nonzero((device.getcol("ANTENNA_ID") == 2) & (device.getcol("SPECTRAL_WINDOW_ID") == 1))[0][0]
    for receptor in (0, 1):
        tcal = truth.array("tcal_k")[2, receptor, 1]
        assert math.isclose(noise[receptor, row], tcal, rel_tol=1e-6)
        tsys = tcal * (total[receptor] / difference[receptor] - 1) / 2
        assert abs(np.mean(tsys) / truth.array("tsys_k")[2, receptor, 1] - 1) < 0.003
        gain = np.sqrt(difference[receptor] / tcal)
        voltage = np.interp(times, truth.array("times"), np.sqrt(truth.array("switched_gain")[:, 2, receptor, 1]))
        assert np.all(np.abs(gain / (voltage * rq[receptor]) - 1) < 0.01)
    sefd = truth.array("tsys_k") / truth.array("kelvin_per_jy")
    assert np.allclose(sefd[:, :, 1], truth.array("sefd_jy_1")[..., 0])
