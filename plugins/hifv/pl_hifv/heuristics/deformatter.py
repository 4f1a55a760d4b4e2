"""Bad deformatters: sub-bands of an antenna whose bandpass falls or turns as no receiver does.

A deformatter turns the light of the fibre back into samples. When one fails, the bandpass of its antenna and baseband
shows deep dips or phase steps, in several windows of the baseband at once. A single bad window is more likely
interference.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs
import numpy as np
from numpy.typing import ArrayLike

AMPLITUDE_RATIO = 0.15
"""Smallest acceptable minimum / maximum of the bandpass amplitude (reference pipeline, 2026)."""
PHASE_RANGE_DEG = 50.0
"""Largest acceptable range of the bandpass phase."""
EDGE = 0.1
"""Part of the channels left out at each end, where every bandpass falls."""
SPWS_PER_BASEBAND = 4
"""So many bad windows make a bad baseband."""
REFERENCE_FRACTION = 0.5
"""When so many of the antennas look bad, it is the reference antenna that is."""
LETTERS = {"U": "Ku", "KU": "Ku", "A": "Ka", "KA": "Ka"}
"""Other names of bands in lists of exceptions."""
FLAGGED_FROM_MJD = 56062.7
"""Deformatters were repaired in other ways before 2012-05-15: earlier data are judged, not flagged."""


@attrs.frozen(kw_only=True)
class Passband:
    """Amplitude ratio and phase range of one bandpass; None where fewer than two channels are good."""

    amplitude_ratio: float | None
    phase_range_deg: float | None

    @property
    def bad_amplitude(self) -> bool:
        return self.amplitude_ratio is not None and self.amplitude_ratio < AMPLITUDE_RATIO

    @property
    def bad_phase(self) -> bool:
        return self.phase_range_deg is not None and self.phase_range_deg > PHASE_RANGE_DEG


@attrs.frozen(kw_only=True)
class BadWindow:
    """A window of an antenna that fails the test, and the correlations (``"RR"``) in which it does.

    ``kind`` is "amplitude" or "phase", ``value`` the worst ratio, or range in degrees.
    """

    antenna: str
    spw: int
    band: str
    baseband: str
    kind: str
    value: float
    correlations: tuple[str, ...] = attrs.field(converter=tuple)


@attrs.frozen(kw_only=True)
class BadBaseband:
    """Windows to flag: a whole baseband of an antenna, or (``whole`` False) the single bad windows of it."""

    antenna: str
    band: str
    baseband: str
    kind: str
    whole: bool
    spws: tuple[int, ...] = attrs.field(converter=tuple)
    bad_spws: tuple[int, ...] = attrs.field(converter=tuple)
    correlations: tuple[str, ...] = attrs.field(converter=tuple)
    value: float


def inner(channels: int) -> np.ndarray:
    """(channels,) True for 0.1 ≤ channel / channels < 0.9."""
    x = np.arange(channels) / max(channels, 1)
    return (x >= EDGE) & (x < 1 - EDGE)


def phase_range_deg(gain: ArrayLike) -> float:
    """Range of phase in degrees of an unordered set of gains, free of the wrap at ±180°.

    It is 360° minus the widest gap between neighbours on the circle. The reference pipeline takes the range of
    values in −180…180°, so that a quiet phase near 180° looks like one of 360°.
    """
    phase = np.sort(np.degrees(np.angle(np.asarray(gain))).ravel())
    if phase.size < 2:
        return 0.0
    gaps = np.append(np.diff(phase), phase[0] + 360.0 - phase[-1])
    return float(360.0 - gaps.max())


def assess(gain: ArrayLike, flag: ArrayLike) -> Passband:
    """Judge one bandpass: complex gain and flags, both (channels,), of one antenna, window and receptor."""
    values, bad = np.asarray(gain), np.asarray(flag, bool)
    good = values[inner(values.size) & ~bad]
    if good.size < 2:
        return Passband(amplitude_ratio=None, phase_range_deg=None)
    amplitude = np.abs(good)
    ratio = float(amplitude.min() / amplitude.max()) if amplitude.max() > 0 else 0.0
    return Passband(amplitude_ratio=ratio, phase_range_deg=phase_range_deg(good))


def bad_window(
    antenna: str, spw: int, band: str, baseband: str, correlations: Sequence[str], passbands: Sequence[Passband],
    kind: str,
) -> BadWindow | None:  # fmt: skip
    """The verdict over the receptors of a window, or None when all are fine.

    The correlations named are those that failed; the reference pipeline names the last it looked at.
    """
    failed = {
        c: (p.amplitude_ratio if kind == "amplitude" else p.phase_range_deg)
        for c, p in zip(correlations, passbands, strict=False)
        if (p.bad_amplitude if kind == "amplitude" else p.bad_phase)
    }
    if not failed:
        return None
    values = [float(v) for v in failed.values() if v is not None]
    return BadWindow(
        antenna=antenna, spw=spw, band=band, baseband=baseband, kind=kind, correlations=failed,
        value=min(values) if kind == "amplitude" else max(values),
    )  # fmt: skip


def ignored(ignore: dict[str, dict[str, object]], antenna: str, band: str, spw: int) -> bool:
    """Whether the user's list spares this window: antenna → band → windows (``"4"``, ``"2~5"``; nothing: all)."""
    named = ignore.get(antenna)
    if named is None:
        return False
    if not named:
        return True
    bands = {LETTERS.get(key.upper(), key): value for key, value in named.items()}
    if band not in bands:
        return False
    given = bands[band]
    items = [str(i) for i in given] if isinstance(given, (list, tuple)) else str(given or "").split(",")
    items = [i.strip().strip("{}") for i in items if i.strip().strip("{}")]
    if not items:
        return True
    for item in items:
        first, _, last = item.partition("~")
        if int(first) <= spw <= int(last or first):
            return True
    return False


def by_baseband(
    windows: Iterable[BadWindow], members: dict[tuple[str, str], Sequence[int]], single_windows: bool = False
) -> tuple[BadBaseband, ...]:
    """Gather bad windows by antenna and baseband: from four on the whole baseband is bad.

    A baseband of two or three windows is bad when all of them are; the reference pipeline (2026) needs four always, and
    so leaves a narrow set-up with its bad deformatter. One window alone is more likely interference.

    members : (band, baseband) → its windows. single_windows : keep baseband with fewer bad windows too, for those only.
    """
    groups: dict[tuple[str, str, str, str], list[BadWindow]] = {}
    for window in windows:
        groups.setdefault((window.antenna, window.band, window.baseband, window.kind), []).append(window)
    found = []
    for (antenna, band, baseband, kind), group in groups.items():
        all_of_them = len(members.get((band, baseband), ()))
        whole = len(group) >= (min(SPWS_PER_BASEBAND, all_of_them) if all_of_them > 1 else SPWS_PER_BASEBAND)
        if not whole and not single_windows:
            continue
        bad = tuple(sorted(w.spw for w in group))
        values = [w.value for w in group]
        found.append(
            BadBaseband(
                antenna=antenna, band=band, baseband=baseband, kind=kind, whole=whole, bad_spws=bad,
                spws=tuple(members.get((band, baseband), bad)) if whole else bad,
                correlations=dict.fromkeys(c for w in group for c in w.correlations),
                value=min(values) if kind == "amplitude" else max(values),
            )
        )  # fmt: skip
    return tuple(found)


def reference_suspect(found: Iterable[BadBaseband], antennas: int) -> bool:
    """Whether so many antennas look bad that the reference antenna must be.

    Antennas are counted, each kind of test for itself; the reference pipeline counts flag commands, one per window.
    """
    touched: dict[str, set[str]] = {}
    for item in found:
        touched.setdefault(item.kind, set()).add(item.antenna)
    return any(len(names) >= REFERENCE_FRACTION * antennas for names in touched.values())


def flag_commands(item: BadBaseband, present: Sequence[str], antennas: Sequence[str]) -> list[str]:
    """Lines of flagdata's list mode that flag the products of the hands that failed, and no others.

    present : the correlations of the windows, ``("RR", "RL", "LR", "LL")``.  antennas : all names in the order of their
        ids; the first letter of a correlation is the hand of the antenna that comes first in it.

    A cross hand holds one hand of either antenna: the one with the good hand of this antenna stays. The reference
    pipeline (2026) flags both.
    """
    start = f"mode='manual' antenna='{item.antenna}"
    end = f" spw='{','.join(str(s) for s in item.spws)}'"
    reason = f" reason='bad_deformatter_{item.kind}_or_RFI'"
    failed = {c[0] for c in item.correlations}
    if not {c[0] for c in present} - failed:
        return [f"{start}'{end}{reason}"]
    index = list(antennas).index(item.antenna)
    lines = []
    for side, others in ((0, antennas[index + 1 :]), (1, antennas[:index])):
        wanted = [c for c in present if c[side] in failed]
        if others and wanted:
            lines.append(f"{start}&{','.join(others)}'{end} correlation='{','.join(wanted)}'{reason}")
    return lines


def one_handed(found: Iterable[BadBaseband]) -> dict[tuple[str, int], bool]:
    """(antenna, window) → True where one parallel hand is flagged for good and the other is fine."""
    hands: dict[tuple[str, int], set[str]] = {}
    for item in found:
        for spw in item.spws:
            hands.setdefault((item.antenna, spw), set()).update(item.correlations)
    return {key: len(names) == 1 for key, names in hands.items()}
