"""GRU over a whole sequence, in both its forms: the plain formulas, and a kernel for each that equals them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from ...autograd.ops import linear, sigmoid, split, tanh
from ...backend import Array, get_array_module, has_kernels, launch
from ...products import matmul
from .recurrence import Part, Recurrence, as_matrix, gradient_of_weight, sigmoid_from_tanh, weight_of_step


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
        xp = get_array_module(self.x)
        size = self.x.shape[1], self.hidden
        self.states = xp.empty((self.steps if keep else 1, self.gates, *size), self.x.dtype)
        self.difference, self.product = xp.empty((2, *size), self.x.dtype)

    def saved_arrays(self) -> tuple[Array | None, ...]:
        return *super().saved_arrays(), self.states

    def blend(self, t: int, n: Array, z: Array) -> None:
        """h after step t."""
        xp = get_array_module(n)
        xp.subtract(self.h[t], n, out=self.difference)
        self.difference *= z
        xp.add(n, self.difference, out=self.h[t + 1])

    def backward_steps(self, dh: Array, *others: Array) -> Iterator[None]:
        xp, of_gates = get_array_module(self.x), self.by_gates()
        slopes, through = xp.empty((2, *dh.shape), dh.dtype), xp.empty_like(dh)
        for t in reversed(range(self.steps)):
            self.step_back(t, dh, of_gates[t], slopes, through)
            yield

    def step_back(self, t: int, dh: Array, of_gates: Array, slopes: Array, through: Array) -> None:
        """From the gradient of h after step t to that before it, in place; writes those of the gates (gates, n, H).

        `slopes` (2, n, H) and `through` (n, H) are scratch.
        """
        raise NotImplementedError(f"{type(self).__name__}.step_back")

    def blend_back(self, t: int, dh: Array, n: Array, sigmoids: Array, dn: Array, dz: Array, slopes: Array) -> None:
        """From dh to the gradients of what goes into n and z, and to the part of dh that passes by them, in place.

        The slopes of r and z are written to `slopes`, (2, n, H).
        """
        xp = get_array_module(n)
        z = sigmoids[1]
        xp.multiply(sigmoids, sigmoids, out=slopes)
        xp.subtract(sigmoids, slopes, out=slopes)
        # dz = dh (h - n)
        xp.subtract(self.h[t], n, out=self.difference)
        self.difference *= dh
        xp.multiply(self.difference, slopes[1], out=dz)
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
        self.in_one = has_kernels(self.x)  # a kernel of CUDA does a step

    def forward_steps(self) -> Iterator[None]:
        xp = get_array_module(self.x)
        hidden, weight, z = self.hidden, self.weight, self.z
        inputs: Array = self.all_steps(weight[:3, hidden:]) if z is None else None
        for t, seen in enumerate(self.seen):
            state = self.states[t % len(self.states)]
            n, sigmoids, n_h = state[0], state[1:3], state[3]
            if z is not None:
                matmul(z[t], weight[1:3], sigmoids)
                matmul(z[t, :, : hidden + 1], weight[3, : hidden + 1], n_h)
                n_x = matmul(self.x[t], weight[0, hidden:], self.product)
            else:
                matmul(seen, weight[1:, :hidden], state[1:])
                sigmoids += inputs[t, 1:]
                n_h += weight[3, hidden]
                n_x = inputs[t, 0]
            if self.in_one:
                launch("gru.forward", n.size, n, state, n_x, self.h[t], self.h[t + 1])
                yield
                continue
            xp.tanh(sigmoids, out=sigmoids)
            sigmoid_from_tanh(sigmoids)
            xp.multiply(sigmoids[0], n_h, out=n)
            n += n_x
            xp.tanh(n, out=n)
            self.blend(t, n, sigmoids[1])
            yield

    def step_back(self, t: int, dh: Array, of_gates: Array, slopes: Array, through: Array) -> None:
        xp, state = get_array_module(self.x), self.states[t]
        if self.in_one:
            launch("gru.backward", dh.size, dh, self.hidden, state, self.h[t], dh, self.dgates[t])
        else:
            n, r, _, n_h = state
            dn, dr, dz, dn_h = of_gates
            self.blend_back(t, dh, n, state[1:3], dn, dz, slopes)
            xp.multiply(dn, r, out=dn_h)
            xp.multiply(dn, n_h, out=self.product)
            xp.multiply(self.product, slopes[0], out=dr)
        if t > 0 or self.first_is_wanted:
            self.multiply(self.dgates[t, :, self.hidden :], self.weight_hh, through)
            self.add_through(dh, through)

    def input_gradient(self, weight_ih: Array) -> Array:
        xp = get_array_module(self.dgates)
        return matmul(as_matrix(self.dgates)[:, : 3 * self.hidden], xp.roll(weight_ih, self.hidden, axis=0))  # n first

    def weight_gradients(self) -> tuple[Array, ...]:
        hidden = self.hidden
        recurrent = gradient_of_weight(self.dgates[:, :, hidden:], self.joined(1))
        inputs = gradient_of_weight(self.dgates[:, :, : 3 * hidden], self.x)
        inputs = get_array_module(inputs).roll(inputs, -hidden, axis=0)  # n last
        return inputs[:, 1:], recurrent[:, :hidden], inputs[:, 0], recurrent[:, hidden]


class _ResetBefore(_Part):
    """n = tanh(n_x + W_hn (r h)). `reset` (T, n, H) is r h at each step."""

    joins = False

    def begin(self, keep: bool, *others: Array) -> None:
        super().begin(keep)
        self.reset = get_array_module(self.x).empty((len(self.states), *self.states.shape[2:]), self.x.dtype)

    def saved_arrays(self) -> tuple[Array | None, ...]:
        return *super().saved_arrays(), self.reset

    def forward_steps(self) -> Iterator[None]:
        xp = get_array_module(self.x)
        weight = self.weight[:, : self.hidden]
        inputs = self.all_steps(self.weight[:, self.hidden :])
        for t, (seen, from_x) in enumerate(zip(self.seen, inputs, strict=True)):
            state, reset = self.states[t % len(self.states)], self.reset[t % len(self.states)]
            sigmoids, n = state[:2], state[2]
            matmul(seen, weight[:2], out=sigmoids)
            sigmoids += from_x[:2]
            xp.tanh(sigmoids, out=sigmoids)
            sigmoid_from_tanh(sigmoids)
            xp.multiply(sigmoids[0], seen, out=reset)
            matmul(reset, weight[2], out=n)
            n += from_x[2]
            xp.tanh(n, out=n)
            self.blend(t, n, sigmoids[1])
            yield

    def step_back(self, t: int, dh: Array, of_gates: Array, slopes: Array, through: Array) -> None:
        xp, state, sigmoids = get_array_module(self.x), self.states[t], 2 * self.hidden
        r, _, n = state
        dr, dz, dn = of_gates
        self.blend_back(t, dh, n, state[:2], dn, dz, slopes)
        dreset = matmul(dn, self.weight_hh[sigmoids:], out=self.product)
        xp.multiply(dreset, self.seen[t], out=self.difference)
        xp.multiply(self.difference, slopes[0], out=dr)
        matmul(self.dgates[t, :, :sigmoids], self.weight_hh[:sigmoids], out=through)
        dreset *= r
        through += dreset
        self.add_through(dh, through)

    def weight_gradients(self) -> tuple[Array, ...]:
        of_x, sigmoids = gradient_of_weight(self.dgates, self.x), 2 * self.hidden
        of_h = gradient_of_weight(self.dgates[:, :, :sigmoids], self.seen)
        of_reset = gradient_of_weight(self.dgates[:, :, sigmoids:], self.reset)
        return of_x[:, 1:], get_array_module(of_x).concatenate((of_h, of_reset)), of_x[:, 0], of_x[:, 0]
