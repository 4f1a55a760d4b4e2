"""Jy/K factors, XX against YY, elevations, Tsys of rows and models of the air: numbers in, numbers out."""

from __future__ import annotations

import json
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pl_hsd import jyperk_service
from pl_hsd.heuristics import atmosphere, jyperk, rowtsys, skylevel, xxyy
from pl_hsd.heuristics.jyperk import Data
from pl_hsd.stages.atmcor import Atmcor, AtmcorInputs, Corrected, Trial, modelparam
from pl_kernel.common.calspectra import CalSpectra
from pl_kernel.common.skylines import SkyLine
from pl_kernel.errors import InputError, UnknownName

DATA = Data(
    vis="uid___A002_X1_X2.ms", session="session_2", antennas=("PM01", "PM02"),
    windows={17: (230.0e9, 230.5e9), 19: (240.0e9, 242.0e9)}, polarizations={17: ("XX", "YY"), 19: ("XX", "YY")},
)  # fmt: skip


# ---- Jy/K ------------------------------------------------------------------------------------------------------------


def test_a_file_by_measurement_set() -> None:
    entries = jyperk.parse(
        "MS,Antenna,Spwid,Polarization,Factor\n# a remark\n"
        "uid___A002_X1_X2.ms,PM01,17,I,41.2\nuid___A002_X1_X2,ANONYMOUS,17,I,44.0\n"
        "uid___A002_X1_X2.ms,PM02,19,XX,40.5\nother.ms,PM02,19,YY,99\n"
    )
    assert jyperk.factors_for(DATA, entries) == {
        (17, "PM01", "XX"): 41.2, (17, "PM01", "YY"): 41.2, (17, "PM02", "XX"): 44.0, (17, "PM02", "YY"): 44.0,
        (19, "PM02", "XX"): 40.5,
    }  # fmt: skip


def test_a_file_by_session_takes_the_best_coverage() -> None:
    entries = jyperk.parse(
        "#\n#version=1\nsessionID,ObservationStartDate(UTC),ObservationEndDate(UTC),Antenna,BandCenter(MHz),"
        "BandWidth(MHz),POL,Factor\n"
        "session_2,2023-01-01,2023-01-02,ANONYMOUS,230250,500,I,43\n"
        "session_2,2023-01-01,2023-01-02,PM02,230350,500,I,39\n"  # covers 80 %
        "session_2,2023-01-01,2023-01-02,PM02,230250,500,I,38\n"
        "session_2,2023-01-01,2023-01-02,PM02,230250,600,I,37\n"  # wider than 110 % of the window
        "session_1,2023-01-01,2023-01-02,ANONYMOUS,241000,2000,I,50\n"
    )
    found = jyperk.factors_for(DATA, entries)
    assert found[(17, "PM01", "XX")] == 43 and found[(17, "PM02", "YY")] == 38
    assert not any(spw == 19 for spw, _, _ in found)
    assert [jyperk.session_number(name) for name in ("Session_default", "session_12", "7")] == [1, 12, 7]


def test_what_is_written_is_what_is_read() -> None:
    factors = {(17, "PM01", "XX"): 41.123456789, (19, "PM02", "YY"): 40.0}
    assert jyperk.factors_for(DATA, jyperk.parse(jyperk.to_csv(DATA.vis, factors))) == factors
    assert len(jyperk.expected(DATA)) == 8


@pytest.mark.parametrize(
    ("line", "says"),
    [("a.ms,PM01,17,I", "4 columns"), ("a.ms,PM01,17,I,0", "not positive"), ("a.ms,PM01,x,I,41", "invalid literal"),
     ("a.ms,PM01,17,I,nan", "not positive")],
)  # fmt: skip
def test_a_bad_line_is_named(line: str, says: str) -> None:
    with pytest.raises(InputError, match=rf"Line 2 of my.csv.*{says}"):
        jyperk.parse(f"MS,Antenna,Spwid,Polarization,Factor\n{line}\n", "my.csv")


def test_outliers_lie_beyond_the_quartiles() -> None:
    # Quartiles 41 and 43, distance 2: limits 38 and 46.
    assert jyperk.outliers([40, 41, 42, 43, 47]) == (False, False, False, False, True)


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, Any]]]:
    """A web service on this machine; what it answers and what it was asked are in the dictionary."""
    state: dict[str, Any] = {"asked": [], "answer": None}

    class Stub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(parts.query))
            state["asked"].append((parts.path, query))
            code, body = state["answer"](parts.path, query)
            self.send_response(code)
            self.end_headers()
            self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

        def log_message(self, *_args: object) -> None:
            pass

    httpd = HTTPServer(("127.0.0.1", 0), Stub)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}/jy", state
    httpd.shutdown()
    httpd.server_close()


CONDITIONS = jyperk_service.Conditions(
    date="2023-01-01T00:00:00.000", temperature_k=270.0, elevation_deg={"PM01": 50.0, "PM02": 51.0},
    windows={17: (6, 1, 230.25e9)},
)  # fmt: skip


def test_the_service_is_asked_for_the_execution_block(server: tuple[str, dict[str, Any]]) -> None:
    url, state = server
    factor = {"MS": DATA.vis, "Antenna": "PM01", "Spwid": 17, "Polarization": "I", "factor": 41.5}
    state["answer"] = lambda path, query: (200, {"success": True, "error": None, "data": {"factors": [factor]}})
    service = jyperk_service.Service(urls=("http://127.0.0.1:1/dead", url), pause_s=0, attempts=1)
    entries, told = jyperk_service.fetch(service, "asdm", DATA, CONDITIONS)
    assert told == url and state["asked"] == [("/jy/asdm/", {"uid": "uid://A002/X1/X2"})]
    assert jyperk.factors_for(DATA, entries)[(17, "PM01", "YY")] == 41.5


def test_interpolation_asks_once_for_every_antenna_and_window(server: tuple[str, dict[str, Any]]) -> None:
    url, state = server
    state["answer"] = lambda path, query: (
        200, {"success": True, "data": {"factor": {"mean": 40.0 + float(query["elevation"]) / 100}}}
    )  # fmt: skip
    entries, _ = jyperk_service.fetch(jyperk_service.Service(urls=(url,)), "interpolation", DATA, CONDITIONS)
    assert [(e.antenna, e.factor) for e in entries] == [("PM01", 40.5), ("PM02", 40.51)]
    assert state["asked"][0][1] == {
        "date": "2023-01-01T00:00:00.000", "temperature": "270.0", "antenna": "PM01", "elevation": "50.0", "band": "6",
        "baseband": "1", "frequency": "230250000000.0", "delta_days": "1000",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("code", "body", "tries"),
    [(500, {}, 3), (404, {}, 1), (200, b"<html>", 3), (200, {"success": False, "error": "no such uid", "data": {}}, 3)],
)
def test_a_service_that_fails_says_so_after_some_tries(
    server: tuple[str, dict[str, Any]], code: int, body: Any, tries: int
) -> None:
    url, state = server
    state["answer"] = lambda path, query: (code, body)
    pauses: list[float] = []
    service = jyperk_service.Service(urls=(url,), pause_s=5.0, sleep=pauses.append)
    with pytest.raises(jyperk_service.ServiceFailed, match="no factors"):
        jyperk_service.fetch(service, "asdm", DATA, CONDITIONS)
    assert len(state["asked"]) == tries and pauses == [5.0] * (tries - 1)


def test_only_web_addresses_are_asked(tmp_path: Any) -> None:
    (tmp_path / "asdm").mkdir()
    service = jyperk_service.Service(urls=(tmp_path.as_uri(),), attempts=1)
    with pytest.raises(jyperk_service.ServiceFailed, match="no address of a web service"):
        jyperk_service.fetch(service, "asdm", DATA, CONDITIONS)
    with pytest.raises(jyperk_service.ServiceFailed, match="uid"):
        jyperk_service.uid_of("my.ms")


# ---- XX against YY ---------------------------------------------------------------------------------------------------


def pair(n: int, seed: int, gain: float = 1.02) -> tuple[np.ndarray, np.ndarray]:
    """A strong line in both polarizations on baselines of their own; noise of 0.01 K."""
    rng = np.random.default_rng(seed)
    x = np.linspace(-1, 1, n)
    line = 5 * np.exp(-0.5 * ((np.arange(n) - n / 2) / (n / 40)) ** 2)

    def one(scale: float) -> np.ndarray:
        base = 0.15 * rng.normal() * x + 0.1 * rng.normal() * x**2 + 0.04 * np.sin(2 * np.pi * x + rng.uniform(0, 6))
        return base + scale * line + 0.01 * rng.standard_normal(n)

    return one(1.0), one(gain)


@pytest.mark.parametrize("n", [128, 256, 1024])
def test_polarizations_that_share_their_line_agree(n: int) -> None:
    scores = [xxyy.judge(*pair(n, seed)).score for seed in range(20)]
    assert np.mean(np.array(scores) == 1.0) >= 0.95


@pytest.mark.parametrize("n", [128, 256])
def test_a_bump_in_yy_alone_is_found_where_it_is(n: int) -> None:
    for seed in range(10):
        xx, yy = pair(n, seed)
        bump = np.exp(-0.5 * ((np.arange(n) - 0.2 * n) / (n / 60)) ** 2)
        for one, other in ((xx, yy + bump), (xx + bump, yy)):
            verdict = xxyy.judge(one, other)
            assert 0.67 <= verdict.score <= 0.9 and abs(verdict.channel - 0.2 * n) <= 2


def test_the_score_falls_with_the_deviation_and_further_when_the_receiver_shows_it() -> None:
    assert [xxyy.score(s, 0) for s in (10, 15.001, 100, 500)] == pytest.approx([1.0, 0.9, 0.67, 0.67], abs=1e-4)
    assert [xxyy.score(s, 6) for s in (10, 15.001, 100)] == pytest.approx([1.0, 0.66, 0.34], abs=1e-4)
    receiver = np.full((2, 128), 50.0) + 0.05 * np.random.default_rng(0).standard_normal((2, 128))
    receiver[1, 60:63] += 5.0
    assert xxyy.receiver_sigma(receiver, 61) > 5 and xxyy.receiver_sigma(receiver, 20) < 5


def test_what_cannot_be_compared_is_said() -> None:
    xx, yy = pair(128, 0)
    nothing = np.full(128, np.nan)
    assert xxyy.judge(nothing, nothing).score == 1.0 and xxyy.judge(nothing, nothing).note == "all flagged"
    half = xxyy.judge(xx, nothing)
    assert half.score == 0.34 and "YY" in half.note
    lines = np.zeros(128, bool)
    lines[15:40] = True
    bumped = yy + np.exp(-0.5 * ((np.arange(128) - 26) / 2.0) ** 2)
    assert xxyy.judge(xx, bumped).score < 1 and xxyy.judge(xx, bumped, sky_lines=lines).score == 1.0
    assert xxyy.judge(xx, bumped, goal=10.0).score == 1.0


# ---- Tsys of coarse channels -----------------------------------------------------------------------------------------


def test_a_line_narrower_than_a_channel_of_tsys_is_calibrated_too_weak() -> None:
    """Channels of 1 MHz, of which Tsys averages 5; one of them has lost half (tau = ln 2), the rest nothing. P = 100 K
    everywhere. Tsys is measured as 100 / ((4 + 0.5) / 5) = 111.1 K where 200 K (the line) or 100 K would be right."""
    fine = 100e9 + 1e6 * np.arange(25)
    tau = np.zeros(25)
    tau[12] = np.log(2)
    got = atmosphere.coarse_calibration(fine, np.full((1, 25), 45.0), tau, [1.0], np.full(25, 55.0), fine[2::5])
    assert got[0, 12] == pytest.approx(111.111 / 200, rel=1e-4)
    assert got[0, 10] == pytest.approx(1 + 0.11111 * 3 / 5, rel=1e-4), "applycal interpolates between channels"
    assert got[0, [2, 7, 17, 22]] == pytest.approx(1.0)
    same = atmosphere.coarse_calibration(fine, np.full((1, 25), 45.0), tau, [1.0], np.full(25, 55.0), fine)
    assert (same == 1).all()


# ---- elevations, Tsys of rows ----------------------------------------------------------------------------------------


def test_an_off_four_degrees_below_is_found_for_its_antenna() -> None:
    time = np.arange(0, 100, 1.0)
    off = (time % 20) < 4
    elevation = np.where(off, 50.0, 50.2) + 0.001 * time
    good = skylevel.elevation_differences(time[~off], elevation[~off], time[off], elevation[off])
    assert 0.15 < good.largest < 0.25
    low = np.where(off & (time > 60), elevation - 4.0, elevation)
    bad = skylevel.elevation_differences(time[~off], low[~off], time[off], low[off])
    assert bad.largest == pytest.approx(4.2, abs=0.05)
    # Five visits to the OFF, begun every 20 s; the last ON rows have none after them.
    blocks, _ = skylevel.off_blocks(time[off], elevation[off])
    np.testing.assert_allclose(blocks, [1.5, 21.5, 41.5, 61.5, 81.5])
    assert np.isnan(good.after_deg[-1]) and np.isfinite(good.before_deg).all()
    assert np.isnan(skylevel.elevation_differences(time, elevation, [], []).largest)


def test_tsys_of_a_row_is_the_mean_over_its_window_linear_in_time() -> None:
    frequency = np.array([1.0, 2.0, 3.0, 4.0])
    values = np.array([[[100.0, 110, 130, 999]], [[200.0, 210, 230, 999]]])
    flags = np.zeros(values.shape, bool)
    spectra = CalSpectra(
        spw=0, frequency_hz=frequency, values=values, flags=flags, antenna=np.zeros(2, int), field=np.zeros(2, int),
        scan=np.arange(2), time_s=np.array([0.0, 10.0]),
    )  # fmt: skip
    mean = rowtsys.mean_tsys(spectra, 1.5, 3.5)
    np.testing.assert_allclose(mean, [[120.0], [220.0]])
    np.testing.assert_allclose(rowtsys.mean_tsys(spectra, 2.2, 2.4), [[110.0], [210.0]])
    found = rowtsys.at_times(spectra.time_s, mean, [-5.0, 2.5, 99.0])
    np.testing.assert_allclose(found[:, 0], [120.0, 145.0, 220.0])


# ---- the air ---------------------------------------------------------------------------------------------------------


def test_the_best_line_is_strong_and_central() -> None:
    x = np.arange(200)

    def tau(*lines: tuple[float, float]) -> np.ndarray:
        return 0.05 + sum(h * np.exp(-0.5 * ((x - c) / 4) ** 2) for c, h in lines)

    opacity = {1: tau((100, 0.02)), 2: tau((60, 0.05), (150, 0.04)), 3: tau((185, 0.06)), 4: tau()}
    found = atmosphere.best_window(opacity)
    # Grades: 0.02/0.06 x 1 = 0.33; 0.05/0.06 x 0.6 = 0.5; 1 x 0.15.
    assert found is not None and found[0] == 2 and sorted(line.peak for line in found[1]) == [60, 150]
    assert atmosphere.best_window({4: np.full(200, 0.05)}) is None


def test_the_model_that_was_in_the_air_is_chosen() -> None:
    """Spectra made with one of four models, a source in them that does not know the elevation, and noise."""
    rng = np.random.default_rng(4)
    n, rows = 256, 800
    x = np.arange(n)
    on = atmosphere.airmass(50 + 2 * np.sin(np.linspace(0, 9, rows)))
    off = np.full(rows, atmosphere.airmass(50.5))
    nodes = np.linspace(min(on.min(), off.min()) - 1e-6, on.max() + 1e-6, 5)

    def air(depth: float, width: float) -> tuple[np.ndarray, np.ndarray]:
        tau = 0.05 + depth * np.exp(-0.5 * ((x - 128) / width) ** 2)
        return 250 * (1 - np.exp(-tau[None, :] * nodes[:, None])), tau

    models = {atmosphere.AirModel(k): air(*shape) for k, shape in
              enumerate([(0.03, 8.0), (0.036, 8.0), (0.03, 10.0), (0.024, 7.0)], start=1)}  # fmt: skip
    for truth, (brightness, tau) in models.items():
        data = np.empty((rows, 1, n), dtype=np.float32)
        for k in range(rows):
            here = brightness[0] + (brightness[-1] - brightness[0]) * (on[k] - nodes[0]) / (nodes[-1] - nodes[0])
            there = brightness[0] + (brightness[-1] - brightness[0]) * (off[k] - nodes[0]) / (nodes[-1] - nodes[0])
            data[k, 0] = (here - there) * np.exp(tau * off[k])
        data += (0.02 * rng.standard_normal(data.shape)).astype(np.float32)
        projection = atmosphere.Projection()
        for part in (slice(0, 300), slice(300, rows)):
            projection.add(data[part], np.ones(data[part].shape, bool), (on - off)[part])
        observed = projection.result
        lines = (SkyLine(128, 108, 148, 0.03),)
        trials = {
            model: atmosphere.metric(observed - atmosphere.predicted(on, off, nodes, *shape), observed, lines)
            for model, shape in models.items()
        }
        assert atmosphere.choose(trials) == truth


def test_nothing_is_chosen_when_a_model_cannot_be_judged() -> None:
    one, two = atmosphere.models([1, 2], [-5.6], [2.0])
    assert atmosphere.choose({one: 1.0, two: float("nan")}) is None and atmosphere.choose({}) is None
    assert atmosphere.choose({one: 1.0, two: 0.5}) == two
    empty = np.full((1, 64), np.nan)
    assert np.isnan(atmosphere.metric(empty, empty, (SkyLine(30, 20, 40, 0.1),)))


def test_models_tried_are_written_with_what_they_leave() -> None:
    models = [atmosphere.AirModel(atmtype=n) for n in (1, 2)]
    record = Corrected(
        vis="a.ms", output="b.ms", status="Y", model=models[1], spw=17, antenna="PM02",
        trials=(Trial(model=models[0], metric=0.25), Trial(model=models[1], metric=0.125)),
    )  # fmt: skip
    lines = [line for line in modelparam(record, 120.0).splitlines() if not line.startswith("#")]
    assert lines == ["1 -5.6 2 120 0.25", "2 -5.6 2 120 0.125  # applied"]


def test_one_polarization_alone_is_not_corrected_for_the_air() -> None:
    ms = SimpleNamespace(
        name="a.ms", origin="", science_spws=(SimpleNamespace(id=17),),
        polarization_of=lambda spw: SimpleNamespace(correlations=("XX", "YY")),
    )  # fmt: skip
    ctx: Any = SimpleNamespace(measurement_sets=lambda vis, types=(): (ms,))
    for fine in ((), ("XX", "YY")):
        Atmcor().check(ctx, AtmcorInputs(pol=fine))
    with pytest.raises(InputError, match="also YY"):
        Atmcor().check(ctx, AtmcorInputs(pol=("XX",)))
    with pytest.raises(UnknownName):
        Atmcor().check(ctx, AtmcorInputs(pol=("RR",)))


def test_the_comparison_of_polarizations_is_a_file_for_programs(tmp_path) -> None:  # type: ignore[no-untyped-def]
    import csv

    from pl_hsd import deviations
    from pl_hsd.stages.applycal import Deviation

    bad = xxyy.Verdict(sigma=20.5, channel=300, deviation=0.25, noise=0.0125, receiver_sigma=2.0, score=0.8)
    none = xxyy.Verdict(sigma=0.0, score=0.34, note="XX is flagged")
    place = {"vis": "a.ms", "field": "M 100", "spw": 17}
    found = [
        Deviation(antenna="PM01", scan=-1, frequency_hz=230.5e9, verdict=bad, **place),
        Deviation(antenna="PM02", scan=5, frequency_hz=float("nan"), verdict=none, **place),
    ]
    deviations.write(tmp_path / deviations.FILE, found)
    with (tmp_path / deviations.FILE).open() as file:
        one, two = csv.DictReader(file)
    assert (one["vis"], one["antenna"], one["field"], one["spw"], one["scan"]) == ("a.ms", "PM01", "M 100", "17", "-1")
    assert [float(one[k]) for k in ("sigma", "frequency_hz", "deviation", "noise")] == [20.5, 230.5e9, 0.25, 0.0125]
    assert (two["sigma"], two["frequency_hz"], two["score"], two["remark"]) == ("", "", "0.34", "XX is flagged")
