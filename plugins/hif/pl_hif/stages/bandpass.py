"""Solve for the bandpass of every antenna."""

from __future__ import annotations

from pl_hif import solve
from pl_hif.solve import Caltable
from pl_hif.stages.refant import refants
from pl_kernel import Inputs, Result, Stage, param
from pl_kernel.effects import Effect, RegisterCalibration
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.stage_context import StageContext


class BandpassInputs(Inputs):
    intent: str | None = param(
        None, doc="Intent of the fields to solve on; default the first present of BANDPASS, AMPLITUDE, PHASE."
    )
    solint: str = param("inf", doc="Solution interval in time, and channels if wanted ('inf,8MHz').")
    combine: str = param("scan", doc="Axes to combine: scan, field, spw.")
    minsnr: float = param(3.0, doc="Solutions below this signal-to-noise ratio are flagged.", minimum=0.0)
    solnorm: bool = param(True, doc="Normalise the average amplitude to one, so that gains alone carry the scale.")
    fillgaps: int = param(0, doc="Fill flagged gaps of up to this many channels by interpolation.", minimum=0)
    phaseup: bool = param(True, doc="Solve for phases against time first.")
    phaseupsolint: str = param("int", doc="Solution interval of those phases.")
    phaseupminsnr: float = param(3.0, doc="Lowest signal-to-noise ratio of those phases.", minimum=0.0)


class BandpassResult(Result):
    """Bandpass tables and the phases they were solved with, one each per measurement set."""

    tables: tuple[Caltable, ...]
    phaseup: tuple[Caltable, ...]
    intent: str
    refants: dict[str, str]


class Bandpass(Stage[BandpassInputs, BandpassResult]):
    """Solve for the bandpass of every antenna.

    First the phases of the bandpass calibrator against time, on the central third of each window where the bandpass is
    flat enough; with them applied, one bandpass (CASA type B) from all its scans. The phases are of passage: they are
    forgotten, the bandpass is registered for all data.

    The central third is the reference pipeline's (2026). A calibrator with another intent than BANDPASS is used with a
    warning; none at all is an error, and so is a table without a single good solution.
    """

    name = "hif_bandpass"
    topic = "calibration"
    page_reads = frozenset()
    each_set = True

    def suggest(self, ctx: StageContext, inputs: BandpassInputs) -> dict[str, object]:
        present = set().union(*(ms.intents for ms in ctx.measurement_sets(inputs.vis)))
        for intent in ("BANDPASS", "AMPLITUDE", "PHASE"):
            if intent in present:
                return {"intent": (intent, f"{intent} is the best of the intents that the data have.")}
        return {"intent": ("BANDPASS", "The data have no calibrator.")}

    def check(self, ctx: StageContext, inputs: BandpassInputs) -> None:
        for ms in ctx.measurement_sets(inputs.vis):
            solve.fields_for(ms, inputs.intent or "BANDPASS", "the bandpass")

    def run(self, ctx: StageContext, inputs: BandpassInputs) -> BandpassResult:
        intent = inputs.intent or "BANDPASS"
        if intent != "BANDPASS":
            ctx.log.warning(
                f"There is no bandpass calibrator; the bandpass is solved on the fields with intent {intent}."
            )
        tables, phases, chosen = [], [], {}
        effects: list[Effect] = []
        for ms in ctx.measurement_sets(inputs.vis):
            chosen[ms.name] = refants(ctx, ms)
            phase, table = self._one(ctx, ms, inputs, intent, chosen[ms.name])
            phases += [phase] if phase else []
            tables.append(table)
            # linearflag: channels whose solution is flagged stay flagged in the data instead of being bridged over.
            effects.append(RegisterCalibration(solve.application(ctx, ms, table, interp="linear,linearflag")))
        return BandpassResult(
            tables=tuple(tables), phaseup=tuple(phases), intent=intent, refants=chosen, effects=tuple(effects)
        )

    def _one(
        self, ctx: StageContext, ms: MeasurementSet, inputs: BandpassInputs, intent: str, refant: str
    ) -> tuple[Caltable | None, Caltable]:
        fields = solve.fields_for(ms, intent, "the bandpass")
        phase = None
        inner = ctx
        if inputs.phaseup:
            phase = solve.gaincal(
                ctx, ms, ctx.path(ms, "phaseup", "gpcal"), fields, refant=refant, spw=solve.central_spws(ms),
                solint=inputs.phaseupsolint, calmode="p", minsnr=inputs.phaseupminsnr,
            )  # fmt: skip
            solve.require(phase, "the initial phases of the bandpass calibrator")
            inner = ctx.what_if(solve.application(ctx, ms, phase, field=solve.ids(fields), gainfield="nearest"))
        table = solve.bandpass(
            inner, ms, ctx.path(ms, "bcal"), fields, refant=refant, solint=inputs.solint, combine=inputs.combine,
            minsnr=inputs.minsnr, solnorm=inputs.solnorm, fillgaps=inputs.fillgaps,
        )  # fmt: skip
        return phase, solve.require(table, "the bandpass")
