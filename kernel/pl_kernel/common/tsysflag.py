"""Flagging a Tsys caltable: the stage behind hsd_tsysflag, hifa_tsysflag and whoever else has Tsys spectra."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from ..calibration import CalApplication
from ..effects import Effect, RegisterCalibration, SetValue, UnregisterCalibration
from ..errors import DataError, InputError, UnknownName
from ..ms.model import MeasurementSet
from ..params import Inputs, param
from ..stage import Result, Stage
from . import skylines, tsysmetrics
from .calspectra import CalSpectra, read_spectra
from .flagcommands import find_file
from .tsyscal import VALUE
from .tsysmetrics import METRICS, Finding, Limits

if TYPE_CHECKING:
    from ..stage_context import StageContext

ORDER = ", ".join(METRICS)


class TsysFlagInputs(Inputs):
    flag_nmedian: bool = param(True, doc="Flag spectra with a median far above that of the others.")
    fnm_limit: float = param(2.0, minimum=1, doc="Median of a spectrum over that of all antennas and times.")
    fnm_byfield: bool = param(True, doc="Compare within each field, not over all of them.")
    flag_derivative: bool = param(True, doc="Flag spectra with large steps between channels.")
    fd_max_limit: float = param(5.0, minimum=0, doc="100 × MAD of the steps between channels over the median Tsys.")
    flag_edgechans: bool = param(True, doc="Flag the channels at the ends where the spectra are steep.")
    fe_edge_limit: float = param(3.0, minimum=0, doc="Step between channels over the median step.")
    flag_fieldshape: bool = param(True, doc="Flag spectra with another shape than that of the reference fields.")
    ff_refintent: str = param("BANDPASS", doc="Intent of the reference fields; without such fields, all fields.")
    ff_max_limit: float = param(13.0, minimum=0, doc="100 × mean deviation from the shape of the reference.")
    flag_birdies: bool = param(True, doc="Flag spikes in the spectra of single antennas.")
    fb_sharps_limit: float = param(0.15, minimum=0, doc="Step between channels over the median Tsys.")
    flag_toomany: bool = param(True, doc="Flag what is left where most antennas are flagged.")
    tmf1_limit: float = param(0.666, minimum=0, maximum=1, doc="Share of flagged antennas at a time.")
    tmef1_limit: float = param(0.666, minimum=0, maximum=1, doc="Share of antennas flagged at all times.")
    metric_order: str = param(ORDER, doc="Metrics in the order of evaluation; each sees the flags of those before.")
    normalize_tsys: bool = param(False, doc="Give every spectrum a median of 1 before it is judged.")
    filetemplate: Path | None = param(None, doc="File of flag commands; default NAME.flagtsystemplate.txt, if any.")


@attrs.frozen(kw_only=True)
class FlagStep:
    """Flagged share of a table after one step; by antenna and by window. The first step is 'before'."""

    name: str
    flagged: float
    by_antenna: dict[str, float]
    by_spw: dict[str, float]
    commands: tuple[str, ...] = ()
    note: str = ""


@attrs.frozen(kw_only=True)
class FlaggedTable:
    """What was flagged in the Tsys of one measurement set.

    ``table`` is the flagged copy, ``original`` the table as it was. ``lost`` are (antenna, window) that had spectra
    before and have none now. ``ended`` says after which metric nothing was left to judge.
    """

    vis: str
    original: str
    table: str
    steps: tuple[FlagStep, ...]
    lost: tuple[tuple[str, int], ...] = ()
    ended: str = ""

    @property
    def added(self) -> float:
        """Share that was newly flagged."""
        return self.steps[-1].flagged - self.steps[0].flagged


class TsysFlagResult(Result):
    """One record per measurement set."""

    tables: tuple[FlaggedTable, ...]


class TsysFlag(Stage[TsysFlagInputs, TsysFlagResult]):
    """Flag bad system temperatures.

    The user's own flag commands come first. Then each metric looks at the spectra as the metrics before it left them:
    nmedian (an antenna much above the others), derivative (noisy), edgechans (steep ends), fieldshape (another
    shape than the reference), birdies (spikes) and toomany (what is left of a mostly flagged time or window). Both
    polarizations are flagged together.

    The flags go to a copy of the Tsys table, which takes its place in the calibration library: the table as it was
    stays, so that the run can go back.

    A name in ``metric_order`` that is no metric is refused before work; one whose switch is off is skipped.
    """

    topic = "flagging"
    page_reads = frozenset()
    each_set = True

    def sets(self, ctx: StageContext, inputs: TsysFlagInputs) -> tuple[MeasurementSet, ...]:
        return tuple(ms for ms in ctx.measurement_sets(inputs.vis) if not ms.origin)

    def check(self, ctx: StageContext, inputs: TsysFlagInputs) -> None:
        wanted(inputs)
        find_file(inputs.filetemplate, "")
        for ms, table in self._tables(ctx, inputs):
            if not Path(table).is_dir():
                raise DataError(f"The Tsys table {table} of {ms.name} is gone; run h_tsyscal again.")

    def run(self, ctx: StageContext, inputs: TsysFlagInputs) -> TsysFlagResult:
        tables = []
        effects: list[Effect] = []
        known = dict(ctx.value(VALUE) or {})
        pairs = self._tables(ctx, inputs)
        for count, (ms, table) in enumerate(pairs, 1):
            record = flag_table(ctx, ms, table, inputs)
            tables.append(record)
            effects += _replaced(ctx, ms, record)
            known[ms.name] = {**known.get(ms.name, {}), "table": record.table}
            ctx.progress(count, len(pairs), ms.name)
        return TsysFlagResult(tables=tuple(tables), effects=(*effects, SetValue(VALUE, known)))

    def _tables(self, ctx: StageContext, inputs: TsysFlagInputs) -> list[tuple[MeasurementSet, str]]:
        found = []
        for ms in self.sets(ctx, inputs):
            own = registered(ctx, ms)
            if not own:
                raise DataError(f"No Tsys table is registered for {ms.name}; run h_tsyscal first.")
            found.append((ms, own))
        return found


def registered(ctx: StageContext, ms: MeasurementSet) -> str:
    """The Tsys table that is registered for a measurement set; empty when there is none."""
    rows = ctx.calibration.active.of(ms.name).registrations
    return next((c.gaintable for r in reversed(rows) for c in r.calfroms if c.caltype == "tsys"), "")


def wanted(inputs: TsysFlagInputs) -> tuple[str, ...]:
    """The metrics to evaluate, in order.

    Raises:
        UnknownName: ``metric_order`` names something else. InputError: it lacks one that is switched on.
    """
    names = [n for n in (part.strip() for part in inputs.metric_order.split(",")) if n]
    for name in names:
        if name not in METRICS:
            raise UnknownName("Tsys metric", name, METRICS)
    on = {name for name in METRICS if getattr(inputs, f"flag_{name}")}
    if on - set(names):
        raise InputError(f"metric_order lacks {', '.join(sorted(on - set(names)))}; add them or switch them off.")
    return tuple(n for n in names if n in on)


def flag_table(ctx: StageContext, ms: MeasurementSet, original: str, inputs: TsysFlagInputs) -> FlaggedTable:
    """Copy a Tsys table and flag the copy; what is returned names both."""
    table = ctx.path(ms, ext="tsyscal.tbl")
    ctx.files.rmtree(table)
    ctx.files.copytree(original, table)
    names = {a.id: a.name for a in ms.antennas}
    spectra = read_spectra(ctx.casa, table)
    before = dict(spectra)
    steps = [_step("before", spectra, names)]
    template = template_commands(ctx, ms, inputs.filetemplate)
    if template:
        _apply(ctx, table, template)
        spectra = read_spectra(ctx.casa, table)
        steps.append(_step("template", spectra, names, template))
    limits = Limits(**{f.name: getattr(inputs, f.name) for f in attrs.fields(Limits)})
    reference = [f.id for f in ms.fields_with_intent(inputs.ff_refintent)] if inputs.ff_refintent else []
    by_intent = {
        intent: [f.id for f in ms.fields_with_intent(intent)] for intent in ("ATMOSPHERE", "BANDPASS", "AMPLITUDE")
    }
    by_intent = {k: v for k, v in by_intent.items() if v}
    lines_of_air = _lines_of_air(ctx, ms, spectra)
    ended = ""
    for metric in wanted(inputs):
        if all(s.flags.all() for s in spectra.values()):
            ended = steps[-1].name
            ctx.log.error(f"{ms.name}: all Tsys spectra are flagged after '{ended}'; the other metrics have no say.")
            break
        lines: list[str] = []
        notes = []
        for spw, s in spectra.items():
            judged = _normalised(s) if inputs.normalize_tsys else s
            finding = tsysmetrics.evaluate(metric, judged, limits, reference, by_intent, lines_of_air[spw])
            lines += tsysmetrics.commands(finding, s, names)
            spectra[spw] = tsysmetrics.with_flags(s, finding.bad)
            notes += _notes(finding)
        _apply(ctx, table, lines)
        steps.append(_step(metric, spectra, names, lines, " ".join(notes)))
    spectra = read_spectra(ctx.casa, table)  # what the table says now, not what we meant it to say
    steps[-1] = attrs.evolve(_step(steps[-1].name, spectra, names, steps[-1].commands), note=steps[-1].note)
    return FlaggedTable(
        vis=ms.name, original=original, table=table, steps=tuple(steps), lost=_lost(before, spectra, names), ended=ended
    )  # fmt: skip


def _lines_of_air(ctx: StageContext, ms: MeasurementSet, spectra: dict[int, CalSpectra]) -> dict[int, Any]:
    """Channels of atmospheric lines by window; none where the site is unknown or Tsys is one number."""
    site = ctx.telescope(ms).site
    found: dict[int, Any] = dict.fromkeys(spectra)
    if site is not None:
        for spw, s in spectra.items():
            found[spw] = skylines.affected(skylines.model_opacity(ctx.casa, site, ms, s.frequency_hz))
    return found


def template_commands(ctx: StageContext, ms: MeasurementSet, given: Path | None) -> list[str]:
    """The user's flag commands: from the file given, else from NAME.flagtsystemplate.txt (see `find_file`).

    Raises:
        InputError: a line is no flag command of mode manual.
    """
    path = find_file(given, f"{ms.stem}.flagtsystemplate.txt", ctx.work)
    if path is None:
        return []
    lines = [line.strip() for line in path.read_text().splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    for line in lines:
        try:
            words = dict(word.split("=", 1) for word in shlex.split(line))
        except ValueError:
            raise InputError(f"'{line}' in {path.name} is no flag command such as antenna='A1'.") from None
        if words.get("mode", "manual") != "manual":
            raise InputError(f"'{line}' in {path.name} asks for mode {words['mode']}; Tsys takes mode='manual' only.")
    return lines


def _apply(ctx: StageContext, table: str, lines: list[str]) -> None:
    if lines:
        ctx.casa.flagdata(vis=table, mode="list", inpfile=lines, action="apply", flagbackup=False)


def _replaced(ctx: StageContext, ms: MeasurementSet, record: FlaggedTable) -> list[Effect]:
    """Registrations of the table as it was, made for its flagged copy."""
    effects: list[Effect] = []
    for r in ctx.calibration.active.of(ms.name).registrations:
        own = tuple(c for c in r.calfroms if c.gaintable == record.original)
        if own and not r.region.without:
            froms = tuple(attrs.evolve(c, gaintable=record.table) for c in own)
            for to in r.region.within[:1]:
                effects.append(RegisterCalibration(CalApplication(to, froms, origin=ctx.stage_name)))
    return [UnregisterCalibration(record.original), *effects] if effects else []


def _normalised(s: CalSpectra) -> CalSpectra:
    good = s.masked
    middle = np.array([[np.median(p[np.isfinite(p)]) if np.isfinite(p).any() else 1.0 for p in row] for row in good])
    return attrs.evolve(s, values=s.values / middle[:, :, None])


def _notes(finding: Finding) -> list[str]:
    return [f"Spw {finding.spw}: {finding.note}"] if finding.note else []


def _step(
    name: str, spectra: dict[int, CalSpectra], names: dict[int, str], lines: list[str] | tuple[str, ...] = (),
    note: str = "",
) -> FlagStep:  # fmt: skip
    total = sum(s.flags.size for s in spectra.values())
    antennas = sorted({int(a) for s in spectra.values() for a in s.antenna})
    by_antenna = {}
    for antenna in antennas:
        own = [s.flags[s.antenna == antenna] for s in spectra.values()]
        by_antenna[names.get(antenna, str(antenna))] = sum(int(f.sum()) for f in own) / max(sum(f.size for f in own), 1)
    return FlagStep(
        name=name, flagged=sum(int(s.flags.sum()) for s in spectra.values()) / max(total, 1), by_antenna=by_antenna,
        by_spw={str(spw): s.flagged_fraction for spw, s in spectra.items()}, commands=tuple(lines), note=note,
    )  # fmt: skip


def _lost(
    before: dict[int, CalSpectra], after: dict[int, CalSpectra], names: dict[int, str]
) -> tuple[tuple[str, int], ...]:
    lost = []
    for spw, s in before.items():
        for antenna in np.unique(s.antenna):
            own = s.antenna == antenna
            if not s.flags[own].all() and after[spw].flags[after[spw].antenna == antenna].all():
                lost.append((names.get(int(antenna), str(antenna)), spw))
    return tuple(lost)
