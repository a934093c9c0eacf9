"""What the recurrent kernels share: the definition's loop over time, and the kernel's, with masks and directions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from ...autograd import Fused, scope
from ...autograd.ops import stack, unstack, where
from ...backend import Array, get_array_module
from ...products import matmul, multiplier
from ...threads import blas_alone, count, side_by_side, slices

_LARGE_BATCH = 64  # rows, from which on a product does as much in a moment as one for all steps
_LARGE_WEIGHT = 2**17  # elements, from which on it pays to share their transposition among threads
_NARROW = 128  # columns of a weight, or of what it is multiplied with
_APART = 16  # elements by which rows of the weights lie further apart: a power of 2 would fill few places of the cache


class Recurrence(Fused):
    """One layer in one direction, over a whole sequence: x, the first state and weights → all h, and the last state.

    A subclass has the formulas of one step, and a kind of `Part`, which is its kernel.

    How the kernels are fast:

    - Inside, time comes first, and a gate of a step is one contiguous block, (batch, H). What comes out is a view of
      that, as from PyTorch's layers with `batch_first`.
    - A step of a large batch has one product for each gate, [h, 1, x] · [W_hh, b, W_ih]ᵀ. In a small batch, products
      are slow: there x W_ihᵀ + b is made for all steps at once, and a step is left with h W_hhᵀ. So it is always in an
      RNN, with its one gate, as to add to one takes no longer than to copy h, and in a GRU that resets h first.
    - On the way back, a step is left with the product for h; that for x is made for all steps at once.
    - The weights are transposed once, before the first step: OpenBLAS would take up to three times as long for each.
    - The gradients of the weights, biases too, are one product for all steps; where they are narrow, one for each, as
      small ones take their factors where they lie, and a sum.
    - A large batch is cut into one part per core; the parts run through the time loop side by side.

    Args:
        mask: boolean (N, T) or None. Where it is False the step is left out: state and output stay as they are.
        reverse: run from the last step to the first.
        recurrent_mask: (N, H) or None: what h is multiplied with before each recurrent product (variational dropout).
    """

    states: ClassVar[int] = 1  # how many arrays the state consists of; the first is h

    def __init__(self, mask: Array | None = None, reverse: bool = False, recurrent_mask: Array | None = None) -> None:
        self.mask, self.reverse, self.recurrent_mask = mask, reverse, recurrent_mask

    # --- the definition -----------------------------------------------------------------------------------------------

    def step(self, x: Any, state: Any, *weights: Any) -> tuple[Any, ...]:
        """The formulas: x (N, D) and the state before → the state after."""
        raise NotImplementedError(f"{type(self).__name__}.step")

    def recurrence(self, x: Any, state: tuple[Any, ...], *weights: Any) -> Any:
        """The definition: step by step."""
        # What lies under the mask may be anything, NaN too, which the 0 of `where`'s gradient does not make 0.
        xs = unstack(x if self.mask is None else where(self.mask[:, :, None], x, 0), axis=1)
        hs = []
        order = range(len(xs))
        for t in reversed(order) if self.reverse else order:
            with scope(t):
                after = self.step(xs[t], state, *weights)
                if self.mask is not None:
                    valid = self.mask[:, t, None]
                    after = tuple(where(valid, new, old) for new, old in zip(after, state, strict=True))
                state = after
                hs.append(state[0])
        return stack(hs[::-1] if self.reverse else hs, axis=1), *state

    def dropped(self, h: Any) -> Any:
        """What the recurrent products see of h."""
        return h if self.recurrent_mask is None else h * self.recurrent_mask

    # --- the kernel ---------------------------------------------------------------------------------------------------

    def kernel(self, *weights: Any) -> Callable[..., Part]:
        """What makes a part, from the rows that it takes of the batch and their two masks."""
        raise NotImplementedError(f"{type(self).__name__}.kernel")

    def forward(self, x: Array, *state_and_weights: Array) -> tuple[Array, ...]:
        state, weights = state_and_weights[: self.states], state_and_weights[self.states :]
        if self.edges is None and self.mask is None and x.shape[1] == 1:
            # As in generation. To join the weights for a kernel takes longer than the formula: 116 µs to 36 for an
            # LSTM of 100 and one row.
            state = self.step(x[:, 0], state, *weights)
            return state[0][:, None].copy(), *state
        return self.run(self.kernel(*weights), x, state)

    def run(self, kernel: Callable[..., Part], x: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
        """Forward: pass all parts of the batch through time.

        Args:
            kernel: makes a part, from the rows that it takes of the batch and their two masks.
            x: (N, T, D).
            state: the first one, arrays (N, H).
        """
        xp = get_array_module(x)
        self.steps = steps = x.shape[1]
        hidden = state[0].shape[1]
        hs = xp.empty((steps + 1, len(x), hidden), x.dtype)
        in_time = hs[::-1] if self.reverse else hs
        last = [xp.empty_like(s) for s in state]

        def run(rows: slice) -> Part:
            part = kernel(rows, *self._masks(rows))
            part.forward(self._in_time(x[rows]), [s[rows] for s in state], in_time[:, rows], self.edges is not None)
            for s, array in zip(part.state(steps), last, strict=True):
                array[rows] = s
            return part

        parts = side_by_side(run, slices(len(x), number_of_parts(x, hidden)))
        if self.edges is not None:
            self.saved = parts
        return (hs[:-1] if self.reverse else hs[1:]).swapaxes(0, 1), *last

    def backward(self, dhs: Array, *dlast: Array) -> tuple[Array | None, ...]:
        x, *inputs = self.inputs
        xp = get_array_module(x)
        weights = inputs[self.states :]
        first_is_wanted = any(edge is not None for edge in self.edges[1 : 1 + self.states])
        learns = any(edge is not None for edge in self.edges[1 + self.states :])
        dx = None if self.edges[0] is None else xp.empty_like(x)
        dfirst = [xp.empty_like(d) for d in dlast]

        def run(part: Part) -> tuple[Array, ...]:
            rows = part.rows
            part.first_is_wanted = first_is_wanted
            dx_of_part = None if dx is None else self._in_time(dx[rows])
            dlast_of_part = [d[rows] for d in dlast]
            dstate = part.backward(self._in_time(dhs[rows]), dlast_of_part, weights[0], weights[1], dx_of_part)
            for array, d in zip(dfirst, dstate, strict=True):
                array[rows] = d
            return part.weight_gradients() if learns else ()

        of_parts = zip(*side_by_side(run, self.saved), strict=True)
        dweights = [functools.reduce(np.add, gradients) for gradients in of_parts]
        not_given = [None] * len(weights)
        return dx, *dfirst, *[*dweights, *not_given][: len(weights)]

    def saved_arrays(self) -> Iterator[Any]:
        """Those of the parts, too."""
        yield from super().saved_arrays()
        for part in self.saved or ():
            yield from part.saved_arrays()

    def _in_time(self, array: Array) -> Array:
        """(N, T, …) in the order in which the steps are taken: a view."""
        return array[:, ::-1] if self.reverse else array

    def _masks(self, rows: slice) -> tuple[Array | None, Array | None]:
        return (
            None if self.mask is None else self._in_time(self.mask[rows]),
            None if self.recurrent_mask is None else self.recurrent_mask[rows],
        )


class Part:
    """Some rows of the batch on their way through time: a kernel.

    A subclass takes the steps, forward and back, each up to a `yield`. Between NumPy's calls a thread holds the
    interpreter, and the others may wait for it: so what can be made before the loop is.

    Args:
        rows: which of the batch.
        mask: (n, T) or None.
        dropped: (n, H) or None: what h is multiplied with before the recurrent product.
        weight: [W_hh, b, W_ih]ᵀ of each gate, (gates, H + 1 + D, H): halved for σ, as σ(a) = tanh(a/2)/2 + 1/2.

    Attributes:
        gates: how many `weight` has.
        x: (T, n, 1 + D): 1 for the bias, and x.
        h: (T + 1, n, H), before each step and after the last.
        seen: (T, n, H), the h that the products see before each step.
        z: (T, n, H + 1 + D), of which `seen` and `x` are views where a step has one product for both; else None.
        dgates: (T, n, gates H), in backward: the gradients of what goes into σ and tanh.
        weight_hh: W_hh, (G, H), in backward; `multiply` makes products with it.
        steps: T.
        hidden: H.
        first_is_wanted: whether backward shall give the gradient of the first state; else step 0 needs no product.
    """

    joins: ClassVar[bool] = True  # whether a step of a large batch has one product for h and x
    z: Array | None = None
    dgates: Array
    weight_hh: Array
    multiply: Callable[..., Any]
    first_is_wanted: bool

    def __init__(self, rows: slice, mask: Array | None, dropped: Array | None, *, weight: Array) -> None:
        self.rows, self.mask, self.dropped, self.weight = rows, mask, dropped, weight
        self.gates = len(weight)

    # --- forward ------------------------------------------------------------------------------------------------------

    def forward(self, x: Array, state: Sequence[Array], h: Array, keep: bool) -> None:
        """Run through time, from x (n, T, D) and the first state, arrays (n, H), of which h is the first.

        All h are written to `h`. Without `keep` no backward follows, and what only that needs may be overwritten.
        """
        xp = get_array_module(x)
        n, self.steps, features = x.shape
        self.hidden = state[0].shape[1]
        self.h = h
        h[0] = state[0]
        if self.joins and n >= _LARGE_BATCH and isinstance(x, np.ndarray):
            self.z = xp.empty((self.steps, n, self.hidden + 1 + features), x.dtype)
            self.seen, self.x = self.z[:, :, : self.hidden], self.z[:, :, self.hidden :]
        else:
            self.seen = h[:-1] if self.dropped is None else xp.empty((self.steps, n, self.hidden), x.dtype)
            self.x = xp.empty((self.steps, n, 1 + features), x.dtype)
        self.x[:, :, 0] = 1
        inputs = self.x[:, :, 1:]
        inputs[...] = x.swapaxes(0, 1)
        if self.mask is not None:  # see `recurrence`
            xp.copyto(inputs, 0, where=~self.mask.T[:, :, None])
        self.begin(keep, *state[1:])
        forward = self.forward_steps()
        with blas_alone():
            for t in range(self.steps):
                if self.dropped is not None:
                    xp.multiply(h[t], self.dropped, out=self.seen[t])
                elif self.z is not None:
                    self.seen[t] = h[t]
                next(forward)
                if self.mask is not None:
                    frozen = ~self.mask[:, t, None]
                    for before, after in zip(self.state(t), self.state(t + 1), strict=True):
                        xp.copyto(after, before, where=frozen)

    def begin(self, keep: bool, *others: Array) -> None:
        """Make the arrays of the forward pass, given the first state without its h, arrays (n, H)."""

    def forward_steps(self) -> Iterator[None]:
        """From the state before each step to the one after it."""
        raise NotImplementedError(f"{type(self).__name__}.forward_steps")

    def all_steps(self, weight: Array) -> Array:
        """x W_ihᵀ + b at all steps, (T, gates, n, H), for [b, W_ih]ᵀ, (gates, 1 + D, H)."""
        products = matmul(as_matrix(self.x), weight)
        return products.reshape(len(weight), self.steps, self.x.shape[1], self.hidden).swapaxes(0, 1)

    def state(self, t: int) -> tuple[Array, ...]:
        """The state before step t, each (n, H)."""
        return (self.h[t],)

    def saved_arrays(self) -> tuple[Array | None, ...]:
        """What backward reads of forward's arrays, and does not write to."""
        return self.x, self.h, self.seen, self.mask, self.dropped

    # --- backward -----------------------------------------------------------------------------------------------------

    def backward(
        self, dhs: Array, dstate: Sequence[Array], weight_ih: Array, weight_hh: Array, dx: Array | None
    ) -> Sequence[Array]:
        """Run back through time, from the gradients of all h (n, T, H) and of the last state; fills `dgates`.

        The gradient of x is written to `dx` (n, T, D), unless that is None.

        Returns:
            The gradient of the first state, arrays (n, H).
        """
        xp = get_array_module(self.x)
        self.weight_hh = weight_hh
        self.dgates = xp.empty((*self.x.shape[:2], self.gates * self.hidden), self.x.dtype)
        dstate = [xp.array(d, self.x.dtype, order="C") for d in dstate]
        backward = self.backward_steps(*dstate)
        dh = dstate[0]
        with blas_alone():
            self.multiply = multiplier(weight_hh, dh)
            for t, from_above in zip(reversed(range(self.steps)), dhs.swapaxes(0, 1)[::-1], strict=True):
                dh += from_above
                if self.mask is None:
                    next(backward)
                    continue
                valid = self.mask[:, t, None]
                past = [d * ~valid for d in dstate]
                for d in dstate:
                    d *= valid
                next(backward)
                for d, p in zip(dstate, past, strict=True):
                    d += p
        if dx is not None:
            dx[...] = self.input_gradient(weight_ih).reshape(self.steps, *dx[:, 0].shape).swapaxes(0, 1)
        return dstate

    def backward_steps(self, dh: Array, *others: Array) -> Iterator[None]:
        """From the gradient of the state after each step to that of the one before, in place; fills `dgates`."""
        raise NotImplementedError(f"{type(self).__name__}.backward_steps")

    def through_product(self, t: int, dsums: Array, dh: Array) -> None:
        """From the gradient of h W_hhᵀ + b + x W_ihᵀ at step t, (n, G), to that of h, which is written to dh (n, H)."""
        if t > 0 or self.first_is_wanted:
            self.multiply(dsums, self.weight_hh, dh)
            if self.dropped is not None:
                dh *= self.dropped

    def by_gates(self) -> Array:
        """`dgates` as (T, gates, n, H): a view."""
        return self.dgates.reshape(*self.dgates.shape[:2], self.gates, self.hidden).swapaxes(1, 2)

    def input_gradient(self, weight_ih: Array) -> Array:
        """The gradient of x at all steps, (T n, D)."""
        return matmul(as_matrix(self.dgates), weight_ih)

    def weight_gradients(self) -> tuple[Array, ...]:
        """Those of W_ih, W_hh and both biases, of this part."""
        if self.z is None and self.x.shape[1] >= _LARGE_BATCH:
            of_h, of_x = gradient_of_weight(self.dgates, self.seen), gradient_of_weight(self.dgates, self.x)
        else:
            gradient = gradient_of_weight(self.dgates, self.joined(self.x.shape[2]))
            of_h, of_x = gradient[:, : self.hidden], gradient[:, self.hidden :]
        return of_x[:, 1:], of_h, of_x[:, 0], of_x[:, 0]

    def joined(self, columns: int) -> Array:
        """`seen` and the first columns of `x`, (T, n, H + columns): one product is faster than two of few rows."""
        if self.z is not None:
            return self.z[:, :, : self.hidden + columns]
        return get_array_module(self.x).concatenate((self.seen, self.x[:, :, :columns]), axis=2)


def gradient_of_weight(dsums: Array, seen: Array) -> Array:
    """That of the weight (G, F) with which (T, n, F) was multiplied, from that of the products, (T, n, G)."""
    _, n, features = seen.shape
    narrow = features <= _NARROW
    by_step = narrow and dsums.shape[2] <= _NARROW and n >= features  # then those of all steps are no larger than dsums
    if by_step and isinstance(seen, np.ndarray) and seen.itemsize > 2:  # float16 would round each step's
        return matmul(dsums.swapaxes(1, 2), seen).sum(axis=0)
    into, seen = as_matrix(dsums), as_matrix(seen)
    # The transposed product takes OpenBLAS three quarters of the time where it is narrow, and 1.04 where it is wide.
    return matmul(seen.T, into).T.copy() if narrow else matmul(into.T, seen)


def as_matrix(array: Array) -> Array:
    """(T, n, F) → (T n, F): a view, where nothing lies between the steps."""
    return array.reshape(-1, array.shape[2])


def weight_of_step(
    gates: Sequence[tuple[int, float]], weight_ih: Array, weight_hh: Array, bias_ih: Array | None, bias_hh: Array | None
) -> Array:
    """[W_hh, b, W_ih]ᵀ of each gate, (gates, H + 1 + D, H).

    Args:
        gates: for each gate of the result, which one of the weights it is, and a factor.
        weight_ih: (G, D).
        weight_hh: (G, H).
        bias_ih: (G,), or None.
        bias_hh: (G,), or None.
    """
    xp = get_array_module(weight_hh)
    hidden, features = weight_hh.shape[1], weight_ih.shape[1]
    apart = _APART if isinstance(weight_hh, np.ndarray) else 0
    weight = xp.empty((len(gates), hidden + 1 + features, hidden + apart), weight_hh.dtype)[:, :, :hidden]

    def make(some: slice) -> None:
        for block, (gate, factor) in zip(weight[some], gates[some], strict=True):
            rows = slice(gate * hidden, (gate + 1) * hidden)
            xp.multiply(weight_hh[rows], factor, out=block[:hidden].T)
            xp.multiply(weight_ih[rows], factor, out=block[hidden + 1 :].T)
            block[hidden] = 0
            for bias in (bias_ih, bias_hh):
                if bias is not None:
                    block[hidden] += factor * bias[rows]

    alone = weight.size < _LARGE_WEIGHT or not isinstance(weight, np.ndarray)
    side_by_side(make, slices(len(gates), 1 if alone else min(count(), len(gates))))
    return weight


def sigmoid_from_tanh(x: Array) -> None:
    """tanh(a/2) → σ(a), in place."""
    x *= 0.5
    x += 0.5


def number_of_parts(x: Array, hidden: int) -> int:
    """One per core where each gets a batch worth its thread; else one, whose products are shared."""
    if not isinstance(x, np.ndarray):
        return 1
    return max(1, min(count(), len(x) // 32, len(x) * hidden // 4096))
