"""Science data models: what is missing is found before importasdm is called."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from pl_kernel.common.sdm import import_sdm, read_contents, source_fluxes
from pl_kernel.errors import DataError, InputError


def make(path: Path, tables: dict[str, int], scans: dict[int, list[bool]], absent: tuple[str, ...] = ()) -> Path:
    """A science data model with these rows by table, and by scan whether each binary is there."""
    (path / "ASDMBinary").mkdir(parents=True)
    counts = "".join(f"<Table><Name>{n}</Name><NumberRows>{c}</NumberRows></Table>" for n, c in tables.items())
    (path / "ASDM.xml").write_text(f"<ASDM>{counts}</ASDM>")
    rows = ""
    for scan, there in scans.items():
        for k, exists in enumerate(there):
            uid = f"uid:///evla/bdf/{scan}{k}"
            rows += f"<row><scanNumber>{scan}</scanNumber><dataUID><EntityRef entityId='{uid}'/></dataUID></row>"
            if exists:
                (path / "ASDMBinary" / f"uid____evla_bdf_{scan}{k}").write_bytes(b"BDF")
    (path / "Main.xml").write_text(f"<MainTable>{rows}</MainTable>")
    for name in tables:
        if name not in (*absent, "Main"):
            (path / f"{name}.{'bin' if name == 'SysPower' else 'xml'}").write_text("<x/>")
    return path


class Recorded:
    """A stage context that only remembers what importasdm was asked for."""

    def __init__(self, work: Path) -> None:
        self.work, self.asked, self.warnings = work, {}, []
        self.log = SimpleNamespace(warning=self.warnings.append)
        self.files = SimpleNamespace(rmtree=lambda path: None, copy=lambda a, b: None)
        self.casa = SimpleNamespace(importasdm=self._import, log_tail=lambda: "")

    def _import(self, **arguments: object) -> None:
        self.asked = arguments
        (self.work / str(arguments["vis"])).mkdir()
        (self.work / str(arguments["vis"]) / "table.dat").write_bytes(b"t")


TABLES = {"Main": 3, "Antenna": 27, "SysPower": 900, "CalDevice": 10, "Pointing": 0, "Flag": 5}


def test_contents_tell_what_is_missing(tmp_path: Path) -> None:
    sdm = make(tmp_path / "x", TABLES, {1: [True], 2: [False, True], 3: [False]}, absent=("SysPower", "Pointing"))
    found = read_contents(sdm)
    assert found.missing == ("SysPower",)  # Pointing has no rows, and needs no file
    assert (found.empty_scans, found.partial_scans) == ((3,), (2,))


def test_import_leaves_out_what_it_can_do_without_and_says_so(tmp_path: Path) -> None:
    sdm = make(tmp_path / "x", TABLES, {1: [True], 2: [False]}, absent=("SysPower",))
    ctx = Recorded(tmp_path)
    path, how = import_sdm(ctx, sdm, "a.b.ms", False, ocorr_mode="co")
    assert (path, how) == (tmp_path / "a.b.ms", "converted")
    assert ctx.asked["process_syspower"] is False and ctx.asked["process_caldevice"] is True
    assert ctx.asked["outfile"] == "a_b.flagonline.txt" and ctx.asked["ocorr_mode"] == "co"
    assert any("SysPower" in w for w in ctx.warnings) and any("scans 2" in w for w in ctx.warnings)


@pytest.mark.parametrize(
    ("scans", "absent", "in_place", "error", "words"),
    [
        ({1: [False], 2: [False]}, (), False, DataError, "none of the 2 scans' visibilities"),
        ({1: [True]}, ("Antenna",), False, DataError, "names Antenna, and there is no such file"),
        ({1: [True]}, (), True, InputError, "--in-place"),
    ],
)
def test_what_cannot_be_imported_is_refused_with_the_reason(
    tmp_path: Path, scans, absent, in_place, error, words
) -> None:
    ctx = Recorded(tmp_path)
    with pytest.raises(error, match=words):
        import_sdm(ctx, make(tmp_path / "x", TABLES, scans, absent), "x.ms", in_place)
    assert ctx.asked == {}


def test_damaged_tables_are_named(tmp_path: Path) -> None:
    sdm = make(tmp_path / "x", TABLES, {1: [True]})
    (sdm / "Main.xml").write_text("<MainTable><row>")
    with pytest.raises(DataError, match=r"Main\.xml is damaged"):
        read_contents(sdm)


def test_flux_densities_of_the_source_table(tmp_path: Path) -> None:
    row = (
        "<row><sourceName>J1</sourceName><frequency>1 1 3.0E9</frequency><flux>2 1 4 2.5 0.1 0.0 0.0</flux></row>"
        "<row><sourceName>J2</sourceName></row>"
    )
    (tmp_path / "Source.xml").write_text(f"<SourceTable>{row}{row}</SourceTable>")
    assert source_fluxes(tmp_path / "Source.xml") == {"J1": ((3e9, 2.5),)}
    assert source_fluxes(tmp_path / "absent.xml") == {}
