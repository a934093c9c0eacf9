"""Function: one differentiable operation, and a node of the graph. Fused: one that has a plain definition beside it."""

from __future__ import annotations

import re
import sys
import weakref
from collections.abc import Iterator
from types import CodeType
from typing import Any, ClassVar

import numpy as np

from ..backend import Array, device_of, get_array_module, is_array, is_current
from . import anomaly, changes
from .engine import Gradient, Hooks, Leaf, Node, Output, backpropagate
from .modes import BACKWARD, Scope, in_layer, modes
from .variable import Variable

_SAVED = ("edges", "inputs", "output", "saved")
_LIBRARY = __file__.rpartition("autograd")[0]
_new_variable, _tick, _frame = Variable.__new__, changes.tick, sys._getframe  # found faster here, in every call


class Function:
    """One differentiable operation.

    A subclass writes `forward`, which takes and returns arrays, and `backward`, which takes one gradient for each
    output and returns one for each input (None where there is none). `backward` is written once, with operators and
    with functions of this library: they work on arrays and on Variables alike, so that it is fast on arrays and, given
    Variables, its own derivative is simply there.

    What backward needs is declared: with `saves_inputs` it finds the inputs in `self.inputs`, with `saves_output` the
    outputs in `self.output`, as arrays or as Variables. What else `forward` wants to hand on, and no gradient flows
    through, it stores in `self.saved`. `self.edges[i]` is None where input i needs no gradient: skip the work. It is
    None as a whole while no graph is recorded.

    A Function may also declare which inputs the gradient of each input `needs`: `((1,), (0,))` for a product. Then a
    change in place is an error only of an input that is needed: a constant times w may be followed by a change of w.

    Calling an instance applies it: arrays in, arrays out; if one of the inputs is a Variable, Variables out.

    Example:
        >>> import numpy as np, tinygrad_nlp as tn
        >>> class Square(tn.Function):
        ...     saves_inputs = True
        ...     def forward(self, x):
        ...         return x * x
        ...     def backward(self, gy):
        ...         (x,) = self.inputs
        ...         return 2.0 * x * gy
        >>> x = tn.Variable(3.0, requires_grad=True)
        >>> y = Square()(x)
        >>> y.backward()
        >>> float(y.data), float(x.grad)
        (9.0, 6.0)
    """

    name: ClassVar[str] = "function"  # in drawings and messages; by default the class's name in lower case
    saves_inputs: ClassVar[bool] = False
    saves_output: ClassVar[bool] = False
    needs: ClassVar[tuple[tuple[int, ...], ...] | None] = None  # see above; by default every gradient needs every input
    _of_library: ClassVar[bool] = False  # then one of its functions stands between __call__ and the user's line

    edges: Any = None  # a list of Nodes, while the graph stands; () once it was cut off here
    inputs: Any = None  # a list, of arrays and of whatever else was passed
    output: Any = None
    saved: Any = None
    outputs_like: Any = None  # of a Function of several outputs: their shapes and dtypes
    hooks: Hooks = None
    retained: weakref.ref[Variable] | None = None  # the output, if its gradient shall be left in it
    order: int = 0  # when it was applied
    shape: tuple[int, ...]
    dtype: np.dtype
    scope: Scope | None
    code: CodeType
    instruction: int

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in vars(cls):
            cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        cls._of_library = cls.__module__.startswith(__package__.partition(".")[0] + ".")

    def forward(self, *arrays: Any) -> Any:
        """Compute the output, or a tuple of outputs. To be written by a subclass, with parameters of its own.

        Args:
            *arrays: the inputs, Variables as their arrays, and whatever else was passed as it is.

        Returns:
            An array, or a tuple of them.

        Raises:
            NotImplementedError: the subclass has none.
        """
        raise NotImplementedError(f"{type(self).__name__}.forward")

    def backward(self, *gradients: Any) -> Any:
        """Compute the gradient of every input. To be written by a subclass, with parameters of its own.

        Args:
            *gradients: one for each output, of its shape and dtype: arrays, or Variables under `create_graph`.

        Returns:
            One for each input, as a tuple where there are several; None where there is none. A shape to which the input
            broadcast will do, and another dtype: the engine sums it up and casts it.

        Raises:
            NotImplementedError: the subclass has none.
        """
        raise NotImplementedError(f"{type(self).__name__} has no backward: it cannot be differentiated")

    def __call__(self, *inputs: Any) -> Any:
        """Apply to arrays, or to Variables and record it."""
        arrays: list[Any] = []
        edges: list[Node] = []
        variables = tracked = False
        for x in inputs:
            if isinstance(x, Variable):
                variables = True
                arrays.append(x._data)
                node = x.node
                if node is not None:
                    tracked = True
                edges.append(node)
            else:
                arrays.append(x)
                edges.append(None)
        recording = tracked and modes.recording
        if recording:
            if self.order:
                raise self._applied_twice()
            self.edges = edges
        try:
            y = self.forward(*arrays)
        except (TypeError, ValueError, IndexError) as error:
            explained = self._explained(error, arrays)
            if explained is error:
                raise
            try:
                raise explained from error
            finally:
                del explained  # it knows this frame, which would know it: a cycle, and the arrays in it
        if not variables:
            return y
        if recording:
            self.order = _tick()
            self.scope = modes.scope
            frame = _frame(1)
            if self._of_library:
                frame = frame.f_back or frame
            self.code = frame.f_code
            self.instruction = frame.f_lasti
            if self.saves_inputs:
                self.inputs = arrays
            if self.saves_output:
                self.output = y
        if anomaly.active:
            anomaly.after_forward(self, arrays, y, recording)
        if type(y) is tuple:
            return self._several(y, recording)
        if type(y) is not np.ndarray and (isinstance(y, np.generic) or not is_array(y)):
            y = np.asarray(y)  # NumPy makes scalars of 0-d results
        out = _new_variable(Variable)
        out._data = y
        out.grad = out._name = None
        if recording:
            self.shape = y.shape
            self.dtype = y.dtype
            out.node = self
        else:
            out.node = None
        return out

    def _several(self, ys: tuple[Array, ...], recording: bool) -> tuple[Variable, ...]:
        results = tuple(Variable(y) for y in ys)
        if recording:
            for index, result in enumerate(results):
                result.node = Output(self, index, result._data)
            self.outputs_like = [(y.shape, y.dtype) for y in ys]
        return results

    # --- what the engine asks for -------------------------------------------------------------------------------------

    def differentiate(self, gradient: Any) -> Any:
        """Call `backward` on Variables, so that what it does is recorded, in the layer and for the line of forward.

        Args:
            gradient: of the output, a Variable; of several outputs, a list with None for those that nobody used.

        Returns:
            What `backward` returns, of Variables.

        Raises:
            NotImplementedError: it saves several outputs, or has no backward.
        """
        outer = modes.scope
        modes.scope = Scope(self.scope, BACKWARD, self.code, self.instruction)
        try:
            return self._on_variables()._backward_graph(*self.of_every_output(gradient))
        finally:
            modes.scope = outer

    def of_every_output(self, gradient: Any) -> tuple[Gradient, ...]:
        """The gradients of all outputs, zeros for those that nobody used.

        Args:
            gradient: of the output; of several outputs, a list with None for those that nobody used.

        Returns:
            A tuple, one for each output, of its shape and dtype.
        """
        if self.outputs_like is None:
            return (gradient,)
        xp = get_array_module(next(g for g in gradient if g is not None))
        return tuple(
            xp.zeros(shape, dtype) if g is None else g
            for g, (shape, dtype) in zip(gradient, self.outputs_like, strict=True)
        )

    def _backward_graph(self, *gradients: Any) -> Any:
        return self.backward(*gradients)

    def _on_variables(self) -> Function:
        """This Function with the arrays that it saved as Variables, which lead on into the graph."""
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)  # what copy.copy does, in a fifth of the time
        if self.inputs is not None and self.edges is not None:
            twin.inputs = [
                x if edge is None else Variable._of_node(x, edge)
                for x, edge in zip(self.inputs, self.edges, strict=True)
            ]
        if type(self.output) is tuple:
            raise NotImplementedError(f"{self.name}: saves_output is for Functions of one output")
        if self.output is not None:
            twin.output = Variable._of_node(self.output, self)
        return twin

    def free(self) -> None:
        """Let go of the saved arrays and of the graph behind."""
        self.edges = self.inputs = self.output = self.saved = None

    def cut(self) -> None:
        """Let gradients end here from now on: those that come are dropped."""
        self.free()
        self.edges = ()

    def saved_arrays(self) -> Iterator[Any]:
        """The arrays that this Function keeps: the inputs first, and what it was made with (ids, a mask) last."""
        for kept in (self.inputs, self.output, self.saved, *self.made_with()):
            yield from kept if isinstance(kept, list | tuple) else (kept,)

    def made_with(self) -> list[Any]:
        """What else than inputs and outputs it has: its settings, as `__init__` and `forward` left them."""
        return [kept for name, kept in vars(self).items() if name not in _SAVED]

    def needed_arrays(self) -> Iterator[Any]:
        """Those of the saved arrays that the gradients that are wanted need."""
        if self.needs is None or self.inputs is None:
            yield from self.saved_arrays()
            return
        needed = {i for edge, needs in zip(self.edges, self.needs, strict=False) if edge is not None for i in needs}
        for i, kept in enumerate(self.saved_arrays()):
            if i >= len(self.inputs) or i in needed:
                yield kept

    def check_unchanged(self) -> None:
        """Refuse to go on where a saved array was changed in place since forward: the gradient would be silently wrong.

        Raises:
            RuntimeError: one was.
        """
        if changes.changed_since(self.order, self.needed_arrays()):
            raise RuntimeError(
                f"{self.describe()}: an array that it saved for backward was changed in place since; "
                "run backward before the change, or change a copy"
            )
        if modes.anomaly:
            anomaly.before_backward(self)

    # --- messages -----------------------------------------------------------------------------------------------------

    def describe(self) -> str:
        """Name, layers, time step and the user's line: `tanh in encoder.lstm (train.py:12)`."""
        text = self.name + in_layer(getattr(self, "scope", None))
        line = self.line()
        return f"{text} ({line})" if line else text

    def line(self) -> str | None:
        """The user's line that made this operation, as file:line: the innermost one outside this library."""
        if not hasattr(self, "code"):
            return None
        site: Any = self
        while site.code.co_filename.startswith(_LIBRARY) and (site.scope if site is self else site.outer) is not None:
            site = site.scope if site is self else site.outer
        return f"{site.code.co_filename}:{_line_number(site.code, site.instruction)}"

    def _applied_twice(self) -> Exception:
        where = self.describe()
        return RuntimeError(
            f"{type(self).__name__}: this instance was applied before, as {where}, and is a node of that graph; "
            f"make a new one for every call, as in {type(self).__name__}(...)(x)"
        )

    def _explained(self, error: Exception, arrays: list[Any]) -> Exception:
        """`error` with the operation, its layer and its arguments in front of the message."""
        self.scope = modes.scope
        devices = {device_of(x) for x in (*arrays, *vars(self).values()) if is_array(x) and x.ndim}
        what = ", ".join(_signature(x) for x in arrays)
        message = f"{self.describe()}({what}): {error}"
        if len(devices) > 1:
            return TypeError(
                f"{self.describe()}({what}): the arguments lie on different devices, {' and '.join(sorted(devices))}; "
                'move one of them, as in x.to("cuda")'
            )
        if any(device != "cpu" and not is_current(device) for device in devices):
            message += f'; work with what lies there inside `with tinygrad_nlp.cuda.device("{devices.pop()}"):`'
        if type(error) in (TypeError, ValueError, IndexError):
            return type(error)(message)
        error.add_note(f"in {self.describe()}({what})")  # a kind of its own, as NumPy's AxisError
        return error


class Fused(Function):
    """A Function that is computed by a kernel, and defined by plain operations.

    `forward` and `backward` are the kernel: they see arrays only, and may do what is fast. `definition` is the same
    computation in plain Variables: it is what one reads, what a drawing opens, what is differentiated for second
    derivatives, and what tests hold the kernel to.

    Example:
        >>> import numpy as np, tinygrad_nlp as tn
        >>> class Gate(tn.Fused):
        ...     def definition(self, a, b):
        ...         return tn.tanh(a) * tn.sigmoid(b)
        ...     def forward(self, a, b):
        ...         self.saved = t, s = np.tanh(a), 1 / (1 + np.exp(-b))
        ...         return t * s
        ...     def backward(self, gy):
        ...         t, s = self.saved
        ...         return gy * s * (1 - t * t), gy * t * s * (1 - s)
        >>> tn.check_grads(lambda a, b: Gate()(a, b), [np.array([0.5, -1.0]), np.array([0.2, 3.0])], order=2)
    """

    saves_inputs = True
    steps: int | None = None  # through how many time steps a recurrence runs: a drawing shows the loop

    def definition(self, *inputs: Any) -> Any:
        """The same outputs as `forward`, from Variables by plain operations. To be written by a subclass.

        Args:
            *inputs: those of `forward`, as Variables or arrays.

        Returns:
            A Variable, or a tuple of them, of the shapes and dtypes that `forward` gives.

        Raises:
            NotImplementedError: the subclass has none.
        """
        raise NotImplementedError(f"{type(self).__name__}.definition")

    def _backward_graph(self, *gradients: Any) -> Any:
        # The inputs pass through Identity nodes, so that the walk below ends there and not at the leaves of the model.
        inputs = [x if edge is None else Identity()(x) for x, edge in zip(self.inputs, self.edges, strict=True)]
        wanted = [x for x, edge in zip(inputs, self.edges, strict=True) if edge is not None]
        outputs = self.definition(*inputs)
        pairs = zip(outputs if isinstance(outputs, tuple) else (outputs,), gradients, strict=True)
        outputs, gradients = zip(*((y, gy) for y, gy in pairs if isinstance(y, Variable)), strict=True)
        results = iter(grad(outputs, wanted, gradients, create_graph=True, allow_unused=True))
        return tuple(None if edge is None else next(results) for edge in self.edges)


class Identity(Function):
    """x itself, of its shape and dtype, as a node of its own."""

    def forward(self, x: Array) -> Array:
        """x."""
        return x

    def backward(self, gy: Gradient) -> Gradient:
        """The gradient."""
        return gy


def grad(
    outputs: Variable | tuple[Variable, ...] | list[Variable],
    inputs: Variable | tuple[Variable, ...] | list[Variable],
    grad_outputs: Any = None,
    *,
    create_graph: bool = False,
    retain_graph: bool | None = None,
    allow_unused: bool = False,
    beyond_inputs: bool = True,
) -> tuple[Gradient, ...]:
    """Gradients of the sum of `outputs`, weighted with `grad_outputs`, with respect to `inputs`; no `.grad` is touched.

    As `torch.autograd.grad`.

    Args:
        outputs: one Variable or several, of any shape.
        inputs: one Variable or several, leaves or not.
        grad_outputs: one array for each output, of its shape; may be left out for outputs of one element.
        create_graph: give Variables that can be differentiated again.
        retain_graph: keep the graph for another backward; by default as `create_graph`.
        allow_unused: give None for an input on which the outputs do not depend, instead of raising.
        beyond_inputs: count also what flows from one input to another; False holds each of them fixed for the others,
            and calls no hooks of theirs.

    Returns:
        A tuple, one for each input: arrays of its shape and dtype (RowSparse for a table that was looked up), or
        under `create_graph` Variables.

    Raises:
        ValueError: an input requires no gradient, or the outputs do not depend on it; or `grad_outputs` do not fit.
        RuntimeError: the graph was freed, or an array that it saved was changed in place; or an output of several
            elements has no `grad_outputs`.

    Example:
        >>> import tinygrad_nlp as tn
        >>> x = tn.Variable(2.0, requires_grad=True)
        >>> (gx,) = tn.grad(x**3, x, create_graph=True)
        >>> (ggx,) = tn.grad(gx, x)
        >>> float(gx.data), float(ggx)
        (12.0, 12.0)
    """
    outputs = (outputs,) if isinstance(outputs, Variable) else tuple(outputs)
    inputs = (inputs,) if isinstance(inputs, Variable) else tuple(inputs)
    if not inputs:
        return ()
    seeds = (None,) * len(outputs) if grad_outputs is None else grad_outputs
    if isinstance(seeds, Variable) or is_array(seeds):
        seeds = (seeds,)
    if len(seeds) != len(outputs):
        raise ValueError(f"grad: {len(seeds)} grad_outputs for {len(outputs)} outputs")
    for position, x in enumerate(inputs):
        if x.node is None:
            raise ValueError(f"grad: input {position} ({x!r}) does not require a gradient")
    roots = [
        (y.node, y._seed(seed, create_graph)) for y, seed in zip(outputs, seeds, strict=True) if y.node is not None
    ]
    table = backpropagate(
        roots,
        create_graph=create_graph,
        retain_graph=create_graph if retain_graph is None else retain_graph,
        targets={x.node for x in inputs},
        beyond_targets=beyond_inputs,
    )
    results = tuple(table.get(x.node) for x in inputs)
    for position, result in enumerate(results):
        if result is None and not allow_unused:
            raise ValueError(
                f"grad: the outputs do not depend on input {position}; pass allow_unused=True to get None for it"
            )
    if create_graph:
        return tuple(r if r is None or isinstance(r, Variable) else Variable(r) for r in results)
    return results


def _signature(x: Any) -> str:
    if is_array(x):
        return f"{x.dtype} {x.shape}"
    return repr(x) if isinstance(x, int | float | bool | str | type(None)) else type(x).__name__


def _line_number(code: CodeType, instruction: int) -> int | None:
    for start, end, line in code.co_lines():
        if start <= instruction < end:
            return line
    return None


__all__ = ["Function", "Fused", "Identity", "Leaf", "grad"]
