"""``pl new-plugin`` writes a package that is found, runs, and passes its own tests."""

import os
import subprocess
import sys

import pytest

from pl_kernel.cli.new_plugin import write_plugin
from pl_kernel.errors import InputError


@pytest.mark.casa
def test_a_new_plugin_passes_its_own_tests_at_once(tmp_path):
    folder = write_plugin("fresh", tmp_path)
    # Installing it, without pip and without a network: the metadata that pip would write.
    info = folder / "pl_fresh-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pl-fresh\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[pl.plugins]\nfresh = pl_fresh.plugin\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], cwd=folder, env=environment,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 passed" in done.stdout


def test_the_new_plugin_keeps_the_house_style(tmp_path):
    folder = write_plugin("tidy", tmp_path)
    ruff = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "."], cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    if "No module named ruff" in ruff.stderr:
        pytest.skip("ruff is not installed")
    assert ruff.returncode == 0, ruff.stdout
    assert not [p for p in folder.rglob("*") if p.is_file() and "@name@" in p.read_text()]


@pytest.mark.parametrize("name", ["common", "kernel", "two words", "Upper", "a-b", "class", "9lives", "../x"])
def test_unusable_names_are_refused(name, tmp_path):
    with pytest.raises(InputError):
        write_plugin(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path):
    write_plugin("mine", tmp_path)
    with pytest.raises(InputError, match="exists already"):
        write_plugin("mine", tmp_path)
