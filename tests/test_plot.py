"""The pictures: what is drawn, and that it is drawn without touching matplotlib's global state."""

import datetime
import doctest
import errno
import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="pictures need matplotlib (the extra viz)")

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tinygrad_nlp import plot

QUESTION, ANSWER = "AUGUST 19, 2003", "2003-08-19"


@pytest.mark.parametrize("name", ["attention", "boundary", "curves", "lines", "segments", "style", "zipf"])
def test_docstring_examples(name):
    module = importlib.import_module(f"tinygrad_nlp.plot.{name}")
    assert doctest.testmod(module, extraglobs={"np": np}).failed == 0


def _texts(labels):
    return [label.get_text() for label in labels]


def test_pictures_leave_matplotlib_alone():
    # To read the setting "backend" is to choose one, so it is left out.
    code = """
import io, sys, matplotlib, numpy as np
settings = lambda: {name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != "backend"}
before = settings()
from tinygrad_nlp import plot
plot.learning_curve({"loss": [(0, 1), (1, 0)]}).savefig(io.BytesIO())
plot.attention_map(np.eye(2), "ab", "ab").savefig(io.BytesIO())
assert "matplotlib.pyplot" not in sys.modules
assert settings() == before
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=Path(__file__).parents[1])


# --- curves ------------------------------------------------------------------------------------------------


def test_learning_curve_smooths_a_dense_series_only():
    steps = [(step / 100, 1.0 + (-1) ** step) for step in range(400)]
    figure = plot.learning_curve({"test accuracy": [(1, 0.5), (2, 0.9)], "loss": steps}, title="run")
    loss, accuracy = figure.axes
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("loss", "accuracy")
    assert accuracy.get_xlabel() == "epoch"
    faint, smooth = loss.lines
    assert np.array_equal(faint.get_ydata(), [value for _, value in steps])
    np.testing.assert_allclose(
        smooth.get_ydata(), 1, atol=0.34
    )  # of the 3 to 7 points of a mean, one too many is 0 or 2
    (line,) = accuracy.lines
    assert np.array_equal(line.get_xydata(), [(1, 0.5), (2, 0.9)])


def test_learning_curve_counts_whole_epochs_from_0_and_accuracy_up_to_1():
    figure = plot.learning_curve({"accuracy": [(1, 0.5), (2, 0.9), (3, 1.0)]})
    (axes,) = figure.axes
    assert axes.get_xlim()[0] == 0
    assert all(tick == int(tick) for tick in axes.get_xticks())
    assert axes.get_ylim()[1] == 1
    percent = plot.learning_curve({"accuracy": [(1, 50), (2, 90)]})
    assert percent.axes[0].get_ylim()[1] > 90


def test_learning_curve_groups_by_quantity():
    history = {"train_loss": [(0, 2)], "valid/loss": [(0, 3)], "perplexity": [(0, 20)], "unused loss": []}
    figure = plot.learning_curve(history, x_label="step")
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "perplexity"]
    assert _texts(figure.axes[0].get_legend().get_texts()) == ["train loss", "valid loss"]
    assert figure.axes[1].get_xlabel() == "step"


def test_learning_curve_draws_around_nan(tmp_path):
    points = [(i, float("nan") if i == 150 else 1.0) for i in range(200)]
    figure = plot.learning_curve({"loss": points})
    assert np.flatnonzero(np.isnan(figure.axes[0].lines[1].get_ydata())).tolist() == [148, 149, 150, 151, 152]
    plot.save(figure, tmp_path / "curve.png")
    for empty in ({}, {"loss": []}):
        with pytest.raises(ValueError, match="no points"):
            plot.learning_curve(empty)


# --- attention ---------------------------------------------------------------------------------------------


def test_attention_map_has_input_along_x_and_output_along_y():
    weights = np.random.default_rng(0).dirichlet(np.ones(len(QUESTION)), size=len(ANSWER))
    figure = plot.attention_map(weights, QUESTION, ANSWER, title=QUESTION)
    axes = figure.axes[0]
    assert _texts(axes.get_xticklabels()) == list("AUGUST␣19,␣2003")
    assert _texts(axes.get_yticklabels()) == list(ANSWER)
    assert axes.get_title() == QUESTION
    assert np.array_equal(axes.images[0].get_array(), weights)
    assert axes.images[0].get_clim() == (0, 1)
    bottom, top = axes.get_ylim()
    assert bottom > top  # the first output symbol is at the top


def test_attention_labels_are_not_formulas(tmp_path):
    figure = plot.attention_map(np.eye(2), ["$x", "y$"], ["$a$", "_"])
    plot.save(figure, tmp_path / "map.png")
    figure.draw_without_rendering()
    assert _texts(figure.axes[0].get_xticklabels()) == [r"\$x", r"y\$"]


def test_labels_of_attention_maps_lie_within_the_picture():
    questions = ["8/14/80", "February 23, 2001"]
    figure = plot.attention_maps([np.ones((10, len(q))) for q in questions], questions, [ANSWER] * 2)
    figure.draw_without_rendering()
    maps = figure.axes[:2]
    assert min(label.get_window_extent().x0 for axes in maps for label in axes.get_yticklabels()) >= 0
    assert maps[0].get_window_extent().x0 == pytest.approx(maps[1].get_window_extent().x0)


def test_attention_maps_fit_a_page():
    dates = plot.attention_maps([np.ones((10, 29)) / 29] * 5, ["x" * 29] * 5, [ANSWER] * 5, ["title"] * 5)
    heads = plot.attention_maps([np.eye(8)] * 7, ["abcdefgh"] * 7, ["abcdefgh"] * 7)
    assert dates.axes[0].get_gridspec().get_geometry() == (5, 1)
    assert heads.axes[0].get_gridspec().get_geometry() == (3, 3)
    assert len(heads.axes) == 7 + 1
    for figure in (dates, heads):
        width, height = figure.get_size_inches()
        assert width <= 8.27  # A4
        assert height <= 11.69


def test_attention_refuses():
    with pytest.raises(ValueError, match=r"\(output symbols, input symbols\) = \(2, 3\), got \(3, 2\)"):
        plot.attention_map(np.ones((3, 2)), "abc", "ab")
    with pytest.raises(ValueError, match="got 2, 1, 1 and 2 of them"):
        plot.attention_maps([np.eye(2)] * 2, ["ab"], ["ab"])
    with pytest.raises(ValueError, match="no maps"):
        plot.attention_maps([], [], [])


# --- boundary ----------------------------------------------------------------------------------------------

X = np.array([[0, 0], [2, 0], [0, 1]], dtype=np.float32)
T = np.array([0, 1, 2])


def test_decision_boundary_paints_the_class_of_each_point():
    asked = []

    def predict(points):
        asked.append(points)
        return (points[:, 0] > 1).astype(np.int64)

    axes = plot.decision_boundary(predict, X, T, title="halves").axes[0]
    (points,) = asked
    assert points.dtype == np.float32
    np.testing.assert_allclose(points.min(axis=0), [-0.2, -0.1], rtol=1e-6)
    np.testing.assert_allclose(points.max(axis=0), [2.2, 1.1], rtol=1e-6)
    picture = axes.images[0].get_array()
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 2
    assert (picture[:, 0] == picture[0, 0]).all()
    assert (picture[:, -1] != picture[0, 0]).any()
    assert [tuple(marks.get_offsets()[0]) for marks in axes.collections] == [tuple(point) for point in X]


def test_decision_boundary_takes_scores():
    as_ids = plot.decision_boundary(lambda p: (p[:, 1] > p[:, 0]).astype(np.int64), X, T)
    as_scores = plot.decision_boundary(lambda p: p, X, T)
    assert np.array_equal(as_ids.axes[0].images[0].get_array(), as_scores.axes[0].images[0].get_array())


def test_decision_boundary_refuses():
    def zeros(points):
        return np.zeros(len(points), dtype=np.int64)

    with pytest.raises(ValueError, match=r"got \(3, 2\) and \(2,\)"):
        plot.decision_boundary(zeros, X, T[:2])
    with pytest.raises(ValueError, match=r"got \(3, 3\)"):
        plot.decision_boundary(zeros, np.ones((3, 3)), T)
    with pytest.raises(ValueError, match=r"for 160000 points, got \(3,\)"):
        plot.decision_boundary(lambda points: T, X, T)
    with pytest.raises(TypeError, match="predict's answer is float64"):
        plot.decision_boundary(lambda points: np.zeros(len(points)), X, T)


# --- style and files ---------------------------------------------------------------------------------------


def test_labels_use_installed_fonts_only():
    with plot.style():
        families = mpl.rcParams["font.family"]
    assert set(families) <= set(mpl.font_manager.get_font_names())
    assert mpl.rcParams["font.family"] != families


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_save_writes_by_suffix(tmp_path, suffix, magic):
    figure = plot.attention_map(np.eye(2), "ab", "ab")
    path = plot.save(figure, tmp_path / "new" / f"map{suffix}")
    assert path.read_bytes().startswith(magic)


def test_save_refuses(tmp_path):
    figure = plot.learning_curve({"loss": [(0, 1)]})
    with pytest.raises(ValueError, match=r"\.png, \.svg or \.pdf"):
        plot.save(figure, tmp_path / "curve.gif")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="cannot be written"):
        plot.save(figure, tmp_path / "file" / "curve.png")


def test_a_picture_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    figure = plot.learning_curve({"loss": [(0, 2), (1, 1)]})
    before = plot.save(figure, tmp_path / "curve.png").read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"curve\.png cannot be written \(No space left on device\)"):
        plot.save(figure, tmp_path / "curve.png")
    assert [path.name for path in tmp_path.iterdir()] == ["curve.png"]
    assert (tmp_path / "curve.png").read_bytes() == before


# --- Zipf's law --------------------------------------------------------------------------------------------


def test_zipf_draws_points_and_fit_on_logarithmic_axes():
    counts = 10_000 * np.arange(1, 3001) ** -0.9
    (axes,) = plot.zipf({"unigram": counts, "bigram": counts[:2]}, title="a law").axes
    assert (axes.get_xscale(), axes.get_yscale(), axes.get_title()) == ("log", "log", "a law")
    points, line = axes.lines[:2]
    assert len(points.get_xdata()) <= 500
    assert points.get_xdata()[0] == 1
    assert points.get_xdata()[-1] == 3000
    np.testing.assert_allclose(points.get_ydata(), 10_000 * points.get_xdata() ** -0.9)
    np.testing.assert_allclose(line.get_ydata(), points.get_ydata(), rtol=1e-6)
    assert _texts(axes.get_legend().get_texts()) == ["unigram, α = 0.90", "bigram, α = 0.90"]


def test_zipf_refuses_what_has_no_law():
    with pytest.raises(ValueError, match="no counts to draw"):
        plot.zipf({})
    with pytest.raises(ValueError, match="at least two counts are needed, got 0"):
        plot.zipf({"trigram": np.zeros(0)})


# --- lines and segments -----------------------------------------------------------------------------------------------


def test_lines_have_names_and_faint_ones_stand_behind():
    figure = plot.lines({"data": ([1, 2], [3, 4]), "fit": ([1, 2], [3.0, 3.5])}, "t", "x", faint=("data",), log_y=True)
    (axes,) = figure.axes
    data, fit = axes.lines
    assert data.get_zorder() < fit.get_zorder()
    assert data.get_color() == "#999999"
    assert np.array_equal(fit.get_ydata(), [3.0, 3.5])
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_yscale(), axes.get_xscale()) == ("t", "x", "log", "linear")
    assert _texts(axes.get_legend().get_texts()) == ["data", "fit"]


def test_a_band_lies_around_its_curve_in_its_colour():
    curves = {"one": ([1, 2], [3, 4]), "two": ([1, 2], [5, 6])}
    (axes,) = plot.lines(curves, "t", "x", bands={"two": ([4, 5.5], [6, 7])}).axes
    (band,) = axes.collections
    assert mpl.colors.to_hex(band.get_facecolor()[0]) == mpl.colors.to_hex(axes.lines[1].get_color())
    assert {tuple(point) for point in band.get_paths()[0].vertices} == {(1, 4), (1, 6), (2, 5.5), (2, 7)}
    assert _texts(axes.get_legend().get_texts()) == ["one", "two"]
    with pytest.raises(ValueError, match="bands around 'three', but there are no such curves"):
        plot.lines(curves, "t", "x", bands={"three": ([1, 2], [1, 2])})
    with pytest.raises(ValueError, match=r"the band of 'one' has \[2, 3\] y, and it 2 x"):
        plot.lines(curves, "t", "x", bands={"one": ([1, 2], [1, 2, 3])})


def test_lines_that_cannot_be_drawn_are_refused():
    with pytest.raises(ValueError, match="no curves"):
        plot.lines({}, "t", "x")
    with pytest.raises(ValueError, match="'fit' has 2 x and 3 y"):
        plot.lines({"fit": ([1, 2], [1, 2, 3])}, "t", "x")


def test_panels_have_common_axes_and_one_colour_for_a_name():
    data, fit, other = ([1, 2], [3, 4]), ([1, 2], [3.0, 9.0]), ([1, 2], [0.5, 1.0])
    figure = plot.panels(
        {"one": {"data": data, "a": fit}, "two": {"data": data, "b": other, "a": fit}, "three": {"b": other}},
        "t", "x", faint=("data",), log_y=True,
    )  # fmt: skip
    assert [axes.get_title() for axes in figure.axes] == ["one", "two", "three"]
    assert {axes.get_yscale() for axes in figure.axes} == {"log"}
    assert len({axes.get_ylim() for axes in figure.axes}) == len({axes.get_xlim() for axes in figure.axes}) == 1
    colors = {}
    for line in [line for axes in figure.axes for line in axes.lines]:
        colors.setdefault(line.get_label(), set()).add(line.get_color())
    assert colors == {"data": {"#999999"}, "a": {plot.PALETTE[0]}, "b": {plot.PALETTE[1]}}
    (legend,) = figure.legends
    assert _texts(legend.get_texts()) == ["data", "a", "b"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "t", "t"]  # those with nothing below
    assert [axes.get_ylabel() for axes in figure.axes] == ["x", "", "x"]


def test_panels_that_cannot_be_drawn_are_refused():
    for nothing in ({}, {"one": {}}):
        with pytest.raises(ValueError, match="panels: there are no curves to draw"):
            plot.panels(nothing, "t", "x")
    with pytest.raises(ValueError, match="panels: 'fit' has 2 x and 3 y"):
        plot.panels({"one": {"fit": ([1, 2], [1, 2, 3])}}, "t", "x")


def test_segments_lie_end_to_end():
    figure = plot.segments({"full": [6], "cut": [2, 4]}, title="BPTT")
    (axes,) = figure.axes
    starts = [(round(bar.get_y() + bar.get_height() / 2), bar.get_x()) for bar in axes.patches]
    assert starts == [(0, 0), (1, 0), (1, 2)]
    assert axes.get_xlim() == (0, 6)
    assert axes.yaxis_inverted()
    for rows in ({}, {"full": []}):
        with pytest.raises(ValueError, match="every row needs pieces"):
            plot.segments(rows)


# --- small pictures ---------------------------------------------------------------------------------------------------


def colours(figure):
    """How many pixels of a figure are not grey."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].astype(int)
    return int((np.ptp(pixels, axis=2) > 60).sum())


@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_the_words_beside_the_colour_bar_are_whole(size):
    figure = plot.attention_map(np.eye(size), ["a"] * size, ["b"] * size)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    label = figure.axes[-1].yaxis.label.get_window_extent()
    assert figure.bbox.y0 <= label.y0
    assert label.y1 <= figure.bbox.y1


@pytest.mark.parametrize("y", [[1.0], [1, np.nan, 2, np.nan, 3]])
def test_points_to_which_no_line_leads_are_seen(y):
    figure = plot.lines({"a": (range(len(y)), y)}, "x", "y")
    figure.axes[0].get_legend().remove()
    assert colours(figure) > 20 * np.isfinite(y).sum()


def test_lines_takes_dates():
    days = [datetime.date(2026, 1, day) for day in (1, 2, 3)]
    assert len(plot.lines({"a": ([1, 2, 3], days)}, "x", "day").axes[0].lines) == 1


def test_names_that_begin_with_an_underscore_stand_in_the_legend():
    for figure in (
        plot.lines({"_b": ([1, 2], [2, 1]), "c": ([1, 2], [1, 1])}, "x", "y"),
        plot.zipf({"_b": np.array([4, 2, 1]), "c": np.array([4, 2, 1])}),
    ):
        first, second = _texts(figure.axes[0].get_legend().get_texts())
        assert first.startswith("_b")
        assert second.startswith("c")
