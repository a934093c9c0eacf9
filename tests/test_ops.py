"""Every operation, by the table in `op_table.py`: values, two derivatives, dtypes, and who owns the memory."""

import contextlib
import itertools
import re

import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_nlp as tn
from tests.op_table import ROWS
from tinygrad_nlp import RowSparse, Variable
from tinygrad_nlp.autograd import ops

each_op = pytest.mark.parametrize("row", [row for row in ROWS if row.differentiable], ids=lambda row: row.name)
each_plain_op = pytest.mark.parametrize(
    "row", [row for row in ROWS if not row.differentiable], ids=lambda row: row.name
)


def several(y):
    return y if isinstance(y, tuple) else (y,)


def variables(arrays):
    return [Variable(x, requires_grad=True) for x in arrays]


def seeds_for(outputs):
    rng = np.random.default_rng(0)
    return [np.asarray(rng.uniform(0.5, 1.5, y.shape)).astype(y.dtype) for y in outputs]


def size_of(x):
    """The largest absolute value, and at least 1: what an absolute error is measured against."""
    return np.abs(x).max(initial=1.0)


def parts(gradient):
    """The arrays that a gradient is made of."""
    return (gradient.rows, gradient.values) if isinstance(gradient, RowSparse) else (gradient,)


def test_every_public_operation_has_one_row():
    public = set(ops.__all__) - {"METHODS", "OPERATORS"}
    assert sorted(row.name for row in ROWS) == sorted(public)


@each_op
@given(data=st.data())
def test_value_is_that_of_numpy_and_arrays_give_arrays(row, data):
    case = data.draw(row.cases)
    expected = several(row.twin(*case.arrays, **case.options))
    outputs = several(row.op(*variables(case.arrays), **case.options))
    assert len(outputs) == len(expected)
    for y, wanted in zip(outputs, expected, strict=True):
        assert isinstance(y, Variable)
        assert isinstance(y.data, np.ndarray)
        assert y.shape == np.shape(wanted)
        np.testing.assert_allclose(y.data, wanted, rtol=1e-12, atol=1e-12)
    from_arrays = several(row.op(*case.arrays, **case.options))
    for array, y in zip(from_arrays, outputs, strict=True):
        assert isinstance(array, np.ndarray | np.generic)
        np.testing.assert_array_equal(array, y.data, strict=True)


@each_plain_op
@given(data=st.data())
def test_an_operation_without_gradient_gives_the_plain_array_of_numpy(row, data):
    case = data.draw(row.cases)
    expected = row.twin(*case.arrays, **case.options)
    for arguments in (case.arrays, [Variable(x) for x in case.arrays]):
        y = row.op(*arguments, **case.options)
        assert isinstance(y, np.ndarray | np.generic)
        np.testing.assert_array_equal(y, expected, strict=True)


@each_op
@given(data=st.data())
def test_first_and_second_derivative_are_those_of_the_definition(row, data):
    case = data.draw(row.cases)
    tn.check_grads(lambda *xs: row.op(*xs, **case.options), case.arrays, order=2)


@each_op
@settings(max_examples=10)
@given(data=st.data())
def test_dtype_of_values_and_gradients_is_that_of_the_inputs(row, data):
    case = data.draw(row.cases)
    for dtype in (np.float16, np.float32, np.float64):
        xs = variables(x.astype(dtype) for x in case.arrays)
        outputs = several(row.op(*xs, **case.options))
        for y in outputs:
            if row.keeps_dtype:
                assert y.dtype == dtype
            y.backward(np.ones(y.shape), retain_graph=True)  # a float64 seed must not get through
        for x in xs:
            assert not outputs or x.grad.dtype == dtype


@each_op
@settings(max_examples=20)
@given(data=st.data())
def test_in_fewer_digits_values_and_gradients_are_the_same_but_for_rounding(row, data):
    case = data.draw(row.cases)
    for dtype in (np.float16, np.float32):
        rounded = [x.astype(dtype) for x in case.arrays]
        tolerance = 30 * np.finfo(dtype).eps
        xs, exact_xs = variables(rounded), variables(x.astype(np.float64) for x in rounded)
        outputs, exact = several(row.op(*xs, **case.options)), several(row.op(*exact_xs, **case.options))
        for y, exact_y, seed in zip(outputs, exact, seeds_for(outputs), strict=True):
            np.testing.assert_allclose(y.data, exact_y.data, rtol=tolerance, atol=tolerance * size_of(exact_y.data))
            y.backward(seed, retain_graph=True)
            exact_y.backward(seed, retain_graph=True)
        for x, exact_x in zip(xs, exact_xs, strict=True):
            if outputs:
                found, wanted = (np.asarray(g, np.float64) for g in (x.grad, exact_x.grad))
                np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance * size_of(wanted))


@each_op
@settings(max_examples=10)
@given(data=st.data())
def test_dtype_of_second_gradients_is_that_of_the_inputs(row, data):
    case = data.draw(row.cases)
    xs = variables(x.astype(np.float32) for x in case.arrays)
    outputs = several(row.op(*xs, **case.options))
    if not outputs:
        return
    weights = [Variable(np.ones(y.shape, y.dtype), requires_grad=True) for y in outputs]
    for gradient in tn.grad(outputs, xs, weights, create_graph=True, allow_unused=True):
        if gradient is None:
            continue
        assert gradient.dtype == np.float32
        seconds = tn.grad(gradient.sum(), [*xs, *weights], retain_graph=True, allow_unused=True)
        for second, x in zip(seconds, [*xs, *weights], strict=True):
            assert second is None or second.dtype == x.dtype


@each_op
@settings(max_examples=15)
@given(data=st.data())
def test_inputs_and_incoming_gradients_are_not_written_to(row, data):
    case = data.draw(row.cases)
    inputs = [x.copy(order="K") for x in case.arrays]
    before = [x.copy() for x in inputs]
    for x in inputs:
        x.flags.writeable = False
    outputs = several(row.op(*variables(inputs), **case.options))
    seeds = seeds_for(outputs)
    seeds_before = [seed.copy() for seed in seeds]
    for y, seed in zip(outputs, seeds, strict=True):
        seed.flags.writeable = False
        y.backward(seed, retain_graph=True)
    np.testing.assert_equal(inputs, before)
    np.testing.assert_equal(seeds, seeds_before)


@each_op
@given(data=st.data())
def test_gradients_have_the_shape_of_their_inputs_and_memory_of_their_own(row, data):
    case = data.draw(row.cases)
    xs = variables(case.arrays)
    outputs = several(row.op(*xs, **case.options))
    seeds = seeds_for(outputs)
    for y, seed in zip(outputs, seeds, strict=True):
        y.backward(seed, retain_graph=True)
    if not outputs:
        return
    assert [x.grad.shape for x in xs] == [x.shape for x in xs]
    gradients = [array for x in xs for array in parts(x.grad)]
    options = [option for option in case.options.values() if isinstance(option, np.ndarray)]
    for gradient in gradients:
        assert isinstance(gradient, np.ndarray)
        assert gradient.flags.owndata
        assert gradient.flags.writeable
        assert gradient.flags.c_contiguous
        for other in [*case.arrays, *seeds, *options, *(y.data for y in outputs)]:
            assert not np.shares_memory(gradient, other)
    for a, b in itertools.combinations(gradients, 2):
        assert not np.shares_memory(a, b)


@each_op
@settings(max_examples=10)
@given(data=st.data())
def test_an_input_that_needs_no_gradient_changes_nothing_for_the_others(row, data):
    case = data.draw(row.cases)
    tracked = variables(case.arrays)
    outputs = several(row.op(*tracked, **case.options))
    seeds = seeds_for(outputs)
    for y, seed in zip(outputs, seeds, strict=True):
        y.backward(seed, retain_graph=True)
    for position, constant in enumerate(case.arrays):
        xs = variables(case.arrays)
        xs[position] = constant
        for y, seed in zip(several(row.op(*xs, **case.options)), seeds, strict=True):
            if isinstance(y, Variable):
                y.backward(seed, retain_graph=True)
        for x, expected in zip(xs, tracked, strict=True):
            if x is not constant:
                np.testing.assert_array_equal(x.grad, expected.grad)


@each_op
@settings(max_examples=2)
@given(data=st.data())
def test_every_node_of_the_graph_knows_the_line_of_the_user(row, data):
    case = data.draw(row.cases)
    nodes = [y.node for y in several(row.op(*variables(case.arrays), **case.options))]
    while nodes:
        node = nodes.pop()
        function = getattr(node, "function", node)
        if isinstance(function, tn.Function):
            assert re.search(r"(test_ops|op_table)\.py:\d+$", function.line()), function.describe()
            nodes += [edge for edge in function.edges if edge is not None]


# --- what the table cannot say ----------------------------------------------------------------------------------------


def gradient_of(f, *arrays):
    xs = variables(arrays)
    f(*xs).sum().backward()
    return [x.grad for x in xs]


ZERO, TIED = np.zeros(1), np.array([[1.0, 3, 3], [2, 2, 2]])
BORDER = np.array([-1.0, -0.5, 0, 0.5, 1])
CORNERS = np.array([[[[1.0, 1, 0, 0], [1, 1, 0, 2]]]])
RISING = np.arange(1.0, 4)

# At a kink: the operation, the same in PyTorch, the arguments, and the gradients that PyTorch documents.
KINKS = {
    "relu": (ops.relu, lambda torch, x: torch.relu(x), [ZERO], [[0]]),
    "leaky_relu": (ops.leaky_relu, lambda torch, x: torch.nn.functional.leaky_relu(x), [ZERO], [[0.01]]),
    "abs": (ops.abs, lambda torch, x: x.abs(), [ZERO], [[0]]),
    "sign": (ops.sign, lambda torch, x: x.sign(), [BORDER], [[0] * 5]),
    "clip": (lambda x: x.clip(-0.5, 0.5), lambda torch, x: x.clip(-0.5, 0.5), [BORDER], [[0, 1, 1, 1, 0]]),
    "clip below": (lambda x: x.clip(0), lambda torch, x: x.clip(0), [BORDER], [[0, 0, 1, 1, 1]]),
    "maximum": (ops.maximum, lambda torch, a, b: torch.maximum(a, b), [ZERO, ZERO], [[0.5], [0.5]]),
    "minimum": (ops.minimum, lambda torch, a, b: torch.minimum(a, b), [ZERO, ZERO], [[0.5], [0.5]]),
    "max": (lambda x: x.max(1), lambda torch, x: x.amax(1), [TIED], [[[0, 0.5, 0.5], [1 / 3, 1 / 3, 1 / 3]]]),
    "min": (lambda x: x.min(1), lambda torch, x: x.amin(1), [TIED], [[[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]]]),
    "std": (lambda x: x.std(1), lambda torch, x: x.std(1, correction=0), [TIED[1:]], [[[0, 0, 0]]]),
    "norm": (ops.norm, lambda torch, x: torch.linalg.vector_norm(x), [np.zeros(2)], [[0, 0]]),
    "power of 0": (ops.pow, lambda torch, a, b: a**b, [ZERO, np.array([2.0])], [[0], [0]]),
    "power 0": (lambda x: x**0, lambda torch, x: x**0, [ZERO], [[0]]),
    "one zero": (ops.prod, lambda torch, x: x.prod(), [np.array([0.0, 2, 3])], [[6, 0, 0]]),
    "two zeros": (ops.prod, lambda torch, x: x.prod(), [np.array([0.0, 2, 0])], [[0, 0, 0]]),
    "sort": (
        lambda x: ops.sort(x) * RISING,
        lambda torch, x: x.sort(stable=True)[0] * torch.tensor(RISING),
        [TIED],
        [[[1, 2, 3], [1, 2, 3]]],
    ),
    "max_pool2d": (
        lambda x: ops.max_pool2d(x, 2, 1),
        lambda torch, x: torch.nn.functional.max_pool2d(x, 2, 1),
        [CORNERS],
        [[[[[1, 1, 0, 0], [0, 0, 0, 1]]]]],
    ),
}


@pytest.mark.parametrize(("ours", "theirs", "arguments", "expected"), KINKS.values(), ids=KINKS)
def test_derivatives_at_kinks_are_those_of_pytorch(ours, theirs, arguments, expected):
    np.testing.assert_allclose(gradient_of(ours, *arguments), expected)


@pytest.mark.parametrize(("ours", "theirs", "arguments", "expected"), KINKS.values(), ids=KINKS)
def test_the_conventions_are_what_pytorch_does(ours, theirs, arguments, expected):
    torch = pytest.importorskip("torch", reason="the comparison needs PyTorch (the group oracle)")
    xs = [torch.tensor(x, requires_grad=True) for x in arguments]
    theirs(torch, *xs).sum().backward()
    np.testing.assert_allclose([x.grad.numpy() for x in xs], expected)


# What chooses between numbers, for x below and above 0: ours, PyTorch's, and where the gradient goes.
CHOICES = {
    "relu": (ops.relu, lambda torch, x: torch.relu(x), [0, 1]),
    "clip": (lambda x: x.clip(0, 9), lambda torch, x: x.clip(0, 9), [0, 1]),
    "where": (lambda x: ops.where(x > 0, x, 0.0), lambda torch, x: torch.where(x > 0, x, 0.0), [0, 1]),
    "maximum": (lambda x: ops.maximum(x, 0 * x.data), lambda torch, x: torch.maximum(x, torch.zeros_like(x)), [0, 1]),
    "minimum": (lambda x: ops.minimum(x, 0 * x.data), lambda torch, x: torch.minimum(x, torch.zeros_like(x)), [1, 0]),
    "max_pool2d": (
        lambda x: ops.max_pool2d(x.reshape(1, 1, -1, 2), (1, 2)),
        lambda torch, x: torch.nn.functional.max_pool2d(x.reshape(1, 1, -1, 2), (1, 2)),
        [0, 1],
    ),
}


@pytest.mark.parametrize("gradient", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("size", [2, 5000])
@pytest.mark.parametrize(("ours", "theirs", "chosen"), CHOICES.values(), ids=CHOICES)
def test_what_was_not_chosen_has_the_gradient_zero_even_of_an_infinite_one(ours, theirs, chosen, size, gradient):
    array = np.tile([-1.0, 1.0], size // 2)
    expected = np.where(np.tile(chosen, size // 2), gradient, 0)
    for create_graph in (False, True):
        x = Variable(array, requires_grad=True)
        y = ours(x)
        (found,) = tn.grad(y, x, np.full(y.shape, gradient), create_graph=create_graph)
        np.testing.assert_array_equal(getattr(found, "data", found), expected)


@pytest.mark.parametrize(("ours", "theirs", "chosen"), CHOICES.values(), ids=CHOICES)
def test_what_was_not_chosen_has_the_gradient_zero_in_pytorch_too(ours, theirs, chosen):
    torch = pytest.importorskip("torch", reason="the comparison needs PyTorch (the group oracle)")
    x = torch.tensor([-1.0, 1.0], requires_grad=True)
    y = theirs(torch, x)
    y.backward(torch.full_like(y, np.inf))
    np.testing.assert_array_equal(x.grad.numpy(), np.where(chosen, np.inf, 0))


def test_the_root_of_what_was_clipped_has_the_gradient_zero():
    with np.errstate(divide="ignore"):
        np.testing.assert_array_equal(gradient_of(lambda x: ops.sqrt(ops.relu(x)), np.array([-1.0, 4.0])), [[0, 0.25]])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_large_gradients_are_chosen_from_as_small_ones_are(dtype):
    """With a mask that is broadcast, and a gradient that is a view."""
    rng = np.random.default_rng(0)
    a, mask = rng.standard_normal((60, 100)).astype(dtype), rng.random(100) > 0.5
    seed = np.flip(rng.standard_normal((100, 60)).astype(dtype)).T
    x = Variable(a, requires_grad=True)
    ops.where(mask, x, 0.0).backward(seed)
    np.testing.assert_array_equal(x.grad, np.where(mask, seed, 0))
    assert x.grad.dtype == dtype


@pytest.mark.parametrize("other", [np.array([3, 1], np.uint8), np.array([True, False]), np.array([3, -128], np.int8)])
def test_the_smaller_of_a_float_and_an_integer_of_any_kind(other):
    x = np.array([2.0, 2.0]) if other.dtype != bool else np.array([0.5, 0.5])
    np.testing.assert_array_equal(gradient_of(lambda x: ops.minimum(x, other), x), [[1, 0]])
    np.testing.assert_array_equal(gradient_of(lambda x: ops.maximum(x, other), x), [[0, 1]])


def test_where_one_of_two_numbers_is_nan_both_get_the_gradient_as_in_pytorch():
    a, b = np.array([np.nan, 1.0]), np.array([1.0, np.nan])
    for op in (ops.maximum, ops.minimum):
        np.testing.assert_array_equal(gradient_of(op, a, b), [[1, 1], [1, 1]])


def test_a_power_of_zero_has_finite_derivatives_by_the_base_where_the_exponent_has_a_gradient_too():
    for exponent, first, second in ((0.0, 0, 0), (1.0, 1, 0), (2.0, 0, 2)):
        x, b = Variable(np.zeros(()), requires_grad=True), Variable(np.array(exponent), requires_grad=True)
        (by_x,) = tn.grad(x**b, x, create_graph=True)
        assert float(by_x) == first
        assert float(tn.grad(by_x, x)[0]) == second
    with np.errstate(divide="ignore"):
        assert gradient_of(lambda b: 0.0**b, np.array([-1.0]))[0] == -np.inf  # as in PyTorch


def test_float16_sums_and_squares_in_float32():
    many = np.zeros(100_000, np.float16)  # more than the largest number
    np.testing.assert_array_equal(ops.softmax(many), np.float16(1e-5))
    np.testing.assert_array_equal(ops.log_softmax(many), np.float16(-np.log(1e5)))
    assert ops.logsumexp(many) == np.float16(np.log(1e5))
    np.testing.assert_array_equal(gradient_of(ops.mean, many)[0], np.float16(1e-5))
    assert np.isfinite(gradient_of(ops.var, (np.arange(100_000) % 7).astype(np.float16))[0]).all()
    assert ops.cumsum(np.ones(4000, np.float16))[-1] == 4000
    wide, narrow = np.array([300, 400], np.float16), np.array([3e-5, 4e-5], np.float16)
    assert ops.norm(wide) == 500
    assert ops.std(wide) == 50
    for x in (wide, narrow):
        np.testing.assert_allclose(gradient_of(ops.norm, x)[0], [0.6, 0.8], rtol=1e-2)
    for f in (ops.softmax, ops.log_softmax, ops.logsumexp, ops.norm, ops.std, ops.var, ops.cumsum, ops.mean):
        assert f(wide).dtype == np.float16


@pytest.mark.parametrize("extreme", [tn.max, tn.min])
def test_more_equal_elements_than_float16_counts_share_the_gradient(extreme):
    x = Variable(np.zeros(70_000, np.float16), requires_grad=True)
    extreme(x).backward()
    np.testing.assert_allclose(x.grad, 1 / 70_000, rtol=0.01)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_integers_of_every_kind_give_float64_where_there_are_exponentials(dtype):
    x = np.array([[3, 0, 1], [1, 2, 0]]).astype(dtype)
    for op in (ops.softmax, ops.log_softmax, ops.logsumexp, ops.softplus, ops.log_sigmoid, ops.sigmoid, ops.silu):
        y = op(x)
        assert y.dtype == np.float64
        np.testing.assert_allclose(y, op(x.astype(float)), rtol=1e-12)


@pytest.mark.parametrize("f", [lambda x: x.std(), ops.norm], ids=["std", "norm"])
def test_second_derivatives_where_a_length_is_zero_are_finite(f):
    x = Variable(np.zeros(3), requires_grad=True)
    (first,) = tn.grad(f(x), x, create_graph=True)
    (second,) = tn.grad(first.sum(), x)
    np.testing.assert_array_equal(second, np.zeros(3))


@pytest.mark.parametrize("zeros", [0, 1, 2, 3])
def test_all_derivatives_of_a_product_are_those_of_the_definition_among_zeros(zeros):
    x = np.array([2.0, -1.5, 0.5, 3.0, 1.25])
    x[:zeros] = 0
    tn.check_grads(ops.prod, [x], order=4)


@pytest.mark.parametrize("exponent", [0, 1, 2, 3])
def test_all_derivatives_of_an_integer_power_are_finite_at_zero(exponent):
    x = Variable(np.zeros(()), requires_grad=True)
    y = x**exponent
    for order in range(1, 5):
        (y,) = tn.grad(y, x, create_graph=True)
        assert float(y) == (np.prod(range(1, exponent + 1)) if order == exponent else 0)


def test_astype_converts_the_value_and_returns_the_gradient_in_the_dtype_of_the_input():
    x = Variable(np.ones(3, np.float32), requires_grad=True)
    y = x.astype(np.float64)
    assert y.dtype == np.float64
    y.sum().backward()
    assert x.grad.dtype == np.float32


def test_softmax_family_does_not_overflow():
    x = np.array([1000.0, 0.0, -1000.0])
    np.testing.assert_array_equal(ops.softmax(x), [1, 0, 0])
    np.testing.assert_array_equal(ops.log_softmax(x), [0, -1000, -2000])
    assert ops.logsumexp(x) == 1000
    assert ops.logsumexp(np.full(3, -np.inf)) == -np.inf
    np.testing.assert_array_equal(ops.sigmoid(x), [1, 0.5, 0])


@pytest.mark.parametrize("axis", [-1, 0])
@pytest.mark.parametrize(
    "scores",
    [
        [59.9, 0.0, -1.0],
        [-59.9, 0.0, -1.0],
        [60.1, 0.0, -1.0],
        [[-42.0, -42.5], [0.5, 0.25]],
        [[59.0], [-9.0]],
        [[3e38, -3e38, np.inf]],
        [[np.nan, 0.0], [1.0, 2.0]],
        np.linspace(-2, 2, 512).reshape(2, 256),
        np.linspace(-59.9, 59.9, 513).reshape(171, 3),
        np.linspace(-60.1, 59.9, 513).reshape(171, 3),
        np.linspace(-59.9, 60.1, 513).reshape(171, 3),
        [[np.nan] * 257, [0.0] * 257],
        [[-np.inf] * 257, [0.0] * 257],
    ],
)
def test_softmax_of_scores_that_need_no_maximum_and_of_those_that_do(scores, axis):
    x = np.array(scores, np.float32)
    with np.errstate(invalid="ignore"):
        y, expected = ops.softmax(x, axis), scipy.special.softmax(x.astype(np.float64), axis)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-37)  # float32 knows a distance of 120 to 4e-6


@pytest.mark.parametrize(("shape", "axis"), [((4,), 0), ((1, 4), -1), ((4, 1), 0), ((4, 1), 1), ((1, 4, 1), 1)])
def test_softmax_of_a_single_line_and_of_lines_of_one_number(shape, axis):
    x = np.random.default_rng(0).standard_normal(shape)
    np.testing.assert_allclose(ops.softmax(x, axis), scipy.special.softmax(x, axis), rtol=1e-14)
    tn.check_grads(lambda x: ops.softmax(x, axis), [x], order=2)
    weights = np.arange(4.0).reshape(shape)
    (of_double,) = gradient_of(lambda x: ops.softmax(x, axis) * weights, x)
    (of_half,) = gradient_of(lambda x: ops.softmax(x, axis) * weights.astype(np.float16), x.astype(np.float16))
    assert of_half.dtype == np.float16
    np.testing.assert_allclose(of_half, of_double, atol=4e-3)


def test_a_row_of_minus_infinity_has_the_sum_zero_and_the_derivative_zero():
    x = np.array([[-np.inf, -np.inf], [0.0, -np.inf]])
    np.testing.assert_array_equal(ops.logsumexp(x, axis=1), [-np.inf, 0])
    np.testing.assert_array_equal(gradient_of(lambda x: x.logsumexp(axis=1), x), [[[0, 0], [1, 0]]])


def test_softplus_and_log_sigmoid_neither_overflow_nor_round_to_zero():
    x = np.array([-1000.0, -50, 0, 50, 1000])
    tiny, log2 = np.exp(-50.0), np.log(2)
    np.testing.assert_allclose(ops.softplus(x), [0, tiny, log2, 50, 1000], rtol=1e-15)
    np.testing.assert_allclose(ops.log_sigmoid(x), [-1000, -50, -log2, -tiny, 0], rtol=1e-15)
    np.testing.assert_allclose(gradient_of(ops.softplus, x), [[0, 0, 0.5, 1, 1]], atol=1e-15)
    np.testing.assert_allclose(gradient_of(ops.log_sigmoid, x), [[1, 1, 0.5, 0, 0]], atol=1e-15)


def test_expm1_and_log1p_are_exact_for_tiny_numbers():
    tiny = np.array([1e-20])
    np.testing.assert_array_equal(ops.expm1(tiny), tiny)
    np.testing.assert_array_equal(ops.log1p(tiny), tiny)


def test_softmax_gives_masked_positions_probability_and_gradient_zero():
    for op in (ops.softmax, ops.logsumexp):
        (gradient,) = gradient_of(lambda x, op=op: op(x) * np.arange(1.0, 4.0), np.array([0.5, -np.inf, 0.25]))
        assert np.isfinite(gradient).all()
        assert gradient[1] == 0


def test_an_element_that_an_index_names_twice_gets_both_gradients():
    x = np.zeros((2, 2))
    for index in ([1, 1], np.array([1, 1]), Variable(np.array([1, 1]))):
        np.testing.assert_array_equal(gradient_of(lambda x, i=index: x[i], x), [[[0, 0], [2, 2]]])
    np.testing.assert_array_equal(gradient_of(lambda x: x[(0, 0), (1, 1)], x), [[[0, 2], [0, 0]]])


@pytest.mark.parametrize("condition", [[True, False], np.array([1, 0]), Variable(np.array([True, False]))], ids=type)
def test_where_takes_every_kind_of_condition(condition):
    to_a, to_b = gradient_of(lambda a, b: ops.where(condition, a, b), np.zeros(2), np.ones(2))
    np.testing.assert_array_equal(to_a, [1, 0])
    np.testing.assert_array_equal(to_b, [0, 1])


def test_a_wide_row_that_is_named_twice_gets_both_gradients():
    x, ids = np.zeros((3, 2000)), np.array([[-1, 0], [2, 2]])
    for f in (lambda x: x[ids], lambda x: x.take(ids, axis=0), lambda x: x[(ids,)]):
        np.testing.assert_array_equal(gradient_of(f, x)[0][:, 7], [1, 0, 3])


def test_repeat_takes_a_number_for_each_place():
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(ops.repeat(x, [2, 0, 1], axis=-1), np.repeat(x, [2, 0, 1], axis=-1))
    np.testing.assert_array_equal(gradient_of(lambda x: x.repeat([2, 0, 1], axis=1), x), [[[2, 0, 1], [2, 0, 1]]])


def test_largest_come_with_the_plain_indices_that_they_were_taken_from():
    x = np.random.default_rng(0).permutation(24).reshape(2, 4, 3) / 4
    values, indices = ops.topk(Variable(x, requires_grad=True), 2, axis=1)
    assert type(indices) is np.ndarray
    np.testing.assert_array_equal(np.take_along_axis(x, indices, 1), values.data)
    assert (values.data[:, 0] > values.data[:, 1]).all()


def test_indices_that_sort_keep_the_order_of_equal_elements():
    np.testing.assert_array_equal(ops.argsort(Variable(np.array([1.0, 0, 1, 0]))), [1, 3, 0, 2])


@pytest.mark.parametrize(
    ("subscripts", "shapes"), [("ij,ij->", [(1, 3), (2, 3)]), ("ij,jk->ik", [(2, 1), (3, 2)]), ("ij,j", [(2, 3), (1,)])]
)
def test_einsum_broadcasts_axes_of_size_one_as_numpy_does(subscripts, shapes):
    xs = [np.random.default_rng(0).standard_normal(shape) for shape in shapes]
    np.testing.assert_allclose(ops.einsum(subscripts, *xs), np.einsum(subscripts, *xs))
    tn.check_grads(lambda *xs: ops.einsum(subscripts, *xs), xs)


@pytest.mark.parametrize(
    ("subscripts", "message"),
    [
        ("ij,jk->ik", "for 2 operands, not for 1"),
        ("ijk->i", "too many subscripts"),
        ("ij->ijj", "'j' multiple times"),
        ("i...jk->i", "too many indices"),
        ("ij->z", "'z' which never appeared"),
        ("i1->i", "must be letters"),
    ],
)
def test_einsum_refuses_subscripts_that_do_not_fit(subscripts, message):
    with pytest.raises(ValueError, match=message):
        ops.einsum(subscripts, Variable(np.ones((2, 2))))


def test_embedding_gives_a_leaf_a_row_sparse_gradient_and_a_computed_table_a_dense_one():
    table = Variable(np.ones((5, 2)), requires_grad=True)
    ops.embedding([1, 1, 3], table).sum().backward()
    assert isinstance(table.grad, RowSparse)
    np.testing.assert_array_equal(table.grad.to_dense()[:, 0], [0, 2, 0, 1, 0])
    table.grad = None
    ops.embedding([1, 1, 3], table * 3.0).sum().backward()
    np.testing.assert_array_equal(table.grad[:, 0], [0, 6, 0, 3, 0])


@pytest.mark.parametrize("ids", [[0, 5], [-1]])
def test_embedding_refuses_ids_outside_the_table(ids):
    with pytest.raises(IndexError, match=r"embedding: id (5|-1) is outside the vocabulary of 5"):
        ops.embedding(ids, Variable(np.ones((5, 2))))


def test_embedding_refuses_ids_that_are_not_integers():
    with pytest.raises(TypeError, match="ids must be integers, not float64"):
        ops.embedding([0.5], np.ones((5, 2)))


def test_axes_that_are_not_there_are_refused():
    x = Variable(np.ones((2, 3)))
    for call in (
        lambda: x.transpose(0, 5),
        lambda: x.expand_dims(7),
        lambda: x.sum(axis=2),
        lambda: x.swapaxes(0, 2),
        lambda: x.squeeze(2),
        lambda: x.unstack(2),
        lambda: ops.flip(x, 2),
    ):
        with pytest.raises((ValueError, IndexError)):
            call()


def test_squeeze_refuses_an_axis_that_is_not_of_size_one():
    with pytest.raises(ValueError, match=r"squeeze: shape \(2, 3\) has no axis 1 of size 1"):
        Variable(np.ones((2, 3))).squeeze(1)


REFUSED = {
    "take": (lambda x: x.take([3]), IndexError, "out of bounds"),
    "take of floats": (lambda x: x.take([0.5]), TypeError, "ids must be integers"),
    "take_along_axis": (lambda x: ops.take_along_axis(x, [0], 0), ValueError, "indices have 1 axes, x has 2"),
    "index_add": (lambda x: x.index_add([2], np.ones((1, 1))), IndexError, "out of bounds"),
    "one_hot": (lambda x: ops.one_hot([0, 3], 3), IndexError, "id 3 is outside the vocabulary of 3"),
    "topk": (lambda x: x.topk(3), ValueError, "k is 3, but there are 1 elements"),
    "clip": (lambda x: x.clip(x, None), TypeError, "clip"),
    "pad": (lambda x: ops.pad(x, -1), ValueError, "use a slice to cut"),
    "tensordot": (lambda x: ops.tensordot(x, np.ones((3, 3)), 1), ValueError, "tensordot"),
    "einsum": (lambda x: ops.einsum(x, [0, 1]), TypeError, "the subscripts must be a string"),
    "channels": (lambda x: ops.conv1d(np.ones((1, 2, 3)), np.ones((1, 3, 1))), ValueError, "conv1d: x must be"),
    "kernel": (
        lambda x: ops.conv1d(x.reshape(1, 1, 2), np.ones((1, 1, 3))),
        ValueError,
        "window shape cannot be larger",
    ),
}


@pytest.mark.parametrize(("call", "kind", "message"), REFUSED.values(), ids=REFUSED)
def test_arguments_that_do_not_fit_are_refused(call, kind, message):
    with pytest.raises(kind, match=message):
        call(Variable(np.ones((2, 1)), requires_grad=True))


def test_split_refuses_parts_that_are_not_equal():
    with pytest.raises(ValueError, match="split: 5 elements do not make 2 equal parts"):
        ops.split(np.ones(5), 2)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint64])
@pytest.mark.parametrize("shape", [(), (0, 2), (3, 2)])
def test_one_hot_takes_integers_of_any_kind(shape, dtype):
    ids = np.random.default_rng(0).integers(200, size=shape).astype(dtype)
    vectors = ops.one_hot(ids, 200)
    assert vectors.shape == (*shape, 200)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, np.eye(200)[ids.astype(int)])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint64])
def test_the_size_of_one_hot_vectors_may_be_a_number_of_numpy(dtype):
    ids = (np.arange(300) % 100).astype(dtype)
    np.testing.assert_array_equal(ops.one_hot(ids, ids.max() + 1), np.eye(100)[ids.astype(int)])


def test_axis_may_be_an_integer_of_numpy():
    np.testing.assert_array_equal(gradient_of(lambda x: x.max(axis=np.int64(1)), np.array([[1.0, 2.0]])), [[[0, 1]]])


def test_operations_take_python_numbers():
    assert ops.sigmoid(0.0) == 0.5
    assert ops.exp(0.0) == 1
    assert ops.maximum(1.0, 2.0) == 2
    assert ops.where(True, 1.0, 2.0) == 1
    assert ops.clip(2.0, 0, 1) == 1
    assert ops.leaky_relu(-1.0) == -0.01
    assert ops.erf(0.0) == ops.gelu(0.0) == ops.silu(0.0) == 0


@pytest.mark.parametrize("name", sorted(ops.METHODS))
def test_every_method_is_the_operation_of_its_name(name):
    assert getattr(Variable, name) is getattr(ops, name)


BINARY_OPERATORS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "**": lambda a, b: a**b,
}


@pytest.mark.parametrize("operator", BINARY_OPERATORS.values(), ids=BINARY_OPERATORS.keys())
@pytest.mark.parametrize(
    "other", [2, 2.0, np.float32(2), np.full(3, 2, np.float32)], ids=["int", "float", "scalar", "array"]
)
def test_operators_work_with_numbers_and_arrays_on_both_sides(operator, other):
    array = np.array([0.5, 1.0, 3.0], np.float32)
    for f in (lambda x: operator(x, other), lambda x: operator(other, x)):
        x = Variable(array, requires_grad=True)
        y = f(x)
        assert isinstance(y, Variable)
        assert y.dtype == np.float32
        np.testing.assert_allclose(y.data, f(array), rtol=1e-6)
        y.sum().backward()
        assert x.grad.dtype == np.float32
        tn.check_grads(f, [array])


def test_matrix_product_works_with_arrays_on_both_sides():
    a, b = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal((a @ Variable(b)).data, a @ b)
    np.testing.assert_array_equal((Variable(a) @ b).data, a @ b)
    tn.check_grads(lambda b: a @ b, [b])


@pytest.mark.parametrize("symbol", ["+", "-", "*", "/", "**", "@"])
def test_an_operator_in_place_makes_a_new_variable_but_leaves_no_leaf_behind(symbol):
    x, other = Variable(np.full((2, 2), 3.0), requires_grad=True), np.full((2, 2), 2.0)
    names = {"x": x, "other": other}
    for mode in (contextlib.nullcontext(), tn.no_grad()):
        with mode, pytest.raises(TypeError, match=rf"write x\.data {re.escape(symbol)}= …"):
            exec(f"x {symbol}= other", names)
    names["x"] = y = x * 1.0
    exec(f"x {symbol}= other", names)
    assert names["x"] is not y
    np.testing.assert_array_equal(names["x"].data, eval(f"y.data {symbol} other", {"y": y, "other": other}))
    np.testing.assert_array_equal(y.data, 3)
    names["x"].sum().backward()
    assert x.grad.shape == (2, 2)


def test_comparisons_are_plain_arrays():
    x = Variable(np.array([1.0, 2.0, 3.0]), requires_grad=True)
    for result, expected in [
        (x > 2, [False, False, True]),
        (x >= 2, [False, True, True]),
        (x < x.data[::-1], [True, False, False]),
        (x.data >= x, [True, True, True]),
        (x == x.data, [True, True, True]),
        (x != 2, [True, False, True]),
    ]:
        assert type(result) is np.ndarray
        np.testing.assert_array_equal(result, expected)


def test_a_loop_over_a_variable_goes_through_its_rows_in_one_operation():
    x = Variable(np.ones((3, 2)), requires_grad=True)
    rows = list(x)
    assert [row.shape for row in rows] == [(2,)] * 3
    assert rows[0].creator is rows[2].creator
    assert "test_ops.py" in rows[0].creator.line()
    assert list(Variable(np.ones((0, 2)))) == []


def test_plus_is_nothing():
    x = Variable(np.ones(2), requires_grad=True)
    assert +x is x


def test_bounds_have_the_names_of_numpy():
    x = Variable(np.array([-1.0, 0.5, 2.0]))
    np.testing.assert_array_equal(x.clip(min=0).data, [0, 0.5, 2])
    np.testing.assert_array_equal(x.clip(max=1).data, [-1, 0.5, 1])


def test_transposed_is_an_attribute():
    x = Variable(np.ones((2, 3)), requires_grad=True)
    assert x.T.shape == (3, 2)


# --- what is refused, and sizes that are easily forgotten -------------------------------------------------------------


@pytest.mark.parametrize("stride", [0, -1])
def test_windows_move_forward_and_padding_is_not_negative(stride):
    x, kernel = np.ones((1, 1, 5, 5), np.float32), np.ones((1, 1, 2, 2), np.float32)
    for name, windows in (
        ("conv1d", lambda **settings: tn.conv1d(x[:, :, 0], kernel[:, :, 0], **settings)),
        ("conv2d", lambda **settings: tn.conv2d(x, kernel, **settings)),
        ("max_pool2d", lambda **settings: tn.max_pool2d(x, 2, **settings)),
        ("avg_pool2d", lambda **settings: tn.avg_pool2d(x, 2, **settings)),
    ):
        with pytest.raises(ValueError, match=f"^{name}: stride must be at least 1, but is {stride}$"):
            windows(stride=stride)
        with pytest.raises(ValueError, match=f"^{name}: padding must not be negative, but is -1$"):
            windows(padding=-1)


@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
def test_no_window_lies_in_the_border_alone(name):
    with pytest.raises(ValueError, match=rf"^{name}: padding must be at most half of the window \(4, 2\), but is 2$"):
        getattr(tn, name)(np.ones((1, 1, 5, 5)), (4, 2), padding=2)
    assert getattr(tn, name)(np.ones((1, 1, 5, 5)), (4, 2), padding=(2, 1)).shape == (1, 1, 2, 3)


def test_joining_along_an_axis_that_is_not_there_names_it():
    x = tn.Variable(np.ones((2, 3), np.float32))
    with pytest.raises(np.exceptions.AxisError, match="axis 5 is out of bounds for array of dimension 2"):
        tn.concatenate((x, x), axis=5)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_integers_have_no_infinite_border(dtype, value):
    with pytest.raises(ValueError, match=rf"^pad\(.*: {np.dtype(dtype)} has no {value} to pad with$"):
        tn.pad(np.ones(2, dtype), 1, value)


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint8, np.float16])
def test_the_border_of_a_maximum_never_wins(dtype):
    x = np.array([[[[-3, -2], [-4, -7]]]]).astype(dtype)
    y = tn.max_pool2d(x, 2, stride=2, padding=1)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, x)


def test_parts_are_counted_by_numbers_of_numpy_too():
    x = tn.Variable(np.arange(6.0), requires_grad=True)
    assert [part.shape for part in tn.split(x, np.int64(3))] == [(2,), (2,), (2,)]


@pytest.mark.parametrize(("operation", "value"), [(tn.softmax, 1.0), (tn.log_softmax, 0.0)])
def test_the_softmax_of_one_number_and_of_none(operation, value):
    x = tn.Variable(np.array(3.0, np.float32), requires_grad=True)
    for axis in (0, -1):
        y = operation(x, axis=axis)
        assert (y.shape, y.dtype, float(y.data)) == ((), np.float32, value)
    y.backward()
    assert x.grad == 0
    assert operation(tn.Variable(np.ones((5, 0, 0), np.float32))).shape == (5, 0, 0)


def test_rows_are_added_to_arrays_of_their_shape_only():
    rows = tn.autograd.RowSparse(np.array([0]), np.ones((1, 3)), (4, 3))
    for other in (np.ones((5, 3)), tn.autograd.RowSparse(np.array([0]), np.ones((1, 3)), (5, 3))):
        with pytest.raises(ValueError, match=r"^RowSparse of shape \(4, 3\) \+ an array of shape \(5, 3\)"):
            rows + other
