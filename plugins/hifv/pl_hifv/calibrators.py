"""Which scans calibrate which band, and what the calibration stages have learned about them.

`Selection` is worked out from the measurement set whenever it is wanted. `MsState` is what one stage tells the next;
it travels as a value of the run, keyed by measurement set and band.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from pl_hifv.heuristics.delays import baseband_of
from pl_hifv.heuristics.fluxboot import SpectralFit
from pl_hifv.heuristics.solint import ScanTime
from pl_kernel.effects import SetValue
from pl_kernel.ms.model import MeasurementSet, Scan, SpectralWindow
from pl_kernel.ms.selection import compact_ids
from pl_kernel.serialize import from_json

KEY = "hifv.calibrators"
"""Value of the run: measurement set → `MsState`."""
UVRANGES = "hifv.uvranges"
"""Value of the run: measurement set → field id → baselines to use (``">5klambda"``) of calibrators with structure."""
CALIBRATORS = ("AMPLITUDE", "BANDPASS", "DELAY", "PHASE", "POLANGLE", "POLLEAKAGE", "POLARIZATION", "CHECK")
"""Intents of scans that calibrate; pointing and set-up scans are none."""


# ---- from the measurement set --------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class BandSelection:
    """The calibrator scans and fields of one band, by purpose; ids throughout.

    A band without a bandpass calibrator uses its flux calibrator, one without delay calibrator the bandpass
    calibrator. Of several bandpass or delay calibrators the first one observed is taken. ``basebands`` maps the
    name of a baseband to its windows.
    """

    vis: str
    band: str
    spws: tuple[int, ...]
    basebands: dict[str, tuple[int, ...]]
    integration_s: float
    flux_fields: tuple[int, ...]
    bandpass_fields: tuple[int, ...]
    bandpass_scans: tuple[int, ...]
    delay_fields: tuple[int, ...]
    delay_scans: tuple[int, ...]
    phase_fields: tuple[int, ...]
    phase_scans: tuple[int, ...]
    calibrator_fields: tuple[int, ...]
    calibrator_scans: tuple[int, ...]

    @property
    def test_scans(self) -> tuple[int, ...]:
        """Scans of the bandpass and delay calibrators."""
        return tuple(sorted({*self.bandpass_scans, *self.delay_scans}))

    @property
    def test_fields(self) -> tuple[int, ...]:
        """The bandpass and delay calibrators."""
        return tuple(sorted({*self.bandpass_fields, *self.delay_fields}))

    @property
    def spw(self) -> str:
        """The windows as CASA selects them."""
        return compact_ids(self.spws)

    @property
    def missing(self) -> str:
        """What makes the band impossible to calibrate; empty when nothing does."""
        if not self.bandpass_scans:
            return f"{self.band} band has neither a bandpass nor a flux calibrator"
        return ""


@attrs.frozen(kw_only=True)
class Selection:
    """The calibrators of a measurement set, band by band in order of frequency."""

    vis: str
    bands: tuple[BandSelection, ...]

    def band(self, name: str) -> BandSelection:
        return next(b for b in self.bands if b.band == name)

    def _union(self, attribute: str) -> tuple[int, ...]:
        return tuple(sorted({i for b in self.bands for i in getattr(b, attribute)}))

    @property
    def test_scans(self) -> tuple[int, ...]:
        """Scans of the bandpass and delay calibrators of all bands."""
        return self._union("test_scans")

    @property
    def test_fields(self) -> tuple[int, ...]:
        return self._union("test_fields")

    @property
    def calibrator_scans(self) -> tuple[int, ...]:
        """Scans of all calibrators of all bands."""
        return self._union("calibrator_scans")

    @property
    def calibrator_fields(self) -> tuple[int, ...]:
        return self._union("calibrator_fields")

    @property
    def flux_fields(self) -> tuple[int, ...]:
        return self._union("flux_fields")


def selection(ms: MeasurementSet) -> Selection:
    """Sort the calibrator scans of a measurement set by band and purpose."""
    windows: dict[str, list[SpectralWindow]] = {}
    for window in sorted(ms.science_spws, key=lambda s: (s.centre_hz, int(s.id))):
        windows.setdefault(window.band or "unknown", []).append(window)
    return Selection(vis=ms.name, bands=tuple(_band(ms, name, found) for name, found in windows.items()))


def _band(ms: MeasurementSet, band: str, windows: Sequence[SpectralWindow]) -> BandSelection:
    ids = {int(w.id) for w in windows}
    here = [s for s in ms.scans if ids & {int(i) for i in s.spw_ids} and "POINTING" not in s.intents]
    flux = _purpose(here, ("AMPLITUDE",))
    bandpass = _first_field(_purpose(here, ("BANDPASS",)) or flux)
    delay = _first_field(_purpose(here, ("DELAY",))) or bandpass
    phase = _purpose(here, ("PHASE",))
    every = _purpose(here, CALIBRATORS)
    intervals = [v for s in here for w, v in s.interval_s.items() if int(w) in ids]
    basebands: dict[str, list[int]] = {}
    for window in windows:
        basebands.setdefault(baseband_of(window.name), []).append(int(window.id))
    return BandSelection(
        vis=ms.name, band=band, spws=tuple(sorted(ids)), basebands={k: tuple(sorted(v)) for k, v in basebands.items()},
        integration_s=max(intervals, default=0.0), flux_fields=_fields(flux),
        bandpass_fields=_fields(bandpass), bandpass_scans=_scans(bandpass), delay_fields=_fields(delay),
        delay_scans=_scans(delay), phase_fields=_fields(phase), phase_scans=_scans(phase),
        calibrator_fields=_fields(every), calibrator_scans=_scans(every),
    )  # fmt: skip


Observed = list[tuple[Scan, tuple[int, ...]]]
"""Scans with those of their fields that have the purpose."""


def _purpose(scans: Iterable[Scan], intents: Sequence[str]) -> Observed:
    wanted = set(intents)
    found = [(s, tuple(f for f, i in s.intents_by_field.items() if wanted & i)) for s in scans]
    return [(s, fields) for s, fields in found if fields]


def _first_field(observed: Observed) -> Observed:
    if not observed:
        return []
    first = observed[0][1][0]
    return [(s, (first,)) for s, fields in observed if first in fields]


def _fields(observed: Observed) -> tuple[int, ...]:
    return tuple(sorted({f for _, fields in observed for f in fields}))


def _scans(observed: Observed) -> tuple[int, ...]:
    return tuple(sorted({s.id for s, _ in observed}))


def scan_times(ms: MeasurementSet, scans: Iterable[int], spws: Iterable[int]) -> list[ScanTime]:
    """When scans were, and which of these windows and which field they observed."""
    wanted = set(spws)
    chosen = set(scans)
    return [
        ScanTime(
            id=s.id, start_s=(s.start - ms.start).total_seconds(), end_s=(s.end - ms.start).total_seconds(),
            field=s.field_ids[0], spws=frozenset(int(i) for i in s.spw_ids if int(i) in wanted),
        )
        for s in ms.scans
        if s.id in chosen and s.field_ids
    ]  # fmt: skip


# ---- from stage to stage -------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class BandState:
    """Intervals of one band, in seconds and as CASA spells them; 0 and "" where not yet known.

    ``gain``: of the initial gains before the bandpass. ``short``: follows the atmosphere. ``long``: about a scan of the
    phase calibrator. ``combine_short`` False: one short solution per scan.
    """

    band: str
    gain_s: float = 0.0
    gain_solint: str = "int"
    short_s: float = 0.0
    short_solint: str = ""
    combine_short: bool = True
    long_s: float = 0.0
    long_solint: str = ""


@attrs.frozen(kw_only=True)
class FieldSpectrum:
    """The spectrum of a secondary calibrator, over all ``bands`` in which it was measured (empty: not known)."""

    field: int
    name: str
    fit: SpectralFit
    bands: tuple[str, ...] = attrs.field(default=(), converter=tuple)


@attrs.frozen(kw_only=True)
class LostHand:
    """A window in which one parallel hand of some antennas is flagged for good, and their other hand is fine."""

    spw: int
    antennas: tuple[str, ...] = attrs.field(converter=tuple)


@attrs.frozen(kw_only=True)
class MsState:
    """What is known of the calibration of one measurement set.

    ``ignored_refants`` were found unfit as reference. ``calibrators_path`` is the copy of the calibrators' corrected
    data that hifv_solint made.
    """

    vis: str
    bands: tuple[BandState, ...] = attrs.field(default=(), converter=tuple)
    ignored_refants: tuple[str, ...] = attrs.field(default=(), converter=tuple)
    calibrators_path: str = ""
    spectra: tuple[FieldSpectrum, ...] = attrs.field(default=(), converter=tuple)
    lost_hands: tuple[LostHand, ...] = attrs.field(default=(), converter=tuple)

    def band(self, name: str) -> BandState:
        """The state of a band; a fresh one when nobody has worked on it."""
        return next((b for b in self.bands if b.band == name), BandState(band=name))

    def with_band(self, band: BandState) -> MsState:
        """The same with another state of one band."""
        return attrs.evolve(self, bands=(*(b for b in self.bands if b.band != band.band), band))


def states(ctx: Any) -> dict[str, MsState]:
    """All states of the run, by measurement set; ``ctx`` is a stage's context."""
    return from_json(ctx.value(KEY, {}), dict[str, MsState])


def state_of(ctx: Any, ms: MeasurementSet | str) -> MsState:
    """The state of a measurement set; a fresh one when nobody has worked on it."""
    name = ms if isinstance(ms, str) else ms.name
    return states(ctx).get(name, MsState(vis=name))


def remember(ctx: Any, changed: Iterable[MsState]) -> SetValue:
    """An effect that replaces the states of these measurement sets and keeps the others."""
    return SetValue(KEY, {**states(ctx), **{s.vis: s for s in changed}})


def uvranges(ctx: Any, ms: MeasurementSet) -> dict[int, str]:
    """Ranges of baselines by field id; empty where all may be used.

    They hold in every solve; those of the reference pipeline (2026) that name fields as text find none.
    """
    return {int(k): str(v) for k, v in ctx.value(UVRANGES, {}).get(ms.name, {}).items() if v}
