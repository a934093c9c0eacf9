"""Softmax and cross-entropy in one: the plain formula, and a kernel that equals it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...autograd import Fused
from ...autograd.ops import getitem, log_softmax, reshape, sum
from ...autograd.ops.elementwise import half_again, precise
from ...backend import Array, get_array_module, has_kernels, launch


class CrossEntropy(Fused):
    """Mean of -log softmax(x)[t] over the counted rows. `nn.functional.cross_entropy` has the inputs.

    The kernel writes the gradient, (softmax(x) - onehot(t)) / count, while it has the exponentials at hand: backward
    has nothing left to do but multiply.

    Args:
        targets: ids (rows,), the logits' leading axes as one.
        ignore_index: a target that does not count.
    """

    name = "cross_entropy"

    def __init__(self, targets: Array, ignore_index: int) -> None:
        self.targets, self.ignore_index = targets, ignore_index
        (self.counted,) = (targets != ignore_index).nonzero()

    def definition(self, logits: Any) -> Any:
        """Pick the log-probability of each target, and average."""
        rows = log_softmax(logits if logits.ndim == 2 else reshape(logits, -1, logits.shape[-1]))
        picked = getitem(rows, (self.counted, self.targets[self.counted]))
        return sum(picked) / -max(len(self.counted), 1)

    def forward(self, logits: Array) -> Array:
        xp = get_array_module(logits)
        rows = logits.reshape(-1, logits.shape[-1])
        count = max(len(self.counted), 1)
        if has_kernels(rows):
            losses, gradient = self.on_gpu(rows, count)
            if self.edges is not None:
                self.saved = (gradient.reshape(logits.shape),)
            return losses.sum() / count
        all_count = len(self.counted) == len(rows)
        at_target = self.counted, self.targets if all_count else self.targets[self.counted]
        rows = precise(rows)
        gradient = rows - rows.max(axis=1, keepdims=True)
        picked = gradient[at_target]
        xp.exp(gradient, out=gradient)
        total = gradient.sum(axis=1, keepdims=True)
        loss = (xp.log(total[:, 0] if all_count else total[self.counted, 0]) - picked).sum() / count
        if self.edges is not None:
            gradient /= total * count
            gradient[at_target] -= 1 / count
            if not all_count:
                ignored = xp.ones(len(rows), bool)
                ignored[self.counted] = False
                gradient[ignored] = 0
            self.saved = (half_again(gradient, logits).reshape(logits.shape),)
        return half_again(loss, logits)

    def on_gpu(self, rows: Array, count: int) -> tuple[Array, Array]:
        """The loss of each row and the gradient, by kernels of CUDA."""
        xp, width = get_array_module(rows), rows.shape[1]
        targets = self.targets.astype(np.int64)
        largest, gradient, losses = rows.max(axis=1), xp.empty_like(rows), xp.zeros(len(rows), rows.dtype)
        launch("cross_entropy.exponentials", rows.size, rows, width, rows, largest, gradient)
        total, ignored = gradient.sum(axis=1), self.ignore_index
        given = width, count, ignored, targets, rows, largest, total, gradient, losses
        launch("cross_entropy.gradient", rows.size, rows, *given)
        return losses, gradient

    def backward(self, gy: Array) -> Array:
        (gradient,) = self.saved
        return gradient * gy
