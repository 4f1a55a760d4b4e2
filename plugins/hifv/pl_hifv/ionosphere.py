"""The electron content of the ionosphere: maps in files, and what they say of the zenith over the array."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from pl_kernel import PlError
from pl_kernel.ms.model import MeasurementSet
from pl_kernel.weblog.observation import mjd_seconds


@attrs.frozen(kw_only=True, eq=False)
class TecMap:
    """Electron content in TECU (10^16 electrons per m²), (longitudes, latitudes, times); degrees and MJD seconds."""

    longitude_deg: np.ndarray
    latitude_deg: np.ndarray
    time_s: np.ndarray
    tecu: np.ndarray

    def over(self, longitude_deg: float, latitude_deg: float) -> np.ndarray:
        """Electron content over a place at each time, linear between the four points around it; NaN outside."""
        from scipy.interpolate import RegularGridInterpolator

        ask = RegularGridInterpolator((self.longitude_deg, self.latitude_deg), self.tecu, bounds_error=False)
        return np.asarray(ask((longitude_deg, latitude_deg)), float)

    def at(self, time_s: float) -> np.ndarray:
        """Map of the time nearest to a moment, (longitudes, latitudes)."""
        return self.tecu[:, :, int(np.argmin(np.abs(self.time_s - time_s)))]


def _floats(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


@attrs.frozen(kw_only=True)
class Ionosphere:
    """Electron content over the array at the times of a map, with its errors (empty where no map of them is there).

    ``file`` holds the map at the middle of the observation, which lasts from ``begin_s`` to ``end_s`` (MJD seconds).
    """

    vis: str
    source: str
    time_s: tuple[float, ...] = attrs.field(converter=_floats)
    tecu: tuple[float, ...] = attrs.field(converter=_floats)
    error_tecu: tuple[float, ...] = attrs.field(default=(), converter=_floats)
    begin_s: float
    end_s: float
    longitude_deg: float
    latitude_deg: float
    file: str = ""

    @property
    def covers(self) -> bool:
        """Whether the map has times before and after the observation."""
        return min(self.time_s) <= self.begin_s and self.end_s <= max(self.time_s)

    @property
    def during(self) -> tuple[float, float]:
        """Lowest and highest electron content during the observation."""
        inside = [t for t in self.time_s if self.begin_s < t < self.end_s]
        values = np.interp([self.begin_s, *inside, self.end_s], self.time_s, self.tecu)
        return float(values.min()), float(values.max())


def find_map(ms: MeasurementSet, given: Path | None) -> Path | None:
    """The map that a parameter names, else one that CASA's tec_maps left in the work folder or beside the run.

    Raises:
        PlError: the given map is no CASA image.
    """
    if given is not None:
        if not (given / "table.dat").is_file():
            raise PlError(f"{given} is no CASA image of the ionosphere; make one with CASA's tec_maps.")
        return given
    names = [f"{ms.name}.IGS_TEC.im", f"{ms.origin or ms.name}.IGS_TEC.im", "iono.IGS_TEC.im"]
    found = (folder / name for name in names for folder in (Path(), Path(".."), Path("../..")))
    return next((p for p in found if (p / "table.dat").is_file()), None)


def read_map(ctx: Any, path: Path) -> TecMap:
    """Read an image of axes longitude, latitude (deg) and time (MJD s), as tec_maps writes them.

    Raises:
        PlError: the image has other axes.
    """
    with ctx.casa.image(path) as image:
        system = image.coordsys()
        try:
            units = [str(u) for u in system.units()]
            pixel, value, step = (
                np.atleast_1d(f()["numeric"]) for f in (system.referencepixel, system.referencevalue, system.increment)
            )
        finally:
            system.done()
        if units != ["deg", "deg", "s"]:
            raise PlError(
                f"{path} is no map of the ionosphere: its axes are in {', '.join(units)}, and not longitude and"
                " latitude in deg and time in s."
            )
        tecu = np.asarray(image.getchunk(), float)
    axes = [value[k] + step[k] * (np.arange(tecu.shape[k]) - pixel[k]) for k in range(3)]
    return TecMap(longitude_deg=axes[0], latitude_deg=axes[1], time_s=axes[2], tecu=tecu)


def look(ctx: Any, ms: MeasurementSet, path: Path) -> Ionosphere:
    """Read a map, and that of its errors where there is one; keep the plane of the middle of the observation.

    Raises:
        PlError: the map does not reach the array.
    """
    tec = read_map(ctx, path)
    site = ctx.telescope(ms).site
    if site is None:
        raise PlError(f"Where {ms.telescope} stands is not known, so no map tells the ionosphere above it.")
    longitude, latitude = math.degrees(site.longitude_rad), math.degrees(site.latitude_rad)
    over = tec.over(longitude, latitude)
    if not np.isfinite(over).all():
        raise PlError(f"{path} does not reach the array at longitude {longitude:.1f}, latitude {latitude:.1f} deg.")
    beside = path.with_name(path.name.replace(".IGS_TEC", ".IGS_RMS_TEC"))
    errors = np.zeros(0)
    if beside != path and (beside / "table.dat").is_file():
        errors = read_map(ctx, beside).over(longitude, latitude)
        errors = errors if errors.size == over.size else np.zeros(0)
    begin, end = mjd_seconds(ms.start), mjd_seconds(ms.end)
    file = f"ionosphere-{ms.stem}.npz"
    np.savez_compressed(
        ctx.stage_dir / file, longitude_deg=tec.longitude_deg, latitude_deg=tec.latitude_deg,
        tecu=tec.at((begin + end) / 2),
    )  # fmt: skip
    return Ionosphere(
        vis=ms.name, source=path.name, time_s=tec.time_s, tecu=over, error_tecu=errors, begin_s=begin,
        end_s=end, longitude_deg=longitude, latitude_deg=latitude, file=file,
    )  # fmt: skip
