"""The run folder: what is written where, atomically, under a lock; and how to find the place to continue.

A stage is done when its ``stage.json``, written last, says so.  Everything else about a run follows from these files.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs
import filelock

from .errors import InputError, JournalError, PlError, RunLocked
from .ms.selection import clean_file_name
from .recipe import Step
from .serialize import from_json, read_json, write_json

FORMAT = 1
DONE = ("ok", "skipped")
_STAGE_FOLDER = re.compile(r"^(\d{3,})-([A-Za-z0-9_.+-]+)$")


@attrs.frozen(kw_only=True)
class RunStep:
    """A step of a run: the stage, what the recipe says, what the user says, and on which condition."""

    stage: str
    parameters: dict[str, Any] = attrs.field(factory=dict)
    user: dict[str, Any] = attrs.field(factory=dict)
    when: str = ""

    @classmethod
    def of(cls, step: Step, user: dict[str, Any] | None = None) -> RunStep:
        return cls(stage=step.stage, parameters=dict(step.parameters), user=dict(user or {}), when=step.when)


@attrs.frozen(kw_only=True)
class RunRecord:
    """Content of ``run.json``."""

    format: int = FORMAT
    name: str
    recipe: dict[str, str] = attrs.field(factory=dict)
    needs: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    created: datetime
    pl: dict[str, Any] = attrs.field(factory=dict)
    steps: tuple[RunStep, ...] = ()
    options: dict[str, Any] = attrs.field(factory=dict)
    status: str = "running"
    finished: datetime | None = None
    branch_of: str = ""
    branch_at: int = 0


@attrs.frozen(kw_only=True)
class StageError:
    """Why a stage has no result: one sentence, and what a developer wants to see."""

    sentence: str
    detail: str = ""


@attrs.frozen(kw_only=True)
class StageRecord:
    """Content of ``stage.json``; ``status`` is ok, skipped, failed or interrupted.

    ``work`` and ``products`` list what lay in these folders when the stage had ended, so that an interrupted later
    stage can be cleaned away.
    """

    number: int
    step: int
    name: str
    title: str = ""
    topic: str = "misc"
    status: str
    error: StageError | None = None
    score: float | None = None
    started: datetime
    ended: datetime
    plugin: str = ""
    work: tuple[str, ...] = ()
    products: tuple[str, ...] = ()

    @property
    def done(self) -> bool:
        return self.status in DONE


class RunFolder:
    """Paths and files of one run."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).resolve()

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def products(self) -> Path:
        return self.root / "products"

    @property
    def stages(self) -> Path:
        return self.root / "stages"

    @property
    def snapshots(self) -> Path:
        return self.root / "snapshots"

    @property
    def exists(self) -> bool:
        return (self.root / "run.json").is_file()

    # ---- creating and locking ------------------------------------------------------------------------------------

    def create(self, record: RunRecord) -> None:
        """Make the folders and write ``run.json``.

        Raises
        ------
        InputError : the folder exists and is not empty, or cannot be made.
        """
        if self.exists:
            raise InputError(f"{self.root} holds a run already; continue it with: pl resume {self.root}")
        try:
            if self.root.is_dir() and any(p.name not in (".lock", ".lock.owner") for p in self.root.iterdir()):
                raise InputError(f"The run folder {self.root} is not empty; choose another with -o.")
            for folder in (self.root, self.work, self.products, self.stages):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"The run folder {self.root} cannot be made: {error.strerror}.") from None
        self.write_run(record)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run's lock; the system releases it when the process ends, however it ends.

        Raises
        ------
        RunLocked : another process holds it.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.root / ".lock")
        owner = self.root / ".lock.owner"
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            with contextlib.suppress(OSError):
                raise RunLocked(
                    f"Another pl (process {owner.read_text().strip()}) works in {self.root}; wait for it or stop it."
                ) from None
            raise RunLocked(f"Another pl works in {self.root}; wait for it or stop it.") from None
        try:
            with contextlib.suppress(OSError):
                owner.write_text(str(os.getpid()))
            yield
        finally:
            lock.release()

    # ---- the run ---------------------------------------------------------------------------------------------------

    def write_run(self, record: RunRecord) -> None:
        write_json(self.root / "run.json", record)

    def read_run(self) -> RunRecord:
        """Read ``run.json``.

        Raises
        ------
        JournalError : this is no run folder, or one of a newer pl.
        """
        if not self.exists:
            raise JournalError(f"{self.root} is no run folder: it has no run.json.")
        record = from_json(read_json(self.root / "run.json"), RunRecord)
        if record.format != FORMAT:
            raise JournalError(f"{self.root} was written in format {record.format}; this pl reads format {FORMAT}.")
        return record

    # ---- stages ----------------------------------------------------------------------------------------------------

    def stage_dir(self, number: int, name: str) -> Path:
        return self.stages / f"{number:03d}-{clean_file_name(name)}"

    def stage_dirs(self) -> list[Path]:
        """Return the stage folders in order; links are not followed."""
        if not self.stages.is_dir():
            return []
        found = [p for p in self.stages.iterdir() if _STAGE_FOLDER.match(p.name) and p.is_dir() and not p.is_symlink()]
        return sorted(found, key=lambda p: int(p.name.partition("-")[0]))

    def snapshot_dirs(self) -> list[Path]:
        """Return the snapshots taken before stages, in order of the stages."""
        if not self.snapshots.is_dir():
            return []
        found = [p for p in self.snapshots.iterdir() if p.name.isdigit() and p.is_dir() and not p.is_symlink()]
        return sorted(found, key=lambda p: int(p.name))

    def read_stage(self, folder: Path) -> StageRecord | None:
        """Return a stage's record; None when the stage never ended."""
        if not (folder / "stage.json").is_file():
            return None
        return from_json(read_json(folder / "stage.json"), StageRecord)

    def done_stages(self) -> list[tuple[Path, StageRecord]]:
        """Return the stages that are done, up to the first that is not.

        Raises
        ------
        JournalError : a record is unreadable; the sentence says which stage to repeat.
        """
        done: list[tuple[Path, StageRecord]] = []
        for folder in self.stage_dirs():
            try:
                record = self.read_stage(folder)
                if record is not None and record.status == "ok":
                    read_json(folder / "result.json")
            except PlError as error:
                raise JournalError(
                    f"The record of stage {folder.name} is damaged ({error.sentence}); remove {folder} and everything "
                    f"after it, then pl resume repeats from there."
                ) from None
            if record is None or not record.done:
                break
            if record.number != len(done) + 1:
                raise JournalError(f"{self.root} has no stage {len(done) + 1}, but a stage {record.number}.")
            done.append((folder, record))
        return done

    def set_aside(self, folder: Path) -> None:
        """Move the folder of an attempt that failed out of the way; its records stay readable."""
        if not folder.exists():
            return
        attempts = self.root / "attempts"
        attempts.mkdir(exist_ok=True)
        count = 1
        while (attempts / f"{folder.name}.{count}").exists():
            count += 1
        folder.rename(attempts / f"{folder.name}.{count}")

    def listing(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the names that lie in work and products now."""
        return (
            tuple(sorted(p.name for p in self.work.iterdir())),
            tuple(sorted(p.name for p in self.products.iterdir())),
        )
