"""Layers: modules that hold the parameters of one operation each. Names and shapes are PyTorch's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import Array, get_array_module
from . import functional as F
from . import init
from .module import Module, Parameter


class Linear(Module):
    """y = x Wᵀ + b.

    Args:
        in_features: size of the last axis of x.
        out_features: size of the last axis of y.
        bias: whether there is a b.

    Parameters: `weight` (out, in) and `bias` (out,), float32, uniform in ±1/√in as in PyTorch.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        self.weight = Parameter(np.empty((out_features, in_features), np.float32))
        self.bias = Parameter(np.empty(out_features, np.float32)) if bias else None
        for parameter in self.parameters():
            init.uniform_(parameter, 1 / math.sqrt(in_features))

    def forward(self, x: Any) -> Any:
        """Multiply by the weight, and add the bias.

        Args:
            x: (…, in), of the dtype of the weight.

        Returns:
            (…, out), of that dtype.

        Raises:
            ValueError: it has another number of features.
            TypeError: it is neither an array nor a Variable.
        """
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Sizes."""
        out_features, in_features = self.weight.shape
        return f"{in_features}, {out_features}" + ("" if self.bias is not None else ", bias=False")


class Embedding(Module):
    """A table of vectors, one for each id. Its gradient is row-sparse.

    Args:
        num_embeddings: V, how many ids there are.
        embedding_dim: D, the size of a vector.

    Parameters: `weight` (V, D), float32, standard normal as in PyTorch.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int) -> None:
        self.weight = Parameter(np.empty((num_embeddings, embedding_dim), np.float32))
        init.normal_(self.weight)

    def forward(self, ids: Any) -> Any:
        """Look the vectors up.

        Args:
            ids: integers (…), each in [0, V).

        Returns:
            (…, D), of the dtype of the weight.

        Raises:
            IndexError: an id outside the table.
            TypeError: ids that are no integers.
        """
        return F.embedding(ids, self.weight)

    def extra_repr(self) -> str:
        """Sizes."""
        return "{}, {}".format(*self.weight.shape)


class LSTM(Module):
    """Long short-term memory over a sequence, fused; `functional.lstm` has the formulas.

    The state is passed in and returned; `detach()` on its parts cuts the graph, as truncated back-propagation wants.

    Args:
        input_size: D.
        hidden_size: H.

    Parameters, with PyTorch's names, so that its state dict fits: `weight_ih_l0` (4H, D), `weight_hh_l0` (4H, H),
    `bias_ih_l0` (4H,), `bias_hh_l0` (4H,), gates in the order i, f, g, o; float32, uniform in ±1/√H.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        self.weight_ih_l0 = Parameter(np.empty((4 * hidden_size, input_size), np.float32))
        self.weight_hh_l0 = Parameter(np.empty((4 * hidden_size, hidden_size), np.float32))
        self.bias_ih_l0 = Parameter(np.empty(4 * hidden_size, np.float32))
        self.bias_hh_l0 = Parameter(np.empty(4 * hidden_size, np.float32))
        for parameter in self.parameters():
            init.uniform_(parameter, 1 / math.sqrt(hidden_size))

    def forward(
        self, x: Any, state: tuple[Any, Any] | None = None, mask: Array | None = None
    ) -> tuple[Any, tuple[Any, Any]]:
        """Run over a batch of sequences.

        Args:
            x: (N, T, D).
            state: h_0 and c_0, each (N, H); zeros by default.
            mask: boolean (N, T), False where a sequence has ended: its state stays as it is.

        Returns:
            The outputs (N, T, H), and the state after the last step.

        Raises:
            ValueError: shapes that do not fit, or no steps.
            TypeError: x is no array or Variable, dtypes differ from the weights', or the mask is not boolean.
        """
        if state is None:
            data = self.weight_hh_l0.data
            zeros = get_array_module(data).zeros((len(x), data.shape[1]), data.dtype)
            state = zeros, zeros
        return F.lstm(x, state, self.weight_ih_l0, self.weight_hh_l0, self.bias_ih_l0, self.bias_hh_l0, mask)

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.weight_ih_l0.shape[1]}, {self.weight_hh_l0.shape[1]}"


class DotAttention(Module):
    """Attention by plain dot products, unscaled, with the keys as values.

    (Luong et al., 2015; *Deep Learning from Scratch 2*, ch. 8, fig. 8-16.) It has no parameters. As a module it has a
    name in drawings.
    """

    def forward(self, query: Any, keys: Any, mask: Array | None = None) -> tuple[Any, Any]:
        """Look from each query over the keys.

        Args:
            query: (N, T, H), the decoder's states.
            keys: (N, S, H), the encoder's.
            mask: boolean, broadcast to (N, T, S): True where a query may look.

        Returns:
            The context (N, T, H), and the weights (N, T, S).

        Raises:
            ValueError: shapes that do not fit.
            TypeError: no arrays or Variables, different dtypes, or a mask that is not boolean.
        """
        return F.attention(query, keys, keys, mask, scale=1.0)


class Dropout(Module):
    """In training, zero elements with probability p and scale the others by 1 / (1 - p) (Srivastava et al., 2014).

    Args:
        p: in [0, 1).

    Raises:
        ValueError: p is outside.
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"Dropout: p must lie in [0, 1), not {p}")
        self.p = p

    def forward(self, x: Any) -> Any:
        """Drop elements, in training only.

        Args:
            x: of any shape and a floating dtype.

        Returns:
            Of the shape and dtype of x; in evaluation x itself.
        """
        return F.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        """The probability."""
        return str(self.p)


class CrossEntropyLoss(Module):
    """Softmax cross-entropy from logits; `functional.cross_entropy` has the details.

    Args:
        ignore_index: a target that does not count.
    """

    def __init__(self, ignore_index: int = -100) -> None:
        self.ignore_index = ignore_index

    def forward(self, logits: Any, targets: Any) -> Any:
        """Compare scores with what is right.

        Args:
            logits: scores (…, V), before any softmax, of a floating dtype.
            targets: ids (…,), each in [0, V) or `ignore_index`.

        Returns:
            The mean loss in nats, a scalar of the dtype of the logits.
        """
        return F.cross_entropy(logits, targets, self.ignore_index)
