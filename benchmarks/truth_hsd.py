"""Is what the single-dish recipes find the truth? A table of simulated maps: each quantity and its limit.

    python benchmarks/truth_hsd.py                             # clean maps, three seeds: about 25 minutes on two cores
    python benchmarks/truth_hsd.py tiny nobeyama --seeds 1 2   # some of the maps
    python benchmarks/truth_hsd.py --faults                    # what each fault does to flags and scores
    python benchmarks/truth_hsd.py --faults wide-line          # one of them
    python benchmarks/truth_hsd.py --sky                       # which model of the air hsd_atmcor takes

`pl run` reduces each set as a user does. Maps: `tiny` (2 antennas), `small` (3, two basket-woven maps), `four`
(4 antennas), `pointed` (positions one after the other), `blocks` (two execution blocks), `nobeyama`, `otf` and
`otfraster` (sky from the edges of the map by these modes of sdcal). The seed changes noise, receivers and baselines.
With --check the exit code is 1 when anything is beyond its limit.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

MAPS = ("tiny", "small", "four", "pointed", "blocks", "nobeyama", "otf", "otfraster")
LIMITS = {
    "flux": (5.0, "%"), "velocity": (0.2, "channels"), "position": (0.1, "beams"), "baseline rms": (1.1, "x thermal"),
    "image rms": (15.0, "%"),
}  # fmt: skip
"""Flux, velocity, position, image rms: the largest difference from the truth; baseline rms: over thermal noise."""
FAULTS = {
    "tsys-outlier-antenna": ("flag", ""),
    "tsys-bad-channels": ("flag", ""),
    "outlier-spectra": ("flag", ""),
    "baseline-ripple": ("score", "ripple"),
    "line-in-off": ("score", "emission at the OFF"),
    "wide-line": ("score", "third of the window"),
    "wide-line=share:0.9": ("score", "cannot be told apart"),
    "line-at-edge": ("score", "edge of the window"),
}
"""What must become of each fault: flagged (>= 95 %, <= 3 % of good data), or a score below 0.9 with these words."""
JY_PER_K = 41.0
FWHM_PER_SIGMA = math.sqrt(8 * math.log(2))
LIGHT_KMS = 299_792.458


# ---- making and reducing a set ---------------------------------------------------------------------------------------


def observations(name: str) -> list[Any]:
    """Plans of the execution blocks of a map."""
    import attrs

    from pl_sim.presets import get_preset, tp

    if name == "nobeyama":
        return list(get_preset("nobeyama").observations("tiny"))
    if name == "four":
        tp.PLANS[name] = (4, *tp.PLANS["tiny"][1:])
    made = tp.total_power(name if name in tp.PLANS else "tiny")
    if name == "pointed":
        made = attrs.evolve(made, scans=tuple(_pointed(scan) for scan in made.scans))
    if name == "blocks":
        later = made.start.replace("T04:", "T05:")
        assert later != made.start
        return [made, attrs.evolve(made, start=later, model_seed=made.model_seed + 500)]
    return [made]


def _pointed(scan: Any) -> Any:
    """The same rows as positions 10 arcsec apart, two integrations each."""
    import attrs

    from pl_sim.presets import tp

    subscans: list[Any] = []
    for subscan in scan.subscans:
        if subscan.kind != "on":
            subscans.append(subscan)
            continue
        (x1, y1), (x2, y2) = subscan.track_arcsec
        for part in np.linspace(0.0, 1.0, 16):
            place = (x1 + part * (x2 - x1), y1 + part * (y2 - y1))
            subscans.append(attrs.evolve(subscan, seconds=2 * tp.INTEGRATION_S, track_arcsec=(place, place), gap_s=0.6))
    return attrs.evolve(scan, subscans=tuple(subscans))


def simulate(name: str, seed: int, faults: list[str], folder: Path) -> list[str]:
    """Write the blocks of a map; for a process of its own."""
    import attrs

    from pl_sim.engine import simulate as make

    made = []
    for number, planned in enumerate(observations(name)):
        observed = attrs.evolve(planned, model_seed=planned.model_seed + 1000 * seed)
        made.append(str(make(observed, folder / f"block{number}.ms", seed=seed + 100 * number, faults=faults)))
    return made


def run_case(name: str, seed: int, faults: list[str], folder: Path) -> list[Any]:
    """Simulate, reduce and judge one map in processes of their own; rows of (quantity, what, got)."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def child(*arguments: str) -> Any:
        found = subprocess.run(
            [sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, env=environment, text=True
        )  # fmt: skip
        return json.loads(found.stdout.splitlines()[-1])

    sky = any(f.startswith("telluric-line") for f in faults)
    data = child("--simulate", json.dumps([name, seed, faults]), str(folder))
    recipe = "hsdn_calimage" if name == "nobeyama" else "hsd_calimage"
    if recipe == "hsd_calimage":
        names = [json.loads((Path(f"{d}.truth") / "truth.json").read_text())["antennas"] for d in data]
        lines = [
            f"{Path(d).name},{a},{spw},I,{JY_PER_K}"
            for d, some in zip(data, names, strict=True) for a in some for spw in (4, 6)
        ]  # fmt: skip
        (folder / "jyperk.csv").write_text("MS,Antenna,Spwid,Polarization,Factor\n" + "\n".join(lines) + "\n")
    shortened = without_export(recipe, folder, "hsd_atmcor" if sky else "")
    options = ["--set", f"hsd_skycal.calmode={name}"] if name.startswith("otf") else []
    with (folder / "run.log").open("w") as log:
        code = subprocess.run(
            [sys.executable, "-m", "pl_kernel", "run", shortened, *data, "-o", str(folder / "run"), *options],
            stdout=log, stderr=subprocess.STDOUT, check=False, env=environment, cwd=folder,
        ).returncode  # fmt: skip
    if code:
        sys.exit(f"pl run ended with code {code}:\n{(folder / 'run.log').read_text()[-2000:]}")
    if sky:
        return judge_sky(folder)
    return child("--judge" if not faults else "--judge-fault", json.dumps(faults), str(folder), *data)


def without_export(recipe: str, folder: Path, last: str = "") -> str:
    """A copy of a recipe of ours that does not pack its products; or that ends with the stage `last`."""
    import importlib.resources

    package = "pl_hsdn" if recipe.startswith("hsdn") else "pl_hsd"
    lines = (importlib.resources.files(package) / "recipes" / f"{recipe}.yaml").read_text().splitlines()
    if last:
        lines = lines[: next(k for k, line in enumerate(lines) if line.endswith(last)) + 1]
    path = folder / f"{recipe}.yaml"
    path.write_text("\n".join(line for line in lines if "exportdata" not in line) + "\n")
    return str(path)


# ---- judging a clean map ---------------------------------------------------------------------------------------------


def last_result(run: Path, stage: str, file: str = "result.json") -> dict[str, Any]:
    return json.loads(sorted(run.glob(f"stages/*-{stage}/{file}"))[-1].read_text())


def judge(folder: Path, data: list[str]) -> list[list[Any]]:
    """Rows of (quantity, what, got)."""
    run = folder / "run"
    truths = [json.loads((Path(f"{d}.truth") / "truth.json").read_text()) for d in data]
    dish = truths[0]["extensions"]["SingleDish"]
    rows: list[list[Any]] = []
    context = json.loads((run / "context.json").read_text())
    factor = JY_PER_K if truths[0]["extensions"].get("AlmaSystem") else 1.0
    for image in context["images"]:
        if image["kind"] != "image" or "theoretical_rms" not in image["statistics"] or "BEAM" in image["name"]:
            continue
        spw = image["spws"][0]
        centre = float(np.mean(truths[0]["spws"][spw]["frequency_hz"]))
        cloud = min(dish["clouds"], key=lambda c: abs(c["rest_hz"] - centre))
        got = measure(str(run / "work" / image["name"]), cloud, truths[0]["fields"][0], image["beam"]["major_arcsec"])
        expected = cloud["map_integral_k_kms_arcsec2"] * factor * float(np.mean(dish["efficiencies"]))
        stats = image["statistics"]
        rows += [
            ["flux", f"spw {spw}", 100 * abs(got["integral"] / expected - 1), f"{got['integral'] / expected:.3f}"],
            ["velocity", f"spw {spw}", abs(got["velocity"] - cloud["velocity_kms"]) / got["step"], ""],
            ["position", f"spw {spw}", got["offset"] / image["beam"]["major_arcsec"], f"{got['offset']:.2f} arcsec"],
            ["image rms", f"spw {spw}", 100 * abs(stats["rms"] / stats["theoretical_rms"] - 1),
             f"{stats['rms'] / stats['theoretical_rms']:.3f} x theory"],
        ]  # fmt: skip
    noise = factor * off_noise(run)
    worst = max(
        (fit["rms_after"] / noise / thermal_k(truth, fit), f"{fit['antenna']} spw {fit['spw']} {fit['pol']}")
        for truth, d in zip(truths, data, strict=True) for fit in last_result(run, "hsd_baseline")["fits"]
        if fit["ms"].startswith(Path(d).stem)
    )  # fmt: skip
    return [*rows, ["baseline rms", worst[1], worst[0], ""]]


def off_noise(run: Path) -> float:
    """What the noise of the OFF adds to that of the ON, where the edges of the map are the OFF; else 1.

    They are few integrations (n). Between two of them the sky is interpolated, over which the variance is 2/3n.
    """
    from pl_sim.casa import open_table

    found = [t for t in last_result(run, "hsd_skycal")["tables"] if t["caltype"].startswith("otf")]
    if not found:
        return 1.0
    with open_table(run / "work" / found[0]["table"]) as table:
        off_s = float(np.median(table.getcol("INTERVAL")))
    exposure = json.loads(next(run.parent.glob("*.truth/truth.json")).read_text())["integration_s"]
    return math.sqrt(1 + 2 / 3 * exposure / off_s)


def thermal_k(truth: dict[str, Any], fit: dict[str, Any]) -> float:
    """Noise of one calibrated spectrum (K): that of the ON by the radiometer formula, with the injected Tsys."""
    spw, antenna = fit["spw"], truth["antennas"].index(fit["antenna"])
    pol = truth["spws"][spw]["correlations"].index(fit["pol"])
    extensions = truth["extensions"]
    if "NobeyamaRecords" in extensions:
        tsys = np.array(extensions["NobeyamaRecords"]["tsys_k"])[antenna, pol, spw]
    else:
        band = truth["spws"][spw]["baseband"]
        rows = [m for m in extensions["AlmaSystem"]["tsys_k"] if truth["spws"][m["spw"]]["baseband"] == band]
        tsys = np.mean([np.array(m["mean_k"])[antenna, pol] for m in rows])
    samples = abs(truth["spws"][spw]["channel_hz"]) * truth["integration_s"]
    return float(tsys / (truth["noise_efficiency"] * math.sqrt(samples)))


def measure(path: str, cloud: dict[str, Any], field: dict[str, Any], beam: float) -> dict[str, float]:
    """Integral (unit x km/s arcsec^2 per K-like pixel), velocity (km/s), distance from the truth (arcsec)."""
    from pl_sim.casa import tool

    image = tool("image")
    image.open(path)
    cube = np.where(image.getchunk(getmask=True), image.getchunk(), 0.0)[:, :, 0, :]
    system = image.coordsys()
    frequency = np.array([system.toworld([0, 0, 0, k])["numeric"][3] for k in range(cube.shape[2])])
    cell = abs(float(np.degrees(system.increment(type="direction")["numeric"][1])) * 3600)
    pixel = system.referencepixel("direction")["numeric"]
    ra, dec = np.degrees(system.referencevalue(type="direction")["numeric"])
    image.done()
    east = ((ra - field["ra_deg"] + 180) % 360 - 180) * 3600 * math.cos(math.radians(field["dec_deg"]))
    north = (dec - field["dec_deg"]) * 3600
    velocity = LIGHT_KMS * (1 - frequency / cloud["rest_hz"])
    x, y = np.meshgrid(
        (pixel[0] - np.arange(cube.shape[0])) * cell + east, (np.arange(cube.shape[1]) - pixel[1]) * cell + north,
        indexing="ij",
    )  # fmt: skip
    place, seen = np.array(cloud["offset_arcsec"]), math.hypot(cloud["fwhm_arcsec"], beam)
    line = np.abs(velocity - cloud["velocity_kms"]) < 1.5 * cloud["width_kms"]
    step = abs(float(np.diff(velocity).mean()))
    moment = cube[:, :, line].sum(axis=2) * step
    distance = np.hypot(x - place[0], y - place[1])
    spectrum = cube[distance < 0.6 * seen].sum(axis=0)[line]
    found = place
    for _ in range(5):  # a centroid within a circle leans to the circle's centre
        weight = moment * (np.hypot(x - found[0], y - found[1]) < 0.6 * seen)
        found = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
    return {
        "integral": float(moment[distance < 1.5 * seen].sum() * cell**2),
        "velocity": float((spectrum * velocity[line]).sum() / spectrum.sum()),
        "offset": float(np.hypot(*(found - place))), "step": step,
    }  # fmt: skip


# ---- judging a fault -------------------------------------------------------------------------------------------------


def judge_fault(fault: str, folder: Path, data: list[str]) -> list[list[Any]]:
    """One row: what the scores say, and how much of the bad and good data was flagged."""
    from pl_sim.truth import Truth

    truth, run = Truth.load(data[0]), folder / "run"
    _, words = FAULTS[fault]
    low = [
        (s["score"], f"{path.parent.name}: {s['long']}")
        for path in sorted(run.glob("stages/*/qa.json"))
        for s in json.loads(path.read_text())["scores"] if s["score"] is not None and s["score"] < 0.9
    ]  # fmt: skip
    hit = min((item for item in low if words and words in item[1]), default=(1.0, ""))
    caught, false = flagged(truth, run, fault)
    return [["fault", fault, hit[0], hit[1], caught, false, [f"{v:.2f} {t}" for v, t in sorted(low)[:6]]]]


def flagged(truth: Any, run: Path, fault: str) -> tuple[float | None, float | None]:
    """Shares of the bad and of the good data on the source that are flagged; a bad Tsys is judged in its table."""
    if fault.startswith("tsys"):
        return tsys_flagged(truth, run, fault)
    context = json.loads((run / "context.json").read_text())["values"]
    (folder,) = (run / "work").glob("*.rows")
    key = f"hsd.columns/{folder.stem}.ms"

    def column(name: str) -> np.ndarray:
        return np.load(folder / context.get(f"{key}/{name}", f"{name}.npy"), allow_pickle=False)

    on, valid = column("on_source"), column("row_valid").any(axis=1)
    when, antenna = column("time_s"), column("antenna")
    bad = np.zeros(on.shape, bool)
    for region in truth.bad:
        if region.reason == fault and region.times is not None:
            mine = np.isin(antenna, [truth.antennas.index(a) for a in region.antennas or truth.antennas])
            bad |= mine & (when > region.times[0] - 0.01) & (when < region.times[1] + 0.01)
    if fault == "baseline-ripple":
        bad = antenna == truth.antennas.index(truth.faults[fault]["antenna"])
    caught = float((~valid)[on & bad].mean()) if (on & bad).any() else None
    return caught, float((~valid)[on & ~bad].mean())


def tsys_flagged(truth: Any, run: Path, fault: str) -> tuple[float, float]:
    """The same in the Tsys table."""
    from pl_sim.casa import open_table

    facts = truth.faults[fault]
    (name,) = (run / "work").glob("*hsd_tsysflag*.tbl")
    bad_hit, good_hit = [], []
    with open_table(name) as table:
        antennas, spws = table.getcol("ANTENNA1"), table.getcol("SPECTRAL_WINDOW_ID")
        for row, (antenna, spw) in enumerate(zip(antennas, spws, strict=True)):
            flag = table.getcell("FLAG", row)
            bad = np.zeros(flag.shape, bool)
            if truth.antennas[antenna] == facts["antenna"] and facts.get("spw", spw) == spw:
                first, last = facts.get("channels", (0, flag.shape[1] - 1))
                bad[:, first : last + 1] = True
            bad_hit.append(flag[bad])
            good_hit.append(flag[~bad])
    return float(np.concatenate(bad_hit).mean()), float(np.concatenate(good_hit).mean())


# ---- judging the choice of a model of the air ------------------------------------------------------------------------


def judge_sky(folder: Path) -> list[Any]:
    """What hsd_atmcor took of the models it tried, and why: [climate or None, (climate, metric) ...]."""
    (item,) = last_result(folder / "run", "hsd_atmcor")["corrected"]
    trials: dict[int, float] = {}
    for trial in item["trials"]:
        climate = trial["model"]["atmtype"]
        trials[climate] = min(trials.get(climate, math.inf), trial["metric"])
    return [item["model"]["atmtype"] if item["status"] == "Y" else None, sorted(trials.items()), item["reason"]]


# ---- command line ----------------------------------------------------------------------------------------------------


def clean_table(names: list[str], seeds: list[int], root: Path, keep: bool) -> bool:
    good = True
    print(f"{'map':<10}{'seed':>5}  {'quantity':<14}{'worst':>8}{'limit':>8}  {'':<10} {'where'}")
    for name in names:
        for seed in seeds if name != "small" else seeds[:1]:
            folder, began = root / f"{name}-{seed}", time.monotonic()
            rows = run_case(name, seed, [], folder)
            for quantity, (limit, unit) in LIMITS.items():
                mine = [r for r in rows if r[0] == quantity]
                worst = max(mine, key=lambda r: r[2]) if mine else None
                passed = worst is not None and worst[2] <= limit
                good &= passed
                got = f"{worst[2]:8.3f}" if worst else "    none"
                where = ", ".join(f"{r[1]} {r[3]}".strip() for r in mine)
                mark = "" if passed else "  BEYOND"
                print(f"{name:<10}{seed:>5}  {quantity:<14}{got}{limit:>8}  {unit:<10} {where}{mark}", flush=True)
            print(f"{name:<10}{seed:>5}  {time.monotonic() - began:.0f} s", flush=True)
            if not keep:
                shutil.rmtree(folder, ignore_errors=True)
    return good


def fault_table(faults: list[str], seeds: list[int], root: Path, keep: bool) -> bool:
    good = True
    print(f"{'fault':<22}{'seed':>5}{'flagged':>9}{'false':>8}{'score':>7}  message")
    for fault in faults:
        for seed in seeds[:1]:
            folder = root / f"{fault}-{seed}"
            (row,) = run_case("four" if fault.startswith("tsys") else "tiny", seed, [fault], folder)
            _, _, score, message, caught, false, others = row
            by_flags = caught is not None and caught >= 0.95 and false is not None and false <= 0.03
            passed = by_flags or (bool(message) and score < 0.9)
            good &= passed
            shown = ["-" if v is None else f"{100 * v:.1f} %" for v in (caught, false)]
            print(f"{fault:<22}{seed:>5}{shown[0]:>9}{shown[1]:>8}{score:>7.2f}  {message}"
                  + ("" if passed else "  NOT MET"), flush=True)  # fmt: skip
            for other in others:
                print(f"{'':<30}{other}", flush=True)
            if not keep:
                shutil.rmtree(folder, ignore_errors=True)
    return good


def sky_table(climates: list[int], seeds: list[int], root: Path, keep: bool) -> bool:
    good = True
    print(f"{'climate':>7}{'seed':>5}{'chosen':>8}  metric of each climate (best lapse rate and scale height)")
    for climate in climates:
        for seed in seeds:
            folder = root / f"sky-{climate}-{seed}"
            chosen, trials, reason = run_case("small", seed, [f"telluric-line={climate}"], folder)
            good &= chosen == climate
            shown = ", ".join(f"{kind}: {value:.3g}" for kind, value in trials)
            mark = "" if chosen == climate else "  WRONG"
            print(f"{climate:>7}{seed:>5}{chosen or 'none':>8}  {shown}{reason}{mark}", flush=True)
            if not keep:
                shutil.rmtree(folder, ignore_errors=True)
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("maps", nargs="*", help=f"of {', '.join(MAPS)}; default all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--faults", nargs="*", help=f"inject these instead; default {', '.join(FAULTS)}")
    parser.add_argument("--sky", nargs="*", type=int, help="an ozone line in the window, in these climates (1 to 4)")
    parser.add_argument("--folder", type=Path, help="where data and runs stay; default: a temporary folder")
    parser.add_argument("--check", action="store_true", help="exit with 1 when anything is beyond its limit")
    given = parser.parse_args()
    unknown = sorted({*given.maps} - {*MAPS} | {*(given.faults or ())} - {*FAULTS})
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}")
    with tempfile.TemporaryDirectory() as temporary:
        root, keep = (given.folder or Path(temporary)).absolute(), given.folder is not None
        if given.sky is not None:
            good = sky_table(given.sky or [1, 2, 3, 4], given.seeds, root, keep)
        elif given.faults is not None:
            good = fault_table(given.faults or list(FAULTS), given.seeds, root, keep)
        else:
            good = clean_table(given.maps or list(MAPS), given.seeds, root, keep)
    print("all within their limits" if good else "NOT all within their limits")
    if given.check and not good:
        sys.exit(1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--simulate"]:
        case = json.loads(sys.argv[2])
        print(json.dumps(simulate(case[0], case[1], case[2], Path(sys.argv[3]).absolute())))
    elif sys.argv[1:2] == ["--judge"]:
        print(json.dumps(judge(Path(sys.argv[3]), sys.argv[4:])))
    elif sys.argv[1:2] == ["--judge-fault"]:
        print(json.dumps(judge_fault(json.loads(sys.argv[2])[0], Path(sys.argv[3]), sys.argv[4:])))
    else:
        main()
