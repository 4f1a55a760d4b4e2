"""Is what the VLA recipe finds the truth? One table per simulated observation: each quantity, its limit.

    python benchmarks/truth_hifv.py                            # all cases, two seeds, about half an hour on two cores
    python benchmarks/truth_hifv.py vla-x-cont-d --seeds 3     # one preset, one seed
    python benchmarks/truth_hifv.py vla-c-cont-d --faint       # target of 5 mJy: its image is limited by thermal noise
    python benchmarks/truth_hifv.py vla-x-cont-d --fault bad-deformatter --fault rfi-narrow

`pl run hifv_calimage_cont` reduces each set as a user does. The seed changes noise, gains, delays, bandpasses and
troposphere. Solutions are held against what thermal noise alone gives them, from the system temperatures injected and
the visibilities that are not flagged; with --check the exit code is 1 when anything is beyond its limit.

Two limits ask for more than a tiny set of X band has to say. Leakage of 5 % on 3C286, 11 % polarized, puts the index of
a calibrator off by 0.018 (rms, eight antennas, 1.2 GHz at 9 GHz); no calibration without polarization can know it:
--leakage 0 shows what is left. A spectral index in the image cannot be better than the noise of the image, which phases
between calibrator scans make three times the thermal one: 0.07 for the fainter source, as the table says beside it.
--scale small (14 antennas, 16 minutes on two busy cores) is what tests 0.05 and 0.1 there.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

CASES = ("vla-l-cont-a", "vla-l-line-d", "vla-c-cont-d", "vla-c-cont-a", "vla-x-cont-d", "vla-two-blocks-d")
LIMITS = {
    "delay": (2.0, "x thermal"), "bandpass": (2.0, "x thermal"), "gain phase": (2.0, "x thermal"),
    "gain amplitude": (2.0, "x thermal"), "calibrator flux": (2.0, "%"), "calibrator index": (0.05, ""),
    "target flux": (3.0, "%"), "target alpha": (0.1, ""), "target position": (0.1, "beams"),
    "image rms": (1.2, "x thermal"),
}  # fmt: skip
"""What a quantity may be; the worst of spws, fields or sources counts for those that are not rms values."""
RECIPE = "hifv_calimage_cont"
C_M_S = 299_792_458.0
NOISE_OF_SMOOTHED = math.sqrt(0.375)
"""A quarter, a half, a quarter of three channels."""
FAINT = 0.04
"""The target's flux densities with --faint: 3 to 5 mJy."""
ARC_A_PIXELS = "640"
"""Images of A configuration: the whole primary beam would be 16,000 pixels wide, and the sources are in the middle."""


# ---- making and reducing a set ---------------------------------------------------------------------------------------


def simulate(
    preset: str, scale: str, seed: int, faint: bool, faults: list[str], leakage: float | None, folder: Path
) -> list[str]:
    """Write the blocks of a preset with noise and receivers of a seed; for a process of its own."""
    import attrs

    from pl_sim.engine import simulate as make
    from pl_sim.presets import get_preset

    made = []
    for number, planned in enumerate(get_preset(preset).observations(scale)):
        sources = planned.sources
        if faint:
            sources = tuple(
                attrs.evolve(
                    s, components=tuple(attrs.evolve(c, flux_jy=FAINT * c.flux_jy) for c in s.components)
                ) if s.name.startswith("SIM_") else s for s in sources
            )  # fmt: skip
        observed = attrs.evolve(planned, sources=sources, model_seed=planned.model_seed + 1000 * seed)
        if leakage is not None:
            observed = attrs.evolve(observed, instrument=attrs.evolve(observed.instrument, leakage=leakage))
        made.append(str(make(observed, folder / f"block{number}.ms", seed=seed, faults=faults)))
    return made


def run_case(case: dict[str, Any], folder: Path) -> list[list[Any]]:
    """Simulate, reduce and judge one case in processes of their own; rows of (quantity, what, got)."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def child(*arguments: str) -> Any:
        found = subprocess.run(
            [sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, env=environment, text=True
        )  # fmt: skip
        return json.loads(found.stdout.splitlines()[-1])

    data = child("--simulate", json.dumps(case), str(folder))
    options = ["--set", f"hif_makeimlist.hm_imsize={ARC_A_PIXELS}"] if case["preset"].endswith("-a") else []
    with (folder / "run.log").open("w") as log:
        code = subprocess.run(
            [sys.executable, "-m", "pl_kernel", "run", RECIPE, *data, "-o", str(folder / "run"), *options],
            stdout=log, stderr=subprocess.STDOUT, check=False, env=environment,
        ).returncode  # fmt: skip
    if code:
        sys.exit(f"pl run ended with code {code}:\n{(folder / 'run.log').read_text()[-2000:]}")
    return child("--judge", str(folder), *data)


# ---- judging ---------------------------------------------------------------------------------------------------------


def result(run: Path, stage: str) -> dict[str, Any]:
    """The result of a stage's last run."""
    return json.loads(sorted(run.glob(f"stages/*-{stage}/result.json"))[-1].read_text())


class Solutions:
    """The final tables of a measurement set, and its calibrated calibrators."""

    def __init__(self, run: Path, name: str, truth: Any) -> None:
        final = result(run, "hifv_finalcals")
        self.work, self.truth = run / "work", truth
        self.tables: dict[str, str] = final["tables"][name]
        self.refant = truth.antennas.index(final["refants"][name][0])
        self.long_s = {b["band"]: b["long"]["seconds"] for b in result(run, "hifv_solint")["bands"] if b["vis"] == name}
        stem = self.tables["amplitude"].rsplit(".hifv_finalcals", 1)[0]
        (self.copy,) = self.work.glob(f"{Path(stem).name}.hifv_finalcals*.finalcalibrators*.ms")

    def rows(self, kind: str, spw: int) -> Iterator[dict[str, Any]]:
        """Unflagged solutions of a window, receptor by receptor."""
        from pl_sim.casa import open_table

        with open_table(self.work / self.tables[kind]) as table:
            part = table.query(f"SPECTRAL_WINDOW_ID=={spw}")
            try:
                if not part.nrows():
                    return
                column = "FPARAM" if "FPARAM" in part.colnames() else "CPARAM"
                values, flags = (part.getcol(name).transpose(2, 0, 1) for name in (column, "FLAG"))
                keys = {k: part.getcol(k) for k in ("TIME", "ANTENNA1", "FIELD_ID", "SCAN_NUMBER")}
            finally:
                part.close()
        for i, (value, flag) in enumerate(zip(values, flags, strict=True)):
            for pol in range(len(value)):
                if not flag[pol].all():
                    yield {
                        **{k: v[i] for k, v in keys.items()}, "pol": pol, "value": value[pol], "good": ~flag[pol],
                    }  # fmt: skip

    def information(self, spw: int) -> Iterator[tuple[float, int, np.ndarray]]:
        """(time, scan, 1/variance) of the calibrators' integrations: S² / sigma² summed over baselines and channels.

        Shape (antenna, receptor): what an integration can say of each gain, relative, from a point source of S.
        """
        from pl_sim.casa import open_table

        truth = self.truth
        names, nu = list(truth.fields), float(truth.frequency_hz(spw).mean())
        sigma = truth.thermal_jy(spw)
        with open_table(self.copy) as main:
            part = main.query(f"DATA_DESC_ID=={spw} && ANTENNA1!=ANTENNA2")
            try:
                if not part.nrows():
                    return
                flag = part.getcol("FLAG")
                time_s, scan, field = (part.getcol(k) for k in ("TIME", "SCAN_NUMBER", "FIELD_ID"))
                one, two = part.getcol("ANTENNA1"), part.getcol("ANTENNA2")
            finally:
                part.close()
        for t in np.unique(time_s):
            here = np.flatnonzero(time_s == t)
            flux = truth.flux_jy(names[field[here[0]]], nu)
            known = np.zeros((len(truth.antennas), 2))
            for pol, hand in ((0, 0), (1, flag.shape[0] - 1)):
                good = (~flag[hand][:, here]).sum(axis=0)
                weight = good * flux**2 / (sigma[one[here], pol] * sigma[two[here], pol])
                np.add.at(known[:, pol], one[here], weight)
                np.add.at(known[:, pol], two[here], weight)
            yield float(t), int(scan[here[0]]), known

    def long_interval(self, spw: int) -> float:
        """Seconds of the solutions of amplitudes."""
        receiver = self.truth.record["spws"][spw]["receiver"].rpartition("_")[2].upper()
        return next(s for band, s in self.long_s.items() if band.upper() == receiver)

    def spws(self) -> list[int]:
        return [i for i, s in enumerate(self.truth.record["spws"]) if s["role"] == "science"]


def smoothed_gains(gain: np.ndarray) -> np.ndarray:
    """Gains (antenna, receptor, channel) that describe smoothed visibilities best, by alternating least squares.

    Smoothing acts on products of gains: where they have slopes of amplitude and phase, smoothed gains are not it.
    """
    products = gain[:, None] * gain[None].conj()
    products[..., 1:-1] = 0.25 * products[..., :-2] + 0.5 * products[..., 1:-1] + 0.25 * products[..., 2:]
    diagonal = np.arange(len(gain))
    products[diagonal, diagonal] = 0
    found = gain.copy()
    for _ in range(60):
        power = (np.abs(found) ** 2).sum(axis=0) - np.abs(found) ** 2
        found = (found + np.einsum("ij...,j...->i...", products, found) / power) / 2
    return found


def bandpass_scans(truth: Any) -> set[int]:
    return {x["number"] for x in truth.record["scans"] if any("CALIBRATE_BANDPASS" in i for i in x["intents"])}


def bandpass_and_delay(s: Solutions, spw: int, smoothed: bool) -> tuple[float, float]:
    """Rms error of the shapes and of the slopes left in them, each over the thermal one; NaN without solutions."""
    truth, nu = s.truth, s.truth.frequency_hz(spw)
    inner = slice(len(nu) // 8, len(nu) - len(nu) // 8)
    information = [x for x in s.information(spw) if x[1] in bandpass_scans(truth)]
    known = sum(k for _, _, k in information) / len(nu)
    # The air over the antennas during these scans is a delay, too.
    then = [int(np.abs(truth.array("times") - t).argmin()) for t, _, _ in information]
    delay = truth.array("delay_s")[:, :, spw] - truth.array("path_m")[then].mean(axis=0)[:, None] / C_M_S
    injected = truth.array(f"bandpass_{spw}") * np.exp(2j * np.pi * delay[:, :, None] * (nu - nu[0]))
    injected = smoothed_gains(injected) if smoothed else injected
    injected = injected * np.exp(-1j * np.angle(injected[s.refant]))
    delays = {(r["ANTENNA1"], r["pol"]): float(r["value"][0]) for r in s.rows("delay", spw)}
    shapes, slopes = [], []
    for row in s.rows("bandpass", spw):
        antenna, pol, good = int(row["ANTENNA1"]), row["pol"], row["good"][inner]
        if good.sum() < 10 or (antenna, pol) not in delays or not (known[antenna, pol] and known[s.refant, pol]):
            continue
        turn = np.exp(2j * np.pi * 1e-9 * delays[antenna, pol] * (nu - nu[0]))
        ratio = (row["value"] * turn / injected[antenna, pol])[inner][good]
        # Amplitude and phase of the antenna, phase of the reference antenna.
        own, reference = 1 / known[antenna, pol], 1 / known[s.refant, pol]
        reference = 0.0 if antenna == s.refant else reference
        error = math.sqrt(own + (own + reference if antenna != s.refant else 0))
        error *= NOISE_OF_SMOOTHED if smoothed else 1.0
        shapes.append(np.mean(np.abs(ratio / ratio.mean() - 1) ** 2) / error**2)
        if antenna != s.refant:
            rest = np.polyfit(nu[inner][good], np.unwrap(np.angle(ratio)), 1)[0] / (2 * np.pi)
            # A line through phases of n channels; smoothing moves noise between channels, and removes none of it here.
            expected = math.sqrt((own + reference) / good.sum()) / (2 * np.pi * np.std(nu[inner][good]))
            slopes.append((rest / expected) ** 2)
    return tuple(math.sqrt(np.mean(x)) if x else math.nan for x in (shapes, slopes))


def gain_errors(s: Solutions, spw: int, kind: str) -> float:
    """Rms of amplitudes or short phases about the injected ones over the thermal rms.

    A constant per antenna, receptor and field is free: the bandpass holds one, leakage of polarized flux adds another.
    """
    truth, phases = s.truth, kind == "short_phase"
    information = list(s.information(spw))
    times = np.array([t for t, _, _ in information])
    injected_t, nu = truth.array("times"), float(truth.frequency_hz(spw).mean())
    # Opacity and gain curve are taken out before, by prior tables.
    gain = truth.array("gain")[:, :, :, spw]
    angle = np.angle(gain) - (2 * np.pi * truth.array("path_m") * nu / C_M_S)[:, :, None]
    groups: dict[tuple, list[tuple[float, float, float]]] = {}
    by_time: dict[float, list[dict[str, Any]]] = {}
    for row in s.rows(kind, spw):
        by_time.setdefault(float(row["TIME"]), []).append(row)
    for at, rows in by_time.items():
        nearest = int(np.abs(times - at).argmin())
        scan = information[nearest][1]
        mine = [i for i, (_, other, _) in enumerate(information) if other == scan]
        # A long scan has several solutions, counted from its first integration.
        span = (times[mine] - times[mine[0]]) // (1e-3 if phases else s.long_interval(spw))
        mine = [i for i, part in zip(mine, span, strict=True) if part == span[mine.index(nearest)]]
        known = sum(information[i][2] for i in mine)
        then = [int(np.abs(injected_t - times[i]).argmin()) for i in mine]
        for row in rows:
            antenna, pol = int(row["ANTENNA1"]), row["pol"]
            if not known[antenna, pol] or (phases and (antenna == s.refant or not known[s.refant, pol])):
                continue
            variance = 1 / known[antenna, pol] + (1 / known[s.refant, pol] if phases else 0.0)
            if phases:
                expected = np.exp(1j * (angle[then, antenna, pol] - angle[then, s.refant, pol])).mean()
                off = float(np.angle(row["value"][0] / expected))
            else:
                off = float(np.log(np.abs(row["value"][0]) / np.abs(gain[then, antenna, pol]).mean()))
            groups.setdefault((antenna, pol, int(row["FIELD_ID"])), []).append((at, off, variance))
    scaled = []
    for members in groups.values():
        off, variance = np.array([m[1] for m in members]), np.array([m[2] for m in members])
        if len(off) < 2:
            continue
        if phases:
            off = np.angle(np.exp(1j * off) / np.exp(1j * off).mean())
        else:
            off = off - np.average(off, weights=1 / variance)
        # The constant takes one degree of freedom.
        scaled += list(off**2 / variance * len(off) / (len(off) - 1))
    return math.sqrt(np.mean(scaled)) if scaled else math.nan


def calibrator_rows(run: Path, name: str, truth: Any) -> Iterator[list[Any]]:
    """Errors of flux densities (%) and spectral indices."""
    for one in result(run, "hifv_fluxboot")["spectra"]:
        if one["vis"] != name or one["band"] == "Multi":
            continue
        nu, label = one["fit"]["reference_hz"], f"{one['field']} {one['band']}"
        injected = truth.flux_jy(one["field"], nu)
        index = math.log(truth.flux_jy(one["field"], 1.01 * nu) / injected) / math.log(1.01)
        yield ["calibrator flux", label, 100 * (10 ** one["fit"]["coefficients"][0] / injected - 1)]
        yield ["calibrator index", label, one["fit"]["coefficients"][1] - index]


def image_rows(run: Path, truth: Any, faint: bool) -> Iterator[list[Any]]:
    """Errors of the target's image; its noise where nothing but thermal noise should limit it."""
    from pl_sim.compare import compare_image

    for made in result(run, "hif_makeimages")["images"]:
        target, numbers, stem = made["target"], made["numbers"], run / "work" / made["name"]
        thermal = thermal_noise(run, truth, target)
        field = next(f for f in truth.fields if f.startswith("SIM_") and f in target["field"])
        tail = ".tt0" if (stem.parent / f"{stem.name}.image.tt0").is_dir() else ""
        alpha = f"{stem}.alpha" if tail else None
        spread = float(np.std(np.log(np.concatenate([truth.frequency_hz(s) for s in target["spws"]]))))
        for m in compare_image(truth, f"{stem}.image{tail}", field, alpha=alpha):
            if not faint:
                yield ["target flux", m.name, 100 * (m.flux_ratio - 1)]
                if m.alpha_error is not None:
                    alone = numbers["rms"] / (m.fitted_jy * spread)
                    yield ["target alpha", f"{m.name}; the image's noise alone: {alone:.3f}", m.alpha_error]
            yield ["target position", m.name, m.offset_beams]
        if faint:
            yield ["image rms", f"{1e6 * numbers['rms']:.1f} uJy/beam", numbers["rms"] / thermal]


def thermal_noise(run: Path, truth: Any, target: dict[str, Any]) -> float:
    """Noise of an image from the injected system temperatures, the visibilities imaged and their weighting, Jy/beam."""
    from pl_sim.casa import open_table

    count, variances = 0.0, []
    for part in target["selections"]:
        for piece in part["spw"].split(","):
            spw = int(piece.partition(":")[0])
            with open_table(run / "work" / part["path"]) as main:
                chosen = main.query(f"DATA_DESC_ID=={spw} && FIELD_ID=={part['field']} && ANTENNA1!=ANTENNA2")
                flag = chosen.getcol("FLAG") if chosen.nrows() else np.ones((2, 1, 1), bool)
                chosen.close()
            good = float((~flag[[0, flag.shape[0] - 1]]).sum())
            sigma = truth.thermal_jy(spw)
            count += good
            variances.append((good, float(np.mean(sigma, axis=0).mean()) ** 2))
    mean = sum(n * v for n, v in variances) / count
    return math.sqrt(mean / count) * float(target.get("noise_factor") or 1.0)


def judge(folder: Path, data: list[str], faint: bool) -> list[list[Any]]:
    """Rows of (quantity, what it is of, got) for a finished run; imports CASA."""
    from pl_sim.truth import Truth

    run, rows = folder / "run", []
    truths = [Truth.load(d) for d in data]
    smoothed = bool(result(run, "hifv_hanning"))
    for vis, truth in zip(data, truths, strict=True):
        name = Path(vis).name
        block = f"{Path(vis).stem} " if len(data) > 1 else ""
        s = Solutions(run, name, truth)
        narrow = {i for i, w in enumerate(truth.record["spws"]) if abs(w["channel_hz"]) < 2e5}
        for spw in s.spws():
            shape, slope = bandpass_and_delay(s, spw, smoothed and spw not in narrow)
            rows += [["bandpass", f"{block}spw {spw}", shape], ["delay", f"{block}spw {spw}", slope]]
            rows += [
                ["gain phase", f"{block}spw {spw}", gain_errors(s, spw, "short_phase")],
                ["gain amplitude", f"{block}spw {spw}", gain_errors(s, spw, "amplitude")],
            ]
        rows += calibrator_rows(run, name, truth)
    rows += image_rows(run, truths[0], faint)
    return rows


# ---- the table -------------------------------------------------------------------------------------------------------


def within(quantity: str, got: float) -> bool:
    """Is a number within its limit? A quantity that could not be had is not."""
    return abs(got) <= LIMITS[quantity][0]


def show(title: str, rows: list[list[Any]]) -> bool:
    """Print the worst of each quantity; True if all are within their limits."""
    print(f"\n{title}")
    passed = True
    for quantity, (limit, unit) in LIMITS.items():
        mine = [(float("nan") if got is None else got, what) for q, what, got in rows if q == quantity]
        if not mine:
            continue
        got, what = max(mine, key=lambda m: (math.isnan(m[0]), abs(m[0])))
        good = all(within(quantity, value) for value, _ in mine)
        passed &= good
        print(f"  {quantity:<18} {got:8.3f}  limit {limit:>6g} {unit:<11} {'' if good else 'BEYOND'} ({what.strip()})")
    return passed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("presets", nargs="*", help=f"default: {' '.join(CASES)}")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--scale", default="tiny", choices=("tiny", "small", "full"))
    parser.add_argument("--fault", action="append", default=[], help="inject it; may be repeated")
    parser.add_argument("--faint", action="store_true", help="faint targets, whose images thermal noise limits")
    parser.add_argument("--leakage", type=float, help="rms modulus of the D-terms instead of the preset's")
    parser.add_argument("--keep", type=Path, help="keep data and runs in this folder")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a limit is passed")
    parser.add_argument("--simulate", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--judge", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.simulate:
        case = json.loads(options.simulate[0])
        (Path(options.simulate[1]) / "case.json").write_text(options.simulate[0])
        print(json.dumps(simulate(**case, folder=Path(options.simulate[1]))))
        return 0
    if options.judge:
        folder = Path(options.judge[0])
        faint = json.loads((folder / "case.json").read_text())["faint"]
        print(json.dumps(judge(folder, options.judge[1:], faint)))
        return 0
    passed = True
    with tempfile.TemporaryDirectory(prefix="pl-truth-") as temporary:
        for preset in options.presets or CASES:
            for seed in options.seeds:
                case = {
                    "preset": preset, "scale": options.scale, "seed": seed, "faint": options.faint,
                    "faults": options.fault, "leakage": options.leakage,
                }  # fmt: skip
                begin = time.monotonic()
                folder = (options.keep or Path(temporary)) / f"{preset}-{seed}{'-faint' * options.faint}"
                rows = run_case(case, folder)
                seconds = time.monotonic() - begin
                title = f"{preset} {options.scale}, seed {seed}{', faint target' * options.faint}, {seconds:.0f} s"
                passed &= show(", ".join([title, *options.fault]), rows)
    print(f"\n{'all within their limits' if passed else 'NOT all within their limits'}")
    return 0 if passed or not options.check else 1


if __name__ == "__main__":
    sys.exit(main())
