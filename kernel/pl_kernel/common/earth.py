"""How well the rotation of the Earth was known when data were taken: CASA's tables of the IERS."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..qa import AppliesTo, QAScore, scorer
from .importdata import ImportDataResult

if TYPE_CHECKING:
    from .importing import Imported

SOON_DAYS = 91.0
"""Thirteen weeks: predictions are good for so long (reference pipeline, 2026)."""
MEASURED, SOON, PREDICTED, UNKNOWN = 1.0, 0.9, 0.5, 0.3
_MJD_0 = dt.datetime(1858, 11, 17, tzinfo=dt.UTC)


@scorer(ImportDataResult, topic="dataset")
def earth_rotation_known(result: ImportDataResult) -> list[QAScore]:
    """See ``earth_scores``."""
    return earth_scores(result.imported)


def earth_scores(imported: Iterable[Imported]) -> list[QAScore]:
    """One score for each measurement set, by the end of its last integration.

    1 where the IERS had measured, 0.9 up to thirteen weeks later, 0.5 as far as CASA's predictions go, 0.3 after them:
    CASA then takes UT1 for UTC, which turns the sky by up to 13 arcsec. The steps are the reference pipeline's (2026).
    """
    return [_score(item) for item in imported if item.earth is not None]


def _score(item: Any) -> QAScore:
    ms, earth = item.ms, item.earth
    end = (ms.end - _MJD_0).total_seconds() / 86400.0
    late = end - earth.measured_until
    if late <= 0:
        value, short, say = MEASURED, "Earth orientation measured", "was measured"
    elif late <= SOON_DAYS and end <= earth.predicted_until:
        value, short, say = SOON, "Earth orientation predicted", f"is predicted, {late:.0f} days ahead"
    elif end <= earth.predicted_until:
        value, short, say = PREDICTED, "Earth orientation predicted", f"is predicted, {late:.0f} days ahead"
    else:
        value, short, say = UNKNOWN, "Earth orientation unknown", "is not known"
    more = "" if value == MEASURED else " Newer tables come with the package casadata, or with casaconfig."
    return QAScore(
        metric="import.earth_orientation", value=round(late, 1), unit="d", score=value, short=short,
        long=f"The orientation of the Earth at the end of {ms.name} {say} in CASA's tables, which hold measurements "
        f"until {_day(earth.measured_until)} and predictions until {_day(earth.predicted_until)}.{more}",
        applies_to=AppliesTo(vis=ms.name),
    )  # fmt: skip


def _day(mjd: float) -> str:
    return f"{_MJD_0 + dt.timedelta(days=mjd):%Y-%m-%d}" if mjd > 0 else "never"
