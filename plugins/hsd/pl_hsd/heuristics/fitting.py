"""Least-squares baselines of many spectra at once: polynomials, sinusoids and cubic splines, with clipping.

The meaning of every function is that of CASA's sdbaseline (libsakura): the same spaces of functions, the same places
of the spline's knots, the same clipping. Only the arithmetic differs: normal equations of thousands of spectra are
built with matrix products and solved together, so that each spectrum may have a mask of its own.

Shapes: ``data`` [spectrum, channel], ``use`` [spectrum, channel] (True: the channel counts in the fit).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

_CHUNK_SAMPLES = 262_144
"""Samples worked on together: about what stays in the cache as float64."""

_RIDGE = 1e-12
"""Relative weight on the diagonal: keeps a singular system solvable without being seen in a regular one."""


@attrs.frozen(eq=False)
class Fit:
    """Baselines.

    Parameters
    ----------
    model : [spectrum, channel], the baseline in every channel, also in those that did not count.
    coefficients : [spectrum, coefficient], of Chebyshev polynomials over the channels (-1 at the first, 1 at the
        last); of 1, sin, cos, sin, cos ... ; or of four powers of the channel number for each piece of a spline.
    used : [spectrum, channel], the channels left after clipping.
    rms : [spectrum], root mean square of the residual in these channels.
    ok : [spectrum], False where there were too few channels; the model is 0 there.
    knots : [spectrum, pieces + 1], first channel of each piece of a spline and the number of channels; else empty.
    """

    model: Float32Array
    coefficients: FloatArray
    used: BoolArray
    rms: FloatArray
    ok: BoolArray
    knots: IntArray


_Solution = tuple[Float32Array, FloatArray, BoolArray]
"""Model, coefficients, whether the solution stands."""

_Solver = Callable[[Float32Array, BoolArray, IntArray], _Solution]
"""Takes values and channels of some spectra, and which ones of those at hand they are."""


def fit_polynomial(
    data: Float32Array, use: BoolArray, order: int, *, clip_sigma: float = 5.0, clip_rounds: int = 1
) -> Fit:
    """Fit polynomials of one order."""
    n_chan = data.shape[1]
    basis = np.polynomial.chebyshev.chebvander(np.linspace(-1, 1, n_chan) if n_chan > 1 else np.zeros(1), order)
    return _fit_basis(data, use, basis, clip_sigma, clip_rounds)


def fit_sinusoid(
    data: Float32Array, use: BoolArray, wave_numbers: Sequence[int], *, clip_sigma: float = 5.0, clip_rounds: int = 1
) -> Fit:
    """Fit sines and cosines with these numbers of waves over the window (0: a constant)."""
    n_chan = data.shape[1]
    # A wave of number 1 begins at the first channel and is complete at the last, as in libsakura.
    phase = 2 * np.pi * np.arange(n_chan) / max(n_chan - 1, 1)
    columns = []
    for number in sorted(set(wave_numbers)):
        columns += [np.ones(n_chan)] if number == 0 else [np.sin(number * phase), np.cos(number * phase)]
    return _fit_basis(data, use, np.stack(columns, axis=1), clip_sigma, clip_rounds)


def fit_spline(
    data: Float32Array, use: BoolArray, pieces: int, *, clip_sigma: float = 5.0, clip_rounds: int = 1
) -> Fit:
    """Fit cubic splines of ``pieces`` pieces, each of which holds the same number of channels that count."""
    knots = spline_knots(use, pieces)
    n, n_chan = data.shape
    parts = []
    for part in _chunks(n, n_chan):

        def solve(values: Float32Array, used: BoolArray, which: IntArray, here: IntArray = knots[part]) -> _Solution:
            return _Splines(here[which], n_chan).solve(values, used)

        parts.append(_clipped(solve, data[part], use[part], clip_sigma, clip_rounds))
    return _joined(parts, knots, n_chan, 4 * pieces)


def spline_knots(use: BoolArray, pieces: int) -> IntArray:
    """Return the first channel of each piece, and the number of channels, [spectrum, pieces + 1] (libsakura's rule).

    Of N channels that count, piece i begins at the one numbered ceil(i N / pieces), from 0; the first piece begins at
    channel 0 whether that counts or not.
    """
    n, n_chan = use.shape
    knots = np.zeros((n, pieces + 1), dtype=np.int64)
    knots[:, pieces] = n_chan
    if pieces > 1 and n:
        spectrum, start, stop = runs_of(use)
        if not spectrum.size:
            return knots
        behind = np.cumsum(stop - start)  # channels that count up to the end of each run, over all spectra
        total = np.bincount(spectrum, weights=stop - start, minlength=n).astype(np.int64)
        before = np.cumsum(total) - total
        for i in range(1, pieces):
            wanted = before + np.minimum(-(-i * total // pieces), np.maximum(total - 1, 0))
            run = np.minimum(np.searchsorted(behind, wanted, side="right"), spectrum.size - 1)
            knots[:, i] = np.where(total > 0, stop[run] - (behind[run] - wanted), 0)
    return knots


# ---- one set of functions for all spectra --------------------------------------------------------------------------


def _fit_basis(data: Float32Array, use: BoolArray, basis: FloatArray, clip_sigma: float, clip_rounds: int) -> Fit:
    n, n_chan = data.shape
    n_coef = basis.shape[1]
    # Orthonormal functions: normal equations in them are as well conditioned as the gaps allow.
    functions, triangle = np.linalg.qr(basis)
    single = functions.astype(np.float32)
    first, second = np.triu_indices(n_coef)
    products = np.zeros((n_chan + 1, first.size))
    np.cumsum(functions[:, first] * functions[:, second], axis=0, out=products[1:])

    def solve(values: Float32Array, used: BoolArray, _which: IntArray) -> _Solution:
        sums = _sums_over_runs(used, products)
        gram = np.empty((len(values), n_coef, n_coef))
        gram[:, first, second] = sums
        gram[:, second, first] = sums
        coefficients = _solve(gram, (values @ single).astype(np.float64))
        return coefficients.astype(np.float32) @ single.T, coefficients, used.sum(axis=1) >= n_coef

    parts = [_clipped(solve, data[part], use[part], clip_sigma, clip_rounds) for part in _chunks(n, n_chan)]
    fit = _joined(parts, np.zeros((n, 0), dtype=np.int64), n_chan, n_coef)
    return attrs.evolve(fit, coefficients=np.linalg.solve(triangle, fit.coefficients.T).T if n else fit.coefficients)


def runs_of(used: BoolArray) -> tuple[IntArray, IntArray, IntArray]:
    """Return spectrum, first channel and channel after the last of every run of True in [spectrum, channel]."""
    edges = np.zeros((used.shape[0], used.shape[1] + 1), dtype=bool)
    edges[:, 1:-1] = used[:, 1:] != used[:, :-1]
    edges[:, 0] = used[:, 0]
    edges[:, -1] = used[:, -1]
    spectrum, channel = np.divmod(np.flatnonzero(edges), edges.shape[1])
    return spectrum[::2], channel[::2], channel[1::2]


def _sums_over_runs(used: BoolArray, cumulative: FloatArray) -> FloatArray:
    """Sum per-channel quantities over the channels that count, from their cumulative sums [channel + 1, quantity]."""
    spectrum, start, stop = runs_of(used)
    sums = np.zeros((len(used), cumulative.shape[1]))
    if spectrum.size:
        having, firsts = np.unique(spectrum, return_index=True)
        sums[having] = np.add.reduceat(cumulative[stop] - cumulative[start], firsts, axis=0)
    return sums


def _solve(gram: FloatArray, right: FloatArray) -> FloatArray:
    """Solve many small symmetric systems; what is not determined comes out small."""
    size = gram.shape[-1]
    ridge = _RIDGE * np.trace(gram, axis1=1, axis2=2) / size
    gram[:, np.arange(size), np.arange(size)] += np.where(ridge > 0, ridge, 1.0)[:, None]
    return np.linalg.solve(gram, right[:, :, None])[:, :, 0]


# ---- clipping ------------------------------------------------------------------------------------------------------


def _clipped(solve: _Solver, data: Float32Array, use: BoolArray, clip_sigma: float, clip_rounds: int) -> Fit:
    """Fit, drop what lies beyond ``clip_sigma`` standard deviations of the residual, and fit those spectra again."""
    values = np.where(use, data, np.float32(0))
    used = use
    model, coefficients, ok = solve(values, used, np.arange(len(data)))
    residual = (values - model) * used
    mean, spread = _statistics(residual, used)
    which = np.arange(len(data))
    for _ in range(clip_rounds):
        limit = clip_sigma * spread[which]
        largest = np.maximum(residual[which].max(axis=1, initial=0.0), -residual[which].min(axis=1, initial=0.0))
        which = which[largest > limit]
        if not which.size:
            break
        used = used.copy() if used is use else used
        used[which] &= np.abs(residual[which]) <= clip_sigma * spread[which, None]
        part = np.where(used[which], values[which], np.float32(0))
        model[which], coefficients[which], ok[which] = solve(part, used[which], which)
        residual[which] = (part - model[which]) * used[which]
        mean[which], spread[which] = _statistics(residual[which], used[which])
    model[~ok] = 0.0
    rms = np.where(ok, np.sqrt(spread**2 + mean**2), np.nan)
    return Fit(model, coefficients, used, rms, ok, np.zeros((len(data), 0), dtype=np.int64))


def _statistics(residual: Float32Array, used: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of the channels that count, by spectrum; ``residual`` is 0 elsewhere."""
    count = np.maximum(np.count_nonzero(used, axis=1), 1).astype(np.float64)
    mean = residual.sum(axis=1, dtype=np.float32).astype(np.float64) / count
    square = np.einsum("ij,ij->i", residual, residual).astype(np.float64) / count
    return mean, np.sqrt(np.maximum(square - mean**2, 0.0))


# ---- splines -------------------------------------------------------------------------------------------------------


class _Splines:
    """Cubic splines of some spectra, each with knots of its own.

    In a piece every B-spline is a cubic in a local coordinate v from -1 to 1, so all sums over channels are moments
    of v in the pieces, with and without the data; the rest is arithmetic with matrices of 4 by 4.
    """

    def __init__(self, knots: IntArray, n_chan: int) -> None:
        self.pieces = knots.shape[1] - 1
        self.shape = (len(knots), n_chan)
        self.good = (np.diff(knots, axis=1) > 0).all(axis=1)
        # Spectra without enough channels get regular knots, only so that the arithmetic can go on.
        spare = np.linspace(0, n_chan, self.pieces + 1).astype(np.int64)
        self.possible = bool((np.diff(spare) > 0).all())
        self.knots = np.where(self.good[:, None], knots, spare)

    def solve(self, values: Float32Array, used: BoolArray) -> _Solution:
        n, n_chan = self.shape
        if not self.possible or not n:
            return np.zeros(self.shape, np.float32), np.zeros((n, 4 * self.pieces)), np.zeros(n, dtype=bool)
        lengths = np.diff(self.knots, axis=1)
        scale = 2.0 / lengths
        offset = -1.0 - self.knots[:, :-1] * scale
        repeats = lengths.ravel()

        def per_channel(of_pieces: FloatArray) -> Float32Array:
            return np.repeat(of_pieces.astype(np.float32).ravel(), repeats).reshape(self.shape)

        v = per_channel(scale) * np.arange(n_chan, dtype=np.float32)
        v += per_channel(offset)
        cubics = bspline_cubics(self.knots.astype(np.float64))
        size = self.pieces + 3
        gram, right = np.zeros((n, size, size)), np.zeros((n, size))
        moments = self._moments(used, scale)
        hankel = moments[:, :, np.add.outer(np.arange(4), np.arange(4))]
        local = cubics @ hankel @ cubics.transpose(0, 1, 3, 2)
        # In single precision sums are safe only without the offset that all channels share.
        count = np.maximum(moments[:, :, 0].sum(axis=1), 1)
        level = values.sum(axis=1) / count.astype(np.float32)
        local_right = (cubics @ self._data_sums((values - level[:, None]) * used, v)[..., None])[..., 0]
        for k in range(self.pieces):
            here = slice(k, k + 4)
            gram[:, here, here] += local[:, k]
            right[:, here] += local_right[:, k]
        answer = _solve(gram, right) + level[:, None]  # the B-splines sum up to 1
        active = answer[:, np.add.outer(np.arange(self.pieces), np.arange(4))]
        powers = np.einsum("npi,npia->npa", active, cubics)
        model = per_channel(powers[:, :, 3])
        for degree in (2, 1, 0):
            model *= v
            model += per_channel(powers[:, :, degree])
        ok = self.good & (np.count_nonzero(used, axis=1) >= size)
        return model, _in_channels(powers, scale, offset).reshape(n, -1), ok

    def _data_sums(self, values: Float32Array, v: Float32Array) -> FloatArray:
        """Sums of the data times v^0 ... v^3, [spectrum, piece, power]; ``values`` are 0 where they do not count."""
        n, n_chan = self.shape
        places = (np.arange(n)[:, None] * n_chan + self.knots[:, :-1]).ravel()
        sums = np.empty((n, self.pieces, 4))
        for degree in range(4):
            sums[:, :, degree] = np.add.reduceat(values.ravel(), places).reshape(n, self.pieces)
            if degree < 3:
                values *= v
        return sums

    def _moments(self, used: BoolArray, scale: FloatArray) -> FloatArray:
        """Sums of v^0 ... v^6 over the channels that count, [spectrum, piece, power].

        A run of L neighbouring channels inside a piece has closed sums of even powers about its middle (Faulhaber);
        the odd ones vanish, and a shift to the middle of the piece follows from the binomial theorem.
        """
        n, n_chan = self.shape
        cut = np.zeros((n, n_chan + 1), dtype=bool)
        cut[np.arange(n)[:, None], self.knots] = True
        cut[:, 1:-1] |= used[:, 1:] != used[:, :-1]
        place = np.flatnonzero(cut)
        row, start = np.divmod(place[:-1], n_chan + 1)
        stop = place[1:] % (n_chan + 1)
        inside = start < n_chan
        row, start, stop = row[inside], start[inside], stop[inside]
        piece = self._piece_of(row, start)
        counts = used[row, start]
        row, start, stop, piece = row[counts], start[counts], stop[counts], piece[counts]
        length = (stop - start).astype(np.float64)
        step = scale[row, piece]
        shift = ((start + stop - 1) / 2 - self.knots[row, piece]) * step - 1
        about = _sums_of_even_powers(length, step)
        sums = np.zeros((n * self.pieces, 7))
        for power in range(7):
            total = np.zeros_like(length)
            for even in range(0, power + 1, 2):
                total += math.comb(power, even) * about[even] * shift ** (power - even)
            sums[:, power] = np.bincount(row * self.pieces + piece, weights=total, minlength=len(sums))
        return sums.reshape(n, self.pieces, 7)

    def _piece_of(self, row: IntArray, channel: IntArray) -> IntArray:
        return (self.knots[row, 1:-1] <= channel[:, None]).sum(axis=1)


def _sums_of_even_powers(length: FloatArray, step: FloatArray) -> dict[int, FloatArray]:
    """Sums of x^0, x^2, x^4, x^6 over ``length`` points at distance ``step``, x = 0 in their middle."""
    n2 = length**2
    second = length * (n2 - 1) / 12
    return {
        0: length,
        2: second * step**2,
        4: second * (3 * n2 - 7) / 20 * step**4,
        6: second * (3 * n2**2 - 18 * n2 + 31) / 112 * step**6,
    }


def bspline_cubics(knots: FloatArray) -> FloatArray:
    """Return the four cubic B-splines that live in each piece, as powers of v (-1 to 1 over the piece).

    knots : [spectrum, pieces + 1], ascending.  Returns [spectrum, piece, B-spline, power].  The outer knots count
    four times (de Boor, A Practical Guide to Splines, recurrence for values at a point, with v kept as a variable).
    """
    pieces = knots.shape[1] - 1
    padded = np.concatenate([knots[:, :1]] * 3 + [knots] + [knots[:, -1:]] * 3, axis=1)
    low, high = knots[:, :-1], knots[:, 1:]
    middle, half = (low + high) / 2, (high - low) / 2
    index = np.arange(pieces) + 3

    def times_line(cubic: FloatArray, constant: FloatArray, slope: FloatArray) -> FloatArray:
        product = cubic * constant[..., None]
        product[..., 1:] += cubic[..., :-1] * slope[..., None]
        return product

    values = [np.zeros((*middle.shape, 4))]
    values[0][..., 0] = 1.0
    for degree in range(1, 4):
        saved = np.zeros_like(values[0])
        for r in range(degree):
            above, below = padded[:, index + r + 1], padded[:, index + 1 - (degree - r)]
            share = values[r] / (above - below)[..., None]
            values[r] = saved + times_line(share, above - middle, -half)
            saved = times_line(share, middle - below, half)
        values.append(saved)
    return np.stack(values, axis=2)


def _in_channels(powers: FloatArray, scale: FloatArray, offset: FloatArray) -> FloatArray:
    """Cubics in v = scale * channel + offset as cubics in the channel number, [..., power]."""
    c0, c1, c2, c3 = (powers[..., i] for i in range(4))
    a, b = scale, offset
    return np.stack(
        [
            c0 + b * (c1 + b * (c2 + b * c3)),
            a * (c1 + b * (2 * c2 + 3 * b * c3)),
            a**2 * (c2 + 3 * b * c3),
            a**3 * c3,
        ],
        axis=-1,
    )


# ---- pieces of work ------------------------------------------------------------------------------------------------


def _chunks(n: int, n_chan: int) -> Iterator[slice]:
    step = max(1, _CHUNK_SAMPLES // max(n_chan, 1))
    for start in range(0, n, step):
        yield slice(start, start + step)


def _joined(parts: Sequence[Fit], knots: IntArray, n_chan: int, n_coef: int) -> Fit:
    if not parts:
        nothing = np.zeros((0, n_chan))
        return Fit(
            nothing.astype(np.float32), np.zeros((0, n_coef)), nothing.astype(bool), np.zeros(0), np.zeros(0, bool),
            knots,
        )  # fmt: skip
    return Fit(
        model=np.concatenate([p.model for p in parts]),
        coefficients=np.concatenate([p.coefficients for p in parts]),
        used=np.concatenate([p.used for p in parts]),
        rms=np.concatenate([p.rms for p in parts]),
        ok=np.concatenate([p.ok for p in parts]),
        knots=knots,
    )
