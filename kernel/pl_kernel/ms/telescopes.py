"""Telescope descriptions: everything the kernel must be told about an observatory, as plain data.

Plugins return these from the hook `pl_telescopes`. The kernel itself knows only `GENERIC`, which serves data of
an array nobody described.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import attrs

from pl_kernel.ms.intents import GENERIC_VOCABULARY, IntentVocabulary


@attrs.frozen
class Band:
    """A receiver band; limits in Hz, `low_hz` included, `high_hz` not."""

    name: str
    low_hz: float
    high_hz: float


@attrs.frozen
class StandardCalibrator:
    """A source of known flux density. `ra_rad`, `dec_rad`: J2000/ICRS; `model` is the stem of its model images.

    `moving` marks solar-system objects, which have no fixed position.
    """

    name: str
    aliases: tuple[str, ...] = ()
    ra_rad: float | None = None
    dec_rad: float | None = None
    model: str | None = None
    moving: bool = False

    def is_called(self, name: str) -> bool:
        """Whether `name` is one of its names, in any case and with any separators."""
        return _folded(name) in {_folded(n) for n in (self.name, *self.aliases)}


@attrs.frozen
class Site:
    """Where the telescope stands: geodetic longitude (east) and latitude in radians, height in m."""

    longitude_rad: float
    latitude_rad: float
    height_m: float


@attrs.frozen
class ScienceSpwRule:
    """Which windows carry science or calibrator visibilities.

    A window counts when its number of channels is not excluded, its name matches none of the patterns (regular
    expressions, searched), it has at least one of the `required_intents` (none listed: no condition), and none
    of the `forbidden_intents`. Where a condition leaves no window at all (data averaged to one channel, data
    without intents) that condition is dropped.
    """

    excluded_channel_counts: frozenset[int] = frozenset()
    excluded_names: tuple[str, ...] = ()
    required_intents: frozenset[str] = frozenset()
    forbidden_intents: frozenset[str] = frozenset()


@attrs.frozen(kw_only=True)
class Telescope:
    """One telescope (or array) as its plugin describes it.

    `aliases` are further values of OBSERVATION.TELESCOPE_NAME; `band_in_spw_name` is a regular expression with one
    group that finds the band in a window's name (it wins over the frequency limits); `band_names` translates what
    the group found, when it differs from the band's name.

    Several plugins may describe one telescope (the interferometers and the single dishes of one observatory): the
    description with the highest `edition` counts, and those of one edition must be equal.
    """

    name: str
    edition: int = 1
    aliases: tuple[str, ...] = ()
    mount: str = "ALT-AZ"
    dish_diameter_m: float | None = None
    single_dish: bool = False
    bands: tuple[Band, ...] = ()
    band_in_spw_name: str = ""
    band_names: Mapping[str, str] = attrs.field(factory=dict)
    intents: IntentVocabulary = GENERIC_VOCABULARY
    science_spws: ScienceSpwRule = ScienceSpwRule()
    calibrators: tuple[StandardCalibrator, ...] = ()
    site: Site | None = None

    def is_called(self, name: str) -> bool:
        """Whether `name` (of OBSERVATION.TELESCOPE_NAME) means this telescope."""
        return name.strip().upper() in {n.upper() for n in (self.name, *self.aliases)}

    def band_of(self, frequency_hz: float, spw_name: str = "") -> str:
        """Band of a window by its name, else by its centre frequency; empty when no band fits."""
        if self.band_in_spw_name and (match := re.search(self.band_in_spw_name, spw_name)):
            return self.band_names.get(match[1], match[1])
        return next((b.name for b in self.bands if b.low_hz <= frequency_hz < b.high_hz), "")

    def calibrator(self, name: str) -> StandardCalibrator | None:
        """The standard calibrator called `name`, if there is one."""
        return next((c for c in self.calibrators if c.is_called(name)), None)


GENERIC = Telescope(name="")
"""A telescope nobody described: generic intent words, all windows are science windows, no bands."""


def find_telescope(name: str, telescopes: Iterable[Telescope] = ()) -> Telescope:
    """The description that answers to `name`, else `GENERIC` under that name."""
    for telescope in telescopes:
        if telescope.is_called(name):
            return telescope
    return attrs.evolve(GENERIC, name=name.strip())


def _folded(name: str) -> str:
    return re.sub(r"[\s_\-]", "", name).upper()
