"""LSTM over a whole sequence: the plain formulas, and a kernel that equals them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ...autograd.ops import linear, sigmoid, split, tanh
from ...backend import Array, get_array_module, has_kernels, launch
from .recurrence import Part, Recurrence, sigmoid_from_tanh, weight_of_step


class LSTM(Recurrence):
    """One layer in one direction. `nn.functional.lstm` has the arguments and the source.

    How the kernel is fast, besides what all recurrences have: the gates lie in the order o, i, f, g, and c behind them.
    A step takes the sigmoid of three gates and the tanh of the fourth in one pass, and makes i g and f c as one product
    of neighbours. Peepholes cost a second pass: o waits for the new c.

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
        n, dtype = self.z.shape[2], self.z.dtype
        self.dgates = xp.empty((self.gates, self.hidden, self.steps, n), dtype)
        self.dvalues = xp.empty((self.gates, self.hidden, n), dtype)  # of o, i, f, g themselves
        self.slopes = xp.empty((self.gates, self.hidden, n), dtype)  # of σ and tanh there
        self.through_tanh = xp.empty((self.hidden, n), dtype)

    def step_back(self, t: int, dh: Array, *others: Array) -> None:
        (dc,) = others
        hidden, n = self.hidden, self.z.shape[2]
        dgates = self.dgates[:, :, t]
        if self.in_one:
            state, row = self.states[t], self.steps * n
            launch("lstm.backward", hidden * n, state, n, row, hidden * row, state, self.tanh_cells[t], dh, dc, dgates)
        else:
            self.through_gates(t, dh, dc, dgates)
        self.through_products(t, dgates.reshape(self.gates * hidden, n))

    def through_gates(self, t: int, dh: Array, dc: Array, dgates: Array) -> None:
        """From dh and dc to `dgates` (G, H, n), and to the dc before the step, in place."""
        xp = get_array_module(self.z)
        hidden, n = self.hidden, self.z.shape[2]
        gates = self.states[t, :-hidden].reshape(self.gates, hidden, n)
        tanh_c = self.tanh_cells[t]
        dvalues, slopes, through_tanh = self.dvalues, self.slopes, self.through_tanh
        # The slope of σ is σ - σ², that of tanh 1 - tanh².
        xp.multiply(gates, gates, out=slopes)
        xp.subtract(gates[:-1], slopes[:-1], out=slopes[:-1])
        xp.subtract(1, slopes[-1], out=slopes[-1])
        # do = dh tanh c;  dc += o (dh - do tanh c), which is dh o (1 - tanh² c)
        xp.multiply(dh, tanh_c, out=dvalues[0])
        xp.multiply(dvalues[0], tanh_c, out=through_tanh)
        xp.subtract(dh, through_tanh, out=through_tanh)
        through_tanh *= gates[0]
        dc += through_tanh
        xp.multiply(dvalues[0], slopes[0], out=dgates[-1])
        if self.peepholes is not None:
            dc += self.peepholes[0] * dgates[-1]
        # di = dc g;  df = dc (c before);  dg = dc i;  dc before = dc f
        if self.gates == 4:
            g_and_c = self.states[t, 3 * hidden :].reshape(2, hidden, n)
            xp.multiply(dc, g_and_c, out=dvalues[1:3])
        else:
            xp.multiply(dc, gates[2], out=dvalues[1])
        xp.multiply(dc, gates[1], out=dvalues[-1])
        xp.multiply(dvalues[1:], slopes[1:], out=dgates[:-1])
        if self.gates == 4:
            dc *= gates[2]
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
