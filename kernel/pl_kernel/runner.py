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

from . import conditions, snapshots
from .attempt import LOOSE, Attempt, StageOutcome
from .casa import CallRecord, LogRecord
from .casa.adapter import remove
from .casa.script import header, stage_block
from .compute import Worker
from .context import Context
from .contextfile import ContextFile
from .drawing import Drawing, Drawn, Pages
from .effects import Effect, fold
from .errors import InputError, JournalError, PlError, UnknownName
from .events import Event, EventBus
from .inside import inside, plain
from .journal import RunFolder, RunRecord, RunStep, StageRecord, damaged, number_of, read_object
from .packing import Packer
from .params import resolve
from .plugins import Registry, kernel_version
from .qa import QAScore
from .recipe import BREAKPOINT
from .serialize import from_json, read_json, to_json, write_bytes_atomically
from .stage import MUTABLE
from .stage_context import Place


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
        self.worker = Worker(folder.root / "worker.log")
        self.packer = Packer(self.worker)
        # Pictures are drawn beside the work of the next stage: half as many processes do not hold it up, and each would
        # import CASA for itself.
        drawing = max(1, int(record.options.get("workers", 1)) // 2)
        self.pages = Pages(folder.root / "pages.log", self._write_live_site, drawing)

    @property
    def steps(self) -> tuple[RunStep, ...]:
        return self.record.steps

    def _empty_context(self) -> Context:
        recipe = self.record.recipe.get("name", "")
        return Context(run_name=self.record.name, root=self.folder.root, recipe_name=recipe)

    # ---- the place to continue -------------------------------------------------------------------------------------

    def restore(self, before: int | None = None) -> None:
        """Rebuild the context from the results on disk, and clean away what an unfinished stage left.

        before : go back to before this stage; the records from there on need not be readable.

        Raises
        ------
        JournalError : the folder is damaged, leads outside, or cannot be put in order; the sentence says where.
        InputError : the run has not come as far as ``before``.
        """
        try:
            self.folder.make_folders()
            if before is None:
                self._refold()
                self._clean()
            else:
                self._go_back(before)
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            why = (error.strerror or str(error)).lower()
            raise JournalError(f"The run in {self.folder.root} cannot be put in order, {why}{where}.") from error

    def _refold(self, up_to: int | None = None) -> None:
        """Fold the results on disk, all or up to a stage."""
        self.outcomes, self._script, self._next_step, self._last = [], [], 0, None
        self._undrawn = []
        self.context = self._empty_context()
        for folder, stage in self.folder.done_stages(up_to):
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
        """Remember a page that a kill or Ctrl-C has cost, while the data are still what it would show."""
        if stage.snapshot:  # this stage altered what pages before it may show
            self._undrawn = [drawing for drawing in self._undrawn if not drawing.reads]
        if stage.status != "ok" or (folder / "page.json").is_file():
            return
        place = Place(stage.name, stage.number, self.folder.work, folder, self.folder.products)
        try:
            logs = from_json(read_json(folder / "log.json"), tuple[LogRecord, ...])
            timing = read_object(folder / "timing.json")
        except PlError:  # the page can do without
            logs, timing = (), {}
        self._undrawn.append(
            Drawing(
                place=place, context=self.context, result=outcome.result, logs=logs, timing=timing,
                reads=self.plugins.page_reads(self.plugins.stage(stage.name)) if stage.name in self.plugins.stages
                else MUTABLE,
            )
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
        before, self.context = self.context, self.fold_result(stage.number, content)
        self.check_names(self.context, before)
        scores = from_json(read_object(folder / "qa.json").get("scores", []), tuple[QAScore, ...])
        file = folder / "casa_calls.json"
        calls = to_json(read_json(file, tuple[CallRecord, ...])) if file.is_file() else []
        # Paths of the run's own files are relative in the script, wherever the folder was when they were written down.
        work = str(Path(stage.root) / "work") if stage.root else str(self.folder.work)
        self._script.append(stage_block(stage.number, stage.title or stage.name, calls, work))
        seconds = from_json(read_object(folder / "timing.json").get("seconds", 0.0), float)
        return attrs.evolve(outcome, scores=scores, result=content, seconds=seconds)

    def fold_result(self, number: int, result: Mapping[str, Any]) -> Context:
        """Return the context with the effects of a stage's result, as it is written down."""
        # Live runs and resumed runs fold the same: from what is written.
        effects = from_json(result.get("effects", []), tuple[Effect, ...])
        context = attrs.evolve(fold(self.context, effects), stage_number=number)
        for ms in context.measurement_sets:
            plain(ms.name, "measurement set")
        return context

    def check_names(self, context: Context, before: Context) -> None:
        """Refuse names that lead out of the run folder, among those that the context ``before`` did not have."""
        for ms in context.measurement_sets:
            self.absolute(ms.path)
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
        folders = [f for f in reversed(self.folder.stage_dirs()) if number_of(f) > number]
        taken = [s for s in reversed(self.folder.snapshot_dirs()) if int(s.name) > number]
        self._check_clean(folders, taken)
        for folder in folders:
            self.folder.set_aside(folder)
        for snapshot in taken:
            for ms in self.context.measurement_sets:
                snapshots.undo(snapshot / ms.name, self.absolute(ms.path))
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
        return any(number_of(f) > number for f in self.folder.stage_dirs()) or any(
            int(s.name) > number for s in self.folder.snapshot_dirs()
        )

    def _check_clean(self, folders: list[Path], taken: list[Path]) -> None:
        """Make sure that everything that is needed to go back is there, before anything is touched."""
        for folder in folders:
            record = None
            with contextlib.suppress(PlError):  # a damaged record of a stage that is left behind harms nobody
                record = self.folder.read_stage(folder)
            for name in record.snapshot if record else ():
                snapshot = self.folder.snapshots / f"{number_of(folder):03d}" / plain(name, "measurement set")
                if not (snapshot / "manifest.json").is_file():
                    raise JournalError(
                        f"The run cannot go back to before stage {folder.name}: its snapshot {snapshot} is missing."
                    )
        for ms in self.context.measurement_sets:
            path = self.absolute(ms.path)
            if not path.is_dir():
                raise JournalError(
                    f"{ms.path} is missing from {self.folder.work}; without it the run cannot continue."
                )
            present = snapshots.files_of(path) if taken else set()
            for snapshot in taken:
                present = snapshots.check(snapshot / ms.name, path, present)

    def rewind(self, number: int) -> None:
        """Go back to before stage ``number``, whose turn it then is."""
        try:
            self._go_back(number)
        except BaseException:
            self._refold()
            raise

    def _go_back(self, number: int) -> None:
        if number < 1:
            raise InputError("Stages are counted from 1.")
        self._refold(number - 1)
        done = len(self.outcomes)
        if number > done + 1:
            raise InputError(f"The run has {done} finished stages; it cannot go back to before stage {number}.")
        self._clean()
        self._pass_breakpoints()
        self.record = attrs.evolve(self.record, status="stopped", finished=datetime.now(UTC))
        self.folder.write_run(self.record)
        self.write_script()
        self.context_file.write(self.context)
        self._write_site(live=False)

    def absolute(self, path: str) -> Path:
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
            self.emit("log", None, "", level="attention", message=message)

    def run(self, stop_after: str | int | None = None) -> tuple[str, str]:
        """Run what is left; return the status (done, stopped, interrupted or failed) and a sentence."""
        self._note_versions()
        self._by_hand = False
        self.record = attrs.evolve(self.record, status="running", finished=None)
        self.folder.write_run(self.record)
        if any(self._takes_data(step) for step in self.steps[self._next_step :]):
            self.pages.warm(self.folder.root / "pages.log")
        for drawing in self._undrawn:
            self.pages.submit(drawing)
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

    def collect_pages(self, now: bool = False, altered: frozenset[str] | None = None) -> None:
        """Wait for the pages that are being drawn, or give them up, and pass on what they had to complain of.

        ``altered``: wait only for those that read this in measurement sets.
        """
        drawn: list[Drawn] = []
        try:
            drawn = self.pages.give_up() if now else self.pages.wait(altered)
        except KeyboardInterrupt:
            drawn = self.pages.give_up()
            self._by_hand = True
            raise
        finally:
            for page in drawn:
                for complaint in page.complaints:
                    self.emit("log", page.number, page.stage, level="warning", message=complaint)
                if page.site_seconds is not None:
                    self.emit("site_written", None, "", seconds=page.site_seconds)

    def close(self) -> None:
        self.worker.leave()  # both end side by side
        self.pages.close()
        self.worker.stop()

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
        attempt = Attempt(self, folder, record, step)
        try:
            if self._is_dirty():  # after an attempt in this session
                self._clean()
            self.folder.set_aside(folder)
            folder.mkdir(parents=True)
            if step.when and self.context.measurement_sets and not conditions.holds(step.when, self.context):
                attempt.skip()
            else:
                self.emit("stage_started", number, step.stage, title=title, of=len(self.steps))
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

    def _keep(self, index: int, attempt: Attempt) -> None:
        assert attempt.outcome is not None
        self.context = attempt.context
        self._script.append(attempt.block)
        self.outcomes.append(attempt.outcome)
        self._next_step, self._last = index + 1, attempt.record

    def emit(self, kind: str, number: int | None, stage: str, **data: Any) -> None:
        """Tell everybody who listens."""
        self.events.emit(Event(kind=kind, stage_number=number, stage=stage, data=data))

    def _write_site(self, live: bool) -> None:
        from .weblog.site import write_site

        begin = time.monotonic()
        try:
            write_site(self.folder.root, live=live)
        except Exception as error:  # the web log can be made again at any time: pl weblog
            self.emit("log", None, "", level="warning", message=f"The web log could not be written: {error}")
            return
        self.emit("site_written", None, "", seconds=time.monotonic() - begin)

    def _write_live_site(self) -> float:
        from .weblog.site import write_site

        begin = time.monotonic()
        write_site(self.folder.root, live=True)
        return time.monotonic() - begin

    def write_script(self, last: str = "") -> None:
        """Write ``casa_commands.py``: the blocks of the stages that are done, and ``last``."""
        text = header(self.record.name, self.record.recipe.get("title", "")) + "".join(self._script) + last
        write_bytes_atomically(self.folder.root / "casa_commands.py", text.encode("utf-8", "backslashreplace"))


def _mark_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.pl-run")
