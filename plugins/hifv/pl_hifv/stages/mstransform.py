"""Split off the calibrated targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from pl_hifv.lines import line_spws
from pl_hifv.selections import Part, with_intent
from pl_kernel import InputError, Inputs, PlError, Result, Stage, param
from pl_kernel.common import flagversions as versions
from pl_kernel.common.flagcommands import find_file
from pl_kernel.effects import AddMeasurementSet, Effect
from pl_kernel.ms.datatypes import ColumnType, DataType, write_history
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.ms.reader import read_measurement_set
from pl_kernel.ms.selection import compact_ids
from pl_kernel.ms.tables import append_history
from pl_kernel.stage_context import StageContext

_TEMPLATE = """# Flags of the user for the targets of {name}, one command of CASA's flagdata a line, such as
# mode='manual' antenna='ea01' spw='3:10~12' timerange='2024/01/10/11:17:00~2024/01/10/11:18:00'
"""


PHASE_SCANS = "hif_selfcal:phasecal_scan_info"
"""ORIGIN of the entry of HISTORY with the scans of phase calibrators, as the reference pipeline writes it (2026)."""
SETUP = ("SpectralWindow.xml", "DataDescription.xml")
"""Files of the science data model inside a measurement set; mstransform leaves them behind."""
AS_THEY_CAME = "made with the flags the data came with: lines may be flagged as interference."
"""Remark on the line data of a calibrated measurement set whose flags from before the flagging of targets are gone."""
_TARGET_FLAGS = "hifv_checkflag_target-vla"
"""Part of the name of these flags, in this pipeline and the reference (2026)."""


class MstransformInputs(Inputs):
    outputvis: str | None = param(None, doc="Name of the continuum measurement set; default NAME_targets_cont.ms.")
    outputvis_for_line: str | None = param(None, doc="Name of the line measurement set; default NAME_targets.ms.")
    field: str = param("", doc="Fields to split off, as a CASA selection; default all with the intent.")
    intent: str = param("TARGET", doc="What the fields were observed for.")
    spw: str = param("", doc="Windows of the continuum measurement set; default all science windows.")
    spw_line: str = param("", doc="Windows of the line measurement set; default all line windows.")
    chanbin: int = param(1, unit="channel", doc="Channels to average.", minimum=1)
    timebin: str = param("0s", doc="Time to average over, such as 10s.")
    omit_contline_ms: bool = param(False, doc="Make no line measurement set.")


@attrs.frozen(kw_only=True)
class Split:
    """One measurement set made from another; ``path`` is empty where none was made.

    ``reason`` says why none was, or what else is to be known; ``doubtful`` where lines may be flagged.
    """

    vis: str
    kind: str
    name: str = ""
    path: str = ""
    fields: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    spw: str = ""
    rows: int = 0
    size_bytes: int = 0
    reason: str = ""
    doubtful: bool = False


class MstransformResult(Result):
    """The measurement sets made."""

    splits: tuple[Split, ...]


class Mstransform(Stage[MstransformInputs, MstransformResult]):
    """Split off the calibrated targets.

    The continuum measurement set takes all science windows with all flags. The line measurement set takes the line
    windows with the flags from before interference was looked for in the targets, because what rflag takes for
    interference may be a line. Spw, field and antenna ids stay as they are. Averaging in channels or time is possible.

    The flags from before are those of this run, or of the run that calibrated the data, where they came with their
    flag versions. Failing these the flags are taken as they are, which costs score where the data came calibrated: the
    reference pipeline (2026) makes no line measurement set then. No line windows mean none, and a sentence that says
    so. The flags of the parent are put back whatever happens.

    HISTORY of what is made keeps when and where the phase calibrators were, which
    self-calibration wants to know; files that describe the windows go with it.
    """

    name = "hifv_mstransform"
    page_reads = frozenset()
    topic = "dataset"
    each_set = True
    mutates = frozenset({"flags"})

    def check(self, ctx: StageContext, inputs: MstransformInputs) -> None:
        sets = self.sets(ctx, inputs)
        if (inputs.outputvis or inputs.outputvis_for_line) and len(sets) > 1:
            raise InputError(
                f"outputvis and outputvis_for_line name one measurement set, and there are {len(sets)} to split; leave"
                " them out, or name one in vis."
            )
        for ms in sets:
            if not self._part(ms, inputs).scans:
                what = f"field '{inputs.field}'" if inputs.field else "any field"
                raise PlError(f"{ms.name} has no scans of {what} with intent {inputs.intent} to split off.")

    def sets(self, ctx: StageContext, inputs: MstransformInputs) -> tuple[MeasurementSet, ...]:
        found = ctx.measurement_sets(inputs.vis, types=(DataType.REGCAL_CONTLINE_ALL,))
        if not found:
            raise PlError("No measurement set of the run is calibrated; apply the calibration before splitting.")
        return found

    def _part(self, ms: MeasurementSet, inputs: MstransformInputs) -> Part:
        part = with_intent(ms, inputs.intent)
        if not inputs.field:
            return part
        wanted = set(ms.field_ids(inputs.field))
        return part.only(ms, [f for f in part.fields if f in wanted])

    def run(self, ctx: StageContext, inputs: MstransformInputs) -> MstransformResult:
        splits: list[Split] = []
        effects: list[Effect] = []
        sets = self.sets(ctx, inputs)
        for count, ms in enumerate(sets, 1):
            part = self._part(ms, inputs)
            spw = inputs.spw or _observed(ms, part)
            name = inputs.outputvis or f"{ms.stem}_targets_cont.ms"
            made = _split(ctx, ms, part, spw, name, DataType.REGCAL_CONT_SCIENCE, inputs)
            splits.append(_described(ms, made, part, spw, "continuum"))
            effects.append(AddMeasurementSet(made))
            line = self._line(ctx, ms, part, inputs)
            if isinstance(line, str):
                ctx.log.info(f"{ms.name}: {line}")
                splits.append(Split(vis=ms.name, kind="line", reason=line))
            else:
                made, doubtful = line
                selection = inputs.spw_line or compact_ids(line_spws(ctx, ms))
                remark = {"reason": AS_THEY_CAME, "doubtful": True} if doubtful else {}
                splits.append(attrs.evolve(_described(ms, made, part, selection, "line"), **remark))
                effects.append(AddMeasurementSet(made))
            _write_template(ms)
            ctx.progress(count, len(sets), ms.name)
        return MstransformResult(splits=tuple(splits), effects=tuple(effects))

    def _line(
        self, ctx: StageContext, ms: MeasurementSet, part: Part, inputs: MstransformInputs
    ) -> tuple[MeasurementSet, bool] | str:
        """The line measurement set and whether its lines may be flagged, or why there is none."""
        if inputs.omit_contline_ms:
            return "a line measurement set was not asked for."
        spw = inputs.spw_line or compact_ids(line_spws(ctx, ms))
        if not spw:
            return "there are no line windows."
        name = inputs.outputvis_for_line or f"{ms.stem}_targets.ms"
        version = _flags_before(ctx, ms)
        if not version:
            doubtful = not ctx.calibration.merged(ms, state="applied")  # calibrated elsewhere
            if doubtful:
                ctx.log.warning(f"{ms.name}, line windows: {AS_THEY_CAME}")
            return _split(ctx, ms, part, spw, name, DataType.REGCAL_CONTLINE_SCIENCE, inputs), doubtful
        with ctx.flags_restored(ms):
            versions.restore(ctx, ms, version)
            made = _split(ctx, ms, part, spw, name, DataType.REGCAL_CONTLINE_SCIENCE, inputs)
        versions.save(ctx, made, version, f"flags of {ms.name} before interference was looked for in the targets")
        return made, False


def _flags_before(ctx: StageContext, ms: MeasurementSet) -> str:
    """Name of the flags from before interference was looked for in the targets; empty where there are none."""
    known = versions.names(ctx, ms)
    version = versions.recorded(ctx, ms).get("target", "")
    if version in known:
        return version
    return next((name for name in reversed(known) if _TARGET_FLAGS in name), "")


def _observed(ms: MeasurementSet, part: Part) -> str:
    seen = {int(s) for scan in part.scans for s in ms.scan(scan).spw_ids}
    return compact_ids(int(s) for s in ms.science_spw_ids if int(s) in seen)


def _split(
    ctx: StageContext, ms: MeasurementSet, part: Part, spw: str, name: str, data_type: DataType,
    inputs: MstransformInputs,
) -> MeasurementSet:  # fmt: skip
    path = name if name.endswith(".ms") else f"{name}.ms"
    ctx.files.rmtree(path)
    ctx.files.rmtree(f"{path}.flagversions")
    averaging: dict[str, Any] = {}
    if inputs.chanbin > 1:
        averaging |= {"chanaverage": True, "chanbin": inputs.chanbin}
    if inputs.timebin.strip() not in ("", "0s", "0"):
        averaging |= {"timeaverage": True, "timebin": inputs.timebin}
    column = "corrected" if ms.column_of(DataType.REGCAL_CONTLINE_ALL) == "CORRECTED_DATA" else "data"
    ctx.casa.mstransform(
        vis=ms.path, outputvis=path, datacolumn=column, reindex=False, spw=spw,
        field=",".join(str(f) for f in part.fields), scan=",".join(str(s) for s in part.scans), **averaging,
    )  # fmt: skip
    made = read_measurement_set(
        path, ctx.telescopes, name=path, session=ms.session, relative_to=ctx.work, open_table=ctx.casa.table
    )
    if not made.intents and ms.intents:
        made = made.with_intents({f.id: f.intents for f in ms.fields if f.id in {g.id for g in made.fields}})
    types = (ColumnType(data_type, "DATA"),)
    write_history(path, types, ctx.casa.table)
    _describe(ctx, ms, path)
    return attrs.evolve(made, origin=ms.name, data_types=types)


def _describe(ctx: StageContext, ms: MeasurementSet, path: str) -> None:
    """Leave with the targets what only the whole observation has: scans of the phase calibrators, and its set-up."""
    found = phase_scans(ms)
    if found:
        append_history(path, PHASE_SCANS, [repr(found)], ctx.casa.table, application=PHASE_SCANS.partition(":")[0])
    for name in SETUP:
        if (Path(ms.path) / name).is_file():
            ctx.files.copy(Path(ms.path) / name, Path(path) / name)


def phase_scans(ms: MeasurementSet) -> dict[str, Any]:
    """Scans of each phase calibrator, their middle in seconds of MJD, and its direction (J2000, radians)."""
    found: dict[str, Any] = {}
    for field in ms.fields_with_intent("PHASE"):
        scans = [s for s in ms.scans if "PHASE" in s.intents_by_field.get(field.id, ())]
        if not scans:
            continue
        m0, m1 = ({"unit": "rad", "value": float(v)} for v in (field.ra_rad, field.dec_rad))
        found[field.name] = {
            "scans": [s.id for s in scans], "phasecenter": {"m0": m0, "m1": m1, "refer": "J2000", "type": "direction"},
            "intent": "phase", "times": [(_mjd_s(s.start) + _mjd_s(s.end)) / 2 for s in scans],
        }  # fmt: skip
    return found


def _mjd_s(moment: Any) -> float:
    return float(moment.timestamp()) + 40587 * 86400.0


def _described(ms: MeasurementSet, made: MeasurementSet, part: Part, spw: str, kind: str) -> Split:
    return Split(
        vis=ms.name, kind=kind, name=made.name, path=made.path, fields=[ms.field(f).name for f in part.fields],
        spw=spw, rows=made.n_rows, size_bytes=made.size_bytes,
    )  # fmt: skip


def _write_template(ms: MeasurementSet) -> None:
    path = Path(f"{ms.stem}.flagtargetstemplate.txt")
    if find_file(None, path.name) is None:  # one beside the run must not be hidden by an empty one
        path.write_text(_TEMPLATE.format(name=ms.name), encoding="utf-8")
