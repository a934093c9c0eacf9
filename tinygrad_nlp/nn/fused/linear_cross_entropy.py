"""Linear map, softmax and cross-entropy in one: the plain formula, and a kernel that never holds all logits."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ...autograd import Fused
from ...autograd.ops import linear
from ...autograd.ops.elementwise import half_again, precise
from ...backend import Array, get_array_module
from ...products import matmul
from ...threads import count, side_by_side, slices
from .cross_entropy import CrossEntropy

_ROWS = 384  # of a block: each block reads and writes the gradient of all weights
_BLOCK = 2**22  # logits, of a block of many words: 16 MB of float32
_FEWEST_ROWS = 64  # of a block, however many words
_IN_CACHE = 2**19  # logits, of a block of few words: two megabytes
_FEW_WORDS = 256  # fewer than these are less than the features, as a rule, and all in one share
_MANY_WORDS = 1024  # for one thread
_WORK = 2**22  # multiplications, for one thread


class LinearCrossEntropy(Fused):
    """Mean of -log softmax(W x + b)[t] over the counted rows. `nn.functional.linear_cross_entropy` has the arguments.

    For 700 rows and 10,000 words, logits and their gradient are 28 MB each. The kernel takes a block of rows at a time:
    it makes the logits, writes their gradient in their place, and takes its products with x and W while it is in cache.
    All that is done in forward; backward has nothing left to do but to multiply. Rows that do not count are left out.

    Threads share the words: each makes the logits of its own and their exponentials; then, when the sum over all words
    is known, the gradient of its weights. Where words are few, each takes some of the rows, with all words. To look for
    the highest logit of a row and to subtract it would be two passes more: that is left out until a sum turns out too
    large or too small. Then the block is made again, and those behind it are made so at once.

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
        like, x, weight, bias = x, precise(x), precise(weight), bias if bias is None else precise(bias)
        to_x, to_weight, to_bias = ([edge is not None for edge in self.edges or ()] + [False] * 3)[:3]
        # Rows come as they lie in memory, which is step by step behind a recurrence, and so do their gradients.
        axes = sorted(range(x.ndim - 1), key=lambda axis: -abs(x.strides[axis]))
        in_order = x.transpose(*axes, -1)
        rows = in_order.reshape(len(self.targets), x.shape[-1])
        # int64, in which places in memory can be reckoned
        targets = self.targets.astype(np.int64, copy=False).reshape(x.shape[:-1]).transpose(axes).reshape(-1)
        counts = targets != self.ignore_index
        all_count = bool(counts.all())
        if not all_count:
            rows, targets = rows[counts], targets[counts]
        dx = xp.empty_like(rows) if to_x else None
        losses = xp.empty(len(rows), x.dtype)
        most = max(_IN_CACHE // len(weight), min(_ROWS, _BLOCK // len(weight)), _FEWEST_ROWS)

        def run(team: _Team) -> None:
            as_they_are = isinstance(rows, np.ndarray)
            for block in team.blocks(most):
                here = rows[block]
                if as_they_are:
                    sums = sum(team.each(_Share.exponentials, x=here, targets=targets[block]))
                    as_they_are = _within_range(sums)
                if not as_they_are:
                    highest = functools.reduce(xp.maximum, team.each(_Share.highest, x=here))
                    sums = sum(team.each(_Share.exponentials, x=here, targets=targets[block], shift=highest))
                losses[block] = xp.log(sums)[:, 0]
                for share in team.shares:
                    losses[block][share.hits] -= share.at_hits
                if to_x or to_weight or to_bias:
                    factor = 1 / (sums * len(rows))
                    found = team.each(_Share.gradients, x=here, sums=sums, factor=factor, to_x=to_x)
                    if dx is not None and team.few:
                        dx[block] = found[0]
                    elif dx is not None:
                        xp.multiply(functools.reduce(np.add, found), factor, out=dx[block])

        teams = [_Team(part, words, weight, bias, to_weight, to_bias) for part, words in _split(rows, weight)]
        side_by_side(run, teams)
        if dx is not None:
            if not all_count:
                of_counted, dx = dx, xp.zeros((len(self.targets), x.shape[-1]), x.dtype)
                dx[counts] = of_counted
            dx = dx.reshape(in_order.shape).transpose(*np.argsort(axes), -1)
        self.saved = dx, _sum([team.dweight for team in teams]), _sum([team.dbias for team in teams])
        return half_again(losses.sum() / max(len(rows), 1), like)

    def backward(self, gy: Array) -> tuple[Array | None, ...]:
        if self.saved is None:  # handed out by an earlier backward
            self.forward(*self.inputs)
        gradients, self.saved = self.saved, None
        for gradient in gradients:
            if gradient is not None and gy != 1:
                gradient *= gy
        return gradients[: len(self.edges)]


def _split(rows: Array, weight: Array) -> list[tuple[slice, list[slice]]]:
    """Which rows, and which words of them, threads take: of many words each takes some, of few each takes some rows."""
    threads = count() if isinstance(rows, np.ndarray) else 1
    if len(weight) >= 2 * _MANY_WORDS:
        return [(slice(0, len(rows)), slices(len(weight), min(threads, len(weight) // _MANY_WORDS)))]
    threads = max(1, min(threads, rows.size * len(weight) // _WORK))
    return [(part, [slice(0, len(weight))]) for part in slices(len(rows), threads)]


def _within_range(sums: Array) -> bool:
    """Whether sums of exponentials, and 1 / (sum · rows) times x, stay far from 1e±38, the end of float32."""
    return bool(((sums > 1e-25) & (sums < 1e25)).all())


def _sum(gradients: list[Any]) -> Array | None:
    return None if gradients[0] is None else functools.reduce(np.add, gradients)


class _Team:
    """Some of the rows, and the shares of the words that threads take of them.

    Args:
        rows: which.
        words: of each share.
        weight: (V, D).
        bias: (V,), or None.
        to_weight: whether its gradient is wanted.
        to_bias: whether its gradient is wanted.

    Attributes:
        few: whether the words are few: then there is one share, and its gradients have their `factor`.
        dweight: (V, D), the part of these rows; None where it is not wanted.
        dbias: (V,), likewise.
    """

    def __init__(
        self, rows: slice, words: list[slice], weight: Array, bias: Array | None, to_weight: bool, to_bias: bool
    ) -> None:
        xp = get_array_module(weight)
        self.rows = rows
        self.dweight = xp.empty_like(weight) if to_weight else None
        self.dbias = xp.empty_like(bias) if to_bias else None
        self.shares = [_Share(share, weight, bias, self.dweight, self.dbias) for share in words]
        self.few = self.shares[0].few

    def blocks(self, most: int) -> list[slice]:
        """The rows in blocks of so many at most, of nearly equal length; one where there are none."""
        size = self.rows.stop - self.rows.start
        blocks = slices(size, max(1, -(-size // most)))
        return [slice(self.rows.start + block.start, self.rows.start + block.stop) for block in blocks]

    def each(self, method: Callable[..., Any], **arguments: Any) -> list[Any]:
        """Call a method of all shares, side by side."""
        return side_by_side(functools.partial(method, **arguments), self.shares)


class _Share:
    """Some of the words, and what one thread makes of them, one block of rows after the other.

    Attributes:
        few: whether the words are so few that each block's `factor` is left to the gradient of the logits.
        logits: (n, words); less the shift, then their exponentials, then the gradient, over `factor` of many words.
        hits: (h,), the rows whose target is one of these words; where words are few, the slice of all.
        places: (h,), where in the logits, as one row, their targets are.
        at_hits: (h,), their targets' logits less the shift.
    """

    logits: Array
    hits: Any
    places: Array
    at_hits: Array

    def __init__(
        self, words: slice, weight: Array, bias: Array | None, dweight: Array | None, dbias: Array | None
    ) -> None:
        self.words, self.weight = words, weight[words]
        self.few = len(self.weight) < _FEW_WORDS
        # A product of few words is made in small ones, which take their factors as they lie: so they shall lie well.
        self.weight_t = self.weight.T.copy() if self.few else self.weight.T
        self.bias = None if bias is None else bias[words]
        self.dweight = None if dweight is None else dweight[words]
        self.dbias = None if dbias is None else dbias[words]
        self.memory = get_array_module(weight).empty((0, len(self.weight)), weight.dtype)
        self.first = True

    def make_logits(self, x: Array) -> None:
        """Write W x + b of a block (n, D) to `logits`."""
        if len(self.memory) < len(x):  # one more than needed: blocks differ by a row
            self.memory = get_array_module(x).empty((len(x) + 1, len(self.weight)), x.dtype)
        self.logits = matmul(x, self.weight_t, out=self.memory[: len(x)])
        if self.bias is not None:
            self.logits += self.bias

    def highest(self, x: Array) -> Array:
        """Make the logits of a block (n, D); returns the highest of each row (n, 1)."""
        self.make_logits(x)
        return self.logits.max(axis=1, keepdims=True)

    def exponentials(self, x: Array, targets: Array, shift: Array | None = None) -> Array:
        """Make exponentials of the logits of a block (n, D); returns their sums (n, 1).

        With `shift` (n, 1), `highest` made the logits, and this is subtracted from them. Without it, sums may be
        infinite or 0.
        """
        xp = get_array_module(targets)
        if shift is None:
            self.make_logits(x)
        else:
            self.logits -= shift
        logits = self.logits
        if self.few:  # this share has all of them
            self.hits = slice(None)
        else:
            self.hits = xp.flatnonzero((targets >= self.words.start) & (targets < self.words.stop))
        rows = xp.arange(len(targets))[self.hits]
        self.places = logits.shape[1] * rows + (targets[self.hits] - self.words.start)
        self.at_hits = logits.reshape(-1)[self.places]
        with np.errstate(over="ignore" if shift is None else None):
            xp.exp(logits, out=logits)
            return matmul(logits, xp.ones((logits.shape[1], 1), logits.dtype))  # in a third of the time of sum()

    def gradients(self, x: Array, sums: Array, factor: Array, to_x: bool) -> Any:
        """Add to the gradients of weight and bias, and return that of x (n, D), of many words over `factor`, if wanted.

        The gradient of the logits is (exponentials / their sum - one-hot) / rows. Its factor 1 / (sum · rows), one for
        each row, is left to x and to the products where they are smaller.
        """
        gradient = self.logits
        gradient.reshape(-1)[self.places] -= sums[self.hits, 0]
        if self.few:
            gradient *= factor
        if self.dbias is not None:
            of_rows = get_array_module(x).ones_like(factor) if self.few else factor
            of_block = of_rows[:, 0] @ gradient
            self.dbias[...] = of_block if self.first else self.dbias + of_block
        if self.dweight is not None:
            x = x if self.few else x * factor
            if self.first:
                matmul(gradient.T, x, out=self.dweight)
            else:  # some words at a time: their product is added while it is in cache
                for words in slices(len(self.weight), -(-len(self.weight) // 1024)):
                    self.dweight[words] += matmul(gradient[:, words].T, x)
        self.first = False
        return matmul(gradient, self.weight) if to_x else None
