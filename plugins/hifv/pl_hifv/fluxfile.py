"""Flux densities and ranges of baselines of calibrators, from a file or from a science data model."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

import attrs

from pl_kernel import InputError
from pl_kernel.common.sdm import source_fluxes
from pl_kernel.ms.model import MeasurementSet

FLUXES = "hifv.fluxes"
"""Run value: measurement set → field id → window → Stokes I, Q, U, V in Jy and spectral index, as stated at import."""
COLUMNS = ("ms", "field", "spw", "I")
"""Columns that a file of flux densities must have; Q, U, V, spix, uvmin, uvmax and comment may follow."""


@attrs.frozen(kw_only=True)
class CatalogueFlux:
    """Flux density of a field as somebody stated it: Stokes I in Jy; ``spw`` is -1 where the frequency fits none.

    ``polarised_jy`` are Stokes Q, U and V in Jy, ``spix`` is the spectral index within the window.
    ``uvrange`` is a CASA selection of the baselines on which the field may be used as a point source; empty: all.
    """

    vis: str
    field: int
    field_name: str
    spw: int
    flux_jy: float
    polarised_jy: tuple[float, float, float] = attrs.field(default=(0.0, 0.0, 0.0), converter=tuple)
    spix: float = 0.0
    uvrange: str = ""
    origin: str


def uv_range(uvmin: float, uvmax: float) -> str:
    """Selection of baselines from ``uvmin`` to ``uvmax`` wavelengths; 0 is no limit.

    >>> uv_range(0, 0), uv_range(5000, 0), uv_range(5000, 40000)
    ('', '>5000lambda', '5000~40000lambda')
    """
    if uvmax > 0:
        return f"{uvmin:.10g}~{uvmax:.10g}lambda"
    return f">{uvmin:.10g}lambda" if uvmin > 0 else ""


def uv_ranges(fluxes: Iterable[CatalogueFlux]) -> dict[str, str]:
    """Range of baselines by field id; the first statement about a field counts, as in the reference pipeline (2026)."""
    found: dict[str, str] = {}
    for one in fluxes:
        found.setdefault(str(one.field), one.uvrange)
    return {field: limits for field, limits in found.items() if limits}


def stated(fluxes: Iterable[CatalogueFlux]) -> dict[str, dict[str, list[float]]]:
    """Stokes I, Q, U, V in Jy and spectral index by field id and window, as a run value; the first statement counts.

    A flux density of 0 says nothing.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for one in fluxes:
        if one.spw >= 0 and one.flux_jy > 0:
            values = [one.flux_jy, *one.polarised_jy, one.spix]
            found.setdefault(str(one.field), {}).setdefault(str(one.spw), values)
    return found


def catalogue(ms: MeasurementSet, source: Path, given: Path | None, work: Path) -> tuple[CatalogueFlux, ...]:
    """What is stated of a measurement set's fields.

    The file ``given`` counts, else flux.csv of the work folder or beside the data, else Source.xml of the science data
    model ``source``.

    Raises InputError for a file that is named and absent, or that has a wrong column or number: a hand-made file that
    is read in part is worse than none.
    """
    if given is not None and not given.is_file():
        raise InputError(f"There is no file of flux densities {given}; leave fluxfile unset if there is none.")
    for path in (given, work / "flux.csv", source.parent / "flux.csv"):
        if path is not None and path.is_file():
            return read_file(path, ms)
    if (source / "Source.xml").is_file():
        return _of_sdm(source, ms)
    return ()


def read_file(path: Path, ms: MeasurementSet) -> tuple[CatalogueFlux, ...]:
    """Rows of a flux.csv that belong to a measurement set. Older files have no uvmin and uvmax."""
    names = {int(f.id): f.name for f in ms.fields}
    found = []
    with path.open(newline="", encoding="utf-8") as stream:
        rows = csv.DictReader(stream)
        absent = [c for c in COLUMNS if c not in (rows.fieldnames or ())]
        if absent:
            raise InputError(f"{path} has no column {', '.join(absent)}; it is no file of flux densities.")
        for row in rows:
            stem = Path((row["ms"] or "").strip()).name.removesuffix(".ms")
            if stem not in (ms.stem, ms.name.removesuffix(".ms")):
                continue
            try:
                field, spw, flux = int(row["field"]), int(row["spw"]), float(row["I"])
                polarised = tuple(float(row.get(c) or 0) for c in ("Q", "U", "V"))
                spix = float(row.get("spix") or 0)
                limits = uv_range(*(float(row.get(c) or 0) for c in ("uvmin", "uvmax")))
            except (TypeError, ValueError):
                raise InputError(f"Line {rows.line_num} of {path} holds something that is no number.") from None
            if field not in names:
                raise InputError(f"Line {rows.line_num} of {path} names field {field}, which {ms.name} does not have.")
            found.append(
                CatalogueFlux(
                    vis=ms.name, field=field, field_name=names[field], spw=spw, flux_jy=flux,
                    polarised_jy=polarised, spix=spix, uvrange=limits, origin=path.name,
                )
            )  # fmt: skip
    return tuple(found)


def _of_sdm(source: Path, ms: MeasurementSet) -> tuple[CatalogueFlux, ...]:
    stated = source_fluxes(source / "Source.xml")
    found = []
    for field in ms.fields:
        for frequency, flux in stated.get(field.name, ()):
            spw = next((int(s.id) for s in ms.science_spws if s.min_hz <= frequency <= s.max_hz), -1)
            found.append(
                CatalogueFlux(
                    vis=ms.name, field=int(field.id), field_name=field.name, spw=spw, flux_jy=flux, origin="Source.xml"
                )
            )
    return tuple(found)
