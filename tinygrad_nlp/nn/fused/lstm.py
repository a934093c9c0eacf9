"""LSTM over a whole sequence: the plain formulas, and a kernel that equals them."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ...autograd import Fused, scope
from ...autograd.ops import linear, sigmoid, split, stack, tanh, unstack, where
from ...backend import Array, get_array_module
from ...threads import count, matmul, side_by_side, slices


class LSTM(Fused):
    """One layer in one direction. `nn.functional.lstm` has the arguments and the source.

    How the kernel is fast:

    - A step has one product, [W_hh, W_ih, b] · [h, x, 1], and its backward one. The gradients of the input and of the
      weights, the bias's too, are one product each for all steps.
    - Inside, arrays are (features, batch): a gate is one contiguous block, and so is h within [h, x, 1].
    - The gates lie in the order i, f, o, g, and c behind them: a step takes the sigmoid of three gates and the tanh of
      the fourth in one pass, as σ(a) = tanh(a/2)/2 + 1/2, and makes i g and f c as one product of neighbours.
    - A large batch is cut into one part per core; the parts run through the time loop side by side.

    Args:
        mask: boolean (N, T), False where a step is left out; None leaves none out.
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
        weight = _weight_of_step(weight_hh, weight_ih, bias_ih + bias_hh)
        hs = xp.empty((*x.shape[:2], hidden), weight.dtype)
        h_last, c_last = xp.empty_like(h), xp.empty_like(c)

        def run(rows: slice) -> _Part:
            part = _Part(rows, None if self.mask is None else self.mask[rows])
            out = hs[rows], h_last[rows], c_last[rows]
            part.forward(x[rows], h[rows], c[rows], weight, *out, keep=self.edges is not None)
            return part

        parts = side_by_side(run, slices(len(x), _number_of_parts(x, hidden)))
        if self.edges is not None:
            self.saved = parts
        return hs, h_last, c_last

    def backward(self, dhs: Array, dh: Array, dc: Array) -> tuple[Array | None, ...]:
        x, _, _, weight_ih, weight_hh, *_ = self.inputs
        xp = get_array_module(x)
        weight_hh_t = _transposed(weight_hh)
        dx = None if self.edges[0] is None else xp.empty_like(x)
        dh_first = None if self.edges[1] is None else xp.empty_like(dh)
        dc_first = xp.empty_like(dc)

        def run(part: _Part) -> Array:
            rows = part.rows
            out = None if dx is None else dx[rows], None if dh_first is None else dh_first[rows], dc_first[rows]
            return part.backward(dhs[rows], dh[rows], dc[rows], weight_ih, weight_hh_t, *out)

        dweights = side_by_side(run, self.saved)
        hidden = dh.shape[1]
        dweight_hh, dweight_ih, dbias = (
            functools.reduce(np.add, [dweight[:, columns] for dweight in dweights])
            for columns in (slice(0, hidden), slice(hidden, -1), -1)
        )
        return dx, dh_first, dc_first, dweight_ih, dweight_hh, dbias, dbias


def _weight_of_step(weight_hh: Array, weight_ih: Array, bias: Array) -> Array:
    """[W_hh, W_ih, b] with the gates in the order i, f, o, g; rows of σ gates halved, for tanh(a/2)."""
    xp = get_array_module(weight_hh)
    hidden, features = weight_hh.shape[1], weight_ih.shape[1]
    weight = xp.empty((4, hidden, hidden + features + 1), weight_hh.dtype)
    for row, gate in enumerate((0, 1, 3, 2)):
        rows, scale = slice(gate * hidden, (gate + 1) * hidden), 1 if gate == 2 else 0.5
        xp.multiply(weight_hh[rows], scale, out=weight[row, :, :hidden])
        xp.multiply(weight_ih[rows], scale, out=weight[row, :, hidden:-1])
        xp.multiply(bias[rows], scale, out=weight[row, :, -1])
    return weight.reshape(4 * hidden, -1)


def _transposed(weight: Array) -> Array:
    """Its transpose, in C order: copied by strips that stay in cache, three times faster than at once."""
    transposed = get_array_module(weight).empty(weight.shape[::-1], weight.dtype)
    for start in range(0, len(weight), 64):
        strip = slice(start, start + 64)
        transposed[:, strip] = weight[strip].T
    return transposed


def _number_of_parts(x: Array, hidden: int) -> int:
    """One per core where each gets a batch worth its thread; else one, whose products are shared."""
    if not isinstance(x, np.ndarray):
        return 1
    return max(1, min(count(), len(x) // 32, len(x) * hidden // 4096))


class _Part:
    """Some rows of the batch on their way through time. All arrays are (features, batch).

    Attributes:
        rows: which of the batch.
        mask: (n, T) or None.
        z: (H + D + 1, T, n): h of the step before, x, and 1 for the bias. As one matrix (H + D + 1, T n) it gives the
            weight gradients; z[:, t] is the matrix of a step, with rows T n apart, which BLAS takes without a copy.
        states: (T + 1, 5H, n): i, f, o, g of a step, and c before it.
        tanh_cells: (T, H, n), of c after the step.
    """

    z: Array
    states: Array
    tanh_cells: Array

    def __init__(self, rows: slice, mask: Array | None) -> None:
        self.rows, self.mask = rows, mask

    def forward(
        self, x: Array, h: Array, c: Array, weight: Array, hs: Array, h_last: Array, c_last: Array, keep: bool
    ) -> None:
        """Run through time, writing to `hs` (n, T, H), `h_last` and `c_last` (n, H).

        Without `keep`, for a pass that no backward follows, the arrays of two steps serve all.
        """
        xp = get_array_module(x)
        n, steps, features = x.shape
        hidden = h.shape[1]
        self.z = xp.empty((hidden + features + 1, steps, n), weight.dtype)
        self.states = xp.empty((steps + 1 if keep else 2, 5 * hidden, n), weight.dtype)
        self.tanh_cells = xp.empty((steps if keep else 1, hidden, n), weight.dtype)
        products = xp.empty((2, hidden, n), weight.dtype)
        last = xp.empty((hidden, n), weight.dtype)
        self.z[:hidden, 0], self.states[0, 4 * hidden :] = h.T, c.T
        self.z[hidden:-1] = x.transpose(2, 1, 0)
        self.z[-1] = 1
        for t in range(steps):
            state, after = self.states[t if keep else t % 2], self.states[t + 1 if keep else (t + 1) % 2]
            tanh_c = self.tanh_cells[t if keep else 0]
            h_new = self.z[:hidden, t + 1] if t + 1 < steps else last
            c_new = after[4 * hidden :]
            gates = state[: 4 * hidden]
            matmul(weight, self.z[:, t], out=gates)
            xp.tanh(gates, out=gates)
            sigmoids = state[: 3 * hidden]
            sigmoids *= 0.5
            sigmoids += 0.5
            # [i, f] times [g, c]
            xp.multiply(state[: 2 * hidden], state[3 * hidden :], out=products.reshape(2 * hidden, n))
            xp.add(products[0], products[1], out=c_new)
            xp.tanh(c_new, out=tanh_c)
            xp.multiply(state[2 * hidden : 3 * hidden], tanh_c, out=h_new)
            if self.mask is not None:
                frozen = ~self.mask[:, t]
                xp.copyto(c_new, state[4 * hidden :], where=frozen)
                xp.copyto(h_new, self.z[:hidden, t], where=frozen)
        hs[:, :-1] = self.z[:hidden, 1:].transpose(2, 1, 0)
        hs[:, -1] = h_last[...] = last.T
        c_last[...] = c_new.T

    def backward(
        self,
        dhs: Array,
        dh: Array,
        dc: Array,
        weight_ih: Array,
        weight_hh_t: Array,
        dx: Array | None,
        dh_first: Array | None,
        dc_first: Array,
    ) -> Array:
        """Run back through time, writing to `dx`, `dh_first` and `dc_first`; returns the gradient of [W_hh, W_ih, b].

        What it makes has the gates in PyTorch's order, i, f, g, o.
        """
        xp = get_array_module(dhs)
        size, steps, n = self.z.shape
        hidden = dh.shape[1]
        dgates = xp.empty((4, hidden, steps, n), weight_ih.dtype)
        dvalues = xp.empty(
            (4, hidden, n), weight_ih.dtype
        )  # of i, f, o, g; times their slopes, of what is in σ and tanh
        slopes = xp.empty((4, hidden, n), weight_ih.dtype)
        through_tanh = xp.empty((hidden, n), weight_ih.dtype)
        dhs = xp.ascontiguousarray(dhs.transpose(1, 2, 0))
        dh, dc = xp.array(dh.T, order="C"), xp.array(dc.T, order="C")
        for t in reversed(range(steps)):
            gates = self.states[t, : 4 * hidden].reshape(4, hidden, n)
            i, f, o, _ = gates
            g_and_c = self.states[t, 3 * hidden :].reshape(2, hidden, n)
            tanh_c = self.tanh_cells[t]
            dh += dhs[t]
            if self.mask is not None:
                valid = self.mask[:, t]
                dh_past, dc_past = dh * ~valid, dc * ~valid
                dh *= valid
                dc *= valid
            # do = dh tanh c;  dc += o (dh - do tanh c), which is dh o (1 - tanh² c)
            xp.multiply(dh, tanh_c, out=dvalues[2])
            xp.multiply(dvalues[2], tanh_c, out=through_tanh)
            xp.subtract(dh, through_tanh, out=through_tanh)
            through_tanh *= o
            dc += through_tanh
            # [di, df] = dc [g, c before];  dg = dc i;  dc before = dc f
            xp.multiply(dc, g_and_c, out=dvalues[:2])
            xp.multiply(dc, i, out=dvalues[3])
            dc *= f
            # The slope of σ is σ - σ², that of tanh 1 - tanh².
            xp.multiply(gates, gates, out=slopes)
            xp.subtract(gates[:3], slopes[:3], out=slopes[:3])
            xp.subtract(1, slopes[3], out=slopes[3])
            xp.multiply(dvalues[:2], slopes[:2], out=dgates[:2, :, t])
            xp.multiply(dvalues[2:], slopes[2:], out=dgates[:1:-1, :, t])  # o, g → g, o: PyTorch's order
            if t > 0 or dh_first is not None:
                matmul(weight_hh_t, dgates[:, :, t].reshape(4 * hidden, n), out=dh)
            if self.mask is not None:
                dh += dh_past
                dc += dc_past
        if dh_first is not None:
            dh_first[...] = dh.T
        dc_first[...] = dc.T
        flat = dgates.reshape(4 * hidden, -1)
        if dx is not None:
            dx[...] = matmul(weight_ih.T, flat).reshape(weight_ih.shape[1], steps, n).transpose(2, 1, 0)
        return matmul(flat, self.z.reshape(size, -1).T)
