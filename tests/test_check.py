"""check_grads: it passes right gradients, and it finds wrong ones, of each order."""

import numpy as np
import pytest

import tinygrad_nlp as tn
from tinygrad_nlp import Function

POINT = np.array([0.5, -1.2, 2.0])


class WrongFirst(Function):
    """x², whose gradient lacks the 2."""

    saves_inputs = True

    def forward(self, x):
        return x * x

    def backward(self, gy):
        (x,) = self.inputs
        return x * gy


class WrongSecond(Function):
    """x³ with the right gradient, of which the graph loses a factor: the second derivative is wrong."""

    saves_inputs = True

    def forward(self, x):
        return x * x * x

    def backward(self, gy):
        (x,) = self.inputs
        constant = x.data if isinstance(x, tn.Variable) else x
        return 3.0 * constant * constant * gy


class WrongInOneElement(Function):
    """The identity, but for the sign of one element's gradient."""

    def forward(self, x):
        return x * 1.0

    def backward(self, gy):
        return gy * np.where(np.arange(len(POINT)) == 1, -1.0, 1.0)


class SlightlyWrong(Function):
    """The identity, with a gradient that is off by one in a hundred thousand."""

    def forward(self, x):
        return x * 1.0

    def backward(self, gy):
        return gy * (1 + 1e-5)


class RealOnly(Function):
    """sinh, by a routine that knows no complex numbers."""

    saves_inputs = True

    def forward(self, x):
        if x.dtype.kind == "c":
            raise TypeError("no complex numbers")
        return np.sinh(x)

    def backward(self, gy):
        (x,) = self.inputs
        return gy * 0.5 * (tn.exp(x) + tn.exp(-x))


class RealOnlyAndWrong(RealOnly):
    """The same with cosh taken for sinh."""

    def backward(self, gy):
        (x,) = self.inputs
        return gy * 0.5 * (tn.exp(x) - tn.exp(-x))


@pytest.mark.parametrize("wrong", [WrongFirst, WrongInOneElement, SlightlyWrong, RealOnlyAndWrong])
def test_a_wrong_gradient_is_found(wrong):
    with pytest.raises(AssertionError, match="derivative of order 1"):
        tn.check_grads(lambda x: wrong()(x), [POINT])


def test_a_wrong_gradient_is_found_among_right_ones():
    with pytest.raises(AssertionError, match="derivative of order 1"):
        tn.check_grads(lambda x, y: (tn.tanh(x) * y, WrongFirst()(x) + y), [POINT, POINT])


def test_a_wrong_second_derivative_is_found_at_order_2_only():
    tn.check_grads(lambda x: WrongSecond()(x), [POINT], order=1)
    with pytest.raises(AssertionError, match="derivative of order 2"):
        tn.check_grads(lambda x: WrongSecond()(x), [POINT], order=2)


def test_the_error_shows_both_values_the_inputs_and_the_direction():
    with pytest.raises(AssertionError) as caught:
        tn.check_grads(lambda x: WrongFirst()(x), [POINT])
    for part in ("backward gives", "difference quotient", "inputs: [array([ 0.5, -1.2,  2. ])]", "direction: ["):
        assert part in str(caught.value)


def test_right_gradients_pass_to_the_third_order():
    tn.check_grads(lambda x, y: tn.exp(x) * tn.tanh(y) / (x * x + 1.0), [POINT, POINT[::-1]], order=3)


@pytest.mark.parametrize("f", [tn.abs, tn.relu, lambda x: tn.max(x * x), lambda x: tn.where(x.data > 0, x * x, x)])
def test_functions_with_kinks_pass_away_from_them(f):
    tn.check_grads(f, [POINT])


def test_a_function_without_complex_numbers_passes_by_central_differences():
    tn.check_grads(lambda x: RealOnly()(x), [POINT])


def test_a_function_of_which_some_outputs_have_no_gradient_passes():
    tn.check_grads(lambda x: (x * x, (x * 2.0).detach() * 0.0), [POINT])


def test_a_gradient_that_stops_where_the_function_goes_on_is_found():
    with pytest.raises(AssertionError, match="derivative of order 1"):
        tn.check_grads(lambda x: x * x.detach(), [POINT])


def test_integers_and_float32_are_checked_in_float64():
    tn.check_grads(lambda x: x * x * x, [np.array([1, 2, 3])])
    tn.check_grads(lambda x: x * x * x, [POINT.astype(np.float32)])


def test_the_state_of_the_library_stream_is_left_alone():
    before = tn.backend.generator().bit_generator.state
    tn.check_grads(lambda x: x * x, [POINT])
    assert tn.backend.generator().bit_generator.state == before


def test_an_imaginary_part_that_means_nothing_is_not_taken_where_it_is_right_by_chance():
    x = np.array([-0.25, -1.5, 0, 1.25, 0.75, -1.25, -1, -0.75, -0.5, 0.25, 1, 0.5])
    for seed in range(2000):  # NumPy's standard deviation takes |x - mean|, which knows no complex derivative
        tn.check_grads(lambda x: x.std(), [x], order=1, seed=seed)


# --- kinks, and what is not analytic ----------------------------------------------------------------------------------


@pytest.mark.parametrize("f", [tn.relu, lambda x: tn.exp(x) + tn.relu(x)])
def test_at_a_kink_the_error_says_that_there_is_no_derivative(f):
    with pytest.raises(
        AssertionError, match=r"^derivative of order 1: not differentiable here: the slope is .* on one"
    ):
        tn.check_grads(f, [np.array([0.5, 0.0])])


def test_a_kink_of_the_gradient_is_one_of_the_second_order():
    for f in (lambda x: tn.relu(x) * x, lambda x: tn.maximum(x, 2.0 * x)):  # the gradient bends; it jumps
        with pytest.raises(AssertionError, match=r"^derivative of order 2 \(those below .*: not differentiable here"):
            tn.check_grads(f, [np.array([0.5, 0.0])])


def test_a_kink_beside_the_point_is_found_too():
    with pytest.raises(AssertionError, match="not differentiable here"):
        tn.check_grads(lambda x: tn.abs(x - 1e-7), [np.array([0.0])], order=1)


class Steep(Function):
    """sin 2000x, with the right derivative or with one that is off by one in a hundred."""

    saves_inputs = True

    def __init__(self, factor):
        self.factor = factor

    def forward(self, x):
        return np.sin(2000 * x)

    def backward(self, gy):
        (x,) = self.inputs
        return gy * (2000 * self.factor) * np.cos(2000 * x)


def test_a_steep_curve_is_no_kink():
    tn.check_grads(lambda x: Steep(1.0)(x), [np.array([0.3])], order=1)
    with pytest.raises(AssertionError, match="derivative of order 1: backward gives"):
        tn.check_grads(lambda x: Steep(1.01)(x), [np.array([0.3])], order=1)


class WrongAbs(Function):
    """|x| / 1000, with no gradient at all: along the imaginary axis it does not change either."""

    def forward(self, x):
        return np.abs(x) / 1000

    def backward(self, gy):
        return gy * 0.0


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_tiny_derivatives_of_what_is_not_analytic_are_not_misjudged(scale):
    tn.check_grads(lambda x: tn.abs(x) * (1e-3 * scale), [POINT])
    tn.check_grads(lambda x: (tn.exp(x), tn.abs(x) * (1e-3 * scale)), [POINT])
    with pytest.raises(AssertionError, match="derivative of order 1"):
        tn.check_grads(lambda x: WrongAbs()(x) * scale, [POINT])


def test_a_wrong_second_derivative_is_said_to_stand_on_a_right_first():
    with pytest.raises(AssertionError, match=r"derivative of order 2 \(those below are right\): backward gives"):
        tn.check_grads(lambda x: WrongSecond()(x), [POINT])


@pytest.mark.parametrize(("result", "kind"), [([], "list"), (np.ones(2), "ndarray"), (None, "NoneType")])
def test_a_function_that_returns_no_variable_is_refused(result, kind):
    with pytest.raises(TypeError, match=rf"^check_grads: f must return a Variable or a tuple of them, not {kind}$"):
        tn.check_grads(lambda x: result, [np.ones(2)])
