"""Branching: a new run that shares the first stages of another and goes its own way from there."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs

from . import snapshots
from .casa.adapter import remove
from .compute import Worker
from .errors import InputError, UnknownName
from .journal import RunFolder, RunStep
from .params import resolve
from .plugins import Registry
from .recipe import BREAKPOINT
from .session import Session


def branch(
    source: Path | str, stage: int, target: Path | str, *, overrides: Mapping[str, Mapping[str, Any]] | None = None,
    plugins: Registry | None = None,
) -> Session:  # fmt: skip
    """Make a run that is what ``source`` was before ``stage``; return it, ready to run.

    Raw visibilities are shared as hard links (no stage writes them), the rest is copied.

    Raises
    ------
    InputError : the source has not come that far, works on data in place, or the target is not empty.
    """
    with Session.open(source, plugins=plugins) as old:
        folder = RunFolder(target)
        if folder.root == old.root or folder.root.is_relative_to(old.root):
            raise InputError("A branch needs a folder of its own, outside the run it comes from.")
        done = old.folder.done_stages()
        if not 1 <= stage <= len(done) + 1:
            raise InputError(f"{source} has {len(done)} finished stages; it cannot be branched before stage {stage}.")
        start = done[stage - 2][1].step + 1 if stage > 1 else 0
        steps = _with_overrides(old, start, overrides or {})
        outside = [ms.name for ms in old.context.measurement_sets if Path(ms.path).is_absolute()]
        if outside:
            raise InputError(f"{source} works on {outside[0]} in place; a branch would alter the same data.")
        while start < len(steps) and steps[start].stage == BREAKPOINT:
            start += 1
        record = attrs.evolve(
            old.folder.read_run(), name=folder.root.name, created=datetime.now(UTC), steps=steps, status="stopped",
            finished=None, branch_of=str(old.root), branch_at=stage, passed=start, token=uuid.uuid4().hex,
        )  # fmt: skip
        folder.check_free()
        with folder.locked():
            folder.check_free()
            folder.make_folders()
            try:
                _copy(old, folder, [path.name for path, _ in done[: stage - 1]])
                # Written last: a folder that was being copied when pl was killed is no run.
                folder.write_run(record)
            except OSError as error:
                _empty(folder)
                raise InputError(
                    f"The branch {folder.root} cannot be written: {(error.strerror or str(error)).lower()}."
                ) from None
            except BaseException:
                _empty(folder)
                raise
        registry = old.registry
    # What the stages left behind had altered is undone as for a run that was killed in them.
    return Session.open(folder.root, plugins=registry)


def _empty(folder: RunFolder) -> None:
    for entry in list(folder.root.iterdir()):
        if entry.name != ".lock":
            remove(entry)


def _with_overrides(old: Session, start: int, overrides: Mapping[str, Mapping[str, Any]]) -> tuple[RunStep, ...]:
    steps = []
    met = set()
    for index, step in enumerate(old.folder.read_run().steps):
        if index >= start and step.stage in overrides:
            step = attrs.evolve(step, user={**step.user, **overrides[step.stage]})
            resolve(old.registry.stage(step.stage).inputs_class, step.parameters, step.user, step.stage)
            met.add(step.stage)
        steps.append(step)
    for name in set(overrides) - met:
        raise UnknownName("stage", name, [s.stage for s in steps[start:]], " among the stages still to run")
    return tuple(steps)


def _copy(old: Session, folder: RunFolder, kept: list[str]) -> None:
    """Copy data and snapshots as they are now, and the records of the stages that are kept."""
    sets = {Path(ms.path).name: ms for ms in old.context.measurement_sets}
    names = {s.stage for s in old.folder.read_run().steps if s.stage != BREAKPOINT}
    # A stage nobody knows any more may alter raw data when it comes back.
    altered = any(n not in old.registry.stages or "data" in old.registry.stage(n).mutates for n in names)
    with Worker(folder.root / "worker.log") as worker:
        for entry in sorted(old.folder.work.iterdir()):
            place = folder.work / entry.name
            if entry.name in sets:
                shared: list[str] = []
                if not altered:
                    log = str(folder.root / "branch.log")
                    shared = worker.call(snapshots.files_of_columns, str(entry), snapshots.COLUMNS["data"], log)
                snapshots.copy_measurement_set(entry, place, shared)
            else:
                _copy_any(entry, place)
    for name in kept:
        _copy_any(old.folder.stages / name, folder.stages / name)
    for origin, target in ((old.folder.products, folder.products), (old.folder.snapshots, folder.snapshots)):
        for entry in sorted(origin.iterdir()) if origin.is_dir() else ():
            _copy_any(entry, target / entry.name)


def _copy_any(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True, copy_function=_clone)
    elif source.is_symlink():
        target.symlink_to(source.readlink())
    else:
        snapshots.clone(source, target)


def _clone(source: str, target: str) -> str:
    snapshots.clone(Path(source), Path(target))
    return target
