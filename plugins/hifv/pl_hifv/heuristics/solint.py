"""Solution intervals of the VLA: short ones that follow the atmosphere, long ones of about a scan."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import attrs
import numpy as np

FLAGGED_LIMIT = 0.05
"""More flagged solutions than that call for a longer interval (reference pipeline, 2026)."""
LADDER = (1, 3, 10)
"""Integrations per solution that are tried."""
MERGE_S = 1000.0
"""Consecutive scans of a field are one as long as they last less than this together."""
OUTLIER_Z = 3.0
STRETCH = 1.01
CANDIDATES = 5


@attrs.frozen(kw_only=True)
class ScanTime:
    """When a scan was, in seconds, and what it observed."""

    id: int
    start_s: float
    end_s: float
    field: int
    spws: frozenset[int] = frozenset()

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s


@attrs.frozen(kw_only=True)
class LongInterval:
    """The interval of about a scan, in seconds, why it was chosen, and the scans left out as outliers."""

    seconds: float
    reason: str
    longest_s: float
    outliers: tuple[int, ...] = attrs.field(default=(), converter=tuple)


@attrs.frozen(kw_only=True)
class Trial:
    """One interval that was tried: ``integrations`` 0 means one solution per scan."""

    integrations: int
    seconds: float
    solint: str
    flagged: float
    snr: float = 0.0
    table: str = ""


@attrs.frozen(kw_only=True)
class Choice:
    """The interval chosen from the trials, and why; ``poor`` when even the best is above the limit."""

    trial: Trial
    trials: tuple[Trial, ...] = attrs.field(converter=tuple)
    reason: str
    poor: bool


def merged(scans: Sequence[ScanTime]) -> list[ScanTime]:
    """Join consecutive scan numbers of the same field and windows while they last less than 1000 s together."""
    result: list[ScanTime] = []
    last = -1
    for scan in sorted(scans, key=lambda s: s.id):
        if result and scan.id == last + 1:
            before = result[-1]
            same = (before.field, before.spws) == (scan.field, scan.spws)
            if same and scan.end_s - before.start_s < MERGE_S:
                result[-1] = attrs.evolve(before, end_s=scan.end_s)
                last = scan.id
                continue
        result.append(scan)
        last = scan.id
    return result


def long_interval(scans: Sequence[ScanTime], integration_s: float) -> LongInterval:
    """The interval in which a scan of the phase calibrator has one solution.

    Scans are joined, those whose length is three standard deviations off are left out, the longest of the rest is
    stretched by 1 % and rounded up to whole integrations. Of this and the four next multiples the one is taken that
    divides the longest of all scans with the largest remainder, so that a long scan does not end in a sliver.

    The rule is the reference pipeline's (2026). There the rounding drops fractions of a second and gives up beyond
    9 s, so that integrations of 0.45 s fall back to a second rule; here it always ends at a whole number of
    integrations.

    Raises
    ------
    ValueError : no scans, or an integration that is not positive.
    """
    if not scans or not integration_s > 0:
        raise ValueError("long_interval needs scans and a positive integration time")
    joined = merged(scans)
    lengths = np.array([s.duration_s for s in joined])
    spread = lengths.std()
    keep = np.abs(lengths - lengths.mean()) < OUTLIER_Z * spread if spread > 0 else np.ones(len(lengths), bool)
    if not keep.any():
        keep[:] = True
    longest_kept, longest = float(lengths[keep].max()), float(lengths.max())
    # 1e-9: a length that is a whole number of integrations must not be rounded up by its last bit.
    count = math.ceil(STRETCH * longest_kept / integration_s - 1e-9)
    candidates = [(count + i) * integration_s for i in range(CANDIDATES)]
    remainders = [math.modf(longest / t)[0] for t in candidates]
    seconds = candidates[int(np.argmax(np.round(remainders, 9)))]
    return LongInterval(
        seconds=seconds,
        reason=f"the longest of {int(keep.sum())} phase-calibrator scans lasts {longest_kept:.1f} s",
        longest_s=longest_kept,
        outliers=[s.id for s, k in zip(joined, keep, strict=True) if not k],
    )


def climb(trial: Callable[[int], Trial], steps: Sequence[int] = LADDER, limit: float = FLAGGED_LIMIT) -> Choice:
    """Try intervals from the shortest on until few enough solutions are flagged; take the best seen.

    ``trial(n)`` solves with n integrations (0: one solution per scan) and tells the median flagged fraction. A longer
    interval replaces a shorter one only when it flags less. (In the reference pipeline the second trial of
    hifv_solint reads the first's table and can never win.)
    """
    trials: list[Trial] = []
    best: Trial | None = None
    for step in steps:
        found = trial(step)
        trials.append(found)
        if best is None or found.flagged < best.flagged:
            best = found
        if best.flagged <= limit:
            break
    assert best is not None
    poor = best.flagged > limit
    percent = f"{100 * best.flagged:.1f} % of the solutions are flagged"
    more = f", more than {100 * limit:g} %, and longer ones are no better" if poor else ""
    reason = f"with {best.solint} {percent}{more}"
    return Choice(trial=best, trials=trials, reason=reason, poor=poor)


def too_close(short_s: float, long_s: float, choice: Choice) -> bool:
    """Whether |long − short| is no more than the longest interval that was tried (reference pipeline, 2026).

    Then a scan has one short solution or two, and the short interval follows nothing that the long one does not. A
    trial of one solution per scan counts with the integrations tried before it: its own length would always be close.
    """
    tried = max((t.seconds for t in choice.trials if t.integrations), default=0.0)
    return abs(long_s - short_s) <= tried * (1 + 1e-9)


@attrs.frozen(kw_only=True)
class ShortInterval:
    """The short interval: seconds, CASA's spelling, whether a limit of the user changed it, and why."""

    seconds: float
    solint: str
    combine_scans: bool
    limited: bool
    reason: str


def spelled(seconds: float, integration_s: float) -> str:
    """CASA's ``solint`` of an interval: "int" for one integration."""
    if abs(seconds - integration_s) <= 1e-3 * integration_s:
        return "int"
    return f"{seconds:.6g}s"


def short_interval(needed_s: float, integration_s: float, long_s: float, limit: str = "") -> ShortInterval:
    """The short interval from what the solves needed and the limit given: seconds, "int", or "inf".

    A limit below the integration time means one integration, one above the long interval means the long interval;
    "inf" is one solution per scan (reference pipeline, 2026).

    Raises
    ------
    ValueError : the limit is none of these.
    """
    text = str(limit or "").strip()
    if not text:
        return ShortInterval(
            seconds=needed_s, solint=spelled(needed_s, integration_s), combine_scans=True, limited=False,
            reason="the shortest that the signal allows",
        )  # fmt: skip
    if text == "int":
        return ShortInterval(
            seconds=integration_s, solint="int", combine_scans=True, limited=True, reason="limited to one integration"
        )
    if text == "inf":
        return ShortInterval(
            seconds=long_s, solint="inf", combine_scans=False, limited=True, reason="limited to one solution per scan"
        )
    value = float(text.removesuffix("s"))
    if not value > 0:
        raise ValueError(f"limit_short_solint must be positive, 'int' or 'inf'; got {limit!r}")
    seconds = min(max(value, integration_s), long_s)
    where = "one integration" if value < integration_s else "the long interval" if value > long_s else f"{value:g} s"
    return ShortInterval(
        seconds=seconds, solint=spelled(seconds, integration_s), combine_scans=True, limited=True,
        reason=f"limited to {where}",
    )  # fmt: skip
