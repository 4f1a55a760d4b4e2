"""ALMA as data: bands, words for intents, which windows carry science.

Interferometry and single dish are one telescope, described alike by every plugin that works with it: the kernel takes
the description of the highest edition, and refuses two of one edition that differ.
"""

from __future__ import annotations

import math

from pl_kernel.ms.intents import GENERIC_VOCABULARY
from pl_kernel.ms.telescopes import Band, ScienceSpwRule, Site, Telescope

_GHZ = 1e9
BANDS = tuple(
    Band(name, low * _GHZ, high * _GHZ)
    for name, low, high in (
        ("ALMA Band 1", 35.0, 50.0), ("ALMA Band 2", 67.0, 84.0), ("ALMA Band 3", 84.0, 116.0),
        ("ALMA Band 4", 125.0, 163.0), ("ALMA Band 5", 163.0, 211.0), ("ALMA Band 6", 211.0, 275.0),
        ("ALMA Band 7", 275.0, 373.0), ("ALMA Band 8", 385.0, 500.0), ("ALMA Band 9", 602.0, 720.0),
        ("ALMA Band 10", 787.0, 950.0),
    )
)  # fmt: skip
"""Receiver bands; a window's name says it better (ALMA_RB_06), since bands overlap."""

ALMA = Telescope(
    name="ALMA",
    edition=1,
    dish_diameter_m=12.0,
    bands=BANDS,
    band_in_spw_name=r"ALMA_RB_(\d\d)",
    band_names={f"{number:02d}": f"ALMA Band {number}" for number in range(1, 11)},
    intents=GENERIC_VOCABULARY,
    science_spws=ScienceSpwRule(
        excluded_channel_counts=frozenset({1, 4}),
        excluded_names=("WVR", "SQLD", "CH_AVG"),
        required_intents=frozenset(
            {
                "TARGET", "PHASE", "BANDPASS", "AMPLITUDE", "POLARIZATION", "POLANGLE", "POLLEAKAGE", "CHECK",
                "DIFFGAINREF", "DIFFGAINSRC",
            }
        ),
    ),
    site=Site(longitude_rad=math.radians(-67.75493), latitude_rad=math.radians(-23.02923), height_m=5059.0),
)  # fmt: skip
"""ALMA with all its arrays; dishes of the 7-m array say their diameter in the data."""
