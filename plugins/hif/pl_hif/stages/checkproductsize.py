"""Predict how large the images become, and make them smaller where they exceed limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from pl_hif.heuristics import productsize
from pl_hif.heuristics.productsize import Limits, Size
from pl_hif.stages.makeimlist import Makeimlist, MakeimlistInputs
from pl_hif.targets import SIZE_MITIGATION
from pl_kernel import Inputs, Result, Stage, param
from pl_kernel.effects import SetValue
from pl_kernel.ms.datatypes import DataType
from pl_kernel.ms.virtual import VirtualSpw, VirtualSpws
from pl_kernel.stage_context import StageContext

KEY = SIZE_MITIGATION
"""Run value: what hif_makeimlist has to heed."""
TYPES = (DataType.REGCAL_CONTLINE_SCIENCE, DataType.REGCAL_CONT_SCIENCE, DataType.REGCAL_CONTLINE_ALL, DataType.RAW)


class CheckproductsizeInputs(Inputs):
    maxcubesize: float = param(-1.0, doc="Size in GB above which cubes are made smaller; -1: no limit.")
    maxcubelimit: float = param(-1.0, doc="Size in GB that no cube may have in the end; default maxcubesize.")
    maxproductsize: float = param(-1.0, doc="Size in GB of all products together; -1: no limit.")
    maximsize: int = param(-1, unit="pixel", doc="Largest side of a continuum image; -1: no limit.")
    calcsb: bool = param(False, doc="Accepted for old recipes: beams are always estimated anew.", hidden=True)
    parallel: str = param("automatic", doc="Accepted for old recipes.", hidden=True)


class CheckproductsizeResult(Result):
    """Sizes before and after; ``status`` is OK, MITIGATED or ERROR, ``reason`` a sentence.

    ``targets``: image size and cell by "field|spws" where the limit in pixels made them smaller.
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


class Checkproductsize(Stage[CheckproductsizeInputs, CheckproductsizeResult]):
    """Predict how large the images become, and make them smaller where they exceed limits.

    Limits in GB concern the cubes of the targets. What is tried in turn, until the largest cube fits: channels binned
    by two where they are not independent; a smaller field of view; larger pixels (3 per beam, 3.25 with natural
    weighting). Then, for the products together: fewer fields, and fewer windows. A limit in pixels concerns continuum
    images: 4 pixels per beam first, then the image is cut.

    The outcome is kept for hif_makeimlist. What cannot be made to fit is an ERROR: images are not made then. Rules and
    numbers of the reference pipeline (2026).
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


def _finish(result: CheckproductsizeResult) -> CheckproductsizeResult:
    value = {
        "status": result.status, "nbins": result.nbins, "hm_imsize": result.hm_imsize, "hm_cell": result.hm_cell,
        "fields": result.fields, "spws": result.spws, "targets": result.targets,
    }  # fmt: skip
    return attrs.evolve(result, effects=(SetValue(KEY, value),))


class _Check:
    """The cascade for one call of the stage."""

    def __init__(self, ctx: StageContext, inputs: CheckproductsizeInputs, limits: Limits) -> None:
        self.ctx, self.inputs, self.limits = ctx, inputs, limits
        self.nbins: dict[str, int] = {}

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
            cut = attrs.evolve(smaller, nx=min(smaller.nx, limit), ny=min(smaller.ny, limit))
            after.append(cut)
            key = f"{size.field}|{','.join(map(str, size.spws))}"
            targets[key] = {"cell": "4ppb", "imsize": [cut.nx, cut.ny] if cut != smaller else None}
        status, reason = "OK", f"No image exceeds {limit} pixels."
        if targets:
            status, reason = "MITIGATED", f"{len(targets)} images would exceed {limit} pixels and are made smaller."
        return CheckproductsizeResult(
            status=status, reason=reason, limits=self.limits, before=before, after=tuple(after), targets=targets
        )

    # ---- cubes: limits in GB ----------------------------------------------------------------------------------------

    def cubes(self) -> CheckproductsizeResult:
        """Cubes and products within the limits."""
        before = sizes = self._predict("cube")
        if not sizes:
            return CheckproductsizeResult(status="OK", reason="There are no cubes to make.", limits=self.limits)
        cell = imsize = ""
        limit = self.limits.maxcubesize
        steps: list[str] = []
        if limit != -1 and productsize.largest_cube_gb(sizes) > limit:
            self.nbins = self._binned(sizes)
            sizes = self._predict("cube")
            steps += ["channels binned"] if any(n > 1 for n in self.nbins.values()) else []
            if productsize.largest_cube_gb(sizes) > limit:
                level = productsize.pb_level(limit, productsize.largest_cube_gb(sizes))
                if level != 0.2:
                    imsize = f"{level:g}pb"
                    sizes = self._predict("cube", hm_imsize=imsize)
                    steps.append(f"field of view to {level:g} of the primary beam")
            if productsize.largest_cube_gb(sizes) > limit:
                cell = self._coarse()
                sizes = self._predict("cube", hm_imsize=imsize, hm_cell=cell)
                steps.append(f"{cell[:-3]} pixels per beam")
        fields, spws = self._fewer(sizes)
        if fields or spws:
            sizes = tuple(
                s for s in sizes if (not fields or s.field in fields) and (not spws or set(s.spws) <= set(spws))
            )
            steps += [f"fields {', '.join(fields)} only"] if fields else []
            steps += [f"spws {', '.join(map(str, spws))} only"] if spws else []
        status, reason = self._verdict(sizes, steps)
        return CheckproductsizeResult(
            status=status, reason=reason, limits=self.limits, before=before, after=sizes, nbins=self.nbins,
            hm_imsize=imsize, hm_cell=cell, fields=fields, spws=spws,
        )  # fmt: skip

    def _verdict(self, sizes: Sequence[Size], steps: list[str]) -> tuple[str, str]:
        limits = self.limits
        cube, product = productsize.largest_cube_gb(sizes), productsize.product_gb(sizes)
        last = limits.maxcubesize if limits.maxcubelimit == -1 else limits.maxcubelimit
        if last != -1 and cube > last:
            return "ERROR", f"A cube would have {cube:.3g} GB after all mitigation, more than {last:g} GB."
        if limits.maxproductsize != -1 and product > limits.maxproductsize:
            return "ERROR", f"The products would have {product:.3g} GB, more than {limits.maxproductsize:g} GB."
        if steps:
            return "MITIGATED", f"Made smaller: {'; '.join(steps)}."
        return "OK", f"The largest cube has {cube:.3g} GB, all products {product:.3g} GB."

    def _fewer(self, sizes: Sequence[Size]) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Fields and windows that can stay; empty where all can."""
        limits = self.limits
        product = productsize.product_gb(sizes)
        fields = tuple(dict.fromkeys(s.field for s in sizes))
        kept = fields
        if limits.maxproductsize != -1 and product > limits.maxproductsize:
            kept = productsize.fewer_fields(fields, product, limits.maxproductsize)
        left = [s for s in sizes if s.field in kept]
        product = productsize.product_gb(left)
        cubes: dict[int, tuple[float, float]] = {}
        for s in left:
            cubes[s.spws[0]] = max(cubes.get(s.spws[0], (0.0, 0.0)), (s.cube_gb, s.frequency_hz))
        last = limits.maxcubesize if limits.maxcubelimit == -1 else limits.maxcubelimit
        large = [s for s, (gb, _) in cubes.items() if last > 0 and gb > 0.5 * last]
        too_big = limits.maxproductsize != -1 and product > limits.maxproductsize
        spws: tuple[int, ...] = ()
        if len(cubes) > 1 and (len(large) > 1 or too_big):
            total = sum(gb for gb, _ in cubes.values())
            spws = productsize.fewer_spws(cubes, product / total if total else 0.0, limits)
        return (kept if kept != fields else ()), (spws if len(spws) < len(cubes) else ())

    def _coarse(self) -> str:
        sets = self.ctx.measurement_sets(self.inputs.vis)
        robust = float(self.ctx.heuristic("imaging.robust", telescope=sets[0].telescope)("cube").value)
        return "3.25ppb" if robust >= 2.0 else "3ppb"

    def _binned(self, sizes: Sequence[Size]) -> dict[str, int]:
        virtual = VirtualSpws.of(self.ctx.context.measurement_sets)
        found = {}
        for spw in {s for size in sizes for s in size.spws}:
            for ms in self.ctx.measurement_sets(self.inputs.vis):
                real = virtual.to_real(VirtualSpw(spw), ms.name)
                if real is not None:
                    window = ms.spw(int(real))
                    bins = productsize.nbin(window.n_channels, window.resolution_hz, window.channel_width_hz)
                    if bins > 1:
                        found[str(spw)] = bins
                    break
        return found

    def _predict(self, specmode: str, **changes: str) -> tuple[Size, ...]:
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
