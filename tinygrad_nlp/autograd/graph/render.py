"""Writes a picture as DOT text, and has it laid out. The only file that imports graphviz."""

from __future__ import annotations

import textwrap
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import graphviz

from ...files import replace_file
from .picture import Box, Frame, Picture
from .walk import Layer

# The Korean ones stand in where Helvetica has no Hangul.
_FONT = "Helvetica,Arial,Apple SD Gothic Neo,Malgun Gothic,Noto Sans CJK KR,sans-serif"
_GRAPH = {"fontname": _FONT, "fontsize": "10", "ranksep": "0.3", "nodesep": "0.22", "labeljust": "l"}
_NODE = {"fontname": _FONT, "fontsize": "11", "margin": "0.1,0.04", "height": "0.28", "width": "0.3"}
_EDGE = {"fontname": _FONT, "fontsize": "8", "fontcolor": "#666666", "arrowsize": "0.6"}
_BOX = {"shape": "box", "style": "rounded,filled"}
_ELLIPSE = {"shape": "ellipse", "style": "filled", "margin": "0.02,0.01"}
_LOOKS = {
    "operation": {**_BOX, "fillcolor": "white"},
    "fused": {**_BOX, "fillcolor": "#fde7c7", "color": "#d79b00"},
    "layer": {**_BOX, "fillcolor": "#f2f2f2", "color": "#999999"},
    "left out": {"shape": "box", "style": "rounded,dashed", "color": "#999999", "fontcolor": "#666666"},
    "failed": {**_BOX, "fillcolor": "#f8cecc", "color": "#d00000", "penwidth": "2"},
    "parameter": {**_ELLIPSE, "fillcolor": "#d5e8d4", "color": "#82b366"},
    "leaf": {**_ELLIPSE, "fillcolor": "#dae8fc", "color": "#6c8ebf"},
    "constant": {**_ELLIPSE, "fillcolor": "#f5f5f5", "color": "#999999"},
    "result": {**_ELLIPSE, "fillcolor": "#f8cecc", "color": "#b85450"},
}
_CIRCLE = {"shape": "circle", "style": "filled", "fixedsize": "true", "width": "0.3"}
_RECURRENT = {"color": "#b85450", "style": "dashed", "constraint": "false"}
_BACKWARD = "#2a6fdb"
_FRAME = {"style": "rounded", "color": "#aaaaaa", "fontcolor": "#555555", "labeljust": "l"}
_HEAT = ["#ffffff", "#fff0dc", "#fdd49e", "#fc9b6a", "#e8604c"]
_FAINTEST = 0.5  # of the scale, for arrows: a thin line that is lighter cannot be seen
# `dot` takes 7 s for the 422 nodes of a 35-step LSTM at its own limits, 0.15 s at these, and it looks the same.
_LARGE = {"nslimit": "1", "mclimit": "0.1"}
_LARGE_FROM = 150  # boxes
_one_at_a_time = threading.Lock()  # Graphviz, as a library, is not made for threads
_HUGE_FROM = 400  # boxes: labels on the arrows would take `dot` minutes


class Drawing:
    """A drawn graph: saves itself as SVG, PNG or PDF, and shows itself in a notebook.

    Args:
        picture: its boxes and arrows.
        rankdir: where it grows to: "BT", "TB", "LR" or "RL", as in Graphviz.

    Attributes:
        dot: the `graphviz.Digraph`; `str(drawing.dot)` is its text.

    Raises:
        ValueError: another `rankdir`.
    """

    def __init__(self, picture: Picture, rankdir: str) -> None:
        if rankdir not in ("BT", "TB", "LR", "RL"):
            raise ValueError(f"draw: rankdir is one of BT, TB, LR, RL, not {rankdir!r}")
        self.dot = _dot(picture, rankdir)

    def save(self, path: str | Path) -> Path:
        """Write the picture.

        It is laid out by the program `dot`, or where that is missing by pygraphviz; where both are, the DOT text is
        written beside, with the suffix .dot, and a line says what to do.

        Args:
            path: of the file; the suffix (.svg, .png, .pdf, .dot) says in which format. A file that is there is
                replaced.

        Returns:
            The path of what was written.

        Raises:
            ValueError: another suffix.
            OSError: the file cannot be written.
        """
        path = Path(path)
        form = path.suffix.removeprefix(".")
        if form not in {"svg", "png", "pdf", "dot"}:
            raise ValueError(f"a drawing is saved as .svg, .png, .pdf or .dot, not as {path.name!r}")
        picture = self.dot.source.encode() if form == "dot" else self._render(form)
        if picture is None:
            print(f'neither dot nor pygraphviz is here to draw {path}: install Graphviz, or "tinygrad_nlp[viz]"')
            path = path.with_suffix(".dot")
            picture = self.dot.source.encode()
        replace_file(path, picture)
        return path

    def _render(self, form: str) -> bytes | None:
        try:
            return self.dot.pipe(form)
        except graphviz.ExecutableNotFound:
            pass
        try:
            import pygraphviz
        except ImportError:
            return None
        with _one_at_a_time:
            return pygraphviz.AGraph(string=self.dot.source).draw(format=form, prog="dot")

    def _repr_mimebundle_(self, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> dict[str, str]:
        bundle = {"text/plain": self.dot.source}
        picture = self._render("svg")
        if picture is not None:
            bundle["image/svg+xml"] = picture.decode()
        return bundle


def _dot(picture: Picture, rankdir: str) -> graphviz.Digraph:
    """Nested frames first, with what lies in them, then the arrows."""
    dot = graphviz.Digraph(graph_attr={**_GRAPH, "rankdir": rankdir}, node_attr=_NODE, edge_attr=_EDGE)
    if len(picture.boxes) > _LARGE_FROM:
        dot.attr(**_LARGE)
    in_a_row = picture.style.time == "all" and len(picture.boxes) <= _LARGE_FROM
    if in_a_row:
        dot.attr(newrank="true")  # else frames of steps are laid one above the other
    huge = len(picture.boxes) > _HUGE_FROM
    if huge:
        picture.notes.append(f"{len(picture.boxes):,} boxes: the arrows are drawn without what flows along them")
    if picture.notes:
        lines = [line for note in picture.notes for line in textwrap.wrap(note, 100)]
        dot.attr(label="".join(_escape(line) + "\\l" for line in lines), labelloc="b")
    names = {key: f"n{i}" for i, key in enumerate(picture.boxes)}
    frames: dict[Frame, list[tuple[str, Box]]] = defaultdict(list)
    for key, box in picture.boxes.items():
        for depth in range(len(box.frame) + 1):
            frames[box.frame[:depth]]
        frames[box.frame].append((names[key], box))
    _write(dot, (), frames, picture, rankdir)
    shared = Counter(arrow.tail for arrow in picture.arrows)
    for arrow in picture.arrows:
        tail, head = picture.boxes[arrow.tail], picture.boxes[arrow.head]
        look = {"label": f" {_escape(arrow.label)}"} if arrow.label and not huge else {}
        if arrow.recurrent and (picture.style.time == "loop" or arrow.tail == arrow.head):
            look |= _RECURRENT
        elif arrow.recurrent and in_a_row:
            look |= {"weight": "8"}
        elif arrow.backward:
            look |= {"color": _BACKWARD}
        elif tail.kind in ("parameter", "constant"):
            look |= {"color": "#999999"}
        if tail.kind in ("parameter", "leaf", "constant") and shared[arrow.tail] > 1 and in_a_row:
            look |= {"weight": "0"}  # or else it would pull all that use it to its side
        if tail.heat is not None and tail.kind not in ("parameter", "leaf") and head.heat is not None:
            way_back = _colour(max(tail.heat, _FAINTEST))
            look |= {"dir": "both", "color": f"{look.get('color', 'black')}:{way_back}"}
        dot.edge(names[arrow.tail], names[arrow.head], **look)
    return dot


def _write(
    into: graphviz.Digraph, frame: Frame, frames: dict[Frame, list[tuple[str, Box]]], picture: Picture, rankdir: str
) -> None:
    """A frame: the boxes in it, and the frames."""
    for name, box in frames[frame]:
        into.node(name, _escape("\n".join(box.lines)), **_look(box))
    for number, inner in enumerate(frames):
        if inner and inner[:-1] == frame:
            with into.subgraph(name=f"cluster_{number}") as cluster:
                cluster.attr(**_frame(picture, inner, rankdir))
                _write(cluster, inner, frames, picture, rankdir)


def _look(box: Box) -> dict[str, str]:
    look = dict(_LOOKS[box.kind])
    if box.kind == "operation" and len(box.lines) == 1 and len(box.lines[0]) == 1:
        look |= _CIRCLE
    if box.backward:
        look |= {"color": _BACKWARD, "fontcolor": _BACKWARD}
    if box.heat is not None:
        look |= {"fillcolor": _colour(box.heat)}
    return look


def _frame(picture: Picture, frame: Frame, rankdir: str) -> dict[str, str]:
    name, outer = frame[-1], frame[-2:-1]
    look = {**_FRAME, "labelloc": "b" if rankdir == "BT" else "t"}
    if name is None:
        return {**look, "label": f"×{len(picture.steps[frame])}", "style": "rounded,dashed", "labeljust": "r"}
    if isinstance(name, int):
        return {**look, "label": f"t = {name}", "style": "rounded,dashed"}
    if name.kind == "definition":
        title = "" if [x.name for x in outer if isinstance(x, Layer)] == [name.name] else _escape(name.name)
        return {**look, "label": title, "style": "rounded,filled", "color": "#d79b00", "fillcolor": "#fffaf0"}
    if name.kind == "backward":
        return {**look, "label": name.name, "color": _BACKWARD, "fontcolor": _BACKWARD}
    return {**look, "label": _escape(name.name)}


def _colour(heat: float) -> str:
    """Between the colours of the scale."""
    position = heat * (len(_HEAT) - 1)
    low = min(int(position), len(_HEAT) - 2)
    pairs = zip(_channels(_HEAT[low]), _channels(_HEAT[low + 1]), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * (position - low)):02x}" for a, b in pairs)


def _channels(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def _escape(label: str) -> str:
    """A label as DOT takes it literally: backslashes are no commands, angle brackets no HTML, & no entities."""
    return graphviz.nohtml(label.replace("&", "&amp;").replace("\\", "\\\\").replace("\n", "\\n"))
