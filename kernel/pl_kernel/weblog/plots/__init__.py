"""The plot toolkit: numpy arrays in, one quiet and readable picture out.

Every function writes one picture to ``path`` and needs no CASA and no display.  Matplotlib is used through its
objects, never through pyplot, so that plots can be drawn side by side in processes and threads and nothing is
left behind.  Pictures are light panels with dark ink: they read on a light page, on a dark one, and on paper.

Conventions
    frequencies in Hz, times in seconds of MJD (UTC, as in a measurement set), positions in metres, phases in degrees
    on the axes; ``flags`` are True where data are bad, and flagged points are not drawn.
    Colours are those of Okabe & Ito (2008), told apart with all common kinds of colour blindness.
"""

from pl_kernel.weblog.plots.array import (
    ScanBar,
    antenna_map,
    bars,
    elevation,
    matrix,
    timeline,
    uv_coverage,
)
from pl_kernel.weblog.plots.series import (
    Panel,
    amp_phase_vs_frequency,
    amp_phase_vs_time,
    scatter,
    scatter_grid,
    spectrum,
    vs_frequency,
    vs_time,
)
from pl_kernel.weblog.plots.sky import (
    SkyFrame,
    fit_noise,
    histogram,
    image_panel,
    image_statistics,
    robust_rms,
)
from pl_kernel.weblog.plots.style import (
    BAD,
    DIVERGING,
    DPI,
    GOOD,
    GRID,
    INK,
    MUTED,
    PALETTE,
    PANEL,
    SEQUENTIAL,
    STYLE,
    colours,
    draw_points,
    figure,
    kept_figure,
    legend,
    mjd_seconds_to_dates,
    time_axis,
    titles,
)

__all__ = [
    "BAD",
    "DIVERGING",
    "DPI",
    "GOOD",
    "GRID",
    "INK",
    "MUTED",
    "PALETTE",
    "PANEL",
    "SEQUENTIAL",
    "STYLE",
    "Panel",
    "ScanBar",
    "SkyFrame",
    "amp_phase_vs_frequency",
    "amp_phase_vs_time",
    "antenna_map",
    "bars",
    "colours",
    "draw_points",
    "elevation",
    "figure",
    "fit_noise",
    "histogram",
    "image_panel",
    "image_statistics",
    "kept_figure",
    "legend",
    "matrix",
    "mjd_seconds_to_dates",
    "robust_rms",
    "scatter",
    "scatter_grid",
    "spectrum",
    "time_axis",
    "timeline",
    "titles",
    "uv_coverage",
    "vs_frequency",
    "vs_time",
]
