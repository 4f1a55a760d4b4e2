"""Effects: what a result asks the kernel to change in the context.

Only the kernel calls ``apply``.  Effects are written with the result, so that the context can be folded again
from the files of a run.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from typing import Any

import attrs

from .calibration import CalApplication
from .context import Context, ImageRecord, ProductRecord
from .errors import InputError
from .ms.datatypes import DataType
from .ms.model import MeasurementSet
from .serialize import register_tagged, to_json


class Effect:
    """Base of all effects.  The set is closed: a plugin's own state travels in ``SetValue``."""

    def apply(self, context: Context) -> Context:
        raise NotImplementedError


@attrs.frozen
class AddMeasurementSet(Effect):
    """A new measurement set of the run; its name must be new."""

    ms: MeasurementSet

    def apply(self, context: Context) -> Context:
        if any(known.name == self.ms.name for known in context.measurement_sets):
            raise InputError(f"The run has a measurement set called {self.ms.name} already.")
        return attrs.evolve(context, measurement_sets=(*context.measurement_sets, self.ms))


@attrs.frozen
class ReplaceMeasurementSet(Effect):
    """New metadata of a known measurement set: other intents, columns, reference antennas …"""

    ms: MeasurementSet

    def apply(self, context: Context) -> Context:
        context.measurement_set(self.ms.name)
        changed = tuple(self.ms if known.name == self.ms.name else known for known in context.measurement_sets)
        return attrs.evolve(context, measurement_sets=changed)


@attrs.frozen
class RemoveMeasurementSet(Effect):
    """The measurement set is no longer part of the run (its files are the stage's business)."""

    name: str

    def apply(self, context: Context) -> Context:
        context.measurement_set(self.name)
        left = tuple(known for known in context.measurement_sets if known.name != self.name)
        return attrs.evolve(context, measurement_sets=left)


@attrs.frozen
class SetDataType(Effect):
    """A column of a measurement set holds data of this type from now on."""

    name: str
    column: str
    datatype: DataType

    def apply(self, context: Context) -> Context:
        ms = context.measurement_set(self.name).with_data_type(self.datatype, self.column)
        return ReplaceMeasurementSet(ms).apply(context)


@attrs.frozen
class RegisterCalibration(Effect):
    """A caltable (or several) to be applied to a selection of data."""

    application: CalApplication

    def apply(self, context: Context) -> Context:
        return attrs.evolve(context, calibration=context.calibration.add(self.application))


@attrs.frozen
class UnregisterCalibration(Effect):
    """Forget every registration whose caltable name matches this glob."""

    gaintable: str

    def apply(self, context: Context) -> Context:
        def matches(_calto: object, calfrom: Any) -> bool:
            return fnmatch.fnmatchcase(calfrom.gaintable, self.gaintable)

        return attrs.evolve(context, calibration=context.calibration.unregister(matches))


@attrs.frozen
class MarkApplied(Effect):
    """All active calibration of this measurement set has been written into its corrected column."""

    vis: str

    def apply(self, context: Context) -> Context:
        return attrs.evolve(context, calibration=context.calibration.mark_applied(self.vis))


@attrs.frozen
class RegisterImage(Effect):
    """An image of the run; one of the same name is replaced."""

    image: ImageRecord

    def apply(self, context: Context) -> Context:
        others = tuple(known for known in context.images if known.name != self.image.name)
        return attrs.evolve(context, images=(*others, self.image))


@attrs.frozen
class AddProduct(Effect):
    """A delivered file; one of the same name is replaced."""

    product: ProductRecord

    def apply(self, context: Context) -> Context:
        others = tuple(known for known in context.products if known.name != self.product.name)
        return attrs.evolve(context, products=(*others, self.product))


@attrs.frozen
class SetValue(Effect):
    """A value that later stages read with ``ctx.value(key)``; keys are namespaced by plugin (``"hif.refant"``).

    The value is kept as plain JSON values: what a stage reads back is the same in a live run and after a resume.
    """

    key: str
    value: Any = attrs.field(converter=to_json)

    def apply(self, context: Context) -> Context:
        return attrs.evolve(context, values={**context.values, self.key: self.value})


for _cls in (
    AddMeasurementSet, ReplaceMeasurementSet, RemoveMeasurementSet, SetDataType, RegisterCalibration,
    UnregisterCalibration, MarkApplied, RegisterImage, AddProduct, SetValue,
):  # fmt: skip
    register_tagged(Effect, _cls)


def fold(context: Context, effects: Iterable[Effect]) -> Context:
    """Return the context after these effects, in order."""
    for effect in effects:
        context = effect.apply(context)
    return context
