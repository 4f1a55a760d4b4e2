"""Faults of pointing and of single-dish spectra."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import numpy as np
from attrs import frozen

from pl_sim.casa import open_table
from pl_sim.errors import UnknownFault
from pl_sim.faults import Fault, register
from pl_sim.faults.alma import antenna_index
from pl_sim.geometry import ARCSEC
from pl_sim.noise import stream
from pl_sim.regions import Region
from pl_sim.schedule import timeline
from pl_sim.sky import primary_beam

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from pl_sim.engine import Chunk, Run
    from pl_sim.observation import Observation
    from pl_sim.schedule import Entry


class _OfOneAntenna(Fault):
    """A fault of one antenna: `antenna` is its name; without one it is the one with number `usual`."""

    usual: ClassVar[int] = 1
    antenna: str

    def _antenna(self, observation: Observation) -> int:
        return antenna_index(observation, self.antenna, self.usual)

    def change_observation(self, observation: Observation) -> Observation:
        self._antenna(observation)
        return super().change_observation(observation)

    def truth(self, observation: Observation) -> dict[str, Any]:
        return {**super().truth(observation), "antenna": observation.array.names[self._antenna(observation)]}


class _OfMaps(Fault):
    """A fault of single-dish maps, and of nothing else."""

    def change_observation(self, observation: Observation) -> Observation:
        if observation.engine != "single-dish":
            raise UnknownFault(f"{self.name} is a fault of single-dish maps; {observation.name} is not one.")
        return observation


@register
@frozen
class PointingOffset(_OfOneAntenna):
    """One antenna looks beside the recorded direction: its target visibilities are weak, or its map is shifted.

    The offset is present whenever the target is observed, not on calibrators, where pointing was measured.
    """

    name: ClassVar[str] = "pointing-offset"
    east: float = 15.0
    """arcsec on the sky."""
    north: float = 0.0
    antenna: str = ""
    """Default: the second antenna."""

    def voltage(self, observation: Observation, frequency_hz: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of the voltage that is left for a source at the centre of the field, (channel,)."""
        diameter = observation.array.antennas[self._antenna(observation)].diameter_m
        return np.sqrt(primary_beam(math.hypot(self.east, self.north) * ARCSEC, frequency_hz, diameter))

    def change_gains(self, chunk: Chunk) -> None:
        if any("OBSERVE_TARGET" in intent for intent in chunk.entry.subscan.intents):
            obs = chunk.run.observation
            chunk.gain[:, self._antenna(obs)] *= self.voltage(obs, chunk.frequency).astype(np.float32)

    def pointing_error(self, observation: Observation, antenna: int, entry: Entry) -> tuple[float, float]:
        """Where the beam is, from where it is said to be (arcsec)."""
        return (self.east, self.north) if antenna == self._antenna(observation) else (0.0, 0.0)

    def regions(self, observation: Observation) -> tuple[Region, ...]:
        if observation.engine != "interferometer":
            return ()
        scans = tuple(scan.number for scan in observation.scans_with_intent("OBSERVE_TARGET"))
        return (Region(self.name, scans=scans, antennas=(observation.array.names[self._antenna(observation)],)),)


@register
@frozen
class PointingOutlier(_OfOneAntenna, _OfMaps):
    """POINTING of one antenna is wild during one raster row: the recorded direction is far from the map."""

    name: ClassVar[str] = "pointing-outlier"
    usual: ClassVar[int] = 0
    degrees: float = 0.5
    antenna: str = ""
    """Default: the first antenna."""
    row: int = 3
    """Number of the raster row, from 0."""

    def change_observation(self, observation: Observation) -> Observation:
        changed = super().change_observation(observation)
        self._victim(changed)
        return changed

    def _victim(self, observation: Observation) -> tuple[int, tuple[float, float]]:
        rows = [entry for entry in timeline(observation) if entry.subscan.kind == "on"]
        if not 0 <= self.row < len(rows):
            raise UnknownFault(f"{observation.name} has {len(rows)} raster rows; there is no row {self.row}.")
        times = rows[self.row].times
        return self._antenna(observation), (float(times[0]), float(times[-1]))

    def change_measurement_set(self, path: Path, observation: Observation) -> None:
        antenna, (first, last) = self._victim(observation)
        with open_table(path / "POINTING", write=True) as tb:
            time, number = tb.getcol("TIME"), tb.getcol("ANTENNA_ID")
            hit = (number == antenna) & (time > first - 1e-3) & (time < last + 1e-3)
            for column in ("DIRECTION", "TARGET"):
                direction = tb.getcol(column)
                direction[1, 0, hit] += math.radians(self.degrees)
                tb.putcol(column, direction)

    def regions(self, observation: Observation) -> tuple[Region, ...]:
        antenna, times = self._victim(observation)
        return (Region(self.name, antennas=(observation.array.names[antenna],), times=times),)

    def truth(self, observation: Observation) -> dict[str, Any]:
        return {**super().truth(observation), "times": self._victim(observation)[1]}


@register
@frozen
class BaselineRipple(_OfOneAntenna, _OfMaps):
    """A strong standing wave in the spectra of one antenna, its phase different in every spectrum."""

    name: ClassVar[str] = "baseline-ripple"
    kelvin: float = 2.0
    """Amplitude, T_A*."""
    cycles: float = 5.0
    """Periods over a spw."""
    antenna: str = ""
    """Default: the second antenna."""

    def change_temperature(self, run: Run, entry: Entry, spw: int, kelvin: NDArray[np.float64]) -> None:
        """T_A* [time, antenna, channel, polarization], changed in place."""
        if entry.subscan.kind != "on":
            return
        times, _, channels, receptors = kelvin.shape
        rng = stream(run.observation.model_seed, "baseline ripple", entry.first, spw)
        phase = rng.uniform(0, 2 * np.pi, (times, 1, receptors))
        axis = 2 * np.pi * self.cycles * np.arange(channels) / channels
        kelvin[:, self._antenna(run.observation)] += self.kelvin * np.sin(axis[None, :, None] + phase)

    def regions(self, observation: Observation) -> tuple[Region, ...]:
        return (Region(self.name, antennas=(observation.array.names[self._antenna(observation)],)),)


@register
@frozen
class LineInOff(_OfMaps):
    """The OFF position is not empty: the lines of the map appear there, and as dips all over the map."""

    name: ClassVar[str] = "line-in-off"
    share: float = 0.25
    """Strength of the line at the OFF position, relative to the peak of the cloud."""

    def change_temperature(self, run: Run, entry: Entry, spw: int, kelvin: NDArray[np.float64]) -> None:
        """T_A* [time, antenna, channel, polarization], changed in place."""
        from pl_sim.singledish import FWHM_PER_SIGMA, single_dish

        if entry.subscan.kind != "off":
            return
        dish = single_dish(run.observation)
        for cloud in dish.clouds:
            velocity = dish.velocity_kms(run, entry, spw, cloud.rest_hz)
            offset = (velocity - cloud.velocity) * FWHM_PER_SIGMA / cloud.width
            kelvin += (self.share * cloud.peak_k * np.exp(-0.5 * offset**2))[:, None]


def _with_clouds(observation: Observation, **changes: Any) -> Observation:
    """The observation with changed attributes of all its clouds."""
    from pl_sim.singledish import SingleDish

    def changed(extension: Any) -> Any:
        if not isinstance(extension, SingleDish):
            return extension
        return attrs.evolve(extension, clouds=tuple(attrs.evolve(c, **changes) for c in extension.clouds))

    return attrs.evolve(observation, extensions=tuple(changed(e) for e in observation.extensions))


@register
@frozen
class WideLine(_OfMaps):
    """The lines fill much of their windows: little is left for a baseline."""

    name: ClassVar[str] = "wide-line"
    share: float = 0.18
    """Width (FWHM) over that of the narrowest science window; the line is seen over 2 to 2.5 times as much."""

    def change_observation(self, observation: Observation) -> Observation:
        return _with_clouds(super().change_observation(observation), width=self.share * _narrowest_kms(observation))


@register
@frozen
class LineAtEdge(_OfMaps):
    """The lines are at the edge of their windows: they were tuned to another velocity than the source has."""

    name: ClassVar[str] = "line-at-edge"
    place: float = 0.97
    """Where in the band: 0 is the middle, 1 the edge at high velocities, -1 that at low ones."""

    def change_observation(self, observation: Observation) -> Observation:
        from pl_sim.singledish import single_dish

        super().change_observation(observation)
        middle = single_dish(observation).clouds[0].velocity
        return _with_clouds(observation, velocity=middle + self.place * _narrowest_kms(observation) / 2)


def _narrowest_kms(observation: Observation) -> float:
    """Width of the science window that covers the fewest km/s of those with lines."""
    from pl_sim.singledish import SPEED_OF_LIGHT, single_dish

    clouds = single_dish(observation).clouds
    widths = [
        SPEED_OF_LIGHT / 1e3 * w.channels * abs(w.channel_hz) / w.centre_hz
        for w in observation.spws
        if w.role == "science" and any(abs(w.centre_hz - c.rest_hz) < w.channels * abs(w.channel_hz) for c in clouds)
    ]
    return min(widths)


@register
@frozen
class OutlierSpectra(_OfMaps):
    """Single spectra of the map are far noisier than the others, as when a receiver's bias jumps for an instant."""

    name: ClassVar[str] = "outlier-spectra"
    share: float = 0.02
    """Of the spectra on the source of each antenna."""
    kelvin: float = 3.0
    """Noise added to every channel (T_A*), independent in each."""

    def _hit(self, observation: Observation, entry: Entry) -> NDArray[np.bool_]:
        """Which spectra of a subscan are outliers, [time, antenna]."""
        rng = stream(observation.model_seed, "outlier spectra", entry.first)
        return rng.random((len(entry.times), len(observation.array.names))) < self.share

    def change_temperature(self, run: Run, entry: Entry, spw: int, kelvin: NDArray[np.float64]) -> None:
        """T_A* [time, antenna, channel, polarization], changed in place."""
        if entry.subscan.kind != "on":
            return
        hit = self._hit(run.observation, entry)
        rng = stream(run.observation.model_seed, "outlier noise", entry.first, spw)
        kelvin[hit] += self.kelvin * rng.standard_normal((int(hit.sum()), *kelvin.shape[2:]))

    def regions(self, observation: Observation) -> tuple[Region, ...]:
        names, found = observation.array.names, []
        for entry in timeline(observation):
            if entry.subscan.kind != "on":
                continue
            for time, antenna in np.argwhere(self._hit(observation, entry)):
                moment = float(entry.times[time])
                found.append(Region(self.name, antennas=(names[antenna],), times=(moment, moment)))
        return tuple(found)


@register
@frozen
class TelluricLine(_OfMaps):
    """The line is observed beside one of ozone, with the OFF at another elevation: the sky line does not cancel.

    The first baseband is tuned near the sky line, which CASA's atmosphere tool gives on a grid of 0.5 MHz; the line of
    the source moves with the tuning.
    """

    name: ClassVar[str] = "telluric-line"
    climate: int = 2
    """Of the atmosphere tool: 1 tropical, 2 and 3 mid-latitude summer and winter, 4 and 5 subarctic."""
    ghz: float = 239.093
    """Of the ozone line."""
    mhz: float = 80.0
    """From the middle of the window to the ozone line; 0 puts it under the line of the source."""
    off_deg: float = 3.0
    """East of the map, and so higher: when the source sets, OFFs elsewhere are at nearly its elevation."""
    later_h: float = 4.0
    """Observed so much later, at a lower elevation: near zenith the airmass hardly changes."""

    def change_observation(self, observation: Observation) -> Observation:
        from pl_sim.alma import AlmaInstrument

        super().change_observation(observation)
        instrument = observation.instrument
        if not isinstance(instrument, AlmaInstrument) or self.climate not in range(1, 6):
            raise UnknownFault(f"{self.name} needs an ALMA observation and a climate from 1 to 5.")
        first = min(w.bbc_no for w in observation.spws if w.role == "science")
        centre = [w.centre_hz for w in observation.spws if w.bbc_no == first and w.role == "science"][-1]
        shift = self.ghz * 1e9 - self.mhz * 1e6 - centre
        spws = tuple(
            attrs.evolve(w, start_hz=w.start_hz + shift) if w.bbc_no == first and not w.frequencies_hz_override else w
            for w in observation.spws
        )
        # Layers as thick as those of CASA's single-dish tasks, and a grid as fine as the channels: the height
        # of the line depends on both.
        site = attrs.evolve(
            instrument.site, profile=self.climate, top_km=120.0, grid_hz=0.5e6, layer_hpa=10.0, layer_ratio=1.2
        )
        start = (datetime.fromisoformat(observation.start) + timedelta(hours=self.later_h)).isoformat()
        changed = attrs.evolve(observation, start=start, spws=spws, instrument=attrs.evolve(instrument, site=site))
        return self._moved(changed, centre, shift)

    def _moved(self, observation: Observation, centre: float, shift: float) -> Observation:
        """The same with the line moved along and the OFF put away."""
        from pl_sim.singledish import SingleDish

        def near(rest_hz: float) -> bool:
            return abs(rest_hz - centre) < 2e9

        def line(record: Any) -> Any:
            return attrs.evolve(record, rest_hz=record.rest_hz + shift) if near(record.rest_hz) else record

        extensions = tuple(
            attrs.evolve(e, clouds=tuple(line(c) for c in e.clouds)) if isinstance(e, SingleDish) else e
            for e in observation.extensions
        )
        target = observation.sources[0]
        east = self.off_deg / math.cos(math.radians(target.dec_deg))
        away = {"ra_deg": target.ra_deg + east, "dec_deg": target.dec_deg}
        sources = tuple(
            attrs.evolve(s, lines=tuple(line(x) for x in s.lines)) if s.lines else attrs.evolve(s, **away)
            for s in observation.sources
        )  # fmt: skip
        empty = {s.name for s in sources if not s.lines}
        fields = tuple(attrs.evolve(f, **away) if f.source in empty else f for f in observation.fields)
        return attrs.evolve(observation, extensions=extensions, sources=sources, fields=fields)
