"""Draws the graph behind a Variable, so that a person understands it.

`walk` finds what is there, `picture` decides what of it becomes which box and arrow, `render` turns that into a file.
"""

from __future__ import annotations

from collections.abc import Collection

from ..variable import Variable
from .picture import Picture, Style
from .render import Drawing
from .walk import Graph


def draw(
    what: Variable | Collection[Variable] | BaseException,
    *,
    depth: int | None = None,
    time: str = "loop",
    open: bool | str | Collection[str] = False,
    show: str | Collection[str] = "shape",
    gradient: bool = False,
    rankdir: str = "BT",
    limit: int = 1000,
) -> Drawing:
    """Draw the graph behind a Variable: operations in boxes, parameters and other inputs in ellipses, layers as frames.

    It has to be drawn before `backward` frees it. Fused functions, which stand for a whole formula, are coloured, and
    so is what the backward under `create_graph=True` has recorded. An arrow along which a matrix is transposed says so.
    The pictures are those of *Deep Learning from Scratch 2* (fig. 5-20, 6-21 and 8-16).

    Args:
        what: the end of the graph, or several; or an exception, to see the graph up to the operation that failed, which
            is red (in a notebook, later: `draw(sys.last_value)`).
        depth: how many layers deep to look; what lies deeper is one box for each layer. None for all.
        time: what becomes of the steps of a loop over time (of a recurrent layer, or of a `scope(t)`): "loop" draws one
            for all in a frame with ×T, and dashes what goes from one step to the next; "ends" draws the first and the
            last; "all" draws all.
        open: the functions that are drawn as what they are defined by, in plain operations: their names, names of the
            layers that they are in, or True for all.
        show: what is written down besides names, of "shape", "dtype", "values" (of leaves and saved outputs) and
            "memory" (what is kept for backward, in B, kB, MB or GB).
        gradient: colour each box by the norm of the gradient that reaches it, on a logarithmic scale: a gradient that
            vanishes is seen to fade. Beside each arrow runs the one of the way back. No `grad` is touched.
        rankdir: where the graph grows to: "BT" (up), "TB", "LR" or "RL".
        limit: how many operations to draw at most; older ones become one box that says how many it stands for.

    Returns:
        A Drawing, which a notebook shows and `save` writes.

    Raises:
        ValueError: there is no graph: `what` is a leaf, was made under `no_grad`, or its graph was freed; it is an
            exception that no operation has raised; or `time`, `show` or `rankdir` is none of those named.
        TypeError: `what` is something else.

    Example:
        >>> import tinygrad_nlp as tn
        >>> x = tn.Variable([1.0, 2.0], requires_grad=True, name="x")
        >>> print(tn.draw((x * x).sum()).dot.source.count("->"))
        4
    """
    style = Style(depth, time, frozenset((show,) if isinstance(show, str) else show), gradient, limit)
    opened = open if isinstance(open, bool) else frozenset((open,) if isinstance(open, str) else open)
    return Drawing(Picture(Graph(what, opened, gradient), style), rankdir)


__all__ = ["Drawing", "draw"]
