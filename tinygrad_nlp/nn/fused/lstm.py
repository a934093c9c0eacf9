"""LSTM over a whole sequence: the plain formulas, and a kernel that equals them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...autograd import Fused, scope
from ...autograd.ops import linear, sigmoid, split, stack, tanh, unstack, where
from ...backend import Array, cores, get_array_module, side_by_side, slices


class LSTM(Fused):
    """One layer in one direction. `nn.functional.lstm` has the arguments and the source.

    How the kernel is fast:

    - A step has one product, [W_hh, W_ih, b] · [h, x, 1]; its backward one more, which gives dh and dx at once. The
      weight gradients of all steps, the bias's too, are one product at the end.
    - Inside, arrays are (features, batch): a gate is one contiguous block, and so is h within [h, x, 1].
    - The gates lie in the order i, f, o, g: a step takes the sigmoid of three of them and the tanh of the fourth in one
      pass, as σ(a) = tanh(a/2)/2 + 1/2, in place.
    - A large batch is cut into one part per core; the parts run through the time loop side by side.
    """

    name = "lstm"

    def __init__(self, mask: Array | None = None) -> None:
        self.mask = mask

    def definition(self, x: Any, h: Any, c: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any, bias_hh: Any) -> Any:
        """The recurrence, step by step."""
        hs = []
        for t, x_t in enumerate(unstack(x, axis=1)):
            with scope(t):
                i, f, g, o = split(linear(x_t, weight_ih, bias_ih) + linear(h, weight_hh, bias_hh), 4, axis=1)
                c_new = sigmoid(f) * c + sigmoid(i) * tanh(g)
                h_new = sigmoid(o) * tanh(c_new)
                if self.mask is None:
                    h, c = h_new, c_new
                else:
                    valid = self.mask[:, t, None]
                    h, c = where(valid, h_new, h), where(valid, c_new, c)
                hs.append(h)
        return stack(hs, axis=1), h, c

    def forward(
        self, x: Array, h: Array, c: Array, weight_ih: Array, weight_hh: Array, bias_ih: Array, bias_hh: Array
    ) -> tuple[Array, Array, Array]:
        xp = get_array_module(x)
        hidden = h.shape[1]
        self.steps = x.shape[1]
        weight = _exchange_g_and_o(xp.concatenate((weight_hh, weight_ih, (bias_ih + bias_hh)[:, None]), axis=1))
        halved = weight.copy()
        halved[: 3 * hidden] *= 0.5
        hs = xp.empty((*x.shape[:2], hidden), weight.dtype)
        h_last, c_last = xp.empty_like(h), xp.empty_like(c)

        def run(rows: slice) -> _Part:
            part = _Part(rows, None if self.mask is None else self.mask[rows])
            part.forward(x[rows], h[rows], c[rows], halved, hs[rows], keep=self.edges is not None)
            h_last[rows], c_last[rows] = part.h.T, part.c.T
            return part

        parts = side_by_side(run, slices(len(x), _number_of_parts(x, hidden)))
        if self.edges is not None:
            self.saved = weight, parts
        return hs, h_last, c_last

    def backward(self, dhs: Array, dh: Array, dc: Array) -> tuple[Array | None, ...]:
        x = self.inputs[0]
        weight, parts = self.saved
        xp = get_array_module(x)
        dx, dh_first, dc_first = xp.empty_like(x), xp.empty_like(dh), xp.empty_like(dc)

        def run(part: _Part) -> Array:
            rows = part.rows
            return part.backward(
                dhs[rows], dh[rows], dc[rows], weight, dx[rows], dh_first[rows], dc_first[rows]
            )  # fmt: skip

        dweight = _exchange_g_and_o(sum(side_by_side(run, parts)))
        hidden = dh.shape[1]
        dbias = dweight[:, -1]
        return dx, dh_first, dc_first, dweight[:, hidden:-1], dweight[:, :hidden], dbias, dbias


def _exchange_g_and_o(weight: Array) -> Array:
    """From the order i, f, g, o of the gates to i, f, o, g, or back."""
    gates = weight.reshape(4, -1, weight.shape[1])
    return gates[[0, 1, 3, 2]].reshape(weight.shape)


def _number_of_parts(x: Array, hidden: int) -> int:
    """One per core where each gets a batch worth its thread; else one, which leaves the cores to BLAS."""
    if not isinstance(x, np.ndarray):
        return 1
    return max(1, min(cores(), len(x) // 32, len(x) * hidden // 4096))


class _Part:
    """Some rows of the batch on their way through time. All arrays are (features, batch).

    Attributes:
        rows: which of the batch.
        mask: (n, T) or None.
        z: (H + D + 1, T, n): h of the step before, x, and 1 for the bias. As one matrix (H + D + 1, T n) it gives the
            weight gradients; the matrix of a step has the row length T n.
        gates: (T, 4H, n): i, f, o, g.
        cells: (T + 1, H, n): c before the first step, and after each.
        tanh_cells: (T, H, n).
        h, c: (H, n), after the last step.
    """

    z: Array
    gates: Array
    cells: Array
    tanh_cells: Array
    h: Array
    c: Array

    def __init__(self, rows: slice, mask: Array | None) -> None:
        self.rows, self.mask = rows, mask

    def forward(self, x: Array, h: Array, c: Array, weight: Array, hs: Array, keep: bool) -> None:
        """Run through time, writing to `hs` (n, T, H). The rows of `weight` for the σ gates are halved.

        Without `keep`, for a pass that no backward follows, one step's arrays serve all.
        """
        xp = get_array_module(x)
        n, steps, features = x.shape
        hidden = h.shape[1]
        kept = steps if keep else 1
        self.z = xp.empty((hidden + features + 1, kept, n), weight.dtype)
        self.gates = xp.empty((kept, 4 * hidden, n), weight.dtype)
        self.cells = xp.empty((kept + 1, hidden, n), weight.dtype)
        self.tanh_cells = xp.empty((kept, hidden, n), weight.dtype)
        product = xp.empty((hidden, n), weight.dtype)
        h, self.cells[0] = h.T, c.T
        self.z[-1] = 1
        for t in range(steps):
            k = t if keep else 0
            z, a, c, c_new = self.z[:, k], self.gates[k], self.cells[k], self.cells[k + 1]
            z[:hidden] = h
            z[hidden:-1] = x[:, t].T
            xp.matmul(weight, z, out=a)
            xp.tanh(a, out=a)
            sigmoids = a[: 3 * hidden]
            sigmoids *= 0.5
            sigmoids += 0.5
            i, f, o, g = a.reshape(4, hidden, n)
            xp.multiply(f, c, out=c_new)
            xp.multiply(i, g, out=product)
            c_new += product
            xp.tanh(c_new, out=self.tanh_cells[k])
            h = o * self.tanh_cells[k]
            if self.mask is not None:
                frozen = ~self.mask[:, t]
                xp.copyto(c_new, c, where=frozen)
                xp.copyto(h, z[:hidden], where=frozen)
            hs[:, t] = h.T
            if not keep:
                self.cells[0] = c_new
        self.h, self.c = h, self.cells[-1]

    def backward(
        self, dhs: Array, dh: Array, dc: Array, weight: Array, dx: Array, dh_first: Array, dc_first: Array
    ) -> Array:
        """Run back through time, writing to `dx`, `dh_first` and `dc_first`; returns the gradient of the weight."""
        xp = get_array_module(dhs)
        size, steps, n = self.z.shape
        hidden = dh.shape[1]
        dgates = xp.empty((4 * hidden, steps, n), weight.dtype)
        dz = xp.empty((size, n), weight.dtype)
        d = xp.empty((4, hidden, n), weight.dtype)
        slope = xp.empty((4 * hidden, n), weight.dtype)
        s = xp.empty((hidden, n), weight.dtype)
        dh, dc = xp.array(dh.T, order="C"), xp.array(dc.T, order="C")
        for t in reversed(range(steps)):
            a, tanh_c = self.gates[t], self.tanh_cells[t]
            i, f, o, g = a.reshape(4, hidden, n)
            dh += dhs[:, t].T
            if self.mask is not None:
                valid = self.mask[:, t]
                dh_past, dc_past = dh * ~valid, dc * ~valid
                dh *= valid
                dc *= valid
            # dc += dh o (1 - tanh² c)
            xp.multiply(tanh_c, tanh_c, out=s)
            xp.subtract(1, s, out=s)
            s *= o
            s *= dh
            dc += s
            xp.multiply(dc, g, out=d[0])
            xp.multiply(dc, self.cells[t], out=d[1])
            xp.multiply(dh, tanh_c, out=d[2])
            xp.multiply(dc, i, out=d[3])
            # The slope of σ is σ - σ², that of tanh 1 - tanh².
            xp.multiply(a, a, out=slope)
            xp.subtract(a[: 3 * hidden], slope[: 3 * hidden], out=slope[: 3 * hidden])
            xp.subtract(1, slope[3 * hidden :], out=slope[3 * hidden :])
            xp.multiply(d.reshape(4 * hidden, n), slope, out=dgates[:, t])
            dc *= f
            xp.matmul(weight.T, dgates[:, t], out=dz)
            dh = dz[:hidden]
            dx[:, t] = dz[hidden:-1].T
            if self.mask is not None:
                dh += dh_past
                dc += dc_past
        dh_first[...], dc_first[...] = dh.T, dc.T
        return dgates.reshape(4 * hidden, -1) @ self.z.reshape(size, -1).T
