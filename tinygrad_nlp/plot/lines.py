"""Curves over a common axis: forecasts, norms of gradients, costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .style import PALETTE, style

Curve = tuple[Sequence[float] | np.ndarray, Sequence[float] | np.ndarray]  # x and y


def lines(
    curves: Mapping[str, Curve],
    x_label: str,
    y_label: str,
    *,
    faint: Sequence[str] = (),
    bands: Mapping[str, tuple[Sequence[float] | np.ndarray, Sequence[float] | np.ndarray]] | None = None,
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
        bands: for names of curves the lower and the upper edge (L,) of a pale band around it, such as what several
            seeds gave; none by default.
        log_x: whether the axis is logarithmic.
        log_y: likewise.
        title: of the figure; none by default.

    Returns:
        The figure, 6 inches wide and 3 high.

    Raises:
        ValueError: no curve, x and y of different lengths, or a band of no curve or of another length.

    Example:
        >>> figure = lines({"x²": ([1, 2, 3], [1, 4, 9])}, "x", "y")
        >>> [label.get_text() for label in figure.axes[0].get_legend().get_texts()]
        ['x²']
    """
    if not curves:
        raise ValueError("lines: there are no curves to draw")
    edges = dict(bands or {})
    with style():
        figure = Figure(figsize=(6.0, 3.0))
        axes = figure.subplots()
        for name, curve in curves.items():
            _draw("lines", axes, name, curve, faint, None)
            if name in edges:
                x, (low, high) = curve[0], edges.pop(name)
                if not len(low) == len(high) == len(x):
                    raise ValueError(f"lines: the band of {name!r} has {[len(low), len(high)]} y, and it {len(x)} x")
                axes.fill_between(x, low, high, color=axes.lines[-1].get_color(), alpha=0.15, linewidth=0)
        if edges:
            raise ValueError(f"lines: bands around {', '.join(map(repr, edges))}, but there are no such curves")
        if log_x:
            axes.set_xscale("log")
        else:
            _whole_numbers(axes, curves)
        if log_y:
            axes.set_yscale("log")
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.legend(axes.lines, curves, loc="center left", bbox_to_anchor=(1.0, 0.5))  # a name may begin with "_"
        if title is not None:
            axes.set_title(title)
    return figure


def panels(
    pictures: Mapping[str, Mapping[str, Curve]],
    x_label: str,
    y_label: str,
    *,
    faint: Sequence[str] = (),
    log_y: bool = False,
) -> Figure:
    """Draw curves that would hide each other in panels with common axes, two in a row.

    Args:
        pictures: for the title of each panel its curves, as for `lines`; curves of one name have one colour, and one
            place in the legend.
        x_label: of the common axis, with its unit.
        y_label: likewise.
        faint: see `lines`.
        log_y: whether the axis is logarithmic.

    Returns:
        The figure, 6 inches wide and 0.4 + 2.2 for each row high.

    Raises:
        ValueError: no panel, one without curves, or x and y of different lengths.

    Example:
        >>> figure = panels({"up": {"x": ([1, 2], [1, 2])}, "down": {"x": ([1, 2], [2, 1])}}, "t", "x")
        >>> [axes.get_title() for axes in figure.axes]
        ['up', 'down']
    """
    if not pictures or not all(pictures.values()):
        raise ValueError("panels: there are no curves to draw")
    names = list(dict.fromkeys(name for curves in pictures.values() for name in curves))
    colors = {
        name: PALETTE[i % len(PALETTE)] for i, name in enumerate(name for name in names if name not in set(faint))
    }
    rows = -(-len(pictures) // 2)
    with style():
        figure = Figure(figsize=(6.0, 0.4 + 2.2 * rows))
        grid = figure.subplots(rows, min(2, len(pictures)), sharex=True, sharey=True, squeeze=False)
        for axes in grid.flat[len(pictures) :]:
            axes.remove()
        for axes, (title, curves) in zip(grid.flat, pictures.items(), strict=False):
            for name, curve in curves.items():
                _draw("panels", axes, name, curve, faint, colors.get(name))
            _whole_numbers(axes, curves)
            axes.set_title(title)
        if log_y:
            grid[0, 0].set_yscale("log")
        for i, axes in enumerate(figure.axes):
            axes.label_outer()
            if i % 2 == 0:
                axes.set_ylabel(y_label)
            if i + 2 >= len(pictures):
                axes.set_xlabel(x_label)
                axes.tick_params(labelbottom=True)
        lines_of_names = {line.get_label(): line for axes in figure.axes for line in axes.lines}
        figure.legend([lines_of_names[name] for name in names], names, loc="outside lower center", ncols=3)
    return figure


def _draw(caller: str, axes: Axes, name: str, curve: Curve, faint: Sequence[str], color: str | None) -> None:
    """One curve; without a colour in the next one of the palette."""
    x, y = curve
    if len(x) != len(y):
        raise ValueError(f"{caller}: {name!r} has {len(x)} x and {len(y)} y")
    look: dict[str, Any] = {"linewidth": 1.0} if color is None else {"linewidth": 1.0, "color": color}
    if name in faint:
        look = {"color": "#999999", "linewidth": 0.6, "zorder": 1}
    seen = np.array([value == value for value in y], bool)  # no NaN
    alone = seen & ~np.append(False, seen[:-1]) & ~np.append(seen[1:], False)  # no line leads to them
    axes.plot(x, y, label=name, marker="." if alone.any() else "", markevery=np.flatnonzero(alone).tolist(), **look)


def _whole_numbers(axes: Axes, curves: Mapping[str, Curve]) -> None:
    """An axis of integers has no halves."""
    if all(np.asarray(x).dtype.kind == "i" for x, _ in curves.values()):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
