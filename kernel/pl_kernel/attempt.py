"""One stage being run: snapshot, work, scores, records, in the order in which they must happen.

The runner decides which stage is next and keeps the context; what is here is everything between the two.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from . import execute, snapshots
from .casa import CallRecord, LogRecord
from .casa.script import stage_block
from .context import Context
from .drawing import Drawing
from .errors import DataError, PlError, WorkerDied
from .execute import StageAnswer, StageJob
from .journal import RunRecord, RunStep, StageError, StageRecord
from .qa import QAScore, combine, score_result
from .serialize import from_json, to_json, write_json
from .stage import Stage
from .stage_context import PAGES, Place

if TYPE_CHECKING:
    from .runner import Runner

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


class Attempt:
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
        if cls.mutates:  # pages show the data as their stages left them
            with self._waiting():
                runner.pages.wait_read(cls.mutates)
        self._snapshot(cls)
        self.job = StageJob(
            place=Place(name, number, runner.folder.work, self.folder, runner.folder.products),
            context=runner.packer.pack(attrs.evolve(runner.context, stage_number=number)), recipe=self.step.parameters,
            user=self.step.user, workers=int(runner.record.options.get("workers", 1)), scheduler=runner.scheduler,
        )  # fmt: skip
        answer = self.answer = self._ask(execute.run_stage, self.job)
        self.calls, self.logs = answer.calls, [*answer.logs, *self._observer_complaints()]
        self._write_inputs(answer)
        if answer.error:
            raise PlError(answer.error, detail=answer.detail)
        write_json(self.folder / "result.json", answer.result)
        self.context = runner.fold_result(number, answer.result)
        runner.mark_in_place(self.context)
        runner.check_names(self.context, runner.context)
        result = from_json(answer.result, cls.result_class)
        if cls.takes_data:
            _check_needs(self.context, runner.record)
        scores = self._score(cls, result, self.context)
        if cls.mutates:
            # Once this stage is done, the data that pages before it show are no more: a run killed then could not draw
            # them again.
            with self._waiting():
                runner.collect_pages(altered=cls.mutates)
        self._write_timing()
        work, products = runner.folder.listing()
        self.record = attrs.evolve(
            self.record, status="ok", score=combine(scores), ended=datetime.now(UTC), work=work, products=products
        )
        self.block = stage_block(number, self.record.title or name, to_json(self.calls), str(self.job.place.work))
        runner.write_script(self.block)
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
        self.runner.emit(
            "stage_finished", self.record.number, self.record.name, status="skipped", score=None,
            title=self.record.title,
        )  # fmt: skip

    def show(self) -> None:
        """Have the page of the finished stage drawn, and tell everybody."""
        assert self.outcome is not None
        drawing = Drawing(
            place=self.job.place, context=self.context, result=self.answer.result, logs=tuple(self.logs),
            timing=self.timing, reads=self.runner.plugins.page_reads(self.runner.plugins.stage(self.record.name)),
        )  # fmt: skip
        try:
            self.runner.pages.submit(drawing)
        except OSError as error:  # no process could be started
            message = f"The page of stage {self.record.number} cannot be drawn: {error}"
            self.runner.emit("log", self.record.number, self.record.name, level="warning", message=message)
        finally:
            self.runner.emit(
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
        self.runner.emit(
            "stage_failed", self.record.number, self.record.name, status=status, message=sentence, detail=detail
        )
        return sentence

    # ---- parts -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.timing["wait_seconds"] = self.timing.get("wait_seconds", 0.0) + time.monotonic() - begin

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
        sets = self.runner.context.measurement_sets if cls.mutates else ()
        if sets:
            paths = {str(self.runner.absolute(ms.path)): str(target / ms.name) for ms in sets}
            logfile, threads = str(self.folder / "casa.log"), int(self.runner.record.options.get("workers", 1))
            self.runner.worker.call(snapshots.take_all, paths, sorted(cls.mutates), logfile, threads)
        self.record = attrs.evolve(self.record, snapshot=tuple(ms.name for ms in sets))
        self.timing["snapshot_seconds"] = time.monotonic() - begin

    def _ask(self, function: Any, *args: Any) -> StageAnswer:
        try:
            answer = self.runner.worker.call(
                function, *args, on_message=self._on_message, on_question=self._on_question
            )
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
            self.runner.emit("progress", number, name, **content)
        elif kind == "call":
            self.open_call = content
            self.runner.emit("progress", number, name, done=0, total=0, message=content.task)
        elif kind == "called":
            self.open_call = None
            self.calls.append(content)
        elif kind == "log":
            self.logs.append(content)
            if content.level != "info":
                self.runner.emit("log", number, name, level=content.level, message=content.message)

    def _on_question(self, question: str) -> None:
        if question == PAGES:
            with self._waiting():
                self.runner.collect_pages()

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
