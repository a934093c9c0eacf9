"""Back-propagation: walks a graph from its end to its leaves, in the reverse of the order in which it was made.

A graph is made of nodes. A node knows the nodes that its inputs came from (`edges`; None where no gradient is needed)
and how to turn the gradient of its output into those of its inputs (`backward`). It does not know its output: whoever
drops a result drops the whole graph behind it, by reference counts alone.

Three rules live here and nowhere else, so that no operation needs to think of them: a gradient has the shape of what it
belongs to (a broadcast input gets the sum), it has its dtype, and what a leaf receives is its own memory.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend import Array, get_array_module, is_array
from . import anomaly, changes
from .modes import enable_grad, modes
from .sparse import RowSparse

if TYPE_CHECKING:
    from .function import Function
    from .variable import Variable

_ndarray = np.ndarray  # found faster here, for every edge
_CHEAP_TO_COPY = 2000  # elements: copying so few takes no longer than finding out whether one has to

Gradient = Any  # an array, a RowSparse, or (under create_graph) a Variable
Hook = Callable[[Gradient], Gradient]
Hooks = dict[object, Hook] | None

_hooks_exist = False  # until the first hook, the walk does not ask every node for them


class Leaf:
    """The end of a graph: a Variable that was made by the user and asks for its gradient.

    It outlives the Variable where only the graph is left; then it still knows the name, and of what kind it was.

    Args:
        variable: which. It is known weakly; shape, dtype, name and type are kept.
    """

    __slots__ = ("__weakref__", "dtype", "hooks", "kind", "name", "shape", "variable")
    order = 0  # before every operation
    hooks: Hooks

    def __init__(self, variable: Variable) -> None:
        self.shape, self.dtype = variable.data.shape, variable.data.dtype
        self.name, self.kind = variable.name, type(variable)
        self.hooks = None
        self.variable = weakref.ref(variable)


class Output:
    """One of several outputs of a Function. It passes its gradient on to the Function, which waits for all of them.

    Args:
        function: which.
        index: the place of the output among them, from 0.
        array: what forward gave there; shape and dtype are kept.
    """

    __slots__ = ("__weakref__", "dtype", "function", "hooks", "index", "order", "retained", "shape")
    function: Function | None  # None once it was cut off by unchain()
    hooks: Hooks
    retained: weakref.ref[Variable] | None

    def __init__(self, function: Function, index: int, array: Array) -> None:
        self.function, self.index = function, index
        self.hooks = self.retained = None
        self.shape, self.dtype = array.shape, array.dtype
        self.order = changes.tick()  # younger than the Function, so that it comes before it in backward


Node = Any  # Leaf | Output | Function


class HookHandle:
    """What `Variable.register_hook` returns, as PyTorch's `RemovableHandle`.

    Args:
        hooks: of the node, to which it is added. They do not know the handle: a graph with hooks has no cycle.
        hook: takes a gradient.
    """

    __slots__ = ("__weakref__", "_hooks", "_key")

    def __init__(self, hooks: dict[object, Hook], hook: Hook) -> None:
        self._hooks, self._key = hooks, object()
        hooks[self._key] = hook

    def remove(self) -> None:
        """Call the hook no more. A second time does nothing."""
        self._hooks.pop(self._key, None)


def backpropagate(
    roots: Sequence[tuple[Node, Gradient]],
    *,
    create_graph: bool = False,
    retain_graph: bool = False,
    targets: set[Node] | None = None,
    beyond_targets: bool = True,
) -> dict[Node, Gradient]:
    """Gradients of the leaves under `roots` or, where they are given, of the nodes in `targets`.

    Interior nodes whose Variable retains its gradient are among the results where there are no targets. Reverse-mode
    differentiation (Linnainmaa, 1970; Rumelhart, Hinton and Williams, 1986): of every node once, the youngest first.

    Args:
        roots: nodes to start from, each with the gradient of its output, of its shape and dtype.
        create_graph: make the gradients Variables with a graph of their own, to be differentiated again.
        retain_graph: keep the saved arrays, so that backward can run again.
        targets: nodes that are asked for; nothing is computed that does not lead to one of them.
        beyond_targets: whether the walk goes on behind a target, where it leads to another one. If not, the hooks of
            targets are not called: a later walk, which goes on behind them, does.

    Returns:
        By node, its gradient, of its shape and dtype: an array in C order that nobody else holds, a RowSparse, or under
        `create_graph` a Variable or an array.

    Raises:
        RuntimeError: the graph was freed by an earlier backward, or a saved array was changed in place since; or a
            backward returned too few or too many gradients, or one of a wrong shape.
        TypeError: a backward returned something that is no gradient, or a hook something that is no array.
        ValueError: a hook returned a gradient of another shape.
    """
    if create_graph and not modes.recording:
        with enable_grad():
            return backpropagate(
                roots,
                create_graph=True,
                retain_graph=retain_graph,
                targets=targets,
                beyond_targets=beyond_targets,
            )
    watched = anomaly.active and modes.anomaly
    latest_change = sys.maxsize if watched else changes.latest()
    looks_closer = targets is not None or _hooks_exist
    needed = None if targets is None else _leading_to(targets, [node for node, _ in roots], beyond_targets)
    results: dict[Node, Gradient] = {}
    table: dict[Node, Any] = {}  # the sum so far; for a Function of several outputs, a list of them
    owned: set[Node] = set()  # whose sum was made here, so that it can be added to in place
    # A heap by negated orders: the youngest node first. Whatever uses a node's output is younger than the node, so that
    # its gradient is whole when its turn comes. A loop and not recursion: a graph may be 100,000 operations deep.
    heap: list[tuple[int, Node]] = []

    def give(node: Node, gradient: Gradient) -> None:
        total = table.get(node)
        if total is None:
            table[node] = gradient
            if node.order:  # not a Leaf
                heappush(heap, (-node.order, node))
        elif node in owned and type(gradient) is type(total):
            total += gradient  # in place for arrays; a new sum for all else
            table[node] = total
        else:
            table[node] = total + gradient
            owned.add(node)

    if any(node.order < latest_change for node, _ in roots):  # changed since: say so before anything is freed
        _check_unchanged([node for node, _ in roots])
    for node, gradient in reversed(roots):  # as a rule the youngest first: the heap has nothing to move
        give(node, gradient)

    while heap:
        _, node = heappop(heap)
        gradient = table.pop(node)
        if looks_closer:
            is_result = node.retained is not None if targets is None else node in targets
            leads_on = needed is None or node in needed
            if node.hooks is not None and (leads_on or is_result) and (beyond_targets or not is_result):
                gradient = _through_hooks(node, gradient, create_graph)
            if is_result:
                results[node] = gradient if create_graph else _own(gradient, False)
            if not leads_on:
                continue
        if type(node) is Output:
            if node.function is not None:
                if node.function not in table:
                    give(node.function, [None] * len(node.function.outputs_like))
                table[node.function][node.index] = gradient
            continue
        edges = node.edges
        if edges is None:
            raise RuntimeError(
                f"backward a second time through {node.describe()}: its saved arrays were freed by the first; "
                "pass retain_graph=True to that one, or detach() what was carried over from its graph"
            )
        if not edges:  # cut off by unchain()
            continue
        if latest_change > node.order:
            node.check_unchanged()
        gradients = _backward(node, gradient, create_graph)
        if watched:
            anomaly.after_backward(node, gradient, gradients)
        for position, edge in enumerate(edges):
            g = gradients[position]
            if edge is None or g is None:
                continue
            if type(g) is not _ndarray or g.shape != edge.shape or g.dtype is not edge.dtype:
                g = _fitted(g, edge, node, position)
            total = table.get(edge)  # from here on as in `give`, without the call: 0.1 µs for every edge
            if total is None:
                table[edge] = g
                if edge.order:
                    heappush(heap, (-edge.order, edge))
                elif not create_graph and _is_fresh(g, gradient, gradients, node):
                    owned.add(edge)
            elif edge in owned and type(g) is type(total):
                total += g
                table[edge] = total
            elif edge in owned and type(g) is RowSparse and type(total) is _ndarray:  # a table that is tied
                g.add_to(total)
            else:
                table[edge] = total + g
                owned.add(edge)
        if not (retain_graph or create_graph):
            node.free()

    for node, gradient in table.items():  # only leaves are left
        if targets is None or node in targets:
            if node.hooks is not None and beyond_targets:
                gradient = _through_hooks(node, gradient, create_graph)
                owned.discard(node)  # a hook may have kept it
            results[node] = gradient if create_graph else _own(gradient, node in owned)
    return results


def _backward(node: Function, gradient: Gradient, create_graph: bool) -> tuple[Gradient, ...]:
    """The gradients of the inputs of `node`, one for each, as its `backward` gives them."""
    try:
        if create_graph:
            gradients = node.differentiate(gradient)
        elif type(gradient) is not list:
            gradients = node.backward(gradient)
        else:
            gradients = node.backward(*node.of_every_output(gradient))
    except Exception as error:
        error.add_note(f"in the backward of {node.describe()}")
        if isinstance(error, TypeError) and node.inputs is None and not node._of_library:
            error.add_note("where backward needs self.inputs, the class says saves_inputs = True")
        raise
    if type(gradients) is not tuple:
        gradients = (gradients,)
    if len(gradients) != len(node.edges):
        raise _no_gradients(node, gradients)
    return gradients


def _fitted(g: Gradient, edge: Node, node: Function, position: int) -> Gradient:
    """The gradient that `node` gave to one of its inputs, in the shape and dtype of that."""
    if not hasattr(g, "shape"):
        raise _no_gradients(node, (g,))
    if g.shape != edge.shape:
        g = _unbroadcast(g, edge.shape, node, position)
    return g if g.dtype == edge.dtype else g.astype(edge.dtype)


def _check_unchanged(roots: list[Node]) -> None:
    stack, seen = roots, set[Node]()
    while stack:
        node = stack.pop()
        if node is None or node in seen or type(node) is Leaf:
            continue
        seen.add(node)
        if type(node) is Output:
            stack.append(node.function)
        elif node.edges:
            node.check_unchanged()
            stack.extend(node.edges)


def hooks_of(node: Node) -> dict[object, Hook]:
    """The hooks of a node, to be added to.

    Args:
        node: a Leaf, an Output or a Function.

    Returns:
        The dictionary of the node, the functions by keys of their handles; from now on every walk asks for hooks.
    """
    global _hooks_exist
    _hooks_exist = True
    if node.hooks is None:
        node.hooks = {}
    return node.hooks


def _through_hooks(node: Node, gradient: Gradient, create_graph: bool) -> Gradient:
    """What the hooks of a Variable make of its gradient, one after the other."""
    for hook in list(node.hooks.values()):
        try:
            replaced = hook(gradient)
        except Exception as error:
            function: Any = getattr(node, "function", node)
            where = f"leaf {node.name}" if type(node) is Leaf else f"result of {function.describe()}"
            error.add_note(f"in a hook of the {where}")
            raise
        if replaced is None:
            continue
        if isinstance(replaced, np.generic):
            replaced = np.asarray(replaced)  # NumPy makes scalars of 0-d results
        if not create_graph and not (is_array(replaced) or isinstance(replaced, RowSparse)):
            raise TypeError(f"a hook must return an array or None, not {type(replaced).__name__}")
        if replaced.shape != node.shape:
            raise ValueError(f"a hook returned a gradient of shape {replaced.shape} for a Variable of {node.shape}")
        gradient = replaced if replaced.dtype == node.dtype else replaced.astype(node.dtype)
    return gradient


def _no_gradients(node: Function, returned: tuple[Any, ...]) -> Exception:
    """What to say of a backward that did not return one gradient for each input."""
    wanted = len(node.edges)
    for g in returned:
        if g is not None and not hasattr(g, "shape"):
            return TypeError(
                f"{node.describe()}: backward returned a {type(g).__name__}; it must return an array for each of its "
                f"{wanted} inputs (or None), as a tuple where there are several"
            )
    return RuntimeError(f"{node.describe()}: backward returned {len(returned)} gradients for {wanted} inputs")


def _leading_to(targets: set[Node], roots: list[Node], beyond_targets: bool) -> set[Node]:
    """The nodes from which a target can be reached."""
    oldest = min(target.order for target in targets) or 1  # what is older cannot lead to one, and a Leaf (0) to nothing
    found: dict[Node, Any] = {}  # with the nodes behind
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node is None or node.order < oldest or node in found:
            continue
        if beyond_targets or node not in targets:
            found[node] = behind = (node.function,) if type(node) is Output else node.edges
            if behind:
                stack.extend(behind)
    leading: set[Node] = set()
    reached = set(targets)
    for node in sorted(found, key=attrgetter("order")):
        behind = found[node]
        if behind is None or not reached.isdisjoint(behind):  # None: freed; let the walk come here and say so
            leading.add(node)
            reached.add(node)
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
    if not node._of_library:  # a user's backward may have kept it anywhere
        return False
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
