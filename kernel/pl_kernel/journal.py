"""The run folder: what is written where, atomically, under a lock; and how to find the place to continue.

A stage is done when its ``stage.json``, written last, says so.  Everything else about a run follows from these files.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs
import filelock

from .errors import InputError, JournalError, PlError, RunLocked
from .inside import refuse_links
from .ms.selection import clean_file_name
from .recipe import Step
from .serialize import read_json, write_json

FORMAT = 1
DONE = ("ok", "skipped")
_STAGE_FOLDER = re.compile(r"^(\d{3,})-([A-Za-z0-9_.+-]+)$")
_LOCK_SECONDS = 1.0  # somebody who only looks whether the run is held lets go at once
_WORKER_SECONDS = 10.0
_BUSY = ".busy"


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
    """Content of ``run.json``.

    ``passed`` counts the steps up to and with the last breakpoint at which the run stopped; ``token`` is written
    beside data that are used in place, and shows that they were given to this run.
    """

    format: int = FORMAT
    name: str
    recipe: dict[str, str] = attrs.field(factory=dict)
    needs: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    created: datetime
    pl: dict[str, Any] = attrs.field(factory=dict)
    environment: dict[str, str] = attrs.field(factory=dict)
    steps: tuple[RunStep, ...] = ()
    options: dict[str, Any] = attrs.field(factory=dict)
    status: str = "running"
    finished: datetime | None = None
    branch_of: str = ""
    branch_at: int = 0
    passed: int = 0
    token: str = ""


@attrs.frozen(kw_only=True)
class StageError:
    """Why a stage has no result: one sentence, and what a developer wants to see."""

    sentence: str
    detail: str = ""


@attrs.frozen(kw_only=True)
class StageRecord:
    """Content of ``stage.json``; ``status`` is ok, skipped, failed or interrupted.

    ``work`` and ``products`` list what lay in these folders when the stage had ended, so that an interrupted later
    stage can be cleaned away.  ``snapshot`` names the measurement sets of which there is a snapshot before the stage,
    ``root`` is where the run folder was then.
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
    version: str = ""
    root: str = ""
    snapshot: tuple[str, ...] = ()
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
        self.check_free()
        self.make_folders()
        self.write_run(record)

    def make_folders(self) -> None:
        """Make the folders of a run.

        Raises
        ------
        InputError : they cannot be made.
        """
        try:
            for folder in (self.root, self.work, self.products, self.stages):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"The run folder {self.root} cannot be made: {error.strerror}.") from None

    def check_free(self) -> None:
        """Refuse a folder that holds a run or anything else.

        Raises
        ------
        InputError : it does, or cannot be looked at.
        """
        try:
            if self.exists:
                raise InputError(f"{self.root} holds a run already; continue it with: pl resume {self.root}")
            ours = (".lock", ".lock.owner", _BUSY)
            if self.root.is_dir() and any(p.name not in ours for p in self.root.iterdir()):
                raise InputError(f"The run folder {self.root} is not empty; choose another with -o.")
        except OSError as error:
            raise InputError(f"The run folder {self.root} cannot be made: {error.strerror}.") from None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run's lock; the system releases it when the process ends, however it ends.

        Raises
        ------
        RunLocked : another process holds it, or a worker of one that has ended is still at work.
        JournalError : a link in the folder leads out of it.
        InputError : the folder cannot be written.
        """
        if self.root.is_dir():
            refuse_links(self.root)
        lock = filelock.FileLock(self.root / ".lock")
        owner = self.root / ".lock.owner"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=_LOCK_SECONDS)
        except filelock.Timeout:
            with contextlib.suppress(OSError):
                raise RunLocked(
                    f"Another pl (process {owner.read_text().strip()}) works in {self.root}; wait for it or stop it."
                ) from None
            raise RunLocked(f"Another pl works in {self.root}; wait for it or stop it.") from None
        except OSError as error:
            raise InputError(f"The run folder {self.root} cannot be written: {error.strerror}.") from None
        try:
            with contextlib.suppress(OSError):
                owner.write_text(str(os.getpid()))
            self._wait_for_workers()
            yield
        finally:
            lock.release()

    def is_held(self) -> bool:
        """Whether a process works in the run; asking does not disturb it."""
        lock = filelock.FileLock(self.root / ".lock")
        try:
            if not (self.root / ".lock").is_file():
                return False
            lock.acquire(timeout=0)
        except filelock.Timeout:
            return True
        except OSError:  # somebody else's run, which cannot be locked by us
            return False
        lock.release()
        return False

    def _wait_for_workers(self) -> None:
        """Wait until no worker of a pl that was killed is at work here any more."""
        try:
            handle = os.open(self.root / _BUSY, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError:
            return  # a full disk is reported by what is written next
        try:
            deadline = time.monotonic() + _WORKER_SECONDS
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return
                except OSError as error:
                    if error.errno not in (errno.EAGAIN, errno.EACCES):
                        return  # a file system without locks
                if time.monotonic() > deadline:
                    raise RunLocked(
                        f"A worker of a pl that has ended is still at work in {self.root}; wait for it or stop it."
                    )
                time.sleep(0.1)
        finally:
            os.close(handle)

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
        record = read_json(self.root / "run.json", RunRecord)
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
        return read_json(folder / "stage.json", StageRecord)

    def done_stages(self, up_to: int | None = None) -> list[tuple[Path, StageRecord]]:
        """Return the stages that are done, up to the first that is not, or to stage number ``up_to``.

        Raises
        ------
        JournalError : a record is unreadable; the sentence says which stage to repeat.
        """
        done: list[tuple[Path, StageRecord]] = []
        for folder in self.stage_dirs():
            if up_to is not None and number_of(folder) > up_to:
                break
            try:
                record = self.read_stage(folder)
                if record is not None and record.status == "ok":
                    read_object(folder / "result.json")
            except PlError as error:
                raise damaged(folder, error) from None
            if record is None or not record.done:
                break
            if record.number != len(done) + 1:
                raise JournalError(f"{self.root} has no stage {len(done) + 1}, but a stage {record.number}.")
            done.append((folder, record))
        return done

    def set_aside(self, folder: Path) -> None:
        """Move the folder of an attempt that failed out of the way; its records stay readable."""
        if not os.path.lexists(folder):
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


@contextlib.contextmanager
def busy(root: Path) -> Iterator[None]:
    """Say, in a worker, that it changes the run: nobody continues the run before it is done or dead.

    A worker usually ends with its pl, but an item on a cluster, or one that the system holds, does not.
    """
    try:
        handle = os.open(root / _BUSY, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError:
        yield
        return
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object; an absent one is empty.

    Raises
    ------
    JournalError : it holds something else.
    PlError : it is damaged.
    """
    if not path.is_file():
        return {}
    content = read_json(path)
    if not isinstance(content, dict):
        raise JournalError(f"{path} is damaged: it holds no object.")
    return content


def number_of(folder: Path) -> int:
    """Return the number of the stage whose record this folder holds."""
    return int(folder.name.partition("-")[0])


def damaged(folder: Path, error: PlError) -> JournalError:
    """Return the error that says which stage to repeat."""
    return JournalError(
        f"The record of stage {folder.name} is damaged ({error.sentence.rstrip('.')}); go back to before it with "
        f"'pl rewind {folder.parent.parent} {number_of(folder)}', then pl resume repeats from there."
    )
