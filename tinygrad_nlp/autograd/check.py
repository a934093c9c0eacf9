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
    (Squire and Trapp, 1998), else by central differences, whose error the tolerance then must bear.

    Args:
        f: from Variables to a Variable, or a tuple of them. It must give the same at every call.
        args: arrays of floats; each is an argument of `f`.
        order: up to which derivative.
        rtol, atol: allowed difference, relative to the derivative and absolute.
        seed: of the directions.

    Raises:
        AssertionError: with the order, both values, the inputs and the direction.

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
    numerical = _directional_derivative(f, xs, us, vs)
    if not abs(backward - numerical) <= atol + rtol * max(abs(numerical), abs(backward)):
        raise AssertionError(
            f"derivative of order {order}: backward gives {backward!r}, the difference quotient {numerical!r}\n"
            f"inputs: {xs}\ndirection: {us}\nweights of the outputs: {vs}"
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


def _directional_derivative(
    f: Callable[..., Any], xs: list[np.ndarray], us: list[np.ndarray], vs: list[np.ndarray]
) -> float:
    def moved(step: complex) -> list[np.ndarray]:
        return [y.data for y in _tuple(f(*(Variable(x + step * u) for x, u in zip(xs, us, strict=True))))]

    def weighted(ys: list[np.ndarray]) -> float:
        return sum(float(np.sum(v * y)) for v, y in zip(vs, ys, strict=True))

    plus, minus = moved(CENTRAL_STEP), moved(-CENTRAL_STEP)
    central = weighted([(p - m) / (2 * CENTRAL_STEP) for p, m in zip(plus, minus, strict=True)])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", np.exceptions.ComplexWarning)  # a cast to real: not analytic, see below
            exact = weighted([np.imag(y) / COMPLEX_STEP for y in moved(1j * COMPLEX_STEP)])
    except TypeError:  # a function that knows no complex numbers
        return central
    # Where f is not analytic (|x|, a comparison) the imaginary part means nothing: it is further from the central one
    # than that can be wrong, by truncation and by rounding.
    largest = sum(float(np.sum(np.abs(v * p))) for p, v in zip(plus, vs, strict=True))
    rounding = largest * float(np.finfo(float).eps) / CENTRAL_STEP
    return exact if abs(exact - central) <= 1e-6 * (1 + abs(central)) + 10 * rounding else central


def _tuple(ys: Any) -> tuple[Variable, ...]:
    return ys if isinstance(ys, tuple) else (ys,)
