"""Recurrent layers over sequences, and their cells for one step. Names and shapes are PyTorch's, batch first."""

from __future__ import annotations

import contextlib
import inspect
import math
import warnings
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..autograd import scope
from ..autograd.modes import in_layer, modes
from ..autograd.ops import concatenate, expand_dims, stack, unstack
from ..backend import Array, get_array_module
from . import functional as F
from . import init
from ._checks import check_arrays, check_ndim, check_pair, check_shape, mask_of_lengths
from .module import Module, Parameter


class LSTMState(NamedTuple):
    """The state of an LSTM, each of shape (layers · directions, N, H); of a cell (N, H).

    Attributes:
        h: what the next layer sees, (L, N, H) of a layer, (N, H) of a cell.
        c: the memory, of the same shape.
    """

    h: Any
    c: Any

    def detach(self) -> LSTMState:
        """The same values without the graph behind them, as truncated back-propagation carries them on."""
        return LSTMState(self.h.detach(), self.c.detach())


class _Recurrent(Module):
    """What the layers share: parameters, the walk through layers and directions, dropout. `RNN` explains the settings.

    A subclass runs one layer in one direction.
    """

    gates: int = 1
    _seeing: int = 0  # how many gates have peepholes
    function: ClassVar[str]  # its name, for messages
    weight_ih_l0: Parameter
    weight_hh_l0: Parameter
    bias_ih_l0: Parameter
    bias_hh_l0: Parameter

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool = True,
        bidirectional: bool = False,
        dropout: float = 0.0,
        variational: bool = False,
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        **unknown: Any,
    ) -> None:
        name = type(self).__name__
        for setting in unknown:
            own = [p.name for p in inspect.signature(type(self)).parameters.values() if p.kind is p.KEYWORD_ONLY]
            common = ["bias", "bidirectional", "dropout", "variational", "input_dropout", "recurrent_dropout"]
            known = ", ".join([*common, *own])
            what = "x is (N, T, D) always" if setting == "batch_first" else f"there are {known}"
            raise TypeError(f"{name}: there is no setting {setting!r}; {what}")
        for argument, size in {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}.items():
            if size < 1:
                raise ValueError(f"{name}: {argument} must be 1 or more, not {size}")
        chances = {"dropout": dropout, "input_dropout": input_dropout, "recurrent_dropout": recurrent_dropout}
        for argument, p in chances.items():
            if not 0 <= p < 1:
                raise ValueError(f"{name}: {argument} must lie in [0, 1), not {p}")
        if dropout and num_layers == 1:
            warnings.warn(
                f"{name}: dropout={dropout} acts between layers, and here is only one; nn.Dropout can follow it",
                stacklevel=3,
            )
        self.num_layers, self.bidirectional = num_layers, bidirectional
        self.dropout, self.variational = dropout, variational
        self.input_dropout, self.recurrent_dropout = input_dropout, recurrent_dropout
        directions = ["", "_reverse"] if bidirectional else [""]
        for layer in range(num_layers):
            features = hidden_size * len(directions) if layer else input_size
            for direction in directions:
                _make_parameters(self, self.gates, features, hidden_size, bias, self._seeing, f"_l{layer}{direction}")

    def _one(self, x: Any, state: tuple[Any, ...], weights: dict[str, Any], **settings: Any) -> tuple[Any, Any]:
        """Run one layer in one direction, from its state, arrays (N, H), to its outputs and its last state."""
        raise NotImplementedError(f"{type(self).__name__}._one")

    def _all(self, x: Any, state: tuple[Any, ...] | None, states: int, mask: Any, lengths: Any) -> tuple[Any, Any]:
        """Run all layers, from a state of so many arrays (layers · directions, N, H), or from zeros."""
        check_arrays(self.function, x=x)
        check_ndim(self.function, "x", x, "(N, T, D)")
        if lengths is not None:
            if mask is not None:
                raise ValueError(f"{self.function}{in_layer(modes.scope)}: pass a mask or lengths, not both")
            mask = mask_of_lengths(self.function, lengths, x)
        weight = self.weight_hh_l0.data
        size = len(x), weight.shape[1]
        directions = ["", "_reverse"] if self.bidirectional else [""]
        count = self.num_layers * len(directions)
        if state is None:
            first = [(get_array_module(weight).zeros(size, weight.dtype),) * states] * count
        else:
            for name, part in zip(("h_0", "c_0"), state, strict=False):
                check_arrays(self.function, **{name: part})
                check_shape(self.function, name, part, (count, *size))
            first = list(zip(*(unstack(part) for part in state), strict=True))
        last: list[tuple[Any, ...]] = []
        if self.training and self.input_dropout:
            x = F.dropout(x, self.input_dropout, shared_axis=1)
        for layer in range(self.num_layers):
            if layer and self.training and self.dropout:
                x = F.dropout(x, self.dropout, shared_axis=1 if self.variational else None)
            outputs = []
            for direction in directions:
                dropped = self.training and self.recurrent_dropout
                with scope(f"l{layer}{direction}") if count > 1 else contextlib.nullcontext():
                    output, after = self._one(
                        x,
                        first[len(last)],
                        _parameters(self, f"_l{layer}{direction}"),
                        mask=mask,
                        reverse=bool(direction),
                        recurrent_mask=F.dropout_mask(size, self.recurrent_dropout, weight) if dropped else None,
                    )
                outputs.append(output)
                last.append(after)
            x = concatenate(outputs, axis=2) if self.bidirectional else outputs[0]
        if count == 1:
            return x, [expand_dims(part, 0) for part in last[0]]
        return x, [stack(parts, axis=0) for parts in zip(*last, strict=True)]

    def extra_repr(self) -> str:
        """Sizes, and the settings that are not the usual ones."""
        hidden, features = self.weight_hh_l0.shape[1], self.weight_ih_l0.shape[1]
        usual = {
            "num_layers": 1, "nonlinearity": "tanh", "forget_gate": True, "peepholes": False, "reset_after": True,
            "bias": True, "bidirectional": False, "dropout": 0.0, "variational": False, "input_dropout": 0.0,
            "recurrent_dropout": 0.0,
        }  # fmt: skip
        ours = {**usual, **vars(self), "bias": "bias_ih_l0" in vars(self)}
        settings = [f"{name}={ours[name]}" for name, value in usual.items() if ours[name] != value]
        return ", ".join([str(features), str(hidden), *settings])


class RNN(_Recurrent):
    """Simple recurrent network over a sequence, fused; `functional.rnn` has the formula.

    The state is passed in and returned; its `detach()` cuts the graph, as truncated back-propagation wants.

    Args:
        input_size: D.
        hidden_size: H.
        num_layers: L, one above the other.
        nonlinearity: "tanh" or "relu".
        settings: by name, for this layer as for `LSTM` and `GRU`:

            - `bias=True`: whether there are biases.
            - `bidirectional=False`: whether each layer also runs from the end to the start; the outputs of its two
              directions lie side by side.
            - `dropout=0.0`: probability of dropping an output of a layer on its way to the next, in training.
            - `variational=False`: whether that drops the same features at all steps (Gal and Ghahramani, 2016).
            - `input_dropout=0.0`: probability of dropping a feature of x, the same at all steps.
            - `recurrent_dropout=0.0`: probability of dropping a feature of h before the recurrent product, the same
              at all steps.

    Parameters, with PyTorch's names, so that its state dict fits: `weight_ih_l0` (H, D), `weight_hh_l0` (H, H),
    `bias_ih_l0` (H,), `bias_hh_l0` (H,), with further layers `…_l1`, which are H wide (2 H behind two directions), and
    for the other direction `…_l0_reverse`; float32, uniform in ±1/√H.

    Raises:
        ValueError: a size below 1, a probability outside [0, 1), or another nonlinearity.
        TypeError: a setting that there is not.

    Example:
        >>> import numpy as np
        >>> from tinygrad_nlp import nn
        >>> layer = nn.RNN(3, 4, num_layers=2, bidirectional=True)
        >>> outputs, h = layer(np.zeros((5, 7, 3), np.float32), lengths=[7, 7, 6, 2, 0])
        >>> outputs.shape, h.shape
        ((5, 7, 8), (4, 5, 4))
    """

    function = "rnn"

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, *, nonlinearity: str = "tanh", **settings: Any
    ) -> None:
        _check_nonlinearity(self, nonlinearity)
        self.nonlinearity = nonlinearity
        super().__init__(input_size, hidden_size, num_layers, **settings)

    def forward(self, x: Any, state: Any = None, mask: Array | None = None, lengths: Any = None) -> tuple[Any, Any]:
        """Run over a batch of sequences.

        Args:
            x: (N, T, D).
            state: h_0, (L, N, H), or (2 L, N, H) with two directions: layer by layer, forwards then backwards; zeros
                by default.
            mask: boolean (N, T), False where there is no step: output and state stay as they are. A sequence that ends
                early keeps its state from there on, and its reverse direction starts at its true end.
            lengths: integers (N,), in place of a mask: each sequence has its first so many steps. 0 is allowed.

        Returns:
            The outputs of the last layer (N, T, H) or (N, T, 2 H), and the last state, of the shape of the first.

        Raises:
            ValueError: shapes or lengths that do not fit, no steps, or a mask and lengths.
            TypeError: x is no array or Variable, dtypes differ from the weights', the mask is not boolean, or lengths
                are no integers.
        """
        x, (h,) = self._all(x, None if state is None else (state,), 1, mask, lengths)
        return x, h

    def _one(self, x: Any, state: tuple[Any, ...], weights: dict[str, Any], **settings: Any) -> tuple[Any, Any]:
        x, h = F.rnn(x, state[0], **weights, nonlinearity=self.nonlinearity, **settings)
        return x, (h,)


class LSTM(_Recurrent):
    """Long short-term memory over a sequence, fused; `functional.lstm` has the formulas.

    The state is passed in and returned; its `detach()` cuts the graph, as truncated back-propagation wants.

    Args:
        input_size: D.
        hidden_size: H.
        num_layers: L, one above the other.
        forget_gate: whether there is one.
        peepholes: whether the gates see the cells.
        settings: those of `RNN`, by name.

    Parameters, with PyTorch's names, so that its state dict fits: `weight_ih_l0` (4H, D), `weight_hh_l0` (4H, H),
    `bias_ih_l0` (4H,), `bias_hh_l0` (4H,), gates in the order i, f, g, o; without a forget gate 3H, i, g, o. With
    peepholes `peepholes_l0` (3H,), for i, f, o, or (2H,). Further layers and directions as for `RNN`. All float32,
    uniform in ±1/√H.

    Raises:
        ValueError: a size below 1, or a probability outside [0, 1).
        TypeError: a setting that there is not.
    """

    function = "lstm"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        forget_gate: bool = True,
        peepholes: bool = False,
        **settings: Any,
    ) -> None:
        self.forget_gate, self.peepholes = forget_gate, peepholes
        self.gates = 4 if forget_gate else 3
        self._seeing = (self.gates - 1) * peepholes
        super().__init__(input_size, hidden_size, num_layers, **settings)

    def forward(
        self, x: Any, state: tuple[Any, Any] | None = None, mask: Array | None = None, lengths: Any = None
    ) -> tuple[Any, LSTMState]:
        """Run over a batch of sequences.

        Args:
            x: (N, T, D).
            state: h_0 and c_0, each (L, N, H), or (2 L, N, H) with two directions; zeros by default.
            mask: boolean (N, T), False where there is no step; see `RNN`.
            lengths: integers (N,), in place of a mask; see `RNN`.

        Returns:
            The outputs of the last layer (N, T, H) or (N, T, 2 H), and the last state, with the shapes of the first.

        Raises:
            ValueError: shapes or lengths that do not fit, no steps, or a mask and lengths.
            TypeError: x is no array or Variable, dtypes differ from the weights', the mask is not boolean, or lengths
                are no integers.
        """
        if state is not None:
            check_pair("lstm", state)
        x, state = self._all(x, state, 2, mask, lengths)
        return x, LSTMState(*state)

    def _one(self, x: Any, state: tuple[Any, ...], weights: dict[str, Any], **settings: Any) -> tuple[Any, Any]:
        return F.lstm(x, (state[0], state[1]), **weights, forget_gate=self.forget_gate, **settings)


class GRU(_Recurrent):
    """Gated recurrent unit over a sequence, fused; `functional.gru` has the formulas.

    The state is passed in and returned; its `detach()` cuts the graph, as truncated back-propagation wants.

    Args:
        input_size: D.
        hidden_size: H.
        num_layers: L, one above the other.
        reset_after: whether the reset gate acts after the product with W_hn, as in PyTorch, or before it.
        settings: those of `RNN`, by name.

    Parameters, with PyTorch's names, so that its state dict fits: `weight_ih_l0` (3H, D), `weight_hh_l0` (3H, H),
    `bias_ih_l0` (3H,), `bias_hh_l0` (3H,), gates in the order r, z, n. Further layers and directions as for `RNN`. All
    float32, uniform in ±1/√H.

    Raises:
        ValueError: a size below 1, or a probability outside [0, 1).
        TypeError: a setting that there is not.
    """

    function = "gru"
    gates = 3

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, *, reset_after: bool = True, **settings: Any
    ) -> None:
        self.reset_after = reset_after
        super().__init__(input_size, hidden_size, num_layers, **settings)

    def forward(self, x: Any, state: Any = None, mask: Array | None = None, lengths: Any = None) -> tuple[Any, Any]:
        """Run over a batch of sequences.

        Args:
            x: (N, T, D).
            state: h_0, (L, N, H), or (2 L, N, H) with two directions; zeros by default.
            mask: boolean (N, T), False where there is no step; see `RNN`.
            lengths: integers (N,), in place of a mask; see `RNN`.

        Returns:
            The outputs of the last layer (N, T, H) or (N, T, 2 H), and the last state, of the shape of the first.

        Raises:
            ValueError: shapes or lengths that do not fit, no steps, or a mask and lengths.
            TypeError: x is no array or Variable, dtypes differ from the weights', the mask is not boolean, or lengths
                are no integers.
        """
        x, (h,) = self._all(x, None if state is None else (state,), 1, mask, lengths)
        return x, h

    def _one(self, x: Any, state: tuple[Any, ...], weights: dict[str, Any], **settings: Any) -> tuple[Any, Any]:
        x, h = F.gru(x, state[0], **weights, reset_after=self.reset_after, **settings)
        return x, (h,)


class _Cell(Module):
    """What the cells share: one step of a layer, with parameters that have PyTorch's names."""

    gates: int = 1
    weight_ih: Parameter
    weight_hh: Parameter

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, peepholes: int = 0) -> None:
        for argument, size in {"input_size": input_size, "hidden_size": hidden_size}.items():
            if size < 1:
                raise ValueError(f"{type(self).__name__}: {argument} must be 1 or more, not {size}")
        _make_parameters(self, self.gates, input_size, hidden_size, bias, peepholes, "")

    def _sequence(self, function: str, x: Any) -> Any:
        """(N, D) as a sequence of one step."""
        check_arrays(function, x=x)
        check_ndim(function, "x", x, "(N, D)")
        return expand_dims(x, 1)

    def _zeros(self, x: Any) -> Array:
        weight = self.weight_hh.data
        return get_array_module(weight).zeros((len(x), weight.shape[1]), weight.dtype)

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.weight_ih.shape[1]}, {self.weight_hh.shape[1]}"


class RNNCell(_Cell):
    """One step of `RNN`.

    Args:
        input_size: D.
        hidden_size: H.
        bias: whether there are biases.
        nonlinearity: "tanh" or "relu".

    Parameters: `weight_ih` (H, D), `weight_hh` (H, H), `bias_ih` (H,), `bias_hh` (H,), float32, uniform in ±1/√H.

    Raises:
        ValueError: a size below 1, or another nonlinearity.
    """

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh") -> None:
        _check_nonlinearity(self, nonlinearity)
        super().__init__(input_size, hidden_size, bias)
        self.nonlinearity = nonlinearity

    def forward(self, x: Any, state: Any = None) -> Any:
        """Take the step.

        Args:
            x: (N, D), of the dtype of the weights.
            state: h (N, H); zeros by default.

        Returns:
            The next h (N, H).

        Raises:
            ValueError: shapes that do not fit.
            TypeError: no arrays or Variables, or different dtypes.
        """
        h = self._zeros(x) if state is None else state
        sequence = self._sequence("rnn", x)
        return F.rnn(sequence, h, **_parameters(self, ""), nonlinearity=self.nonlinearity)[1]


class LSTMCell(_Cell):
    """One step of `LSTM`.

    Args:
        input_size: D.
        hidden_size: H.
        bias: whether there are biases.
        forget_gate: whether there is one.
        peepholes: whether the gates see the cells.

    Parameters: `weight_ih` (4H, D), `weight_hh` (4H, H), `bias_ih` (4H,), `bias_hh` (4H,) and `peepholes` (3H,), as
    those of `LSTM`; float32, uniform in ±1/√H.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        forget_gate: bool = True,
        peepholes: bool = False,
    ) -> None:
        self.forget_gate = forget_gate
        self.gates = 4 if forget_gate else 3
        super().__init__(input_size, hidden_size, bias, (self.gates - 1) * peepholes)

    def forward(self, x: Any, state: tuple[Any, Any] | None = None) -> LSTMState:
        """Take the step.

        Args:
            x: (N, D), of the dtype of the weights.
            state: h and c, each (N, H); zeros by default.

        Returns:
            The next h and c.

        Raises:
            ValueError: shapes that do not fit.
            TypeError: no arrays or Variables, or different dtypes.
        """
        state = (self._zeros(x),) * 2 if state is None else state
        sequence = self._sequence("lstm", x)
        return LSTMState(*F.lstm(sequence, state, **_parameters(self, ""), forget_gate=self.forget_gate)[1])


class GRUCell(_Cell):
    """One step of `GRU`.

    Args:
        input_size: D.
        hidden_size: H.
        bias: whether there are biases.
        reset_after: whether the reset gate acts after the product with W_hn, as in PyTorch, or before it.

    Parameters: `weight_ih` (3H, D), `weight_hh` (3H, H), `bias_ih` (3H,), `bias_hh` (3H,), float32, uniform in ±1/√H.

    Raises:
        ValueError: a size below 1.
    """

    gates = 3

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, *, reset_after: bool = True) -> None:
        super().__init__(input_size, hidden_size, bias)
        self.reset_after = reset_after

    def forward(self, x: Any, state: Any = None) -> Any:
        """Take the step.

        Args:
            x: (N, D), of the dtype of the weights.
            state: h (N, H); zeros by default.

        Returns:
            The next h (N, H).

        Raises:
            ValueError: shapes that do not fit.
            TypeError: no arrays or Variables, or different dtypes.
        """
        h = self._zeros(x) if state is None else state
        return F.gru(self._sequence("gru", x), h, **_parameters(self, ""), reset_after=self.reset_after)[1]


def _make_parameters(
    module: Module, gates: int, features: int, hidden: int, bias: bool, peepholes: int, suffix: str
) -> None:
    """Those of one layer in one direction, in PyTorch's order."""
    rows = gates * hidden
    shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, features), "weight_hh": (rows, hidden)}
    if bias:
        shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
    if peepholes:
        shapes["peepholes"] = (peepholes * hidden,)
    for name, shape in shapes.items():
        parameter = Parameter(np.empty(shape, np.float32))
        init.uniform_(parameter, 1 / math.sqrt(hidden))
        setattr(module, name + suffix, parameter)


def _parameters(module: Module, suffix: str) -> dict[str, Any]:
    """Those of one layer in one direction, by the names of the arguments."""
    held = vars(module)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "peepholes")
    return {name: held[name + suffix] for name in names if name + suffix in held}


def _check_nonlinearity(module: Module, nonlinearity: str) -> None:
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f'{type(module).__name__}: nonlinearity must be "tanh" or "relu", not {nonlinearity!r}')
