"""Which phase calibrators belong to which target scans, when targets take the gains of their neighbours only."""

from __future__ import annotations

from collections.abc import Sequence

import attrs


@attrs.frozen(kw_only=True)
class Visit:
    """A scan in order of time: its fields, and what it was for."""

    scan: int
    fields: tuple[int, ...]
    is_target: bool = False
    is_phase: bool = False


@attrs.frozen(kw_only=True)
class GainGroup:
    """Target scans between two visits to phase calibrators, and the fields of those visits."""

    scans: tuple[int, ...]
    gainfields: tuple[int, ...]


def groups(visits: Sequence[Visit]) -> tuple[GainGroup, ...]:
    """Group target scans with the phase calibrators before and after them.

    Targets before the first visit take the first, targets after the last take the last: an observation may
    begin or end on its target. (The reference pipeline raises then, and uses the calibrator after the group only.)
    """
    found: list[GainGroup] = []
    before: tuple[int, ...] = ()
    pending: list[int] = []
    for visit in visits:
        if visit.is_phase:
            if pending:
                found.append(GainGroup(scans=tuple(pending), gainfields=_joined(before, visit.fields)))
                pending = []
            before = visit.fields
        elif visit.is_target:
            pending.append(visit.scan)
    if pending:
        found.append(GainGroup(scans=tuple(pending), gainfields=before))
    return tuple(found)


def _joined(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(dict.fromkeys((*one, *other)))
