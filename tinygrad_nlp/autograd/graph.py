"""Draws the graph behind a Variable, so that a person understands it. The only file that imports graphviz."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import graphviz

from .engine import Leaf, Node, Output
from .function import Function, Fused
from .variable import Variable

_GRAPH = {"rankdir": "BT", "fontname": "Helvetica", "fontsize": "11", "ranksep": "0.35", "nodesep": "0.3"}
_NODE = {"fontname": "Helvetica", "fontsize": "11", "margin": "0.12,0.05", "height": "0.3"}
_EDGE = {"fontname": "Helvetica", "fontsize": "9", "fontcolor": "#555555", "arrowsize": "0.7"}
_OPERATION = {"shape": "box", "style": "rounded,filled", "fillcolor": "white"}
_FUSED = {"shape": "box", "style": "rounded,filled", "fillcolor": "#fde7c7"}
_PARAMETER = {"shape": "ellipse", "style": "filled", "fillcolor": "#d5e8d4", "color": "#82b366"}
_LEAF = {"shape": "ellipse", "style": "filled", "fillcolor": "#dae8fc", "color": "#6c8ebf"}
_RESULT = {"shape": "ellipse", "style": "filled", "fillcolor": "#f8cecc", "color": "#b85450"}
_RECURRENT = {"color": "#b85450", "style": "dashed"}
# `dot` takes 7 s for the 422 nodes of a 35-step LSTM at its own limits, 0.15 s at these, and it looks the same.
_LARGE = {"nslimit": "1", "mclimit": "0.1"}
_LARGE_FROM = 150  # nodes

Key = tuple[Any, ...]


class Drawing:
    """A drawn graph: saves itself as SVG, PNG or PDF, and shows itself in a notebook.

    Attributes:
        dot: the `graphviz.Digraph`; `str(drawing.dot)` is its text.
    """

    def __init__(self, dot: graphviz.Digraph) -> None:
        self.dot = dot

    def save(self, path: str | Path) -> Path:
        """Write the picture; the suffix (.svg, .png, .pdf, .dot) says in which format.

        It is laid out by the program `dot`, or where that is missing by pygraphviz; where both are, the DOT text is
        written beside, with the suffix .dot, and a line says what to do.

        Returns:
            The path of what was written.
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
        path.write_bytes(picture)
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
        return pygraphviz.AGraph(string=self.dot.source).draw(format=form, prog="dot")

    def _repr_mimebundle_(self, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> dict[str, str]:
        bundle = {"text/plain": self.dot.source}
        picture = self._render("svg")
        if picture is not None:
            bundle["image/svg+xml"] = picture.decode()
        return bundle


def draw(y: Variable | tuple[Variable, ...], *, collapse_time: bool = True) -> Drawing:
    """Draw the graph behind a Variable: operations in boxes, parameters and other leaves in ellipses, layers as frames.

    It has to be drawn before `backward` frees it. Fused functions, which stand for a whole formula, are coloured. Edges
    carry the shapes of what flows along them.

    Args:
        y: the end of the graph, or several.
        collapse_time: draw the time steps of a layer (or of a `scope(t)`) once, with ×T; what goes from one step to the
            next is dashed.

    Raises:
        ValueError: there is no graph: `y` is a leaf, was made under `no_grad`, or its graph was freed.

    Example:
        >>> import tinygrad_nlp as tn
        >>> x = tn.Variable([1.0, 2.0], requires_grad=True, name="x")
        >>> print(tn.draw((x * x).sum()).dot.source.count("->"))
        3
    """
    ys = (y,) if isinstance(y, Variable) else tuple(y)
    functions, leaves = _walk([variable.node for variable in ys])
    if any(variable.creator is None for variable in ys) or any(function.edges is None for function in functions):
        raise ValueError(
            "draw: there is no graph behind this Variable; it is a leaf, was made under no_grad(), or backward "
            "freed the graph (draw before, or pass retain_graph=True)"
        )
    keys = _keys(functions, collapse_time)
    return Drawing(_Picture(ys, functions, leaves, keys).dot)


def _walk(roots: Iterable[Node]) -> tuple[list[Function], list[Leaf]]:
    """All Functions, oldest first, and all leaves."""
    stack, found = list(roots), dict[Node, None]()
    while stack:
        node = stack.pop()
        node = node.function if isinstance(node, Output) else node
        if node is None or node in found:
            continue
        found[node] = None
        if isinstance(node, Function):
            stack.extend(reversed(node.edges or ()))
    functions = sorted((node for node in found if isinstance(node, Function)), key=lambda node: node.order)
    return functions, [node for node in found if isinstance(node, Leaf)]


def _keys(functions: list[Function], collapse_time: bool) -> dict[Function, Key]:
    """What each Function is drawn as: those that do the same thing in different time steps share a key."""
    keys: dict[Function, Key] = {}
    position: Counter[tuple[Any, ...]] = Counter()
    for function in functions:
        path = function.scope.path() if function.scope is not None else ()
        if collapse_time and any(isinstance(name, int) for name in path):
            keys[function] = (*_layers(path), position[path], function.name)
            position[path] += 1
        else:
            keys[function] = (function,)
    return keys


def _layers(path: tuple[str | int, ...]) -> tuple[str, ...]:
    return tuple(name for name in path if isinstance(name, str))


class _Picture:
    """Builds the DOT text: nested frames first, then what lies in them, then the edges."""

    def __init__(
        self, ys: tuple[Variable, ...], functions: list[Function], leaves: list[Leaf], keys: dict[Function, Key]
    ) -> None:
        self.keys = keys
        self.names = {key: f"n{i}" for i, key in enumerate(dict.fromkeys(keys.values()))}
        self.dot = graphviz.Digraph(graph_attr=_GRAPH, node_attr=_NODE, edge_attr=_EDGE)
        if len(self.names) + len(leaves) > _LARGE_FROM:
            self.dot.attr(**_LARGE)
        self.frames: dict[tuple[str, ...], list[tuple[str, str, dict[str, str]]]] = defaultdict(list)
        times = Counter(keys.values())
        for function in functions:
            key = keys[function]
            if times[key]:
                look = _FUSED if isinstance(function, Fused) else _OPERATION
                count = _steps(function) or times[key]
                repeat = f" ×{count}" if count > 1 else ""
                path = _layers(function.scope.path()) if function.scope is not None else ()
                self._place(path, self.names[key], function.name + repeat, look)
                times[key] = 0
        self._leaves(functions, leaves)
        for i, y in enumerate(ys):
            self._place((), f"y{i}", f"{y.name or 'y'}\n{_shape(y)}".rstrip(), _RESULT)
        self._frame(self.dot, ())
        self._edges(functions, ys)

    def _place(self, path: tuple[str, ...], name: str, label: str, look: dict[str, str]) -> None:
        for depth in range(len(path) + 1):
            self.frames[path[:depth]]
        self.frames[path].append((name, label, look))

    def _leaves(self, functions: list[Function], leaves: list[Leaf]) -> None:
        """A leaf lies in the innermost frame that holds all its uses."""
        users: dict[Leaf, list[tuple[str, ...]]] = defaultdict(list)
        for function in functions:
            for edge in function.edges or ():
                if isinstance(edge, Leaf):
                    users[edge].append(_layers(function.scope.path()) if function.scope is not None else ())
        self.leaf_names = {leaf: f"leaf{i}" for i, leaf in enumerate(leaves)}
        for leaf in leaves:
            variable = leaf.variable()
            name = variable.name if variable is not None and variable.name else "leaf"
            path = _common(users[leaf])
            look = _LEAF if type(variable) in (Variable, type(None)) else _PARAMETER
            self._place(path, self.leaf_names[leaf], f"{name}\n{_shape(leaf)}", look)

    def _frame(self, dot: graphviz.Digraph, path: tuple[str, ...]) -> None:
        for name, label, look in self.frames[path]:
            dot.node(name, _escape(label), **look)
        for number, inner in enumerate(self.frames):
            if len(inner) != len(path) + 1 or inner[:-1] != path:
                continue
            with dot.subgraph(name=f"cluster_{number}") as frame:
                frame.attr(label=_escape(inner[-1]), color="#999999", style="rounded", labeljust="l", labelloc="b")
                self._frame(frame, inner)

    def _edges(self, functions: list[Function], ys: tuple[Variable, ...]) -> None:
        drawn: set[tuple[str, str, bool]] = set()
        for function in functions:
            head = self.names[self.keys[function]]
            for edge in function.edges or ():
                source = edge.function if isinstance(edge, Output) else edge
                if source is None:
                    continue
                tail = self.leaf_names[source] if isinstance(source, Leaf) else self.names[self.keys[source]]
                recurrent = isinstance(source, Function) and _is_next_step(_step(source), _step(function))
                if (tail, head, recurrent) not in drawn:
                    drawn.add((tail, head, recurrent))
                    label = {} if isinstance(source, Leaf) else {"label": f" {_shape(edge)}"}
                    self.dot.edge(tail, head, **label, **({**_RECURRENT, "constraint": "false"} if recurrent else {}))
            if (_steps(function) or 1) > 1 and (head, head, True) not in drawn:
                drawn.add((head, head, True))
                self.dot.edge(head, head, **_RECURRENT)
        for i, y in enumerate(ys):
            self.dot.edge(self.names[self.keys[y.creator]], f"y{i}")


def _step(function: Function) -> tuple[str | int, ...]:
    """The path to the innermost time step around a Function: the loop, and the number of the step; () outside loops."""
    path = function.scope.path() if function.scope is not None else ()
    while path and not isinstance(path[-1], int):
        path = path[:-1]
    return path


def _is_next_step(step: tuple[str | int, ...], other: tuple[str | int, ...]) -> bool:
    """Whether these are two steps of one loop."""
    return step != other and step[:-1] == other[:-1] and bool(step) and bool(other)


def _steps(function: Function) -> int | None:
    return function.steps if isinstance(function, Fused) else None


def _common(paths: list[tuple[str, ...]]) -> tuple[str, ...]:
    first, last = min(paths), max(paths)
    shared = 0
    while shared < min(len(first), len(last)) and first[shared] == last[shared]:
        shared += 1
    return first[:shared]


def _escape(label: str) -> str:
    """A label as DOT takes it literally: backslashes are no commands, angle brackets no HTML."""
    return graphviz.nohtml(label.replace("\\", "\\\\").replace("\n", "\\n"))


def _shape(node: Any) -> str:
    return "×".join(map(str, node.shape)) if node.shape else ""
