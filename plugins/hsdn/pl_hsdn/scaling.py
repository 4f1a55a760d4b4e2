"""Scaling factors by beam, spectral window and polarization: ``nroscalefile.csv``."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

from pl_kernel.errors import InputError, UnknownName
from pl_kernel.ms.model import MeasurementSet

FILE = "nroscalefile.csv"
COLUMNS = ("MS", "Beam", "Spwid", "Polarization", "Factor")
POLARIZATIONS = {"XX": "X", "YY": "Y", "RR": "R", "LL": "L", "I": ""}
"""Polarization in the file → feed in CASA's gencal."""


@attrs.frozen(kw_only=True)
class Factor:
    """The spectra of a beam, window (real id) and polarization are multiplied by ``factor``."""

    vis: str
    beam: str
    spw: int
    polarization: str
    factor: float


@attrs.frozen(kw_only=True)
class ScaleFile:
    """Content of a file: factors, and the lines of comment with what it is about."""

    factors: tuple[Factor, ...]
    remarks: tuple[str, ...] = ()


def template(sets: Sequence[MeasurementSet]) -> tuple[Factor, ...]:
    """A factor of 1 for every beam, science window and polarization."""
    found = []
    for ms in sets:
        for antenna in ms.antennas:
            for spw in ms.science_spws:
                for polarization in correlations(ms, int(spw.id)):
                    found.append(
                        Factor(
                            vis=ms.name, beam=antenna.name, spw=int(spw.id), polarization=polarization, factor=1.0
                        )
                    )
    return tuple(found)


def correlations(ms: MeasurementSet, spw: int) -> tuple[str, ...]:
    """Polarizations of a window as the file calls them; I when it is not known by the names XX, YY, LL, RR."""
    ids = {d.polarization_id for d in ms.data_descriptions if int(d.spw_id) == spw}
    names = [str(c) for p in ms.polarizations if p.id in ids for c in p.correlations]
    return tuple(dict.fromkeys(n if n in POLARIZATIONS else "I" for n in names))


def write(path: Path, factors: Iterable[Factor], remarks: Iterable[str]) -> None:
    """Write a file."""
    text = io.StringIO()
    for remark in remarks:
        text.write(f"# {' '.join(remark.split())}\n")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows([f.vis, f.beam, f.spw, f.polarization, repr(f.factor)] for f in factors)
    path.write_text(text.getvalue(), encoding="utf-8")


def read(path: Path) -> ScaleFile:
    """Read a file; lines that begin with # are remarks.

    Raises:
        InputError: a line is no factor; the sentence names it.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The scaling factors {path} cannot be read: {error}.") from None
    remarks = tuple(line.lstrip("# ").rstrip() for line in lines if line.startswith("#"))
    factors = []
    for number, line in enumerate(lines, 1):
        cells = [c.strip() for c in next(csv.reader([line]), [])]
        if not line.strip() or line.startswith("#") or tuple(c.lower() for c in cells) == _HEAD:
            continue
        factors.append(_factor(cells, f"{path.name}, line {number}"))
    return ScaleFile(factors=tuple(factors), remarks=tuple(r for r in remarks if r))


_HEAD = tuple(c.lower() for c in COLUMNS)


def _factor(cells: list[str], where: str) -> Factor:
    if len(cells) != len(COLUMNS):
        raise InputError(f"{where}: {len(cells)} values, not {len(COLUMNS)} ({','.join(COLUMNS)}).")
    vis, beam, spw, polarization, factor = cells
    try:
        value, window = float(factor), int(spw)
    except ValueError:
        raise InputError(f"{where}: spw '{spw}' and factor '{factor}' must be numbers.") from None
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{where}: the factor {factor} must be a number above 0.")
    if polarization not in POLARIZATIONS:
        raise UnknownName("polarization", polarization, POLARIZATIONS, f" ({where})")
    return Factor(vis=vis, beam=beam, spw=window, polarization=polarization, factor=value)


def factors_of(found: ScaleFile, ms: MeasurementSet) -> tuple[Factor, ...]:
    """Factors of a measurement set.

    Raises:
        InputError: they are for a beam, window or polarization that it has not, or one has two factors.
    """
    beams = {a.name for a in ms.antennas}
    windows = {int(s.id) for s in ms.spws}
    chosen: dict[tuple[str, int, str], Factor] = {}
    for f in found.factors:
        if f.vis.removesuffix(".ms") != ms.name.removesuffix(".ms"):
            continue
        if f.beam not in beams:
            raise UnknownName("beam", f.beam, beams, f" in {ms.name}")
        if f.spw not in windows:
            raise InputError(f"{FILE} has a factor for spw {f.spw}, which {ms.name} has not.")
        if f.polarization != "I" and f.polarization not in correlations(ms, f.spw):
            raise InputError(
                f"{FILE} has a factor for {f.polarization}, but spw {f.spw} of {ms.name} has"
                f" {', '.join(correlations(ms, f.spw))}."
            )
        key = (f.beam, f.spw, f.polarization)
        if key in chosen and chosen[key].factor != f.factor:
            raise InputError(f"{FILE} has two factors for beam {f.beam}, spw {f.spw}, {f.polarization} of {ms.name}.")
        chosen[key] = f
    return tuple(chosen.values())
