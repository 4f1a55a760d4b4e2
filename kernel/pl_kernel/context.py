"""The context of a run: a frozen view of everything known so far, folded from the effects of the stages' results.

Nothing but the kernel makes a new context, and it can be rebuilt from the results on disk at any time.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from .calibration import CalLibrary
from .errors import UnknownName
from .ms.model import MeasurementSet
from .params import as_tuple


@attrs.frozen(kw_only=True)
class Beam:
    """Restoring beam: full widths at half maximum in arcsec, position angle in degrees east of north."""

    major_arcsec: float
    minor_arcsec: float
    pa_deg: float


@attrs.frozen(kw_only=True)
class ImageRecord:
    """One image in the run's work folder.

    ``spws`` are virtual ids; ``kind`` is image, pbcor, residual, mask, psf, pb, model, mom0, mom1 …;
    ``statistics`` has numbers such as ``rms`` and ``peak`` in ``unit``.
    """

    name: str
    field: str
    intent: str = "TARGET"
    spws: tuple[int, ...] = attrs.field(default=(), converter=as_tuple)
    specmode: str = "mfs"
    stokes: str = "I"
    kind: str = "image"
    stage: str = ""
    beam: Beam | None = None
    unit: str = ""
    statistics: Mapping[str, float] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class ProductRecord:
    """A file delivered in the products folder: ``kind`` is fits, caltables, flags, manifest, script, ms …"""

    name: str
    kind: str
    source: str = ""
    stage: str = ""
    size_bytes: int = 0
    doc: str = ""


@attrs.frozen(kw_only=True)
class Context:
    """What a run knows.

    ``root`` is the run folder; measurement sets and images live in ``root/work``, products in ``root/products``.
    ``values`` are the namespaced values that stages left for later ones (``"hif.refant"``).
    """

    run_name: str
    root: Path
    recipe_name: str = ""
    measurement_sets: tuple[MeasurementSet, ...] = attrs.field(default=(), converter=as_tuple)
    calibration: CalLibrary = attrs.field(factory=CalLibrary)
    images: tuple[ImageRecord, ...] = attrs.field(default=(), converter=as_tuple)
    values: Mapping[str, Any] = attrs.field(factory=dict)
    products: tuple[ProductRecord, ...] = attrs.field(default=(), converter=as_tuple)
    stage_number: int = 0

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def products_dir(self) -> Path:
        return self.root / "products"

    def measurement_set(self, name: str) -> MeasurementSet:
        """Return the measurement set of this name.

        Raises
        ------
        UnknownName : the run has none of this name.
        """
        for ms in self.measurement_sets:
            if ms.name == name:
                return ms
        raise UnknownName("measurement set in this run", name, (ms.name for ms in self.measurement_sets))

    def facts(self) -> dict[str, object]:
        """What heuristics are chosen by: telescopes and bands of the run's measurement sets."""
        telescopes = tuple(dict.fromkeys(ms.telescope for ms in self.measurement_sets))
        bands = tuple(
            dict.fromkeys(spw.band for ms in self.measurement_sets for spw in ms.spws if getattr(spw, "band", ""))
        )
        return {"telescope": telescopes, "band": bands, "recipe": self.recipe_name}
