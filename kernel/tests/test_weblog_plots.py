"""The plot toolkit: numbers against injected truth and other software, pictures by size, speed and side effects."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pl_kernel.weblog import plots
from pl_kernel.weblog.observation import _step, elevation_deg, parallactic_deg
from pl_kernel.weblog.page import picture_size
from pl_kernel.weblog.plots import sky

RNG = np.random.default_rng(20261122)


def test_noise_fit_finds_the_injected_noise_below_a_bright_source() -> None:
    noise = 0.002 * RNG.normal(size=(300, 300)) + 0.0003
    noise[100:140, 100:140] += 0.05
    mean, sigma = plots.fit_noise(noise)
    # 90,000 pixels: standard errors 0.002/300 and 0.002/424; the source takes 1.8 % of the pixels.
    assert mean == pytest.approx(0.0003, abs=4e-5)
    assert sigma == pytest.approx(0.002, rel=0.02)
    assert plots.robust_rms(noise) == pytest.approx(0.002, rel=0.04)


def test_noise_of_nothing_is_not_a_number() -> None:
    assert all(math.isnan(v) for v in plots.fit_noise([]))
    assert math.isnan(plots.image_statistics(np.full((3, 3), np.nan))["peak"])


def test_image_statistics_by_hand() -> None:
    # values 1, 2, 3, 10: median 2.5, deviations 1.5 0.5 0.5 7.5, their median 1.0
    stats = plots.image_statistics([[1.0, 2.0], [3.0, 10.0]])
    assert stats == {"peak": 10.0, "minimum": 1.0, "rms": pytest.approx(1.4826), "mean": 4.0, "sum": 16.0, "pixels": 4}
    assert plots.image_statistics([[1.0, 2.0]], [[True, False]])["pixels"] == 1


def test_sky_labels_lie_where_astropy_puts_the_coordinates() -> None:
    wcs_module = pytest.importorskip("astropy.wcs")
    wcs = wcs_module.WCS(naxis=2)
    wcs.wcs.ctype = ["RA---SIN", "DEC--SIN"]
    wcs.wcs.crval = [230.4996, 55.0]
    wcs.wcs.cdelt = [-15 / 3600, 15 / 3600]
    wcs.wcs.crpix = [129, 129]  # FITS counts from 1
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    sky._sky_axes(ax, plots.SkyFrame(230.4996, 55.0, 15.0, 128.0, 128.0), 256, 256)
    assert len(ax.get_xticks()) >= 2 and len(ax.get_yticks()) >= 2
    for place, label in zip(ax.get_xticks(), ax.get_xticklabels(), strict=True):
        ra, _ = wcs.wcs_pix2world(place, -0.5, 0)
        assert _degrees(label.get_text()) * 15 == pytest.approx(float(ra), abs=15 / 3600 * 0.02)
    for place, label in zip(ax.get_yticks(), ax.get_yticklabels(), strict=True):
        _, dec = wcs.wcs_pix2world(-0.5, place, 0)
        assert _degrees(label.get_text()) == pytest.approx(float(dec), abs=15 / 3600 * 0.02)


def _degrees(text: str) -> float:
    for sign in "hms°′″":
        text = text.replace(sign, " ")
    parts = [float(p) for p in text.split()]
    return sum(p / 60**n for n, p in enumerate(parts))


@pytest.mark.parametrize(
    ("value", "step", "kind", "text"),
    [
        (55320.0, 60.0, "hms", "15h22m"), (55321.0, 1.0, "hms", "15h22m01s"), (55321.25, 0.05, "hms", "15h22m01.25s"),
        (-18600.0, 600.0, "dms", "-5°10′"), (-5.0, 1.0, "dms", "-0°00′05″"), (59.999, 1.0, "dms", "0°01′00″"),
    ],
)  # fmt: skip
def test_coordinates_are_written_with_the_digits_of_their_step(value: float, step: float, kind: str, text: str) -> None:
    assert sky._sexagesimal(value, step, kind) == text


def test_elevation_agrees_with_astropy() -> None:
    coordinates = pytest.importorskip("astropy.coordinates")
    from astropy import units
    from astropy.time import Time
    from astropy.utils import iers

    iers.conf.auto_download = False
    place = coordinates.EarthLocation.from_geodetic(-107.6184 * units.deg, 34.0790 * units.deg, 2115 * units.m)
    for year in (1995, 2026):
        start = Time(f"{year}-04-13T05:00:00", scale="utc")
        times = start.mjd * 86400 + np.arange(0, 36000, 3600.0)
        for ra, dec in ((230.5, 5.07), (202.78, 30.51), (83.6, -5.4)):
            frame = coordinates.AltAz(obstime=Time(times / 86400, format="mjd"), location=place)
            expected = coordinates.SkyCoord(ra * units.deg, dec * units.deg).transform_to(frame).alt.deg
            ours = elevation_deg(times, *np.radians([ra, dec, -107.6184, 34.0790]))
            # astropy includes aberration (0.006°), nutation (0.005°) and UT1 − UTC (< 0.004°)
            assert np.abs(ours - expected).max() < 0.02


def test_parallactic_angle_agrees_with_astropy() -> None:
    """The position angle of the zenith as seen from the source, about the pole of the date."""
    coordinates = pytest.importorskip("astropy.coordinates")
    from astropy import units
    from astropy.time import Time
    from astropy.utils import iers

    iers.conf.auto_download = False
    place = coordinates.EarthLocation.from_geodetic(-107.6184 * units.deg, 34.0790 * units.deg, 2115 * units.m)
    times = Time("2026-04-13T05:00:00", scale="utc").mjd * 86400 + np.arange(0, 36000, 3600.0)
    frame = coordinates.AltAz(obstime=Time(times / 86400, format="mjd"), location=place)
    of_date = coordinates.CIRS(obstime=frame.obstime, location=place)
    up = coordinates.SkyCoord(
        az=np.zeros(len(times)) * units.deg, alt=np.full(len(times), 90.0) * units.deg, frame=frame
    ).transform_to(of_date)
    for ra, dec in ((230.5, 5.07), (202.78, 30.51), (83.6, -5.4), (120.0, 70.0)):
        source = coordinates.SkyCoord(ra * units.deg, dec * units.deg).transform_to(of_date)
        expected = source.position_angle(up).deg
        ours = parallactic_deg(times, *np.radians([ra, dec, -107.6184, 34.0790]))
        assert np.abs((ours - expected + 180) % 360 - 180).max() < 0.1


def test_range_of_parallactic_angles_follows_a_source_across_the_meridian() -> None:
    """A source that culminates 10° north of the zenith turns through north: from −q over 180° to +q."""
    from types import SimpleNamespace

    from pl_kernel.ms.parse import utc
    from pl_kernel.weblog.observation import parallactic_ranges

    latitude, place = 34.0790, (-1601185.4, -5041977.5, 3554875.9)  # the VLA
    start = 60000 * 86400.0
    hours = np.arange(0, 86400, 60.0)
    ra = np.radians(100.0)
    angles = parallactic_deg(start + hours, ra, np.radians(latitude + 10), np.radians(-107.6184), np.radians(latitude))
    transit = hours[np.argmax(np.abs(angles))]
    span = 1800.0
    scan = SimpleNamespace(
        field_ids=(0,), start=utc(start + transit - span), end=utc(start + transit + span), duration_s=2 * span
    )
    field = SimpleNamespace(id=0, name="c", intents={"PHASE"}, ra_rad=ra, dec_rad=np.radians(latitude + 10))
    ms = SimpleNamespace(fields=[field], scans=[scan], antennas=[1, 2], array=SimpleNamespace(centre_m=place))
    ((name, intents, scans, first, last, whole),) = parallactic_ranges(ms)
    assert (name, intents, scans) == ("c", "PHASE", 1)
    # At an hour angle of half an hour: tan q = sin H / (tan φ cos δ − sin δ cos H), H = 7.5°, δ = 44.08°.
    q = np.degrees(np.arctan2(0.13053, 0.67660 * 0.71839 - 0.69564 * 0.99144))
    assert last == pytest.approx(q, abs=3) or last == pytest.approx(q - 360, abs=3)
    assert whole == pytest.approx(2 * (180 - q), abs=5) and abs(first) > 90


def test_rows_for_the_uv_plane_meet_every_baseline() -> None:
    step = _step(351 * 10_000)
    assert {row % 351 for row in range(0, 351 * 10_000, step)} == set(range(351))
    assert _step(100) == 1


def test_a_million_points_take_less_than_a_second(tmp_path: Path) -> None:
    x, y = RNG.normal(size=(2, 1_000_000))
    begin = time.process_time()
    plots.scatter(tmp_path / "a.png", x, y, categories=RNG.integers(0, 3, x.size), labels=["a", "b", "c"])
    assert time.process_time() - begin < 1.0


def test_one_point_among_a_million_stays_visible() -> None:
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    x = np.r_[np.zeros(1_000_000), 5.0]
    plots.draw_points(ax, x, x)
    image = ax.images[0].get_array()
    assert (image[..., 3] > 0).sum() == 2
    assert image[..., 3][image[..., 3] > 0].min() >= 0.35


def test_points_that_are_not_finite_or_flagged_are_left_out(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    plots.draw_points(ax, [1.0, np.nan, 3.0], [1.0, 2.0, np.inf])
    assert [len(line.get_xdata()) for line in ax.lines] == [1]
    for flags in (None, np.ones((2, 8), bool)):
        plots.amp_phase_vs_frequency(tmp_path / "a.png", np.arange(8) * 1e9, np.ones((2, 8)) * 1j, flags=flags)
        assert picture_size(tmp_path / "a.png") == (792, 528)  # 7.2 × 4.8 inches at 110 dpi


def test_the_same_data_give_the_same_file(tmp_path: Path) -> None:
    data = RNG.normal(size=(32, 32))
    for name in ("a.png", "b.png"):
        plots.image_panel(tmp_path / name, data, frame=plots.SkyFrame(10, 20, 1.0, 16, 16), beam=(4, 3, 30))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


NAMES = ["$x$", "\\frac{", "<b>x</b>", "A\"B'", "日本", "x" * 200, ""]


@pytest.mark.filterwarnings("ignore:Glyph")
def test_names_from_data_are_drawn_as_they_are(tmp_path: Path) -> None:
    time_s = 4.3e9 + np.arange(7) * 100.0
    scans = [plots.ScanBar(n, t, t + 90, name) for n, (t, name) in enumerate(zip(time_s, NAMES, strict=True))]
    plots.timeline(tmp_path / "t.png", scans, title="$\\bad")
    plots.antenna_map(tmp_path / "a.png", NAMES, np.arange(7.0), np.arange(7.0), reference="$x$")
    plots.vs_time(tmp_path / "v.png", time_s, np.ones((7, 7)), labels=NAMES, title="$\\bad")
    plots.matrix(tmp_path / "m.png", np.eye(7), NAMES, NAMES, write=".0%", title="a_b^c")


def test_every_kind_of_plot_can_be_drawn_from_little_and_from_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    for n in (0, 1):
        zeros, ones = np.zeros(n), np.ones(n)
        plots.scatter(path, zeros, ones)
        plots.scatter_grid(path, [plots.Panel("p", zeros + 4.3e9, ones)] * n, time=True)
        plots.histogram(path, zeros)
        plots.spectrum(path, np.arange(n), ones, rms=0.1, ranges=[(0, 1)] if n else [])
        plots.uv_coverage(path, zeros, ones, wavelength_m=0.21)
        plots.elevation(path, zeros + 4.3e9, ones, np.zeros(n, int), ["a", "b"])
        plots.vs_frequency(path, zeros, ones, limits=[1.0])
        plots.amp_phase_vs_time(path, zeros + 4.3e9, ones)
        plots.bars(path, ["a"] * n, ones, errors=ones)
        plots.timeline(path, [plots.ScanBar(1, 4.3e9, 4.3e9 + 10, "f")] * n)
        plots.antenna_map(path, ["a"] * max(n, 1), np.zeros(max(n, 1)), np.zeros(max(n, 1)))
    plots.image_panel(path, np.full((4, 4), np.nan))
    plots.image_panel(path, np.zeros((4, 4)), frame=plots.SkyFrame(0, 89.9, 10, 2, 2), beam=(1, 1, 0))
    plots.image_panel(path, np.ones((4, 4)), colour_map="diverging")


def test_the_toolkit_leaves_pyplot_and_its_global_state_alone(tmp_path: Path) -> None:
    code = (
        "import sys, matplotlib; before = matplotlib.rcParams.copy(); from pl_kernel.weblog import plots; "
        "plots.bars(sys.argv[1], ['a'], [1.0]); "
        "assert 'matplotlib.pyplot' not in sys.modules; assert matplotlib.rcParams.copy() == before; print('ok')"
    )
    path = str(tmp_path / "a.png")
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "ok", done.stderr
