"""Where a fault strikes when nobody says: an antenna, spw or scan that every preset has; the truth says which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pl_sim.errors import UnknownFault
from pl_sim.regions import Region
from pl_sim.schedule import Entry, timeline

if TYPE_CHECKING:
    from pl_sim.observation import Observation, Scan


def choose_antenna(observation: Observation, name: str, fault: str, position: int) -> str:
    """The named antenna, or the one at this place of the array; UnknownFault if there is none of that name."""
    names = observation.array.names
    if not name:
        return names[position % len(names)]
    if name not in names:
        raise UnknownFault(
            f"Fault {fault} is on antenna {name}, which {observation.name} does not have; it has {', '.join(names)}."
        )
    return name


def choose_spw(observation: Observation, spw: int, fault: str) -> int:
    """The given spw, or (for -1) the second science spw."""
    science = [i for i, s in enumerate(observation.spws) if s.role == "science"]
    if spw < 0:
        return science[min(1, len(science) - 1)]
    if spw not in science:
        raise UnknownFault(f"Fault {fault} is in spw {spw}; science spws of {observation.name} are {science}.")
    return spw


def target_scans(observation: Observation) -> tuple[Scan, ...]:
    """Scans on the target."""
    scans = observation.scans_with_intent("OBSERVE_TARGET")
    if not scans:
        raise UnknownFault(f"{observation.name} has no scan on a target for the fault to be in.")
    return scans


def receptor_regions(
    observation: Observation, antenna: str, receptor: int | None, reason: str, severity: str = "bad", **box: Any
) -> tuple[Region, ...]:
    """The visibilities to one receptor (None: both) of an antenna: which product that is depends on its side."""
    if receptor is None:
        return (Region(reason, severity, antennas=(antenna,), **box),)
    names = observation.array.names
    index = names.index(antenna)
    found: list[Region] = []
    correlations = tuple(dict.fromkeys(c for spw in observation.spws for c in spw.correlations))
    letters = ("R", "X") if receptor == 0 else ("L", "Y")
    for side, others in ((1, names[:index]), (0, names[index + 1 :])):
        hands = tuple(c for c in correlations if c[side] in letters)
        if others and hands:
            found.append(
                Region(reason, severity, baselines=tuple((antenna, o) for o in others), correlations=hands, **box)
            )
    return tuple(found)


def sky_entries(observation: Observation, scans: tuple[Scan, ...]) -> list[Entry]:
    numbers = {s.number for s in scans}
    return [e for e in timeline(observation) if e.scan.number in numbers and e.subscan.kind == "sky"]
