"""Layers: modules that hold the parameters of one operation each. Names and shapes are PyTorch's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import Array
from . import functional as F
from . import init
from .module import Module, Parameter


class Linear(Module):
    """y = x Wᵀ + b, the affine layer of *Deep Learning from Scratch 2*, ch. 1.

    Args:
        in_features: size of the last axis of x, 1 or more.
        out_features: size of the last axis of y, 0 or more.
        bias: whether there is a b.

    Attributes:
        weight: Parameter (out, in), float32, uniform in ±1/√in as in PyTorch.
        bias: Parameter (out,), likewise; None where there is none.

    Raises:
        ValueError: a size is below that.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        if in_features < 1:
            raise ValueError(f"Linear: in_features must be at least 1, not {in_features}")
        if out_features < 0:
            raise ValueError(f"Linear: out_features must be at least 0, not {out_features}")
        self.weight = Parameter(np.empty((out_features, in_features), np.float32))
        self.bias = Parameter(np.empty(out_features, np.float32)) if bias else None
        for parameter in self.parameters():
            init.uniform_(parameter, 1 / math.sqrt(in_features))

    def forward(self, x: Any) -> Any:
        """Multiply by the weight, and add the bias.

        Args:
            x: (…, in), array or Variable, as a rule of the dtype of the weight.

        Returns:
            (…, out), of the dtype that NumPy gives to the product: that of both, or the wider one.

        Raises:
            ValueError: x has another number of features.
            TypeError: it is neither an array nor a Variable.
        """
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Sizes."""
        out_features, in_features = self.weight.shape
        return f"{in_features}, {out_features}" + ("" if self.bias is not None else ", bias=False")


class Embedding(Module):
    """A table of vectors, one for each id (*Deep Learning from Scratch 2*, fig. 4-4). Its gradient is row-sparse.

    Args:
        num_embeddings: V, how many ids there are.
        embedding_dim: D, the size of a vector.

    Attributes:
        weight: Parameter (V, D), float32, standard normal as in PyTorch.

    Raises:
        ValueError: a size below 0.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int) -> None:
        for argument, size in {"num_embeddings": num_embeddings, "embedding_dim": embedding_dim}.items():
            if size < 0:
                raise ValueError(f"Embedding: {argument} must be at least 0, not {size}")
        self.weight = Parameter(np.empty((num_embeddings, embedding_dim), np.float32))
        init.normal_(self.weight)

    def forward(self, ids: Any) -> Any:
        """Look the vectors up.

        Args:
            ids: integers (…), an array or nested lists, each in [0, V).

        Returns:
            (…, D), of the dtype of the weight.

        Raises:
            IndexError: an id outside the table.
            TypeError: ids that are no integers.
        """
        return F.embedding(ids, self.weight)

    def as_linear(self, x: Any) -> Any:
        """The table as the weight of a linear layer without bias: a score for each id.

        A language model that takes its scores so has one parameter for words that come in and words that go out
        (Press and Wolf, 2017); it is one for clipping, optimizers and files too.

        Args:
            x: (…, D), of the dtype of the weight.

        Returns:
            x Wᵀ, (…, V).

        Raises:
            ValueError: x has another number of features.
            TypeError: x is neither an array nor a Variable.
        """
        return F.linear(x, self.weight)

    def extra_repr(self) -> str:
        """Sizes."""
        return "{}, {}".format(*self.weight.shape)


class LayerNorm(Module):
    """Layer normalisation; `functional.layer_norm` has the formula (Ba, Kiros and Hinton, 2016).

    Args:
        normalized_shape: the sizes of the last axes, over which mean and variance are taken; an integer is one axis.
        eps: ε, added to the variance.
        bias: whether there is one.

    Parameters: `weight`, ones, and `bias`, zeros, both `normalized_shape`, float32.
    """

    def __init__(self, normalized_shape: int | tuple[int, ...], eps: float = 1e-5, bias: bool = True) -> None:
        self.normalized_shape = tuple(np.atleast_1d(normalized_shape).tolist())
        self.eps = eps
        self.weight = Parameter(np.ones(self.normalized_shape, np.float32))
        self.bias = Parameter(np.zeros(self.normalized_shape, np.float32)) if bias else None

    def forward(self, x: Any) -> Any:
        """Normalise, scale and shift.

        Args:
            x: (…, *normalized_shape), of the dtype of the weight.

        Returns:
            Of the shape and dtype of x.

        Raises:
            ValueError: x has another shape, or eps is negative.
            TypeError: x is no array or Variable, or of another dtype.
        """
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Sizes and ε."""
        return f"{self.normalized_shape}, eps={self.eps}" + ("" if self.bias is not None else ", bias=False")


class DotAttention(Module):
    """Attention by plain dot products, unscaled, with the keys as values.

    (Luong et al., 2015; *Deep Learning from Scratch 2*, ch. 8, fig. 8-16.) It has no parameters. As a module it has a
    name in drawings.
    """

    def forward(self, query: Any, keys: Any, mask: Array | None = None) -> tuple[Any, Any]:
        """Look from each query over the keys.

        Args:
            query: (N, T, H), the decoder's states, of a floating dtype that both share.
            keys: (N, S, H), the encoder's.
            mask: boolean, broadcast to (N, T, S): True where a query may look; None lets each look everywhere. What
                says where keys (N, S) are no padding is written `mask[:, None, :]`.

        Returns:
            The context (N, T, H), and the weights (N, T, S), in [0, 1], both of that dtype.

        Raises:
            ValueError: shapes that do not fit.
            TypeError: no arrays or Variables, different dtypes, or a mask that is not boolean.
        """
        return F.attention(query, keys, keys, mask, scale=1.0)


class Dropout(Module):
    """In training, zero elements with probability p and scale the others by 1 / (1 - p) (Srivastava et al., 2014).

    Args:
        p: in [0, 1).
        shared_axis: an axis along which all elements share one draw: 1 for the same features at all steps of a sequence
            (N, T, D), which is variational dropout (Gal and Ghahramani, 2016). None: each element has its own.

    Raises:
        ValueError: p is outside.
    """

    def __init__(self, p: float = 0.5, shared_axis: int | None = None) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"Dropout: p must lie in [0, 1), not {p}")
        self.p, self.shared_axis = p, shared_axis

    def forward(self, x: Any) -> Any:
        """Drop elements, in training only.

        Args:
            x: of any shape and a floating dtype, array or Variable.

        Returns:
            Of the shape and dtype of x; in evaluation, or with p = 0, x itself.

        Raises:
            ValueError: x has no such axis.
            TypeError: x is neither an array nor a Variable.
        """
        return F.dropout(x, self.p, self.training, self.shared_axis)

    def extra_repr(self) -> str:
        """The settings."""
        return str(self.p) if self.shared_axis is None else f"{self.p}, shared_axis={self.shared_axis}"
