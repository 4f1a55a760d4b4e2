"""Corrections of antenna positions from the observatory's list of baseline solutions.

The list has one line per correction: optionally when the antenna moved, when its baselines were observed, day and hour
when the correction was put into the correlator, antenna, pad, and three offsets in metres (ITRF). An observation needs
the sum of what was put in after it, for the pad on which the antenna stood then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import attrs

_NAMES = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_MONTHS = {month: k for k, month in enumerate(_NAMES, 1)}


@attrs.frozen(kw_only=True)
class Correction:
    """One line: the antenna's number and pad, when put in, when the antenna had moved (None: not), offsets in m."""

    antenna: int
    pad: str
    put: datetime
    moved: datetime | None
    offset_m: tuple[float, float, float]


def parse_line(line: str, year: int) -> Correction | None:
    """A line of the list of a year, or None for what is no correction (markup, comments, headings).

    >>> parse_line("JAN05 JAN27  FEB01 16:02   12  W36  0.0000 -0.0030  0.0015", 2024).pad
    'W36'
    """
    words = line.split()
    if len(words) not in (8, 9) or line.startswith(("<", ";")):
        return None
    try:
        moved = _date(words[0], year) if len(words) == 9 else None
        _, put, clock, antenna, pad, *offsets = words[-8:]
        hours, minutes = (int(v) for v in clock.split(":"))
        x, y, z = (float(v) for v in offsets)
        return Correction(
            antenna=int(antenna), pad=pad, put=_date(put, year) + timedelta(hours=hours, minutes=minutes), moved=moved,
            offset_m=(x, y, z),
        )  # fmt: skip
    except (KeyError, ValueError):
        return None


def _date(text: str, year: int) -> datetime:
    return datetime(year, _MONTHS[text[:3].upper()], int(text[3:]))


def offsets(
    corrections: Iterable[Correction], pads: Mapping[str, str], observed: datetime, limit_days: float
) -> dict[str, tuple[float, float, float]]:
    """Offsets in metres by antenna name, from corrections in the order in which they were put in.

    pads : antenna name (ea01 …) → its pad at the time of the observation. limit_days : corrections put in later than
    this after the observation belong to another season of the ground (0: no limit); 150 in the reference pipeline.

    A move after the observation ends the antenna's list; a move before it starts the sum anew.
    """
    names = {int("".join(c for c in name if c.isdigit()) or -1): name for name in pads}
    total: dict[str, tuple[float, float, float]] = {}
    closed: set[str] = set()
    for one in corrections:
        name = names.get(one.antenna)
        if name is None or name in closed:
            continue
        if one.moved is not None:
            if one.moved > observed:
                closed.add(name)
                continue
            total.pop(name, None)
        late = limit_days > 0 and one.put - observed >= timedelta(days=limit_days)
        if one.put > observed and one.pad == pads[name] and not late:
            x, y, z = total.get(name, (0.0, 0.0, 0.0))
            total[name] = (x + one.offset_m[0], y + one.offset_m[1], z + one.offset_m[2])
    return {name: value for name, value in total.items() if any(value)}
