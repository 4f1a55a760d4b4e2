"""Single dish: raster patterns, the sky as a beam sees it, and what the instrument adds to a spectrum.

Offsets are (east, north) in arcsec from the map centre, measured on the sky; velocities are radio convention in km/s.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np

from pl_sim.atmosphere import FloatArray

FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))
GAUSSIAN_AREA = np.sqrt(np.pi / (4.0 * np.log(2.0)))
"""Area of a Gaussian of unit height and unit FWHM (1.0645); its square is the solid angle of a two-dimensional one
(1.1331)."""


@attrs.frozen(eq=False)
class Subscan:
    """A stretch of integrations of one kind.

    kind: "ON", "OFF" or "ATM"; load: for ATM, what the receiver looks at; x, y: offsets [n] arcsec; time_s:
    mid-times [n].
    """

    kind: str
    scan: int
    subscan: int
    x: FloatArray
    y: FloatArray
    time_s: FloatArray
    load: str = ""

    @property
    def count(self) -> int:
        return len(self.time_s)


@attrs.frozen
class Raster:
    """An on-the-fly map: rows swept back and forth, an OFF before every `rows_per_off` rows and at the end of each
    map.

    width is along the sweep, height across (arcsec); samples and rows are spread evenly over them, ends included.
    angle_deg: position angle of the sweep from east through north; maps after the first are turned by 90 degrees when
    `basket_weave` is set, so that scan effects average out.
    """

    width: float
    height: float
    samples: int
    rows: int
    off: tuple[float, float]
    integration_s: float = 0.576
    off_integrations: int = 12
    rows_per_off: int = 1
    maps: int = 1
    angle_deg: float = 0.0
    basket_weave: bool = True
    turnaround_s: float = 2.5

    def offsets(self, index: int, map_index: int) -> tuple[FloatArray, FloatArray]:
        """East and north offsets (arcsec) of the samples of one row."""
        along = np.linspace(-self.width / 2, self.width / 2, self.samples)
        if index % 2:
            along = along[::-1]
        across = np.full(self.samples, -self.height / 2 + self.height * index / max(self.rows - 1, 1))
        angle = np.radians(self.angle_deg + (90.0 if self.basket_weave and map_index % 2 else 0.0))
        return along * np.cos(angle) - across * np.sin(angle), along * np.sin(angle) + across * np.cos(angle)

    def schedule(self, start_s: float, tsys_scans: bool = True, tsys_integrations: int = 4) -> list[Subscan]:
        """All subscans in time order.  Each map is a scan; when `tsys_scans` is set a load calibration at the OFF
        comes before it."""
        subscans: list[Subscan] = []
        clock, scan = start_s, 0
        dt = self.integration_s

        def add(kind: str, number: int, x: FloatArray, y: FloatArray, load: str = "") -> None:
            nonlocal clock
            subscans.append(Subscan(kind, scan, number, x, y, clock + (np.arange(len(x)) + 0.5) * dt, load))
            clock += len(x) * dt + self.turnaround_s

        def add_off(number: int, count: int, kind: str = "OFF", load: str = "") -> None:
            add(kind, number, np.full(count, self.off[0]), np.full(count, self.off[1]), load)

        for map_index in range(self.maps):
            if tsys_scans:
                scan += 1
                for number, load in enumerate(("OFF_SOURCE", "AMBIENT", "HOT"), start=1):
                    add_off(number, tsys_integrations, "ATM", load)
                clock += 8.0
            scan += 1
            number = 0
            for row in range(self.rows):
                if row % self.rows_per_off == 0:
                    number += 1
                    add_off(number, self.off_integrations)
                number += 1
                add("ON", number, *self.offsets(row, map_index))
            add_off(number + 1, self.off_integrations)
            clock += 8.0
        return subscans


@attrs.frozen
class LineCloud:
    """A Gaussian cloud with a Gaussian line, as the truth of a map.

    peak_k: peak of the unsmeared cloud (T_A* above the air, K); fwhm: arcsec; velocity, width: km/s (LSRK, FWHM);
    gradient: change of the line centre along the east offset, km/s per arcsec; x, y: offset of the cloud, arcsec.
    """

    peak_k: float = 4.0
    fwhm: float = 45.0
    velocity: float = 30.0
    width: float = 20.0
    gradient: float = 0.05
    x: float = 8.0
    y: float = -6.0

    def observed_fwhm(self, beam: float) -> float:
        """FWHM (arcsec) of the cloud seen by a Gaussian beam (arcsec)."""
        return float(np.hypot(self.fwhm, beam))

    def spectrum_k(self, x: FloatArray, y: FloatArray, velocity: FloatArray, beam: float) -> FloatArray:
        """T_A* seen by a Gaussian beam at offsets [n] and velocities [channels]: shape [channels, n].

        Exact for Gaussians: the beam dilutes the peak by (fwhm / observed)^2, shrinks the apparent gradient by the
        same factor, and
        widens the line by the velocities that it hides.
        """
        observed = self.observed_fwhm(beam)
        shrink = (self.fwhm / observed) ** 2
        radius2 = (x - self.x) ** 2 + (y - self.y) ** 2
        column = self.peak_k * shrink * np.exp(-radius2 * FWHM_PER_SIGMA**2 / (2 * observed**2))
        hidden = self.gradient * self.fwhm / FWHM_PER_SIGMA * np.sqrt(1.0 - shrink)
        intrinsic = self.width / FWHM_PER_SIGMA
        sigma = np.hypot(intrinsic, hidden)
        centre = self.velocity + self.gradient * shrink * (x - self.x)
        return (column * intrinsic / sigma) * np.exp(-((velocity[:, None] - centre) ** 2) / (2 * sigma**2))

    def map_integral(self) -> float:
        """Integral over the map and the line, K km/s arcsec^2: does not depend on the beam."""
        return float(self.peak_k * self.width * GAUSSIAN_AREA * GAUSSIAN_AREA**2 * self.fwhm**2)

    def position_integral(self, x: float, y: float, beam: float) -> float:
        """Integrated intensity (K km/s) seen by the beam at one offset."""
        observed = self.observed_fwhm(beam)
        dilution = (self.fwhm / observed) ** 2 * np.exp(
            -((x - self.x) ** 2 + (y - self.y) ** 2) * FWHM_PER_SIGMA**2 / (2 * observed**2)
        )
        return float(self.peak_k * dilution * self.width * GAUSSIAN_AREA)


@attrs.frozen
class BaselineShape:
    """Residual baseline of one spectrum: K at each order of a polynomial on [-1, 1], plus a standing wave.

    polynomial_k: rms of the coefficients, lowest order first; ripple_k: amplitude and ripple_cycles: periods over
    the window.
    """

    polynomial_k: tuple[float, ...] = ()
    ripple_k: float = 0.0
    ripple_cycles: float = 2.0

    def draw(self, rng: np.random.Generator, channels: int, count: int) -> FloatArray:
        """`count` independent baselines: [channels, count] K."""
        axis = np.linspace(-1.0, 1.0, channels)
        shape = np.zeros((channels, count))
        for order, rms in enumerate(self.polynomial_k):
            shape += rms * axis[:, None] ** order * rng.standard_normal(count)
        if self.ripple_k:
            shape += self.ripple_k * np.sin(
                np.pi * self.ripple_cycles * axis[:, None] + rng.uniform(0, 2 * np.pi, count)
            )
        return shape


def gain_drift(
    rng: np.random.Generator, time_s: FloatArray, rms: float, correlation_s: float, shape: Sequence[int]
) -> FloatArray:
    """Relative gain of shape [*shape, times]: 1 + Ornstein-Uhlenbeck noise of the given rms and correlation time.

    The times must ascend; steps may differ (exact update of the process for each step).
    """
    time = np.asarray(time_s, float)
    keep = np.exp(-np.diff(time) / correlation_s)
    kick = rng.standard_normal((*shape, len(time)))
    state = np.empty_like(kick)
    state[..., 0] = kick[..., 0]
    for k in range(1, len(time)):
        state[..., k] = keep[k - 1] * state[..., k - 1] + np.sqrt(1.0 - keep[k - 1] ** 2) * kick[..., k]
    return 1.0 + rms * state
