"""How large images become, and how to make them smaller (rules of the reference pipeline, 2026)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import attrs

from pl_hif.heuristics.imaging import good_size

_BYTES = 4.0
_BINNED_ALWAYS = (7680, 3840)
_BINNED_IF_SMOOTHED = (1920, 960, 480)
_SMOOTHED_RATIO = 2.667
"""Effective over physical channel width of channels that are Hanning-smoothed and not averaged."""
LOWEST_LEVEL, HIGHEST_LEVEL = 0.2, 0.7
"""Levels of the primary beam between which an image may end."""
LARGE = 0.5
"""A cube above this part of the limit is large: only one such window is imaged."""
GOOD = 0.05
"""Least part of good data in some window of a representative target."""


@attrs.frozen(kw_only=True)
class Size:
    """One image to come: spws are virtual ids, ``nchan`` counts channels of the cube before binning."""

    field: str
    spws: tuple[int, ...] = attrs.field(converter=tuple)
    nx: int
    ny: int
    nchan: int = 1
    nbin: int = 1
    frequency_hz: float = 0.0

    @property
    def mfs_gb(self) -> float:
        return _BYTES * self.nx * self.ny / 1e9

    @property
    def cube_gb(self) -> float:
        return self.mfs_gb * self.nchan / self.nbin


@attrs.frozen(kw_only=True)
class Limits:
    """Limits in GB and pixels; −1 means none.  ``maxcubelimit`` is what a cube may have after all mitigation."""

    maxcubesize: float = -1.0
    maxcubelimit: float = -1.0
    maxproductsize: float = -1.0
    maximsize: int = -1

    @property
    def by_bytes(self) -> bool:
        return max(self.maxcubesize, self.maxcubelimit, self.maxproductsize) != -1

    @property
    def last_gb(self) -> float:
        """What a cube may have in the end: maxcubelimit, or maxcubesize where it is not given; −1: anything."""
        return self.maxcubesize if self.maxcubelimit == -1 else self.maxcubelimit

    def complaint(self) -> str:
        """What is contradictory about the limits; empty when nothing is."""
        if self.by_bytes and self.maximsize != -1:
            return "limits in GB and maximsize exclude each other"
        cube = self.maxcubesize
        limit = self.last_gb
        if -1 not in (cube, limit) and cube > limit:
            return f"maxcubesize, {cube:g} GB, is above maxcubelimit, {limit:g} GB"
        for name, value in (("maxcubesize", cube), ("maxcubelimit", limit)):
            if -1 not in (value, self.maxproductsize) and value >= self.maxproductsize:
                return f"{name}, {value:g} GB, is not below maxproductsize, {self.maxproductsize:g} GB"
        return ""


def largest_cube_gb(sizes: Iterable[Size]) -> float:
    """Size of the largest cube."""
    return max((s.cube_gb for s in sizes), default=0.0)


def product_gb(sizes: Iterable[Size]) -> float:
    """Size of everything delivered: continuum and cube of each, image and primary beam."""
    return 2.0 * sum(s.mfs_gb + s.cube_gb for s in sizes)


def nbin(channels: int, resolution_hz: float, width_hz: float) -> int:
    """2 where neighbouring channels of a full correlator mode are not independent, else 1."""
    if channels in _BINNED_ALWAYS:
        return 2
    smoothed = width_hz > 0 and math.isclose(resolution_hz / width_hz, _SMOOTHED_RATIO, rel_tol=1e-3)
    return 2 if channels in _BINNED_IF_SMOOTHED and smoothed else 1


def exceeds(gb: float, limit_gb: float) -> bool:
    """Whether a size is above a limit; −1 is none."""
    return limit_gb != -1 and gb > limit_gb


def cube_fails(sizes: Iterable[Size], limits: Limits) -> bool:
    """Whether a cube is larger than a cube may be in the end."""
    return exceeds(largest_cube_gb(sizes), limits.last_gb)


def large_cubes(cubes: Mapping[int, tuple[float, float]], limits: Limits) -> list[int]:
    """Windows whose largest cube (GB, frequency) is above half of the limit."""
    return [s for s, (gb, _) in cubes.items() if limits.last_gb > 0 and gb > LARGE * limits.last_gb]


def crowded(sizes: Iterable[Size]) -> bool:
    """More than 30 targets and more than 960 channels in all windows together: that takes long whatever the sizes."""
    listed = list(sizes)
    channels = {s.spws: s.nchan for s in listed}
    return len({s.field for s in listed}) > 30 and sum(channels.values()) > 960


def least_flagged(fractions: Mapping[int, float]) -> int | None:
    """The window with the smallest flagged fraction; None where none has 5 % of good data."""
    if not fractions or 1.0 - min(fractions.values()) < GOOD:
        return None
    return min(fractions, key=lambda s: (fractions[s], s))


def efficient_size(limit: int) -> int:
    """The largest image size within the limit that CASA calls efficient."""
    return next(n for n in range(limit - limit % 2, 0, -2) if n < 32 or good_size(n) == n)


def pb_level(limit_gb: float, gb: float, lowest: float = LOWEST_LEVEL) -> float:
    """Level of the primary beam at which the image has to end for a size to fit, to two digits, at most 0.7.

    For a Gaussian beam the area within a level p goes with −ln p; the default image of a cube reaches 0.2 times 1.01.
    ``lowest`` is the level at which the image ends already.
    """
    level = math.exp(-math.log(2.0) * 2.2064 * limit_gb / gb / 1.01)
    return round(min(max(level, lowest), HIGHEST_LEVEL), 2)


def fewer_fields(fields: Sequence[str], product: float, limit: float, representative: str = "") -> tuple[str, ...]:
    """As many fields as fit, at least one; the representative source is always among them."""
    if not fields:
        return ()
    count = max(1, int(limit / (product / len(fields))))
    if count >= len(fields):
        return tuple(fields)
    first = [representative] if representative in fields else []
    return tuple([*first, *(f for f in fields if f not in first)][:count])


def fewer_spws(
    cubes: Mapping[int, tuple[float, float]], per_product: float, limits: Limits, representative: int | None = None
) -> tuple[int, ...]:
    """Windows to image when not all can be.

    cubes : (GB of the largest cube, frequency) by virtual id.  per_product : GB of products per GB of cubes.

    Of the windows whose cubes exceed half of the cube limit one is kept, the representative one if it is large; then
    the representative, then the rest by size and frequency while the product fits.
    """
    large = large_cubes(cubes, limits)
    ordered = sorted(cubes, key=lambda s: cubes[s])
    kept: list[int] = []
    if large:
        kept.append(representative if representative in large else large[0])  # type: ignore[arg-type]
    if representative is not None and representative in cubes and representative not in kept:
        kept.append(representative)
    for spw in ordered:
        if spw in kept or spw in large:
            continue
        total = per_product * sum(cubes[s][0] for s in (*kept, spw))
        if not kept or limits.maxproductsize == -1 or total <= limits.maxproductsize:
            kept.append(spw)
    return tuple(sorted(kept))
