"""The simple recurrent network over a whole sequence: the plain formula, and a kernel that equals it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ...autograd.ops import linear, relu, tanh
from ...backend import Array, get_array_module
from .recurrence import Part, Recurrence, weight_of_step

_AT_ONCE = 2**16  # elements of h: of as many steps are the slopes made at once


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

    def __init__(self, *rows_and_masks: Any, weight: Array, nonlinearity: str) -> None:
        super().__init__(*rows_and_masks, weight=weight)
        self.nonlinearity = nonlinearity

    def step(self, t: int) -> None:
        xp = get_array_module(self.z)
        h_new = self.h[t + 1]
        self.affine(t, h_new[None])
        if self.nonlinearity == "tanh":
            xp.tanh(h_new, out=h_new)
        else:
            xp.maximum(h_new, 0, out=h_new)

    def saved_arrays(self) -> tuple[Array | None, ...]:
        return *super().saved_arrays(), self.h

    def begin_back(self) -> None:
        self.dgates = get_array_module(self.z).empty((self.steps, self.z.shape[1], self.hidden), self.z.dtype)
        self.at_once = self.steps_of(_AT_ONCE)

    def prepare_back(self, start: int, stop: int) -> None:
        """Write the derivatives of tanh or relu, which follow from its values, to `dgates`."""
        h, slopes = self.h[start + 1 : stop + 1], self.dgates[start:stop]
        xp = get_array_module(h)
        if self.nonlinearity == "tanh":
            xp.multiply(h, h, out=slopes)
            xp.subtract(1, slopes, out=slopes)
        else:
            xp.greater(h, 0, out=slopes)

    def step_back(self, t: int, dh: Array, *others: Array) -> None:
        dsum = self.dgates[t]
        dsum *= dh
        self.through_product(t, dsum, dh)
