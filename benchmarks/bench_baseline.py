"""How fast baselines of single-dish spectra are fitted, lines are looked for, and how much memory the stages need.

    python benchmarks/bench_baseline.py [--check] [--processes 2] [--spectra 20000] [--channels 1024]
    python benchmarks/bench_baseline.py --memory          # hsd_baseline and hsd_blflag at 1 and 4 times the rows

Every spectrum has a line mask at another place, the worst case; the rate counts fit and clipping, without reading and
writing.  ``--check`` exits 1 when polynomials of order 5 are slower than allowed, or memory grows with the rows.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

ALLOWED_PER_S = 20_000
ALLOWED_GROWTH = 1.15
WORK = ("poly 1", "poly 3", "poly 5", "cspline 3", "cspline 6", "fit order", "line search")


def sample(n: int, n_chan: int, seed: int) -> tuple[Any, Any]:
    """Noise on a wavy baseline, and masks of 80 channels at random places."""
    rng = np.random.default_rng(seed)
    axis = np.arange(n_chan)
    data = rng.normal(size=(n, n_chan)).astype(np.float32)
    data += (2 * np.sin(2 * np.pi * axis / n_chan)).astype(np.float32)
    use = np.abs(axis - rng.integers(n_chan // 4, 3 * n_chan // 4, n)[:, None]) > 40
    return data, use


def one(job: tuple[str, int, int, int, Any]) -> tuple[float, float, float]:
    """Do one kind of work once warm; return start and end by the clock, and the processor's seconds."""
    from pl_hsd.heuristics import fitorder
    from pl_hsd.heuristics.fitting import fit_polynomial, fit_spline
    from pl_hsd.heuristics.lines import find_lines

    kind, n, n_chan, seed, barrier = job
    data, use = sample(n, n_chan, seed)
    groups = np.arange(n) // 30

    def work(count: int) -> None:
        part = slice(0, count)
        if kind.startswith("poly"):
            fit_polynomial(data[part], use[part], int(kind.split()[1]))
        elif kind.startswith("cspline"):
            fit_spline(data[part], use[part], int(kind.split()[1]))
        elif kind == "fit order":
            fitorder.polynomial_orders(
                fitorder.mean_power(data[part], use[part], groups[part], int(groups[count - 1]) + 1), n_chan
            )
        else:
            find_lines(data[part], use[part])

    work(min(n, 500))
    if barrier is not None:
        barrier.wait()
    start, processor = time.perf_counter(), time.process_time()
    work(n)
    return start, time.perf_counter(), time.process_time() - processor


def rate(kind: str, n: int, n_chan: int, processes: int) -> tuple[float, float]:
    """Spectra per second of wall clock in so many processes at once, and per second of one processor."""
    if processes == 1:
        start, end, busy = one((kind, n, n_chan, 0, None))
        return n / (end - start), n / busy
    with multiprocessing.Manager() as manager:
        barrier = manager.Barrier(processes)
        jobs = [(kind, n // processes, n_chan, seed, barrier) for seed in range(processes)]
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            times = pool.map(one, jobs, chunksize=1)
    done = (n // processes) * processes
    return done / (max(t[1] for t in times) - min(t[0] for t in times)), done / sum(t[2] for t in times)


# ---- memory ----------------------------------------------------------------------------------------------------------


def simulate(path: str, maps: int) -> None:
    """A window of one antenna in so many maps of 49 MB of spectra, more than the stages read at a time."""
    from pl_sim.engine import simulate as make
    from pl_sim.presets import tp
    from pl_sim.singledish import Raster

    tp.INTEGRATION_S = 0.144
    raster = Raster(300.0, 300.0, 120, 50, tp.OFF_ARCSEC, off_integrations=8, rows_per_off=5, maps=maps)
    tp.PLANS["long"] = (1, 1024, raster)
    make(tp.total_power("long"), Path(path), seed=1)


def peak_memory(folder: Path, times: int) -> dict[str, float]:
    """Peak memory (MB) of the stages on so many maps."""
    from pl_kernel.compute import Worker
    from pl_kernel.session import Session

    vis = folder / f"x{times}.ms"
    with Worker() as worker:
        worker.call(simulate, str(vis), times)
    found = {}
    with Session.create(folder / f"run{times}") as session:
        session.run_stage("hsd_importdata", vis=[str(vis)])
    for stage in ("hsd_baseline", "hsd_blflag"):
        with Session.open(folder / f"run{times}") as session:  # a worker of its own: peaks of others do not count
            outcome = session.run_stage(stage, spw="4")
        (place,) = (folder / f"run{times}" / "stages").glob(f"{outcome.number:03d}-*")
        found[stage] = json.loads((place / "timing.json").read_text())["peak_rss_mb"]
    return found


def memory() -> bool:
    """Print peaks at 1 and 4 times the rows; return whether they are the same."""
    with tempfile.TemporaryDirectory(prefix="pl-bench-") as folder:
        single, fourfold = (peak_memory(Path(folder), times) for times in (1, 4))
    for stage in single:
        print(f"{stage:14s} {single[stage]:8.0f} MB {fourfold[stage]:8.0f} MB at 4 times the rows")
    return all(fourfold[stage] <= ALLOWED_GROWTH * single[stage] for stage in single)


def main() -> int:
    """Print the tables; see the top of the file."""
    parser = argparse.ArgumentParser(description="Rates of baseline fits.")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--spectra", type=int, default=20_000)
    parser.add_argument("--channels", type=int, default=1024)
    parser.add_argument("--memory", action="store_true", help="measure peak memory of the stages instead")
    parser.add_argument("--check", action="store_true", help="exit 1 when slower, or larger, than allowed")
    options = parser.parse_args()
    if options.memory:
        return 0 if memory() or not options.check else 1
    rates = {kind: rate(kind, options.spectra, options.channels, options.processes) for kind in WORK}
    print(f"spectra of {options.channels} channels per second of wall clock, and of one processor")
    for kind, (wall, busy) in rates.items():
        print(f"{kind:12s} {wall:10,.0f} {busy:10,.0f}")
    slowest = min(wall for kind, (wall, _) in rates.items() if kind.startswith("poly"))
    print(f"allowed: at least {ALLOWED_PER_S:,} for polynomials up to order 5, in {options.processes} processes")
    return 1 if options.check and slowest < ALLOWED_PER_S else 0


if __name__ == "__main__":
    # Worker processes find functions by their module, which a script has not.
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")))
    )
    import bench_baseline

    sys.exit(bench_baseline.main())
