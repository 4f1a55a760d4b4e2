"""Lines on the sky: what is planted is found where it was planted, and noise has none."""

from __future__ import annotations

import numpy as np
import pytest

from pl_hsd.heuristics import fitorder
from pl_hsd.heuristics.broad import broad_cells
from pl_hsd.heuristics.clustering import find_clusters
from pl_hsd.heuristics.deviation import Scatter, clipped_median, deviation_mask
from pl_hsd.heuristics.flatness import integrated_flatness
from pl_hsd.heuristics.linemap import (
    LineOnSky,
    allowance,
    channel_range,
    confirmed,
    detection_map,
    most_valid,
    row_masks,
    smoothing_map,
    validate,
    validation_map,
)
from pl_hsd.heuristics.lines import Detections, binnings, find_lines, finest
from pl_hsd.heuristics.skygrid import PLANES, GridSpectra, SkyGrid, grid_weights

SIDE, CHANNELS = 9, 512
X, Y = (v.ravel().astype(float) for v in np.meshgrid(np.arange(SIDE), np.arange(SIDE)))
AXIS = np.arange(CHANNELS)


def gauss(x: np.ndarray | float, fwhm: float) -> np.ndarray:
    return np.exp(-4 * np.log(2) * np.square(np.asarray(x) / fwhm))


def cloud(peak: float, width: float, centre: float = 200.0, drift: float = 0.0, size: float = 4.0) -> np.ndarray:
    """Spectra of a Gaussian cloud in the middle of the map; the line moves by ``drift`` channels per cell eastwards."""
    strength = peak * gauss(np.hypot(X - SIDE // 2, Y - SIDE // 2), size)
    return strength[:, None] * gauss(AXIS - (centre + drift * (X[:, None] - SIDE // 2)), width)


def search(sky: np.ndarray, seed: int = 0, edge: tuple[int, int] = (0, 0)) -> list[LineOnSky]:
    """Nine spectra per cell with noise such that each of the three averages of a cell has noise 1."""
    rng = np.random.default_rng(seed)
    gridded = GridSpectra.empty(SIDE**2, CHANNELS)
    for _ in range(9):
        data = (sky + rng.normal(scale=np.sqrt(3), size=sky.shape)).astype(np.float32)
        gridded.add(data, np.zeros(data.shape, dtype=bool), np.arange(SIDE**2), np.ones(SIDE**2))
    lines = confirmed(find_lines(gridded.data, gridded.good, edge=edge), gridded.planes_filled)
    shape = (SIDE, SIDE)
    clusters = find_clusters(lines.width, lines.centre, CHANNELS)
    fewest = most_valid(clusters, lines, gridded.planes_filled, shape)
    judged = [validate(c, lines, gridded.planes_filled, shape, fewest) for c in clusters]
    return [line for line in judged if line.valid]


def gridded(sky: np.ndarray, seed: int = 0, scale: float = np.sqrt(3)) -> GridSpectra:
    """Nine spectra per cell, each with a random slope beside its noise."""
    rng = np.random.default_rng(seed)
    made = GridSpectra.empty(SIDE**2, CHANNELS)
    for _ in range(9):
        slope = rng.normal(scale=0.2, size=(SIDE**2, 1)) * np.linspace(-1, 1, CHANNELS)
        data = (sky + slope + rng.normal(scale=scale, size=sky.shape)).astype(np.float32)
        made.add(data, np.zeros(data.shape, dtype=bool), np.arange(SIDE**2), np.ones(SIDE**2))
    return made


class TestAsWideAsTheWindow:
    @pytest.mark.parametrize("width", [0.6, 0.9, 1.2])
    def test_emission_that_fills_the_window_is_seen_though_no_line_is_found(self, width: float) -> None:
        sky = cloud(5.0, width * CHANNELS, centre=CHANNELS / 2)
        made = gridded(sky)
        seen = broad_cells(made.data, made.good, (SIDE, SIDE))
        assert seen[SIDE // 2, SIDE // 2] and seen.sum() < SIDE**2 / 2
        assert not search(sky)

    def test_noise_and_baselines_of_single_spectra_are_none(self) -> None:
        found = [gridded(np.zeros((SIDE**2, CHANNELS)), seed) for seed in range(100)]
        assert sum(broad_cells(g.data, g.good, (SIDE, SIDE)).any() for g in found) <= 5

    def test_a_baseline_that_all_spectra_share_is_none(self) -> None:
        made = gridded(np.tile(3 * np.sin(np.linspace(0, 6, CHANNELS)), (SIDE**2, 1)))
        assert not broad_cells(made.data, made.good, (SIDE, SIDE)).any()


class TestSearch:
    @pytest.mark.parametrize("width", [8, 14, 30, 60])
    def test_a_weak_line_of_5_sigma_is_found(self, width: int) -> None:
        """Peak 5 times the noise of the averages, in the middle of the map; 10 seeds each, all found."""
        sky = cloud(5.0, width)
        for seed in range(10):
            found = search(sky, seed)
            assert found, f"seed {seed}"
            centre, _ = channel_range(found[0])
            assert abs(centre - 200) < 8

    def test_noise_has_no_line_in_95_of_100_trials(self) -> None:
        empty = np.zeros((SIDE**2, CHANNELS))
        with_line = sum(bool(search(empty, seed)) for seed in range(100))
        assert with_line <= 5

    def test_absorption_is_a_line(self) -> None:
        found = search(-cloud(8.0, 20))
        assert len(found) == 1

    def test_masks_hold_the_line_at_every_position(self) -> None:
        """A line that drifts by 6 channels per cell: every mask is about the line of its own place."""
        sky = cloud(30.0, 20, drift=6.0)
        found = search(sky)
        inside = np.zeros(sky.shape, dtype=bool)
        seen = np.zeros(SIDE**2, dtype=bool)
        for line in found:
            first, last = row_masks(line, X, Y, CHANNELS, (0, 0))
            inside |= (first[:, None] <= AXIS) & (last[:, None] >= AXIS)
            seen |= first <= last
        assert sky[~inside].sum() / sky.sum() < 0.02
        strong = sky.max(axis=1) > 10
        assert seen[strong].all()
        centres = np.array([AXIS[row].mean() for row in inside[strong]])
        truth = 200 + 6.0 * (X[strong] - SIDE // 2)
        assert np.abs(centres - truth).max() < 8
        # Far more is left for the baseline than if every spectrum had the mask of the whole map.
        assert inside[strong].sum(axis=1).max() < 130

    def test_two_lines_are_two_clusters(self) -> None:
        found = search(cloud(20.0, 12, centre=120) + cloud(20.0, 40, centre=380))
        assert sorted(round(channel_range(line)[0] / 20) for line in found) == [6, 19]

    def test_a_line_at_the_edge_of_the_band_is_found(self) -> None:
        found = search(cloud(20.0, 20, centre=4))
        assert found
        first, last = row_masks(found[0], X, Y, CHANNELS, (0, 0))
        assert first[first <= last].min() == 0

    def test_nothing_is_found_in_left_out_edges(self) -> None:
        assert not search(cloud(30.0, 10, centre=10), edge=(40, 0))


class TestFinder:
    def test_a_run_at_the_last_channels_counts_like_any_other(self) -> None:
        data = np.random.default_rng(0).normal(size=(1, 256)).astype(np.float32)
        data[0, -6:] += 30
        found = find_lines(data, np.ones_like(data, dtype=bool))
        assert (found.last[found.binning == 1] == 255).any()

    def test_flagged_channels_are_no_lines(self) -> None:
        data = np.random.default_rng(0).normal(size=(4, 256)).astype(np.float32)
        data[:, 100:120] += 50
        good = np.ones_like(data, dtype=bool)
        good[:, 100:120] = False
        assert not len(find_lines(data, good))

    def test_binnings_are_powers_of_four_at_two_offsets(self) -> None:
        """1,024 channels: ceil(log4(1024 / 50)) = 3 rounds: 1, 4, 16."""
        assert list(binnings(1024)) == [(1, 0), (4, 0), (4, 2), (16, 0), (16, 8)]
        assert list(binnings(64)) == [(1, 0)]

    def test_a_line_must_be_in_all_three_averages(self) -> None:
        def lines(planes: list[int], last: list[int]) -> Detections:
            first = np.full(len(planes), 100)
            return Detections(np.array(planes), first, np.array(last), np.ones(len(planes), dtype=np.int64))

        filled = np.array([3])
        assert len(confirmed(lines([0, 1, 2], [119, 121, 118]), filled)) == 3
        assert len(confirmed(lines([0, 1], [119, 120]), filled)) == 0
        assert len(confirmed(lines([0, 1, 2], [119, 120, 180]), filled)) == 0
        assert len(confirmed(lines([0], [119]), np.array([1]))) == 1


class TestClusters:
    def test_hierarchy_stands_for_a_cluster_with_mean_centre_and_upper_quartile_width(self) -> None:
        width = np.array([10.0, 12, 14, 16] * 5)
        centre = np.array([200.0, 201, 202, 203] * 5)
        found = find_clusters(width, centre, 512)
        assert len(found) == 1 and found[0].members.size == 20
        assert found[0].centre == pytest.approx(201.5)
        assert found[0].width == pytest.approx(np.percentile(width, 75))

    @pytest.mark.parametrize("algorithm", ["hierarchy", "kmean"])
    def test_two_heaps_are_two_clusters(self, algorithm: str) -> None:
        rng = np.random.default_rng(2)
        width = np.concatenate([rng.normal(20, 2, 40), rng.normal(60, 3, 30)])
        centre = np.concatenate([rng.normal(100, 3, 40), rng.normal(350, 3, 30)])
        found = find_clusters(width, centre, 512, algorithm)
        assert [round(c.centre / 10) for c in found] == [10, 35]

    def test_two_detections_are_an_accident(self) -> None:
        assert find_clusters(np.array([10.0, 11]), np.array([50.0, 51]), 512) == []

    def test_thousands_of_different_points_are_clustered_in_bounded_memory(self) -> None:
        rng = np.random.default_rng(0)
        found = find_clusters(rng.normal(50, 5, 20_000), rng.normal(1000, 20, 20_000), 4096)
        assert max(c.members.size for c in found) > 15_000


class TestMaps:
    def test_counts_take_the_best_binning(self) -> None:
        lines = Detections(
            np.array([0, 1, 2, 0, 0, 4]), np.zeros(6, int), np.full(6, 9), np.array([1, 1, 1, 4, 4, 4])
        )
        counted = detection_map(lines, (1, 2))
        assert counted.tolist() == [[3.0, 0.5]]
        assert validation_map(counted, np.array([[3.0, 1.0]])).tolist() == [[1.0, 0.5]]

    def test_a_lone_position_keeps_most_of_its_weight(self) -> None:
        """Weights: 6 in the middle; 4 x 1, 4 x 1/2, 4 x 1/4, 8 x 1/5 around: 6 / 14.6 of 2."""
        alone = np.zeros((9, 9))
        alone[4, 4] = 1.0
        assert smoothing_map(alone, np.ones((9, 9), dtype=bool))[4, 4] == pytest.approx(12 / 14.6)

    def test_allowance_is_10_channels_for_the_narrowest_and_half_the_widest(self) -> None:
        assert allowance(np.array([5.0]), 600)[0] == pytest.approx(10)
        assert allowance(np.array([200.0]), 600)[0] == pytest.approx(100)


class TestGrid:
    def test_directions_around_ra_0_are_neighbours(self) -> None:
        grid = SkyGrid.around([359.99, 0.0, 0.01], [10.0, 10.0, 10.0], 0.01)
        assert grid.n_x == 3 and grid.n_y == 1
        assert grid.cells([359.99, 0.0, 0.01], [10.0] * 3).tolist() == [0, 1, 2]
        assert grid.cells([1.0, np.nan], [10.0, 10.0]).tolist() == [-1, -1]

    def test_spectra_are_dealt_to_three_planes_across_calls(self) -> None:
        gridded = GridSpectra.empty(1, 4)
        for value in range(6):
            data = np.full((1, 4), float(value), dtype=np.float32)
            gridded.add(data, np.zeros((1, 4), dtype=bool), [0], [1.0])
        assert gridded.data[:, 0].tolist() == [1.5, 2.5, 3.5]
        assert gridded.planes_filled.tolist() == [PLANES]

    def test_flagged_channels_do_not_count_and_weights_do(self) -> None:
        gridded = GridSpectra.empty(1, 2)
        flags = np.array([[False, True], [False, False], [False, False], [False, False]])
        data = np.array([[4, 99], [0, 0], [0, 0], [1, 7]], dtype=np.float32)
        gridded.add(data, flags, [0, 0, 0, 0], [1.0, 1.0, 1.0, 3.0])
        assert gridded.data[0].tolist() == [(4 + 3 * 1) / 4, 7.0]

    def test_weights_without_tsys_are_1(self) -> None:
        np.testing.assert_allclose(grid_weights([2.0, 2.0, 0.0], [100.0, 0.3, 100.0]), [2e-4, 1.0, 1.0])


class TestFitOrder:
    @pytest.mark.parametrize("cycles", [3, 5, 9])
    def test_a_ripple_of_k_cycles_asks_for_order_2k_plus_1(self, cycles: int) -> None:
        """x = k, order = int(2 k + 1.5)."""
        n_chan = 2048
        axis = np.arange(n_chan) / n_chan
        rng = np.random.default_rng(cycles)
        data = (5 * np.sin(2 * np.pi * cycles * axis) + rng.normal(size=(40, n_chan))).astype(np.float32)
        power = fitorder.mean_power(data, np.ones_like(data, dtype=bool), np.zeros(40, dtype=int), 1)
        assert fitorder.polynomial_orders(power, n_chan).tolist() == [2 * cycles + 1]

    def test_noise_asks_for_order_3(self) -> None:
        data = np.random.default_rng(0).normal(size=(60, 1024)).astype(np.float32)
        power = fitorder.mean_power(data, np.ones_like(data, dtype=bool), np.repeat([0, 1], 30), 2)
        assert fitorder.polynomial_orders(power, 1024).tolist() == [3, 3]

    def test_steps_of_power(self) -> None:
        """Largest power 2, 4, 7, 20 at index 1: x = 1, 1.5, 2, 2 (at least); a 6 above the 20 adds a half."""
        power = np.zeros((5, 16))
        power[:, 1] = [2, 4, 7, 20, 20]
        power[4, 6] = 6
        assert fitorder.polynomial_orders(power, 2048).tolist() == [3, 4, 5, 5, 6]

    def test_wide_masks_limit_the_order(self) -> None:
        """1,000 channels, mask of 280: width 200, so at most 1000 // 200 + 1 = 6."""
        assert fitorder.capped([9, 3, 9], 1000, [280, 280, 0]).tolist() == [6, 3, 9]

    def test_pieces_shrink_with_free_channels(self) -> None:
        """Order 6, 1,000 channels: 500 free: 6 x 0.5 + 0.5 = 3; 20 free: at most a tenth, 2; 0 free: 1."""
        assert fitorder.spline_pieces([6, 6, 6], 1000, [500, 20, 0]).tolist() == [3, 1, 1]
        assert fitorder.spline_pieces([60], 1000, [500]).tolist() == [30]

    def test_masked_ends_switch_to_low_polynomials(self) -> None:
        """101 channels: half is 51, a quarter 26; only stretches at an end of the band count."""
        use = np.ones((5, 101), dtype=bool)
        use[0, :51] = use[1, :26] = use[2, 101 - 25 :] = use[3, 30:80] = False
        chosen = fitorder.choose_functions([5] * 5, use, 101, spline=True, switchpoly=True)
        assert chosen.polynomial.tolist() == [True, True, False, False, False]
        assert chosen.number[:2].tolist() == [1, 2]
        plain = fitorder.choose_functions([5] * 5, use, 101, spline=True, switchpoly=False)
        assert not plain.polynomial.any()


class TestDeviation:
    def test_a_channel_with_extra_scatter_is_masked_and_no_other(self) -> None:
        rng = np.random.default_rng(3)
        scatter = Scatter.of(512)
        for _ in range(4):  # in blocks
            data = rng.normal(size=(100, 512)).astype(np.float32)
            data[:, 300:304] *= 4
            data += rng.normal(scale=50, size=(100, 1)).astype(np.float32)  # levels do not matter
            scatter.add(data, np.zeros(data.shape, dtype=bool))
        mask = deviation_mask(scatter.deviation)
        assert mask.spans[0][0] in range(298, 301) and mask.spans[0][1] in range(303, 306)
        assert mask.width <= 8

    def test_equal_scatter_is_no_deviation(self) -> None:
        scatter = Scatter.of(1024)
        data = np.random.default_rng(1).normal(size=(500, 1024)).astype(np.float32)
        scatter.add(data, np.zeros(data.shape, dtype=bool))
        assert deviation_mask(scatter.deviation).width <= 2

    def test_flagged_samples_do_not_count(self) -> None:
        data = np.random.default_rng(1).normal(size=(200, 256)).astype(np.float32)
        data[:, 40] *= 30
        flags = np.zeros(data.shape, dtype=bool)
        flags[:, 40] = True
        scatter = Scatter.of(256)
        scatter.add(data, flags)
        assert np.isnan(scatter.deviation[40])
        assert not deviation_mask(scatter.deviation).mask(256)[40]

    def test_the_level_is_that_of_the_quiet_samples(self) -> None:
        data = np.array([[1.0, 2, 3, 4, 5, 1000], [7, 7, 7, 7, 7, 7]], dtype=np.float32)
        good = np.ones_like(data, dtype=bool)
        good[0, 5] = False
        assert clipped_median(data, good).tolist() == [3.0, 7.0]
        assert clipped_median(data, np.zeros_like(good)).tolist() == [0.0, 0.0]


class TestFlatness:
    def test_noise_is_flat_and_a_wave_is_not(self) -> None:
        """20 bins of 51 channels: the means of noise scatter by 1/7, so they span about 0.5; a wave of amplitude 2
        spans 4 over a scatter of sqrt(1 + 2)."""
        rng = np.random.default_rng(0)
        noise = rng.normal(size=1024)
        wave = noise + 2 * np.sin(2 * np.pi * 3 * np.arange(1024) / 1024)
        use = np.ones(1024, dtype=bool)
        assert integrated_flatness(noise, use) < 1.0
        assert integrated_flatness(wave, use) == pytest.approx(4 / np.sqrt(3), rel=0.15)

    def test_nothing_is_said_without_channels(self) -> None:
        assert integrated_flatness(np.zeros(100), np.zeros(100, dtype=bool)) is None


def test_what_reaches_the_end_of_the_band_in_one_position_is_no_line() -> None:
    """Channels 0 to 7, found in all averages of one position, or of three; the same inside the band is a line."""
    from pl_hsd.heuristics.clustering import Cluster

    planes_filled = np.full(SIDE**2, PLANES)

    def judged(cells: list[int], first: int) -> bool:
        spectrum = np.concatenate([np.arange(PLANES) + PLANES * c for c in cells])
        channel = np.full(spectrum.size, first)
        lines = Detections(spectrum, channel, channel + 7, np.ones_like(spectrum))
        cluster = Cluster(members=np.arange(spectrum.size), centre=first + 3.5, width=8.0)
        fewest = most_valid([cluster], lines, planes_filled, (SIDE, SIDE))
        return validate(cluster, lines, planes_filled, (SIDE, SIDE), fewest, (0, CHANNELS - 1)).valid

    assert not judged([40], 0) and not judged([40], CHANNELS - 8)
    assert judged([40], 100) and judged([40, 41, 49, 50], 0)


def test_a_bright_narrow_line_is_as_wide_as_the_finest_binning_shows_it_unless_it_stands_on_a_pedestal() -> None:
    """A maser of 4,096 channels of noise: 100 sigma, FWHM 90; seen above 1 sigma over 230 channels."""
    rng = np.random.default_rng(7)
    axis = np.arange(4096)
    maser = 100 * gauss(axis - 2000, 90)
    for pedestal, low, high in ((0.0, 180, 320), (3.0, 700, 1100)):
        wide = pedestal * (np.abs(axis - 2000) < 400)
        found = find_lines((maser + wide + rng.standard_normal((1, 4096))).astype(np.float32), np.ones((1, 4096), bool))
        chosen = finest(found)
        assert low <= chosen.last.max() - chosen.first.min() + 1 <= high
