"""The steps that the calibration stages of the VLA share: reference antennas, delays, bandpass, application.

Every solve starts from the calibration library of the context it is given; `preapplying` adds tables to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from pl_hif import flags, solve
from pl_hif.heuristics.refant import rank
from pl_hif.heuristics.solint import central_channels
from pl_hif.solve import Caltable
from pl_hif.visibilities import pieces
from pl_hifv.calibrators import BandSelection, uvranges
from pl_hifv.heuristics.bandpass import channels_per_solution
from pl_hifv.heuristics.channels import selection, spoiled
from pl_hifv.heuristics.delays import ATTEMPTS, critical_fraction, median_over_antennas
from pl_hifv.lines import line_spws
from pl_kernel import PlError
from pl_kernel.calibration import GainArguments
from pl_kernel.common import flagversions as versions
from pl_kernel.ms.model import Field, MeasurementSet
from pl_kernel.ms.selection import compact_ids
from pl_kernel.stage_context import StageContext

BANDPASS_INTERP = "linear,linearflag"
"""linearflag: channels without a solution stay flagged in the data instead of being bridged over."""

FINAL = "hifv_finalcals"
"""The stage that registers what the others prepare."""
_RAW_ROWS = 20_000


@attrs.frozen(kw_only=True)
class DelaySolve:
    """The delays of a band and how they were found.

    ``flagged`` is the median over the antennas of the flagged part, ``critical`` what is acceptable; ``dropped``
    reference antennas did not reach it. Delays in ns, over all good solutions.
    """

    table: Caltable
    initial: Caltable
    refants: tuple[str, ...] = attrs.field(converter=tuple)
    dropped: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    flagged: float
    critical: float
    largest_ns: float
    median_ns: float


@attrs.frozen(kw_only=True)
class BandpassSolve:
    """The bandpass of a band; ``channels`` per solution by window (1: every channel), median snr by window."""

    table: Caltable
    flagged: float
    snr: dict[int, float]
    channels: dict[int, int]


@attrs.frozen(kw_only=True)
class BandSolutions:
    """The ladder of one band: delays, gains before the bandpass, bandpass. What the stages' results hold.

    ``correlations`` names the receptors of the solutions (``("RR", "LL")``); ``basebands`` maps names to windows;
    ``line_spws`` are windows set up for spectral lines.
    """

    vis: str
    band: str
    spws: tuple[int, ...] = attrs.field(converter=tuple)
    basebands: dict[str, tuple[int, ...]]
    correlations: tuple[str, ...] = attrs.field(converter=tuple)
    line_spws: tuple[int, ...] = attrs.field(default=(), converter=tuple)
    refant: str
    delay: DelaySolve
    gain: Caltable
    gain_solint: str
    bandpass: BandpassSolve


# ---- reference antennas --------------------------------------------------------------------------------------------


def ranked_refants(
    ctx: StageContext, ms: MeasurementSet, fields: Sequence[int], given: Sequence[str] = (), ignore: Sequence[str] = ()
) -> tuple[str, ...]:
    """Antennas in order of preference: the user's list as it is, or by place in the array and flags.

    Raises
    ------
    PlError : nobody is left, or the user names an antenna that the data do not have.
    """
    named = [n.strip() for n in given if n.strip()]
    if named:
        return tuple(ms.antenna(n).name for n in named)
    enu = ms.array.local_enu_m()
    positions = {a.name: tuple(float(v) for v in enu[i]) for i, a in enumerate(ms.antennas)}
    seen = flags.summary(
        ctx, ms.path, "refant", field=",".join(str(f) for f in fields), spw=ms.science_spw_selection
    ).by["antenna"]
    good = {name: total - flagged for name, (flagged, total) in seen.items()}
    total = {name: total for name, (_, total) in seen.items()}
    ranked, _ = rank(positions, {"calibrators": good}, {"calibrators": total}, [n.strip() for n in ignore])
    if not ranked:
        raise PlError(
            f"No antenna of {ms.name} can be the phase reference: all are in refantignore, or were rejected before;"
            " name some in refant."
        )
    return tuple(a.name for a in ranked)


# ---- the calibration library of a moment ---------------------------------------------------------------------------


def preapplying(ctx: StageContext, ms: MeasurementSet, *tables: Caltable) -> StageContext:
    """A context in which these tables apply too, after what is registered; tables without rows are left out, loudly."""
    there = []
    for table in tables:
        if table.exists:
            interp = BANDPASS_INTERP if table.kind == "bandpass" else "linear"
            there.append(solve.application(ctx, ms, table, interp=interp, calwt=False))
        else:
            ctx.log.warning(f"{ms.name}: {table.path} holds no solutions and is not applied in later solves.")
    return ctx.what_if(*there)


def before_final(ctx: StageContext) -> StageContext:
    """A context without the final tables: a stage that is repeated must not find what came of it applied already."""
    return ctx.with_calibration(ctx.calibration.unregister_origin(FINAL))


def without_calibration(ctx: StageContext, ms: MeasurementSet) -> StageContext:
    """A context in which nothing applies to a measurement set: for solves on data that are corrected already."""
    return ctx.with_calibration(ctx.calibration.without_ms(ms.name))


def apply(
    ctx: StageContext, ms: MeasurementSet, spws: Iterable[int], fields: Iterable[int], scans: Iterable[int],
    flagbackup: bool = False,
) -> tuple[str, ...]:  # fmt: skip
    """Write the corrected column of some scans with what the library holds; return the tables applied, in order.

    ``flagbackup`` saves the flags before, here and not in applycal: CASA would hold the whole column in memory.
    """
    ids_of_spws = sorted(int(s) for s in spws)
    spw = compact_ids(ids_of_spws)
    if flagbackup:
        version = f"{ctx.stage_name}_before_spw{ids_of_spws[0]}_s{ctx.stage_number}"
        versions.save(ctx, ms, version, f"flags before {ctx.stage_name} applied calibration to spws {spw}")
    used: list[str] = []
    groups: dict[Any, set[int]] = {}
    for group in ctx.calibration.solve_groups(ms, field=",".join(str(f) for f in fields), spw=spw):
        groups.setdefault(group.calfroms, set()).update(group.field_ids)
    for calfroms, ids in groups.items():
        arguments = GainArguments.of(calfroms).for_solve()
        used += [t for t in arguments["gaintable"] if t not in used]
        ctx.casa.applycal(
            vis=ms.path, field=",".join(str(i) for i in sorted(ids)), spw=spw, scan=compact_ids(scans),
            applymode="calflagstrict", calwt=[False] * len(arguments["gaintable"]), parang=True,
            flagbackup=False, **arguments,
        )  # fmt: skip
    return tuple(used)


# ---- solves --------------------------------------------------------------------------------------------------------


def of_spws(table: Caltable, spws: Iterable[int]) -> Caltable:
    """A table with the statistics of some windows only."""
    wanted = set(spws)
    return attrs.evolve(table, stats=[s for s in table.stats if s.spw in wanted])


def without_statistics(table: Caltable) -> Caltable:
    """A table without its statistics, for results that show it and judge others."""
    return attrs.evolve(table, stats=())


def flagged_median(table: Caltable) -> float:
    """Median over the antennas of the flagged part of the solutions; 1 without any."""
    flagged: dict[str, int] = {}
    total: dict[str, int] = {}
    for s in table.stats:
        flagged[s.antenna] = flagged.get(s.antenna, 0) + s.flagged
        total[s.antenna] = total.get(s.antenna, 0) + s.solutions
    return median_over_antennas(flagged, total)


def fields_of(ms: MeasurementSet, ids: Iterable[int]) -> tuple[Field, ...]:
    """Fields by id."""
    return tuple(ms.field(i) for i in ids)


def gains(
    ctx: StageContext, ms: MeasurementSet, path: str, fields: Iterable[int], scans: Iterable[int], **how: Any
) -> Caltable:
    """A gain solve with the arguments that all of the VLA's share: scans combined, parallactic angles corrected.

    Flags count per correlation: by default CASA drops a visibility when any of its correlations is flagged, and one
    bad receptor, or interference in the cross hands, would cost the good ones. ``how`` are arguments of
    `pl_hif.solve.gaincal`; ``refants`` is a sequence here.
    """
    arguments = {"combine": "scan", "parang": True, "corrdepflags": True, **how}
    arguments["refant"] = ",".join(arguments.pop("refants"))
    return solve.gaincal(
        ctx, ms, path, fields_of(ms, fields), scan=compact_ids(scans), uvranges=uvranges(ctx, ms), **arguments
    )


def spoiled_channels(ctx: StageContext, ms: MeasurementSet, band: BandSelection) -> dict[int, tuple[int, ...]]:
    """Channels of each window that interference spoils in the raw data of the bandpass and delay calibrators."""
    found: dict[int, tuple[int, ...]] = {}
    for spw in band.spws:
        total, count, rows = np.zeros(0), np.zeros(0), 0
        for piece in pieces(ctx, ms, ["DATA", "FLAG"], band.test_fields, [spw], band.test_scans):
            good = ~piece.columns["FLAG"][[0, -1]]
            size = np.where(good, np.abs(piece.columns["DATA"][[0, -1]]), 0).sum(axis=(0, 2))
            number = good.sum(axis=(0, 2))
            total, count = (size, number) if not rows else (total + size, count + number)
            rows += piece.columns["FLAG"].shape[2]
            if rows >= _RAW_ROWS:
                break
        if rows:
            channels = spoiled(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))
            if channels:
                found[spw] = channels
    return found


def central(ms: MeasurementSet, spws: Iterable[int], avoid: Mapping[int, Sequence[int]]) -> str:
    """The central third of each window without spoiled channels."""
    parts = []
    for spw in spws:
        first, last = central_channels(ms.spw(spw).n_channels)
        parts.append(selection(spw, first, last, avoid.get(spw, ())))
    return ",".join(parts)


def whole(ms: MeasurementSet, spws: Iterable[int], avoid: Mapping[int, Sequence[int]]) -> str:
    """Each window without spoiled channels."""
    return ",".join(
        selection(spw, 0, ms.spw(spw).n_channels - 1, avoid[spw]) if avoid.get(spw) else str(spw) for spw in spws
    )


def delays(
    ctx: StageContext, ms: MeasurementSet, band: BandSelection, refants: Sequence[str], paths: tuple[str, str],
    append: bool = False, attempts: int = ATTEMPTS, avoid: Mapping[int, Sequence[int]] | None = None,
) -> DelaySolve:  # fmt: skip
    """Phases per integration of the middle of each window, then the delays of every antenna and window.

    When too many delays fail, the first reference antenna is given up and all is repeated, up to four times.
    ``paths`` are the tables of phases and delays, ``avoid`` spoiled channels by window.
    """
    windows = [ms.spw(s) for s in band.spws]
    critical = critical_fraction([w.name for w in windows], [band.band] * len(windows))
    remaining, dropped = list(refants), []
    for attempt in range(attempts):
        initial = gains(
            ctx, ms, paths[0], band.delay_fields, band.delay_scans, refants=remaining, calmode="p", solint="int",
            minsnr=3.0, spw=central(ms, band.spws, avoid or {}), append=append,
        )  # fmt: skip
        table = gains(
            preapplying(ctx, ms, initial), ms, paths[1], band.delay_fields, band.delay_scans, refants=remaining,
            gaintype="K", calmode="p", solint="inf", minsnr=3.0, spw=whole(ms, band.spws, avoid or {}), append=append,
        )  # fmt: skip
        own = of_spws(table, band.spws)
        flagged = flagged_median(own)
        if flagged <= critical or attempt + 1 == attempts or len(remaining) < 2:
            break
        ctx.log.warning(
            f"{ms.name}, {band.band} band: {100 * flagged:.0f} % of the delays are flagged with {remaining[0]} as"
            f" reference antenna; trying {remaining[1]}."
        )
        dropped.append(remaining.pop(0))
    sizes = [s.amplitude for s in own.stats if s.flagged < s.solutions]
    return DelaySolve(
        table=own, initial=without_statistics(initial), refants=remaining, dropped=dropped, flagged=flagged,
        critical=critical, largest_ns=float(max(sizes)) if sizes else float("nan"),
        median_ns=float(np.median(sizes)) if sizes else float("nan"),
    )  # fmt: skip


def bandpass(
    ctx: StageContext, ms: MeasurementSet, band: BandSelection, refants: Sequence[str], path: str, *,
    solnorm: bool = False, append: bool = False,
) -> BandpassSolve:  # fmt: skip
    """One bandpass from all scans of the bandpass calibrator, with fewer solutions in windows that are too noisy.

    Windows whose median signal-to-noise ratio is below 50 are solved again with several channels per solution, never
    fewer than 16 of these. The reference pipeline leaves low windows of fewer than 16 channels without any solution;
    here they keep theirs.
    """

    def one(spws: Iterable[int], target: str, more: bool, channels: int = 1) -> Caltable:
        return solve.bandpass(
            ctx, ms, target, fields_of(ms, band.bandpass_fields), refant=",".join(refants), spw=compact_ids(spws),
            solint="inf" if channels == 1 else f"inf,{channels}ch", minsnr=5.0, solnorm=solnorm, append=more,
            scan=compact_ids(band.bandpass_scans), parang=True, corrdepflags=True, uvrange=_uvrange(ctx, ms, band),
        )  # fmt: skip

    trial = f"{path}.allspws" if append else path
    table = of_spws(one(band.spws, trial, False), band.spws)
    snr = {spw: _median_snr(table, spw) for spw in band.spws}
    channels = {spw: channels_per_solution(snr[spw], ms.spw(spw).n_channels) for spw in band.spws}
    low = {spw: n for spw, n in channels.items() if n > 1}
    if low or append:
        if low and not append:
            ctx.files.rmtree(f"{path}.allspws")
            if table.exists:
                ctx.files.move(path, f"{path}.allspws")
            names = ", ".join(f"{spw} ({snr[spw]:.0f}, {n} channels)" for spw, n in low.items())
            ctx.log.warning(
                f"{ms.name}, {band.band} band: low signal-to-noise ratio of the bandpass in spws {names} per solution."
            )
        for n in sorted(set(channels.values())):
            table = one([s for s, m in channels.items() if m == n], path, True, n)
        table = of_spws(table, band.spws)
    return BandpassSolve(table=table, flagged=flagged_median(table), snr=snr, channels=channels)


def _uvrange(ctx: StageContext, ms: MeasurementSet, band: BandSelection) -> str | None:
    ranges: Mapping[int, str] = uvranges(ctx, ms)
    return next((ranges[f] for f in band.bandpass_fields if f in ranges), None)


def _median_snr(table: Caltable, spw: int) -> float:
    found = [s.snr for s in table.stats if s.spw == spw and s.flagged < s.solutions and np.isfinite(s.snr)]
    return float(np.median(found)) if found else 0.0


def correlations(ms: MeasurementSet, spws: Sequence[int]) -> tuple[str, ...]:
    """The parallel hands of the windows, in order of the receptors of a solution."""
    present = ms.polarization_of(ms.spw(spws[0]).id).correlations
    return tuple(c for c in present if c in ("RR", "LL", "XX", "YY")) or present[:2]


def line_windows(ctx: StageContext, ms: MeasurementSet, spws: Iterable[int]) -> tuple[int, ...]:
    """Those of the windows that are for spectral lines, by what the import stage decided."""
    lines = set(line_spws(ctx, ms))
    return tuple(s for s in spws if s in lines)
