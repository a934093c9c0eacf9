"""LSTM over a whole sequence: the plain formulas, and a kernel that equals them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ...autograd.ops import linear, sigmoid, split, tanh
from ...backend import Array, get_array_module, has_kernels, launch
from .recurrence import Part, Recurrence, sigmoid_from_tanh, weight_of_step

_AT_ONCE = 2**14  # elements of h: of as many steps of a small batch are the factors of backward made at once


class LSTM(Recurrence):
    """One layer in one direction. `nn.functional.lstm` has the arguments and the source.

    How the kernel is fast, besides what all recurrences have: the gates lie in the order o, i, f, g, and c behind them.
    A step takes the sigmoid of three gates and the tanh of the fourth in one pass, and makes i g and f c as one product
    of neighbours. Peepholes cost a second pass: o waits for the new c. What backward multiplies with does not depend on
    the gradients: in a small batch, where a call costs more than its elements, it is made for several steps at once.

    Args:
        mask: as for `Recurrence`, and so are `reverse` and `recurrent_mask`.
        reverse: see there.
        recurrent_mask: see there.
        forget_gate: whether there is one; else c is kept as it is.
    """

    name = "lstm"
    states = 2

    def __init__(
        self,
        mask: Array | None = None,
        reverse: bool = False,
        recurrent_mask: Array | None = None,
        forget_gate: bool = True,
    ) -> None:
        super().__init__(mask, reverse, recurrent_mask)
        self.forget_gate = forget_gate

    def definition(
        self,
        x: Any,
        h: Any,
        c: Any,
        weight_ih: Any,
        weight_hh: Any,
        bias_ih: Any = None,
        bias_hh: Any = None,
        peepholes: Any = None,
    ) -> Any:
        """The recurrence, step by step."""
        return self.recurrence(x, (h, c), weight_ih, weight_hh, bias_ih, bias_hh, peepholes)

    def step(
        self,
        x: Any,
        state: Any,
        weight_ih: Any,
        weight_hh: Any,
        bias_ih: Any = None,
        bias_hh: Any = None,
        peepholes: Any = None,
    ) -> tuple[Any, Any]:
        """The formulas."""
        h, c = state
        gates = linear(x, weight_ih, bias_ih) + linear(self.dropped(h), weight_hh, bias_hh)
        if self.forget_gate:
            i, f, g, o = split(gates, 4, axis=1)
        else:
            i, g, o = split(gates, 3, axis=1)
        if peepholes is not None:
            see = split(peepholes, 3 if self.forget_gate else 2)
            i = i + see[0] * c
            if self.forget_gate:
                f = f + see[1] * c
        kept = sigmoid(f) * c if self.forget_gate else c
        c_new = kept + sigmoid(i) * tanh(g)
        if peepholes is not None:
            o = o + see[-1] * c_new
        return sigmoid(o) * tanh(c_new), c_new

    def kernel(
        self,
        weight_ih: Array,
        weight_hh: Array,
        bias_ih: Array | None = None,
        bias_hh: Array | None = None,
        peepholes: Array | None = None,
    ) -> Callable[..., Part]:
        # From the order i, f, g, o to o, i, f, g.
        gates = [(3, 0.5), (0, 0.5), (1, 0.5), (2, 1.0)] if self.forget_gate else [(2, 0.5), (0, 0.5), (1, 1.0)]
        weight = weight_of_step(gates, weight_ih, weight_hh, bias_ih, bias_hh)
        if peepholes is not None:  # from i, f, o to o, i, f, each (H, 1)
            see = peepholes.reshape(len(gates) - 1, weight_hh.shape[1], 1)
            peepholes = get_array_module(see).concatenate((see[-1:], see[:-1]))
        return functools.partial(_Part, weight=weight, peepholes=peepholes)


class _Part(Part):
    """The kernel on some rows of the batch.

    Attributes:
        states: (T + 1, (G + 1) H, n): o, i, f, g of a step, and c before it.
        tanh_cells: (T, H, n), of c after the step.
        dgates: in PyTorch's order, i, f, g, o.
    """

    states: Array
    tanh_cells: Array

    def __init__(self, *rows_and_masks: Any, weight: Array, peepholes: Array | None) -> None:
        super().__init__(*rows_and_masks, weight=weight)
        self.peepholes = peepholes

    def begin(self, keep: bool, *others: Array) -> None:
        super().begin(keep)
        xp = get_array_module(self.z)
        n, size = self.z.shape[2], len(self.weight)
        self.gates = size // self.hidden
        self.in_one = self.gates == 4 and self.peepholes is None and has_kernels(self.z)  # a kernel of CUDA does a step
        self.kept = self.steps if keep else 1  # without a backward, the arrays of two steps serve all
        self.states = xp.empty((self.kept + 1, size + self.hidden, n), self.z.dtype)
        self.tanh_cells = xp.empty((self.kept, self.hidden, n), self.z.dtype)
        self.products = xp.empty((2, self.hidden, n), self.z.dtype)
        (c,) = others
        self.cell(0)[...] = c

    def cell(self, t: int) -> Array:
        """c before step t, (H, n)."""
        return self.states[t % (self.kept + 1), -self.hidden :]

    def state(self, t: int) -> tuple[Array, ...]:
        return self.h[:, t], self.cell(t)

    def saved_arrays(self) -> tuple[Array | None, ...]:
        return *super().saved_arrays(), self.states, self.tanh_cells

    def step(self, t: int) -> None:
        xp = get_array_module(self.z)
        hidden, n = self.hidden, self.z.shape[2]
        state, tanh_c = self.states[t % (self.kept + 1)], self.tanh_cells[t % self.kept]
        gates, c, c_new = state[:-hidden], state[-hidden:], self.cell(t + 1)
        self.affine(t, gates)
        if self.in_one:
            h_new = self.h[:, t + 1]
            launch("lstm.forward", hidden * n, state, n, (self.steps + 1) * n, state, c_new, tanh_c, h_new)
            return
        if self.peepholes is None:
            xp.tanh(gates, out=gates)
            sigmoid_from_tanh(gates[:-hidden])
        else:
            past = gates[hidden:-hidden].reshape(self.gates - 2, hidden, n)
            past += 0.5 * self.peepholes[1:] * c
            xp.tanh(gates[hidden:], out=gates[hidden:])
            sigmoid_from_tanh(gates[hidden:-hidden])
        if self.gates == 4:  # [i, f] times [g, c]
            xp.multiply(state[hidden : 3 * hidden], state[3 * hidden :], out=self.products.reshape(2 * hidden, n))
            xp.add(self.products[0], self.products[1], out=c_new)
        else:
            xp.multiply(state[hidden : 2 * hidden], state[2 * hidden : 3 * hidden], out=c_new)
            c_new += c
        o = gates[:hidden]
        if self.peepholes is not None:
            o += 0.5 * self.peepholes[0] * c_new
            xp.tanh(o, out=o)
            sigmoid_from_tanh(o)
        xp.tanh(c_new, out=tanh_c)
        xp.multiply(o, tanh_c, out=self.h[:, t + 1])

    def begin_back(self) -> None:
        xp = get_array_module(self.z)
        size, dtype = (self.hidden, self.z.shape[2]), self.z.dtype
        self.dgates = xp.empty((self.gates, self.hidden, self.steps, size[1]), dtype)
        self.at_once = min(self.steps, max(1, _AT_ONCE // max(1, size[0] * size[1])))
        self.factors = xp.empty((self.at_once, self.gates, *size), dtype)
        self.through_tanh = xp.empty((self.at_once, *size), dtype)
        self.product = xp.empty(size, dtype)

    def step_back(self, t: int, dh: Array, *others: Array) -> None:
        (dc,) = others
        hidden, n = self.hidden, self.z.shape[2]
        dgates = self.dgates[:, :, t]
        if self.in_one:
            state, row = self.states[t], self.steps * n
            launch("lstm.backward", hidden * n, state, n, row, hidden * row, state, self.tanh_cells[t], dh, dc, dgates)
        else:
            place = t % self.at_once
            if place == self.at_once - 1 or t == self.steps - 1:
                self.make_factors(t - place, t + 1)
            self.through_gates(t, dh, dc, dgates)
        self.through_products(t, dgates.reshape(self.gates * hidden, n))

    def make_factors(self, start: int, stop: int) -> None:
        """What the gradients of h and c are multiplied with in these steps, on their way to what goes into the gates.

        `factors` (steps, G, H, n): tanh(c) σ'(o), by which dh becomes do; g σ'(i), c σ'(f) with the c before the step,
        and i tanh'(g), by which dc becomes di, df and dg. `through_tanh` (steps, H, n): o tanh'(c), from dh to dc.
        """
        xp = get_array_module(self.z)
        states = self.states[start:stop].reshape(stop - start, self.gates + 1, *self.product.shape)
        gates, tanh_c = states[:, :-1], self.tanh_cells[start:stop]
        factors, through_tanh = self.factors[: stop - start], self.through_tanh[: stop - start]
        # The slope of σ is σ - σ², that of tanh 1 - tanh².
        xp.multiply(gates, gates, out=factors)
        xp.subtract(gates[:, :-1], factors[:, :-1], out=factors[:, :-1])
        xp.subtract(1, factors[:, -1], out=factors[:, -1])
        factors[:, 0] *= tanh_c
        if self.gates == 4:  # [i, f] times [g, c]
            factors[:, 1:3] *= states[:, 3:]
        else:
            factors[:, 1] *= gates[:, 2]
        factors[:, -1] *= gates[:, 1]
        xp.multiply(tanh_c, tanh_c, out=through_tanh)
        xp.subtract(1, through_tanh, out=through_tanh)
        through_tanh *= gates[:, 0]

    def through_gates(self, t: int, dh: Array, dc: Array, dgates: Array) -> None:
        """From dh and dc to `dgates` (G, H, n), and to the dc before the step, in place."""
        xp = get_array_module(self.z)
        place = t % self.at_once
        factors = self.factors[place]
        xp.multiply(dh, self.through_tanh[place], out=self.product)
        dc += self.product
        xp.multiply(dh, factors[0], out=dgates[-1])
        if self.peepholes is not None:
            dc += self.peepholes[0] * dgates[-1]
        xp.multiply(dc, factors[1:], out=dgates[:-1])
        if self.gates == 4:
            dc *= self.states[t, 2 * self.hidden : 3 * self.hidden]
        if self.peepholes is not None:
            dc += (self.peepholes[1:] * dgates[:-2]).sum(axis=0)

    def weight_gradients(self) -> tuple[Array, ...]:
        gradients = super().weight_gradients()
        if self.peepholes is None:
            return gradients
        cells = self.states[:, -self.hidden :].transpose(1, 0, 2)
        xp = get_array_module(cells)
        # i and f see c before the step, o sees it after.
        of_past = xp.einsum("ghtn,htn->gh", self.dgates[:-2], cells[:, :-1])
        of_new = xp.einsum("htn,htn->h", self.dgates[-1], cells[:, 1:])
        return *gradients, xp.concatenate((of_past.reshape(-1), of_new))
