"""What clean left of the flux density of each island, measured in a finished continuum image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from pl_hif import measure
from pl_hif.heuristics.convergence import missing_flux
from pl_hif.targets import CleanTarget


@attrs.frozen(kw_only=True)
class IslandFlux:
    """An island of the model: where its peak is, its flux density, and what the residual says it lacks.

    ``missing`` is relative to ``flux_jy``, ``error`` its error from thermal noise.
    """

    pixel: tuple[int, int] = attrs.field(converter=tuple)
    flux_jy: float
    missing: float
    error: float


def island_fluxes(ctx: Any, stem: str, target: CleanTarget, thermal: float) -> tuple[IslandFlux, ...]:
    """The brightest islands of a target's continuum image of one pointing; () for other images."""
    if target.specmode == "cube" or target.intent != "TARGET" or target.gridder != "standard":
        return ()
    terms = target.nterms if target.deconvolver == "mtmfs" else 1

    def read(kind: str, count: int) -> list[Any]:
        paths = [f"{stem}.{kind}.tt{i}" for i in range(count)] if target.deconvolver == "mtmfs" else [f"{stem}.{kind}"]
        return [measure.plane(ctx, path) for path in paths]

    if not Path(f"{stem}.mask").is_dir():
        return ()
    found = missing_flux(
        read("residual", terms), read("model", 1)[0], read("psf", 2 * terms - 1),
        measure.plane(ctx, f"{stem}.mask") > 0.5, thermal,
    )  # fmt: skip
    return tuple(
        IslandFlux(pixel=(int(p[0]), int(p[1])), flux_jy=float(s), missing=float(m), error=float(e))
        for p, s, m, e in zip(found.pixel, found.flux, found.fraction, found.error, strict=True)
    )
