"""VLA calibration: time around CASA, cost of plots, and memory against the number of integrations.

Runs the recipe hifv on a simulated C-band observation and prints, by stage, the time of the stage, the time inside its
CASA calls and that of its page; the ratio of the whole; the slowest plots. The same observation with four times
the integrations shows whether memory grows with the data: four times as long (every scan again and again, as longer
observations are), or, with --dense, with integrations a quarter as long.

    python benchmarks/bench_hifv.py [--scale tiny|small] [--times 1 4] [--dense] [--stop-after STAGE] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ALLOWED_RATIO = 1.35
"""Wall time of the calibration over the time inside its CASA calls."""

ALLOWED_PLOT = 2.0
"""Seconds that one plot may take."""

ALLOWED_GROWTH = 1.15
"""Peak memory with four times the integrations over that with once."""

PRESET = "vla-c-cont-d"


def simulate(scale: str, times: int, dense: bool, path: Path) -> None:
    """Write the observation with ``times`` as many integrations, or scans; for a process of its own."""
    import attrs

    from pl_sim.engine import simulate as make
    from pl_sim.presets import get_preset

    (observation,) = get_preset(PRESET).observations(scale)
    if dense:
        more = attrs.evolve(observation, integration_s=observation.integration_s / times)
    else:
        scans = [attrs.evolve(s, number=n) for n, s in enumerate(observation.scans * times, 1)]
        more = attrs.evolve(observation, scans=tuple(scans))
    make(more, path, seed=1)


def pictures(page: Any) -> list[tuple[float, str]]:
    """(seconds, file) of every picture of a page."""
    if isinstance(page, dict):
        own = [(float(page["seconds"]), str(page["file"]))] if page.get("seconds") and "file" in page else []
        return own + [found for value in page.values() for found in pictures(value)]
    return [found for value in page for found in pictures(value)] if isinstance(page, list) else []


def measure(folder: Path, scale: str, times: int, dense: bool, stop_after: str) -> dict[str, Any]:
    """One run of the recipe: its seconds in all and by stage, its memory, its slowest plots."""
    data, run = folder / f"bench-{times}x.ms", folder / f"run-{times}x"
    subprocess.run([sys.executable, __file__, "--simulate", scale, str(times), str(int(dense)), str(data)], check=True)
    until = ["--stop-after", stop_after] if stop_after else []
    begin = time.monotonic()
    with (folder / "output.log").open("w") as log:
        code = subprocess.run(
            [sys.executable, "-m", "pl_kernel", "run", "hifv", str(data), "-o", str(run), *until],
            stdout=log, stderr=subprocess.STDOUT, check=False,
        ).returncode  # fmt: skip
    wall = time.monotonic() - begin
    if code:
        sys.exit(f"pl run hifv ended with code {code}:\n{(folder / 'output.log').read_text()[-2000:]}")
    stages, plots = [], []
    for file in sorted(run.glob("stages/*/timing.json")):
        timing = json.loads(file.read_text())
        stages.append({"name": file.parent.name, **timing})
        page = file.parent / "page.json"
        plots += [(s, f"{file.parent.name}/{name}") for s, name in pictures(json.loads(page.read_text()))]
    size = sum(f.stat().st_size for f in data.rglob("*") if f.is_file()) / 1e6
    return {"wall": wall, "stages": stages, "plots": sorted(plots, reverse=True), "megabytes": size}


def show(found: dict[str, Any], times: int) -> tuple[float, float]:
    """Print one run; return its ratio and its slowest plot."""
    print(f"\n{times} × integrations, {found['megabytes']:.0f} MB")
    print(f"{'stage':<30} {'run':>7} {'CASA':>7} {'page':>7}  s   {'run/CASA':>8}   memory MiB")
    for one in found["stages"]:
        run, casa = one.get("run_seconds", 0.0), one.get("casa_seconds", 0.0)
        ratio = f"{run / casa:8.2f}" if casa > 0.05 else f"{'–':>8}"
        page, memory = one.get("render_seconds", 0.0), one.get("peak_rss_mb", 0.0)
        print(f"{one['name']:<30} {run:7.1f} {casa:7.1f} {page:7.1f}      {ratio}   {memory:7.0f}")
    casa = sum(one.get("casa_seconds", 0.0) for one in found["stages"])
    run = sum(one.get("run_seconds", 0.0) for one in found["stages"])
    page = sum(one.get("render_seconds", 0.0) for one in found["stages"])
    ratio = found["wall"] / casa
    slowest = found["plots"][0][0] if found["plots"] else 0.0
    print(f"wall {found['wall']:.1f} s, stages {run:.1f} s, CASA {casa:.1f} s, pages {page:.1f} s (beside the stages)")
    print(f"wall / CASA {ratio:.2f} (allowed {ALLOWED_RATIO}), stages / CASA {run / casa:.2f}")
    print(f"{len(found['plots'])} plots, slowest (allowed {ALLOWED_PLOT:.0f} s):")
    for seconds, name in found["plots"][:3]:
        print(f"  {seconds:5.2f} s  {name}")
    return ratio, slowest


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scale", default="small", choices=("tiny", "small", "full"))
    parser.add_argument("--times", type=int, nargs="+", default=[1, 4], help="integrations, as multiples")
    parser.add_argument("--dense", action="store_true", help="more integrations by shorter ones, not by more scans")
    parser.add_argument("--stop-after", default="", metavar="STAGE", help="such as hifv_statwt: no imaging")
    parser.add_argument("--keep", type=Path, help="keep data and runs in this folder")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a limit is passed")
    parser.add_argument("--simulate", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if options.simulate:
        scale, times, dense, path = options.simulate
        simulate(scale, int(times), dense == "1", Path(path))
        return 0
    passed, memory = True, {}
    with tempfile.TemporaryDirectory(prefix="pl-bench-") as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for times in options.times:
            found = measure(folder, options.scale, times, options.dense, options.stop_after)
            ratio, slowest = show(found, times)
            memory[times] = max(one.get("peak_rss_mb", 0.0) for one in found["stages"])
            passed &= ratio <= ALLOWED_RATIO and slowest <= ALLOWED_PLOT
    growth = memory[options.times[-1]] / memory[options.times[0]]
    print(f"\npeak memory of a stage: {', '.join(f'{t} ×: {m:.0f} MiB' for t, m in memory.items())}")
    print(f"growth {growth:.2f} (allowed {ALLOWED_GROWTH})")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}")
    passed &= growth <= ALLOWED_GROWTH
    return 0 if passed or not options.check else 1


if __name__ == "__main__":
    sys.exit(main())
