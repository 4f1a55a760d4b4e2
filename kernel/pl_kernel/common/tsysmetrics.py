"""What is wrong with system temperatures: metrics over the spectra of one spectral window. Arrays in, masks out.

Every metric takes spectra that are flagged already where earlier ones found something, and returns a `Finding`: a mask
[row, channel] (both polarizations are flagged together) and what it measured, for the plots. Definitions and limits:
reference pipeline (2026); where ours differ, the docstring says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from . import viewflag
from .calspectra import CalSpectra

Array = NDArray[Any]
METRICS = ("nmedian", "derivative", "edgechans", "fieldshape", "birdies", "toomany")
STEEP = 0.05
"""Step of the normalised reference spectrum above which a channel is no measure of its shape (fieldshape)."""


@attrs.frozen(kw_only=True)
class Limits:
    """Thresholds of all metrics; names and defaults as in the stage's parameters."""

    fnm_limit: float = 2.0
    fnm_byfield: bool = True
    fd_max_limit: float = 5.0
    fe_edge_limit: float = 3.0
    ff_max_limit: float = 13.0
    fb_sharps_limit: float = 0.15
    tmf1_limit: float = 0.666
    tmef1_limit: float = 0.666


@attrs.frozen(eq=False)
class Facts:
    """What metrics know beside the spectra: reference fields, fields by intent, channels of atmospheric lines."""

    reference_fields: tuple[int, ...]
    intent_fields: Mapping[str, Iterable[int]]
    lines: Array


@attrs.frozen(eq=False, kw_only=True)
class Finding:
    """What a metric found in one window.

    ``bad`` [row, channel] is newly found; ``value`` is [row, polarization] where the metric gives one number per
    spectrum (NaN: none), and ``limit`` its threshold in the same unit.
    """

    metric: str
    spw: int
    bad: Array
    value: Array | None = None
    limit: float | None = None
    note: str = ""


def evaluate(
    metric: str, spectra: CalSpectra, limits: Limits, reference_fields: Iterable[int] = (),
    intent_fields: Mapping[str, Iterable[int]] | None = None, spared: Array | None = None,
) -> Finding:  # fmt: skip
    """Evaluate one metric.

    Parameters
    ----------
    reference_fields : fields whose spectra are the reference of fieldshape; without any, the antenna's own median.
    intent_fields : fields by intent, for edgechans; without them all spectra make one view.
    spared : channels of atmospheric lines, which are neither edges nor birdies.
    """
    lines = np.zeros(spectra.frequency_hz.shape, dtype=bool) if spared is None else np.asarray(spared, dtype=bool)
    return _RULES[metric](spectra, limits, Facts(tuple(reference_fields), intent_fields or {}, lines))


def _nmedian(s: CalSpectra, limits: Limits, _facts: Facts) -> Finding:
    """Median over channels against that of all antennas and times (of the field): too high by a factor.

    The median of the view is the lower one (see `viewflag.low_median`).
    """
    value = _median(s.masked, axis=2)
    high = np.zeros(value.shape, dtype=bool)
    ratio = np.full(value.shape, np.nan)
    groups = [s.field == f for f in np.unique(s.field)] if limits.fnm_byfield else [np.ones(s.field.shape, dtype=bool)]
    for rows in groups:
        middle = viewflag.low_median(value[rows], axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio[rows] = value[rows] / middle
            high[rows] = value[rows] > limits.fnm_limit * middle
    return _whole_rows("nmedian", s, high, ratio, limits.fnm_limit)


def _derivative(s: CalSpectra, limits: Limits, _facts: Facts) -> Finding:
    """100 × the median absolute deviation of steps between channels of the spectrum over its median: noisy spectra."""
    normal = _normalised(s.masked)
    difference = np.diff(normal, axis=2)
    value = 100 * _median(np.abs(difference - _median(difference, axis=2)[..., None]), axis=2)
    with np.errstate(invalid="ignore"):
        return _whole_rows("derivative", s, value > limits.fd_max_limit, value, limits.fd_max_limit)


def _edgechans(s: CalSpectra, limits: Limits, facts: Facts) -> Finding:
    """Channels at the ends where the median spectrum of all antennas and times is steep, and no atmospheric line is.

    The reference flags such lines when they happen to lie near an end; they are signal.
    """
    channels = np.zeros(s.frequency_hz.shape, dtype=bool)
    open_ends = False
    views = [np.isin(s.field, list(fields)) for fields in facts.intent_fields.values()]
    views = views or [np.ones(s.field.shape, bool)]
    for rows in views:
        if not rows.any():
            continue
        middle = _median(s.masked[rows], axis=0)
        for spectrum in middle:
            missing = ~np.isfinite(spectrum)
            found, whole = viewflag.edges(np.where(missing, 0.0, spectrum), missing, limits.fe_edge_limit, facts.lines)
            channels |= found
            open_ends |= not whole
    return Finding(
        metric="edgechans", spw=s.spw, bad=channels[None, :] & ~_row_channel_bad(s),
        note="An edge is steep over more than a quarter of the window; one channel was flagged." if open_ends else "",
    )  # fmt: skip


def _fieldshape(s: CalSpectra, limits: Limits, facts: Facts) -> Finding:
    """100 × the mean deviation of the normalised spectrum from the antenna's reference: another shape than it.

    The reference is the median over the fields of the reference intent. Where an antenna has none of these (a single
    dish has no bandpass calibrator), it is the median of all of its spectra. Channels where the reference itself is
    steep (a step beyond 0.05) do not count.
    """
    normal = _normalised(s.masked)
    value = np.full(normal.shape[:2], np.nan)
    for antenna in np.unique(s.antenna):
        own = s.antenna == antenna
        chosen = own & np.isin(s.field, facts.reference_fields)
        if not np.isfinite(normal[chosen]).any():
            chosen = own
        reference = _median(normal[chosen], axis=0)
        jumps = np.abs(np.diff(reference, axis=1)) > STEEP
        steep = np.zeros(reference.shape, dtype=bool)
        steep[:, :-1] |= jumps
        steep[:, 1:] |= jumps
        away = np.where(steep[None], np.nan, np.abs(normal[own] - reference[None]))
        value[own] = 100 * _mean(away, axis=2)
    with np.errstate(invalid="ignore"):
        return _whole_rows("fieldshape", s, value > limits.ff_max_limit, value, limits.ff_max_limit)


def _birdies(s: CalSpectra, limits: Limits, facts: Facts) -> Finding:
    """Channels around steps in an antenna's median spectrum that the other antennas do not have.

    Spectra are normalised by their median over channels; the window's spectrum is the lower median over antennas, so
    that with two antennas the one with the spike is found, and not both.
    """
    normal = _normalised(s.masked)
    antennas = np.unique(s.antenna)
    own = np.stack([_median(normal[s.antenna == a], axis=0) for a in antennas]) if antennas.size else normal[:0]
    common = viewflag.low_median(own, axis=0)
    bad = np.zeros((len(s.antenna), s.frequency_hz.size), dtype=bool)
    for k, antenna in enumerate(antennas):
        for spectrum in own[k] - common:
            missing = ~np.isfinite(spectrum)
            found = viewflag.sharps(np.where(missing, 0.0, spectrum), missing, limits.fb_sharps_limit, facts.lines)
            bad[s.antenna == antenna] |= found
    return Finding(metric="birdies", spw=s.spw, bad=bad & ~_row_channel_bad(s))


def _toomany(s: CalSpectra, limits: Limits, _facts: Facts) -> Finding:
    """What is left of a time at which most antennas are flagged, and of a window in which most antennas are."""
    gone = np.asarray(_row_channel_bad(s).all(axis=1))
    bad = np.zeros(gone.shape, dtype=bool)
    for time in np.unique(s.time_s):
        now = s.time_s == time
        if gone[now].sum() > limits.tmf1_limit * now.sum():
            bad |= now
    antennas = np.unique(s.antenna)
    dead = [a for a in antennas if gone[s.antenna == a].all()]
    if antennas.size and len(dead) >= limits.tmef1_limit * antennas.size:
        bad[:] = True
    whole = np.repeat(bad[:, None], s.frequency_hz.size, axis=1)
    return Finding(metric="toomany", spw=s.spw, bad=whole & ~_row_channel_bad(s))


_RULES: Mapping[str, Callable[[CalSpectra, Limits, Facts], Finding]] = {
    "nmedian": _nmedian, "derivative": _derivative, "edgechans": _edgechans, "fieldshape": _fieldshape,
    "birdies": _birdies, "toomany": _toomany,
}  # fmt: skip


def with_flags(spectra: CalSpectra, bad: Array) -> CalSpectra:
    """The spectra with more flags; ``bad`` is [row, channel]."""
    return attrs.evolve(spectra, flags=spectra.flags | bad[:, None, :])


# ---- flag commands ---------------------------------------------------------------------------------------------------


def commands(
    finding: Finding, spectra: CalSpectra, antenna_names: Mapping[int, str], reason: str = ""
) -> tuple[str, ...]:
    """Flag commands for a caltable: as few as say the same, widened where everything of an antenna or window is meant.

    Polarization is never selected. Points that are flagged already do not count against widening.
    """
    if not finding.bad.any():
        return ()
    done = np.asarray(finding.bad | _row_channel_bad(spectra))
    why = f"reason='{reason or 'tsysflag_' + finding.metric}'"
    everywhere = np.asarray(done.all(axis=0) & finding.bad.any(axis=0))
    found = []
    if everywhere.any():
        found.append(f"mode='manual' spw='{_channels(finding.spw, everywhere)}' {why}")
    left = finding.bad & ~everywhere
    for antenna in np.unique(spectra.antenna[left.any(axis=1)]):
        own = spectra.antenna == antenna
        name = antenna_names.get(int(antenna), str(antenna))
        always = np.asarray(done[own].all(axis=0) & left[own].any(axis=0))
        if always.any():
            found.append(f"mode='manual' antenna='{name}' spw='{_channels(finding.spw, always)}' {why}")
        for row in np.flatnonzero(own & (left & ~always).any(axis=1)):
            time = f"timerange='{_time(spectra.time_s[row] - 0.5)}~{_time(spectra.time_s[row] + 1.0)}'"
            selection = _channels(finding.spw, left[row] & ~always)
            found.append(f"mode='manual' antenna='{name}' spw='{selection}' {time} {why}")
    return tuple(found)


def _channels(spw: int, mask: Array) -> str:
    if mask.all():
        return str(spw)
    return f"{spw}:" + ";".join(f"{a}~{b}" for a, b in viewflag.runs(mask))


def _time(mjd_s: float) -> str:
    day = np.datetime64("1858-11-17T00:00:00.000", "ms") + np.timedelta64(round(mjd_s * 1000), "ms")
    return str(day).replace("-", "/").replace("T", "/")


# ---- arithmetic without warnings -------------------------------------------------------------------------------------


def _row_channel_bad(s: CalSpectra) -> Array:
    """[row, channel]: flagged in every polarization."""
    return np.asarray(s.flags.all(axis=1))


def _whole_rows(metric: str, s: CalSpectra, guilty: Array, value: Array, limit: float) -> Finding:
    rows = np.repeat(np.asarray(guilty.any(axis=1))[:, None], s.frequency_hz.size, axis=1)
    return Finding(metric=metric, spw=s.spw, bad=rows & ~_row_channel_bad(s), value=value, limit=limit)


def _normalised(spectra: Array) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(spectra / _median(spectra, axis=2)[..., None])


def _median(values: Array, axis: int) -> Array:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a slice without good values is NaN, as it should be
        return np.asarray(np.nanmedian(values, axis=axis))


def _mean(values: Array, axis: int) -> Array:
    good = np.isfinite(values)
    total = np.where(good, values, 0.0).sum(axis=axis)
    count = good.sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
