"""Antenna positions from a file, or if wanted from the observatory's list on the web."""

from __future__ import annotations

import csv
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import attrs

from pl_hifv.heuristics.antenna_positions import Correction, offsets, parse_line
from pl_kernel import PlError
from pl_kernel.ms.model import MeasurementSet

ADDRESS = "http://www.vla.nrao.edu/cgi-bin/evlais_blines.cgi?Year="
"""The observatory's list of baseline corrections, one page a year."""
_LARGEST_REPLY = 5_000_000
HEADER = ("ms", "antenna", "xoffset", "yoffset", "zoffset", "comment")


@attrs.frozen(kw_only=True)
class AntennaOffset:
    """Correction of an antenna's position, in metres (ITRF)."""

    vis: str
    antenna: str
    offset_m: tuple[float, float, float] = attrs.field(converter=tuple)


def read_offsets(path: Path, name: str) -> list[AntennaOffset]:
    """Rows of a file of antenna offsets that belong to the measurement set ``name``, with or without its ending.

    The name in the run counts, not that of the folder, which changes when the data are smoothed.

    Raises PlError for a row that has not six columns or no numbers: a wrong offset is worse than none.
    """
    found = []
    with path.open(newline="", encoding="utf-8") as stream:
        for number, row in enumerate(csv.reader(stream), 1):
            if number == 1 or not row:
                continue
            if len(row) != 6:
                raise PlError(
                    f"Line {number} of {path} has {len(row)} columns; six are needed (the last is a comment)."
                )
            try:
                x, y, z = (float(v) for v in row[2:5])
            except ValueError:
                raise PlError(f"Line {number} of {path} holds offsets that are no numbers.") from None
            if Path(row[0].strip()).name.removesuffix(".ms") == name.removesuffix(".ms"):
                found.append(AntennaOffset(vis=name, antenna=row[1].strip(), offset_m=(x, y, z)))
    return found


def write_offsets(path: Path, found: Iterable[AntennaOffset], source: str) -> None:
    """Append offsets to a file of them, so that a repeated run needs no network; rows that are there stay."""
    fresh = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        if fresh:
            rows.writerow(HEADER)
        rows.writerows([o.vis, o.antenna, *o.offset_m, source] for o in found)


def ask(
    ms: MeasurementSet, limit_days: float, timeout_s: float,
    fetch: Callable[[str, float], Sequence[str]] | None = None,
) -> tuple[list[AntennaOffset], str]:  # fmt: skip
    """Offsets of a measurement set's antennas by the observatory's list, and the years that were asked for.

    Only the pages of the years from the observation to the limit are needed. Never raises: a list that does not come
    in time gives no offsets, and a sentence that says why.
    """
    start = ms.start.replace(tzinfo=None)
    if start.year < 2010:
        return [], "the observatory's list begins in 2010"
    # A limit of 0 is none: corrections of five years are a safe upper end.
    last = start + timedelta(days=limit_days or 1825)
    corrections: list[Correction] = []
    years = range(start.year, min(last, datetime.now()).year + 1)
    try:
        for year in years:
            for line in (fetch or _fetch)(f"{ADDRESS}{year}", timeout_s):
                correction = parse_line(line, year)
                if correction is not None:
                    corrections.append(correction)
    except (OSError, ValueError) as error:
        return [], f"the observatory's list did not answer ({error})"
    pads = {a.name: a.station for a in ms.antennas}
    found = offsets(corrections, pads, start, limit_days)
    listed = [AntennaOffset(vis=ms.name, antenna=name, offset_m=value) for name, value in sorted(found.items())]
    return listed, f"the observatory's list of {years[0]}" + (f" to {years[-1]}" if len(years) > 1 else "")


def _fetch(address: str, timeout_s: float) -> Sequence[str]:
    with urllib.request.urlopen(address, timeout=timeout_s) as reply:
        return str(reply.read(_LARGEST_REPLY), "utf-8", "replace").splitlines()
