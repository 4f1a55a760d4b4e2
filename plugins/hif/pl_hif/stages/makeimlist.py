"""List the images to make, with their geometry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pl_hif import imagegeometry, imlist
from pl_hif.heuristics import cubeaxis, taper, uvrange
from pl_hif.targets import CLEAN_LIST, CONTINUUM, SIZE_MITIGATION, CleanTarget, ContinuumRecord
from pl_kernel import InputError, Inputs, PlError, Result, Stage, param
from pl_kernel.effects import SetValue
from pl_kernel.ms.datatypes import DataType
from pl_kernel.serialize import from_json, to_json
from pl_kernel.stage_context import StageContext

_CENTRE = re.compile(r"\d+|(J2000|B1950|ICRS|GALACTIC|FK5)\s+\S+\s+\S+", re.IGNORECASE)


def _size_text(value: str) -> None:
    text = value.strip().lower()
    if text and not re.fullmatch(r"\[?\s*\d+\s*(,\s*\d+\s*)?\]?|0?\.\d+pb", text):
        raise InputError(f"hm_imsize is a number of pixels, two of them, or a level such as '0.3pb'; got '{value}'.")


def _centre_text(value: str) -> None:
    if value.strip() and not _CENTRE.fullmatch(value.strip()):
        raise InputError(f"phasecenter is a position such as 'J2000 12h30m49.4s +12d23m28s' or a field; got '{value}'.")


class MakeimlistInputs(Inputs):
    intent: str = param("TARGET", doc="Intents of the fields to image.")
    field: str = param("", doc="Names of fields, separated by commas; default all with the intent.")
    spw: str = param("", doc="Virtual ids of the windows; default all science windows.")
    specmode: str | None = param(
        None, choices=("mfs", "cont", "cube"),
        doc="One image per window (mfs), of all windows of a band together (cont), or per channel (cube); default cube "
        "for targets.",
    )  # fmt: skip
    stokes: str = param("", choices=("", "I", "IQUV"), doc="Stokes parameters; default I.")
    hm_cell: str = param(
        "", doc="Pixel size: '5ppb' (pixels per beam) or an angle; default 5 pixels per beam.",
        check=lambda value: imagegeometry.cell_arcsec(value, 1.0) and None,
    )  # fmt: skip
    hm_imsize: str = param(
        "", doc="Size in pixels (one or two numbers), or the level of the primary beam to reach ('0.3pb').",
        check=_size_text,
    )  # fmt: skip
    phasecenter: str = param(
        "", doc="Centre of the image, a position or a field; default that of the field, or of the mosaic.",
        check=_centre_text,
    )  # fmt: skip
    robust: float | None = param(
        None, doc="Briggs' robustness; default by telescope and kind of image.", minimum=-2, maximum=2
    )
    uvrange: str = param(
        "", doc="Baselines to use, such as '>2klambda'; default by telescope, '>0.0lambda' for all of them.",
        check=lambda value: uvrange.parse_uvrange(value) and None,
    )  # fmt: skip
    uvtaper: tuple[str, ...] = param(
        (), doc="Taper of the visibilities: ['5klambda'] or ['2arcsec'], or major axis, minor axis and angle.",
        check=lambda value: taper.parse_uvtaper(value) and None,
    )  # fmt: skip
    nbins: str = param(
        "", doc="Channels of a cube that become one, by virtual window: '0:2,1:4', '*:2' for all.",
        check=lambda value: cubeaxis.parse_nbins(value) and None,
    )  # fmt: skip
    nchan: int = param(-1, doc="Number of channels of a cube; -1: all that there are.", minimum=-1)
    start: str = param(
        "", doc="First channel of a cube: a frequency or a radio velocity.",
        check=lambda value: value and cubeaxis.parse_quantity(value, "start") and None,
    )  # fmt: skip
    width: str = param(
        "", doc="Width of a cube's channels: a frequency or a velocity.",
        check=lambda value: value and cubeaxis.parse_quantity(value, "width") and None,
    )  # fmt: skip
    outframe: str = param("LSRK", choices=("LSRK", "TOPO", "BARY", "GEO", "LSRD"), doc="Frequency frame of cubes.")
    contfile: Path | None = param(
        None, doc="A cont.dat with the continuum ranges to use; default what hif_findcont found."
    )
    linesfile: Path | None = param(
        None, doc="A file of line ranges (LSRK); what is outside is continuum. contfile comes first."
    )
    datatype: str = param(
        "", doc="State of the data: best, regcal, selfcal, all, or names of types; default the best there is.",
        check=lambda value: imlist.type_words(value) and None,
    )  # fmt: skip
    datacolumn: str = param("", choices=("", "data", "corrected"), doc="Column to image, instead of datatype.")
    per_eb: bool = param(False, doc="Each execution block by itself.")
    per_session: bool = param(False, doc="Each session by itself.")
    calmaxpix: int = param(300, doc="Largest image of a calibrator, in pixels.", minimum=32)
    minpix: int | None = param(None, doc="Smallest image, in pixels.", minimum=1)
    allow_wproject: bool = param(
        False, doc="Correct wide fields for baselines that are not coplanar, where the telescope has a rule for it."
    )
    clearlist: bool = param(True, doc="Begin a new list instead of adding to the pending one.")
    calcsb: bool = param(False, doc="Accepted for old recipes: beams are always estimated anew.", hidden=True)
    parallel: str = param("automatic", doc="Accepted for old recipes.", hidden=True)

    def check_together(self) -> None:
        if self.per_eb and self.per_session:
            raise InputError("per_eb and per_session exclude each other: give one of them.")
        if self.datatype and self.datacolumn:
            raise InputError("datatype and datacolumn exclude each other: give one of them.")
        if self.width and self.nbins:
            raise InputError("width and nbins exclude each other: give one of them.")
        axis = [name for name in ("nbins", "start", "width") if getattr(self, name)] + ["nchan"] * (self.nchan != -1)
        kind = self.specmode or ("cube" if self.intent == "TARGET" else "mfs")
        if axis and kind != "cube":
            raise InputError(f"{', '.join(axis)}: only cubes have a spectral axis, and specmode is {kind}.")


class MakeimlistResult(Result):
    """The list; ``expected`` counts the images that data and parameters ask for, ``refusal`` says why there is none."""

    targets: tuple[CleanTarget, ...]
    expected: int
    intent: str
    specmode: str
    datatype: str
    refusal: str = ""
    nothing: str = ""


class Makeimlist(Stage[MakeimlistInputs, MakeimlistResult]):
    """List the images to make, with their geometry.

    For each field and window (or field and receiver band, for ``cont``): data of the best type there is; pixels of a
    fifth of the synthesized beam, estimated from the baselines' weighted distribution; the size of the field of view;
    weighting; for cubes the common channels of all data; for continuum images of targets the channels that
    hif_findcont found. Windows without known continuum are left out of a target's ``cont`` image, unless none has any;
    those that were split off for continuum only need none.
    Fields, windows, pixels, sizes and bins of targets heed hif_checkproductsize; where that ended in an error, nothing
    is listed.

    Rules are slots (``imaging.robust``, ``imaging.view_level``, ``imaging.deconvolver``, ...), so that an observatory's
    plugin can have its own.
    Values of the reference pipeline (2026), with these warts set right: the rest frequency of a cube is that of the
    line when the data name it, and the centre of the cube only where they do not; the rule for the shortest spacings
    looks at all measurement sets, not the first only. A field with several of the intents is imaged once.
    """

    name = "hif_makeimlist"
    page_reads = frozenset()
    topic = "imaging"

    def run(self, ctx: StageContext, inputs: MakeimlistInputs) -> MakeimlistResult:
        smaller: Mapping[str, Any] = ctx.value(SIZE_MITIGATION) or {}
        pending = [] if inputs.clearlist else list(ctx.value(CLEAN_LIST) or [])
        specmode = inputs.specmode or ("cube" if inputs.intent == "TARGET" else "mfs")
        science = "TARGET" in inputs.intent.split(",")
        if science and smaller.get("status") == "ERROR":
            refusal = "hif_checkproductsize found no way to keep the images within the limits: none is listed."
            ctx.log.error(refusal)
            return MakeimlistResult(
                targets=(), expected=0, intent=inputs.intent, specmode=specmode, datatype="", refusal=refusal,
                effects=(SetValue(CLEAN_LIST, pending),),
            )  # fmt: skip
        plan = self.plan(ctx, inputs, smaller if science else {})
        return MakeimlistResult(
            targets=plan.targets, expected=plan.expected, intent=inputs.intent, specmode=specmode,
            datatype=plan.datatype, nothing=plan.nothing, failures=plan.failures,
            effects=(SetValue(CLEAN_LIST, [*pending, *(to_json(t) for t in plan.targets)]),),
        )  # fmt: skip

    def plan(
        self, ctx: StageContext, inputs: MakeimlistInputs, smaller: Mapping[str, Any]
    ) -> MakeimlistResult:
        """The list without what hif_checkproductsize may have refused; ``smaller`` is its value, or empty.

        Raises:
            PlError: there are no data to image, or no field of a name.
        """
        specmode = inputs.specmode or ("cube" if inputs.intent == "TARGET" else "mfs")
        every = ctx.measurement_sets(inputs.vis)
        types = imlist.chosen_types(every, inputs.intent, specmode, inputs.datatype, inputs.datacolumn)
        if not types:
            raise PlError(
                f"There are no visibilities of type {inputs.datatype} to image." if inputs.datatype
                else "There are no visibilities to image."
            )  # fmt: skip
        named = ", ".join(t.name for t in types)
        if _lacks_lines(ctx, inputs, specmode, types, every[0].telescope):
            nothing = "No window was split off for its lines, so there are no cubes to make."
            ctx.log.info(nothing)
            return MakeimlistResult(
                targets=(), expected=0, intent=inputs.intent, specmode=specmode, datatype=named, nothing=nothing
            )
        if DataType.RAW in types:
            ctx.log.warning("Only raw data can be imaged: nothing is calibrated yet.")
        jobs = imlist.jobs(
            ctx, every, types, inputs, specmode, smaller.get("fields", ()),
            smaller.get("spws", ()) if specmode == "cube" else (),
        )  # fmt: skip
        known = {k: from_json(v, ContinuumRecord) for k, v in ctx.value(CONTINUUM, {}).items()}
        targets, failures = imlist.listed(ctx, jobs, inputs, specmode, smaller, known)
        return MakeimlistResult(
            targets=tuple(targets), expected=len(jobs), intent=inputs.intent, specmode=specmode, datatype=named,
            failures=tuple(failures),
        )  # fmt: skip


def _lacks_lines(
    ctx: StageContext, inputs: MakeimlistInputs, specmode: str, types: tuple[DataType, ...], telescope: str
) -> bool:
    """Whether cubes are wanted of a telescope whose lines are split off first, and nothing was; spw overrides it."""
    if specmode != "cube" or inputs.intent != "TARGET" or inputs.spw or inputs.datatype or inputs.datacolumn:
        return False
    if not ctx.heuristic("imaging.cubes_need_science_data", telescope=telescope)():
        return False
    return not any(t.name.endswith("_SCIENCE") for t in types)


