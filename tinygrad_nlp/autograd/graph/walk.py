"""Finds what is to be drawn: operations, where their inputs come from, and what a failed operation was given."""

from __future__ import annotations

import copy
import inspect
import traceback
from collections.abc import Collection, Iterable, Iterator
from types import CodeType, FrameType
from typing import Any, NamedTuple

import numpy as np

from ...backend import Array, get_array_module, is_array
from .. import engine
from ..engine import Leaf, Node, Output, backpropagate
from ..function import Function, Fused
from ..modes import BACKWARD, Scope, enable_grad, modes
from ..ops.shaping import Swapaxes, Transpose
from ..sparse import RowSparse
from ..variable import Variable

Path = tuple[Any, ...]  # from the outermost Scope inwards: layers as a Layer, time steps by number


class Layer(NamedTuple):
    """A layer, or one of several calls of it in the same place.

    Attributes:
        name: of the layer.
        call: 0 for the first call, 1 for the second, and so on.
        kind: "layer"; "definition" where this is the inside of a function, "backward" where it is one of create_graph.
    """

    name: str
    call: int = 0
    kind: str = "layer"


class _Opened(str):
    """The name of a scope: the function of which the definition is running."""


_BACKWARD = Layer(BACKWARD, 0, "backward")


class Input(NamedTuple):
    """What an operation was given.

    Attributes:
        node: where it comes from: a Function, an Output or a Leaf; None for a constant.
        array: of a constant.
        name: of a constant, the name of the argument.
        transposed: whether it is a matrix that was transposed on the way.
    """

    node: Node = None
    array: Array | None = None
    name: str = ""
    transposed: bool = False


class Graph:
    """What is behind some Variables, or a failed operation, with some functions replaced by their definitions.

    Args:
        what: a Variable, a collection of them, or an exception.
        opened: names of the functions to replace, or of layers that they are in; True for all.
        gradient: whether to ask for norms.

    Attributes:
        functions: all operations, oldest first; matrix transpositions are marks on what they transpose instead.
        inputs: of each of them.
        ends: label and node of what was asked for.
        failed: the operation that raised, and `error`, what it raised.
        norms: if asked for, the norm of the gradient at Functions of one output, at Outputs and at Leaves.

    Raises:
        ValueError: there is no graph, or the exception was raised by no operation.
        TypeError: `what` is neither.
    """

    def __init__(self, what: Any, opened: bool | Collection[str], gradient: bool) -> None:
        self.failed: Function | None = None
        self.error: BaseException | None = None
        self._opened = opened
        self._results: dict[Function, list[Node]] = {}  # of an opened function: what its definition returned
        self._outside: dict[Leaf, Node] = {}  # where a leaf of a definition comes from
        self._folded: set[Function] = set()  # matrix transpositions
        self._names: dict[int, str] = {}  # of constants, by the id of the array
        self._scopes: dict[int, tuple[Path, Scope]] = {}  # each call of a layer made a Scope of its own
        self._taken: set[Path] = set()
        self._gradients: dict[Node, Any] | None = {} if gradient and not isinstance(what, BaseException) else None
        if isinstance(what, BaseException):
            self.error = what
            self.ends, roots = [], [self._of_error(what)]
        else:
            several = isinstance(what, Iterable) and not isinstance(what, Variable)  # which is iterable, too
            ys = tuple(what) if several else (what,)
            if not all(isinstance(y, Variable) for y in ys):
                raise TypeError(
                    f"draw takes a Variable, several, or an exception, not {type(what).__name__}; of a model its result"
                )
            roots = [y.node for y in ys]
            self.ends = [(y.name or "y", y.node) for y in ys]
        functions, nodes = _reach(roots)
        self._used = {(node.function, node.index) for node in nodes if isinstance(node, Output)}
        if self.error is None and (
            any(node is None or isinstance(node, Leaf) for node in roots) or any(f.edges is None for f in functions)
        ):
            raise ValueError(
                "draw: there is no graph behind this Variable; it is a leaf, was made under no_grad(), or backward "
                "freed the graph (draw before, or pass retain_graph=True)"
            )
        if self._gradients is not None:
            seeds = [(y.node, get_array_module(y.data).ones(y.shape, y.dtype)) for y in ys]
            self._backpropagate(seeds, nodes)
        self.functions = list(self._expand(functions))
        self.ends = [(name, self._resolve(node).node) for name, node in self.ends]
        shown = {function_of(node) for _, node in self.ends}
        shown.add(self.failed)
        self._folded = {f for f in self.functions if f not in shown and _transposes_matrix(f)}
        self.functions = [f for f in self.functions if f not in self._folded]
        self.inputs = {f: list(self._inputs(f)) for f in self.functions}
        self.norms = {node: _norm(g) for node, g in (self._gradients or {}).items()}

    # --- layers and time ----------------------------------------------------------------------------------------------

    def path(self, f: Function) -> Path:
        """The layers and time steps in which an operation was made.

        Args:
            f: the operation.

        Returns:
            From the outermost inwards: a Layer for each layer, an integer for each time step.
        """
        path = self._path(f.scope)
        code = getattr(f, "code", None)
        if code is not None and code.co_filename == engine.__file__:  # a sum of gradients
            path = (*path, _BACKWARD) if _BACKWARD not in path else path
        return path

    def _path(self, scope: Scope | None) -> Path:
        if scope is None:
            return ()
        known = self._scopes.get(id(scope))
        if known is None:
            outer = self._path(scope.outer)
            if isinstance(scope.name, int):
                last: Any = scope.name
            elif scope.name == BACKWARD:
                last = _BACKWARD
            else:
                last = Layer(str(scope.name), 0, "definition" if isinstance(scope.name, _Opened) else "layer")
                while (*outer, last) in self._taken:
                    last = last._replace(call=last.call + 1)
            self._taken.add((*outer, last))
            known = self._scopes[id(scope)] = (*outer, last), scope
        return known[0]

    # --- definitions --------------------------------------------------------------------------------------------------

    def _expand(self, functions: Iterable[Function]) -> Iterator[Function]:
        for f in functions:
            if self._is_opened(f):
                yield from self._expand(self._define(f))
            else:
                yield f

    def _is_opened(self, f: Function) -> bool:
        if not self._opened or f is self.failed or f.inputs is None or not hasattr(f, "definition"):
            return False
        if isinstance(self._opened, bool):
            return True
        layers = {layer.name for layer in self.path(f) if isinstance(layer, Layer) and layer.kind == "layer"}
        return f.name in self._opened or not layers.isdisjoint(self._opened)

    def _define(self, f: Any) -> list[Function]:
        """The operations of the definition, run on the same inputs."""
        names = _names_of_constants(f, type(f).definition)
        self._names = names | self._names  # the outermost definition names its inputs best
        stand_ins: dict[Node, Variable] = {}
        given = [
            x if edge is None else stand_ins.setdefault(edge, Variable(x, requires_grad=True))
            for x, edge in zip(f.inputs, f.edges, strict=True)
        ]
        outer = modes.scope
        modes.scope = Scope(f.scope, _Opened(f.name), f.code, f.instruction) if isinstance(f, Fused) else f.scope
        try:
            with enable_grad():
                ys = f.definition(*given)
        finally:
            modes.scope = outer
        self._outside |= {x.node: edge for edge, x in stand_ins.items()}
        self._results[f] = [getattr(y, "node", None) for y in (ys if isinstance(ys, tuple) else (ys,))]
        functions, nodes = _reach(
            node for index, node in enumerate(self._results[f]) if f.outputs_like is None or (f, index) in self._used
        )
        self._used |= {(node.function, node.index) for node in nodes if isinstance(node, Output)}
        if self._gradients is not None:
            outputs = {n.index: g for n, g in self._gradients.items() if isinstance(n, Output) and n.function is f}
            if f in self._gradients:
                outputs[0] = self._gradients[f]
            seeds = [(self._results[f][index], g) for index, g in outputs.items()]
            self._backpropagate([(node, g) for node, g in seeds if node is not None], nodes)
        return functions

    def _backpropagate(self, seeds: list[tuple[Node, Any]], nodes: set[Node]) -> None:
        assert self._gradients is not None
        if seeds:
            self._gradients |= backpropagate(seeds, retain_graph=True, targets=nodes)

    # --- inputs -------------------------------------------------------------------------------------------------------

    def _resolve(self, node: Node) -> Input:
        """Where `node` comes from in the drawing: through opened functions, and through matrix transpositions."""
        transposed = False
        while True:
            f = function_of(node)
            if f in self._results:
                node = self._results[f][node.index if isinstance(node, Output) else 0]
            elif node in self._outside:
                node = self._outside[node]
            elif f in self._folded:
                node, transposed = f.edges[0], not transposed
            else:
                return Input(node, transposed=transposed)

    def _inputs(self, f: Function) -> Iterator[Input]:
        kind = type(f)
        names = _names_of_constants(f, kind.definition if issubclass(kind, Fused) else kind.forward)
        x: Any
        given = f.inputs or (None,) * len(f.edges or ())
        for x, edge in zip(given, f.edges or (), strict=True):
            if edge is not None:
                found = self._resolve(edge)
                if function_of(found.node) is not None:  # it is None for a constant, and where unchain() cut the graph
                    yield found
            elif is_array(x) and x.ndim:
                yield Input(array=x, name=self._names.get(id(x), names[id(x)]))
        for name in inspect.signature(type(f).__init__).parameters:  # what it was made with: ids, targets, a mask
            x = vars(f).get(name, 0)
            if is_array(x) and x.ndim:
                yield Input(array=x, name=name)

    # --- errors -------------------------------------------------------------------------------------------------------

    def _of_error(self, error: BaseException) -> Function:
        """The traceback holds the call that failed, with all that it was given."""
        found: tuple[Function, list[Any]] | None = None
        for frame in reversed(_frames(error)):
            if frame.f_code is backpropagate.__code__ and "node" in frame.f_locals:
                self.failed = function_of(frame.f_locals["node"])
                return self.failed
            if frame.f_code is Function.__call__.__code__:
                call = frame.f_locals["self"], list(frame.f_locals["inputs"])
            elif found is None and not _is_private(frame):
                call = _check(frame)
            else:
                continue
            variables = [x for x in call[1] if isinstance(x, Variable)]
            if variables and found is None:
                found = call
            if any(x.node is not None for x in variables):
                found = call
                break
            # Constants alone: perhaps detect_anomaly runs the definition of the function that is further out.
        if found is None:
            raise ValueError(
                "draw: this exception was raised by no operation on Variables, so there is no graph to show"
            )
        failed, given = copy.copy(found[0]), found[1]
        failed.edges = [x.node if isinstance(x, Variable) else None for x in given]
        failed.inputs = [x.data if isinstance(x, Variable) else x for x in given]
        failed.scope = getattr(failed, "scope", None)
        self._names |= {id(x.data): x.name for x in given if isinstance(x, Variable) and x.name}
        self.failed = failed
        return failed


def numbers(f: Function) -> tuple[str, str]:
    """The numbers that an operation was given before and after what is drawn.

    Args:
        f: the operation.

    Returns:
        Two texts, with four digits: ("", "2") of x * 2.
    """
    before, after = "", ""
    for x, edge in zip(f.inputs or (), f.edges or (), strict=False):
        if edge is not None:
            continue
        if (isinstance(x, int | float | np.generic) and not isinstance(x, bool)) or (is_array(x) and not x.ndim):
            text = f"{float(x):.4g}".replace("-", "−")
            before, after = (text, after) if x is f.inputs[0] else (before, text)
    return before, after


def _reach(roots: Iterable[Node]) -> tuple[list[Function], set[Node]]:
    """All Functions, oldest first, and all nodes that have a gradient of their own."""
    stack, found = list(roots), set[Node]()
    while stack:
        node = stack.pop()
        if node is None or node in found:
            continue
        found.add(node)
        stack.extend([node.function] if isinstance(node, Output) else getattr(node, "edges", None) or ())
    functions = sorted((f for f in found if isinstance(f, Function)), key=lambda f: f.order or float("inf"))
    return functions, {node for node in found if getattr(node, "outputs_like", None) is None}


def function_of(node: Node) -> Any:
    """The Function that a node is an output of.

    Args:
        node: a Function, an Output or a Leaf.

    Returns:
        The Function; a Leaf itself.
    """
    return node.function if isinstance(node, Output) else node


def _transposes_matrix(f: Function) -> bool:
    """Whether it swaps the last two axes, as in Q Kᵀ."""
    if isinstance(f, Swapaxes):
        return {axis % len(f.shape) for axis in f.axes} == {len(f.shape) - 1, len(f.shape) - 2}
    return isinstance(f, Transpose) and len(f.shape) == 2 and f.axes in (None, (1, 0))


def _names_of_constants(f: Function, method: Any) -> dict[int, str]:
    """By the id of the array, what the arguments are called; two names where it is given for two arguments."""
    names: dict[int, str] = {}
    given = f.inputs or ()
    for x, edge, name in zip(given, f.edges or (), _arguments(method, len(given)), strict=False):
        if edge is None:
            names[id(x)] = f"{names[id(x)]}, {name}" if names.get(id(x)) else name
    return names


def _arguments(method: Any, count: int) -> list[str]:
    """The names of its arguments after self, as many as were given; those of a and b say nothing."""
    parameters = list(inspect.signature(method).parameters.values())[1:]
    names = ["" if p.kind is p.VAR_POSITIONAL or p.name in ("a", "b") else p.name for p in parameters]
    return (names + [""] * count)[:count]


def _frames(error: BaseException) -> list[FrameType]:
    """Those of an exception and of its causes, in which each is followed by those that it called."""
    frames, causes = list[FrameType](), set[int]()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in causes:  # an exception may be its own cause
        causes.add(id(cause))
        frames += [frame for frame, _ in traceback.walk_tb(cause.__traceback__)]
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return frames


def _check(frame: FrameType) -> tuple[Function, list[Any]]:
    """The call of a function that raised before any operation, as the checks of nn.functional do."""
    arguments = [frame.f_locals.get(name) for name in _parameters(frame.f_code)]
    flat = [y for x in arguments for y in (x if isinstance(x, tuple | list) else (x,))]
    failed = Function()
    failed.name = frame.f_code.co_name  # type: ignore[misc]
    return failed, [x for x in flat if isinstance(x, Variable) or is_array(x)]


def _is_private(frame: FrameType) -> bool:
    """Whether a function or its module has a name that begins with an underscore."""
    package, _, module = frame.f_globals.get("__name__", "").rpartition(".")  # __main__ is in no package
    return frame.f_code.co_name.startswith("_") or (bool(package) and module.startswith("_"))


def _parameters(code: CodeType) -> tuple[str, ...]:
    return code.co_varnames[: code.co_argcount]


def _norm(gradient: Any) -> float:
    values = gradient.coalesce().values if isinstance(gradient, RowSparse) else gradient
    return float(get_array_module(values).linalg.norm(abs(values).ravel().astype("f8")))
