"""Learning curves: how loss and metrics went while a model was trained."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .style import PALETTE, style

# A series with more points than this is drawn faint, under its moving average over 1/50 of its points.
_DENSE = 100


def learning_curve(
    history: Mapping[str, Sequence[Sequence[float]]], title: str | None = None, x_label: str = "epoch"
) -> Figure:
    """Draw the series of a training run, one panel for each quantity, over one common x axis.

    The quantity is the last word of a series' name: "loss" and "validation loss" share a panel, "test_accuracy" has
    another. Losses come first. A series of more than 100 points, such as the loss of every step, is drawn faint, under
    its centred moving average over a fiftieth of its points.

    Args:
        history: for each name its points (x, value), as in `Trainer.history`; x is the time in the unit of `x_label`.
            Words in a name are parted by spaces, `_` or `/`. A name without points is left out.
        title: of the figure; none by default.
        x_label: what x counts, such as "epoch" or "step".

    Returns:
        The figure, 6 inches wide and 0.4 + 2.2 for each panel high, with the panels from top to bottom.

    Raises:
        ValueError: the history has no points.

    Example:
        >>> losses = [(step / 100, 1 / (1 + step)) for step in range(300)]
        >>> figure = learning_curve({"loss": losses, "accuracy": [(1, 0.5), (2, 0.9), (3, 0.99)]})
        >>> [axes.get_ylabel() for axes in figure.axes]
        ['loss', 'accuracy']
    """
    panels: dict[str, dict[str, np.ndarray]] = {}
    for name, points in sorted(history.items(), key=lambda item: _quantity(item[0]) != "loss"):
        if len(points):
            panels.setdefault(_quantity(name), {})[name] = np.asarray(points, dtype=np.float64).T
    if not panels:
        raise ValueError("the history has no points to draw")

    with style():
        figure = Figure(figsize=(6.0, 0.4 + 2.2 * len(panels)))
        all_axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
        for axes, (quantity, series) in zip(all_axes, panels.items(), strict=True):
            for i, (name, (x, y)) in enumerate(series.items()):
                color = PALETTE[i % len(PALETTE)]
                label = re.sub("[_/]", " ", name)
                if len(y) > _DENSE:
                    axes.plot(x, y, color=color, alpha=0.25, linewidth=0.6)
                    axes.plot(x, _moving_average(y, len(y) // 50 | 1), color=color, label=label)
                else:
                    axes.plot(x, y, color=color, marker="o", markersize=3, label=label)
            axes.set_ylabel(quantity)
            if quantity == "accuracy" and all(np.nanmax(y) <= 1 for _, y in series.values()):  # no percentages
                bottom, top = axes.get_ylim()
                axes.set_ylim(max(bottom, 0), min(top, 1))
                for line in axes.lines:
                    line.set_clip_on(False)  # a point at 1 is drawn whole
            if len(series) > 1:
                axes.legend()
        all_axes[-1].set_xlim(left=0)
        all_axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
        all_axes[-1].set_xlabel(x_label)
        if title is not None:
            figure.suptitle(title)
    return figure


def _quantity(name: str) -> str:
    """The last word of a series' name."""
    return re.split("[ _/]", name)[-1]


def _moving_average(values: np.ndarray, width: int) -> np.ndarray:
    """The mean of the `width` (odd) values around each value; at the ends, of those that exist."""
    window = np.ones(width)
    return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")
