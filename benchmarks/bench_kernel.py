"""What the kernel itself costs per stage, as curves over the size of the context; how long a long run takes to reopen.

A stage that does nothing is run in real runs whose context holds made-up observations: the time from one stage to the
next is then all resolve, snapshot, journal, score and fold (plots and pages are left out).  Times are processor times
of the kernel and of its worker, beside wall times, which on a busy machine say little.

    python benchmarks/bench_kernel.py [--stages N] [--check] [--profile]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import psutil

SIZES = ((0, 0, 0, 0), (1, 8, 5, 10), (2, 16, 10, 40), (5, 20, 15, 80), (10, 30, 20, 120), (20, 40, 30, 200))
"""Execution blocks, spws and fields of each, images of the run."""

ALLOWED_SMALL, ALLOWED_LARGE = 0.050, 0.250
"""Seconds per stage: for the smallest context, and for the largest."""

ALLOWED_MEMORY, ALLOWED_FOLD = 300.0, 1.0
"""MiB of the kernel's process; seconds to fold a run of 200 stages again."""

PLUGIN = '''
from pl_kernel import AddMeasurementSet, Beam, ImageRecord, Inputs, QAScore, RegisterImage, Result, SetValue, Stage
from pl_kernel import hookimpl, param, scorer
from pl_kernel.ms.samples import SampleScan, sample_ms

class FillInputs(Inputs):
    blocks: int = param(1)
    spws: int = param(1)
    fields: int = param(1)
    images: int = param(0)

class Fill(Stage[FillInputs, Result]):
    """Make up observations."""
    name = "bench_fill"
    def run(self, ctx, inputs):
        fields = tuple(f"J{1000 + i}+{i:04d}" for i in range(inputs.fields))
        words = ("BANDPASS,AMPLITUDE", "PHASE", "TARGET")
        scans = [SampleScan(i, words[min(i, 2)]) for i in range(inputs.fields)]
        effects = [
            AddMeasurementSet(sample_ms(f"block{k}.ms", fields=fields, scans=scans, n_spws=inputs.spws, n_antennas=27))
            for k in range(inputs.blocks)
        ]
        for ms in effects:
            (ctx.work / ms.ms.name).mkdir()
        beam = Beam(major_arcsec=1.0, minor_arcsec=0.8, pa_deg=20.0)
        effects += [
            RegisterImage(ImageRecord(
                name=f"i{k}.image", field=fields[k % len(fields)], spws=(k % inputs.spws,), beam=beam,
                statistics={"rms": 1e-3, "peak": 0.1},
            ))
            for k in range(inputs.images)
        ]
        return Result(effects=effects)

class NothingInputs(Inputs):
    solint: str = param("inf", doc="Solution interval.")
    minsnr: float = param(3.0, doc="Least signal-to-noise ratio.", minimum=0)

class NothingResult(Result):
    count: int

class Nothing(Stage[NothingInputs, NothingResult]):
    """Do nothing, and remember how often."""
    name = "bench_nothing"
    def run(self, ctx, inputs):
        count = ctx.value("bench.count", 0) + 1
        return NothingResult(count=count, effects=[SetValue("bench.count", count)])

@scorer(NothingResult)
def always_good(result):
    return QAScore(metric="count", value=result.count, score=1.0, short="fine", long="Nothing was done.")

@hookimpl
def pl_stages(): return [Fill, Nothing]
@hookimpl
def pl_qa_scorers(): return [always_good]
'''


def install(folder: Path) -> None:
    """Make the plugin of this benchmark visible to this process and its workers."""
    (folder / "pl_bench.py").write_text(PLUGIN)
    info = folder / "pl_bench-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pl-bench\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pl.plugins]\nbench = pl_bench\n")
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])


def one_size(size: tuple[int, int, int, int], stages: int, root: Path) -> dict[str, float]:
    """Run ``stages`` idle stages on a context of this size; times are medians per stage."""
    from pl_kernel import recipe as recipes
    from pl_kernel.drawing import Pages
    from pl_kernel.runner import Runner
    from pl_kernel.session import Session

    Runner._write_site = lambda self, live: None  # type: ignore[method-assign]
    Pages.submit = lambda self, drawing: None  # type: ignore[method-assign]
    blocks, spws, fields, images = size
    fill = dict(zip(("blocks", "spws", "fields", "images"), (blocks, spws or 1, fields or 1, images), strict=True))
    steps = [recipes.Step(stage="bench_fill", parameters=fill)]
    steps += [recipes.Step(stage="bench_nothing")] * (stages + 2)
    own, wall = [], []
    with Session.create(root, recipes.Recipe(name="bench", title="Bench", steps=steps)) as session:
        session.run(stop_after=3)  # the first stages import and compile
        worker = psutil.Process(session._runner.worker.pid)
        for number in range(4, stages + 4):
            before = time.process_time() + sum(worker.cpu_times()[:2])
            begin = time.perf_counter()
            outcome = session.run(stop_after=number)
            wall.append(time.perf_counter() - begin)
            own.append(time.process_time() + sum(worker.cpu_times()[:2]) - before)
            if outcome.status == "failed":
                sys.exit(outcome.message)
        memory = psutil.Process().memory_info().rss / 2**20
        text = (root / "context.json").stat().st_size / 1e6
    return {
        "cpu": statistics.mean(own), "wall": statistics.median(wall), "memory": memory, "context_mb": text,
    }  # fmt: skip


def fold_again(root: Path) -> tuple[float, float, int]:
    """Open a run again and fold what is written; return processor and wall seconds, and its stages."""
    from pl_kernel.session import Session

    begin, wall = time.process_time(), time.perf_counter()
    with Session.open(root) as session:
        return time.process_time() - begin, time.perf_counter() - wall, len(session.stages)


def measure(words: list[str]) -> list[float]:
    """Run one measurement in a process of its own, so that memory is that of one size."""
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return [float(word) for word in done.stdout.split()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--stages", type=int, default=10, help="idle stages per size")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a limit is passed")
    parser.add_argument("--profile", action="store_true", help="show where the time of the largest context goes")
    parser.add_argument("--one", nargs=4, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--fold", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pl-bench-") as temporary:
        folder = Path(temporary)
        install(folder)
        if options.one:
            found = one_size(tuple(options.one), options.stages, folder / "run")
            print(*(found[name] for name in ("cpu", "wall", "memory", "context_mb")))
            return 0
        if options.fold:
            one_size((2, 16, 10, 40), options.fold - 3, folder / "run")
            print(*fold_again(folder / "run"))
            return 0
        if options.profile:
            from pyinstrument import Profiler

            with Profiler() as profiler:
                one_size(SIZES[-1], options.stages, folder / "run")
            print(profiler.output_text(show_all=False))
            return 0
    print(
        textwrap.dedent(
            f"""\
            {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}

            blocks  spws  fields  images   context   per stage, processor   wall   kernel's memory"""
        )
    )
    rows = []
    for size in SIZES:
        cpu, wall, memory, text = measure(["--stages", str(options.stages), "--one", *map(str, size)])
        rows.append((cpu, wall, memory))
        print(
            f"{size[0]:6d} {size[1]:5d} {size[2]:7d} {size[3]:7d} {text:7.2f} MB {1000 * cpu:18.0f} ms "
            f"{1000 * wall:7.0f} ms {memory:12.0f} MiB"
        )
    cpu, wall, stages = measure(["--fold", "200"])
    print(f"\nfold of {stages:.0f} stages: {cpu:.2f} s processor, {wall:.2f} s wall")
    checks = (
        ("per stage, small context", rows[0][0], ALLOWED_SMALL, "s"),
        ("per stage, largest context", rows[-1][0], ALLOWED_LARGE, "s"),
        ("memory, largest context", rows[-1][2], ALLOWED_MEMORY, "MiB"),
        ("fold of 200 stages", cpu, ALLOWED_FOLD, "s"),
    )
    for name, value, allowed, unit in checks:
        said = "ok" if value <= allowed else "TOO MUCH"
        print(f"{name:<30} {value:8.3f} {unit:<4} allowed {allowed:g} {unit}: {said}")
    return 0 if all(value <= allowed for _, value, allowed, _ in checks) or not options.check else 1


if __name__ == "__main__":
    sys.exit(main())
