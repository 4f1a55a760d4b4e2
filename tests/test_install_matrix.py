"""Wheels of kernel, hif, hifv and a third party's plugin, in a clean environment without the source tree."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("kernel", "plugins/hif", "plugins/hifv", "examples/pl-example")
OTHERS = ("plugins/hifa", "plugins/hsd", "plugins/hifas", "plugins/hsdn", "plugins/vlass", "plugins/sim")

pytestmark = pytest.mark.slow


def run(*command, cwd, path="", **options):
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    if path:
        clean["PYTHONPATH"] = str(path)
    done = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True, env=clean, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """A wheel and a source distribution of every package, built without a network."""
    target = tmp_path_factory.mktemp("dist")
    for package in (*PACKAGES, *OTHERS):
        run(sys.executable, "-m", "build", "--no-isolation", "--outdir", target, ROOT / package, cwd=target)
    return target


def clean_environment(folder, wheels, *names):
    """A fresh virtual environment with these wheels; third-party packages come from the environment of this test.

    Its site-packages is put behind our wheels, and the editable installs in it are hidden: what is tested
    is what was built.
    """
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    chosen = [next(wheels.glob(f"{name}-*.whl")) for name in names]
    run(
        sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", "--quiet", *chosen,
        cwd=folder,
    )  # fmt: skip
    mine = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).stdout.strip())
    borrowed = folder / "borrowed"
    borrowed.mkdir()
    ours = ("pl_", "_pl_", "pl-", "_editable", "__editable")
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.lower().startswith(ours) and entry.suffix != ".pth":
            (borrowed / entry.name).symlink_to(entry)
    (mine / "borrowed.pth").write_text(f"{borrowed}\n")
    return python


@pytest.fixture(scope="module")
def clean_python(tmp_path_factory, wheels):
    """Kernel, hif, hifv and a third party's plugin."""
    folder = tmp_path_factory.mktemp("clean")
    return clean_environment(folder, wheels, "pl_kernel", "pl_hif", "pl_hifv", "pl_example")


def test_every_package_builds_a_wheel_and_a_source_distribution(wheels):
    names = sorted(p.name.partition("-")[0] for p in wheels.glob("*.whl"))
    plugins = ("hif", "hifv", "example", "hifa", "hsd", "hifas", "hsdn", "vlass", "sim")
    assert names == sorted(["pl_kernel", *(f"pl_{name}" for name in plugins)])
    assert sorted(p.name.partition("-")[0] for p in wheels.glob("*.tar.gz")) == names


def test_wheels_carry_templates_recipes_and_licence(wheels):
    def content(name):
        return zipfile.ZipFile(next(wheels.glob(f"{name}-*.whl"))).namelist()

    kernel = content("pl_kernel")
    assert any(name.endswith(".html") for name in kernel) and any(name.endswith(".css") for name in kernel)
    assert "pl_kernel/testing/template/package/plugin.py.in" in kernel and "pl_kernel/py.typed" in kernel
    assert not any(name.startswith("tests/") for name in kernel)
    assert "pl_hifv/recipes/hifv_archive_line.yaml" in content("pl_hifv")
    for wheel in wheels.glob("*.whl"):
        if not wheel.name.startswith("pl_example"):
            assert any("LICENSE" in name for name in zipfile.ZipFile(wheel).namelist()), wheel.name


def test_what_runs_is_what_was_built(clean_python, tmp_path):
    places = run(
        clean_python, "-c", "import pl_kernel, pl_hif, pl_hifv, pl_example as e; print(pl_kernel.__file__, e.__file__)",
        cwd=tmp_path,
    ).stdout  # fmt: skip
    assert str(ROOT) not in places


def test_all_plugins_are_found_with_their_versions(clean_python, tmp_path):
    found = json.loads(run(clean_python, "-m", "pl_kernel", "plugins", "--json", cwd=tmp_path).stdout)
    assert {p["name"] for p in found} == {"common", "hif", "hifv", "example"}
    assert [p["reason"] for p in found] == [""] * 4
    assert {p["name"]: p["version"] for p in found}["example"] == "1.2.3"


# The stages that each plugin is for: hsd.md, hifv.md, hif.md and kernel.md of the observatories' pipeline.
COMMON = {
    "h_applycal", "h_exportdata", "h_import_calstate", "h_importdata", "h_mssplit", "h_restoredata", "h_resume",
    "h_save", "h_tsyscal", "h_weblog",
}  # fmt: skip
SINGLE_DISH = {
    f"hsd_{name}"
    for name in (
        "importdata", "flagdata", "tsysflag", "skycal", "k2jycal", "applycal", "atmcor", "baseline", "blflag",
        "imaging", "exportdata", "restoredata",
    )
}  # fmt: skip
NOBEYAMA = {f"hsdn_{name}" for name in ("importdata", "exportdata", "restoredata")}

RESOLVE_ALL = """
import json, sys
from pl_kernel.plugins import registry
known = registry()
for name in known.stages:
    stage = known.stage(name)
    for function in (*known.scorers_for(stage), *known.renderers_for(stage)):
        assert function.__name__ != "broken", (name, function)
for recipe in known.recipes.values():
    from pl_kernel.recipe import load
    for step in load(recipe).stage_names:
        assert step in known.stages, (recipe, step)
others = sorted(m for m in sys.modules if m.startswith("pl_") and "." not in m)
print(json.dumps({"stages": sorted(known.stages), "recipes": sorted(known.recipes), "modules": others}))
"""


@pytest.mark.parametrize(
    ("packages", "stages", "recipes"),
    [
        (("pl_kernel", "pl_hsd"), COMMON | SINGLE_DISH, {"hsd_calimage", "hsd_restore"}),
        (
            ("pl_kernel", "pl_hsd", "pl_hsdn"), COMMON | SINGLE_DISH | NOBEYAMA,
            {"hsd_calimage", "hsd_restore", "hsdn_calimage", "hsdn_restore"},
        ),
    ],
)  # fmt: skip
def test_single_dish_stands_without_the_interferometers(wheels, tmp_path, packages, stages, recipes):
    """Every stage, scorer, renderer and recipe can be imported, and no package of another telescope is."""
    python = clean_environment(tmp_path, wheels, *packages)
    found = json.loads(run(python, "-c", RESOLVE_ALL, cwd=tmp_path).stdout)
    assert set(found["stages"]) == stages
    assert set(found["recipes"]) == recipes
    assert set(found["modules"]) == set(packages)


def test_the_vlas_stages_are_those_of_three_plugins(clean_python, tmp_path):
    found = json.loads(run(clean_python, "-c", RESOLVE_ALL, cwd=tmp_path).stdout)
    assert {name.partition("_")[0] for name in found["stages"]} == {"h", "hif", "hifv", "example"}
    assert {s for s in found["stages"] if s.startswith("h_")} == COMMON
    assert {"hifv", "hifv_calimage_cont", "hifv_archive_line"} <= set(found["recipes"])


def test_the_program_is_on_the_path(clean_python, tmp_path):
    said = run(clean_python.with_name("pl"), "stages", "tally", cwd=tmp_path).stdout
    assert "example_tally" in said


@pytest.mark.casa
def test_the_third_partys_recipe_runs_and_judges_a_stage_of_the_kernel(clean_python, tmp_path, tiny_ms):
    """Eight scans of five integrations of ten seconds, alternating between two fields: 200 s on each."""
    run(clean_python, "-m", "pl_kernel", "run", "example_tally", tiny_ms.path, "-o", "run", cwd=tmp_path)
    result = json.loads((tmp_path / "run/stages/002-example_tally/result.json").read_text())
    assert result["seconds"] == pytest.approx({"CAL": 200.0, "TARGET": 200.0})
    scores = json.loads((tmp_path / "run/stages/001-h_importdata/qa.json").read_text())["scores"]
    ours = [s for s in scores if s["metric"] == "example.antennas"]
    assert len(ours) == 1 and ours[0]["score"] == 0.5 and "enough_antennas" in ours[0]["origin"]
    assert (tmp_path / "run/weblog/index.html").is_file()
    assert len(list((tmp_path / "run/stages/002-example_tally/plots").glob("*.png"))) == 1


@pytest.mark.casa
def test_the_demo_begins_with_what_was_installed(clean_python, tmp_path):
    said = run(
        clean_python, "-m", "pl_kernel", "demo", "-o", "demo", "--stop-after", "hifv_vlasetjy", "--json", cwd=tmp_path
    )
    facts = json.loads(said.stdout)
    assert facts["status"] == "stopped"
    assert [s["name"] for s in facts["stages"]][-1] == "hifv_vlasetjy"


BROKEN = {
    "raises": "raise RuntimeError('no such device')",
    "future": "from pl_kernel import hookimpl\n@hookimpl\ndef pl_api(): return '>=99'",
    "thief": (
        "from pl_kernel import Lazy, hookimpl\n@hookimpl\n"
        "def pl_stages(): return [Lazy('hif_bandpass', 'thief:Mine', 'Mine.'), Lazy('thief_own', 'thief:Own', 'Own.')]"
    ),
}


@pytest.mark.casa
def test_broken_plugins_are_refused_with_the_reason_and_everything_else_runs(clean_python, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    for name, source in BROKEN.items():
        (site / f"{name}.py").write_text(source)
        info = site / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[pl.plugins]\n{name} = {name}\n")
    found = json.loads(run(clean_python, "-m", "pl_kernel", "plugins", "--json", cwd=tmp_path, path=site).stdout)
    reasons = {p["name"]: p["reason"] for p in found}
    assert "no such device" in reasons["raises"]
    assert "99" in reasons["future"]
    assert "hif_bandpass" in reasons["thief"] and "belongs to hif" in reasons["thief"]
    assert [reasons[name] for name in ("common", "hif", "hifv", "example")] == [""] * 4
    stages = run(clean_python, "-m", "pl_kernel", "stages", "--json", cwd=tmp_path, path=site).stdout
    assert "hif_bandpass" in stages and "thief_own" not in stages
    command = (clean_python, "-m", "pl_kernel", "demo", "-o", "demo", "--stop-after", "1", "--json")
    assert json.loads(run(*command, cwd=tmp_path, path=site).stdout)["status"] == "stopped"
