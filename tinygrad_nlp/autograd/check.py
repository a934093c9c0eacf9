"""Checks gradients against the definition of the derivative, to any order."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .function import grad
from .variable import Variable

COMPLEX_STEP = 1e-30  # no subtraction, hence no cancellation: the result is exact to the last digits
CENTRAL_STEP = 1e-6


def check_grads(
    f: Callable[..., Any], args: Sequence[Any], order: int = 2, rtol: float = 1e-6, atol: float = 1e-8, seed: int = 0
) -> None:
    """Compare the gradients of `f` with its directional derivatives, computed in float64.

    For random u and v, uᵀ(Jᵀv) from backward must equal vᵀ(J u) from f(x + εu). One direction checks all elements of
    the Jacobian at once, at the price of two calls. For the second order the same is done to the function
    (x, v) ↦ Jᵀv. The derivative is taken along the imaginary axis, Im f(x + iεu)/ε, where `f` is analytic
    (Squire and Trapp, 1998), else by central differences, whose error the tolerance then must bear. Where the two
    sides of the point disagree, there is no derivative, and the error says that instead.

    Args:
        f: from Variables to a Variable, or a tuple of them. It must give the same at every call.
        args: arrays or Variables of any shape, each an argument of `f`, which gets it in float64.
        order: up to which derivative.
        rtol, atol: allowed difference, relative to the derivative and absolute.
        seed: of the directions.

    Raises:
        AssertionError: with the order, both values, the inputs and the direction; or `f` has a kink at this point.
        TypeError: `f` returns something else than a Variable or a tuple of them.

    Example:
        >>> import numpy as np, tinygrad_nlp as tn
        >>> tn.check_grads(lambda x: tn.tanh(x) * x, [np.array([0.3, -1.2])])
    """
    rng = np.random.default_rng(seed)
    xs = [np.asarray(x.data if isinstance(x, Variable) else x, np.float64) for x in args]
    _check(f, xs, 1, order, rtol, atol, rng)


def _check(
    f: Callable[..., Any],
    xs: list[np.ndarray],
    order: int,
    last: int,
    rtol: float,
    atol: float,
    rng: np.random.Generator,
) -> None:
    leaves = [Variable(x, requires_grad=True) for x in xs]
    outputs = _tuple(f(*leaves))
    us = [rng.standard_normal(x.shape) for x in xs]
    vs = [rng.standard_normal(y.shape) for y in outputs]
    connected = [(y, v) for y, v in zip(outputs, vs, strict=True) if y.requires_grad]
    if connected:
        ys, seeds = zip(*connected, strict=True)
        gradients = grad(ys, leaves, seeds, allow_unused=True)
    else:
        gradients = (None,) * len(xs)
    backward = sum(float(np.sum(np.asarray(g) * u)) for g, u in zip(gradients, us, strict=True) if g is not None)
    line = _Line(f, xs, us, vs, [y.data for y in outputs])
    numerical = line.derivative(rtol / 10, atol)
    if not abs(backward - numerical) <= atol + rtol * max(abs(numerical), abs(backward)):
        kink = line.kink()
        if kink is None:
            verdict = f"backward gives {backward!r}, the difference quotient {numerical!r}"
        else:
            verdict = f"not differentiable here: {kink}"
        which = "derivative of order 1" if order == 1 else f"derivative of order {order} (those below are right)"
        raise AssertionError(
            f"{which}: {verdict}\ninputs: {xs}\ndirection: {us}\nweights of the outputs: {vs}"
            + (f"\nbackward gives {backward!r}; check at a point that is away from the kink" if kink else "")
        )
    if order == last:
        return

    def vjp(*args: Variable) -> tuple[Any, ...]:
        points, weights = args[: len(xs)], args[len(xs) :]
        points = tuple(x if x.requires_grad else Variable(x.data, requires_grad=True) for x in points)
        ys = _tuple(f(*points))
        pairs = [(y, w) for y, w in zip(ys, weights, strict=True) if y.requires_grad]
        if not pairs:
            return tuple(Variable(np.zeros(x.shape, x.dtype)) for x in points)
        connected, seeds = zip(*pairs, strict=True)
        gs = grad(connected, points, seeds, create_graph=True, allow_unused=True)
        return tuple(Variable(np.zeros(x.shape, x.dtype)) if g is None else g for g, x in zip(gs, points, strict=True))

    _check(vjp, xs + vs, order + 1, last, rtol, atol, rng)


class _Line:
    """f along the line x + t u, its outputs weighted with v."""

    def __init__(
        self,
        f: Callable[..., Any],
        xs: list[np.ndarray],
        us: list[np.ndarray],
        vs: list[np.ndarray],
        ys: list[np.ndarray],
    ) -> None:
        self.f, self.xs, self.us = f, xs, us
        self.weights = _flat(vs)
        self.here = _flat(ys)

    def at(self, t: complex) -> np.ndarray:
        """All elements of all outputs."""
        return _flat(
            [y.data for y in _tuple(self.f(*(Variable(x + t * u) for x, u in zip(self.xs, self.us, strict=True))))]
        )

    def derivative(self, rtol: float, atol: float) -> float:
        """By a step along the imaginary axis where that can be believed, else by a central difference."""
        central = (self.at(CENTRAL_STEP) - self.at(-CENTRAL_STEP)) / (2 * CENTRAL_STEP)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", np.exceptions.ComplexWarning)  # a cast to real: see below
                exact = np.imag(self.at(1j * COMPLEX_STEP)) / COMPLEX_STEP
        except TypeError:  # a function that knows no complex numbers
            exact = central
        # Where an element is not analytic (|x|, a comparison), its imaginary part means nothing. It is believed if it
        # lies no farther from the central difference than what that is wrong by, however small both of them are.
        error = atol + rtol * np.abs(central) + self.rounding(CENTRAL_STEP)
        return float(self.weights @ np.where(np.abs(exact - central) <= error, exact, central))

    def kink(self) -> str | None:
        """What is wrong with this point, if slopes differ by more than curvature and rounding explain."""
        left, right = self.slopes(CENTRAL_STEP)
        nearer_left, nearer_right = self.slopes(CENTRAL_STEP / 10)
        slack = 1e-3 * (abs(left) + abs(right)) + float(np.abs(self.weights) @ self.rounding(CENTRAL_STEP / 10))
        gap, nearer_gap = abs(right - left), abs(nearer_right - nearer_left)
        if abs(nearer_left + nearer_right) > 5 * abs(left + right) + slack:
            return "the function jumps (or the one whose gradient it is has a kink)"
        if gap > slack and not 0.05 < nearer_gap / gap < 0.2:  # that of a smooth curve shrinks with the step
            return f"the slope is {left!r} on one side and {right!r} on the other"
        return None

    def slopes(self, step: float) -> tuple[float, float]:
        """One-sided difference quotients."""
        left, right = (self.here - self.at(-step)) / step, (self.at(step) - self.here) / step
        return float(self.weights @ left), float(self.weights @ right)

    def rounding(self, step: float) -> np.ndarray:
        """What rounding may do to a difference quotient of each element."""
        return 16 * np.finfo(float).eps * np.maximum(1, np.abs(self.here)) / step


def _flat(ys: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0), *(np.asarray(y).ravel() for y in ys)])


def _tuple(ys: Any) -> tuple[Variable, ...]:
    ys = ys if isinstance(ys, tuple) else (ys,)
    for y in ys:
        if not isinstance(y, Variable):
            raise TypeError(f"check_grads: f must return a Variable or a tuple of them, not {type(y).__name__}")
    return ys
