"""The spectral axis of a cube as the user wants it: binned channels, a start, a width, a number of channels."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import attrs

from pl_kernel import InputError

C_M_S = 299_792_458.0
NATIVE_WITHIN = 0.05
"""A width this close to that of the data is theirs; a narrower one is refused (reference pipeline, 2026)."""
_QUANTITY = re.compile(r"([+-]?\d+\.?\d*(?:e[+-]?\d+)?)\s*([a-z/]+)", re.IGNORECASE)
_FREQUENCY = {"hz": 1.0, "khz": 1e3, "mhz": 1e6, "ghz": 1e9}
_VELOCITY = {"m/s": 1.0, "km/s": 1e3}


def parse_nbins(text: str) -> dict[str, int]:
    """Understand ``0:2,1:4`` or ``*:2``: by virtual window (or ``*``) how many channels become one.

    Raises:
        InputError: it is neither.
    """
    found: dict[str, int] = {}
    for part in (p.strip() for p in text.split(",")):
        if not part:
            continue
        match = re.fullmatch(r"(\d+|\*)\s*:\s*(-?\d+)", part)
        if not match or int(match[2]) == 0 or int(match[2]) < -1:
            raise InputError(f"nbins is written like '0:2,1:4' or '*:2'; got '{text}'.")
        found[match[1]] = max(int(match[2]), 1)  # -1: as the data are
    return found


def bins_of(nbins: Mapping[str, int], spw: int) -> int:
    """Channels that become one in a window; 1 where nothing is said."""
    return nbins.get(str(spw), nbins.get("*", 1))


@attrs.frozen(kw_only=True)
class Quantity:
    """A frequency (Hz) or a radio velocity (m/s)."""

    value: float
    velocity: bool


def parse_quantity(text: str, name: str) -> Quantity:
    """Understand ``1.42GHz`` or ``-50km/s``.

    Raises:
        InputError: it is neither a frequency nor a velocity.
    """
    match = _QUANTITY.fullmatch(text.strip())
    unit = match[2].lower() if match else ""
    if match and unit in _FREQUENCY:
        return Quantity(value=float(match[1]) * _FREQUENCY[unit], velocity=False)
    if match and unit in _VELOCITY:
        return Quantity(value=float(match[1]) * _VELOCITY[unit], velocity=True)
    raise InputError(f"{name} is a frequency such as '1.42GHz' or a velocity such as '-50km/s'; got '{text}'.")


@attrs.frozen(kw_only=True)
class Axis:
    """Centre of the first channel and width (Hz, the width positive), number of channels, what there is to say."""

    start_hz: float
    width_hz: float
    nchan: int
    remarks: tuple[str, ...] = attrs.field(default=(), converter=tuple)


def axis(
    low_edge_hz: float, high_edge_hz: float, native_hz: float, nbin: int = 1, start: str = "", width: str = "",
    nchan: int = -1, restfreq_hz: float | None = None,
) -> Axis:  # fmt: skip
    """Channels of a cube within the frequencies that all data cover.

    Parameters
    ----------
    low_edge_hz, high_edge_hz : outer edges of the channels that can be used; native_hz : width of the data's channels.
    nbin : so many channels become one. start, width : frequency or radio velocity (the velocity axis then begins at
        ``start`` and goes on by ``width``); empty: the first channel and the width of the data. nchan : -1 for all.
    restfreq_hz : needed for velocities.

    A velocity grows where the frequency falls: a start in velocity with a positive width is the upper end in
    frequency. The axis is given in rising frequency all the same, with the same channels.

    Raises:
        InputError: start outside the data, width below that of the data by more than 5 %, width and nbin together, or
            no channel left.
    """
    first, step = _given(start, "start"), _given(width, "width")
    if step is not None and nbin > 1:
        raise InputError("width and nbins exclude each other: give one of them.")
    if any(q is not None and q.velocity for q in (first, step)) and not restfreq_hz:
        raise InputError("A cube in velocity needs a rest frequency, and the data name none.")
    rest = restfreq_hz or 0.0
    remarks = []
    if step is None:
        channel = native_hz * nbin
    else:
        channel = abs(step.value) * (rest / C_M_S if step.velocity else 1.0)
        if channel < native_hz * (1 - NATIVE_WITHIN):
            raise InputError(f"width {width} is narrower than the channels of the data, {native_hz / 1e3:.6g} kHz.")
        if channel < native_hz * (1 + NATIVE_WITHIN):
            channel = native_hz
    # CASA's order: with a velocity, or a negative width, the first channel is the one of highest frequency.
    downwards = False
    if step is not None:
        downwards = step.velocity != (step.value < 0)
    elif first is not None:
        downwards = first.velocity
    if first is None:
        room = math.floor((high_edge_hz - low_edge_hz) / channel + 1e-6)
        count = room if nchan == -1 else min(nchan, room)
        centre = high_edge_hz - channel / 2 if downwards else low_edge_hz + channel / 2
    else:
        centre = rest * (1 - first.value / C_M_S) if first.velocity else first.value
        slack = 1e-6 * channel
        if not low_edge_hz - slack <= centre <= high_edge_hz + slack:
            raise InputError(
                f"start {start} is {centre / 1e9:.6f} GHz, outside of the data, {low_edge_hz / 1e9:.6f} to "
                f"{high_edge_hz / 1e9:.6f} GHz."
            )
        end = centre - low_edge_hz if downwards else high_edge_hz - centre
        room = math.floor(end / channel + 0.5 + 1e-6)
        count = room if nchan == -1 else min(nchan, room)
    if nchan > max(count, 0):
        remarks.append(f"the data have room for {max(count, 0)} of the {nchan} channels wanted")
    if count < 1:
        raise InputError("The data have no room for a channel of the cube.")
    lowest = centre - (count - 1) * channel if downwards else centre
    return Axis(start_hz=lowest, width_hz=channel, nchan=count, remarks=remarks)


def _given(text: str, name: str) -> Quantity | None:
    return parse_quantity(text, name) if text.strip() else None
