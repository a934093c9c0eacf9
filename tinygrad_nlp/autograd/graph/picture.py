"""Decides what is drawn of a graph: which operations share a box, what is written on it, in which frames it lies."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...backend import asnumpy, is_array
from ..engine import Leaf, Node
from ..function import Function, Fused
from ..variable import Variable
from .walk import Graph, Input, Layer, Path, function_of, numbers

SYMBOLS = {
    "add": "+", "sub": "−", "mul": "×", "div": "÷", "neg": "−", "pow": "^", "sigmoid": "σ", "sum": "Σ",
    "getitem": "slice", "swapaxes": "transpose",
}  # fmt: skip
TIMES = ("loop", "ends", "all")
PARTS = ("shape", "dtype", "values", "memory")
_DECADES = 6  # a gradient this many powers of ten below the largest is white

Key = Hashable
Frame = tuple[Any, ...]  # a path in which None stands for all steps of a loop


@dataclass(frozen=True)
class Style:
    """What a drawing is asked to show.

    Args:
        depth, time, show, gradient, limit: as in `draw`.

    Raises:
        ValueError: `time` or a part of `show` is none of those that there are.
    """

    depth: int | None = None
    time: str = "loop"
    show: frozenset[str] = frozenset(("shape",))
    gradient: bool = False
    limit: int = 1000

    def __post_init__(self) -> None:
        if self.time not in TIMES:
            raise ValueError(f"draw: time is one of {', '.join(TIMES)}, not {self.time!r}")
        if unknown := self.show - set(PARTS):
            raise ValueError(f"draw: show takes {', '.join(PARTS)}, not {', '.join(map(repr, sorted(unknown)))}")


@dataclass
class Box:
    """A box or an ellipse.

    Attributes:
        kind: operation, fused, layer, parameter, leaf, constant, result, failed, or left out.
        frame: where it lies.
        lines: what is written on it.
        backward: whether a backward recorded it.
        heat: from 0 to 1 by the norm of the gradient; None where none arrives or none was asked for.
        weights: how many numbers the parameters hold that are not drawn, being inside.
        squares: the squared norms of the gradients that arrive at what it stands for.
        functions: the operations that it stands for.
    """

    kind: str
    frame: Frame
    lines: list[str] = field(default_factory=list)
    backward: bool = False
    heat: float | None = None
    weights: int = 0
    squares: list[float] = field(default_factory=list)
    functions: list[Function] = field(default_factory=list)


@dataclass(frozen=True)
class Arrow:
    """From a box to a box.

    Attributes:
        tail, head: the keys of the boxes.
        label: what flows: shape and dtype, as far as they are shown, and whether it is transposed.
        recurrent: whether it goes from one time step to the next.
        backward: whether a backward recorded it.
        again: tells apart what flows twice from one to the other, as in x * x; from 0.
    """

    tail: Key
    head: Key
    label: str = ""
    recurrent: bool = False  # from one time step to the next
    backward: bool = False
    again: int = 0


class Picture:
    """Boxes and arrows.

    Args:
        graph: what there is.
        style: what of it is shown.

    Attributes:
        boxes: by key.
        arrows: in the order in which they were found.
        steps: how many steps the frame of a loop stands for.
        notes: what is said below the picture.
    """

    def __init__(self, graph: Graph, style: Style) -> None:
        self.graph, self.style = graph, style
        self.boxes: dict[Key, Box] = {}
        self.arrows: dict[Arrow, None] = {}
        self.notes: list[str] = []
        self.paths = {f: graph.path(f) for f in graph.functions}
        self._loops()
        self.keys: dict[Function, Key] = {}
        self._operations()
        self._uses()
        for f in graph.functions:
            self._arrows_to(f)
        for i, (name, node) in enumerate(graph.ends):
            self.boxes[i] = Box("result", (), self._lines(name, node))
            if node is not None and (tail := self._key(Input(node))) in self.boxes:
                self.arrows[Arrow(tail, i)] = None
        if style.gradient:
            self._heat()
        if graph.error is not None:
            self.notes.append(f"{type(graph.error).__name__}: {graph.error}")

    # --- operations ---------------------------------------------------------------------------------------------------

    def _loops(self) -> None:
        """The numbers of the steps of each loop, by the path that leads to it."""
        self.loops: dict[Path, set[int]] = defaultdict(set)
        self.steps: dict[Frame, set[int]] = defaultdict(set)
        for path in set(self.paths.values()):
            for i, name in enumerate(path):
                if isinstance(name, int):
                    self.loops[path[:i]].add(name)

    def _place(self, path: Path, depth: int | None) -> tuple[Frame, Box | None]:
        """The frame of what was made in `path`, and the box that stands for all that is there, if one does."""
        frame: Frame = ()
        layers = 0
        for i, name in enumerate(path):
            if isinstance(name, int):
                loop = self.loops[path[:i]]
                if len(loop) > 1 and self.style.time == "loop":
                    frame = (*frame, None)
                    self.steps[frame] |= loop
                    continue
                if self.style.time == "ends" and len(loop) > 3 and min(loop) < name < max(loop):
                    return (*frame, "…"), Box("left out", frame, [f"… {len(loop) - 2} steps"])
                if len(loop) == 1 and self.style.time == "loop":
                    continue
            elif name.kind == "layer":
                layers += 1
                if depth is not None and layers > depth:
                    return (*frame, name), Box("layer", frame, [name.name])
            frame = (*frame, name)
        return frame, None

    def _operations(self) -> None:
        position: Counter[tuple[Path, str]] = Counter()
        drawn: dict[Function, tuple[Key, Box]] = {}
        for f in self.graph.functions:
            path = self.paths[f]
            frame, box = self._place(path, None if f is self.graph.failed else self.style.depth)
            key: Key = frame
            if box is None:
                kind = "failed" if f is self.graph.failed else "fused" if isinstance(f, Fused) else "operation"
                key, box = (f,), Box(kind, frame, self._label(f))
                if None in frame:  # what does the same in another step shares the box
                    key = (frame, f.name, position[path, f.name])
                    position[path, f.name] += 1
            box.backward = any(isinstance(name, Layer) and name.kind == "backward" for name in path)
            drawn[f] = key, box
        kept = dict.fromkeys(key for key, _ in reversed(drawn.values()))
        kept = dict.fromkeys(list(kept)[: self.style.limit])
        left_out = sum(key not in kept for key, _ in drawn.values())
        for f, (key, box) in drawn.items():
            if key not in kept:
                key, box = "left out", Box("left out", (), [f"… {left_out:,} operations"])
            self.keys[f] = key
            shared = self.boxes.setdefault(key, box)
            shared.functions.append(f)
            if f is self.graph.failed and shared.kind in ("operation", "fused"):  # of a step that shares its box
                shared.kind = "failed"
        if left_out:
            self.notes.append(f"{left_out:,} older operations are left out (limit={self.style.limit:,})")

    def _label(self, f: Function) -> list[str]:
        before, after = numbers(f)
        lines = [" ".join(filter(None, (before, SYMBOLS.get(f.name, f.name), after)))]
        if isinstance(f, Fused) and (f.steps or 1) > 1:
            lines[0] += f" ×{f.steps}"
        if "values" in self.style.show and is_array(f.output):
            lines.append(_values(f.output))
        if "memory" in self.style.show and (kept := _nbytes(f.saved_arrays())):
            lines.append(f"keeps {_bytes(kept)}")
        return lines

    # --- leaves and constants -----------------------------------------------------------------------------------------

    def _key(self, x: Input, f: Function | None = None) -> Key:
        if f is not None and x.array is not None:
            key = self.keys[f]
            return ("constant", key, x.name) if len(self.boxes[key].functions) > 1 else ("constant", id(x.array))
        if isinstance(x.node, Leaf):
            return x.node
        return self.keys[function_of(x.node)]

    def _uses(self) -> None:
        """Leaves and constants lie in the innermost frame that holds all their uses, outside of loops."""
        found: dict[Key, Input] = {}
        users: dict[Key, list[Function]] = defaultdict(list)
        for f, inputs in self.graph.inputs.items():
            for x in inputs:
                if x.array is not None or isinstance(x.node, Leaf):
                    key = self._key(x, f)
                    found.setdefault(key, x)
                    users[key].append(f)
        for key, x in found.items():
            boxes = {self.keys[f] for f in users[key]}
            owner = self.boxes[next(iter(boxes))]
            inside = len(boxes) == 1 and owner.kind in ("layer", "left out")
            frame = _common([self.boxes[self.keys[f]].frame for f in users[key]])
            if x.array is not None:
                # What a graph starts from comes from outside; other constants, as masks of dropout, belong to a layer.
                if any(self._starts(f) for f in users[key]):
                    frame, inside = (), inside and owner.kind == "left out"
                if not inside:
                    self.boxes[key] = Box("constant", frame, self._lines(x.name, x.array, x.array))
                continue
            leaf: Any = x.node
            variable = leaf.variable()
            kind = "leaf" if leaf.kind is Variable else "parameter"
            if inside and (kind == "parameter" or owner.kind == "left out"):
                owner.weights += math.prod(leaf.shape) if kind == "parameter" else 0
            else:
                data = None if variable is None else variable.data
                self.boxes[key] = Box(kind, frame, self._lines(leaf.name or "leaf", leaf, data))
        for box in self.boxes.values():
            if box.weights:
                box.lines.append(f"{box.weights:,} weights")

    def _starts(self, f: Function) -> bool:
        """Whether no operation comes before this one, and neither a definition nor a backward around it."""
        inside = any(isinstance(name, Layer) and name.kind != "layer" for name in self.paths[f])
        return not inside and all(x.node is None or isinstance(x.node, Leaf) for x in self.graph.inputs[f])

    def _lines(self, name: str, node: Node, data: Any = None) -> list[str]:
        show = self.style.show
        lines = [name, self._describe(node)]
        if data is not None and "values" in show:
            lines.append(_values(data))
        if data is not None and "memory" in show:
            lines.append(_bytes(data.nbytes))
        return [line for line in lines if line] or ["data"]

    def _describe(self, node: Node) -> str:
        """Shape and dtype, as far as they are asked for."""
        shape = "×".join(map(str, getattr(node, "shape", ()))) if "shape" in self.style.show else ""
        dtype = str(getattr(node, "dtype", "")) if "dtype" in self.style.show else ""
        return f"{shape} {dtype}".strip()

    # --- arrows -------------------------------------------------------------------------------------------------------

    def _arrows_to(self, f: Function) -> None:
        head = self.keys[f]
        path = self.paths[f]
        again: Counter[tuple[Node, bool]] = Counter()
        for x in self.graph.inputs[f]:
            tail = self._key(x, f)
            if tail not in self.boxes:
                continue
            source = function_of(x.node)
            recurrent = isinstance(source, Function) and _is_next_step(self.paths[source], path)
            if tail == head and (not recurrent or self.boxes[head].kind == "left out"):
                continue
            marks = ["transposed"] if x.transposed else []
            if isinstance(source, Function):
                marks.append(self._describe(x.node))
            number = 0
            if x.node is not None:
                number, again[x.node, x.transposed] = again[x.node, x.transposed], again[x.node, x.transposed] + 1
            backward = self.boxes[head].backward
            self.arrows[Arrow(tail, head, " ".join(filter(None, marks)), recurrent, backward, number)] = None
        if isinstance(f, Fused) and (f.steps or 1) > 1 and self.boxes[head].kind in ("fused", "layer"):
            self.arrows[Arrow(head, head, "", True)] = None

    # --- gradients ----------------------------------------------------------------------------------------------------

    def _heat(self) -> None:
        """Colours on a logarithmic scale, from the largest norm down."""
        for node, norm in self.graph.norms.items():
            key = node if isinstance(node, Leaf) else self.keys.get(function_of(node))
            if key in self.boxes:
                self.boxes[key].squares.append(norm * norm)
        for i, (_, node) in enumerate(self.graph.ends):
            if node in self.graph.norms:
                self.boxes[i].squares.append(self.graph.norms[node] ** 2)
        hot = [box for box in self.boxes.values() if box.squares]
        norms = [math.sqrt(sum(box.squares)) for box in hot]
        finite = [norm for norm in norms if 0 < norm < math.inf] or [1.0]
        top, low = math.log10(max(finite)), math.log10(min(finite))
        low = max(min(low, top - 1), top - _DECADES)
        for box, norm in zip(hot, norms, strict=True):
            box.heat = float(norm != 0)  # infinities and what is not a number are hot
            if 0 < norm < math.inf:
                box.heat = min(max((math.log10(norm) - low) / (top - low), 0.0), 1.0)
            box.lines.append(f"∥∂∥ {_number(norm)}")
        self.notes.append(f"colour: norm of the gradient, from {_number(10**low)} (white) to {_number(10**top)}")


def _is_next_step(path: Path, other: Path) -> bool:
    """Whether these lie in two steps of one loop."""
    for a, b in zip(path, other, strict=False):
        if a != b:
            return isinstance(a, int) and isinstance(b, int)
    return False


def _common(frames: Iterable[Frame]) -> Frame:
    """The layers around all of `frames`: no loop over time, no definition."""
    first, *others = frames
    shared: Frame = ()
    for i, name in enumerate(first):
        if (
            not isinstance(name, Layer)
            or name.kind == "definition"
            or any(other[: i + 1] != first[: i + 1] for other in others)
        ):
            break
        shared = first[: i + 1]
    return shared


def _values(array: Any) -> str:
    """A few numbers as they are, many by mean and deviation."""
    array = asnumpy(array)
    if array.size <= 6:
        return np.array2string(array, precision=3, separator=" ").replace("\n", "")
    if array.dtype.kind in "iub":
        return f"{array.min()} … {array.max()}"
    return f"{_number(float(array.mean()))} ± {_number(float(array.std()))}"


def _nbytes(arrays: Iterable[Any]) -> int:
    return sum({id(array): array.nbytes for array in arrays if is_array(array)}.values())


def _bytes(count: int) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000  # type: ignore[assignment]
    return f"{count:.3g} GB"


def _number(x: float) -> str:
    """With two digits: 0.012, 3.4·10⁻⁷."""
    if x == 0 or not math.isfinite(x) or 1e-3 <= abs(x) < 1e4:
        return f"{x:.2g}".replace("-", "−") if abs(x) < 99.5 else f"{x:.0f}".replace("-", "−")
    mantissa, exponent = f"{x:.1e}".split("e")
    return f"{mantissa}·10{str(int(exponent)).translate(_SUPERSCRIPT)}".replace("-", "−")


_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
