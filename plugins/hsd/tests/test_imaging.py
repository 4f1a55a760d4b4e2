"""hsd_imaging against what was simulated: the data are calibrated by CASA alone, so that only imaging is judged."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from pl_kernel.qa import QAScore
from pl_kernel.serialize import from_json, read_json, write_json

sys.path.insert(0, str(Path(__file__).parent))

JY_PER_K = 41.0
FWHM = 2 * math.sqrt(2 * math.log(2))


@attrs.frozen
class Done:
    """A finished run: result, scores, arrays of the images, the truth."""

    root: Path
    result: Any
    scores: tuple[QAScore, ...]
    truth: dict[str, Any]
    stage_dir: Path

    def score(self, metric: str, spw: int) -> QAScore:
        (found,) = (s for s in self.scores if s.metric == metric and s.applies_to.spw == (str(spw),))
        return found

    def image(self, spw: int, antenna: str = "") -> Any:
        (found,) = (
            i for i in self.result.images if (i.spw, i.antenna) == (spw, antenna) and i.numbers is not None
        )
        return found

    def arrays(self, spw: int) -> Any:
        return np.load(self.stage_dir / self.image(spw).arrays, allow_pickle=False)


@pytest.fixture(scope="session")
def raw_reduction(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    from raw_plugin import installed

    with installed(tmp_path_factory.mktemp("plugin")):
        yield


def reduce(folder: Path, data: Path, importer: str, options: dict[str, Any], imaging: dict[str, Any]) -> Done:
    from pl_hsd.stages.imaging import ImagingResult
    from pl_kernel.recipe import load
    from pl_kernel.session import Session

    recipe = folder / "recipe.yaml"
    stages = [importer, {"rawsd_reduce": options}, {"hsd_imaging": imaging}]
    recipe.write_text(json.dumps({"name": "raw", "title": "raw", "stages": stages}))
    with Session.create(folder / "run", load(recipe).bind({}), [data]) as session:
        outcome = session.run()
    assert outcome.status == "done", outcome.message
    (stage_dir,) = (folder / "run" / "stages").glob("003-*")
    truth = read_json(next((data.parent / f"{data.name}.truth").glob("*.json")))
    return Done(
        folder / "run", from_json(read_json(stage_dir / "result.json"), ImagingResult),
        tuple(from_json(s, QAScore) for s in read_json(stage_dir / "qa.json")["scores"]), truth, stage_dir,
    )  # fmt: skip


@pytest.fixture(scope="module")
def clean(raw_reduction: None, tmp_path_factory: pytest.TempPathFactory) -> Done:
    from pl_sim.testing import cached_simulation

    return reduce(tmp_path_factory.mktemp("clean"), cached_simulation("alma-tp-b6"), "hsd_importdata", {}, {})


@pytest.fixture(scope="module")
def faulty(raw_reduction: None, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A line in the OFF; the line of the second window (LSB) left out of the ranges; rows 10 to 13 flagged; edges."""
    from pl_sim.testing import cached_simulation

    options = {
        "lines": ["1"], "edge": [5, 12], "flag": json.dumps({"timerange": "04:44:53~04:46:37"}),
    }  # fmt: skip
    data = cached_simulation("alma-tp-b6", faults=("line-in-off=0.15",))
    return reduce(tmp_path_factory.mktemp("faulty"), data, "hsd_importdata", options, {})


SPWS = (4, 6)
"""The second has falling frequencies (LSB)."""


def measured(
    done: Done, spw: int, cloud: dict[str, Any], field: tuple[float, float] = (280.0, -21.0)
) -> dict[str, float]:
    """Integral, velocity, and place of the cloud in a combined cube, read with CASA in a process of its own."""
    from pl_kernel.compute import Worker

    image = done.image(spw)
    with Worker() as worker:
        cube, frequency, sky = worker.call(read_image, str(done.root / "work" / image.name))
    east = ((sky[3] - field[0] + 180) % 360 - 180) * 3600 * math.cos(math.radians(sky[4]))
    north = (sky[4] - field[1]) * 3600
    velocity = 299_792.458 * (1 - frequency / cloud["rest_hz"])
    x, y = np.meshgrid((sky[1] - np.arange(cube.shape[2])) * sky[0], (np.arange(cube.shape[1]) - sky[2]) * sky[0])
    # The map's centre is not quite the field's.
    x, y = x + east, y + north
    place = np.array(cloud["offset_arcsec"])
    seen = math.hypot(cloud["fwhm_arcsec"], image.numbers.beam[0])
    line = np.abs(velocity - cloud["velocity_kms"]) < 1.5 * cloud["width_kms"]
    step = abs(float(np.diff(velocity).mean()))
    moment = np.nansum(cube[line], axis=0) * step
    distance = np.hypot(x - place[0], y - place[1])
    total = moment[distance < 1.5 * seen].sum() * sky[0] ** 2
    spectrum = np.nansum(np.where(distance < 0.6 * seen, cube, 0.0), axis=(1, 2))[line]
    found = place
    for _ in range(5):  # a centroid within a circle leans to the circle's centre
        weight = moment * (np.hypot(x - found[0], y - found[1]) < 0.6 * seen)
        found = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
    return {
        "integral": float(total), "velocity": float((spectrum * velocity[line]).sum() / spectrum.sum()),
        "offset": float(np.hypot(*(found - place))), "step": step,
    }  # fmt: skip


def read_image(path: str) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """Values [channel, y, x], frequencies, (cell, reference pixel, its direction in degrees)."""
    from pl_kernel.casa import configure

    configure()
    import casatools

    image = casatools.image()
    image.open(path)
    data, good, system = image.getchunk(), image.getchunk(getmask=True), image.coordsys()
    frequency = np.array([system.toworld([0, 0, 0, k])["numeric"][3] for k in range(data.shape[3])])
    cell = abs(float(np.degrees(system.increment(type="direction")["numeric"][1])) * 3600)
    pixel = system.referencepixel("direction")["numeric"]
    ra, dec = np.degrees(system.referencevalue(type="direction")["numeric"])
    image.done()
    cube = np.where(good, data, np.nan)[:, :, 0, :].transpose(2, 1, 0)
    return cube, frequency, (cell, float(pixel[0]), float(pixel[1]), float(ra), float(dec))


def read_words(path: str) -> dict[str, str]:
    """The keywords of an image."""
    from pl_kernel.casa import configure

    configure()
    import casatools

    image = casatools.image()
    image.open(path)
    words = dict(image.miscinfo())
    image.tofits(f"{path}.fits")  # fails on a keyword that CASA keeps for itself
    image.done()
    return words


@pytest.mark.casa
@pytest.mark.slow
class TestCleanMap:
    @pytest.mark.parametrize("spw", SPWS)
    def test_the_cloud_is_where_it_is_as_bright_and_as_fast(self, clean: Done, spw: int) -> None:
        cloud = clean.truth["extensions"]["SingleDish"]["clouds"][SPWS.index(spw)]
        found = measured(clean, spw, cloud)
        expected = cloud["map_integral_k_kms_arcsec2"] * JY_PER_K
        assert found["integral"] == pytest.approx(expected, rel=0.05)
        assert abs(found["velocity"] - cloud["velocity_kms"]) < 0.2 * found["step"]
        assert found["offset"] < 0.1 * clean.image(spw).numbers.beam[0]

    @pytest.mark.parametrize("spw", SPWS)
    def test_the_flux_on_the_page_is_the_clouds(self, clean: Done, spw: int) -> None:
        """∫ T dv dΩ × Jy/K, over the solid angle of the telescope's Gaussian beam."""
        dish = clean.truth["extensions"]["SingleDish"]
        cloud, beam = dish["clouds"][SPWS.index(spw)], dish["beam_arcsec"][str(spw)]
        expected = cloud["map_integral_k_kms_arcsec2"] * JY_PER_K / (math.pi / (4 * math.log(2)) * beam**2)
        assert clean.image(spw).numbers.flux == pytest.approx(expected, rel=0.05)

    @pytest.mark.parametrize("spw", SPWS)
    def test_the_noise_is_the_theoretical_one_for_all_and_for_each_antenna(self, clean: Done, spw: int) -> None:
        for antenna in ("", "PM01", "PM02"):
            n = clean.image(spw, antenna).numbers
            assert n.observed_rms == pytest.approx(n.theoretical_rms, rel=0.15)
        assert clean.score("SingleDishSensitivityRatio", spw).score == 1.0

    @pytest.mark.parametrize("spw", SPWS)
    def test_nothing_is_wrong_with_it(self, clean: Done, spw: int) -> None:
        for metric in ("MaskedPixels", "Contamination"):
            assert clean.score(f"SingleDishImage{metric}", spw).score == 1.0
        for metric in ("Peak", "Extended"):
            assert clean.score(f"SingleDishMissedLine{metric}", spw).score == 1.0
        assert min(s.score for s in clean.scores if s.score is not None) == 1.0
        # Two antennas of 15 rows with 28 spectra.
        assert clean.image(spw).numbers.spectra == 2 * 15 * 28

    def test_only_combined_images_are_products(self, clean: Done) -> None:
        records = [e.image for e in clean.result.effects]
        assert sorted((r.spws, r.kind) for r in records) == [
            ((4,), "image"), ((4,), "weight"), ((6,), "image"), ((6,), "weight"),
        ]  # fmt: skip
        assert {"rms", "peak", "theoretical_rms", "bandwidth_hz", "effective_bandwidth_hz", "cell_arcsec"} == set(
            records[0].statistics
        )
        assert all((clean.root / "work" / r.name).is_dir() for r in records)
        assert records[0].name.endswith(".SimLine_sci.spw4.cube.I.iter0.image.sd")
        assert not (clean.stage_dir / "scratch").exists()

    def test_the_image_says_what_it_is(self, clean: Done) -> None:
        from pl_kernel.compute import Worker

        n = clean.image(6).numbers
        with Worker() as worker:
            words = worker.call(read_words, str(clean.root / "work" / clean.image(6).name))
        assert words["type"] == "singledish" and words["obspatt"] == "sd" and words["field"] == "SimLine"
        assert words["datatype"] == "BASELINED"
        assert float(words["datamin"]) < 0 < n.peak <= float(words["datamax"])
        assert float(words["effbw"]) == pytest.approx(488281.25)
        assert float(words["datarms"]) == pytest.approx(n.observed_rms)

    def test_the_page_has_its_pictures_and_nothing_failed(self, clean: Done) -> None:
        page = read_json(clean.stage_dir / "page.json")
        blocks = [b for section in page["sections"] for b in section["blocks"]]
        pictures = [p for b in blocks if b["type"] == "plots" for p in b["pictures"]]
        assert not page["failures"] and not any(b.get("failed") for b in blocks)
        kinds = {p["tags"]["type"] for p in pictures}
        assert kinds >= {
            "integrated", "velocity", "peak", "channel maps", "profiles", "detailed profiles", "noise", "number",
            "contamination",
        }  # fmt: skip
        (table,) = (b for b in blocks if b["type"] == "table")
        assert len(table["rows"]) == 6


@pytest.mark.casa
@pytest.mark.slow
class TestFaultyMap:
    @pytest.mark.parametrize("spw", SPWS)
    def test_a_line_in_the_off_is_reported_at_its_velocity(self, faulty: Done, spw: int) -> None:
        score = faulty.score("SingleDishImageContamination", spw)
        assert score.score == 0.65
        assert "emission at the OFF position" in score.long
        ranges = faulty.image(spw).judgement.contamination_velocity_km_s
        assert any(low < 30.0 < high and high - low < 40 for low, high in ranges)

    def test_a_line_left_out_of_the_ranges_is_reported(self, faulty: Done) -> None:
        assert faulty.score("SingleDishMissedLinePeak", 4).score == 1.0
        score = faulty.score("SingleDishMissedLinePeak", 6)
        assert score.score == 0.6 and "outside the identified line ranges" in score.long
        ranges = faulty.image(6).judgement.at_peak.velocity_km_s
        assert any(low < 30.0 < high for low, high in ranges)

    @pytest.mark.parametrize("spw", SPWS)
    def test_a_hole_in_the_map_lowers_the_score_of_masked_pixels(self, faulty: Done, spw: int) -> None:
        assert faulty.score("SingleDishImageMaskedPixels", spw).score < 0.5
        arrays = faulty.arrays(spw)
        hole = arrays["covered"] & ~np.isfinite(arrays["integrated"])
        rows = np.flatnonzero(hole.any(axis=1))
        # Rows 10 to 13 of 15 lie 32 to 64 arcsec north of the centre.
        north = (rows - arrays["sky"][4]) * arrays["sky"][2]
        assert north.min() > 20 and north.max() < 76

    def test_asymmetric_edges_are_cut_at_the_right_ends(self, faulty: Done, clean: Done) -> None:
        """Edges 5 and 12 of the data: rising frequencies lose 5 at the bottom, falling ones 12."""
        for spw, low in ((4, 5), (6, 12)):
            whole, cut = clean.image(spw).numbers, faulty.image(spw).numbers
            assert cut.channels == whole.channels - 17
            step = (whole.frequency_hz[1] - whole.frequency_hz[0]) / (whole.channels - 1)
            assert (cut.frequency_hz[0] - whole.frequency_hz[0]) / step == pytest.approx(low, abs=1.05)
        # The line range lies symmetrically around the middle of the data: in the image it moves with the edge.
        (span,) = faulty.image(4).numbers.line_channels
        (before,) = clean.image(4).numbers.line_channels
        assert span[0] == before[0] - 5


@pytest.mark.casa
@pytest.mark.slow
def test_beams_of_a_map_across_0h_are_combined_where_each_looks(
    raw_reduction: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Nobeyama data moved to right ascension 0: one map in K, whole, with the cloud in its place."""
    import shutil

    from pl_kernel.compute import Worker
    from pl_sim.testing import cached_simulation

    folder = tmp_path_factory.mktemp("nobeyama")
    source = cached_simulation("nobeyama")
    for name in (source.name, f"{source.name}.truth"):
        shutil.copytree(source.parent / name, folder / name)
    with Worker() as worker:
        worker.call(move_to_0h, str(folder / source.name))
    done = reduce(folder, folder / source.name, "hsdn_importdata", {"factor": 0, "half": 25}, {"spw": "0"})
    image = done.image(0)
    n, cloud = image.numbers, done.truth["extensions"]["SingleDish"]["clouds"][0]
    assert n.unit == "K" and max(n.size) < 100
    assert done.score("SingleDishImageMaskedPixels", 0).score == 1.0
    assert done.score("SingleDishSensitivityRatio", 0).score == 1.0
    assert n.observed_rms == pytest.approx(n.theoretical_rms, rel=0.15)
    efficiency = float(np.mean(done.truth["extensions"]["SingleDish"]["efficiencies"]))
    found = measured(done, 0, cloud, (0.0, done.truth["fields"][0]["dec_deg"]))
    assert found["integral"] == pytest.approx(cloud["map_integral_k_kms_arcsec2"] * efficiency, rel=0.05)
    assert abs(found["velocity"] - cloud["velocity_kms"]) < 0.2 * found["step"]
    assert found["offset"] < 0.1 * n.beam[0]
    assert {(i.antenna, i.stokes) for i in done.result.images} == {
        (antenna, stokes) for antenna in ("", *(f"NRO-BEAM{k}" for k in range(4))) for stokes in ("I", "XXYY")
    }
    assert not image.name.startswith("uid")


def move_to_0h(path: str) -> None:
    """Turn pointings and field about the pole, so that the field is at right ascension 0."""
    from pl_sim.casa import open_table

    with open_table(Path(path) / "FIELD", write=True) as table:
        shift = float(table.getcol("PHASE_DIR")[0, 0, 0])
        for column in ("PHASE_DIR", "DELAY_DIR", "REFERENCE_DIR"):
            values = table.getcol(column)
            values[0] -= shift
            table.putcol(column, values)
    with open_table(Path(path) / "POINTING", write=True) as table:
        for column in ("DIRECTION", "TARGET"):
            values = table.getcol(column)
            values[0] = (values[0] - shift) % (2 * np.pi)
            table.putcol(column, values)
    with open_table(Path(path) / "SOURCE", write=True) as table:
        values = table.getcol("DIRECTION")
        values[0] -= shift
        table.putcol("DIRECTION", values)


@pytest.mark.casa
def test_weights_decide_where_antennas_disagree(tmp_path: Path) -> None:
    """Images of 1 and 3 with weights 3 and 1: (3 + 3) / 4 = 1.5; where one has no weight the other counts; little
    weight is masked."""
    from pl_kernel.compute import Worker

    with Worker() as worker:
        values, good = worker.call(combine_two, str(tmp_path))
    assert values[2, 2] == pytest.approx(1.5)
    assert values[7, 2] == pytest.approx(3.0) and good[7, 2]
    assert not good[2, 7] and good.sum() == 99


def combine_two(folder: str) -> tuple[np.ndarray, np.ndarray]:
    """Make two images with weights and combine them."""
    import os

    from pl_hsd import mapmaking
    from pl_kernel.casa import Recorder
    from pl_kernel.stage_context import ItemContext, Place

    os.chdir(folder)
    here = Path(folder)
    place = Place(stage_name="hsd_imaging", stage_number=1, work=here, stage_dir=here / "stage", products=here / "out")
    ctx = ItemContext(place, Recorder(), here / "casa.log")
    image = ctx.casa.tool("image")
    for name, value, weight in (("one", 1.0, 3.0), ("two", 3.0, 1.0)):
        weights = np.full((10, 10, 1, 4), weight)
        if name == "one":
            weights[7] = 0.0
        weights[2, 7] = 0.01
        for path, pixels in ((name, np.full((10, 10, 1, 4), value)), (f"{name}.weight", weights)):
            image.fromarray(path, pixels, overwrite=True)
            if path == "one":
                image.calcmask("one.weight > 0.3" if Path("one.weight").exists() else '"one" > 0')
            image.done()
        if name == "one":
            image.open("one")
            image.calcmask("'one.weight' > 0.3")
            image.done()
    assert mapmaking.combine(ctx, ["one", "two"], "both") == ""
    with ctx.casa.image("both") as opened:
        return opened.getchunk()[:, :, 0, 1], opened.getchunk(getmask=True)[:, :, 0, 1]


# ---- scores of made-up results ---------------------------------------------------------------------------------------


def made_up(**changes: Any) -> Any:
    """A result with one good combined image, changed."""
    from pl_hsd.imageanalysis import Emission, Judgement, MapNumbers
    from pl_hsd.stages.imaging import ImagingResult, SdImage

    nothing = Emission(found=False, significance=2.0, spans=(), velocity_km_s=())
    numbers = MapNumbers(
        unit="Jy/beam", is_raster=True, beam=(28.0, 28.0, 0.0), cell_arcsec=3.0, size=(60, 60), channels=100,
        frequency_hz=(230e9, 230.1e9), velocity_km_s=(100.0, -30.0), frame="LSRK", restfreq_hz=230.5e9,
        channel_width_hz=1e6, effective_bandwidth_hz=1e6, peak=50.0, peak_velocity_km_s=30.0, peak_ra_deg=10.0,
        peak_dec_deg=-20.0, flux=100.0, observed_rms=1.0, theoretical_rms=1.0, theory_missing="",
        free_channels=((0, 40), (60, 99)), line_channels=((41, 59),), extra_edges=(0, 0), spectra=800,
    )  # fmt: skip
    judgement = Judgement(
        masked_fraction=0.0, contaminated=False, contamination_depth=2.0, contamination_velocity_km_s=(),
        at_peak=nothing, extended=nothing,
    )  # fmt: skip
    names = {f.name for f in attrs.fields(MapNumbers)}
    numbers = attrs.evolve(numbers, **{k: v for k, v in changes.items() if k in names})
    known = {f.name for f in attrs.fields(Judgement)}
    judgement = attrs.evolve(judgement, **{k: v for k, v in changes.items() if k in known})
    image = SdImage(
        name="x.image.sd", label="S, spw 17", field="S", spw=17, antenna="", stokes="I", vis=("a.ms",),
        numbers=numbers, judgement=judgement,
    )  # fmt: skip
    rest = {k: v for k, v in changes.items() if k not in names | known}
    return ImagingResult(**{"images": (image,), "expected": 1, **rest})


@pytest.mark.parametrize(
    ("share", "score"), [(0.0, 1.0), (1e-9, 0.5), (0.05, 0.25), (0.1, 0.0), (0.5, 0.0), (None, 0.0)]
)
def test_score_of_masked_pixels(share: float | None, score: float) -> None:
    from pl_hsd.qa.imaging import masked_pixels

    assert masked_pixels(made_up(masked_fraction=share))[0].score == pytest.approx(score, abs=1e-6)


@pytest.mark.parametrize(("ratio", "score"), [(1.0, 1.0), (1.59, 1.0), (1.6, 0.5), (0.9, 0.5), (0.91, 1.0), (3.0, 0.5)])
def test_score_of_the_sensitivity(ratio: float, score: float) -> None:
    from pl_hsd.qa.imaging import sensitivity_ratio

    assert sensitivity_ratio(made_up(observed_rms=ratio))[0].score == score


def test_an_unknown_sensitivity_is_no_success_and_a_single_point_has_none() -> None:
    from pl_hsd.qa.imaging import sensitivity_ratio

    unknown = sensitivity_ratio(made_up(theoretical_rms=None, theory_missing="Jy/K factors are missing"))[0]
    assert unknown.score == 0.5 and "Jy/K factors are missing" in unknown.long
    assert sensitivity_ratio(made_up(theoretical_rms=None, is_raster=False))[0].score is None


def test_an_antenna_without_spectra_is_named() -> None:
    from pl_hsd.qa.imaging import antennas_absent, images_made
    from pl_hsd.stages.imaging import Absent

    gone = made_up(absent=(Absent(label="S, spw 17", antenna="PM03", field="S", spw=17),))
    (score,) = antennas_absent(gone)
    assert score.score == 0.8 and "PM03" in score.long and "spw 17" in score.long
    assert images_made(gone)[0].score == 1.0  # the map itself was made
    assert antennas_absent(made_up()) == []


def test_missing_images_and_rasters_lower_the_score() -> None:
    from pl_hsd.imagenoise import RasterProblem
    from pl_hsd.qa.imaging import images_made, rasters_analysed
    from pl_kernel.stage import ItemFailure

    assert images_made(made_up())[0].score == 1.0
    assert images_made(made_up(expected=4))[0].score == 0.25
    assert images_made(made_up(images=()))[0].score == 0.0
    failed = images_made(made_up(failures=(ItemFailure("PM02", "all weights are zero"),)))[0]
    assert failed.score == 0.5 and "all weights are zero" in failed.long
    problems = tuple(RasterProblem(ms="a.ms", antenna=a, kind="gap") for a in ("PM01", "PM02"))
    (score,) = rasters_analysed(made_up(raster_problems=problems))
    assert score.score == 0.8 and score.applies_to.antenna == ("PM01", "PM02")


def test_a_result_survives_its_file(tmp_path: Path) -> None:
    from pl_hsd.stages.imaging import ImagingResult

    write_json(tmp_path / "r.json", made_up())
    assert from_json(read_json(tmp_path / "r.json"), ImagingResult).images == made_up().images
