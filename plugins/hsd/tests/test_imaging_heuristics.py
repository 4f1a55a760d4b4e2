"""What hsd_imaging decides and measures, on numbers whose answer is known by hand or planted."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from pl_hsd.heuristics import contamination, cubes, missedlines, sensitivity
from pl_hsd.heuristics.mapgeometry import ImagingRules, MapGeometry, channel_axis, map_geometry
from pl_hsd.heuristics.sensitivity import PolarizationData, RasterExtent
from pl_hsd.ranges import MS, SpectralRanges
from pl_kernel import PlError

FWHM = 2 * math.sqrt(2 * math.log(2))


# ---- geometry --------------------------------------------------------------------------------------------------------


def test_a_map_across_0h_has_the_size_of_its_sky() -> None:
    """0.02° of right ascension at 60° is 36 arcsec; int(36 / 1) + 1 = 37, made even 38, and 10 of margin."""
    ra, dec = np.array([359.99, 0.0, 0.01]), np.array([60.0, 60.0, 60.0 + 20 / 3600])
    found = map_geometry(ra, dec, 9.0, ImagingRules())
    assert (found.ra_deg + 180) % 360 - 180 == pytest.approx(0.0, abs=1e-9)
    assert found.dec_deg == pytest.approx(60 + 10 / 3600)
    assert found.cell_arcsec == pytest.approx(1.0)
    assert (found.n_x, found.n_y) == (38 + 10, 22 + 10)


def test_sizes_are_even_with_any_margin() -> None:
    for width in np.linspace(30, 40, 23):
        found = map_geometry([10, 10 + width / 3600], [0, 0], 3.0, ImagingRules(cells_per_beam=3, margin=0))
        assert found.n_x % 2 == 0 and found.n_x > width


def test_wild_positions_are_refused_in_a_sentence() -> None:
    with pytest.raises(PlError, match="wild"):
        map_geometry([10.0, 40.0], [0.0, 1.0], 25.0, ImagingRules())
    with pytest.raises(PlError, match="position"):
        map_geometry([math.nan], [math.nan], 25.0, ImagingRules())


def test_pixels_run_west_and_north_also_across_0h() -> None:
    geometry = MapGeometry(ra_deg=0.001, dec_deg=0.0, cell_arcsec=1.0, n_x=20, n_y=30, beam_arcsec=9.0)
    x, y = geometry.pixels([0.001, 0.001 - 5 / 3600 + 360, 0.001], [0.0, 0.0, 3 / 3600])
    np.testing.assert_allclose(x, [10, 15, 10], atol=1e-6)
    np.testing.assert_allclose(y, [15, 15, 18], atol=1e-6)


def test_channels_of_a_falling_window_are_turned_and_agree_with_the_ranges() -> None:
    """100 channels, edges 3 and 7, falling frequency: image channel 0 is channel 92, the last is channel 3."""
    axis = channel_axis(100, (3, 7), True)
    assert (axis.start, axis.step, axis.count) == (92, -1, 90)
    image = SpectralRanges.of([(10, 14)], MS).to_image(100, (3, 7), True)
    expected = sorted((axis.start - channel) for channel in (10, 14))
    assert [list(map(int, s)) for s in image.spans] == [expected]
    up = channel_axis(100, (3, 7), False)
    assert (up.start, up.step, up.count) == (3, 1, 90)
    with pytest.raises(PlError, match="leave nothing"):
        channel_axis(10, (6, 4), False)


# ---- cubes -----------------------------------------------------------------------------------------------------------


def test_extra_edges_are_channels_with_fewer_pixels_than_the_median() -> None:
    assert cubes.extra_edges([1, 2, 5, 5, 5, 5, 3]) == (2, 1)
    assert cubes.extra_edges([7, 7, 7]) == (0, 0)
    assert cubes.extra_edges([]) == (0, 0)


def test_moments_of_a_gaussian_line() -> None:
    """5 Jy/beam × 6 km/s × 1.06447 = 31.93 Jy/beam km/s, at 20 km/s."""
    velocity = np.arange(60, -20, -0.5)
    cube = np.zeros((velocity.size, 4, 5), np.float32)
    cube[:, 2, 3] = 5 * np.exp(-0.5 * ((velocity - 20) * FWHM / 6) ** 2)
    cube[:, 0, 0] = np.nan
    found = cubes.moments(cube, velocity, np.ones(velocity.size, bool), 0.1)
    assert found.integrated[2, 3] == pytest.approx(31.934, rel=1e-3)
    assert found.velocity[2, 3] == pytest.approx(20.0, abs=0.01)
    assert found.peak[2, 3] == pytest.approx(5.0)
    assert np.isnan(found.integrated[0, 0]) and np.isnan(found.velocity[1, 1]) and found.integrated[1, 1] == 0


def test_blocks_pass_over_what_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cubes, "BLOCK_VALUES", 40)
    cube = np.arange(10 * 4 * 5).reshape(10, 4, 5)
    wanted = np.zeros(10, bool)
    wanted[[3, 9]] = True
    assert [part.start for part, _ in cubes.blocks(cube, wanted)] == [2, 8]
    assert sum(block.shape[0] for _, block in cubes.blocks(cube)) == 10


def test_spectra_of_cells_are_means_of_their_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cubes, "BLOCK_VALUES", 100)
    cube = np.random.default_rng(1).normal(size=(7, 9, 11)).astype(np.float32)
    cube[:, 4, 4] = np.nan
    cube[:, 6:, 7:] = np.nan
    found = cubes.cell_spectra(cube, [1, 4, 7, 10], [0, 3, 6, 9])
    for row, (b, t) in enumerate(((0, 3), (3, 6), (6, 9))):
        for column, (w, e) in enumerate(((1, 4), (4, 7), (7, 10))):
            part = cube[:, b:t, w:e].reshape(7, -1)
            if np.isnan(part).all():
                assert np.isnan(found[row, column]).all()
            else:
                np.testing.assert_allclose(found[row, column], np.nanmean(part, axis=1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("low", "high", "most"), [(10, 30, 12), (0, 11, 12), (5, 5, 12), (100, 900, 12)])
def test_channel_maps_cover_the_line_evenly(low: int, high: int, most: int) -> None:
    bins = cubes.channel_bins(low, high, most)
    assert len(bins) <= most and bins[0][0] <= low and bins[-1][1] >= high
    assert len({b - a for a, b in bins}) == 1
    assert all(b + 1 == c for (_, b), (c, _) in itertools.pairwise(bins))


# ---- rasters and noise -----------------------------------------------------------------------------------------------


def raster(rows: int, samples: int, width: float, height: float, angle_deg: float, ra0: float, dec0: float) -> tuple:
    """Right ascension, declination, row, map of a raster swept back and forth twice."""
    along = (np.arange(samples) / (samples - 1) - 0.5) * width
    x, y, row = [], [], []
    for k in range(rows):
        sweep = along if k % 2 == 0 else -along
        x.append(sweep)
        y.append(np.full(samples, -height / 2 + height * k / (rows - 1)))
        row.append(np.full(samples, k))
    a, b = np.concatenate(x), np.concatenate(y)
    cosine, sine = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    east, north = a * cosine - b * sine, a * sine + b * cosine
    ra = ra0 + east / 3600 / math.cos(math.radians(dec0))
    dec = dec0 + north / 3600
    rows_id = np.concatenate(row)
    return (
        np.tile(ra % 360, 2), np.tile(dec, 2), np.concatenate([rows_id, rows_id + rows]),
        np.repeat([0, 1], rows_id.size),
    )  # fmt: skip


@pytest.mark.parametrize(("angle", "ra0"), [(0.0, 150.0), (30.0, 0.0), (120.0, 359.999)])
def test_the_extent_of_a_raster_is_measured_at_any_angle_and_right_ascension(angle: float, ra0: float) -> None:
    ra, dec, row, map_ = raster(9, 21, 200.0, 160.0, angle, ra0, -23.0)
    (found,) = sensitivity.raster_extents(ra, dec, np.full(ra.size, 0.5), row, map_)
    assert found.width == pytest.approx(200.0, rel=1e-3)
    assert found.height == pytest.approx(160.0, rel=1e-3)
    assert found.separation == pytest.approx(20.0, rel=1e-3)
    assert found.angle_deg == pytest.approx(angle, abs=0.1)
    assert found.row_s == pytest.approx(10.5) and found.n_rows == 18
    assert (found.ra_deg - ra0 + 180) % 360 - 180 == pytest.approx(0.0, abs=1e-6)
    assert found.dec_deg == pytest.approx(-23.0)


def test_short_rows_do_not_count_and_a_single_row_is_no_raster() -> None:
    ra, dec, row, map_ = raster(9, 21, 200.0, 160.0, 0.0, 150.0, -23.0)
    keep = ~((row == 3) & (np.arange(ra.size) % 21 > 5))
    (found,) = sensitivity.raster_extents(ra[keep], dec[keep], np.full(keep.sum(), 0.5), row[keep], map_[keep])
    assert found.n_rows == 17 and found.width == pytest.approx(200.0, rel=1e-3)
    one = row == 0
    assert sensitivity.raster_extents(ra[one], dec[one], np.full(one.sum(), 0.5), row[one], map_[one]) == ()
    none = np.full(ra.size, -1)
    assert sensitivity.raster_extents(ra, dec, np.full(ra.size, 0.5), none, none) == ()


def test_pauses_for_the_off_do_not_make_a_map_lower() -> None:
    """An OFF after every second row: by time there are nine maps of two rows, of the same field of 200 by 160."""
    ra, dec, row, _ = raster(9, 21, 200.0, 160.0, 30.0, 150.0, -23.0)
    (found,) = sensitivity.raster_extents(ra, dec, np.full(ra.size, 0.5), row, row // 2)
    assert found.height == pytest.approx(160.0, rel=1e-3) and found.separation == pytest.approx(20.0, rel=1e-3)
    single = sensitivity.raster_extents(ra, dec, np.full(ra.size, 0.5), row, row)
    assert [e.height for e in single] == pytest.approx([160.0], rel=1e-3)


def test_a_basket_weave_has_an_extent_per_direction_and_one_box() -> None:
    """A field of 200 by 100 arcsec: rows of 200 swept east, then rows of 100 swept north."""
    ra1, dec1, row1, _ = (v[:189] for v in raster(9, 21, 200.0, 100.0, 0.0, 0.0, 10.0))
    ra2, dec2, row2, _ = (v[:189] for v in raster(9, 21, 100.0, 200.0, 90.0, 0.0, 10.0))
    both = [np.concatenate(v) for v in ((ra1, ra2), (dec1, dec2), (row1, row2 + 9))]
    extents = sensitivity.raster_extents(
        both[0], both[1], np.full(378, 0.5), both[2], np.repeat([0, 1], 189)
    )  # fmt: skip
    assert [(round(e.width), round(e.height), round(e.angle_deg), e.share) for e in extents] == [
        (200, 100, 0, 0.5), (100, 200, 90, 0.5),
    ]  # fmt: skip
    box = sensitivity.inner_region((201, 301), extents, 1.0, 20.0, (150, 100))
    assert np.flatnonzero(box.any(axis=0))[[0, -1]] == pytest.approx([60, 240], abs=1)
    assert np.flatnonzero(box.any(axis=1))[[0, -1]] == pytest.approx([60, 140], abs=1)


def extent(width: float = 100.0, height: float = 50.0, row_s: float = 10.0) -> RasterExtent:
    return RasterExtent(width=width, height=height, separation=5.0, angle_deg=0.0, row_s=row_s, n_rows=10)


def test_theoretical_noise_by_hand() -> None:
    """on = 1e6 · 25 · 100 / 5000 = 5e5, off = 1e6 · 5 · 10 · 100 / (10 · 50) = 1e7;
    4000 √(0.1597² / 5e5 + 0.3954² / 1e7) = 4000 √(5.1008e-8 + 1.5634e-8) = 1.0326."""
    part = PolarizationData(on_s=100, off_s=10, tsys_k=100, factor=40, bandwidth_hz=1e6, extent=extent())
    assert sensitivity.theoretical_rms([part], 5.0, 0.3954, 0.1597) == pytest.approx(1.0326, rel=1e-4)
    # Two equal parts: 1 / √2; an unusable one changes nothing; none: nothing is known.
    dead = PolarizationData(on_s=0, off_s=10, tsys_k=100, factor=40, bandwidth_hz=1e6, extent=extent())
    both = sensitivity.theoretical_rms([part, dead, part], 5.0, 0.3954, 0.1597)
    assert both == pytest.approx(1.0326 / math.sqrt(2), rel=1e-4)
    assert sensitivity.theoretical_rms([dead], 5.0, 0.3954, 0.1597) is None


def test_noise_is_measured_inside_the_turned_raster_less_a_beam() -> None:
    turned = RasterExtent(width=80.0, height=40.0, separation=5.0, angle_deg=90.0, row_s=10.0, n_rows=9)
    box = sensitivity.inner_region((101, 101), [turned], 1.0, 20.0, (50, 50))
    # Swept north: 60 pixels high, 20 wide, both ends included.
    assert np.flatnonzero(box.any(axis=1))[[0, -1]].tolist() == [20, 80]
    assert np.flatnonzero(box.any(axis=0))[[0, -1]].tolist() == [40, 60]
    rng = np.random.default_rng(3)
    cube = rng.normal(0, 0.5, (40, 101, 101)).astype(np.float32)
    cube[:, ~box] = 50.0
    cube[10:20] += 7.0
    free = np.ones(40, bool)
    free[10:20] = False
    assert sensitivity.observed_rms(cube, box, free) == pytest.approx(0.5, rel=0.01)
    assert sensitivity.observed_rms(cube, np.zeros_like(box), free) is None
    assert not sensitivity.inner_region((9, 9), [], 1.0, 3.0, (4, 4)).any()


def test_noise_map_weighs_spectra_within_a_beam() -> None:
    """Cell 1″, beam 8″: w = 4 pixels; at 4 pixels a weight of ½: √((3² + ½ · 5²) / 1.5)."""
    found = sensitivity.noise_map([5.0, 9.0, 40.0], [5.0, 5.0, 40.0], [3.0, 5.0, math.nan], (12, 12), 1.0, 8.0)
    assert found.rms[5, 5] == pytest.approx(math.sqrt((9 + 0.5 * 25) / 1.5))
    assert found.number[5, 5] == 2 and found.number[5, 0] == 1
    far = sensitivity.noise_map([5.0], [5.0], [3.0], (30, 30), 1.0, 8.0)
    assert np.isnan(far.rms[29, 29]) and far.number[29, 29] == 0 and np.nanmax(far.rms) == pytest.approx(3.0)


# ---- contamination ---------------------------------------------------------------------------------------------------


def cloud(rng: np.random.Generator, dip: float, width: float, channels: int = 200) -> np.ndarray:
    """A cloud of 30 σ in the middle of a smooth noisy map, and a dip of the same width everywhere."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(rng.normal(0, 1, (channels, 40, 40)), (0, 2, 2))
    noise /= noise.std()
    y, x = np.mgrid[:40, :40]
    line = np.exp(-0.5 * ((np.arange(channels) - channels / 2) * FWHM / width) ** 2)
    source = 30 * np.exp(-((x - 20) ** 2 + (y - 20) ** 2) / (2 * 4.0**2))
    cube = noise + line[:, None, None] * (source - dip)
    cube[:, :2] = np.nan
    return cube.astype(np.float32)


@pytest.mark.parametrize("width", [10, 50])
def test_emission_in_the_off_is_a_dip_where_the_map_is_empty(width: float) -> None:
    """Also when the dip fills a quarter of the band, where a scatter that counts it would hide it."""
    found = contamination.judge(cloud(np.random.default_rng(4), 3.0, width))
    assert found is not None and found.contaminated
    low, high = found.spans[0]
    assert low < 100 < high and high - low < 2 * width
    assert not found.mask[15:25, 15:25].any() and not found.mask[:2].any()
    assert found.mask.sum() == pytest.approx(0.1 * 38 * 40, abs=2)


def test_a_clean_map_is_hardly_ever_called_contaminated() -> None:
    wrong = sum(
        bool((found := contamination.judge(cloud(np.random.default_rng(k), 0.0, 10))) and found.contaminated)
        for k in range(40)
    )
    assert wrong == 0


def test_one_wild_channel_sky_lines_and_edges_make_no_dip() -> None:
    cube = cloud(np.random.default_rng(5), 0.0, 10)
    cube[150] -= 20
    assert not contamination.judge(cube).contaminated  # type: ignore[union-attr]
    cube[40:50] -= 10
    assert contamination.judge(cube).contaminated  # type: ignore[union-attr]
    air = np.zeros(200, bool)
    air[38:52] = True
    assert not contamination.judge(cube, (0, 0), air).contaminated  # type: ignore[union-attr]
    edge = cloud(np.random.default_rng(6), 0.0, 10)
    edge[:6] -= 10
    assert contamination.judge(edge).contaminated  # type: ignore[union-attr]
    assert not contamination.judge(edge, (6, 0)).contaminated  # type: ignore[union-attr]
    assert contamination.judge(np.full((20, 5, 5), np.nan, np.float32)) is None


# ---- missed lines ----------------------------------------------------------------------------------------------------

BEAM = (9.0, 9.0, 0.0)


def smooth_noise(seed: int, channels: int = 128) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(np.random.default_rng(seed).normal(0, 1, (channels, 48, 48)), (0, 3, 3))
    return (noise / noise.std()).astype(np.float32)


def planted(seed: int, centre: int, peak: float, size: float) -> np.ndarray:
    y, x = np.mgrid[:48, :48]
    line = np.exp(-0.5 * ((np.arange(128) - centre) * FWHM / 8) ** 2)
    place = np.exp(-((x - 30) ** 2 + (y - 14) ** 2) / (2 * size**2))
    return smooth_noise(seed) + (peak * line[:, None, None] * place).astype(np.float32)


@pytest.mark.parametrize("centre", [40, 126])
def test_a_compact_line_is_found_where_it_is_also_at_the_end_of_the_band(centre: int) -> None:
    found = missedlines.search(planted(7, centre, 14.0, 4.0), np.ones((48, 48)), np.ones(128, bool), BEAM).peak
    assert found is not None and found.found
    assert any(a <= centre <= b for a, b in found.spans)
    assert np.unravel_index(np.argmax(found.where), found.where.shape) == pytest.approx((14, 30), abs=2)


def test_a_line_in_the_known_ranges_is_not_missed() -> None:
    free = np.ones(128, bool)
    free[25:56] = False
    found = missedlines.search(planted(7, 40, 14.0, 4.0), np.ones((48, 48)), free, BEAM)
    assert found.peak is not None and not found.peak.found
    assert np.isnan(found.peak.spectrum[30:50]).all()


def test_extended_emission_is_found_over_its_area() -> None:
    found = missedlines.search(planted(8, 60, 25.0, 10.0), np.ones((48, 48)), np.ones(128, bool), BEAM).extended
    assert found is not None and found.found
    assert any(a <= 60 <= b for a, b in found.spans)
    assert found.where[14, 30] > 0 and found.where[45, 2] == 0


def test_noise_alone_is_hardly_ever_a_line() -> None:
    wrong = 0
    for seed in range(30):
        found = missedlines.search(smooth_noise(100 + seed), np.ones((48, 48)), np.ones(128, bool), BEAM)
        wrong += bool((found.peak and found.peak.found) or (found.extended and found.extended.found))
    assert wrong == 0


def test_pixels_of_little_weight_do_not_deceive() -> None:
    """A border with ten times the noise, and a hundredth of the weight that goes with it."""
    cube, weight = smooth_noise(9), np.ones((48, 48))
    cube[:, :5] *= 10
    weight[:5] = 0.01
    found = missedlines.search(cube, weight, np.ones(128, bool), BEAM)
    assert found.peak is not None and not found.peak.found and found.extended is None
    assert missedlines.search(cube, np.zeros((48, 48)), np.ones(128, bool), BEAM).peak is None
    assert missedlines.search(cube, weight, np.zeros(128, bool), BEAM).peak is None
    everything_masked = np.full_like(cube, np.nan)
    assert missedlines.search(everything_masked, weight, np.ones(128, bool), BEAM).peak is None


def test_beam_kernel_has_its_widths_and_turns_east_of_north() -> None:
    kernel = missedlines.beam_kernel(9.0, 5.0, 90.0)
    assert kernel.shape == (45, 45) and kernel.sum() == pytest.approx(1.0)
    middle = kernel[22, 22]
    # Half a width from the middle: a half. Position angle 90°: the long axis lies east-west, along columns.
    across = np.interp(22 + 4.5, np.arange(45), kernel[22])
    along = np.interp(22 + 2.5, np.arange(45), kernel[:, 22])
    assert across / middle == pytest.approx(0.5, abs=0.02)
    assert along / middle == pytest.approx(0.5, abs=0.02)
    tilted = missedlines.beam_kernel(9.0, 3.0, 45.0)
    # North-east is up and to the left.
    assert tilted[26, 18] > 10 * tilted[26, 26]


def test_a_dip_in_a_line_that_reaches_the_end_of_the_band_may_be_a_bent_baseline() -> None:
    """A band of 101 channels, from 50 down to -50 km/s: channel k is at 50 - k km/s."""
    from pl_hsd.heuristics.dips import extrapolated

    band = ((50.0, -50.0), 101)
    assert extrapolated(*band, [(0, 20), (60, 70)], [(50.0, 35.0)])
    assert extrapolated(*band, [(80, 100)], [(-50.0, -45.0)])
    assert not extrapolated(*band, [(0, 20), (60, 70)], [(50.0, 35.0), (-12.0, -15.0)])  # one lies elsewhere
    assert not extrapolated(*band, [(0, 20)], [(35.0, 25.0)])  # it goes beyond the line
    assert not extrapolated(*band, [(3, 20)], [(45.0, 35.0)])  # channels 0 to 2 hold the baseline
    assert not extrapolated(*band, [(0, 20)], [])
