"""One pass over the main table: which field, window and state was observed in which scan, when, and by whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_kernel.ms.tables import chunks_of

ROWS_PER_CHUNK = 30_000  # nine columns of 4 or 8 bytes and what is made of them: some 5 MB at a time
_GROUPS = ("SCAN_NUMBER", "FIELD_ID", "DATA_DESC_ID", "STATE_ID")
_VALUES = ("TIME", "INTERVAL", "EXPOSURE", "ANTENNA1", "ANTENNA2")


@attrs.frozen
class Group:
    """Rows with the same scan, field, data description and state. Times: MJD seconds, edges of integrations."""

    scan: int
    field: int
    description: int
    state: int
    start_s: float
    end_s: float
    n_rows: int
    interval_s: float
    exposure_s: float


@attrs.frozen
class MainSummary:
    """What the main table says as a whole."""

    n_rows: int
    groups: tuple[Group, ...]
    antennas_of_scan: dict[int, tuple[int, ...]]
    largest_id: dict[str, int]

    @property
    def start_s(self) -> float:
        """Start of the first integration."""
        return min(g.start_s for g in self.groups)

    @property
    def end_s(self) -> float:
        """End of the last integration."""
        return max(g.end_s for g in self.groups)

    @property
    def antenna_ids(self) -> tuple[int, ...]:
        """Antennas that occur in any row."""
        return tuple(sorted({a for ids in self.antennas_of_scan.values() for a in ids}))

    @property
    def state_ids(self) -> tuple[int, ...]:
        """States that occur in any row."""
        return tuple(sorted({g.state for g in self.groups}))

    def by_scan(self) -> dict[int, list[Group]]:
        """Groups by scan number."""
        scans: dict[int, list[Group]] = {}
        for group in self.groups:
            scans.setdefault(group.scan, []).append(group)
        return scans


@attrs.define
class _Tally:
    start_s: float = np.inf
    end_s: float = -np.inf
    n_rows: int = 0
    intervals: dict[float, int] = attrs.field(factory=dict)
    exposures: dict[float, int] = attrs.field(factory=dict)


def summarise_main(table: Any) -> MainSummary:
    """Read the main table (an open casatools table) in chunks.

    Raises:
        RuntimeError: a column is absent or unreadable.
    """
    tallies: dict[tuple[int, ...], _Tally] = {}
    antennas: dict[int, set[int]] = {}
    largest = {"DATA_DESC_ID": -1, "FIELD_ID": -1, "ANTENNA1": -1}
    with chunks_of(table, _GROUPS + _VALUES, ROWS_PER_CHUNK) as chunks:
        for chunk in chunks:
            _add_chunk(chunk, tallies, antennas)
            for column in ("DATA_DESC_ID", "FIELD_ID"):
                largest[column] = max(largest[column], int(chunk[column].max()))
            largest["ANTENNA1"] = max(largest["ANTENNA1"], int(chunk["ANTENNA1"].max()), int(chunk["ANTENNA2"].max()))
    groups = tuple(
        Group(key[0], key[1], key[2], key[3], t.start_s, t.end_s, t.n_rows, _median(t.intervals), _median(t.exposures))
        for key, t in sorted(tallies.items())
    )
    ids = {scan: tuple(sorted(found)) for scan, found in sorted(antennas.items())}
    return MainSummary(int(table.nrows()), groups, ids, largest)


def _add_chunk(
    chunk: dict[str, NDArray[Any]], tallies: dict[tuple[int, ...], _Tally], antennas: dict[int, set[int]]
) -> None:
    keys, inverse = _distinct_rows([chunk[c] for c in _GROUPS])
    order = np.argsort(inverse, kind="stable")
    first = np.searchsorted(inverse[order], np.arange(len(keys)))
    half = chunk["INTERVAL"] / 2
    starts = np.minimum.reduceat((chunk["TIME"] - half)[order], first)
    ends = np.maximum.reduceat((chunk["TIME"] + half)[order], first)
    counts = np.bincount(inverse, minlength=len(keys))
    for i, key in enumerate(keys):
        rows = order[first[i] : first[i] + counts[i]]
        tally = tallies.setdefault(tuple(int(k) for k in key), _Tally())
        tally.start_s = min(tally.start_s, float(starts[i]))
        tally.end_s = max(tally.end_s, float(ends[i]))
        tally.n_rows += int(counts[i])
        _count(chunk["INTERVAL"][rows], tally.intervals)
        _count(chunk["EXPOSURE"][rows], tally.exposures)
        seen = antennas.setdefault(int(key[0]), set())
        seen.update(int(a) for a in np.union1d(chunk["ANTENNA1"][rows], chunk["ANTENNA2"][rows]))


def _distinct_rows(columns: Sequence[NDArray[Any]]) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Distinct combinations, shape (combinations, columns), and which one each row has.

    One integer per combination: np.unique(axis=0) is twenty times slower.
    """
    lows = [int(c.min()) for c in columns]
    spans = [int(c.max()) - low + 1 for c, low in zip(columns, lows, strict=True)]
    code = np.zeros(len(columns[0]), dtype=np.int64)
    for column, low, span in zip(columns, lows, spans, strict=True):
        code = code * span + (column - low)
    codes, inverse = np.unique(code, return_inverse=True)
    parts = np.unravel_index(codes, spans)
    return np.stack([p + low for p, low in zip(parts, lows, strict=True)], axis=1).astype(np.int64), inverse.ravel()


def _count(values: NDArray[Any], into: dict[float, int]) -> None:
    # Rounding to microseconds keeps the number of different values small; correlators jitter below that.
    found, counts = np.unique(np.round(values, 6), return_counts=True)
    for value, count in zip(found, counts, strict=True):
        into[float(value)] = into.get(float(value), 0) + int(count)


def _median(counts: dict[float, int]) -> float:
    values = sorted(counts)
    cumulative = np.cumsum([counts[v] for v in values])
    return values[int(np.searchsorted(cumulative, cumulative[-1] / 2))]
