"""Reading caltables of spectra (Tsys, sky): the spectra of one spectral window as arrays."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@attrs.frozen(eq=False, kw_only=True)
class CalSpectra:
    """All spectra of one spectral window: Tsys in K, or the level of the blank sky.

    ``values`` and ``flags`` (True is bad) are [row, polarization, channel]; ``antenna``, ``field``, ``scan`` (ids)
    and ``time_s`` are [row]; ``frequency_hz`` is [channel], in the order of the channels.
    """

    spw: int
    frequency_hz: Array
    values: Array
    flags: Array
    antenna: Array
    field: Array
    scan: Array
    time_s: Array

    @property
    def masked(self) -> Array:
        """The spectra with NaN where they are flagged or not positive."""
        return np.where(self.flags | ~(self.values > 0), np.nan, self.values)

    @property
    def flagged_fraction(self) -> float:
        """Flagged part; 1 when there are no spectra."""
        return float(self.flags.mean()) if self.flags.size else 1.0

    def rows(self, *, antenna: int | None = None, field: int | None = None) -> Array:
        """Indices of the spectra of an antenna, a field, or both."""
        chosen = np.ones(self.antenna.shape, dtype=bool)
        if antenna is not None:
            chosen &= self.antenna == antenna
        if field is not None:
            chosen &= self.field == field
        return np.flatnonzero(chosen)


def read_spectra(casa: Any, path: str) -> dict[int, CalSpectra]:
    """Read a caltable with real parameters; the spectra by spectral window, ascending."""
    found: dict[int, CalSpectra] = {}
    with casa.table(f"{path}/SPECTRAL_WINDOW") as table:
        axes = {spw: np.asarray(table.getcell("CHAN_FREQ", spw), dtype=float) for spw in range(table.nrows())}
    with casa.table(path) as table:
        for spw in sorted({int(s) for s in table.getcol("SPECTRAL_WINDOW_ID")} if table.nrows() else ()):
            part = table.query(f"SPECTRAL_WINDOW_ID=={spw}", sortlist="TIME,ANTENNA1")
            try:
                found[spw] = CalSpectra(
                    spw=spw, frequency_hz=axes[spw],
                    values=np.moveaxis(part.getcol("FPARAM"), -1, 0).astype(float),
                    flags=np.moveaxis(part.getcol("FLAG"), -1, 0).astype(bool),
                    antenna=part.getcol("ANTENNA1"), field=part.getcol("FIELD_ID"), scan=part.getcol("SCAN_NUMBER"),
                    time_s=part.getcol("TIME"),
                )  # fmt: skip
            finally:
                part.close()
    return found


def coverage(spectra: dict[int, CalSpectra]) -> dict[int, frozenset[int]]:
    """Fields with spectra that are not entirely flagged, by spectral window."""
    return {
        spw: frozenset(int(f) for f in np.unique(s.field[~s.flags.all(axis=(1, 2))])) for spw, s in spectra.items()
    }
