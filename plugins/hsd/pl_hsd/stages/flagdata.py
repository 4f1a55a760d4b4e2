"""Flag what is known to be bad, and what was observed in the wrong direction."""

from __future__ import annotations

from pathlib import Path

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_hsd import flagfiles
from pl_hsd.heuristics import flagging
from pl_hsd.heuristics.pointing_outlier import pointing_outliers
from pl_hsd.online import read_online
from pl_hsd.rows import RowTable
from pl_kernel import InputError, Inputs, PlError, Result, Stage, param
from pl_kernel.common.flagcommands import find_file, read_commands
from pl_kernel.flagcounts import FlagCounts, list_counts
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.stage_context import StageContext

AGENTS = (
    "before", "intents", "qa0", "qa2", "online", "template", "autocorr", "shadow", "pointing", "scans", "edgespw",
    "outliers",
)  # fmt: skip
"""Order in which the agents work and are shown; "before" is what came with the data."""
CALIBRATION = ("POINTING", "FOCUS", "ATMOSPHERE", "SIDEBAND", "UNKNOWN", "SYSTEM_CONFIGURATION", "CHECK")
OUTLIER = "SDPL:pointing_outlier"


class FlagdataInputs(Inputs):
    autocorr: bool = param(False, doc="Flag autocorrelations: all data of a single dish.")
    shadow: bool = param(True, doc="Flag antennas that stand in the shadow of another.")
    scan: bool = param(True, doc="Flag the scans of scannumber.")
    scannumber: str = param("", doc="Scans to flag entirely, as a CASA selection.")
    intents: tuple[str, ...] = param(
        CALIBRATION, doc="Flag what was observed for these purposes only; absent ones do nothing."
    )
    edgespw: bool = param(True, doc="Flag the edge channels of windows.")
    fracspw: tuple[str, ...] = param(
        ("1.875GHz",), doc="Bandwidth to be left of wider windows, or the fraction of each side; two values: each side."
    )
    fracspwfps: float = param(
        0.048387, minimum=0.0, maximum=0.5,
        doc="Fraction of each side of windows of 62, 124 or 248 channels, where fracspw is a fraction.",
    )  # fmt: skip
    online: bool = param(True, doc="Apply the observatory's flags, when there is a file of them.")
    fileonline: Path | None = param(None, doc="File of the observatory's flags; default NAME.flagonline.txt.")
    template: bool = param(True, doc="Apply the user's flags, when there is a file of them.")
    filetemplate: Path | None = param(None, doc="File of the user's flags; default NAME.flagtemplate.txt.")
    pointing: bool = param(True, doc="Flag spectra whose direction is missing or far from the map.")
    filepointing: Path | None = param(None, doc="File of pointing flags; default NAME.flagpointing.txt, of the import.")
    incompleteraster: bool = param(True, doc="Flag maps that are cut short or have holes, for uniform noise.")
    qa0: bool = param(True, doc="Apply flags of the observatory's first quality assurance.")
    qa2: bool = param(True, doc="Apply flags of the observatory's second quality assurance.")
    hm_tbuff: str = param(
        "halfint", choices=("halfint", "1.5int", "manual"),
        doc="How far to widen online flags: half or 1.5 integrations, or by tbuff.",
    )
    tbuff: float = param(0.0, unit="s", doc="Widen online flags by this time at both ends (manual).", minimum=0.0)
    flagbackup: bool = param(
        True, doc="Accepted for old scripts: the run keeps the flags of before, and can go back to them.", hidden=True
    )


@attrs.frozen(kw_only=True)
class PointingOutlier:
    """Spectra of one antenna and field that were taken far from the map; times in MJD seconds, angles in arcsec."""

    field: str
    antenna: str
    ranges_s: tuple[tuple[float, float], ...]
    n_integrations: int
    largest_arcsec: float
    limit_arcsec: float


@attrs.frozen(kw_only=True)
class MsFlags:
    """What happened to one measurement set: counts on the target after each agent, commands, and outliers.

    ``pointing_applied`` is False when outliers were looked for, but are not to be flagged.
    """

    vis: str
    counts: tuple[FlagCounts, ...] = attrs.field(converter=tuple)
    commands: dict[str, tuple[str, ...]]
    reasons: dict[str, str] = attrs.field(factory=dict)
    outliers: tuple[PointingOutlier, ...] = ()
    pointing_applied: bool = True

    def newly(self, agent: str) -> float:
        """Fraction of all data on the target that this agent flagged; agents that did not run flagged nothing."""
        names = [c.name for c in self.counts]
        if agent not in names:
            return 0.0
        i = names.index(agent)
        before = self.counts[i - 1].flagged if i else 0.0
        return (self.counts[i].flagged - before) / self.counts[i].total if self.counts[i].total else 0.0


class FlagdataResult(Result):
    """Flag counts and pointing outliers of every measurement set."""

    sets: tuple[MsFlags, ...]


class Flagdata(Stage[FlagdataInputs, FlagdataResult]):
    """Flag what is known to be bad, and what was observed in the wrong direction.

    In one pass of CASA's flagdata, with a count on the target after each agent: scans of calibrations, the
    observatory's flags (quality assurance, online), the user's template, shadowed antennas, directions that are missing
    and maps that are not like the others (both found at the import), named scans, and the edges of windows wider than
    fracspw. Then directions are looked at: a spectrum further from the centre of the map than 2.26 times the median
    distance was taken while the antenna was elsewhere, and is flagged.

    Agents and numbers are the reference pipeline's (2026). It widens every command by tbuff; here only those of the
    observatory are, since the others name integrations.
    """

    name = "hsd_flagdata"
    topic = "flagging"
    page_reads = frozenset()
    each_set = True
    mutates = frozenset({"flags"})

    def check(self, ctx: StageContext, inputs: FlagdataInputs) -> None:
        for given in (inputs.fileonline, inputs.filetemplate, inputs.filepointing):
            find_file(given, "")
        if not 1 <= len(inputs.fracspw) <= 2:
            raise InputError(f"fracspw has one value, or one for each side; not {len(inputs.fracspw)}.")
        for rule in inputs.fracspw:
            flagging.edge_fraction(rule, 2e9)

    def run(self, ctx: StageContext, inputs: FlagdataInputs) -> FlagdataResult:
        sets, effects = [], []
        for ms in ctx.measurement_sets(inputs.vis):
            rows = RowTable.open(ctx, ms)
            commands, reasons = _commands(ctx, ms, inputs)
            counts = list(_apply(ctx, ms, commands, first="before"))
            online = read_online(ctx, ms, np.asarray(rows["row"]), np.asarray(rows["npol"]))
            outlier, found, more = _outliers(ms, rows, online)
            if found and inputs.pointing:
                commands["outliers"] = more
                counts += [c for c in _apply(ctx, ms, {"outliers": more}) if c.name == "outliers"]
                online = read_online(ctx, ms, np.asarray(rows["row"]), np.asarray(rows["npol"]))
            elif found:
                reasons["outliers"] = "found, but not flagged: flagging by pointing is switched off"
            effects += rows.with_columns(
                ctx, {"online_valid": online, "row_valid": rows["row_valid"] & online, "pointing_outlier": outlier}
            )
            sets.append(
                MsFlags(
                    vis=ms.name, counts=tuple(counts), commands={k: tuple(v) for k, v in commands.items()},
                    reasons=reasons, outliers=found, pointing_applied=inputs.pointing,
                )
            )  # fmt: skip
        return FlagdataResult(sets=tuple(sets), effects=tuple(effects))


def _apply(
    ctx: StageContext, ms: MeasurementSet, commands: dict[str, list[str]], first: str = ""
) -> tuple[FlagCounts, ...]:
    """Work through the agents in their order; return the counts on the target after each."""
    where = on_source_selection(ms)
    lines = [f"mode='summary' name='{first}' {where}"] if first else []
    for agent in AGENTS:
        if commands.get(agent):
            lines += [*commands[agent], f"mode='summary' name='{agent}' {where}"]
    report = ctx.casa.flagdata(
        vis=ms.path, mode="list", inpfile=lines, action="apply", savepars=False, flagbackup=False
    )
    counted = list_counts(report or {})
    if not counted:
        raise PlError(f"CASA gave no flag counts for {ms.name}; its log tells whether it can read the data.")
    named = attrs.evolve(counted[0], name=counted[0].name or first or next(iter(commands), ""))
    return (named, *counted[1:])


def on_source_selection(ms: MeasurementSet) -> str:
    """What selects the spectra on the target in a line of a flag list."""
    words = ms.observing_modes("TARGET")
    if words:
        return "intent='" + ",".join(f"*{word}*" for word in words) + "'"
    return f"field='{ms.field_selection('TARGET')}'"


def _commands(
    ctx: StageContext, ms: MeasurementSet, inputs: FlagdataInputs
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """The lines of every agent that has something to do, and why those that have not do nothing."""
    done: dict[str, list[str]] = {}
    why: dict[str, str] = {}
    if inputs.intents:
        words = flagfiles.pure_words(ms, inputs.intents)
        done["intents"] = [f"mode='manual' intent='*{word}*' reason='intents'" for word in words]
        why["intents"] = f"scans for {', '.join(words)}" if words else "no scan was observed for these alone"
    _observatory(ctx, ms, inputs, done, why)
    if inputs.template:
        done["template"], why["template"] = _from_file(inputs.filetemplate, f"{ms.stem}.flagtemplate.txt")
    if inputs.autocorr:
        done["autocorr"] = ["mode='manual' autocorr=True reason='autocorr'"]
    if inputs.shadow and flagging.beams_of_one_dish(ms.array.lengths_m()):
        why["shadow"] = "antennas at the same place are beams of one dish, which cast no shadow on each other"
    elif inputs.shadow:
        done["shadow"] = ["mode='shadow' tolerance=0.0 reason='shadow'"]
    if inputs.pointing:
        lines, why["pointing"] = _from_file(inputs.filepointing, flagfiles.pointing_file(ms))
        left_out = [line for line in lines if flagfiles.INCOMPLETE in line and not inputs.incompleteraster]
        done["pointing"] = [line for line in lines if line not in left_out]
        if left_out:
            why["pointing"] += f", {len(left_out)} for odd maps left out"
    if inputs.scan and inputs.scannumber:
        done["scans"] = [f"mode='manual' scan='{inputs.scannumber}' reason='scans'"]
    if inputs.edgespw:
        done["edgespw"], why["edgespw"] = _edges(ms, inputs)
    return done, why


def _from_file(given: Path | None, name: str) -> tuple[list[str], str]:
    """Commands, and where they are from."""
    path = find_file(given, name)
    if path is None:
        return [], f"no {name}"
    lines = read_commands(path)
    return lines, f"{len(lines)} commands of {path.name}"


def _observatory(
    ctx: StageContext, ms: MeasurementSet, inputs: FlagdataInputs, done: dict[str, list[str]], why: dict[str, str]
) -> None:
    path = find_file(inputs.fileonline, f"{ms.stem}.flagonline.txt")
    if path is not None:
        lines, source = read_commands(path), path.name
    else:
        lines, source = flagfiles.recorded_commands(ctx, ms), "the FLAG_CMD table"
    before, after = flagging.time_buffer_s(inputs.hm_tbuff, _integration_s(ms), inputs.tbuff)
    for agent, own in flagging.split_online(lines).items():
        if getattr(inputs, agent):
            done[agent] = [flagging.widened(line, before, after) for line in own]
            why[agent] = f"{len(own)} commands of {source}" if own else f"none in {source}"


def _edges(ms: MeasurementSet, inputs: FlagdataInputs) -> tuple[list[str], str]:
    windows = {int(s.id): s for s in ms.science_spws}
    edges = {i: flagging.edge_channels(inputs.fracspw, s.bandwidth_hz, s.n_channels, inputs.fracspwfps)
             for i, s in windows.items()}  # fmt: skip
    selection = flagging.edge_selection(edges, {i: s.n_channels for i, s in windows.items()})
    if not selection:
        return [], "no window is wider than that"
    return [f"mode='manual' spw='{selection}' reason='edgespw'"], f"channels {selection}"


def _integration_s(ms: MeasurementSet) -> float:
    wanted = {int(i) for i in ms.science_spw_ids}
    return max((v for s in ms.scans for w, v in s.interval_s.items() if int(w) in wanted), default=0.0)


# ---- outliers --------------------------------------------------------------------------------------------------------


def _outliers(
    ms: MeasurementSet, rows: RowTable, online: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], tuple[PointingOutlier, ...], list[str]]:
    """Outliers among valid spectra on the target, all antennas of a field together; by row, as records, as commands."""
    outlier = np.zeros(rows.n, dtype=bool)
    found: list[PointingOutlier] = []
    lines: list[str] = []
    usable = np.asarray(rows["on_source"]) & online.any(axis=1) & np.asarray(rows["pointing_ok"])
    for field in np.unique(rows["field"][usable]):
        own = np.flatnonzero(usable & (rows["field"] == field))
        seen = pointing_outliers(rows["shift_ra_deg"][own], rows["shift_dec_deg"][own])
        outlier[own] = seen.outlier
        for antenna in np.unique(rows["antenna"][own[seen.outlier]]):
            hit = seen.outlier & (rows["antenna"][own] == antenna)
            times, first = np.unique(rows["time_s"][own[hit]], return_index=True)
            ranges = flagging.merged_ranges(times, rows["interval_s"][own[hit]][first] / 2)
            name, source = ms.antenna(int(antenna)).name, ms.field(int(field))
            found.append(
                PointingOutlier(
                    field=source.name, antenna=name, ranges_s=tuple(ranges), n_integrations=len(times),
                    largest_arcsec=float(seen.distance_deg[hit].max() * 3600), limit_arcsec=seen.limit_deg * 3600,
                )
            )  # fmt: skip
            lines += flagging.time_commands(f"field='{int(field)}' antenna='{name}&&&'", ranges, OUTLIER)
    return outlier, tuple(found), lines
