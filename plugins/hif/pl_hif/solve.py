"""The solving steps that stages share: one call each, from the calibration library to a caltable that knows its rows.

A solve takes its pre-applied tables from ``ctx.calibration``; what it makes is registered by the stage's effects, or,
for a table of passage, in ``ctx.what_if(...)``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from pl_hif.heuristics.solint import central_channels, min_baselines_per_antenna
from pl_kernel import PlError
from pl_kernel.calibration import CalApplication, CalFrom, CalTo
from pl_kernel.ms.model import Field, MeasurementSet
from pl_kernel.stage_context import StageContext

# ---- what a table holds --------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Solutions:
    """The rows of a caltable; n rows, npol receptors, nchan channels.

    time_s : (n,) MJD seconds.  gain : (npol, nchan, n), complex (or real, for delays in ns).
    flag : bool, snr : float, both of the shape of gain.  antenna, field, spw, scan : (n,) ids.
    frequency_hz : channel frequencies by spw.
    """

    time_s: np.ndarray
    antenna: np.ndarray
    field: np.ndarray
    spw: np.ndarray
    scan: np.ndarray
    gain: np.ndarray
    flag: np.ndarray
    snr: np.ndarray
    frequency_hz: dict[int, np.ndarray]

    @property
    def rows(self) -> int:
        return len(self.time_s)


def read_solutions(ctx: Any, caltable: str, spw: int | None = None) -> Solutions:
    """Read a caltable once; with ``spw`` only the rows of this window (windows may differ in channels)."""
    with ctx.casa.table(f"{caltable}/SPECTRAL_WINDOW") as table:
        frequency = {i: np.atleast_1d(table.getcell("CHAN_FREQ", i)).ravel() for i in range(table.nrows())}
    with ctx.casa.table(caltable) as whole:
        ids = whole.getcol("SPECTRAL_WINDOW_ID")
        chosen = int(ids[0]) if spw is None and len(ids) else spw
        one_shape = spw is None and len({len(frequency[int(i)]) for i in set(ids.tolist())}) <= 1
        part = whole if one_shape else whole.query(f"SPECTRAL_WINDOW_ID=={chosen}")
        try:
            column = "CPARAM" if "CPARAM" in part.colnames() else "FPARAM"
            empty = part.nrows() == 0
            cube = np.zeros((2, 1, 0))
            return Solutions(
                time_s=part.getcol("TIME"), antenna=part.getcol("ANTENNA1"), field=part.getcol("FIELD_ID"),
                spw=part.getcol("SPECTRAL_WINDOW_ID"), scan=part.getcol("SCAN_NUMBER"),
                gain=cube if empty else part.getcol(column), flag=cube > 0 if empty else part.getcol("FLAG"),
                snr=cube if empty else part.getcol("SNR"), frequency_hz=frequency,
            )  # fmt: skip
        finally:
            if part is not whole:
                part.close()


@attrs.frozen(kw_only=True)
class SolutionStats:
    """Solutions of one antenna, window and receptor: how many, how many flagged, how strong, how steady.

    ``snr`` is the median signal-to-noise ratio of good solutions; ``amplitude`` their median, ``amplitude_rms`` the
    scatter relative to it; ``phase_jumps`` the fraction of steps of the phase along channels or time that are
    outliers.
    """

    antenna: str
    spw: int
    pol: int
    solutions: int
    flagged: int
    snr: float
    amplitude: float
    amplitude_rms: float
    phase_rms_deg: float
    phase_jumps: float

    @property
    def flagged_fraction(self) -> float:
        return self.flagged / self.solutions if self.solutions else 1.0


@attrs.frozen(kw_only=True)
class Caltable:
    """A caltable on disk and what it holds; ``rows`` is 0 when CASA wrote no table.

    ``refants`` are the antennas CASA referred the phases to, with the number of rows.
    """

    vis: str
    path: str
    kind: str
    rows: int
    solint: str = ""
    fields: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    stats: tuple[SolutionStats, ...] = attrs.field(default=(), converter=tuple)
    preapplied: tuple[str, ...] = attrs.field(default=(), converter=tuple)

    @property
    def exists(self) -> bool:
        return self.rows > 0

    @property
    def flagged_fraction(self) -> float:
        """Flagged part of all solutions; 1 when there is none."""
        total = sum(s.solutions for s in self.stats)
        return sum(s.flagged for s in self.stats) / total if total else 1.0

    def antennas_without(self) -> tuple[str, ...]:
        """Antennas without a single good solution."""
        names = dict.fromkeys(s.antenna for s in self.stats)
        return tuple(n for n in names if all(s.flagged >= s.solutions for s in self.stats if s.antenna == n))


def phase_jump_fraction(phase_rad: np.ndarray) -> float:
    """Fraction of steps between neighbours that are outliers (above 5 MAD of all steps, either sign).

    The reference pipeline looks at positive steps only; a jump has no sign.
    """
    if len(phase_rad) < 4:
        return 0.0
    step = np.angle(np.exp(1j * np.diff(phase_rad)))
    if np.abs(phase_rad).sum() < 1e-4:
        return 0.0
    off = np.abs(step - np.median(step))
    mad = np.median(off)
    # Below a microradian there is only rounding.
    return float(np.mean(off > 5 * mad)) if mad > 1e-6 else 0.0


def statistics(solutions: Solutions, names: dict[int, str], trim: float = 0.1) -> tuple[SolutionStats, ...]:
    """Statistics per antenna, window and receptor; ``trim`` of the channels at each edge is left out."""
    found = []
    nchan = solutions.gain.shape[1]
    edge = int(trim * nchan) if nchan >= 10 else 0
    inner = slice(edge, nchan - edge)
    for spw in sorted(set(solutions.spw.tolist())):
        # CASA writes flagged rows for every entry of the ANTENNA table, also those that took no data.
        for antenna in sorted(set(solutions.antenna.tolist()) & set(names)):
            rows = np.flatnonzero((solutions.spw == spw) & (solutions.antenna == antenna))
            rows = rows[np.argsort(solutions.time_s[rows], kind="stable")]
            for pol in range(solutions.gain.shape[0]):
                gain = solutions.gain[pol, inner][:, rows].T.ravel()
                bad = solutions.flag[pol, inner][:, rows].T.ravel()
                snr = solutions.snr[pol, inner][:, rows].T.ravel()
                good = gain[~bad]
                amplitude = float(np.median(np.abs(good))) if good.size else 0.0
                found.append(
                    SolutionStats(
                        antenna=names[antenna], spw=int(spw), pol=pol, solutions=int(gain.size),
                        flagged=int(bad.sum()), snr=float(np.median(snr[~bad])) if good.size else 0.0,
                        amplitude=amplitude,
                        amplitude_rms=float(np.std(np.abs(good)) / amplitude) if amplitude > 0 else 0.0,
                        phase_rms_deg=_phase_rms_deg(good), phase_jumps=phase_jump_fraction(np.angle(good)),
                    )
                )  # fmt: skip
    return tuple(found)


def _phase_rms_deg(gain: np.ndarray) -> float:
    """Scatter of the phases around their mean direction, in degrees."""
    if gain.size < 2:
        return 0.0
    unit = np.exp(1j * np.angle(gain))
    mean = unit.mean()
    return float(np.degrees(np.std(np.angle(unit * np.conj(mean))))) if abs(mean) > 0 else 180.0


# ---- selections ----------------------------------------------------------------------------------------------------


def fields_for(ms: MeasurementSet, intent: str, purpose: str) -> tuple[Field, ...]:
    """Fields with an intent.

    Raises PlError, a sentence that says what is missing and how to supply it.
    """
    found = ms.fields_with_intent(intent)
    if not found:
        wanted = " or ".join(intent.split(","))
        raise PlError(
            f"No scan of {ms.name} has the intent {wanted}, which {purpose} needs;"
            f' name a field for it with --intent "{intent.split(",")[0]}=NAME" when importing.'
        )
    return found


def ids(fields: Iterable[Field]) -> str:
    """Fields as a CASA selection by id: names may repeat, or hold characters of the selection's grammar."""
    return ",".join(str(f.id) for f in fields)


def central_spws(ms: MeasurementSet, spws: Sequence[int] = ()) -> str:
    """The central third of every science window, for solves before the bandpass is known."""
    parts = []
    for window in ms.science_spws:
        if spws and int(window.id) not in spws:
            continue
        first, last = central_channels(window.n_channels)
        parts.append(f"{window.id}:{first}~{last}" if window.n_channels > 1 else str(window.id))
    return ",".join(parts)


def nearest_phase_calibrator(ms: MeasurementSet, target: Field) -> Field:
    """The phase calibrator nearest to a target in the sky (among those observed in its windows, if any is)."""
    from pl_hif.heuristics.intents import separation_rad

    candidates = fields_for(ms, "PHASE", "the calibration of the target")
    shared = [f for f in candidates if not target.spws or f.spws & target.spws] or list(candidates)
    return min(shared, key=lambda f: separation_rad(f.ra_rad, f.dec_rad, target.ra_rad, target.dec_rad))


# ---- solves --------------------------------------------------------------------------------------------------------


def gaincal(
    ctx: StageContext, ms: MeasurementSet, caltable: str, fields: Sequence[Field], *, refant: str, spw: str = "",
    solint: str = "inf", calmode: str = "ap", gaintype: str = "G", combine: str = "", minsnr: float = 3.0,
    solnorm: bool = False, append: bool = False, uvranges: Mapping[int, str] | None = None, **more: Any,
) -> Caltable:  # fmt: skip
    """Solve for gains of all fields into one table: one call per group of data with the same pre-applied tables.

    The table starts absent unless ``append``; later groups are appended when the first wrote one. ``uvranges`` limits
    fields (by id) to a range of baselines; ``more`` are further arguments of the task (scan, parang, refantmode …).
    """
    spw = spw or ms.science_spw_selection
    if not append:
        ctx.files.rmtree(caltable)
    groups = ctx.calibration.solve_groups(ms, field=ids(fields), spw=spw)
    preapplied: list[str] = []
    # Tables differ by the data they are for, not by intent: one call serves all intents of the same list of tables.
    lists: dict[tuple[tuple[CalFrom, ...], str], set[int]] = {}
    for group in groups:
        for field in group.field_ids:
            lists.setdefault((group.calfroms, (uvranges or {}).get(field, "")), set()).add(field)
    for (calfroms, uvrange), field_ids in lists.items():
        arguments = _arguments(calfroms)
        preapplied += [t for t in arguments["gaintable"] if t not in preapplied]
        ctx.casa.gaincal(
            vis=ms.path, caltable=caltable, field=",".join(str(i) for i in sorted(field_ids)), spw=spw, solint=solint,
            combine=combine, refant=refant, gaintype=gaintype, calmode=calmode, minsnr=minsnr, solnorm=solnorm,
            minblperant=min_baselines_per_antenna(len(ms.antennas)), append=Path(caltable).is_dir(),
            uvrange=uvrange or None, **arguments, **more,
        )  # fmt: skip
    return handle(ctx, ms, caltable, _kind(gaintype, calmode), solint, fields, preapplied)


def bandpass(
    ctx: StageContext, ms: MeasurementSet, caltable: str, fields: Sequence[Field], *, refant: str, spw: str = "",
    solint: str = "inf", combine: str = "scan", minsnr: float = 3.0, solnorm: bool = True, fillgaps: int = 0,
    append: bool = False, **more: Any,
) -> Caltable:  # fmt: skip
    """Solve for the bandpass (type B) on the fields together; ``more`` are further arguments of the task."""
    spw = spw or ms.science_spw_selection
    if not append:
        ctx.files.rmtree(caltable)
    arguments = ctx.calibration.for_solve(ms, field=ids(fields), spw=spw)
    ctx.casa.bandpass(
        vis=ms.path, caltable=caltable, field=ids(fields), spw=spw, solint=solint, combine=combine, refant=refant,
        minsnr=minsnr, solnorm=solnorm, bandtype="B", fillgaps=fillgaps,
        minblperant=min_baselines_per_antenna(len(ms.antennas)), append=Path(caltable).is_dir(), **arguments, **more,
    )  # fmt: skip
    return handle(ctx, ms, caltable, "bandpass", solint, fields, arguments["gaintable"])


def delay(
    ctx: StageContext, ms: MeasurementSet, caltable: str, fields: Sequence[Field], *, refant: str, spw: str = "",
    solint: str = "inf", combine: str = "scan", minsnr: float = 3.0, **more: Any,
) -> Caltable:  # fmt: skip
    """Solve for the delay of every antenna and window (type K)."""
    return gaincal(
        ctx, ms, caltable, fields, refant=refant, spw=spw, solint=solint, gaintype="K", combine=combine,
        minsnr=minsnr, **more,
    )  # fmt: skip


def handle(
    ctx: StageContext, ms: MeasurementSet, caltable: str, kind: str, solint: str, fields: Sequence[Field],
    preapplied: Iterable[str] = (),
) -> Caltable:  # fmt: skip
    """Look at what a solve left behind."""
    names = tuple(f.name for f in fields)
    if not Path(caltable).is_dir():
        return Caltable(vis=ms.name, path=caltable, kind=kind, rows=0, solint=solint, fields=names)
    stats: list[SolutionStats] = []
    rows = 0
    antennas = {a.id: a.name for a in ms.antennas}
    for window in ms.science_spws:
        solutions = read_solutions(ctx, caltable, int(window.id))
        rows += solutions.rows
        stats += statistics(solutions, antennas)
    return Caltable(
        vis=ms.name, path=caltable, kind=kind, rows=rows, solint=solint, fields=names, stats=stats,
        preapplied=tuple(preapplied),
    )  # fmt: skip


def require(table: Caltable, purpose: str) -> Caltable:
    """Return the table, or raise a PlError when it holds no good solution: what builds on it would be nonsense."""
    if not table.exists or table.flagged_fraction >= 1.0:
        raise PlError(
            f"No solution for {purpose} could be found in {table.vis} (fields {', '.join(table.fields)}):"
            " the calibrator may be flagged or too weak; look at the flags, or allow a longer solution interval."
        )
    return table


def application(
    ctx: StageContext, ms: MeasurementSet, table: Caltable, *, field: str = "", **how: Any
) -> CalApplication:
    """A registration of a table for a measurement set; ``how`` are arguments of CalFrom.

    Whether its application changes the weights is up to the telescope (slot ``calibration.calwt``).
    """
    if "calwt" not in how:
        how["calwt"] = bool(ctx.heuristic("calibration.calwt", telescope=ms.telescope)(table.kind))
    caltype = "bandpass" if table.kind == "bandpass" else "delay" if table.kind == "delay" else "gaincal"
    return CalApplication(
        CalTo(vis=ms.name, field=field), (CalFrom(gaintable=table.path, caltype=caltype, **how),), origin=ctx.stage_name
    )


def _arguments(calfroms: tuple[CalFrom, ...]) -> dict[str, Any]:
    from pl_kernel.calibration import GainArguments

    return GainArguments.of(calfroms).for_solve()


def _kind(gaintype: str, calmode: str) -> str:
    if gaintype == "K":
        return "delay"
    return {"p": "phase", "a": "amplitude"}.get(calmode, "amplitude and phase")
