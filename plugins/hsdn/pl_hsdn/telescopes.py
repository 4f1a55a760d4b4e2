"""The Nobeyama 45-m telescope as data."""

from __future__ import annotations

import math

from pl_kernel.ms.intents import GENERIC_VOCABULARY, IntentWord
from pl_kernel.ms.telescopes import Band, ScienceSpwRule, Site, Telescope

_GHZ = 1e9
BANDS = (
    Band("20 GHz", 20 * _GHZ, 25 * _GHZ),
    Band("40 GHz", 36 * _GHZ, 50 * _GHZ),
    Band("70 GHz", 67 * _GHZ, 80 * _GHZ),
    Band("100 GHz", 80 * _GHZ, 116.5 * _GHZ),
)
"""Receivers H22/HF22, H40/Z45, T70, and FOREST with its predecessors."""

NRO = Telescope(
    name="NRO",
    aliases=("NRO45M", "NOBEYAMA", "NRO 45M"),
    dish_diameter_m=45.0,
    single_dish=True,
    bands=BANDS,
    intents=GENERIC_VOCABULARY.with_words(
        IntentWord("OBSERVE_TARGET", "TARGET", "ON_SOURCE"),
        IntentWord("OBSERVE_TARGET", "REFERENCE", "OFF_SOURCE"),
        IntentWord("CALIBRATE_ATMOSPHERE", "ATMOSPHERE", "R_SOURCE"),
        IntentWord("CALIBRATE_ATMOSPHERE", "ATMOSPHERE", "SKY_SOURCE"),
        IntentWord("CALIBRATE_ATMOSPHERE", "ATMOSPHERE", "ZERO_SOURCE"),
    ),
    science_spws=ScienceSpwRule(required_intents=frozenset({"TARGET"})),
    site=Site(longitude_rad=math.radians(138.472559), latitude_rad=math.radians(35.944694), height_m=1350.0),
)
"""The 45-m telescope; each beam of a multi-beam receiver is an antenna of its data."""
