"""Kill a run at random points, in random ways, and see that it goes on to the same products: ``make soak``.

A small real reduction (two measurement sets, two workers; flags, solutions, corrected data, weights, images) is
disturbed: SIGKILL of the main process or of one of its workers at a random moment, a disk that fills up at a random
size, a file of the journal that is truncated or corrupted.  Then it must either go on to products identical with
those of an undisturbed run (tables bit by bit, images to 1e-6), or say which stage to repeat, and go on when that is
done.  No stage that was done before may be repeated or altered.

    python tests/soak.py [--seed N] [--points 30] [--only KIND] [--keep FOLDER]

The seed is printed; the same seed gives the same points.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import psutil

PLUGIN = '''
from pathlib import Path
from pl_kernel import Inputs, RegisterCalibration, Result, SetValue, Stage, hookimpl
from pl_kernel.calibration import CalApplication, CalFrom, CalTo

class Seen(Result):
    numbers: dict[str, float]

class Flag(Stage[Inputs, Seen]):
    """Flag outliers."""
    name = "soak_flag"
    each_set = True
    mutates = {"flags"}
    def run(self, ctx, inputs):
        found = {}
        for ms in ctx.measurement_sets(inputs.vis):
            ctx.casa.flagdata(vis=ms.path, mode="clip", clipminmax=[0, 50], datacolumn="data", flagbackup=False)
            seen = ctx.casa.flagdata(vis=ms.path, mode="summary")
            found[ms.name] = float(seen["flagged"])
        return Seen(numbers=found)

class Solve(Stage[Inputs, Seen]):
    """Solve for gains."""
    name = "soak_solve"
    topic = "calibration"
    each_set = True
    def run(self, ctx, inputs):
        found, effects = {}, []
        for ms in ctx.measurement_sets(inputs.vis):
            table = ctx.path(ms, "gains")
            ctx.files.rmtree(table)
            ctx.casa.gaincal(vis=ms.path, caltable=table, field="CAL", solint="20s", refant="A0", minblperant=2,
                             smodel=[10.0, 0, 0, 0])
            with ctx.casa.table(table) as opened:
                found[ms.name] = float(opened.nrows())
            gain = CalFrom(gaintable=table, caltype="gaincal", interp="linear", gainfield="CAL")
            effects.append(RegisterCalibration(CalApplication(CalTo(vis=ms.name), (gain,))))
        return Seen(numbers=found, effects=effects)

class Weigh(Stage[Inputs, Seen]):
    """Weights from the scatter."""
    name = "soak_weigh"
    topic = "calibration"
    each_set = True
    mutates = {"weights", "flags"}
    def run(self, ctx, inputs):
        for ms in ctx.measurement_sets(inputs.vis):
            ctx.casa.statwt(vis=ms.path, datacolumn="corrected", flagbackup=False)
        return Seen(numbers={})

def image(ctx, job):
    vis, name = job
    for path in ctx.work.glob(f"{name}.*"):
        ctx.files.rmtree(path.name)
    ctx.casa.tclean(vis=vis, imagename=name, field="TARGET", imsize=[64, 64], cell="20arcsec", niter=20, gain=0.2)
    fits = ctx.products / f"{name}.fits"
    ctx.casa.exportfits(imagename=f"{name}.image", fitsimage=str(fits), overwrite=True)
    with ctx.casa.image(f"{name}.image") as opened:
        return float(opened.statistics()["max"][0])

class Image(Stage[Inputs, Seen]):
    """Image every measurement set, and all together."""
    name = "soak_image"
    topic = "imaging"
    def run(self, ctx, inputs):
        sets = ctx.measurement_sets(inputs.vis)
        jobs = [([ms.path], f"{ms.stem}.s{ctx.stage_number}") for ms in sets]
        jobs.append(([ms.path for ms in sets], f"all.s{ctx.stage_number}"))
        peaks = ctx.map(image, jobs)
        numbers = {name: peak for (_, name), peak in zip(jobs, peaks)}
        return Seen(numbers=numbers, effects=[SetValue("soak.peaks", peaks)])

@hookimpl
def pl_stages(): return [Flag, Solve, Weigh, Image]
'''
RECIPE = """
title: A small real reduction
stages:
  - h_importdata
  - soak_flag
  - soak_solve
  - h_applycal
  - soak_weigh
  - soak_image
"""
KINDS = ("main", "worker", "disk", "truncated", "corrupted")
_TIMEOUT = 600


class Lost(Exception):
    """What must not happen."""


@attrs.define
class Soak:
    """The reduction, its undisturbed products, and the folder all happens in."""

    folder: Path
    rng: random.Random
    environment: dict[str, str] = attrs.field(factory=dict)
    seconds: float = 0.0
    bytes: int = 0

    # ---- the run ---------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Install the plugin for this process's children, make the data, and the run to compare with."""
        from pl_kernel.testing import make_tiny_ms

        site = self.folder / "site"
        info = site / "pl_soak-1.0.dist-info"
        info.mkdir(parents=True)
        (site / "pl_soak.py").write_text(PLUGIN)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pl-soak\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[pl.plugins]\nsoak = pl_soak\n")
        (info / "RECORD").write_text("")
        (self.folder / "soak.yaml").write_text(textwrap.dedent(RECIPE))
        self.environment = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        for number in (1, 2):
            make_tiny_ms(self.folder / f"day{number}.ms", seed=number)
        begin = time.monotonic()
        code, said = self.finish(self.start(self.reference))
        if code:
            raise Lost(f"The undisturbed run failed: {said}")
        self.seconds = time.monotonic() - begin
        self.bytes = sum(f.stat().st_size for f in self.reference.rglob("*") if f.is_file())

    @property
    def reference(self) -> Path:
        return self.folder / "reference"

    def start(self, run: Path, limit: int = 0) -> subprocess.Popen[str]:
        """Begin a run, or go on with it; ``limit`` is the largest size of a file it may write."""
        words = ["run", str(self.folder / "soak.yaml"), *(str(self.folder / f"day{n}.ms") for n in (1, 2))]
        words += ["-o", str(run), "--workers", "2"]
        if (run / "run.json").exists():
            words = ["resume", str(run)]
        elif run.is_dir() and not run.is_mount():
            shutil.rmtree(run)  # killed before there was a run

        def limited() -> None:
            if limit:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        return subprocess.Popen(
            [sys.executable, "-m", "pl_kernel", *words, "--json"], env=self.environment, text=True, cwd=self.folder,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=limited,
        )  # fmt: skip

    def finish(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        """Wait for the end of a run; return exit code and what it complained of."""
        try:
            _, said = process.communicate(timeout=_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            raise Lost(f"It hung for {_TIMEOUT} s.") from None
        if "Traceback" in said:
            raise Lost(f"It ended in a traceback: {said[-1500:]}")
        return process.returncode, said.strip()

    # ---- what must hold ----------------------------------------------------------------------------------------------

    def done(self, run: Path) -> dict[str, str]:
        """Stages that are done, with the moment they were started at."""
        found = {}
        for file in sorted(run.glob("stages/*/stage.json")):
            with suppress(ValueError, OSError):
                record = json.loads(file.read_text())
                if record["status"] == "ok":
                    found[file.parent.name] = record["started"]
        return found

    def recover(self, run: Path, before: dict[str, str], backup: dict[Path, bytes] | None = None) -> str:
        """Go on with a disturbed run to its end; return how that went.

        Raises
        ------
        Lost : it cannot be finished, what it says is no help, or stages done ``before`` were repeated without need.
        """
        needed: list[str] = []
        for _ in range(4):
            code, said = self.finish(self.start(run))
            if code == 0:
                break
            needed.append(said.splitlines()[-1] if said else "")
            repeat = re.search(r"'pl rewind (\S+) (\d+)'", said)
            named = [file for file in backup or {} if str(file) in said or file.name in said]
            if repeat:
                first = int(repeat[2])
                before = {name: at for name, at in before.items() if int(name[:3]) < first}
                back = subprocess.run(
                    [sys.executable, "-m", "pl_kernel", "rewind", *repeat.groups()], env=self.environment,
                    capture_output=True, text=True,
                )  # fmt: skip
                if back.returncode:
                    raise Lost(f"It cannot go back as it said: {back.stderr[-1500:]}")
            elif named and backup:
                for file in named:
                    file.write_bytes(backup[file])
            elif code != 1:
                raise Lost(f"It does not go on, and does not say what to do: {said[-1500:]}")
        else:
            raise Lost(f"It does not go on: {needed}")
        self.compare(run)
        now = self.done(run)
        repeated = [name for name, at in before.items() if now.get(name) != at]
        if repeated:
            raise Lost(f"Stages that were done have been done again: {', '.join(repeated)}")
        return f"resumed; {needed[-1]}" if needed else "resumed"

    def compare(self, run: Path) -> None:
        """Raise Lost where products differ from those of the undisturbed run."""
        from pl_kernel.compute import Worker
        from pl_kernel.testing.tables import differences

        with Worker(self.folder / "compare.log") as worker:
            found = worker.call(differences, self.reference / "work", run / "work")
        for name, folder in (("reference", self.reference), ("run", run)):
            if not list((folder / "products").glob("*.fits")):
                found.append(f"no products in {name}")
        for file in sorted((self.reference / "products").iterdir()):
            other = run / "products" / file.name
            if not other.exists() or _pixels(file) != _pixels(other):
                found.append(f"products/{file.name}")
        for folder in sorted((self.reference / "stages").iterdir()):
            numbers = [_numbers(r / "stages" / folder.name / "result.json") for r in (self.reference, run)]
            if numbers[0] != numbers[1]:
                found.append(f"result of {folder.name}")
        if found:
            raise Lost(f"Products differ: {', '.join(found)}")

    # ---- disturbances ------------------------------------------------------------------------------------------------

    def main(self, run: Path) -> str:
        """SIGKILL of the main process."""
        share = self.rng.uniform(0.03, 0.97)
        process = self.start(run)
        self._after(share, process)
        process.kill()
        process.communicate()
        return f"killed at {100 * share:.0f} %: {self.recover(run, self.done(run))}"

    def worker(self, run: Path) -> str:
        """SIGKILL of one of the workers: of the stage, of an item, or the one that draws."""
        share, choice = self.rng.uniform(0.1, 0.97), self.rng.random()
        process = self.start(run)
        self._after(share, process)
        victims = []
        with suppress(psutil.Error):
            victims = sorted(p.pid for p in psutil.Process(process.pid).children(recursive=True))
        if victims:
            with suppress(ProcessLookupError):
                os.kill(victims[int(choice * len(victims))], signal.SIGKILL)
        code, said = self.finish(process)
        if code == 0:
            self.compare(run)
            return f"worker killed at {100 * share:.0f} %: the run went on by itself"
        if code != 1 or not re.search(r"soak_|h_|stage", said):
            raise Lost(f"The stage that failed is not named (code {code}): {said[-800:]}")
        return f"worker killed at {100 * share:.0f} %: {self.recover(run, self.done(run))}; it had said: {_last(said)}"

    def disk(self, run: Path) -> str:
        """A disk that is full before the run is done."""
        share = self.rng.uniform(0.05, 0.9)
        with small_disk(run, int(share * self.bytes) + 400_000) as grow:
            limit = 0 if grow else int(10 ** self.rng.uniform(3.5, 5.5))
            code, said = self.finish(self.start(run, limit))
            if code == 0 and grow:
                raise Lost(f"It says that it is done on a disk of {share:.2f} of the size it needs.")
            what = f"disk of {100 * share:.0f} %" if grow else f"files of at most {limit} bytes"
            if grow:
                grow()
            return f"{what}: {self.recover(run, self.done(run))}; it had said: {_last(said)}"

    def truncated(self, run: Path) -> str:
        """A file of the journal cut at a random place, in a run that was killed before its end."""
        return self._damaged(run, lambda content: content[: self.rng.randrange(max(1, len(content)))])

    def corrupted(self, run: Path) -> str:
        """A file of the journal with other content: noise, or JSON of another kind."""

        def corrupt(content: bytes) -> bytes:
            kind = self.rng.randrange(3)
            if kind == 0:
                return self.rng.choice([b"[]", b"{}", b"null", b"42", b'"text"', b'{"a": [1, {"b": null}]}'])
            noise = bytearray(content)
            for _ in range(max(1, len(noise) // 20)):
                noise[self.rng.randrange(len(noise))] = self.rng.randrange(256) if kind == 1 else 0
            return bytes(noise)

        return self._damaged(run, corrupt)

    def _damaged(self, run: Path, damage: Callable[[bytes], bytes]) -> str:
        share = self.rng.uniform(0.4, 0.97)
        process = self.start(run)
        self._after(share, process)
        process.kill()
        process.communicate()
        files = sorted([*run.glob("*.json*"), *run.glob("stages/*/*.json"), *run.glob("snapshots/*/*/*.json")])
        files = [f for f in files if f.stat().st_size]
        if not files:
            return f"killed at {100 * share:.0f} %, nothing to damage: {self.recover(run, {})}"
        file = self.rng.choice(files)
        before, whole = self.done(run), file.read_bytes()
        others = _digests(run, file)
        file.write_bytes(damage(whole))
        outcome = self.recover(run, before, {file: whole})
        now = self.done(run)
        changed = [name for name, digest in others.items() if _digest(run / name) != digest]
        lost = [name for name in changed if _kept(name, now, before)]
        if lost:
            raise Lost(f"Records of stages that were done have changed: {', '.join(lost)}")
        return f"{file.relative_to(run)} after a kill at {100 * share:.0f} %: {outcome}"

    def _after(self, share: float, process: subprocess.Popen[str]) -> None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(share * self.seconds)


def _kept(name: str, now: dict[str, str], before: dict[str, str]) -> bool:
    """Whether a file belongs to the record of a stage that stands as it was."""
    _, stage, file = Path(name).parts
    # Pages that the kill had cost are drawn later; with them come their log and timing.
    records = ("result.json", "qa.json", "inputs.json", "stage.json")
    return file in records and stage in before and now.get(stage) == before[stage]


def _digests(run: Path, but: Path) -> dict[str, str]:
    return {str(f.relative_to(run)): _digest(f) for f in run.glob("stages/*/*.json") if f != but}


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""


def _numbers(file: Path) -> Any:
    return json.loads(file.read_text()).get("numbers")


def _pixels(file: Path) -> bytes:
    from astropy.io import fits

    with fits.open(file) as opened:
        return bytes(opened[0].data.tobytes())


def _last(said: str) -> str:
    lines = [line for line in said.splitlines() if line.startswith("pl: ")] or said.splitlines()[-1:]
    return lines[-1][:200] if lines else "nothing"


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Callable[[], None] | None]:
    """A file system of so many bytes at ``folder``; the value makes it large.  None where mounting is not permitted."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        folder.rmdir()
        yield None
        return
    try:
        yield lambda: subprocess.run(["mount", "-o", "remount,size=2g", str(folder)], check=True) and None
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def soak(folder: Path, seed: int, points: int, kinds: Sequence[str] = KINDS, tell: Callable[[str], Any] = print) -> int:
    """Disturb so many runs; return the number of those that lost something."""
    rng = random.Random(seed)
    tell(f"seed {seed}, {points} points, in {folder}")
    job = Soak(folder=folder, rng=rng)
    job.prepare()
    tell(f"undisturbed: {job.seconds:.1f} s, {job.bytes / 1e6:.1f} MB")
    failures = 0
    for point in range(1, points + 1):
        # Each point has random numbers of its own, so that one can be repeated alone.
        job.rng = random.Random(f"{seed}/{point}")
        kind = kinds[(point - 1) % len(kinds)]
        run = folder / f"point{point:03d}"
        try:
            outcome = getattr(job, kind)(run)
        except Lost as loss:
            failures += 1
            tell(f"{point:3d} {kind:<10} LOST (kept in {run}): {loss}")
            continue
        tell(f"{point:3d} {kind:<10} {outcome}")
        shutil.rmtree(run, ignore_errors=True)
    tell(f"{points - failures} of {points} points lost nothing.")
    return failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--points", type=int, default=30)
    parser.add_argument("--only", choices=KINDS, action="append", help="Disturb in this way only.")
    parser.add_argument("--keep", type=Path, help="A new folder to work in, which is kept.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        return 1 if soak(folder.resolve(), options.seed, options.points, options.only or KINDS) else 0


if __name__ == "__main__":
    sys.exit(main())
