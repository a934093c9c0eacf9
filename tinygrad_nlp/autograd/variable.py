"""Variable: an array with a place in a computation graph."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import numpy as np

from .. import backend
from ..backend import Array, asnumpy, device_of, get_array_module, is_array
from . import changes
from .engine import Gradient, HookHandle, Leaf, Node, Output, backpropagate, hooks_of

_OTHER_NAMES = {"amax": "max", "amin": "min", "ravel": "flatten"}  # NumPy's: ours


class Variable:
    """An array that remembers how it was computed, so that it can be differentiated.

    Operators and methods are those of NumPy (and of PyTorch where NumPy has none); they make new Variables. Assignment
    to elements is refused: use `where`, `stack`, `concatenate`.

    Args:
        data: an array of NumPy or CuPy, which is shared and not copied; or a number or a nested list, which becomes
            float32 where it holds floats.
        requires_grad: whether `backward` shall leave a gradient in `grad`. Floating dtypes only.
        name: for drawings and messages.

    Attributes:
        data: the array. `x.data -= ...` is noticed by graphs that saved it: their backward raises. After
            `x.data = new` they keep the old one.
        grad: None, or what `backward` left: an array of the shape and dtype of `data` which is this Variable's own, a
            `RowSparse` for a table of which rows were looked up, a Variable after `backward(create_graph=True)`.
        node: the graph behind: a Function (or one of its Outputs) for a result, a Leaf where the user asked for a
            gradient, None where none flows.

    Raises:
        TypeError: `data` is a Variable, or does not make a regular array of numbers; or an integer asks for a gradient.

    Example:
        >>> import numpy as np, tinygrad_nlp as tn
        >>> x = tn.Variable(np.ones((2, 3), np.float32), requires_grad=True)
        >>> (x * x).sum().backward()
        >>> x.grad
        array([[2., 2., 2.],
               [2., 2., 2.]], dtype=float32)
    """

    __slots__ = ("__weakref__", "_data", "_name", "grad", "node")
    __array_ufunc__ = None  # array + variable comes to our __radd__; np.tanh(variable) raises instead of guessing

    _data: Array
    _name: str | None
    grad: Gradient
    node: Node

    def __init__(self, data: Any, requires_grad: bool = False, name: str | None = None) -> None:
        if isinstance(data, Variable):
            raise TypeError("Variable: data is a Variable already; use x.detach() for one without its graph")
        if isinstance(data, np.ndarray):
            data = np.asarray(data)  # for np.matrix, whose * is another, and its like
        elif not is_array(data):
            typed = isinstance(data, np.generic)
            try:
                data = np.asarray(data)
            except ValueError as error:  # a ragged list
                raise TypeError(f"Variable: {error}") from None
            if data.dtype == np.float64 and not typed:
                data = data.astype(np.float32)
        if data.dtype.kind not in "biufc":
            raise TypeError(
                f"Variable: data must be an array, a number or a regular nested list of numbers, not of {data.dtype}"
            )
        self._data = data
        self.grad = None
        self._name = name
        self.node = None
        if requires_grad:
            self.requires_grad = True

    @classmethod
    def _of_node(cls, data: Array, node: Node) -> Variable:
        """What a Function saved, as a Variable at its old place in the graph."""
        variable = cls.__new__(cls)
        variable._data, variable.node = data, node
        variable.grad = variable._name = None
        return variable

    # --- the array ----------------------------------------------------------------------------------------------------

    def _set_data(self, data: Array) -> None:
        if not is_array(data):
            raise TypeError(f"Variable.data must be an array, not {type(data).__name__}")
        if data is self._data:
            changes.mark_changed(data)  # x.data -= ... ends here, with the array changed in place
            return
        self._data = data
        if isinstance(self.node, Leaf) and (data.shape, data.dtype) != (self.node.shape, self.node.dtype):
            hooks = self.node.hooks
            self.node = Leaf(self)
            self.node.hooks = hooks
            self.grad = None  # it was of the shape and dtype of the former

    def _set_name(self, name: str | None) -> None:
        self._name = name
        if isinstance(self.node, Leaf):
            self.node.name = name

    data = property(
        attrgetter("_data"), _set_data, doc="The array, not copied.\n\nRaises:\n    TypeError: set to what is no array."
    )
    name = property(attrgetter("_name"), _set_name, doc="For drawings and messages; None if it has none.")
    shape = property(attrgetter("_data.shape"), doc="The sizes of the array, a tuple.")
    dtype = property(attrgetter("_data.dtype"), doc="Of the array, a `numpy.dtype`.")
    ndim = property(attrgetter("_data.ndim"), doc="How many axes the array has.")
    size = property(attrgetter("_data.size"), doc="How many elements the array has.")

    @property
    def device(self) -> str:
        """Where the array lies: "cpu", "cuda:0", …"""
        return device_of(self._data)

    def numpy(self) -> np.ndarray:
        """The array, of the same shape and dtype, on the CPU, without the graph; shared where it lies there."""
        return asnumpy(self._data)

    def item(self) -> Any:
        """The only element, as a Python number; a ValueError where there are more, or none."""
        return self._data.item()

    def tolist(self) -> Any:
        """The elements as nested lists of Python numbers; of a 0-d array the number itself."""
        return self._data.tolist()

    # --- the graph ----------------------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether a gradient flows to this Variable. Can be set where it is a leaf.

        Raises:
            RuntimeError: it is set on the result of an operation.
            TypeError: it is set to True on integers.
        """
        return self.node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if not (self.node is None or isinstance(self.node, Leaf)):
            raise RuntimeError("requires_grad can be set on leaves only; x.detach() gives one without its graph")
        if value and self._data.dtype.kind not in "fc":
            raise TypeError(f"requires_grad: gradients need a floating dtype, not {self._data.dtype}")
        if value is not self.requires_grad:
            self.node = Leaf(self) if value else None

    @property
    def is_leaf(self) -> bool:
        """Whether no operation made this Variable (or none that was recorded)."""
        return self.node is None or isinstance(self.node, Leaf)

    @property
    def creator(self) -> Any:
        """The Function that made this Variable; None for a leaf. Chainer's name for PyTorch's `grad_fn`."""
        return None if self.is_leaf else getattr(self.node, "function", self.node)

    def detach(self) -> Variable:
        """A Variable of the same array (shared) without the graph behind it: gradients stop here."""
        return Variable(self._data, name=self.name)

    def unchain(self) -> None:
        """Cut this Variable off from its creator: it is a constant now, and what was computed from it before ends here.

        `detach` gives a constant beside this Variable; `unchain` makes one of it, in graphs that already stand too.
        """
        if self.is_leaf:
            return
        if type(self.node) is Output:
            self.node.function = None
        else:
            self.node.cut()
        self.node = None

    def unchain_backward(self) -> None:
        """Cut everything behind this Variable, and free its memory: the end of a window in truncated BPTT.

        The name is Chainer's; the windows are those of *Deep Learning from Scratch 2* (fig. 5-14). A state that was
        computed on the way may be used on: gradients end where it was cut. Call it on the state, or before `backward`,
        which frees the graph as it goes: what is behind a freed operation cannot be found.

        Example:
            >>> import tinygrad_nlp as tn
            >>> w, h = tn.Variable(0.5, requires_grad=True), tn.Variable(1.0)
            >>> for _ in range(3):
            ...     h = tn.tanh(w * h)
            ...     loss = h * h
            ...     loss.backward()
            ...     h.unchain_backward()  # without it, the second backward would go through the first graph
        """
        stack = [] if self.is_leaf else [self.node]
        while stack:
            node = stack.pop()
            if type(node) is Output:
                stack.append(node.function)
            elif node is not None and type(node) is not Leaf:
                stack.extend(node.edges or ())
                node.cut()
        if not self.is_leaf:
            self.node = None

    def retain_grad(self) -> None:
        """Let `backward` leave the gradient of this Variable in `grad` although it is no leaf.

        Raises:
            RuntimeError: no gradient flows to it.
        """
        if self.node is None:
            raise RuntimeError("retain_grad: this Variable does not require a gradient")
        if not self.is_leaf:
            self.node.retained = weakref.ref(self)
            hooks_of(self.node)

    def register_hook(self, hook: Callable[[Gradient], Gradient]) -> HookHandle:
        """Call `hook` with the gradient of this Variable whenever it is computed, once it is whole.

        Args:
            hook: takes the gradient (what a `backward` gets: an array, a RowSparse, or a Variable under
                `create_graph`), and must not change it in place; returns another in its place, or None.

        Returns:
            A handle: `handle.remove()` ends it.

        Raises:
            RuntimeError: no gradient flows to this Variable.

        Example:
            >>> import numpy as np, tinygrad_nlp as tn
            >>> x = tn.Variable(3.0, requires_grad=True)
            >>> handle = x.register_hook(lambda gradient: np.clip(gradient, -1, 1))
            >>> (x * x).backward()
            >>> float(x.grad)
            1.0
        """
        if self.node is None:
            raise RuntimeError("register_hook: this Variable does not require a gradient, so that no hook would run")
        return HookHandle(hooks_of(self.node), hook)

    def backward(
        self, gradient: Array | Variable | None = None, *, retain_graph: bool = False, create_graph: bool = False
    ) -> None:
        """Add the gradient of this Variable to the `grad` of every leaf that it depends on.

        Args:
            gradient: of what is differentiated with respect to this Variable, an array (or what makes one, or a
                Variable) of its shape, which is cast to its dtype; 1 by default, for a Variable of one element.
            retain_graph: keep the graph, so that backward can run again; otherwise it is freed on the way.
            create_graph: leave Variables in `grad` that can be differentiated again; the graph is kept.

        Raises:
            RuntimeError: there is no graph; no gradient was given and there is more than one element; the graph was
                freed before; or a saved array was changed in place.
            ValueError: `gradient` is not of the shape of this Variable.
        """
        if self.node is None:
            raise RuntimeError(
                "backward: this Variable has no graph; no input required a gradient, or it was made under no_grad()"
            )
        gradients = backpropagate(
            [(self.node, self._seed(gradient, create_graph))], retain_graph=retain_graph, create_graph=create_graph
        )
        for node, g in gradients.items():
            variable = (node.variable if type(node) is Leaf else node.retained)()
            if variable is None:
                continue
            if create_graph and not isinstance(g, Variable):
                g = Variable(g)
            if variable.grad is None:
                variable.grad = g
            elif is_array(variable.grad) and is_array(g):
                variable.grad += g
            else:
                variable.grad = variable.grad + g

    def _seed(self, gradient: Array | Variable | None, create_graph: bool) -> Gradient:
        """The gradient that a walk starts with, checked: a Variable where the walk shall be recorded, else an array."""
        data = self._data
        if gradient is None:
            if data.size != 1:
                raise RuntimeError(
                    f"backward from a Variable of shape {data.shape}: only one element can be differentiated; "
                    "call .sum() or .mean() first, or pass the gradient, an array of that shape"
                )
            gradient = get_array_module(data).ones(data.shape, data.dtype)
        elif not isinstance(gradient, Variable) and not is_array(gradient):
            gradient = get_array_module(data).asarray(gradient, data.dtype)
        if gradient.shape != data.shape:
            raise ValueError(f"backward: the gradient has shape {gradient.shape}, the Variable {data.shape}")
        seed: Gradient = gradient
        if seed.dtype != data.dtype:
            seed = seed.astype(data.dtype)
        if create_graph:
            return seed if isinstance(seed, Variable) else Variable(seed)
        return seed.data if isinstance(seed, Variable) else seed

    # --- what NumPy and Python ask for --------------------------------------------------------------------------------

    def __array_function__(self, function: Callable[..., Any], types: Any, args: Any, kwargs: Any) -> Any:
        """Refuse what this library has itself, as `np.sum`; the rest of NumPy, as `np.allclose`, asks `__array__`."""
        from . import ops  # which imports this file

        name = _OTHER_NAMES.get(function.__name__, function.__name__)
        if name in ops.__all__:
            raise TypeError(
                f"{function.__module__}.{function.__name__} does not take a Variable, as NumPy would not record it; "
                f"use tinygrad_nlp.{name}, or NumPy's function of x.data"
            )
        return function._implementation(*args, **kwargs)  # type: ignore[attr-defined]  # as ndarray's does

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self.requires_grad:
            raise TypeError(
                "np.asarray of a Variable that requires a gradient would lose it silently; use x.data or x.detach()"
            )
        return np.array(self.numpy(), dtype, copy=copy)

    def __dlpack__(self, **options: Any) -> Any:
        if self.requires_grad:
            raise BufferError(
                "DLPack of a Variable that requires a gradient would lose it silently; use x.data or x.detach()"
            )
        if any(stride < 0 for stride in self._data.strides):
            raise BufferError(
                "DLPack of an array with negative strides, over which PyTorch ends the process; "
                "pass np.ascontiguousarray(x.data)"
            )
        return self._data.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._data.__dlpack_device__()

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError(
            "a Variable does not support item assignment, as the graph would not know of it; "
            "use tn.where, tn.stack or tn.concatenate, or change x.data of a leaf"
        )

    def __len__(self) -> int:
        return len(self._data)

    def __bool__(self) -> bool:
        return bool(self._data)

    def __float__(self) -> float:
        return float(self._data)

    def __int__(self) -> int:
        return int(self._data)

    def __format__(self, spec: str) -> str:
        """Of one number, as Python writes it: f"{loss:.3f}". Without a format, or of several elements, as `repr`."""
        return format(self.item(), spec) if spec and self.ndim == 0 else format(repr(self), spec)

    def __repr__(self) -> str:
        body = np.array2string(self.numpy(), separator=", ", prefix="Variable(")
        extra = "" if self.dtype == np.float32 else f", dtype={self.dtype}"
        if self.creator is not None:
            extra += f", creator={self.creator.name}"
        elif self.requires_grad:
            extra += ", requires_grad=True"
        return f"Variable({body}{extra})"

    # Copies and pickles carry data, not the graph: a graph cannot be copied without all that it leads to.
    def __getstate__(self) -> tuple[Any, ...]:
        return self._data, self.requires_grad, self.name

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        data, requires_grad, name = state
        Variable.__init__(self, data, requires_grad, name)


def from_dlpack(x: Any) -> Variable:
    """A Variable of the array of another library, as a PyTorch tensor: shared, on its device, and not copied.

    The other way `torch.from_dlpack(variable)` does it. Both ways raise BufferError for what requires a gradient. That
    way also refuses negative strides, which PyTorch cannot take.

    Args:
        x: whatever follows the DLPack protocol (`numpy.from_dlpack`), of any shape.

    Returns:
        Of the shape and dtype of x, without a gradient.

    Raises:
        AttributeError: x does not follow the protocol.
        BufferError: x requires a gradient.
        RuntimeError: x has a dtype that NumPy has not, as bfloat16.

    Example:
        >>> import numpy as np, tinygrad_nlp as tn
        >>> array = np.zeros(2, np.float32)
        >>> x = tn.from_dlpack(array)
        >>> array[0] = 1
        >>> x
        Variable([1., 0.])
    """
    return Variable(backend.from_dlpack(x))
