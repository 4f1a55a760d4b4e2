"""A converter between spectral frames made of CASA's measures tool. Worker processes only."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pl_kernel.errors import InputError
from pl_kernel.ms.frequency import Converter
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.ms.records import Field, Frame

_UNKNOWN = {Frame.REST, Frame.SOURCE, Frame.UNDEFINED}


def measures_converter(measures: Any, ms: MeasurementSet, field: Field, when: dt.datetime | None = None) -> Converter:
    """Converter for the place of the array, the direction of `field`, and a time (default: middle of the set).

    `measures` is a fresh tool (``ctx.casa.tool("measures")``) that nobody else uses: the tool keeps frames between
    calls. The result converts arrays of Hz; the shift is a factor (Doppler), so one frequency is converted by CASA.

    Raises:
        InputError: on conversion, for REST and SOURCE, which need a velocity that a measurement set does not have.
    """
    middle = when or ms.start + (ms.end - ms.start) / 2
    x, y, z = (f"{value}m" for value in ms.array.centre_m)
    units = {"unit": "rad"}

    def convert(hz: NDArray[np.float64], old: Frame, new: Frame) -> NDArray[np.float64]:
        if {old, new} & _UNKNOWN:
            raise InputError(
                f"Frequencies cannot be converted from {old.name} to {new.name} without a source velocity."
            )
        measures.done()
        try:
            measures.doframe(measures.position("ITRF", x, y, z))
            measures.doframe(
                measures.direction(field.frame, {"value": field.ra_rad, **units}, {"value": field.dec_rad, **units})
            )
            measures.doframe(measures.epoch("UTC", middle.strftime("%Y/%m/%d/%H:%M:%S.%f")))
            one = {"value": float(hz.flat[0]), "unit": "Hz"}
            converted = measures.measure(measures.frequency(old.name, one), new.name)["m0"]["value"]
        finally:
            measures.done()
        return np.asarray(hz * (converted / float(hz.flat[0])), dtype=float)

    return convert
