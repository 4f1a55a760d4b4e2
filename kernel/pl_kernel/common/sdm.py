"""Science data models (ASDM, SDM): what is in them, and their conversion to measurement sets by ``importasdm``.

The archive's science data model is a folder of tables, as XML or binary files, and of binary visibilities. Copies are
often not complete: a switched-power table left behind, visibilities of some scans only. ``importasdm`` fails at the
first file it does not find, after minutes. So the tables are looked through before: what can be done without is left
out and said; what cannot ends in one sentence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ..errors import CasaError, DataError, InputError
from ..ms.selection import clean_name

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from ..stage_context import StageContext

OPTIONAL = {"SysPower": "process_syspower", "CalDevice": "process_caldevice", "Pointing": "process_pointing"}
"""Tables that an import can do without, and the parameter of ``importasdm`` that leaves them out."""

_UID = re.compile(r"[:/]")


@attrs.frozen(kw_only=True)
class SdmContents:
    """What a science data model says it holds, and what of it is there.

    ``rows`` counts the rows of each table; ``missing`` names tables that have rows and no file. ``scans`` maps each
    scan to (binaries there, binaries named).
    """

    rows: Mapping[str, int]
    missing: tuple[str, ...]
    scans: Mapping[int, tuple[int, int]]

    @property
    def empty_scans(self) -> tuple[int, ...]:
        """Scans without any visibilities."""
        return tuple(scan for scan, (there, _) in self.scans.items() if not there)

    @property
    def partial_scans(self) -> tuple[int, ...]:
        """Scans with some of their visibilities."""
        return tuple(scan for scan, (there, named) in self.scans.items() if 0 < there < named)


def read_contents(path: Path) -> SdmContents:
    """Look through the tables of a science data model.

    Raises DataError for a table of contents, or a main table, that cannot be read.
    """
    rows: dict[str, int] = {}
    for table in _parse(path / "ASDM.xml").iter("Table"):
        name, count = table.findtext("Name"), table.findtext("NumberRows")
        if name and count and count.strip().isdigit():
            rows[name.strip()] = int(count)
    present = {file.name for file in path.iterdir()}
    missing = tuple(n for n, count in rows.items() if count and not {f"{n}.xml", f"{n}.bin"} & present)
    scans: dict[int, tuple[int, int]] = {}
    binaries = {file.name for file in (path / "ASDMBinary").iterdir()}
    for row in _parse(path / "Main.xml").iter("row"):
        reference = row.find("dataUID/EntityRef")
        number = (row.findtext("scanNumber") or "").strip()
        if reference is None or not number.isdigit():
            continue
        there, named = scans.get(int(number), (0, 0))
        found = _UID.sub("_", reference.get("entityId", "")) in binaries
        scans[int(number)] = (there + found, named + 1)
    return SdmContents(rows=rows, missing=missing, scans=dict(sorted(scans.items())))


def source_fluxes(path: Path) -> dict[str, tuple[tuple[float, float], ...]]:
    """Flux densities that Source.xml states: source name → ((frequency in Hz, Stokes I in Jy), …), without repeats.

    Most schedules state none. A file that is absent or broken gives none.
    """
    try:
        root = _parse(path)
    except DataError:
        return {}
    found: dict[str, dict[tuple[float, float], None]] = {}
    for row in root.iter("row"):
        name = (row.findtext("sourceName") or "").strip()
        fluxes, frequencies = _numbers(row.findtext("flux")), _numbers(row.findtext("frequency"))
        if not name or not fluxes or not frequencies:
            continue
        stokes = max(1, len(fluxes) // len(frequencies))
        for k, frequency in enumerate(frequencies):
            if k * stokes < len(fluxes):
                found.setdefault(name, {})[(frequency, fluxes[k * stokes])] = None
    return {name: tuple(pairs) for name, pairs in found.items()}


def _numbers(text: str | None) -> list[float]:
    """Values of an array in the tables: "dimensions sizes… values…"."""
    words = (text or "").split()
    if not words or not words[0].isdigit():
        return []
    try:
        return [float(w) for w in words[1 + int(words[0]) :]]
    except ValueError:
        return []


def _parse(path: Path) -> Element:
    from xml.etree.ElementTree import ParseError

    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import parse

    try:
        root: Element | None = parse(path).getroot()
    except (OSError, ParseError, DefusedXmlException) as error:
        raise DataError(f"{path.parent.name} cannot be read: {path.name} is damaged.", detail=str(error)) from error
    if root is None:
        raise DataError(f"{path.parent.name} cannot be read: {path.name} is empty.")
    return root


def import_sdm(
    ctx: StageContext,
    source: Path,
    name: str,
    in_place: bool,
    *,
    ocorr_mode: str = "ca",
    asis: str = "",
    bdfflags: bool = False,
    with_pointing_correction: bool = True,
    flag_file: bool = True,
) -> tuple[Path, str]:
    """Convert a science data model to a measurement set.

    ocorr_mode : correlations to keep: co (cross), ao (auto), ca (both). asis : tables to copy verbatim. bdfflags : set
    the flags of the binary data. flag_file : write the online flags to NAME.flagonline.txt in the work folder.

    Raises
    ------
    InputError : asked to work in place, which a conversion cannot.
    DataError : no visibilities, a table that an import cannot do without, or a failed conversion.
    """
    if in_place:
        raise InputError(f"{source.name} is a science data model and must be converted; leave out --in-place.")
    contents = read_contents(source)
    if contents.scans and len(contents.empty_scans) == len(contents.scans):
        raise DataError(
            f"{source.name} holds none of the {len(contents.scans)} scans' visibilities: its folder ASDMBinary lacks"
            " every binary that its main table names. Copy it again from the archive."
        )
    needed = [t for t in contents.missing if t not in OPTIONAL and t != "Flag"]
    if needed:
        raise DataError(
            f"{source.name} cannot be imported: its table of contents names {', '.join(needed)}, and there is no such"
            " file. Copy it again from the archive."
        )
    for scans, words in ((contents.empty_scans, "no"), (contents.partial_scans, "not all")):
        if scans:
            ctx.log.warning(f"{source.name} holds {words} visibilities of scans {', '.join(map(str, scans))}.")
    options: dict[str, object] = {}
    for table, option in OPTIONAL.items():
        options[option] = table not in contents.missing
        if table in contents.missing:
            ctx.log.warning(f"{source.name} lacks its table {table}: what needs it is left out.")
    target = ctx.work / name
    flags = f"{clean_name(name.removesuffix('.ms')).strip('_') or 'ms'}.flagonline.txt"  # as MeasurementSet.stem
    with_flags = contents.rows.get("Flag", 0) > 0 and "Flag" not in contents.missing
    if not with_flags:
        ctx.log.warning(f"{source.name} holds no online flags.")
    ctx.files.rmtree(target)
    try:
        ctx.casa.importasdm(
            asdm=str(source.resolve()), vis=name, ocorr_mode=ocorr_mode, asis=asis, bdfflags=bdfflags,
            process_flags=with_flags, savecmds=with_flags and flag_file, outfile=flags if with_flags else "",
            with_pointing_correction=with_pointing_correction and bool(options["process_pointing"]),
            overwrite=True, **options,
        )  # fmt: skip
    except CasaError as error:
        raise DataError(
            f"{source.name} cannot be converted to a measurement set: {error.message}", detail=error.log_tail
        ) from error
    if not (target / "table.dat").is_file():
        raise DataError(f"{source.name} gave no measurement set; its log says why.", detail=ctx.casa.log_tail())
    for table in ("Source.xml", "SpectralWindow.xml", "DataDescription.xml"):
        if (source / table).is_file():
            ctx.files.copy(source / table, target / table)
    return target, "converted"
