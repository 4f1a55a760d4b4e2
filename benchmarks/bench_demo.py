"""What pl adds to the time inside CASA: the demo with its plots and web log, beside its CASA calls alone.

Prints, from one run on this machine: wall time of the run, time inside CASA calls, what is left (the overhead), where
it goes, peak memory, and the wall time of ``casa_commands.py`` of the same run in an empty folder.

    python benchmarks/bench_demo.py [--runs N] [--keep FOLDER] [--check]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

ALLOWED = 0.25
"""Share of a run that may be spent outside CASA calls."""

ALLOWED_MEMORY = 1024.0
"""MiB that the kernel's process may take."""


class Memory(threading.Thread):
    """Samples the resident memory of a process and of its children until it ends."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.process = psutil.Process(pid)
        self.kernel = self.all = 0.0

    def run(self) -> None:
        while True:
            try:
                own = self.process.memory_info().rss / 2**20
                children = 0.0
                for child in self.process.children(recursive=True):
                    try:
                        children += child.memory_info().rss / 2**20
                    except psutil.Error:
                        continue
            except psutil.Error:
                return
            self.kernel, self.all = max(self.kernel, own), max(self.all, own + children)
            time.sleep(0.2)


def timed(command: list[str], folder: Path) -> tuple[float, Memory]:
    """Run a command; return its wall time and its memory.  A failure ends the benchmark with what it said."""
    begin = time.monotonic()
    with (folder / "output.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        memory = Memory(process.pid)
        memory.start()
        code = process.wait()
    seconds = time.monotonic() - begin
    if code:
        sys.exit(f"{' '.join(command)} ended with code {code}:\n{(folder / 'output.log').read_text()[-2000:]}")
    return seconds, memory


def parts_of(run: Path) -> dict[str, float]:
    """Seconds of a run by what they were spent on, added up from the stages' own records."""
    totals = {"casa": 0.0, "render": 0.0, "wait": 0.0, "score": 0.0, "snapshot": 0.0, "stages": 0.0}
    for file in sorted(run.glob("stages/*/timing.json")):
        timing = json.loads(file.read_text())
        for name in ("casa", "render", "wait", "score", "snapshot"):
            totals[name] += timing.get(f"{name}_seconds", 0.0)
        totals["stages"] += timing.get("seconds", 0.0)
    return totals


def site_seconds(run: Path) -> float:
    """Seconds spent on writing the web log, from the run's events."""
    events = (json.loads(line) for line in (run / "events.jsonl").read_text().splitlines())
    return sum(event["data"].get("seconds", 0.0) for event in events if event["kind"] == "site_written")


def one_round(folder: Path, recipe: list[str]) -> dict[str, float]:
    run = folder / "run"
    wall, memory = timed([sys.executable, "-m", "pl_kernel", "demo", *recipe, "-o", str(run)], folder)
    alone = folder / "alone"
    alone.mkdir()
    casa_wall, casa_memory = timed([sys.executable, str(run / "casa_commands.py")], alone)
    parts = parts_of(run)
    return {
        "wall": wall, "casa": parts["casa"], "overhead": wall - parts["casa"], "share": (wall - parts["casa"]) / wall,
        "render": parts["render"], "site": site_seconds(run), "score": parts["score"], "snapshot": parts["snapshot"],
        "stages": parts["stages"], "wait": parts["wait"], "alone": casa_wall,
        "kernel_mib": memory.kernel, "all_mib": memory.all, "alone_mib": casa_memory.all,
    }  # fmt: skip


def show(found: dict[str, float]) -> None:
    other = found["overhead"] - found["score"] - found["snapshot"] - found["wait"]
    rows = [
        ("run of the demo, plots and web log included", found["wall"], "s"),
        ("  inside CASA calls", found["casa"], "s"),
        ("  outside CASA calls", found["overhead"], "s"),
        ("    waiting for plots and pages", found["wait"], "s"),
        ("    snapshots of what stages alter", found["snapshot"], "s"),
        ("    scores", found["score"], "s"),
        ("    everything else (start, import of CASA, reading data)", other, "s"),
        ("plots and pages of stages, drawn while the next stages run", found["render"], "s"),
        ("web log, written after every page", found["site"], "s"),
        ("casa_commands.py of that run, CASA alone", found["alone"], "s"),
        ("peak memory of pl's own process", found["kernel_mib"], "MiB"),
        ("peak memory of all processes of the run", found["all_mib"], "MiB"),
        ("peak memory of casa_commands.py", found["alone_mib"], "MiB"),
    ]
    for name, value, unit in rows:
        print(f"{name:<60} {value:9.1f} {unit}")
    print(f"{'share of the run outside CASA':<60} {100 * found['share']:9.1f} %   (allowed: {100 * ALLOWED:.0f} %)")
    print(f"{'run / CASA alone':<60} {found['wall'] / found['alone']:9.2f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recipe", nargs="*", help="name of the demo; the only one when left out")
    parser.add_argument("--runs", type=int, default=1, help="repeat, and show the run with the least overhead")
    parser.add_argument("--keep", type=Path, help="keep the runs in this folder")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a limit is passed")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rounds = []
    with tempfile.TemporaryDirectory(prefix="pl-bench-") as temporary:
        base = options.keep or Path(temporary)
        for number in range(1, options.runs + 1):
            folder = base / f"round{number}"
            folder.mkdir(parents=True)
            rounds.append(one_round(folder, options.recipe))
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, load {load:.1f}, Python {sys.version.split()[0]}, best of {options.runs}\n")
    best = min(rounds, key=lambda found: found["share"])
    show(best)
    passed = best["share"] <= ALLOWED and best["kernel_mib"] <= ALLOWED_MEMORY
    return 0 if passed or not options.check else 1


if __name__ == "__main__":
    sys.exit(main())
