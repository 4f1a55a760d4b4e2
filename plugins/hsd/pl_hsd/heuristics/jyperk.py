"""Factors from kelvin to jansky: the two forms of the file, and which entry is meant for which data. No I/O."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Mapping, Sequence

import attrs

from pl_kernel.errors import InputError

ANONYMOUS = "ANONYMOUS"
"""Antenna name of an entry that is meant for any antenna."""
PLAUSIBLE = (30.0, 50.0)
"""Jy/K of a 12 m antenna of ALMA; others are possible, and worth a warning (reference pipeline, 2026)."""
WIDEST = 1.1
"""An entry for a band wider than this × the window says nothing about it (reference pipeline, 2026)."""

_PER_MS = ("MS", "Antenna", "Spwid", "Polarization", "Factor")
_PER_SESSION = ("sessionID", "ObservationStartDate(UTC)", "ObservationEndDate(UTC)", "Antenna", "BandCenter(MHz)",
                "BandWidth(MHz)", "POL", "Factor")  # fmt: skip


@attrs.frozen(kw_only=True)
class Entry:
    """One line of a file. Entries by measurement set have ``vis`` and ``spw``; those by session the other three."""

    antenna: str
    polarization: str
    factor: float
    vis: str = ""
    spw: int = -1
    session: str = ""
    centre_hz: float = math.nan
    width_hz: float = math.nan


@attrs.frozen(kw_only=True)
class Data:
    """What of a measurement set decides which entry it takes: windows by real id as (low, high) in Hz."""

    vis: str
    session: str
    antennas: tuple[str, ...]
    windows: Mapping[int, tuple[float, float]]
    polarizations: Mapping[int, tuple[str, ...]]


Key = tuple[int, str, str]
"""Real spw id, antenna name, correlation (XX)."""


def parse(text: str, name: str = "the Jy/K file") -> tuple[Entry, ...]:
    """Read either form: one line per measurement set and window, or per session and band.

    Raises:
        InputError: a line has too few columns, or a factor or number that is none; the sentence gives the line.
    """
    lines = text.splitlines()
    sessions = bool(lines) and lines[0].strip() == "#"
    columns = _PER_SESSION if sessions else _PER_MS
    entries = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        cells = [cell.strip() for cell in next(csv.reader([line]))]
        if cells[0].lower() == columns[0].lower():
            continue
        if len(cells) < len(columns):
            raise InputError(f"Line {number} of {name} has {len(cells)} columns; it needs {','.join(columns)}.")
        values = dict(zip(columns, cells, strict=False))
        try:
            entries.append(_of_session(values) if sessions else _of_ms(values))
        except ValueError as error:
            raise InputError(f"Line {number} of {name} is no entry of Jy/K factors: {error}.") from None
    return tuple(entries)


def _of_ms(cells: Mapping[str, str]) -> Entry:
    return Entry(
        vis=cells["MS"], antenna=cells["Antenna"], spw=int(cells["Spwid"]), polarization=cells["Polarization"],
        factor=_factor(cells["Factor"]),
    )  # fmt: skip


def _of_session(cells: Mapping[str, str]) -> Entry:
    return Entry(
        session=cells["sessionID"], antenna=cells["Antenna"], polarization=cells["POL"],
        centre_hz=float(cells["BandCenter(MHz)"]) * 1e6, width_hz=float(cells["BandWidth(MHz)"]) * 1e6,
        factor=_factor(cells["Factor"]),
    )  # fmt: skip


def _factor(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"the factor {text} is not positive")
    return value


def factors_for(data: Data, entries: Iterable[Entry]) -> dict[Key, float]:
    """The factor of every window, antenna and correlation that an entry is meant for.

    The antenna's own entry wins over an anonymous one, then the best coverage of the window's frequencies, then an
    entry for the correlation over one for I. Entries by session are those whose session ends with the same number.
    """
    found: dict[Key, float] = {}
    candidates = [e for e in entries if _is_meant(e, data)]
    for spw, window in data.windows.items():
        fitting = [(coverage(e, window), e) for e in candidates if e.spw == spw or e.session]
        fitting = [(c, e) for c, e in fitting if c > 0]
        for antenna in data.antennas:
            for correlation in data.polarizations.get(spw, ()):
                own = [(c, e) for c, e in fitting if e.antenna in (antenna, ANONYMOUS) and _same(e, correlation)]
                if own:
                    best = max(
                        own, key=lambda ce: (ce[1].antenna != ANONYMOUS, ce[0], ce[1].polarization != "I")
                    )  # fmt: skip
                    found[(spw, antenna, correlation)] = best[1].factor
    return found


def _is_meant(entry: Entry, data: Data) -> bool:
    if entry.session:
        return session_number(entry.session) == session_number(data.session)
    return _stem(entry.vis) == _stem(data.vis)


def _stem(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1].removesuffix(".ms")


def _same(entry: Entry, correlation: str) -> bool:
    return entry.polarization in ("I", "", correlation) or entry.polarization * 2 == correlation


def session_number(name: str) -> int:
    """The number at the end of a session's name; 1 where there is none (``Session_default``)."""
    match = re.search(r"(\d+)\s*$", name)
    return int(match[1]) if match else 1


def coverage(entry: Entry, window: tuple[float, float]) -> float:
    """Share of a window that an entry's band covers; 0 for a band much wider than it. An entry by window covers it."""
    if not entry.session:
        return 1.0
    width = window[1] - window[0]
    if entry.width_hz > WIDEST * width:
        return 0.0
    low, high = entry.centre_hz - entry.width_hz / 2, entry.centre_hz + entry.width_hz / 2
    return max(0.0, (min(high, window[1]) - max(low, window[0])) / width)


def expected(data: Data) -> tuple[Key, ...]:
    """Every window, antenna and correlation that needs a factor."""
    return tuple((s, a, p) for s in data.windows for a in data.antennas for p in data.polarizations.get(s, ()))


def to_csv(vis: str, factors: Mapping[Key, float]) -> str:
    """The form by measurement set, with its header."""
    lines = [",".join(_PER_MS)]
    lines += [f"{vis},{antenna},{spw},{pol},{value!r}" for (spw, antenna, pol), value in sorted(factors.items())]
    return "\n".join(lines) + "\n"


def outliers(values: Sequence[float]) -> tuple[bool, ...]:
    """Values beyond the quartiles by more than 1.5 times their distance."""
    if len(values) < 4:
        return (False,) * len(values)
    ordered = sorted(values)

    def quantile(q: float) -> float:
        place = q * (len(ordered) - 1)
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (place - low) * (ordered[high] - ordered[low])

    first, third = quantile(0.25), quantile(0.75)
    reach = 1.5 * (third - first)
    return tuple(not first - reach <= v <= third + reach for v in values)
