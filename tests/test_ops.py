"""Every operation, by the table in `op_table.py`: values, two derivatives, dtypes, and who owns the memory."""

import itertools

import numpy as np
import pytest
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


# --- what the table cannot say ----------------------------------------------------------------------------------------


def gradient_of(f, *arrays):
    xs = variables(arrays)
    f(*xs).sum().backward()
    return [x.grad for x in xs]


def test_derivatives_at_kinks_are_those_of_pytorch():
    zero = np.zeros(1)
    np.testing.assert_array_equal(gradient_of(ops.relu, zero), [[0]])
    np.testing.assert_array_equal(gradient_of(ops.abs, zero), [[0]])
    np.testing.assert_array_equal(gradient_of(ops.maximum, zero, zero), [[0.5], [0.5]])
    np.testing.assert_array_equal(gradient_of(ops.minimum, zero, zero), [[0.5], [0.5]])
    np.testing.assert_array_equal(gradient_of(ops.max, np.array([1.0, 3.0, 3.0])), [[0, 0.5, 0.5]])
    np.testing.assert_array_equal(gradient_of(ops.min, np.array([1.0, 1.0, 3.0])), [[0.5, 0.5, 0]])


@pytest.mark.parametrize("exponent", [0, 1, 2, 3])
def test_all_derivatives_of_an_integer_power_are_finite_at_zero(exponent):
    x = Variable(np.zeros(()), requires_grad=True)
    y = x**exponent
    for order in range(1, 5):
        (y,) = tn.grad(y, x, create_graph=True)
        assert float(y) == (np.prod(range(1, exponent + 1)) if order == exponent else 0)


def test_power_of_zero_has_gradient_zero_in_the_exponent():
    np.testing.assert_array_equal(gradient_of(ops.pow, np.zeros(1), np.array([2.0]))[1], [0])


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
    with pytest.raises(ValueError, match=r"squeeze: axis 1 of shape \(2, 3\)"):
        Variable(np.ones((2, 3))).squeeze(1)


def test_split_refuses_parts_that_are_not_equal():
    with pytest.raises(ValueError, match="split: 5 elements do not make 2 equal parts"):
        ops.split(np.ones(5), 2)


def test_axis_may_be_an_integer_of_numpy():
    np.testing.assert_array_equal(gradient_of(lambda x: x.max(axis=np.int64(1)), np.array([[1.0, 2.0]])), [[[0, 1]]])


def test_operations_take_python_numbers():
    assert ops.sigmoid(0.0) == 0.5
    assert ops.exp(0.0) == 1
    assert ops.maximum(1.0, 2.0) == 2
    assert ops.where(True, 1.0, 2.0) == 1


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


def test_transposed_is_an_attribute():
    x = Variable(np.ones((2, 3)), requires_grad=True)
    assert x.T.shape == (3, 2)
