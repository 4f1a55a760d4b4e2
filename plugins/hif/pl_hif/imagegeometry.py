"""Geometry of one image: data, weighting, pixels, size, spectral axis, name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from pl_hif import grids, linefiles, linefree, spacings
from pl_hif.heuristics import cubeaxis, imaging, taper, uvrange
from pl_hif.targets import SHORT_INTENTS, CleanTarget, ContinuumRecord
from pl_kernel import InputError, PlError
from pl_kernel.ms.datatypes import DataType
from pl_kernel.ms.model import MeasurementSet, SpectralWindow
from pl_kernel.ms.selection import clean_name
from pl_kernel.ms.virtual import VirtualSpw, VirtualSpws
from pl_kernel.stage_context import StageContext

if TYPE_CHECKING:
    from pl_hif.stages.makeimlist import MakeimlistInputs

ALL_WINDOWS = -1
"""Window id in SOURCE of what holds for all of them."""
BLUESHIFT = 0.99
"""A rest frequency below this part of a window's lowest frequency is that of another set-up."""
LINE_CHANNELS = 0.5
"""Channels finer than this part of the coarsest in an image belong to a window set up for a line."""


@attrs.frozen(kw_only=True)
class Job:
    """One image to list: a field with an intent, windows (virtual ids), the data, and what its name begins with."""

    field: str
    intent: str
    spws: tuple[int, ...]
    sets: tuple[MeasurementSet, ...]
    datatype: DataType
    prefix: str = ""
    ending: str = ""

    @property
    def name(self) -> str:
        return f"{self.field}, spw {','.join(map(str, self.spws))}"


def target(
    ctx: StageContext, job: Job, inputs: MakeimlistInputs, specmode: str, smaller: Mapping[str, Any],
    known: Mapping[str, ContinuumRecord],
) -> CleanTarget:  # fmt: skip
    """Geometry of one image.

    ``smaller``: cell, imsize and nbins that hif_checkproductsize wants; ``known``: continuum by "spw|field".

    Raises:
        PlError: everything is flagged, or what is wanted is impossible for these data.
    """
    builder = _Builder(ctx, job, inputs, specmode, smaller)
    return builder.target(
        linefiles.records(ctx, inputs.contfile, inputs.linesfile, job.field, job.spws, builder.windows, known)
    )


class _Builder:
    """What the parts of a target share."""

    def __init__(
        self, ctx: StageContext, job: Job, inputs: MakeimlistInputs, specmode: str, smaller: Mapping[str, Any]
    ) -> None:
        self.ctx, self.job, self.inputs, self.specmode, self.smaller = ctx, job, inputs, specmode, smaller
        self.reasons: dict[str, str] = {}
        self.missing: tuple[int, ...] = ()
        self.windows = windows(ctx, job)
        self.cube = specmode == "cube"
        self.science = job.intent == "TARGET"
        if not self.windows:
            raise PlError(f"No data of {job.field} are in spw {','.join(map(str, job.spws))}.")

    def target(self, records: Sequence[ContinuumRecord]) -> CleanTarget:
        ctx, job, inputs, specmode = self.ctx, self.job, self.inputs, self.specmode
        job, records = self._continuum(job, records)
        sets, telescope = job.sets, job.sets[0].telescope
        lowest, highest = min(w.min_hz for _, w in self.windows), max(w.max_hz for _, w in self.windows)
        robust = self._robust(telescope)
        tapered = taper.parse_uvtaper(inputs.uvtaper)
        samples = grids.uv_samples(ctx, sets, job.field, job.spws)
        channels = {} if self.cube or not self.science else linefree.channels(ctx, sets, job.field, records)
        selections = grids.selections(
            ctx, sets, job.datatype, job.field, job.spws, channels, inputs.datacolumn
        )
        limits = self._uvrange(telescope, selections, samples)
        samples = grids.selected(samples, uvrange.parse_uvrange(limits))
        beam = grids.beam_arcsec(samples, robust, tapered)
        cell, self.reasons["cell"] = cell_arcsec(inputs.hm_cell or self.smaller.get("cell") or "", beam)
        where = grids.pointing(sets, job.field)
        size = self._size(lowest, cell, where.spread_arcsec)
        deconvolver, nterms, self.reasons["deconvolver"] = ctx.heuristic("imaging.deconvolver", telescope=telescope)(
            specmode, imaging.fractional_bandwidth([lowest], [highest])
        )
        grid, rest = self._axis() if self.cube else (None, None)
        length = float(sets[0].array.percentile_m(75.0))
        planes = self._planes(telescope, where, length)
        return CleanTarget(
            field=job.field, intent=job.intent, spws=job.spws, specmode=specmode, datatype=job.datatype.name,
            imagename=self._name(), selections=selections, cell_arcsec=cell, imsize=size,
            deconvolver=deconvolver, nterms=nterms, robust=robust, weighting="briggs",
            stokes=self._stokes(), uvrange=limits, uvtaper=inputs.uvtaper, wprojplanes=planes,
            gridder="wproject" if planes else where.gridder, phasecenter=inputs.phasecenter or where.phasecenter,
            perchanweightdensity=self.cube, pblimit=0.2 if self.cube or not self.science else -0.1,
            beam_estimate_arcsec=beam, start_hz=grid.start_hz if grid else None,
            width_hz=grid.width_hz if grid else None, nchan=grid.nchan if grid else -1,
            outframe=inputs.outframe if grid else "", interpolation=grid.interpolation if grid else "",
            restfreq_hz=rest, band=self.windows[0][1].band, baseline_75_m=length,
            baseline_5_m=float(sets[0].array.percentile_m(5.0)),
            antennas=max(len(ms.antennas) for ms in sets),
            noise_factor=grids.noise_factor(samples, robust, max(size) * cell, self.cube, tapered),
            continuum=tuple(r for record in records for r in record.ranges_hz),
            without_continuum=self.missing,
            regions=tuple(r.casa for record in records for r in record.regions) if self.cube else (),
            reasons=self.reasons,
        )  # fmt: skip

    # ---- continuum ----

    def _continuum(self, job: Job, records: Sequence[ContinuumRecord]) -> tuple[Job, Sequence[ContinuumRecord]]:
        """Leave out windows whose continuum is not known where that of others is; say what is used else."""
        if self.cube or not self.science:
            return job, records
        usable = {r.spw for r in records if r.ranges_hz or r.all_continuum}
        exempt = linefree.not_searched(self.ctx, job.datatype, job.field, job.spws)
        missing = [s for s in job.spws if s not in usable | exempt]
        self.missing = tuple(missing)
        if not missing:
            return job, records
        listed = ", ".join(map(str, missing))
        if self.specmode == "cont" and len(missing) < len(job.spws):
            text = f"no continuum channels are known for spw {listed}: left out"
            self.reasons["spw"] = text
            self.ctx.log.warning(f"{job.field}: {text}.")
            job = attrs.evolve(job, spws=tuple(s for s in job.spws if s not in missing))
            self.job, self.windows = job, windows(self.ctx, job)
            return job, [r for r in records if r.spw in usable]
        text = f"no continuum channels are known for spw {listed}; all are used"
        self.reasons["channels"] = text
        widest = max(w.channel_width_hz for _, w in self.windows)
        # In a recipe that looks for no lines this is as it should be, unless a window was set up for one.
        if records or any(w.channel_width_hz < LINE_CHANNELS * widest for _, w in self.windows):
            self.ctx.log.warning(f"{job.field}: {text}.")
        return job, records

    # ---- weighting and data ----

    def _robust(self, telescope: str) -> float:
        if self.inputs.robust is not None:
            return self.inputs.robust
        choice = self.ctx.heuristic("imaging.robust", telescope=telescope)(self.specmode)
        self.reasons["robust"] = choice.reason
        return float(choice.value)

    def _uvrange(self, telescope: str, selections: Any, samples: Any) -> str:
        """The range given, or what the telescope's rule says."""
        if self.inputs.uvrange:
            return self.inputs.uvrange
        if not self.ctx.heuristic("imaging.limits_short_spacings", telescope=telescope)(self.specmode):
            return ""
        choice = spacings.short_spacings(self.ctx, selections, samples)
        self.reasons["uvrange"] = choice.reason
        if choice.value:
            self.ctx.log.warning(f"{self.job.field}: {choice.reason}.")
        return str(choice.value)

    def _planes(self, telescope: str, where: grids.Pointing, length: float) -> int:
        if not self.inputs.allow_wproject or where.mosaic:
            return 0
        rule = self.ctx.heuristic("imaging.wproject_planes", telescope=telescope)
        choice = rule(self.job.intent, self.windows[0][1].band, length)
        self.reasons["gridder"] = choice.reason
        return int(choice.value)

    def _stokes(self) -> str:
        wanted = self.inputs.stokes or "I"
        if wanted == "IQUV":
            for ms, window in self.windows:
                if len(ms.polarization_of(int(window.id)).correlations) < 4:
                    raise InputError(f"{ms.name}, spw {window.id}, has no cross hands: IQUV cannot be imaged.")
        return wanted

    # ---- geometry ----

    def _size(self, lowest: float, cell: float, spread: float) -> tuple[int, int]:
        ctx, inputs, smaller = self.ctx, self.inputs, self.smaller
        wanted = inputs.hm_imsize.strip().lower()
        if not wanted and smaller.get("level"):
            wanted = str(smaller["level"])
        pixels = re.fullmatch(r"\[?\s*(\d+)\s*(?:,\s*(\d+)\s*)?\]?", wanted)
        if pixels:
            self.reasons["imsize"] = "given by the user, rounded up to a size the Fourier transform likes"
            return imaging.good_size(int(pixels[1])), imaging.good_size(int(pixels[2] or pixels[1]))
        if wanted:
            level, reason = float(wanted.removesuffix("pb")), f"out to {wanted[:-2]} of the primary beam"
            reason += ", given by the user" if inputs.hm_imsize else ", limit of hif_checkproductsize"
        else:
            rule = ctx.heuristic("imaging.view_level", telescope=self.job.sets[0].telescope)
            choice = rule(self.specmode, lowest)
            level, reason = choice.value, choice.reason
        width = imaging.field_of_view_arcsec(lowest, grids.dish_m(self.job.sets), level, spread) / cell
        size = imaging.good_size(width, max(inputs.minpix or 0, 32))
        if inputs.minpix and width < inputs.minpix:
            reason = "smallest size given by the user"
        if not self.science and size > inputs.calmaxpix:
            size, reason = imaging.good_size(inputs.calmaxpix), "calibrators need their surroundings only"
        if smaller.get("imsize") and not inputs.hm_imsize and max(smaller["imsize"]) < size:
            size, reason = int(max(smaller["imsize"])), "limit of hif_checkproductsize"
        self.reasons["imsize"] = reason
        return size, size

    def _axis(self) -> tuple[grids.CubeGrid, float]:
        ctx, job, inputs = self.ctx, self.job, self.inputs
        covered = [
            grids.coverage(ctx, ms, next(f for f in ms.fields if f.name == job.field), w, inputs.outframe)
            for ms, w in self.windows
        ]
        rest = named_rest_frequency(self.windows, job.field)
        nbins = cubeaxis.parse_nbins(inputs.nbins) or self.smaller.get("nbins") or {}
        nbin = cubeaxis.bins_of(nbins, job.spws[0])
        grid = grids.cube_grid(
            covered, inputs.outframe,
            grids.WantedAxis(
                nbin=nbin, start=inputs.start, width=inputs.width, nchan=inputs.nchan, restfreq_hz=rest
            ),
        )  # fmt: skip
        for remark in grid.remarks:
            ctx.log.warning(f"{job.name}: {remark}.")
        if nbin > 1:
            by = "given by the user" if inputs.nbins else "limit of hif_checkproductsize"
            self.reasons["nbin"] = f"{nbin} channels become one: {by}"
        self.reasons["restfreq"] = "rest frequency of the source, as the data name it"
        if rest is None:
            rest = float(grid.centres_hz()[grid.nchan // 2])
            self.reasons["restfreq"] = "centre of the cube: the data name no line"
        return grid, rest

    def _name(self) -> str:
        job = self.job
        stem = job.prefix or self.ctx.context.recipe_name or self.ctx.context.run_name
        kind = SHORT_INTENTS.get(job.intent, job.intent.lower())
        text = (
            f"{clean_name(stem)}.sSTAGENUMBER.{clean_name(job.field)}_{kind}"
            f".spw{'_'.join(map(str, job.spws))}.{self.specmode}.{self._stokes()}"
        )
        return f"{text}.{job.ending}" if job.ending else text


def windows(ctx: StageContext, job: Job) -> list[tuple[MeasurementSet, SpectralWindow]]:
    """The windows of a job in every measurement set that has them."""
    virtual = VirtualSpws.of(ctx.context.measurement_sets)
    return [
        (ms, ms.spw(int(r)))
        for ms in job.sets
        for s in job.spws
        if (r := virtual.to_real(VirtualSpw(s), ms.name)) is not None
    ]


def cell_arcsec(text: str, beam: float) -> tuple[float, str]:
    """Pixel size from ``5ppb``, an angle, or nothing; raises InputError for anything else."""
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
        raise InputError(f"hm_cell is '5ppb' or an angle such as '2arcsec'; got '{text}'.") from error


def named_rest_frequency(windows: Sequence[tuple[MeasurementSet, SpectralWindow]], name: str) -> float | None:
    """Rest frequency (Hz) of a field's source in these windows, where the data name one.

    What is named for another window is that of another line. A line is not seen above its rest frequency, but for the
    per cent that nearby galaxies and binary stars come towards us: what lies lower is left over from another set-up.
    """
    for ms, window in windows:
        for field in (f for f in ms.fields if f.name == name):
            source = next((s for s in ms.sources if s.id == field.source_id), None)
            named = source.rest_frequencies_hz if source else {}
            first = next(iter(named.get(int(window.id), ()) or named.get(ALL_WINDOWS, ())), 0.0)
            if first > BLUESHIFT * window.min_hz:
                return float(first)
    return None
