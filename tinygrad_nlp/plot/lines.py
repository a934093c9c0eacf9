"""Curves over a common axis: forecasts, norms of gradients, costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .style import style


def lines(
    curves: Mapping[str, tuple[Sequence[float] | np.ndarray, Sequence[float] | np.ndarray]],
    x_label: str,
    y_label: str,
    *,
    faint: Sequence[str] = (),
    log_x: bool = False,
    log_y: bool = False,
    title: str | None = None,
) -> Figure:
    """Draw curves, each with its name in the legend.

    Args:
        curves: for each name x (L,) and y (L,), in any unit; a NaN leaves a gap. The axis of integers has no halves.
        x_label: of the axis, with its unit.
        y_label: likewise.
        faint: names of curves that stand behind the others, thin and grey, such as the data.
        log_x: whether the axis is logarithmic.
        log_y: likewise.
        title: of the figure; none by default.

    Returns:
        The figure, 6 inches wide and 3 high.

    Raises:
        ValueError: no curve, or x and y of different lengths.

    Example:
        >>> figure = lines({"x²": ([1, 2, 3], [1, 4, 9])}, "x", "y")
        >>> [label.get_text() for label in figure.axes[0].get_legend().get_texts()]
        ['x²']
    """
    if not curves:
        raise ValueError("lines: there are no curves to draw")
    with style():
        figure = Figure(figsize=(6.0, 3.0))
        axes = figure.subplots()
        for name, (x, y) in curves.items():
            if len(x) != len(y):
                raise ValueError(f"lines: {name!r} has {len(x)} x and {len(y)} y")
            look: dict[str, Any] = (
                {"color": "#999999", "linewidth": 0.6, "zorder": 1} if name in faint else {"linewidth": 1.0}
            )
            axes.plot(x, y, label=name, **look)
        if log_x:
            axes.set_xscale("log")
        elif all(np.asarray(x).dtype.kind == "i" for x, _ in curves.values()):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if log_y:
            axes.set_yscale("log")
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        if title is not None:
            axes.set_title(title)
    return figure
