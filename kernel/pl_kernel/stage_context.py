"""What a stage sees while it runs: the run's context (frozen), CASA (recorded), its folders, its log, ``map``.

Everything here lives in a worker process.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from . import snapshots
from .calibration import CalApplication, CalLibrary
from .casa import CallRecord, Casa, Files, LogRecord, Recorder
from .casa.adapter import remove
from .compute import serve
from .compute.pool import Pool
from .context import Context
from .effects import Effect, fold
from .errors import InputError, PlError, UnknownName, WorkerDied
from .journal import busy
from .ms.datatypes import DataType, of_first_type
from .ms.importers import Importer, Recognised, recognise
from .ms.model import MeasurementSet
from .ms.selection import clean_file_name
from .ms.telescopes import Telescope, find_telescope
from .plugins import Registry, registry
from .stage import ItemFailure

if TYPE_CHECKING:
    from .compute.dask import DaskPool

PAGES = "pages"
"""What a stage asks the runner: to wait until the pages of the stages before are drawn."""


_LONGEST_NAME = 180


@attrs.frozen
class StageLog:
    """Notes a stage leaves for the web log's reader; info is for the curious, attention and above are shown first."""

    _recorder: Recorder
    _origin: str

    def info(self, message: str) -> None:
        self._recorder.log(LogRecord(level="info", message=message, origin=self._origin))

    def attention(self, message: str) -> None:
        self._recorder.log(LogRecord(level="attention", message=message, origin=self._origin))

    def warning(self, message: str) -> None:
        self._recorder.log(LogRecord(level="warning", message=message, origin=self._origin))

    def error(self, message: str) -> None:
        self._recorder.log(LogRecord(level="error", message=message, origin=self._origin))


@attrs.frozen
class Place:
    """Where a stage works; plain data that travels to item workers."""

    stage_name: str
    stage_number: int
    work: Path
    stage_dir: Path
    products: Path


class ItemContext:
    """What one item of ``ctx.map`` gets: CASA, files and log, all recorded for the stage."""

    def __init__(self, place: Place, recorder: Recorder, logfile: Path) -> None:
        self._place = place
        self._recorder = recorder
        self.casa = Casa(recorder, logfile)
        self.files = Files(recorder)
        self.log = StageLog(recorder, place.stage_name)

    @property
    def stage_name(self) -> str:
        return self._place.stage_name

    @property
    def stage_number(self) -> int:
        return self._place.stage_number

    @property
    def stage_dir(self) -> Path:
        """Folder of this stage's records, ``stages/NNN-name``."""
        return self._place.stage_dir

    @property
    def work(self) -> Path:
        """Folder of measurement sets, caltables and images; the current folder of the process."""
        return self._place.work

    @property
    def products(self) -> Path:
        """Folder of what is delivered."""
        return self._place.products

    def path(self, ms: MeasurementSet | str, *parts: object, ext: str = "tbl") -> str:
        """Return a file name in the work folder that holds measurement set (or any stem), stage and parts."""
        stem = ms if isinstance(ms, str) else ms.name
        stem = stem[:-3] if stem.endswith(".ms") else stem
        pieces = [stem, self.stage_name, f"s{self.stage_number}", *(str(p) for p in parts if str(p)), ext]
        name = ".".join(clean_file_name(piece) for piece in pieces if piece)
        if len(name) <= _LONGEST_NAME:
            return name
        # CASA appends to names (.image.pbcor.tt0), and file systems end at 255 bytes.
        digest = hashlib.sha256("\0".join(pieces).encode("utf-8", "surrogatepass")).hexdigest()[:12]
        ending = f".s{self.stage_number}.{digest}.{clean_file_name(ext)}" if ext else f".s{self.stage_number}.{digest}"
        return name[: _LONGEST_NAME - len(ending)].rstrip(".") + ending

    @contextlib.contextmanager
    def flags_restored(self, ms: MeasurementSet | str) -> Iterator[None]:
        """Restore the flags of a measurement set afterwards, whatever happens inside: for trial calibrations."""
        path = ms if isinstance(ms, str) else ms.path
        version = f"trial_s{self.stage_number}"
        self.casa.flagmanager(vis=path, mode="save", versionname=version)
        try:
            yield
        finally:
            self.casa.flagmanager(vis=path, mode="restore", versionname=version)
            self.casa.flagmanager(vis=path, mode="delete", versionname=version)


@attrs.frozen(kw_only=True)
class HeuristicChoice:
    """Which implementation answered for a slot, and on which facts."""

    slot: str
    origin: str
    facts: Mapping[str, Any]


class StageContext(ItemContext):
    """The whole context of a stage.  It reads the run, and changes nothing of it: results carry effects."""

    def __init__(
        self, place: Place, context: Context, recorder: Recorder, logfile: Path, *, workers: int = 1,
        scheduler: str = "", plugins: Registry | None = None,
    ) -> None:  # fmt: skip
        super().__init__(place, recorder, logfile)
        self.context = context
        self.registry = plugins or registry()
        self.workers = workers
        self.scheduler = scheduler
        self.choices: list[HeuristicChoice] = []
        self._logfile = logfile
        self._items = 0

    # ---- the run -------------------------------------------------------------------------------------------------

    def wait_for_pages(self) -> None:
        """Wait until the pages of the stages before are drawn: call this before the web log is read."""
        serve.ask(PAGES)

    @property
    def calibration(self) -> CalLibrary:
        """The calibration library of the run (or of this ``what_if``)."""
        return self.context.calibration

    @property
    def telescopes(self) -> tuple[Telescope, ...]:
        return self.registry.telescopes

    def telescope(self, ms: MeasurementSet | str) -> Telescope:
        """Return the description of a measurement set's telescope; a generic one if no plugin knows it."""
        return find_telescope(ms if isinstance(ms, str) else ms.telescope, self.telescopes)

    def measurement_sets(
        self, vis: Iterable[str] | str | None = None, types: Iterable[DataType] | None = None
    ) -> tuple[MeasurementSet, ...]:
        """Return the measurement sets named, or all of the first data type of ``types`` that any has, or all.

        Raises
        ------
        UnknownName : a name that the run does not know.
        InputError : the run has no measurement set yet.
        """
        if vis:
            names = [vis] if isinstance(vis, str) else list(vis)
            return tuple(self.context.measurement_set(Path(name).name) for name in names)
        known = self.context.measurement_sets
        if not known:
            raise InputError(
                f"Stage {self.stage_name} needs a measurement set, and the run has none yet: "
                "begin with an import stage."
            )
        return tuple(of_first_type(known, tuple(types))) if types is not None else known

    def value(self, key: str, default: Any = None) -> Any:
        """Return a value that an earlier stage left with ``SetValue``."""
        return self.context.values.get(key, default)

    def importer_for(self, path: Path | str) -> tuple[Importer, Recognised]:
        """Return the importer for a path, recognised by its content.

        Raises
        ------
        InputError : the path is absent, unreadable or of a kind nobody imports.
        """
        found = recognise(Path(path))
        for importer in self.registry.importers:
            if importer.kind == found.kind:
                return importer, found
        kinds = ", ".join(sorted(i.kind for i in self.registry.importers))
        raise InputError(f"{path} is a {found.kind}, for which no importer is installed (there are: {kinds}).")

    def heuristic(self, slot: str, **facts: object) -> Callable[..., Any]:
        """Return the implementation of a slot that fits best; facts default to telescope and band of the run."""
        known = {**self.context.facts(), **facts}
        choice = self.registry.slots(slot).choose(slot, known)
        self.choices.append(HeuristicChoice(slot=slot, origin=choice.origin, facts=known))
        return choice.function

    def what_if(self, *applications: CalApplication) -> StageContext:
        """Return a context whose calibration library holds these as well; the run's library stays as it is."""
        library = self.context.calibration
        for application in applications:
            library = library.add(application)
        return self._with(attrs.evolve(self.context, calibration=library))

    def with_calibration(self, library: CalLibrary) -> StageContext:
        """Return a context with a calibration library of its own."""
        return self._with(attrs.evolve(self.context, calibration=library))

    def after(self, effects: Iterable[Effect]) -> StageContext:
        """Return a context as the run will be when these effects hold, for a stage that works on what it just made."""
        return self._with(fold(self.context, effects))

    def _with(self, context: Context) -> StageContext:
        other = StageContext(
            self._place, context, self._recorder, self._logfile, workers=self.workers, scheduler=self.scheduler,
            plugins=self.registry,
        )  # fmt: skip
        other.casa, other.choices = self.casa, self.choices
        return other

    # ---- work ----------------------------------------------------------------------------------------------------

    def progress(self, done: float, total: float, message: str = "") -> None:
        """Tell how far the stage is."""
        serve.send(("progress", {"done": done, "total": total, "message": message}))

    def map(
        self, function: Callable[..., Any], items: Iterable[Any], *args: Any, label: str = "",
        on_error: str = "raise",
    ) -> list[Any]:  # fmt: skip
        """Call ``function(ctx_item, item, *args)`` for every item; return the answers in the order of the items.

        Serial, or side by side in worker processes when the run has several; the numbers are the same.  ``function``
        is defined at module level.  ``on_error="collect"`` puts an ItemFailure in the place of an answer that failed.
        """
        if on_error not in ("raise", "collect"):
            raise ValueError(f"ctx.map takes on_error='raise' or 'collect', not {on_error!r}")
        todo = list(items)
        answers: list[Any] = []
        if self._is_parallel and len(todo) > 1:
            answers = self._side_by_side(run_item, [(function, item, args) for item in todo], todo, label)
        else:
            ctx_item = ItemContext(self._place, self._recorder, self._logfile)
            ctx_item.casa = self.casa
            for count, item in enumerate(todo, 1):
                try:
                    answers.append(function(ctx_item, item, *args))
                except Exception as error:
                    if on_error == "raise":
                        raise
                    answers.append(error)
                self.progress(count, len(todo), label)
        failed = [(item, a) for item, a in zip(todo, answers, strict=True) if isinstance(a, Exception)]
        if failed and on_error == "raise":
            raise failed[0][1]
        return [
            ItemFailure(_item_name(item), str(answer)) if isinstance(answer, Exception) else answer
            for item, answer in zip(todo, answers, strict=True)
        ]

    def map_sets(
        self, function: Callable[..., Any], sets: Sequence[Any], *args: Any, label: str = ""
    ) -> list[Any]:
        """Call ``function(ctx, ms, *args)`` for every measurement set, with a whole context; answers in their order.

        Side by side in worker processes when the run has several.  A set whose worker dies is put back to what the
        stage found, and tried once more elsewhere.  The first error in the order of the sets is raised.  An import
        stage maps whatever describes a set to come.
        """
        if not self._is_parallel or len(sets) < 2:
            return [function(self, ms, *args) for ms in sets]
        # A context of its own for each: what it asks for side by side is done by its process alone.
        answers = self._side_by_side(run_set, [(function, self.context, ms, args) for ms in sets], sets, label)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        for _, choices in answers:
            self.choices += choices
        return [answer for answer, _ in answers]

    def warm_up(self) -> None:
        """Import CASA, in the item workers of this machine as well: all at once, before the first stage needs it."""
        if self.workers > 1 and not self.scheduler:
            pool = _shared_pool(self.workers, "", self._items_log)
            assert isinstance(pool, Pool)
            pool.warm(import_casa, self._items_log)
            with contextlib.suppress(PlError):  # without CASA, the stages that need it will say so
                self.casa.start()

    @property
    def _items_log(self) -> Path:
        return self.stage_dir.parent.parent / "work-items.log"

    @property
    def _is_parallel(self) -> bool:
        return self.workers > 1 or bool(self.scheduler)

    def _side_by_side(
        self, run: Callable[..., Any], todo: Sequence[tuple[Any, ...]], items: Sequence[Any], label: str
    ) -> list[Any]:
        """Have item workers call ``run`` for every entry of ``todo``; take over what they recorded, in order."""
        pool = _shared_pool(self.workers, self.scheduler, self._items_log)
        folder = self.stage_dir / "items"
        folder.mkdir(exist_ok=True)
        logs = [folder / f"{number:05d}.log" for number in range(self._items + 1, self._items + len(todo) + 1)]
        self._items += len(todo)
        outcomes = pool.map(
            run, [(self._place, log, *job) for log, job in zip(logs, todo, strict=True)],
            [_item_name(item) for item in items], lambda count: self.progress(count, len(todo), label),
        )  # fmt: skip
        answers = []
        for log, outcome in zip(logs, outcomes, strict=True):
            if log.exists():
                with log.open("rb") as part, self._logfile.open("ab") as whole:
                    shutil.copyfileobj(part, whole)
                log.unlink()
            if isinstance(outcome, WorkerDied):
                outcome = WorkerDied(f"Stage {self.stage_name}: {outcome.sentence}", detail=outcome.detail)
            if isinstance(outcome, Exception):
                answers.append(outcome)
                continue
            answer, calls, records = outcome
            self._recorder.absorb(calls, records)
            answers.append(answer)
        return answers


def import_casa(logfile: Path) -> None:
    """Import CASA, which takes seconds."""
    Casa(Recorder(), logfile).start()


def run_item(
    place: Place, logfile: Path, function: Callable[..., Any], item: Any, args: tuple[Any, ...]
) -> tuple[Any, list[CallRecord], list[LogRecord]]:
    """Run one item in an item worker; an exception of the item is an answer, so that its records are kept."""
    recorder = Recorder()
    ctx = ItemContext(place, recorder, logfile)
    answer = _answer(place, lambda: function(ctx, item, *args))
    return answer, recorder.calls, recorder.logs


def run_set(
    place: Place, logfile: Path, function: Callable[..., Any], context: Context, ms: Any,
    args: tuple[Any, ...],
) -> tuple[Any, list[CallRecord], list[LogRecord]]:  # fmt: skip
    """Run one measurement set in an item worker; the answer comes with the heuristics that were chosen."""
    recorder = Recorder()
    ctx = StageContext(place, context, recorder, logfile)

    def work() -> tuple[Any, list[HeuristicChoice]]:
        begun = logfile.with_suffix(".begun")
        if begun.exists() and isinstance(ms, MeasurementSet):
            start_over(place, ms)
        begun.touch()
        answer = function(ctx, ms, *args)
        begun.unlink()
        return answer, ctx.choices

    answer = _answer(place, work)
    return answer, recorder.calls, recorder.logs


def start_over(place: Place, ms: MeasurementSet) -> None:
    """Put a measurement set back to what the stage found, and remove what the stage made of it."""
    snapshots.undo(place.stage_dir.parent.parent / "snapshots" / f"{place.stage_number:03d}" / ms.name,
                   place.work / ms.path)  # fmt: skip
    made = f"{clean_file_name(ms.stem)}.{clean_file_name(place.stage_name)}.s{place.stage_number}."
    for entry in place.work.iterdir():
        if entry.name.startswith(made):
            remove(entry)


def _answer(place: Place, work: Callable[[], Any]) -> Any:
    os.chdir(place.work)
    with busy(place.stage_dir.parent.parent):
        try:
            return work()
        except PlError as error:
            return error
        except Exception as error:
            return PlError(f"{type(error).__name__}: {error}", detail=traceback.format_exc())


_pools: dict[tuple[int, str], Pool | DaskPool] = {}


def _shared_pool(workers: int, scheduler: str, output: Path) -> Pool | DaskPool:
    # Item workers stay warm from stage to stage: importing CASA costs seconds.
    key = (workers, scheduler)
    if key not in _pools:
        if scheduler:
            from .compute.dask import DaskPool

            _pools[key] = DaskPool(scheduler)
        else:
            _pools[key] = Pool(workers, output)
    return _pools[key]


def _item_name(item: Any) -> str:
    for attribute in ("name", "label", "imagename"):
        value = getattr(item, attribute, None)
        if isinstance(value, str):
            return value
    return str(item)[:80]


__all__ = ("HeuristicChoice", "ItemContext", "Place", "StageContext", "StageLog", "UnknownName", "run_item", "run_set")
