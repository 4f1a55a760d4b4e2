"""What hsd_imaging is to make: one plan per map, from reduction groups, tables of rows and what earlier stages left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs
import numpy as np
from numpy.typing import NDArray

from pl_hsd.geometry import beam_arcsec
from pl_hsd.groups import Member, ReductionGroup, reduction_groups
from pl_hsd.heuristics.mapgeometry import ChannelAxis, ImagingRules, MapGeometry, channel_axis, map_geometry
from pl_hsd.k2jy import k2jy
from pl_hsd.mapmaking import GridJob, Selection
from pl_hsd.ranges import MS, SpectralRanges
from pl_hsd.rowmap import rows_in
from pl_hsd.rows import RowTable
from pl_hsd.strategy import strategy
from pl_kernel import InputError, PlError
from pl_kernel.common.skylines import model_opacity, sky_lines
from pl_kernel.ms.datatypes import DataType
from pl_kernel.ms.model import MeasurementSet, SpectralWindow
from pl_kernel.ms.selection import clean_file_name
from pl_kernel.stage_context import StageContext

TYPES = (DataType.BASELINED, DataType.ATMCORR, DataType.REGCAL_CONTLINE_ALL, DataType.RAW)
"""Data to image, best first."""
ON_SOURCE = "OBSERVE_TARGET#ON_SOURCE*"
"""Words of OBS_MODE of spectra on the source; some observatories append how the telescope switched."""


@attrs.frozen(eq=False, kw_only=True)
class MapPlan:
    """One map: its members, where it lies, its channels, and which of them have lines.

    ``edge`` are channels of the measurement set that are left out; ``lines``, ``atmosphere`` and ``deviation`` (by
    member) are channels of the measurement set, as those of ``opacity`` (of the air at zenith). ``derived`` gives the
    row numbers in the imaged measurement sets of all rows of the tables (-1: not there); ``bandwidth_hz`` is the mean
    effective bandwidth of a channel, ``datatype`` what the spectra have been through. By member, and polarization:
    ``off_s`` is the integration time of an OFF, ``factors`` are Jy/K.
    """

    number: int
    group: ReductionGroup
    members: tuple[Member, ...]
    tables: Mapping[str, RowTable]
    paths: Mapping[str, str]
    columns: Mapping[str, str]
    derived: Mapping[str, NDArray[np.int64]]
    sessions: tuple[str, ...]
    datatype: str
    stem: str
    label: str
    geometry: MapGeometry
    axis: ChannelAxis
    edge: tuple[int, int]
    is_reversed: bool
    frame: str
    restfreq_hz: float | None
    correlations: tuple[str, ...]
    moving: bool
    is_raster: bool
    unit: str
    rules: ImagingRules
    lines: SpectralRanges
    deviation: Mapping[Member, SpectralRanges]
    atmosphere: SpectralRanges
    opacity: NDArray[np.float64] | None
    bandwidth_hz: float
    channel_width_hz: float
    off_s: Mapping[Member, float]
    factors: Mapping[tuple[Member, str], float]

    @property
    def name(self) -> str:
        """For messages."""
        return self.stem

    @property
    def antennas(self) -> tuple[str, ...]:
        """Names, each once, in order."""
        return tuple(dict.fromkeys(m.antenna_name for m in self.members))

    def image_name(self, stokes: str, antenna: str = "") -> str:
        """File of an image: of one antenna, or the combined one."""
        return f"{self.stem}.cube.{stokes}{f'.{clean_file_name(antenna)}' if antenna else ''}.iter0.image.sd"

    def grid_job(self, stokes: str, antenna: str) -> GridJob:
        """The image of one antenna, from all execution blocks."""
        chosen: dict[tuple[str, int], list[int]] = {}
        for m in self.members:
            if m.antenna_name == antenna:
                chosen.setdefault((m.ms, int(m.spw)), []).append(m.field)
        return GridJob(
            name=self.image_name(stokes, antenna),
            selections=[
                Selection(path=self.paths[ms], spw=spw, fields=fields, antenna=antenna)
                for (ms, spw), fields in chosen.items()
            ],
            geometry=self.geometry, axis=self.axis, frame=self.frame, restfreq_hz=self.restfreq_hz, stokes=stokes,
            convsupport=self.rules.convsupport, intent=ON_SOURCE, moving=self.moving,
            unit="K" if self.unit == "K" else "Jy/beam",
        )  # fmt: skip

    def rows_of(self, member: Member) -> NDArray[np.int64]:
        """Indices in the member's table of its spectra on the source."""
        return self.tables[member.origin].select(
            antenna=member.antenna, spw=int(member.origin_spw), field=member.origin_field, on_source=True
        )

    def positions(self, member: Member, rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Directions of spectra in degrees; of moving sources the offsets from them."""
        return _positions(self.tables[member.origin], rows, self.moving)


def plan_maps(
    ctx: StageContext, *, vis: Iterable[str] | None, field: str, spw: str, restfreq: Mapping[str, str] | str,
    split: bool,
) -> tuple[list[MapPlan], list[str]]:  # fmt: skip
    """Plans of all maps, and sentences about those that cannot be made; `split`: one per measurement set and antenna.

    Raises:
        PlError: no spectrum fits the selection.
    """
    derived: dict[str, NDArray[np.int64]] = {}
    groups = [_of_sets(g, vis) for g in reduction_groups(ctx, types=TYPES) if _wanted(g, field, spw)]
    groups = [g for g in groups if g.members]
    if not groups:
        chosen = ", ".join(f"{name} '{value}'" for name, value in (("field", field), ("spw", spw)) if value)
        raise PlError(f"There is nothing to image{' for ' + chosen if chosen else ''}: no single-dish spectra fit.")
    plans, problems = [], []
    for group in groups:
        for members in _parts(group, split):
            try:
                plans.append(_plan(ctx, len(plans) + 1, group, members, restfreq, split, derived))
            except PlError as error:
                problems.append(f"{group.field_name}, spw {group.spw}: {error.sentence}")
    return plans, problems


def _of_sets(group: ReductionGroup, vis: Iterable[str] | None) -> ReductionGroup:
    """The group with the members of these measurement sets (or of what was made from them) alone, and its own id."""
    names = set(vis or ())
    return attrs.evolve(group, members=tuple(m for m in group.members if not names or {m.ms, m.origin} & names))


def _wanted(group: ReductionGroup, field: str, spw: str) -> bool:
    fields = [f.strip().strip('"') for f in field.split(",") if f.strip()]
    spws = [s.strip() for s in spw.split(",") if s.strip()]
    return (not fields or group.field_name in fields) and (not spws or str(group.spw) in spws)


def _parts(group: ReductionGroup, split: bool) -> list[tuple[Member, ...]]:
    if not split:
        return [group.members]
    keys = dict.fromkeys((m.ms, m.antenna_name) for m in group.members)
    return [tuple(m for m in group.members if (m.ms, m.antenna_name) == key) for key in keys]


def _plan(
    ctx: StageContext, number: int, group: ReductionGroup, members: tuple[Member, ...],
    restfreq: Mapping[str, str] | str, split: bool, derived: dict[str, NDArray[np.int64]],
) -> MapPlan:  # fmt: skip
    first = members[0]
    origin = ctx.context.measurement_set(first.origin)
    window = origin.spw(int(first.origin_spw))
    rules: ImagingRules = ctx.heuristic(
        "hsd.imaging_rules", telescope=(origin.telescope, ctx.telescope(origin).name)
    )()
    tables = {m.origin: RowTable.open(ctx, m.origin) for m in members}
    sets = {m.ms: ctx.context.measurement_set(m.ms) for m in members}
    for name, ms in sets.items():
        if name not in derived:  # the keys of a whole measurement set are read: once
            table = tables[next(m.origin for m in members if m.ms == name)]
            derived[name] = rows_in(ctx, ms, np.asarray(table["row"]))
    moving = first.origin_field in strategy(ctx, origin).ephemeris_fields
    patterns = {strategy(ctx, m.origin).pattern_of(m.antenna, int(m.origin_spw), m.origin_field) for m in members}
    low, high = (int(v) for v in ctx.value("hsd.edge", (0, 0)))
    selected = [
        (m, tables[m.origin].select(antenna=m.antenna, spw=int(m.origin_spw), field=m.origin_field, on_source=True))
        for m in members
    ]
    places = [_positions(tables[m.origin], _usable(tables[m.origin], rows), moving) for m, rows in selected]
    ra, dec = (np.concatenate([place[k] for place in places]) for k in (0, 1))
    diameter = origin.antenna(first.antenna).diameter_m
    geometry = map_geometry(ra, dec, beam_arcsec(diameter, window.centre_hz), rules)
    correlations = origin.polarization_of(window.id).correlations
    opacity = _opacity(ctx, origin, window) if rules.sky_lines else None
    stem = clean_file_name(f"{group.field_name}_sci.spw{group.spw}")
    if rules.prefix:
        observation = clean_file_name(origin.scheduling_block or origin.project or ctx.context.run_name)
        stem = f"{observation}.s{ctx.stage_number}_{number}.{stem}"
    if split:
        stem = f"{stem}.{clean_file_name(first.ms.removesuffix('.ms'))}"
    return MapPlan(
        number=number, group=group, members=members, tables=tables, stem=stem,
        label=f"{group.field_name}, spw {group.spw}" + (f", {first.antenna_name} of {first.ms}" if split else ""),
        paths={name: ms.path for name, ms in sets.items()}, columns={n: _column(ms) for n, ms in sets.items()},
        derived={name: derived[name] for name in sets},
        sessions=tuple(dict.fromkeys(ms.session for ms in sets.values())),
        datatype=",".join(dict.fromkeys(_type(ms).name for ms in sets.values())),
        geometry=geometry, axis=channel_axis(window.n_channels, (low, high), window.is_reversed), edge=(low, high),
        is_reversed=window.is_reversed, frame=tables[first.origin].header.frame,
        restfreq_hz=_rest_frequency(restfreq, group, origin, first, window), correlations=correlations, moving=moving,
        is_raster="RASTER" in patterns, unit=_unit(ctx, members), rules=rules, lines=_lines(ctx, group),
        deviation={m: _deviation(ctx, m) for m in members},
        atmosphere=SpectralRanges.of([(k.first, k.last) for k in sky_lines(opacity)] if opacity is not None else []),
        opacity=opacity,
        bandwidth_hz=_effective_bandwidth(ctx, origin, window), channel_width_hz=window.channel_width_hz,
        off_s=_off_times(ctx, members), factors=_factors(ctx, members, correlations),
    )  # fmt: skip


def _usable(table: RowTable, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    good = rows[np.asarray(table["row_valid"][rows]).any(axis=1)]
    return good if good.size else rows


def _positions(
    table: RowTable, rows: NDArray[np.int64], moving: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    names = ("ofs_ra_deg", "ofs_dec_deg") if moving else ("ra_deg", "dec_deg")
    return np.asarray(table[names[0]][rows], float), np.asarray(table[names[1]][rows], float)


def _column(ms: MeasurementSet) -> str:
    """Column of the best data, as the gridding task chooses it."""
    return next((c for t in TYPES if (c := ms.column_of(t))), "DATA")


def _type(ms: MeasurementSet) -> DataType:
    return next((t for t in TYPES if ms.column_of(t)), DataType.RAW)


def _unit(ctx: StageContext, members: Iterable[Member]) -> str:
    """K or Jy: as the calibration left the data.

    Raises:
        PlError: some of the data are in K, others in Jy.
    """
    known = ctx.value("hsd.unit", {})
    units = {m.origin: str(known.get(m.origin, "K")) for m in members}
    if len(set(units.values())) > 1:
        text = ", ".join(f"{name} in {unit}" for name, unit in units.items())
        raise PlError(f"Data of different units cannot share an image: {text}.")
    return next(iter(units.values()))


def _rest_frequency(
    given: Mapping[str, str] | str, group: ReductionGroup, ms: MeasurementSet, member: Member, window: SpectralWindow
) -> float | None:
    """The user's, else the source's, else the middle of the window; none for a source that moves without one."""
    text = given if isinstance(given, str) else given.get(str(group.spw), "")
    if text:
        return _hertz(text)
    source = ms.field(member.origin_field).source_id
    known = next((s for s in ms.sources if s.id == source), None)
    listed = known.rest_frequencies_hz.get(int(member.origin_spw), ()) if known else ()
    return next((f for f in listed if f > 0), window.centre_hz)


def _hertz(text: str) -> float:
    from astropy import units

    try:
        value = units.Quantity(text)
        return float(value.to_value(units.Hz)) if value.unit != units.dimensionless_unscaled else float(value.value)
    except (TypeError, ValueError) as error:
        raise InputError(f"'{text}' is no rest frequency; write it as 230.538GHz.") from error


def _lines(ctx: StageContext, group: ReductionGroup) -> SpectralRanges:
    found = ctx.value("hsd.line_ranges", {}).get(group.key, [])
    spans = [
        (int(np.floor(r["centre"] - r["width"] / 2)), int(np.ceil(r["centre"] + r["width"] / 2)))
        for r in found
        if r.get("valid", True)
    ]
    return SpectralRanges.of([(max(a, 0), max(b, 0)) for a, b in spans], MS)


def _deviation(ctx: StageContext, member: Member) -> SpectralRanges:
    key = f"{member.antenna}/{member.origin_field}/{int(member.origin_spw)}"
    return SpectralRanges.of(ctx.value("hsd.deviation_masks", {}).get(member.origin, {}).get(key, []), MS)


def _opacity(ctx: StageContext, ms: MeasurementSet, window: SpectralWindow) -> NDArray[np.float64] | None:
    """Zenith opacity of the channels; None where the telescope's site is unknown."""
    site = ctx.telescope(ms).site
    if site is None:
        return None
    found = model_opacity(ctx.casa, site, ms, window.centres_hz)
    return found if np.isfinite(found).all() else None


def _effective_bandwidth(ctx: StageContext, ms: MeasurementSet, window: SpectralWindow) -> float:
    with ctx.casa.table(f"{ms.path}/SPECTRAL_WINDOW") as table:
        widths = np.abs(table.getcell("EFFECTIVE_BW", int(window.id)))
    return float(np.mean(widths)) if np.all(widths > 0) else window.channel_width_hz


def _off_times(ctx: StageContext, members: Iterable[Member]) -> dict[Member, float]:
    """Integration time of the OFFs in the sky caltables; members without one are left out.

    The harmonic mean, since the variance of an OFF goes with one over its time: where edges of a map are the OFF, those
    along the first and last row are many times as long as the others.
    """
    members = list(members)
    found: dict[Member, float] = {}
    for origin in dict.fromkeys(m.origin for m in members):
        name = ctx.value("hsd.caltables", {}).get(origin, {}).get("sky")
        if not name:
            continue
        with ctx.casa.table(name) as table:
            spw, antenna, field, interval = (
                np.asarray(table.getcol(c)) for c in ("SPECTRAL_WINDOW_ID", "ANTENNA1", "FIELD_ID", "INTERVAL")
            )
        off = strategy(ctx, origin).reference_fields
        for m in members:
            here = (spw == int(m.origin_spw)) & (antenna == m.antenna)
            here &= np.isin(field, (m.origin_field, off.get(m.origin_field)))  # itself: the edge of the map is its OFF
            if m.origin == origin and here.any():
                found[m] = float(1 / np.mean(1 / interval[here]))
    return found


def _factors(
    ctx: StageContext, members: Iterable[Member], correlations: tuple[str, ...]
) -> dict[tuple[Member, str], float]:
    """Jy/K by member and polarization, of those that are known."""
    found = {}
    for m in members:
        for (spw, antenna, pol), factor in k2jy(ctx, m.origin).items():
            if spw == int(m.origin_spw) and antenna == m.antenna_name:
                found.update({(m, name): factor for name in (correlations if pol in ("I", "") else (pol,))})
    return found



