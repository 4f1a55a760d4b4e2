"""Reduces a simulated single-dish map with CASA tasks alone and writes what it found as JSON.

    python raw_singledish.py OBSERVATION.ms RESULT.json

Run by the tests in a process of its own: Tsys, sky calibration, baselines, gridding, then moments of the cloud.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from pl_kernel.casa import configure
from pl_sim.casa import open_table, tool
from pl_sim.truth import Truth

SPEED_OF_LIGHT_KMS = 299_792.458
FWHM_PER_SIGMA = math.sqrt(8 * math.log(2))


def reduce(vis: str, truth: Truth) -> dict[str, Any]:
    import casatasks as c

    record = truth.record
    dish = record["extensions"]["SingleDish"]
    spws = record["spws"]
    raster = next(s for s in record["scans"] if any("ON_SOURCE" in i for i in s["intents"]))
    science = [s for s in raster["spws"] if spws[s]["role"] == "science"]
    alma = "AlmaSystem" in record["extensions"]
    c.gencal(vis, "tsys.tbl", caltype="tsys")
    mapping = list(range(len(spws)))
    if alma:
        loads = record["scans"][0]["spws"]
        for s in science:
            mapping[s] = next(
                t for t in loads if spws[t]["baseband"] == spws[s]["baseband"] and spws[t]["role"] == "science"
            )
    c.sdcal(infile=vis, outfile="sky.tbl", calmode="ps", spw=",".join(map(str, science)), overwrite=True)
    # The strings of OBS_MODE are lists for Nobeyama; ON rows match this pattern in both.
    c.applycal(
        vis,
        spw=",".join(map(str, science)),
        intent="OBSERVE_TARGET#ON_SOURCE*",
        gaintable=["tsys.tbl", "sky.tbl"],
        spwmap=[mapping, []],
        gainfield=["nearest", ""],
        interp=["linear,linear", "linear,linear"],
        calwt=True,
        flagbackup=False,
        applymode="calflagstrict",
    )
    found: dict[str, Any] = {"tsys_worst": tsys_worst(record, alma), "lines": []}
    for s, cloud in zip(science, dish["clouds"], strict=True):
        found["lines"].append(one_line(vis, truth, s, cloud, mapping[s]))
    return found


def tsys_worst(record: dict[str, Any], alma: bool) -> float:
    """Largest relative error of the Tsys table."""
    with open_table("tsys.tbl") as tb:
        antenna, spw = tb.getcol("ANTENNA1"), tb.getcol("SPECTRAL_WINDOW_ID")
        mean = np.array([tb.getcell("FPARAM", i).mean(axis=1) for i in range(tb.nrows())])
        scan = tb.getcol("SCAN_NUMBER")
    if not alma:
        injected = np.array(record["extensions"]["NobeyamaRecords"]["tsys_k"])
        return float(np.abs(mean / injected[antenna, :, spw] - 1).max())
    worst = 0.0
    for measured in record["extensions"]["AlmaSystem"]["tsys_k"]:
        here = (spw == measured["spw"]) & (scan == measured["scan"])
        worst = max(worst, float(np.abs(mean[here] / np.array(measured["mean_k"])[antenna[here]] - 1).max()))
    return worst


def one_line(vis: str, truth: Truth, spw: int, cloud: dict[str, float], tsys_spw: int) -> dict[str, float]:
    """Baseline, image and measure one line."""
    import casatasks as c

    record = truth.record
    dish = record["extensions"]["SingleDish"]
    channels, width = len(truth.frequency_hz(spw)), record["spws"][spw]["channel_hz"]
    # Half of the line's window is eight widths of the line or more: its outer fifths are free.
    low, high = int(0.04 * channels), int(0.32 * channels)
    shutil.rmtree("baselined.ms", ignore_errors=True)
    c.sdbaseline(
        infile=vis,
        datacolumn="corrected",
        outfile="baselined.ms",
        intent="OBSERVE_TARGET#ON_SOURCE*",
        spw=f"{spw}:{low}~{high};{channels - 1 - high}~{channels - 1 - low}",
        maskmode="list",
        blfunc="poly",
        order=3,
        blmode="fit",
        overwrite=True,
    )
    target = record["fields"][0]
    beam = dish["beam_arcsec"][str(spw)]
    cell = beam / 6
    side = int(260 / cell / 2) * 2
    frame = "ICRS" if "AlmaSystem" in record["extensions"] else "J2000"
    c.tsdimaging(
        infiles=["baselined.ms"],
        outfile="map",
        mode="channel",
        nchan=channels,
        width=-1 if width < 0 else 1,
        start=channels - 1 if width < 0 else 0,
        spw="0",
        imsize=[side, side],
        cell=f"{cell}arcsec",
        stokes="I",
        phasecenter=f"{frame} {target['ra_deg']}deg {target['dec_deg']}deg",
        gridfunction="SF",
        convsupport=6,
        restfreq=f"{cloud['rest_hz']}Hz",
        outframe="LSRK",
        pointingcolumn="direction",
        overwrite=True,
    )
    image = tool("image")
    image.open("map.image")
    cube = np.where(image.getchunk(getmask=True), image.getchunk(), 0.0)[:, :, 0, :]
    system = image.coordsys()
    frequency = np.array([system.toworld([0, 0, 0, k])["numeric"][3] for k in range(cube.shape[2])])
    middle = system.referencepixel()["numeric"]
    image.close()
    velocity = SPEED_OF_LIGHT_KMS * (1 - frequency / cloud["rest_hz"])
    step = float(np.abs(np.diff(velocity)).mean())
    x, y = np.meshgrid((middle[0] - np.arange(side)) * cell, (np.arange(side) - middle[1]) * cell, indexing="ij")
    distance = np.hypot(x - cloud["offset_arcsec"][0], y - cloud["offset_arcsec"][1])
    seen = math.hypot(cloud["fwhm_arcsec"], beam)
    line = np.abs(velocity - cloud["velocity_kms"]) < 1.5 * cloud["width_kms"]
    moment = cube[:, :, line].sum(axis=2) * step
    total = moment[distance < 1.5 * seen].sum() * cell**2
    spectrum = cube[distance < 0.6 * seen].sum(axis=0)
    peak, centre, sigma = gaussian_fit(velocity[line], spectrum[line], cloud["velocity_kms"], cloud["width_kms"])
    # A centroid within a radius underestimates an offset from the centre of the circle: iterate.
    place = np.array(cloud["offset_arcsec"])
    for _ in range(5):
        weight = moment * (np.hypot(x - place[0], y - place[1]) < 0.6 * seen)
        place = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
    return {
        "integral_ratio": float(total / cloud["map_integral_k_kms_arcsec2"] / np.mean(dish["efficiencies"])),
        "velocity_error_channels": float((centre - cloud["velocity_kms"]) / step),
        "offset_beams": float(np.hypot(*(place - np.array(cloud["offset_arcsec"]))) / beam),
        "width_ratio": float(abs(sigma) * FWHM_PER_SIGMA / cloud["width_kms"]),
        "peak": float(peak),
        "noise_ratio": noise_ratio(truth, spw, tsys_spw),
    }


def gaussian_fit(x: np.ndarray, y: np.ndarray, centre: float, width: float) -> tuple[float, float, float]:
    from scipy.optimize import curve_fit

    def shape(x: np.ndarray, peak: float, middle: float, sigma: float) -> np.ndarray:
        return peak * np.exp(-0.5 * ((x - middle) / sigma) ** 2)

    values, _ = curve_fit(shape, x, y, p0=(float(y.max()), centre, width / FWHM_PER_SIGMA))
    return tuple(float(v) for v in values)  # type: ignore[return-value]


def noise_ratio(truth: Truth, spw: int, tsys_spw: int) -> float:
    """Rms of line-free ON spectra (from differences of neighbouring channels) over Tsys sqrt((1 + t_on / t_off) /
    (dnu t_on))."""
    record = truth.record
    if "AlmaSystem" in record["extensions"]:
        found = record["extensions"]["AlmaSystem"]["tsys_k"]
        tsys = np.mean([np.square(m["mean_k"]) for m in found if m["spw"] == tsys_spw])
    else:
        tsys = np.mean(np.square(np.array(record["extensions"]["NobeyamaRecords"]["tsys_k"])[:, :, spw]))
    with open_table("baselined.ms") as tb:
        column = "DATA" if "DATA" in tb.colnames() else "FLOAT_DATA"
        data = tb.getcol(column).real
    channels = data.shape[1]
    data = data[:, int(0.06 * channels) : int(0.3 * channels)]
    rms = float(np.diff(data, axis=1).std() / math.sqrt(2))
    # Every ON is compared with OFFs before and after, linear in time: between one half and one of an OFF's variance.
    shares = np.linspace(0, 1, 101)
    with open_table("sky.tbl") as tb:
        samples = float(np.median(tb.getcol("INTERVAL"))) / record["integration_s"]
    off = float(np.mean(shares**2 + (1 - shares) ** 2)) / samples
    width = abs(record["spws"][spw]["channel_hz"])
    expected = math.sqrt(tsys / (width * record["integration_s"]) * (1 + off))
    return rms / expected


def main() -> None:
    vis, result = Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute()
    work = result.parent / f"work-{vis.stem}"
    work.mkdir()
    os.chdir(work)
    configure()
    result.write_text(json.dumps(reduce(str(vis), Truth.load(vis)), indent=1))


if __name__ == "__main__":
    main()
