"""What a second worker gives to a cube: 64 channels of a simulated H I observation, imaged with one worker and two.

Prints wall, CASA and processor seconds of hif_makeimages for both, the ratio, and the largest difference between the
images in parts of the peak. Channel ranges do not depend on the workers, so the images shall be the same to 1e-6.

    python benchmarks/bench_cube.py [--scale tiny|small] [--size PIXELS] [--workers 2] [--keep FOLDER] [--check]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

WANTED = 1.7
"""Times faster that a cube of 64 channels shall be made on two workers."""
SAME = 1e-6
"""Largest difference, in parts of the peak."""


def prepare(folder: Path, scale: str, size: int, workers: int) -> tuple[Path, dict[str, float]]:
    """Import the simulated set in a run of its own and make the cube of its line window."""
    from pl_kernel.session import Session
    from pl_sim.testing import cached_simulation

    run = folder / f"workers{workers}"
    with Session.create(run, None, [cached_simulation("vla-l-line-d", scale=scale)], workers=workers) as session:
        session.run_stage("hifv_importdata", vis=[str(cached_simulation("vla-l-line-d", scale=scale))])
        ms = session.context.measurement_sets[0]
        line = min(ms.science_spws, key=lambda s: s.max_hz - s.min_hz)
        session.run_stage("hif_makeimlist", specmode="cube", spw=str(line.id), hm_imsize=str(size))
        before, begin = os.times(), time.monotonic()
        session.run_stage("hif_makeimages")
        wall = time.monotonic() - begin
    after = os.times()  # children count once they have ended
    timing = json.loads(next(run.glob("stages/*-hif_makeimages/timing.json")).read_text())
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return run, {"wall": wall, "run": timing["run_seconds"], "casa": timing["casa_seconds"], "cpu_with_start": cpu}


def pixels(run: Path, kind: str) -> np.ndarray:
    """The cube of a run; in a process that imports CASA."""
    from pl_kernel.casa import configure

    configure()
    from casatools import image

    tool = image()
    tool.open(str(next(p for p in run.glob(f"work/*.cube.I.{kind}"))))
    try:
        return np.asarray(tool.getchunk())
    finally:
        tool.done()


def difference(first: Path, second: Path) -> dict[str, float]:
    """Largest difference of images and residuals, in parts of the peak."""
    found = {}
    for kind in ("image", "residual"):
        one, other = pixels(first, kind), pixels(second, kind)
        found[kind] = float(np.abs(one - other).max() / np.abs(pixels(first, "image")).max())
    return found


def main() -> int:
    """Run both and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scale", choices=("tiny", "small"), default="tiny")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--check", action="store_true", help="fail when it is too slow, or not the same")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        rows: list[tuple[int, dict[str, Any]]] = []
        runs = []
        for workers in (1, given.workers):
            run, seconds = prepare(folder, given.scale, given.size, workers)
            runs.append(run)
            rows.append((workers, seconds))
        print(f"{'workers':>8}{'wall s':>10}{'stage s':>10}{'CASA s':>10}{'CPU s':>10}")
        for workers, s in rows:
            print(f"{workers:>8}{s['wall']:>10.1f}{s['run']:>10.1f}{s['casa']:>10.1f}{s['cpu_with_start']:>10.1f}")
        ratio = rows[0][1]["run"] / rows[1][1]["run"]
        apart = difference(*runs)
        print(f"{ratio:.2f} times faster; images differ by {apart['image']:.1e} of the peak, "
              f"residuals by {apart['residual']:.1e}")  # fmt: skip
        good = ratio >= WANTED and max(apart.values()) <= SAME
        return 0 if good or not given.check else 1


if __name__ == "__main__":
    sys.exit(main())
