"""Recognising data by content, before any work starts. Pure Python: no CASA, and never by file name.

An `Importer` says which kind it handles; `recognise` says of which kind a path is, or why it cannot be used.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs

from pl_kernel.errors import DataError, InputError

REQUIRED_SUBTABLES = ("ANTENNA", "DATA_DESCRIPTION", "FIELD", "OBSERVATION", "POLARIZATION", "SPECTRAL_WINDOW")
"""Subtables without which the visibilities have no meaning; everything else may be absent."""

_BLOCK = 2880
_CARD = 80
_MOST_HEADER_BLOCKS = 2000  # 5.8 MB of header: beyond that the END card is missing
_ASDM_FILES = ("ASDM.xml", "Main.xml", "Antenna.xml")
_NOSTAR_MARKS = ((0, b"RW"), (15136, b"LS"))  # offset and letters of the header records; NULs between


@attrs.frozen
class Importer:
    """One way to make a measurement set.

    `kind` is a kind that `recognise` gives (``"ms"``, ``"uvfits"`` …), `summary` one line for people, `run` the
    function that does it or a lazy reference to it.
    """

    kind: str
    summary: str
    run: Callable[..., Any] | Any


@attrs.frozen
class Recognised:
    """What a path is: `kind`, and what could be told from its header (`detail`: a short text for people).

    Kinds: ms, caltable, table, casa-image, asdm, uvfits, fitsidi, fits-image, nostar, tar.
    """

    kind: str
    detail: str = ""


def recognise(path: Path | str) -> Recognised:
    """Say what kind of data lie at `path`.

    Raises:
        InputError: absent, unreadable, empty, cut off, or of no known kind.
        DataError: a measurement set that lacks a required subtable; the sentence names it.
    """
    path = Path(path)
    try:
        if not path.exists():
            raise InputError(f"There is nothing at {path}; check the path.")
        return _recognise_folder(path) if path.is_dir() else _recognise_file(path)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {(error.strerror or str(error)).lower()}.") from error


def required_space(path: Path | str) -> int:
    """Bytes that a working copy or an import of `path` is likely to take.

    A measurement set holds data once as written, and model and corrected columns of the same size are added. An
    import expands: UVFITS by its weights and flags, the science data model by its packing (measured 2-3 times).
    """
    path = Path(path)
    size = folder_size(path)
    factor = {"ms": 3.0, "uvfits": 3.0, "fitsidi": 3.0, "asdm": 6.0, "tar": 6.0, "nostar": 3.0}
    return int(size * factor.get(recognise(path).kind, 1.0))


def folder_size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; links are not followed."""
    if path.is_file():
        return path.stat().st_size
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file() and not p.is_symlink())


def missing_subtables(path: Path) -> tuple[str, ...]:
    """Required subtables of a measurement set that are absent or hold no table."""
    return tuple(name for name in REQUIRED_SUBTABLES if not (path / name / "table.dat").is_file())


# ---- folders -------------------------------------------------------------------------------------------------------


def _recognise_folder(path: Path) -> Recognised:
    if (path / "table.dat").is_file():
        return _recognise_table(path)
    if (path / "table.info").is_file():
        raise DataError(f"{path.name} was a CASA table, but its table.dat is missing: the copy is not complete.")
    present = [name for name in _ASDM_FILES if (path / name).is_file()]
    if present:
        missing = [name for name in _ASDM_FILES if name not in present]
        if missing:
            raise DataError(f"{path.name} looks like a science data model, but {', '.join(missing)} is missing.")
        if not (path / "ASDMBinary").is_dir():
            raise DataError(f"{path.name} is a science data model without its binary data (folder ASDMBinary).")
        return Recognised("asdm", _telescope_of_asdm(path))
    raise InputError(f"{path} is a folder, but neither a measurement set nor a science data model.")


def _recognise_table(path: Path) -> Recognised:
    info = _table_type(path)
    if info == "Measurement Set" or ((path / "SPECTRAL_WINDOW").is_dir() and info == ""):
        if missing := missing_subtables(path):
            raise DataError(
                f"{path.name} is not a complete measurement set: subtable {', '.join(missing)} is missing."
                " Copy it again from its source."
            )
        return Recognised("ms", "measurement set")
    if info == "Calibration":
        return Recognised("caltable", _table_subtype(path))
    if info == "Image":
        return Recognised("casa-image", "CASA image")
    return Recognised("table", info or "CASA table")


def _table_type(path: Path) -> str:
    return _table_info(path).get("Type", "")


def _table_subtype(path: Path) -> str:
    return _table_info(path).get("SubType", "")


def _table_info(path: Path) -> dict[str, str]:
    try:
        lines = (path / "table.info").read_text(encoding="utf-8", errors="replace").splitlines()[:2]
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}


def _telescope_of_asdm(path: Path) -> str:
    # A real parser is of no use here: a word in the first kilobytes of the table is all that is wanted.
    try:
        with (path / "ExecBlock.xml").open(encoding="utf-8", errors="replace") as stream:
            text = stream.read(20_000)
    except OSError:
        return ""
    return text.partition("<telescopeName>")[2].partition("</telescopeName>")[0].strip()[:40]


# ---- files ---------------------------------------------------------------------------------------------------------


def _recognise_file(path: Path) -> Recognised:
    size = path.stat().st_size
    if size == 0:
        raise InputError(f"{path} is empty.")
    with path.open("rb") as stream:
        start = stream.read(_CARD)
    if start.startswith(b"SIMPLE  ="):
        return _recognise_fits(path, size)
    if _is_nostar(path):
        return Recognised("nostar", "NOSTAR")
    if tarfile.is_tarfile(path):
        return Recognised("tar", "archive")
    raise InputError(f"{path} is of no known kind: no measurement set, FITS file, science data model or archive.")


def _is_nostar(path: Path) -> bool:
    with path.open("rb") as stream:
        for offset, mark in _NOSTAR_MARKS:
            stream.seek(offset)
            width = 8 if offset == 0 else 4
            if stream.read(width).replace(b"\x00", b"") != mark:
                return False
    return True


def _recognise_fits(path: Path, size: int) -> Recognised:
    units = list(_fits_units(path, size))
    primary, extensions = units[0], units[1:]
    names = {str(u.get("EXTNAME", "")).strip() for u in extensions}
    telescope = str(primary.get("TELESCOP", "")).strip()
    if "UV_DATA" in names or "ARRAY_GEOMETRY" in names:
        return Recognised("fitsidi", "FITS-IDI")
    if primary.get("GROUPS") is True and primary.get("NAXIS1") == 0 and _int(primary, "GCOUNT", 1) > 0:
        parameters = [str(primary.get(f"PTYPE{i}", "")) for i in range(1, _int(primary, "PCOUNT", 0) + 1)]
        if not any(p.startswith(("UU", "U-", "BASELINE")) for p in parameters):
            raise InputError(f"{path} is FITS with random groups, but without U, V, W or baselines: no visibilities.")
        return Recognised("uvfits", ", ".join(filter(None, ["UVFITS", f"{primary['GCOUNT']} visibilities", telescope])))
    if _int(primary, "NAXIS", 0) >= 2 or any(u.get("XTENSION", "").strip() == "IMAGE" for u in extensions):
        return Recognised("fits-image", "FITS image")
    raise InputError(f"{path} is a FITS file without visibilities or an image.")


def _fits_units(path: Path, size: int) -> Iterator[dict[str, Any]]:
    """Headers of all header-data units.

    The size that a header announces is |BITPIX|/8 x GCOUNT x (PCOUNT + product of NAXISn), NAXIS1 = 0 left out for
    random groups (FITS standard 4.0, sections 4.4.1 and 6.1); padding at the very end may be missing.

    Raises:
        InputError: the file ends before a unit does.
    """
    position, number = 0, 0
    with path.open("rb") as stream:
        while position < size:
            stream.seek(position)
            header, length = _read_header(stream, path, number)
            if header is None:
                return  # bytes behind the last unit that are no header: special records, tape padding
            if number and "XTENSION" not in header:
                return
            yield header
            data = _data_bytes(header)
            position += length
            if position + data > size:
                raise InputError(
                    f"{path} is cut off: its header announces {position + data:,} bytes, the file has {size:,}."
                    " Copy it again from its source."
                )
            position += -(-data // _BLOCK) * _BLOCK
            number += 1


def _read_header(stream: Any, path: Path, number: int) -> tuple[dict[str, Any] | None, int]:
    cards: dict[str, Any] = {}
    for block_number in range(_MOST_HEADER_BLOCKS):
        block = stream.read(_BLOCK)
        if number and not block_number and not block.startswith(b"XTENSION"):
            return None, 0
        if len(block) < _BLOCK and b"END" not in block:
            raise InputError(f"{path} is cut off within a FITS header. Copy it again from its source.")
        for start in range(0, len(block), _CARD):
            card = block[start : start + _CARD].decode("latin-1")
            key = card[:8].strip()
            if key == "END":
                return cards, (block_number + 1) * _BLOCK
            if card[8:10] == "= ":
                cards.setdefault(key, _value(card[10:]))
    raise InputError(f"{path} has a FITS header without an end.")


def _value(text: str) -> Any:
    text = text.strip()
    if text.startswith("'"):
        return text[1:].partition("'")[0].rstrip()
    text = text.partition("/")[0].strip()
    if text in ("T", "F"):
        return text == "T"
    try:
        return int(text)
    except ValueError:
        try:
            return float(text.replace("D", "E"))
        except ValueError:
            return text


def _int(header: dict[str, Any], key: str, default: int) -> int:
    value = header.get(key, default)
    return int(value) if isinstance(value, (int, float)) else default


def _data_bytes(header: dict[str, Any]) -> int:
    axes = [_int(header, f"NAXIS{i}", 0) for i in range(1, _int(header, "NAXIS", 0) + 1)]
    if not axes:
        return 0
    if header.get("GROUPS") is True and axes[0] == 0:
        axes = axes[1:]
    elements = 1
    for axis in axes:
        elements *= axis
    return abs(_int(header, "BITPIX", 8)) // 8 * _int(header, "GCOUNT", 1) * (_int(header, "PCOUNT", 0) + elements)
