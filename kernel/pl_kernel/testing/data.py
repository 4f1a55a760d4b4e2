"""A tiny measurement set for tests: four antennas, a calibrator and a target, made by CASA in a few seconds.

Everything in it is known: visibilities are the flux density of the field plus Gaussian noise, and chosen samples are
outliers.  It is no model of a telescope; simulations of telescopes are a plugin's business.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from ..casa import Casa

FIELDS = (("CAL", "J2000 12h00m00.0s -30d00m00.0s", 10.0), ("TARGET", "J2000 12h10m00.0s -31d00m00.0s", 1.0))
"""Name, direction and flux density in Jy of the fields."""

OBS_MODES = (
    "CALIBRATE_BANDPASS#ON_SOURCE,CALIBRATE_FLUX#ON_SOURCE,CALIBRATE_PHASE#ON_SOURCE",
    "OBSERVE_TARGET#ON_SOURCE",
)
"""Scan intents of the calibrator and the target, in the observatories' words."""


@attrs.frozen(kw_only=True)
class TinyMs:
    """The measurement set and its truth: rows, ``outliers`` (samples far off), and the noise per sample in Jy."""

    path: Path
    n_rows: int
    n_antennas: int
    n_channels: int
    outliers: int
    noise_jy: float


def make_tiny_ms(
    path: Path, *, intents: bool = True, outliers: int = 7, noise_jy: float = 0.05, seed: int = 1, n_channels: int = 8
) -> TinyMs:
    """Make the measurement set at ``path``; calls a worker process, so the caller imports no CASA."""
    from ..compute import Worker

    path.parent.mkdir(parents=True, exist_ok=True)
    worker = Worker(path.parent / "tiny.log")
    try:
        rows: int = worker.call(_write, str(path), intents, outliers, noise_jy, seed, n_channels)
    finally:
        worker.stop()
    return TinyMs(
        path=path, n_rows=rows, n_antennas=4, n_channels=n_channels, outliers=outliers, noise_jy=noise_jy
    )  # fmt: skip


def _write(path: str, intents: bool, outliers: int, noise_jy: float, seed: int, n_channels: int) -> int:
    import numpy as np

    from ..casa import Casa, Recorder

    casa = Casa(Recorder(), path + ".log")
    _simulate(casa, path, n_channels)
    rng = np.random.default_rng(seed)
    with casa.table(path, nomodify=False) as table:
        data = table.getcol("DATA")
        flux = np.array([flux for _, _, flux in FIELDS])[table.getcol("FIELD_ID")]
        noise = rng.normal(0, noise_jy, data.shape) + 1j * rng.normal(0, noise_jy, data.shape)
        data = flux + noise
        flat = data.reshape(-1, order="F")
        chosen = rng.choice(flat.size, outliers, replace=False)
        flat[chosen] += 100.0
        table.putcol("DATA", flat.reshape(data.shape, order="F"))
        table.putcol("FLAG", np.zeros(data.shape, dtype=bool))
        # The simulator tool adds them; data as they come from an archive have none.
        table.removecols([c for c in ("MODEL_DATA", "CORRECTED_DATA") if c in table.colnames()])
        rows = int(data.shape[-1])
        fields = table.getcol("FIELD_ID")
        if intents:
            table.putcol("STATE_ID", fields)
    if intents:
        _write_states(casa, path)
    return rows


def _simulate(casa: Casa, path: str, n_channels: int) -> None:
    """Lay out antennas, fields, one spectral window and eight scans with CASA's simulator tool."""
    sm, me = casa.tool("simulator"), casa.tool("measures")
    try:
        sm.open(path)
        places = [(0.0, 0.0), (150.0, 40.0), (-80.0, 210.0), (60.0, -300.0)]
        sm.setconfig(
            telescopename="PLTEST", x=[x for x, _ in places], y=[y for _, y in places], z=[0.0] * 4,
            dishdiameter=[12.0] * 4, mount=["alt-az"] * 4, antname=[f"A{i}" for i in range(4)], padname=["P"] * 4,
            coordsystem="local",
            referencelocation=me.position("WGS84", "-67.75deg", "-23.02deg", "5000m"),
        )  # fmt: skip
        sm.setspwindow(
            spwname="SPW0", freq="1.40GHz", deltafreq="1MHz", freqresolution="1MHz", nchannels=n_channels,
            stokes="XX YY",
        )  # fmt: skip
        sm.setfeed("perfect X Y")
        for name, direction, _ in FIELDS:
            sm.setfield(sourcename=name, sourcedirection=direction.split())
        sm.setlimits(shadowlimit=0.001, elevationlimit="1deg")
        sm.setauto(autocorrwt=0.0)
        sm.settimes(integrationtime="10s", usehourangle=True, referencetime=me.epoch("UTC", "2020/01/01/00:00:00"))
        for scan in range(8):
            name = FIELDS[scan % 2][0]
            sm.observe(name, "SPW0", starttime=f"{scan * 60 - 240}s", stoptime=f"{scan * 60 - 190}s")
    finally:
        sm.close()
        sm.done()
        me.done()


def _write_states(casa: Casa, path: str) -> None:
    with casa.table(f"{path}/STATE", nomodify=False) as table:
        table.addrows(max(0, len(OBS_MODES) - table.nrows()))
        for row, mode in enumerate(OBS_MODES):
            table.putcell("OBS_MODE", row, mode)
            table.putcell("SIG", row, True)
            table.putcell("REF", row, False)
            table.putcell("CAL", row, 0.0)
            table.putcell("LOAD", row, 0.0)
            table.putcell("SUB_SCAN", row, 1)
            table.putcell("FLAG_ROW", row, False)
