"""How fast observations are simulated: megabytes of measurement set per second, for every preset.

The first set of a process pays for the import of CASA and astropy; a tiny one is made before the clock starts.

    python benchmarks/bench_simulate.py [--scale small] [--check] [PRESET...]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

ALLOWED_MB_PER_S = 30.0


def megabytes(folder: Path) -> float:
    """Size of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def main() -> int:
    """Print the table; return 1 with --check when a preset is too slow."""
    from pl_sim.engine import simulate
    from pl_sim.presets import get_preset, known_presets

    parser = argparse.ArgumentParser(description="Rates at which observations are simulated.")
    parser.add_argument("presets", nargs="*", metavar="PRESET", help="default: all")
    parser.add_argument("--scale", default="small", choices=("tiny", "small", "full"))
    parser.add_argument("--check", action="store_true", help="exit 1 when one is slower than allowed")
    options = parser.parse_args()
    slow = []
    with tempfile.TemporaryDirectory(prefix="pl-bench-") as folder:
        root = Path(folder)
        for name in options.presets or known_presets():
            preset = get_preset(name)
            simulate(preset.observations("tiny")[0], root / f"{name}.warm.ms", seed=1)
            observation = preset.observations(options.scale)[0]
            start, processor = time.perf_counter(), time.process_time()
            simulate(observation, root / f"{name}.ms", seed=2)
            seconds, busy = time.perf_counter() - start, time.process_time() - processor
            size = megabytes(root / f"{name}.ms")
            print(f"{name:20s} {size:8.1f} MB {seconds:7.2f} s (processor {busy:6.2f} s) {size / seconds:6.1f} MB/s")
            if size / seconds < ALLOWED_MB_PER_S:
                slow.append(name)
    print(f"allowed: at least {ALLOWED_MB_PER_S:g} MB/s; slower: {', '.join(slow) or 'none'}")
    return 1 if options.check and slow else 0


if __name__ == "__main__":
    sys.exit(main())
