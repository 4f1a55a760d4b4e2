"""hsd_baseline and hsd_blflag on a simulated map with injected troubles: lines, masks, residuals, flags, repetition."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

pytestmark = [pytest.mark.casa, pytest.mark.slow]

SPW, LINE_CHANNEL = 4, 127.5
NOISY, DRIFTING = (11, 40, 95, 130, 222, 301, 350, 411), (60, 61, 180, 181, 333)
WILD = slice(200, 204)
OFFS = 160
"""Spectra on the OFF position, per antenna and window: 16 visits of ten."""


def calibrate(vis: str) -> None:
    """Tsys and OFF applied by CASA, then troubles put into the calibrated spectra of one window."""
    from pl_kernel.casa import Casa, Recorder
    from pl_sim.truth import Truth

    casa = Casa(Recorder(), os.devnull)
    folder = Path(vis).parent
    record = Truth.load(Path(vis)).record
    tsys, sky = str(folder / "tsys.tbl"), str(folder / "sky.tbl")
    casa.gencal(vis=vis, caltable=tsys, caltype="tsys")
    mapping = list(range(len(record["spws"])))
    mapping[4], mapping[6] = 0, 2
    casa.sdcal(infile=vis, outfile=sky, calmode="ps", spw="4,6")
    casa.applycal(
        vis=vis, spw="4,6", intent="OBSERVE_TARGET#ON_SOURCE*", gaintable=[tsys, sky], spwmap=[mapping, []],
        gainfield=["nearest", ""], interp=["linear,linear"] * 2, flagbackup=False, applymode="calflagstrict",
    )  # fmt: skip
    rng = np.random.default_rng(4)
    with casa.table(vis, nomodify=False) as table:
        for antenna in (0, 1):
            rows = on_rows(table, antenna)
            for number, row in enumerate(rows):
                cell = table.getcell("CORRECTED_DATA", int(row))
                if antenna == 0 and number in NOISY:
                    cell = cell + rng.normal(scale=0.2 * 20, size=cell.shape)
                if antenna == 0 and number in DRIFTING:
                    cell = cell + np.linspace(-8, 8, cell.shape[1]) + 4 * np.sin(np.arange(cell.shape[1]) / 12)
                if antenna == 1:
                    cell[:, WILD] += rng.normal(scale=0.8, size=(2, 4))
                table.putcell("CORRECTED_DATA", int(row), cell)


def on_rows(table: Any, antenna: int, spw: int = SPW) -> np.ndarray:
    """Rows on the source in order of time."""
    chosen = (table.getcol("DATA_DESC_ID") == spw) & (table.getcol("ANTENNA1") == antenna)
    chosen &= table.getcol("FIELD_ID") == 0
    rows = np.flatnonzero(chosen)
    return rows[np.argsort(table.getcol("TIME")[rows], kind="stable")]


@attrs.frozen
class Run:
    """A finished run with two passes; results by stage number."""

    root: Path

    def result(self, stage: str) -> dict[str, Any]:
        return json.loads((self.root / "stages" / stage / "result.json").read_text())

    def scores(self, stage: str) -> list[dict[str, Any]]:
        return json.loads((self.root / "stages" / stage / "qa.json").read_text())["scores"]

    def spectra(self, name: str, antenna: int, spw: int = SPW) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Data, flags and weights [row, polarization(, channel)]."""
        from pl_hsd.spectra import read
        from pl_kernel.casa import Casa, Recorder

        casa, path = Casa(Recorder(), os.devnull), self.root / "work" / name
        with casa.table(path) as table:
            rows = on_rows(table, antenna, spw)
            weight = table.getcol("WEIGHT")[:, rows].T
        data, flags = read(casa, path, "DATA", rows)
        return data, flags, weight


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    from pl_kernel.compute import Worker
    from pl_kernel.session import Session
    from pl_sim.testing import cached_simulation

    folder = tmp_path_factory.mktemp("baseline")
    source = cached_simulation("alma-tp-b6")
    vis = folder / "tp.ms"
    shutil.copytree(source, vis)
    shutil.copytree(f"{source}.truth", f"{vis}.truth")
    with Worker() as worker:
        worker.call(calibrate, str(vis))
    with Session.create(folder / "run") as session:
        session.run_stage("hsd_importdata", vis=[str(vis)])
        for stage, given in (
            ("hsd_baseline", {}), ("hsd_blflag", {}),
            ("hsd_baseline", {"linewindow": {6: [90, 165]}, "fitfunc": {6: "poly"}, "fitorder": {6: 2}}),
            ("hsd_blflag", {"pol": "XX"}),
        ):  # fmt: skip
            assert session.run_stage(stage, **given).status == "ok"
    return Run(folder / "run")


def test_the_line_is_found_where_it_is(run: Run) -> None:
    """Both windows are tuned to the line: it is in the middle, 12 km/s (19 channels) wide, the map's gradient aside."""
    for group in run.result("002-hsd_baseline")["groups"]:
        (line,) = [one for one in group["lines"] if one["valid"]]
        assert abs(line["centre"] - LINE_CHANNEL) < 8
        assert 19 < line["width"] < 100


def test_residuals_are_thermal(run: Run) -> None:
    """Rms of the fitted channels at most 1.1 times the noise from differences of neighbouring channels."""
    for antenna in (0, 1):
        for spw in (4, 6):
            data, _, _ = run.spectra("tp.ms_bl", antenna, spw)
            free = np.r_[5:85, 170:195, 210:250]
            bad = set(NOISY + DRIFTING) if (antenna, spw) == (0, 4) else set()
            good = [i for i in range(len(data)) if i not in bad]
            part = data[good][:, :, free].astype(float)
            steps = np.diff(data[good][:, :, 5:85].astype(float), axis=2) / np.sqrt(2)
            assert part.std() / steps.std() < 1.1


def test_scattering_channels_are_masked_where_they_scatter(run: Run) -> None:
    masks = {(m["antenna"], m["spw"]): m for m in run.result("002-hsd_baseline")["deviation"]}
    spans = [tuple(s) for s, why in zip(*(masks["PM02", 4][k] for k in ("spans", "overlaps")), strict=True) if not why]
    assert len(spans) == 1 and abs(spans[0][0] - 200) <= 1 and abs(spans[0][1] - 203) <= 1
    assert all("line" in masks[key]["overlaps"] for key in masks if key != ("PM02", 4))
    complaints = [s for s in run.scores("002-hsd_baseline") if s["metric"] == "DeviationMask" and s["score"] == 0.65]
    assert [s["applies_to"]["antenna"] for s in complaints] == [["PM02"]]


def test_outliers_are_flagged_and_nothing_else(run: Run) -> None:
    """At least 95 % of what was injected, at most 3 % of the rest."""
    for antenna in (0, 1):
        _, flags, _ = run.spectra("tp.ms_bl", antenna)
        flagged = flags.all(axis=2)
        bad = np.zeros(len(flags), dtype=bool)
        bad[list(NOISY + DRIFTING)] = antenna == 0
        assert flagged[bad].mean() >= 0.95 if bad.any() else True
        assert flagged[~bad].mean() <= 0.03


def test_a_chosen_polarization_is_judged_and_the_other_keeps_its_flags(run: Run) -> None:
    judged = run.result("005-hsd_blflag")["judged"]
    assert judged and {j["pol"] for j in judged} == {"XX"}
    commands = (run.root / "stages" / "005-hsd_blflag" / "tp.ms_bl2.blflag.txt").read_text()
    lines = [line for line in commands.splitlines() if not line.startswith("#")]
    assert lines and all("correlation='XX'" in line for line in lines)


def test_a_second_pass_starts_from_the_calibrated_data_again(run: Run) -> None:
    first, second = run.result("002-hsd_baseline"), run.result("004-hsd_baseline")
    assert (first["iteration"], second["iteration"]) == (1, 2)
    assert (first["outputs"], second["outputs"]) == ({"tp.ms": "tp.ms_bl"}, {"tp.ms": "tp.ms_bl2"})
    assert [m["spans"] for m in first["deviation"]] == [m["spans"] for m in second["deviation"]]
    context = json.loads((run.root / "context.json").read_text())
    names = [m["name"] for m in context["measurement_sets"]]
    assert sorted(names) == ["tp.ms", "tp.ms_bl2"]
    one, other = (next(g for g in r["groups"] if g["spw"] == SPW)["lines"] for r in (first, second))
    assert abs(one[0]["centre"] - other[0]["centre"]) < 5


def test_spectra_that_were_rejected_count_in_no_mean_of_a_second_pass(run: Run) -> None:
    """Noise of a mean: that of one spectrum times √(1/n + 1/m), of n spectra that share m OFFs of the same length.

    With the wild spectra among them it is twice that.
    """
    fits = {(f["antenna"], f["pol"]): f for f in run.result("004-hsd_baseline")["fits"] if f["spw"] == SPW}
    judged = run.result("003-hsd_blflag")["judged"]
    flagged = {(j["antenna"], j["pol"]): j["flagged"] for j in judged if j["spw"] == SPW}
    assert {key: f["rejected"] for key, f in fits.items()} == flagged
    assert flagged["PM01", "XX"] >= len(NOISY + DRIFTING)
    assert all(f["rejected"] == 0 for f in run.result("002-hsd_baseline")["fits"])
    fit = fits["PM01", "XX"]
    with np.load(run.root / "stages" / "004-hsd_baseline" / fit["file"]) as arrays:
        mean = arrays["total_after"][0, 5:85]
    shared = 1 / (fit["spectra"] - fit["rejected"]) + 1 / OFFS
    # A spectrum's own noise has that of the ten OFFs it was compared with in it.
    assert 0.7 < mean.std() / (fit["noise"] / np.sqrt(1.1) * np.sqrt(shared)) < 1.3
    wanted = (SPW, "PM01", "XX")
    first = next(f for f in run.result("002-hsd_baseline")["fits"] if (f["spw"], f["antenna"], f["pol"]) == wanted)
    with np.load(run.root / "stages" / "002-hsd_baseline" / first["file"]) as arrays:
        assert arrays["total_after"][0, 5:85].std() > 1.5 * mean.std()


def test_given_windows_replace_the_search(run: Run) -> None:
    result = run.result("004-hsd_baseline")
    groups = {g["spw"]: g for g in result["groups"]}
    assert [(g["origin"], g["centre"], g["width"]) for g in groups[6]["lines"]] == [("given", 127.5, 76.0)]
    assert not groups[6]["searched"] and groups[4]["searched"]
    assert {text for f in result["fits"] if f["spw"] == 6 for text in f["functions"]} == {"poly 2"}


def test_casa_alone_fits_and_applies_the_same(run: Run, tmp_path: Path) -> None:
    """sdbaseline with the parameter file of the stage, and with its table, on the calibrated data."""
    from pl_kernel.casa import Casa, Recorder

    casa = Casa(Recorder(), os.devnull)
    work, copy = run.root / "work", tmp_path / "on.ms"
    source = json.loads((run.root / "run.json").read_text())
    vis = work / "tp.ms"
    assert vis.exists(), source
    casa.mstransform(
        vis=str(vis), outputvis=str(copy), datacolumn="corrected", spw="4,6", field="0",
        intent="OBSERVE_TARGET#ON_SOURCE*", reindex=False,
    )  # fmt: skip
    common = {"infile": str(copy), "datacolumn": "data", "reindex": False, "overwrite": True}
    parameters = run.root / "stages" / "004-hsd_baseline" / run.result("004-hsd_baseline")["parameters"]["tp.ms"]
    casa.sdbaseline(
        **common, outfile=str(tmp_path / "fit.ms"), blmode="fit", blformat="", blfunc="variable",
        blparam=str(parameters), updateweight=True,
    )  # fmt: skip
    table = work / run.result("004-hsd_baseline")["tables"]["tp.ms"]
    casa.sdbaseline(**common, outfile=str(tmp_path / "applied.ms"), blmode="apply", bltable=str(table))
    shutil.copytree(work / "tp.ms_bl2", tmp_path / "ours.ms")
    here = Run(tmp_path / "none")
    for antenna in (0, 1):
        ours, flags, weight = run.spectra("tp.ms_bl2", antenna)
        for name, tolerance in (("fit.ms", 2e-5), ("applied.ms", 2e-4)):
            (tmp_path / "none" / "work").mkdir(parents=True, exist_ok=True)
            if not (tmp_path / "none" / "work" / name).exists():
                shutil.move(tmp_path / name, tmp_path / "none" / "work" / name)
            theirs, _, their_weight = here.spectra(name, antenna)
            np.testing.assert_allclose(ours[~flags], theirs[~flags], atol=tolerance)
            if name == "fit.ms":
                np.testing.assert_allclose(weight, their_weight, rtol=1e-3)


def test_a_chosen_polarization_gets_baselines_and_the_other_is_flagged(run: Run) -> None:
    """As sdbaseline does it. The last test of this file: it adds a stage to the run."""
    from pl_kernel.session import Session

    with Session.open(run.root) as session:
        outcome = session.run_stage("hsd_baseline", pol="XX", spw=str(SPW), antenna="PM01")
    assert outcome.status == "ok"
    result = run.result("006-hsd_baseline")
    assert {(f["pol"], f["antenna"], f["failed"]) for f in result["fits"]} == {("XX", "PM01", 0)}
    data, flags, _ = run.spectra(result["outputs"]["tp.ms"], 0)
    assert flags[:, 1].all() and not flags[:, 0].any(axis=1).all()
    assert abs(np.median(data[:, 0, :60])) < 0.05
