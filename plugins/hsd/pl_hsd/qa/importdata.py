"""Scores of the imports of single dishes."""

from __future__ import annotations

from pl_hsd.importing import SingleDishResult
from pl_hsd.strategy import NO_OFF
from pl_kernel import AppliesTo, QAScore, scorer
from pl_kernel.common.earth import earth_scores

RASTER_FAILED = 0.8
"""Of the reference pipeline (2026), for each execution block whose raster rows could not be told apart."""
NOT_UNIFORM = 0.85
REPAIRED = 0.85
TAKEN_AS_CALIBRATED = 0.85
NO_TSYS = 0.5
NOT_CALIBRATED = 0.3


@scorer(SingleDishResult)
def earth_rotation_known(result: SingleDishResult) -> list[QAScore]:
    """How far CASA's tables of the Earth's orientation go."""
    return earth_scores(result.imported)


@scorer(SingleDishResult)
def system_temperatures(result: SingleDishResult) -> list[QAScore]:
    """1, less 1/n for each of n measurement sets without any measurement of Tsys; 0.5 for windows without.

    Tsys comes from scans of the atmosphere, or with every record (a SYSCAL table without such scans).
    """
    sets = [i.ms for i in result.imported]
    needed = [ms for ms in sets if "REFERENCE" in ms.intents]
    lacking = [ms.name for ms in needed if "ATMOSPHERE" not in ms.intents and not result.strategies[ms.name].tsys_spw]
    value = 1 - len(lacking) / len(sets) if sets else 0.0
    scores = [
        QAScore(
            metric="import.tsys", value=float(len(lacking)), score=value,
            short=f"{len(lacking)} of {len(sets)} without Tsys" if lacking else "Tsys was measured",
            long=f"No system temperatures were measured in {', '.join(lacking)}."
            if lacking else "Every measurement set that needs system temperatures has them.",
            applies_to=AppliesTo(vis=tuple(lacking)),
        )
    ]  # fmt: skip
    for ms in needed:
        plan = result.strategies[ms.name]
        without = [int(s) for s in ms.science_spw_ids if int(s) not in plan.tsys_spw]
        if without and ms.name not in lacking:
            scores.append(
                QAScore(
                    metric="import.tsys_windows", value=float(len(without)), score=NO_TSYS,
                    short=f"{len(without)} windows without Tsys",
                    long=f"Windows {', '.join(map(str, without))} of {ms.name} (its own ids) have no Tsys: they cannot"
                    " be calibrated.", applies_to=AppliesTo(vis=ms.name),
                )
            )  # fmt: skip
    return scores


@scorer(SingleDishResult)
def off_spectra(result: SingleDishResult) -> list[QAScore]:
    """Whether every target has an OFF; 0.3 where not, 0.85 where the data are taken as calibrated instead."""
    calibrated = set(getattr(result, "calibrated", ()))
    scores = []
    for item in result.imported:
        plan, ms = result.strategies[item.ms.name], item.ms
        targets = {f.id: f.name for f in ms.fields_with_intent("TARGET")}
        alone = [name for field, name in targets.items() if field not in plan.reference_fields]
        score, short, long = 1.0, "OFF spectra for every target", f"Every target of {ms.name} has OFF spectra."
        if ms.name in calibrated:
            score, short = TAKEN_AS_CALIBRATED, "taken as calibrated"
            long = f"{ms.name} has no OFF spectra; its data are taken as calibrated already, in kelvin."
        elif NO_OFF in plan.remarks or alone:
            score, short = NOT_CALIBRATED, "no OFF spectra"
            long = f"{ms.name} has no OFF spectra for {', '.join(alone)}: the sky cannot be subtracted."
        scores.append(
            QAScore(
                metric="import.off", value=float(len(alone)), score=score, short=short, long=long,
                applies_to=AppliesTo(vis=ms.name, field=tuple(alone)),
            )
        )  # fmt: skip
    return scores


@scorer(SingleDishResult)
def raster_found(result: SingleDishResult) -> list[QAScore]:
    """0.8 for each execution block in which the rows of a raster could not be told apart, by direction or by time."""
    scores = []
    for domain in ("direction", "time"):
        for rows in result.rows:
            own = [t for t in rows.trouble if t.domain == domain]
            if not own:
                continue
            antennas = tuple(sorted({t.antenna for t in own}))
            reasons = "; ".join(dict.fromkeys(t.reason for t in own))
            scores.append(
                QAScore(
                    metric=f"import.raster_{domain}", value=float(len(antennas)), score=RASTER_FAILED,
                    short=f"no raster rows by {domain}",
                    long=f"The raster rows of {', '.join(antennas)} in {rows.vis} could not be told apart by {domain}:"
                    f" {reasons}.",
                    applies_to=AppliesTo(vis=rows.vis, antenna=antennas),
                )
            )  # fmt: skip
    if not scores:
        scores.append(
            QAScore(
                metric="import.raster", value=0.0, score=1.0, short="raster rows found",
                long="Raster rows were told apart in all data that map an area.",
            )
        )  # fmt: skip
    return scores


@scorer(SingleDishResult)
def directions_known(result: SingleDishResult) -> list[QAScore]:
    """1 minus the share of integrations without a direction, by measurement set."""
    scores = []
    for rows, item in zip(result.rows, result.imported, strict=True):
        missing = sum(rows.missing_pointing.values())
        total = max(rows.integrations, 1)
        share = min(1.0, missing / total)
        names = tuple(sorted(rows.missing_pointing))
        scores.append(
            QAScore(
                metric="import.pointing", value=share, score=1.0 if not missing else min(0.85, 1 - share),
                short=f"{missing} integrations without a direction" if missing else "all directions are known",
                long=f"POINTING of {item.ms.name} says where every antenna looked at all times."
                if not missing
                else f"POINTING of {item.ms.name} does not say where {', '.join(names)} looked in {missing} of {total}"
                " integrations (antennas counted singly); hsd_flagdata flags them.",
                applies_to=AppliesTo(vis=item.ms.name, antenna=names),
            )
        )  # fmt: skip
    return scores


@scorer(SingleDishResult)
def maps_uniform(result: SingleDishResult) -> list[QAScore]:
    """0.85 for measurement sets with maps that are cut short, overlong or have holes; hsd_flagdata flags them."""
    scores = []
    for rows in result.rows:
        if not rows.odd_maps:
            continue
        antennas = tuple(sorted({m.antenna for m in rows.odd_maps}))
        fields = tuple(sorted({m.field for m in rows.odd_maps}))
        reasons = "; ".join(dict.fromkeys(m.reason for m in rows.odd_maps))
        scores.append(
            QAScore(
                metric="import.odd_maps", value=float(len(rows.odd_maps)), score=NOT_UNIFORM,
                short=f"{len(rows.odd_maps)} odd maps",
                long=f"Maps of {rows.vis} are not like the others: {reasons}. They make the noise uneven;"
                " hsd_flagdata flags them.",
                applies_to=AppliesTo(vis=rows.vis, antenna=antennas, field=fields),
            )
        )  # fmt: skip
    return scores


@scorer(SingleDishResult)
def repaired(result: SingleDishResult) -> list[QAScore]:
    """0.85 for each measurement set whose metadata had to be put right."""
    found: dict[str, tuple[str, ...]] = getattr(result, "repairs", {})
    return [
        QAScore(
            metric="import.repairs", value=float(len(sentences)), score=REPAIRED, short=f"{len(sentences)} repairs",
            long=f"{vis}: {' '.join(sentences)}", applies_to=AppliesTo(vis=vis),
        )
        for vis, sentences in found.items()
        if sentences
    ]  # fmt: skip
