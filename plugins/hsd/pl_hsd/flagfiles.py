"""Files and tables of flag commands: the observatory's, the user's, and those the import finds by pointing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_hsd.heuristics import flagging
from pl_hsd.heuristics.grouping import Grouping
from pl_hsd.heuristics.raster import RasterFailure, group_by_direction
from pl_hsd.heuristics.uniformity import odd_maps
from pl_hsd.rows import RowTable
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.stage_context import ItemContext

MISSING = "SDPL:missing_pointing_data"
INCOMPLETE = "SDPL:uniform_image_rms"


@attrs.frozen(kw_only=True)
class OddMapRecord:
    """A raster map to be left out: whose, and why. Times in MJD seconds."""

    vis: str
    field: str
    antenna: str
    spws: tuple[int, ...]
    map: int
    start_s: float
    end_s: float
    reason: str


def pointing_file(ms: MeasurementSet) -> str:
    """Name in the work folder of the flags that the import finds by pointing."""
    return f"{ms.stem}.flagpointing.txt"


def write_pointing_flags(ctx: ItemContext, ms: MeasurementSet, rows: RowTable) -> tuple[OddMapRecord, ...]:
    """Write commands for missing directions and odd maps; return the odd maps."""
    lines = ["# flags by pointing, found at the import"]
    wild = np.flatnonzero(~np.asarray(rows["pointing_ok"]))
    for antenna in np.unique(rows["antenna"][wild]):
        own = wild[rows["antenna"][wild] == antenna]
        ranges = flagging.merged_ranges(rows["time_s"][own], rows["interval_s"][own] / 2)
        lines += flagging.time_commands(f"antenna='{ms.antenna(int(antenna)).name}&&&'", ranges, MISSING)
    odd = find_odd_maps(ms, rows)
    for record in odd:
        selection = f"spw='{','.join(map(str, record.spws))}' antenna='{record.antenna}&&&'"
        lines += flagging.time_commands(selection, [(record.start_s, record.end_s)], INCOMPLETE)
    path = Path(ctx.work) / pointing_file(ms)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return odd


def find_odd_maps(ms: MeasurementSet, rows: RowTable) -> tuple[OddMapRecord, ...]:
    """Maps of each antenna, field and spectral setup that are not like the others; none for multi-beam data.

    A setup is judged by its first window, and all its windows are flagged.
    """
    if len(np.unique(rows["feed"])) > 1:
        return ()
    found = []
    for antenna, field, spws in _setups(ms, rows):
        own = rows.select(antenna=antenna, spw=spws[0], field=field, on_source=True)
        own = own[np.asarray(rows["pointing_ok"])[own]]  # the others stand in the middle of the map
        if not own.size:
            continue
        groups = _maps(rows, own)
        valid = rows["online_valid"][own].any(axis=1)
        for odd in odd_maps(groups.row, groups.map, valid):
            hit = own[groups.map == odd.map]
            half = rows["interval_s"][hit] / 2
            found.append(
                OddMapRecord(
                    vis=ms.name, field=ms.field(field).name, antenna=ms.antenna(antenna).name, spws=spws, map=odd.map,
                    start_s=float((rows["time_s"][hit] - half).min()), end_s=float((rows["time_s"][hit] + half).max()),
                    reason=odd.reason,
                )
            )  # fmt: skip
    return tuple(found)


def _setups(ms: MeasurementSet, rows: RowTable) -> Iterable[tuple[int, int, tuple[int, ...]]]:
    groups: dict[tuple[int, str, int], list[int]] = {}
    for antenna, spw, field in rows.header.members:
        groups.setdefault((antenna, setup_of(ms.spw(spw).name), field), []).append(spw)
    for (antenna, _, field), spws in sorted(groups.items()):
        yield antenna, field, tuple(sorted(spws))


def setup_of(spw_name: str) -> str:
    """The spectral setup of a window: what precedes the first # of its name, empty where there is none."""
    return spw_name.partition("#")[0] if "#" in spw_name else ""


def _maps(rows: RowTable, own: NDArray[np.int64]) -> Grouping:
    """Rows and maps by direction, which sees maps that follow each other without a pause; else those of the table."""
    try:
        return group_by_direction(rows["ofs_ra_deg"][own], rows["ofs_dec_deg"][own])
    except RasterFailure:
        nothing = np.zeros(0, dtype=np.int64)
        return Grouping(rows["raster_row"][own], rows["raster_map"][own], nothing, nothing)


def recorded_commands(ctx: ItemContext, ms: MeasurementSet) -> list[str]:
    """Flags that the data carry in FLAG_CMD and that nobody has applied yet, as lines of a flag list."""
    if "FLAG_CMD" not in ms.subtables:
        return []
    with ctx.casa.table(Path(ctx.work) / ms.path / "FLAG_CMD") as table:
        if not table.nrows():
            return []
        rows = list(zip(table.getcol("COMMAND"), table.getcol("REASON"), table.getcol("APPLIED"), strict=True))
    return [_line(str(c), str(reason)) for c, reason, applied in rows if str(c).strip() and not applied]


def _line(command: str, reason: str) -> str:
    text = command.strip()
    if "mode=" not in text:
        text = f"mode='manual' {text}"
    if "reason=" not in text:
        clean = re.sub(r"[^\w:-]", "_", reason.strip())
        text = f"{text} reason='{clean or 'online'}'"
    return text


def pure_words(ms: MeasurementSet, intents: Iterable[str]) -> tuple[str, ...]:
    """Words of OBS_MODE for any of ``intents`` that occur in no state which is also on a target or an OFF position."""
    wanted = {i.strip().upper() for i in intents}
    used = {i for scan in ms.scans for i in scan.state_ids}
    states = [s for s in ms.states if s.id in used]
    science = {w for s in states if s.intents & {"TARGET", "REFERENCE"} for w in s.words}
    found = (w for s in states for w, intent in s.words.items() if intent in wanted and w not in science)
    return tuple(dict.fromkeys(found))
