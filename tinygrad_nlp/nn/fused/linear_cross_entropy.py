"""Linear map, softmax and cross-entropy in one: the plain formula, and a kernel that never holds all logits."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ...autograd import Fused
from ...autograd.ops import linear
from ...backend import Array, get_array_module
from ...threads import count, matmul, side_by_side, slices
from .cross_entropy import CrossEntropy

_BLOCK = 2**22  # logits in memory at a time: 16 MB of float32
_FEWEST_ROWS = 64  # in a block, however many words: each block reads and writes the gradient of all weights
_MANY_WORDS = 1024  # for one thread


class LinearCrossEntropy(Fused):
    """Mean of -log softmax(W x + b)[t] over the counted rows. `nn.functional.linear_cross_entropy` has the arguments.

    For 700 rows and 10,000 words, logits and their gradient are 28 MB each. The kernel takes a block of rows at a time:
    it makes the logits, writes their gradient in their place, and takes its products with x and W while it is in cache.
    All that is done in forward; backward has nothing left to do but to multiply. Rows that do not count are left out.

    Threads share the words: each makes the logits of its own and their sum of exponentials; then, when the sum over all
    words is known, the gradient of its weights.

    Args:
        targets: ids (R,), int, one for each row.
        ignore_index: a target that does not count.
    """

    name = "linear_cross_entropy"

    def __init__(self, targets: Array, ignore_index: int) -> None:
        self.targets, self.ignore_index = targets, ignore_index

    def definition(self, x: Any, weight: Any, bias: Any = None) -> Any:
        """All logits, and their cross-entropy."""
        return CrossEntropy(self.targets, self.ignore_index).definition(linear(x, weight, bias))

    def forward(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        xp = get_array_module(x)
        counted = xp.flatnonzero(self.targets != self.ignore_index)
        rows, targets = x.reshape(-1, x.shape[-1]), self.targets
        if len(counted) < len(rows):
            rows, targets = rows[counted], targets[counted]
        one = 1 / max(len(rows), 1)  # the part of a row in the mean
        losses = xp.empty(len(rows), x.dtype)
        to_x, to_weight, to_bias = ([edge is not None for edge in self.edges or ()] + [False] * 3)[:3]
        dx = xp.zeros(x.shape, x.dtype) if to_x else None
        dweight = xp.empty_like(weight) if to_weight else None
        dbias = xp.empty_like(bias) if to_bias else None
        threads = min(count(), len(weight) // _MANY_WORDS) if isinstance(x, np.ndarray) else 1
        shares = [_Share(words, weight, bias, dweight, dbias) for words in slices(len(weight), max(1, threads))]
        most = max(_FEWEST_ROWS, _BLOCK // len(weight))
        for block in slices(len(rows), max(1, -(-len(rows) // most))):
            here, t = rows[block], targets[block]
            sums = side_by_side(functools.partial(_Share.exponentials, x=here, targets=t), shares)
            highest = functools.reduce(xp.maximum, [share.highest for share in shares])
            corrections = [xp.exp(share.highest - highest) for share in shares]
            total = sum(s * correction for s, correction in zip(sums, corrections, strict=True))
            losses[block] = (xp.log(total) + highest)[:, 0]
            for share, correction in zip(shares, corrections, strict=True):
                losses[block][share.hits] -= share.at_hits
                share.factor = correction / total * one
            if to_x or to_weight or to_bias:
                found = side_by_side(functools.partial(_Share.gradients, x=here, to_x=to_x, one=one), shares)
                if dx is not None:
                    dx.reshape(-1, x.shape[-1])[counted[block]] = sum(found)
        self.saved = dx, dweight, dbias
        return losses.sum() * one

    def backward(self, gy: Array) -> tuple[Array | None, ...]:
        if self.saved is None:  # handed out by an earlier backward
            self.forward(*self.inputs)
        gradients, self.saved = self.saved, None
        for gradient in gradients:
            if gradient is not None and gy != 1:
                gradient *= gy
        return gradients[: len(self.edges)]


class _Share:
    """Some of the words, and what one thread makes of them, one block of rows after the other.

    Attributes:
        logits: (n, words); then the exponentials of logits - highest; then the gradient.
        highest: (n, 1), of the logits.
        hits: (h,), the rows whose target is one of these words.
        at_hits: (h,), their targets' logits.
        factor: (n, 1), what turns the exponentials into probabilities over the number of rows.
    """

    logits: Array
    highest: Array
    hits: Array
    at_hits: Array
    factor: Array

    def __init__(
        self, words: slice, weight: Array, bias: Array | None, dweight: Array | None, dbias: Array | None
    ) -> None:
        self.words, self.weight = words, weight[words]
        self.bias = None if bias is None else bias[words]
        self.dweight = None if dweight is None else dweight[words]
        self.dbias = None if dbias is None else dbias[words]
        self.memory = get_array_module(weight).empty((0, len(self.weight)), weight.dtype)
        self.first = True

    def exponentials(self, x: Array, targets: Array) -> Array:
        """Make the logits of a block (n, D), and their exponentials; returns the sums of these (n, 1)."""
        xp = get_array_module(x)
        if len(self.memory) < len(x):
            self.memory = xp.empty((len(x) + 1, len(self.weight)), x.dtype)  # one more: blocks differ by a row
        self.logits = logits = matmul(x, self.weight.T, out=self.memory[: len(x)])
        if self.bias is not None:
            logits += self.bias
        self.hits = xp.flatnonzero((targets >= self.words.start) & (targets < self.words.stop))
        self.columns = targets[self.hits] - self.words.start
        self.at_hits = logits[self.hits, self.columns]
        self.highest = logits.max(axis=1, keepdims=True)
        logits -= self.highest
        xp.exp(logits, out=logits)
        return logits.sum(axis=1, keepdims=True)

    def gradients(self, x: Array, to_x: bool, one: float) -> Any:
        """Add to the gradients of weight and bias, and return that of x (n, D), as far as they are wanted.

        `one` is the part of a row in the mean.
        """
        gradient = self.logits
        gradient *= self.factor
        gradient[self.hits, self.columns] -= one
        if self.dbias is not None:
            of_block = gradient.sum(axis=0)
            self.dbias[...] = of_block if self.first else self.dbias + of_block
        if self.dweight is not None and self.first:
            matmul(gradient.T, x, out=self.dweight)
        elif self.dweight is not None:
            # Some words at a time: their product is added while it is in cache.
            for words in slices(len(self.weight), -(-len(self.weight) // 1024)):
                self.dweight[words] += matmul(gradient[:, words].T, x)
        self.first = False
        return matmul(gradient, self.weight) if to_x else None
