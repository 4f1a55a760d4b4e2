"""Import data of the Nobeyama 45-m telescope."""

from __future__ import annotations

from pathlib import Path

import attrs
import numpy as np

from pl_hsd.importing import SingleDishInputs, SingleDishResult, import_single_dish
from pl_hsd.strategy import NO_OFF
from pl_hsdn.heuristics.merge import merge_version
from pl_hsdn.repair import repair_directions
from pl_kernel import DataError, InputError, Stage
from pl_kernel.effects import SetValue
from pl_kernel.ms.datatypes import DataType
from pl_kernel.ms.importers import recognise
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.ms.reader import read_measurement_set
from pl_kernel.stage_context import StageContext

OBSERVATORY = "Nobeyama Radio Observatory"
CALIBRATED = "There is no spectrum of an OFF position: the data are taken as calibrated already, in kelvin of T_A*."


class ImportdataInputs(SingleDishInputs):
    """The shared parameters, no more."""


class ImportdataResult(SingleDishResult):
    """The data sets that are now part of the run; versions of the observatory's converter; what was repaired.

    ``calibrated`` are the sets without any OFF spectrum, which are taken as calibrated by the observatory.
    """

    observatory: str = OBSERVATORY
    merge_versions: dict[str, str] = attrs.field(factory=dict)
    repairs: dict[str, tuple[str, ...]] = attrs.field(factory=dict)
    calibrated: tuple[str, ...] = ()


class Importdata(Stage[ImportdataInputs, ImportdataResult]):
    """Import data of the Nobeyama 45-m telescope and learn how the sky was mapped.

    Measurement sets get a working copy, NOSTAR files of the SAM45 spectrometer are converted by CASA's importnro. Then
    as hsd_importdata: a table of all spectra, the calibration strategy, reduction groups. Each beam is an antenna. The
    pattern of the observation is found from the positions.

    Data without any OFF spectrum have been calibrated by the observatory: they are marked so, and calibration stages
    leave them alone. Known faults of converters (axes of directions exchanged, an impossible declination) are repaired
    in the working copy (in the data themselves when they are worked on in place), and every repair is listed.
    """

    name = "hsdn_importdata"
    topic = "dataset"
    takes_data = True

    def check(self, ctx: StageContext, inputs: ImportdataInputs) -> None:
        for path in inputs.vis or ():
            kind = recognise(Path(path)).kind
            if kind not in ("ms", "nostar"):
                raise InputError(
                    f"{path} is neither a measurement set nor a NOSTAR file ({kind}); data in NEWSTAR or other formats"
                    " have to be converted by the observatory's own tools first."
                )

    def run(self, ctx: StageContext, inputs: ImportdataInputs) -> ImportdataResult:
        versions: dict[str, str] = {}
        repairs: dict[str, tuple[str, ...]] = {}

        def complete(ctx: StageContext, ms: MeasurementSet) -> MeasurementSet:
            if not ctx.telescope(ms).is_called("NRO"):
                raise DataError(
                    f"{ms.name} was taken with the telescope '{ms.telescope}', not with the Nobeyama 45-m telescope."
                )
            versions[ms.name] = _merge_version(ctx, ms)
            repairs[ms.name] = repair_directions(ctx, ms)
            return _calibrated_already(_read_again(ctx, ms) if repairs[ms.name] else ms)

        found = import_single_dish(ctx, inputs, complete)
        calibrated = tuple(i.ms.name for i in found.imported if NO_OFF in found.strategies[i.ms.name].remarks)
        for name in calibrated:
            ctx.log.attention(f"{name}: {CALIBRATED}")
        for name, sentences in repairs.items():
            for sentence in sentences:
                ctx.log.attention(f"{name}: {sentence}")
        units = SetValue("hsd.unit", {**ctx.value("hsd.unit", {}), **dict.fromkeys(calibrated, "K")})
        return ImportdataResult(
            imported=found.imported, rows=found.rows, strategies=found.strategies, groups=found.groups,
            merge_versions=versions, repairs=repairs, calibrated=calibrated,
            effects=(*found.effects, *([units] if calibrated else [])),
        )  # fmt: skip


def _merge_version(ctx: StageContext, ms: MeasurementSet) -> str:
    """Version of the observatory's converter, which it writes into OBSERVATION.RELEASE_DATE."""
    with ctx.casa.table(Path(ctx.work) / ms.path / "OBSERVATION") as table:
        values = np.atleast_1d(table.getcol("RELEASE_DATE")) if "RELEASE_DATE" in table.colnames() else np.zeros(0)
    return merge_version(float(values[0]) if values.size else 0.0)


def _read_again(ctx: StageContext, ms: MeasurementSet) -> MeasurementSet:
    fresh = read_measurement_set(
        Path(ctx.work) / ms.path, ctx.telescopes, name=ms.name, session=ms.session, relative_to=ctx.work,
        open_table=ctx.casa.table,
    )  # fmt: skip
    if ms.intents_from != "rules":
        return fresh
    return fresh.with_intents({f.id: f.intents for f in ms.fields if f.intents})


def _calibrated_already(ms: MeasurementSet) -> MeasurementSet:
    """Say of data without an OFF that their raw column is calibrated."""
    raw = ms.column_of(DataType.RAW)
    if "REFERENCE" in ms.intents or raw is None:
        return ms
    return ms.with_data_type(DataType.REGCAL_CONTLINE_ALL, raw, overwrite=True)
