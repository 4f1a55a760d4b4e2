"""What is to be imaged: plain records, handed from the list-making stage to the image-making stage."""

from __future__ import annotations

from typing import Any

import attrs

CLEAN_LIST = "hif.cleanlist"
"""Context value: the pending list of clean targets."""
CONTINUUM = "hif.continuum"
"""Context value: what hif_findcont found, by "field|spw"."""
SIZE_MITIGATION = "hif.size_mitigation"
"""Context value: what hif_checkproductsize wants to be smaller."""
SHORT_INTENTS = {
    "TARGET": "sci", "BANDPASS": "bp", "PHASE": "ph", "AMPLITUDE": "flux", "CHECK": "chk", "POLARIZATION": "pol",
}  # fmt: skip
"""Intents in file names, as the observatories write them."""


@attrs.frozen(kw_only=True)
class Selection:
    """Data of one measurement set that go into an image; ``spw`` is a CASA selection in real ids."""

    vis: str
    path: str
    field: str
    spw: str
    column: str


@attrs.frozen(kw_only=True)
class CleanTarget:
    """One image to make. Spws are virtual ids, frequencies in Hz, angles in arcsec unless named otherwise."""

    field: str
    intent: str
    spws: tuple[int, ...] = attrs.field(converter=tuple)
    specmode: str
    imagename: str
    selections: tuple[Selection, ...] = attrs.field(converter=tuple)
    datatype: str = ""
    cell_arcsec: float
    imsize: tuple[int, int] = attrs.field(converter=tuple)
    phasecenter: str = ""
    stokes: str = "I"
    gridder: str = "standard"
    deconvolver: str = "hogbom"
    nterms: int = 1
    weighting: str = "briggs"
    robust: float = 0.5
    uvrange: str = ""
    uvtaper: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    wprojplanes: int = 0
    perchanweightdensity: bool = False
    npixels: int = 0
    mosweight: bool | None = None
    pblimit: float = 0.2
    beam_estimate_arcsec: float = 0.0
    start_hz: float | None = None
    width_hz: float | None = None
    nchan: int = -1
    outframe: str = "LSRK"
    interpolation: str = "nearest"
    restfreq_hz: float | None = None
    band: str = ""
    baseline_75_m: float = 0.0
    baseline_5_m: float = 0.0
    antennas: int = 0
    noise_factor: float = 1.0
    """Noise with this weighting as a multiple of that with natural weights."""
    continuum: tuple[tuple[float, float], ...] = attrs.field(default=(), converter=lambda v: tuple(map(tuple, v)))
    without_continuum: tuple[int, ...] = attrs.field(default=(), converter=tuple)
    """Windows of a continuum image of a target whose continuum nobody knows."""
    regions: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    reasons: dict[str, str] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class LineRegion:
    """A part of the sky with line emission: a box in J2000 degrees, as (ra, dec) of two opposite corners."""

    corners_deg: tuple[tuple[float, float], tuple[float, float]] = attrs.field(
        converter=lambda v: tuple(tuple(float(x) for x in c) for c in v)
    )

    @property
    def casa(self) -> str:
        """The region as CASA's region text, which the clean task takes as a mask."""
        (ra1, dec1), (ra2, dec2) = self.corners_deg
        return f"box[[{ra1:.6f}deg,{dec1:.6f}deg],[{ra2:.6f}deg,{dec2:.6f}deg]]"


@attrs.frozen(kw_only=True)
class ContinuumRecord:
    """Continuum of one field and window, for the stages after hif_findcont.

    ``ranges_hz`` are LSRK (or the frame named) frequency ranges, ``channels`` the same as inclusive channel ranges by
    measurement set.
    """

    field: str
    spw: int
    frame: str
    ranges_hz: tuple[tuple[float, float], ...] = attrs.field(converter=lambda v: tuple(map(tuple, v)))
    channels: dict[str, tuple[tuple[int, int], ...]]
    all_continuum: bool
    low_bandwidth: bool
    low_spread: bool
    fit_order: int
    regions: tuple[LineRegion, ...] = attrs.field(default=(), converter=tuple)

    @property
    def key(self) -> str:
        return continuum_key(self.field, self.spw)


def continuum_key(field: str, spw: int) -> str:
    """Key of a record in the context value `CONTINUUM`."""
    return f"{spw}|{field}"


def channel_text(ranges: Any) -> str:
    """Channel ranges as CASA writes them: ``3~9;48~59``."""
    return ";".join(f"{a}~{b}" for a, b in ranges)
