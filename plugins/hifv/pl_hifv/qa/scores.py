"""Scores of the VLA's own stages."""

from __future__ import annotations

from pl_hifv.stages.flagdata import FlagdataResult
from pl_hifv.stages.importdata import ImportdataResult
from pl_hifv.stages.priorcals import PriorcalsResult
from pl_hifv.stages.vlasetjy import VlasetjyResult
from pl_kernel import QAScore, scorer
from pl_kernel.qa import AppliesTo

PLANNED = ("autocorr", "edgespw")
"""Flags that the setup asks for; they say nothing about the quality of the data."""
NOTABLE = 0.01
"""Agents that flagged at least this part of all data are named."""
STATED_SCALE = 0.8
"""A flux scale that somebody typed is as good as what they knew: no fault, and to be known by who uses the data."""
WORDS = {
    "before": "in the data as they came", "clip": "exact zeros", "anos": "antennas not on source",
    "online": "other online flags",
    "shadow": "shadowed antennas", "intents": "scans for pointing and set-up", "template": "the user's template",
    "scans": "scans named by the user", "quack": "beginnings of scans", "baseband": "edges of basebands",
}  # fmt: skip


@scorer(ImportdataResult)
def imported(result: ImportdataResult) -> list[QAScore]:
    """Needed intents (each missing one costs 1/n of the sets), how sure the intents are, data processed before.

    Where calibrated data are wanted, data that are not calibrated instead of the last.
    """
    scores = []
    count = max(len(result.imported), 1)
    missing: list[str] = []
    for item in result.imported:
        missing += [f"{intent} in {item.ms.name}" for intent in result.needs if intent not in item.ms.intents]
    scores.append(
        QAScore(
            metric="import.missing_intents", value=len(missing), score=max(0.0, 1 - len(missing) / count),
            short="Needed intents present" if not missing else f"Missing: {', '.join(missing)}",
            long=f"Every measurement set has the intents that are needed: {', '.join(result.needs)}." if not missing
            else f"There is no {' and no '.join(missing)}; what follows needs {' and '.join(result.needs)}.",
        )
    )  # fmt: skip
    for source in result.intents:
        value = {"data": 1.0, "user": 1.0, "inferred": 0.6 if source.doubts else 0.95, "none": 0.0}[source.source]
        scores.append(
            QAScore(
                metric="import.intents_source", value=source.source, score=value, short=f"Intents: {source.source}",
                long=" ".join(source.doubts) if source.doubts else {
                    "data": "The data say what each scan is for.", "user": "The user said what each field is for.",
                    "inferred": "Positions and the order of the scans tell what each field is for, without any doubt.",
                    "none": "Nobody says what the scans are for.",
                }[source.source],
                applies_to=AppliesTo(vis=source.vis),
            )
        )  # fmt: skip
    for name, sentences in result.unsupported.items():
        scores.append(
            QAScore(
                metric="import.unsupported", value=len(sentences), score=0.5, short="Unsupported set-up",
                long=f"{name}: {' '.join(sentences)}", applies_to=AppliesTo(vis=name),
            )
        )  # fmt: skip
    scores.append(_unprocessed(result, count) if result.calibrated is None else _calibrated(result.calibrated))
    return scores


def _calibrated(sets: dict[str, bool]) -> QAScore:
    """Recipes that image calibrated data need what others must not have."""
    raw = [name for name, calibrated in sets.items() if not calibrated]
    return QAScore(
        metric="import.calibrated", value=len(raw), score=1 - len(raw) / max(len(sets), 1),
        short="Calibrated data" if not raw else "Not calibrated",
        long="Every measurement set holds calibrated data, which this recipe works on." if not raw
        else f"There is no CORRECTED_DATA in {', '.join(raw)}: this recipe works on calibrated data and calibrates "
             "none.",
    )  # fmt: skip


def _unprocessed(result: ImportdataResult, count: int) -> QAScore:
    old = [name for name, processed in result.has_history.items() if processed]
    return QAScore(
        metric="import.processed_before", value=len(old), score=1.0 - 0.5 * len(old) / count,
        short="Unprocessed data" if not old else "Processed before",
        long="The history holds no earlier processing." if not old
        else f"The history of {', '.join(old)} holds earlier processing: smoothing or calibration may be "
             f"applied twice.",
    )  # fmt: skip


@scorer(FlagdataResult)
def deterministic_flags(result: FlagdataResult) -> list[QAScore]:
    """What was flagged beyond the plan: 1 − f/0.6; zeros above 1 % in a line window, or above 5 % of all: 0.3; flags
    of a user's template: 0.3, for somebody had a reason that the next reader must know.

    Autocorrelations and edge channels, which are flagged by decision, count neither as data nor as flagged; the
    reference pipeline (2026) counts everything.
    """
    scores = []
    for one in result.sets:
        total = one.counts[-1].total if one.counts else 0.0
        planned = sum(one.newly(a) for a in PLANNED) * total
        lost = sum(one.newly(c.name) for c in one.counts if c.name not in PLANNED) * total
        f = lost / (total - planned) if total > planned else 1.0
        shares = {WORDS.get(c.name, c.name): one.newly(c.name) for c in one.counts if c.name not in PLANNED}
        most = [f"{100 * v:.1f} % {k}" for k, v in sorted(shares.items(), key=lambda i: -i[1]) if v >= NOTABLE]
        scores.append(
            QAScore(
                metric="flags.deterministic", value=f, score=max(0.0, 1 - f / 0.6),
                short=f"{100 * f:.1f} % flagged",
                long=f"{100 * f:.1f} % of the cross-correlations of {one.vis} (without edge "
                "channels) were flagged before anybody looked at the data"
                f"{': ' if most else ''}{', '.join(most)}.", applies_to=AppliesTo(vis=one.vis),
            )
        )  # fmt: skip
        if one.commands.get("template"):
            count = len(one.commands["template"])
            scores.append(
                QAScore(
                    metric="flags.template", value=count, score=0.3, short="Template used",
                    long=f"{count} {'command' if count == 1 else 'commands'} of the user's template flagged"
                    f" {100 * one.newly('template'):.1f} % of {one.vis}.", applies_to=AppliesTo(vis=one.vis),
                )
            )  # fmt: skip
        clipped = one.newly("clip")
        worst = clipped
        if one.line_spws:
            by = next((c.by.get("spw", {}) for c in one.counts if c.name == "clip"), {})
            before = next((c.by.get("spw", {}) for c in one.counts if c.name == "before"), {})
            worst = max(
                ((by[s][0] - before.get(s, (0.0, 0.0))[0]) / by[s][1] for s in one.line_spws if s in by and by[s][1]),
                default=0.0,
            )
        bad = worst > (0.01 if one.line_spws else 0.05)
        scores.append(
            QAScore(
                metric="flags.zeros", value=worst, score=0.3 if bad else 1.0, short=f"{100 * worst:.2f} % zeros",
                long=f"{100 * worst:.2f} % of the visibilities of {one.vis} are exactly zero.",
                applies_to=AppliesTo(vis=one.vis),
            )
        )  # fmt: skip
    return scores


@scorer(VlasetjyResult)
def standards_present(result: VlasetjyResult) -> list[QAScore]:
    """A standard calibrator with data left, and a model for each of its windows."""
    scores = [
        QAScore(
            metric="setjy.measured", value=len(result.fluxes),
            score=len(result.fluxes) / result.expected if 0 < len(result.fluxes) <= result.expected else 0.0,
            short=f"{len(result.fluxes)} of {result.expected} models set",
            long=f"{len(result.fluxes)} of {result.expected} combinations of standard calibrator and window have a "
            f"model.",
        )
    ]  # fmt: skip
    for s in result.standards:
        present = s.flagged_fraction < 0.995
        scores.append(
            QAScore(
                metric="setjy.standard_present", value=s.flagged_fraction, score=1.0 if present else 0.0,
                short=f"{s.calibrator} present" if present else f"{s.calibrator} flagged",
                long=f"{s.field} is {'no standard' if s.stated else s.calibrator}; {100 * s.flagged_fraction:.0f} % of"
                " its data are flagged.",
                applies_to=AppliesTo(vis=s.vis, field=s.field),
            )
        )  # fmt: skip
        if s.stated:
            scores.append(
                QAScore(
                    metric="setjy.stated", score=STATED_SCALE, short=f"{s.field}: stated flux",
                    long=f"{s.field} of {s.vis} is no standard calibrator: the flux scale is what a file states of it.",
                    applies_to=AppliesTo(vis=s.vis, field=s.field),
                )
            )  # fmt: skip
    if not result.standards:
        scores.append(
            QAScore(
                metric="setjy.standard_present", score=0.0, short="No standard", long="There is no standard calibrator."
            )
        )
    return scores


@scorer(PriorcalsResult)
def priors_made(result: PriorcalsResult) -> QAScore:
    """Tables that apply to these data and were made."""
    wanted = [p for p in result.priors if p.expected]
    missing = [p for p in wanted if not p.caltable]
    if not wanted:
        return QAScore(
            metric="priors.made", score=None, short="None apply", long="No prior calibration applies to the data."
        )
    return QAScore(
        metric="priors.made", value=len(wanted) - len(missing), score=1 - len(missing) / len(wanted),
        short=f"{len(wanted) - len(missing)} of {len(wanted)} made",
        long="All prior calibrations that apply were made." if not missing
        else "Not made: " + "; ".join(f"{p.kind} of {p.vis} ({p.reason})" for p in missing) + ".",
    )  # fmt: skip
