"""The shortest reduction of a simulated VLA set with CASA's own tasks, against the truth.

It is the proof that a set is sound: nothing of a pipeline takes part. Call it in a worker process.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pl_sim import compare
from pl_sim.observation import Component
from pl_sim.standards import image_of
from pl_sim.truth import Truth


def _tasks() -> Any:
    from pl_kernel.casa import configure

    configure()
    import casatasks

    return casatasks


def _inner(truth: Truth, spws: Sequence[int], share: float) -> str:
    """CASA selection of the inner share of the channels of these spws."""
    parts = []
    for spw in spws:
        count = len(truth.frequency_hz(spw))
        edge = round(count * (1 - share) / 2)
        parts.append(f"{spw}:{edge}~{count - 1 - edge}")
    return ",".join(parts)


def reduce_vla(vis: str, folder: str, image: bool = True) -> dict[str, Any]:
    """Flag with the online commands, calibrate, apply, compare with the truth; returns plain numbers.

    The set must have one flux calibrator (the first field), a phase calibrator, and a target (the other fields).
    """
    casa, truth = _tasks(), Truth.load(vis)
    out = {name: f"{folder}/{name}" for name in ("gc", "opac", "g0", "k", "b", "gp", "ga", "flux", "d")}
    scans = truth.record["scans"]

    def fields_of(word: str) -> list[str]:
        return list(dict.fromkeys(f for s in scans if any(word in i for i in s["intents"]) for f in s["fields"]))

    science = [k for k, s in enumerate(truth.record["spws"]) if s["role"] == "science"]
    flux, phase, targets = fields_of("CALIBRATE_FLUX")[0], fields_of("CALIBRATE_PHASE")[0], fields_of("OBSERVE_TARGET")
    casa.flagcmd(vis=vis, inpmode="table", reason="any", action="apply", flagbackup=False)
    casa.flagdata(vis=vis, mode="manual", intent="*SYSTEM_CONFIGURATION*,*POINTING*", flagbackup=False)
    online = compare.compare_flags(truth, vis)
    # The shape differs from band to band.
    images: dict[str, list[int]] = {}
    for k in science:
        images.setdefault(image_of(flux.rpartition("=")[2], float(truth.frequency_hz(k).mean())).name, []).append(k)
    for image_name, spws in images.items():
        casa.setjy(
            vis=vis,
            field=flux,
            spw=",".join(map(str, spws)),
            standard="Perley-Butler 2017",
            model=image_name,
            usescratch=True,
        )
    casa.gencal(vis=vis, caltable=out["gc"], caltype="gc")
    casa.gencal(
        vis=vis,
        caltable=out["opac"],
        caltype="opac",
        spw=",".join(map(str, range(len(truth.record["spws"])))),
        parameter=[truth.record["opacity"].get(s["receiver"], 0.0) for s in truth.record["spws"]],
    )
    prior = [out["gc"], out["opac"]]
    late = truth.record["extensions"].get("LateAntenna", {}).get("antenna")
    dead = {f["antenna"] for f in truth.faults.values() if "antenna" in f}
    reference = next(a for a in truth.antennas[2:] if a != late and a not in dead)
    common = {"vis": vis, "refant": reference, "parang": True, "minsnr": 3.0}
    middle, inner = _inner(truth, science, 0.2), _inner(truth, science, 0.8)
    casa.gaincal(
        caltable=out["g0"],
        field=flux,
        intent="*BANDPASS*",
        spw=middle,
        calmode="p",
        solint="int",
        gaintable=prior,
        **common,
    )
    casa.gaincal(
        caltable=out["k"],
        field=flux,
        intent="*BANDPASS*",
        spw=inner,
        gaintype="K",
        solint="inf",
        combine="scan",
        gaintable=[*prior, out["g0"]],
        **common,
    )
    casa.bandpass(
        caltable=out["b"],
        field=flux,
        intent="*BANDPASS*",
        spw=",".join(map(str, science)),
        solint="inf",
        combine="scan",
        gaintable=[*prior, out["g0"], out["k"]],
        **common,
    )
    tables = [*prior, out["k"], out["b"]]
    casa.gaincal(
        caltable=out["gp"], intent="*CALIBRATE*", spw=inner, calmode="p", solint="int", gaintable=tables, **common
    )
    casa.gaincal(
        caltable=out["ga"],
        intent="*CALIBRATE*",
        spw=inner,
        calmode="a",
        solint="inf",
        gaintable=[*tables, out["gp"]],
        **common,
    )
    found = casa.fluxscale(vis=vis, caltable=out["ga"], fluxtable=out["flux"], reference=flux)
    names = list(truth.fields)
    fluxes = {
        names[int(k)]: {int(s): float(v["fluxd"][0]) for s, v in record.items() if s.isdigit() and v["fluxd"][0] > 0}
        for k, record in found.items()
        if k.isdigit()
    }
    casa.applycal(
        vis=vis,
        field=",".join(targets),
        gaintable=[*tables, out["gp"], out["flux"]],
        gainfield=["", "", "", "", phase, phase],
        interp=["linear", "linear", "nearest", "nearest", "linear", "linear"],
        parang=True,
        calwt=False,
        flagbackup=False,
    )
    leakage_rms = None
    leakage = fields_of("CALIBRATE_POL_LEAKAGE")
    if leakage:
        casa.polcal(
            vis=vis,
            caltable=out["d"],
            field=leakage[0],
            spw=inner,
            poltype="Df",
            solint="inf",
            refant=reference,
            gaintable=[*tables, out["gp"], out["ga"]],
            gainfield=["", "", "", "", leakage[0], leakage[0]],
        )
        terms = compare.compare_caltable(truth, out["d"], reference=reference)
        # D-terms are solved per channel: those of narrow line windows are mostly noise.
        wide_terms = [
            r
            for r, label in zip(terms.residuals, terms.labels, strict=True)
            if _bandwidth(truth, int(label.split("/")[2])) > 50e6
        ]
        leakage_rms = float(np.sqrt(np.mean(np.square(wide_terms)))) if wide_terms else None
    delays = compare.compare_caltable(truth, out["k"], reference=reference)
    wide = [
        abs(r)
        for r, label in zip(delays.residuals, delays.labels, strict=True)
        if _bandwidth(truth, int(label.split("/")[2])) > 50e6
    ]
    gains = compare.compare_caltable(truth, out["gp"], reference=reference)
    ratios = [compare.compare_visibilities(truth, vis, t) for t in targets]
    lines = [
        compare.compare_visibilities(truth, vis, t, line_only=True)
        for t in targets
        if truth.sources[truth.fields[t].source].lines
    ]
    result: dict[str, Any] = {
        "online_completeness": online.completeness,
        "delay_worst_ns": max(wide) if wide else None,
        "bandpass_rms": compare.compare_caltable(truth, out["b"], reference=reference).rms,
        "gain_rms": gains.rms,
        "gain_thermal": gains.expected_rms,
        "leakage_rms": leakage_rms,
        "flux_worst": compare.compare_fluxes(truth, fluxes).worst,
        "flux_errors": {
            f"{f}/{s}": v / truth.flux_jy(f, float(truth.frequency_hz(s).mean())) - 1
            for f, per in fluxes.items()
            for s, v in per.items()
        },
        "ratio": [(r.real, r.imag) for r in ratios],
        "line_ratio": [(r.real, r.imag) for r in lines],
    }
    if image:
        result["components"] = image_target(vis, targets, folder, truth)
    return result


def _bandwidth(truth: Truth, spw: int) -> float:
    return float(np.ptp(truth.frequency_hz(spw)))


def image_target(
    vis: str,
    targets: Sequence[str],
    folder: str,
    truth: Truth,
    *,
    pixels_per_beam: float = 4.0,
    spws: Sequence[int] | None = None,
) -> list[dict[str, Any]]:
    """Two-term image of the target's continuum with masks on its components, compared with them.

    Of a mosaic, the field nearest to the source is imaged: CASA's mosaic gridder needs images as wide as the primary
    beam, which take minutes.
    """
    casa = _tasks()
    observed = sorted({k for s in truth.record["scans"] if set(targets) & set(s["fields"]) for k in s["spws"]})
    wide = [k for k in spws or observed if _bandwidth(truth, k) > 50e6]
    # One band: a two-term spectrum does not span several.
    wide = [k for k in wide if truth.record["spws"][k]["receiver"] == truth.record["spws"][wide[0]]["receiver"]]
    source = truth.sources[truth.fields[targets[0]].source]
    positions = np.array(truth.record["positions_m"])
    longest = max(np.linalg.norm(a - b) for a in positions for b in positions)
    highest = max(float(truth.frequency_hz(k).max()) for k in wide)
    cell = 3600 * np.degrees(299_792_458.0 / highest / longest) / pixels_per_beam
    reach = max((max(abs(c.east_arcsec), abs(c.north_arcsec)) + c.major_arcsec) for c in source.components)
    size = int(2 * np.ceil(reach / cell + 8 * pixels_per_beam))
    size += size % 2
    centre = size // 2

    def circle(component: Component) -> str:
        x, y = centre - component.east_arcsec / cell, centre + component.north_arcsec / cell
        return f"circle[[{x:.1f}pix,{y:.1f}pix],{component.major_arcsec / cell + 1.5 * pixels_per_beam:.1f}pix]"

    name = f"{folder}/target"
    nearest = min(
        targets,
        key=lambda t: math.hypot(truth.fields[t].ra_deg - source.ra_deg, truth.fields[t].dec_deg - source.dec_deg),
    )
    casa.tclean(
        vis=vis,
        field=nearest,
        spw=",".join(map(str, wide)),
        imagename=name,
        specmode="mfs",
        deconvolver="mtmfs",
        nterms=2,
        imsize=size,
        cell=f"{cell:.6g}arcsec",
        weighting="briggs",
        robust=0.0,
        niter=300,
        gain=0.2,
        threshold="0.5mJy",
        scales=[0],
        mask=[circle(c) for c in source.components],
        phasecenter=_direction(source),
        datacolumn="corrected",
        interactive=False,
        parallel=False,
    )
    matches = compare.compare_image(truth, f"{name}.image.tt0", nearest, alpha=f"{name}.alpha")
    return [
        {"name": m.name, "offset_beams": m.offset_beams, "flux_ratio": m.flux_ratio, "alpha_error": m.alpha_error}
        for m in matches
    ]


def _direction(source: Any) -> str:
    return f"J2000 {source.ra_deg:.8f}deg {source.dec_deg:.8f}deg"
