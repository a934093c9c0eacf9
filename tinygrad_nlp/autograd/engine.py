"""Back-propagation: walks a graph from its end to its leaves, in the reverse of the order in which it was made.

A graph is made of nodes. A node knows the nodes that its inputs came from (`edges`; None where no gradient is needed)
and how to turn the gradient of its output into those of its inputs (`backward`). It does not know its output: whoever
drops a result drops the whole graph behind it, by reference counts alone.

Three rules live here and nowhere else, so that no operation needs to think of them: a gradient has the shape of what it
belongs to (a broadcast input gets the sum), it has its dtype, and what a leaf receives is its own memory.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend import Array, get_array_module, is_array
from . import changes
from .modes import enable_grad, modes
from .sparse import RowSparse

if TYPE_CHECKING:
    from .function import Function
    from .variable import Variable

_CHEAP_TO_COPY = 2000  # elements: copying so few takes no longer than finding out whether one has to

Gradient = Any  # an array, a RowSparse, or (under create_graph) a Variable


class Leaf:
    """The end of a graph: a Variable that was made by the user and asks for its gradient.

    It outlives the Variable where only the graph is left; then it still knows the name, and of what kind it was.
    """

    __slots__ = ("__weakref__", "dtype", "kind", "name", "shape", "variable")
    order = 0  # before every operation

    def __init__(self, variable: Variable) -> None:
        self.shape, self.dtype = variable.data.shape, variable.data.dtype
        self.name, self.kind = variable.name, type(variable)
        self.variable = weakref.ref(variable)


class Output:
    """One of several outputs of a Function. It passes its gradient on to the Function, which waits for all of them."""

    __slots__ = ("dtype", "function", "index", "order", "shape")

    def __init__(self, function: Function, index: int, array: Array) -> None:
        self.function, self.index = function, index
        self.shape, self.dtype = array.shape, array.dtype
        self.order = changes.tick()  # younger than the Function, so that it comes before it in backward


Node = Any  # Leaf | Output | Function


def backpropagate(
    roots: Iterable[tuple[Node, Gradient]],
    *,
    create_graph: bool = False,
    retain_graph: bool = False,
    targets: set[Node] | None = None,
) -> dict[Node, Gradient]:
    """Gradients of the leaves under `roots` or, where they are given, of the nodes in `targets`.

    Args:
        roots: nodes to start from, each with the gradient of its output.
        create_graph: make the gradients Variables with a graph of their own, to be differentiated again.
        retain_graph: keep the saved arrays, so that backward can run again.
        targets: nodes that are asked for; nothing is computed that does not lead to one of them.

    Raises:
        RuntimeError: the graph was freed by an earlier backward, or a saved array was changed in place since.
    """
    if create_graph and not modes.recording:
        with enable_grad():
            return backpropagate(roots, create_graph=True, retain_graph=retain_graph, targets=targets)
    latest_change = changes.latest()
    needed = None if targets is None else _leading_to(targets, [node for node, _ in roots])
    results: dict[Node, Gradient] = {}
    table: dict[Node, Any] = {}  # the sum so far; for a Function of several outputs, a list of them
    owned: set[Node] = set()  # whose sum was made here, so that it can be added to in place
    # A heap of negated orders: the youngest node first. Whatever uses a node's output is younger than the node, so that
    # its gradient is whole when its turn comes. A loop and not recursion: a graph may be 100,000 operations deep.
    heap: list[int] = []
    waiting: dict[int, Node] = {}

    def give(node: Node, gradient: Gradient) -> None:
        if node in table:
            if node in owned and type(gradient) is type(table[node]) and is_array(gradient):
                table[node] += gradient
            else:
                table[node] = table[node] + gradient
                owned.add(node)
            return
        table[node] = gradient
        if node.order:
            heappush(heap, -node.order)
            waiting[-node.order] = node

    for node, gradient in roots:
        give(node, gradient)

    while heap:
        node = waiting.pop(heappop(heap))
        gradient = table.pop(node)
        if targets is not None:
            if node in targets:
                results[node] = gradient if create_graph else _own(gradient, False)
            if node not in needed:  # type: ignore[operator]
                continue
        if type(node) is Output:
            function = node.function
            if function not in table:
                table[function] = [None] * len(function.outputs_like)
                heappush(heap, -function.order)
                waiting[-function.order] = function
            table[function][node.index] = gradient
            continue
        edges = node.edges
        if edges is None:
            raise RuntimeError(
                f"backward a second time through {node.describe()}: its saved arrays were freed by the first; "
                "pass retain_graph=True to that one"
            )
        if latest_change > node.order:
            node.check_unchanged()
        try:
            if create_graph:
                gradients = node.differentiate(gradient)
            elif node.outputs_like is None:
                gradients = node.backward(gradient)
            else:
                gradients = node.backward(*node.of_every_output(gradient))
        except Exception as error:
            error.add_note(f"in the backward of {node.describe()}")
            raise
        if type(gradients) is not tuple:
            gradients = (gradients,)
        if len(gradients) != len(edges):
            raise RuntimeError(
                f"{node.describe()}: backward returned {len(gradients)} gradients for {len(edges)} inputs"
            )
        for position, edge in enumerate(edges):
            if edge is None:
                continue
            g = gradients[position]
            if g is None:
                continue
            if g.shape != edge.shape:
                g = _unbroadcast(g, edge.shape, node, position)
            if g.dtype is not edge.dtype and g.dtype != edge.dtype:
                g = g.astype(edge.dtype)
            if edge in table:
                give(edge, g)
                continue
            table[edge] = g
            if edge.order:
                heappush(heap, -edge.order)
                waiting[-edge.order] = edge
            elif not create_graph and _is_fresh(g, gradient, gradients, node):
                owned.add(edge)
        if not (retain_graph or create_graph):
            node.free()

    for node, gradient in table.items():  # only leaves are left
        if targets is None or node in targets:
            results[node] = gradient if create_graph else _own(gradient, node in owned)
    return results


def _leading_to(targets: set[Node], roots: list[Node]) -> set[Node]:
    """The nodes from which a target can be reached."""
    oldest = min(target.order for target in targets)  # what is older than every target cannot lead to one
    found: dict[Node, list[Node]] = {}
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node in found or node.order < oldest or type(node) is Leaf:
            continue
        found[node] = [node.function] if type(node) is Output else [e for e in node.edges or () if e is not None]
        stack.extend(found[node])
    leading: set[Node] = set()
    for node in sorted(found, key=lambda node: node.order):
        if any(edge in targets or edge in leading for edge in found[node]):
            leading.add(node)
        elif type(node) is not Output and node.edges is None:
            leading.add(node)  # freed: let the walk come here and say so
    return leading


def _unbroadcast(gradient: Gradient, shape: tuple[int, ...], node: Function, position: int) -> Gradient:
    """Sum over the axes along which an input of `shape` was broadcast."""
    extra = len(gradient.shape) - len(shape)
    padded = (1,) * extra + shape
    if extra < 0 or any(ours not in (1, theirs) for ours, theirs in zip(padded, gradient.shape, strict=True)):
        raise RuntimeError(
            f"{node.describe()}: backward returned a gradient of shape {gradient.shape} for input {position}, "
            f"whose shape is {shape}"
        )
    if isinstance(gradient, RowSparse):
        gradient = gradient.to_dense()
    axes = tuple(axis for axis, size in enumerate(padded) if size == 1)
    return gradient.sum(axis=axes, keepdims=True).reshape(shape)


def _is_fresh(g: Gradient, gradient: Gradient, gradients: tuple[Gradient, ...], node: Function) -> bool:
    """Whether nobody else holds the memory of `g`, which `node` has just returned."""
    if not isinstance(g, np.ndarray) or g.base is not None or g is gradient or g.size < _CHEAP_TO_COPY:
        return False
    if type(gradient) is list and any(g is received for received in gradient):
        return False
    shared = sum(g is other or getattr(other, "base", None) is g for other in gradients) > 1
    return not shared and not any(g is saved for saved in node.saved_arrays())


def _own(gradient: Gradient, is_fresh: bool) -> Gradient:
    """`gradient` as an array in C order that nobody else holds: itself where it is one."""
    if isinstance(gradient, RowSparse):
        return gradient if is_fresh else gradient.copy()
    if is_fresh and not isinstance(gradient, np.generic) and gradient.flags.c_contiguous:
        return gradient
    return get_array_module(gradient).array(gradient, order="C")  # a copy, also of a NumPy scalar
