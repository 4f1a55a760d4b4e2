"""Which antenna should hold the phase reference: near the centre of the array, and with the most good data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import numpy as np


@attrs.frozen(kw_only=True)
class RankedAntenna:
    """One candidate. Each part of the score runs from 0 to the number of candidates."""

    name: str
    score: float
    geometry: float
    flagging: float
    distance_m: float
    good_fraction: float
    reason: str


def rank(
    positions_m: Mapping[str, Sequence[float]],
    good_points: Mapping[str, Mapping[str, float]],
    total_points: Mapping[str, Mapping[str, float]] | None = None,
    ignore: Sequence[str] = (),
    use_geometry: bool = True,
    use_flagging: bool = True,
) -> tuple[list[RankedAntenna], list[str]]:
    """Rank antennas as phase reference, best first.

    Parameters
    ----------
    positions_m : name → position in metres, two or three coordinates in any frame (east and north are enough).
    good_points : intent → antenna → number of unflagged visibilities.
    total_points : the same for all visibilities; only used to report the fraction of good data.
    ignore : names that must not be used.

    Returns
    -------
    The ranked antennas, and sentences about those that were left out.

    With N candidates the score is N·(1 − d/d_max), d being the distance from the median position, plus N times the
    smallest, over the intents, of good points / most good points of any antenna (reference pipeline, 2026). Antennas
    without any good data are left out, unless that leaves nobody.
    """
    names = [n for n in positions_m if n not in set(ignore)]
    dropped = [f"{n} is left out: the user asked for it." for n in positions_m if n in set(ignore)]
    if not names:
        return [], dropped
    count = len(names)
    xyz = np.array([np.asarray(positions_m[n], float) for n in names])
    distance = np.linalg.norm(xyz - np.median(xyz, axis=0), axis=1)
    furthest = distance.max()
    geometry = count * (1 - distance / furthest) if furthest > 0 else np.full(count, float(count))
    flagging = np.full(count, float(count))
    fraction = np.ones(count)
    for intent, points in good_points.items():
        good = np.array([float(points.get(n, 0.0)) for n in names])
        if good.max() > 0:
            flagging = np.minimum(flagging, count * good / good.max())
        else:
            flagging[:] = 0
        if total_points is not None:
            total = np.array([float(total_points.get(intent, {}).get(n, 0.0)) for n in names])
            fraction = np.minimum(fraction, np.divide(good, total, out=np.zeros(count), where=total > 0))
    if not use_geometry:
        geometry = np.zeros(count)
    if not use_flagging:
        flagging = np.zeros(count)
    unusable = (flagging <= 0) if use_flagging and good_points else np.zeros(count, bool)
    if unusable.all():
        unusable[:] = False
    ranked = []
    for i, name in enumerate(names):
        if unusable[i]:
            dropped.append(f"{name} is left out: it has no unflagged data on the calibrators.")
            continue
        reason = f"{distance[i]:.0f} m from the array centre, {100 * fraction[i]:.0f} % good calibrator data"
        ranked.append(
            RankedAntenna(
                name=name, score=float(geometry[i] + flagging[i]), geometry=float(geometry[i]),
                flagging=float(flagging[i]), distance_m=float(distance[i]), good_fraction=float(fraction[i]),
                reason=reason,
            )
        )  # fmt: skip
    # The name as the last key makes the order the same on every machine.
    return sorted(ranked, key=lambda a: (-a.score, a.name)), dropped
