"""Faults of ALMA's auxiliary data: Tsys spectra and water-vapour radiometers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import numpy as np
from attrs import frozen

from pl_sim.errors import UnknownFault
from pl_sim.faults import Fault, register
from pl_sim.noise import smooth_process, stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pl_sim.observation import Observation
    from pl_sim.schedule import Entry
    from pl_sim.syscal import TsysMeasurement


def antenna_index(observation: Observation, name: str, default: int) -> int:
    """Index of an antenna by name; "" is the default.

    Raises:
        UnknownFault: no antenna of that name in this observation.
    """
    names = observation.array.names
    if not name:
        return default % len(names)
    if name not in names:
        raise UnknownFault(f"There is no antenna {name} in {observation.name}; it has {', '.join(names)}.")
    return names.index(name)


def tsys_windows(observation: Observation) -> tuple[int, ...]:
    """Spws of the load subscans."""
    found = {
        s
        for scan in observation.scans
        if scan.subscans[0].kind == "load"
        for s in scan.spws
        if observation.spws[s].role == "science"
    }
    return tuple(sorted(found))


@register
@frozen
class TsysBadChannels(Fault):
    """A spike in the Tsys spectra of one antenna in one spw; the receiver itself is fine."""

    name: ClassVar[str] = "tsys-bad-channels"
    factor: float = 5.0
    """Tsys in the bad channels over the true one."""
    antenna: str = ""
    """Default: the second antenna."""
    spw: int = -1
    """Default: the first spw with Tsys spectra."""
    channels: tuple[int, ...] = (40, 43)
    """First and last bad channel."""

    def change_tsys(self, observation: Observation, measurement: TsysMeasurement) -> TsysMeasurement:
        antenna, spw = self._place(observation)
        if measurement.spw != spw:
            return measurement
        tsys = measurement.tsys_k.copy()
        tsys[antenna, :, self.channels[0] : self.channels[-1] + 1] *= self.factor
        return attrs.evolve(measurement, tsys_k=tsys)

    def _place(self, observation: Observation) -> tuple[int, int]:
        windows = tsys_windows(observation)
        if not windows:
            raise UnknownFault(f"{observation.name} has no Tsys spectra that {self.name} could spoil.")
        spw = windows[0] if self.spw < 0 else self.spw
        if spw not in windows:
            raise UnknownFault(f"Spw {spw} of {observation.name} has no Tsys spectra; those that have are {windows}.")
        return antenna_index(observation, self.antenna, 1), spw

    def change_observation(self, observation: Observation) -> Observation:
        self._place(observation)
        return observation

    def truth(self, observation: Observation) -> dict[str, Any]:
        antenna, spw = self._place(observation)
        return {**attrs.asdict(self), "antenna": observation.array.names[antenna], "spw": spw}


@register
@frozen
class TsysOutlierAntenna(Fault):
    """The Tsys spectra of one antenna are too high in all spws and scans; its data are as noisy as ever."""

    name: ClassVar[str] = "tsys-outlier-antenna"
    factor: float = 3.0
    antenna: str = ""
    """Default: the third antenna (the second, of two)."""

    def _antenna(self, observation: Observation) -> int:
        return antenna_index(observation, self.antenna, min(2, len(observation.array.names) - 1))

    def change_observation(self, observation: Observation) -> Observation:
        if not tsys_windows(observation) and observation.array.telescope != "NRO":
            raise UnknownFault(f"{observation.name} has no Tsys spectra that {self.name} could spoil.")
        self._antenna(observation)
        return observation

    def change_tsys(self, observation: Observation, measurement: TsysMeasurement) -> TsysMeasurement:
        tsys = measurement.tsys_k.copy()
        tsys[self._antenna(observation)] *= self.factor
        return attrs.evolve(measurement, tsys_k=tsys)

    def change_record_tsys(self, observation: Observation, tsys: NDArray[np.float64]) -> None:
        """The same for telescopes that keep one number per record."""
        tsys[self._antenna(observation)] *= self.factor

    def truth(self, observation: Observation) -> dict[str, Any]:
        return {**attrs.asdict(self), "antenna": observation.array.names[self._antenna(observation)]}


@register
@frozen
class WrongWvr(Fault):
    """The radiometer of one antenna reports fluctuations that are not in the air, or nothing at all."""

    name: ClassVar[str] = "wrong-wvr"
    excess_k: float = 4.0
    """Rms of the false fluctuations (K), the same in all channels; 0: the radiometer is dead and reports zeros."""
    antenna: str = ""
    """Default: the fourth antenna."""
    period_s: float = 30.0

    def _antenna(self, observation: Observation) -> int:
        return antenna_index(observation, self.antenna, 3)

    def change_observation(self, observation: Observation) -> Observation:
        if not any(spw.role == "wvr" for spw in observation.spws):
            raise UnknownFault(f"{observation.name} has no water-vapour radiometers that {self.name} could spoil.")
        self._antenna(observation)
        return observation

    def change_radiometer(
        self, observation: Observation, entry: Entry, times: NDArray[np.float64], brightness: NDArray[np.float64]
    ) -> None:
        """Brightness [4, time, antenna] K, changed in place."""
        antenna = self._antenna(observation)
        if not self.excess_k:
            brightness[:, :, antenna] = 0.0
            return
        rng = stream(observation.model_seed, "wrong wvr")
        brightness[:, :, antenna] += smooth_process(rng, times, self.excess_k, self.period_s)

    def truth(self, observation: Observation) -> dict[str, Any]:
        return {**attrs.asdict(self), "antenna": observation.array.names[self._antenna(observation)]}
