"""GRU over a whole sequence, in both its forms: the plain formulas, and a kernel for each that equals them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ...autograd.ops import linear, sigmoid, split, tanh
from ...backend import Array, get_array_module, has_kernels, launch
from ...products import matmul
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
            weight[0, hidden] = 0 if bias_ih is None else bias_ih[2 * hidden :]
            weight[3, hidden] = 0 if bias_hh is None else bias_hh[2 * hidden :]
            return functools.partial(_ResetAfter, weight=weight)
        weight = weight_of_step([(0, 0.5), (1, 0.5), (2, 1.0)], weight_ih, weight_hh, bias_ih, bias_hh)
        return functools.partial(_ResetBefore, weight=weight)


class _Part(Part):
    """What both kernels share: h = (1 - z) n + z h, which is n + z (h - n)."""

    states: Array

    def begin(self, keep: bool, *others: Array) -> None:
        xp = get_array_module(self.z)
        size = self.z.shape[1], self.hidden
        self.states = xp.empty((self.steps if keep else 1, self.gates, *size), self.z.dtype)
        self.difference, self.product = xp.empty(size, self.z.dtype), xp.empty(size, self.z.dtype)

    def saved_arrays(self) -> tuple[Array | None, ...]:
        return *super().saved_arrays(), self.h, self.states

    def blend(self, t: int, n: Array, z: Array) -> None:
        """h after step t."""
        xp = get_array_module(n)
        xp.subtract(self.h[t], n, out=self.difference)
        self.difference *= z
        xp.add(n, self.difference, out=self.h[t + 1])

    def begin_back(self) -> None:
        xp = get_array_module(self.z)
        size = self.z.shape[1], self.hidden
        self.dgates = xp.empty((self.steps, size[0], self.gates * size[1]), self.z.dtype)
        self.slopes, self.through = xp.empty((2, *size), self.z.dtype), xp.empty(size, self.z.dtype)

    def blend_back(self, t: int, dh: Array, n: Array, sigmoids: Array, dn: Array, dz: Array) -> None:
        """From dh to the gradients of what goes into n and z, and to the part of dh that passes by them, in place.

        The slopes of r and z (2, n, H) are left in `slopes`.
        """
        xp = get_array_module(n)
        z = sigmoids[1]
        xp.multiply(sigmoids, sigmoids, out=self.slopes)
        xp.subtract(sigmoids, self.slopes, out=self.slopes)
        # dz = dh (h - n)
        xp.subtract(self.h[t], n, out=self.difference)
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

    def begin(self, keep: bool, *others: Array) -> None:
        super().begin(keep)
        self.inputs = self.all_steps(self.weight[:3, self.hidden :]) if self.hoists() else None
        self.in_one = has_kernels(self.z)  # a kernel of CUDA does a step

    def step(self, t: int) -> None:
        xp = get_array_module(self.z)
        hidden, weight, z = self.hidden, self.weight, self.z[t]
        state = self.states[t % len(self.states)]
        n, sigmoids, n_h = state[0], state[1:3], state[3]
        if self.inputs is None:
            matmul(z, weight[1:3], out=sigmoids)
            matmul(z[:, : hidden + 1], weight[3, : hidden + 1], out=n_h)
            n_x = matmul(z[:, hidden:], weight[0, hidden:], out=n)
        else:
            matmul(z[:, :hidden], weight[1:, :hidden], out=state[1:])
            sigmoids += self.inputs[1:, t]
            n_h += weight[3, hidden]
            n_x = self.inputs[0, t]
        if self.in_one:
            h, h_new = self.h[t], self.h[t + 1]
            launch("gru.forward", n.size, n, state, n_x, h, h_new)
            return
        xp.tanh(sigmoids, out=sigmoids)
        sigmoid_from_tanh(sigmoids)
        xp.multiply(sigmoids[0], n_h, out=self.product)
        xp.add(n_x, self.product, out=n)
        xp.tanh(n, out=n)
        self.blend(t, n, sigmoids[1])

    def step_back(self, t: int, dh: Array, *others: Array) -> None:
        xp = get_array_module(self.z)
        state, dgates = self.states[t], self.dgates[t]
        if self.in_one:
            launch("gru.backward", dh.size, dh, self.hidden, state, self.h[t], dh, dgates)
        else:
            n, r, _, n_h = state
            dn, dr, dz, dn_h = self.by_gates(t)
            self.blend_back(t, dh, n, state[1:3], dn, dz)
            xp.multiply(dn, r, out=dn_h)
            xp.multiply(dn, n_h, out=self.product)
            xp.multiply(self.product, self.slopes[0], out=dr)
        if t > 0 or self.first_is_wanted:
            matmul(dgates[:, self.hidden :], self.weight_hh, out=self.through)
            self.add_through(dh, self.through)

    def input_gradient(self, weight_ih: Array) -> Array:
        into = self.into_products()[:, : 3 * self.hidden]
        return matmul(into, get_array_module(into).roll(weight_ih, self.hidden, axis=0))  # n first

    def weight_gradients(self) -> tuple[Array, ...]:
        hidden, into = self.hidden, self.into_products()
        recurrent = matmul(into[:, hidden:].T, self.flat(0, hidden + 1))
        inputs = matmul(into[:, : 3 * hidden].T, self.flat(hidden, self.end))
        inputs = get_array_module(into).roll(inputs, -hidden, axis=0)  # n last
        return inputs[:, 1:], recurrent[:, :hidden], inputs[:, 0], recurrent[:, hidden]


class _ResetBefore(_Part):
    """n = tanh(n_x + W_hn (r h)). z has further columns for r h: [h, 1, x, r h]."""

    further = 1

    def begin(self, keep: bool, *others: Array) -> None:
        super().begin(keep)
        xp = get_array_module(self.z)
        hidden = self.hidden
        self.inputs = self.all_steps(self.weight[:, hidden:]) if self.hoists() else None
        of_n = self.weight[2]
        self.weight_n = xp.concatenate((of_n[hidden:], of_n[:hidden]))  # of 1, x, r h

    def step(self, t: int) -> None:
        xp = get_array_module(self.z)
        hidden = self.hidden
        z, state = self.z[t], self.states[t % len(self.states)]
        sigmoids, n, reset = state[:2], state[2], z[:, self.end :]
        self.affine(t, sigmoids)
        xp.tanh(sigmoids, out=sigmoids)
        sigmoid_from_tanh(sigmoids)
        xp.multiply(sigmoids[0], z[:, :hidden], out=reset)
        if self.inputs is None:
            matmul(z[:, hidden:], self.weight_n, out=n)
        else:
            matmul(reset, self.weight_n[-hidden:], out=n)
            n += self.inputs[2, t]
        xp.tanh(n, out=n)
        self.blend(t, n, sigmoids[1])

    def step_back(self, t: int, dh: Array, *others: Array) -> None:
        xp = get_array_module(self.z)
        state, dgates, sigmoids = self.states[t], self.dgates[t], 2 * self.hidden
        r, _, n = state
        dr, dz, dn = self.by_gates(t)
        self.blend_back(t, dh, n, state[:2], dn, dz)
        dreset = matmul(dn, self.weight_hh[sigmoids:], out=self.product)
        xp.multiply(dreset, self.z[t, :, : self.hidden], out=self.difference)
        xp.multiply(self.difference, self.slopes[0], out=dr)
        matmul(dgates[:, :sigmoids], self.weight_hh[:sigmoids], out=self.through)
        dreset *= r
        self.through += dreset
        self.add_through(dh, self.through)

    def weight_gradients(self) -> tuple[Array, ...]:
        xp = get_array_module(self.z)
        hidden, into = self.hidden, self.into_products()
        of_sigmoids = matmul(into[:, : 2 * hidden].T, self.flat(0, self.end))
        of_n = matmul(into[:, 2 * hidden :].T, self.flat(hidden, self.end + hidden))
        x_end = self.end - hidden
        dbias = xp.concatenate((of_sigmoids[:, hidden], of_n[:, 0]))
        return (
            xp.concatenate((of_sigmoids[:, hidden + 1 :], of_n[:, 1:x_end])),
            xp.concatenate((of_sigmoids[:, :hidden], of_n[:, x_end:])),
            dbias,
            dbias,
        )
