"""Conversion of NOSTAR files, the raw format of the 45-m telescope's SAM45 spectrometer."""

from __future__ import annotations

from pathlib import Path

from pl_kernel.errors import CasaError, DataError
from pl_kernel.stage_context import StageContext


def import_nostar(ctx: StageContext, source: Path, name: str, in_place: bool) -> tuple[Path, str]:
    """Convert a NOSTAR file to a measurement set with CASA's importnro.

    Raises:
        DataError: CASA cannot read the file (it takes on-the-fly maps of SAM45 only).
    """
    target = Path(ctx.work) / name
    try:
        ctx.casa.importnro(infile=str(source.resolve()), outputvis=name, overwrite=True, parallel=False)
    except CasaError as error:
        raise DataError(
            f"{source.name} cannot be converted: importnro takes on-the-fly maps of the SAM45 spectrometer only."
            f" {error.message}",
            detail=error.log_tail,
        ) from error
    if not (target / "table.dat").is_file():
        raise DataError(f"{source.name} gave no measurement set; its log says why.", detail=ctx.casa.log_tail())
    return target, "converted"
