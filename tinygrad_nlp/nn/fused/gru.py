"""GRU over a whole sequence, in both its forms: the plain formulas, and a kernel for each that equals them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ...autograd.ops import linear, sigmoid, split, tanh
from ...backend import Array, get_array_module, has_kernels, launch
from ...threads import matmul
from .recurrence import Part, Recurrence, sigmoid_from_tanh, weight_of_step


class GRU(Recurrence):
    """One layer in one direction. `nn.functional.gru` has the arguments and the source.

    Args:
        mask: as for `Recurrence`, and so are `reverse` and `recurrent_mask`.
        reverse: see there.
        recurrent_mask: see there.
        reset_after: whether r is multiplied with W_hn h + b_hn, as in PyTorch, or with h before that product.
    """

    name = "gru"

    def __init__(
        self,
        mask: Array | None = None,
        reverse: bool = False,
        recurrent_mask: Array | None = None,
        reset_after: bool = True,
    ) -> None:
        super().__init__(mask, reverse, recurrent_mask)
        self.reset_after = reset_after

    def definition(
        self, x: Any, h: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any = None, bias_hh: Any = None
    ) -> Any:
        """The recurrence, step by step."""
        return self.recurrence(x, (h,), weight_ih, weight_hh, bias_ih, bias_hh)

    def step(
        self, x: Any, state: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any = None, bias_hh: Any = None
    ) -> tuple[Any]:
        """The formulas."""
        (h,) = state
        seen = self.dropped(h)
        r_x, z_x, n_x = split(linear(x, weight_ih, bias_ih), 3, axis=1)
        if self.reset_after:
            r_h, z_h, n_h = split(linear(seen, weight_hh, bias_hh), 3, axis=1)
            r, z = sigmoid(r_x + r_h), sigmoid(z_x + z_h)
            n = tanh(n_x + r * n_h)
        else:
            sigmoids, last = slice(2 * h.shape[1]), slice(2 * h.shape[1], None)
            bias_sigmoids, bias_last = (None, None) if bias_hh is None else (bias_hh[sigmoids], bias_hh[last])
            r_h, z_h = split(linear(seen, weight_hh[sigmoids], bias_sigmoids), 2, axis=1)
            r, z = sigmoid(r_x + r_h), sigmoid(z_x + z_h)
            n = tanh(n_x + linear(r * seen, weight_hh[last], bias_last))
        return ((1 - z) * n + z * h,)

    def kernel(
        self, weight_ih: Array, weight_hh: Array, bias_ih: Array | None = None, bias_hh: Array | None = None
    ) -> Callable[..., Part]:
        hidden = weight_hh.shape[1]
        if self.reset_after:  # n twice: first its input, last its product with h, which r scales
            gates = [(2, 1.0), (0, 0.5), (1, 0.5), (2, 1.0)]
            weight = weight_of_step(gates, weight_ih, weight_hh, bias_ih, bias_hh)
            weight[:hidden, hidden] = 0 if bias_ih is None else bias_ih[2 * hidden :]
            weight[3 * hidden :, hidden] = 0 if bias_hh is None else bias_hh[2 * hidden :]
            return functools.partial(_ResetAfter, weight=weight)
        weight = weight_of_step([(0, 0.5), (1, 0.5), (2, 1.0)], weight_ih, weight_hh, bias_ih, bias_hh)
        return functools.partial(_ResetBefore, weight=weight)


class _Part(Part):
    """What both kernels share: h = (1 - z) n + z h, which is n + z (h - n)."""

    joins = False
    gates: int  # rows of states and dgates, as many times H
    states: Array

    def begin(self, keep: bool, *others: Array) -> None:
        xp = get_array_module(self.z)
        size = self.hidden, self.z.shape[2]
        self.states = xp.empty((self.steps if keep else 1, self.gates * size[0], size[1]), self.z.dtype)
        self.difference, self.product = xp.empty(size, self.z.dtype), xp.empty(size, self.z.dtype)

    def saved_arrays(self) -> tuple[Array | None, ...]:
        return *super().saved_arrays(), self.states

    def gates_of(self, t: int) -> Array:
        """What was computed in step t, (gates, H, n)."""
        return self.states[t].reshape(self.gates, self.hidden, self.z.shape[2])

    def blend(self, t: int, n: Array, z: Array) -> None:
        """h after step t."""
        xp = get_array_module(n)
        xp.subtract(self.h[:, t], n, out=self.difference)
        self.difference *= z
        xp.add(n, self.difference, out=self.h[:, t + 1])

    def begin_back(self) -> None:
        xp = get_array_module(self.z)
        size = self.hidden, self.z.shape[2]
        self.dgates = xp.empty((self.gates, size[0], self.steps, size[1]), self.z.dtype)
        self.slopes, self.through = xp.empty((2, *size), self.z.dtype), xp.empty(size, self.z.dtype)

    def blend_back(self, t: int, dh: Array, n: Array, sigmoids: Array, dn: Array, dz: Array) -> None:
        """From dh to the gradients of what goes into n and z, and to the part of dh that passes by them, in place.

        The slopes of r and z (2, H, n) are left in `slopes`.
        """
        xp = get_array_module(n)
        z = sigmoids[1]
        xp.multiply(sigmoids, sigmoids, out=self.slopes)
        xp.subtract(sigmoids, self.slopes, out=self.slopes)
        # dz = dh (h - n)
        xp.subtract(self.h[:, t], n, out=self.difference)
        self.difference *= dh
        xp.multiply(self.difference, self.slopes[1], out=dz)
        # dn = dh (1 - z), and its slope 1 - n²
        xp.multiply(dh, z, out=self.product)
        dh -= self.product
        xp.multiply(n, n, out=self.difference)
        self.difference *= dh
        xp.subtract(dh, self.difference, out=dn)
        dh[...] = self.product

    def add_through(self, dh: Array, through: Array) -> None:
        """Add to dh what comes back from the recurrent products."""
        if self.dropped is not None:
            through *= self.dropped
        dh += through


class _ResetAfter(_Part):
    """n = tanh(n_x + r n_h). The gates lie in the order n, r, z, n_h, so that inputs and products are neighbours."""

    gates = 4

    def begin(self, keep: bool, *others: Array) -> None:
        super().begin(keep)
        self.inputs = self.all_steps(self.weight[: 3 * self.hidden, self.hidden :]) if self.hoists() else None
        self.in_one = has_kernels(self.z)  # a kernel of CUDA does a step

    def step(self, t: int) -> None:
        xp = get_array_module(self.z)
        hidden, weight = self.hidden, self.weight
        state = self.states[t % len(self.states)]
        n, sigmoids, n_h = state[:hidden], state[hidden : 3 * hidden], state[3 * hidden :]
        if self.inputs is None:
            matmul(weight[hidden : 3 * hidden], self.z[:, t], out=sigmoids)
            matmul(weight[3 * hidden :, : hidden + 1], self.z[: hidden + 1, t], out=n_h)
            n_x = matmul(weight[:hidden, hidden:], self.z[hidden:, t], out=n)
        else:
            matmul(weight[hidden:, :hidden], self.z[:hidden, t], out=state[hidden:])
            sigmoids += self.inputs[hidden:, t]
            n_h += weight[3 * hidden :, hidden, None]
            n_x = self.inputs[:hidden, t]
        if self.in_one:
            batch, h, h_new = self.z.shape[2], self.h[:, t], self.h[:, t + 1]
            rows = n_x.strides[0] // n_x.itemsize, (self.steps + 1) * batch
            launch("gru.forward", hidden * batch, state, batch, *rows, state, n_x, h, h_new)
            return
        xp.tanh(sigmoids, out=sigmoids)
        sigmoid_from_tanh(sigmoids)
        xp.multiply(sigmoids[:hidden], n_h, out=self.product)
        xp.add(n_x, self.product, out=n)
        xp.tanh(n, out=n)
        self.blend(t, n, sigmoids[hidden:])

    def step_back(self, t: int, dh: Array, *others: Array) -> None:
        xp = get_array_module(self.z)
        states, dgates = self.gates_of(t), self.dgates[:, :, t]
        if self.in_one:
            batch, row = self.z.shape[2], self.steps * self.z.shape[2]
            strides = row + batch, row, self.hidden * row
            launch("gru.backward", dh.size, dh, batch, *strides, states, self.h[:, t], dh, dgates)
        else:
            n, r, _, n_h = states
            dn, dr, dz, dn_h = dgates
            self.blend_back(t, dh, n, states[1:3], dn, dz)
            xp.multiply(dn, r, out=dn_h)
            xp.multiply(dn, n_h, out=self.product)
            xp.multiply(self.product, self.slopes[0], out=dr)
        if t > 0 or self.first_is_wanted:
            matmul(self.weight_back.T, dgates[1:].reshape(3 * self.hidden, dh.shape[1]), out=self.through)
            self.add_through(dh, self.through)

    def input_gradient(self, weight_ih: Array) -> Array:
        into = self.into_products()[: 3 * self.hidden]
        return matmul(into.T, get_array_module(into).roll(weight_ih, self.hidden, axis=0))  # n first

    def weight_gradients(self) -> tuple[Array, ...]:
        hidden, into = self.hidden, self.into_products()
        recurrent = matmul(into[hidden:], self.flat(0, hidden + 1).T)
        inputs = matmul(into[: 3 * hidden], self.flat(hidden, self.end).T)
        inputs = get_array_module(into).roll(inputs, -hidden, axis=0)  # n last
        return inputs[:, 1:], recurrent[:, :hidden], inputs[:, 0], recurrent[:, hidden]


class _ResetBefore(_Part):
    """n = tanh(n_x + W_hn (r h)). z has further rows for r h: [h, 1, x, r h]."""

    gates = 3
    further = 1

    def begin(self, keep: bool, *others: Array) -> None:
        super().begin(keep)
        xp = get_array_module(self.z)
        hidden = self.hidden
        self.inputs = self.all_steps(self.weight[:, hidden:]) if self.hoists() else None
        of_n = self.weight[2 * hidden :]
        self.weight_n = xp.concatenate((of_n[:, hidden:], of_n[:, :hidden]), axis=1)  # of 1, x, r h

    def step(self, t: int) -> None:
        xp = get_array_module(self.z)
        hidden = self.hidden
        state, reset = self.states[t % len(self.states)], self.z[self.end :, t]
        sigmoids, n = state[: 2 * hidden], state[2 * hidden :]
        self.affine(t, sigmoids)
        xp.tanh(sigmoids, out=sigmoids)
        sigmoid_from_tanh(sigmoids)
        xp.multiply(sigmoids[:hidden], self.z[:hidden, t], out=reset)
        if self.inputs is None:
            matmul(self.weight_n, self.z[hidden:, t], out=n)
        else:
            matmul(self.weight_n[:, -hidden:], reset, out=n)
            n += self.inputs[2 * hidden :, t]
        xp.tanh(n, out=n)
        self.blend(t, n, sigmoids[hidden:])

    def step_back(self, t: int, dh: Array, *others: Array) -> None:
        xp = get_array_module(self.z)
        states, dgates = self.gates_of(t), self.dgates[:, :, t]
        r, _, n = states
        dr, dz, dn = dgates
        sigmoids = 2 * self.hidden
        self.blend_back(t, dh, n, states[:2], dn, dz)
        dreset = matmul(self.weight_back[sigmoids:].T, dn, out=self.product)
        xp.multiply(dreset, self.z[: self.hidden, t], out=self.difference)
        xp.multiply(self.difference, self.slopes[0], out=dr)
        matmul(self.weight_back[:sigmoids].T, dgates[:2].reshape(sigmoids, dh.shape[1]), out=self.through)
        dreset *= r
        self.through += dreset
        self.add_through(dh, self.through)

    def weight_gradients(self) -> tuple[Array, ...]:
        xp = get_array_module(self.z)
        hidden, into = self.hidden, self.into_products()
        of_sigmoids = matmul(into[: 2 * hidden], self.flat(0, self.end).T)
        of_n = matmul(into[2 * hidden :], self.flat(hidden, self.end + hidden).T)
        x_end = self.end - hidden
        dbias = xp.concatenate((of_sigmoids[:, hidden], of_n[:, 0]))
        return (
            xp.concatenate((of_sigmoids[:, hidden + 1 :], of_n[:, 1:x_end])),
            xp.concatenate((of_sigmoids[:, :hidden], of_n[:, x_end:])),
            dbias,
            dbias,
        )
