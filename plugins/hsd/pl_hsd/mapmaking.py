"""Maps from spectra with CASA: gridding of one antenna, combination of several, and reading a cube once."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_hsd.heuristics.cubes import BLOCK_VALUES
from pl_hsd.heuristics.mapgeometry import ChannelAxis, MapGeometry
from pl_kernel import PlError
from pl_kernel.params import as_tuple
from pl_kernel.stage_context import ItemContext

MIN_WEIGHT = 0.1
"""Pixels with less than this share of the median weight are masked (tsdimaging, and the reference pipeline, 2026)."""
SPEED_OF_LIGHT_KM_S = 299_792.458


@attrs.frozen(kw_only=True)
class Selection:
    """Spectra of one measurement set: path, real spw, field ids and antenna name."""

    path: str
    spw: int
    fields: tuple[int, ...] = attrs.field(converter=as_tuple)
    antenna: str


@attrs.frozen(kw_only=True)
class GridJob:
    """One image to be gridded from single-dish spectra; `name` is the image's file in the work folder."""

    name: str
    selections: tuple[Selection, ...] = attrs.field(converter=as_tuple)
    geometry: MapGeometry
    axis: ChannelAxis
    frame: str
    restfreq_hz: float | None
    stokes: str
    convsupport: int
    intent: str
    moving: bool = False
    unit: str = "Jy/beam"

    @property
    def weight(self) -> str:
        return f"{self.name}.weight"


def grid(ctx: ItemContext, job: GridJob) -> str:
    """Make the image and its weight; return what is wrong with it, empty when it is good.

    An image without any weight is removed: nothing was gridded.
    """
    stem = f"{job.name}.grid"
    remove(ctx, job.name, job.weight, *(f"{stem}{e}" for e in (".image", ".weight", ".psf", ".sumwt", ".residual")))
    geometry = job.geometry
    direction = f"{job.frame} {geometry.ra_deg:.10f}deg {geometry.dec_deg:.10f}deg"
    ctx.casa.tsdimaging(
        infiles=[s.path for s in job.selections], outfile=stem, overwrite=True,
        field=[",".join(map(str, s.fields)) for s in job.selections], spw=[str(s.spw) for s in job.selections],
        antenna=[s.antenna for s in job.selections], intent=job.intent, mode="channel",
        nchan=job.axis.count, start=job.axis.start, width=job.axis.step,
        specmode="cubesource" if job.moving else "cube", outframe="" if job.moving else "LSRK",
        gridfunction="SF", convsupport=job.convsupport, imsize=[geometry.n_x, geometry.n_y],
        cell=[f"{geometry.cell_arcsec:.9g}arcsec"] * 2, phasecenter="TRACKFIELD" if job.moving else direction,
        restfreq=f"{job.restfreq_hz:.6f}Hz" if job.restfreq_hz else "", stokes=job.stokes, minweight=MIN_WEIGHT,
        pointingcolumn="direction", brightnessunit=job.unit,
    )  # fmt: skip
    for made, wanted in ((f"{stem}.image", job.name), (f"{stem}.weight", job.weight)):
        if not Path(made).is_dir():
            return "CASA made no image; its log says why"
        ctx.files.move(made, wanted)
    remove(ctx, *(f"{stem}{e}" for e in (".psf", ".sumwt", ".residual")))
    if not median_weight(ctx, job.weight) > 0:
        remove(ctx, job.name, job.weight)
        return "all weights are zero: no spectrum was gridded"
    _give_beam(ctx, job)
    return ""


def _give_beam(ctx: ItemContext, job: GridJob) -> None:
    """Give an image without a beam that of the telescope.

    tsdimaging derives the beam of an image from the sampling of a raster; spectra of single points have none, and what
    a pixel shows is what the telescope saw there.
    """
    with ctx.casa.image(job.name) as image:
        if image.restoringbeam():
            return
    beam = job.geometry.beam_arcsec
    ctx.casa.imhead(imagename=job.name, mode="add", hdkey="beammajor", hdvalue=f"{beam:.6g}arcsec")
    ctx.log.info(f"{job.name} is no raster; its beam is that of the telescope, {beam:.1f} arcsec.")


def combine(ctx: ItemContext, parts: list[str], name: str) -> str:
    """Add images with their weights, `name` = Σ I W / Σ W, and mask what has too little weight; return what is wrong.

    Done by CASA tasks, so that CASA alone can repeat it. Masks of the parts do not count: their pixels of little weight
    are good where others add to them.
    """
    weight = f"{name}.weight"
    steps = [f"{name}.sum", f"{name}.mean"]
    remove(ctx, name, weight, *steps)
    # LEL masks a result wherever an operand is masked; value() leaves the mask off.
    count = len(parts)
    weights = [f"{part}.weight" for part in parts]
    total = "+".join(f"value(IM{k})" for k in range(count))
    ctx.casa.immath(imagename=weights, mode="evalexpr", expr=total, outfile=weight, imagemd=weights[0])
    products = "+".join(
        f"iif(isnan(value(IM{k})),0.0,value(IM{k}))*value(IM{count + k})" for k in range(count)
    )
    ctx.casa.immath(
        imagename=[*parts, *weights], mode="evalexpr", expr=products, outfile=steps[0], imagemd=parts[0]
    )  # fmt: skip
    ctx.casa.immath(
        imagename=[steps[0], weight], mode="evalexpr", expr="iif(IM1>0.0,IM0/iif(IM1>0.0,IM1,1.0),0.0)",
        outfile=steps[1], imagemd=parts[0],
    )  # fmt: skip
    middle = median_weight(ctx, weight)
    if not middle > 0:
        remove(ctx, weight, *steps)
        return "all weights are zero: no spectrum was gridded"
    ctx.casa.imsubimage(imagename=steps[1], outfile=name, mask=f'"{weight}" >= {MIN_WEIGHT * middle:.9g}')
    remove(ctx, *steps)
    return ""


def remove(ctx: ItemContext, *paths: str) -> None:
    """Remove images that an earlier attempt left."""
    for path in paths:
        if Path(path).exists():
            ctx.files.rmtree(path)


def median_weight(ctx: ItemContext, name: str) -> float:
    """Median of the weights above zero; 0 when there are none.

    Weights vary little with frequency: at most sixteen planes are looked at.
    """
    with ctx.casa.image(name) as image:
        count = int(image.shape()[3])
        chosen = sorted({int(k) for k in np.linspace(0, count - 1, min(count, 16))})
        values = np.concatenate([_planes(image, k, k)[0].ravel() for k in chosen])
    values = values[np.isfinite(values) & (values > 0)]
    return float(np.median(values)) if values.size else 0.0


@attrs.frozen(eq=False, kw_only=True)
class Cube:
    """A cube read once: values [channel, y, x] float32 in a memory-mapped file (NaN: masked), mean weights [y, x].

    Frequencies ascend, in the frame of the image; the beam is (major, minor, position angle) in arcsec and degrees.
    """

    values: Any
    weight: NDArray[np.float32]
    frequency_hz: NDArray[np.float64]
    frame: str
    restfreq_hz: float
    beam: tuple[float, float, float]
    unit: str
    cell_arcsec: float
    ra_deg: float
    dec_deg: float
    x0: float
    y0: float

    @property
    def velocity_km_s(self) -> NDArray[np.float64]:
        """Radio velocities; offsets from the middle where there is no rest frequency."""
        rest = self.restfreq_hz if self.restfreq_hz > 0 else float(self.frequency_hz.mean())
        return np.asarray(SPEED_OF_LIGHT_KM_S * (1 - self.frequency_hz / rest))

    @property
    def beam_pixels(self) -> tuple[float, float, float]:
        return self.beam[0] / self.cell_arcsec, self.beam[1] / self.cell_arcsec, self.beam[2]


def read_cube(ctx: ItemContext, name: str, scratch: Path) -> Cube:
    """Copy an image of one Stokes parameter into `scratch` (a new .npy file), block by block, and its axes.

    Everything that looks at the cube afterwards reads the file, of which the system keeps what fits into memory.
    """
    weight, planes = _mean_weight(ctx, f"{name}.weight")
    with ctx.casa.image(name) as image:
        shape = [int(v) for v in image.shape()]
        if len(shape) != 4 or shape[2] != 1:
            raise PlError(f"{name} is no cube of one Stokes parameter (its shape is {shape}).")
        scratch.parent.mkdir(parents=True, exist_ok=True)
        values = np.lib.format.open_memmap(
            scratch, mode="w+", dtype=np.float32, shape=(shape[3], shape[1], shape[0])
        )  # fmt: skip
        step = max(1, BLOCK_VALUES // (shape[0] * shape[1]))
        for first in range(0, shape[3], step):
            last = min(first + step, shape[3]) - 1
            data, good = _planes(image, first, last), _planes(image, first, last, mask=True)
            values[first : last + 1] = np.where(good, data, np.nan)
        values.flush()
        system = image.coordsys()
        try:
            facts = _axes(image, system, shape[3])
        finally:
            system.done()
    return Cube(values=values, weight=weight / max(planes, 1), **facts)


def _mean_weight(ctx: ItemContext, name: str) -> tuple[NDArray[np.float32], int]:
    with ctx.casa.image(name) as image:
        shape = [int(v) for v in image.shape()]
        total = np.zeros((shape[1], shape[0]), np.float64)
        step = max(1, BLOCK_VALUES // (shape[0] * shape[1]))
        for first in range(0, shape[3], step):
            total += np.nan_to_num(_planes(image, first, min(first + step, shape[3]) - 1)).sum(axis=0)
    return total.astype(np.float32), shape[3]


def _planes(image: Any, first: int, last: int, mask: bool = False) -> NDArray[Any]:
    """Planes [channel, y, x] of the first Stokes parameter."""
    shape = [int(v) for v in image.shape()]
    box = [0, 0, 0, first], [shape[0] - 1, shape[1] - 1, 0, last]
    data = image.getchunk(*box, getmask=mask, dropdeg=False)
    return np.asarray(np.transpose(np.asarray(data)[:, :, 0, :], (2, 1, 0)))


def _axes(image: Any, system: Any, count: int) -> dict[str, Any]:
    value = system.referencevalue(type="direction")["numeric"]
    pixel = system.referencepixel("direction")["numeric"]
    step = np.degrees(system.increment(type="direction")["numeric"]) * 3600
    first = float(system.toworld([0, 0, 0, 0])["numeric"][3])
    last = float(system.toworld([0, 0, 0, max(count - 1, 0)])["numeric"][3])
    rest = system.restfrequency()
    beam = image.restoringbeam()
    found = beam if "major" in beam else {}
    arcsec = {"arcsec": 1.0, "arcmin": 60.0, "deg": 3600.0, "rad": 206264.80625}

    def width(key: str) -> float:
        return float(found[key]["value"]) * arcsec[found[key]["unit"]] if found else float("nan")

    return {
        "frequency_hz": np.linspace(first, last, count),
        "frame": str(np.atleast_1d(system.referencecode("spectral"))[0]),
        "restfreq_hz": float(np.atleast_1d(rest["value"])[0]) * _HZ.get(str(rest["unit"]), 1.0),
        "beam": (width("major"), width("minor"), _degrees(found.get("positionangle", found.get("pa")))),
        "unit": str(image.brightnessunit()), "cell_arcsec": abs(float(step[1])),
        "ra_deg": float(np.degrees(value[0])) % 360.0, "dec_deg": float(np.degrees(value[1])),
        "x0": float(pixel[0]), "y0": float(pixel[1]),
    }  # fmt: skip


_HZ = {"Hz": 1.0, "kHz": 1e3, "MHz": 1e6, "GHz": 1e9}


def _degrees(angle: Any) -> float:
    if not angle:
        return 0.0
    return float(angle["value"]) * {"deg": 1.0, "rad": 57.29577951308232}.get(str(angle["unit"]), 1.0)


def forget(folder: Path) -> None:
    """Remove a scratch folder, and the one that it is in when nothing else is there."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()
