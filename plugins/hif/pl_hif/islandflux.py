"""What clean left of the flux density of each island, measured in a finished continuum image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from pl_hif import measure
from pl_hif.heuristics.convergence import missing_flux
from pl_hif.targets import CleanTarget

NOISE_DEPTH = 3.0
"""Multiple of the expected noise below which clean need not look."""


@attrs.frozen(kw_only=True)
class IslandFlux:
    """An island of the model: where its peak is, its flux density, and what the residual says it lacks.

    ``missing`` is relative to ``flux_jy``, ``error`` its error from thermal noise, ``below`` the part of an
    island that is below clean's threshold when it is left over, and so left on purpose.
    """

    pixel: tuple[int, int] = attrs.field(converter=tuple)
    flux_jy: float
    missing: float
    error: float
    below: float = 0.0

    @property
    def lost(self) -> float:
        """What clean left beyond its threshold and three errors, relative to ``flux_jy``."""
        return max(abs(self.missing) - self.below - 3 * self.error, 0.0)


def island_fluxes(
    ctx: Any, stem: str, target: CleanTarget, thermal: float, threshold: float
) -> tuple[IslandFlux, ...]:
    """The brightest islands of a target's continuum image of one pointing; () for other images.

    ``thermal`` is the expected noise, ``threshold`` what clean went down to, Jy/beam. Of the latter, three times the
    noise count as left on purpose: what ends higher ends at sidelobes that clean could not take away.
    """
    if target.specmode == "cube" or target.intent != "TARGET" or target.gridder != "standard":
        return ()
    terms = target.nterms if target.deconvolver == "mtmfs" else 1

    def read(kind: str, count: int) -> list[Any]:
        paths = [f"{stem}.{kind}.tt{i}" for i in range(count)] if target.deconvolver == "mtmfs" else [f"{stem}.{kind}"]
        return [measure.plane(ctx, path) for path in paths]

    if not Path(f"{stem}.mask").is_dir():
        return ()
    shallow = min(threshold, NOISE_DEPTH * thermal)
    found = missing_flux(
        read("residual", terms), read("model", 1)[0], read("psf", 2 * terms - 1),
        measure.plane(ctx, f"{stem}.mask") > 0.5, thermal,
    )  # fmt: skip
    return tuple(
        IslandFlux(
            pixel=(int(p[0]), int(p[1])), flux_jy=float(s), missing=float(m), error=float(e),
            below=min(shallow / float(x), 1.0),
        )
        for p, s, m, e, x in zip(found.pixel, found.flux, found.fraction, found.error, found.peak, strict=True)
    )  # fmt: skip
