"""Channel and frequency ranges that know their window and their frame. Conversion is a method, never arithmetic."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_kernel.errors import DataError, InputError
from pl_kernel.ms.records import Frame, SpectralWindow
from pl_kernel.ms.virtual import RealSpw, VirtualSpw

Converter = Callable[[NDArray[np.float64], Frame, Frame], NDArray[np.float64]]
"""Frequencies in Hz from one frame to another (CASA's measures or astropy, at a time, place and direction)."""

_UNITS_HZ = {"Hz": 1.0, "kHz": 1e3, "MHz": 1e6, "GHz": 1e9, "THz": 1e12}
_RANGE = re.compile(r"\s*([\d.eE+-]+)\s*([kMGT]?Hz)?\s*~\s*([\d.eE+-]+)\s*([kMGT]?Hz)\s*")


@attrs.frozen(order=True)
class FrequencyRange:
    """One range in Hz, low first, of a window of the run, in `frame`."""

    low_hz: float
    high_hz: float
    frame: Frame = attrs.field(order=False, default=Frame.LSRK)
    spw: VirtualSpw | None = attrs.field(order=False, default=None)

    def __attrs_post_init__(self) -> None:
        if not self.low_hz <= self.high_hz:
            raise InputError(f"Frequency range {self.low_hz} Hz ~ {self.high_hz} Hz runs backwards.")


@attrs.frozen(order=True)
class ChannelRange:
    """Channels `first` to `last`, both included, of one window of one measurement set."""

    first: int
    last: int
    spw: RealSpw = attrs.field(order=False)

    def __attrs_post_init__(self) -> None:
        if not 0 <= self.first <= self.last:
            raise InputError(f"Channel range {self.first}~{self.last} of spw {self.spw} is empty or negative.")


@attrs.frozen
class FrequencySelection:
    """Disjoint, ascending ranges of one window in one frame; no range at all is a valid selection."""

    frame: Frame
    spw: VirtualSpw | None
    ranges_hz: tuple[tuple[float, float], ...] = ()

    @classmethod
    def of(cls, ranges: Iterable[FrequencyRange]) -> FrequencySelection:
        """Join ranges that touch or overlap.

        Raises:
            DataError: the ranges are of different windows or frames, or there are none.
        """
        items = sorted(ranges)
        if len({(r.frame, r.spw) for r in items}) != 1:
            raise DataError("Frequency ranges of different windows or frames cannot be joined; convert them first.")
        return cls(items[0].frame, items[0].spw, _joined([(r.low_hz, r.high_hz) for r in items]))

    @classmethod
    def parse(cls, text: str, frame: Frame, spw: VirtualSpw | None = None) -> FrequencySelection:
        """``"1.40~1.41GHz;1413~1414MHz"`` → ranges; a unit after the second number counts for both.

        Raises:
            InputError: an item is no range of frequencies.
        """
        return cls(frame, spw, _joined([parse_range_hz(item) for item in text.split(";") if item.strip()]))

    @property
    def bandwidth_hz(self) -> float:
        """Sum of the widths."""
        return float(sum(high - low for low, high in self.ranges_hz))

    def union(self, other: FrequencySelection) -> FrequencySelection:
        """Frequencies in either. Raises DataError for different windows or frames."""
        self._same(other)
        return attrs.evolve(self, ranges_hz=_joined([*self.ranges_hz, *other.ranges_hz]))

    def intersection(self, other: FrequencySelection) -> FrequencySelection:
        """Frequencies in both. Raises DataError for different windows or frames."""
        self._same(other)
        both = [(max(a, c), min(b, d)) for a, b in self.ranges_hz for c, d in other.ranges_hz if max(a, c) < min(b, d)]
        return attrs.evolve(self, ranges_hz=_joined(both))

    def inverted(self, low_hz: float, high_hz: float) -> FrequencySelection:
        """What lies between the limits and is not selected."""
        gaps, start = [], low_hz
        for low, high in self.ranges_hz:
            if low > start:
                gaps.append((start, min(low, high_hz)))
            start = max(start, high)
        if start < high_hz:
            gaps.append((start, high_hz))
        return attrs.evolve(self, ranges_hz=tuple(g for g in gaps if g[0] < g[1]))

    def in_frame(self, frame: Frame, convert: Converter) -> FrequencySelection:
        """The same ranges in another frame."""
        if frame is self.frame or not self.ranges_hz:
            return attrs.evolve(self, frame=frame)
        edges = np.array(self.ranges_hz, dtype=float).ravel()
        new = np.asarray(convert(edges, self.frame, frame), dtype=float).reshape(-1, 2)
        return attrs.evolve(self, frame=frame, ranges_hz=_joined([(float(min(p)), float(max(p))) for p in new]))

    def to_channels(self, window: SpectralWindow, *, trim: int = 0) -> ChannelSelection:
        """Channels whose centre lies in a range, whatever the window's orientation; `trim` channels off each end.

        Raises:
            DataError: the window is in another frame; convert first.
        """
        if window.frame is not self.frame:
            raise DataError(
                f"Spw {window.id} is in {window.frame.name}: ranges in {self.frame.name} cannot select its channels."
            )
        runs = []
        for low, high in self.ranges_hz:
            inside = np.flatnonzero((window.centres_hz >= low) & (window.centres_hz <= high))
            if inside.size > 2 * trim:
                runs.append((int(inside[0]) + trim, int(inside[-1]) - trim))
        return ChannelSelection(window.id, window.n_channels, _joined_channels(runs))

    def to_text(self, *, unit: str = "GHz", decimals: int = 10) -> str:
        """``"1.4100000000~1.4110000000GHz;…"``."""
        scale = _UNITS_HZ[unit]
        return ";".join(f"{a / scale:.{decimals}f}~{b / scale:.{decimals}f}{unit}" for a, b in self.ranges_hz)

    def to_casa(self, spw: RealSpw) -> str:
        """A CASA spw selection by frequency for a real window; empty when nothing is selected.

        CASA compares such a selection with the frequencies of the data as they are written, so the frame must be
        the window's own.
        """
        return f"{spw}:{self.to_text()}" if self.ranges_hz else ""

    def _same(self, other: FrequencySelection) -> None:
        if (self.frame, self.spw) != (other.frame, other.spw):
            raise DataError(
                f"Ranges of spw {self.spw} ({self.frame.name}) and spw {other.spw} ({other.frame.name}) do not mix."
            )


@attrs.frozen
class ChannelSelection:
    """Disjoint, ascending channel ranges (both ends included) of one window with `n_channels` channels."""

    spw: RealSpw
    n_channels: int
    ranges: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, ranges: Iterable[ChannelRange], n_channels: int) -> ChannelSelection:
        """Join ranges that touch or overlap; channels beyond the window are cut off.

        Raises:
            DataError: the ranges are of different windows, or there are none.
        """
        items = sorted(ranges)
        if len({r.spw for r in items}) != 1:
            raise DataError("Channel ranges of different windows cannot be joined.")
        inside = [(r.first, min(r.last, n_channels - 1)) for r in items if r.first < n_channels]
        return cls(items[0].spw, n_channels, _joined_channels(inside))

    @classmethod
    def from_mask(cls, spw: RealSpw, mask: NDArray[np.bool_]) -> ChannelSelection:
        """Channels where `mask` (shape: channels) is true."""
        edges = np.flatnonzero(np.diff(np.concatenate(([0], np.asarray(mask, dtype=int), [0]))))
        pairs = edges.reshape(-1, 2)
        return cls(spw, len(mask), tuple((int(a), int(b) - 1) for a, b in pairs))

    def mask(self) -> NDArray[np.bool_]:
        """True for selected channels, shape (channels,)."""
        selected = np.zeros(self.n_channels, dtype=bool)
        for first, last in self.ranges:
            selected[first : last + 1] = True
        return selected

    @property
    def count(self) -> int:
        """Number of selected channels."""
        return sum(last - first + 1 for first, last in self.ranges)

    def union(self, other: ChannelSelection) -> ChannelSelection:
        """Channels in either. Raises DataError for different windows."""
        self._same(other)
        return ChannelSelection.from_mask(self.spw, self.mask() | other.mask())

    def intersection(self, other: ChannelSelection) -> ChannelSelection:
        """Channels in both. Raises DataError for different windows."""
        self._same(other)
        return ChannelSelection.from_mask(self.spw, self.mask() & other.mask())

    def inverted(self) -> ChannelSelection:
        """The other channels of the window."""
        return ChannelSelection.from_mask(self.spw, ~self.mask())

    def to_frequencies(self, window: SpectralWindow, spw: VirtualSpw | None = None) -> FrequencySelection:
        """Outer edges of the ranges, in the window's frame, lower frequency first.

        Raises:
            DataError: `window` is another one.
        """
        if window.id != self.spw or window.n_channels != self.n_channels:
            raise DataError(f"Channels of spw {self.spw} ({self.n_channels}) do not fit spw {window.id}.")
        ranges = []
        for first, last in self.ranges:
            part = window.edges_hz[first : last + 1]
            ranges.append((float(part.min()), float(part.max())))
        return FrequencySelection(window.frame, spw, _joined(ranges))

    def to_casa(self) -> str:
        """``"17:4~10;20~30"``; the bare id when all channels are selected, empty when none is."""
        if not self.ranges:
            return ""
        if self.count == self.n_channels:
            return str(self.spw)
        return f"{self.spw}:" + ";".join(f"{a}~{b}" for a, b in self.ranges)

    def _same(self, other: ChannelSelection) -> None:
        if (self.spw, self.n_channels) != (other.spw, other.n_channels):
            raise DataError(f"Channels of spw {self.spw} and of spw {other.spw} do not mix.")


def casa_selection(selections: Iterable[ChannelSelection]) -> str:
    """One CASA spw selection for several windows; windows with nothing selected are left out."""
    return ",".join(filter(None, (s.to_casa() for s in sorted(selections, key=lambda s: s.spw))))


def parse_range_hz(text: str) -> tuple[float, float]:
    """``"1.40~1.41GHz"`` → limits in Hz, lower first.

    Raises:
        InputError: the text is no range of frequencies.
    """
    match = _RANGE.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        second = _UNITS_HZ[match[4]]
        first = _UNITS_HZ[match[2]] if match[2] else second
        low, high = float(match[1]) * first, float(match[3]) * second
    except ValueError:
        raise InputError(f"'{text.strip()}' is no frequency range such as 1.40~1.41GHz.") from None
    return min(low, high), max(low, high)


def _joined(ranges: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    joined: list[tuple[float, float]] = []
    for low, high in sorted(ranges):
        if joined and low <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], high))
        else:
            joined.append((low, high))
    return tuple(joined)


def _joined_channels(ranges: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return tuple(joined)
