"""Statistics of every spectrum of a measurement set, and the judgement about them; whole raster rows at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_hsd import spectra
from pl_hsd.baselining import raster_blocks
from pl_hsd.heuristics import flagging
from pl_hsd.heuristics.spectralstats import (
    UNKNOWN,
    clip,
    expected_rms,
    running_mean_deviation,
    spectrum_rms,
    within_expectation,
)
from pl_hsd.linesearch import edge_mask, masks_by_channel
from pl_hsd.ranges import SpectralRanges
from pl_kernel.stage_context import ItemContext

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

REASONS: Mapping[str, str] = {
    "pofr": "rms after baseline subtraction",
    "prfr": "rms before baseline subtraction",
    "pofrm": "deviation from the running mean, after",
    "prfrm": "deviation from the running mean, before",
    "pofre": "rms after, against the expected noise",
    "prfre": "rms before, against the expected noise",
    "tsys": "outlying system temperature",
}
"""Rules and what they judge: pr(e)/po(st) fit, f(lagging) by r(ms), r(unning) m(ean) or r(ms) e(xpected)."""

_AFTER = ("pofr", "pofrm", "pofre")


@attrs.frozen(kw_only=True)
class Rules:
    """Thresholds by rule, for those that are switched on, and how many rounds of clipping and neighbours."""

    thresholds: dict[str, float]
    rounds: int = 5
    neighbours_before: int = 5
    neighbours_after: int = 5


@attrs.frozen(eq=False, kw_only=True)
class JudgedMember:
    """Spectra of one member, arrays [row]: row numbers in the judged set and in the one before subtraction.

    ``after`` says whether the judged set is baselined; without it ``rows_before`` are its own.  jy_per_k : by
    polarization.  pols : indices of the polarizations that are judged.  spw, field, antenna are for the reader;
    ``selection`` is CASA's, in the judged set.
    """

    spw: int
    field: str
    antenna: str
    selection: str
    n_chan: int
    rows: IntArray
    rows_before: IntArray
    raster_row: IntArray
    time_s: FloatArray
    interval_s: FloatArray
    exposure_s: FloatArray
    tsys_k: FloatArray
    mask_offsets: IntArray
    mask_spans: IntArray
    deviation: SpectralRanges
    bandwidth_hz: float
    jy_per_k: tuple[float, ...]
    factors: dict[str, float]
    correlations: tuple[str, ...]
    pols: tuple[int, ...]
    file: str


@attrs.frozen(eq=False, kw_only=True)
class JudgeJob:
    """One measurement set."""

    ms: str
    path: str
    column: str
    path_before: str
    column_before: str
    after: bool
    edge: tuple[int, int]
    rules: Rules
    members: tuple[JudgedMember, ...]

    @property
    def name(self) -> str:
        return self.ms


@attrs.frozen(kw_only=True)
class PolJudgement:
    """One polarization of a member.

    spectra : those that could be judged.  by_rule : spectra each rule rejects; limits : its upper limit (None for the
    expected noise, which is different for each spectrum).  Fractions are of all samples: before, newly flagged, total.
    """

    ms: str
    spw: int
    field: str
    antenna: str
    pol: str
    spectra: int
    flagged: int
    by_rule: dict[str, int]
    limits: dict[str, float | None]
    before: float
    additional: float
    total: float
    file: str


@attrs.frozen(eq=False)
class MemberJudgement:
    """What came of a member: numbers by polarization, who is good [row, polarization], flag commands."""

    pols: tuple[PolJudgement, ...]
    good: BoolArray
    commands: tuple[str, ...]


def judge_measurement_set(ctx: ItemContext, job: JudgeJob) -> tuple[MemberJudgement, ...]:
    """Judge all members of one measurement set."""
    with ctx.casa.table(job.path) as table:
        if job.after and job.path_before:
            with ctx.casa.table(job.path_before) as before:
                return tuple(_judge_member(table, before, member, job) for member in job.members)
        return tuple(_judge_member(table, None, member, job) for member in job.members)


def _judge_member(table: Any, before: Any, member: JudgedMember, job: JudgeJob) -> MemberJudgement:
    n_pol = len(member.correlations)
    statistics, flagged = _statistics(table, before, member, job, n_pol)
    good = np.ones((member.rows.size, n_pol), dtype=bool)
    pols = []
    rejected: dict[str, BoolArray] = {}
    limits: dict[str, list[float | None]] = {}
    for rule, threshold in job.rules.thresholds.items():
        if rule in _AFTER and not job.after:
            continue
        rejected[rule], limits[rule] = _rejected(rule, threshold, statistics, member, job.rules.rounds)
        rejected[rule][:, [p for p in range(n_pol) if p not in member.pols]] = False
        good &= ~rejected[rule]
    dead = flagged >= 1.0
    for pol in member.pols:
        alive = ~dead[:, pol]
        new = alive & ~good[:, pol]
        size = max(member.rows.size, 1)
        additional = float(((1 - flagged[:, pol]) * new).sum() / size)
        pols.append(
            PolJudgement(
                ms=job.ms, spw=member.spw, field=member.field, antenna=member.antenna,
                pol=member.correlations[pol],
                spectra=int(alive.sum()), flagged=int(new.sum()),
                by_rule={rule: int((bad[:, pol] & alive).sum()) for rule, bad in rejected.items()},
                limits={rule: values[pol] for rule, values in limits.items()},
                before=float(flagged[:, pol].mean()) if member.rows.size else 0.0, additional=additional,
                total=(float(flagged[:, pol].mean()) if member.rows.size else 0.0) + additional,
                file=f"statistics/{Path(member.file).name}",
            )
        )  # fmt: skip
    _save(member, statistics, rejected, dead)
    return MemberJudgement(tuple(pols), good | dead, _commands(member, good | dead))


def _statistics(
    table: Any, before: Any, member: JudgedMember, job: JudgeJob, n_pol: int
) -> tuple[dict[str, FloatArray], FloatArray]:
    """Statistics [row, polarization] by name, and the fraction of each spectrum that is flagged already."""
    shape = (member.rows.size, n_pol)
    found = {name: np.full(shape, UNKNOWN) for name in ("rms_after", "rms_before", "mean_after", "mean_before")}
    flagged = np.ones(shape)
    keep_out = edge_mask(member.n_chan, job.edge) | member.deviation.mask(member.n_chan)
    order = np.lexsort((member.time_s, member.raster_row))
    order = order[(member.rows >= 0)[order] & (member.rows_before >= 0)[order]]
    step = spectra.rows_per_block(n_pol, member.n_chan)
    for part in raster_blocks(member.raster_row[order], step):
        here = order[part]
        masked = masks_by_channel(member.mask_offsets, member.mask_spans, here, member.n_chan) | keep_out
        if not job.after:
            masked = np.broadcast_to(keep_out, masked.shape)
        # A function of its own: what it read is gone before the next spectra are read.
        flagged[here] = _block_statistics(table, before, member, job, here, masked, found)
    return found, flagged


def _block_statistics(
    table: Any, before: Any, member: JudgedMember, job: JudgeJob, here: IntArray, masked: BoolArray,
    found: dict[str, FloatArray],
) -> FloatArray:  # fmt: skip
    """Fill in the statistics of some whole raster rows; return the flagged fraction of each spectrum."""
    data, flags = spectra.read_open(table, job.column, member.rows[here])
    use = ~flags & ~masked[:, None, :]
    sets = [("after" if job.after else "before", data, use)]
    if before is not None:
        raw, raw_flags = spectra.read_open(before, job.column_before, member.rows_before[here])
        sets.append(("before", raw, use & ~raw_flags))
    for when, values, chosen in sets:
        reach = job.rules.neighbours_after if when == "after" else job.rules.neighbours_before
        threshold = job.rules.thresholds.get("pofr" if when == "after" else "prfr", np.inf)
        for pol in range(data.shape[1]):
            rms = spectrum_rms(values[:, pol], chosen[:, pol])
            found[f"rms_{when}"][here, pol] = rms
            found[f"mean_{when}"][here, pol] = running_mean_deviation(
                values[:, pol], chosen[:, pol], member.raster_row[here], reach,
                ~clip(rms, threshold, rounds=job.rules.rounds).good,
            )  # fmt: skip
    return np.asarray(flags.mean(axis=2))


def _rejected(
    rule: str, threshold: float, statistics: Mapping[str, FloatArray], member: JudgedMember, rounds: int
) -> tuple[BoolArray, list[float | None]]:
    n_pol = len(member.correlations)
    if rule == "tsys":
        judged = [clip(member.tsys_k[:, p], threshold, rounds=rounds, lower=0.0, robust=False) for p in range(n_pol)]
        return np.stack([~j.good for j in judged], axis=1), [_finite(j.upper) for j in judged]
    when = "after" if rule in _AFTER else "before"
    if rule.endswith("e"):
        rms = statistics[f"rms_{when}"]
        good = np.empty(rms.shape, dtype=bool)
        for p in range(n_pol):
            noise = expected_rms(
                member.tsys_k[:, p], member.jy_per_k[p], member.bandwidth_hz, member.exposure_s, member.factors
            )
            good[:, p] = within_expectation(rms[:, p], noise, threshold)
        return ~good, [None] * n_pol
    values = statistics[f"{'mean' if rule.endswith('rm') else 'rms'}_{when}"]
    judged = [clip(values[:, p], threshold, rounds=rounds) for p in range(n_pol)]
    return np.stack([~j.good for j in judged], axis=1), [_finite(j.upper) for j in judged]


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _commands(member: JudgedMember, good: BoolArray) -> tuple[str, ...]:
    """Flag commands: one per range of time; spectra bad in every polarization need none for each."""
    lines: list[str] = []
    every = ~good.any(axis=1)
    parts = [("", every)]
    parts += [(name, ~good[:, p] & ~every) for p, name in enumerate(member.correlations)]
    for name, bad in parts:
        if bad.any():
            # A quarter of an interval to each side is enough to hold an integration and never its neighbour.
            ranges = flagging.merged_ranges(member.time_s[bad], member.interval_s[bad] / 4, join_s=0.0)
            chosen = f"{member.selection} correlation='{name}'" if name else member.selection
            lines += flagging.time_commands(chosen, _joined(ranges, member.time_s, bad), "blflag")
    return tuple(lines)


def _joined(ranges: list[tuple[float, float]], time_s: FloatArray, bad: BoolArray) -> list[tuple[float, float]]:
    """Join neighbouring ranges when no good spectrum lies between them."""
    kept = np.sort(time_s[~bad])
    joined: list[tuple[float, float]] = []
    for low, high in ranges:
        if joined and np.searchsorted(kept, joined[-1][1]) == np.searchsorted(kept, low):
            joined[-1] = (joined[-1][0], high)
        else:
            joined.append((low, high))
    return joined


def _save(
    member: JudgedMember, statistics: Mapping[str, FloatArray], rejected: Mapping[str, BoolArray], dead: BoolArray
) -> None:
    """Keep what the web log draws."""
    path = Path(member.file)
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.stack(
        [
            expected_rms(member.tsys_k[:, p], jy, member.bandwidth_hz, member.exposure_s, member.factors)
            for p, jy in enumerate(member.jy_per_k)
        ],
        axis=1,
    )
    shown = {"dead": dead, "tsys": member.tsys_k, "expected": noise, **statistics}
    shown |= {f"bad_{rule}": bad for rule, bad in rejected.items()}
    chosen = list(member.pols)
    np.savez_compressed(path, time_s=member.time_s, **{name: array[:, chosen] for name, array in shown.items()})
