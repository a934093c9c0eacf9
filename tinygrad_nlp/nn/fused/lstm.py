"""LSTM over a whole sequence: the plain formulas, and a kernel that equals them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from ...autograd.ops import linear, sigmoid, split, tanh
from ...backend import Array, get_array_module, has_kernels, launch
from ...products import matmul
from .recurrence import Part, Recurrence, sigmoid_from_tanh, weight_of_step

_AT_ONCE = 2**14  # elements of h: of as many steps of a small batch are the factors of backward made at once


class LSTM(Recurrence):
    """One layer in one direction. `nn.functional.lstm` has the arguments and the source.

    How the kernel is fast, besides what all recurrences have: the blocks of a step lie in the order i, f, o, g, c and
    tanh c, so that a pass takes the sigmoid of three gates, and another makes i g, f c and o tanh c. Peepholes cost one
    more: o waits for the new c. What backward multiplies with does not depend on the gradients: in a small batch, where
    a call costs more than its elements, it is made for several steps at once.

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
        # From the order i, f, g, o to i, f, o, g.
        gates = [(0, 0.5), (1, 0.5), (3, 0.5), (2, 1.0)] if self.forget_gate else [(0, 0.5), (2, 0.5), (1, 1.0)]
        weight = weight_of_step(gates, weight_ih, weight_hh, bias_ih, bias_hh)
        if peepholes is not None:
            peepholes = peepholes.reshape(len(gates) - 1, 1, weight_hh.shape[1])
        return functools.partial(_Part, weight=weight, peepholes=peepholes)


class _Part(Part):
    """The kernel on some rows of the batch.

    Attributes:
        states: (T + 1, 6, n, H): i, f, o, g of a step, c before it and tanh c after it; (T + 1, 5, n, H), i, o, g,
            tanh c, c, without a forget gate.
        sigmoids: how many gates have σ, 3 or 2.
        dgates: in PyTorch's order, i, f, g, o.
    """

    states: Array

    def __init__(self, *rows_and_masks: Any, weight: Array, peepholes: Array | None) -> None:
        super().__init__(*rows_and_masks, weight=weight)
        self.peepholes = peepholes
        self.sigmoids = self.gates - 1

    def begin(self, keep: bool, *others: Array) -> None:
        xp = get_array_module(self.x)
        size, dtype = (self.x.shape[1], self.hidden), self.x.dtype
        # Whether a kernel of CUDA does a step.
        self.in_one = self.sigmoids == 3 and self.peepholes is None and has_kernels(self.x)
        kept = self.steps if keep else 1  # without a backward, the arrays of two steps serve all
        self.states = xp.empty((kept + 1, self.sigmoids + 3, *size), dtype)
        (c,) = others
        self.cell(0)[...] = c

    def cell(self, t: int) -> Array:
        """c before step t, (n, H)."""
        return self.states[t % len(self.states), 4]

    def state(self, t: int) -> tuple[Array, ...]:
        return self.h[t], self.cell(t)

    def saved_arrays(self) -> tuple[Array | None, ...]:
        return *super().saved_arrays(), self.states

    def forward_steps(self) -> Iterator[None]:
        xp, s, z = get_array_module(self.x), self.sigmoids, self.z
        inputs: Array = self.all_steps(self.weight[:, self.hidden :]) if z is None else None
        recurrent = self.weight[:, : self.hidden]
        products = xp.empty((2, self.x.shape[1], self.hidden), self.x.dtype)
        for t, h_new in enumerate(self.h[1:]):
            state, c_new = self.states[t % len(self.states)], self.cell(t + 1)
            gates, o, tanh_c, c = state[: s + 1], state[s - 1], state[2 * s - 1], state[4]
            if z is not None:
                matmul(z[t], self.weight, gates)
            else:
                matmul(self.seen[t], recurrent, gates)
                gates += inputs[t]
            if self.in_one:
                launch("lstm.forward", c.size, c, state, c_new, h_new)
                yield
                continue
            if self.peepholes is None:
                xp.tanh(gates, out=gates)
                sigmoid_from_tanh(gates[:s])
            else:
                gates[: s - 1] += 0.5 * self.peepholes[:-1] * c
                for sums in (gates[: s - 1], gates[s:]):
                    xp.tanh(sums, out=sums)
                sigmoid_from_tanh(gates[: s - 1])
            if s == 3:  # [i, f] times [g, c]
                xp.multiply(state[:2], state[3:5], out=products)
                xp.add(products[0], products[1], out=c_new)
            else:
                xp.multiply(state[0], state[2], out=products[0])
                xp.add(products[0], c, out=c_new)
            if self.peepholes is not None:
                o += 0.5 * self.peepholes[-1] * c_new
                xp.tanh(o, out=o)
                sigmoid_from_tanh(o)
            xp.tanh(c_new, out=tanh_c)
            xp.multiply(o, tanh_c, out=h_new)
            yield

    def backward_steps(self, dh: Array, *others: Array) -> Iterator[None]:
        (dc,) = others
        scratch, of_gates = get_array_module(dh).empty_like(dh), self.by_gates()
        at_once = max(1, min(self.steps, _AT_ONCE // max(1, dh.size)))
        for t in reversed(range(self.steps)):
            dgates, place = self.dgates[t], t % at_once
            if self.in_one:
                launch("lstm.backward", dc.size, dc, self.hidden, self.states[t], dh, dc, dgates)
            else:
                if t == self.steps - 1 or place == at_once - 1:
                    of_sigmoids, of_tanhs = self.factors(t - place, t + 1)
                self.through_gates(t, of_sigmoids[place], of_tanhs[place], dh, dc, of_gates[t], scratch)
            self.through_product(t, dgates, dh)
            yield

    def factors(self, start: int, stop: int) -> tuple[Array, Array]:
        """What the gradients of h and c are multiplied with in these steps, on their way to what goes into the gates.

        Returns:
            (steps, σ gates, n, H): g σ'(i) and c σ'(f), with the c before the step, from dc to di and df, and tanh(c)
            σ'(o), from dh to do; (steps, 2, n, H): i tanh'(g), from dc to dg, and o tanh'(c), from dh to dc.
        """
        xp, s = get_array_module(self.x), self.sigmoids
        states = self.states[start:stop]
        sigmoids, partners = states[:, :s], states[:, s : 2 * s]  # i, f, o and g, c, tanh c
        # i tanh'(g) = i - (i g) g, and so for o
        ends = slice(None, None, s - 1)
        products = sigmoids * partners
        of_tanhs = products[:, ends] * partners[:, ends]
        xp.subtract(sigmoids[:, ends], of_tanhs, out=of_tanhs)
        # g σ'(i) = (1 - i) (i g), and so for f and o
        of_sigmoids = 1 - sigmoids
        of_sigmoids *= products
        return of_sigmoids, of_tanhs

    def through_gates(
        self, t: int, of_sigmoids: Array, of_tanhs: Array, dh: Array, dc: Array, of_gates: Array, scratch: Array
    ) -> None:
        """From dh and dc to the gradients of the gates (gates, n, H), and to the dc before the step, in place."""
        xp, s = get_array_module(self.x), self.sigmoids
        of_g, of_c = of_tanhs
        of_past, dg, do = of_gates[: s - 1], of_gates[s - 1], of_gates[s]
        dc += xp.multiply(dh, of_c, out=scratch)
        xp.multiply(dh, of_sigmoids[-1], out=do)
        if self.peepholes is not None:
            dc += self.peepholes[-1] * do
        xp.multiply(dc, of_sigmoids[:-1], out=of_past)
        xp.multiply(dc, of_g, out=dg)
        if s == 3:
            dc *= self.states[t, 1]
        if self.peepholes is not None:
            dc += (self.peepholes[:-1] * of_past).sum(axis=0)

    def weight_gradients(self) -> tuple[Array, ...]:
        gradients = super().weight_gradients()
        if self.peepholes is None:
            return gradients
        cells = self.states[:, 4]
        xp = get_array_module(cells)
        of_gates = self.by_gates()
        # i and f see c before the step, o sees it after.
        of_past = xp.einsum("tgnh,tnh->gh", of_gates[:, :-2], cells[:-1])
        of_new = xp.einsum("tnh,tnh->h", of_gates[:, -1], cells[1:])
        return *gradients, xp.concatenate((of_past.reshape(-1), of_new))
