"""Losses as modules: softmax cross-entropy of logits, and two ways to it for large vocabularies."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..autograd.ops import concatenate, log_softmax, reshape, take
from . import functional as F
from ._checks import check_arrays, check_targets
from .layers import Linear
from .module import Module, ModuleList, Sequential


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

        Raises:
            ValueError, IndexError, TypeError: see `functional.cross_entropy`.
        """
        return F.cross_entropy(logits, targets, self.ignore_index)


class LinearCrossEntropyLoss(Module):
    """A linear layer to scores for all words, and their cross-entropy, without ever holding all scores.

    `functional.linear_cross_entropy` has the details. Its `linear` gives the scores where they are wanted, as in
    generation. To tie it to an embedding, assign: `loss.linear.weight = embedding.weight`.

    Args:
        in_features: D, size of the last axis of x.
        num_classes: V.
        bias: whether there is a bias.
        ignore_index: a target that does not count.

    Parameters, with PyTorch's names: `linear.weight` (V, D) and `linear.bias` (V,), float32, uniform in ±1/√D.

    Example:
        >>> import numpy as np
        >>> from tinygrad_nlp import nn
        >>> loss = nn.LinearCrossEntropyLoss(100, 10_000)
        >>> loss(np.zeros((20, 35, 100), np.float32), np.zeros((20, 35), int)).item()  # ln 10,000
        9.21034...
    """

    def __init__(self, in_features: int, num_classes: int, *, bias: bool = False, ignore_index: int = -100) -> None:
        self.linear = Linear(in_features, num_classes, bias)
        self.ignore_index = ignore_index

    def forward(self, x: Any, targets: Any) -> Any:
        """Compare scores of x with what is right.

        Args:
            x: (…, D), of the dtype of the weight.
            targets: ids (…,), each in [0, V) or `ignore_index`.

        Returns:
            The mean loss in nats, a scalar of the dtype of x.

        Raises:
            ValueError: shapes that do not fit.
            IndexError: a target outside [0, V).
            TypeError: x is no array or Variable or of another dtype, or targets are no integers.
        """
        return F.linear_cross_entropy(
            x, self.linear.weight, targets, linear_bias=self.linear.bias, ignore_index=self.ignore_index
        )


class AdaptiveSoftmaxLoss(Module):
    """Softmax cross-entropy over a very large vocabulary, approximated by clusters of words (Grave et al., 2017).

    The most frequent words are classes of a small softmax, the head, and so is each cluster of rarer ones, as a whole.
    Within a cluster there is another softmax, on fewer features the rarer its words are, and only for the rows whose
    target lies there. Ids must be in the order of frequency: 0 is the most frequent word.

    Args:
        in_features: D, size of the last axis of x.
        n_classes: V.
        cutoffs: increasing ids, each in [1, V): where the clusters begin. The words before the first are the head's.
        div_value: cluster k (from 1) sees ⌊D / div_value^k⌋ features.
        head_bias: whether the head has a bias.
        ignore_index: a target that does not count.

    Parameters, with the names of PyTorch's `AdaptiveLogSoftmaxWithLoss`, whose state dict fits: `head.weight`
    (cutoffs[0] + clusters, D), for the first cluster `tail.0.0.weight` (features, D) and `tail.0.1.weight` (its words,
    features), and so on; float32, uniform in ±1/√in.

    Raises:
        ValueError: cutoffs that are none, do not increase, or lie outside [1, V); a cluster that has no features.

    Example:
        >>> import numpy as np
        >>> from tinygrad_nlp import nn
        >>> loss = nn.AdaptiveSoftmaxLoss(64, 100_000, cutoffs=[2_000, 10_000])
        >>> loss(np.zeros((700, 64), np.float32), np.arange(700)).item()  # ln 2,002
        7.6019...
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        *,
        head_bias: bool = False,
        ignore_index: int = -100,
    ) -> None:
        edges = [0, *cutoffs, n_classes]
        if len(edges) < 3 or any(a >= b for a, b in pairwise(edges)):
            raise ValueError(
                f"AdaptiveSoftmaxLoss: cutoffs must be one or more ids that increase within [1, {n_classes}), "
                f"not {list(cutoffs)}"
            )
        self.cutoffs, self.ignore_index = edges[1:], ignore_index
        self.clusters = list(pairwise(self.cutoffs))
        widths = [int(in_features // div_value ** (k + 1)) for k in range(len(self.clusters))]
        if min(widths) < 1:
            raise ValueError(
                f"AdaptiveSoftmaxLoss: with div_value {div_value} the clusters see {widths} of {in_features} features; "
                "use a smaller div_value, or fewer cutoffs"
            )
        self.head = Linear(in_features, self.cutoffs[0] + len(self.clusters), bias=head_bias)
        self.tail = ModuleList(
            Sequential(Linear(in_features, width, bias=False), Linear(width, end - start, bias=False))
            for width, (start, end) in zip(widths, self.clusters, strict=True)
        )

    def forward(self, x: Any, targets: Any) -> Any:
        """Compare scores of x with what is right.

        Args:
            x: (…, D), of the dtype of the weights.
            targets: ids (…,), each in [0, V) or `ignore_index`.

        Returns:
            The mean loss in nats, a scalar of the dtype of x; 0 where no target counts.

        Raises:
            ValueError: shapes that do not fit.
            IndexError: a target outside [0, V).
            TypeError: x is no array or Variable or of another dtype, or targets are no integers.
        """
        check_arrays("adaptive_softmax", x=x)
        n_classes = self.cutoffs[-1]
        targets = check_targets("adaptive_softmax", targets, "x", x, n_classes, self.ignore_index, "the loss").ravel()
        rows = reshape(x, (targets.size, x.shape[-1]))
        counted = targets != self.ignore_index
        of_head = np.where(counted, targets, -1)
        losses = []
        for k, (start, end) in enumerate(self.clusters):
            here = np.flatnonzero(counted & (targets >= start) & (targets < end))
            of_head[here] = self.cutoffs[0] + k
            if here.size:
                tail: Any = self.tail[k]
                few = tail[0](take(rows, here, axis=0))
                within = F.linear_cross_entropy(few, tail[1].weight, targets[here] - start)
                losses.append(within * (here.size / counted.sum().item()))
        loss = F.linear_cross_entropy(rows, self.head.weight, of_head, linear_bias=self.head.bias, ignore_index=-1)
        return sum(losses, loss)

    def log_prob(self, x: Any) -> Any:
        """The logarithms of the probabilities of all words.

        Args:
            x: (…, D), of the dtype of the weights.

        Returns:
            (…, V), of the dtype of x.

        Raises:
            ValueError: x has another number of features.
            TypeError: x is neither an array nor a Variable.
        """
        head = log_softmax(self.head(x))
        shortlist = self.cutoffs[0]
        parts = [head[..., :shortlist]]
        for k, tail in enumerate(self.tail):
            parts.append(log_softmax(tail(x)) + head[..., shortlist + k : shortlist + k + 1])
        return concatenate(parts, axis=-1)

    def extra_repr(self) -> str:
        """The cutoffs, and the number of words."""
        return ", ".join(map(str, self.cutoffs))
