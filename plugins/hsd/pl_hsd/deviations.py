"""The comparison of XX and YY as a file: what programs of the observatories read."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pl_hsd.stages.applycal import Deviation

FILE = "xxyy.csv"
"""In the folder of the stage."""
COLUMNS = (
    "vis", "antenna", "spw", "field", "scan", "sigma", "frequency_hz", "deviation", "noise", "trec_sigma", "score",
    "remark",
)  # fmt: skip


def write(path: Path, deviations: Iterable[Deviation]) -> None:
    """One line per average: ids of windows are those of the measurement set, scan -1 is all scans together.

    deviation and noise are in the unit of the data; empty where nothing could be judged.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for d in deviations:
            v, judged = d.verdict, d.verdict.channel >= 0
            numbers = (v.sigma, d.frequency_hz, v.deviation, v.noise, v.receiver_sigma)
            shown = [f"{n:.9g}" if judged else "" for n in numbers]
            table.writerow([d.vis, d.antenna, d.spw, d.field, d.scan, *shown, f"{v.score:.4g}", v.note])
