"""Claims about recognising data by content."""

import tarfile
from pathlib import Path

import pytest

from pl_kernel.errors import DataError, InputError
from pl_kernel.ms.importers import REQUIRED_SUBTABLES, recognise, required_space

BLOCK = 2880


def header(**cards: object) -> bytes:
    """FITS header block(s) of the given cards, as the standard lays them out."""
    lines = []
    for key, value in cards.items():
        text = {True: "T", False: "F"}.get(value) if isinstance(value, bool) else None
        shown = f"'{value:<8}'" if isinstance(value, str) else f"{text or value!s:>20}"
        lines.append(f"{key:<8}= {shown}".ljust(80))
    lines.append("END".ljust(80))
    text = "".join(lines)
    return text.ljust(-(-len(text) // BLOCK) * BLOCK).encode()


def padded(n_bytes: int) -> bytes:
    return bytes(-(-n_bytes // BLOCK) * BLOCK)


def uvfits(n_visibilities: int = 100) -> bytes:
    # 100 groups of (6 parameters + 3 x 2 x 63 values) x 4 bytes.
    groups = {f"PTYPE{i}": name for i, name in enumerate(["UU", "VV", "WW", "BASELINE", "DATE", "DATE"], 1)}
    cards = {
        "SIMPLE": True, "BITPIX": -32, "NAXIS": 4, "NAXIS1": 0, "NAXIS2": 3, "NAXIS3": 2, "NAXIS4": 63, "GROUPS": True,
        "PCOUNT": 6, "GCOUNT": n_visibilities, **groups, "TELESCOP": "SAMPLE",
    }  # fmt: skip
    return header(**cards) + padded(n_visibilities * 4 * (6 + 3 * 2 * 63))


def image() -> bytes:
    return header(SIMPLE=True, BITPIX=-32, NAXIS=2, NAXIS1=30, NAXIS2=40) + padded(4 * 30 * 40)


def fitsidi() -> bytes:
    table = header(XTENSION="BINTABLE", BITPIX=8, NAXIS=2, NAXIS1=20, NAXIS2=3, PCOUNT=0, GCOUNT=1, EXTNAME="UV_DATA")
    return header(SIMPLE=True, BITPIX=8, NAXIS=0, EXTEND=True, GROUPS=True, GCOUNT=0, PCOUNT=0) + table + padded(60)


def make_ms(path: Path) -> Path:
    for name in (".", *REQUIRED_SUBTABLES):
        (path / name).mkdir(parents=True, exist_ok=True)
        (path / name / "table.dat").write_bytes(b"x" * 10)
    (path / "table.info").write_text("Type = Measurement Set\nSubType = \n")
    return path


def make_asdm(path: Path) -> Path:
    (path / "ASDMBinary").mkdir(parents=True)
    for name in ("ASDM.xml", "Main.xml", "Antenna.xml"):
        (path / name).write_text("<x/>")
    (path / "ExecBlock.xml").write_text(
        "<ExecBlockTable><row><telescopeName>SAMPLE</telescopeName></row></ExecBlockTable>"
    )
    return path


def test_files_are_known_by_content_whatever_their_name(tmp_path: Path) -> None:
    expected = {"a.jpg": (uvfits(), "uvfits"), "b.uvfits": (image(), "fits-image"), "c": (fitsidi(), "fitsidi")}
    for name, (content, kind) in expected.items():
        (tmp_path / name).write_bytes(content)
        assert recognise(tmp_path / name).kind == kind
    assert recognise(tmp_path / "a.jpg").detail == "UVFITS, 100 visibilities, SAMPLE"


def test_nostar_and_archives(tmp_path: Path) -> None:
    nostar = bytearray(20_000)
    nostar[:2], nostar[15136:15138] = b"RW", b"LS"
    (tmp_path / "x.fits").write_bytes(nostar)
    assert recognise(tmp_path / "x.fits").kind == "nostar"
    with tarfile.open(tmp_path / "y", "w:gz") as archive:
        archive.add(tmp_path / "x.fits", "x")
    assert recognise(tmp_path / "y").kind == "tar"


def test_folders(tmp_path: Path) -> None:
    assert recognise(make_ms(tmp_path / "a.fits")).kind == "ms"
    assert recognise(make_asdm(tmp_path / "uid___A")).detail == "SAMPLE"
    caltable = tmp_path / "x.ms"
    caltable.mkdir()
    (caltable / "table.dat").write_bytes(b"x")
    (caltable / "table.info").write_text("Type = Calibration\nSubType = B Jones\n")
    assert (recognise(caltable).kind, recognise(caltable).detail) == ("caltable", "B Jones")


@pytest.mark.parametrize("missing", REQUIRED_SUBTABLES)
def test_a_missing_subtable_is_named(tmp_path: Path, missing: str) -> None:
    path = make_ms(tmp_path / "day2.ms")
    (path / missing / "table.dat").unlink()
    with pytest.raises(DataError, match=rf"day2\.ms .*subtable {missing} is missing"):
        recognise(path)


def test_half_copied_folders_are_named(tmp_path: Path) -> None:
    path = make_ms(tmp_path / "day2.ms")
    (path / "table.dat").unlink()
    with pytest.raises(DataError, match=r"table\.dat is missing"):
        recognise(path)
    sdm = make_asdm(tmp_path / "sdm")
    (sdm / "Main.xml").unlink()
    with pytest.raises(DataError, match=r"Main\.xml is missing"):
        recognise(sdm)
    other = make_asdm(tmp_path / "sdm2")
    (other / "ASDMBinary").rmdir()
    with pytest.raises(DataError, match="ASDMBinary"):
        recognise(other)


@pytest.mark.parametrize("keep", [2000, BLOCK, BLOCK + 100, BLOCK + 100 * 4 * 384 - 1])
def test_truncated_uvfits_is_one_sentence(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "x.uvfits"
    path.write_bytes(uvfits()[:keep])
    with pytest.raises(InputError, match="cut off") as caught:
        recognise(path)
    assert "\n" not in str(caught.value)


def test_missing_padding_at_the_very_end_is_no_truncation(tmp_path: Path) -> None:
    path = tmp_path / "x.uvfits"
    path.write_bytes(uvfits()[: BLOCK + 100 * 4 * 384])
    assert recognise(path).kind == "uvfits"


def test_a_truncated_table_behind_the_visibilities_is_seen(tmp_path: Path) -> None:
    table = header(XTENSION="BINTABLE", BITPIX=8, NAXIS=2, NAXIS1=20, NAXIS2=3, PCOUNT=0, GCOUNT=1, EXTNAME="AIPS AN")
    path = tmp_path / "x.uvfits"
    path.write_bytes(uvfits() + table + bytes(59))
    with pytest.raises(InputError, match="cut off"):
        recognise(path)
    path.write_bytes(uvfits() + table + padded(60) + b"\x00" * 512)
    assert recognise(path).kind == "uvfits"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"SIMPLE  =                    T",
        header(SIMPLE=True, BITPIX=8, NAXIS=0),
        header(SIMPLE=True, BITPIX=-32, NAXIS=2, NAXIS1=0, NAXIS2=3, GROUPS=True, PCOUNT=1, GCOUNT=1, PTYPE1="X")
        + padded(16),
    ],
)
def test_what_holds_no_data_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.fits"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.fits"):
        recognise(path)


def test_absent_paths_and_strange_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing at"):
        recognise(tmp_path / "absent.ms")
    with pytest.raises(InputError, match="neither a measurement set"):
        recognise(tmp_path)


def test_space_that_an_import_needs_is_a_multiple_of_the_input(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(uvfits())
    assert required_space(path) == 3 * path.stat().st_size
