"""Baselines of many spectra: exact on exact input, the same as one fit at a time, and the same as sdbaseline."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from pl_hsd.baselining import FitChoice, fit_spectra, raster_blocks, spoken_for
from pl_hsd.bltable import Function, parameter_lines
from pl_hsd.heuristics.fitting import fit_polynomial, fit_sinusoid, fit_spline, runs_of, spline_knots

CHANNELS = 400
AXIS = np.arange(CHANNELS)


def gaps(n: int, seed: int = 0) -> np.ndarray:
    """A gap of 60 channels at another place in every spectrum."""
    centre = np.random.default_rng(seed).integers(100, 300, n)
    return np.abs(AXIS - centre[:, None]) > 30


def noise(n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, CHANNELS)).astype(np.float32)


def test_rejected_spectra_have_no_say_in_the_order_of_their_row_unless_nobody_else_is_there() -> None:
    valid = np.array([True, False, True, False, False])
    unit = np.array([0, 0, 1, 2, 2])
    assert spoken_for(valid, unit).tolist() == [True, False, True, True, True]


def test_a_polynomial_is_found_again_under_any_mask() -> None:
    x = AXIS / CHANNELS
    truth = (3 + 2 * x - 5 * x**2 + x**3).astype(np.float32) * np.arange(1, 6, dtype=np.float32)[:, None]
    use = gaps(5)
    spoiled = np.where(use, truth, 1e4).astype(np.float32)
    fit = fit_polynomial(spoiled, use, 3)
    np.testing.assert_allclose(fit.model, truth, atol=2e-5)
    assert fit.ok.all()


def test_many_polynomials_are_those_of_numpy_one_by_one() -> None:
    data, use = noise(20), gaps(20)
    fit = fit_polynomial(data, use, 5, clip_rounds=0)
    for i in range(20):
        series = np.polynomial.Chebyshev.fit(AXIS[use[i]], data[i][use[i]], 5)
        np.testing.assert_allclose(fit.model[i], series(AXIS), atol=1e-5)


def test_chebyshev_coefficients_give_the_model() -> None:
    data, use = noise(3), gaps(3)
    fit = fit_polynomial(data, use, 4)
    again = np.polynomial.chebyshev.chebval(np.linspace(-1, 1, CHANNELS), fit.coefficients.T)
    np.testing.assert_allclose(again, fit.model, atol=1e-5)


def test_a_cubic_is_a_spline_of_any_number_of_pieces() -> None:
    x = AXIS / CHANNELS - 0.5
    truth = np.tile((100 + 10 * x - 40 * x**3).astype(np.float32), (4, 1))
    for pieces in (1, 2, 3, 7):
        fit = fit_spline(truth, gaps(4), pieces)
        np.testing.assert_allclose(fit.model, truth, atol=2e-4)


def test_splines_are_least_squares_splines_of_scipy() -> None:
    from scipy.interpolate import make_lsq_spline

    data, use = noise(6), gaps(6)
    fit = fit_spline(data, use, 5, clip_rounds=0)
    for i in range(6):
        inner = fit.knots[i].astype(float)
        knots = np.concatenate([[inner[0]] * 3, inner, [inner[-1]] * 3])
        spline = make_lsq_spline(AXIS[use[i]].astype(float), data[i][use[i]].astype(float), knots)
        np.testing.assert_allclose(fit.model[i], spline(AXIS.astype(float)), atol=2e-4)


def test_coefficients_of_pieces_give_the_model() -> None:
    fit = fit_spline(noise(2), gaps(2), 4)
    for i in range(2):
        for piece, (a, b) in enumerate(zip(fit.knots[i][:-1], fit.knots[i][1:], strict=True)):
            x = np.arange(a, b)
            c = fit.coefficients[i, 4 * piece : 4 * piece + 4]
            np.testing.assert_allclose(c[0] + x * (c[1] + x * (c[2] + x * c[3])), fit.model[i, a:b], atol=1e-4)


def test_knots_part_the_channels_that_count_into_equal_numbers() -> None:
    """sdbaseline's own table gave 0, 35, 60, 94, 128 for channels 10~70 and 80~117 of 128 in four pieces: 99 channels
    count; piece 2 begins at number ceil(99/4) = 25 of them (10 + 25 = 35), piece 3 at 50 (60), piece 4 at 75 (94)."""
    use = np.zeros((2, 128), dtype=bool)
    use[0, 10:71] = use[0, 80:118] = True
    use[1] = True
    knots = spline_knots(use, 4)
    assert knots[0].tolist() == [0, 35, 60, 94, 128]
    assert knots[1].tolist() == [0, 32, 64, 96, 128]


def test_sinusoids_are_found_again() -> None:
    phase = 2 * np.pi * AXIS / (CHANNELS - 1)
    truth = np.tile((1 + 2 * np.sin(3 * phase) - np.cos(3 * phase)).astype(np.float32), (2, 1))
    fit = fit_sinusoid(truth, gaps(2), [0, 3])
    np.testing.assert_allclose(fit.model, truth, atol=1e-5)
    np.testing.assert_allclose(fit.coefficients[0], [1, 2, -1], atol=1e-5)


def test_a_spike_is_clipped_and_only_in_its_spectrum() -> None:
    data = noise(3)
    data[1, 150] += 40
    use = np.ones_like(data, dtype=bool)
    for fit in (fit_polynomial(data, use, 2), fit_spline(data, use, 3)):
        assert not fit.used[1, 150] and fit.used[0].all() and fit.used[2].all()
        assert abs(fit.model[1, 150]) < 0.5
        assert fit.rms[1] == pytest.approx(1.0, abs=0.15)
    assert use.all()  # what was given stays as it was


def test_too_few_channels_are_no_fit() -> None:
    data = noise(3)
    use = np.ones_like(data, dtype=bool)
    use[0] = False
    use[1, 4:] = False
    for fit in (fit_polynomial(data, use, 5), fit_spline(data, use, 4)):
        assert fit.ok.tolist() == [False, False, True]
        assert not fit.model[:2].any()
        assert np.isnan(fit.rms[:2]).all()


def test_nothing_is_fitted_to_nothing() -> None:
    empty = np.zeros((0, 10), dtype=np.float32)
    assert fit_polynomial(empty, empty.astype(bool), 1).model.shape == (0, 10)
    assert fit_spline(empty, empty.astype(bool), 2).model.shape == (0, 10)


def test_runs_are_the_stretches_of_true() -> None:
    use = np.array([[1, 1, 0, 1], [0, 0, 0, 0], [0, 1, 1, 1]], dtype=bool)
    spectrum, start, stop = runs_of(use)
    assert list(zip(spectrum, start, stop, strict=True)) == [(0, 0, 2), (0, 3, 4), (2, 1, 4)]


def test_raster_rows_are_never_parted() -> None:
    number = np.repeat([0, 1, 2, 3], [4, 4, 10, 2])
    blocks = list(raster_blocks(number, 8))
    assert [(b.start, b.stop) for b in blocks] == [(0, 8), (8, 18), (18, 20)]
    assert list(raster_blocks(np.zeros(0, dtype=np.int64), 8)) == []


def test_parameter_lines_are_those_of_sdbaseline() -> None:
    use = np.zeros((4, 20), dtype=bool)
    use[0, 2:9] = use[0, 12:20] = use[1] = use[2, 5:] = True
    functions = [Function("cspline", 3), Function("poly", 2), Function("sinusoid", waves=(0, 1)), Function("poly", 1)]
    assert parameter_lines(np.array([7, 9]), 2, use, functions) == [
        "7,0,2~8;12~19,1,5.0,0,,,,,cspline,,3,",
        "7,1,0~19,1,5.0,0,,,,,chebyshev,2,,",
        "9,0,5~19,1,5.0,0,,,,,sinusoid,,,[0,1]",
        "9,1,,1,5.0,0,,,,,poly,1,,",
    ]


@pytest.mark.casa
def test_fits_are_those_of_sdbaseline(tmp_path: Path) -> None:
    """Every function, order and number of pieces, with gaps and spikes: residuals, flags and weights."""
    from pl_kernel.casa import Casa, Recorder
    from pl_sim.testing import cached_simulation

    casa = Casa(Recorder(), os.devnull)
    vis, out = tmp_path / "x.ms", tmp_path / "x.ms_bl"
    shutil.copytree(cached_simulation("nobeyama"), vis)
    functions = [Function("poly", k) for k in (0, 1, 3, 5, 9)] + [Function("cspline", k) for k in (1, 2, 3, 5, 8)]
    functions += [Function("sinusoid", waves=(0, 1, 2)), Function("sinusoid", waves=(0, 4))]
    with casa.table(vis, nomodify=False) as table:
        rows = np.flatnonzero(table.getcol("DATA_DESC_ID") == 0)[: len(functions)]
        n_pol, n_chan = table.getcell("FLOAT_DATA", int(rows[0])).shape
        rng = np.random.default_rng(5)
        x = np.arange(n_chan)
        data = rng.normal(size=(rows.size, n_pol, n_chan)) + 3 * np.sin(2 * np.pi * 2.3 * x / n_chan) + (x / 30) ** 2
        data[:, 0, 50] += 25
        data[:, 1, 100] -= 25
        use = np.ones((rows.size, n_pol, n_chan), dtype=bool)
        for i in range(rows.size):
            use[i, :, 20 + 5 * i : 45 + 5 * i] = False
        use[:, 1, :8] = False
        for i, row in enumerate(rows):
            table.putcell("FLOAT_DATA", int(row), data[i].astype(np.float32))
            table.putcell("FLAG", int(row), np.zeros((n_pol, n_chan), dtype=bool))
            table.putcell("FLAG_ROW", int(row), False)
    flat, chosen = data.astype(np.float32).reshape(-1, n_chan), use.reshape(-1, n_chan)
    each = [f for f in functions for _ in range(n_pol)]
    (tmp_path / "par.txt").write_text("\n".join(parameter_lines(rows, n_pol, chosen, each)) + "\n")
    casa.sdbaseline(
        infile=str(vis), datacolumn="float_data", outfile=str(out), blmode="fit", dosubtract=True, blformat="",
        blfunc="variable", blparam=str(tmp_path / "par.txt"), updateweight=True, overwrite=True, reindex=False,
    )  # fmt: skip
    with casa.table(out) as table:
        theirs = np.array([table.getcell("FLOAT_DATA", int(r)) for r in rows]).reshape(-1, n_chan)
        weight = np.array([table.getcell("WEIGHT", int(r)) for r in rows]).ravel()
    for i, function in enumerate(each):
        part = flat[i : i + 1], chosen[i : i + 1]
        if function.kind == "poly":
            fit = fit_polynomial(*part, function.number)
        elif function.kind == "cspline":
            fit = fit_spline(*part, function.number)
        else:
            fit = fit_sinusoid(*part, function.waves)
        residual = flat[i] - fit.model[0]
        # Single precision of spectra that reach 25; where order 9 is extrapolated over the edge it shows most.
        np.testing.assert_allclose(residual, theirs[i], atol=2e-4, err_msg=function.text)
        assert weight[i] == pytest.approx(1 / residual[chosen[i]].var(), rel=1e-4)


def test_spectra_of_one_function_are_fitted_together_and_stay_in_place() -> None:
    data, use = noise(12), gaps(12)
    orders = np.array([1, 6] * 6)
    parts, functions = fit_spectra(data, use, orders, FitChoice(kind="poly"), CHANNELS)
    assert sorted(p.function.number for p in parts) == [1, 6]
    for i, function in enumerate(functions):
        assert function.number == orders[i]
        own = next(p for p in parts if p.function == function)
        alone = fit_polynomial(data[i : i + 1], use[i : i + 1], function.number)
        np.testing.assert_allclose(own.fit.model[list(own.index).index(i)], alone.model[0], atol=1e-6)
