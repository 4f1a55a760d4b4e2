"""Restore a calibration from its products."""

from __future__ import annotations

from typing import Any

from pl_hifv import delivery
from pl_hifv.heuristics.smoothing import Window, decide
from pl_hifv.lines import KEY as LINES
from pl_hifv.stages.applycals import ApplycalsInputs, apply_library
from pl_hifv.stages.hanning import SMOOTHED, moved, recorded, smooth, smooth_in_order
from pl_hifv.stages.importdata import line_windows
from pl_kernel import param
from pl_kernel.common import flagversions
from pl_kernel.common.applying import Application
from pl_kernel.common.delivery import FINAL
from pl_kernel.common.restoredata import Restore, Restorer
from pl_kernel.common.restoredata import RestoredataInputs as CommonInputs
from pl_kernel.effects import Effect, SetValue
from pl_kernel.stage_context import StageContext


class RestoredataInputs(CommonInputs):
    gainmap: bool = param(False, doc="The calibration was applied with gainmap (sky survey).")
    ocorr_mode: str = param("co", doc="Accepted for old scripts.", hidden=True)
    bdfflags: bool = param(False, doc="Accepted for old scripts.", hidden=True)


class _Restore(Restore):
    fallback = ("statwt_1", FINAL)
    purposes = delivery.PURPOSES
    inputs: RestoredataInputs

    def prepare(self) -> None:
        """Smooth what was smoothed; for deliveries that do not say, what the rule says with every window continuum."""
        before = recorded(self.ctx, self.ms)
        self.smoothed = sorted(before) if before is not None else self._smooth()
        self.facts["Smoothed spws"] = ", ".join(map(str, self.smoothed)) or "none"
        if delivery.windows(self.found, self.ms, "lines") is None:
            self.missing.append("the record of line windows")

    def _smooth(self) -> list[int]:
        wanted = delivery.windows(self.found, self.ms, "smoothed")
        if wanted is None:
            windows = [Window(id=int(w.id), line=False, online_binning=w.online_binning) for w in self.ms.science_spws]
            wanted = tuple(c.spw for c in decide(windows) if c.smooth)
            self.missing.append("the record of smoothed windows")
        if wanted and delivery.in_raw_order(self.found, wanted, self.ms):
            self.facts["Rows"] = f"in the order of the raw data, as pipeline {self.found.pipeline} left them"
            self.ms = moved(self.ctx, self.ms, smooth_in_order(self.ctx, self.ms, list(wanted)))
        elif wanted:
            self.ms = moved(self.ctx, self.ms, smooth(self.ctx, self.ms, list(wanted)))
        return list(wanted)

    def apply(self, ctx: StageContext) -> Application:
        how = {k: v for k, v in self.found.state.applied.items() if k in ("applymode", "parang", "calwt", "gainmap")}
        options = ApplycalsInputs(**{"gainmap": self.inputs.gainmap, **how})
        calls, gone, done = apply_library(ctx, self.ms, options)
        return Application(calls=tuple(calls), dropped=gone, fields=frozenset(done))

    def finish(self, names: tuple[str, ...]) -> None:
        """Put the flags from before statwt back: hifv_statwt ends with the final ones."""
        before = self.found.state.versions.get("before_statwt") or self.first(names, "statwt_1", FINAL)
        flagversions.restore(self.ctx, self.ms, before)


class Restoredata(Restorer[RestoredataInputs]):
    """Restore a calibration from its products.

    The windows that were smoothed are smoothed again, the flags from before applycal put back, the delivered caltables
    applied in their order, and the flags from before statwt put back: hifv_statwt then ends with the final flags and
    weights. CORRECTED_DATA and flags are those of the delivered run in every cell. Flags belong to rows: a measurement
    set with other rows, or in another order, is refused.

    Deliveries of the observatory's pipeline lack the flags before applycal and the record of rows; the restore is then
    the observatory's own (flags of statwt_1 or Pipeline_Final first), and the page says what was missing. Deliveries
    without a record of smoothing are smoothed by the rule for continuum; without a record of line windows there are
    none, unless hifv_importdata was told. Pipelines before 2026.1.1.3 smoothed some of the windows in place: then the
    rows stay in the order of the raw data, which the flags are for.
    """

    name = "hifv_restoredata"
    job_class = _Restore

    def values(self, ctx: StageContext, jobs: list[Any]) -> list[Effect]:
        smoothed, lines = dict(ctx.value(SMOOTHED) or {}), dict(ctx.value(LINES) or {})
        for job in jobs:
            smoothed[job.ms.name] = list(job.smoothed)
            known = delivery.windows(job.found, job.ms, "lines")
            told = lines.get(job.ms.name) != line_windows(job.ms, "auto")
            if known is not None or not told or job.ms.name not in lines:
                lines[job.ms.name] = list(known or ())
        return [SetValue(SMOOTHED, smoothed), SetValue(LINES, lines)]
