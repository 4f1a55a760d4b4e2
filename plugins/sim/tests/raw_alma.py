"""Reduces a simulated ALMA interferometry set with CASA tasks alone and writes what it found as JSON.

    python raw_alma.py OBSERVATION.ms RESULT.json [mfs|mtmfs|mosaic]

Run by the tests in a process of its own.  Nothing here knows the truth except its flux of the bandpass calibrator
(as the
observatory's catalogue would) and, at the end, what to compare with.
"""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from pl_kernel.casa import configure
from pl_sim.casa import open_table
from pl_sim.geometry import Geometry
from pl_sim.truth import Truth

SPEED_OF_LIGHT = 299_792_458.0


def rows(path: str, columns: tuple[str, ...], where: str = "") -> dict[str, np.ndarray]:
    with open_table(path) as tb:
        selected = tb.query(where) if where else tb
        found = {name: selected.getcol(name) for name in columns}
        if where:
            selected.close()
        return found


class Reduction:
    """One observation on its way from raw data to images."""

    def __init__(self, vis: str, truth: Truth) -> None:
        self.vis, self.truth = vis, truth
        record = truth.record
        self.spws = record["spws"]
        loads = [s for s in record["scans"] if any("ATMOSPHERE" in i for i in s["intents"])]
        sky = [s for s in record["scans"] if s not in loads]
        self.tsys_spws = [s for s in loads[0]["spws"] if self.spws[s]["role"] == "science"]
        self.science = [s for s in sky[0]["spws"] if self.spws[s]["role"] == "science"]
        self.narrow = [s for s in self.science if s not in self.tsys_spws]
        self.radiometers = [k for k, s in enumerate(self.spws) if s["role"] == "wvr"]
        self.fields = [f["name"] for f in record["fields"]]
        self.targets = [k for k, name in enumerate(self.fields) if name.startswith("Sim")]
        self.calibrators = [name for name in self.fields if name.startswith("J")]
        self.bandpass_scan = next(s["number"] for s in sky if any("BANDPASS" in i for i in s["intents"]))
        self.spw = ",".join(map(str, self.science))
        self.reference = truth.antennas[2]
        self.turning = len(self.spws[self.science[0]]["correlations"]) == 4
        """Whether the sky turns against the receptors matters: full polarization."""
        self.found: dict[str, Any] = {}

    def a_priori(self) -> None:
        """Flags, Tsys and WVR tables."""
        import casatasks as c

        full = [k for k, s in enumerate(self.spws) if s["role"] == "science"]
        c.flagdata(self.vis, autocorr=True, spw=",".join(map(str, full)), flagbackup=False)
        channels = {s: len(self.spws[s]["frequency_hz"]) for s in full}
        edges = ",".join(f"{s}:0~3;{n - 4}~{n - 1}" for s, n in channels.items())
        c.flagdata(self.vis, spw=edges, flagbackup=False)
        c.gencal(self.vis, "tsys.tbl", caltype="tsys")
        mapping = list(range(len(self.spws)))
        for s in self.narrow:
            mapping[s] = next(t for t in self.tsys_spws if self.spws[t]["baseband"] == self.spws[s]["baseband"])
        self.tables, self.maps = ["tsys.tbl"], [mapping]
        self.interpolation, self.nearest = ["linear,linear"], ["nearest"]
        if self.radiometers:
            c.wvrgcal(self.vis, caltable="wvr.tbl", spw=full, wvrspw=self.radiometers, toffset=0.0)
            self.tables.append("wvr.tbl")
            self.maps.append([])
            self.interpolation.append("linear")
            self.nearest.append("")
        self.found["tsys_worst"] = self._tsys_worst()
        if self.radiometers:
            self.found["wvr_removed"] = self._wvr_removed()

    def _tsys_worst(self) -> float:
        """Largest relative error of a mean Tsys."""
        table = rows("tsys.tbl", ("FPARAM", "ANTENNA1", "SPECTRAL_WINDOW_ID", "SCAN_NUMBER"))
        worst = 0.0
        for measured in self.truth.record["extensions"]["AlmaSystem"]["tsys_k"]:
            here = (table["SPECTRAL_WINDOW_ID"] == measured["spw"]) & (table["SCAN_NUMBER"] == measured["scan"])
            order = np.argsort(table["ANTENNA1"][here])
            mean = table["FPARAM"][:, :, here].mean(axis=1).T[order]
            worst = max(worst, float(np.abs(mean / np.array(measured["mean_k"]) - 1).max()))
        return worst

    def _wvr_removed(self) -> float:
        """Share of the injected rms of phase (relative to the array's mean, one constant per antenna) that is
        removed."""
        spw = self.science[0]
        nu = float(self.truth.frequency_hz(spw).mean())
        table = rows("wvr.tbl", ("CPARAM", "TIME", "ANTENNA1"), f"SPECTRAL_WINDOW_ID=={spw}")
        times = self.truth.array("times")
        injected = -2 * np.pi * nu / SPEED_OF_LIGHT * self.truth.array("path_m")
        radiometer = np.empty_like(injected)
        covered = np.zeros(len(times), bool)
        for antenna in range(injected.shape[1]):
            here = table["ANTENNA1"] == antenna
            order = np.argsort(table["TIME"][here])
            clock = table["TIME"][here][order]
            phase = np.unwrap(np.angle(table["CPARAM"][0, 0, here][order]))
            radiometer[:, antenna] = np.interp(times, clock, phase)
            covered |= np.abs(times[:, None] - clock).min(axis=1) < 1.0
        antenna = self.truth.antennas.index(self.reference)

        def differences(phase: np.ndarray) -> np.ndarray:
            phase = phase[covered] - phase[covered][:, [antenna]]
            return np.delete(phase, antenna, axis=1)

        # The caltable holds phases modulo a turn.
        left = np.exp(1j * differences(injected - radiometer))
        left = np.angle(left * left.mean(axis=0).conj())
        before = differences(injected)
        return float(1 - left.std() / (before - before.mean(axis=0)).std())

    def solve(self) -> None:
        """Bandpass, phase and amplitude gains, fluxes."""
        import casatasks as c

        flux_calibrator = self.calibrators[0]
        component = self.truth.sources[self.truth.fields[flux_calibrator].source].components[0]
        c.setjy(
            self.vis,
            field=flux_calibrator,
            spw=self.spw,
            standard="manual",
            fluxdensity=[component.flux_jy, 0, 0, 0],
            spix=list(component.spectrum),
            reffreq=f"{component.reference_hz}Hz",
            usescratch=False,
            **self._polarization(component),
        )
        common = {"vis": self.vis, "spw": self.spw, "refant": self.reference, "minsnr": 3.0, "parang": self.turning}
        scan = str(self.bandpass_scan)

        def so_far(*more: str) -> dict[str, Any]:
            return {
                "gaintable": [*self.tables, *more],
                "spwmap": [*self.maps, *([] for _ in more)],
                "gainfield": [*self.nearest, *("" for _ in more)],
                "interp": [*self.interpolation, *("linear" for _ in more)],
            }

        c.gaincal(
            caltable="first.tbl", field=flux_calibrator, scan=scan, solint="int", calmode="p", **common, **so_far()
        )
        wide = [s for s in self.science if s not in self.narrow]
        # Channels of 1 MHz are too noisy one by one: a noisy bandpass biases what is solved on top of it.
        for number, (spws, interval) in enumerate(((wide, "inf"), (self.narrow, "inf,4MHz"))):
            if spws:
                chosen = {**common, "spw": ",".join(map(str, spws))}
                c.bandpass(
                    caltable="bandpass.tbl",
                    field=flux_calibrator,
                    scan=scan,
                    solint=interval,
                    combine="scan",
                    solnorm=True,
                    append=number > 0,
                    **chosen,
                    **so_far("first.tbl"),
                )
        all_calibrators = ",".join(self.calibrators)
        for name, interval in (("phase.tbl", "int"), ("scan.tbl", "inf")):
            c.gaincal(
                caltable=name, field=all_calibrators, solint=interval, calmode="p", **common, **so_far("bandpass.tbl")
            )
        c.gaincal(
            caltable="amplitude.tbl",
            field=all_calibrators,
            solint="inf",
            calmode="a",
            **common,
            **so_far("bandpass.tbl", "phase.tbl"),
        )
        others = [name for name in self.calibrators if name != flux_calibrator]
        fluxes = c.fluxscale(
            self.vis, "amplitude.tbl", "flux.tbl", reference=flux_calibrator, transfer=",".join(others)
        )
        self.found["fluxes"] = {}
        for key, entry in fluxes.items():
            if key.isdigit():
                name = entry["fieldName"]
                ratios = [
                    float(entry[str(s)]["fluxd"][0])
                    / self.truth.flux_jy(name, float(self.truth.frequency_hz(s).mean()))
                    for s in self.science
                ]
                self.found["fluxes"][name] = ratios
        self.found["gain_errors"] = self._gain_errors()

    def _polarization(self, component: Any) -> dict[str, Any]:
        """What a catalogue says of the polarization of the flux calibrator."""
        if not self.turning:
            return {}
        angle = math.radians(component.polarization_angle_deg)
        return {"polindex": [component.polarized_fraction], "polangle": [angle], "rotmeas": 0.0}

    def _gain_errors(self) -> list[float]:
        """Per spw: rms of (amplitude gain / truth - 1) on the bandpass scan, in units of the thermal error of each
        solution."""
        table = rows("amplitude.tbl", ("CPARAM", "ANTENNA1", "SPECTRAL_WINDOW_ID", "SCAN_NUMBER"))
        inner = slice(4, -4)
        found = []
        where = f"SCAN_NUMBER=={self.bandpass_scan} && DATA_DESC_ID=={self.science[0]}"
        times = np.unique(rows(self.vis, ("TIME",), where)["TIME"])
        for s in self.science:
            here = (table["SPECTRAL_WINDOW_ID"] == s) & (table["SCAN_NUMBER"] == self.bandpass_scan)
            clock = self.truth.array("times")
            inside = (clock > times[0] - 1) & (clock < times[-1] + 1)
            injected = np.abs(self.truth.array("gain")[inside, :, :, s]).mean(axis=0)
            # solnorm makes the mean square of the unflagged channels one.
            injected *= np.sqrt((np.abs(self.truth.array(f"bandpass_{s}"))[..., inner] ** 2).mean(axis=-1))
            if self.turning:
                injected *= self._absorbed_leakage(s, clock[inside])
            order = np.argsort(table["ANTENNA1"][here])
            ratio = np.abs(table["CPARAM"][:, 0, here].T[order]) / injected
            channels = len(self.spws[s]["frequency_hz"]) - 8
            thermal = self.truth.thermal_jy(s) / math.sqrt(channels * len(times))
            flux = self.truth.flux_jy(self.calibrators[0], float(self.truth.frequency_hz(s).mean()))
            chi2 = []
            for receptor in range(2):
                # Least squares for |V_pq| / S = 1 + (e_p + e_q): weights of each baseline from its own noise.
                weight = 1 / (np.outer(thermal[:, receptor], thermal[:, receptor]) / flux**2)
                np.fill_diagonal(weight, 0.0)
                normal = weight + np.diag(weight.sum(axis=1))
                error = np.sqrt(np.diag(np.linalg.inv(normal)))
                chi2.append(((ratio[:, receptor] - 1) / error) ** 2)
            found.append(float(np.sqrt(np.mean(chi2))))
        return found

    def _absorbed_leakage(self, spw: int, times: np.ndarray) -> np.ndarray:
        """What amplitude gains solved without D-terms take for gain, (antenna, receptor).

        To first order XX = g_p g_q* [(I + Q) + (d_p + d_q*) U] in the frame of the receptors, so that a gain absorbs
        1 + d_p U / (I + Q), and 1 + d_p U / (I - Q) for YY.
        """
        field = self.truth.fields[self.calibrators[0]]
        component = self.truth.sources[field.source].components[0]
        nu = float(self.truth.frequency_hz(spw).mean())
        array = Geometry(np.array(self.truth.record["positions_m"]))
        turned = array.parallactic_angle(times, *np.radians((field.ra_deg, field.dec_deg)))
        linear = component.linear_polarization(nu) * np.exp(-2j * turned)
        total, (q, u) = component.flux(nu), (linear.real.mean(), linear.imag.mean())
        leakage = self.truth.array(f"leakage_{spw}").mean(axis=-1)
        return np.abs(1 + leakage * u / np.array([total + q, total - q]))

    def apply(self) -> None:
        import casatasks as c

        phase_field = self.calibrators[1]
        jobs = [(name, name, name, "phase.tbl") for name in self.calibrators[:2]]
        jobs += [(name, phase_field, phase_field, "scan.tbl") for name in self.calibrators[2:]]
        jobs += [(",".join(map(str, self.targets)), str(self.targets[0]), phase_field, "scan.tbl")]
        spare = [""] * (len(self.tables) - 1)
        for field, tsys_field, gain_field, phases in jobs:
            c.applycal(
                self.vis,
                field=field,
                spw=self.spw,
                calwt=True,
                parang=self.turning,
                flagbackup=False,
                gaintable=[*self.tables, "bandpass.tbl", phases, "flux.tbl"],
                spwmap=[*self.maps, [], [], []],
                gainfield=[tsys_field, *spare, "", gain_field, gain_field],
                interp=[*self.interpolation, "linear,linearflag", "linear", "linear"],
            )
        self.found["target_over_model"] = [self._over_model(s) for s in self.science]

    def _over_model(self, spw: int) -> float:
        """<V M*> / <M M*> of the calibrated target visibilities; for narrow windows over the line alone."""
        top = bottom = 0.0
        for number in self.targets:
            q = rows(
                self.vis,
                ("CORRECTED_DATA", "FLAG", "UVW", "WEIGHT", "TIME"),
                f"DATA_DESC_ID=={spw} && FIELD_ID=={number} && ANTENNA1!=ANTENNA2",
            )
            sky = self.truth.sky(self.fields[number], spw, float(q["TIME"].mean()))
            model = np.broadcast_to(sky.visibilities(q["UVW"].T)[0].T, q["CORRECTED_DATA"].shape[1:])
            use = np.ones(len(model), bool)
            if spw in self.narrow:
                profile = np.abs(model).mean(axis=1)
                use = profile > profile.min() + 0.2 * np.ptp(profile)
            for correlation in (0, -1):
                weight = ~q["FLAG"][correlation] * q["WEIGHT"][correlation] * use[:, None]
                top += float((weight * q["CORRECTED_DATA"][correlation] * model.conj()).real.sum())
                bottom += float((weight * np.abs(model) ** 2).sum())
        return top / bottom

    def image(self, kind: str) -> None:
        """Continuum image and the compact components in it."""
        import casatasks as c

        wide = [s for s in self.science if s not in self.narrow]
        source = self.truth.sources[self.truth.fields[self.fields[self.targets[0]]].source]
        compact = [k for k in source.components if not k.major_arcsec]
        uvw = rows(self.vis, ("UVW",), f"FIELD_ID=={self.targets[0]} && DATA_DESC_ID=={wide[0]}")["UVW"]
        longest = float(np.hypot(uvw[0], uvw[1]).max())
        nu = float(np.mean([self.truth.frequency_hz(s).mean() for s in wide]))
        # Fine pixels: a point between two of them is a sum of components that mimics a spectral index.
        cell = math.degrees(SPEED_OF_LIGHT / nu / longest) * 3600 / (10 if kind == "mtmfs" else 6)
        reach = (
            max(math.hypot(k.east_arcsec, k.north_arcsec) for k in source.components)
            + (150 if kind == "mosaic" else 60) * cell
        )
        size = int(2 * reach / cell / 50 + 1) * 50
        half = 1.5 * math.degrees(SPEED_OF_LIGHT / nu / longest) * 3600
        centre = f"ICRS {source.ra_deg}deg {source.dec_deg}deg"
        mask = "mask.crtf"
        regions = [
            f"circle[[{source.ra_deg + k.east_arcsec / 3600 / math.cos(math.radians(source.dec_deg))}deg, "
            f"{source.dec_deg + k.north_arcsec / 3600}deg], {max(half, k.major_arcsec * 1.2)}arcsec]"
            for k in source.components
        ]
        Path(mask).write_text("#CRTFv0\n" + "\n".join(f"{r}, coord=ICRS" for r in regions) + "\n")
        options: dict[str, Any] = {
            "mosaic": {"gridder": "mosaic", "deconvolver": "hogbom", "pbcor": True},
            "mtmfs": {"deconvolver": "mtmfs", "nterms": 2, "reffreq": f"{nu}Hz"},
            "mfs": {"deconvolver": "hogbom"},
        }[kind]
        c.tclean(
            self.vis,
            imagename="continuum",
            field=",".join(map(str, self.targets)),
            spw=",".join(map(str, wide)),
            intent="OBSERVE_TARGET#ON_SOURCE",
            specmode="mfs",
            phasecenter=centre,
            imsize=size,
            cell=f"{cell}arcsec",
            niter=500,
            weighting="briggs",
            robust=0.5,
            usemask="user",
            mask=mask,
            interactive=False,
            **options,
        )
        name = {"mosaic": "continuum.image.pbcor", "mtmfs": "continuum.image.tt0", "mfs": "continuum.image"}[kind]
        head = c.imhead(name, mode="summary")
        beam = head["restoringbeam"]
        beam_size = math.sqrt(beam["major"]["value"] * beam["minor"]["value"])
        self.found["beam_arcsec"] = beam_size
        self.found["components"] = {}
        for k in compact:
            h = half / cell
            x = size / 2 - k.east_arcsec / cell
            y = size / 2 + k.north_arcsec / cell
            box = f"{int(x - h)},{int(y - h)},{int(x + h)},{int(y + h)}"
            fit = c.imfit(name, box=box)["results"]["component0"]
            ra, dec = (fit["shape"]["direction"][m]["value"] for m in ("m0", "m1"))
            east = (math.degrees(ra) - source.ra_deg + 180) % 360 - 180
            offset = (
                east * math.cos(math.radians(source.dec_deg)) * 3600 - k.east_arcsec,
                (math.degrees(dec) - source.dec_deg) * 3600 - k.north_arcsec,
            )
            result = {
                "offset_beams": math.hypot(*offset) / beam_size,
                "flux_ratio": float(fit["peak"]["value"]) / float(k.flux(nu)),
            }
            if kind == "mtmfs":
                result["alpha_error"] = alpha_at_peak("continuum", box) - (k.spectrum[0] if k.spectrum else 0.0)
            self.found["components"][k.name] = result


def alpha_at_peak(image: str, box: str) -> float:
    """Spectral index tt1 / tt0 at the brightest pixel of tt0."""
    import casatasks as c

    pixels = [np.asarray(c.imval(f"{image}.image.{term}", box=box)["data"]) for term in ("tt0", "tt1")]
    peak = np.unravel_index(np.argmax(pixels[0]), pixels[0].shape)
    return float(pixels[1][peak] / pixels[0][peak])


def main() -> None:
    vis, result, kind = Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute(), sys.argv[3]
    work = result.parent / f"work-{vis.stem}"
    work.mkdir()
    os.chdir(work)
    configure()
    reduction = Reduction(str(vis), Truth.load(vis))
    reduction.a_priori()
    reduction.solve()
    reduction.apply()
    reduction.image(kind)
    result.write_text(json.dumps(reduction.found, indent=1))


if __name__ == "__main__":
    main()
