"""Which windows are Hanning-smoothed."""

from __future__ import annotations

from pl_hifv.heuristics.smoothing import Window, decide, maser_near


def chosen(*windows, **options):
    return {s.spw: (s.smooth, s.reason) for s in decide(windows, **options)}


def line(id_, low, high):
    return Window(id=id_, line=True, low_hz=low, high_hz=high)


def test_continuum_is_smoothed_and_lines_are_not():
    found = chosen(Window(id=0, line=False), line(1, 1.419e9, 1.422e9))
    assert found == {0: (True, "continuum"), 1: (False, "spectral line")}


def test_a_maser_inside_the_window_rings():
    assert maser_near(22.23e9, 22.24e9) == "H2O 22.2 GHz"
    assert chosen(line(0, 22.23e9, 22.24e9))[0][0]
    assert not chosen(line(0, 22.23e9, 22.24e9), maser_detection=False)[0][0]


def test_the_velocity_window_reaches_200_km_s_beyond_the_edges():
    # 22.23508 GHz at 200 km/s is 22.23508 * 200 / 299792.458 = 14.83 MHz away.
    assert maser_near(22.24e9, 22.26e9) and maser_near(22.2499e9, 22.26e9)
    assert not maser_near(22.2500e9, 22.26e9)


def test_methanol_at_12_ghz_is_where_nature_puts_it():
    assert maser_near(12.17e9, 12.18e9) == "CH3OH 12.2 GHz"
    assert maser_near(1.2170e9, 1.2180e9) == ""


def test_online_averaging_of_one_window_leaves_all_as_they_are():
    found = chosen(Window(id=0, line=False, online_binning=2), Window(id=1, line=False))
    assert not found[0][0] and not found[1][0]
    assert "online" in found[1][1]


def test_a_choice_of_the_user_holds_as_it_is():
    found = chosen(Window(id=0, line=False), line(1, 1e9, 1.1e9), chosen=[1])
    assert (found[0][0], found[1][0]) == (False, True)


def test_an_unknown_frame_tells_nothing_of_masers():
    assert not chosen(Window(id=0, line=True))[0][0]


def test_what_the_import_stage_decided_holds_in_later_stages():
    """specline_spws='none' of an old recipe: narrow windows are continuum in every stage, and so they are smoothed."""
    from types import SimpleNamespace as Made

    from pl_hifv import solves
    from pl_hifv.lines import KEY
    from pl_hifv.stages.hanning import _windows

    narrow = Made(
        id=3, band="X", min_hz=8.4e9, bandwidth_hz=4e6, n_channels=256, online_binning=1, frame=None
    )  # fmt: skip
    ms = Made(name="a.ms", origin="", spws=[narrow], science_spws=[narrow])
    for decided, line in (({}, True), ({"a.ms": []}, False), ({"a.ms": [3]}, True)):
        ctx = Made(value=lambda key, default=None, given=decided: given if key == KEY else default)
        assert solves.line_windows(ctx, ms, (3,)) == ((3,) if line else ())
        (window,) = _windows(ctx, ms, masers=False)
        assert window.line is line
