"""Which scans and fields of a measurement set a stage works on, by what they were observed for."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import attrs

from pl_hifv.calibrators import selection
from pl_kernel.ms.model import MeasurementSet, Scan

CALIBRATORS = "BANDPASS,AMPLITUDE,PHASE,POLARIZATION,POLANGLE,POLLEAKAGE,CHECK"
"""Intents of fields that calibrate."""


@attrs.frozen(kw_only=True)
class Part:
    """Scans and the fields observed in them, ids ascending."""

    fields: tuple[int, ...] = attrs.field(default=(), converter=lambda v: tuple(sorted(v)))
    scans: tuple[int, ...] = attrs.field(default=(), converter=lambda v: tuple(sorted(v)))

    def without(self, other: Part) -> Part:
        """The scans that the other does not have; fields are narrowed by `only`."""
        return Part(fields=self.fields, scans=[s for s in self.scans if s not in other.scans])

    def only(self, ms: MeasurementSet, fields: Collection[int]) -> Part:
        """The scans on some fields."""
        scans = [s for s in self.scans if set(ms.scan(s).field_ids) & set(fields)]
        return Part(fields=fields, scans=scans)

    def present(self, ms: MeasurementSet) -> Part:
        """The same without fields that none of the scans has."""
        seen = {f for s in self.scans for f in ms.scan(s).field_ids}
        return Part(fields=[f for f in self.fields if f in seen], scans=self.scans)


def with_intent(ms: MeasurementSet, intents: str) -> Part:
    """Scans with any of the intents, and the fields that have it in them."""
    wanted = set(intents.split(","))
    scans = ms.scans_with_intent(intents)
    fields = {f for s in scans for f, found in s.intents_by_field.items() if found & wanted}
    return Part(fields=fields, scans=[s.id for s in _science(ms, scans)]).present(ms)


def targets(ms: MeasurementSet) -> Part:
    """The scans on targets."""
    return with_intent(ms, "TARGET")


def calibrators(ms: MeasurementSet) -> Part:
    """The scans on calibrators of any kind, pointing and system scans excepted."""
    found = selection(ms)
    return Part(fields=found.calibrator_fields, scans=found.calibrator_scans)


def tested(ms: MeasurementSet) -> Part:
    """The scans on the bandpass and delay calibrators, which the first calibration is made from."""
    found = selection(ms)
    return Part(fields=found.test_fields, scans=found.test_scans).present(ms)


def _science(ms: MeasurementSet, scans: Iterable[Scan]) -> list[Scan]:
    wanted = set(ms.science_spw_ids)
    return [s for s in scans if wanted & set(s.spw_ids) and "POINTING" not in s.intents]
