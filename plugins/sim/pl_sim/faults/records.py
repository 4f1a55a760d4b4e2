"""Visibilities that no instrument should write, and a file that is damaged."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from attrs import frozen

from pl_sim.errors import UnknownFault
from pl_sim.faults import Fault, register
from pl_sim.faults.victims import choose_spw, sky_entries, target_scans
from pl_sim.noise import stream
from pl_sim.regions import Region

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pl_sim.engine import Chunk
    from pl_sim.observation import Observation


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
