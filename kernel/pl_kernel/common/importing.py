"""Bringing data into a run: working copies of measurement sets, conversion of UVFITS, intents given by the user.

Every import stage is a few lines around ``import_data``; it inherits ``ImportInputs``, so that the command line's
``--intent``, ``--intents-file`` and ``--in-place`` reach it.

The input is never altered.  casacore writes files in place, so a hard link to a file that a task writes would alter the
input through the back door: only the tiles of raw visibilities are linked, which nothing rewrites (what
changes raw data makes a new measurement set); all other files of a measurement set are copied.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from ..casa.adapter import remove
from ..errors import CasaError, DataError, InputError
from ..ms.datatypes import ColumnType, DataType, parse_column_types, with_type
from ..ms.intents import IntentRule, parse_rule, read_rules
from ..ms.model import MeasurementSet
from ..ms.reader import read_measurement_set
from ..ms.selection import clean_file_name
from ..params import Inputs, param
from ..plugins import resolve
from ..snapshots import clone
from .earthtables import EarthTables, read_earth_tables

if TYPE_CHECKING:
    from ..stage_context import StageContext

RAW_COLUMNS = frozenset({"DATA", "FLOAT_DATA", "LAG_DATA"})
"""Columns of raw visibilities: no stage writes into them."""

_TILES = re.compile(r"table\.f(\d+)_TSM\d+")


class ImportInputs(Inputs):
    """Parameters that every import stage shares."""

    vis: tuple[str, ...] | None = param(None, doc="Paths of the data to import; recognised by content, not by name.")
    intents: tuple[str, ...] = param(
        (), doc="What fields were observed for, for data that do not say: rules such as 'BANDPASS,AMPLITUDE=1331+305*'."
    )
    intents_file: Path | None = param(None, doc="A file with such rules, one per line or as YAML.")
    in_place: bool = param(
        False, doc="Work on the measurement sets themselves; otherwise they are copied, and never altered."
    )
    datacolumns: dict[str, str] = param(
        factory=dict, doc="What columns hold, such as {data: raw, corrected: regcal_contline_all}; wins over the data."
    )
    session: tuple[str, ...] = param(
        (), doc="Session of each data set, in their order; one name serves for all. Default: session_1.", hidden=True
    )
    nocopy: bool = param(False, doc="The observatories' word for in_place.", hidden=True)
    overwrite: bool = param(False, doc="Accepted for old scripts: a run is never written over.", hidden=True)
    lazy: bool = param(False, doc="Accepted for old scripts: working copies share the raw data anyway.", hidden=True)
    createmms: str = param("false", doc="Accepted for old scripts: CASA's multi-MS is not used.", hidden=True)
    process_caldevice: bool = param(
        True, doc="Accepted for old scripts: an SDM's noise diode powers are imported where there are any.", hidden=True
    )


@attrs.frozen(kw_only=True)
class Imported:
    """One data set that is now part of the run.

    ``source`` is the path given, ``kind`` what it was recognised as, ``how`` is linked, copied, in place or converted;
    ``rules`` tells whether the user's intent rules were applied; ``earth`` how far the tables of the Earth's
    orientation go that CASA had.
    """

    ms: MeasurementSet
    source: str
    kind: str
    detail: str
    how: str
    rules: bool = False
    earth: EarthTables | None = None


def import_data(
    ctx: StageContext, inputs: ImportInputs, options: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[Imported, ...]:
    """Import every path of ``inputs.vis``: recognise, copy or convert, read, apply the rules of intents.

    ``options`` are further arguments for the importers, by kind: ``{"asdm": {"ocorr_mode": "co"}}``.

    Raises
    ------
    InputError : no path given, a path that cannot be used, or two sets of sessions and data of different length.
    DataError : data that cannot be read.
    """
    sources = [Path(path) for path in inputs.vis or ()]
    if not sources:
        raise InputError(f"Stage {ctx.stage_name} has nothing to import; give paths of data.")
    parse_column_types(inputs.datacolumns, only_targets=False)  # refused before any work
    rules = rules_of(inputs)
    sessions = _sessions(inputs.session, len(sources))
    taken = {ms.name for ms in ctx.context.measurement_sets}
    wanted = []
    for source, session in zip(sources, sessions, strict=True):
        ctx.importer_for(source)  # refused before any work
        name = unique_name(source, taken)
        taken.add(name)
        wanted.append(_Wanted(source=source, name=name, session=session, in_place=inputs.in_place or inputs.nocopy))
    found = ctx.map_sets(_import_one, wanted, rules, dict(options or {}), label="import")
    return tuple(attrs.evolve(item, ms=typed(item.ms, inputs.datacolumns)) for item in found)


@attrs.frozen(kw_only=True)
class _Wanted:
    """A data set to import, under which name."""

    source: Path
    name: str
    session: str
    in_place: bool


def _import_one(
    ctx: StageContext, wanted: _Wanted, rules: tuple[IntentRule, ...], options: Mapping[str, Mapping[str, Any]]
) -> Imported:
    source, name = wanted.source, wanted.name
    importer, found = ctx.importer_for(source)
    ctx.progress(0, 1, f"importing {source.name}")
    remove(ctx.work / name)  # half of it, when the process that began this has died
    path, how = resolve(importer.run)(ctx, source, name, wanted.in_place, **options.get(found.kind, {}))
    try:
        ms = read_measurement_set(
            path, ctx.telescopes, name=name, session=wanted.session, relative_to=ctx.work, open_table=ctx.casa.table
        )
    except DataError as error:
        raise DataError(f"{source} cannot be used. {error.sentence}", detail=error.detail) from error
    if rules:
        ms = ms.with_intents(rules)
    ctx.progress(1, 1, name)
    return Imported(
        ms=ms, source=str(source), kind=found.kind, detail=found.detail, how=how, rules=bool(rules),
        earth=read_earth_tables(ctx.casa),
    )  # fmt: skip


def typed(ms: MeasurementSet, columns: Mapping[str, str]) -> MeasurementSet:
    """The measurement set with what the user says its columns hold, which wins over what it says itself.

    CORRECTED_DATA may be absent where it is said to be what applying the calibration makes of it: recipes that restore
    raw data say so.

    Raises
    ------
    UnknownName : there is no such type.
    InputError : the data do not have such a column.
    """
    types = ms.data_types
    for new in parse_column_types(columns, only_targets=ms.intents == {"TARGET"}):
        if new.column not in ms.columns and new == ColumnType(DataType.REGCAL_CONTLINE_ALL, "CORRECTED_DATA"):
            continue
        if new.column not in ms.columns:
            raise InputError(f"{ms.name} has no {new.column}, which datacolumns speaks of.")
        types = with_type(types, new, overwrite=True)
    return attrs.evolve(ms, data_types=types)


def rules_of(inputs: ImportInputs) -> tuple[IntentRule, ...]:
    """Return the user's rules: those of the file, then those given one by one."""
    from_file = read_rules(inputs.intents_file) if inputs.intents_file is not None else ()
    return (*from_file, *(parse_rule(text) for text in inputs.intents))


def unique_name(source: Path, taken: set[str]) -> str:
    """Return the name of the measurement set for a source: its own, ending in .ms, other than those taken.

    Two inputs of one name in different folders must not meet in the work folder.
    """
    stem = clean_file_name(source.name)
    for ending in (".ms", ".uvfits", ".uvfit", ".uvf", ".fits", ".fit"):
        if stem.lower().endswith(ending) and len(stem) > len(ending):
            stem = stem[: -len(ending)]
            break
    name, count = f"{stem}.ms", 1
    while name in taken:
        count += 1
        name = f"{stem}-{count}.ms"
    return name


def _sessions(given: Sequence[str], count: int) -> list[str]:
    names = list(given) or ["session_1"]
    if len(names) == 1:
        return names * count
    if len(names) != count:
        raise InputError(f"{len(names)} sessions are given for {count} data sets; give one, or one for each.")
    return names


# ---- importers -------------------------------------------------------------------------------------------------------


def import_ms(ctx: StageContext, source: Path, name: str, in_place: bool) -> tuple[Path, str]:
    """Make a measurement set part of the run: as a working copy, or in place."""
    if in_place:
        if not os.access(source, os.W_OK):
            raise InputError(f"{source} is read-only, so it cannot be worked on in place; leave out --in-place.")
        return source.resolve(), "in place"
    target = ctx.work / name
    linked = working_copy(ctx, source.resolve(), target)
    ctx.files.record("copytree", source.resolve(), target)
    versions = source.resolve().with_name(f"{source.resolve().name}.flagversions")
    if (versions / "FLAG_VERSION_LIST").is_file():  # what was flagged before what, in the run that made these data
        place = target.with_name(f"{target.name}.flagversions")
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(versions, place, ignore_dangling_symlinks=True)
        ctx.files.record("copytree", versions, place)
    return target, "linked" if linked else "copied"


def import_uvfits(ctx: StageContext, source: Path, name: str, in_place: bool) -> tuple[Path, str]:
    """Convert UVFITS to a measurement set."""
    target = ctx.work / name
    try:
        ctx.casa.importuvfits(fitsfile=str(source.resolve()), vis=name)
    except CasaError as error:
        raise DataError(
            f"{source.name} cannot be converted to a measurement set: {error.message}", detail=error.log_tail
        ) from error
    if not (target / "table.dat").is_file():
        raise DataError(f"{source.name} gave no measurement set; its log says why.", detail=ctx.casa.log_tail())
    return target, "converted"


def working_copy(ctx: StageContext, source: Path, target: Path) -> int:
    """Copy the measurement set ``source`` to ``target``, sharing the bytes of its raw visibilities where possible.

    Returns the number of bytes shared through hard links.  The source is opened neither for writing nor by CASA, which
    would write into its lock files.
    """
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)

    def place(old: str, new: str) -> str:
        path = Path(old)
        if path.parent == source and _TILES.fullmatch(path.name):
            try:
                os.link(old, new)
                return new
            except OSError:  # another file system, or one without links
                pass
        clone(path, Path(new))
        _allow(Path(new), stat.S_IWUSR)
        return new

    # Links inside are followed: what they point at would be written through them.
    # Lock files are copied, too: casacore keeps the number of rows there when a table was not closed in good order, and
    # without them such a table is empty.
    shutil.copytree(source, partial, copy_function=place, ignore_dangling_symlinks=True)
    for folder, _, _ in os.walk(partial):
        _allow(Path(folder), stat.S_IRWXU)
    keep = _raw_managers(ctx, partial)
    shared = 0
    for tiles in partial.iterdir():
        match = _TILES.fullmatch(tiles.name)
        if match is None or tiles.stat().st_nlink < 2:
            continue
        if int(match.group(1)) in keep:
            shared += tiles.stat().st_size
            continue
        own = tiles.with_name(f"{tiles.name}.own")
        clone(tiles, own)
        _allow(own, stat.S_IWUSR)
        own.replace(tiles)
    partial.rename(target)
    return shared


def _allow(path: Path, bits: int) -> None:
    path.chmod(stat.S_IMODE(path.stat().st_mode) | bits)  # archives are often read-only, and copies keep that


def _raw_managers(ctx: StageContext, path: Path) -> set[int]:
    """Storage managers of the main table that hold nothing but raw visibilities."""
    try:
        with ctx.casa.table(path) as table:
            managers = table.getdminfo().values()
    except RuntimeError as error:
        name = path.name.removesuffix(".partial")
        raise DataError(f"{name} is damaged: its main table cannot be opened.", detail=str(error)) from error
    return {int(m["SEQNR"]) for m in managers if set(map(str, m["COLUMNS"])) <= RAW_COLUMNS}
