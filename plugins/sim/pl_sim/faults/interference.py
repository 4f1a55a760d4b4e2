"""Interference, and weather that is worse than the instrument."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from attrs import frozen

from pl_sim.errors import UnknownFault
from pl_sim.faults import Fault, register
from pl_sim.faults.victims import choose_spw, target_scans
from pl_sim.noise import stream
from pl_sim.regions import Region
from pl_sim.schedule import timeline

if TYPE_CHECKING:
    from pl_sim.engine import Chunk
    from pl_sim.observation import Observation


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
