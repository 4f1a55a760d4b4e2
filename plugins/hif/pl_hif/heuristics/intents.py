"""What each scan was observed for, when the data do not say: old archive data carry no scan intents.

Two observations decide: where a field lies on the sky (the standard flux-density calibrators are few and known),
and in which order the fields were visited (a phase calibrator comes back before and after its target).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

MATCH_RADIUS_RAD = 60 * 2.0e-5
"""A field this near to a standard calibrator is that calibrator (0.0012 rad, about 4 arcmin; reference pipeline, 2026).
"""


@attrs.frozen(kw_only=True)
class FieldFacts:
    """A field of a measurement set: J2000 direction in radians."""

    id: int
    name: str
    ra_rad: float
    dec_rad: float


@attrs.frozen(kw_only=True)
class ScanFacts:
    """A scan: which field, when (seconds from any zero), how long."""

    id: int
    field: int
    start_s: float
    end_s: float


@attrs.frozen(kw_only=True)
class StandardFacts:
    """A standard calibrator: J2000 direction in radians; ``strength`` orders them, stronger is better."""

    name: str
    ra_rad: float
    dec_rad: float
    strength: float = 0.0


@attrs.frozen(kw_only=True)
class IntentDecision:
    """What a field was observed for, and why we think so."""

    field: int
    field_name: str
    intents: tuple[str, ...]
    reason: str
    calibrator: str = ""


def infer(
    fields: Sequence[FieldFacts], scans: Sequence[ScanFacts], standards: Sequence[StandardFacts]
) -> tuple[list[IntentDecision], list[str]]:
    """Infer the intents of all observed fields.

    1. A field within `MATCH_RADIUS_RAD` of a standard calibrator is AMPLITUDE.
    2. The strongest standard calibrator is BANDPASS too (the one with the longest time among equals).
    3. A field observed at least twice, whose scans stand directly before or after those of other fields that are not
       standard calibrators, and whose scans are on average less than half as long as those, is PHASE: phase
       calibrators are bright, and observers spend their time on targets. A standard calibrator that alternates in this
       way is PHASE too.
    4. What is left is TARGET.
    5. Without a phase calibrator the standard calibrator nearest to each target in the sky serves as PHASE, if there
       is one.

    Returns the decisions, in the order of field ids, and sentences about what is doubtful.
    """
    observed = [f for f in fields if any(s.field == f.id for s in scans)]
    order = sorted(scans, key=lambda s: s.start_s)
    standard_of = {f.id: _standard_at(f, standards) for f in observed}
    time_on = {f.id: sum(s.end_s - s.start_s for s in scans if s.field == f.id) for f in observed}
    flux = [f for f in observed if standard_of[f.id] is not None]
    bandpass = max(flux, key=lambda f: (standard_of[f.id].strength, time_on[f.id]),
    default=None)  # type: ignore[union-attr]
    doubts: list[str] = []
    decisions: dict[int, IntentDecision] = {}
    phase_of = {f.id: _alternation(f, order, observed, {i for i, s in standard_of.items() if s}) for f in observed}
    for f in observed:
        standard = standard_of[f.id]
        intents: list[str] = []
        why: list[str] = []
        if standard is not None:
            offset = math.degrees(separation_rad(f.ra_rad, f.dec_rad, standard.ra_rad, standard.dec_rad)) * 3600
            intents.append("AMPLITUDE")
            why.append(f"its position is that of the standard calibrator {standard.name} (within {offset:.1f} arcsec)")
            if bandpass is not None and f.id == bandpass.id:
                intents.insert(0, "BANDPASS")
                why.append("it is the strongest standard calibrator, so the bandpass is solved on it")
        if phase_of[f.id]:
            intents.append("PHASE")
            why.append(phase_of[f.id])
        if not intents:
            intents.append("TARGET")
            longest = time_on[f.id] / 60
            why.append(
                f"it is no standard calibrator and does not alternate with another field ({longest:.0f} min on it)"
            )
        decisions[f.id] = IntentDecision(
            field=f.id, field_name=f.name, intents=tuple(intents), reason=_sentence(why),
            calibrator=standard.name if standard else "",
        )  # fmt: skip
    if not flux:
        doubts.append(
            "No field lies at the position of a standard flux-density calibrator: the flux scale would be arbitrary."
        )
    targets = [f for f in observed if decisions[f.id].intents == ("TARGET",)]
    if not any("PHASE" in d.intents for d in decisions.values()) and flux and targets:
        nearest = min(
            flux, key=lambda c: min(separation_rad(c.ra_rad, c.dec_rad, t.ra_rad, t.dec_rad) for t in targets)
        )
        old = decisions[nearest.id]
        decisions[nearest.id] = attrs.evolve(
            old, intents=(*old.intents, "PHASE"),
            reason=old.reason.rstrip(".") + "; no field alternates with the target, so it has to serve for the "
                "phases as well.",
        )  # fmt: skip
        doubts.append(f"No field alternates with a target: {nearest.name} serves as phase calibrator.")
    if not targets:
        doubts.append("Every field looks like a calibrator: there is no target.")
    return [decisions[f.id] for f in observed], doubts


def separation_rad(ra1: float, dec1: float, ra2: float, dec2: float) -> float:
    """Angle between two directions, all in radians (haversine form: exact for small angles)."""
    h = math.sin((dec2 - dec1) / 2) ** 2 + math.cos(dec1) * math.cos(dec2) * math.sin((ra2 - ra1) / 2) ** 2
    return 2 * math.asin(min(1.0, math.sqrt(h)))


def _standard_at(field: FieldFacts, standards: Sequence[StandardFacts]) -> StandardFacts | None:
    best, least = None, MATCH_RADIUS_RAD
    for standard in standards:
        angle = separation_rad(field.ra_rad, field.dec_rad, standard.ra_rad, standard.dec_rad)
        if angle <= least:
            best, least = standard, angle
    return best


def _alternation(
    field: FieldFacts, order: Sequence[ScanFacts], observed: Sequence[FieldFacts], standards: set[int]
) -> str:
    """Why ``field`` is a phase calibrator, or an empty text."""
    mine = [i for i, s in enumerate(order) if s.field == field.id]
    runs = sum(1 for i in mine if i == 0 or order[i - 1].field != field.id)
    if runs < 2:
        return ""
    neighbours: set[int] = set()
    for i in mine:
        for j in (i - 1, i + 1):
            if 0 <= j < len(order) and order[j].field != field.id and order[j].field not in standards:
                neighbours.add(order[j].field)
    own_length = sum(order[i].end_s - order[i].start_s for i in mine) / len(mine)
    served = []
    for other in sorted(neighbours):
        others = [s for s in order if s.field == other]
        length = sum(s.end_s - s.start_s for s in others) / len(others)
        if own_length < 0.5 * length:
            served.append(other)
    if not served:
        return ""
    names = {f.id: f.name for f in observed}
    listed = ", ".join(names[i] for i in served)
    return f"it was visited {runs} times, for {own_length / 60:.1f} min on average, before and after {listed}"


def _sentence(parts: Sequence[str]) -> str:
    text = "; ".join(parts)
    return text[:1].upper() + text[1:] + "."
