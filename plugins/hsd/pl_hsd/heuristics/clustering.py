"""Lines that belong together: clusters of detections in the plane of width and centre.

Numbers are the reference pipeline's (2026).
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

FIRST_CUT_SIGMA, SECOND_CUT_SIGMA, OUTLIER_SIGMA = 2.5, 4.0, 4.0
FEWEST = 3
"""Members below which a cluster is an accident."""

_MOST_POINTS = 3000  # distances between all pairs are kept: 36 MB
_MOST_MEANS, _PATIENCE, _MEANS_OUTLIER_SIGMA = 100, 10, 3.0
_SEED = 20260101


@attrs.frozen(eq=False)
class Cluster:
    """Detections of one line: ``members`` are their numbers; centre and full width stand for them (channels)."""

    centre: float
    width: float
    members: IntArray


def find_clusters(width: FloatArray, centre: FloatArray, n_chan: int, algorithm: str = "hierarchy") -> list[Cluster]:
    """Cluster lines by full width and centre (channels) with ``hierarchy``, ``kmean`` or ``both``; sorted by centre."""
    points = np.column_stack([width, centre]).astype(np.float64)
    found: list[Cluster] = []
    if algorithm in ("hierarchy", "both"):
        found += _hierarchy(points, n_chan)
    if algorithm in ("kmean", "both"):
        found += _means(points)
    return sorted(found, key=lambda c: (c.centre, c.width))


# ---- hierarchy -----------------------------------------------------------------------------------------------------


def _hierarchy(points: FloatArray, n_chan: int) -> list[Cluster]:
    """Single linkage, cut twice.

    The first cut is at the mean of the link lengths plus 2.5 standard deviations; six artificial points at the ends of
    the band keep a single tight cluster from being cut to pieces.  Each cluster is cut again at its own mean + 4 sigma.
    """
    if len(points) < FEWEST:
        return []
    half, last = n_chan // 2, n_chan - 1
    artificial = np.array([[half, 0.0]] * 3 + [[half, last]] * 3, dtype=np.float64)
    lengths = _links(np.concatenate([points, artificial]))[1]
    clusters = []
    for part in _cut(points, float(lengths.mean() + FIRST_CUT_SIGMA * lengths.std())):
        own = _links(points[part])[1]
        limit = float(own.mean() + SECOND_CUT_SIGMA * own.std()) if own.size else 0.0
        for inner in _cut(points[part], limit):
            members = _without_outliers(points, part[inner])
            if members.size >= FEWEST:
                clusters.append(
                    Cluster(
                        centre=float(points[members, 1].mean()),
                        width=float(np.percentile(points[members, 0], 75)),
                        members=members,
                    )
                )
    return clusters


def _without_outliers(points: FloatArray, members: IntArray) -> IntArray:
    distance = np.hypot(*(points[members] - points[members].mean(axis=0)).T)
    return members[distance <= np.median(distance) + OUTLIER_SIGMA * distance.std()]


def _links(points: FloatArray) -> tuple[tuple[FloatArray, IntArray, FloatArray | None], FloatArray]:
    """Linkage of the distinct points, and the lengths of its links.

    Links between equal points (length 0) do not count: a bright line on a large map has thousands, and they would
    shrink the limits below one channel until it falls to pieces.
    """
    from scipy.cluster.hierarchy import linkage

    step = 1.0
    distinct, inverse = np.unique(points, axis=0, return_inverse=True)
    while len(distinct) > _MOST_POINTS:
        step *= 2
        distinct, inverse = np.unique(np.round(points / step) * step, axis=0, return_inverse=True)
    tree = linkage(distinct, method="single") if len(distinct) > 1 else None
    return (distinct, inverse.ravel(), tree), tree[:, 2] if tree is not None else np.zeros(0)


def _cut(points: FloatArray, length: float) -> Iterator[IntArray]:
    from scipy.cluster.hierarchy import fcluster

    (_distinct, inverse, tree), _lengths = _links(points)
    if tree is None:
        yield np.arange(len(points))
        return
    labels = fcluster(tree, t=length, criterion="distance")[inverse]
    for label in np.unique(labels):
        yield np.flatnonzero(labels == label)


# ---- k-means -------------------------------------------------------------------------------------------------------


def _means(points: FloatArray) -> list[Cluster]:
    """k-means for k = 1, 2 ...; the k with the smallest score wins, and 10 worse ones in a row end the search."""
    if len(points) < FEWEST:
        return []
    best: tuple[float, list[IntArray]] = (np.inf, [])
    since = 0
    for k in range(1, min(_MOST_MEANS, len(np.unique(points, axis=0))) + 1):
        score, groups = _score_of(points, k)
        if score < best[0]:
            best, since = (score, groups), 0
        else:
            since += 1
        if since >= _PATIENCE:
            break
    return [
        Cluster(float(np.median(points[g, 1])), float(np.median(points[g, 0])), g) for g in best[1] if g.size >= FEWEST
    ]


def _score_of(points: FloatArray, k: int) -> tuple[float, list[IntArray]]:
    from scipy.cluster.vq import kmeans, vq

    book, _ = kmeans(points, k, iter=10, rng=np.random.default_rng(_SEED))
    labels, distance = vq(points, book)
    groups, distances = [], []
    for label in range(len(book)):
        members = np.flatnonzero(labels == label)
        if not members.size:
            continue
        far = distance[members]
        kept = far <= far.mean() + _MEANS_OUTLIER_SIGMA * far.std()
        groups.append(members[kept])
        distances.append(far[kept])
    rate = sum(g.size for g in groups) / len(points)
    n = len(groups)
    spread = np.hypot(np.concatenate(distances).mean(), np.median(points[:, 0]) / 2)
    return float(spread * (n + 1 / n) * ((1 - rate) * 100 + 1)), groups
