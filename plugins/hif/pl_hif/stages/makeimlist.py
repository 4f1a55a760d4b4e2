"""List the images to make, with their geometry."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pl_hif import grids
from pl_hif.heuristics import imaging
from pl_hif.targets import (
    CLEAN_LIST,
    CONTINUUM,
    SHORT_INTENTS,
    SIZE_MITIGATION,
    CleanTarget,
    ContinuumRecord,
    channel_text,
    continuum_key,
)
from pl_kernel import Inputs, PlError, Result, Stage, param
from pl_kernel.effects import SetValue
from pl_kernel.ms.datatypes import DataType, imaging_order
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.ms.selection import clean_name
from pl_kernel.ms.virtual import VirtualSpw, VirtualSpws
from pl_kernel.serialize import from_json, to_json
from pl_kernel.stage import ItemFailure
from pl_kernel.stage_context import StageContext

LINE_CHANNELS = 0.5
"""Channels finer than this part of the coarsest in an image belong to a window set up for a line."""


class MakeimlistInputs(Inputs):
    intent: str = param("TARGET", doc="Intents of the fields to image.")
    field: str = param("", doc="Names of fields, separated by commas; default all with the intent.")
    spw: str = param("", doc="Virtual ids of the windows; default all science windows.")
    specmode: str | None = param(
        None, choices=("mfs", "cont", "cube"),
        doc="One image per window (mfs), of all windows of a band together (cont), or per channel (cube); default cube "
        "for targets.",
    )  # fmt: skip
    hm_cell: str = param("", doc="Pixel size: '5ppb' (pixels per beam) or an angle; default 5 pixels per beam.")
    hm_imsize: str = param("", doc="Size in pixels, or the level of the primary beam to reach ('0.3pb').")
    robust: float | None = param(
        None, doc="Briggs' robustness; default by telescope and kind of image.", minimum=-2, maximum=2
    )
    calmaxpix: int = param(300, doc="Largest image of a calibrator, in pixels.", minimum=32)
    outframe: str = param("LSRK", doc="Frequency frame of cubes.")
    clearlist: bool = param(True, doc="Begin a new list instead of adding to the pending one.")


class MakeimlistResult(Result):
    """The list; ``expected`` counts the images that data and parameters ask for."""

    targets: tuple[CleanTarget, ...]
    expected: int
    intent: str
    specmode: str
    datatype: str


class Makeimlist(Stage[MakeimlistInputs, MakeimlistResult]):
    """List the images to make, with their geometry.

    For each field and window (or field and receiver band, for ``cont``): data of the best type there is; pixels of a
    fifth of the synthesized beam, estimated from the baselines' weighted distribution; the size of the field of view;
    weighting; for cubes the common channels of all data; for continuum images of targets the channels that
    hif_findcont found.

    Rules are slots (``imaging.robust``, ``imaging.view_level``), so that an observatory's plugin can have its own.
    Values of the reference pipeline (2026), with one wart set right: the rest frequency of a cube is that of the line
    when the data name it, and the centre of the cube only where they do not.
    """

    name = "hif_makeimlist"
    page_reads = frozenset()
    topic = "imaging"

    def run(self, ctx: StageContext, inputs: MakeimlistInputs) -> MakeimlistResult:
        specmode = inputs.specmode or ("cube" if inputs.intent == "TARGET" else "mfs")
        datatype, sets = grids.best_type(ctx.measurement_sets(inputs.vis), imaging_order(inputs.intent, specmode))
        if datatype is None:
            raise PlError("There are no visibilities to image.")
        if datatype is DataType.RAW:
            ctx.log.warning("Only raw data can be imaged: nothing is calibrated yet.")
        jobs = _jobs(ctx, sets, inputs, specmode)
        targets: list[CleanTarget] = []
        failures: list[ItemFailure] = []
        for name, intent, spws in jobs:
            try:
                targets.append(self._target(ctx, sets, datatype, inputs, name, intent, spws, specmode))
            except PlError as error:
                failures.append(ItemFailure(f"{name}, spw {','.join(map(str, spws))}", error.sentence))
                ctx.log.warning(f"{name}: {error.sentence}")
        pending = [] if inputs.clearlist else list(ctx.value(CLEAN_LIST, []))
        return MakeimlistResult(
            targets=tuple(targets), expected=len(jobs), intent=inputs.intent, specmode=specmode, datatype=datatype.name,
            failures=tuple(failures), effects=(SetValue(CLEAN_LIST, [*pending, *(to_json(t) for t in targets)]),),
        )  # fmt: skip

    def _target(
        self, ctx: StageContext, sets: Sequence[MeasurementSet], datatype: DataType, inputs: MakeimlistInputs,
        name: str,
        intent: str, spws: tuple[int, ...], specmode: str,
    ) -> CleanTarget:  # fmt: skip
        virtual = VirtualSpws.of(ctx.context.measurement_sets)
        windows = [
            (ms, ms.spw(int(r)))
            for ms in sets
            for s in spws
            if (r := virtual.to_real(VirtualSpw(s), ms.name)) is not None
        ]
        lowest, highest = min(w.min_hz for _, w in windows), max(w.max_hz for _, w in windows)
        reasons: dict[str, str] = {}
        robust = inputs.robust
        if robust is None:
            choice = ctx.heuristic("imaging.robust", telescope=sets[0].telescope)(specmode)
            robust, reasons["robust"] = float(choice.value), choice.reason
        samples = grids.uv_samples(ctx, sets, name, spws)
        beam = grids.beam_arcsec(samples, robust)
        smaller = (ctx.value(SIZE_MITIGATION) or {}).get("targets", {}).get(f"{name}|{','.join(map(str, spws))}", {})
        cell, reasons["cell"] = _cell(inputs.hm_cell or smaller.get("cell") or "", beam)
        where = grids.pointing(sets, name)
        size, reasons["imsize"] = self._size(ctx, sets, inputs, specmode, lowest, cell, intent, where.spread_arcsec)
        if smaller.get("imsize") and not inputs.hm_imsize and max(smaller["imsize"]) < size:
            size, reasons["imsize"] = int(max(smaller["imsize"])), "limit of hif_checkproductsize"
        fraction = imaging.fractional_bandwidth([lowest], [highest])
        deconvolver, nterms, reasons["deconvolver"] = imaging.deconvolver(specmode, fraction)
        records = _records(ctx, name, spws)
        channels = {
            (vis, r.spw): channel_text(found)
            for r in records
            for vis, found in r.channels.items()
            if specmode != "cube" and intent == "TARGET" and not r.all_continuum and found
        }
        missing = [s for s in spws if s not in {r.spw for r in records}]
        if specmode != "cube" and intent == "TARGET" and missing:
            text = f"no continuum channels are known for spw {', '.join(map(str, missing))}; all are used"
            reasons["channels"] = text
            widest = max(w.channel_width_hz for _, w in windows)
            # In a recipe that looks for no lines this is as it should be, unless a window was set up for one.
            if records or any(w.channel_width_hz < LINE_CHANNELS * widest for _, w in windows):
                ctx.log.warning(f"{name}: {text}.")
        grid = None
        rest = None
        if specmode == "cube":
            covered = [
                grids.coverage(ctx, ms, next(f for f in ms.fields if f.name == name), w, inputs.outframe)
                for ms, w in windows
            ]
            grid = grids.cube_grid(covered, inputs.outframe)
            rest, reasons["restfreq"] = _rest_frequency(sets, name, grid)
        stem = ctx.context.recipe_name or ctx.context.run_name
        listed = "_".join(map(str, spws))
        return CleanTarget(
            field=name, intent=intent, spws=spws, specmode=specmode, datatype=datatype.name,
            imagename=f"{clean_name(stem)}.sSTAGENUMBER.{clean_name(name)}_{SHORT_INTENTS.get(intent, intent.lower())}"
            f".spw{listed}.{specmode}.I",
            selections=grids.selections(ctx, sets, datatype, name, spws, channels), cell_arcsec=cell,
            imsize=(size, size),
            deconvolver=deconvolver, nterms=nterms, robust=robust, weighting="briggs",
            gridder=where.gridder, phasecenter=where.phasecenter,
            perchanweightdensity=specmode == "cube", pblimit=0.2 if specmode == "cube" or intent != "TARGET" else -0.1,
            beam_estimate_arcsec=beam, start_hz=grid.start_hz if grid else None,
            width_hz=grid.width_hz if grid else None,
            nchan=grid.nchan if grid else -1, outframe=inputs.outframe if grid else "",
            interpolation=grid.interpolation if grid else "", restfreq_hz=rest, band=windows[0][1].band,
            baseline_75_m=float(sets[0].array.percentile_m(75.0)),
            antennas=max(len(ms.antennas) for ms in sets),
            noise_factor=grids.noise_factor(samples, robust, size * cell, specmode == "cube"),
            continuum=tuple(r for record in records for r in record.ranges_hz),
            regions=tuple(r.casa for record in records for r in record.regions) if specmode == "cube" else (),
            reasons=reasons,
        )  # fmt: skip

    def _size(
        self, ctx: StageContext, sets: Sequence[MeasurementSet], inputs: MakeimlistInputs, specmode: str, lowest: float,
        cell: float, intent: str, spread: float,
    ) -> tuple[int, str]:  # fmt: skip
        text = inputs.hm_imsize.strip().lower()
        if re.fullmatch(r"\d+", text):
            return imaging.good_size(int(text)), "given by the user, rounded up to a size the Fourier transform likes"
        level, reason = None, ""
        if text:
            match = re.fullmatch(r"(0?\.\d+)pb", text)
            if not match:
                raise PlError(f"hm_imsize is a number of pixels or a level such as '0.3pb'; got '{inputs.hm_imsize}'.")
            level, reason = float(match[1]), "level of the primary beam given by the user"
        else:
            choice = ctx.heuristic("imaging.view_level", telescope=sets[0].telescope)(specmode, lowest)
            level, reason = choice.value, choice.reason
        size = imaging.good_size(imaging.field_of_view_arcsec(lowest, grids.dish_m(sets), level, spread) / cell)
        if intent != "TARGET" and size > inputs.calmaxpix:
            return imaging.good_size(inputs.calmaxpix), "calibrators need their surroundings only"
        return size, reason


def _jobs(
    ctx: StageContext, sets: Sequence[MeasurementSet], inputs: MakeimlistInputs, specmode: str
) -> list[tuple[str, str, tuple[int, ...]]]:
    """Field, intent and windows of every image; a field with several of the intents is imaged once."""
    wanted = {n.strip() for n in inputs.field.split(",") if n.strip()}
    chosen = {int(s) for s in re.findall(r"\d+", inputs.spw)}
    jobs, seen = [], set()
    for intent in (i.strip() for i in inputs.intent.split(",")):
        for name in dict.fromkeys(f.name for ms in sets for f in ms.fields_with_intent(intent)):
            if name in seen or (wanted and name not in wanted):
                continue
            seen.add(name)
            bands = grids.bands_of(ctx, sets, name)
            spws = {int(s): band for s, band in bands.items() if not chosen or int(s) in chosen}
            if specmode == "cont":
                # One image per receiver band: beams and primary beams of different bands have nothing in common.
                jobs += [
                    (name, intent, tuple(s for s, b in spws.items() if b == band))
                    for band in dict.fromkeys(spws.values())
                ]
            else:
                jobs += [(name, intent, (s,)) for s in spws]
    if wanted - seen:
        raise PlError(f"There is no field called {', '.join(sorted(wanted - seen))} with the intent {inputs.intent}.")
    return jobs


def _cell(text: str, beam: float) -> tuple[float, str]:
    text = text.strip().lower()
    match = re.fullmatch(r"(\d*\.?\d+)ppb", text)
    if not text or match:
        pixels = float(match[1]) if match else 5.0
        cell = imaging.cell_arcsec(beam, pixels)
        return cell, f"{pixels:g} pixels across the beam's minor axis, estimated as {beam:.1f} arcsec"
    from astropy import units  # only for an angle given by hand

    try:
        return float(units.Quantity(text).to_value(units.arcsec)), "given by the user"
    except (TypeError, ValueError) as error:
        raise PlError(f"hm_cell is '5ppb' or an angle such as '2arcsec'; got '{text}'.") from error


def _records(ctx: StageContext, name: str, spws: Sequence[int]) -> list[ContinuumRecord]:
    known = ctx.value(CONTINUUM, {})
    return [from_json(known[k], ContinuumRecord) for s in spws if (k := continuum_key(name, s)) in known]


def _rest_frequency(sets: Sequence[MeasurementSet], name: str, grid: grids.CubeGrid) -> tuple[float, str]:
    for ms in sets:
        for field in ms.fields:
            source = next((s for s in ms.sources if s.id == field.source_id), None)
            values = [v for v in (source.rest_frequencies_hz if source else {}).values() if field.name == name]
            if values and values[0] and values[0][0] > 0:
                return float(values[0][0]), "rest frequency of the source, as the data name it"
    return float(grid.centres_hz()[grid.nchan // 2]), "centre of the cube: the data name no line"
