"""Operations that act on each element by itself. Two arguments broadcast as in NumPy; the engine sums that up again.

All of them take arrays, numbers or Variables, and give a Variable if one of the arguments is one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...backend import Array, get_array_module, special_functions
from ..engine import Gradient
from ..function import Function


class Add(Function):
    def forward(self, a: Array, b: Array) -> Array:
        return a + b

    def backward(self, gy: Gradient) -> Gradient:
        return gy, gy


def add(a: Any, b: Any) -> Any:
    """a + b, as `numpy.add`.

    Args:
        a, b: arrays, numbers or Variables, of shapes that broadcast.

    Returns:
        Of the broadcast shape, in the dtype to which NumPy promotes a and b (a Python number changes none).

    Raises:
        ValueError: the shapes do not broadcast.

    Both get the gradient as it is; one that was broadcast gets its sum over the axes that it lacked (the repeat node of
    *Deep Learning from Scratch 2*, ch. 1).
    """
    return Add()(a, b)


class Sub(Function):
    def forward(self, a: Array, b: Array) -> Array:
        return a - b

    def backward(self, gy: Gradient) -> Gradient:
        return gy, None if self.edges[1] is None else -gy


def sub(a: Any, b: Any) -> Any:
    """a - b, as `numpy.subtract`.

    Args:
        a, b: arrays, numbers or Variables, of shapes that broadcast.

    Returns:
        Of the broadcast shape, in the dtype to which NumPy promotes a and b.

    Raises:
        ValueError: the shapes do not broadcast.
    """
    return Sub()(a, b)


def rsub(b: Any, a: Any) -> Any:
    """a - b, as b.__rsub__(a): the operator where only its right side is a Variable.

    Args:
        b, a: as for `sub`, the other way round.

    Returns:
        As `sub`.
    """
    return Sub()(a, b)


class Mul(Function):
    saves_inputs = True
    needs = ((1,), (0,))

    def forward(self, a: Array, b: Array) -> Array:
        return a * b

    def backward(self, gy: Gradient) -> Gradient:
        a, b = self.inputs
        to_a, to_b = self.edges
        return None if to_a is None else gy * b, None if to_b is None else gy * a


def mul(a: Any, b: Any) -> Any:
    """a b, element by element, as `numpy.multiply`. Derivatives b and a.

    Args:
        a, b: arrays, numbers or Variables, of shapes that broadcast.

    Returns:
        Of the broadcast shape, in the dtype to which NumPy promotes a and b (a Python number changes none).

    Raises:
        ValueError: the shapes do not broadcast.
    """
    return Mul()(a, b)


class Div(Function):
    saves_inputs = True
    needs = ((1,), (0, 1))

    def forward(self, a: Array, b: Array) -> Array:
        return a / b

    def backward(self, gy: Gradient) -> Gradient:
        a, b = self.inputs
        ga = gy / b
        return ga, None if self.edges[1] is None else -ga * (a / b)


def div(a: Any, b: Any) -> Any:
    """a / b, as `numpy.divide`. Derivatives 1 / b and -a / b².

    Args:
        a, b: arrays, numbers or Variables, of shapes that broadcast.

    Returns:
        Of the broadcast shape, in the dtype to which NumPy promotes a and b; float64 for integers. Inf or NaN, with a
        RuntimeWarning, where b is 0.

    Raises:
        ValueError: the shapes do not broadcast.
    """
    return Div()(a, b)


def rdiv(b: Any, a: Any) -> Any:
    """a / b, as b.__rtruediv__(a): the operator where only its right side is a Variable.

    Args:
        b, a: as for `div`, the other way round.

    Returns:
        As `div`.
    """
    return Div()(a, b)


class Pow(Function):
    saves_inputs = True

    def forward(self, a: Array, b: Array) -> Array:
        return a**b

    def backward(self, gy: Gradient) -> Gradient:
        a, b = self.inputs
        to_a, to_b = self.edges
        # a^0 is constant, also at a = 0, where 0 a^-1 is not a number. (Elsewhere b - 1 is kept for a b that has a
        # gradient: b a^(b-1) changes with b at b = 0 too.)
        exponent = b - 1 + ((b == 0) if to_b is None else (b == 0) & (a == 0))
        ga = None if to_a is None else gy * (b * a**exponent)
        # d(a^b)/db = a^b log a, and 0 at a = 0 for b >= 0, where log a is not: PyTorch's convention.
        gb = None if to_b is None else gy * (a**b * log(where((a == 0) & (b >= 0), 1, a)))
        return ga, gb


def pow(a: Any, b: Any) -> Any:
    """a ** b, as `numpy.power`.

    The derivative b a^(b-1) by a is 0 for b = 0, at a = 0 too. The derivative a^b log a by b is 0 at a = 0 where b is
    not negative, as in PyTorch, and NaN for a < 0.

    Args:
        a, b: arrays, numbers or Variables, of shapes that broadcast.

    Returns:
        Of the broadcast shape, in the dtype to which NumPy promotes a and b; NaN for a negative a with a broken b.

    Raises:
        ValueError: the shapes do not broadcast, or an integer array has a negative integer b.
    """
    return Pow()(a, b)


def rpow(b: Any, a: Any) -> Any:
    """a ** b, as b.__rpow__(a): the operator where only its right side is a Variable.

    Args:
        b, a: as for `pow`, the other way round.

    Returns:
        As `pow`.
    """
    return Pow()(a, b)


class Neg(Function):
    def forward(self, x: Array) -> Array:
        return -x

    def backward(self, gy: Gradient) -> Gradient:
        return -gy


def neg(x: Any) -> Any:
    """-x, as `numpy.negative`.

    Args:
        x: array, number or Variable, of any shape.

    Returns:
        Of the shape and dtype of x.

    Raises:
        TypeError: x is boolean.
    """
    return Neg()(x)


class Abs(Function):
    saves_inputs = True

    def forward(self, x: Array) -> Array:
        return np.abs(x)

    def backward(self, gy: Gradient) -> Gradient:
        (x,) = self.inputs
        return gy * np.sign(_array(x))


def abs(x: Any) -> Any:
    """|x|, as `numpy.absolute`; derivative sign(x), which is 0 at 0, as in PyTorch.

    Args:
        x: array, number or Variable, of any shape.

    Returns:
        Of the shape and dtype of x.
    """
    return Abs()(x)


class Sign(Function):
    def forward(self, x: Array) -> Array:
        return np.sign(x)

    def backward(self, gy: Gradient) -> Gradient:
        return np.zeros_like(_array(gy))


def sign(x: Any) -> Any:
    """-1, 0 or 1, as `numpy.sign`; derivative 0 everywhere, also at the step, as in PyTorch.

    Args:
        x: array, number or Variable, of any shape.

    Returns:
        Of the shape and dtype of x.

    Raises:
        TypeError: x is boolean.
    """
    return Sign()(x)


class Exp(Function):
    saves_output = True

    def forward(self, x: Array) -> Array:
        return np.exp(x)

    def backward(self, gy: Gradient) -> Gradient:
        return gy * self.output


def exp(x: Any) -> Any:
    """e^x, as `numpy.exp`.

    Args:
        x: array, number or Variable, of any shape.

    Returns:
        Of the shape and dtype of x (integers give floats, as in NumPy); Inf where it is too large, with a warning.
    """
    return Exp()(x)


class Expm1(Function):
    saves_output = True

    def forward(self, x: Array) -> Array:
        return np.expm1(x)

    def backward(self, gy: Gradient) -> Gradient:
        return gy * (self.output + 1)


def expm1(x: Any) -> Any:
    """e^x - 1, as `numpy.expm1`: exact also where x is so small that e^x rounds to 1.

    Args:
        x: array, number or Variable, of any shape.

    Returns:
        Of the shape and dtype of x (integers give floats, as in NumPy).
    """
    return Expm1()(x)


class Log(Function):
    saves_inputs = True

    def forward(self, x: Array) -> Array:
        return np.log(x)

    def backward(self, gy: Gradient) -> Gradient:
        (x,) = self.inputs
        return gy / x


def log(x: Any) -> Any:
    """Natural logarithm, as `numpy.log`; derivative 1 / x.

    Args:
        x: array, number or Variable, of any shape.

    Returns:
        Of the shape and dtype of x (integers give floats); -Inf at 0 and NaN below, with a RuntimeWarning.
    """
    return Log()(x)


class Log1p(Function):
    saves_inputs = True

    def forward(self, x: Array) -> Array:
        return np.log1p(x)

    def backward(self, gy: Gradient) -> Gradient:
        (x,) = self.inputs
        return gy / (x + 1)


def log1p(x: Any) -> Any:
    """Log(1 + x), as `numpy.log1p`: exact also where x is so small that 1 + x rounds to 1.

    Args:
        x: array, number or Variable, of any shape.

    Returns:
        Of the shape and dtype of x (integers give floats); -Inf at -1 and NaN below, with a RuntimeWarning.
    """
    return Log1p()(x)


class Sqrt(Function):
    saves_output = True

    def forward(self, x: Array) -> Array:
        return np.sqrt(x)

    def backward(self, gy: Gradient) -> Gradient:
        return gy / (2 * self.output)


def sqrt(x: Any) -> Any:
    """√x, as `numpy.sqrt`; derivative 1 / (2 √x), which is infinite at 0.

    Args:
        x: array, number or Variable, of any shape.

    Returns:
        Of the shape and dtype of x (integers give floats, as in NumPy); NaN below 0, with a RuntimeWarning.
    """
    return Sqrt()(x)


class Tanh(Function):
    saves_output = True

    def forward(self, x: Array) -> Array:
        return np.tanh(x)

    def backward(self, gy: Gradient) -> Gradient:
        y = self.output
        change = gy * y
        change *= y  # in place for arrays; a product for Variables
        return gy - change  # gy (1 - y²), without a Python number, whose conversion costs as much as a product


def tanh(x: Any) -> Any:
    """Hyperbolic tangent, as `numpy.tanh`; derivative 1 - tanh² x.

    Args:
        x: array, number or Variable, of any shape.

    Returns:
        Of the shape and dtype of x (integers give floats, as in NumPy), in [-1, 1].
    """
    return Tanh()(x)


class Sin(Function):
    saves_inputs = True

    def forward(self, x: Array) -> Array:
        return np.sin(x)

    def backward(self, gy: Gradient) -> Gradient:
        (x,) = self.inputs
        return gy * cos(x)


def sin(x: Any) -> Any:
    """Sine, as `numpy.sin`; derivative cos x.

    Args:
        x: array, number or Variable, of any shape; an angle in radians.

    Returns:
        Of the shape and dtype of x (integers give floats, as in NumPy).
    """
    return Sin()(x)


class Cos(Function):
    saves_inputs = True

    def forward(self, x: Array) -> Array:
        return np.cos(x)

    def backward(self, gy: Gradient) -> Gradient:
        (x,) = self.inputs
        return -gy * sin(x)


def cos(x: Any) -> Any:
    """Cosine, as `numpy.cos`; derivative -sin x.

    Args:
        x: array, number or Variable, of any shape; an angle in radians.

    Returns:
        Of the shape and dtype of x (integers give floats, as in NumPy).
    """
    return Cos()(x)


class Erf(Function):
    saves_inputs = True

    def forward(self, x: Array) -> Array:
        y = special_functions(x).erf(x)
        return y.astype(np.float16) if getattr(x, "dtype", None) == np.float16 else y  # SciPy has none for float16

    def backward(self, gy: Gradient) -> Gradient:
        (x,) = self.inputs
        return gy * (2 / math.sqrt(math.pi) * exp(-x * x))


def erf(x: Any) -> Any:
    """The error function 2/√π ∫₀ˣ e^(-t²) dt, as `scipy.special.erf`; derivative 2/√π e^(-x²).

    Args:
        x: array, number or Variable, of any shape.

    Returns:
        Of the shape and dtype of x (integers give floats), in [-1, 1].
    """
    return Erf()(x)


class Maximum(Function):
    saves_inputs = True

    def forward(self, a: Array, b: Array) -> Array:
        return np.maximum(a, b)

    def backward(self, gy: Gradient) -> Gradient:
        a, b = self.inputs
        return _to_the_winner(self, gy, a == b, a < b, b < a)


def maximum(a: Any, b: Any) -> Any:
    """The larger of a and b, as `numpy.maximum`; where they are equal, each gets half of the gradient, as in PyTorch.

    Args:
        a, b: arrays, numbers or Variables, of shapes that broadcast.

    Returns:
        Of the broadcast shape, in the dtype to which NumPy promotes a and b; NaN where one of them is, where both get
        the gradient.

    Raises:
        ValueError: the shapes do not broadcast.
    """
    return Maximum()(a, b)


class Minimum(Function):
    saves_inputs = True

    def forward(self, a: Array, b: Array) -> Array:
        return np.minimum(a, b)

    def backward(self, gy: Gradient) -> Gradient:
        a, b = self.inputs
        return _to_the_winner(self, gy, a == b, a > b, b > a)


def minimum(a: Any, b: Any) -> Any:
    """The smaller of a and b, as `numpy.minimum`; where they are equal, each gets half of the gradient, as in PyTorch.

    Args:
        a, b: arrays, numbers or Variables, of shapes that broadcast.

    Returns:
        Of the broadcast shape, in the dtype to which NumPy promotes a and b; NaN where one of them is, where both get
        the gradient.

    Raises:
        ValueError: the shapes do not broadcast.
    """
    return Minimum()(a, b)


class Clip(Function):
    saves_inputs = saves_output = True

    def __init__(self, min: Any, max: Any) -> None:
        self.min, self.max = min, max

    def forward(self, x: Array) -> Array:
        return np.clip(x, self.min, self.max)

    def backward(self, gy: Gradient) -> Gradient:
        (x,) = self.inputs
        return chosen(gy, x == self.output)


def clip(x: Any, min: Any = None, max: Any = None) -> Any:
    """x, but not below `min` and not above `max`, as `numpy.clip`.

    The derivative is 1 from bound to bound, both included as in PyTorch, and 0 outside, also of NaN. Bounds that want a
    gradient are for `maximum` and `minimum`.

    Args:
        x: array, number or Variable, of any shape.
        min, max: numbers, or arrays that broadcast with x, constants both; None for no bound.

    Returns:
        Of the broadcast shape, in the dtype to which NumPy promotes x and the bounds (Python numbers change none).

    Raises:
        ValueError: the shapes do not broadcast.
        TypeError: a bound is a Variable.
    """
    return Clip(min, max)(x)


class Where(Function):
    def __init__(self, condition: Array) -> None:
        self.condition = condition

    def forward(self, a: Array, b: Array) -> Array:
        return np.where(self.condition, a, b)

    def backward(self, gy: Gradient) -> Gradient:
        to_a, to_b = self.edges
        ga = None if to_a is None else chosen(gy, self.condition)
        return ga, None if to_b is None else chosen(gy, ~self.condition)


def where(condition: Any, a: Any, b: Any) -> Any:
    """`a` where `condition` holds, `b` elsewhere, as `numpy.where`; each gets the gradient of what was taken from it.

    Args:
        condition: a boolean array, or what makes one; it has no gradient.
        a, b: arrays, numbers or Variables.

    Returns:
        Of the shape to which all three broadcast, in the dtype to which NumPy promotes a and b.

    Raises:
        ValueError: the shapes do not broadcast.

    Example:
        >>> import numpy as np, tinygrad_nlp as tn
        >>> x = tn.Variable([-1.0, 2.0])
        >>> tn.where(x > 0, x, 0.0)
        Variable([0., 2.])
    """
    condition = _array(condition)
    return Where(get_array_module(condition).asarray(condition, bool))(a, b)


class Astype(Function):
    def __init__(self, dtype: Any) -> None:
        self.to = np.dtype(dtype)

    def forward(self, x: Array) -> Array:
        return x.astype(self.to)

    def backward(self, gy: Gradient) -> Gradient:
        return gy  # the engine gives it the dtype of x


def astype(x: Any, dtype: Any) -> Any:
    """x with another dtype, as `numpy.ndarray.astype`; the gradient comes back in the dtype of x.

    Args:
        x: array or Variable, of any shape.
        dtype: NumPy's name of a dtype, or the dtype.

    Returns:
        A copy of the shape of x. With an integer or boolean dtype, which has no gradient, the graph ends there.

    Raises:
        TypeError: there is no such dtype.
    """
    return Astype(dtype)(x if np.dtype(dtype).kind in "fc" else _constant(x))


def _constant(x: Any) -> Any:
    return x.detach() if hasattr(x, "detach") else x


def _array(x: Any) -> Array:
    return getattr(x, "_data", x)


def chosen(gy: Gradient, mask: Array) -> Gradient:
    """The gradient of what was chosen: gy where the mask holds, 0 elsewhere, also where gy is infinite or NaN.

    A product with the mask would make NaN of 0 · ∞ there: the gradient of √max(x, 0) below 0 is 0, as in PyTorch.

    Args:
        gy: array or Variable, of any shape.
        mask: booleans, of a shape that broadcasts with that of gy.

    Returns:
        Of the broadcast shape and the dtype of gy.
    """
    if type(gy) is not np.ndarray or gy.dtype.char not in "efd":
        return where(mask, gy, 0)
    # A product of the bits: as fast as one of floats, where np.where takes 10 times as long for a mask of chance.
    return (gy.view(f"i{gy.itemsize}") * mask).view(gy.dtype)


def _to_the_winner(function: Function, gy: Gradient, tie: Array, a_loses: Array, b_loses: Array) -> Gradient:
    to_a, to_b = function.edges
    gy = gy * (1 - 0.5 * tie).astype(gy.dtype)
    return None if to_a is None else chosen(gy, ~a_loses), None if to_b is None else chosen(gy, ~b_loses)


def precise(x: Any) -> Any:
    """x in a dtype that sums and squares fit into: float32 for float16, float64 for integers, else its own.

    Args:
        x: array or Variable, of any shape.

    Returns:
        Of its shape; x itself where nothing is to be done.
    """
    char = x.dtype.char
    return x if char in "fdFD" else x.astype(np.float32 if char == "e" else np.float64)


def half_again(y: Array, x: Array) -> Array:
    """What was computed from `precise(x)`, in float16 where x is.

    Args:
        y: the result, of any shape.
        x: the argument.

    Returns:
        Of the shape of y.
    """
    return y.astype(np.float16) if x.dtype.char == "e" else y
