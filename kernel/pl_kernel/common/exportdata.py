"""h_exportdata: images, calibration, flags, scripts, web log and quality report as products; base of all exports."""

from __future__ import annotations

import fnmatch
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import attrs

from ..context import ProductRecord
from ..effects import AddProduct
from ..errors import InputError, PlError
from ..ms.model import MeasurementSet
from ..ms.selection import clean_file_name
from ..params import Inputs, param
from ..serialize import read_json, write_bytes_atomically, write_json
from ..stage import ItemFailure, Result, Stage
from . import delivery, manifest, pipelinestats, report, scripts
from .archives import pack, size_of
from .exportimages import FITS_KINDS, delivered, write_fits

if TYPE_CHECKING:
    from ..journal import RunRecord
    from ..stage_context import StageContext

AUXILIARY = ("cont.dat", "flux.csv", "antennapos*.csv", "antennapos*.json", "*template*.txt")
"""Files of the work folder that go into the archive of auxiliary products."""


class ExportdataInputs(Inputs):
    """What is delivered."""

    images: bool = param(True, doc="Write the images as FITS.")
    exportcalprods: bool = param(True, doc="Write calibration tables, flags and what was applied.")
    imaging_products_only: bool = param(False, doc="Write images and scripts only: the run began with calibrated data.")
    exportmses: bool = param(False, doc="Write the calibrated measurement sets.")
    tarms: bool = param(True, doc="Write measurement sets as archives; otherwise as folders.")
    weblog: bool = param(True, doc="Write the web log as an archive.")
    calintents: tuple[str, ...] = param((), doc="Intents of calibrators whose images are written; default all.")
    targetimages: tuple[str, ...] = param((), doc="Names of target images to write, with wildcards; default all.")
    calimages: tuple[str, ...] = param((), doc="Names of calibrator images to write, with wildcards; default all.")
    pprfile: Path | None = param(
        None, doc="Processing request to deliver; default the recipe of the run, or the only PPR_*.xml beside it."
    )
    session: tuple[str, ...] = param((), doc="Accepted for old scripts: sessions are those of the import.", hidden=True)
    products_dir: Path | None = param(None, doc="Accepted for old scripts: products lie in the run.", hidden=True)


@attrs.frozen(kw_only=True)
class Exported:
    """One product: ``source`` is the measurement set, session or image it is of, ``tag`` its name in the manifest."""

    kind: str
    name: str
    source: str = ""
    size_bytes: int = 0
    doc: str = ""
    tag: str = ""


class ExportdataResult(Result):
    """The products; ``expected`` counts, by kind, what the parameters ask for."""

    products: tuple[Exported, ...]
    expected: dict[str, int]
    manifest: str
    sessions: dict[str, tuple[str, ...]] = attrs.field(factory=dict)


I = TypeVar("I", bound=ExportdataInputs)  # noqa: E741


class Exporter(Stage[I, ExportdataResult]):
    """Base of the stages that write products; what a telescope's delivery has besides is in its subclass."""

    topic = "misc"
    flag_versions: ClassVar[Mapping[str, str]] = delivery.PURPOSES
    restore_stage: ClassVar[str] = "h_restoredata"
    kinds: ClassVar[tuple[str, ...]] = FITS_KINDS

    # ---- what a plugin may say -----------------------------------------------------------------------------------

    def stem(self, ctx: StageContext) -> str:
        """First part of the names of products of the whole run."""
        return clean_file_name(ctx.context.recipe_name or ctx.context.run_name)

    def state(self, ctx: StageContext, ms: MeasurementSet) -> Mapping[str, Any]:
        """What the plugin's restore has to know of a measurement set besides."""
        return {}

    def attributes(self, ctx: StageContext, ms: MeasurementSet) -> Mapping[str, str]:
        """Attributes of a measurement set in the manifest."""
        return {}

    def restore_calls(self, job: Export, inputs: I, vis: list[str], sessions: list[str]) -> list[scripts.Call]:
        """Calls of the restore script, for raw data and their sessions."""
        arguments = {"vis": vis, "session": sessions, "products_dir": "../products", "rawdata_dir": "../rawdata"}
        return [scripts.Call(self.restore_stage, arguments)]

    def auxiliary(self, ctx: StageContext) -> list[Path]:
        """Files for the archive of auxiliary products."""
        return sorted({path for pattern in AUXILIARY for path in ctx.work.glob(pattern) if path.is_file()})

    def fluxes(self, ctx: StageContext) -> Iterable[report.FluxMeasurement]:
        """Flux densities of calibrators, for the report."""
        return ()

    def sensitivities(self, ctx: StageContext) -> Iterable[report.Sensitivity]:
        """Noise of the images, for the report."""
        array = ", ".join(dict.fromkeys(ms.telescope for ms in ctx.context.measurement_sets))
        return [report.Sensitivity.of(i, array) for i in ctx.context.images if i.kind == "image" and i.statistics]

    def more_report(self, job: Export) -> Iterable[report.Node]:
        """Elements that the telescope adds to the report."""
        return ()

    def archive_name(self, job: Export, session: str, kind: str) -> str:
        """Name of an archive of one session."""
        return f"{job.stem}.{clean_file_name(session)}.{kind}.tgz"

    def more(self, job: Export, inputs: I) -> None:
        """Write products of the plugin's own with ``job.make``."""

    # ---- the work ------------------------------------------------------------------------------------------------

    def check(self, ctx: StageContext, inputs: I) -> None:
        if inputs.pprfile is not None and not inputs.pprfile.is_file():
            raise InputError(f"There is no processing request {inputs.pprfile}.")

    def run(self, ctx: StageContext, inputs: I) -> ExportdataResult:
        job = Export(ctx, self.stem(ctx), [ms for ms in ctx.measurement_sets(inputs.vis) if not ms.origin])
        if inputs.images:
            self._images(job, inputs)
        if inputs.exportcalprods and not inputs.imaging_products_only:
            self._calibration(job)
        if inputs.exportmses:
            self._measurement_sets(job, inputs)
        self.more(job, inputs)
        self._scripts(job, inputs)
        found = report.collect(
            ctx, job.sets, fluxes=self.fluxes(ctx), sensitivities=self.sensitivities(ctx), more=self.more_report(job)
        )
        numbers = ctx.stage_dir / f"pipeline_stats_{job.stem}.json"
        write_json(numbers, pipelinestats.collect(ctx.context.root, found, job.sets))
        auxiliary = [*self.auxiliary(ctx), numbers, ctx.context.root / "run.json"]
        job.make("auxiliary", f"{job.stem}.auxproducts.tgz", "", "aux_products_file", _archive,
                 [(path, path.name) for path in auxiliary], doc=", ".join(path.name for path in auxiliary))  # fmt: skip
        job.make("report", f"{job.stem}.pipeline_aquareport.xml", "", "aqua_report", _bytes, report.to_xml(found),
                 doc="scores, fluxes and sensitivities")  # fmt: skip
        job.make("report", f"{job.stem}.pipeline_report.json", "", "report", write_json, found, doc="the same as JSON")
        if inputs.weblog:
            aqua = job.products / f"{job.stem}.pipeline_aquareport.xml"
            ctx.wait_for_pages()
            job.make("weblog", f"{job.stem}.weblog.tgz", "", "weblog", _weblog, ctx.context.root, aqua,
                     doc="web log of the stages before")  # fmt: skip
        text = manifest.write(job, {ms.name: self.attributes(ctx, ms) for ms in job.sets})
        name = f"{job.stem}.pipeline_manifest.xml"
        job.make("manifest", name, "", "", _bytes, text, doc=f"list of {len(job.made)} products")
        return ExportdataResult(
            products=tuple(job.made), expected=job.expected, manifest=name, failures=tuple(job.failures),
            sessions={s: tuple(ms.name for ms in sets) for s, sets in job.sessions.items()},
            effects=tuple(
                AddProduct(
                    ProductRecord(
                        name=p.name, kind=p.kind, source=p.source, stage=self.name, size_bytes=p.size_bytes, doc=p.doc
                    )
                )
                for p in job.made
            ),
        )  # fmt: skip

    def _images(self, job: Export, inputs: I) -> None:
        known = job.ctx.context.images
        wanted = delivered(
            known, kinds=self.kinds, calintents=inputs.calintents, targetimages=inputs.targetimages,
            calimages=inputs.calimages,
        )  # fmt: skip
        if wanted or any(record.topic == "imaging" for _, record in report.finished_stages(job.ctx.context.root)):
            job.expected["fits"] = 0  # a run that only calibrates lacks none
        for count, image in enumerate(wanted, 1):
            doc = f"{image.kind} of {image.field}, spw {','.join(map(str, image.spws))}, {image.specmode}"
            job.collect("fits", image.name, "image", doc, write_fits, job.ctx, image)
            job.ctx.progress(count, len(wanted), image.name)

    def _calibration(self, job: Export) -> None:
        ctx = job.ctx
        for ms in job.sets:
            doc = f"flag version {delivery.FINAL} and those for a restore"
            job.collect("flags", ms.name, "finalflags", doc, delivery.pack_flags, ctx, ms, self.flag_versions)
            text = ctx.calibration.export_text([ms], state="applied")
            doc = f"{len(text.splitlines())} groups of data and their tables"
            if delivery.came_calibrated(ctx, ms):
                text, doc = "# Nothing was applied: the data came calibrated.\n", "nothing: the data came calibrated"
            job.make("applied", f"{ms.stem}.calapply.txt", ms.name, "applycmds", _bytes, text.encode(), doc=doc)
            doc, state = "what the other files do not say", self.state(ctx, ms)
            job.collect(
                "restore", ms.name, "restorestate", doc, delivery.pack_state, ctx, ms, self.flag_versions, state
            )
        for session, sets in job.sessions.items():
            tables = applied_tables(ctx, sets)
            if not tables and all(delivery.came_calibrated(ctx, ms) for ms in sets):
                ctx.log.info(f"Session {session} has no caltables: its data came calibrated.")
                continue
            if not tables:
                job.expected["caltables"] = job.expected.get("caltables", 0) + 1
                continue
            name = self.archive_name(job, session, "caltables")
            job.make("caltables", name, session, "caltables", _archive, [(t, t.name) for t in tables],
                     doc=f"{len(tables)} caltables")  # fmt: skip

    def _measurement_sets(self, job: Export, inputs: I) -> None:
        for ms in job.ctx.measurement_sets(inputs.vis):  # with the targets split off
            tag = "splitms" if ms.origin else "finalms"
            if inputs.tarms:
                job.make("ms", f"{ms.stem}.ms.tgz", ms.name, tag, _archive, [(Path(ms.path), Path(ms.path).name)],
                         doc="calibrated data")  # fmt: skip
            else:
                job.make("ms", f"{ms.stem}.ms", ms.name, tag, _copy_ms, Path(ms.path), doc="calibrated data")

    def _scripts(self, job: Export, inputs: I) -> None:
        root, stem = job.ctx.context.root, job.stem
        job.make("script", f"{stem}.casa_commands.log", "", "casa_cmdlog", _copy, root / "casa_commands.py",
                 doc="the CASA calls of the run, as a script")  # fmt: skip
        text = scripts.script("The run as it was called.", scripts.calls_of(job.record), job.record, job.project)
        job.make("script", f"{stem}.casa_pipescript.py", "", "pipescript", _bytes, text.encode(),
                 doc="the run as it was called")  # fmt: skip
        if inputs.exportcalprods and not inputs.imaging_products_only:
            raw = scripts.raw_names(job.record, job.sets)
            calls = self.restore_calls(job, inputs, raw, [ms.session for ms in job.sets])
            text = scripts.script(
                "Restore the calibration from its products.", calls, job.record, job.project,
                " and the products in ../products",
            )  # fmt: skip
            job.make("script", f"{stem}.casa_piperestorescript.py", "", "restorescript", _bytes, text.encode(),
                     doc="restores the calibrated data from the products")  # fmt: skip
        request = inputs.pprfile or _request(job.ctx.context.root, job.record.recipe.get("file", ""))
        if request is not None:
            job.make("script", f"{stem}.pprequest.xml", "", "piperequest", _copy, request,
                     doc="the processing request")  # fmt: skip


class Export:
    """An export under way: what was asked for, what was made, what failed."""

    def __init__(self, ctx: StageContext, stem: str, sets: list[MeasurementSet]) -> None:
        from ..journal import RunFolder

        self.ctx, self.stem, self.sets = ctx, stem, sets
        self.products = Path(ctx.products)
        self.products.mkdir(parents=True, exist_ok=True)
        self.made: list[Exported] = []
        self.failures: list[ItemFailure] = []
        self.expected: dict[str, int] = {}
        self.record: RunRecord = RunFolder(ctx.context.root).read_run()
        facts = ctx.context.root / "project.json"
        content = read_json(facts) if facts.is_file() else {}
        self.project: Mapping[str, Any] = content if isinstance(content, dict) else {}
        self.sessions: dict[str, list[MeasurementSet]] = {}
        for ms in sets:
            self.sessions.setdefault(ms.session, []).append(ms)

    def make(
        self, kind: str, name: str, source: str, tag: str, write: Callable[..., Any], *args: Any, doc: str = ""
    ) -> None:
        """Write the product ``name`` with ``write(path, *args)``; a failure costs this product only."""
        self.collect(kind, source, tag, doc, _at, self.products / name, write, *args)

    def collect(self, kind: str, source: str, tag: str, doc: str, write: Callable[..., Path], *args: Any) -> None:
        """Count the product whose path ``write(*args)`` returns as made, or as failed."""
        self.expected[kind] = self.expected.get(kind, 0) + 1
        try:
            path = write(*args)
            self.made = [p for p in self.made if p.name != path.name]
            self.made.append(
                Exported(kind=kind, name=path.name, source=source, size_bytes=size_of(path), doc=doc, tag=tag)
            )
        except Exception as error:  # whatever it is: what was written before must not be lost with it
            sentence = error.sentence if isinstance(error, PlError) else f"{type(error).__name__}: {error}"
            what = source or doc or kind
            self.failures.append(ItemFailure(f"{kind} of {what}", sentence))
            self.ctx.log.error(f"The product {kind} of {what} could not be written: {sentence}")


def _request(root: Path, recipe: str) -> Path | None:
    """The processing request of a run: its recipe, or what lies in its folder or beside it; None where several do."""
    if fnmatch.fnmatchcase(Path(recipe).name, "PPR_*.xml") and Path(recipe).is_file():
        return Path(recipe)
    for folder in (root, root.parent):
        found = sorted(folder.glob("PPR_*.xml"))
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _at(path: Path, write: Callable[..., Any], *args: Any) -> Path:
    write(path, *args)
    return path


def _bytes(path: Path, content: bytes) -> None:
    write_bytes_atomically(path, content)


def _archive(path: Path, members: list[tuple[Path, str]]) -> None:
    pack(path, members)


def _copy(path: Path, source: Path) -> None:
    shutil.copyfile(source, path)


def _copy_ms(path: Path, source: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(source, path, ignore=shutil.ignore_patterns("table.lock"))


def _weblog(path: Path, root: Path, aqua: Path) -> None:
    from ..weblog.site import write_site

    index = write_site(root, live=False)
    members = [(index.parent, f"{root.name}/weblog")]
    if aqua.is_file():
        members.append((aqua, f"{root.name}/weblog/files/{aqua.name}"))
    pack(path, members)


def applied_tables(ctx: StageContext, sets: Iterable[MeasurementSet]) -> list[Path]:
    """Caltables that are applied or active for these measurement sets, in the order of application."""
    names = [
        c.gaintable
        for ms in sets
        for state in ("applied", "active")
        for group in ctx.calibration.merged(ms, state=state)
        for c in group.calfroms
    ]
    return [Path(n) for n in dict.fromkeys(names) if Path(n).is_dir()]


class Exportdata(Exporter[ExportdataInputs]):
    """Write images, calibration, flags, scripts, web log and quality report as products.

    FITS files of images, primary beams, masks and moments, the newest of each; per measurement set an archive with its
    final flags and a text of what was applied to what; per session an archive with the caltables; the run as a script
    of CASA calls, as it was called, and as a script that restores it; the web log; scores, fluxes and sensitivities as
    XML and JSON; a manifest with sizes and checksums. Names are the observatory's: stage numbers are left out of image
    names.

    What is delivered suffices for an exact restore: the flags from before the calibration was applied go out with the
    final ones. A product that cannot be written costs itself only, and the score says so.
    """

    name = "h_exportdata"
