"""Does the VLA recipe flag what is bad, keep what is good, and say so? One line per simulated observation and fault.

    python benchmarks/truth_flags.py                              # C, L and X band, two seeds, about 40 minutes
    python benchmarks/truth_flags.py vla-c-cont-d --seeds 3       # one preset, one seed
    python benchmarks/truth_flags.py vla-x-cont-d --faults clean all --scale small
    python benchmarks/truth_flags.py vla-c-cont-d --faults rfi --account      # who took which good data

The stages of `pl run hifv` are run up to the weights, and the flags after each stage held against the faults injected.

* Good data count when nothing is wrong with them and the deterministic flags (edge channels, beginnings of scans,
  autocorrelations, zeros, what came with the data: all there is after hifv_flagdata) have left them.
* Hanning smoothing puts a quarter of a spoiled channel into each of its neighbours: these count neither as good nor as
  bad, nor does the data of the antenna in the way (`open`).
* Calibrators are counted before hifv_finalcals, targets after hifv_checkflag has seen them calibrated, which no data
  are before their calibration is known.
* Line windows of targets lose nothing to that last flagging: hifv_mstransform splits them off with the flags from
  before, for it would take lines for interference.

With --check the exit code is 1 when anything is beyond its limit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

PRESETS = ("vla-c-cont-d", "vla-l-cont-a", "vla-x-cont-d")
FAULTS: dict[str, tuple[str, ...]] = {
    "clean": (),
    "dead": ("dead-antenna",),
    "deformatter": ("bad-deformatter",),
    "rfi": ("rfi-narrow=channel:9", "rfi-intermittent=spw:0", "rfi-broad=spw:{last}"),
    "jump": ("phase-jump",),
    "shadow": ("shadowing",),
}
FAULTS["all"] = tuple(f for faults in FAULTS.values() for f in faults)
BAD_FLAGGED, GOOD_LOST, CLEAN_LOST, SCORE = 0.95, 0.03, 0.02, 0.9
"""The limits: at least, at most, at most without a fault; a fault's score is below, a clean set's not."""
CALIBRATION = (
    "hifv_hanning", "hifv_flagdata", "hifv_vlasetjy", "hifv_priorcals", "hifv_syspower", "hifv_testBPdcals",
    "hifv_checkflag:bpd-vla", "hifv_semiFinalBPdcals", "hifv_checkflag:allcals-vla", "hifv_solint", "hifv_fluxboot",
    "hifv_finalcals", "hifv_applycals", "hifv_checkflag:target-vla", "hifv_statwt",
)  # fmt: skip
PARAMETERS = {"hifv_flagdata": {"hm_tbuff": "1.5int", "fracspw": 0.01}}
"""As recipe hifv has them."""
FLAGGING = {n for n in CALIBRATION if n not in ("hifv_vlasetjy", "hifv_priorcals", "hifv_syspower", "hifv_solint")}
DETERMINISTIC, BEFORE_FINAL, BEFORE_TARGET = "hifv_flagdata", "hifv_fluxboot", "hifv_applycals"


# ---- one case, in a process of its own -------------------------------------------------------------------------------


def case(preset: str, scale: str, seed: int, fault: str, folder: Path) -> dict[str, Any]:
    """Simulate, reduce and judge one observation."""
    import attrs

    from pl_kernel.drawing import Pages
    from pl_kernel.session import Session
    from pl_sim.engine import simulate
    from pl_sim.presets import get_preset
    from pl_sim.truth import Truth

    Pages.submit = lambda self, drawing: None  # nobody looks at these pages
    planned = get_preset(preset).observations(scale)[0]
    observed = attrs.evolve(planned, model_seed=planned.model_seed + 1000 * seed)
    last = max(i for i, s in enumerate(observed.spws) if s.role == "science")
    faults = [f.format(last=last) for f in FAULTS[fault]]
    data = simulate(observed, folder / "data.ms", seed=seed, faults=faults)
    kept: dict[str, dict[int, np.ndarray]] = {}
    with Session.create(folder / "run") as session:
        outcomes = [session.run_stage("hifv_importdata", vis=[str(data)])]
        for step in CALIBRATION:
            name, _, mode = step.partition(":")
            parameters = {"checkflagmode": mode} if mode else PARAMETERS.get(name, {})
            outcomes.append(session.run_stage(name, **parameters))
            ms = session.root / "work" / session.context.measurement_sets[0].path
            if step in FLAGGING:
                kept[step] = flags_of(ms)
    arrays = {f"{step} {spw}": bits for step, windows in kept.items() for spw, bits in windows.items()}
    np.savez_compressed(folder / "flags.npz", **arrays)
    lines = session.context.values["hifv.line_spws"].get(session.context.measurement_sets[0].name, ())
    return {**judge(Truth.load(data), ms, kept, lines), **judge_scores(Truth.load(data), outcomes)}


def flags_of(ms: Path) -> dict[int, np.ndarray]:
    """The flags of each window, (correlation, channel, row), as bits."""
    from pl_sim.casa import open_table

    found = {}
    with open_table(ms) as main:
        for spw in sorted(set(main.getcol("DATA_DESC_ID").tolist())):
            part = main.query(f"DATA_DESC_ID=={spw}")
            found[spw] = np.packbits(part.getcol("FLAG"), axis=None)
            part.close()
    return found


def judge(truth: Any, ms: Path, kept: dict[str, dict[int, np.ndarray]], lines: Iterable[int] = ()) -> dict[str, Any]:
    """Counts of bad and good data flagged, by fault, and where good data went."""
    from pl_sim.casa import open_table
    from pl_sim.compare import main_columns

    steps = list(kept)
    bad: dict[str, list[int]] = {}
    good, lost = [0, 0], [0, 0]
    account: dict[str, int] = {}
    with open_table(ms) as main:
        for spw in kept[steps[0]]:
            part = main.query(f"DATA_DESC_ID=={spw}")
            columns, shape = main_columns(truth, part, 0, part.nrows()), part.getcol("FLAG").shape
            part.close()
            flag = {s: np.unpackbits(kept[s][spw], count=int(np.prod(shape))).reshape(shape).astype(bool) for s in kept}
            target = np.char.startswith(columns["FIELD"], "SIM_")
            due = np.where(target, flag[steps[-1]], flag[BEFORE_FINAL])
            spoiled, neighbours = regions(truth, columns, spw, shape)
            for reason, box in spoiled.items():
                tally = bad.setdefault(reason, [0, 0])
                tally[0] += int(box.sum())
                tally[1] += int((due & box).sum())
            wrong = np.any(list(spoiled.values()), axis=0) if spoiled else np.zeros(shape, bool)
            fine = ~wrong & ~neighbours & ~flag[DETERMINISTIC] & (columns["ANTENNA1"] != columns["ANTENNA2"])
            for i, chosen in enumerate((fine & ~target, fine & target)):
                good[i] += int(chosen.sum())
                lost[i] += int((chosen & flag[BEFORE_TARGET if i and spw in set(lines) else steps[-1]]).sum())
            before = flag[DETERMINISTIC]
            for step in steps[steps.index(DETERMINISTIC) + 1 :]:
                new = flag[step] & ~before & fine
                before = before | flag[step]
                book(account, step, spw, new, target, columns, truth)
    wrong_all = [sum(t[i] for t in bad.values()) for i in (0, 1)]
    top = sorted(account.items(), key=lambda i: -i[1])[:25]
    return {
        "bad": bad, "bad_flagged": wrong_all[1] / wrong_all[0] if wrong_all[0] else None,
        "good_lost": sum(lost) / sum(good), "calibrators_lost": lost[0] / good[0], "targets_lost": lost[1] / good[1],
        "account": [[k, 100 * v / sum(good)] for k, v in top],
    }  # fmt: skip


def regions(
    truth: Any, columns: dict[str, np.ndarray], spw: int, shape: tuple[int, ...]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What each fault spoiled, and what is neither good nor bad, both (correlation, channel, row)."""
    correlations = truth.record["spws"][spw]["correlations"]
    spoiled: dict[str, np.ndarray] = {}
    neither = np.zeros(shape, bool)
    for region, rows in truth.bad_rows(columns, ("bad", "online", "calibratable", "weak")):
        channels, hands = region.channel_mask(shape[1]), region.correlation_mask(correlations)
        box = hands[:, None, None] & channels[None, :, None] & rows[None, None, :]
        if region.severity in ("bad", "online"):
            spoiled[region.reason] = spoiled.get(region.reason, False) | box
        wider = channels | np.roll(channels, 1) | np.roll(channels, -1) if region.channels else channels
        neither |= hands[:, None, None] & wider[None, :, None] & rows[None, None, :]
    return spoiled, neither


def book(
    account: dict[str, int], step: str, spw: int, new: np.ndarray, target: np.ndarray,
    columns: dict[str, np.ndarray], truth: Any,
) -> None:  # fmt: skip
    """Add what a stage took, by window, hands, kind of field, and the antenna of a fault."""
    named = {str(f.get("antenna") or f.get("shadowed")) for f in truth.record["faults"]} & set(truth.antennas)
    ids = [truth.antennas.index(a) for a in named]
    touched = np.isin(columns["ANTENNA1"], ids) | np.isin(columns["ANTENNA2"], ids)
    for hands, part in (("parallel", new[[0, -1]]), ("cross", new[1:-1])):
        for kind, rows in (("target", target), ("calibrator", ~target)):
            for who, some in (("fault's antenna", touched), ("others", ~touched)):
                number = int(part[..., rows & some].sum())
                if number:
                    key = f"{step} spw {spw} {hands} {kind} {who}"
                    account[key] = account.get(key, 0) + number


def judge_scores(truth: Any, outcomes: list[Any]) -> dict[str, Any]:
    """Scores below 0.9, and the lowest that names each fault's antenna, window or scan."""
    low = sorted(
        ((s.score, o.name, s.metric, s.long) for o in outcomes for s in o.scores if s.score is None or s.score < SCORE),
        key=lambda s: -1 if s[0] is None else s[0],
    )
    scored = [(s, o.name) for o in outcomes for s in o.scores if s.score is not None and s.score < SCORE]
    named = {}
    for fault in truth.record["faults"]:
        hits = [(s.score, name, s.long) for s, name in scored if names(s, fault)]
        named[fault["name"]] = min(hits) if hits else None
    failed = [f"{o.name} failed" for o in outcomes if o.status != "ok"]
    return {"low": low, "named": named, "failed": failed}


def names(score: Any, fault: dict[str, Any]) -> bool:
    """Whether a score speaks of the antenna of a fault, or of its windows."""
    text, where = f"{score.long} {score.short}", score.applies_to
    antenna = fault.get("antenna") or fault.get("shadowed")
    if antenna:
        return antenna in text or antenna in where.antenna
    if not score.metric.startswith(("checkflag.", "flags.", "calibration.interference")):
        return False  # it speaks of the same window for another reason
    spws = {str(s) for s in fault.get("spws") or [fault.get("spw")]}
    return bool(spws & {str(s) for s in where.spw}) or any(f"spw {s} " in text for s in spws)


# ---- all cases -------------------------------------------------------------------------------------------------------


def cases(options: argparse.Namespace) -> list[tuple[str, str, int, str]]:
    """Preset, scale, seed and fault of each case that is asked for."""
    return [(p, options.scale, s, f) for p in options.presets for s in options.seeds for f in options.faults]


def kept_in(folder: Path, one: tuple[str, str, int, str]) -> Path:
    """Where the data and the run of a case are."""
    return folder / "-".join(map(str, one))


def run_case(preset: str, scale: str, seed: int, fault: str, folder: Path) -> dict[str, Any]:
    folder.mkdir(parents=True)
    log = folder / "log.txt"
    with log.open("w") as stream:
        found = subprocess.run(
            [sys.executable, __file__, "--case", json.dumps([preset, scale, seed, fault, str(folder)])],
            stdout=stream, stderr=subprocess.STDOUT, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    if found.returncode:
        return {"error": log.read_text()[-1500:]}
    return json.loads((folder / "found.json").read_text())


def show(title: str, fault: str, found: dict[str, Any], account: bool) -> bool:
    """Print one case; False when it is beyond its limits."""
    if "error" in found:
        print(f"{title}  FAILED\n{found['error']}")
        return False
    limit = GOOD_LOST if FAULTS[fault] else CLEAN_LOST
    flagged, lost = found["bad_flagged"], found["good_lost"]
    missed = [name for name, best in found["named"].items() if best is None]
    ok = lost <= limit and (flagged is None or flagged >= BAD_FLAGGED) and not missed and not found["failed"]
    part = "     -" if flagged is None else f"{100 * flagged:6.2f}"
    print(
        f"{title}  bad flagged {part} %  good lost {100 * lost:5.2f} %"
        f" (calibrators {100 * found['calibrators_lost']:.2f}, targets {100 * found['targets_lost']:.2f};"
        f" limit {100 * limit:.0f})  {'ok' if ok else 'BEYOND'}"
    )
    for name, (all_of_it, hit) in found["bad"].items():
        if all_of_it and hit < BAD_FLAGGED * all_of_it:
            print(f"      {name}: {100 * hit / all_of_it:.1f} % of it flagged")
    for name, best in found["named"].items():
        print(f"      {name}: " + ("NO SCORE NAMES IT" if best is None else f"{best[0]:.2f} {best[1]}: {best[2]}"))
    for score, stage, metric, text in [] if FAULTS[fault] else found["low"]:
        print(f"      {'none' if score is None else f'{score:.2f}'} {stage} {metric}: {text}")
    for text in found["failed"]:
        print(f"      {text}")
    for key, percent in found["account"] if account else []:
        print(f"        {percent:6.3f} %  {key}")
    return ok


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", default=PRESETS, metavar="preset")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--scale", choices=("tiny", "small"), default="tiny")
    parser.add_argument("--faults", nargs="+", choices=tuple(FAULTS), default=tuple(FAULTS))
    parser.add_argument("--account", action="store_true", help="show which stage took which good data")
    parser.add_argument("--keep", type=Path, help="folder for data and runs; default: none is kept")
    parser.add_argument("--check", action="store_true", help="exit 1 when anything is beyond its limit")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        preset, scale, seed, fault, folder = json.loads(options.case)
        found = case(preset, scale, seed, fault, Path(folder))
        (Path(folder) / "found.json").write_text(json.dumps(found, default=float))
        return 0
    used = [f for f in (kept_in(options.keep, c) for c in cases(options)) if f.exists()] if options.keep else []
    if used:
        parser.error(f"{used[0]} exists already: choose another folder with --keep, or remove it.")
    good = True
    for one in cases(options):
        preset, scale, seed, fault = one
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as scratch:
            found = run_case(preset, scale, seed, fault, kept_in(options.keep or Path(scratch), one))
        title = f"{preset} {scale} seed {seed} {fault:<11} {time.monotonic() - began:4.0f} s"
        good &= show(title, fault, found, options.account)
        sys.stdout.flush()
    return 0 if good or not options.check else 1


if __name__ == "__main__":
    sys.exit(main())
