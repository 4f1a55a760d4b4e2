"""Rank the antennas as phase reference."""

from __future__ import annotations

import attrs

from pl_hif import flags
from pl_hif.heuristics.refant import RankedAntenna, rank
from pl_kernel import Inputs, PlError, Result, Stage, param
from pl_kernel.effects import SetValue
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.stage_context import StageContext

KEY = "hif.refant"
"""Context value: measurement-set name → ranked list of antenna names."""


class RefantInputs(Inputs):
    hm_refant: str = param(
        "automatic", choices=("automatic", "manual"), doc="Rank the antennas, or take the list in refant as it is."
    )
    refant: tuple[str, ...] = param((), doc="Antennas in order of preference, for hm_refant='manual'.")
    refantignore: tuple[str, ...] = param((), doc="Antennas that must not become reference.")
    geometry: bool = param(True, doc="Prefer antennas near the centre of the array.")
    flagging: bool = param(True, doc="Prefer antennas with few flags on the calibrators.")
    intent: str = param("AMPLITUDE,BANDPASS,PHASE,POLARIZATION", doc="Intents on which the flags are counted.")


@attrs.frozen(kw_only=True)
class MsRanking:
    """The ranking of one measurement set."""

    vis: str
    ranked: tuple[RankedAntenna, ...] = attrs.field(converter=tuple)
    left_out: tuple[str, ...] = attrs.field(default=(), converter=tuple)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(a.name for a in self.ranked)


class RefantResult(Result):
    """Ranking per measurement set, best antenna first."""

    rankings: tuple[MsRanking, ...]
    manual: bool = False


class Refant(Stage[RefantInputs, RefantResult]):
    """Rank the antennas as phase reference.

    Every antenna gets N·(1 − d/d_max), d being its distance from the centre of the array and N the number of antennas,
    and N times the least share of good data over the calibrators' intents, relative to the best antenna. The sum
    decides. Antennas without any good data on a calibrator cannot become reference.

    The formula is the reference pipeline's (2026). Later stages pass the whole list to CASA, which falls back to the
    next antenna where the first has no data. Antennas with the same score are ordered by name, so that the choice is
    the same everywhere.
    """

    name = "hif_refant"
    topic = "calibration"
    page_reads = frozenset()
    each_set = True

    def run(self, ctx: StageContext, inputs: RefantInputs) -> RefantResult:
        rankings = [self._one(ctx, ms, inputs) for ms in ctx.measurement_sets(inputs.vis)]
        known = dict(ctx.value(KEY, {}))
        known.update({r.vis: list(r.names) for r in rankings})
        return RefantResult(
            rankings=tuple(rankings), manual=inputs.hm_refant == "manual", effects=(SetValue(KEY, known),)
        )

    def _one(self, ctx: StageContext, ms: MeasurementSet, inputs: RefantInputs) -> MsRanking:
        if inputs.hm_refant == "manual":
            return MsRanking(vis=ms.name, ranked=_as_given(ms, inputs.refant))
        enu = ms.array.local_enu_m()
        positions = {a.name: tuple(float(v) for v in enu[i]) for i, a in enumerate(ms.antennas)}
        good: dict[str, dict[str, float]] = {}
        total: dict[str, dict[str, float]] = {}
        if inputs.flagging:
            for intent in inputs.intent.split(","):
                fields = ms.fields_with_intent(intent)
                if not fields:
                    continue
                found = flags.summary(
                    ctx, ms.path, f"refant_{intent}", field=ms.field_selection(fields), spw=ms.science_spw_selection
                )
                by = found.by["antenna"]
                good[intent] = {name: t - f for name, (f, t) in by.items()}
                total[intent] = {name: t for name, (_, t) in by.items()}
        ranked, left_out = rank(
            positions, good, total, inputs.refantignore, use_geometry=inputs.geometry, use_flagging=inputs.flagging
        )
        if ranked:
            ctx.log.info(f"{ms.name}: reference antenna {ranked[0].name} ({ranked[0].reason}).")
        return MsRanking(vis=ms.name, ranked=ranked, left_out=left_out)


def _as_given(ms: MeasurementSet, names: tuple[str, ...]) -> list[RankedAntenna]:
    if not names:
        raise PlError("hif_refant with hm_refant='manual' needs at least one antenna in refant.")
    return [
        RankedAntenna(
            name=ms.antenna(n).name, score=float(len(names) - i), geometry=0.0, flagging=0.0, distance_m=0.0,
            good_fraction=1.0, reason="given by the user",
        )
        for i, n in enumerate(names)
    ]  # fmt: skip


def refants(ctx: StageContext, ms: MeasurementSet) -> str:
    """The ranked list of a measurement set as CASA takes it.

    Raises PlError when nobody ranked its antennas.
    """
    names = ctx.value(KEY, {}).get(ms.name)
    if not names:
        raise PlError(f"{ms.name} has no reference antenna yet: run hif_refant before a stage that solves for gains.")
    return ",".join(names)
