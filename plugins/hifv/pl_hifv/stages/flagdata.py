"""Flag what is known to be bad before looking at the data."""

from __future__ import annotations

from pathlib import Path

import attrs

from pl_hif import flags
from pl_hif.flags import FlagCounts
from pl_hifv.heuristics import flagging
from pl_hifv.lines import line_spws
from pl_kernel import InputError, Inputs, PlError, Result, Stage, param
from pl_kernel.common.flagcommands import find_file, read_commands
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.stage_context import StageContext

AGENTS = (
    "before", "clip", "anos", "online", "shadow", "intents", "template", "autocorr", "scans", "edgespw", "quack",
    "baseband",
)  # fmt: skip
"""Order in which the agents work and are shown; "before" is what came with the data, "anos" the online flags of
antennas that were not on source."""
NOT_SCIENCE = ("before", "anos", "shadow", "intents")
"""Agents whose flags are of data that never were of use; the others take something from science."""


class FlagdataInputs(Inputs):
    autocorr: bool = param(True, doc="Flag autocorrelations.")
    clip: bool = param(True, doc="Flag visibilities that are exactly zero (the correlator's word for missing).")
    shadow: bool = param(True, doc="Flag antennas that stand in the shadow of another.")
    quack: bool = param(True, doc="Flag the beginning of scans, while antennas are still moving.")
    edgespw: bool = param(True, doc="Flag the edge channels of spectral windows.")
    fracspw: float = param(0.05, doc="Fraction of channels to flag at each edge.", minimum=0.0, maximum=0.5)
    scannumber: str = param("", doc="Scans to flag entirely, as a CASA selection.")
    online: bool = param(True, doc="Apply the observatory's flags, when there is a file of them.")
    fileonline: Path | None = param(None, doc="File of the observatory's flags; default NAME.flagonline.txt.")
    template: bool = param(True, doc="Apply the user's flags, when there is a file of them.")
    filetemplate: Path | None = param(None, doc="File of the user's flags; default NAME.flagtemplate.txt.")
    intents: str = param(
        "*POINTING*,*FOCUS*,*ATMOSPHERE*,*SIDEBAND_RATIO*,*UNKNOWN*,*SYSTEM_CONFIGURATION*,*UNSPECIFIED#UNSPECIFIED*",
        doc="Flag scans observed for these purposes, as the data call them; patterns that nothing matches do nothing.",
    )
    baseband: bool = param(True, doc="Flag 20 MHz at the outer edges of basebands wider than 1 GHz.")
    hm_tbuff: str = param(
        "halfint", choices=("halfint", "1.5int", "manual"),
        doc="How far to widen online flags: half or 1.5 integrations, or by tbuff.",
    )
    tbuff: tuple[float, ...] = param(
        (0.0,), unit="s", minimum=0.0,
        doc="Widen online flags by this time before and after (manual); one value serves for both.",
    )
    scan: bool = param(True, doc="Flag the scans of scannumber, if there are any.", hidden=True)
    flagbackup: bool = param(False, doc="Accepted for old scripts: the run keeps the flags itself.", hidden=True)


@attrs.frozen(kw_only=True)
class MsFlags:
    """What happened to one measurement set: counts before and after each agent, and the commands."""

    vis: str
    counts: tuple[FlagCounts, ...] = attrs.field(converter=tuple)
    commands: dict[str, tuple[str, ...]]
    reasons: dict[str, str] = attrs.field(factory=dict)
    line_spws: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    edge_channels: dict[str, int] = attrs.field(factory=dict)

    def newly(self, agent: str) -> float:
        """Fraction of all data that this agent flagged; agents that did not run flagged nothing."""
        names = [c.name for c in self.counts]
        if agent not in names:
            return 0.0
        i = names.index(agent)
        here = self.counts[i]
        before = self.counts[i - 1].flagged if i else 0.0
        return (here.flagged - before) / here.total if here.total else 0.0

    @property
    def science(self) -> float:
        """Fraction of all data that was flagged and would have been of use to science otherwise."""
        return sum(self.newly(c.name) for c in self.counts if c.name not in NOT_SCIENCE)


class FlagdataResult(Result):
    """Flag counts of every measurement set."""

    sets: tuple[MsFlags, ...]


class Flagdata(Stage[FlagdataInputs, FlagdataResult]):
    """Flag what is known to be bad before looking at the data.

    In one pass of CASA's flagdata, with a count after each agent: exact zeros, the observatory's online flags (first
    those of antennas that were not on source), shadowed antennas, scans of pointing and set-up, the user's template,
    autocorrelations, named scans, edge channels, the beginning of scans, the edges of basebands. Online flags come from
    a file, or else from the data's own FLAG_CMD table (its rows that are not marked as applied).

    Edges: max(1, int(fracspw·channels)) channels on both sides of each window. Beginning of scans: see
    `pl_hifv.heuristics.flagging.quack`; data averaged to more than 10 s lose one dump only, and short scans none.
    Agents, their order and the default of 5 % are the reference pipeline's (2026), which counts a file of flags that
    is asked for and absent as a warning only; here a file that was *named* and is absent is refused.
    """

    name = "hifv_flagdata"
    page_reads = frozenset()
    topic = "flagging"
    each_set = True
    mutates = frozenset({"flags"})

    def check(self, ctx: StageContext, inputs: FlagdataInputs) -> None:
        for given in (inputs.fileonline, inputs.filetemplate):
            find_file(given, "")
        if len(inputs.tbuff) > 2:
            raise InputError(f"tbuff is one time, or one before and one after; got {len(inputs.tbuff)} values.")

    def run(self, ctx: StageContext, inputs: FlagdataInputs) -> FlagdataResult:
        return FlagdataResult(sets=tuple(self._one(ctx, ms, inputs) for ms in ctx.measurement_sets(inputs.vis)))

    def _one(self, ctx: StageContext, ms: MeasurementSet, inputs: FlagdataInputs) -> MsFlags:
        recorded = _recorded_commands(ctx, ms) if inputs.online else []
        commands, reasons = _commands(ms, inputs, recorded)
        lines = ["mode='summary' name='before'"]
        for agent in AGENTS:
            if commands.get(agent):
                lines += [*commands[agent], f"mode='summary' name='{agent}'"]
        report = ctx.casa.flagdata(
            vis=ms.path,
            mode="list",
            inpfile=lines,
            action="apply",
            tbuff=flagging.time_buffer_s(inputs.hm_tbuff, _dump_s(ms), inputs.tbuff),
            savepars=False,
            flagbackup=False,
        )
        counted = flags.list_counts(report or {})
        if not counted:
            raise PlError(f"CASA gave no flag counts for {ms.name}; its log tells whether it can read the data.")
        edges = {
            str(s.id): len(flagging.edge_channels(s.n_channels, inputs.fracspw)) // 2 for s in ms.science_spws
        } if inputs.edgespw else {}  # fmt: skip
        line_windows = [str(s) for s in line_spws(ctx, ms)]
        return MsFlags(
            vis=ms.name, counts=counted, commands={k: tuple(v) for k, v in commands.items()}, reasons=reasons,
            line_spws=line_windows, edge_channels=edges,
        )  # fmt: skip


def _commands(
    ms: MeasurementSet, inputs: FlagdataInputs, recorded: list[str]
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """The command lines of every agent that has something to do, and why those that have not do nothing.

    ``recorded`` are the online flags in the data's own FLAG_CMD table, used where there is no file of them.
    """
    done: dict[str, list[str]] = {}
    why: dict[str, str] = {}
    if inputs.clip:
        done["clip"] = ["mode='clip' correlation='ABS_ALL' clipzeros=True reason='clip'"]
    for agent, wanted, given, ending in (
        ("online", inputs.online, inputs.fileonline, "flagonline.txt"),
        ("template", inputs.template, inputs.filetemplate, "flagtemplate.txt"),
    ):
        name = f"{ms.stem}.{ending}"
        path = find_file(given, name) if wanted else None
        if path is not None:
            done[agent] = read_commands(path)
            why[agent] = f"{len(done[agent])} commands of {path.name}"
        elif wanted and agent == "online" and recorded:
            done[agent] = recorded
            why[agent] = f"{len(recorded)} commands of the FLAG_CMD table"
        elif wanted:
            why[agent] = f"there is no {name}" + (" and FLAG_CMD is empty" if agent == "online" else "")
    if "online" in done:
        done["anos"], done["online"] = flagging.not_on_source(done["online"])
        count = len(done["anos"])
        why["anos"] = f"{count} of the online commands" if count else "none of the online commands"
    if inputs.shadow:
        done["shadow"] = ["mode='shadow' tolerance=0.0 reason='shadow'"]
    if inputs.autocorr:
        done["autocorr"] = ["mode='manual' autocorr=True reason='autocorr'"]
    if inputs.scan and inputs.scannumber:
        done["scans"] = [f"mode='manual' scan='{inputs.scannumber}' reason='scans'"]
    if inputs.edgespw:
        selection = flagging.edge_selection([(int(s.id), s.n_channels) for s in ms.science_spws], inputs.fracspw)
        if selection:
            done["edgespw"] = [f"mode='manual' spw='{selection}' reason='edgespw'"]
            why["edgespw"] = f"channels {selection}"
        else:
            why["edgespw"] = "no window has enough channels"
    if inputs.intents:
        modes = sorted({state.obs_mode for state in ms.states})
        patterns = flagging.matching_intents(inputs.intents, modes)
        done["intents"] = [f"mode='manual' intent='{pattern}' reason='intents'" for pattern in patterns]
        why["intents"] = f"scans for {', '.join(patterns)}" if patterns else "no scan was observed for any of them"
    if inputs.baseband:
        windows = [
            flagging.Window(
                id=int(s.id), baseband=s.baseband, low_hz=s.min_hz, high_hz=s.max_hz, channels=s.n_channels,
                is_reversed=s.is_reversed,
            )
            for s in ms.science_spws
        ]  # fmt: skip
        selection = flagging.baseband_edges(windows)
        if selection:
            done["baseband"] = [f"mode='manual' spw='{selection}' reason='baseband'"]
            why["baseband"] = f"channels {selection}"
        else:
            why["baseband"] = "no baseband is wider than 1 GHz"
    if inputs.quack:
        interval, scans, reason = flagging.quack(_timings(ms), _dump_s(ms))
        why["quack"] = reason
        if scans:
            listed = ",".join(str(s) for s in scans)
            done["quack"] = [
                f"mode='quack' scan='{listed}' quackmode='beg' quackinterval={interval:.3f} quackincrement=False"
                " reason='quack'"
            ]
    return done, why


def _recorded_commands(ctx: StageContext, ms: MeasurementSet) -> list[str]:
    """Online flags that the data carry in FLAG_CMD and that nobody has applied yet, as lines of a flag list."""
    if "FLAG_CMD" not in ms.subtables:
        return []
    with ctx.casa.table(f"{ms.path}/FLAG_CMD") as table:
        if not table.nrows():
            return []
        rows = zip(table.getcol("COMMAND"), table.getcol("REASON"), table.getcol("APPLIED"), strict=True)
        return [
            flagging.online_command(str(command), str(reason))
            for command, reason, applied in rows
            if str(command).strip() and not applied
        ]


def _timings(ms: MeasurementSet) -> list[flagging.ScanTiming]:
    dump = _dump_s(ms)
    return [
        flagging.ScanTiming(
            id=s.id, field=s.field_ids[0] if s.field_ids else -1, spws=tuple(int(w) for w in s.spw_ids),
            integrations=max(1, round(s.duration_s / dump)) if dump > 0 else 1,
        )
        for s in sorted(ms.scans, key=lambda s: s.start)
    ]  # fmt: skip


def _dump_s(ms: MeasurementSet) -> float:
    """Longest integration of the science windows, in seconds."""
    wanted = {int(i) for i in ms.science_spw_ids}
    return max((v for s in ms.scans for w, v in s.interval_s.items() if int(w) in wanted), default=0.0)
