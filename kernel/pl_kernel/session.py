"""A run from the outside: create it, run a recipe or single stages, resume it, look at it."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import attrs

from . import conditions
from .attempt import StageOutcome
from .context import Context
from .environment import machine, versions
from .errors import InputError, JournalError, StageFailed, UnknownName
from .events import Event, EventBus, EventFile, Listener
from .journal import RunFolder, RunRecord, RunStep
from .ms.importers import recognise, required_space
from .params import resolve
from .plugins import Registry
from .plugins import registry as installed
from .recipe import BREAKPOINT, Recipe
from .runner import Runner


@attrs.frozen(kw_only=True)
class RunOutcome:
    """How a run ended: ``status`` is done, failed or stopped (at a breakpoint, or by hand: ``interrupted``)."""

    status: str
    stages: tuple[StageOutcome, ...] = ()
    message: str = ""
    interrupted: bool = False

    @property
    def score(self) -> float | None:
        """Worst score of all stages."""
        scores = [s.score for s in self.stages if s.score is not None]
        return min(scores) if scores else None


class Session:
    """One run folder, held under its lock until closed.

    Make one with ``Session.create`` or ``Session.open``; use it as a context manager.
    """

    def __init__(self, folder: RunFolder, record: RunRecord, plugins: Registry) -> None:
        self.folder = folder
        self.registry = plugins
        self.events = EventBus()
        self._record = record
        self._runner = Runner(folder, plugins, self.events, record)
        self._locks: list[Any] = []

    # ---- making and opening ----------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls, root: Path | str, recipe: Recipe | None = None, data: Iterable[Path | str] = (), *,
        overrides: Mapping[str, Mapping[str, Any]] | None = None, workers: int = 1,
        plugins: Registry | None = None, listeners: Iterable[Listener] = (),
    ) -> Session:  # fmt: skip
        """Make a run folder, after everything that can be checked now has been.

        Parameters
        ----------
        root : the run folder; must not exist or be empty.
        recipe : a bound recipe; without one, stages are run one by one.
        data : what to import.
        overrides : the user's values, by stage name and parameter.
        workers : processes for items that can run side by side.

        Raises
        ------
        InputError : unknown stage or parameter, bad value, missing or unreadable data, no space.
        RunLocked : another process works there.
        """
        plugins = plugins or installed()
        folder = RunFolder(root)
        paths = [Path(p).expanduser().resolve() for p in data]
        _check_data(paths, folder.root, plugins)
        steps = _steps(recipe, overrides or {}, paths, plugins)
        record = RunRecord(
            name=folder.root.name, recipe=_recipe_facts(recipe), needs=recipe.needs.intents if recipe else (),
            data=tuple(str(p) for p in paths), created=datetime.now(UTC),
            pl=versions(plugins.versions()), environment=machine(), steps=steps,
            options={"workers": int(workers)}, token=uuid.uuid4().hex,
        )  # fmt: skip
        folder.check_free()
        return cls._hold(folder, record, plugins, listeners, new=True)

    @classmethod
    def open(
        cls, root: Path | str, *, plugins: Registry | None = None, listeners: Iterable[Listener] = (),
        workers: int | None = None, before: int | None = None,
    ) -> Session:  # fmt: skip
        """Open a run folder to continue it.

        before : open it gone back to before this stage, as ``rewind`` does; damaged records from there on do no harm.

        Raises
        ------
        JournalError : it is no run folder, or damaged.
        InputError : the run has not come as far as ``before``.
        RunLocked : another process works there.
        """
        folder = RunFolder(root)
        record = folder.read_run()
        if workers is not None:
            record = attrs.evolve(record, options={**record.options, "workers": int(workers)})
        known = record.options.get("workers", 1)
        if not isinstance(known, int) or known < 1:
            raise JournalError(f"{folder.root / 'run.json'} is damaged: {known!r} is no number of workers.")
        return cls._hold(folder, record, plugins or installed(), listeners, new=False, before=before)

    @classmethod
    def _hold(
        cls, folder: RunFolder, record: RunRecord, plugins: Registry, listeners: Iterable[Listener], new: bool,
        before: int | None = None,
    ) -> Session:
        lock = folder.locked()
        lock.__enter__()
        try:
            if new:
                folder.create(record)
            else:
                record = attrs.evolve(folder.read_run(), options=record.options)  # now that nobody else writes it
            session = cls(folder, record, plugins)
            for listener in listeners:
                session.events.subscribe(listener)
            for observer in plugins.observers():
                session.events.subscribe(observer)
            session.events.subscribe(EventFile(folder.root / "events.jsonl"))
            session._locks.append(lock)
            session._runner.restore(before)
            if before is not None:
                session._tell_rewound(before)
            return session
        except BaseException:
            lock.__exit__(None, None, None)
            raise

    # ---- running -----------------------------------------------------------------------------------------------------

    @property
    def root(self) -> Path:
        return self.folder.root

    @property
    def workers(self) -> int:
        """Processes for items that can run side by side."""
        return int(self._record.options.get("workers", 1))

    @property
    def context(self) -> Context:
        return self._runner.context

    @property
    def stages(self) -> tuple[StageOutcome, ...]:
        """The stages that are done."""
        return tuple(self._runner.outcomes)

    def run(self, stop_after: str | int | None = None) -> RunOutcome:
        """Run the steps that are not done yet, up to the end, a breakpoint, a failure, or ``stop_after``."""
        return self._go(stop_after)

    resume = run

    def run_stage(self, name: str, **parameters: Any) -> StageOutcome:
        """Run one more stage with these parameters.

        Raises
        ------
        StageFailed : it ended without a result; the run stays as it was before, and the stage can be repeated.
        """
        cls = self.registry.stage(name)
        user = {k: v for k, v in parameters.items() if v is not None}
        resolve(cls.inputs_class, {}, user, name)
        self._runner.add(RunStep(stage=name, user=user))
        try:
            outcome = self._go(None)
        except BaseException:
            self._runner.drop_last()
            raise
        if outcome.status != "done":
            self._runner.drop_last()
            if outcome.interrupted:
                raise KeyboardInterrupt
            raise StageFailed(outcome.message)
        return outcome.stages[-1]

    def _go(self, stop_after: str | int | None) -> RunOutcome:
        self._runner.check(stop_after)
        self.events.emit(Event(kind="run_started", data={"root": str(self.root), "steps": len(self._runner.steps)}))
        try:
            status, message = self._runner.run(stop_after)
        except BaseException:
            self._runner.finish("failed")
            raise
        interrupted, status = status == "interrupted", "stopped" if status == "interrupted" else status
        unwritten = self._runner.finish(status)
        if unwritten and status == "done":
            status, message = "failed", unwritten
        outcome = RunOutcome(status=status, stages=self.stages, message=message, interrupted=interrupted)
        self.events.emit(
            Event(kind="run_finished", data={"status": status, "message": message, "score": outcome.score})
        )
        return outcome

    def use_scheduler(self, address: str) -> None:
        """Run items that can run side by side on the Dask scheduler at this address.

        Raises
        ------
        InputError : Dask is not installed, or nobody answers there.
        """
        from .compute.dask import connect

        connect(address).close()
        self._runner.scheduler = address

    def rewind(self, stage: int) -> None:
        """Go back to before a stage: data, calibration and context are again what that stage saw.

        The records of the stages left behind are kept in ``attempts``; ``run`` goes on with the stage.

        Raises
        ------
        InputError : the run has not come that far.
        """
        self._runner.rewind(stage)
        self._tell_rewound(stage)

    def _tell_rewound(self, stage: int) -> None:
        self.events.emit(Event(kind="rewound", stage_number=stage, data={"message": f"back to before stage {stage}"}))

    # ---- ending ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End the worker and release the lock."""
        self._runner.close()
        while self._locks:
            self._locks.pop().__exit__(None, None, None)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _recipe_facts(recipe: Recipe | None) -> dict[str, str]:
    if recipe is None:
        return {"name": "", "title": "Stage by stage", "file": ""}
    return {"name": recipe.name, "title": recipe.title, "file": str(recipe.source or "")}


def _steps(
    recipe: Recipe | None, overrides: Mapping[str, Mapping[str, Any]], data: list[Path], plugins: Registry
) -> tuple[RunStep, ...]:
    """Merge recipe, data and the user's values, and check every stage and parameter."""
    steps = []
    used: set[str] = set()
    for step in recipe.steps if recipe else ():
        if step.stage == BREAKPOINT:
            steps.append(RunStep(stage=BREAKPOINT))
            continue
        cls = plugins.stage(step.stage)
        user = dict(overrides.get(step.stage, {}))
        used.add(step.stage)
        if cls.takes_data and data and "vis" not in user:
            user["vis"] = [str(p) for p in data]
        if step.when:
            conditions.parse(step.when)
        resolve(cls.inputs_class, step.parameters, user, step.stage)
        steps.append(RunStep.of(step, user))
    for name in overrides:
        if name not in used and recipe is not None:
            raise UnknownName("stage", name, used, f" in recipe {recipe.name}")
    return tuple(steps)


def _check_data(paths: list[Path], root: Path, plugins: Registry) -> None:
    importers = {i.kind for i in plugins.importers}
    needed = 0
    for path in paths:
        if paths.count(path) > 1:
            raise InputError(f"{path} is given twice.")
        found = recognise(path)
        if found.kind not in importers:
            raise InputError(
                f"{path} is a {found.kind}, for which no importer is installed "
                f"(there are: {', '.join(sorted(importers))})."
            )
        needed += required_space(path)
    place = root
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        raise InputError(
            f"There is not enough space for the run in {place}: about {needed / 1e9:.2g} GB are needed, "
            f"{free / 1e9:.2g} GB are free."
        )
