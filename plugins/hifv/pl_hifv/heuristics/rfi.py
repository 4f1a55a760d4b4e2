"""What each mode of hifv_checkflag does, and how far a window may deviate before it counts as interference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import numpy as np

_SEFD = {
    "4": "70:50018 82:50018",
    "P": "277:7306 293:4255 309:3484 325:2829 341:2665 357:2529 373:2476 389:2790 405:4812 421:3474 437:3794 453:4707"
    " 469:5339 485:10598",
    "L": "935:1641 945:1031 954:906 1050:450 1315:361 1917:436 2053:719 2085:2093 2097:3064 2107:5175",
    "S": "1850:1192 1890:608 1928:466 2087:364 2798:400 3618:276 4110:325 4168:474 4199:929 4218:1416",
    "C": "3835:565 3866:425 3896:368 4377:263 5374:281 6866:228 7978:223 8160:252 8236:321 8266:508",
    "X": "8040:305 8168:264 8424:254 10064:258 10320:274 10680:256 11576:299 11704:319 11832:400 11960:435",
    "Ku": "11533:668 11574:529 11661:432 12301:301 13465:274 15116:325 16012:290 17957:363 18172:442 18341:830",
    "K": "17677:1181 17805:597 17892:524 18957:470 22700:680 24704:524 26404:558 26829:667 26957:782 27085:1191",
    "Ka": "25689:1008 26457:696 27673:576 33885:574 38313:812 39273:1111 39872:994 40400:1540 40656:1529 41040:2122",
    "Q": "38436:1282 38692:954 39076:1068 41983:959 44154:1118 47651:1747 49510:3077 49807:2971 50191:3524 50319:4452",
}
"""System equivalent flux density (Jy) by frequency (MHz); NRAO receiver tables as reduced for the reference pipeline.

Only ratios inside one baseband matter.
"""
DEFAULT_SEFD_JY = 500.0


def has_sefd(band: str) -> bool:
    """Whether the sensitivity of a band's receivers is known."""
    return band in _SEFD


def sefd_jy(band: str, frequency_hz: float) -> float:
    """System equivalent flux density, interpolated linearly; the nearest value outside the band's range.

    A band without a table has 500 Jy everywhere.
    """
    if band not in _SEFD:
        return DEFAULT_SEFD_JY
    pairs = np.array([[float(x) for x in p.split(":")] for p in _SEFD[band].split()])
    return float(np.interp(frequency_hz / 1e6, pairs[:, 0], pairs[:, 1]))


@attrs.frozen(kw_only=True)
class RfiWindow:
    """A window as the thresholds see it; ``group`` names its band and baseband; smoothed: Hanning-smoothed."""

    id: int
    group: str
    band: str
    centre_hz: float
    channel_hz: float
    smoothed: bool = False


SMOOTHED_NOISE = float(np.sqrt(3 / 8))
"""Noise of a channel after Hanning smoothing: the weights are a quarter, a half, a quarter; 1/16 + 1/4 + 1/16 = 3/8."""


def relative_noise(window: RfiWindow, use_sefd: bool = True) -> float:
    """Expected noise of one channel relative to other windows: SEFD / sqrt(channel width in MHz).

    Smoothing counts: line windows are not smoothed, and beside smoothed continuum windows of their baseband they would
    be taken for noisy ones and lose good data (the reference pipeline leaves it out).
    """
    sefd = sefd_jy(window.band, window.centre_hz) if use_sefd else 1.0
    return float(sefd / np.sqrt(max(window.channel_hz, 1.0) / 1e6)) * (SMOOTHED_NOISE if window.smoothed else 1.0)


def pulled_down(
    deviations: Sequence[Sequence[float]], windows: Mapping[int, RfiWindow], use_sefd: bool = True
) -> list[list[float]]:
    """Deviations (field, spw, value) with windows full of interference pulled down to the median of their baseband.

    Interference raises the deviation that is measured, and a threshold from it would let the interference pass.
    For every field and baseband, with s the expected relative noise: dev_used = min(dev, s·median(dev/s)), the
    median over windows with dev > 0 (reference pipeline, 2026).
    """
    groups: dict[tuple[float, str], list[int]] = {}
    for i, (field, spw, value) in enumerate(deviations):
        if value > 0 and int(spw) in windows:
            groups.setdefault((field, windows[int(spw)].group), []).append(i)
    used = [[float(f), float(s), float(v)] for f, s, v in deviations]
    for members in groups.values():
        noise = np.array([relative_noise(windows[int(deviations[i][1])], use_sefd) for i in members])
        values = np.array([deviations[i][2] for i in members], dtype=float)
        allowed = noise * np.median(values / noise)
        for i, value, limit in zip(members, values, allowed, strict=True):
            used[i][2] = float(min(value, limit))
    return used


# ---- modes -----------------------------------------------------------------------------------------------------------

CROSS, PARALLEL, ALL = "cross", "parallel", "all"


@attrs.frozen(kw_only=True)
class Pass:
    """One round of an algorithm over some correlations.

    ``hands``: cross, parallel or all.  ``residual``: work on data minus model where a real model exists.
    ``scale``: rflag's timedevscale and freqdevscale, or tfcrop's (time, frequency) cut-offs.
    """

    algorithm: str
    hands: str
    scale: tuple[float, float]
    residual: bool = False


@attrs.frozen(kw_only=True)
class Mode:
    """What a mode works on and does.

    ``data``: bandpass (and delay), calibrators (the others), all_calibrators, or target.
    ``column``: corrected or data.  ``extend``: (growtime, growfreq) in percent after each pass, or None.
    ``grow``: (flagneartime, flagnearfreq) of the growth at the end, or None.
    ``adjust``: thresholds are calculated first and pulled down; ``use_sefd``: with the receivers' sensitivity.
    ``simple_last``: a plain rflag of the targets at the end.  ``needs_model``: MODEL_DATA must exist.
    """

    data: str
    passes: tuple[Pass, ...]
    column: str = "corrected"
    extend: tuple[float, float] | None = (100.0, 100.0)
    grow: tuple[bool, bool] | None = None
    adjust: bool = True
    use_sefd: bool = True
    simple_last: bool = False
    needs_model: bool = False


def _rflag(hands: str, scale: float, residual: bool = False) -> Pass:
    return Pass(algorithm="rflag", hands=hands, scale=(scale, scale), residual=residual)


def _tfcrop(hands: str, time: float, freq: float) -> Pass:
    return Pass(algorithm="tfcrop", hands=hands, scale=(time, freq))


NOISE_CUT = 3.64
"""Cut-off of tfcrop on targets, in standard deviations: as many false alarms as 3 would give for Gaussian noise.

Amplitudes of noise are Rayleigh distributed, with mean 1.253 σ, standard deviation 0.655 σ and a longer tail. The
Gaussian
tail beyond 3 is 0.00135 = exp(−T²/2) at T = 3.635 σ, that is (3.635 − 1.253) / 0.655 = 3.64. The reference
pipeline's 3 costs 3 % of the data of a clean target, flags of four correlations taken together.
"""
_OLD = (100.0, 60.0)
MODES: dict[str, Mode] = {
    "bpd-vla": Mode(
        data="bandpass", grow=(False, True),
        passes=(_rflag(CROSS, 5.0), _rflag(PARALLEL, 5.0, residual=True), _tfcrop(ALL, 4.0, 4.0)),
    ),
    "bpd-vlass": Mode(
        data="bandpass", grow=(True, True), use_sefd=False,
        passes=(_rflag(CROSS, 4.0), _rflag(PARALLEL, 4.0, residual=True), _tfcrop(ALL, 3.0, 3.0)),
    ),
    "allcals-vla": Mode(
        data="calibrators", grow=(False, True), passes=(_rflag(ALL, 5.0, residual=True), _tfcrop(ALL, 4.0, 4.0))
    ),
    "allcals-vlass": Mode(
        data="calibrators", grow=(True, True), use_sefd=False, passes=(_rflag(ALL, 4.0), _tfcrop(ALL, 3.0, 3.0))
    ),
    "target-vla": Mode(
        data="target", simple_last=True,
        passes=(_rflag(CROSS, 4.0), _rflag(PARALLEL, 4.5), _tfcrop(ALL, NOISE_CUT, NOISE_CUT)),
    ),
    "target-vlass": Mode(
        data="target", use_sefd=False, passes=(_rflag(CROSS, 4.0), _rflag(PARALLEL, 7.0), _tfcrop(ALL, 3.0, 3.0))
    ),
    "vlass-imaging": Mode(
        data="target", column="data", use_sefd=False, needs_model=True,
        passes=(_rflag(CROSS, 4.0), _rflag(PARALLEL, 4.0, residual=True), _tfcrop(ALL, 3.0, 3.0)),
    ),
    "bpd": Mode(
        data="bandpass", grow=(True, False), extend=_OLD, adjust=False,
        passes=(_rflag(CROSS, 4.0), _rflag(PARALLEL, 4.0, residual=True), _tfcrop(ALL, 4.0, 3.0)),
    ),
    "allcals": Mode(
        data="calibrators", grow=(True, False), extend=_OLD, adjust=False,
        passes=(_rflag(ALL, 4.0), _tfcrop(ALL, 4.0, 3.0)),
    ),
    "target": Mode(
        data="target", extend=_OLD, adjust=False,
        passes=(_rflag(CROSS, 4.0), _rflag(PARALLEL, 7.0), _tfcrop(ALL, 4.0, 3.0), _tfcrop(PARALLEL, 4.0, 3.0)),
    ),
    "semi": Mode(
        data="all_calibrators", grow=(True, False), extend=None, adjust=False, passes=(_rflag(PARALLEL, 4.0),)
    ),
    "": Mode(data="bandpass", grow=(True, False), extend=None, adjust=False, passes=(_rflag(PARALLEL, 4.0),)),
}  # fmt: skip
"""All modes (reference pipeline, 2026); those of the sky survey are here for its plugin to use."""


LASTING = 0.5
"""A channel that lost more than this part of what the others still have is lost to interference that lasts."""


def growable(before: Sequence[float], now: Sequence[float], smoothed: bool) -> list[int]:
    """The channels in which flags may grow, from the flagged part of each before and after interference was found.

    Not those that had no data: edges flagged on purpose are nothing to grow around. In a smoothed window neither runs
    of three or more channels that interference took, nor the neighbours of such a run: a quarter of each channel is in
    the next, so the outermost channels of the run are the blur of the interference and not its beginning. One or two
    channels alone may have wings too weak to be found, and grow.
    """
    left = {i for i, f in enumerate(before) if f < 1.0}
    if smoothed and now:
        usual = float(np.median(now))
        lasting = {i for i, n in enumerate(now) if n - usual > LASTING * (1.0 - usual)}
        for i in lasting:
            if i + 1 in lasting and i + 2 in lasting:
                left -= set(range(i - 1, i + 4))
    return sorted(left)


def hands(correlations: Sequence[str], which: str) -> tuple[str, ...]:
    """The cross, parallel or all hands among the correlations of the data, cross hands first."""
    parallel = tuple(c for c in correlations if c in ("RR", "LL", "XX", "YY"))
    cross = tuple(c for c in correlations if c not in parallel)
    return {CROSS: cross, PARALLEL: parallel, ALL: (*cross, *parallel)}[which]
