"""The VLA as data: bands, dish, words for intents, standard calibrators."""

from __future__ import annotations

import math

from pl_kernel.ms.intents import GENERIC_VOCABULARY, IntentWord
from pl_kernel.ms.telescopes import Band, ScienceSpwRule, Site, StandardCalibrator, Telescope

_GHZ = 1e9
BANDS = (
    Band("4", 0.0, 0.15 * _GHZ), Band("P", 0.15 * _GHZ, 0.7 * _GHZ), Band("L", 0.7 * _GHZ, 2 * _GHZ),
    Band("S", 2 * _GHZ, 4 * _GHZ), Band("C", 4 * _GHZ, 8 * _GHZ), Band("X", 8 * _GHZ, 12 * _GHZ),
    Band("Ku", 12 * _GHZ, 18 * _GHZ), Band("K", 18 * _GHZ, 26.5 * _GHZ), Band("Ka", 26.5 * _GHZ, 40 * _GHZ),
    Band("Q", 40 * _GHZ, 56 * _GHZ),
)  # fmt: skip
"""Receiver bands with the limits the reference pipeline (2026) falls back to when a window's name does not say."""

MODEL_LETTERS = {"Ku": "U", "Ka": "A"}
"""Model images are named with one letter per band (3C286_U.im)."""


def _radians(hms: tuple[int, int, float], dms: tuple[int, int, float]) -> tuple[float, float]:
    hours = hms[0] + hms[1] / 60 + hms[2] / 3600
    degrees = dms[0] + dms[1] / 60 + dms[2] / 3600
    return math.radians(15 * hours), math.radians(degrees)


def _standard(
    name: str, aliases: tuple[str, ...], hms: tuple[int, int, float], dms: tuple[int, int, float]
) -> StandardCalibrator:
    ra, dec = _radians(hms, dms)
    return StandardCalibrator(name=name, aliases=aliases, ra_rad=ra, dec_rad=dec, model=name)


STANDARDS = (
    _standard("3C48", ("0137+331", "J0137+3309", "0134+329"), (1, 37, 41.299), (33, 9, 35.133)),
    _standard("3C138", ("0521+166", "J0521+1638", "0518+165"), (5, 21, 9.886), (16, 38, 22.051)),
    _standard("3C147", ("0542+498", "J0542+4951", "0538+498"), (5, 42, 36.138), (49, 51, 7.234)),
    _standard("3C286", ("1331+305", "J1331+3030", "1328+307"), (13, 31, 8.288), (30, 30, 32.959)),
)
"""Standard calibrators with resolved models, in the order in which a position is compared with them."""

STRENGTH_JY = {"3C48": 16.0, "3C138": 8.4, "3C147": 21.9, "3C286": 15.0}
"""Flux densities near 1.4 GHz (Perley & Butler 2017), to tell which of two standards serves the bandpass better.

All four stay in this order up to 10 GHz but for 3C286, whose flatter spectrum makes it the strongest above 4 GHz.
"""


def strength(name: str, frequency_hz: float) -> float:
    """Rough flux density in Jy of a standard calibrator, 0 for others: only its order among the standards matters."""
    slope = {"3C48": -0.85, "3C138": -0.55, "3C147": -0.8, "3C286": -0.55}
    return STRENGTH_JY.get(name, 0.0) * (frequency_hz / 1.4e9) ** slope.get(name, 0.0)


_WORDS = (
    # Since 2012 observers mark gain calibrators with CALIBRATE_AMPLI; the flux standard carries CALIBRATE_FLUX.
    IntentWord("CALIBRATE_AMPLI", "PHASE"),
    IntentWord("CALIBRATE_AMPLITUDE", "PHASE"),
    IntentWord("OBSERVE_TARGET", "TARGET", "UNSPECIFIED"),
    IntentWord("OBSERVE_TARGET", "TARGET", "ON_SOURCE"),
    IntentWord("OBSERVE_TARGET", "REFERENCE", "OFF_SOURCE"),
)

VLA = Telescope(
    name="EVLA",
    aliases=("VLA", "JVLA"),
    dish_diameter_m=25.0,
    bands=BANDS,
    # EVLA_X#A0C0#0; a second letter tells KU and KA from K.
    band_in_spw_name=r"^EVLA_(KU|KA|4|P|L|S|C|X|U|K|A|Q)",
    band_names={"KU": "Ku", "KA": "Ka", "U": "Ku", "A": "Ka"},
    intents=GENERIC_VOCABULARY.with_words(*_WORDS),
    science_spws=ScienceSpwRule(
        excluded_channel_counts=frozenset({1, 4}),
        required_intents=frozenset(
            {"TARGET", "PHASE", "BANDPASS", "AMPLITUDE", "POLARIZATION", "POLANGLE", "POLLEAKAGE", "CHECK"}
        ),
        forbidden_intents=frozenset({"POINTING"}),
    ),
    calibrators=STANDARDS,
    site=Site(longitude_rad=math.radians(-107.61828), latitude_rad=math.radians(34.07875), height_m=2124.0),
)
"""The VLA, before (VLA) and after (EVLA) its expansion: the same dishes at the same place."""
