"""Line ranges that the user gives: channels, frequencies, by window, or as a CASA selection."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_hsd.ranges import MS, SpectralRanges, frequency_frame
from pl_kernel.errors import InputError
from pl_kernel.ms.records import SpectralWindow

_FIRST_FREQUENCY = 1e6
"""Numbers from here on are Hz: no window has a million channels, no telescope observes below a megahertz."""

_UNITS = {"HZ": 1.0, "KHZ": 1e3, "MHZ": 1e6, "GHZ": 1e9, "THZ": 1e12}
_QUANTITY = re.compile(r"\s*([-+0-9.eE]+?)\s*([kKMGT]?[Hh][Zz])?\s*")
_OWN = "own"

Centres = Callable[[SpectralWindow, str], NDArray[np.float64]]
"""Gives the channel centres of a window in a frame such as LSRK (Hz)."""


@attrs.frozen
class WindowLines:
    """What the user says of one window: ``ranges`` in their frames, or that there is no line (``no_lines``).

    Frequencies of a selection are in the frame of the data ("own"), all others in LSRK.
    """

    ranges: tuple[tuple[str, SpectralRanges], ...] = ()
    no_lines: bool = False

    def channels(self, window: SpectralWindow, centres: Centres) -> SpectralRanges:
        """The ranges as channels of a window; the part inside it."""
        found = SpectralRanges()
        for frame, spans in self.ranges:
            if frame == MS:
                found = found.union(spans.clipped(window.n_channels))
                continue
            where = window.centres_hz if frame == _OWN else centres(window, frame)
            name = "TOPO" if frame == _OWN else frame
            found = found.union(SpectralRanges.of(spans.spans, frequency_frame(name)).to_channels(where, name))
        return found


def parse_linewindow(given: Any) -> dict[int | None, WindowLines]:
    """Read the parameter ``linewindow``; keys are virtual spws, None stands for all that are not named.

    Forms: ``[300, 500]`` or ``[[30, 50], [300, 500]]`` (channels), the same with Hz, ``["230.1GHz", "230.2GHz"]``
    (LSRK), ``{17: [300, 500], 19: None}`` (None: this window has no lines), ``"17:30~50;300~500,19:230.1~230.2GHz"``.

    Raises
    ------
    InputError : it is none of these.
    """
    if given is None or (isinstance(given, (list, tuple, str, Mapping)) and not given):
        return {}
    if isinstance(given, Mapping):
        found: dict[int | None, WindowLines] = {}
        for key, value in given.items():
            if not str(key).strip().lstrip("-").isdigit():
                raise InputError(f"linewindow names windows by their number; '{key}' is none.")
            found[int(key)] = WindowLines(no_lines=True) if value is None else _window_lines(value, int(key))
        return found
    if isinstance(given, str):
        return _selection(given)
    return {None: _window_lines(given, None)}


def lines_for(parsed: Mapping[int | None, WindowLines], spw: int) -> WindowLines | None:
    """What was said of a virtual spw; None: nothing."""
    return parsed.get(spw, parsed.get(None))


def _window_lines(value: Any, spw: int | None) -> WindowLines:
    if isinstance(value, str):
        chosen = _selection(value if ":" in value else f"*:{value}")
        return chosen.get(spw) or chosen.get(None) or WindowLines()
    if not isinstance(value, (list, tuple)):
        raise InputError(f"linewindow takes pairs of channels or frequencies; got {value!r}.")
    items = list(value)
    if not items:
        return WindowLines()
    pairs = items if isinstance(items[0], (list, tuple)) else [items[i : i + 2] for i in range(0, len(items), 2)]
    return WindowLines(tuple(_pair(pair) for pair in pairs))


def _pair(pair: Any) -> tuple[str, SpectralRanges]:
    if not isinstance(pair, (list, tuple)) or len(pair) != 2:
        raise InputError(f"A window of linewindow has a first and a last value; got {pair!r}.")
    (low, is_hz), (high, also_hz) = (_number(v) for v in pair)
    if is_hz != also_hz:
        raise InputError(f"The window {list(pair)} of linewindow mixes channels and frequencies.")
    if is_hz:
        return "LSRK", SpectralRanges.of([(low, high)], frequency_frame("LSRK"))
    return MS, SpectralRanges.of([(round(low), round(high))], MS)


def _number(value: Any) -> tuple[float, bool]:
    """A value, and whether it is a frequency in Hz."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value), abs(value) >= _FIRST_FREQUENCY
    match = _QUANTITY.fullmatch(str(value))
    try:
        if match is None:
            raise ValueError
        number = float(match[1])
    except ValueError:
        raise InputError(f"'{value}' in linewindow is neither a channel nor a frequency.") from None
    unit = _UNITS[match[2].upper()] if match[2] else 1.0
    return number * unit, bool(match[2]) or abs(number) >= _FIRST_FREQUENCY


def _selection(text: str) -> dict[int | None, WindowLines]:
    """A CASA selection; its frequencies are those of the data."""
    found: dict[int | None, WindowLines] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, colon, ranges = part.partition(":")
        if not colon or not (name.strip().isdigit() or name.strip() == "*"):
            raise InputError(f"'{part}' in linewindow is no selection such as 17:30~50;300~500.")
        spans = []
        for item in filter(None, (i.strip() for i in ranges.split(";"))):
            low, tilde, high = item.partition("~")
            unit = _QUANTITY.fullmatch(high)
            # CASA writes the unit once, behind the second number.
            if tilde and unit and unit[2] and not low.strip()[-1:].isalpha():
                low = f"{low.strip()}{unit[2]}"
            frame, span = _pair((low, high) if tilde else (low, low))
            spans.append((_OWN if frame != MS else MS, span))
        key = None if name.strip() == "*" else int(name)
        found[key] = WindowLines((*found.get(key, WindowLines()).ranges, *spans))
    return found
