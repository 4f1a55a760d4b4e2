"""Solve for phases or amplitudes of the gains against time."""

from __future__ import annotations

import math

import attrs

from pl_hif import solve
from pl_hif.heuristics.intents import separation_rad
from pl_hif.solve import Caltable
from pl_hif.stages.refant import refants
from pl_kernel import Inputs, Result, Stage, param
from pl_kernel.calibration import CalApplication
from pl_kernel.effects import RegisterCalibration
from pl_kernel.ms.model import Field, MeasurementSet
from pl_kernel.stage_context import StageContext


class GaincalInputs(Inputs):
    intent: str = param("PHASE,AMPLITUDE,BANDPASS", doc="Intents of the fields to solve on.")
    calmode: str = param("ap", choices=("p", "a", "ap"), doc="Solve for phases, amplitudes, or both.")
    gaintype: str = param("G", choices=("G", "T", "K"), doc="Per receptor, common to both receptors, or delays.")
    solint: str = param("inf", doc="Solution interval: 'int' per integration, 'inf' per scan, or a time.")
    combine: str = param("", doc="Axes to combine: scan, field, spw.")
    minsnr: float = param(3.0, doc="Solutions below this signal-to-noise ratio are flagged.", minimum=0.0)
    solnorm: bool = param(False, doc="Normalise the average amplitude to one.")
    apply_to: str = param(
        "all", choices=("all", "calibrators", "targets", "none"), doc="Which fields the table is registered for."
    )


@attrs.frozen(kw_only=True)
class TargetGains:
    """From which calibrator a target gets its gains."""

    vis: str
    target: str
    calibrator: str
    separation_deg: float


class GaincalResult(Result):
    """One table per measurement set, and which calibrator serves which target."""

    tables: tuple[Caltable, ...]
    calmode: str
    solint: str
    apply_to: str
    refants: dict[str, str]
    targets: tuple[TargetGains, ...] = ()


class Gaincal(Stage[GaincalInputs, GaincalResult]):
    """Solve for phases or amplitudes of the gains against time.

    One table for all calibrators, with everything the calibration library holds for them applied first. Calibrators
    get their own solutions (``gainfield`` nearest); a target gets those of the phase calibrator nearest in the sky,
    interpolated linearly in time.

    Groups of data with different tables to pre-apply are solved one after another into the same table. What counts as
    calibrator is decided by intent. Registered targets without any phase calibrator are an error, where the reference
    pipeline would apply the gains of the nearest field of any kind.
    """

    name = "hif_gaincal"
    topic = "calibration"
    page_reads = frozenset()
    each_set = True

    def check(self, ctx: StageContext, inputs: GaincalInputs) -> None:
        for ms in ctx.measurement_sets(inputs.vis):
            solve.fields_for(ms, inputs.intent, "the gain calibration")
            if inputs.apply_to in ("all", "targets") and ms.fields_with_intent("TARGET,CHECK"):
                solve.fields_for(ms, "PHASE", "the gains of the target")

    def run(self, ctx: StageContext, inputs: GaincalInputs) -> GaincalResult:
        tables, chosen, served = [], {}, []
        applications: list[CalApplication] = []
        for ms in ctx.measurement_sets(inputs.vis):
            chosen[ms.name] = refants(ctx, ms)
            fields = solve.fields_for(ms, inputs.intent, "the gain calibration")
            what = {"p": "gpcal", "a": "gacal", "ap": "gcal"}[inputs.calmode]
            inner = self._as_for_targets(ctx, ms, inputs)
            table = solve.gaincal(
                inner, ms, ctx.path(ms, inputs.solint, what), fields, refant=chosen[ms.name], solint=inputs.solint,
                calmode=inputs.calmode, gaintype=inputs.gaintype, combine=inputs.combine, minsnr=inputs.minsnr,
                solnorm=inputs.solnorm,
            )  # fmt: skip
            tables.append(solve.require(table, "the gains"))
            found, gains = self._registrations(ctx, ms, table, inputs.apply_to)
            applications += found
            served += gains
        return GaincalResult(
            tables=tuple(tables), calmode=inputs.calmode, solint=inputs.solint, apply_to=inputs.apply_to,
            refants=chosen, targets=tuple(served), effects=tuple(RegisterCalibration(a) for a in applications),
        )  # fmt: skip

    def _as_for_targets(self, ctx: StageContext, ms: MeasurementSet, inputs: GaincalInputs) -> StageContext:
        """The calibration to solve phases with that targets will get: only what the targets have as well.

        Phases of the calibrators alone, applied first, would leave nothing to be found for the targets.
        """
        targets = _targets(ms)
        if "p" not in inputs.calmode or inputs.apply_to not in ("all", "targets") or not targets:
            return ctx
        groups = ctx.calibration.query(ms, field=solve.ids(targets))
        shared = {c.gaintable for g in groups for c in g.calfroms}
        return ctx.with_calibration(ctx.calibration.unregister(lambda _to, cal: cal.gaintable not in shared))

    def _registrations(
        self, ctx: StageContext, ms: MeasurementSet, table: Caltable, apply_to: str
    ) -> tuple[list[CalApplication], list[TargetGains]]:
        targets = _targets(ms)
        calibrators = [f for f in ms.fields if f.intents and f not in targets]
        made, served = [], []
        if apply_to in ("all", "calibrators") and calibrators:
            made.append(
                solve.application(ctx, ms, table, field=solve.ids(calibrators), gainfield="nearest", interp="linear")
            )
        if apply_to in ("all", "targets"):
            by_calibrator: dict[int, list[Field]] = {}
            for target in targets:
                calibrator = solve.nearest_phase_calibrator(ms, target)
                angle = separation_rad(target.ra_rad, target.dec_rad, calibrator.ra_rad, calibrator.dec_rad)
                served.append(
                    TargetGains(
                        vis=ms.name, target=target.name, calibrator=calibrator.name, separation_deg=math.degrees(angle)
                    )
                )
                by_calibrator.setdefault(calibrator.id, []).append(target)
            for calibrator_id, group in by_calibrator.items():
                made.append(
                    solve.application(
                        ctx, ms, table, field=solve.ids(group), gainfield=str(calibrator_id), interp="linear",
                    )
                )  # fmt: skip
        return made, served


def _targets(ms: MeasurementSet) -> list[Field]:
    """Targets and check sources that calibrate nothing themselves."""
    return [f for f in ms.fields_with_intent("TARGET,CHECK") if not f.intents & {"PHASE", "AMPLITUDE", "BANDPASS"}]
