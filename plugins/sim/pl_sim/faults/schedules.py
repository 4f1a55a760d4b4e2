"""What goes wrong before the observation: scans, intents and catalogues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import attrs
from attrs import frozen

from pl_sim.errors import UnknownFault
from pl_sim.faults import Fault, register

if TYPE_CHECKING:
    from pl_sim.observation import Observation, Scan


@register
@frozen
class MissingScans(Fault):
    """A scan was not recorded. `scan`: its number; 0 for the second visit to the phase calibrator."""

    name: ClassVar[str] = "missing-scans"
    scan: int = 0

    def _number(self, obs: Observation) -> int:
        visits = obs.scans_with_intent("CALIBRATE_PHASE")
        number = self.scan or (visits[1] if len(visits) > 1 else obs.scans[-1]).number
        if number not in [s.number for s in obs.scans]:
            raise UnknownFault(f"Fault {self.name} takes away scan {number}, which {obs.name} does not have.")
        if number == obs.scans[0].number:
            raise UnknownFault(f"Fault {self.name} cannot take away the first scan.")
        return number

    def change_observation(self, observation: Observation) -> Observation:
        number = self._number(observation)
        scans: list[Scan] = []
        for scan in observation.scans:
            if scan.number == number:
                # The time passes all the same.
                lost = (
                    sum(
                        round(s.seconds / observation.integration_s) * observation.integration_s + s.gap_s
                        for s in scan.subscans
                    )
                    + scan.gap_s
                )
                scans[-1] = attrs.evolve(scans[-1], gap_s=scans[-1].gap_s + lost)
            else:
                scans.append(scan)
        return attrs.evolve(observation, scans=tuple(scans), notes={**observation.notes, "missing_scan": number})

    def truth(self, observation: Observation) -> dict[str, Any]:
        return {"scan": observation.notes["missing_scan"]}


@register
@frozen
class MissingIntent(Fault):
    """A calibrator lost its intent in the schedule. `intent`: a word of it, such as BANDPASS, FLUX or PHASE."""

    name: ClassVar[str] = "missing-intent"
    intent: str = "BANDPASS"

    def change_observation(self, observation: Observation) -> Observation:
        if not observation.scans_with_intent(self.intent):
            raise UnknownFault(f"Fault {self.name} takes away {self.intent}, which no scan of {observation.name} has.")

        def without(intents: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(i for i in intents if self.intent not in i) or ("UNSPECIFIED#UNSPECIFIED",)

        scans = tuple(
            attrs.evolve(scan, subscans=tuple(attrs.evolve(s, intents=without(s.intents)) for s in scan.subscans))
            for scan in observation.scans
        )
        return attrs.evolve(observation, scans=scans)


@register
@frozen
class WrongFlux(Fault):
    """The flux calibrator is not as bright as its catalogue says. `factor`: true flux over catalogue flux."""

    name: ClassVar[str] = "wrong-flux"
    factor: float = 1.2

    def _source(self, obs: Observation) -> str:
        scans = obs.scans_with_intent("CALIBRATE_FLUX") or obs.scans_with_intent("CALIBRATE_BANDPASS")
        if not scans:
            raise UnknownFault(f"Fault {self.name} needs a flux calibrator, which {obs.name} does not have.")
        return obs.fields[obs.field_index(scans[0].subscans[0].field)].source

    def change_observation(self, observation: Observation) -> Observation:
        name = self._source(observation)
        sources = tuple(
            attrs.evolve(s, components=tuple(attrs.evolve(c, flux_jy=c.flux_jy * self.factor) for c in s.components))
            if s.name == name
            else s
            for s in observation.sources
        )
        return attrs.evolve(observation, sources=sources)

    def truth(self, observation: Observation) -> dict[str, Any]:
        return {"factor": self.factor, "source": self._source(observation)}
