"""Derivatives of Python functions: gradients, Jacobians, Hessians, and their products with vectors.

One rule for all of them: `f` takes the arguments as Variables and returns a Variable; every argument is differentiated,
and what shall not be is put into `f` by a closure. One argument gives one result, several give a tuple.

Arrays in, arrays out. If an argument is a Variable that requires a gradient, results are Variables that can be
differentiated again, so that the functions of this module nest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backend import get_array_module, is_array
from .function import Identity, grad
from .modes import enable_grad, modes
from .sparse import RowSparse
from .variable import Variable

Result = Any  # an array (a RowSparse in place of a sparse gradient) or a Variable


def value_and_grad(f: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., tuple[Any, Any]]:
    """A function that gives what `f` gives, and its gradient, as `jax.value_and_grad`.

    Args:
        f: returns a Variable of one element. It may take further arguments, which are passed on as they are.
        argnums: which positional argument to differentiate, 0 by default, or a tuple of them. Arrays or Variables of
            any shape and a floating dtype.

    Returns:
        A function of the arguments of `f`; it returns the value of f (an array, or a Variable where an argument that is
        differentiated is one), and one gradient of the shape and dtype of its argument or, for a tuple, a tuple of
        them. It raises a ValueError where f returns more than one element, and a TypeError where f returns no Variable,
        where an argument is no float, or where `argnums` names none.

    Example:
        >>> import numpy as np, tinygrad_nlp as tn
        >>> loss = lambda w, x: ((x @ w) ** 2).sum()
        >>> value, gradient = tn.value_and_grad(loss)(np.array([1.0, 2.0]), np.eye(2))
        >>> float(value), gradient
        (5.0, array([2., 4.]))
    """
    several = isinstance(argnums, tuple)
    chosen: tuple[int, ...] = argnums if isinstance(argnums, tuple) else (argnums,)

    def differentiated(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        if not all(-len(args) <= i < len(args) for i in chosen):
            raise TypeError(f"value_and_grad: argnums {argnums} for {len(args)} positional arguments")
        if len({i % len(args) for i in chosen}) < len(chosen):
            raise TypeError(f"value_and_grad: argnums {argnums} name one of {len(args)} arguments twice")
        call = _Call("value_and_grad", tuple(args[i] for i in chosen))
        full = list(args)
        for i, x in zip(chosen, call.inputs, strict=True):
            full[i] = x
        y = call.scalar(lambda *_: f(*full, **kwargs))
        return call.value(y), call.results(call.gradients(y, create_graph=call.records), several)

    return differentiated


def vjp(f: Callable[..., Any], *xs: Any) -> tuple[Any, Callable[..., Any]]:
    """The value of `f`, and the function v ↦ vᵀ J: products of vectors with its Jacobian, by one backward each.

    Args:
        f: from Variables to a Variable of any shape.
        *xs: the point: arrays or Variables of any shape and a floating dtype.

    Returns:
        f(*xs), and a function that takes an array of the shape of that and gives one result for each of xs, of its
        shape and dtype. It can be called often; of a Variable it gives Variables, and of another shape it raises a
        ValueError.

    Raises:
        TypeError: there are no xs, one of them has no floats, or f returns no Variable.

    Example:
        >>> import numpy as np, tinygrad_nlp as tn
        >>> y, pull = tn.vjp(lambda x: x * x, np.array([1.0, 2.0, 3.0]))
        >>> pull(np.array([1.0, 0.0, 1.0]))
        array([2., 0., 6.])
    """
    call = _Call("vjp", xs)
    y = call.output(f)

    def pull(v: Any) -> Any:
        records = call.records or (modes.recording and _is_tracked(v))
        found = call.gradients(y, v, create_graph=records, retain_graph=True)
        return call.results(found, beside=v)

    return call.value(y), pull


def jvp(f: Callable[..., Any], xs: Any, tangents: Any) -> tuple[Any, Any]:
    """The value of `f`, and J u: how it changes when the point moves along `tangents`.

    There is no forward differentiation in this library; two backwards do it. The first gives g(v) = Jᵀv as a function
    of a v that has no part in the result; g is linear, and its own product with u is d(uᵀ Jᵀ v)/dv = J u (Townsend, *A
    new trick for calculating Jacobian vector products*, 2017).

    Args:
        f: from Variables to a Variable of any shape.
        xs: the point: one argument, or a tuple of them; arrays or Variables of any shape and a floating dtype.
        tangents: u, in the same form and of the same shapes.

    Returns:
        f(*xs) and J u, both of the shape and dtype of f(*xs).

    Raises:
        ValueError: tangents of another number or shape than xs.
        TypeError: there are no xs, one of them has no floats, or f returns no Variable.

    Example:
        >>> import numpy as np, tinygrad_nlp as tn
        >>> _, change = tn.jvp(lambda x: x * x, np.array([1.0, 2.0, 3.0]), np.array([1.0, 0.0, 1.0]))
        >>> change
        array([2., 0., 6.])
    """
    call = _Call("jvp", _several(xs))
    us = call.vectors(_several(tangents), "tangents")
    y = call.output(f)
    v = Variable(get_array_module(y.data).zeros(y.shape, y.dtype), requires_grad=True)
    gradients = call.gradients(y, v, create_graph=True)
    change = _gradients(gradients, us, (v,), create_graph=call.records)
    return call.value(y), call.results(change)


def jacobian(f: Callable[..., Any], *xs: Any) -> Any:
    """All derivatives of all elements of f, by one backward for each of them.

    Args:
        f: from Variables to a Variable of any shape.
        *xs: the point: arrays or Variables of any shape and a floating dtype.

    Returns:
        For each of xs an array of the shape f(*xs).shape + x.shape and the dtype of x: one alone for one x, else a
        tuple.

    Raises:
        TypeError: there are no xs, one of them has no floats, or f returns no Variable.

    Example:
        >>> import numpy as np, tinygrad_nlp as tn
        >>> tn.jacobian(lambda x: x * x, np.array([1.0, 2.0]))
        array([[2., 0.],
               [0., 4.]])
    """
    call = _Call("jacobian", xs)
    return call.results(_rows(call, call.output(f)))


def hessian(f: Callable[..., Any], *xs: Any) -> Any:
    """All second derivatives of a function that gives one number: the Jacobian of its gradient, row by row.

    Args:
        f: from Variables to a Variable of one element.
        *xs: the point: arrays or Variables of any shape and a floating dtype.

    Returns:
        For one x an array of the shape x.shape + x.shape and the dtype of x; for several a tuple of tuples of them,
        where [i][j] has the derivatives by xs[i] and xs[j].

    Raises:
        ValueError: f returns more than one element.
        TypeError: there are no xs, one of them has no floats, or f returns no Variable.

    Example:
        >>> import numpy as np, tinygrad_nlp as tn
        >>> tn.hessian(lambda x: x[0] * x[0] * x[1], np.array([3.0, 5.0]))
        array([[10.,  6.],
               [ 6.,  0.]])
    """
    call = _Call("hessian", xs)
    gradients = call.gradients(call.scalar(f), create_graph=True)
    blocks = [call.results(_rows(call, g)) for g in gradients]
    return blocks[0] if len(blocks) == 1 else tuple(blocks)


def hvp(f: Callable[..., Any], xs: Any, vectors: Any) -> tuple[Any, Any]:
    """The value of `f`, and the product of its Hessian with `vectors`, without the Hessian: a backward of a backward.

    Takes a few times as long as the gradient, however many arguments there are (Pearlmutter, *Fast exact multiplication
    by the Hessian*, 1994).

    Args:
        f: from Variables to a Variable of one element.
        xs: the point: one argument, or a tuple of them; arrays or Variables of any shape and a floating dtype.
        vectors: in the same form and of the same shapes.

    Returns:
        f(*xs), and for each of xs a result of its shape and dtype.

    Raises:
        ValueError: f returns more than one element, or vectors of another number or shape than xs.
        TypeError: there are no xs, one of them has no floats, or f returns no Variable.

    Example:
        >>> import numpy as np, tinygrad_nlp as tn
        >>> _, product = tn.hvp(lambda x: (x**3).sum(), np.array([1.0, 2.0]), np.array([1.0, 10.0]))
        >>> product
        array([  6., 120.])
    """
    call = _Call("hvp", _several(xs))
    vs = call.vectors(_several(vectors), "vectors")
    y = call.scalar(f)
    gradients = call.gradients(y, create_graph=True)
    return call.value(y), call.results(_gradients(gradients, vs, call.inputs, create_graph=call.records))


class _Call:
    """The arguments of one transform: as Variables of their own, and what to give back for them."""

    def __init__(self, name: str, xs: Sequence[Any]) -> None:
        if not xs:
            raise TypeError(f"{name}: there is no argument to differentiate")
        self.name = name
        self.gives_variables = any(isinstance(x, Variable) for x in xs)
        self.records = modes.recording and any(map(_is_tracked, xs))
        with enable_grad():
            self.inputs = tuple(self._input(position, x) for position, x in enumerate(xs))

    def _input(self, position: int, x: Any) -> Variable:
        if _is_tracked(x) and self.records:
            return Identity()(x)  # a node of its own: other uses of x do not count
        x = Variable(x.data if isinstance(x, Variable) else x)
        if x.dtype.kind not in "fc":
            raise TypeError(
                f"{self.name}: argument {position} has the dtype {x.dtype}, and derivatives need floats; "
                "put it into the function by a closure, as in lambda x: f(x, ids)"
            )
        x.requires_grad = True
        return x

    def output(self, f: Callable[..., Any]) -> Variable:
        """What f gives, recorded."""
        with enable_grad():
            y = f(*self.inputs)
        if not isinstance(y, Variable):
            raise TypeError(f"{self.name}: the function must return one Variable, not {type(y).__name__}")
        return y

    def scalar(self, f: Callable[..., Any]) -> Variable:
        """The same, of one element."""
        y = self.output(f)
        if y.size != 1:
            raise ValueError(
                f"{self.name}: the function must return one element, not the shape {y.shape}; sum or average it"
            )
        return y

    def vectors(self, vs: Sequence[Any], what: str) -> tuple[Any, ...]:
        """What belongs to the arguments, checked."""
        if len(vs) != len(self.inputs):
            raise ValueError(f"{self.name}: {len(vs)} {what} for {len(self.inputs)} arguments")
        vs = tuple(v if isinstance(v, Variable) or is_array(v) else np.asarray(v) for v in vs)
        for position, (v, x) in enumerate(zip(vs, self.inputs, strict=True)):
            if v.shape != x.shape:
                raise ValueError(f"{self.name}: {what} {position} has the shape {v.shape}; its argument has {x.shape}")
        self.gives_variables = self.gives_variables or any(isinstance(v, Variable) for v in vs)
        self.records = self.records or (modes.recording and any(map(_is_tracked, vs)))
        return vs

    def gradients(self, y: Variable, seed: Any = None, **options: bool) -> tuple[Result, ...]:
        """Of y, with respect to the arguments."""
        seeds = None if seed is None else (seed,)
        return _gradients((y,), seeds, self.inputs, **options)

    def value(self, y: Variable) -> Result:
        """What f gave, as the caller asked for it."""
        if not self.gives_variables:
            return y.data
        return y if self.records else y.detach()

    def results(self, results: Sequence[Result], several: bool | None = None, beside: Any = None) -> Any:
        """Derivatives, as the caller asked for them: one alone where there is one; Variables for a Variable."""
        if self.gives_variables or isinstance(beside, Variable):
            results = [Variable(r) if is_array(r) else r for r in results]
        else:
            results = [r.data if isinstance(r, Variable) else r for r in results]
        return tuple(results) if several or (several is None and len(results) > 1) else results[0]


def _gradients(
    ys: Sequence[Any], seeds: Sequence[Any] | None, xs: tuple[Variable, ...], **options: bool
) -> tuple[Result, ...]:
    """As `grad`, with zeros for an x on which nothing depends: the derivative of a constant."""
    seeds = (None,) * len(ys) if seeds is None else seeds
    connected = [(y, seed) for y, seed in zip(ys, seeds, strict=True) if _is_tracked(y)]
    found: tuple[Result, ...] = (None,) * len(xs)
    if connected:
        outputs, weights = zip(*connected, strict=True)
        found = grad(outputs, xs, weights, allow_unused=True, **options)
    zeros = [
        get_array_module(x.data).zeros(x.shape, x.dtype) if g is None else None for g, x in zip(found, xs, strict=True)
    ]
    if options.get("create_graph"):
        return tuple(Variable(z) if g is None else g for g, z in zip(found, zeros, strict=True))
    return tuple(z if g is None else g for g, z in zip(found, zeros, strict=True))


def _rows(call: _Call, y: Variable) -> list[Result]:
    """The Jacobian of y with respect to the arguments of the call, row by row."""
    from .ops import reshape, stack

    xp = get_array_module(y.data)
    rows: list[tuple[Result, ...]] = []
    seed = xp.zeros(y.size, y.dtype)
    for i in range(y.size):
        seed[i] = 1
        gradients = call.gradients(y, seed.reshape(y.shape).copy(), create_graph=call.records, retain_graph=True)
        rows.append(tuple(g.to_dense() if isinstance(g, RowSparse) else g for g in gradients))
        seed[i] = 0
    if not rows:
        return [xp.zeros(y.shape + x.shape, x.dtype) for x in call.inputs]
    return [
        reshape(stack([row[position] for row in rows]), y.shape + x.shape) for position, x in enumerate(call.inputs)
    ]


def _several(xs: Any) -> tuple[Any, ...]:
    return tuple(xs) if isinstance(xs, tuple | list) else (xs,)


def _is_tracked(x: Any) -> bool:
    return isinstance(x, Variable) and x.requires_grad


__all__ = ["hessian", "hvp", "jacobian", "jvp", "value_and_grad", "vjp"]
