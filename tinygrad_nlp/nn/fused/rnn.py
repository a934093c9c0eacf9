"""The simple recurrent network over a whole sequence: the plain formula, and a kernel that equals it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from ...autograd.ops import linear, relu, tanh
from ...backend import Array, get_array_module
from ...products import matmul, multiplier
from .recurrence import Part, Recurrence, weight_of_step


class RNN(Recurrence):
    """h = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu. `nn.functional.rnn` has the arguments and the source.

    Both functions have a derivative that follows from h, so that h is all that backward needs.

    Args:
        mask: as for `Recurrence`, and so are `reverse` and `recurrent_mask`.
        reverse: see there.
        recurrent_mask: see there.
        nonlinearity: "tanh" or "relu".
    """

    name = "rnn"

    def __init__(
        self,
        mask: Array | None = None,
        reverse: bool = False,
        recurrent_mask: Array | None = None,
        nonlinearity: str = "tanh",
    ) -> None:
        super().__init__(mask, reverse, recurrent_mask)
        self.nonlinearity = nonlinearity

    def definition(
        self, x: Any, h: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any = None, bias_hh: Any = None
    ) -> Any:
        """The recurrence, step by step."""
        return self.recurrence(x, (h,), weight_ih, weight_hh, bias_ih, bias_hh)

    def step(
        self, x: Any, state: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any = None, bias_hh: Any = None
    ) -> tuple[Any]:
        """The formula."""
        (h,) = state
        f = tanh if self.nonlinearity == "tanh" else relu
        return (f(linear(x, weight_ih, bias_ih) + linear(self.dropped(h), weight_hh, bias_hh)),)

    def kernel(
        self, weight_ih: Array, weight_hh: Array, bias_ih: Array | None = None, bias_hh: Array | None = None
    ) -> Callable[..., Part]:
        weight = weight_of_step([(0, 1.0)], weight_ih, weight_hh, bias_ih, bias_hh)
        return functools.partial(_Part, weight=weight, nonlinearity=self.nonlinearity)


class _Part(Part):
    """The kernel on some rows of the batch."""

    joins = False

    def __init__(self, *rows_and_masks: Any, weight: Array, nonlinearity: str) -> None:
        super().__init__(*rows_and_masks, weight=weight)
        self.nonlinearity = nonlinearity

    def forward_steps(self) -> Iterator[None]:
        xp = get_array_module(self.x)
        weight, hs = self.weight[0], self.h[1:]
        matmul(self.x, weight[self.hidden :], hs)  # x W_ihᵀ + b lies where h will be
        weight, product = weight[: self.hidden], xp.empty(hs.shape[1:], hs.dtype)
        multiply, add = multiplier(weight, product), xp.add
        f = xp.tanh if self.nonlinearity == "tanh" else functools.partial(xp.maximum, 0)
        for seen, h in zip(self.seen, hs, strict=True):
            multiply(seen, weight, product)
            add(h, product, h)
            f(h, out=h)
            yield

    def backward_steps(self, dh: Array, *others: Array) -> Iterator[None]:
        xp, h = get_array_module(self.x), self.h[1:]
        slopes = self.dgates  # the derivatives of tanh or relu, which follow from its values
        if self.nonlinearity == "tanh":
            xp.multiply(h, h, out=slopes)
            xp.subtract(1, slopes, out=slopes)
        else:
            xp.greater(h, 0, out=slopes)
        for t, dsum in zip(reversed(range(self.steps)), self.dgates[::-1], strict=True):
            dsum *= dh
            self.through_product(t, dsum, dh)
            yield
