"""What a delivery must hold so that the calibration can be restored exactly, and reading it back.

A restore repeats applycal on the raw (smoothed) data. To give the same CORRECTED_DATA in every cell, and the same
flags, it needs the flags as they were *before* applycal (CASA leaves rows alone that are flagged already) and those
before statwt, which is run again; both are delivered with the final ones, next to the caltables and the text of what
was applied.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

import attrs
import numpy as np

from pl_hifv.lines import line_spws
from pl_kernel import PlError
from pl_kernel.common import flagversions as versions
from pl_kernel.errors import InputError
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.serialize import from_json, read_json, write_json

FINAL = "Pipeline_Final"
CANONICAL = {
    "before_applycal": "Applycal_Final", "target": "hifv_checkflag_target-vla", "before_statwt": "statwt_1",
}  # fmt: skip
"""Names of flag versions in a delivery, by purpose; the reference pipeline's."""


@attrs.frozen(kw_only=True)
class RestoreState:
    """What the files of a delivery do not say by themselves.

    ``smoothed`` and ``lines`` are real spw ids (None: not known, the rules decide); ``intents`` by field id where the
    data have none of their own; ``versions`` the delivered flag versions by purpose; ``rows`` tells the order of rows
    the flags are for.
    """

    vis: str
    smoothed: tuple[int, ...] | None = None
    lines: tuple[int, ...] | None = None
    intents: dict[str, tuple[str, ...]] = attrs.field(factory=dict)
    versions: dict[str, str] = attrs.field(factory=dict)
    applied: dict[str, Any] = attrs.field(factory=dict)
    rows: str = ""
    casa: str = ""
    format: int = 1


# ---- writing -------------------------------------------------------------------------------------------------------


def pack_flags(ctx: Any, ms: MeasurementSet) -> Path:
    """Write ``<stem>.flagversions.tgz`` into products: the final flags and the versions a restore needs."""
    versions.save(ctx, ms, FINAL, "flags at the end of the run")
    chosen = {FINAL: FINAL, **{CANONICAL[p]: v for p, v in _present(ctx, ms).items()}}
    folder = Path(f"{ms.path}.flagversions")
    missing = [v for v in chosen.values() if not (folder / f"flags.{v}").is_dir()]
    if missing:
        raise PlError(f"CASA saved no flag version {missing[0]} of {ms.name}; its log says why.")
    listing = ctx.stage_dir / f"FLAG_VERSION_LIST-{ms.stem}"
    listing.write_text("".join(f"{name} : delivered by the pipeline\n" for name in chosen), encoding="utf-8")
    path = Path(ctx.products) / f"{ms.stem}.flagversions.tgz"
    inside = f"{ms.name}.flagversions"
    with tarfile.open(path, "w:gz", compresslevel=6) as archive:
        for name, version in chosen.items():
            archive.add(folder / f"flags.{version}", f"{inside}/flags.{name}", filter=_without_locks)
        archive.add(listing, f"{inside}/FLAG_VERSION_LIST")
    return path


def pack_state(ctx: Any, ms: MeasurementSet) -> Path:
    """Write ``<stem>.restore.json`` into products."""
    smoothed = (ctx.value("hifv.smoothed") or {}).get(ms.name)
    state = RestoreState(
        vis=ms.name, smoothed=None if smoothed is None else tuple(int(s) for s in smoothed),
        lines=line_spws(ctx, ms),
        intents={str(f.id): tuple(sorted(f.intents)) for f in ms.fields if f.intents}
        if ms.intents_from == "rules" else {},
        versions={p: CANONICAL[p] for p in _present(ctx, ms)},
        applied=dict((ctx.value(versions.HOW) or {}).get(ms.name, {})), rows=row_order(ctx, ms),
        casa=str(ctx.casa.version),
    )  # fmt: skip
    path = Path(ctx.products) / f"{ms.stem}.restore.json"
    write_json(path, state)
    return path


def _present(ctx: Any, ms: MeasurementSet) -> dict[str, str]:
    existing = set(versions.names(ctx, ms))
    return {p: v for p, v in versions.recorded(ctx, ms).items() if p in CANONICAL and v in existing}


def row_order(ctx: Any, ms: MeasurementSet, rows: int = 200_000) -> str:
    """SHA-256 of time, baseline and data description of every row: flags of other rows must not be put on these."""
    digest = hashlib.sha256()
    with ctx.casa.table(ms.path) as table:
        for start in range(0, table.nrows(), rows):
            for column in ("TIME", "ANTENNA1", "ANTENNA2", "DATA_DESC_ID"):
                values = np.asarray(table.getcol(column, start, rows))
                digest.update(np.round(values.astype(float), 3).astype("<f8").tobytes())
    return digest.hexdigest()


def _without_locks(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if entry.name.endswith("table.lock") else entry


# ---- reading -------------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Delivery:
    """The files of one measurement set in a folder of products."""

    state: RestoreState
    flags: Path
    applied: Path
    tables: tuple[Path, ...] = attrs.field(converter=tuple)


def find(products: Path, ms: MeasurementSet) -> Delivery:
    """The delivery of a measurement set.

    Raises InputError that names what is missing and where it was looked for.
    """
    if not products.is_dir():
        raise InputError(f"There is no folder of products {products}; give it as products_dir.")
    flags = _one(products, ms, "flagversions.tgz")
    applied = _one(products, ms, "calapply.txt")
    tables = sorted(products.glob("*.caltables.tgz"))
    for what, found in (("flag versions", flags), ("applied calibration", applied), ("caltables", tables)):
        if not found:
            raise InputError(f"The products in {products} hold no {what} of {ms.name}.")
    record = _one(products, ms, "restore.json")
    state = from_json(read_json(record), RestoreState) if record else _from_manifest(products, ms)
    assert flags is not None and applied is not None
    return Delivery(state=state, flags=flags, applied=applied, tables=tables)


def _one(products: Path, ms: MeasurementSet, ending: str) -> Path | None:
    # The observatory's deliveries prefix the name of the unit: uid___A001.NAME.ms.flagversions.tgz.
    for name in (f"{ms.stem}.{ending}", f"{ms.name}.{ending}"):
        found = sorted(products.glob(f"*{name}"), key=lambda p: len(p.name))
        if found:
            return found[0]
    return None


def _from_manifest(products: Path, ms: MeasurementSet) -> RestoreState:
    """What the manifest of the observatory's deliveries tells: windows smoothed and line windows."""
    for path in sorted(products.glob("*pipeline_manifest.xml")):
        try:
            root = ElementTree.parse(path).getroot()
        except (OSError, ElementTree.ParseError):
            continue
        for entry in root.iter("asdm"):
            if entry.get("name", "").removesuffix(".ms") == ms.name.removesuffix(".ms"):
                return RestoreState(
                    vis=ms.name, smoothed=_spws(ms, entry.get("smoothed_spws")),
                    lines=_spws(ms, entry.get("specline_spws")),
                )  # fmt: skip
    return RestoreState(vis=ms.name)


def _spws(ms: MeasurementSet, text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    return tuple(int(s) for s in ms.spw_ids(text)) if text.strip() not in ("", "none") else ()


def unpack(archive: Path, target: Path, wanted: Iterable[str] = ()) -> tuple[str, ...]:
    """Unpack an archive below ``target``; return the names at its top.

    ``wanted``: names at the top to unpack (empty: all). Members that lead out of the folder are refused.
    Raises InputError when the archive is damaged or dangerous.
    """
    chosen = set(wanted)
    tops: dict[str, None] = {}
    try:
        with tarfile.open(archive) as opened:
            members = []
            for member in opened.getmembers():
                parts = PurePosixPath(member.name).parts
                if not parts or PurePosixPath(member.name).is_absolute() or ".." in parts:
                    raise InputError(f"{archive.name} is not unpacked: '{member.name}' leads out of the folder.")
                if chosen and parts[0] not in chosen:
                    continue
                tops[parts[0]] = None
                members.append(member)
            opened.extractall(target, members=members, filter="data")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InputError(f"{archive.name} cannot be unpacked: {error}.") from error
    return tuple(tops)
