"""Continuum channels of an image: those that hif_findcont found, or those of a file of continuum or of lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pl_hif import grids
from pl_hif.targets import ContinuumRecord, continuum_key
from pl_kernel import InputError
from pl_kernel.common import delivery
from pl_kernel.common.archives import unpack
from pl_kernel.common.flagcommands import find_file
from pl_kernel.ms.contfile import read_contfile
from pl_kernel.ms.frequency import parse_range_hz
from pl_kernel.ms.model import MeasurementSet, SpectralWindow
from pl_kernel.ms.virtual import VirtualSpw, VirtualSpws
from pl_kernel.stage_context import StageContext

CONT_DAT = "cont.dat"
Range = tuple[float, float]


def read_linesfile(path: Path) -> tuple[Range, ...]:
    """Frequency ranges of lines (Hz, LSRK) of a lines.dat: ``1.4200~1.4210GHz``, one or several per line of text.

    Raises:
        InputError: there is no such file, or one of its entries is no range.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read the file of lines {path}: it is no readable text file.") from error
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        for part in line.partition("#")[0].split(";"):
            entry = part.strip().removesuffix("LSRK").strip()
            if not entry:
                continue
            try:
                found.append(parse_range_hz(entry))
            except InputError as error:
                raise InputError(f"{path.name}, line {number}: {error.sentence}") from error
    return tuple(found)


def without_lines(low_hz: float, high_hz: float, lines: Sequence[Range]) -> tuple[Range, ...]:
    """What is left of a range of frequencies outside all lines."""
    left: list[Range] = []
    edge = low_hz
    for first, last in sorted(lines):
        if first > edge:
            left.append((edge, min(first, high_hz)))
        edge = max(edge, last)
        if edge >= high_hz:
            break
    if edge < high_hz:
        left.append((edge, high_hz))
    return tuple(r for r in left if r[1] > r[0])


def known_contfile(ctx: StageContext) -> Path | None:
    """The cont.dat in the work folder, the run folder, beside it, or in the products that were restored; or None.

    Deliveries have it in the archive of auxiliary products.
    """
    found = find_file(None, CONT_DAT, ctx.work)
    restored = ctx.value(delivery.PLACE)
    if found is not None or not restored:
        return found
    if (Path(restored) / CONT_DAT).is_file():
        return Path(restored) / CONT_DAT
    for archive in sorted(Path(restored).glob("*auxproducts.tgz")):
        if unpack(archive, ctx.stage_dir, [CONT_DAT]):
            return ctx.stage_dir / CONT_DAT
    return None


def all_records(
    ctx: StageContext, contfile: Path, sets: Sequence[MeasurementSet], intent: str
) -> dict[str, ContinuumRecord]:
    """What a file of continuum ranges says of all fields with an intent, by key."""
    virtual = VirtualSpws.of(ctx.context.measurement_sets)
    found: dict[str, ContinuumRecord] = {}
    for name in dict.fromkeys(f.name for ms in sets for f in ms.fields_with_intent(intent)):
        for spw, having in grids.windows_of(ctx, sets, name).items():
            windows = [
                (ms, ms.spw(int(real))) for ms in having if (real := virtual.to_real(spw, ms.name)) is not None
            ]
            for record in records(ctx, contfile, None, name, [int(spw)], windows, {}):
                found[record.key] = record
    return found


def records(
    ctx: StageContext, contfile: Path | None, linesfile: Path | None, field: str, spws: Sequence[int],
    windows: Sequence[tuple[MeasurementSet, SpectralWindow]], known: Mapping[str, ContinuumRecord],
) -> list[ContinuumRecord]:  # fmt: skip
    """Continuum of a field in some windows (virtual ids), as far as it is known.

    A file of continuum ranges comes first, then one of lines (all else is continuum then), then what hif_findcont
    found.

    Raises:
        InputError: a file is absent or not understood.
    """
    if contfile is None and linesfile is None:
        return [known[k] for s in spws if (k := continuum_key(field, s)) in known]
    virtual = VirtualSpws.of(ctx.context.measurement_sets)
    if contfile is not None and not contfile.is_file():
        raise InputError(f"There is no file of continuum ranges {contfile}.")
    given = read_contfile(contfile) if contfile is not None else None
    lines = read_linesfile(linesfile) if given is None and linesfile is not None else ()
    found = []
    for spw in spws:
        own = [(ms, w) for ms, w in windows if virtual.to_virtual(w.id, ms.name) == spw]
        frame, ranges, everything = "LSRK", (), False
        low_bandwidth = low_spread = False
        if given is not None:
            answer = given.query(field, VirtualSpw(spw), virtual.names.get(VirtualSpw(spw), ""))
            if answer.selection is not None:
                frame, ranges = answer.selection.frame.name, answer.selection.ranges_hz
            everything = answer.all_continuum
            low_bandwidth, low_spread = answer.low_bandwidth, answer.low_spread
        covered = [
            grids.coverage(ctx, ms, next(f for f in ms.fields if f.name == field), w, frame)
            for ms, w in own
            if any(f.name == field for f in ms.fields)
        ] if given is None or ranges else []  # fmt: skip
        if given is None:
            ends = [f for c in covered for f in (c.first_hz, c.last_hz)]
            half = max((abs(c.width_hz) for c in covered), default=0.0) / 2
            ranges = without_lines(min(ends) - half, max(ends) + half, lines) if ends else ()
            everything = not any(low < max(ends) and high > min(ends) for low, high in lines) if ends else False
        channels = {
            c.vis: tuple(r for low, high in ranges if (r := c.channels(low, high)) is not None) for c in covered
        }
        if everything or any(channels.values()):
            found.append(
                ContinuumRecord(
                    field=field, spw=spw, frame=frame, ranges_hz=ranges, channels=channels, all_continuum=everything,
                    low_bandwidth=low_bandwidth, low_spread=low_spread,
                    fit_order=0 if low_bandwidth or low_spread else 1,
                )
            )  # fmt: skip
    return found
