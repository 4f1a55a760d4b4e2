"""Importing single-dish data: what hsd_importdata and the import stages of other single dishes share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from pl_hsd.flagfiles import OddMapRecord, write_pointing_flags
from pl_hsd.groups import ReductionGroup, reduction_groups
from pl_hsd.rowbuild import Built, RasterTrouble, build_rows
from pl_hsd.rows import RowTable
from pl_hsd.strategy import Strategy, remember, strategy_of
from pl_kernel.common.importing import Imported, ImportInputs, import_data
from pl_kernel.effects import AddMeasurementSet, SetValue
from pl_kernel.errors import DataError
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.params import param
from pl_kernel.stage import Result
from pl_kernel.stage_context import StageContext

_FRAMES = ("ICRS", "J2000")


class SingleDishInputs(ImportInputs):
    """Parameters of import stages for single dishes."""

    hm_rasterscan: str = param(
        "time",
        choices=("time", "direction"),
        doc="How raster rows and maps are told apart: by gaps of time, or by the direction of the scans.",
    )


@attrs.frozen(kw_only=True)
class ImportedRows:
    """What is known of the spectra of one imported measurement set.

    ``integrations`` counts those of all antennas; ``missing_pointing`` by antenna those without a direction.
    """

    vis: str
    n_rows: int
    frame: str
    integrations: int = 0
    missing_pointing: dict[str, int] = attrs.field(factory=dict)
    odd_maps: tuple[OddMapRecord, ...] = ()
    trouble: tuple[RasterTrouble, ...] = ()
    remarks: tuple[str, ...] = ()


class SingleDishResult(Result):
    """The data sets that are now part of the run, and how each is to be calibrated."""

    imported: tuple[Imported, ...]
    rows: tuple[ImportedRows, ...] = ()
    strategies: dict[str, Strategy] = attrs.field(factory=dict)
    groups: tuple[ReductionGroup, ...] = ()


Complete = Callable[[StageContext, MeasurementSet], MeasurementSet]


@attrs.frozen
class Gathered:
    """Everything the stage needs for its result."""

    imported: tuple[Imported, ...]
    rows: tuple[ImportedRows, ...]
    strategies: dict[str, Strategy]
    groups: tuple[ReductionGroup, ...]
    effects: tuple[AddMeasurementSet | SetValue, ...]


def import_single_dish(
    ctx: StageContext,
    inputs: SingleDishInputs,
    complete: Complete | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> Gathered:
    """Import every path, build its table of rows, and find out how it is to be calibrated.

    ``complete`` may add to the metadata of a measurement set that has just been read; ``options`` are further arguments
    of importers by kind, see ``import_data``.

    Raises:
        DataError: data without autocorrelations on a target.
    """
    imported, rows, strategies = [], [], {}
    for item in import_data(ctx, inputs, options):
        ms = complete(ctx, item.ms) if complete else item.ms
        plan = strategy_of(ms)
        if not ms.fields_with_intent("TARGET"):
            raise DataError(
                f"{ms.name} says of no field that it is a target, so there is nothing to map; say with --intent what"
                " its fields were observed for, as in TARGET=name."
            )
        built = build_rows(ctx, ms, output_frame(ms), inputs.hm_rasterscan)
        plan = attrs.evolve(plan, pattern=built.pattern, frame=built.frame, ephemeris_fields=moving_fields(ms))
        strategies[ms.name] = plan
        imported.append(attrs.evolve(item, ms=ms))
        odd = write_pointing_flags(ctx, ms, RowTable.open(ctx, ms))
        rows.append(_rows_of(ms, built, plan, odd))
        for remark in rows[-1].remarks:
            ctx.log.attention(f"{ms.name}: {remark}")
    effects = (*(AddMeasurementSet(i.ms) for i in imported), remember(ctx, strategies))
    groups = reduction_groups(ctx.after(effects))
    return Gathered(tuple(imported), tuple(rows), strategies, groups, effects)


def _rows_of(ms: MeasurementSet, built: Built, plan: Strategy, odd: tuple[OddMapRecord, ...]) -> ImportedRows:
    return ImportedRows(
        vis=ms.name, n_rows=built.n_rows, frame=built.frame, integrations=built.integrations,
         missing_pointing=built.missing, odd_maps=odd,
        trouble=built.trouble, remarks=(*plan.remarks, *built.remarks),
    )  # fmt: skip


def output_frame(ms: MeasurementSet) -> str:
    """Frame of maps: that of the target fields; of several, ICRS before J2000 before the first."""
    frames = [f.frame for f in ms.fields_with_intent("TARGET") if f.frame in (*_FRAMES, "B1950", "GALACTIC")]
    for frame in _FRAMES:
        if frame in frames:
            return frame
    return frames[0] if frames else "ICRS"


def moving_fields(ms: MeasurementSet) -> tuple[int, ...]:
    """Ids of the target fields whose source moves: an ephemeris is attached, or it is a body of the solar system."""
    from pl_hsd.ephemeris import BODIES

    return tuple(
        f.id for f in ms.fields_with_intent("TARGET") if f.is_moving or f.name.strip().lower() in BODIES
    )
