"""Attention maps: where in the input a model looked as it wrote each symbol of its output."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from .style import PALETTE, style

_SPACE = "␣"

# Inches.
_CELL = 0.17  # holds a letter of 8 points
_LETTER = 0.08  # the width of a letter in a label of 8 points
_MARGIN = 0.45  # around a map, with its title
_BAR = 0.75  # the colour bar
_LOWEST = 1.4  # for the words beside the colour bar
_PAGE = 7.0

# From white, so that what gets no attention is empty paper; matplotlib's "Blues" begins with a light blue.
_COLORS = LinearSegmentedColormap.from_list("attention", ["white", PALETTE[0], "#001F33"])


def attention_map(
    weights: np.ndarray, inputs: str | Sequence[str], outputs: str | Sequence[str], title: str | None = None
) -> Figure:
    """Draw the attention weights of one sequence (*Deep Learning from Scratch 2*, ch. 8, fig. 8-27).

    Input symbols stand along the x axis, output symbols along the y axis, from top to bottom. White is a weight of 0
    and the darkest blue a weight of 1, in every picture alike. A space is written `␣`.

    Args:
        weights: (T_out, T_in), of any real dtype, in [0, 1]; row i says where the model looked as it wrote output
            symbol i. For a model that reads its input reversed, turn them around first: `weights[:, ::-1]`.
        inputs: the T_in input symbols, one or more: a string of letters, or a list of words.
        outputs: the T_out output symbols, likewise.
        title: of the map; none by default.

    Returns:
        The figure, as large as letters of 8 points need.

    Raises:
        ValueError: the shape of the weights is not (T_out, T_in), or there are no symbols.

    Example:
        >>> figure = attention_map(np.eye(3), "abc", ["x", "y", "z"])
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['x', 'y', 'z']
    """
    return attention_maps([weights], [inputs], [outputs], None if title is None else [title])


def attention_maps(
    weights: Sequence[np.ndarray],
    inputs: Sequence[str | Sequence[str]],
    outputs: Sequence[str | Sequence[str]],
    titles: Sequence[str] | None = None,
) -> Figure:
    """Draw a sheet of attention maps: several sequences, or the heads of one.

    As many maps stand side by side as a page holds with readable letters.

    Args:
        weights: of each map, (T_out, T_in), as in `attention_map`.
        inputs: the input symbols of each map.
        outputs: the output symbols of each map.
        titles: of each map; none by default.

    Returns:
        The figure, 7 inches wide at most, or as wide as its widest map, with the maps row by row and then the colour
        bar.

    Raises:
        ValueError: there are no maps or no symbols, the lists have different lengths, or the shape of a map's weights
            is not (T_out, T_in).

    Example:
        >>> figure = attention_maps([np.eye(2), np.eye(3)], ["ab", "abc"], ["ab", "abc"])
        >>> len(figure.axes)  # two maps and the colour bar
        3
    """
    titles = [""] * len(weights) if titles is None else titles
    if not len(weights) == len(inputs) == len(outputs) == len(titles):
        raise ValueError(
            f"every map needs its weights, inputs, outputs and title; "
            f"got {len(weights)}, {len(inputs)}, {len(outputs)} and {len(titles)} of them"
        )
    if len(weights) == 0:
        raise ValueError("there are no maps to draw")

    # Words among the input symbols stand upright, so they need height where those of the output need width.
    width = max(map(len, inputs)) * _CELL + _longest(outputs) * _LETTER + _MARGIN
    height = max(map(len, outputs)) * _CELL + _longest(inputs) * _LETTER + _MARGIN
    columns = min(len(weights), max(1, int((_PAGE - _BAR) / width)))
    rows = math.ceil(len(weights) / columns)
    with style():
        figure = Figure(figsize=(columns * width + _BAR, max(rows * height, _LOWEST)))
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(weights) :]:
            axes.remove()
        used = list(grid.flat[: len(weights)])
        for i, axes in enumerate(used):
            _draw(axes, weights[i], inputs[i], outputs[i], titles[i])
        bar = figure.colorbar(used[0].images[0], ax=used, shrink=0.8 / rows, aspect=12, ticks=[0, 0.5, 1])
        for axes in used:  # to the left, where their labels have room; the colour bar pulls them to the right
            axes.set_anchor("W")
        bar.outline.set_visible(False)
        bar.set_label("attention weight")
    return figure


def _longest(sequences: Sequence[str | Sequence[str]]) -> int:
    """The number of letters in the longest symbol."""
    return max(len(symbol) for symbols in sequences for symbol in symbols)


def _draw(
    axes: Axes, weights: np.ndarray, inputs: str | Sequence[str], outputs: str | Sequence[str], title: str
) -> None:
    """One map."""
    weights = np.asarray(weights)
    if weights.shape != (len(outputs), len(inputs)):
        raise ValueError(
            f"attention weights must have the shape (output symbols, input symbols) = "
            f"{(len(outputs), len(inputs))}, got {weights.shape}"
        )
    axes.imshow(weights, cmap=_COLORS, vmin=0, vmax=1, aspect="equal")
    words = any(len(symbol) > 1 for symbol in inputs)
    axes.set_xticks(range(len(inputs)), _labels(inputs), rotation=90 if words else 0)
    axes.set_yticks(range(len(outputs)), _labels(outputs))
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        if label.get_text() == _SPACE:
            label.set_color("#AAAAAA")
    # Thin lines between the cells, so that the eye can follow a row or a column to its letter.
    axes.set_xticks(np.arange(len(inputs) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(outputs) + 1) - 0.5, minor=True)
    axes.grid(visible=False, which="major")
    axes.grid(visible=True, which="minor", color="#EEEEEE", linewidth=0.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(title)


def _labels(symbols: str | Sequence[str]) -> list[str]:
    """The symbols, with a sign in the place of a space, and none of matplotlib's formulas between $ and $."""
    return [symbol.replace(" ", _SPACE).replace("$", r"\$") for symbol in symbols]
