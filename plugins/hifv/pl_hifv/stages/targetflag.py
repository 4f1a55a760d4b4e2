"""Flag outliers with one plain pass of rflag."""

from __future__ import annotations

from pl_hifv.contsel import continuum
from pl_hifv.flagger import Step
from pl_hifv.heuristics import rfi
from pl_hifv.occupancy import look
from pl_hifv.selections import Part, calibrators, targets
from pl_hifv.stages.checkflag import Checked, whole_observations
from pl_kernel import Inputs, PlError, Result, Stage, param
from pl_kernel.common import flagversions as versions
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.stage_context import StageContext


class TargetflagInputs(Inputs):
    intents: tuple[str, ...] = param(
        ("CALIBRATE", "TARGET"), choices=("CALIBRATE", "TARGET"), doc="Flag calibrators, targets, or both."
    )


class TargetflagResult(Result):
    """Flags before and after, by measurement set."""

    sets: tuple[Checked, ...]


class Targetflag(Stage[TargetflagInputs, TargetflagResult]):
    """Flag outliers with one plain pass of rflag.

    Parallel hands of the corrected data, scale 4 in time and frequency, on calibrators and targets; targets only in
    their continuum channels where cont.dat names them. Kept so that old recipes run: hifv_checkflag('target-vla') does
    this as its last step, and more. (The reference compares the literal words *CALIBRATE* and *TARGET* with the intents
    and therefore always takes the branch without selection; here the selection is what it says.)
    """

    name = "hifv_targetflag"
    page_reads = frozenset()
    topic = "flagging"
    each_set = True
    mutates = frozenset({"flags"})

    def check(self, ctx: StageContext, inputs: TargetflagInputs) -> None:
        for ms in self.sets(ctx, inputs):
            with ctx.casa.table(ms.path) as table:
                if "CORRECTED_DATA" not in table.colnames():
                    raise PlError(f"{ms.name} has no calibrated data to look at; apply the calibration first.")

    def sets(self, ctx: StageContext, inputs: TargetflagInputs) -> tuple[MeasurementSet, ...]:
        return whole_observations(ctx, inputs.vis)

    def run(self, ctx: StageContext, inputs: TargetflagInputs) -> TargetflagResult:
        return TargetflagResult(sets=tuple(self._one(ctx, ms, inputs) for ms in self.sets(ctx, inputs)))

    def _one(self, ctx: StageContext, ms: MeasurementSet, inputs: TargetflagInputs) -> Checked:
        version = versions.save(ctx, ms, f"hifv_targetflag_s{ctx.stage_number}", "flags before hifv_targetflag")
        chosen = {"CALIBRATE": calibrators(ms), "TARGET": targets(ms)}
        parts = [chosen[i] for i in inputs.intents]
        whole = Part(fields={f for p in parts for f in p.fields}, scans={s for p in parts for s in p.scans})
        before, seen = look(ctx, ms, fields=whole.fields, scans=whole.scans, column="CORRECTED_DATA")
        known = continuum(ctx, ms)
        steps = []
        for part in parts:
            special = [f for f in part.fields if f in known] if part == chosen["TARGET"] else []
            rest = [f for f in part.fields if f not in special]
            jobs = [(part.only(ms, [f]), known[f]) for f in special]
            jobs += [(part.only(ms, rest), ms.science_spw_selection)] if rest else []
            steps += [self._rflag(ctx, ms, one, spw) for one, spw in jobs if one.scans]
        after, left = look(ctx, ms, fields=whole.fields, scans=whole.scans, column="CORRECTED_DATA")
        return Checked(
            vis=ms.name, fields=[ms.field(f).name for f in whole.fields], scans=whole.scans, steps=steps, before=before,
            after=after, spectra_before=seen, spectra_after=left, version=version,
            contdat=[ms.field(f).name for f in known if f in whole.fields],
        )  # fmt: skip

    def _rflag(self, ctx: StageContext, ms: MeasurementSet, part: Part, spw: str) -> Step:
        names = [c for w in ms.science_spws for c in ms.polarization_of(w.id).correlations]
        correlation = "ABS_" + ",".join(rfi.hands(tuple(dict.fromkeys(names)), rfi.PARALLEL))
        field = ",".join(str(f) for f in part.fields)
        ctx.casa.flagdata(
            vis=ms.path, mode="rflag", field=field, scan=",".join(str(s) for s in part.scans), spw=spw,
            correlation=correlation, datacolumn="corrected", ntime="scan", combinescans=False, winsize=3,
            timedevscale=4.0, freqdevscale=4.0, extendflags=False, action="apply", flagbackup=False, savepars=False,
        )  # fmt: skip
        return Step(algorithm="rflag", correlation=correlation, column="corrected", fields=field)
