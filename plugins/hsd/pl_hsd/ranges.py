"""Ranges of channels or frequencies that carry their frame: one type for line masks, edges and image channels.

Channel numbers of a measurement set and of an image differ: an image lacks the trimmed edges, and its frequency
ascends also where that of the spectral window falls.  ``to_image`` and ``to_ms`` are the only places that know.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_kernel.errors import DataError, InputError
from pl_kernel.ms.records import SpectralWindow
from pl_kernel.ms.virtual import RealSpw, VirtualSpw

__all__ = ["IMAGE", "MS", "RealSpw", "SpectralRanges", "VirtualSpw", "frequency_frame"]

MS = "ms channel"
IMAGE = "image channel"
_FREQUENCY = "frequency:"
_FREQUENCY_FRAMES = ("TOPO", "LSRK", "BARY", "GALACTO", "REST", "SOURCE")


def frequency_frame(name: str) -> str:
    """The frame of frequencies in Hz in a reference frame: ``frequency_frame("LSRK")``.

    Raises:
        InputError: the name is none of TOPO, LSRK, BARY, GALACTO, REST, SOURCE.
    """
    if name.upper() not in _FREQUENCY_FRAMES:
        raise InputError(f"'{name}' is no frame of frequencies; use one of {', '.join(_FREQUENCY_FRAMES)}.")
    return f"{_FREQUENCY}{name.upper()}"


def _spans(items: Iterable[Sequence[float]]) -> tuple[tuple[float, float], ...]:
    return tuple((a, b) for a, b in items)


@attrs.frozen
class SpectralRanges:
    """Disjoint, ascending spans, both ends included, in a named frame.

    ``frame`` is ``MS`` (channels of a window of the measurement set), ``IMAGE`` (channels of an image), or
    ``"frequency:LSRK"`` (Hz).  Make them with ``of``, ``from_mask`` or ``parse``, which sort and join.
    """

    spans: tuple[tuple[float, float], ...] = attrs.field(default=(), converter=_spans)
    frame: str = MS

    def __attrs_post_init__(self) -> None:
        if self.frame not in (MS, IMAGE) and not self.frame.startswith(_FREQUENCY):
            raise InputError(f"'{self.frame}' is no frame of spectral ranges.")
        if any(low > high for low, high in self.spans):
            raise InputError(f"A spectral range runs backwards in {list(self.spans)}.")

    # ---- making them ----

    @classmethod
    def of(cls, spans: Iterable[Sequence[float]], frame: str = MS) -> SpectralRanges:
        """Sort and join spans; channel spans that touch (3~5, 6~8) become one."""
        pairs = [(min(a, b), max(a, b)) for a, b in spans]
        if not frame.startswith(_FREQUENCY):
            pairs = [(int(a), int(b)) for a, b in pairs]
        gap = 0 if frame.startswith(_FREQUENCY) else 1
        joined: list[tuple[float, float]] = []
        for low, high in sorted(pairs):
            if joined and low <= joined[-1][1] + gap:
                joined[-1] = (joined[-1][0], max(joined[-1][1], high))
            else:
                joined.append((low, high))
        return cls(tuple(joined), frame)

    @classmethod
    def from_mask(cls, mask: NDArray[np.bool_], frame: str = MS) -> SpectralRanges:
        """Channels where ``mask`` (shape: channels) is true."""
        edges = np.flatnonzero(np.diff(np.concatenate(([0], np.asarray(mask, dtype=np.int8), [0]))))
        return cls(tuple((int(a), int(b) - 1) for a, b in edges.reshape(-1, 2)), frame)

    @classmethod
    def parse(cls, text: str, frame: str = MS) -> SpectralRanges:
        """``"3~10;20~30"`` or ``"5"`` → spans.

        Raises:
            InputError: an item is no range of numbers.
        """
        spans = []
        for item in filter(None, (part.strip() for part in text.replace(",", ";").split(";"))):
            low, _, high = item.partition("~")
            try:
                spans.append((float(low), float(high or low)))
            except ValueError:
                raise InputError(f"'{item}' is no range such as 3~10.") from None
        return cls.of(spans, frame)

    # ---- asking ----

    def __bool__(self) -> bool:
        return bool(self.spans)

    @property
    def is_frequency(self) -> bool:
        """Whether the spans are frequencies in Hz."""
        return self.frame.startswith(_FREQUENCY)

    @property
    def width(self) -> float:
        """Number of channels, or Hz."""
        return sum(b - a + (0 if self.is_frequency else 1) for a, b in self.spans)

    def mask(self, n: int) -> NDArray[np.bool_]:
        """True for the channels inside, shape (n,); what lies beyond the window is cut off."""
        self._need_channels()
        inside = np.zeros(n, dtype=bool)
        for a, b in self.spans:
            inside[max(int(a), 0) : max(int(b) + 1, 0)] = True
        return inside

    def overlaps(self, other: SpectralRanges) -> bool:
        """Whether any channel or frequency is in both. Raises DataError for different frames."""
        return bool(self.intersection(other))

    # ---- combining ----

    def union(self, *others: SpectralRanges) -> SpectralRanges:
        """What is in any of them. Raises DataError for different frames."""
        for other in others:
            self._same(other)
        return SpectralRanges.of([s for r in (self, *others) for s in r.spans], self.frame)

    def intersection(self, other: SpectralRanges) -> SpectralRanges:
        """What is in both. Raises DataError for different frames."""
        self._same(other)
        both = [(max(a, c), min(b, d)) for a, b in self.spans for c, d in other.spans]
        return SpectralRanges.of([(a, b) for a, b in both if a <= b], self.frame)

    def inverse(self, n: int) -> SpectralRanges:
        """The other channels of a window of ``n`` channels."""
        return SpectralRanges.from_mask(~self.mask(n), self.frame)

    def without(self, other: SpectralRanges, n: int) -> SpectralRanges:
        """The channels inside that are not in ``other``. Raises DataError for different frames."""
        self._same(other)
        return SpectralRanges.from_mask(self.mask(n) & ~other.mask(n), self.frame)

    def clipped(self, n: int) -> SpectralRanges:
        """The part inside a window of ``n`` channels."""
        return SpectralRanges.from_mask(self.mask(n), self.frame)

    # ---- changing the frame ----

    def to_image(self, nchan: int, edges: tuple[int, int] = (0, 0), lsb: bool = False) -> SpectralRanges:
        """Channels of an image of this window: ``edges`` (first, last) are trimmed, frequency ascends.

        ``nchan`` is the number of channels of the window; ``lsb`` says that its frequency falls with the channel
        number.  What was trimmed is gone.
        """
        if self.frame != MS:
            raise DataError(f"Ranges in {self.frame} are no channels of a measurement set.")
        kept = self.mask(nchan)[edges[0] : nchan - edges[1]]
        return SpectralRanges.from_mask(kept[::-1] if lsb else kept, IMAGE)

    def to_ms(self, nchan: int, edges: tuple[int, int] = (0, 0), lsb: bool = False) -> SpectralRanges:
        """The inverse of ``to_image``."""
        if self.frame != IMAGE:
            raise DataError(f"Ranges in {self.frame} are no channels of an image.")
        inner = self.mask(nchan - edges[0] - edges[1])
        whole = np.zeros(nchan, dtype=bool)
        whole[edges[0] : nchan - edges[1]] = inner[::-1] if lsb else inner
        return SpectralRanges.from_mask(whole, MS)

    def to_frequency(self, centres_hz: NDArray[np.float64], frame: str) -> SpectralRanges:
        """Outer edges of the spans as frequencies; ``centres_hz`` are those of all channels, in ``frame`` ("LSRK")."""
        self._need_channels()
        centres = np.asarray(centres_hz, dtype=float)
        half = abs(float(np.median(np.diff(centres)))) / 2 if centres.size > 1 else 0.0
        spans = []
        for a, b in self.clipped(centres.size).spans:
            ends = centres[int(a)], centres[int(b)]
            spans.append((min(ends) - half, max(ends) + half))
        return SpectralRanges.of(spans, frequency_frame(frame))

    def to_channels(self, centres_hz: NDArray[np.float64], frame: str, channels: str = MS) -> SpectralRanges:
        """Channels whose centre lies inside; ``centres_hz`` are those of all channels, in ``frame`` ("LSRK").

        Raises:
            DataError: the ranges are no frequencies, or of another frame.
        """
        if self.frame != frequency_frame(frame):
            raise DataError(f"Ranges in {self.frame} cannot select channels by their {frame} frequencies.")
        centres = np.asarray(centres_hz, dtype=float)
        inside = np.zeros(centres.size, dtype=bool)
        for low, high in self.spans:
            inside |= (centres >= low) & (centres <= high)
        return SpectralRanges.from_mask(inside, channels)

    # ---- text ----

    def to_text(self) -> str:
        """``"3~10;20~30"`` for channels, ``"1.40~1.41GHz;…"`` for frequencies; empty for nothing."""
        if self.is_frequency:
            return ";".join(f"{a / 1e9:.10f}~{b / 1e9:.10f}GHz" for a, b in self.spans)
        return ";".join(f"{int(a)}~{int(b)}" for a, b in self.spans)

    def to_casa(self, spw: RealSpw) -> str:
        """A CASA spw selection of channels; empty when nothing is selected.

        Raises:
            DataError: the ranges are not those of the measurement set.
        """
        if self.frame != MS:
            raise DataError(f"Ranges in {self.frame} cannot select channels of a measurement set.")
        return f"{spw}:{self.to_text()}" if self.spans else ""

    def _same(self, other: SpectralRanges) -> None:
        if self.frame != other.frame:
            raise DataError(f"Ranges in {self.frame} and in {other.frame} do not mix; convert them first.")

    def _need_channels(self) -> None:
        if self.is_frequency:
            raise DataError("Frequencies have no channel numbers; convert them with to_channels first.")


def edge_ranges(window: SpectralWindow | int, edges: tuple[int, int]) -> SpectralRanges:
    """The first and last channels of a window (or of so many channels) as ranges in ``MS``."""
    n = window if isinstance(window, int) else window.n_channels
    mask = np.zeros(n, dtype=bool)
    mask[: edges[0]] = True
    mask[n - edges[1] :] = True
    return SpectralRanges.from_mask(mask, MS)
