"""The worker's part of a stage: resolve what is left to resolve, run, render.  Called by the runner over the socket."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from .casa import CallRecord, LogRecord, Recorder
from .compute import serve
from .errors import PlError, StageFailed
from .joining import join_results
from .journal import busy
from .ms.model import MeasurementSet
from .packing import PackedContext
from .params import ResolvedValue, fill, resolve
from .plugins import registry
from .serialize import from_json, to_json
from .stage import Result, Stage
from .stage_context import Place, StageContext, import_casa
from .weblog.page import make_page

DATA_READ = "data_read"
"""Kind of the message that a page has read what it needs of the measurement sets."""


@attrs.frozen(kw_only=True)
class StageJob:
    """One stage to run: what the worker needs to know, all plain data."""

    place: Place
    context: PackedContext
    recipe: Mapping[str, Any]
    user: Mapping[str, Any]
    workers: int = 1
    scheduler: str = ""


@attrs.frozen(kw_only=True)
class StageAnswer:
    """What comes back from a stage that ended: its inputs as used, its result as JSON, or the error."""

    inputs: dict[str, ResolvedValue]
    result: Any
    error: str = ""
    detail: str = ""
    calls: list[CallRecord]
    logs: list[LogRecord]
    choices: list[Any]
    seconds: float
    peak_rss_mb: float


def run_stage(job: StageJob) -> StageAnswer:
    """Run one stage in this process."""
    with busy(job.place.stage_dir.parent.parent):
        return _run_stage(job)


def _run_stage(job: StageJob) -> StageAnswer:
    recorder = Recorder(emit=_emit)
    ctx = _context(job, recorder, job.place.stage_dir / "casa.log")
    os.chdir(job.place.work)
    begin = time.monotonic()
    resolved: dict[str, ResolvedValue] = {}
    result, error, detail = None, "", ""
    try:
        cls = ctx.registry.stage(job.place.stage_name)
        if cls.takes_data:
            ctx.warm_up()
        stage = cls()
        inputs, resolved = resolve(cls.inputs_class, job.recipe, job.user, cls.name)
        suggested = stage.suggest(ctx, inputs)
        if suggested:
            inputs, resolved = fill(inputs, resolved, suggested)
        stage.check(ctx, inputs)
        outcome = _outcome(stage, ctx, inputs)
        if not isinstance(outcome, Result):
            raise StageFailed(f"Stage {cls.name} returned {type(outcome).__name__}, not a result.")
        result = to_json(outcome)
    except PlError as refusal:
        error, detail = refusal.sentence, refusal.detail or _traceback()
    except OSError as refusal:
        if refusal.errno not in (errno.ENOSPC, errno.EDQUOT):
            error = f"Stage {job.place.stage_name} failed: {type(refusal).__name__}: {refusal}"
        else:
            what = f" {refusal.filename}" if refusal.filename else ""
            error = f"Stage {job.place.stage_name} cannot write{what}: there is no space left."
        detail = _traceback()
    except MemoryError:
        error, detail = f"Stage {job.place.stage_name} ran out of memory.", _traceback()
    except Exception as failure:
        error, detail = f"Stage {job.place.stage_name} failed: {type(failure).__name__}: {failure}", _traceback()
    return StageAnswer(
        inputs=resolved, result=result, error=error, detail=detail, calls=recorder.calls, logs=recorder.logs,
        choices=[to_json(c) for c in ctx.choices], seconds=time.monotonic() - begin, peak_rss_mb=_peak_mb(),
    )  # fmt: skip


def _outcome(stage: Stage[Any, Any], ctx: StageContext, inputs: Any) -> Any:
    """The result of a stage: of one call, or joined from calls for single measurement sets."""
    sets = stage.sets(ctx, inputs) if stage.each_set else ()
    if len(sets) < 2:
        return stage.run(ctx, inputs)
    # Split with one worker as well: what comes out does not depend on the number of workers.
    parts = ctx.map_sets(run_one_set, sets, stage.name, inputs, label=stage.name)
    return join_results(parts, ctx.context.values)


def run_one_set(ctx: StageContext, ms: MeasurementSet, name: str, inputs: Any) -> Result:
    """Run a stage on one measurement set."""
    outcome = ctx.registry.stage(name)().run(ctx, attrs.evolve(inputs, vis=(ms.name,)))
    if not isinstance(outcome, Result):
        raise StageFailed(f"Stage {name} returned {type(outcome).__name__}, not a result.")
    return outcome


def render_stage(job: StageJob, result_json: Mapping[str, Any]) -> StageAnswer:
    """Make the page of a finished stage; what fails is a note on the page and a log record."""
    recorder = Recorder(emit=_emit)
    ctx = _context(job, recorder, job.place.stage_dir / "render.log")
    os.chdir(job.place.work)
    begin = time.monotonic()
    cls = ctx.registry.stage(job.place.stage_name)
    result = from_json(result_json, cls.result_class)
    error = ""
    try:
        make_page(
            ctx, result, ctx.registry.renderers_for(cls), title=cls.summary(),
            on_data_read=lambda: _emit(DATA_READ, None),
        )  # fmt: skip
    except Exception as failure:
        error = f"The page of {cls.name} could not be made: {type(failure).__name__}: {failure}"
    return StageAnswer(
        inputs={}, result=None, error=error, detail=_traceback() if error else "", calls=recorder.calls,
        logs=recorder.logs, choices=[], seconds=time.monotonic() - begin, peak_rss_mb=_peak_mb(),
    )  # fmt: skip


def warm_up(logfile: Path) -> None:
    """Import what drawing needs, seconds of it, while nothing is to be drawn yet."""
    with contextlib.suppress(PlError):  # without CASA, the stages will say so
        import_casa(logfile)
    importlib.import_module("pl_kernel.weblog.plots")


def casa_version(logfile: Path) -> str:
    """Return the version of casatasks, imported here."""
    from .casa import Casa

    return Casa(Recorder(), logfile).version


def _context(job: StageJob, recorder: Recorder, logfile: Path) -> StageContext:
    return StageContext(
        job.place, job.context.unpack(), recorder, logfile, workers=job.workers, scheduler=job.scheduler,
        plugins=registry(),
    )


def _emit(kind: str, record: Any) -> None:
    serve.send((kind, record))


def _traceback() -> str:
    import traceback

    return traceback.format_exc() if sys.exc_info()[0] is not None else ""


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024.0**2 if sys.platform == "darwin" else 1024.0)
