"""The passes of hifv_checkflag on one selection of data: calls of rflag, tfcrop and extend, thresholds, phase steps."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from pl_hif.visibilities import pieces
from pl_hifv.bursts import Burst, flag_bursts
from pl_hifv.heuristics import rfi
from pl_hifv.heuristics.rfi import Mode, Pass, RfiWindow
from pl_hifv.phases import PhaseJump, find_jumps
from pl_hifv.selections import Part
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.ms.selection import expand_ids
from pl_kernel.stage_context import StageContext

COLUMNS = {"corrected": "CORRECTED_DATA", "data": "DATA"}
"""Column of the measurement set by the word CASA's flagdata has for it."""


@attrs.frozen(kw_only=True)
class Step:
    """One algorithm on one correlation: what was asked of CASA, and the thresholds used where there are any.

    ``lowered`` counts the windows whose threshold was pulled down to the median of their baseband.
    """

    algorithm: str
    correlation: str
    column: str
    fields: str
    thresholds: int = 0
    lowered: int = 0


class Flagger:
    """The passes of a mode on one selection of fields that are judged alike."""

    def __init__(
        self, ctx: StageContext, ms: MeasurementSet, mode: Mode, part: Part, spw: str, growable: Callable[[], str],
        lost: Mapping[int, Sequence[str]] | None = None,
    ) -> None:  # fmt: skip
        self.ctx, self.ms, self.mode, self.part, self.growable = ctx, ms, mode, part, growable
        self.lost = dict(lost or {})
        self.selection = {
            "field": ",".join(str(f) for f in part.fields), "scan": ",".join(str(s) for s in part.scans), "spw": spw,
        }  # fmt: skip
        smoothed = (ctx.value("hifv.smoothed") or {}).get(ms.name, ())
        self.windows = {
            int(w.id): RfiWindow(
                id=int(w.id), group=f"{w.band} {_baseband(w.name, w.baseband)}", band=w.band, centre_hz=w.centre_hz,
                channel_hz=w.channel_width_hz, smoothed=int(w.id) in smoothed,
            )
            for w in ms.science_spws
        }  # fmt: skip
        names: dict[str, None] = {}
        for w in ms.science_spws:
            names.update(dict.fromkeys(ms.polarization_of(w.id).correlations))
        self.correlations = tuple(names)

    def run(self, grow: bool) -> list[Step]:
        """All passes, each followed by an extension to the other correlations, and the growth at the end."""
        residual = self._has_model()
        steps: list[Step] = []
        for one in self.mode.passes:
            steps += self._rflag(one, residual) if one.algorithm == "rflag" else self._tfcrop(one)
        if self.mode.simple_last:
            steps += self._simple()
        if grow and self.mode.grow is not None:
            neartime, nearfreq = self.mode.grow
            self._apply(
                extensions(
                    "growtime=100.0 growfreq=100.0 growaround=True ntime='scan'"
                    f" flagneartime={neartime} flagnearfreq={nearfreq}",
                    self.growable() or self.selection["spw"], self.lost,
                )
            )  # fmt: skip
        return steps

    def bursts(self) -> list[Burst]:
        """Flag integrations in which interference switches on, before sliding windows blur where it is."""
        return [
            burst
            for field in self.part.fields
            for burst in flag_bursts(
                self.ctx, self.ms, [field], self.part.only(self.ms, [field]).scans, expand_ids(self._spws()),
                COLUMNS[self.mode.column],
            )
        ]  # fmt: skip

    def _spws(self) -> str:
        return ",".join(item.partition(":")[0] for item in self.selection["spw"].split(",") if item)

    def jumps(self) -> list[PhaseJump]:
        """Flag antennas for the part of a scan in which their phase is off, field by field."""
        found = [
            jump
            for field in self.part.fields
            for jump in find_jumps(
                self.ctx, self.ms, field, self.part.only(self.ms, [field]).scans, self.windows,
                COLUMNS[self.mode.column],
            )
        ]  # fmt: skip
        for jump in found:
            self.ctx.log.attention(
                f"{self.ms.name}: the phase of {jump.antenna} steps by {jump.degrees:.0f} degrees in scan {jump.scan}."
            )
        if found:
            self.ctx.casa.flagdata(
                vis=self.ms.path, mode="list", action="apply", flagbackup=False, savepars=False,
                inpfile=[
                    f"mode='manual' antenna='{j.antenna}' scan='{j.scan}' timerange='{_utc(j.start_s)}~{_utc(j.end_s)}'"
                    for j in found
                ],
            )  # fmt: skip
        return found

    def _rflag(self, one: Pass, has_model: bool) -> list[Step]:
        residual = one.residual and has_model
        column = f"residual_{self.mode.column}" if residual and self.mode.column == "data" else self.mode.column
        column = "residual" if residual and self.mode.column == "corrected" else column
        kind = "REAL" if residual and one.hands == rfi.PARALLEL else "ABS"
        commands, steps = [], []
        for correlation in rfi.hands(self.correlations, one.hands):
            base = {
                "correlation": f"{kind}_{correlation}", "datacolumn": column, "ntime": "scan", "combinescans": False,
                "winsize": 3, "timedevscale": one.scale[0], "freqdevscale": one.scale[1], "extendflags": False,
            }  # fmt: skip
            extra: dict[str, Any] = {}
            lowered = 0
            if self.mode.adjust:
                report = self.ctx.casa.flagdata(
                    vis=self.ms.path, mode="rflag", action="calculate", flagbackup=False, savepars=False,
                    **self.selection, **base,
                )  # fmt: skip
                found = (report or {}).get("report0") or {}
                if not found:
                    continue  # nothing in this correlation that is not flagged already
                for name in ("timedev", "freqdev"):
                    measured = np.atleast_2d(np.array(found[name], dtype=float)).tolist()
                    used = rfi.pulled_down(measured, self.windows, self.mode.use_sefd)
                    lowered += sum(u[2] < m[2] for u, m in zip(used, measured, strict=True))
                    extra[name] = used
            commands.append(_command("rflag", {**base, **extra}))
            steps.append(
                Step(
                    algorithm="rflag", correlation=f"{kind}_{correlation}", column=column,
                    fields=self.selection["field"], thresholds=len(extra.get("timedev", ())), lowered=lowered,
                )
            )  # fmt: skip
        return self._applied(commands, steps)

    def _tfcrop(self, one: Pass) -> list[Step]:
        longest = max((v for s in self.ms.scans for v in s.interval_s.values()), default=1.0)
        commands, steps = [], []
        for correlation in rfi.hands(self.correlations, one.hands):
            arguments = {
                "correlation": f"ABS_{correlation}", "datacolumn": self.mode.column, "ntime": longest,
                "combinescans": False, "timecutoff": one.scale[0], "freqcutoff": one.scale[1], "freqfit": "line",
                "flagdimension": "freq", "extendflags": False,
            }  # fmt: skip
            commands.append(_command("tfcrop", arguments))
            steps.append(
                Step(
                    algorithm="tfcrop", correlation=f"ABS_{correlation}", column=self.mode.column,
                    fields=self.selection["field"],
                )
            )  # fmt: skip
        return self._applied(commands, steps)

    def _simple(self) -> list[Step]:
        parallel = rfi.hands(self.correlations, rfi.PARALLEL)
        arguments = {
            "correlation": f"ABS_{','.join(parallel)}", "datacolumn": self.mode.column, "ntime": "scan",
            "combinescans": False, "winsize": 3, "timedevscale": 4.0, "freqdevscale": 4.0, "extendflags": False,
        }  # fmt: skip
        self._apply([_command("rflag", arguments)])
        return [
            Step(
                algorithm="rflag", correlation=str(arguments["correlation"]), column=self.mode.column,
                fields=self.selection["field"],
            )
        ]  # fmt: skip

    def _applied(self, commands: Sequence[str], steps: list[Step]) -> list[Step]:
        if commands:
            grow = self.mode.extend
            extend = [] if grow is None else extensions(
                f"ntime='scan' combinescans=False growtime={grow[0]} growfreq={grow[1]}", self.selection["spw"],
                self.lost,
            )  # fmt: skip
            self._apply([*commands, *extend])
        return steps

    def _apply(self, commands: Sequence[str]) -> None:
        # One reading of the data serves a whole list of commands.
        lines = [
            " ".join([c, *(f"{k}='{v}'" for k, v in self.selection.items() if v and f" {k}=" not in c)])
            for c in commands
        ]
        self.ctx.casa.flagdata(
            vis=self.ms.path, mode="list", inpfile=lines, action="apply", flagbackup=False, savepars=False
        )

    def _has_model(self) -> bool:
        """Whether every field of the selection has a model other than the default of 1 Jy."""
        if not any(p.residual for p in self.mode.passes):
            return False
        with self.ctx.casa.table(self.ms.path) as table:
            if "MODEL_DATA" not in table.colnames():
                return False
        if self.mode.data == "calibrators" and any(
            "BANDPASS" in self.ms.field(f).intents for f in self.part.fields
        ):  # fmt: skip
            return False
        return all(_modelled(self.ctx, self.ms, f, self.part.scans) for f in self.part.fields)


def extensions(growth: str, selection: str, lost: Mapping[int, Sequence[str]]) -> list[str]:
    """Commands that extend flags to the other correlations and, by ``growth``, over time and channels.

    lost : window → antennas of which one hand is flagged for good. Extended to the other correlations, these flags
    would take the good hand with them; there each correlation is grown for itself.
    """
    parts: dict[tuple[str, ...], list[str]] = {}
    for item in selection.split(","):
        ids, colon, channels = item.partition(":")
        for spw in expand_ids(ids):
            parts.setdefault(tuple(lost.get(int(spw), ())), []).append(f"{spw}{colon}{channels}")
    commands = []
    for antennas, spws in parts.items():
        chosen = f"mode='extend' {growth} spw='{','.join(spws)}'"
        if antennas:
            commands.append(f"{chosen} extendpols=True antenna='{';'.join(f'!{a}' for a in antennas)}'")
            commands += [f"{chosen} extendpols=False antenna='{a}'" for a in antennas]
        else:
            commands.append(f"{chosen} extendpols=True")
    return commands


def _modelled(ctx: StageContext, ms: MeasurementSet, field: int, scans: Iterable[int]) -> bool:
    for piece in pieces(ctx, ms, ["MODEL_DATA"], [field], ms.science_spw_ids, scans, rows=200):
        model = piece.columns["MODEL_DATA"]
        if model.size and not np.allclose(model[[0, -1]], 1.0, atol=1e-6) and np.any(model[[0, -1]] != 0):
            return True
    return False


def _utc(mjd_s: float) -> str:
    moment = dt.datetime(1858, 11, 17, tzinfo=dt.UTC) + dt.timedelta(seconds=mjd_s)
    return f"{moment:%Y/%m/%d/%H:%M:%S.%f}"


def _command(mode: str, arguments: Mapping[str, Any]) -> str:
    parts = [f"mode='{mode}'"]
    for name, value in arguments.items():
        text = repr(value).replace(" ", "")  # the list format splits at blanks
        parts.append(f"{name}={text}")
    return " ".join(parts)


def _baseband(name: str, number: int) -> str:
    parts = name.split("#")
    return parts[1] if len(parts) > 2 else (name or str(number))
