"""Archives, image names, scripts and reports of a delivery; export, restore, saved states and the web log as stages."""

from __future__ import annotations

import io
import json
import os
import tarfile
from datetime import UTC, datetime
from xml.etree import ElementTree

import attrs
import numpy as np
import pytest

from pl_kernel import InputError, PlError, plugins
from pl_kernel.common import pipelinestats, report
from pl_kernel.common.applying import Applied
from pl_kernel.common.applypages import _intents, applied_table
from pl_kernel.common.archives import pack, sha256, unpack
from pl_kernel.common.delivery import RestoreState, find
from pl_kernel.common.delivery_qa import products_written
from pl_kernel.common.exportdata import ExportdataResult, Exported, _request
from pl_kernel.common.exportimages import delivered, fits_name
from pl_kernel.common.save import Item, ResumeInputs, SaveInputs, SaveResult, stage_after, state_is_whole
from pl_kernel.common.scripts import calls_of, script
from pl_kernel.context import ImageRecord
from pl_kernel.flagcounts import FlagCounts
from pl_kernel.journal import RunRecord, RunStep
from pl_kernel.params import resolve
from pl_kernel.qa import AppliesTo, QAScore, combine
from pl_kernel.recipe import loads
from pl_kernel.serialize import write_json
from pl_kernel.session import Session
from pl_kernel.stage import ItemFailure
from pl_kernel.testing import make_tiny_ms

# ---- archives --------------------------------------------------------------------------------------------------------


def archive(path, *names):
    with tarfile.open(path, "w:gz") as opened:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = 3
            opened.addfile(entry, io.BytesIO(b"abc"))
    return path


def test_only_the_tables_wanted_are_unpacked(tmp_path):
    made = archive(tmp_path / "tables.tgz", "a.tbl/table.dat", "b.tbl/table.dat")
    assert unpack(made, tmp_path / "out", ["a.tbl"]) == ("a.tbl",)
    assert (tmp_path / "out/a.tbl/table.dat").read_bytes() == b"abc"
    assert not (tmp_path / "out/b.tbl").exists()


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil"])
def test_archives_that_lead_out_of_the_folder_are_refused(tmp_path, name):
    with pytest.raises(PlError, match="leads out of the folder"):
        unpack(archive(tmp_path / "bad.tgz", name), tmp_path / "out")
    assert not (tmp_path / "evil").exists()


def test_links_in_archives_cannot_lead_out_either(tmp_path):
    with tarfile.open(tmp_path / "bad.tgz", "w:gz") as opened:
        entry = tarfile.TarInfo("a.tbl")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc"
        opened.addfile(entry)
    with pytest.raises(PlError, match="is a link or a device"):
        unpack(tmp_path / "bad.tgz", tmp_path / "out")
    assert not (tmp_path / "out/a.tbl").exists()


def test_a_damaged_archive_is_named(tmp_path):
    path = tmp_path / "cut.tgz"
    path.write_bytes(b"no archive")
    with pytest.raises(PlError, match=r"cut\.tgz cannot be unpacked"):
        unpack(path, tmp_path / "out")


def test_what_is_packed_comes_back_without_locks(tmp_path):
    table = tmp_path / "x.tbl"
    table.mkdir()
    (table / "table.dat").write_bytes(b"data")
    (table / "table.lock").write_bytes(b"lock")
    made = pack(tmp_path / "x.tgz", [(table, "y.tbl")])
    assert unpack(made, tmp_path / "out") == ("y.tbl",)
    assert [p.name for p in (tmp_path / "out/y.tbl").iterdir()] == ["table.dat"]


def test_the_checksum_of_a_folder_knows_names_and_contents(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/one").write_bytes(b"1")
    first = sha256(tmp_path / "a")
    (tmp_path / "a/one").rename(tmp_path / "a/two")
    assert sha256(tmp_path / "a") != first
    # printf abc | sha256sum
    (tmp_path / "b").write_bytes(b"abc")
    assert sha256(tmp_path / "b") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# ---- images ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "fits"),
    [
        ("demo.s23.N5921_sci.spw0.cube.I.image.pbcor", "demo.N5921_sci.spw0.cube.I.image.pbcor.fits"),
        ("uid___A1.s35_0.M83_sci.spw17.mfs.I.iter1.image", "uid___A1.M83_sci.spw17.mfs.I.image.fits"),
        ("demo.s4.s5.spw0.image", "demo.s5.spw0.image.fits"),  # a source called s5
        ("s4.image", "s4.image.fits"),
    ],
)
def test_names_of_fits_files_lack_stage_and_iteration(image, fits):
    assert fits_name(image) == fits


def image(name, **more):
    return ImageRecord(**{"name": name, "field": "A", "kind": "image", **more})


def test_of_images_with_one_fits_name_the_newest_is_delivered():
    old, new = image("x.s3.A.image"), image("x.s7.A.image")
    assert delivered([old, new]) == [new]


def test_full_polarization_supersedes_total_intensity_of_targets_only():
    i, iquv = image("x.A.I.image"), image("x.A.IQUV.image", stokes="IQUV")
    cal_i = image("x.C.I.image", field="C", intent="PHASE")
    cal_iquv = image("x.C.IQUV.image", field="C", intent="PHASE", stokes="IQUV")
    assert delivered([i, iquv, cal_i, cal_iquv]) == [iquv, cal_i, cal_iquv]


def test_images_are_chosen_by_kind_intent_and_name():
    images = [
        image("x.A.image"), image("x.A.residual", kind="residual"), image("x.B.image", field="B"),
        image("x.P.image", intent="PHASE"), image("x.Q.image", intent="BANDPASS,PHASE"),
    ]  # fmt: skip
    assert [i.name for i in delivered(images)] == ["x.A.image", "x.B.image", "x.P.image", "x.Q.image"]
    assert [i.name for i in delivered(images, calintents=["BANDPASS"])] == ["x.A.image", "x.B.image", "x.Q.image"]
    assert [i.name for i in delivered(images, targetimages=["x.B*"], calimages=["none"])] == ["x.B.image"]


# ---- scripts ---------------------------------------------------------------------------------------------------------


def record(*steps):
    return RunRecord(
        name="r", created=datetime(2026, 1, 1, tzinfo=UTC), steps=steps, pl={"plugins": {"common": "1.0"}},
        data=("/archive/day1.ms",),
    )  # fmt: skip


def test_the_script_of_a_run_is_python_that_calls_its_stages():
    steps = (
        RunStep(stage="h_importdata", user={"vis": ["/archive/day1.ms"]}),
        RunStep(stage="breakpoint"),
        RunStep(stage="h_mssplit", parameters={"chanbin": 2, "field": 'a "name"'}),
    )
    run = record(*steps)
    text = script('A "run".', calls_of(run), run, {"ProjectSummary": {"proposal_code": "16A-000"}})
    called = []
    functions = {
        "h_init": lambda: type("C", (), {"set_state": lambda _s, *a: called.append(("set_state", a))})(),
        "h_importdata": lambda **k: called.append(("h_importdata", k)),
        "h_mssplit": lambda **k: called.append(("h_mssplit", k)),
        "h_save": lambda: called.append(("h_save", {})),
    }
    exec(compile(text.replace("from pl_kernel.casa_style import *", ""), "script", "exec"), functions)
    assert called == [
        ("set_state", ("ProjectSummary", "proposal_code", "16A-000")), ("h_importdata", {"vis": ["day1.ms"]}),
        ("h_mssplit", {"chanbin": 2, "field": 'a "name"'}), ("h_save", {}),
    ]  # fmt: skip


# ---- report ----------------------------------------------------------------------------------------------------------


def a_report(**more):
    worst = QAScore(
        metric="%RawBadchansFlags", value=0.0125, score=0.4, long="Bad <channels> & more",
        applies_to=AppliesTo(vis="a.ms", spw=(3, 5), antenna="ea01"),
    )  # fmt: skip
    good = QAScore(metric="x.rms", value=1.23456, unit="Jy", score=1.0, short="fine", topic="imaging")
    stage = report.StageScores(number=2, name="hif_x", topic="flagging", score=0.4, scores=(worst, good))
    return report.Report(
        project="16A-000", ous="uid://A/B", execution_blocks=("uid://C",), recipe="demo", seconds=61.6, casa="6.7",
        date=datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC), pl="0.1", sessions={"a.ms": "day_1"}, stages=(stage,), **more,
    )  # fmt: skip


def test_the_report_holds_scores_with_their_data_as_the_observatories_read_it():
    root = ElementTree.fromstring(report.to_xml(a_report()))
    assert root.findtext("ProjectStructure/ProposalCode") == "16A-000"
    assert root.findtext("QaSummary/ReportDate") == "2026-02-03 04:05:06"
    assert root.findtext("QaSummary/ProcessingTime") == "62 s"
    stage = root.find("QaPerStage/Stage")
    assert stage.attrib == {"Number": "2", "Name": "hif_x"}
    assert stage.find("RepresentativeScore").attrib == {"Score": "0.400", "Reason": "Bad <channels> & more"}
    first, second = stage.findall("SubScore")
    assert first.find("Metric").attrib == {"Name": "%RawBadchansFlags", "Value": "1.250%", "Units": "N/A"}
    assert second.find("Metric").attrib == {"Name": "x.rms", "Value": "1.235", "Units": "Jy"}
    assert first.find("DataSelection").attrib == {
        "Asdm": "a.ms", "Session": "day_1", "Spw": "3,5", "Intent": "N/A", "Field": "N/A", "Antenna": "ea01",
    }  # fmt: skip
    topics = {t.tag: t.get("Score") for t in root.find("QaPerTopic")}
    assert topics == {"Dataset": "Undefined", "Calibration": "Undefined", "Flagging": "0.400", "Imaging": "1.000"}


def test_the_report_holds_fluxes_and_sensitivities():
    flux = report.FluxMeasurement(
        vis="a.ms", field="J1", spw_name="EVLA_C#0", spw=0, flux_jy=1.25, error_jy=0.004, frequency_hz=5.5e9
    )
    noise = report.Sensitivity.of(
        image("a.image", spws=(0, 1), unit="Jy/beam", statistics={"rms": 2e-5, "theoretical_rms": 1.8e-5}), "VLA"
    )
    root = ElementTree.fromstring(report.to_xml(a_report(fluxes=[flux], sensitivities=[noise])))
    found = root.find("QaPerTopic/Calibration/FluxMeasurement").attrib
    assert (found["FluxJy"], found["FrequencyGHz"], found["Field"]) == ("1.25", "5.500000", "J1")
    found = root.find("QaPerTopic/Imaging/Sensitivity").attrib
    assert (found["TheoreticalSensitivity"], found["ObservedSensitivity"]) == ("1.8e-05", "2e-05")
    assert (found["BandwidthHz"], found["Spw"], found["Array"]) == ("N/A", "0,1", "VLA")


def test_control_characters_do_not_make_the_report_unreadable():
    flux = report.FluxMeasurement(
        vis="a.ms", field="J\x001\x1b", spw_name="", spw=0, flux_jy=1.0, error_jy=0.0, frequency_hz=1e9
    )
    ElementTree.fromstring(report.to_xml(a_report(fluxes=[flux])))


def test_a_telescope_adds_elements_to_the_report():
    inner = report.Node("Name", "<odd> & \x00bad", {"Units": "Jy"})
    root = ElementTree.fromstring(report.to_xml(a_report(more=[report.Node("Calibrators", children=[inner])])))
    found = root.find("Calibrators/Name")
    assert found.text == "<odd> & bad" and found.attrib == {"Units": "Jy"}


# ---- scores ----------------------------------------------------------------------------------------------------------


def test_statistics_count_what_each_agent_adds_and_most_baselines(tmp_path, monkeypatch):
    # Baselines of a triangle with sides 3, 4, 5 m: 80 % of the way from the first to the last is 4.6 m.
    triangle = np.array([[0.0, 0, 0], [3, 0, 0], [0, 4, 0]])
    assert pipelinestats.baseline_percentile_m(triangle) == pytest.approx(4.6)
    assert pipelinestats.baseline_percentile_m(triangle[:1]) is None
    flagged = {"before": 10.0, "online": 30.0, "shadow": 30.0}
    counts = [{"name": name, "flagged": count, "total": 200.0} for name, count in flagged.items()]
    write_json(tmp_path / "result.json", {"sets": [{"vis": "a.ms", "counts": counts}]})
    done = RunStage("t_flagdata", "ok")
    monkeypatch.setattr(pipelinestats, "finished_stages", lambda _: [(tmp_path, done)])
    assert pipelinestats.flagged_by_agent(tmp_path) == {"a.ms": {"before": 5.0, "online": 10.0, "shadow": 0.0}}


@attrs.frozen
class RunStage:
    """What the statistics look at of a stage's record."""

    name: str
    status: str


def test_products_are_scored_by_what_was_asked_for_and_the_missing_are_named():
    one = Exported(kind="fits", name="a.fits", source="a", size_bytes=10)
    empty = Exported(kind="fits", name="b.fits", source="b", size_bytes=0)

    def scored(*made, expected, failures=()):
        return products_written(
            ExportdataResult(products=made, expected={"fits": expected}, manifest="m", failures=failures)
        )

    assert combine(scored(one, expected=1)) == 1.0
    assert combine(scored(one, empty, expected=2)) == 0.5
    assert combine(scored(expected=0)) == 0.0
    (score,) = scored(one, expected=2, failures=(ItemFailure("fits of c.image", "It is gone."),))
    assert score.score == 0.5 and "c.image (It is gone)" in score.long


# ---- products that do not fit ----------------------------------------------------------------------------------------


@attrs.frozen
class Named:
    """As much of a measurement set as looking for its products needs."""

    name: str
    stem: str


TINY = Named("tiny.ms", "tiny")


@pytest.fixture
def products(tmp_path):
    """A folder that looks like a delivery."""
    folder = tmp_path / "products"
    folder.mkdir()
    (folder / "tiny.calapply.txt").write_text("applycal(vis='tiny.ms', gaintable='x.gcal')\n")
    archive(folder / "tiny.flagversions.tgz", "tiny.ms.flagversions/flags.Pipeline_Final/table.dat")
    archive(folder / "run.session_1.caltables.tgz", "x.gcal/table.dat")
    write_json(folder / "tiny.restore.json", RestoreState(vis="tiny.ms", rows="abc"))
    files = {p.name: sha256(p) for p in folder.iterdir()}
    root = ElementTree.Element("piperesults")
    ElementTree.SubElement(root, "pipeline_version", name="2025.1.0.37")
    place = ElementTree.SubElement(root, "asdm", name="tiny.ms")
    ElementTree.SubElement(place, "restoredata", smoothed_spws="0~3", specline_spws="")
    for name, checksum in files.items():
        ElementTree.SubElement(root, "file", name=name, sha256=checksum)
    (folder / "run.pipeline_manifest.xml").write_bytes(ElementTree.tostring(root))
    return folder


def test_a_delivery_is_found_with_what_its_manifest_says(products):
    found = find(products, TINY)
    assert found.state.rows == "abc" and found.pipeline == "2025.1.0.37"
    assert found.asdm == {"name": "tiny.ms", "smoothed_spws": "0~3", "specline_spws": ""}
    assert [p.name for p in found.tables] == ["run.session_1.caltables.tgz"]


def test_missing_products_are_named_with_the_place(products, tmp_path):
    with pytest.raises(PlError, match="There is no folder of products"):
        find(tmp_path / "nowhere", TINY)
    with pytest.raises(PlError, match=r"of other\.ms; they are of tiny"):
        find(products, Named("other.ms", "other"))
    with pytest.raises(PlError, match=r"of iny\.ms"):  # part of a name is not the name
        find(products, Named("iny.ms", "iny"))
    (products / "run.session_1.caltables.tgz").unlink()
    with pytest.raises(PlError, match=r"hold no caltables of tiny\.ms"):
        find(products, TINY)


def test_products_that_were_changed_are_refused(products):
    (products / "tiny.calapply.txt").write_text("applycal(vis='tiny.ms', gaintable='y.gcal')\n")
    with pytest.raises(PlError, match=r"tiny\.calapply\.txt is damaged or was changed"):
        find(products, TINY)


@pytest.mark.parametrize(
    "manifest",
    [b"no xml", b"<!DOCTYPE x [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]><piperesults>&b;</piperesults>"],
)
def test_a_manifest_that_cannot_be_read_costs_the_checksums_only(products, manifest):
    (products / "run.pipeline_manifest.xml").write_bytes(manifest)
    assert find(products, TINY).asdm == {}


# ---- stages ----------------------------------------------------------------------------------------------------------

CALIBRATE = '''
from pl_kernel import Inputs, Lazy, Result, Stage, hookimpl
from pl_kernel.calibration import CalApplication, CalFrom, CalTo
from pl_kernel.common import flagversions
from pl_kernel.common.applying import apply_library
from pl_kernel.effects import MarkApplied, RegisterCalibration, RegisterImage
from pl_kernel.context import ImageRecord
from pl_kernel.flagcounts import FlagCounts


class Calibrate(Stage[Inputs, Result]):
    """Flag, solve for gains and register them."""

    name = "t_calibrate"
    mutates = frozenset({"flags"})

    def run(self, ctx, inputs):
        effects = []
        for ms in ctx.measurement_sets():
            ctx.casa.flagdata(vis=ms.path, mode="manual", antenna="A3", scan="2", flagbackup=False)
            table = ctx.path(ms, ext="gcal")
            ctx.casa.gaincal(vis=ms.path, caltable=table, field="CAL", refant="A0", minsnr=0.0, minblperant=1)
            with ctx.casa.table(table, nomodify=False) as opened:  # a solution without which data get flagged
                flags = opened.getcol("FLAG")
                flags[:, :, 1] = True
                opened.putcol("FLAG", flags)
            effects.append(RegisterCalibration(CalApplication(CalTo(ms.name), CalFrom(table, caltype="gaincal"))))
        return Result(effects=effects)


class Apply(Stage[Inputs, Result]):
    """Apply, flag some more, make an image."""

    name = "t_apply"
    mutates = frozenset({"flags", "corrected", "weights"})

    def run(self, ctx, inputs):
        effects, found = [], {}
        for ms in ctx.measurement_sets():
            found[ms.name] = flagversions.save_before_apply(ctx, ms)
            apply_library(ctx, ms, applymode="calflag")
            ctx.casa.flagdata(vis=ms.path, mode="manual", antenna="A1&A2", scan="5", flagbackup=False)
            effects.append(MarkApplied(ms.name))
        effects += [flagversions.remember(ctx, found),
                    flagversions.remember_how(ctx, {n: {"applymode": "calflag"} for n in found})]
        with _new(ctx) as image:
            image.fromshape("t.s3.A.image", [4, 4, 1, 2], overwrite=True)
        record = ImageRecord(name="t.s3.A.image", field="A", spws=(0,), statistics={"rms": 0.5}, unit="Jy/beam")
        return Result(effects=[*effects, RegisterImage(record)])


def _new(ctx):
    import contextlib

    return contextlib.closing(ctx.casa.tool("image"))


@hookimpl
def pl_api():
    return ">=1,<2"


@hookimpl
def pl_stages():
    return [Lazy("t_calibrate", __name__ + ":Calibrate", "Solve."), Lazy("t_apply", __name__ + ":Apply", "Apply.")]
'''
DELIVER = """
name: t_deliver
stages:
  - h_importdata
  - t_calibrate
  - h_save: {filename: solved}
  - t_apply
  - h_exportdata
"""


def columns(path):
    from pl_kernel.compute import Worker

    with Worker() as worker:
        return worker.call(_columns, str(path))


def _columns(path):
    import os

    from pl_kernel.casa import Casa, Recorder

    with Casa(Recorder(), os.devnull).table(path) as table:
        return {name: table.getcol(name) for name in ("CORRECTED_DATA", "FLAG", "WEIGHT")}


@pytest.fixture(scope="module")
def delivered_run(tmp_path_factory, tiny_ms):
    """A run that ends with an export, and the plugin with its stages, for all tests below."""
    folder = tmp_path_factory.mktemp("delivered")
    info = folder / "plug_calibrate-1.0.dist-info"
    info.mkdir()
    (folder / "plug_calibrate.py").write_text(CALIBRATE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug-calibrate\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pl.plugins]\ncalibrate = plug_calibrate\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        plugins.registry.cache_clear()
        with Session.create(folder / "run", loads(DELIVER).bind({}), [tiny_ms.path]) as session:
            outcome = session.run()
            assert outcome.status == "done", outcome.message
        yield session
    plugins.registry.cache_clear()


def restore(new_session, tmp_path, products, data):
    recipe = loads(f"stages: [{{h_restoredata: {{products_dir: '{products}'}}}}]")
    return new_session(recipe, [data])


@pytest.mark.casa
class TestStages:
    def test_export_then_restore_gives_the_same_data_flags_and_weights(
        self, delivered_run, new_session, tiny_ms, tmp_path
    ):
        export = delivered_run.stages[-1]
        assert export.score == 1.0, [s.long for s in export.scores if s.score != 1.0]
        products = delivered_run.root / "products"
        ours = {f"t_deliver.{name}" for name in (
            "auxproducts.tgz", "casa_commands.log", "casa_pipescript.py", "casa_piperestorescript.py",
            "pipeline_aquareport.xml", "pipeline_report.json", "pipeline_manifest.xml", "session_1.caltables.tgz",
            "weblog.tgz",
        )}  # fmt: skip
        theirs = {"t.A.image.fits", "tiny.calapply.txt", "tiny.flagversions.tgz", "tiny.restore.json"}
        assert {p.name for p in products.iterdir()} == ours | theirs
        root = ElementTree.parse(products / "t_deliver.pipeline_manifest.xml").getroot()
        named = {e.get("name"): e.get("sha256") for e in root.iter() if e.get("sha256")}
        assert named == {p.name: sha256(p) for p in products.iterdir() if "manifest" not in p.name}
        with tarfile.open(products / "t_deliver.weblog.tgz") as packed:
            names = packed.getnames()
        assert any(n.endswith("weblog/index.html") for n in names)
        for stage in ("t_calibrate", "t_apply"):  # the pages of all stages before were drawn
            assert any(stage in n for n in names), stage
        with tarfile.open(products / "t_deliver.auxproducts.tgz") as packed:
            stats = json.load(packed.extractfile("pipeline_stats_t_deliver.json"))
        (ms,) = (m for m in delivered_run.context.measurement_sets if not m.origin)
        assert stats["MOUS"]["n_EB"]["value"] == 1 and stats["MOUS"]["n_spw"]["value"] == len(ms.science_spws)
        stages = ["h_importdata", "t_calibrate", "h_save", "t_apply"]
        assert list(stats["MOUS"]["stage_info"]["value"].values()) == stages
        (block,) = stats["EB"].values()
        assert block["n_ant"]["value"] == len(ms.antennas)
        width = sum(w["chan_width"]["value"] * w["n_chan"]["value"] for w in stats["SPW"].values())
        assert width == pytest.approx(sum(s.bandwidth_hz for s in ms.science_spws) / 1e6, rel=1e-6)
        aqua = ElementTree.parse(products / "t_deliver.pipeline_aquareport.xml").getroot()
        assert [s.get("Name") for s in aqua.find("QaPerStage")] == stages
        assert aqua.find("QaPerTopic/Imaging/Sensitivity").get("ObservedSensitivity") == "0.5"

        again = restore(new_session, tmp_path, products, tiny_ms.path)
        outcome = again.run()
        assert outcome.status == "done", outcome.message
        assert outcome.score == 1.0, [s.long for s in outcome.stages[-1].scores]
        one, two = (columns(s.root / "work/tiny.ms") for s in (delivered_run, again))
        for name in one:
            assert np.array_equal(one[name], two[name]), name
        assert one["FLAG"].any() and not one["FLAG"].all()
        mine, theirs = (
            s.context.calibration.export_text(s.context.measurement_sets, state="applied")
            for s in (delivered_run, again)
        )
        assert mine == theirs and "gcal" in mine

    def test_data_with_other_rows_are_refused(self, delivered_run, new_session, tmp_path):
        other = tmp_path / "other" / "tiny.ms"
        make_tiny_ms(other, seed=2)
        with_other_rows(other)
        outcome = restore(new_session, tmp_path, delivered_run.root / "products", other).run()
        assert outcome.status == "failed" and "has not the rows" in outcome.message

    def test_a_run_goes_on_from_a_saved_state_of_another(self, delivered_run, new_session):
        root = delivered_run.root
        assert stage_after(root, "solved") == 4 == stage_after(root, "4")
        with pytest.raises(PlError, match="Did you mean 'solved'"):
            stage_after(root, "solvd")
        again = new_session(loads(f"stages: [{{h_resume: {{run: '{root}', filename: solved}}}}, t_apply, h_weblog]"))
        outcome = again.run()
        assert outcome.status == "done", outcome.message
        one, two = (columns(r / "work/tiny.ms") for r in (root, again.root))
        for name in one:
            assert np.array_equal(one[name], two[name]), name
        with Session.open(root) as session:
            session.rewind(stage_after(root, "solved"))
            assert [s.name for s in session.stages] == ["h_importdata", "t_calibrate", "h_save"]


def with_other_rows(path):
    from pl_kernel.compute import Worker

    with Worker() as worker:
        worker.call(_swap_antennas, str(path))


def _swap_antennas(path):
    import os

    from pl_kernel.casa import Casa, Recorder

    with Casa(Recorder(), os.devnull).table(path, nomodify=False) as table:
        time = table.getcol("TIME")
        table.putcol("TIME", time[::-1])


def test_a_state_that_lost_something_scores_lower():
    whole = Item(kind="measurement set", name="a.ms", size_bytes=10)
    gone = Item(kind="caltable", name="a.gcal")
    assert state_is_whole(SaveResult(name="x", stage=1, items=(whole,))).score == 1.0
    score = state_is_whole(SaveResult(name="x", stage=1, items=(whole, gone)))
    assert score.score == 0.5 and "caltable a.gcal" in score.long


def test_the_processing_request_is_found_where_it_is_the_only_one(tmp_path):
    root = tmp_path / "run"
    root.mkdir()
    assert _request(root, "") is None
    (tmp_path / "PPR_one.xml").write_text("<x/>")
    assert _request(root, "") == tmp_path / "PPR_one.xml"
    (tmp_path / "PPR_two.xml").write_text("<x/>")
    assert _request(root, "") is None, "nobody knows which"
    assert _request(root, str(tmp_path / "PPR_two.xml")) == tmp_path / "PPR_two.xml", "what was run goes out"
    assert _request(root, str(tmp_path / "recipe.yaml")) is None


def test_resuming_from_no_run_is_refused_before_anything_is_done(tmp_path):
    with pytest.raises(InputError, match=r"no run in .*nowhere"):
        resolve(ResumeInputs, {"run": str(tmp_path / "nowhere")}, {}, "h_resume")
    with pytest.raises(InputError, match="number of a stage"):
        resolve(SaveInputs, {"filename": "12.context"}, {}, "h_save")


def test_the_table_of_applied_calibration_shows_what_somebody_noted():
    page = Table()
    one = Applied(
        vis="a.ms", field="A", spw="0", intent="", antenna="*&*", tables=["x", "y"], gainfields=["", "1"],
        interps=["", "linear"], kinds=["gaincal", "bandpass"], spwmaps=["", "0,0"], sizes=[2_000_000, 0],
    )  # fmt: skip
    applied_table(page, [one])
    assert page.columns == [
        "Field", "Spw", "Kind", "Table", "Spw map", "Gains from", "Interpolation", "Weights", "Size",
    ]  # fmt: skip
    assert page.rows[1] == ["A", "0", "bandpass", "y", "0,0", "1", "linear", "kept", ""]
    assert page.rows[0][-1] == 2.0
    applied_table(page, [one, attrs.evolve(one, vis="b.ms")])
    assert page.columns[0] == "Measurement set" and page.rows[2][0] == "b.ms"
    old = attrs.evolve(one, kinds=(), spwmaps=(), sizes=())
    applied_table(page, [old])
    assert "Kind" not in page.columns and "Size" not in page.columns


class Table:
    """A page that remembers its last table."""

    def table(self, columns, rows, **_):
        self.columns, self.rows = columns, rows


def test_flags_are_counted_by_intent_once_for_each_that_a_scan_has():
    counted = FlagCounts(name="x", flagged=3, total=30, by={"scan": {"1": (1.0, 10.0), "2": (2.0, 20.0)}})
    scans = {"1": frozenset({"PHASE"}), "2": frozenset({"PHASE", "AMPLITUDE"})}
    assert _intents(counted, scans).by == {"intent": {"PHASE": (3.0, 30.0), "AMPLITUDE": (2.0, 20.0)}}


def test_a_restore_without_something_says_what_and_forgives_what_observatories_never_deliver():
    from pl_kernel.common.delivery_qa import calibration_restored
    from pl_kernel.common.restoredata import NO_FLAGS_BEFORE, NO_ROWS, Restored, RestoredataResult

    def score(*missing):
        one = Restored(vis="a.ms", products="p", tables=("x",), versions=(), missing=missing)
        (found,) = calibration_restored(RestoredataResult(sets=(one,), applied=()))
        assert all(m in found.long for m in missing)
        return found.score

    assert score() == 1.0
    assert score(NO_ROWS, NO_FLAGS_BEFORE) == 0.8
    assert score(NO_ROWS, "the record of smoothed windows") == 0.3
