"""How far CASA's tables of the Earth's orientation go."""

from __future__ import annotations

from typing import Any

import attrs


@attrs.frozen
class EarthTables:
    """Last days (MJD) that CASA's tables of the Earth's orientation have; 0 for a table that is not there."""

    measured_until: float
    predicted_until: float


def read_earth_tables(casa: Any) -> EarthTables:
    """Look how far the tables IERSeop2000 and IERSpredict of CASA's data go."""
    return EarthTables(*(_last_day(casa, name) for name in ("IERSeop2000", "IERSpredict")))


def _last_day(casa: Any, name: str) -> float:
    try:
        with casa.table(casa.data(f"geodetic/{name}")) as table:
            return float(table.getcell("MJD", table.nrows() - 1))
    except RuntimeError:
        return 0.0
