"""h_restoredata: calibrated data from raw data and the products of an earlier run; base of all restores."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import attrs

from ..calrecords import VISCAL_TYPES, CalApplication
from ..caltext import import_text
from ..effects import AddMeasurementSet, Effect, MarkApplied, RegisterCalibration, ReplaceMeasurementSet, SetValue
from ..errors import InputError, PlError
from ..ms.datatypes import DataType
from ..ms.model import MeasurementSet
from ..params import as_tuple, param
from ..stage import Result, Stage
from . import delivery, flagversions
from .applying import Application, Applied, apply_library
from .archives import unpack
from .delivery import Delivery
from .importing import ImportInputs, import_data, unique_name

if TYPE_CHECKING:
    from ..stage_context import StageContext

HOW = ("applymode", "parang", "calwt", "antenna", "field", "spw", "intent")
"""Arguments of ``apply_library`` that a delivery remembers."""
NO_FLAGS_BEFORE = "the flags from before applycal"
NO_ROWS = "the record of rows"
NO_HOW = "the record of how the calibration was applied"
NEVER_THERE = frozenset({NO_FLAGS_BEFORE, NO_ROWS, NO_HOW})
"""What deliveries of the observatories' pipeline never have: data that are not flagged come out the same without."""


class RestoredataInputs(ImportInputs):
    """Where raw data and products are."""

    vis: tuple[str, ...] | None = param(
        None, doc="Measurement sets to restore; paths of raw data are imported first when the run has none of them."
    )
    products_dir: Path = param(Path("../products"), doc="Folder of the products, seen from the work folder.")
    rawdata_dir: Path = param(Path("../rawdata"), doc="Folder of the raw data, for names in vis that are no paths.")
    copytoraw: bool = param(True, doc="Accepted for old scripts: products are read where they are.", hidden=True)
    ocorr_mode: str = param("ca", doc="Accepted for old scripts.", hidden=True)
    bdfflags: bool = param(True, doc="Accepted for old scripts.", hidden=True)
    lazy: bool = param(False, doc="Accepted for old scripts.", hidden=True)
    asis: str = param("", doc="Accepted for old scripts.", hidden=True)


@attrs.frozen(kw_only=True)
class Restored:
    """One measurement set: what it was restored from, what was missing, and what else is worth knowing."""

    vis: str
    products: str
    tables: tuple[str, ...] = attrs.field(converter=as_tuple)
    versions: tuple[str, ...] = attrs.field(converter=as_tuple)
    missing: tuple[str, ...] = attrs.field(default=(), converter=as_tuple)
    casa: str = ""
    pl: str = ""
    facts: dict[str, str] = attrs.field(factory=dict)


class RestoredataResult(Result):
    """What was restored, and what was applied."""

    sets: tuple[Restored, ...]
    applied: tuple[Applied, ...]


I = TypeVar("I", bound=RestoredataInputs)  # noqa: E741


class Restore:
    """The restore of one measurement set; plugins override ``prepare``, ``apply`` and ``finish``.

    ``effects``, ``applied``, ``versions``, ``missing`` and ``facts`` are filled on the way.
    """

    fallback: ClassVar[tuple[str, ...]] = (delivery.FINAL,)
    """Flag versions to begin with where the delivery has none from before applycal, the best first."""
    purposes: ClassVar[dict[str, str]] = delivery.PURPOSES

    def __init__(self, ctx: StageContext, ms: MeasurementSet, found: Delivery, inputs: Any) -> None:
        self.ctx, self.ms, self.found, self.inputs = ctx, ms, found, inputs
        self.effects: list[Effect] = []
        self.applied: list[Applied] = []
        self.versions: dict[str, str] = {}
        self.missing: list[str] = []
        self.facts: dict[str, str] = {}

    # ---- what a plugin may say -----------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Do to the raw data what was done before they were calibrated."""

    def apply(self, ctx: StageContext) -> Application:
        """Apply the registered tables (those of ``ctx.calibration``) as they were applied then."""
        how = {k: v for k, v in self.found.state.applied.items() if k in HOW}
        if not how and not self.found.state.uncalibrated:
            self.missing.append(NO_HOW)
        return apply_library(ctx, self.ms, **how)

    def more_tables(self) -> tuple[CalApplication, ...]:
        """Tables to apply after those delivered."""
        return ()

    def finish(self, names: tuple[str, ...]) -> None:
        """Put the final flags back."""
        flagversions.restore(self.ctx, self.ms, self.first(names, delivery.FINAL))

    # ---- the work ------------------------------------------------------------------------------------------------

    def run(self) -> Restored:
        """Restore; return what became of it."""
        state = self.found.state
        self.prepare()
        self._check_rows()
        names = self._unpack_flags()
        if state.uncalibrated:
            self.facts["Calibration"] = "none was applied: the data came calibrated"
        applications = (*(() if state.uncalibrated else self._tables()), *self.more_tables())
        if applications:
            self._apply(applications, names)
        self.finish(names)
        self.versions = {p: v for p, v in self.purposes.items() if v in names}
        return self._restored(tuple(c.gaintable for a in applications for c in a.calfroms), names)

    def _apply(self, applications: tuple[CalApplication, ...], names: tuple[str, ...]) -> None:
        ctx, state = self.ctx, self.found.state
        before = state.versions.get("before_applycal")
        if not before and not state.uncalibrated:
            self.missing.append(NO_FLAGS_BEFORE)
        flagversions.restore(ctx, self.ms, before or self.first(names, *self.fallback))
        library = ctx.calibration.without_ms(self.ms.name)
        for application in applications:
            library = library.add(application)
        self.ctx = ctx.with_calibration(library)  # as the run will be: with these tables to be applied
        done = self.apply(self.ctx)
        self.applied += done.calls
        self.missing += done.dropped
        self.ms = self.ms.with_data_type(DataType.REGCAL_CONTLINE_ALL, "CORRECTED_DATA", overwrite=True)
        self.effects.append(ReplaceMeasurementSet(self.ms))
        self.effects += [RegisterCalibration(a) for a in applications]
        self.effects.append(MarkApplied(self.ms.name))

    def _restored(self, tables: tuple[str, ...], names: tuple[str, ...]) -> Restored:
        state = self.found.state
        return Restored(
            vis=self.ms.name, products=str(self.found.flags.parent), tables=tables, versions=names,
            missing=self.missing, casa=state.casa, pl=state.pl, facts=self.facts,
        )  # fmt: skip

    def first(self, names: tuple[str, ...], *wanted: str) -> str:
        """The first of the versions wanted that was delivered."""
        for name in wanted:
            if name in names:
                return name
        raise PlError(f"The delivered flags of {self.ms.name} have none of the versions {', '.join(wanted)}.")

    def _check_rows(self) -> None:
        if not self.found.state.rows:
            self.missing.append(NO_ROWS)
        elif delivery.row_order(self.ctx, self.ms) != self.found.state.rows:
            raise PlError(
                f"{self.ms.name} has not the rows of the data that were calibrated, or has them in another order, so"
                f" their flags do not fit. Use the same raw data and CASA {self.found.state.casa}."
            )

    def _unpack_flags(self) -> tuple[str, ...]:
        folder = self.ctx.stage_dir / f"flags-{self.ms.stem}"
        shutil.rmtree(folder, ignore_errors=True)
        target = Path(f"{self.ms.path}.flagversions")
        for top in unpack(self.found.flags, folder):
            for version in sorted((folder / top).glob("flags.*")):
                place = target / version.name
                shutil.rmtree(place, ignore_errors=True)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(version, place)
                _list_version(target, version.name.removeprefix("flags."))
        shutil.rmtree(folder, ignore_errors=True)
        names = flagversions.names(self.ctx, self.ms)
        if not names:
            raise PlError(f"{self.found.flags.name} holds no flag version of {self.ms.name}.")
        return names

    def _tables(self) -> tuple[CalApplication, ...]:
        """Unpack the caltables this measurement set needs; registrations with their names in the work folder."""
        text = self.found.applied.read_text(encoding="utf-8")
        needed = {
            Path(c.gaintable).name: c
            for a in import_text(text, [self.ms], lambda _: "unknown", self.found.applied.name)
            for c in a.calfroms
        }
        if not needed:
            raise PlError(f"{self.found.applied.name} says of no caltable that it was applied to {self.ms.name}.")
        for archive in self.found.tables:
            for name in unpack(archive, self.ctx.stage_dir / "tables", needed):
                target = Path(name)
                shutil.rmtree(target, ignore_errors=True)
                shutil.move(self.ctx.stage_dir / "tables" / name, target)
        shutil.rmtree(self.ctx.stage_dir / "tables", ignore_errors=True)
        absent = [n for n in needed if not Path(n).is_dir()]
        if absent:
            raise PlError(f"The products hold no {absent[0]}, which calibrates {self.ms.name}.")
        found = import_text(text, [self.ms], self.caltype, self.found.applied.name)
        return tuple(
            attrs.evolve(
                a, calfroms=tuple(attrs.evolve(c, gaintable=Path(c.gaintable).name) for c in a.calfroms),
                origin=self.ctx.stage_name,
            )
            for a in found if a.to.vis == self.ms.name
        )  # fmt: skip

    def caltype(self, table: str) -> str:
        """Kind of a caltable in the work folder: as delivered, or as its keyword says."""
        known = self.found.state.caltypes.get(Path(table).name)
        if known:
            return known
        with self.ctx.casa.table(Path(table).name) as opened:
            words: Any = opened.keywordnames()
            kind = str(opened.getkeyword("VisCal")).upper() if "VisCal" in words else ""
        return VISCAL_TYPES.get(kind) or "unknown"


def _list_version(folder: Path, name: str) -> None:
    listing = folder / "FLAG_VERSION_LIST"
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.is_file() else []
    if not any(line.split(" : ")[0] == name for line in lines):
        listing.write_text("\n".join([*lines, f"{name} : restored"]) + "\n", encoding="utf-8")


class Restorer(Stage[I, RestoredataResult]):
    """Base of the stages that restore."""

    topic = "dataset"
    mutates = frozenset({"corrected", "flags", "weights"})
    takes_data = True
    job_class: ClassVar[type[Restore]] = Restore

    # ---- what a plugin may say -----------------------------------------------------------------------------------

    def import_sets(self, ctx: StageContext, inputs: I) -> tuple[list[MeasurementSet], list[Effect]]:
        """Import raw data; the measurement sets and what the run should know of them."""
        sets = [i.ms for i in import_data(ctx, inputs)]
        return sets, [AddMeasurementSet(ms) for ms in sets]

    def begin(self, ctx: StageContext, inputs: I, jobs: list[Any]) -> None:
        """Look at what all jobs need before the first is done."""

    def values(self, ctx: StageContext, jobs: list[Restore]) -> list[Effect]:
        """What later stages should know besides."""
        return []

    # ---- the work ------------------------------------------------------------------------------------------------

    def run(self, ctx: StageContext, inputs: I) -> RestoredataResult:
        products = (ctx.work / inputs.products_dir).resolve()
        if not products.is_dir():
            raise InputError(f"There is no folder of products {products}; give it as products_dir.")
        sets, effects = self._sets(ctx, inputs)
        restored, applied = [], []
        if effects:  # what was imported here is part of the run for all that follows
            ctx = ctx.after(effects)
        jobs = [self._job(ctx, products, ms, inputs) for ms in sets]
        self.begin(ctx, inputs, jobs)
        for count, job in enumerate(jobs, 1):
            restored.append(job.run())
            applied += job.applied
            effects += job.effects
            ctx.progress(count, len(jobs), job.ms.name)
        effects += [
            SetValue(delivery.PLACE, str(products)),
            flagversions.remember(ctx, {job.ms.name: job.versions for job in jobs}),
            flagversions.remember_how(ctx, {job.ms.name: job.found.state.applied for job in jobs}),
            *self.values(ctx, jobs),
        ]
        return self.result(tuple(restored), tuple(applied), tuple(effects), jobs)

    def _job(self, ctx: StageContext, products: Path, ms: MeasurementSet, inputs: I) -> Restore:
        found = delivery.find(products, ms)
        if found.state.intents and not ms.intents:
            ms = ms.with_intents({int(f): words for f, words in found.state.intents.items()})
        return self.job_class(ctx, ms, found, inputs)

    def result(
        self, sets: tuple[Restored, ...], applied: tuple[Applied, ...], effects: tuple[Effect, ...],
        jobs: list[Restore],
    ) -> RestoredataResult:  # fmt: skip
        """Make the result."""
        return RestoredataResult(sets=sets, applied=applied, effects=effects)

    def _sets(self, ctx: StageContext, inputs: I) -> tuple[list[MeasurementSet], list[Effect]]:
        """Measurement sets of the run, or imported here."""
        known = {ms.name: ms for ms in ctx.context.measurement_sets if not ms.origin}
        names = [name if Path(name).name in known else unique_name(Path(name), set()) for name in inputs.vis or known]
        if known and all(Path(n).name in known for n in names):
            return [known[Path(n).name] for n in names], []
        paths = []
        for name in inputs.vis or ():
            options = (Path(name), ctx.work / inputs.rawdata_dir / name)
            path = next((p for p in options if p.exists()), None)
            if path is None:
                raise InputError(f"There is no {name} to restore, neither in the run nor in {inputs.rawdata_dir}.")
            paths.append(str(path.resolve()))
        if not paths:
            raise InputError("There is nothing to restore: give the raw data.")
        given: I = attrs.evolve(inputs, vis=tuple(paths))  # type: ignore[misc]
        return self.import_sets(ctx, given)


class Restoredata(Restorer[RestoredataInputs]):
    """Restore a calibration from its products.

    The raw data are imported where the run has none; the flags from before the calibration was applied are put back,
    the delivered caltables applied in their order, and the final flags put back. CORRECTED_DATA and flags are those of
    the delivered run in every cell. Flags belong to rows: a measurement set with other rows, or in another order, is
    refused, and so are products whose checksums are not those of their manifest.

    Deliveries of the observatories' pipeline lack the flags from before applycal and the record of rows; the restore is
    then the observatory's own (final flags first), and the page says what was missing.
    """

    name = "h_restoredata"


