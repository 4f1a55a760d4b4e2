"""Write images, calibration, flags and scripts as products."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

import attrs

from pl_hifv import delivery
from pl_hifv.lines import line_spws
from pl_kernel import Inputs, PlError, Result, Stage, param
from pl_kernel.context import ImageRecord, ProductRecord
from pl_kernel.effects import AddProduct
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.ms.selection import clean_file_name, compact_ids
from pl_kernel.serialize import write_bytes_atomically
from pl_kernel.stage import ItemFailure
from pl_kernel.stage_context import StageContext

FITS_KINDS = ("image", "pbcor", "pb", "mask", "mom0", "mom1", "mom8", "alpha", "alpha.error")
"""Kinds of images that are delivered; residual, psf and model stay in the work folder."""


class ExportdataInputs(Inputs):
    images: bool = param(True, doc="Write the images as FITS.")
    exportcalprods: bool = param(True, doc="Write calibration tables, flags and what was applied.")
    imaging_products_only: bool = param(False, doc="Write images and scripts only: the run began with calibrated data.")
    exportmses: bool = param(False, doc="Write the calibrated measurement sets as archives.")


@attrs.frozen(kw_only=True)
class Exported:
    """One product: what was wanted, and what became of it."""

    kind: str
    name: str
    source: str
    size_bytes: int
    doc: str = ""


class ExportdataResult(Result):
    """The products; ``expected`` counts, by kind, what the parameters ask for."""

    products: tuple[Exported, ...]
    expected: dict[str, int]
    manifest: str


class Exportdata(Stage[ExportdataInputs, ExportdataResult]):
    """Write images, calibration, flags and scripts as products.

    FITS files of images, primary beams, masks and moments; per measurement set an archive with its final flags and a
    text of what was applied to what; per session an archive with the caltables; a manifest with sizes and checksums.
    File names follow the observatory's: stage numbers are left out of image names.

    Everything is also restorable: the text of applied calibration and the archives of tables and flags are all that a
    restore needs.
    """

    name = "hifv_exportdata"
    topic = "misc"

    def run(self, ctx: StageContext, inputs: ExportdataInputs) -> ExportdataResult:
        ctx.products.mkdir(parents=True, exist_ok=True)
        made: list[Exported] = []
        failures: list[ItemFailure] = []
        expected: dict[str, int] = {}
        sets = [ms for ms in ctx.measurement_sets(inputs.vis) if not ms.origin]
        stem = clean_file_name(ctx.context.recipe_name or ctx.context.run_name)
        if inputs.images:
            wanted = [i for i in ctx.context.images if i.kind in FITS_KINDS]
            expected["fits"] = len(wanted)
            for count, image in enumerate(wanted, 1):
                try:
                    made.append(_fits(ctx, image))
                except PlError as error:
                    failures.append(ItemFailure(image.name, error.sentence))
                    ctx.log.error(f"{image.name} could not be written as FITS: {error.sentence}")
                ctx.progress(count, len(wanted), image.name)
        if inputs.exportcalprods and not inputs.imaging_products_only:
            expected |= dict.fromkeys(("flags", "applied", "restore"), len(sets))
            expected["caltables"] = len({ms.session for ms in sets})
            for ms in sets:
                made.append(_flags(ctx, ms))
                made.append(_applied(ctx, ms))
                made.append(_restore(ctx, ms))
            for session in dict.fromkeys(ms.session for ms in sets):
                tables = _tables(ctx, [ms for ms in sets if ms.session == session])
                if tables:
                    path = ctx.products / f"{stem}.{clean_file_name(session)}.caltables.tgz"
                    made.append(_archive(path, "caltables", tables, session, f"{len(tables)} caltables"))
        if (ctx.work / "cont.dat").is_file():
            shutil.copyfile(ctx.work / "cont.dat", ctx.products / f"{stem}.cont.dat")
            size = (ctx.products / f"{stem}.cont.dat").stat().st_size
            made.append(
                Exported(kind="continuum", name=f"{stem}.cont.dat", source="", size_bytes=size, doc="continuum ranges")
            )
            expected["continuum"] = 1
        if inputs.exportmses:
            every = ctx.measurement_sets(inputs.vis)  # with the targets split off
            expected["ms"] = len(every)
            made += [
                _archive(ctx.products / f"{ms.stem}.ms.tgz", "ms", [Path(ms.path)], ms.name, "calibrated data")
                for ms in every
            ]
        manifest = _manifest(ctx, stem, sets, made)
        made.append(manifest)
        expected["manifest"] = 1
        effects = tuple(
            AddProduct(
                ProductRecord(
                    name=p.name, kind=p.kind, source=p.source, stage=self.name, size_bytes=p.size_bytes, doc=p.doc
                )
            )
            for p in made
        )
        return ExportdataResult(
            products=tuple(made), expected=expected, manifest=manifest.name, failures=tuple(failures), effects=effects
        )


def _fits(ctx: StageContext, image: ImageRecord) -> Exported:
    parts = [p for p in image.name.split(".") if not (p.startswith("s") and p[1:].isdigit())]
    name = ".".join(parts) + ".fits"
    path = ctx.products / name
    # Written here and moved by us: the recorded command holds in any folder.
    ctx.casa.exportfits(
        imagename=image.name, fitsimage=name, velocity=False, bitpix=-32, dropstokes=False, stokeslast=True,
        overwrite=True,
    )  # fmt: skip
    shutil.move(ctx.work / name, path)
    return Exported(
        kind="fits", name=path.name, source=image.name, size_bytes=path.stat().st_size,
        doc=f"{image.kind} of {image.field}, spw {','.join(map(str, image.spws))}, {image.specmode}",
    )  # fmt: skip


def _flags(ctx: StageContext, ms: MeasurementSet) -> Exported:
    """Archive the flags as they are now, and the versions that a restore needs."""
    path = delivery.pack_flags(ctx, ms)
    return Exported(
        kind="flags", name=path.name, source=ms.name, size_bytes=path.stat().st_size,
        doc=f"flag version {delivery.FINAL} and those for a restore",
    )  # fmt: skip


def _restore(ctx: StageContext, ms: MeasurementSet) -> Exported:
    """Write what a restore has to know and the other files do not say."""
    path = delivery.pack_state(ctx, ms)
    return Exported(
        kind="restore", name=path.name, source=ms.name, size_bytes=path.stat().st_size, doc="smoothing, lines, versions"
    )


def _applied(ctx: StageContext, ms: MeasurementSet) -> Exported:
    path = ctx.products / f"{ms.stem}.calapply.txt"
    text = ctx.calibration.export_text([ms], state="applied")
    write_bytes_atomically(path, text.encode())
    return Exported(
        kind="applied", name=path.name, source=ms.name, size_bytes=path.stat().st_size,
        doc=f"{len(text.splitlines())} groups of data and their tables",
    )  # fmt: skip


def _tables(ctx: StageContext, sets: Iterable[MeasurementSet]) -> list[Path]:
    """Caltables that are applied or active for these measurement sets, in the order of application."""
    names = [
        c.gaintable
        for ms in sets
        for state in ("applied", "active")
        for group in ctx.calibration.merged(ms, state=state)
        for c in group.calfroms
    ]
    return [Path(n) for n in dict.fromkeys(names) if Path(n).is_dir()]


def _archive(path: Path, kind: str, members: Iterable[Path], source: str, doc: str) -> Exported:
    with tarfile.open(path, "w:gz", compresslevel=6) as archive:
        for member in members:
            archive.add(member, member.name, filter=_without_locks)
    return Exported(kind=kind, name=path.name, source=source, size_bytes=path.stat().st_size, doc=doc)


def _without_locks(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if entry.name.endswith("table.lock") else entry


def _manifest(ctx: StageContext, stem: str, sets: list[MeasurementSet], made: list[Exported]) -> Exported:
    """The list of products in the observatories' form, with sizes and SHA-256 checksums."""
    root = ElementTree.Element("piperesults", name=ctx.context.run_name)
    ElementTree.SubElement(root, "procedure_name", name=ctx.context.recipe_name or "stage by stage")
    ous = ElementTree.SubElement(root, "ous", name=stem)
    by_session: dict[str, ElementTree.Element] = {}
    for ms in sets:
        session = by_session.setdefault(ms.session, ElementTree.SubElement(ous, "session", name=ms.session))
        entry = ElementTree.SubElement(session, "asdm", name=ms.name)
        smoothed = (ctx.value("hifv.smoothed") or {}).get(ms.name)
        if smoothed is not None:
            entry.set("smoothed_spws", compact_ids(smoothed) or "none")
        entry.set("specline_spws", compact_ids(line_spws(ctx, ms)) or "none")
        for product in made:
            if product.source == ms.name:
                tags = {"flags": "finalflags", "applied": "applycmds", "ms": "finalms", "restore": "restorestate"}
                tag = tags[product.kind]
                ElementTree.SubElement(entry, tag, _attributes(ctx, product))
    whole = {ms.name for ms in sets}
    for product in made:
        if product.kind == "ms" and product.source not in whole:
            ElementTree.SubElement(ous, "splitms", _attributes(ctx, product))
        if product.kind == "caltables":
            ElementTree.SubElement(by_session[product.source], "caltables", _attributes(ctx, product))
        if product.kind == "continuum":
            ElementTree.SubElement(ous, "aux_products_file", _attributes(ctx, product))
        if product.kind == "fits":
            ElementTree.SubElement(ous, "image", {**_attributes(ctx, product), "imagetype": product.doc})
    for script in ("casa_commands.py", "run.json"):
        ElementTree.SubElement(ous, "script", name=script)
    ElementTree.indent(root)
    path = ctx.products / f"{stem}.pipeline_manifest.xml"
    write_bytes_atomically(path, ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")
    return Exported(
        kind="manifest", name=path.name, source="", size_bytes=path.stat().st_size, doc=f"list of {len(made)} products"
    )


def _attributes(ctx: StageContext, product: Exported) -> dict[str, str]:
    digest = hashlib.sha256()
    with (ctx.products / product.name).open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return {"name": product.name, "bytes": str(product.size_bytes), "sha256": digest.hexdigest()}
