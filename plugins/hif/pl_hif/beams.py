"""The beam that a cube is restored with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from pl_hif.heuristics.cubebeams import LARGER, good_beams
from pl_kernel import PlError

_ARCSEC = {"arcsec": 1.0, "deg": 3600.0, "rad": 206264.80624709636, "arcmin": 60.0, "mas": 1e-3}


@attrs.frozen(kw_only=True)
class CommonBeam:
    """The smallest beam that the beams of the planes fit in, as CASA writes it, and the planes it leaves out."""

    text: tuple[str, str, str] = attrs.field(converter=tuple)
    left_out: tuple[int, ...] = attrs.field(default=(), converter=tuple)


def common_beam(ctx: Any, psfs: Sequence[str]) -> CommonBeam | None:
    """The beam of a cube out of those of the planes of its point spread functions, one after the other.

    Where that of all planes is more than 1.1 times as large as that of the planes with usual beams, the latter is taken
    (reference pipeline, 2026): one bad channel must not blur the cube. None when no plane has a beam.
    """
    planes = [beam for psf in psfs for beam in _beams_of(ctx, psf)]
    kept = np.array([b is not None for b in planes])
    if not kept.any():
        return None
    sizes = np.array([b[:2] if b is not None else (np.nan, np.nan) for b in planes])
    whole = _of_all(ctx, psfs)
    good = good_beams(sizes[:, 0], sizes[:, 1])
    if not good.any() or (good == kept).all():
        return CommonBeam(text=_text(whole))
    usual = _common(ctx, [b for b, g in zip(planes, good, strict=True) if g and b is not None])
    if whole[0] <= LARGER * usual[0]:
        return CommonBeam(text=_text(whole))
    return CommonBeam(text=_text(usual), left_out=np.flatnonzero(~good).tolist())


def _text(beam: tuple[float, float, float]) -> tuple[str, str, str]:
    return f"{beam[0]!r}arcsec", f"{beam[1]!r}arcsec", f"{beam[2]!r}deg"


def _beams_of(ctx: Any, path: str) -> list[tuple[float, float, float] | None]:
    """Major and minor axis (arcsec) and position angle (degrees) of every plane."""
    with ctx.casa.image(path) as image:
        beam = image.restoringbeam()
        planes = int(image.shape()[-1])
    if "beams" not in beam:
        one = _numbers(beam) if "major" in beam else None
        return [one] * planes
    return [_numbers(beam["beams"][f"*{i}"]["*0"]) for i in range(int(beam["nChannels"]))]


def _numbers(beam: dict[str, Any]) -> tuple[float, float, float] | None:
    major, minor = (float(beam[k]["value"]) * _ARCSEC[beam[k]["unit"]] for k in ("major", "minor"))
    angle = beam.get("positionangle") or beam["pa"]
    degrees = float(angle["value"]) * (180 / np.pi if angle["unit"] == "rad" else 1.0)
    return (major, minor, degrees) if major > 0 and minor > 0 and np.isfinite(major * minor) else None


def _of_all(ctx: Any, psfs: Sequence[str]) -> tuple[float, float, float]:
    """CASA's common beam of all planes."""
    tool = ctx.casa.tool("image")
    try:
        joined = tool.imageconcat(outfile="", infiles=list(psfs), relax=True) if len(psfs) > 1 else None
        try:
            if joined is None:
                tool.open(psfs[0])
            found = (joined or tool).restoringbeam()
            found = found if "major" in found else (joined or tool).commonbeam()
        finally:
            if joined is not None:
                joined.done()
    finally:
        tool.done()
    beam = _numbers(found)
    if beam is None:
        raise PlError(f"CASA found no beam in {psfs[0]}.")
    return beam


def _common(ctx: Any, beams: Sequence[tuple[float, float, float]]) -> tuple[float, float, float]:
    """CASA's common beam of a set of beams."""
    distinct = list(dict.fromkeys(beams))
    if len(distinct) == 1:
        return distinct[0]
    tool = ctx.casa.tool("image")
    try:
        # An image of one pixel for each plane, in memory: CASA finds common beams of images only.
        image = tool.newimagefromshape(outfile="", shape=[1, 1, 1, len(distinct)])
        try:
            for i, (major, minor, angle) in enumerate(distinct):
                image.setrestoringbeam(
                    major=f"{major!r}arcsec", minor=f"{minor!r}arcsec", pa=f"{angle!r}deg", channel=i, polarization=0,
                    log=False,
                )  # fmt: skip
            found = _numbers(image.commonbeam())
        finally:
            image.done()
    finally:
        tool.done()
    return found if found is not None else distinct[0]
