"""Models of the calibrators: standards from images, secondary calibrators from their spectra."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
import numpy as np

from pl_hifv.calibrators import FieldSpectrum, Selection
from pl_hifv.stages.vlasetjy import ASKED, STATED, VlasetjyInputs, set_models, set_stated, standards_of
from pl_kernel import PlError
from pl_kernel.ms.model import MeasurementSet

_ROWS = 2000


@attrs.frozen(kw_only=True)
class UnitModel:
    """A calibrator whose model is exactly 1 Jy in some windows: nobody has set it."""

    vis: str
    field: str
    spws: tuple[int, ...] = attrs.field(converter=tuple)


def set_standards(ctx: Any, ms: MeasurementSet) -> tuple[int, ...]:
    """Set the models of the standard flux calibrators, as hifv_vlasetjy was asked to.

    Returns the ids of their fields, and of flux calibrators whose flux densities a file states; none where there is
    neither.
    """
    others = ctx.value(STATED, {})
    stated = others.get(ms.name, others.get(ms.origin or "", {}))
    try:
        matched = standards_of(ctx, ms, "AMPLITUDE", spare=bool(stated))
    except PlError as error:
        ctx.log.warning(str(error))
        return ()
    asked = ctx.value(ASKED, {})
    for field, calibrator, _ in matched:
        windows = [s for s in ms.science_spws if not field.spws or int(s.id) in field.spws]
        options = asked.get(ms.name, asked.get(ms.origin or "", {})).get(str(field.id), {})
        set_models(ctx, ms, field, calibrator, windows, VlasetjyInputs(**options))
    for key, values in stated.items():
        field = ms.field(int(key))
        set_stated(ctx, ms, field, [s for s in ms.science_spws if not field.spws or int(s.id) in field.spws], values)
    return (*(field.id for field, _, _ in matched), *(int(key) for key in stated))


def set_spectra(ctx: Any, ms: MeasurementSet, spectra: Iterable[FieldSpectrum]) -> None:
    """Set the spectra of secondary calibrators as models of the science windows they were observed in.

    Not in bands that they were not measured in: what a spectrum at 5 GHz promises at 33 GHz would look like a flux
    scale, where none could be had.
    """
    for spectrum in spectra:
        field = ms.field(spectrum.field)
        windows = [
            int(s.id) for s in ms.science_spws
            if (not field.spws or int(s.id) in field.spws)
            and (not spectrum.bands or (s.band or "unknown") in spectrum.bands)
        ]  # fmt: skip
        if not windows:
            continue
        fit = spectrum.fit
        ctx.casa.setjy(
            vis=ms.path, field=str(field.id), spw=",".join(str(w) for w in windows), selectdata=False,
            standard="manual", fluxdensity=[fit.flux_jy, 0.0, 0.0, 0.0], spix=list(fit.spectral_index) or [0.0],
            reffreq=f"{fit.reference_hz:.0f}Hz", scalebychan=True, usescratch=True,
        )  # fmt: skip


def unit_models(ctx: Any, ms: MeasurementSet, chosen: Selection) -> list[UnitModel]:
    """Calibrators whose parallel-hand model is exactly 1 Jy.

    A sample of the rows of each field and window tells: CASA fills whole columns with it.
    """
    unset: dict[int, list[int]] = {}
    with ctx.casa.table(ms.path) as table:
        if "MODEL_DATA" not in table.colnames():
            return [
                UnitModel(vis=ms.name, field=ms.field(f).name, spws=b.spws) for b in chosen.bands
                for f in b.calibrator_fields
            ]  # fmt: skip
        for description in ms.data_descriptions:
            for band in chosen.bands:
                if int(description.spw_id) not in band.spws:
                    continue
                for field in band.calibrator_fields:
                    part = table.query(f"DATA_DESC_ID=={description.id} && FIELD_ID=={field} && ANTENNA1!=ANTENNA2")
                    try:
                        if part.nrows():
                            model = part.getcol("MODEL_DATA", 0, min(_ROWS, part.nrows()))[[0, -1]]
                            if np.all(model == 1):
                                unset.setdefault(field, []).append(int(description.spw_id))
                    finally:
                        part.close()
    return [UnitModel(vis=ms.name, field=ms.field(f).name, spws=spws) for f, spws in unset.items()]
