"""Scaling factors by beam, window and polarization, and the script that repeats baselines and images."""

from __future__ import annotations

import ast

import attrs
import pytest

from pl_hsd.baselineproducts import Baselined
from pl_hsdn import scaling
from pl_hsdn.rebase import Window, free_channels, script
from pl_kernel import PlError


@attrs.frozen
class Item:
    """Anything with an id and a name."""

    id: int
    name: str = ""
    correlations: tuple[str, ...] = ()
    spw_id: int = 0
    polarization_id: int = 0


@attrs.frozen
class Data:
    """As much of a measurement set as factors need: two beams, two windows, XX and YY."""

    name: str = "a.ms"
    antennas: tuple[Item, ...] = (Item(0, "BEAM0"), Item(1, "BEAM1"))
    spws: tuple[Item, ...] = (Item(0), Item(1))
    polarizations: tuple[Item, ...] = (Item(0, correlations=("XX", "YY")),)
    data_descriptions: tuple[Item, ...] = (Item(0, spw_id=0), Item(1, spw_id=1))

    @property
    def science_spws(self) -> tuple[Item, ...]:
        return self.spws


def test_a_template_has_a_factor_for_every_beam_window_and_polarization(tmp_path):
    scaling.write(tmp_path / "f.csv", scaling.template([Data()]), ["about\nthese data"])
    lines = (tmp_path / "f.csv").read_text().splitlines()
    assert lines[:2] == ["# about these data", "MS,Beam,Spwid,Polarization,Factor"]
    assert len(lines) == 2 + 2 * 2 * 2 and lines[2] == "a.ms,BEAM0,0,XX,1.0"
    found = scaling.read(tmp_path / "f.csv")
    assert found.remarks == ("about these data",)
    assert scaling.factors_of(found, Data()) == scaling.template([Data()])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a.ms,BEAM0,0,XX", "line 1: 4 values, not 5"),
        ("a.ms,BEAM0,zero,XX,1", "must be numbers"),
        ("a.ms,BEAM0,0,XX,0", "must be a number above 0"),
        ("a.ms,BEAM0,0,XX,nan", "must be a number above 0"),
        ("a.ms,BEAM0,0,XY,1", "Did you mean"),
        ("a.ms,BEAM7,0,XX,1", "BEAM0"),
        ("a.ms,BEAM0,5,XX,1", "which a.ms has not"),
        ("a.ms,BEAM0,0,LL,1", "has XX, YY"),
        ("a.ms,BEAM0,0,XX,1\na.ms,BEAM0,0,XX,2", "two factors"),
    ],
)
def test_bad_factors_are_refused_in_a_sentence(tmp_path, line, said):
    path = tmp_path / "f.csv"
    path.write_text(line + "\n")
    with pytest.raises(PlError, match=said):
        scaling.factors_of(scaling.read(path), Data())


def test_factors_of_other_data_are_left_alone(tmp_path):
    path = tmp_path / "f.csv"
    path.write_text("b.ms,BEAM9,0,XX,4\na.ms,BEAM1,1,I,2\n")
    (found,) = scaling.factors_of(scaling.read(path), Data())
    assert (found.beam, found.spw, found.polarization, found.factor) == ("BEAM1", 1, "I", 2.0)


@pytest.mark.parametrize(
    ("lines", "free"),
    [
        ((), "2~96"),
        (((40, 60),), "2~39;61~96"),
        (((50, 60), (40, 55)), "2~39;61~96"),  # overlapping, out of order
        (((0, 10),), "11~96"),
        (((80, 99),), "2~79"),
        (((0, 99),), "2~96"),  # lines everywhere: there is nothing better than all
    ],
)
def test_free_channels_are_those_beside_lines_and_edges(lines, free):
    assert free_channels(Window(vis="a.ms", spw=0, n_chan=100, edge=(2, 3), lines=lines)) == free


def test_the_script_is_python_that_calls_casa_only():
    spectra = [Baselined(origin="a.ms", source="a.ms", column="corrected", vis="a.ms_bl", table="t")]
    calls = [
        {"kind": "task", "task": "tsdimaging", "args": {"infiles": ["/run/work/a.ms_bl"], "outfile": "m"},
         "outcome": "ok"},
        {"kind": "task", "task": "tsdimaging", "args": {"infiles": ["x"]}, "outcome": "failed", "message": "no"},
    ]  # fmt: skip
    text = script("run", "re\"cipe", spectra, [Window(vis="a.ms", spw=3, n_chan=10)], calls, "/run/work")
    tree = ast.parse(text)
    modules = {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    modules |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert modules <= {"os", "shutil", "casaconfig", "casadata", "casatasks", "casatools"}
    named = {n.targets[0].id: n.value for n in tree.body if isinstance(n, ast.Assign) and hasattr(n.targets[0], "id")}
    assert ast.literal_eval(named["CHANNELS"]) == {"a.ms": {3: "0~9"}}
    assert ast.literal_eval(named["SPECTRA"]) == {"a.ms": ("corrected", "a.ms_bl")}
    called = [n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    assert called.count("tsdimaging") == 1 and "'a.ms_bl'" in text and "/run/work" not in text
