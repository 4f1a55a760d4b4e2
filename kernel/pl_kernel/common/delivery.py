"""What a delivery must hold so that the calibration can be restored exactly, and reading it back.

A restore repeats applycal on the raw data. To give the same CORRECTED_DATA in every cell, and the same flags, it needs
the flags as they were *before* applycal (CASA leaves rows alone that are flagged already); they are delivered with the
final ones, next to the caltables and the text of what was applied. Plugins deliver more versions where their restore
needs them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import attrs
import numpy as np

from ..errors import InputError, PlError
from ..ms.datatypes import DataType
from ..ms.model import MeasurementSet
from ..params import as_tuple
from ..serialize import from_json, read_json, write_json
from . import flagversions
from .archives import pack, sha256
from .manifest import RESTORE

PLACE = "h.restored_from"
"""Run value: folder of the products that were restored."""
FINAL = "Pipeline_Final"
PURPOSES = {"before_applycal": "Applycal_Final"}
"""Names of flag versions in a delivery, by purpose; the reference pipeline's."""


@attrs.frozen(kw_only=True)
class RestoreState:
    """What the files of a delivery do not say by themselves.

    ``intents`` by field id where the data have none of their own; ``versions`` the delivered flag versions by purpose;
    ``applied`` the arguments of applycal and ``caltypes`` the kinds of tables, which no caltable tells; ``rows`` tells
    the order of rows the flags are for; ``uncalibrated``: nothing was applied, because the data came calibrated;
    ``more`` is what a plugin's restore needs.
    """

    vis: str
    intents: dict[str, tuple[str, ...]] = attrs.field(factory=dict)
    versions: dict[str, str] = attrs.field(factory=dict)
    applied: dict[str, Any] = attrs.field(factory=dict)
    caltypes: dict[str, str] = attrs.field(factory=dict)
    rows: str = ""
    casa: str = ""
    pl: str = ""
    uncalibrated: bool = False
    more: dict[str, Any] = attrs.field(factory=dict)
    format: int = 2


# ---- writing -------------------------------------------------------------------------------------------------------


def pack_flags(ctx: Any, ms: MeasurementSet, purposes: Mapping[str, str]) -> Path:
    """Write ``<stem>.flagversions.tgz`` into products: the final flags and the versions a restore needs."""
    flagversions.save(ctx, ms, FINAL, "flags at the end of the run")
    chosen = {FINAL: FINAL, **{purposes[p]: v for p, v in present(ctx, ms, purposes).items()}}
    folder = Path(f"{ms.path}.flagversions")
    missing = [v for v in chosen.values() if not (folder / f"flags.{v}").is_dir()]
    if missing:
        raise PlError(f"CASA saved no flag version {missing[0]} of {ms.name}; its log says why.")
    listing = ctx.stage_dir / f"FLAG_VERSION_LIST-{ms.stem}"
    listing.write_text("".join(f"{name} : delivered by the pipeline\n" for name in chosen), encoding="utf-8")
    inside = f"{ms.name}.flagversions"
    members = [(folder / f"flags.{version}", f"{inside}/flags.{name}") for name, version in chosen.items()]
    return pack(
        Path(ctx.products) / f"{ms.stem}.flagversions.tgz", [*members, (listing, f"{inside}/FLAG_VERSION_LIST")]
    )


def pack_state(ctx: Any, ms: MeasurementSet, purposes: Mapping[str, str], more: Mapping[str, Any]) -> Path:
    """Write ``<stem>.restore.json`` into products."""
    from ..plugins import kernel_version

    state = RestoreState(
        vis=ms.name,
        intents={str(f.id): tuple(sorted(f.intents)) for f in ms.fields if f.intents}
        if ms.intents_from == "rules" else {},
        versions={p: purposes[p] for p in present(ctx, ms, purposes)},
        applied=dict((ctx.value(flagversions.HOW) or {}).get(ms.name, {})), caltypes=_caltypes(ctx, ms),
        rows=row_order(ctx, ms),
        casa=str(ctx.casa.version), pl=kernel_version(), uncalibrated=came_calibrated(ctx, ms), more=dict(more),
    )  # fmt: skip
    path = Path(ctx.products) / f"{ms.stem}.restore.json"
    write_json(path, state)
    return path


def _caltypes(ctx: Any, ms: MeasurementSet) -> dict[str, str]:
    groups = ctx.calibration.merged(ms, state="applied")
    return {Path(c.gaintable).name: c.caltype for group in groups for c in group.calfroms}


def came_calibrated(ctx: Any, ms: MeasurementSet) -> bool:
    """Whether the data of a measurement set were calibrated when they came, and nothing was applied to them here."""
    if any(ctx.calibration.merged(ms, state=state) for state in ("applied", "active")):
        return False
    raw = ("DATA", "FLOAT_DATA")
    return any(t.column in raw and t.data_type is DataType.REGCAL_CONTLINE_ALL for t in ms.data_types)


def present(ctx: Any, ms: MeasurementSet, purposes: Mapping[str, str]) -> dict[str, str]:
    """Flag versions remembered for these purposes that still exist."""
    existing = set(flagversions.names(ctx, ms))
    return {p: v for p, v in flagversions.recorded(ctx, ms).items() if p in purposes and v in existing}


def row_order(ctx: Any, ms: MeasurementSet, rows: int = 200_000) -> str:
    """SHA-256 of time, baseline and data description of every row: flags of other rows must not be put on these."""
    digest = hashlib.sha256()
    with ctx.casa.table(ms.path) as table:
        for start in range(0, table.nrows(), rows):
            for column in ("TIME", "ANTENNA1", "ANTENNA2", "DATA_DESC_ID"):
                values = np.asarray(table.getcol(column, start, rows))
                digest.update(np.round(values.astype(float), 3).astype("<f8").tobytes())
    return digest.hexdigest()


# ---- reading -------------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Delivery:
    """The files of one measurement set in a folder of products; ``asdm`` is what the manifest says of it.

    ``pipeline`` is the version of the software that made them, empty where the manifest does not say.
    """

    state: RestoreState
    flags: Path
    applied: Path
    tables: tuple[Path, ...] = attrs.field(converter=as_tuple)
    asdm: dict[str, str] = attrs.field(factory=dict)
    pipeline: str = ""


def find(products: Path, ms: MeasurementSet) -> Delivery:
    """The delivery of a measurement set.

    Raises
    ------
    InputError : something is missing, damaged, or of other data; the sentence names it and where it was looked for.
    """
    if not products.is_dir():
        raise InputError(f"There is no folder of products {products}; give it as products_dir.")
    flags = _one(products, ms, "flagversions.tgz")
    applied = _one(products, ms, "calapply.txt")
    tables = sorted(products.glob("*.caltables.tgz"))
    record = _one(products, ms, "restore.json")
    state = from_json(read_json(record), RestoreState) if record else RestoreState(vis=ms.name)
    if state.uncalibrated:
        tables = []
    for what, found in (("flag versions", flags), ("applied calibration", applied), ("caltables", tables)):
        if not found and not (state.uncalibrated and what == "caltables"):
            raise InputError(f"The products in {products} hold no {what} of {ms.name}{_others(products, ms)}.")
    assert flags is not None and applied is not None
    checksums, asdm, pipeline = _manifest(products, ms)
    for path in (flags, applied, *tables, *([record] if record else [])):
        if checksums.get(path.name, "") not in ("", sha256(path)):
            raise InputError(f"{path} is damaged or was changed: its checksum is not that of the manifest.")
    return Delivery(state=state, flags=flags, applied=applied, tables=tables, asdm=asdm, pipeline=pipeline)


def _others(products: Path, ms: MeasurementSet) -> str:
    ending = ".flagversions.tgz"
    found = sorted(p.name.removesuffix(ending) for p in products.glob(f"*{ending}"))
    found = [name for name in found if name.removesuffix(".ms") != ms.stem]
    return f"; they are of {', '.join(found[:3])}" if found else ""


def _one(products: Path, ms: MeasurementSet, ending: str) -> Path | None:
    # The observatory's deliveries prefix the name of the unit: uid___A001.NAME.ms.flagversions.tgz.
    for name in (f"{ms.stem}.{ending}", f"{ms.name}.{ending}"):
        if (products / name).is_file():
            return products / name
        found = sorted(products.glob(f"*.{name}"), key=lambda p: len(p.name))
        if found:
            return found[0]
    return None


def _manifest(products: Path, ms: MeasurementSet) -> tuple[dict[str, str], dict[str, str], str]:
    """Checksums by file name, attributes of the measurement set, and the pipeline, from the manifests of a folder."""
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import parse

    checksums: dict[str, str] = {}
    asdm: dict[str, str] = {}
    pipeline = ""
    # A calibration's manifest tells more than that of imaging done later: the reference pipeline prefers it, too.
    for path in sorted(products.glob("*pipeline_manifest.xml"), key=lambda p: "cal" not in p.name):
        try:
            root = parse(path, forbid_dtd=True).getroot()
        except (OSError, ParseError, DefusedXmlException):
            continue
        for entry in root.iter():
            checksums.setdefault(entry.get("name", ""), entry.get("sha256", ""))
        for entry in root.iter("asdm"):
            if entry.get("name", "").removesuffix(".ms") == ms.name.removesuffix(".ms") and not asdm:
                asdm = {**entry.attrib, **{k: v for e in entry.iter(RESTORE) for k, v in e.attrib.items()}}
        pipeline = pipeline or next((e.get("name", "") for e in root.iter("pipeline_version")), "")
    return checksums, asdm, pipeline
