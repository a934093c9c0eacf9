"""Trades time for memory: what a part of a model saved for backward is thrown away, and computed again."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..backend import generator
from . import changes
from .engine import Gradient, Leaf, Node, Output
from .function import Function, Identity, grad
from .modes import Scope, enable_grad, modes
from .variable import Variable


def checkpoint(f: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """f(*args, **kwargs), of which the graph keeps the arguments only: backward runs `f` again to have the rest.

    A model of n equal layers, each a checkpoint, keeps n inputs and the graph of one layer, for one forward more (Chen
    et al., *Training deep nets with sublinear memory cost*, 2016). The second run draws the same random numbers as the
    first, so that dropout repeats.

    Args:
        f: from Variables (and anything else) to a Variable, or a tuple of them. Variables that it uses without being
            given them, the parameters of a Module or an encoder's output, get their gradients too; that their arrays
            are not changed in place meanwhile is not watched. It must compute the same again.
        *args, **kwargs: its arguments.

    Returns:
        What f returns, of the same shapes and dtypes.

    Raises:
        TypeError: f returns something else than a Variable or a tuple of them.

    Example:
        >>> import tinygrad_nlp as tn
        >>> w, x = tn.Variable([2.0], requires_grad=True), tn.Variable([3.0])
        >>> y = tn.checkpoint(lambda x: tn.tanh(w * x), x)
        >>> float(y.sum().data) == float(tn.tanh(w * x).sum().data)
        True
    """
    if kwargs:
        f = functools.partial(f, **kwargs)  # Variables among them are captured, as those of a closure are
    if not modes.recording:
        return f(*args)
    stream, start = generator().bit_generator.state, changes.tick()
    inputs = [Identity()(x) if isinstance(x, Variable) else x for x in args]  # tells x from other uses of it within f
    outputs = _tuple(f(*inputs))
    several = type(outputs) is tuple
    results = list(outputs)
    tracked = [i for i, y in enumerate(results) if y.requires_grad]
    if tracked:
        given = {x.node for x in inputs if isinstance(x, Variable)}
        captured = _captured([results[i].node for i in tracked], given, start)
        arrays = tuple(results[i].data for i in tracked)
        del inputs, outputs, given
        for i, y in zip(tracked, Checkpoint(f, args, tracked, stream, arrays)(*args, *captured), strict=True):
            results[i] = y
    return tuple(results) if several else results[0]


class Checkpoint(Function):
    """A call whose graph was thrown away. Its inputs are the arguments, and behind them what the call captured.

    Args:
        f: what was called.
        args: with what.
        tracked: which of its outputs have a gradient.
        stream: the state of the library's random stream before the call.
        outputs: the arrays of the tracked outputs, which forward gives and lets go.
    """

    saves_inputs = True

    def __init__(
        self, f: Callable[..., Any], args: tuple[Any, ...], tracked: list[int], stream: Any, outputs: tuple[Any, ...]
    ) -> None:
        self.f, self.tracked, self.stream, self.outputs = f, tracked, stream, outputs
        self.were_variables = [isinstance(x, Variable) for x in args]

    def forward(self, *inputs: Any) -> tuple[Any, ...]:
        """What the call has given already."""
        outputs = self.outputs
        del self.outputs
        return outputs

    def backward(self, *gradients: Gradient) -> Gradient:
        """Run the call again, and go back through it."""
        inputs = [
            Variable(x, requires_grad=edge is not None) if was_variable else x
            for x, edge, was_variable in zip(self.inputs, self.edges, self.were_variables, strict=False)
        ]
        return self._run_again(inputs, gradients, create_graph=False)

    def _backward_graph(self, *gradients: Any) -> Any:
        # Through an Identity, so that the walk below ends there; a later one goes on into the graph.
        inputs = [
            (x if edge is None else Identity()(x)) if isinstance(x, Variable) or not was_variable else Variable(x)
            for x, edge, was_variable in zip(self.inputs, self.edges, self.were_variables, strict=False)
        ]
        return self._run_again(inputs, gradients, create_graph=True)

    def _run_again(self, inputs: list[Any], gradients: tuple[Gradient, ...], create_graph: bool) -> Gradient:
        with enable_grad(), _as_it_was(self.stream, self.scope):
            # Through an Identity, as at first: hooks that f gives to its arguments lie there, and are called.
            outputs = _tuple(self.f(*(Identity()(x) if isinstance(x, Variable) else x for x in inputs)))
        captured = [Variable._of_node(np.empty(0), edge) for edge in self.edges[len(inputs) :]]
        wanted = [x for x, edge in zip(inputs, self.edges, strict=False) if edge is not None] + captured
        found = iter(
            grad(
                [outputs[i] for i in self.tracked],
                wanted,
                gradients,
                create_graph=create_graph,
                allow_unused=True,
                beyond_inputs=False,
            )
        )
        return tuple(None if edge is None else next(found) for edge in self.edges)


def _captured(roots: list[Node], given: set[Node], start: int) -> list[Variable]:
    """What was there before the call started, is not one of its arguments, and was used in it."""
    found: list[Variable] = []
    seen: set[Node] = set(given)
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if type(node) is Leaf:
            variable = node.variable()
            if variable is not None:  # else it was made and dropped within the call
                found.append(variable)
        elif node.order < start:
            found.append(Variable._of_node(np.empty(0), node))  # for its place in the graph; its array is not needed
        else:
            stack.extend((node.function,) if type(node) is Output else node.edges or ())
    return found


def _tuple(outputs: Any) -> Any:
    """Outputs, checked: a tuple as it is, one Variable as a list of one."""
    ys = outputs if isinstance(outputs, tuple) else [outputs]
    for y in ys:
        if not isinstance(y, Variable):
            raise TypeError(f"checkpoint: f must return a Variable or a tuple of them, not {type(y).__name__}")
    return ys


@contextmanager
def _as_it_was(stream: Any, scope: Scope | None) -> Iterator[None]:
    """The library's random stream and the layers of the first run, for a second."""
    bits, outer = generator().bit_generator, modes.scope
    later = bits.state
    bits.state, modes.scope = stream, scope
    try:
        yield
    finally:
        bits.state, modes.scope = later, outer
