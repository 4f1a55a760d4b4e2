"""Faults of an interferometer.

Where no antenna, spw or scan is named, a fault takes one that every preset has; the truth says which.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import numpy as np
from attrs import frozen

from pl_sim.errors import ImpossibleObservation, UnknownFault
from pl_sim.faults import Fault, register
from pl_sim.geometry import Geometry
from pl_sim.noise import stream
from pl_sim.regions import Region
from pl_sim.schedule import Entry, time_range, timeline

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pl_sim.engine import Chunk
    from pl_sim.instrument import Corruptions
    from pl_sim.observation import Observation, Scan


# ---- choosing the victim
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


# ---- antennas
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


# ---- interference
class _Interference(Fault):
    """Interference is added in Jy before the gains: strong on short baselines, with a phase of its own on each."""

    def _add(self, chunk: Chunk, jy: float, key: int) -> None:
        for number, region in enumerate(self.regions(chunk.run.observation)):
            if region.scans is not None and chunk.entry.scan.number not in region.scans:
                continue
            index = chunk.select(region)
            if index is None:
                continue
            times, baselines = index[0].ravel(), index[1].ravel()
            distance = np.hypot(chunk.uvw[times][:, baselines, 0], chunk.uvw[times][:, baselines, 1])
            first = chunk.index.start - chunk.entry.first
            rng = stream(
                chunk.run.observation.model_seed,
                self.name,
                key,
                number,
                chunk.entry.scan.number,
                chunk.spw,
                first + int(times[0]),
            )
            amplitude = jy * (0.5 + 0.5 * np.exp(-distance / 500.0))
            phase = np.exp(2j * np.pi * rng.random((len(times), len(baselines))))
            chunk.data[index] += (amplitude * phase).astype(np.complex64)[:, :, None, None]


@register
@frozen
class NarrowRfi(_Interference):
    """Interference in a few channels of one spw, all the time. `jy`: strength; `spw`; `channel`: first; `width`."""

    name: ClassVar[str] = "rfi-narrow"
    jy: float = 60.0
    spw: int = -1
    channel: int = -1
    width: int = 3

    def change_sky(self, chunk: Chunk) -> None:
        self._add(chunk, self.jy, 0)

    def regions(self, observation: Observation) -> tuple[Region, ...]:
        spw = choose_spw(observation, self.spw, self.name)
        first = self.channel if self.channel >= 0 else observation.spws[spw].channels // 3
        return (Region(self.name, spws=(spw,), channels=(first, first + self.width - 1)),)

    def truth(self, observation: Observation) -> dict[str, Any]:
        return {"jy": self.jy, **self.regions(observation)[0].to_json()}


@register
@frozen
class BroadRfi(_Interference):
    """Interference over a whole spw for part of a target scan: a satellite. `jy`; `spw`; `fraction`: of the scan."""

    name: ClassVar[str] = "rfi-broad"
    jy: float = 20.0
    spw: int = -1
    fraction: float = 0.3

    def change_sky(self, chunk: Chunk) -> None:
        self._add(chunk, self.jy, 1)

    def regions(self, observation: Observation) -> tuple[Region, ...]:
        scan = target_scans(observation)[-1]
        times = np.concatenate([e.times for e in timeline(observation) if e.scan.number == scan.number])
        count = max(1, int(self.fraction * len(times)))
        first = (len(times) - count) // 2
        return (
            Region(
                self.name,
                spws=(choose_spw(observation, self.spw, self.name),),
                scans=(scan.number,),
                times=(float(times[first]), float(times[first + count - 1])),
            ),
        )

    def truth(self, observation: Observation) -> dict[str, Any]:
        return {"jy": self.jy, **self.regions(observation)[0].to_json()}


@register
@frozen
class IntermittentRfi(_Interference):
    """Interference in one channel of one spw, in some integrations (a radar). `jy`; `spw`; `channel`; `duty`."""

    name: ClassVar[str] = "rfi-intermittent"
    jy: float = 300.0
    spw: int = -1
    channel: int = -1
    duty: float = 0.15

    def change_sky(self, chunk: Chunk) -> None:
        self._add(chunk, self.jy, 2)

    def regions(self, observation: Observation) -> tuple[Region, ...]:
        spw = choose_spw(observation, self.spw, self.name)
        channel = self.channel if self.channel >= 0 else int(observation.spws[spw].channels * 0.6)
        found = []
        for entry in timeline(observation):
            if spw not in entry.scan.spws:
                continue
            on = (
                stream(observation.model_seed, self.name, entry.scan.number, entry.number).random(len(entry.times))
                < self.duty
            )
            found += [
                Region(
                    self.name,
                    spws=(spw,),
                    channels=(channel, channel),
                    scans=(entry.scan.number,),
                    times=(float(t), float(t)),
                )
                for t in entry.times[on]
            ]
        return tuple(found)

    def truth(self, observation: Observation) -> dict[str, Any]:
        regions = self.regions(observation)
        return {
            "jy": self.jy,
            "duty": self.duty,
            "spw": choose_spw(observation, self.spw, self.name),
            "channel": regions[0].channels[0] if regions and regions[0].channels else None,
            "times": [r.times[0] for r in regions if r.times],
        }


# ---- the sky and single visibilities
@register
@frozen
class DecorrelatedPhaseCalibrator(Fault):
    """The troposphere is so fast on the phase calibrator that coherence is lost. `degrees`: rms phase per antenna."""

    name: ClassVar[str] = "decorrelated-phase-calibrator"
    degrees: float = 60.0

    def _scans(self, obs: Observation) -> tuple[int, ...]:
        return tuple(
            s.number
            for s in obs.scans_with_intent("CALIBRATE_PHASE")
            if not any("BANDPASS" in i for sub in s.subscans for i in sub.intents)
        )

    def change_gains(self, chunk: Chunk) -> None:
        obs = chunk.run.observation
        if chunk.entry.scan.number not in self._scans(obs):
            return
        rms = math.radians(self.degrees)
        first = chunk.index.start - chunk.entry.first
        for index in range(len(chunk.times)):
            rng = stream(obs.model_seed, self.name, chunk.entry.scan.number, chunk.entry.number, first + index)
            phase = rms * rng.standard_normal(len(obs.array.antennas))
            # As much again within the integration, where it costs amplitude: exp(-rms^2 / 2) per antenna.
            factor = np.exp(1j * phase - rms**2 / 2).astype(np.complex64)
            chunk.gain[index] *= factor[:, None, None]

    def regions(self, observation: Observation) -> tuple[Region, ...]:
        scans = self._scans(observation)
        if not scans:
            raise UnknownFault(f"Fault {self.name} needs a phase calibrator, which {observation.name} does not have.")
        return (Region(self.name, scans=scans),)

    def truth(self, observation: Observation) -> dict[str, Any]:
        return {"degrees": self.degrees, "scans": list(self._scans(observation))}


class _Scattered(Fault):
    """Single visibilities scattered over the target scans."""

    def _scatter(self, obs: Observation, count: int) -> tuple[Region, ...]:
        rng = stream(obs.model_seed, self.name)
        entries = sky_entries(obs, target_scans(obs))
        names, found = obs.array.names, []
        for _ in range(count):
            entry = entries[rng.integers(len(entries))]
            spws = [s for s in entry.scan.spws if obs.spws[s].role == "science"]
            spw = spws[rng.integers(len(spws))]
            one, two = sorted(rng.choice(len(names), 2, replace=False))
            channel = int(rng.integers(obs.spws[spw].channels))
            hands = [c for c in obs.spws[spw].correlations if c in ("RR", "LL", "XX", "YY")]
            time = float(entry.times[rng.integers(len(entry.times))])
            found.append(
                Region(
                    self.name,
                    scans=(entry.scan.number,),
                    spws=(spw,),
                    times=(time, time),
                    baselines=((names[one], names[two]),),
                    channels=(channel, channel),
                    correlations=(hands[rng.integers(len(hands))],),
                )
            )
        return tuple(found)

    def _each(self, chunk: Chunk) -> list[tuple[NDArray, ...]]:
        mine = (
            r
            for r in chunk.run.regions
            if r.reason == self.name and r.spws == (chunk.spw,) and r.scans == (chunk.entry.scan.number,)
        )
        return [index for r in mine if (index := chunk.select(r)) is not None]


@register
@frozen
class TargetOutliers(_Scattered):
    """Single visibilities of the target are far too bright. `count`: how many; `jy`: how bright."""

    name: ClassVar[str] = "target-outliers"
    count: int = 200
    jy: float = 30.0

    def change_sky(self, chunk: Chunk) -> None:
        for index in self._each(chunk):
            chunk.data[index] += np.complex64(self.jy)

    def regions(self, observation: Observation) -> tuple[Region, ...]:
        return self._scatter(observation, self.count)


@register
@frozen
class NanVisibilities(_Scattered):
    """Single visibilities of the target are not numbers. `count`: how many."""

    name: ClassVar[str] = "nan-visibilities"
    count: int = 100

    def change_raw(self, chunk: Chunk) -> None:
        for index in self._each(chunk):
            chunk.data[index] = np.complex64(complex(math.nan, math.nan))

    def regions(self, observation: Observation) -> tuple[Region, ...]:
        return self._scatter(observation, self.count)


@register
@frozen
class ZeroVisibilities(Fault):
    """The correlator writes exact zeros for one baseline in one target scan and spw. `spw`: which."""

    name: ClassVar[str] = "zero-visibilities"
    spw: int = -1

    def change_raw(self, chunk: Chunk) -> None:
        for region in self.regions(chunk.run.observation):
            if chunk.spw in (region.spws or ()) and chunk.entry.scan.number in (region.scans or ()):
                index = chunk.select(region)
                if index is not None:
                    chunk.data[index] = 0

    def regions(self, observation: Observation) -> tuple[Region, ...]:
        names = observation.array.names
        return (
            Region(
                self.name,
                scans=(target_scans(observation)[-1].number,),
                baselines=((names[1], names[2]),),
                spws=(choose_spw(observation, self.spw, self.name),),
            ),
        )


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


# ---- the schedule and the files
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


@register
@frozen
class CorruptedSubtable(Fault):
    """A subtable cannot be read: its data file is cut in half. `table`: its name."""

    name: ClassVar[str] = "corrupted-subtable"
    table: str = "WEATHER"

    def change_measurement_set(self, path: Path, observation: Observation) -> None:
        folder = path / self.table
        if not folder.is_dir():
            raise UnknownFault(f"Fault {self.name} damages {self.table}, which {path.name} does not have.")
        # table.dat describes the columns and managers; without it casacore refuses the table as a whole.
        for file in (folder / "table.dat", folder / "table.f0"):
            with file.open("r+b") as stream_:
                stream_.truncate(file.stat().st_size // 2)
