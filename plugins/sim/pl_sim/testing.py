"""pytest fixtures: simulated sets, made once and kept in the user's cache under a hash of what made them.

With pl-sim installed, pytest knows the fixture:

    def test_dead_antenna_is_flagged(simulated):
        vis = simulated("vla-c-cont-d", faults=["dead-antenna=ea05"])
        ...
        assert Truth.load(vis).faults["dead-antenna"]["antenna"] == "ea05"

The cache is `$PL_SIM_CACHE`, or `pl-sim` in the user's cache folder; sets unused for longest go first when it outgrows
`CACHE_BYTES`.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from filelock import FileLock

CACHE_BYTES = 3_000_000_000


def cache_folder() -> Path:
    """Where sets are kept."""
    import platformdirs

    return Path(os.environ.get("PL_SIM_CACHE") or platformdirs.user_cache_path("pl-sim")) / "sets"


@functools.cache
def source_hash() -> str:
    """Hash of the simulator's code: a set made by other code is another set."""
    digest = hashlib.sha256()
    folder = Path(__file__).parent
    for file in sorted(folder.rglob("*.py")):
        if file.name not in ("testing.py", "cli.py", "plugin.py", "compare.py"):
            digest.update(str(file.relative_to(folder)).encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def cached_simulation(
    preset: str, *, scale: str = "tiny", seed: int = 1, faults: Sequence[str] = (), block: int = 0
) -> Path:
    """A simulated set in the cache, made if it is not there. Not to be changed: copy it (with its truth) first."""
    key = hashlib.sha256("\n".join([source_hash(), preset, scale, str(seed), str(block), *faults]).encode()).hexdigest()
    folder = cache_folder() / key[:24]
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder / f"{preset}.ms"
    with FileLock(f"{folder}.lock"):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _prune(folder.parent)
            # Elsewhere first, so that an interrupted run leaves nothing that looks like a set.
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix="making-") as scratch:
                _run(preset, scale, seed, tuple(faults), block, Path(scratch) / path.name)
                folder.mkdir()
                for part in Path(scratch).iterdir():
                    part.rename(folder / part.name)
            (folder / "complete").write_text(f"{preset} {scale} seed {seed} {' '.join(faults)}\n")
        os.utime(folder / "complete")
    return path


def _run(preset: str, scale: str, seed: int, faults: tuple[str, ...], block: int, path: Path) -> None:
    from pl_kernel.compute import Worker

    with Worker() as worker:
        worker.call(make_set, preset, scale, seed, faults, block, str(path))


def make_set(preset: str, scale: str, seed: int, faults: tuple[str, ...], block: int, path: str) -> None:
    """Simulate one block of a preset; for a worker process, since this imports CASA."""
    from pl_sim.engine import simulate
    from pl_sim.presets import get_preset

    simulate(get_preset(preset).observations(scale)[block], path, seed=seed, faults=faults)


def _prune(folder: Path) -> None:
    kept = sorted((f for f in folder.glob("*/complete")), key=lambda f: f.stat().st_mtime, reverse=True)
    total = 0
    for mark in kept:
        total += sum(f.stat().st_size for f in mark.parent.rglob("*") if f.is_file())
        # Never one that a test of this hour may be reading.
        if total > CACHE_BYTES and time.time() - mark.stat().st_mtime > 3600:
            shutil.rmtree(mark.parent, ignore_errors=True)


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Path]]:
    """A function (preset, scale="tiny", seed=1, faults=(), block=0, copy=True) -> path of a simulated set.

    Each call gives a fresh copy with its truth beside it; with copy=False, the shared one, which must not be changed.
    """

    def make(
        preset: str,
        *,
        scale: str = "tiny",
        seed: int = 1,
        faults: Sequence[str] = (),
        block: int = 0,
        copy: bool = True,
    ) -> Path:
        path = cached_simulation(preset, scale=scale, seed=seed, faults=faults, block=block)
        if not copy:
            return path
        folder = tmp_path_factory.mktemp(preset.replace("-", "_"))
        for name in (path.name, f"{path.name}.truth"):
            shutil.copytree(path.parent / name, folder / name)
        return folder / path.name

    yield make
