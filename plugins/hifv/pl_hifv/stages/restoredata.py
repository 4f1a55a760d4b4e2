"""Restore a calibration from its products."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import attrs

from pl_hif.stages.applycal import Applied
from pl_hifv import delivery
from pl_hifv.delivery import Delivery
from pl_hifv.heuristics.smoothing import Window, decide
from pl_hifv.lines import KEY as LINES
from pl_hifv.stages.applycals import ApplycalsInputs, apply_library
from pl_hifv.stages.hanning import SMOOTHED, moved, recorded, smooth
from pl_kernel import PlError, Result, Stage, param
from pl_kernel.calibration import VISCAL_TYPES, CalApplication
from pl_kernel.caltext import import_text
from pl_kernel.common import flagversions as versions
from pl_kernel.common.importing import ImportInputs, import_data
from pl_kernel.effects import (
    AddMeasurementSet,
    Effect,
    MarkApplied,
    RegisterCalibration,
    ReplaceMeasurementSet,
    SetValue,
)
from pl_kernel.errors import InputError
from pl_kernel.ms.datatypes import DataType
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.stage_context import StageContext


class RestoredataInputs(ImportInputs):
    vis: tuple[str, ...] | None = param(
        None, doc="Measurement sets to restore; paths of raw data are imported first when the run has none."
    )
    products_dir: Path = param(Path("../products"), doc="Folder of the products, seen from the work folder.")
    rawdata_dir: Path = param(Path("../rawdata"), doc="Folder of the raw data, for names in vis that are no paths.")
    copytoraw: bool = param(True, doc="Accepted for old scripts: products are read where they are.", hidden=True)
    gainmap: bool = param(False, doc="The calibration was applied with gainmap (sky survey).")
    ocorr_mode: str = param("co", doc="Accepted for old scripts.", hidden=True)
    bdfflags: bool = param(False, doc="Accepted for old scripts.", hidden=True)
    lazy: bool = param(False, doc="Accepted for old scripts.", hidden=True)
    asis: str = param("", doc="Accepted for old scripts.", hidden=True)


@attrs.frozen(kw_only=True)
class Restored:
    """One measurement set: what it was restored from, and what was missing."""

    vis: str
    products: str
    smoothed: tuple[int, ...] = attrs.field(converter=tuple)
    tables: tuple[str, ...] = attrs.field(converter=tuple)
    versions: tuple[str, ...] = attrs.field(converter=tuple)
    missing: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    casa: str = ""


class RestoredataResult(Result):
    """What was restored, and what was applied."""

    sets: tuple[Restored, ...]
    applied: tuple[Applied, ...]


class Restoredata(Stage[RestoredataInputs, RestoredataResult]):
    """Restore a calibration from its products.

    The windows that were smoothed are smoothed again, the flags from before applycal put back, the delivered caltables
    applied in their order, and the flags from before statwt put back: hifv_statwt then ends with the final flags and
    weights. CORRECTED_DATA and flags are those of the delivered run in every cell. Flags belong to rows: a measurement
    set with other rows, or in another order, is refused.

    Deliveries of the observatory's pipeline lack the flags before applycal and the record of rows; the restore is then
    the observatory's own (flags of statwt_1 or Pipeline_Final first), and the page says what was missing.
    """

    name = "hifv_restoredata"
    topic = "dataset"
    mutates = frozenset({"corrected", "flags"})

    def run(self, ctx: StageContext, inputs: RestoredataInputs) -> RestoredataResult:
        sets, effects = self._sets(ctx, inputs)
        products = (ctx.work / inputs.products_dir).resolve()
        restored: list[Restored] = []
        applied: list[Applied] = []
        smoothed = dict(ctx.value(SMOOTHED) or {})
        lines = dict(ctx.value(LINES) or {})
        found: dict[str, dict[str, str]] = {}
        for count, ms in enumerate(sets, 1):
            one = delivery.find(products, ms)
            if one.state.intents and not ms.intents:
                ms = ms.with_intents({int(f): words for f, words in one.state.intents.items()})
            job = _Restore(ctx, ms, one, inputs)
            restored.append(job.run())
            applied += job.applied
            effects += job.effects
            smoothed[ms.name] = list(restored[-1].smoothed)
            if one.state.lines is not None:
                lines[ms.name] = list(one.state.lines)
            found[ms.name] = job.versions
            ctx.progress(count, len(sets), ms.name)
        effects += [SetValue(SMOOTHED, smoothed), SetValue(LINES, lines), versions.remember(ctx, found)]
        return RestoredataResult(sets=tuple(restored), applied=tuple(applied), effects=tuple(effects))

    def _sets(self, ctx: StageContext, inputs: RestoredataInputs) -> tuple[list[MeasurementSet], list[Effect]]:
        """Measurement sets of the run, or imported here."""
        known = {ms.name for ms in ctx.context.measurement_sets}
        names = inputs.vis or tuple(known)
        if known and all(Path(n).name in known for n in names):
            return list(ctx.measurement_sets(names)), []
        paths = []
        for name in names:
            options = (Path(name), ctx.work / inputs.rawdata_dir / name)
            path = next((p for p in options if p.exists()), None)
            if path is None:
                raise InputError(f"There is no {name} to restore, neither in the run nor in {inputs.rawdata_dir}.")
            paths.append(str(path.resolve()))
        if not paths:
            raise InputError("There is nothing to restore: give the raw data.")
        imported = [i.ms for i in import_data(ctx, attrs.evolve(inputs, vis=tuple(paths)))]
        return imported, [AddMeasurementSet(ms) for ms in imported]


class _Restore:
    """The restore of one measurement set; ``effects``, ``applied`` and ``versions`` are filled by ``run``."""

    def __init__(self, ctx: StageContext, ms: MeasurementSet, found: Delivery, inputs: RestoredataInputs) -> None:
        self.ctx, self.ms, self.found, self.inputs = ctx, ms, found, inputs
        self.effects: list[Effect] = []
        self.applied: list[Applied] = []
        self.versions: dict[str, str] = {}
        self.missing: list[str] = []

    def run(self) -> Restored:
        ctx, state = self.ctx, self.found.state
        smoothed = self._smooth()
        self._check_rows()
        names = self._unpack_flags()
        first = state.versions.get("before_applycal") or self._first(names, "statwt_1", delivery.FINAL)
        versions.restore(ctx, self.ms, first)
        applications = self._tables()
        library = ctx.calibration.without_ms(self.ms.name)
        for application in applications:
            library = library.add(application)
        how = {k: v for k, v in state.applied.items() if k in ("applymode", "parang", "calwt", "gainmap")}
        options = ApplycalsInputs(**{"gainmap": self.inputs.gainmap, **how})
        calls, gone, _ = apply_library(ctx.with_calibration(library), self.ms, options)
        self.applied += calls
        self.missing += list(gone)
        last = state.versions.get("before_statwt") or self._first(names, "statwt_1", delivery.FINAL)
        versions.restore(ctx, self.ms, last)
        self.versions = {p: v for p, v in delivery.CANONICAL.items() if v in names}
        typed = self.ms.with_data_type(DataType.REGCAL_CONTLINE_ALL, "CORRECTED_DATA", overwrite=True)
        self.effects.append(ReplaceMeasurementSet(typed))
        self.effects += [RegisterCalibration(a) for a in applications]
        self.effects.append(MarkApplied(self.ms.name))
        return Restored(
            vis=self.ms.name, products=str(self.found.flags.parent), smoothed=smoothed,
            tables=[c.gaintable for a in applications for c in a.calfroms], versions=names, missing=self.missing,
            casa=state.casa,
        )  # fmt: skip

    def _smooth(self) -> list[int]:
        """Smooth what was smoothed; for deliveries that do not say, what the rule says with every window continuum."""
        before = recorded(self.ctx, self.ms)
        if before is not None:
            return sorted(before)
        wanted = self.found.state.smoothed
        if wanted is None:
            windows = [Window(id=int(w.id), line=False, online_binning=w.online_binning) for w in self.ms.science_spws]
            wanted = tuple(c.spw for c in decide(windows) if c.smooth)
            self.missing.append("the record of smoothed windows")
        if wanted:
            self.ms = moved(self.ctx, self.ms, smooth(self.ctx, self.ms, list(wanted)))
        return list(wanted)

    def _check_rows(self) -> None:
        if not self.found.state.rows:
            self.missing.append("the record of rows")
        elif delivery.row_order(self.ctx, self.ms) != self.found.state.rows:
            raise PlError(
                f"{self.ms.name} has not the rows of the data that were calibrated, or has them in another order, so"
                f" their flags do not fit. Use the same raw data and CASA {self.found.state.casa}."
            )

    def _unpack_flags(self) -> tuple[str, ...]:
        folder = self.ctx.stage_dir / f"flags-{self.ms.stem}"
        shutil.rmtree(folder, ignore_errors=True)
        target = Path(f"{self.ms.path}.flagversions")
        for top in delivery.unpack(self.found.flags, folder):
            for version in sorted((folder / top).glob("flags.*")):
                place = target / version.name
                shutil.rmtree(place, ignore_errors=True)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(version, place)
                self._list(target, version.name.removeprefix("flags."))
        shutil.rmtree(folder, ignore_errors=True)
        names = versions.names(self.ctx, self.ms)
        if not names:
            raise PlError(f"{self.found.flags.name} holds no flag version of {self.ms.name}.")
        return names

    @staticmethod
    def _list(folder: Path, name: str) -> None:
        listing = folder / "FLAG_VERSION_LIST"
        lines = listing.read_text(encoding="utf-8").splitlines() if listing.is_file() else []
        if not any(line.split(" : ")[0] == name for line in lines):
            listing.write_text("\n".join([*lines, f"{name} : restored"]) + "\n", encoding="utf-8")

    def _first(self, names: tuple[str, ...], *wanted: str) -> str:
        for name in wanted:
            if name in names:
                if "the flags from before applycal" not in self.missing:
                    self.missing.append("the flags from before applycal")
                return name
        raise PlError(f"The delivered flags of {self.ms.name} have none of the versions {', '.join(wanted)}.")

    def _tables(self) -> tuple[CalApplication, ...]:
        """Unpack the caltables this measurement set needs; registrations with their names in the work folder."""
        text = self.found.applied.read_text(encoding="utf-8")
        needed = {
            Path(c.gaintable).name: c
            for a in import_text(text, [self.ms], lambda _: "unknown", self.found.applied.name)
            for c in a.calfroms
        }
        for archive in self.found.tables:
            for name in delivery.unpack(archive, self.ctx.stage_dir / "tables", needed):
                target = Path(name)
                shutil.rmtree(target, ignore_errors=True)
                shutil.move(self.ctx.stage_dir / "tables" / name, target)
        shutil.rmtree(self.ctx.stage_dir / "tables", ignore_errors=True)
        absent = [n for n in needed if not Path(n).is_dir()]
        if absent:
            raise PlError(f"The products hold no {absent[0]}, which calibrates {self.ms.name}.")
        found = import_text(text, [self.ms], self._caltype, self.found.applied.name)
        return tuple(
            attrs.evolve(
                a, calfroms=tuple(attrs.evolve(c, gaintable=Path(c.gaintable).name) for c in a.calfroms),
                origin=self.ctx.stage_name,
            )
            for a in found if a.to.vis == self.ms.name
        )  # fmt: skip

    def _caltype(self, table: str) -> str:
        with self.ctx.casa.table(Path(table).name) as opened:
            words: Any = opened.keywordnames()
            kind = str(opened.getkeyword("VisCal")).upper() if "VisCal" in words else ""
        return VISCAL_TYPES.get(kind) or "unknown"
