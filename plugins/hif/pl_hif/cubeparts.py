"""Large cubes, made in ranges of channels that are joined at the end: side by side when the run has several workers.

How a cube is divided depends on its channels alone, so its numbers do not depend on the number of workers. CASA decides
from the brightest channel when to look at the visibilities again; a range of channels is cleaned by its own brightest.
What belongs to the cube as a whole is decided between the two steps: noise of the line-free channels, hence the
threshold, and the common beam.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs

from pl_hif import cleaning, measure
from pl_hif.cleaning import Attempt, Dirty, Settings
from pl_hif.targets import CleanTarget
from pl_kernel import PlError
from pl_kernel.stage import ItemFailure
from pl_kernel.stage_context import ItemContext

CHANNELS = 24
"""A part has at least this many channels: below, the time goes into opening the data."""
PARTS = (16, 8, 4, 2)
"""Numbers of parts that two, four and eight workers share evenly."""
KINDS = ("image", "image.pbcor", "residual", "mask", "psf", "pb", "model", "sumwt")


def parts_of(target: CleanTarget) -> tuple[CleanTarget, ...]:
    """A cube as ranges of channels of about equal size; the target itself when it is no cube, or a small one.

    Weights are those of each channel (``perchanweightdensity``) or the cube cannot be divided.
    """
    count = next((n for n in PARTS if target.specmode == "cube" and n * CHANNELS <= target.nchan), 1)
    if count < 2 or not target.perchanweightdensity or target.start_hz is None or target.width_hz is None:
        return (target,)
    edges = [round(i * target.nchan / count) for i in range(count + 1)]
    return tuple(
        attrs.evolve(
            target, imagename=f"{target.imagename}.part{i + 1:02d}", nchan=last - first,
            start_hz=target.start_hz + first * target.width_hz,
        )
        for i, (first, last) in enumerate(itertools.pairwise(edges))
    )  # fmt: skip


@attrs.frozen(kw_only=True)
class Part:
    """Work item: a range of channels of a cube."""

    target: CleanTarget
    settings: Settings
    dirty: Dirty | None = None

    @property
    def name(self) -> str:
        return self.target.imagename


def dirty_part(ctx: ItemContext, part: Part) -> measure.PlaneNoises:
    """Make the dirty image of a range."""
    target = part.target
    cleaning.remove_products(ctx, target.imagename)
    ctx.casa.tclean(
        **cleaning.common_arguments(target), niter=0, restoration=False, calcpsf=True, calcres=True
    )
    return measure.plane_noises(ctx, f"{target.imagename}.residual", target)


def clean_part(ctx: ItemContext, part: Part, retries: int) -> tuple[Attempt, ...]:
    """Clean a range, again and more carefully if it diverged."""
    if part.dirty is None:
        raise ValueError("a range is cleaned after its cube was judged")
    attempts: list[Attempt] = []
    for number in range(1 + retries):
        if number:
            ctx.log.warning(f"{part.name}: {attempts[-1].reason}; trying again with a lower gain.")
            cleaning.remove_products(ctx, part.name)
        attempts.append(cleaning.deconvolve(ctx, part.target, part.settings, part.dirty, number))
        if not attempts[-1].diverged:
            break
    return tuple(attempts)


def make_cube(
    ctx: Any, target: CleanTarget, settings: Settings, retries: int,
) -> tuple[Dirty, tuple[Attempt, ...]]:  # fmt: skip
    """Make a cube in parts; ``ctx`` maps items. Raises PlError when a part fails: a cube with a gap is none."""
    parts = parts_of(target)
    stem = target.imagename
    items = [Part(target=p, settings=settings) for p in parts]
    noises = _all_of(ctx.map, dirty_part, items, (), f"{target.field}: dirty cube")
    seen = measure.combined(noises)
    if not seen.peak > 0:
        raise PlError(f"The dirty cube of {target.field}, spw {','.join(map(str, target.spws))} is empty.")
    promised = measure.expected_noise(ctx, target)
    dirty = Dirty(
        peak=seen.peak, mad_sigma=seen.mad_sigma, thermal=promised.rms * target.noise_factor,
        antennas=promised.antennas,
    )  # fmt: skip
    shared = attrs.evolve(settings, restoring_beam=cleaning.restoring_beam(ctx, [f"{p.imagename}.psf" for p in parts]))
    # Whether a range diverged is judged by its own dirty peak; threshold and number of cycles by the cube's.
    items = [
        Part(target=p, settings=shared, dirty=attrs.evolve(dirty, peak=n.peak))
        for p, n in zip(parts, noises, strict=True)
    ]
    attempts = _all_of(ctx.map, clean_part, items, (retries,), f"{target.field}: cube")
    cleaning.remove_products(ctx, stem)
    for kind in KINDS:
        files = [f"{p.imagename}.{kind}" for p in parts]
        if all(Path(f).is_dir() for f in files):
            ctx.casa.imageconcat(outfile=f"{stem}.{kind}", infiles=files)
    for p in parts:
        cleaning.remove_products(ctx, p.imagename)
    return dirty, tuple(_merged(a) for a in zip(*_padded(attempts), strict=True))


def _all_of(
    mapped: Callable[..., list[Any]], function: Callable[..., Any], items: Sequence[Part], more: tuple[Any, ...],
    label: str,
) -> list[Any]:  # fmt: skip
    answers = mapped(function, items, *more, label=label, on_error="collect")
    bad = [a for a in answers if isinstance(a, ItemFailure)]
    if bad:
        raise PlError(f"A range of channels failed: {bad[0].item}: {bad[0].reason}")
    return answers


def _padded(attempts: Sequence[tuple[Attempt, ...]]) -> list[list[Attempt]]:
    """As many attempts for each part as the one with the most: one that was good stays what it is."""
    most = max(len(a) for a in attempts)
    return [[*a, *[a[-1]] * (most - len(a))] for a in attempts]


def _merged(parts: Sequence[Attempt]) -> Attempt:
    """One attempt of the cube out of those of its parts: the worst outcome, all cycles."""
    worst = next((a for a in parts if a.diverged), max(parts, key=lambda a: a.residual_peak))
    return attrs.evolve(
        worst, iterations=sum(a.iterations for a in parts), major_cycles=max(a.major_cycles for a in parts),
        residual_peak=max(a.residual_peak for a in parts), niter=sum(a.niter for a in parts),
    )  # fmt: skip
