"""What a second worker gives: two execution blocks, calibrated with one worker and with two, on this machine.

Prints wall and CASA time per stage and in all for both runs, and the ratios; and whether flags and caltables of the two
runs are the same, bit by bit.

    python benchmarks/bench_parallel.py [--scale tiny|small] [--workers 2] [--keep FOLDER] [--check]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

WANTED = 1.6
"""Times faster that calibration shall be on two workers."""
LAST = "hifv_statwt"


def simulate(folder: Path, scale: str) -> list[Path]:
    """Two execution blocks of one target."""
    from pl_sim.testing import cached_simulation

    found = []
    for block in (0, 1):
        source = cached_simulation("vla-two-blocks-d", scale=scale, block=block)
        link = folder / f"block{block + 1}.ms"
        link.symlink_to(source)
        found.append(link)
    return found


def reduce(blocks: list[Path], run: Path, workers: int) -> None:
    """Calibrate in a run folder."""
    words = ["run", "hifv", *map(str, blocks), "-o", str(run), "--workers", str(workers), "--stop-after", LAST]
    done = subprocess.run([sys.executable, "-m", "pl_kernel", *words, "--json"], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"The run with {workers} workers ended with code {done.returncode}:\n{done.stderr[-2000:]}")


def stages(run: Path) -> list[dict[str, Any]]:
    """Wall time of every stage from its start to the start of the next one: what one waits for."""
    records = []
    for folder in sorted((run / "stages").iterdir()):
        record = json.loads((folder / "stage.json").read_text())
        timing = json.loads((folder / "timing.json").read_text())
        records.append({
            "name": f"{record['number']:>2} {record['name']}", "started": datetime.fromisoformat(record["started"]),
            "ended": datetime.fromisoformat(record["ended"]), "casa": timing["casa_seconds"],
            "render": timing.get("render_seconds", 0.0), "wait": timing.get("wait_seconds", 0.0),
        })  # fmt: skip
    for record, following in zip(records, [*records[1:], None], strict=True):
        end = following["started"] if following else record["ended"]
        record["wall"] = (end - record["started"]).total_seconds()
    return records


def different(one: Path, two: Path) -> list[str]:
    """Tables in the work folders whose cells differ."""
    from pl_kernel.compute import Worker
    from pl_kernel.testing.tables import differences

    with Worker() as worker:
        found: list[str] = worker.call(differences, one / "work", two / "work")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scale", default="small", choices=("tiny", "small"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="Folder to keep the runs in.")
    parser.add_argument("--check", action="store_true", help=f"Fail below {WANTED} times.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        blocks = simulate(folder, options.scale)
        found = {}
        for workers in (1, options.workers):
            run = folder / f"workers{workers}"
            reduce(blocks, run, workers)
            found[workers] = stages(run)
        same = different(folder / "workers1", folder / f"workers{options.workers}")
    one, many = found[1], found[options.workers]
    print(f"Two blocks of vla-two-blocks-d ({options.scale}), {os.cpu_count()} processors; seconds of wall time\n")
    print(f"{'stage':<28}{'1 worker':>10}{f'{options.workers} workers':>12}{'ratio':>8}{'waiting for pages':>22}")
    for a, b in zip(one, many, strict=True):
        print(f"{a['name']:<28}{a['wall']:>10.1f}{b['wall']:>12.1f}{a['wall'] / max(b['wall'], 1e-3):>8.2f}"
              f"{a['wait']:>14.1f}{b['wait']:>8.1f}")  # fmt: skip
    calibration = [sum(r["wall"] for r in records[1:]) for records in (one, many)]
    bare = [sum(r["wall"] - r["wait"] for r in records[1:]) for records in (one, many)]
    ratio, without = calibration[0] / calibration[1], bare[0] / bare[1]
    print(f"\nCalibration without import: {calibration[0]:.1f} s and {calibration[1]:.1f} s, {ratio:.2f} times faster")
    print(f"the same without waiting for pages: {bare[0]:.1f} s and {bare[1]:.1f} s, {without:.2f} times faster")
    print(f"tables that differ between the two: {', '.join(same) or 'none'}")
    if same or (options.check and ratio < WANTED):
        print(f"FAILED: {WANTED} times faster is wanted, and no difference.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
