"""Scores of the stages that flag interference."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from pl_hifv.bursts import Burst
from pl_hifv.stages.checkflag import Checked, CheckflagResult
from pl_hifv.stages.targetflag import TargetflagResult
from pl_kernel import QAScore, scorer
from pl_kernel.qa import AppliesTo, linear

PERSISTENT = 0.5
"""A channel with more than this part of its data newly flagged has interference that does not go away."""


def newly_flagged(fraction: float) -> float:
    """Score of a newly flagged part: 0.05 → 1, 0.75 → 0.5, 1 → 0 (reference pipeline, 2026)."""
    if fraction <= 0.75:
        return linear(fraction, 0.05, 0.75, 1.0, 0.5)
    return linear(fraction, 0.75, 1.0, 0.5, 0.0)


def excess(fraction: float) -> float:
    """Score of what one antenna or window lost beyond the others: 2 % is no matter, 20 % wants a look."""
    return linear(fraction, 0.02, 0.20, 1.0, 0.6)


@scorer(CheckflagResult, topic="flagging")
def interference_flagged(result: CheckflagResult) -> list[QAScore]:
    """How much was flagged in all, and whether an antenna, a window or a few channels stand out."""
    what = f"checkflag {result.mode}".strip()
    scores = [
        QAScore(
            metric="checkflag.empty", score=1.0, short="nothing to look at",
            long=f"{vis} has no data for {what}; nothing was flagged.", applies_to=AppliesTo(vis=vis),
        )
        for vis in result.empty
    ]  # fmt: skip
    for one in result.sets:
        scores += _scores(one, what)
    return scores


@scorer(TargetflagResult, topic="flagging")
def targets_flagged(result: TargetflagResult) -> list[QAScore]:
    """The same for the plain flagging of targets."""
    return [s for one in result.sets for s in _scores(one, "targetflag")]


def _scores(one: Checked, what: str) -> list[QAScore]:
    percent = 100 * one.newly
    scores = [
        QAScore(
            metric="checkflag.newly_flagged", value=one.newly, score=newly_flagged(one.newly),
            short=f"{percent:.1f}% flagged", applies_to=AppliesTo(vis=one.vis),
            long=f"{what} flagged {percent:.2f}% of the data of {one.vis} that it looked at"
            f" ({100 * one.after.fraction:.1f}% are flagged now).",
        ),
        *_outstanding(one, what),
        *_channels(one, what),
        *_jumps(one),
        *burst_scores(one.bursts, one.vis),
    ]  # fmt: skip
    if one.contdat:
        scores.append(
            QAScore(
                metric="checkflag.contdat", score=1.0, short="cont.dat used",
                long=f"Only the continuum channels of cont.dat were looked at for {', '.join(one.contdat)}.",
                applies_to=AppliesTo(vis=one.vis, field=one.contdat),
            )
        )  # fmt: skip
    return scores


def _outstanding(one: Checked, what: str) -> list[QAScore]:
    """The antenna and the window that lost most, against the median of the others."""
    found = []
    for kind, before, after in (
        ("antenna", _text(one.before.by_antenna()), _text(one.after.by_antenna())),
        ("spw", _text(one.before.by_spw()), _text(one.after.by_spw())),
    ):
        lost = {k: after[k] - before.get(k, 0.0) for k in after}
        if len(lost) < 3:
            continue
        worst = max(lost, key=lambda k: lost[k])
        middle = statistics.median(v for k, v in lost.items() if k != worst)
        more = max(0.0, lost[worst] - middle)
        where = AppliesTo(vis=one.vis, **{kind: worst})
        found.append(
            QAScore(
                metric=f"checkflag.worst_{kind}", value=more, score=excess(more), applies_to=where,
                short=f"{kind} {worst}: {100 * lost[worst]:.1f}%",
                long=f"{what} flagged {100 * lost[worst]:.1f}% of {kind} {worst} of {one.vis}, the others lost"
                f" {100 * middle:.1f}% in the median.",
            )
        )  # fmt: skip
    return found


def _channels(one: Checked, what: str) -> list[QAScore]:
    """Channels that interference made useless."""
    found = []
    for spw, after in one.after.channels.items():
        before = one.before.channels.get(spw, (0.0,) * len(after))
        lost = [i for i, (b, a) in enumerate(zip(before, after, strict=True)) if a - b > PERSISTENT]
        if not lost:
            continue
        part = len(lost) / len(after)
        found.append(
            QAScore(
                metric="checkflag.channels", value=part, score=linear(part, 0.0, 0.5, 0.89, 0.5),
                short=f"spw {spw}: {len(lost)} channels lost", applies_to=AppliesTo(vis=one.vis, spw=spw),
                long=f"In spw {spw} of {one.vis} {what} flagged most of the data of channels {ranges(lost)}:"
                " interference that lasts.",
            )
        )  # fmt: skip
    return found


def _jumps(one: Checked) -> list[QAScore]:
    """Steps of antenna phases, which calibrators did not see."""
    return [
        QAScore(
            metric="checkflag.phase_jump", value=jump.degrees, unit="deg", score=0.8,
            short=f"{jump.antenna}: phase step",
            applies_to=AppliesTo(vis=one.vis, antenna=jump.antenna, field=jump.field, scan=jump.scan),
            long=f"The phase of {jump.antenna} of {one.vis} steps by {jump.degrees:.0f} degrees in scan {jump.scan};"
            " its data are flagged while it is off.",
        )
        for jump in one.jumps
    ]  # fmt: skip


def burst_scores(bursts: Iterable[Burst], vis: str) -> list[QAScore]:
    """Interference that comes and goes, by window: some of the data are lost, and there may be more of it."""
    windows: dict[int, list[Burst]] = {}
    for burst in bursts:
        windows.setdefault(burst.spw, []).append(burst)
    scores = []
    for spw, found in windows.items():
        times = {t for b in found for t in b.times_s}
        channels = sorted({c for b in found for c in b.channels})
        total = max(b.integrations for b in found)
        scores.append(
            QAScore(
                metric="flags.bursts", value=len(times) / total, score=linear(len(times) / total, 0.0, 1.0, 0.89, 0.5),
                short=f"spw {spw}: bursts", applies_to=AppliesTo(vis=vis, spw=str(spw)),
                long=f"In channels {ranges(channels)} of spw {spw} of {vis} interference comes and goes; it is flagged"
                f" in {len(times)} of {total} integrations.",
            )
        )  # fmt: skip
    return scores


def ranges(channels: list[int]) -> str:
    """Channel numbers as ``3~5, 9``."""
    parts: list[list[int]] = []
    for c in channels:
        if parts and c == parts[-1][1] + 1:
            parts[-1][1] = c
        else:
            parts.append([c, c])
    return ", ".join(f"{a}~{b}" if b > a else str(a) for a, b in parts)


def _text(values: dict) -> dict[str, float]:
    return {str(k): float(v) for k, v in values.items()}


