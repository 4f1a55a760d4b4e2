"""Runs the steps of a run one after another: resolve, snapshot, run, score, write down, fold, render.

The kernel's process only keeps the books; everything that touches data happens in a worker, whose death is an
ordinary failed stage.
"""

from __future__ import annotations

import contextlib
import time
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
from .effects import Effect, fold
from .errors import DataError, InputError, JournalError, PlError, WorkerDied
from .events import Event, EventBus
from .execute import StageAnswer, StageJob
from .journal import RunFolder, RunRecord, RunStep, StageError, StageRecord
from .plugins import Registry
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
        self._script: list[str] = []
        self.scheduler = ""
        self._worker = Worker(folder.root / "worker.log")

    @property
    def steps(self) -> tuple[RunStep, ...]:
        return self.record.steps

    def _empty_context(self) -> Context:
        recipe = self.record.recipe.get("name", "")
        return Context(run_name=self.record.name, root=self.folder.root, recipe_name=recipe)

    # ---- the place to continue -------------------------------------------------------------------------------------

    def restore(self) -> None:
        """Rebuild the context from the results on disk, and clean away what an unfinished stage left."""
        last = self._refold()
        # A run that stopped at a breakpoint goes on behind it.
        if self._next_step < len(self.steps) and self.steps[self._next_step].stage == BREAKPOINT:
            self._next_step += 1 if self.record.status == "stopped" and self.outcomes else 0
        self._clean(last)

    def _refold(self, up_to: int | None = None) -> StageRecord | None:
        """Fold the results on disk up to a stage; return the last one's record."""
        last: StageRecord | None = None
        for folder, stage in self.folder.done_stages():
            if up_to is not None and stage.number > up_to:
                break
            self.outcomes.append(self._reread(folder, stage))
            self._next_step = stage.step + 1
            last = stage
        return last

    def _reread(self, folder: Path, stage: StageRecord) -> StageOutcome:
        outcome = StageOutcome(
            number=stage.number, name=stage.name, title=stage.title, status=stage.status, score=stage.score
        )
        if stage.status == "skipped":
            return outcome
        content = read_json(folder / "result.json")
        self.context = self._fold(stage.number, content)
        qa = read_json(folder / "qa.json") if (folder / "qa.json").is_file() else {}
        scores = from_json(qa.get("scores", []), tuple[QAScore, ...])
        calls = read_json(folder / "casa_calls.json") if (folder / "casa_calls.json").is_file() else []
        self._script.append(stage_block(stage.number, stage.title or stage.name, calls, str(self.folder.work)))
        timing = read_json(folder / "timing.json") if (folder / "timing.json").is_file() else {}
        return attrs.evolve(outcome, scores=scores, result=content, seconds=float(timing.get("seconds", 0.0)))

    def _fold(self, number: int, result: Mapping[str, Any]) -> Context:
        # Live runs and resumed runs fold the same: from what is written.
        effects = from_json(result.get("effects", []), tuple[Effect, ...])
        return attrs.evolve(fold(self.context, effects), stage_number=number)

    def _clean(self, last: StageRecord | None) -> None:
        """Go back to the end of stage ``last``: undo what later ones altered, remove what they made, keep the records.

        Later ones are the stage that was running when the run ended, or all that a rewind leaves behind.
        """
        number = last.number if last else 0
        for folder in self.folder.stage_dirs():
            if int(folder.name.partition("-")[0]) > number:
                self.folder.set_aside(folder)
        for snapshot in reversed(self.folder.snapshot_dirs()):  # the last first
            if int(snapshot.name) > number:
                for ms in self.context.measurement_sets:
                    snapshots.undo(snapshot / ms.name, self._absolute(ms.path))
                for loose in (snapshot / LOOSE).glob("*"):
                    snapshots.clone(loose, self.folder.work / loose.name)
                remove(snapshot)
        for place, names in (
            (self.folder.work, set(last.work) if last else set()),
            (self.folder.products, set(last.products) if last else set()),
        ):
            place.mkdir(exist_ok=True)
            for entry in place.iterdir():
                if entry.name not in names:
                    remove(entry)
        for ms in self.context.measurement_sets:
            if not self._absolute(ms.path).exists():
                raise JournalError(f"{ms.path} is missing from {self.folder.work}; without it the run cannot continue.")

    def rewind(self, number: int) -> None:
        """Go back to before stage ``number``, whose turn it then is."""
        self.outcomes, self._script, self._next_step = [], [], 0
        self.context = self._empty_context()
        last = self._refold(number - 1)
        if last is None or last.number < number - 1:
            done = last.number if last else 0
            raise InputError(f"The run has {done} finished stages; it cannot go back to before stage {number}.")
        self._clean(last)
        self.record = attrs.evolve(self.record, status="stopped", finished=datetime.now(UTC))
        self.folder.write_run(self.record)
        self._write_script()
        write_json(self.folder.root / "context.json", self.context)
        self._write_site(live=False)

    def _absolute(self, path: str) -> Path:
        """Where a measurement set is: in the work folder, or the very path the user gave (used in place).

        Raises
        ------
        JournalError : the journal names another place; nothing there may be touched.
        """
        found = self.folder.work / path  # an absolute path stays what it is
        if not found.resolve().is_relative_to(self.folder.work) and str(found) not in self.record.data:
            raise JournalError(f"The journal of {self.folder.root} names data outside the run, {path}: refused.")
        return found

    # ---- running ---------------------------------------------------------------------------------------------------

    def add(self, step: RunStep) -> None:
        """Append a step."""
        self.record = attrs.evolve(self.record, steps=(*self.steps, step))
        self.folder.write_run(self.record)

    def drop_last(self) -> None:
        """Forget the last step, which failed, and clean away what it left."""
        self.record = attrs.evolve(self.record, steps=self.steps[:-1])
        self.folder.write_run(self.record)
        done = self.folder.done_stages()
        self._clean(done[-1][1] if done else None)

    def run(self, stop_after: str | int | None = None) -> tuple[str, str]:
        """Run what is left; return the status (done, stopped or failed) and a sentence."""
        self.record = attrs.evolve(self.record, status="running", finished=None)
        self.folder.write_run(self.record)
        try:
            while self._next_step < len(self.steps):
                index = self._next_step
                step = self.steps[index]
                if step.stage == BREAKPOINT:
                    self._next_step += 1
                    return "stopped", "Stopped at a breakpoint; pl resume goes on from here."
                outcome, message = self._step(index, step)
                if outcome is None:
                    return "failed", message
                self.outcomes.append(outcome)
                self._next_step = index + 1
                if stop_after is not None and stop_after in (outcome.name, outcome.number):
                    return "stopped", f"Stopped after stage {outcome.number}, {outcome.name}, as asked."
        except KeyboardInterrupt:
            return "stopped", "Stopped by hand; pl resume repeats the stage that was running."
        return "done", ""

    def finish(self, status: str) -> None:
        """Write down how the run ended, and its last web log."""
        finished = None if status == "running" else datetime.now(UTC)
        self.record = attrs.evolve(self.record, status=status, finished=finished)
        self.folder.write_run(self.record)
        self._write_site(live=False)

    def close(self) -> None:
        self._worker.stop()

    def _step(self, index: int, step: RunStep) -> tuple[StageOutcome | None, str]:
        number = len(self.outcomes) + 1
        folder = self.folder.stage_dir(number, step.stage)
        entry = self.plugins.stages.get(step.stage)
        title = entry.summary if entry else step.stage
        self.folder.set_aside(folder)
        folder.mkdir(parents=True)
        record = StageRecord(
            number=number, step=index, name=step.stage, title=title, status="interrupted",
            started=datetime.now(UTC), ended=datetime.now(UTC), plugin=entry.plugin if entry else "",
        )  # fmt: skip
        if step.when and self.context.measurement_sets and not conditions.holds(step.when, self.context):
            work, products = self.folder.listing()
            done = attrs.evolve(record, status="skipped", ended=datetime.now(UTC), work=work, products=products)
            write_json(folder / "log.json", [LogRecord(level="info", message=f"Skipped: not '{step.when}'.")])
            write_json(folder / "stage.json", done)
            self._emit("stage_finished", number, step.stage, status="skipped", score=None, title=title)
            return StageOutcome(number=number, name=step.stage, title=title, status="skipped"), ""
        self._emit("stage_started", number, step.stage, title=title, of=len(self.steps))
        attempt = _Attempt(self, folder, record, step)
        try:
            return attempt.run(), ""
        except KeyboardInterrupt:
            attempt.fail("interrupted", "Stopped by hand.", "")
            raise
        except PlError as error:
            sentence = attempt.fail("failed", error.sentence, error.detail)
            return None, sentence
        except OSError as error:
            sentence = attempt.fail("failed", f"Stage {step.stage} cannot write: {error.strerror}.", str(error))
            return None, sentence

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

    def _write_script(self) -> None:
        text = header(self.record.name, self.record.recipe.get("title", "")) + "".join(self._script)
        write_bytes_atomically(self.folder.root / "casa_commands.py", text.encode())


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

    # ---- the order of things ---------------------------------------------------------------------------------------

    def run(self) -> StageOutcome:
        runner, number, name = self.runner, self.record.number, self.record.name
        begin = time.monotonic()
        cls = runner.plugins.stage(name)
        self.record = attrs.evolve(self.record, topic=cls.topic)
        self._snapshot(cls)
        job = StageJob(
            place=Place(name, number, runner.folder.work, self.folder, runner.folder.products),
            context=attrs.evolve(runner.context, stage_number=number), recipe=self.step.parameters,
            user=self.step.user, workers=int(runner.record.options.get("workers", 1)), scheduler=runner.scheduler,
        )  # fmt: skip
        answer = self._ask(execute.run_stage, job)
        self.calls, self.logs = answer.calls, [*answer.logs, *self._observer_complaints()]
        self._write_inputs(answer)
        if answer.error:
            raise PlError(answer.error, detail=answer.detail)
        write_json(self.folder / "result.json", answer.result)
        context = runner._fold(number, answer.result)
        result = from_json(answer.result, cls.result_class)
        if cls.takes_data:
            _check_needs(context, runner.record)
        scores = self._score(cls, result, context)
        self._write_timing(answer, time.monotonic() - begin)
        work, products = runner.folder.listing()
        self.record = attrs.evolve(
            self.record, status="ok", score=combine(scores), ended=datetime.now(UTC), work=work, products=products
        )
        runner._script.append(stage_block(number, self.record.title or name, to_json(self.calls), str(job.place.work)))
        runner._write_script()
        write_json(runner.folder.root / "context.json", context)
        write_json(self.folder / "log.json", self.logs)
        write_json(self.folder / "stage.json", self.record)
        # From here on the stage is done, whatever happens to its page.
        runner.context = context
        self._render(job, answer.result)
        self._write_timing(answer, time.monotonic() - begin)
        runner._write_site(live=True)
        outcome = StageOutcome(
            number=number, name=name, title=self.record.title, status="ok", score=self.record.score,
            scores=tuple(scores), result=result, seconds=time.monotonic() - begin,
        )  # fmt: skip
        runner._emit(
            "stage_finished", number, name, status="ok", score=outcome.score, seconds=outcome.seconds,
            title=outcome.title, worst=_worst_message(scores),
        )  # fmt: skip
        return outcome

    def fail(self, status: str, sentence: str, detail: str) -> str:
        """Write down a stage without result; return the sentence that says so."""
        if self.open_call is not None:
            self.calls = [*self.calls, attrs.evolve(self.open_call, outcome="crashed", message=sentence)]
        with contextlib.suppress(PlError):  # a full disk is reported by the sentence, not by another error
            write_json(self.folder / "casa_calls.json", self.calls)
            error = LogRecord(level="error", message=sentence, origin=self.record.name)
            write_json(self.folder / "log.json", [*self.logs, error])
            self.record = attrs.evolve(
                self.record, status=status, ended=datetime.now(UTC),
                error=StageError(sentence=sentence, detail=detail),
            )  # fmt: skip
            write_json(self.folder / "stage.json", self.record)
        self.runner._emit(
            "stage_failed", self.record.number, self.record.name, status=status, message=sentence, detail=detail
        )
        return sentence

    # ---- parts -----------------------------------------------------------------------------------------------------

    def _snapshot(self, cls: type[Stage[Any, Any]]) -> None:
        begin = time.monotonic()
        target = self.runner.folder.snapshots / f"{self.record.number:03d}"
        remove(target)
        (target / LOOSE).mkdir(parents=True)
        for file in self.runner.folder.work.iterdir():
            if file.is_file() and not file.is_symlink() and file.stat().st_size < _LOOSE_LIMIT:
                snapshots.clone(file, target / LOOSE / file.name)
        for ms in self.runner.context.measurement_sets if cls.mutates else ():
            source = str(self.runner._absolute(ms.path))
            self.runner._worker.call(
                snapshots.take, source, str(target / ms.name), sorted(cls.mutates), str(self.folder / "casa.log")
            )
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

    def _write_timing(self, answer: StageAnswer, seconds: float) -> None:
        self.timing |= {
            "seconds": seconds, "run_seconds": answer.seconds, "peak_rss_mb": answer.peak_rss_mb,
            "casa_seconds": sum(c.seconds for c in answer.calls if c.kind == "task"),
            "calls": [{"task": c.task, "seconds": c.seconds, "outcome": c.outcome} for c in answer.calls],
        }  # fmt: skip
        write_json(self.folder / "timing.json", self.timing)

    def _render(self, job: StageJob, result: Any) -> None:
        begin = time.monotonic()
        try:
            answer = self._ask(execute.render_stage, attrs.evolve(job, context=self.runner.context), result)
            error, logs = answer.error, answer.logs
            self.timing["render_casa_seconds"] = sum(c.seconds for c in answer.calls)
        except PlError as failure:  # matplotlib, too, can kill its process
            error, logs = f"The page could not be drawn: {failure.sentence}", []
        if error:
            logs = [*logs, LogRecord(level="warning", message=error, origin=self.record.name)]
        known = len(self.logs)
        self.logs = [*self.logs[:known], *(record for record in logs if record not in self.logs)]
        write_json(self.folder / "log.json", self.logs)
        self.timing["render_seconds"] = time.monotonic() - begin
        self.open_call = None


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


