"""Import VLA data and learn what each scan is for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs

from pl_hif.heuristics.intents import FieldFacts, IntentDecision, ScanFacts, StandardFacts, infer
from pl_hifv import fluxfile
from pl_hifv.calibrators import UVRANGES
from pl_hifv.fluxfile import CatalogueFlux
from pl_hifv.heuristics.bands import is_line_window
from pl_hifv.lines import KEY
from pl_hifv.telescopes import VLA, strength
from pl_kernel import InputError, PlError, Result, Stage, param
from pl_kernel.common.importing import Imported, ImportInputs, import_data, typed
from pl_kernel.effects import AddMeasurementSet, SetValue
from pl_kernel.ms.datatypes import DataType
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.ms.selection import compact_ids, expand_ids
from pl_kernel.stage_context import StageContext


class ImportdataInputs(ImportInputs):
    infer_intents: bool = param(
        True, doc="Infer what fields were observed for, when neither the data nor the user say it."
    )
    ocorr_mode: str = param(
        "co", choices=("co", "ca", "ao"), doc="Correlations to take from a science data model: cross, both, auto."
    )
    asis: str = param("Receiver CalAtmosphere", doc="Tables of a science data model to copy as they are.", hidden=True)
    bdfflags: bool = param(False, doc="Set the flags that the correlator wrote into a science data model's binaries.")
    save_flagonline: bool = param(True, doc="Write the online flags of a science data model to NAME.flagonline.txt.")
    fluxfile: Path | None = param(
        None, doc="File of flux densities and uv ranges of calibrators; default flux.csv beside the data."
    )
    specline_spws: str = param(
        "auto", doc="Windows with spectral lines: auto (by band, width and channels), none, all, or ids such as 2,4~6."
    )
    minparang: float = param(
        0.0, unit="deg", hidden=True, doc="Accepted for old scripts: the ranges of parallactic angle are on the page."
    )
    needs: tuple[str, ...] = param(
        ("PHASE", "AMPLITUDE"), doc="Intents without which what follows makes no sense; each missing one costs score."
    )
    calibrated: bool = param(
        False, doc="What follows works on calibrated data: CORRECTED_DATA is wanted, earlier processing no fault."
    )


@attrs.frozen(kw_only=True)
class SpwKind:
    """Whether a window was set up for lines or for continuum."""

    vis: str
    spw: int
    band: str
    line: bool
    channels: int
    channel_khz: float
    centre_hz: float
    bandwidth_hz: float


@attrs.frozen(kw_only=True)
class IntentSource:
    """Where the intents of a measurement set come from: data, user, inferred, or nowhere."""

    vis: str
    source: str
    decisions: tuple[IntentDecision, ...] = attrs.field(default=(), converter=tuple)
    doubts: tuple[str, ...] = attrs.field(default=(), converter=tuple)


class ImportdataResult(Result):
    """The data sets that are now part of the run, and what is known of them."""

    imported: tuple[Imported, ...]
    intents: tuple[IntentSource, ...]
    spws: tuple[SpwKind, ...]
    missing_scans: dict[str, tuple[int, ...]]
    has_history: dict[str, bool] = attrs.field(factory=dict)
    fluxes: tuple[CatalogueFlux, ...] = ()
    unsupported: dict[str, tuple[str, ...]] = attrs.field(factory=dict)
    needs: tuple[str, ...] = ("PHASE", "AMPLITUDE")
    calibrated: dict[str, bool] | None = None
    """Whether each measurement set holds calibrated data; None where nothing calibrated is wanted."""


class Importdata(Stage[ImportdataInputs, ImportdataResult]):
    """Import VLA data and learn what each scan is for.

    Measurement sets get a working copy, UVFITS and science data models are converted; the online flags of a science
    data model are written to NAME.flagonline.txt, where hifv_flagdata finds them. Intents come from the data; failing
    that from the user's rules; failing that they are inferred: a field at the position of a standard calibrator sets
    the flux scale, the strongest of them the bandpass, fields that alternate with another one calibrate its phases, the
    rest are targets. Every decision is listed with its reason. Each window is classified as line or continuum by its
    band, width and channels.

    Flux densities and uv ranges of calibrators are read from flux.csv (columns ms, field, spw, I, Q, U, V, spix, uvmin,
    uvmax, comment; uv ranges in wavelengths) or from the Source.xml of a science data model: solutions on a field use
    its range. Data of the 4 and P bands are imported, and the warning names their windows.

    Rules given by the user win over what the data say: observers make mistakes. The reference pipeline needs intents
    in the data and cannot begin without; its line and continuum rules (2026) are used unchanged.
    """

    name = "hifv_importdata"
    page_reads = frozenset()
    topic = "dataset"
    takes_data = True

    def run(self, ctx: StageContext, inputs: ImportdataInputs) -> ImportdataResult:
        imported, sources, kinds = [], [], []
        lines: dict[str, list[int]] = {}
        missing: dict[str, tuple[int, ...]] = {}
        fluxes: list[CatalogueFlux] = []
        options = {
            "ocorr_mode": inputs.ocorr_mode, "asis": inputs.asis, "bdfflags": inputs.bdfflags,
            "flag_file": inputs.save_flagonline,
        }  # fmt: skip
        for item in import_data(ctx, inputs, {"asdm": options}):
            if ctx.telescope(item.ms).name != VLA.name:
                raise InputError(
                    f"{item.ms.name} was observed with {item.ms.telescope or 'an unnamed telescope'}, and these stages "
                    "calibrate data of the VLA only; 'pl recipes' lists the recipes for others."
                )
            ms, source = self._with_intents(ctx, item, inputs.infer_intents)
            ms = typed(ms, inputs.datacolumns)  # once more: what a type is called depends on the intents
            imported.append(attrs.evolve(item, ms=ms))
            sources.append(source)
            lines[ms.name] = line_windows(ms, inputs.specline_spws)
            kinds += _kinds(ms, set(lines[ms.name]))
            fluxes += _catalogue(ctx, ms, item.source, inputs.fluxfile)
            present = {s.id for s in ms.scans}
            missing[ms.name] = tuple(i for i in range(1, max(present, default=0) + 1) if i not in present)
            if missing[ms.name]:
                ctx.log.warning(f"{ms.name} lacks the scans {compact_ids(missing[ms.name])}.")
        unsupported = {i.ms.name: _unsupported(i.ms) for i in imported}
        for name, sentences in unsupported.items():
            for sentence in sentences:
                ctx.log.warning(f"{name}: {sentence}")
        ranges = {i.ms.name: fluxfile.uv_ranges([f for f in fluxes if f.vis == i.ms.name]) for i in imported}
        said = {i.ms.name: fluxfile.stated(f for f in fluxes if f.vis == i.ms.name) for i in imported}
        return ImportdataResult(
            fluxes=tuple(fluxes), unsupported={k: v for k, v in unsupported.items() if v},
            imported=tuple(imported), intents=tuple(sources), spws=tuple(kinds), missing_scans=missing,
            needs=inputs.needs, calibrated={i.ms.name: _is_calibrated(i.ms) for i in imported}
            if inputs.calibrated else None,
            has_history={
                i.ms.name: any("hanning" in h.lower() or "pipeline" in h.lower() for h in i.ms.history_origins)
                for i in imported
            },
            effects=(
                *(AddMeasurementSet(i.ms) for i in imported), SetValue(KEY, lines), SetValue(UVRANGES, ranges),
                SetValue(fluxfile.FLUXES, said),
            ),
        )  # fmt: skip

    def _with_intents(self, ctx: StageContext, item: Imported, wanted: bool) -> tuple[MeasurementSet, IntentSource]:
        ms = item.ms
        if item.rules:
            return ms, IntentSource(vis=ms.name, source="user", decisions=_stated(ms, "The user's rules say so."))
        if ms.intents:
            words = "the scans" if ms.intents_from == "state" else "the source types"
            return ms, IntentSource(vis=ms.name, source="data", decisions=_stated(ms, f"The data say so, in {words}."))
        if not wanted:
            ctx.log.warning(f"{ms.name} carries no intents, and inferring them is switched off.")
            return ms, IntentSource(vis=ms.name, source="none")
        decisions, doubts = infer(*_facts(ctx, ms))
        for doubt in doubts:
            ctx.log.warning(f"{ms.name}: {doubt}")
        for decision in decisions:
            ctx.log.info(f"{ms.name}: {decision.field_name} is {', '.join(decision.intents)}. {decision.reason}")
        ms = ms.with_intents({d.field: d.intents for d in decisions})
        return ms, IntentSource(vis=ms.name, source="inferred", decisions=decisions, doubts=doubts)


def _is_calibrated(ms: MeasurementSet) -> bool:
    return any(t.data_type is not DataType.RAW for t in ms.data_types)


UNSUPPORTED_BANDS = ("4", "P")
"""Bands whose interference, ionosphere and linear feeds nothing here is made for."""


def _unsupported(ms: MeasurementSet) -> tuple[str, ...]:
    """What about a measurement set the calibration is not made for, in sentences."""
    found = []
    for band in UNSUPPORTED_BANDS:
        spws = [str(s.id) for s in ms.science_spws if s.band == band]
        if spws:
            found.append(
                f"Windows {', '.join(spws)} are of {band} band, which this calibration is not commissioned for:"
                " its results there are no more than a first look."
            )
    if not ms.science_spws:
        found.append("No window is fit for calibration: each has 1 or 4 channels, or was observed for pointing only.")
    return tuple(found)


def _catalogue(ctx: StageContext, ms: MeasurementSet, source: str, given: Path | None) -> Sequence[CatalogueFlux]:
    """What a file or the science data model says of the calibrators' flux densities."""
    found = fluxfile.catalogue(ms, Path(source), given, ctx.work)
    for one in found:
        if one.uvrange:
            ctx.log.info(f"{ms.name}: solutions on {one.field_name} use the baselines {one.uvrange} ({one.origin}).")
    return found


def _facts(ctx: StageContext, ms: MeasurementSet) -> tuple[list[FieldFacts], list[ScanFacts], list[StandardFacts]]:
    """What the inference looks at."""
    frequency = ms.science_spws[0].centre_hz if ms.science_spws else 1.4e9
    fields = [FieldFacts(id=f.id, name=f.name, ra_rad=f.ra_rad, dec_rad=f.dec_rad) for f in ms.fields]
    scans = [
        ScanFacts(
            id=s.id, field=s.field_ids[0], start_s=(s.start - ms.start).total_seconds(),
            end_s=(s.end - ms.start).total_seconds(),
        )
        for s in ms.scans
        if s.field_ids
    ]  # fmt: skip
    standards = [
        StandardFacts(name=c.name, ra_rad=c.ra_rad, dec_rad=c.dec_rad, strength=strength(c.name, frequency))
        for c in ctx.telescope(ms).calibrators
        if c.ra_rad is not None and c.dec_rad is not None
    ]
    return fields, scans, standards


def _stated(ms: MeasurementSet, reason: str) -> list[IntentDecision]:
    return [
        IntentDecision(field=f.id, field_name=f.name, intents=tuple(sorted(f.intents)), reason=reason)
        for f in ms.fields
        if f.intents
    ]


def line_windows(ms: MeasurementSet, rule: str) -> list[int]:
    """Real ids of the science windows with lines, by ``specline_spws``.

    Raises InputError for a rule that is neither a word nor a list of ids.
    """
    if rule == "auto":
        return [int(s.id) for s in ms.science_spws if is_line_window(s.band, s.min_hz, s.bandwidth_hz, s.n_channels)]
    if rule in ("none", "all"):
        return [int(s.id) for s in ms.science_spws] if rule == "all" else []
    try:
        wanted = set(expand_ids(rule))
    except (PlError, ValueError):
        raise InputError(f"specline_spws is auto, none, all or a list of ids such as 2,4~6; not '{rule}'.") from None
    return [int(s.id) for s in ms.science_spws if int(s.id) in wanted]


def _kinds(ms: MeasurementSet, lines: set[int]) -> list[SpwKind]:
    return [
        SpwKind(
            vis=ms.name, spw=int(s.id), band=s.band, channels=s.n_channels, channel_khz=s.channel_width_hz / 1e3,
            line=int(s.id) in lines, centre_hz=s.centre_hz,
            bandwidth_hz=s.bandwidth_hz,
        )
        for s in ms.science_spws
    ]  # fmt: skip
