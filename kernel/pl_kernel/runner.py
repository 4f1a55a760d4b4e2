"""Runs the steps of a run one after another: resolve, snapshot, run, score, write down, fold, render.

The kernel's process only keeps the books; everything that touches data happens in a worker, whose death is an
ordinary failed stage.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs

from . import conditions, execute, snapshots
from .casa import CallRecord, LogRecord
from .casa.adapter import remove
from .casa.script import header, stage_block
from .compute import Worker
from .context import Context
from .contextfile import ContextFile
from .drawing import Drawing, Drawn, Pages
from .effects import Effect, fold
from .errors import DataError, InputError, JournalError, PlError, UnknownName, WorkerDied
from .events import Event, EventBus
from .execute import StageAnswer, StageJob
from .inside import inside, plain
from .journal import RunFolder, RunRecord, RunStep, StageError, StageRecord, damaged, read_object
from .packing import Packer
from .params import resolve
from .plugins import Registry, kernel_version
from .qa import QAScore, combine, score_result
from .recipe import BREAKPOINT
from .serialize import from_json, read_json, to_json, write_bytes_atomically, write_json
from .stage import Stage
from .stage_context import Place

LOOSE = "loose-files"
_LOOSE_LIMIT = 1_000_000  # bytes: text files that stages share, such as cont.dat


@attrs.frozen(kw_only=True)
class StageOutcome:
    """How one stage ended; ``result`` is None for a stage that was skipped."""

    number: int
    name: str
    title: str
    status: str
    score: float | None = None
    scores: tuple[QAScore, ...] = ()
    result: Any = None
    seconds: float = 0.0


class Runner:
    """The engine of one run folder; Session holds the lock around it."""

    def __init__(self, folder: RunFolder, plugins: Registry, events: EventBus, record: RunRecord) -> None:
        self.folder = folder
        self.plugins = plugins
        self.events = events
        self.record = record
        self.outcomes: list[StageOutcome] = []
        self.context = self._empty_context()
        self._next_step = 0
        self._last: StageRecord | None = None
        self._script: list[str] = []
        self._by_hand = False
        self._undrawn: list[Drawing] = []
        self.scheduler = ""
        self.context_file = ContextFile(folder.root / "context.json")
        self._worker = Worker(folder.root / "worker.log")
        self._packer = Packer(self._worker)
        workers = int(record.options.get("workers", 1))
        self._pages = Pages(folder.root / "pages.log", self._write_live_site, workers)

    @property
    def steps(self) -> tuple[RunStep, ...]:
        return self.record.steps

    def _empty_context(self) -> Context:
        recipe = self.record.recipe.get("name", "")
        return Context(run_name=self.record.name, root=self.folder.root, recipe_name=recipe)

    # ---- the place to continue -------------------------------------------------------------------------------------

    def restore(self) -> None:
        """Rebuild the context from the results on disk, and clean away what an unfinished stage left.

        Raises
        ------
        JournalError : the folder is damaged, leads outside, or cannot be put in order; the sentence says where.
        """
        try:
            self.folder.make_folders()
            self._refold()
            self._clean()
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            why = (error.strerror or str(error)).lower()
            raise JournalError(f"The run in {self.folder.root} cannot be put in order, {why}{where}.") from error

    def _refold(self, up_to: int | None = None) -> None:
        """Fold the results on disk, all or up to a stage."""
        self.outcomes, self._script, self._next_step, self._last = [], [], 0, None
        self._undrawn = []
        self.context = self._empty_context()
        for folder, stage in self.folder.done_stages():
            if up_to is not None and stage.number > up_to:
                break
            known = self.steps[stage.step].stage if self._next_step <= stage.step < len(self.steps) else ""
            if known != stage.name:
                raise JournalError(
                    f"The stage {folder.name} does not belong to the steps of {self.folder.root / 'run.json'}; "
                    f"one of the two has been altered."
                )
            try:
                outcome = self._reread(folder, stage)
            except JournalError:
                raise
            except PlError as error:
                raise damaged(folder, error) from None
            self.outcomes.append(outcome)
            self._next_step, self._last = stage.step + 1, stage
            self._note_page(folder, stage, outcome)
        while self._at_breakpoint() and self._next_step < self.record.passed:
            self._next_step += 1

    def _note_page(self, folder: Path, stage: StageRecord, outcome: StageOutcome) -> None:
        """Remember a page that a kill or Ctrl-C has cost, while the data are still what it would have shown."""
        if stage.snapshot:
            self._undrawn.clear()  # this stage altered what the pages before it show
        if stage.status != "ok" or (folder / "page.json").is_file():
            return
        place = Place(stage.name, stage.number, self.folder.work, folder, self.folder.products)
        try:
            logs = from_json(read_json(folder / "log.json"), tuple[LogRecord, ...])
            timing = read_object(folder / "timing.json")
        except PlError:  # the page can do without
            logs, timing = (), {}
        self._undrawn.append(
            Drawing(place=place, context=self.context, result=outcome.result, logs=logs, timing=timing)
        )

    def _at_breakpoint(self) -> bool:
        return self._next_step < len(self.steps) and self.steps[self._next_step].stage == BREAKPOINT

    def _pass_breakpoints(self) -> None:
        """Count the breakpoints that come next as met: the run stands there now."""
        while self._at_breakpoint():
            self._next_step += 1
        self.record = attrs.evolve(self.record, passed=self._next_step)

    def _reread(self, folder: Path, stage: StageRecord) -> StageOutcome:
        outcome = StageOutcome(
            number=stage.number, name=stage.name, title=stage.title, status=stage.status, score=stage.score
        )
        if stage.status == "skipped":
            return outcome
        content = read_object(folder / "result.json")
        before, self.context = self.context, self._fold(stage.number, content)
        self._check_names(self.context, before)
        scores = from_json(read_object(folder / "qa.json").get("scores", []), tuple[QAScore, ...])
        file = folder / "casa_calls.json"
        calls = to_json(read_json(file, tuple[CallRecord, ...])) if file.is_file() else []
        # Paths of the run's own files are relative in the script, wherever the folder was when they were written down.
        work = str(Path(stage.root) / "work") if stage.root else str(self.folder.work)
        self._script.append(stage_block(stage.number, stage.title or stage.name, calls, work))
        seconds = from_json(read_object(folder / "timing.json").get("seconds", 0.0), float)
        return attrs.evolve(outcome, scores=scores, result=content, seconds=seconds)

    def _fold(self, number: int, result: Mapping[str, Any]) -> Context:
        # Live runs and resumed runs fold the same: from what is written.
        effects = from_json(result.get("effects", []), tuple[Effect, ...])
        context = attrs.evolve(fold(self.context, effects), stage_number=number)
        for ms in context.measurement_sets:
            plain(ms.name, "measurement set")
        return context

    def _check_names(self, context: Context, before: Context) -> None:
        """Refuse names that lead out of the run folder, among those that the context ``before`` did not have."""
        for ms in context.measurement_sets:
            self._absolute(ms.path)
        for folder, what, new, old in (
            (self.folder.work, "image", context.images, before.images),
            (self.folder.products, "product", context.products, before.products),
        ):  # fmt: skip
            for name in {item.name for item in new} - {item.name for item in old}:
                inside(folder, name, what)

    def _clean(self) -> None:
        """Go back to the end of the last stage folded: undo what later ones altered, remove what they made.

        Later ones are the stage that was running when the run ended, or all that a rewind leaves behind.  Their
        records are kept.  Killed at any moment, this goes on when the run is opened again: first the records go, the
        last first, then snapshots are put back, the last first, each removed when that is done.
        """
        number = self._last.number if self._last else 0
        folders = [f for f in reversed(self.folder.stage_dirs()) if _number_of(f) > number]
        taken = [s for s in reversed(self.folder.snapshot_dirs()) if int(s.name) > number]
        self._check_clean(folders, taken)
        for folder in folders:
            self.folder.set_aside(folder)
        for snapshot in taken:
            for ms in self.context.measurement_sets:
                snapshots.undo(snapshot / ms.name, self._absolute(ms.path))
            for loose in sorted((snapshot / LOOSE).glob("*")):
                place = self.folder.work / loose.name
                remove(place)
                snapshots.clone(loose, place)
            snapshots.discard(snapshot)
        for rest in self.folder.snapshots.glob(".*"):
            remove(rest)
        for place, names in (
            (self.folder.work, set(self._last.work) if self._last else set()),
            (self.folder.products, set(self._last.products) if self._last else set()),
        ):
            for entry in place.iterdir():
                if entry.name not in names:
                    remove(entry)

    def _is_dirty(self) -> bool:
        number = self._last.number if self._last else 0
        return any(_number_of(f) > number for f in self.folder.stage_dirs()) or any(
            int(s.name) > number for s in self.folder.snapshot_dirs()
        )

    def _check_clean(self, folders: list[Path], taken: list[Path]) -> None:
        """Make sure that everything that is needed to go back is there, before anything is touched."""
        for folder in folders:
            record = None
            with contextlib.suppress(PlError):  # a damaged record of a stage that is left behind harms nobody
                record = self.folder.read_stage(folder)
            for name in record.snapshot if record else ():
                snapshot = self.folder.snapshots / f"{_number_of(folder):03d}" / plain(name, "measurement set")
                if not (snapshot / "manifest.json").is_file():
                    raise JournalError(
                        f"The run cannot go back to before stage {folder.name}: its snapshot {snapshot} is missing."
                    )
        for ms in self.context.measurement_sets:
            path = self._absolute(ms.path)
            if not path.is_dir():
                raise JournalError(
                    f"{ms.path} is missing from {self.folder.work}; without it the run cannot continue."
                )
            present = snapshots.files_of(path) if taken else set()
            for snapshot in taken:
                present = snapshots.check(snapshot / ms.name, path, present)

    def rewind(self, number: int) -> None:
        """Go back to before stage ``number``, whose turn it then is."""
        done = len(self.outcomes)
        if number > done + 1:
            raise InputError(f"The run has {done} finished stages; it cannot go back to before stage {number}.")
        try:
            self._refold(number - 1)
            self._clean()
        except BaseException:
            self._refold()
            raise
        self._pass_breakpoints()
        self.record = attrs.evolve(self.record, status="stopped", finished=datetime.now(UTC))
        self.folder.write_run(self.record)
        self._write_script()
        self.context_file.write(self.context)
        self._write_site(live=False)

    def _absolute(self, path: str) -> Path:
        """Where a measurement set is: in the work folder, or the very path the user gave (used in place).

        Raises
        ------
        JournalError : the journal names another place; nothing there may be touched.
        """
        found = self.folder.work / path  # an absolute path stays what it is
        if not found.resolve().is_relative_to(self.folder.work) and not self._was_given(found):
            raise JournalError(f"The journal of {self.folder.root} names data outside the run, {path}: refused.")
        return found

    def _was_given(self, path: Path) -> bool:
        """Whether this run works on data in place: the run says so, and a mark beside the data does."""
        if str(path) not in self.record.data or not self.record.token:
            return False
        with contextlib.suppress(OSError):
            return self.record.token in _mark_of(path).read_text(errors="replace").split()
        return False

    def mark_in_place(self, context: Context) -> None:
        """Leave a mark beside data that the run uses in place: a run folder alone could name anybody's data.

        Raises
        ------
        InputError : the mark cannot be written.
        """
        for ms in context.measurement_sets:
            path = self.folder.work / ms.path
            outside = not path.resolve().is_relative_to(self.folder.work)
            if not outside or str(path) not in self.record.data or self._was_given(path):
                continue
            try:
                with _mark_of(path).open("a") as mark:
                    mark.write(f"{self.record.token}\n")
            except OSError as error:
                raise InputError(
                    f"{path} cannot be used in place: {_mark_of(path)} cannot be written, {error.strerror}."
                ) from None

    # ---- running ---------------------------------------------------------------------------------------------------

    def add(self, step: RunStep) -> None:
        """Append a step."""
        self.record = attrs.evolve(self.record, steps=(*self.steps, step))
        self.folder.write_run(self.record)

    def drop_last(self) -> None:
        """Forget the last step, which failed, and clean away what it left."""
        self.record = attrs.evolve(self.record, steps=self.steps[:-1])
        self.folder.write_run(self.record)
        self._clean()

    def check(self, stop_after: str | int | None = None) -> None:
        """Make sure that the steps still to run can be run, before any work.

        Raises
        ------
        InputError : a stage's plugin is not installed any more, a parameter is not known any more, or there is no
            stage to stop after.
        """
        ahead = [step for step in self.steps[self._next_step :] if step.stage != BREAKPOINT]
        for step in ahead:
            if step.stage not in self.plugins.stages:
                raise UnknownName("stage", step.stage, self.plugins.stages, self._who_had_it())
            resolve(self.plugins.stage(step.stage).inputs_class, step.parameters, step.user, step.stage)
        last = len(self.outcomes) + len(ahead)
        if isinstance(stop_after, str) and stop_after not in {step.stage for step in ahead}:
            raise UnknownName("stage", stop_after, [s.stage for s in ahead], " among the stages still to run")
        if isinstance(stop_after, int) and not len(self.outcomes) < stop_after <= last:
            raise InputError(f"Stage {stop_after} is not among the stages still to run.")

    def _who_had_it(self) -> str:
        """Say which plugins the run was made with that are not there now."""
        reasons = {info.name: f" ({info.reason})" for info in self.plugins.plugins if info.reason}
        known = self.plugins.versions()
        made_with = self._made_with()
        gone = [f"{n} {v}{reasons.get(n, '')}" for n, v in made_with.items() if n not in known]
        if not gone:
            return ", which the run needs"
        return f", which the run needs; it was made with the plugin {', '.join(gone)}, which is not installed now"

    def _made_with(self) -> dict[str, Any]:
        plugins = self.record.pl.get("plugins")
        return plugins if isinstance(plugins, dict) else {}

    def _note_versions(self) -> None:
        """Write down with which versions the run goes on; say so when they are others than before."""
        before = self._made_with()
        now = self.plugins.versions()
        changed = [f"{n} {before[n]} → {v}" for n, v in now.items() if before.get(n, v) != v]
        self.record = attrs.evolve(self.record, pl={**self.record.pl, "kernel": kernel_version(), "plugins": now})
        if changed and self.outcomes:
            message = f"The run goes on with other versions of plugins: {', '.join(changed)}."
            self._emit("log", None, "", level="attention", message=message)

    def run(self, stop_after: str | int | None = None) -> tuple[str, str]:
        """Run what is left; return the status (done, stopped, interrupted or failed) and a sentence."""
        self._note_versions()
        self._by_hand = False
        self.record = attrs.evolve(self.record, status="running", finished=None)
        self.folder.write_run(self.record)
        if any(self._takes_data(step) for step in self.steps[self._next_step :]):
            self._pages.warm(self.folder.root / "pages.log")
        for drawing in self._undrawn:
            self._pages.submit(drawing)
        self._undrawn = []
        try:
            while self._next_step < len(self.steps):
                if self._at_breakpoint():
                    self._pass_breakpoints()
                    return "stopped", "Stopped at a breakpoint; pl resume goes on from here."
                outcome, message = self._step(self._next_step, self.steps[self._next_step])
                if outcome is None:
                    return "failed", message
                if stop_after is not None and stop_after in (outcome.name, outcome.number):
                    self._pass_breakpoints()
                    return "stopped", f"Stopped after stage {outcome.number}, {outcome.name}, as asked."
            self.collect_pages()
        except KeyboardInterrupt:
            self._by_hand = True
            return "interrupted", "Stopped by hand; pl resume repeats the stage that was running."
        return "done", ""

    def _takes_data(self, step: RunStep) -> bool:
        return step.stage in self.plugins.stages and self.plugins.stage(step.stage).takes_data

    def finish(self, status: str) -> str:
        """Write down how the run ended, and its last web log; return a sentence when that is impossible."""
        with contextlib.suppress(KeyboardInterrupt):  # the pages have been given up then
            self.collect_pages(now=self._by_hand)
        self.record = attrs.evolve(self.record, status=status, finished=datetime.now(UTC))
        try:
            self.folder.write_run(self.record)
        except PlError as error:  # the stages say what is done; pl resume writes it down
            return error.sentence
        self._write_site(live=False)
        return ""

    def collect_pages(self, now: bool = False) -> None:
        """Wait for the pages that are being drawn, or give them up, and pass on what they had to complain of."""
        drawn: list[Drawn] = []
        try:
            drawn = self._pages.give_up() if now else self._pages.wait()
        except KeyboardInterrupt:
            drawn = self._pages.give_up()
            self._by_hand = True
            raise
        finally:
            for page in drawn:
                for complaint in page.complaints:
                    self._emit("log", page.number, page.stage, level="warning", message=complaint)
                if page.site_seconds is not None:
                    self._emit("site_written", None, "", seconds=page.site_seconds)

    def close(self) -> None:
        self._pages.close()
        self._worker.stop()

    def _step(self, index: int, step: RunStep) -> tuple[StageOutcome | None, str]:
        number = len(self.outcomes) + 1
        folder = self.folder.stage_dir(number, step.stage)
        entry = self.plugins.stages.get(step.stage)
        title = entry.summary if entry else step.stage
        plugin = entry.plugin if entry else ""
        record = StageRecord(
            number=number, step=index, name=step.stage, title=title, status="interrupted",
            started=datetime.now(UTC), ended=datetime.now(UTC), plugin=plugin, root=str(self.folder.root),
            version=self.plugins.versions().get(plugin, ""),
        )  # fmt: skip
        attempt = _Attempt(self, folder, record, step)
        try:
            if self._is_dirty():  # after an attempt in this session
                self._clean()
            self.folder.set_aside(folder)
            folder.mkdir(parents=True)
            if step.when and self.context.measurement_sets and not conditions.holds(step.when, self.context):
                attempt.skip()
            else:
                self._emit("stage_started", number, step.stage, title=title, of=len(self.steps))
                attempt.run()
        except KeyboardInterrupt:
            if not attempt.is_written():
                attempt.fail("interrupted", "Stopped by hand.", "")
                raise
            self._keep(index, attempt)
            raise
        except PlError as error:
            return None, attempt.fail("failed", error.sentence, error.detail)
        except OSError as error:
            what = (error.strerror or str(error)).lower()
            sentence = f"Stage {step.stage} cannot write{f' {error.filename}' if error.filename else ''}: {what}."
            return None, attempt.fail("failed", sentence, str(error))
        except Exception as error:
            sentence = f"Stage {step.stage} failed, pl itself went wrong: {type(error).__name__}: {error}"
            return None, attempt.fail("failed", sentence, traceback.format_exc())
        # From here on the stage is done, whatever happens to its page.
        self._keep(index, attempt)
        if attempt.record.status == "ok":
            attempt.show()
        return self.outcomes[-1], ""

    def _keep(self, index: int, attempt: _Attempt) -> None:
        assert attempt.outcome is not None
        self.context = attempt.context
        self._script.append(attempt.block)
        self.outcomes.append(attempt.outcome)
        self._next_step, self._last = index + 1, attempt.record

    def _emit(self, kind: str, number: int | None, stage: str, **data: Any) -> None:
        self.events.emit(Event(kind=kind, stage_number=number, stage=stage, data=data))

    def _write_site(self, live: bool) -> None:
        from .weblog.site import write_site

        begin = time.monotonic()
        try:
            write_site(self.folder.root, live=live)
        except Exception as error:  # the web log can be made again at any time: pl weblog
            self._emit("log", None, "", level="warning", message=f"The web log could not be written: {error}")
            return
        self._emit("site_written", None, "", seconds=time.monotonic() - begin)

    def _write_live_site(self) -> float:
        from .weblog.site import write_site

        begin = time.monotonic()
        write_site(self.folder.root, live=True)
        return time.monotonic() - begin

    def _write_script(self, last: str = "") -> None:
        text = header(self.record.name, self.record.recipe.get("title", "")) + "".join(self._script) + last
        write_bytes_atomically(self.folder.root / "casa_commands.py", text.encode("utf-8", "backslashreplace"))


class _Attempt:
    """One stage being run, from its snapshot to its page."""

    def __init__(self, runner: Runner, folder: Path, record: StageRecord, step: RunStep) -> None:
        self.runner = runner
        self.folder = folder
        self.record = record
        self.step = step
        self.calls: list[CallRecord] = []
        self.logs: list[LogRecord] = []
        self.open_call: CallRecord | None = None
        self.timing: dict[str, Any] = {}
        self.context = runner.context
        self.block = ""
        self.outcome: StageOutcome | None = None
        self.job: StageJob
        self.answer: StageAnswer
        self._begin = time.monotonic()

    # ---- the order of things ---------------------------------------------------------------------------------------

    def run(self) -> None:
        """Do everything up to the record that says that the stage is done."""
        runner, number, name = self.runner, self.record.number, self.record.name
        cls = runner.plugins.stage(name)
        self.record = attrs.evolve(self.record, topic=cls.topic)
        if cls.mutates or cls.reads_pages:  # pages show the data as their stages left them
            begin = time.monotonic()
            runner.collect_pages()
            self.timing["wait_seconds"] = time.monotonic() - begin
        self._snapshot(cls)
        self.job = StageJob(
            place=Place(name, number, runner.folder.work, self.folder, runner.folder.products),
            context=runner._packer.pack(attrs.evolve(runner.context, stage_number=number)), recipe=self.step.parameters,
            user=self.step.user, workers=int(runner.record.options.get("workers", 1)), scheduler=runner.scheduler,
        )  # fmt: skip
        answer = self.answer = self._ask(execute.run_stage, self.job)
        self.calls, self.logs = answer.calls, [*answer.logs, *self._observer_complaints()]
        self._write_inputs(answer)
        if answer.error:
            raise PlError(answer.error, detail=answer.detail)
        write_json(self.folder / "result.json", answer.result)
        self.context = runner._fold(number, answer.result)
        runner.mark_in_place(self.context)
        runner._check_names(self.context, runner.context)
        result = from_json(answer.result, cls.result_class)
        if cls.takes_data:
            _check_needs(self.context, runner.record)
        scores = self._score(cls, result, self.context)
        self._write_timing()
        work, products = runner.folder.listing()
        self.record = attrs.evolve(
            self.record, status="ok", score=combine(scores), ended=datetime.now(UTC), work=work, products=products
        )
        self.block = stage_block(number, self.record.title or name, to_json(self.calls), str(self.job.place.work))
        runner._write_script(self.block)
        runner.context_file.write(self.context)
        write_json(self.folder / "log.json", self.logs)
        self.outcome = StageOutcome(
            number=number, name=name, title=self.record.title, status="ok", score=self.record.score,
            scores=tuple(scores), result=result, seconds=time.monotonic() - self._begin,
        )  # fmt: skip
        write_json(self.folder / "stage.json", self.record)

    def skip(self) -> None:
        """Write down that the stage's condition does not hold."""
        work, products = self.runner.folder.listing()
        self.record = attrs.evolve(
            self.record, status="skipped", ended=datetime.now(UTC), work=work, products=products
        )
        self.outcome = StageOutcome(
            number=self.record.number, name=self.record.name, title=self.record.title, status="skipped"
        )
        reason = LogRecord(level="info", message=f"Skipped: not '{self.step.when}'.")
        write_json(self.folder / "log.json", [reason])
        write_json(self.folder / "stage.json", self.record)
        self.runner._emit(
            "stage_finished", self.record.number, self.record.name, status="skipped", score=None,
            title=self.record.title,
        )  # fmt: skip

    def show(self) -> None:
        """Have the page of the finished stage drawn, and tell everybody."""
        assert self.outcome is not None
        drawing = Drawing(
            place=self.job.place, context=self.context, result=self.answer.result, logs=tuple(self.logs),
            timing=self.timing,
        )  # fmt: skip
        try:
            self.runner._pages.submit(drawing)
        except OSError as error:  # no process could be started
            message = f"The page of stage {self.record.number} cannot be drawn: {error}"
            self.runner._emit("log", self.record.number, self.record.name, level="warning", message=message)
        finally:
            self.runner._emit(
                "stage_finished", self.record.number, self.record.name, status="ok", score=self.outcome.score,
                seconds=self.outcome.seconds, title=self.record.title, worst=_worst_message(list(self.outcome.scores)),
            )  # fmt: skip

    def is_written(self) -> bool:
        """Whether the record on disk says that the stage is done."""
        with contextlib.suppress(PlError):
            record = self.runner.folder.read_stage(self.folder)
            return self.outcome is not None and record is not None and record.done
        return False

    def fail(self, status: str, sentence: str, detail: str) -> str:
        """Write down a stage without result; return the sentence that says so."""
        if self.open_call is not None:
            self.calls = [*self.calls, attrs.evolve(self.open_call, outcome="crashed", message=sentence)]
        error = LogRecord(level="error", message=sentence, origin=self.record.name)
        self.record = attrs.evolve(
            self.record, status=status, ended=datetime.now(UTC), error=StageError(sentence=sentence, detail=detail)
        )
        for name, content in (
            ("stage.json", self.record), ("log.json", [*self.logs, error]), ("casa_calls.json", self.calls),
        ):  # fmt: skip
            with contextlib.suppress(PlError):  # a full disk is reported by the sentence, not by another error
                write_json(self.folder / name, content)
        self.runner._emit(
            "stage_failed", self.record.number, self.record.name, status=status, message=sentence, detail=detail
        )
        return sentence

    # ---- parts -----------------------------------------------------------------------------------------------------

    def _snapshot(self, cls: type[Stage[Any, Any]]) -> None:
        begin = time.monotonic()
        target = self.runner.folder.snapshots / f"{self.record.number:03d}"
        snapshots.discard(target)
        partial = target / f"{LOOSE}.partial"  # half a copy, left by a kill, must not be put back later
        partial.mkdir(parents=True)
        for file in self.runner.folder.work.iterdir():
            if file.is_file() and not file.is_symlink() and file.stat().st_size < _LOOSE_LIMIT:
                snapshots.clone(file, partial / file.name)
        partial.rename(target / LOOSE)
        taken = []
        for ms in self.runner.context.measurement_sets if cls.mutates else ():
            source = str(self.runner._absolute(ms.path))
            self.runner._worker.call(
                snapshots.take, source, str(target / ms.name), sorted(cls.mutates), str(self.folder / "casa.log")
            )
            taken.append(ms.name)
        self.record = attrs.evolve(self.record, snapshot=tuple(taken))
        self.timing["snapshot_seconds"] = time.monotonic() - begin

    def _ask(self, function: Any, *args: Any) -> StageAnswer:
        try:
            answer = self.runner._worker.call(function, *args, on_message=self._on_message)
        except WorkerDied as death:
            call = f" in the CASA task {self.open_call.task}" if self.open_call is not None else ""
            raise WorkerDied(
                f"Stage {self.record.name}: {death.sentence.rstrip('.')}{call}.", detail=self._last_lines()
            ) from None
        self.open_call = None
        assert isinstance(answer, StageAnswer)
        return answer

    def _on_message(self, message: tuple[str, Any]) -> None:
        kind, content = message
        number, name = self.record.number, self.record.name
        if kind == "progress":
            self.runner._emit("progress", number, name, **content)
        elif kind == "call":
            self.open_call = content
            self.runner._emit("progress", number, name, done=0, total=0, message=content.task)
        elif kind == "called":
            self.open_call = None
            self.calls.append(content)
        elif kind == "log":
            self.logs.append(content)
            if content.level != "info":
                self.runner._emit("log", number, name, level=content.level, message=content.message)

    def _last_lines(self, lines: int = 20) -> str:
        parts = []
        for path in (self.folder / "casa.log", self.runner.folder.root / "worker.log"):
            with contextlib.suppress(OSError):
                text = path.read_text(errors="replace")[-8000:]
                parts.append(f"--- {path.name}\n" + "\n".join(text.splitlines()[-lines:]))
        return "\n".join(parts)

    def _observer_complaints(self) -> list[LogRecord]:
        complaints, self.runner.events.complaints = self.runner.events.complaints, []
        return [LogRecord(level="warning", message=c, origin="kernel") for c in complaints]

    def _write_inputs(self, answer: StageAnswer) -> None:
        write_json(self.folder / "inputs.json", answer.inputs)
        write_json(self.folder / "casa_calls.json", self.calls)
        if answer.choices:
            write_json(self.folder / "heuristics.json", answer.choices)

    def _score(self, cls: type[Stage[Any, Any]], result: Any, context: Context) -> list[QAScore]:
        begin = time.monotonic()
        scores = score_result(self.runner.plugins.scorers_for(cls), result, context, cls.topic)
        if result.failures:
            # Items that failed while the stage went on must not look like success.
            listed = "; ".join(f"{f.item}: {f.reason}" for f in result.failures[:5])
            scores.append(
                QAScore(
                    metric="item-failures", value=len(result.failures), score=0.3, topic=cls.topic, origin="kernel",
                    short=f"{len(result.failures)} items failed",
                    long=f"{len(result.failures)} items failed: {listed}.",
                )
            )  # fmt: skip
        self.timing["score_seconds"] = time.monotonic() - begin
        write_json(self.folder / "qa.json", {"scores": scores, "stage_score": combine(scores)})
        return scores

    def _write_timing(self) -> None:
        answer = self.answer
        self.timing |= {
            "seconds": time.monotonic() - self._begin, "run_seconds": answer.seconds,
            "peak_rss_mb": answer.peak_rss_mb,
            "casa_seconds": sum(c.seconds for c in answer.calls if c.kind == "task"),
            "calls": [{"task": c.task, "seconds": c.seconds, "outcome": c.outcome} for c in answer.calls],
        }  # fmt: skip
        write_json(self.folder / "timing.json", self.timing)


def _number_of(folder: Path) -> int:
    return int(folder.name.partition("-")[0])


def _mark_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.pl-run")


def _check_needs(context: Context, record: RunRecord) -> None:
    for ms in context.measurement_sets:
        present = {str(intent) for intent in ms.intents}
        missing = [intent for intent in record.needs if intent not in present]
        if missing:
            raise DataError(
                f"{ms.name} has no scan with intent {', '.join(missing)}, which the recipe needs (it has "
                f"{', '.join(sorted(present)) or 'no intents'}); give intents with --intent 'INTENT=FIELD'."
            )


def _worst_message(scores: list[QAScore]) -> str:
    visible = [s for s in scores if not s.hidden and s.score is not None]
    return min(visible, key=lambda s: s.score or 0.0).short if visible else ""


