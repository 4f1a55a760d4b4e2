"""Derive weights from the scatter of the visibilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np

from pl_hif.visibilities import pieces
from pl_hifv.contsel import continuum
from pl_hifv.heuristics.antenna_weights import Box, antenna_weights, box
from pl_hifv.occupancy import PARALLEL, FlagMap, look, virtual_ids
from pl_kernel import Inputs, PlError, Result, Stage, param
from pl_kernel.common import flagversions as versions
from pl_kernel.ms.datatypes import DataType
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.stage_context import StageContext

MODES: Mapping[str, dict[str, Any]] = {
    "VLA": {"minsamp": 8, "combine": ""},
    "VLASS-SE": {"combine": "field,scan,state,corr", "chanbin": 1, "timebin": "1yr"},
}
"""Arguments of CASA's statwt by mode (reference pipeline, 2026)."""
_DUMPS = 40
"""Integrations per scan that the statistics look at: memory must not grow with the length of the observation."""


class StatwtInputs(Inputs):
    datacolumn: str = param(
        "corrected", choices=("corrected", "data", "residual", "residual_data"),
        doc="What the scatter is taken from; VLASS-SE takes residual_data.",
    )  # fmt: skip
    statwtmode: str = param("VLA", choices=tuple(MODES), doc="VLASS-SE: one weight per image row and channel.")
    overwrite_modelcol: bool = param(False, doc="Make the model column anew, for residual data.", hidden=True)
    usecontdat: bool = param(True, doc="Take the scatter of targets in the continuum channels that cont.dat names.")


@attrs.frozen(kw_only=True)
class BandWeights:
    """Antenna weights of one band: mean and variance of all, and their distributions."""

    vis: str
    band: str
    mean: float
    variance: float
    antennas: tuple[Box, ...] = attrs.field(converter=tuple)
    spws: tuple[Box, ...] = attrs.field(converter=tuple)
    scans: tuple[Box, ...] = attrs.field(converter=tuple)


class StatwtResult(Result):
    """Weights before and after by measurement set and band; flags before and after."""

    mode: str
    before: tuple[BandWeights, ...]
    after: tuple[BandWeights, ...]
    flags_before: dict[str, FlagMap]
    flags_after: dict[str, FlagMap]
    contdat: dict[str, tuple[str, ...]] = attrs.field(factory=dict)


class Statwt(Stage[StatwtInputs, StatwtResult]):
    """Derive weights from the scatter of the visibilities.

    CASA's statwt gives every integration, baseline, window and correlation a weight of one over the variance of its
    channels, at least eight of them; targets only in their continuum channels where cont.dat names them. The flags
    before are saved as hifv_statwt_before_sN, those after as rfi_flagged_statwt, which hifv_mstransform puts back.

    For the page weights are split into antennas, w_ij = g_i·g_j. Weights that did not change at all are an error: then
    imaging would use those of the correlator. (The reference means that too, and swallows its own exception.) Mode
    VLASS-SE always takes the scatter of residuals. Scores are of all data, where the reference looks at its first call
    only: with cont.dat, one field.
    """

    name = "hifv_statwt"
    page_reads = frozenset()
    topic = "calibration"
    each_set = True
    mutates = frozenset({"weights", "flags"})

    def check(self, ctx: StageContext, inputs: StatwtInputs) -> None:
        wanted = {"corrected": ("CORRECTED_DATA",), "data": ("DATA",), "residual": ("CORRECTED_DATA", "MODEL_DATA"),
                  "residual_data": ("DATA", "MODEL_DATA")}[_column(inputs)]  # fmt: skip
        for ms in self.sets(ctx, inputs):
            with ctx.casa.table(ms.path) as table:
                missing = [c for c in wanted if c not in table.colnames()]
            if missing:
                raise PlError(f"{ms.name} has no {missing[0]}, which the weights are to be derived from.")

    def sets(self, ctx: StageContext, inputs: StatwtInputs) -> tuple[MeasurementSet, ...]:
        return ctx.measurement_sets(inputs.vis, types=(DataType.REGCAL_CONTLINE_ALL, DataType.RAW))

    def run(self, ctx: StageContext, inputs: StatwtInputs) -> StatwtResult:
        before: list[BandWeights] = []
        after: list[BandWeights] = []
        first, last, used, found = {}, {}, {}, {}
        sets = self.sets(ctx, inputs)
        for count, ms in enumerate(sets, 1):
            name = versions.save(ctx, ms, f"hifv_statwt_before_s{ctx.stage_number}", "flags before hifv_statwt")
            found[ms.name] = {"before_statwt": name}
            first[ms.name], _ = look(ctx, ms)
            old = weights(ctx, ms)
            used[ms.name] = self._statwt(ctx, ms, inputs)
            new = weights(ctx, ms)
            again = "after_statwt" in versions.recorded(ctx, ms)  # a second run finds what it left
            if not again and [b.mean for b in old] == [b.mean for b in new]:
                raise PlError(
                    f"The weights of {ms.name} are the same before and after: statwt found nothing to work on;"
                    " its log says why."
                )
            last[ms.name], _ = look(ctx, ms)
            versions.save(ctx, ms, "rfi_flagged_statwt", "flags after hifv_statwt")
            found[ms.name]["after_statwt"] = "rfi_flagged_statwt"
            before += old
            after += new
            ctx.progress(count, len(sets), ms.name)
        return StatwtResult(
            mode=inputs.statwtmode, before=tuple(before), after=tuple(after), flags_before=first, flags_after=last,
            contdat={k: v for k, v in used.items() if v}, effects=(versions.remember(ctx, found),),
        )  # fmt: skip

    def _statwt(self, ctx: StageContext, ms: MeasurementSet, inputs: StatwtInputs) -> tuple[str, ...]:
        arguments = {**MODES[inputs.statwtmode], "datacolumn": _column(inputs), "flagbackup": False}
        chosen = continuum(ctx, ms) if inputs.usecontdat else {}
        if not chosen:
            ctx.casa.statwt(vis=ms.path, **arguments)
            return ()
        for field, selection in chosen.items():
            ctx.casa.statwt(vis=ms.path, field=str(field), fitspw=selection, **arguments)
        rest = [f.id for f in ms.fields if f.id not in chosen and f.spws & set(ms.science_spw_ids)]
        if rest:
            ctx.casa.statwt(vis=ms.path, field=",".join(str(f) for f in rest), **arguments)
        return tuple(ms.field(f).name for f in chosen)


def _column(inputs: StatwtInputs) -> str:
    return "residual_data" if inputs.statwtmode == "VLASS-SE" else inputs.datacolumn


def weights(ctx: StageContext, ms: MeasurementSet) -> list[BandWeights]:
    """Antenna weights of the parallel hands, from up to 40 integrations of every scan, by band."""
    virtual = virtual_ids(ctx, ms)
    ids = sorted(a.id for a in ms.antennas)
    names = {a.id: a.name for a in ms.antennas}
    found = []
    for band in ms.bands or ("",):
        spws = [int(w.id) for w in ms.science_spws if w.band == band or not band]
        parts: list[tuple[int, int, np.ndarray]] = []  # spw, scan, weights (times, pols, antennas)
        for scan in ms.scans:
            for spw in spws:
                if spw in {int(s) for s in scan.spw_ids} and (part := _of_scan(ctx, ms, spw, scan.id, ids)) is not None:
                    parts.append((spw, scan.id, part))
        every = np.concatenate([p.reshape(-1, len(ids)) for _, _, p in parts]) if parts else np.zeros((0, len(ids)))
        good = every[np.isfinite(every)]
        found.append(
            BandWeights(
                vis=ms.name, band=band, mean=float(good.mean()) if good.size else float("nan"),
                variance=float(good.var()) if good.size else float("nan"),
                antennas=[box(names[a], every[:, i]) for i, a in enumerate(ids)],
                spws=[box(str(virtual[s]), _flat(p for w, _, p in parts if w == s)) for s in spws],
                scans=[box(str(s.id), values) for s in ms.scans
                       if (values := _flat(p for _, n, p in parts if n == s.id)).size],
            )
        )  # fmt: skip
    return found


def _flat(parts: Any) -> np.ndarray:
    arrays = [p.ravel() for p in parts]
    return np.concatenate(arrays) if arrays else np.zeros(0)


def _of_scan(ctx: StageContext, ms: MeasurementSet, spw: int, scan: int, ids: list[int]) -> np.ndarray | None:
    """Antenna weights (times, parallel hands, antennas) of some integrations of a scan; None without rows."""
    hands = [i for i, c in enumerate(ms.polarization_of(ms.spw(spw).id).correlations) if c in PARALLEL] or [0]
    columns: dict[str, list[np.ndarray]] = {"TIME": [], "ANTENNA1": [], "ANTENNA2": [], "WEIGHT": []}
    for piece in pieces(ctx, ms, [*columns, "FLAG"], (), [spw], [scan]):
        # Rows without data keep whatever weight they had.
        piece.columns["WEIGHT"] = np.where(piece.columns["FLAG"].all(axis=1), np.nan, piece.columns["WEIGHT"])
        for name, store in columns.items():
            store.append(piece.columns[name])
    if not columns["TIME"]:
        return None
    joined = {k: np.concatenate(v, axis=-1) for k, v in columns.items()}
    times, index = np.unique(joined["TIME"], return_inverse=True)
    step = max(1, -(-times.size // _DUMPS))
    kept = index % step == 0
    place = np.full(max(ids) + 1, -1)
    place[ids] = np.arange(len(ids))
    one, two = place[joined["ANTENNA1"][kept]], place[joined["ANTENNA2"][kept]]
    when = index[kept] // step
    square = np.full((int(when.max()) + 1, len(hands), len(ids), len(ids)), np.nan)
    for p, hand in enumerate(hands):
        square[when, p, one, two] = square[when, p, two, one] = joined["WEIGHT"][hand, kept]
    return antenna_weights(square)
