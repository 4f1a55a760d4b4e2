"""Faults of antennas: their receivers, cables, delays, phases, and what stands in front of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import numpy as np
from attrs import frozen

from pl_sim.errors import ImpossibleObservation, UnknownFault
from pl_sim.faults import Fault, register
from pl_sim.faults.victims import choose_antenna, receptor_regions, sky_entries, target_scans
from pl_sim.geometry import Geometry
from pl_sim.regions import Region
from pl_sim.schedule import Entry, time_range, timeline

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pl_sim.engine import Chunk
    from pl_sim.instrument import Corruptions
    from pl_sim.observation import Observation


@register
@frozen
class DeadAntenna(Fault):
    """An antenna records noise and no signal; its noise diode is not seen either. `antenna`: its name."""

    name: ClassVar[str] = "dead-antenna"
    antenna: str = ""

    def _antenna(self, obs: Observation) -> str:
        return choose_antenna(obs, self.antenna, self.name, 1)

    def change_corruptions(self, observation: Observation, corruptions: Corruptions) -> Corruptions:
        coupling = corruptions.coupling.copy()
        coupling[observation.array.names.index(self._antenna(observation))] = 0
        return attrs.evolve(corruptions, coupling=coupling)

    def regions(self, observation: Observation) -> tuple[Region, ...]:
        return (Region(self.name, antennas=(self._antenna(observation),)),)

    def truth(self, observation: Observation) -> dict[str, Any]:
        return {"antenna": self._antenna(observation)}


@register
@frozen
class LowGain(Fault):
    """One receptor of an antenna receives a fraction of the signal. `factor`: of the voltage; `antenna`; `receptor`."""

    name: ClassVar[str] = "low-gain"
    factor: float = 0.08
    antenna: str = ""
    receptor: int = 1

    def _antenna(self, obs: Observation) -> str:
        return choose_antenna(obs, self.antenna, self.name, 4)

    def change_corruptions(self, observation: Observation, corruptions: Corruptions) -> Corruptions:
        coupling = corruptions.coupling.copy()
        coupling[observation.array.names.index(self._antenna(observation)), self.receptor] *= self.factor
        return attrs.evolve(corruptions, coupling=coupling)

    def regions(self, observation: Observation) -> tuple[Region, ...]:
        return receptor_regions(observation, self._antenna(observation), self.receptor, self.name)

    def truth(self, observation: Observation) -> dict[str, Any]:
        return {"antenna": self._antenna(observation), "receptor": self.receptor, "factor": self.factor}


@register
@frozen
class SwappedPolarizations(Fault):
    """The cables of the two receptors of an antenna are exchanged. `antenna`: its name."""

    name: ClassVar[str] = "swapped-polarizations"
    antenna: str = ""

    def _antenna(self, obs: Observation) -> str:
        if any(len(s.correlations) != 4 for s in obs.spws if s.role == "science"):
            raise ImpossibleObservation(
                f"Fault {self.name} needs all four correlations, which {obs.name} does not record."
            )
        return choose_antenna(obs, self.antenna, self.name, 3)

    def change_raw(self, chunk: Chunk) -> None:
        antenna = chunk.run.observation.array.names.index(self._antenna(chunk.run.observation))
        # Order of the products is (0,0) (0,1) (1,0) (1,1).
        for rows, order in ((chunk.antenna1 == antenna, [2, 3, 0, 1]), (chunk.antenna2 == antenna, [1, 0, 3, 2])):
            chunk.data[:, rows] = chunk.data[:, rows][..., order]

    def regions(self, observation: Observation) -> tuple[Region, ...]:
        science = tuple(i for i, s in enumerate(observation.spws) if len(s.correlations) == 4)
        return (Region(self.name, "calibratable", antennas=(self._antenna(observation),), spws=science),)

    def truth(self, observation: Observation) -> dict[str, Any]:
        return {"antenna": self._antenna(observation)}


@register
@frozen
class BadDeformatter(Fault):
    """A deformatter of one receptor and baseband is broken: a saw tooth in amplitude and jumps of phase over frequency.

    `depth`: of the nulls (1: to zero); `antenna`; `receptor`; `baseband`.
    """

    name: ClassVar[str] = "bad-deformatter"
    depth: float = 0.95
    antenna: str = ""
    receptor: int = 1
    baseband: str = ""

    def _where(self, obs: Observation) -> tuple[str, tuple[int, ...]]:
        baseband = self.baseband or [s.baseband for s in obs.spws if s.role == "science"][-1]
        spws = tuple(i for i, s in enumerate(obs.spws) if s.baseband == baseband and s.role == "science")
        if not spws:
            raise UnknownFault(f"Fault {self.name} is in baseband {baseband}, which {obs.name} does not have.")
        return choose_antenna(obs, self.antenna, self.name, 5), spws

    def change_gains(self, chunk: Chunk) -> None:
        antenna, spws = self._where(chunk.run.observation)
        if chunk.spw not in spws:
            return
        channel = np.arange(len(chunk.frequency))
        tooth = np.abs((channel / 8.0 % 1.0) * 2 - 1)
        factor = (1 - self.depth * (1 - tooth)) * np.exp(2.2j * np.sign(np.sin(channel / 4.0 + 0.1)))
        chunk.gain[:, chunk.run.observation.array.names.index(antenna), self.receptor] *= factor.astype(np.complex64)

    def regions(self, observation: Observation) -> tuple[Region, ...]:
        antenna, spws = self._where(observation)
        return receptor_regions(observation, antenna, self.receptor, self.name, spws=spws)

    def truth(self, observation: Observation) -> dict[str, Any]:
        antenna, spws = self._where(observation)
        return {"antenna": antenna, "receptor": self.receptor, "spws": list(spws), "depth": self.depth}


@register
@frozen
class DelayJump(Fault):
    """The delay of an antenna steps and stays. `ns`: the step; `antenna`; `fraction`: when, of the observation."""

    name: ClassVar[str] = "delay-jump"
    ns: float = 2.0
    antenna: str = ""
    fraction: float = 0.5

    def _when(self, obs: Observation) -> float:
        start, end = time_range(obs)
        return start + self.fraction * (end - start)

    def change_gains(self, chunk: Chunk) -> None:
        obs = chunk.run.observation
        late = chunk.times >= self._when(obs)
        antenna = obs.array.names.index(choose_antenna(obs, self.antenna, self.name, 2))
        offset = chunk.frequency - chunk.run.corruptions.delay_reference_hz[chunk.spw]
        step = np.exp(2j * np.pi * self.ns * 1e-9 * offset).astype(np.complex64)
        chunk.gain[late, antenna] *= step

    def regions(self, observation: Observation) -> tuple[Region, ...]:
        antenna = choose_antenna(observation, self.antenna, self.name, 2)
        return (
            Region(
                self.name,
                "calibratable",
                antennas=(antenna,),
                times=(self._when(observation), time_range(observation)[1]),
            ),
        )

    def truth(self, observation: Observation) -> dict[str, Any]:
        return {
            "antenna": choose_antenna(observation, self.antenna, self.name, 2),
            "ns": self.ns,
            "time": self._when(observation),
        }


@register
@frozen
class PhaseJump(Fault):
    """The phase of an antenna steps in the middle of a target scan, to its end. `degrees`; `antenna`; `scan`."""

    name: ClassVar[str] = "phase-jump"
    degrees: float = 90.0
    antenna: str = ""
    scan: int = 0

    def _where(self, obs: Observation) -> tuple[str, int, tuple[float, float]]:
        number = self.scan or target_scans(obs)[0].number
        entries = [e for e in timeline(obs) if e.scan.number == number]
        if not entries:
            raise UnknownFault(f"Fault {self.name} is in scan {number}, which {obs.name} does not have.")
        times = np.concatenate([e.times for e in entries])
        return (
            choose_antenna(obs, self.antenna, self.name, 2),
            number,
            (float(times[len(times) // 2]), float(times[-1])),
        )

    def change_gains(self, chunk: Chunk) -> None:
        antenna, number, (first, last) = self._where(chunk.run.observation)
        if chunk.entry.scan.number == number:
            inside = (chunk.times >= first - 1e-3) & (chunk.times <= last + 1e-3)
            chunk.gain[inside, chunk.run.observation.array.names.index(antenna)] *= np.complex64(
                np.exp(1j * math.radians(self.degrees))
            )

    def regions(self, observation: Observation) -> tuple[Region, ...]:
        antenna, number, times = self._where(observation)
        return (Region(self.name, antennas=(antenna,), scans=(number,), times=times),)

    def truth(self, observation: Observation) -> dict[str, Any]:
        antenna, number, times = self._where(observation)
        return {"antenna": antenna, "scan": number, "times": list(times), "degrees": self.degrees}


@register
@frozen
class Shadowing(Fault):
    """One antenna stands in front of another, seen from the source. `metres`: between the two pads.

    The blocked antenna is the one behind; it loses the covered share of its signal while the projected distance is
    below one dish diameter.
    """

    name: ClassVar[str] = "shadowing"
    metres: float = 26.0

    def _pair(self, obs: Observation) -> tuple[int, int]:
        return 0, len(obs.array.antennas) - 1

    def change_observation(self, observation: Observation) -> Observation:
        behind, front = self._pair(observation)
        entries = sky_entries(observation, target_scans(observation))
        fld = observation.fields[entries[0].field]
        middle = entries[len(entries) // 2].times.mean()
        positions = observation.array.positions_m
        geometry = Geometry(positions)
        azimuth = float(geometry.azel(middle, math.radians(fld.ra_deg), math.radians(fld.dec_deg))[0][0])
        place = geometry.local(positions)[behind] + self.metres * np.array([math.sin(azimuth), math.cos(azimuth), 0.0])
        moved = attrs.evolve(observation.array.antennas[front], position_m=tuple(geometry.from_local(place)))
        antennas = list(observation.array.antennas)
        antennas[front] = moved
        return attrs.evolve(observation, array=attrs.evolve(observation.array, antennas=tuple(antennas)))

    def _covered(self, obs: Observation, entry: Entry) -> NDArray[np.float64]:
        """Share of the rear dish that is covered at each integration, shape (time,)."""
        behind, front = self._pair(obs)
        fld = obs.fields[entry.field]
        uvw = Geometry(obs.array.positions_m).uvw(entry.times, math.radians(fld.ra_deg), math.radians(fld.dec_deg))
        separation = uvw[:, front] - uvw[:, behind]
        diameter = obs.array.antennas[behind].diameter_m
        x = np.clip(np.hypot(separation[:, 0], separation[:, 1]) / diameter, 0, 1)
        overlap = 2 / np.pi * (np.arccos(x) - x * np.sqrt(1 - x * x))
        # The one nearer to the source casts the shadow.
        return np.where(separation[:, 2] > 0, overlap, 0.0)

    def change_gains(self, chunk: Chunk) -> None:
        obs = chunk.run.observation
        behind, _ = self._pair(obs)
        first = chunk.index.start - chunk.entry.first
        covered = self._covered(obs, chunk.entry)[first : first + len(chunk.times)]
        chunk.gain[:, behind] *= (1 - covered).astype(np.float32)[:, None, None]

    def regions(self, observation: Observation) -> tuple[Region, ...]:
        behind, _ = self._pair(observation)
        found = []
        for entry in timeline(observation):
            shaded = np.nonzero(self._covered(observation, entry) > 0)[0]
            if len(shaded):
                found.append(
                    Region(
                        self.name,
                        scans=(entry.scan.number,),
                        antennas=(observation.array.names[behind],),
                        times=(float(entry.times[shaded[0]]), float(entry.times[shaded[-1]])),
                    )
                )
        if not found:
            raise ImpossibleObservation(
                f"With {self.metres:g} m between pads no antenna of {observation.name} is shadowed; bring them closer."
            )
        return tuple(found)

    def truth(self, observation: Observation) -> dict[str, Any]:
        behind, front = self._pair(observation)
        names = observation.array.names
        return {"metres": self.metres, "shadowed": names[behind], "by": names[front]}
