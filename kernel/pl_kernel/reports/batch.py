"""``pl batch``: one recipe on many data sets, a queue that can be interrupted, one page about all of them."""

from __future__ import annotations

import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs

from ..errors import InputError, PlError
from ..journal import RunFolder
from ..ms.selection import clean_file_name
from ..serialize import write_bytes_atomically, write_json
from . import trends
from .page import write_report


@attrs.frozen
class Job:
    """One run of a batch: its name and its data."""

    name: str
    data: tuple[Path, ...]


@attrs.frozen(kw_only=True)
class JobState:
    """How a run of a batch stands; ``status`` is waiting, done, failed, stopped or interrupted."""

    name: str
    status: str
    score: float | None = None
    worst: str = ""
    seconds: float = 0.0
    message: str = ""
    weblog: str = ""
    stages: tuple[tuple[str, float | None, float], ...] = ()


def read_list(path: Path) -> tuple[Job, ...]:
    """Read a list of runs: a line per run, ``[name:] path [path …]``; ``#`` begins a comment, quotes hold blanks.

    Raises
    ------
    InputError : no such file, a line without a path, a path that does not exist, or a name given twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"The list {path} cannot be read: {error.strerror}.") from None
    jobs: list[Job] = []
    for number, line in enumerate(lines, 1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise InputError(f"{path}, line {number}: {error}.") from None
        if not words:
            continue
        name = words.pop(0)[:-1] if words[0].endswith(":") else ""
        if not words:
            raise InputError(f"{path}, line {number} names no data.")
        data = tuple((path.parent / Path(word).expanduser()).resolve() for word in words)
        for item in data:
            if not item.exists():
                raise InputError(f"{path}, line {number}: {item} does not exist.")
        name = clean_file_name(name or data[0].name.removesuffix(".ms"))
        if any(job.name == name for job in jobs):
            raise InputError(
                f"{path}, line {number}: the name {name} is taken; write another before the path, '{name}-2: …'."
            )
        jobs.append(Job(name, data))
    if not jobs:
        raise InputError(f"{path} lists no data.")
    return tuple(jobs)


def run_batch(
    recipe: str, jobs: Sequence[Job], root: Path, *, options: Sequence[str] = (), side_by_side: int = 1,
    on_change: Callable[[JobState], None] = lambda _state: None,
) -> tuple[JobState, ...]:  # fmt: skip
    """Run or continue every job, each in a process and a folder of its own; return how all of them stand.

    What is done already is left alone; a run that was interrupted or failed is resumed.  The summary is written after
    every run.
    """
    root.mkdir(parents=True, exist_ok=True)
    states = {job.name: state_of(root, job.name) for job in jobs}
    _summarise(root, recipe, states.values())

    def work(job: Job) -> None:
        folder = root / job.name
        if states[job.name].status == "done":
            return
        words = ["run", recipe, *map(str, job.data), "-o", str(folder), *options]
        if RunFolder(folder).exists:
            words = ["resume", str(folder)]
        command = [sys.executable, "-m", "pl_kernel", *words, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        state = state_of(root, job.name)
        if state.status == "waiting":  # refused before a run folder was made
            last = done.stderr.strip().splitlines()[-1:] or ["it ended without a word"]
            state = JobState(name=job.name, status="failed", message=last[0].removeprefix("pl: "))
        states[job.name] = state
        on_change(state)
        _summarise(root, recipe, states.values())

    with ThreadPoolExecutor(max_workers=max(1, side_by_side)) as pool:
        for future in [pool.submit(work, job) for job in jobs]:
            future.result()
    return tuple(states.values())


def state_of(root: Path, name: str) -> JobState:
    """Return how one run of a batch stands, read from its folder."""
    folder = RunFolder(root / name)
    if not folder.exists:
        return JobState(name=name, status="waiting")
    try:
        record = folder.read_run()
        stages = [s for s in map(folder.read_stage, folder.stage_dirs()) if s is not None]
    except PlError as error:
        return JobState(name=name, status="failed", message=error.sentence)
    scored = [(s.score, f"{s.number}. {s.name}") for s in stages if s.score is not None]
    score, worst = min(scored, default=(None, ""))
    errors = [s.error.sentence for s in stages if s.error]
    return JobState(
        name=name, status="interrupted" if record.status == "running" else record.status, score=score, worst=worst,
        seconds=sum((s.ended - s.started).total_seconds() for s in stages), message=errors[-1] if errors else "",
        weblog=f"{name}/weblog/index.html" if (folder.root / "weblog/index.html").is_file() else "",
        stages=tuple((s.name, s.score, (s.ended - s.started).total_seconds()) for s in stages if s.done),
    )  # fmt: skip


def _summarise(root: Path, recipe: str, states: Iterable[JobState]) -> None:
    known = sorted(
        states, key=lambda s: (s.status == "waiting", s.status == "done", 2.0 if s.score is None else s.score)
    )
    write_json(root / "batch.json", {"recipe": recipe, "runs": known})
    finished = [s.seconds for s in known if s.status == "done"]
    counts = {
        "done": len(finished), "failed": sum(s.status == "failed" for s in known),
        "waiting": sum(s.status not in ("done", "failed") for s in known),
    }  # fmt: skip
    write_report(
        root / "index.html", "batch.html", name=root.resolve().name, recipe=recipe, runs=known, counts=counts,
        median=statistics.median(finished) if finished else None, stages=_by_stage(known),
    )  # fmt: skip
    runs = trends.read_runs(root, (state.name for state in known))
    write_report(root / "trends.html", "trends.html", name=root.resolve().name, runs=runs, trends=trends.trends(runs))
    write_bytes_atomically(root / "trends.csv", trends.as_csv(runs).encode())


def _by_stage(states: Iterable[JobState]) -> list[dict[str, Any]]:
    scores: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    for state in states:
        for name, score, spent in state.stages:
            seconds.setdefault(name, []).append(spent)
            if score is not None:
                scores.setdefault(name, []).append(score)
    rows = [
        {
            "name": name, "count": len(found), "lowest": min(found), "median": statistics.median(found),
            "low": sum(s < 0.9 for s in found), "seconds": statistics.median(seconds[name]),
        }
        for name, found in scores.items()
    ]  # fmt: skip
    return sorted(rows, key=lambda row: row["lowest"])
