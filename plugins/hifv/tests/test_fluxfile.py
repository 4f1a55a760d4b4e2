"""Flux densities and ranges of baselines that a file states."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from pl_hifv import fluxfile
from pl_kernel import InputError

MS = SimpleNamespace(
    name="day1.ms", stem="day1", basename="day1.ms",
    fields=[SimpleNamespace(id=0, name="3C286"), SimpleNamespace(id=2, name="J1310")], science_spws=[],
)  # fmt: skip
HEADER = "ms,field,spw,I,Q,U,V,spix,uvmin,uvmax,comment\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_rows_of_other_sets_are_left_and_the_first_range_of_a_field_counts(tmp_path: Path) -> None:
    file = write(
        tmp_path / "flux.csv",
        HEADER
        + "day1.ms,2,0,1.2,0,0,0,-0.3,5000,0,# a\nday1.ms,2,1,1.1,0,0,0,-0.3,0,0,# a\n"
        + "day2.ms,0,0,9.0,0,0,0,0,0,0,# b\nday1.ms,0,0,7.7,0,0,0,0,1000,40000,# c\n",
    )
    found = fluxfile.catalogue(MS, tmp_path / "day1.ms", None, tmp_path)
    listed = [(f.field_name, f.spw, f.flux_jy) for f in found]
    assert listed == [("J1310", 0, 1.2), ("J1310", 1, 1.1), ("3C286", 0, 7.7)]
    assert fluxfile.uv_ranges(found) == {"2": ">5000lambda", "0": "1000~40000lambda"}
    assert file.name == found[0].origin


def test_old_files_have_no_uv_ranges(tmp_path: Path) -> None:
    file = write(tmp_path / "flux.csv", "ms,field,spw,I,Q,U,V,spix,comment\nday1.ms,2,0,1.2,0,0,0,0,#\n")
    assert fluxfile.uv_ranges(fluxfile.read_file(file, MS)) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", "no column ms, field, spw, I"),
        (HEADER + "day1.ms,2,0,bright,0,0,0,0,0,0,#\n", "Line 2 .* no number"),
        (HEADER + "day1.ms,7,0,1.0,0,0,0,0,0,0,#\n", "field 7"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        fluxfile.read_file(write(tmp_path / "flux.csv", text), MS)
    with pytest.raises(InputError, match="no file of flux densities"):
        fluxfile.catalogue(MS, tmp_path, tmp_path / "absent.csv", tmp_path)


def test_stated_flux_densities_by_window_the_first_statement_counts_and_zero_says_nothing(tmp_path: Path) -> None:
    file = write(
        tmp_path / "flux.csv",
        HEADER
        + "day1.ms,2,0,1.2,0.1,-0.2,0,-0.3,0,0,#\nday1.ms,2,0,9.9,0,0,0,0,0,0,#\n"
        + "day1.ms,2,1,0,0,0,0,0,0,0,#\nday1.ms,0,3,7.7,,,,,,,#\n",
    )
    found = fluxfile.stated(fluxfile.read_file(file, MS))
    assert found == {"2": {"0": [1.2, 0.1, -0.2, 0.0, -0.3]}, "0": {"3": [7.7, 0.0, 0.0, 0.0, 0.0]}}


def test_normalised_statements_are_sources_of_1_jy_with_their_polarization(tmp_path: Path) -> None:
    from pl_hifv.stages.vlasetjy import VlasetjyInputs, _stated

    known = {"day1.ms": {"2": {"0": [2.0, 0.2, -0.1, 0.0, -0.3]}, "0": {"0": [7.0, 0, 0, 0, 0]}}}
    ctx = SimpleNamespace(value=lambda key, default=None: known if key == fluxfile.FLUXES else default)
    ms = SimpleNamespace(name="day1.ms", fields=MS.fields, fields_with_intent=lambda intent: MS.fields[1:])
    assert _stated(ctx, ms, VlasetjyInputs()) == {"2": known["day1.ms"]["2"]}  # 3C286 has not the intent here
    normal = _stated(ctx, ms, VlasetjyInputs(normfluxes=True))
    assert normal == {"2": {"0": pytest.approx([1.0, 0.1, -0.05, 0.0, -0.3])}}


def test_minus_one_of_old_scripts_asks_for_the_standard() -> None:
    from pl_hifv.stages.vlasetjy import VlasetjyInputs

    assert VlasetjyInputs(fluxdensity=-1.0).given_jy is None
    assert VlasetjyInputs(fluxdensity=2.5).given_jy == 2.5
