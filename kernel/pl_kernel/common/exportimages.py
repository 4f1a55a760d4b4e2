"""Which images of a run are delivered, and their names as FITS files."""

from __future__ import annotations

import fnmatch
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..context import ImageRecord

if TYPE_CHECKING:
    from ..stage_context import StageContext

FITS_KINDS = (
    "image", "pbcor", "pb", "mask", "mom0", "mom1", "mom8", "alpha", "alpha.error", "weight", "polarization.intensity",
    "polarization.angle",
)  # fmt: skip
"""Kinds of images that are delivered; residual, psf and model stay in the work folder."""

_STAGE_PART = re.compile(r"s\d+(_\d+)?|iter\d+")


def fits_name(image: str) -> str:
    """Name of the FITS file of an image: without the stage number and the count of iterations."""
    head, *rest = Path(image).name.split(".")
    seen = {"s": False, "i": False}
    kept = []
    for part in rest:
        if _STAGE_PART.fullmatch(part) and not seen[part[0]]:  # a source may be called s5, too: only the first goes
            seen[part[0]] = True
            continue
        kept.append(part)
    return ".".join([head, *kept, "fits"])


def delivered(
    images: Iterable[ImageRecord], *, kinds: Sequence[str] = FITS_KINDS, calintents: Sequence[str] = (),
    targetimages: Sequence[str] = (), calimages: Sequence[str] = (),
) -> list[ImageRecord]:  # fmt: skip
    """Images to deliver: of several with the same FITS name the newest, and I gives way to IQUV of the same target.

    Parameters
    ----------
    calintents : intents of calibrators whose images are wanted; empty: all.
    targetimages, calimages : names (with wildcards) of the images wanted; empty: all.
    """

    def wanted(image: ImageRecord) -> bool:
        if image.kind not in kinds:
            return False
        of_target = "TARGET" in image.intent.split(",")
        if not of_target and calintents and not set(calintents) & set(image.intent.split(",")):
            return False
        names = targetimages if of_target else calimages
        return not names or any(fnmatch.fnmatchcase(image.name, name) for name in names)

    chosen = {fits_name(image.name): image for image in images if wanted(image)}  # later ones replace earlier ones
    full = {_what(image) for image in chosen.values() if image.stokes == "IQUV" and "TARGET" in image.intent}
    return [image for image in chosen.values() if not (image.stokes == "I" and _what(image) in full)]


def _what(image: ImageRecord) -> tuple[object, ...]:
    return image.field, image.spws, image.specmode, image.kind


def write_fits(ctx: StageContext, image: ImageRecord) -> Path:
    """Write an image to products, with the facts of the run in its header; return the path."""
    name = fits_name(image.name)
    with ctx.casa.image(image.name) as opened:
        known = dict(opened.miscinfo())
        kind = {"type": known["type"]} if "type" in known else {}  # its stage knows better
        opened.setmiscinfo({**known, **header(ctx, image, name), **kind})
    # Written here and moved by us: the recorded command holds in any folder.
    ctx.casa.exportfits(
        imagename=image.name, fitsimage=name, velocity=False, bitpix=-32, dropstokes=False, stokeslast=True,
        overwrite=True,
    )  # fmt: skip
    path = Path(ctx.products) / name
    shutil.move(ctx.work / name, path)
    return path


def header(ctx: StageContext, image: ImageRecord, name: str) -> dict[str, str]:
    """Keywords of the header, those of the reference pipeline: at most 8 letters, at most 68 characters."""
    from ..plugins import kernel_version

    parts = [name[i : i + 68] for i in range(0, len(name), 68)]
    projects = ", ".join(dict.fromkeys(ms.project for ms in ctx.context.measurement_sets if ms.project))
    words = {
        "nfilnam": str(len(parts)), **{f"filnam{n:02d}": part for n, part in enumerate(parts, 1)},
        "virtspw": _short(image.spws), "field": image.field, "type": image.kind, "intent": image.intent,
        "specmode": image.specmode, "pipever": kernel_version(), "casaver": str(ctx.casa.version), "propcode": projects,
    }  # fmt: skip
    return {key: value[:68] for key, value in words.items() if value}


def _short(spws: Sequence[int]) -> str:
    text = ",".join(map(str, spws))
    return text if len(text) < 68 or len(spws) < 3 else f"{spws[0]},...,{spws[-1]}"
