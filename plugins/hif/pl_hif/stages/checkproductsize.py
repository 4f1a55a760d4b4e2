"""Predict how large the images become, and make them smaller where they exceed limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from pl_hif import grids, linefree
from pl_hif.heuristics import productsize
from pl_hif.heuristics.productsize import Limits, Size
from pl_hif.stages.makeimlist import Makeimlist, MakeimlistInputs
from pl_hif.targets import SIZE_MITIGATION
from pl_kernel import Inputs, Result, Stage, param
from pl_kernel.effects import SetValue
from pl_kernel.flagcounts import summary
from pl_kernel.ms.datatypes import imaging_order
from pl_kernel.ms.virtual import VirtualSpw, VirtualSpws
from pl_kernel.stage_context import StageContext

KEY = SIZE_MITIGATION
"""Run value: what hif_makeimlist has to heed."""
Sizes = tuple[Size, ...]


class CheckproductsizeInputs(Inputs):
    maxcubesize: float = param(-1.0, doc="Size in GB above which cubes are made smaller; -1: no limit.")
    maxcubelimit: float = param(-1.0, doc="Size in GB that no cube may have in the end; default maxcubesize.")
    maxproductsize: float = param(-1.0, doc="Size in GB of all products together; -1: no limit.")
    maximsize: int = param(-1, unit="pixel", doc="Largest side of a continuum image; -1: no limit.")
    calcsb: bool = param(False, doc="Accepted for old recipes: beams are always estimated anew.", hidden=True)
    parallel: str = param("automatic", doc="Accepted for old recipes.", hidden=True)


class CheckproductsizeResult(Result):
    """Sizes before and after; ``status`` is OK, MITIGATED or ERROR, ``reason`` a sentence.

    ``targets``: image size and cell by "field|spws" where the limit in pixels made them smaller. ``crowded``: so many
    targets and channels that imaging takes long whatever their size.
    """

    status: str
    reason: str
    limits: Limits
    before: tuple[Size, ...] = ()
    after: tuple[Size, ...] = ()
    nbins: dict[str, int] = attrs.field(factory=dict)
    hm_imsize: str = ""
    hm_cell: str = ""
    fields: tuple[str, ...] = ()
    spws: tuple[int, ...] = ()
    targets: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    crowded: bool = False


class Checkproductsize(Stage[CheckproductsizeInputs, CheckproductsizeResult]):
    """Predict how large the images become, and make them smaller where they exceed limits.

    Limits in GB concern the cubes of the targets. What is tried in turn, until the largest cube fits: channels binned
    by two where they are not independent; a smaller field of view; larger pixels (3 per beam, 3.25 with natural
    weighting). Then, for the products together: fewer fields; for a single field the three steps above once more; and
    fewer windows, of which at most one with a cube above half of maxcubelimit stays. The first target with good data
    and its least flagged window always stay. A limit in pixels concerns continuum images: 4 pixels per beam first, then
    the image is cut.

    The outcome is kept for the stages up to hif_makeimages, until the stage runs again. What cannot be made to fit is
    an ERROR: lines are not looked for and images of targets are not made then. Targets that were split off for
    continuum only have no cubes. Rules and numbers of the reference pipeline (2026), except for one: where a single
    field has too many products, the field of view follows from the size of the products, not from that of the cubes.
    """

    name = "hif_checkproductsize"
    page_reads = frozenset()
    topic = "imaging"

    def run(self, ctx: StageContext, inputs: CheckproductsizeInputs) -> CheckproductsizeResult:
        limits = Limits(
            maxcubesize=inputs.maxcubesize, maxcubelimit=inputs.maxcubelimit, maxproductsize=inputs.maxproductsize,
            maximsize=inputs.maximsize,
        )  # fmt: skip
        complaint = limits.complaint()
        if complaint:
            return _finish(CheckproductsizeResult(status="ERROR", reason=f"{complaint}.", limits=limits))
        if not limits.by_bytes and limits.maximsize == -1:
            return _finish(CheckproductsizeResult(status="OK", reason="There are no limits.", limits=limits))
        job = _Check(ctx, inputs, limits)
        return _finish(job.images() if limits.maximsize != -1 else job.cubes())


def _images(count: int) -> str:
    return "One image" if count == 1 else f"{count} images"


def _finish(result: CheckproductsizeResult) -> CheckproductsizeResult:
    value = {
        "status": result.status, "reason": result.reason, "nbins": result.nbins, "hm_imsize": result.hm_imsize,
        "hm_cell": result.hm_cell, "fields": result.fields, "spws": result.spws, "targets": result.targets,
    }  # fmt: skip
    return attrs.evolve(result, effects=(SetValue(KEY, value),))


class _Check:
    """The cascade for one call of the stage."""

    def __init__(self, ctx: StageContext, inputs: CheckproductsizeInputs, limits: Limits) -> None:
        # What an earlier call has decided must not decide what is predicted now.
        self.ctx, self.inputs, self.limits = ctx.after((SetValue(KEY, {}),)), inputs, limits
        self.nbins: dict[str, int] = {}
        self.imsize = self.cell = ""
        self.level = productsize.LOWEST_LEVEL
        self.fields: tuple[str, ...] = ()
        self.spws: tuple[int, ...] = ()
        self.steps: list[str] = []

    # ---- continuum: a limit in pixels -------------------------------------------------------------------------------

    def images(self) -> CheckproductsizeResult:
        """Continuum images no larger than the limit."""
        before = self._predict("cont")
        limit = self.limits.maximsize
        targets: dict[str, dict[str, Any]] = {}
        after = []
        large = {s.field for s in before if max(s.nx, s.ny) > limit}
        coarse = {(s.field, s.spws): s for s in self._predict("cont", hm_cell="4ppb")} if large else {}
        for size in before:
            if max(size.nx, size.ny) <= limit:
                after.append(size)
                continue
            smaller = coarse.get((size.field, size.spws), size)
            most = productsize.efficient_size(limit)
            cut = smaller
            if max(smaller.nx, smaller.ny) > limit:
                cut = attrs.evolve(smaller, nx=min(smaller.nx, most), ny=min(smaller.ny, most))
            after.append(cut)
            key = f"{size.field}|{','.join(map(str, size.spws))}"
            targets[key] = {"cell": "4ppb", "imsize": [cut.nx, cut.ny] if cut != smaller else None}
        status, reason = "OK", f"No image exceeds {limit} pixels."
        if targets:
            status, reason = "MITIGATED", f"{_images(len(targets))} would exceed {limit} pixels: made smaller."
        return CheckproductsizeResult(
            status=status, reason=reason, limits=self.limits, before=before, after=tuple(after), targets=targets
        )

    # ---- cubes: limits in GB ----------------------------------------------------------------------------------------

    def cubes(self) -> CheckproductsizeResult:
        """Cubes and products within the limits."""
        if linefree.continuum_only(self.ctx.measurement_sets(self.inputs.vis)):
            return CheckproductsizeResult(status="OK", reason=linefree.NO_LINES, limits=self.limits)
        before = sizes = self._predict("cube")
        if not sizes:
            return CheckproductsizeResult(status="OK", reason="There are no cubes to make.", limits=self.limits)
        limits = self.limits
        if limits.maxcubesize != -1:
            sizes = self._smaller(sizes, productsize.largest_cube_gb, limits.maxcubesize)
        if not productsize.cube_fails(sizes, limits):
            sizes = self._fewer_fields(sizes)
            if len({s.field for s in sizes}) == 1 and not productsize.exceeds(
                productsize.largest_cube_gb(sizes), limits.maxcubesize
            ):
                sizes = self._smaller(sizes, productsize.product_gb, limits.maxproductsize)
            sizes = self._fewer_spws(sizes)
        status, reason = self._verdict(sizes)
        return CheckproductsizeResult(
            status=status, reason=reason, limits=limits, before=before, after=sizes, nbins=self.nbins,
            hm_imsize=self.imsize, hm_cell=self.cell, fields=self.fields, spws=self.spws,
            crowded=productsize.crowded(sizes),
        )  # fmt: skip

    def _smaller(self, sizes: Sizes, measure: Callable[[Sizes], float], limit: float) -> Sizes:
        """Bin channels, then narrow the field of view, then coarsen pixels, until ``measure`` is within the limit.

        What an earlier call has decided stays.
        """
        if productsize.exceeds(measure(sizes), limit) and not self.nbins:
            self.nbins = self._binned(sizes)
            self.steps += ["channels binned"] if self.nbins else []
            sizes = self._again(sizes)
        if productsize.exceeds(measure(sizes), limit):
            level = productsize.pb_level(limit, measure(sizes), self.level)
            if level > self.level:
                self.level, self.imsize = level, f"{level:g}pb"
                self.steps.append(f"field of view to {level:g} of the primary beam")
                sizes = self._again(sizes)
        if productsize.exceeds(measure(sizes), limit) and not self.cell:
            self.cell = self._coarse()
            self.steps.append(f"{self.cell[:-3]} pixels per beam")
            sizes = self._again(sizes)
        return sizes

    def _again(self, sizes: Sizes) -> Sizes:
        """Sizes of the same images with what was decided."""
        kept = {(s.field, s.spws) for s in sizes}
        found = self._predict("cube", hm_imsize=self.imsize, hm_cell=self.cell)
        return tuple(s for s in found if (s.field, s.spws) in kept)

    def _verdict(self, sizes: Sizes) -> tuple[str, str]:
        limits = self.limits
        cube, product = productsize.largest_cube_gb(sizes), productsize.product_gb(sizes)
        if productsize.cube_fails(sizes, limits):
            return "ERROR", f"A cube would have {cube:.3g} GB after all mitigation, more than {limits.last_gb:g} GB."
        if productsize.exceeds(product, limits.maxproductsize):
            return "ERROR", f"The products would have {product:.3g} GB, more than {limits.maxproductsize:g} GB."
        if self.steps:
            return "MITIGATED", f"Made smaller: {'; '.join(self.steps)}."
        return "OK", f"The largest cube has {cube:.3g} GB, all products {product:.3g} GB."

    def _fewer_fields(self, sizes: Sizes) -> Sizes:
        """The fields that can stay; the representative one always does."""
        limits = self.limits
        product = productsize.product_gb(sizes)
        names = tuple(dict.fromkeys(s.field for s in sizes))
        if len(names) == 1 or not productsize.exceeds(product, limits.maxproductsize):
            return sizes
        self.fields = productsize.fewer_fields(names, product, limits.maxproductsize, self._representative(sizes)[0])
        self.steps.append(f"fields {', '.join(self.fields)} only")
        return tuple(s for s in sizes if s.field in self.fields)

    def _fewer_spws(self, sizes: Sizes) -> Sizes:
        """The windows that can stay: one with a large cube, the representative one, small ones while they fit."""
        limits = self.limits
        cubes: dict[int, tuple[float, float]] = {}
        for s in sizes:
            cubes[s.spws[0]] = max(cubes.get(s.spws[0], (0.0, 0.0)), (s.cube_gb, s.frequency_hz))
        product = productsize.product_gb(sizes)
        large = productsize.large_cubes(cubes, limits)
        if len(cubes) == 1 or not (len(large) > 1 or productsize.exceeds(product, limits.maxproductsize)):
            return sizes
        total = sum(gb for gb, _ in cubes.values())
        kept = productsize.fewer_spws(
            cubes, product / total if total else 0.0, limits, self._representative(sizes)[1]
        )
        if len(kept) == len(cubes):
            return sizes
        self.spws = kept
        self.steps.append(f"spws {', '.join(map(str, kept))} only")
        return tuple(s for s in sizes if set(s.spws) <= set(kept))

    def _representative(self, sizes: Sizes) -> tuple[str, int | None]:
        """The first target of which at least 5 % of the data of some window are good, and its least flagged window."""
        order = imaging_order("TARGET", "cube")
        sets = grids.best_type(self.ctx.measurement_sets(self.inputs.vis), order)[1]
        virtual = VirtualSpws.of(self.ctx.context.measurement_sets)
        for name in dict.fromkeys(s.field for s in sizes):
            bad: dict[int, float] = {}
            windows = {s.spws[0] for s in sizes if s.field == name}
            for ms in sets:
                ids = ",".join(str(f.id) for f in ms.fields if f.name == name)
                if not ids:
                    continue
                counts = summary(self.ctx, ms.path, "representative", field=ids)
                for spw in windows:
                    real = virtual.to_real(VirtualSpw(spw), ms.name)
                    if real is not None and str(int(real)) in counts.by.get("spw", {}):
                        bad[spw] = min(bad.get(spw, 1.0), counts.fraction_of("spw", str(int(real))))
            best = productsize.least_flagged(bad)
            if best is not None:
                return name, best
        return sizes[0].field, None

    def _coarse(self) -> str:
        sets = self.ctx.measurement_sets(self.inputs.vis)
        robust = float(self.ctx.heuristic("imaging.robust", telescope=sets[0].telescope)("cube").value)
        return "3.25ppb" if robust >= 2.0 else "3ppb"

    def _binned(self, sizes: Sizes) -> dict[str, int]:
        virtual = VirtualSpws.of(self.ctx.context.measurement_sets)
        found = {}
        for spw in sorted({s for size in sizes for s in size.spws}):
            for ms in self.ctx.measurement_sets(self.inputs.vis):
                real = virtual.to_real(VirtualSpw(spw), ms.name)
                if real is not None:
                    window = ms.spw(int(real))
                    bins = productsize.nbin(window.n_channels, window.resolution_hz, window.channel_width_hz)
                    if bins > 1:
                        found[str(spw)] = bins
                    break
        return found

    def _predict(self, specmode: str, **changes: str) -> Sizes:
        """Sizes of the images that hif_makeimlist would list."""
        listed = Makeimlist().plan(
            self.ctx,
            # Which spacings are used does not change a size worth mentioning, and costs a look at the data.
            MakeimlistInputs(
                vis=self.inputs.vis, intent="TARGET", specmode=specmode, uvrange=">0.0lambda", **changes
            ),
            {},
        )  # fmt: skip
        return tuple(
            Size(
                field=t.field, spws=t.spws, nx=t.imsize[0], ny=t.imsize[1], nchan=max(1, t.nchan),
                nbin=self.nbins.get(str(t.spws[0]), 1), frequency_hz=t.start_hz or 0.0,
            )
            for t in listed.targets
        )  # fmt: skip
