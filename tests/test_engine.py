"""The engine: what a graph gives when it is differentiated, what memory it holds, how it says what went wrong."""

import contextlib
import copy
import gc
import inspect
import pickle
import re
import threading
import tracemalloc
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_nlp as tn
from tinygrad_nlp import Function, Fused, RowSparse, Variable
from tinygrad_nlp.autograd import ops


def leaf(data, dtype=np.float64):
    return Variable(np.array(data, dtype), requires_grad=True)


@pytest.fixture
def no_garbage_collector():
    """What is freed inside is freed by reference counts alone."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Swapped(Function):
    """Two outputs; its backward hands out the very arrays that it is given."""

    def forward(self, a, b):
        return b * 1.0, a * 1.0

    def backward(self, g_first, g_second):
        return g_second, g_first


class Explosive(Function):
    """Fine forward; must not be asked for a gradient."""

    def forward(self, x):
        return x * 1.0

    def backward(self, gy):
        raise ArithmeticError("boom")


class Cube(Function):
    saves_inputs = True

    def forward(self, x):
        return x * x * x

    def backward(self, gy):
        (x,) = self.inputs
        return 3.0 * x * x * gy


class Silu(Fused):
    def definition(self, x):
        return x * tn.sigmoid(x)

    def forward(self, x):
        return x / (1 + np.exp(-x))

    def backward(self, gy):
        (x,) = self.inputs
        s = 1 / (1 + np.exp(-x))
        return gy * (s * (1 + x * (1 - s)))


class SumAndProduct(Fused):
    """Several inputs and outputs, of which some need no gradient and some are not used."""

    def definition(self, a, b):
        return a + b, a * b

    def forward(self, a, b):
        return a + b, a * b

    def backward(self, g_sum, g_product):
        a, b = self.inputs
        assert type(g_sum) is type(g_product) is np.ndarray  # a kernel never sees a Variable
        return g_sum + g_product * b, g_sum + g_product * a


# --- gradients of graphs ----------------------------------------------------------------------------------------------


def test_uses_of_one_variable_add_up():
    x = leaf([1.0, 2.0])
    y = x + x + x * x - x
    y.backward(np.ones(2))
    np.testing.assert_array_equal(x.grad, 1 + 2 * x.data)


def test_diamond_has_the_gradient_of_its_closed_form():
    x = leaf([0.5, -1.5])
    a = x * x
    b, c = tn.exp(a), tn.tanh(a)
    (b * c + b).sum().backward()
    e, t = np.exp(x.data**2), np.tanh(x.data**2)
    np.testing.assert_allclose(x.grad, 2 * x.data * (e * t + e * (1 - t * t) + e), rtol=1e-13)


def test_a_function_of_its_own_argument_twice():
    x = leaf([1.0, 2.0])
    (x @ x).backward()
    np.testing.assert_array_equal(x.grad, 2 * x.data)


def test_what_a_function_of_the_user_returned_is_not_the_gradient_of_a_leaf():
    """It may be held elsewhere, in whatever way: a constant, or what was kept to be looked at."""

    class Constant(Function):
        def forward(self, x):
            return x * 1.0

        def backward(self, gy):
            return constant

    constant = np.ones(5000)
    x, y = leaf(np.zeros(5000)), leaf(np.zeros(5000))
    Constant()(x).sum().backward()
    (Constant()(y).sum() + Constant()(y).sum()).backward()
    assert not np.shares_memory(x.grad, constant)
    np.testing.assert_array_equal(constant, 1)
    np.testing.assert_array_equal(y.grad, 2)


@pytest.mark.parametrize("array", [np.ones(3), np.ones((3, 1), np.float32)])
def test_an_array_of_another_shape_or_dtype_begins_without_a_gradient(array):
    x = leaf([1.0, 2.0, 3.0], np.float32)
    (x * x).sum().backward()
    x.data = array
    assert x.grad is None
    (x * x).sum().backward()
    assert (x.grad.shape, x.grad.dtype) == (x.shape, x.dtype)


def test_backward_from_a_leaf_leaves_the_seed():
    x, seed = leaf([1.0, 2.0]), np.array([3.0, 4.0])
    x.backward(seed)
    np.testing.assert_array_equal(x.grad, seed)
    assert not np.shares_memory(x.grad, seed)


@pytest.mark.parametrize("used", [0, 1])
def test_unused_outputs_count_as_zero(used):
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    Swapped()(a, b)[used].backward(np.array([5.0, 6.0]))
    gradients = (a.grad, b.grad) if used else (b.grad, a.grad)
    np.testing.assert_array_equal(gradients, [[5, 6], [0, 0]])


def test_a_function_of_several_outputs_waits_for_all_of_them():
    calls = []

    class Counting(Swapped):
        def backward(self, g_first, g_second):
            calls.append(1)
            return super().backward(g_first, g_second)

    a, b = leaf(1.0), leaf(2.0)
    first, second = Counting()(a, b)
    (first * 2.0 + tn.exp(second) * first).backward()
    assert len(calls) == 1
    assert a.grad == pytest.approx(2 * np.e)
    assert b.grad == pytest.approx(2 + np.e)


@pytest.mark.usefixtures("no_garbage_collector")
def test_a_chain_of_50_000_operations_goes_backward_and_can_be_dropped():
    x = leaf([1.0])
    for run_backward in (True, False):
        y = x
        for _ in range(50_000):
            y = -y
        if run_backward:
            y.backward()
        del y
    np.testing.assert_array_equal(x.grad, [1])


PROGRAM_STEPS = st.tuples(
    st.sampled_from(["add", "sub", "mul", "tanh", "flip", "total"]), st.integers(0, 100), st.integers(0, 100)
)


def run_on_variables(inputs, steps):
    values = list(inputs)
    for name, i, j in steps:
        a, b = values[i % len(values)], values[j % len(values)]
        values.append({
            "add": lambda a, b: a + b,
            "sub": lambda a, b: a - b,
            "mul": lambda a, b: a * b,
            "tanh": lambda a, b: tn.tanh(a),
            "flip": lambda a, b: ops.flip(a, 0),
            "total": lambda a, b: a.sum(keepdims=True),
        }[name](a, b))  # fmt: skip
    return values[-1]


def run_with_jacobians(inputs, steps):
    """The same by forward differentiation: each value carries its whole Jacobian (its size, all inputs)."""
    identity = np.eye(sum(x.size for x in inputs))
    values = list(zip(inputs, np.split(identity, np.cumsum([x.size for x in inputs])[:-1]), strict=True))
    for name, i, j in steps:
        (a, da), (b, db) = values[i % len(values)], values[j % len(values)]
        values.append({
            "add": lambda a, da, b, db: (a + b, da + db),
            "sub": lambda a, da, b, db: (a - b, da - db),
            "mul": lambda a, da, b, db: (a * b, da * b[:, None] + db * a[:, None]),
            "tanh": lambda a, da, b, db: (np.tanh(a), da * (1 - np.tanh(a) ** 2)[:, None]),
            "flip": lambda a, da, b, db: (a[::-1], da[::-1]),
            "total": lambda a, da, b, db: (a.sum(keepdims=True), da.sum(axis=0, keepdims=True)),
        }[name](a, da, b, db))  # fmt: skip
    return values[-1]


@given(st.lists(PROGRAM_STEPS, min_size=1, max_size=12))
def test_gradient_of_any_program_is_the_transposed_jacobian(steps):
    inputs = [np.array([0.3, -0.7]), np.array([0.5]), np.array([-0.2, 0.9])]
    xs = [leaf(x) for x in inputs]
    y = run_on_variables(xs, steps)
    value, jacobian = run_with_jacobians(inputs, steps)
    np.testing.assert_allclose(y.data, value, rtol=1e-12, atol=1e-12)
    seed = np.array([1.5, -0.5])[: y.size]
    gradients = tn.grad(y, xs, seed, retain_graph=True, allow_unused=True)
    filled = [np.zeros(x.shape) if g is None else g for g, x in zip(gradients, xs, strict=True)]
    np.testing.assert_allclose(np.concatenate(filled), seed @ jacobian, rtol=1e-12, atol=1e-12)
    y.backward(seed)
    for x, expected in zip(xs, gradients, strict=True):
        np.testing.assert_equal(x.grad, expected)  # both None where nothing leads to x


# --- higher orders ----------------------------------------------------------------------------------------------------


def test_third_derivative_of_a_cube():
    x = leaf([2.0])
    (first,) = tn.grad(x**3, x, create_graph=True)
    (second,) = tn.grad(first, x, create_graph=True)
    (third,) = tn.grad(second, x)
    assert [first.item(), second.item(), third.item()] == [12, 12, 6]


def test_backward_with_create_graph_leaves_variables_that_can_be_differentiated():
    x = leaf([2.0])
    (x**3).backward(create_graph=True)
    assert isinstance(x.grad, Variable)
    (second,) = tn.grad(x.grad, x)
    np.testing.assert_array_equal(second, [12])


def test_create_graph_records_also_under_no_grad():
    x = leaf([2.0])
    for f in (lambda x: x**3 + x**3, Silu()):
        y = f(x)
        with tn.no_grad():
            (first,) = tn.grad(y, x, create_graph=True)
        assert first.requires_grad


def test_gradient_of_a_gradient_reaches_the_seed():
    x, seed = leaf([2.0, 3.0]), leaf([1.0, 1.0])
    (gradient,) = tn.grad(x * x, x, seed, create_graph=True)
    (to_seed,) = tn.grad(gradient.sum(), seed)
    np.testing.assert_array_equal(to_seed, 2 * x.data)


def test_plain_gradients_are_arrays_even_where_the_seed_is_a_variable():
    x = leaf([2.0, 3.0])
    (x * x).backward(leaf([1.0, 1.0]))
    assert type(x.grad) is np.ndarray
    np.testing.assert_array_equal(x.grad, [4, 6])


def test_create_graph_keeps_the_dtype_of_a_looked_up_table():
    table = leaf(np.ones((3, 2)))
    tn.embedding([0, 0], table).sum().backward(create_graph=True)
    assert table.grad.dtype == np.float64
    np.testing.assert_array_equal(table.grad.data[:, 0], [2, 0, 0])


def test_create_graph_through_a_table_that_is_also_used_as_a_matrix():
    ids, table = np.array([0, 2, 0]), np.random.default_rng(0).standard_normal((3, 2))
    tn.check_grads(lambda w: tn.tanh(tn.embedding(ids, w) @ w.T), [table])


# --- a user's Functions -----------------------------------------------------------------------------------------------


def test_a_function_in_ten_lines_has_derivatives_of_every_order():
    tn.check_grads(lambda x: Cube()(x), [np.array([0.5, -1.0])], order=3)


def test_a_fused_function_in_ten_lines_has_derivatives_of_every_order():
    tn.check_grads(lambda x: Silu()(x), [np.array([0.5, -1.0])], order=3)


def test_the_kernel_of_a_fused_function_equals_its_definition():
    x = leaf([0.5, -1.0, 3.0])
    y = Silu()(x)
    np.testing.assert_allclose(y.data, Silu().definition(x).data, rtol=1e-14)
    seed = np.array([1.0, 2.0, 3.0])
    (from_kernel,) = tn.grad(y, x, seed, retain_graph=True)
    (from_definition,) = tn.grad(y, x, seed, create_graph=True)
    np.testing.assert_allclose(from_kernel, from_definition.data, rtol=1e-14)


def test_a_fused_function_is_differentiated_twice_by_its_definition_and_once_by_its_kernel():
    class WrongDefinition(Silu):
        def definition(self, x):
            return x * 7.0

    x = leaf([0.5])
    y = WrongDefinition()(x)
    (from_kernel,) = tn.grad(y, x, retain_graph=True)
    (from_definition,) = tn.grad(y, x, create_graph=True)
    assert from_kernel != 7
    assert from_definition.item() == 7


def test_a_fused_function_of_several_inputs_and_outputs():
    a, b = np.array([0.5, -1.0]), np.array([2.0, 3.0])
    tn.check_grads(lambda a, b: SumAndProduct()(a, b), [a, b])
    tn.check_grads(lambda a, b: SumAndProduct()(a, b)[1], [a, b])
    tn.check_grads(lambda a: SumAndProduct()(a, b), [a])


def test_a_function_gives_arrays_for_arrays():
    assert type(Cube()(np.ones(2))) is np.ndarray


def test_edges_tell_a_function_which_gradients_are_wanted():
    seen = []

    class Product(Function):
        saves_inputs = True

        def forward(self, a, b):
            seen.append(self.edges is None)
            return a * b

        def backward(self, gy):
            _, b = self.inputs
            seen.append([edge is None for edge in self.edges])
            return gy * b, None

    a = leaf([2.0])
    Product()(a, Variable(np.array([3.0]))).backward()
    with tn.no_grad():
        Product()(a, a)
    assert seen == [False, [False, True], True]


# --- grad(): what is asked for ----------------------------------------------------------------------------------------


def test_grad_of_leaves_and_of_interior_variables():
    x, w = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    h = x * w
    y = (h * h).sum()
    to_h, to_x, to_w = tn.grad(y, [h, x, w])
    np.testing.assert_array_equal(to_h, 2 * h.data)
    np.testing.assert_array_equal(to_x, 2 * h.data * w.data)
    np.testing.assert_array_equal(to_w, 2 * h.data * x.data)


def test_grad_touches_no_grad_attribute():
    x = leaf([1.0])
    tn.grad(x * x, x)
    assert x.grad is None


def test_grad_of_one_output_of_several():
    a, b = leaf([1.0]), leaf([2.0])
    first, second = Swapped()(a, b)
    to_first, to_b = tn.grad(first * second * second, [first, b])
    np.testing.assert_array_equal([to_first, to_b], [[1], [1]])


def test_grad_of_several_outputs_is_that_of_their_weighted_sum():
    x = leaf([3.0])
    y = x * x
    (gradient,) = tn.grad([y, y * x], x, [np.array([10.0]), np.array([1.0])])
    np.testing.assert_array_equal(gradient, [10 * 6 + 27])


def test_gradients_of_interior_variables_are_memory_of_their_own():
    a, b = leaf([1.0]), leaf([2.0])
    p, q = a * 2.0, b * 2.0
    y, seed = p + q, np.array([5.0])
    gradients = tn.grad(y, [y, p, q], seed)
    for g in gradients:
        assert g.flags.writeable
        assert sum(np.shares_memory(g, other) for other in (seed, *gradients)) == 1  # itself


def test_grad_refuses_an_input_on_which_nothing_depends():
    x, unused = leaf([1.0]), leaf([1.0])
    with pytest.raises(ValueError, match="do not depend on input 1; pass allow_unused=True"):
        tn.grad(x * x, [x, unused], retain_graph=True)
    assert tn.grad(x * x, [x, unused], allow_unused=True)[1] is None


def test_grad_refuses_an_input_without_gradient():
    with pytest.raises(ValueError, match=r"input 0 .* does not require a gradient"):
        tn.grad(leaf([1.0]) * 2.0, Variable(np.ones(1)))


def test_grad_of_no_inputs_is_nothing():
    assert tn.grad(leaf([1.0]) * 2.0, ()) == ()


def test_grad_can_hold_its_inputs_fixed_for_each_other():
    x = leaf([3.0])
    h = x * x
    y = h * x
    assert [float(g[0]) for g in tn.grad(y, [h, x], retain_graph=True)] == [3, 27]
    assert [float(g[0]) for g in tn.grad(y, [h, x], beyond_inputs=False)] == [3, 9]


def test_grad_refuses_too_few_seeds():
    x = leaf([1.0])
    with pytest.raises(ValueError, match="1 grad_outputs for 2 outputs"):
        tn.grad([x * 2.0, x * 3.0], x, [np.ones(1)])


def test_only_what_leads_to_a_target_is_computed():
    x, other = leaf([1.0]), leaf([1.0])
    y = x * 2.0 + Explosive()(other)
    np.testing.assert_array_equal(tn.grad(y, x)[0], [2])
    h = Explosive()(x) * 1.0
    np.testing.assert_array_equal(tn.grad(h * 3.0, h)[0], [3])


# --- freed, kept, accumulated -----------------------------------------------------------------------------------------


def test_backward_twice_says_what_to_do():
    x = leaf([1.0])
    y = tn.exp(x * x)
    y.backward()
    with pytest.raises(RuntimeError, match=r"second time through exp .*test_engine.py:\d+.*retain_graph=True"):
        y.backward()
    np.testing.assert_array_equal(x.grad, 2 * np.e)


def test_grad_through_a_freed_graph_is_an_error_too():
    x = leaf([1.0])
    h = x * x
    (h * 1.0).backward()
    with pytest.raises(RuntimeError, match="second time through mul"):
        tn.grad(h * 2.0, x)


def test_retain_graph_allows_another_backward_that_adds_up():
    x = leaf([3.0])
    y = x * x
    y.backward(retain_graph=True)
    first = x.grad
    y.backward()
    assert x.grad is first  # in place: no second array
    np.testing.assert_array_equal(x.grad, [12])


def test_gradients_of_two_graphs_accumulate():
    x = leaf([3.0])
    (x * 2.0).backward()
    (x * x).backward()
    np.testing.assert_array_equal(x.grad, [8])


def test_no_graph_is_an_error_that_names_the_reasons():
    with pytest.raises(RuntimeError, match=r"no graph.*no_grad\(\)"):
        Variable(np.ones(())).backward()


@pytest.mark.usefixtures("no_garbage_collector")
def test_a_dropped_graph_is_freed_by_reference_counts():
    x = leaf([1.0, 2.0])
    hidden = tn.exp(x)
    first, second = Swapped()(hidden, hidden)
    y = (Silu()(first) * second).sum()
    arrays = [weakref.ref(v.data) for v in (hidden, first, second)]
    functions = [weakref.ref(v.creator) for v in (hidden, first, second, y)]
    del hidden, first, second
    assert all(ref() is not None for ref in functions)
    del y
    assert all(ref() is None for ref in arrays + functions)


@pytest.mark.usefixtures("no_garbage_collector")
def test_backward_frees_the_saved_arrays_while_the_result_lives():
    x = leaf([1.0, 2.0])
    hidden = tn.exp(x)
    saved = weakref.ref(hidden.data)
    y = (hidden * hidden).sum()
    del hidden
    y.backward()
    assert saved() is None
    assert y.item() > 0


@pytest.mark.usefixtures("no_garbage_collector")
def test_graphs_of_gradients_are_freed_by_reference_counts():
    x = leaf([1.0, 2.0])
    (gradient,) = tn.grad((Silu()(x) * tn.tanh(x)).sum(), x, create_graph=True)
    arrays = weakref.ref(gradient.data)
    functions = weakref.ref(gradient.creator)
    del gradient
    assert arrays() is None
    assert functions() is None


@pytest.mark.usefixtures("no_garbage_collector")
def test_training_does_not_grow_memory():
    rng = np.random.default_rng(0)
    parameters = [leaf(rng.standard_normal(shape), np.float32) for shape in [(16, 8), (16,), (1, 16), (1,)]]
    inputs, targets = rng.standard_normal((32, 8)).astype(np.float32), rng.standard_normal((32, 1)).astype(np.float32)

    def step():
        w1, b1, w2, b2 = parameters
        error = tn.linear(tn.tanh(tn.linear(inputs, w1, b1)), w2, b2) - targets
        (error * error).mean().backward()
        for p in parameters:
            p.data -= 0.01 * p.grad
            p.grad = None

    tracemalloc.start()
    try:
        for _ in range(50):
            step()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(200):
            step()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (
        after - before < 200 * 150
    )  # less than the smallest array a step; CPython itself keeps freed tuples for reuse
    assert gc.collect() == 0  # and there were no cycles


def hooked(y, mask):
    y.register_hook(lambda g: g * mask)
    y.sum().backward()


def refused(y, mask):
    with contextlib.suppress(ValueError):
        y @ mask


WAYS_TO_HOLD = {"a hook": hooked, "an error": refused, "a drawing": lambda y, mask: tn.draw((y * mask).sum())}


@pytest.mark.parametrize("use", WAYS_TO_HOLD.values(), ids=WAYS_TO_HOLD)
def test_a_graph_is_freed_without_the_garbage_collector_whatever_was_done_with_it(no_garbage_collector, use):
    mask = np.ones((3, 4))
    held = weakref.ref(mask)
    use(leaf(np.ones((3, 4))) * 2, mask)
    del mask
    assert held() is None


def test_a_hook_that_is_removed_twice_is_gone_and_others_stay():
    x = leaf([1.0])
    handles = [x.register_hook(lambda g: g * 2), x.register_hook(lambda g: g * 3)]
    handles[0].remove()
    handles[0].remove()
    (x * 1.0).backward()
    np.testing.assert_array_equal(x.grad, [3])


# --- whose memory a gradient is ---------------------------------------------------------------------------------------


def test_gradient_of_a_number_is_an_array_however_it_came_about():
    for f in (lambda x: x * 2.0, lambda x: x * x, lambda x: x + x + x, lambda x: tn.stack([x, x]).sum()):
        x = leaf(3.0)
        f(x).backward()
        assert type(x.grad) is np.ndarray
        assert x.grad.flags.writeable


def test_gradients_are_c_contiguous_also_where_the_data_is_not():
    for f in (tn.exp, lambda x: x * x, lambda x: x + x):
        x = Variable(np.asfortranarray(np.ones((3, 4))), requires_grad=True)
        f(x).backward(np.asfortranarray(np.ones((3, 4))))
        assert x.grad.flags.c_contiguous


def test_a_function_that_returns_what_it_was_given_shares_no_memory():
    a, b, seed = leaf([1.0]), leaf([2.0]), np.array([5.0])
    first, _ = Swapped()(a, b)
    first.backward(seed, retain_graph=True)
    first.backward(seed)
    np.testing.assert_array_equal(seed, [5])
    np.testing.assert_array_equal(b.grad, [10])
    assert not np.shares_memory(b.grad, seed)


def test_a_function_that_returns_an_array_and_a_view_of_it_shares_no_memory():
    class Halves(Function):
        def forward(self, whole, part):
            return whole.sum() + part.sum()

        def backward(self, gy):
            gradient = np.full(4, float(gy))
            return gradient, gradient[:2]

    whole, part = leaf([1.0, 2.0, 3.0, 4.0]), leaf([5.0, 6.0])
    waiting = part * 1.0  # older than the sum: it gets its turn after the sum has added to the gradient of `whole`
    (whole.sum() + Halves()(whole, waiting)).backward()
    np.testing.assert_array_equal(whole.grad, [2, 2, 2, 2])
    np.testing.assert_array_equal(part.grad, [1, 1])


def test_a_function_that_returns_a_saved_array_keeps_it():
    class Scale(Function):
        def forward(self, x):
            self.saved = np.full(x.shape, 3.0)
            return x * self.saved

        def backward(self, gy):
            return self.saved

    x = leaf([1.0, 2.0])
    y = Scale()(x)
    y.backward(np.ones(2), retain_graph=True)
    assert not np.shares_memory(x.grad, y.creator.saved)
    y.backward(np.ones(2))
    np.testing.assert_array_equal(x.grad, [6, 6])


def test_a_function_that_returns_an_array_that_it_was_made_with_keeps_it():
    class Scale(Function):
        def __init__(self, factors):
            self.factors = factors

        def forward(self, x):
            return x * self.factors

        def backward(self, gy):
            return self.factors

    factors, x = np.full(5000, 3.0), leaf(np.ones(5000))  # of a size at which gradients are not just copied
    z, y = x * 2.0, Scale(factors)(x)  # the younger one gives its gradient first
    (y + z).backward(np.ones(5000))
    np.testing.assert_array_equal(x.grad, 5)
    x.grad += 1
    np.testing.assert_array_equal(factors, 3)


# --- seeds ------------------------------------------------------------------------------------------------------------


def test_backward_from_many_elements_says_what_to_do():
    with pytest.raises(RuntimeError, match=r"shape \(2, 3\).*\.sum\(\) or \.mean\(\)"):
        (leaf(np.ones((2, 3))) * 2.0).backward()


def test_a_seed_of_the_wrong_shape_is_refused():
    y = leaf(np.ones((2, 3))) * 2.0
    with pytest.raises(ValueError, match=r"gradient has shape \(3, 2\), the Variable \(2, 3\)"):
        y.backward(np.ones((3, 2)))


def test_a_seed_of_another_dtype_is_converted():
    x = leaf([1.0, 2.0], np.float32)
    (x * x).backward(np.array([1, 2]))
    assert x.grad.dtype == np.float32
    np.testing.assert_array_equal(x.grad, [2, 8])


# --- saved arrays that were changed -----------------------------------------------------------------------------------


def change_through_data(x):
    x.data -= 1


def change_through_detach(x):
    alias = x.detach()
    alias.data *= 2


def change_through_a_view(x):
    view = Variable(x.data.reshape(2, 1)[::-1])
    view.data += 1


def change_as_an_optimizer_does(x):
    gradient = np.ones(2)
    x.data -= 0.1 * gradient


def change_through_a_strided_view(x):
    view = Variable(np.lib.stride_tricks.as_strided(x.data, (2, 2), (0, x.data.strides[0]))[0])
    view.data += 1


def change_through_a_buffer(x):
    view = Variable(np.frombuffer(memoryview(x.data), x.dtype)[:1])
    view.data += 1


CHANGES = [
    change_through_data, change_through_detach, change_through_a_view, change_as_an_optimizer_does,
    change_through_a_strided_view, change_through_a_buffer,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_saved_array_that_was_changed_is_an_error_and_leaves_no_gradient(change):
    x = leaf([1.0, 2.0])
    y = (x * x).sum()
    change(x)
    with pytest.raises(RuntimeError, match=r"mul \(.*test_engine.py:\d+\).* changed in place since"):
        y.backward()
    assert x.grad is None


@pytest.mark.parametrize(
    "use",
    [
        lambda x, ids: x[ids],
        lambda x, ids: x[:, ids],
        lambda x, ids: tn.take(x, ids, axis=0),
        lambda x, ids: tn.embedding(ids, x),
        lambda x, ids: tn.index_add(x, ids, x[:2]),
        lambda x, ids: tn.where(ids.data[:, None].view(bool)[:, :1], x[:2], 0.0),
    ],
    ids=["rows", "columns", "take", "embedding", "index_add", "where"],
)
def test_ids_and_masks_that_were_changed_are_an_error_too(use):
    x, ids = Variable(np.ones((3, 3)), requires_grad=True), Variable(np.array([0, 1]))
    y = use(x, ids).sum()
    ids.data += 1
    with pytest.raises(RuntimeError, match="was changed in place since"):
        y.backward()
    assert x.grad is None


def test_a_sliding_window_belongs_to_the_array_behind_it():
    x = leaf(np.arange(5.0))
    windows = Variable(np.lib.stride_tricks.sliding_window_view(x.data, 3))
    y = (windows * leaf(np.ones(3))).sum()
    x.data += 1
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()


def test_an_input_that_no_wanted_gradient_needs_may_be_changed():
    class Product(Function):
        saves_inputs = True
        needs = ((1,), (0,))

        def forward(self, a, b):
            return a * b

        def backward(self, gy):
            a, b = self.inputs
            return gy * b, gy * a

    constant, w = np.array([2.0, 3.0]), leaf([1.0, 1.0])
    y = Product()(constant, w).sum()
    w.data -= 1
    y.backward()
    np.testing.assert_array_equal(w.grad, constant)
    for changed in range(2):
        pair = [leaf([1.0]), leaf([2.0])]
        y = Product()(*pair)
        pair[changed].data -= 1
        with pytest.raises(RuntimeError, match="changed in place"):
            y.backward()


def test_a_saved_output_that_was_changed_is_an_error():
    x = leaf([1.0, 2.0])
    y = tn.exp(x)
    y.data += 1
    with pytest.raises(RuntimeError, match=r"exp .*changed in place"):
        y.sum().backward()


def test_an_array_that_was_changed_but_not_saved_is_no_error():
    x = leaf([1.0, 2.0])
    y, z = x + 1.0, tn.exp(x)  # exp saves its output
    x.data -= 1
    (y * 1.0 + z).sum().backward()
    np.testing.assert_allclose(x.grad, 1 + np.exp([1, 2]))


def test_a_change_before_the_operation_is_no_error():
    x, other = leaf([1.0, 2.0]), leaf([1.0])
    x.data -= 1
    y = (x * x).sum()
    other.data -= 1
    y.backward()
    np.testing.assert_array_equal(x.grad, [0, 2])


def test_a_new_array_in_place_of_the_old_is_no_error():
    x = leaf([1.0, 2.0])
    y = (x * x).sum()
    x.data = x.data - 1
    y.backward()
    np.testing.assert_array_equal(x.grad, [2, 4])  # of the values that were used


def test_data_must_be_an_array():
    x = leaf([1.0])
    with pytest.raises(TypeError, match=r"Variable.data must be an array, not list"):
        x.data = [1.0]


# --- row-sparse gradients ---------------------------------------------------------------------------------------------


def test_two_look_ups_stay_row_sparse_and_add_up():
    table = leaf(np.ones((6, 2)), np.float32)
    (tn.embedding([1, 1], table).sum() + (tn.embedding([[1], [4]], table) * 3.0).sum()).backward()
    assert isinstance(table.grad, RowSparse)
    assert table.grad.dtype == np.float32
    assert table.grad.shape == (6, 2)
    np.testing.assert_array_equal(np.asarray(table.grad)[:, 0], [0, 5, 0, 0, 3, 0])


def test_coalesced_rows_are_distinct_and_sorted():
    rows = RowSparse(np.array([4, 1, 4]), np.array([[1.0], [2.0], [3.0]]), (6, 1))
    compact = rows.coalesce()
    np.testing.assert_array_equal(compact.rows, [1, 4])
    np.testing.assert_array_equal(compact.values, [[2], [4]])
    np.testing.assert_array_equal(compact.to_dense(), rows.to_dense())


@pytest.mark.parametrize("look_up_first", [True, False])
def test_a_table_that_is_also_used_as_a_matrix_gets_one_dense_gradient(look_up_first):
    table = leaf(np.arange(6.0).reshape(3, 2))
    picked, whole = tn.embedding([2, 2], table).sum(), (table * table).sum()
    (picked + whole if look_up_first else whole + picked).backward()
    assert type(table.grad) is np.ndarray
    np.testing.assert_array_equal(table.grad, 2 * table.data + [[0, 0], [0, 0], [2, 2]])


@pytest.mark.parametrize("held", [False, True])
def test_rows_are_added_in_place_only_where_nobody_else_holds_the_dense_gradient(held):
    made = []

    class Rows(Function):
        def forward(self, table):
            return table.sum(axis=1)

        def backward(self, gy):
            made.append(gy[:, None] * np.ones(2))
            return made[0].view() if held else made[0]

    Rows._of_library = True  # a user's may hold it anyhow
    table = leaf(np.ones((3000, 2)))
    picked = tn.embedding([2, 7, 2], table)  # older than the rows: its gradient comes second
    (Rows()(table).sum() + picked.sum()).backward()
    expected = np.ones((3000, 2))
    expected[[2, 7]] += [[2], [1]]
    np.testing.assert_array_equal(table.grad, expected)
    assert np.shares_memory(table.grad, made[0]) != held
    assert (made[0] == 1).all() == held


@pytest.mark.parametrize("look_up_first", [True, False])
def test_row_sparse_and_dense_gradients_accumulate(look_up_first):
    table = leaf(np.ones((3, 2)))
    parts = [lambda: tn.embedding([2, 2], table).sum().backward(), lambda: (table * 3.0).sum().backward()]
    for part in parts if look_up_first else parts[::-1]:
        part()
    np.testing.assert_array_equal(table.grad[:, 0], [3, 3, 5])


def test_a_row_sparse_gradient_is_scaled_and_says_where_the_whole_array_is():
    gradient = RowSparse(np.array([1, 1]), np.ones((2, 2)), (3, 2))
    for scaled in (gradient * 3, np.float64(3) * gradient, gradient / (1 / 3)):
        assert isinstance(scaled, RowSparse)
        np.testing.assert_allclose(scaled.to_dense(), [[0, 0], [6, 6], [0, 0]])
    with pytest.raises(TypeError):
        gradient * np.ones(2)
    with pytest.raises(AttributeError, match=r"^RowSparse has no 'max'; its to_dense\(\) is the whole array"):
        gradient.max()
    table = leaf(np.ones((3, 2)))
    table.register_hook(lambda g: g * 0.5)
    tn.embedding([2, 2], table).sum().backward()
    np.testing.assert_array_equal(table.grad.to_dense()[:, 0], [0, 0, 1])


def test_row_sparse_gradients_accumulate():
    table = leaf(np.ones((3, 2)))
    for _ in range(2):
        tn.embedding([2, 0, 2], table).sum().backward()
    assert isinstance(table.grad, RowSparse)
    np.testing.assert_array_equal(table.grad.to_dense()[:, 0], [2, 0, 4])


def test_adding_a_row_sparse_gradient_does_not_write_to_the_dense_one():
    dense = np.ones((3, 2))
    total = dense + RowSparse(np.array([1]), np.ones((1, 2)), (3, 2))
    np.testing.assert_array_equal(total[:, 0], [1, 2, 1])
    np.testing.assert_array_equal(dense, 1)


# --- hooks, retained gradients, cuts ----------------------------------------------------------------------------------


def test_retain_grad_leaves_the_gradient_of_an_interior_variable():
    x = leaf([1.0, 2.0])
    h = x * 3.0
    y = (h * h).sum() + h.sum()  # recorded before: the gradient is whole all the same
    h.retain_grad()
    h.retain_grad()
    y.backward(retain_graph=True)
    np.testing.assert_array_equal(h.grad, 2 * h.data + 1)
    y.backward()
    np.testing.assert_array_equal(h.grad, 2 * (2 * h.data + 1))
    assert h.grad.flags.writeable
    np.testing.assert_array_equal(x.grad, 6 * (2 * h.data + 1))


def test_retain_grad_of_one_output_of_several_and_of_a_leaf():
    a, b = leaf([1.0]), leaf([2.0])
    first, second = Swapped()(a, b)
    second.retain_grad()
    a.retain_grad()
    (first * second * second).backward()
    np.testing.assert_array_equal([second.grad, a.grad, b.grad], [[4], [4], [1]])
    assert first.grad is None


def test_retain_grad_keeps_nothing_alive_and_grad_leaves_it_alone():
    x = leaf([1.0])
    h = x * 2.0
    h.retain_grad()
    y = h * h
    tn.grad(y, x, retain_graph=True)
    assert h.grad is None
    gone = weakref.ref(h)
    del h
    assert gone() is None
    y.backward()
    np.testing.assert_array_equal(x.grad, [8])


def test_retain_grad_under_create_graph_is_a_variable():
    x = leaf([1.0])
    h = x * 2.0
    h.retain_grad()
    (h**3).backward(create_graph=True)
    np.testing.assert_array_equal(tn.grad(h.grad, x)[0], [24])


@pytest.mark.parametrize("where", ["leaf", "interior", "output"])
def test_a_hook_sees_the_whole_gradient_and_may_replace_it(where):
    x = leaf([1.0, 2.0])
    h = x * 1.0 if where == "interior" else Swapped()(x, x)[1] if where == "output" else x
    seen = []

    def hook(gradient):
        seen.append(gradient)
        return gradient * 10

    y = (h * 2.0).sum() + h.sum()
    h.register_hook(hook)
    y.backward()
    np.testing.assert_array_equal(seen, [[3, 3]])
    np.testing.assert_array_equal(x.grad, [30, 30])


def test_hooks_run_in_their_order_until_they_are_removed():
    x = leaf(1.0)
    calls = []
    handles = [x.register_hook(lambda g, i=i: calls.append(i) or g * (i + 2)) for i in range(2)]
    (x * 1.0).backward()
    assert float(x.grad) == 6
    handles[0].remove()
    handles[0].remove()
    (x * 1.0).backward()
    assert float(x.grad) == 9
    handles[1].remove()
    (x * 1.0).backward()
    assert float(x.grad) == 10
    assert calls == [0, 1, 1]


def test_hooks_run_under_grad_and_create_graph_where_the_walk_goes():
    x, other = leaf([2.0]), leaf([1.0])
    h = x * x
    h.register_hook(lambda g: g * 3.0)
    other.register_hook(lambda g: pytest.fail("nobody asked for this gradient"))
    y = h * other
    np.testing.assert_array_equal(tn.grad(y, h, retain_graph=True)[0], [3])
    (gradient,) = tn.grad(y, x, create_graph=True)
    assert gradient.item() == 12
    np.testing.assert_array_equal(tn.grad(gradient, x)[0], [6])


def test_a_retained_gradient_is_what_the_hooks_left():
    x = leaf([2.0])
    h = x * 1.0
    h.retain_grad()
    h.register_hook(lambda g: g * 3.0)
    h.backward()
    np.testing.assert_array_equal([h.grad, x.grad], [[3], [3]])


def test_what_a_hook_keeps_is_not_changed_later():
    x = leaf(np.ones(5000))
    kept = []
    x.register_hook(lambda g: kept.append(g))
    for _ in range(2):
        (x * 2.0).backward(np.ones(5000))
    assert float(kept[0][0]) == 2
    assert float(x.grad[0]) == 4


def test_a_hook_survives_a_new_array_of_another_shape():
    x = leaf([1.0])
    x.register_hook(lambda g: g * 5.0)
    x.data = np.ones((2, 2))
    (x * 1.0).sum().backward()
    np.testing.assert_array_equal(x.grad, np.full((2, 2), 5))


def test_an_error_in_a_hook_names_the_operation_and_its_line():
    def broken(gradient):
        raise ZeroDivisionError

    x = Variable(np.ones(2), requires_grad=True, name="w")
    for make, where in (
        (lambda: x, "leaf w$"),
        (lambda: tn.exp(x), r"result of exp \(.*test_engine\.py:\d+\)$"),
        (lambda: tn.unstack(x)[0], r"result of unstack \(.*test_engine\.py:\d+\)$"),
    ):
        y = make()
        y.register_hook(broken)
        with pytest.raises(ZeroDivisionError) as caught:
            (y * 2.0).sum().backward()
        assert re.match(f"in a hook of the {where}", caught.value.__notes__[0])


def test_hooks_that_cannot_be_are_refused():
    with pytest.raises(RuntimeError, match="register_hook: this Variable does not require a gradient"):
        Variable(np.ones(1)).register_hook(print)
    with pytest.raises(RuntimeError, match="retain_grad: this Variable does not require a gradient"):
        Variable(np.ones(1)).retain_grad()
    for wrong, error, message in [
        (lambda g: 1.0, TypeError, "must return an array or None, not float"),
        (lambda g: g[:1], ValueError, r"gradient of shape \(1,\) for a Variable of \(2,\)"),
    ]:
        x = leaf([1.0, 2.0])
        x.register_hook(wrong)
        with pytest.raises(error, match=message):
            (x * 2.0).sum().backward()


@pytest.mark.parametrize("create_graph", [False, True])
def test_unchain_cuts_a_variable_from_its_creator_in_what_stands_already(create_graph):
    x, w = leaf([2.0]), leaf([5.0])
    h = Silu()(x) * 1.0
    y = h * w * x
    h.unchain()
    assert h.is_leaf
    assert not h.requires_grad
    y.backward(create_graph=create_graph)
    np.testing.assert_allclose(getattr(x.grad, "data", x.grad), h.data * 5, rtol=1e-12)
    np.testing.assert_array_equal(getattr(w.grad, "data", w.grad), h.data * 2)


def test_unchain_of_one_output_leaves_the_others():
    a, b = leaf([1.0]), leaf([2.0])
    first, second = Swapped()(a, b)
    y = first * 3.0 + second * 5.0
    first.unchain()
    y.backward()
    np.testing.assert_array_equal([a.grad, b.grad], [[5], [0]])
    a.unchain()  # a leaf has no creator
    assert a.requires_grad


@pytest.mark.usefixtures("no_garbage_collector")
def test_unchain_backward_frees_what_is_behind_and_stops_gradients_there():
    x, w = leaf([2.0]), leaf([5.0])
    h = x * x
    first, second = Swapped()(h, h)
    loss = (first * second).sum()
    functions = [weakref.ref(v.creator) for v in (first, loss)]
    loss.unchain_backward()
    assert loss.is_leaf
    del first, second
    assert all(ref() is None for ref in functions)
    (h * w).backward()  # h was on the way
    np.testing.assert_array_equal(w.grad, h.data)
    assert x.grad is None
    assert tn.grad(h * w, [w, x], allow_unused=True)[1] is None


def test_truncated_back_propagation_through_time_by_unchain_backward():
    w = leaf([0.5])
    h, expected = Variable(np.ones(1)), Variable(np.ones(1))
    for _ in range(3):
        h = tn.tanh(w * h)
        h.backward()
        h.unchain_backward()
        expected = tn.tanh(w * expected.detach())
        (gradient,) = tn.grad(expected, w)
        np.testing.assert_array_equal(w.grad, gradient)
        w.grad = None


def test_a_graph_that_was_cut_is_drawn_up_to_the_cut():
    x = leaf([1.0])
    first, second = Swapped()(tn.exp(x), x)
    y = tn.tanh(first) + second
    first.unchain()
    assert "tanh" in tn.draw(y).dot.source
    h = tn.exp(x)
    y = tn.tanh(h)
    h.unchain()
    assert "tanh" in tn.draw(y).dot.source


def test_a_long_chain_can_be_unchained():
    y = leaf([1.0])
    for _ in range(20_000):
        y = -y
    y.unchain_backward()
    assert y.is_leaf


# --- modes ------------------------------------------------------------------------------------------------------------


def test_inference_mode_is_no_grad():
    x = leaf([1.0])
    with tn.inference_mode():
        y = x * 2.0
    assert y.is_leaf
    (y * x).backward()
    np.testing.assert_array_equal(x.grad, [2])


def test_no_grad_and_enable_grad_nest():
    x = leaf([1.0])
    recorded = [(x * 2.0).requires_grad]
    with tn.no_grad():
        recorded.append((x * 2.0).requires_grad)
        with tn.enable_grad():
            recorded.append((x * 2.0).requires_grad)
        recorded.append((x * 2.0).requires_grad)
    recorded.append((x * 2.0).requires_grad)
    assert recorded == [True, False, True, False, True]


def test_no_grad_ends_also_with_an_exception():
    with pytest.raises(KeyError), tn.no_grad():
        raise KeyError
    assert (leaf([1.0]) * 2.0).requires_grad


def test_no_grad_keeps_no_array_alive():
    x = leaf([1.0])
    with tn.no_grad():
        hidden = tn.exp(x)
        saved = weakref.ref(hidden.data)
        y = hidden * 2.0
    del hidden
    assert saved() is None
    assert y.is_leaf


def test_each_thread_has_its_own_modes():
    x = leaf([1.0])
    recorded = []
    with tn.no_grad(), tn.scope("here"):
        thread = threading.Thread(target=lambda: recorded.append(x * 2.0))
        thread.start()
        thread.join()
    assert recorded[0].requires_grad
    assert "here" not in recorded[0].creator.describe()


def test_two_threads_differentiate_two_graphs_at_once():
    start, wrong = threading.Barrier(2), []

    def work(factor):
        start.wait()
        for _ in range(100):
            x = leaf([1.0, 2.0])
            y = x
            for _ in range(20):
                y = tn.tanh(y) * factor + x
            (gradient,) = tn.grad(y.sum(), x, retain_graph=True)
            y.sum().backward()
            wrong.append(not np.array_equal(gradient, x.grad) or not np.array_equal(gradient, expected[factor]))

    def gradient_alone(factor):
        x = leaf([1.0, 2.0])
        y = x
        for _ in range(20):
            y = tn.tanh(y) * factor + x
        return tn.grad(y.sum(), x)[0]

    expected = {factor: gradient_alone(factor) for factor in (0.5, 2.0)}
    threads = [threading.Thread(target=work, args=(factor,)) for factor in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 200
    assert not any(wrong)


# --- messages ---------------------------------------------------------------------------------------------------------


def test_shapes_that_do_not_fit_name_operation_layers_and_shapes():
    a, b = leaf(np.ones((2, 3)), np.float32), np.ones((4, 5))
    with (
        tn.scope("encoder"),
        tn.scope(3),
        pytest.raises(ValueError, match=r"^matmul in encoder\.t=3\(float32 \(2, 3\), float64 \(4, 5\)\): "),
    ):
        a @ b


def test_an_axis_that_is_not_there_names_the_operation():
    with tn.scope("decoder"), pytest.raises(np.exceptions.AxisError) as caught:
        leaf(np.ones((2, 3))).sum(axis=5)
    assert caught.value.__notes__ == ["in sum in decoder(float64 (2, 3))"]


def test_a_backward_without_saved_inputs_is_told_how_to_have_them():
    class Square(Function):
        def forward(self, x):
            return x * x

        def backward(self, gy):
            (x,) = self.inputs
            return 2 * x * gy

    y = Square()(leaf([1.0]))
    with pytest.raises(TypeError) as caught:
        y.backward()
    assert caught.value.__notes__[-1] == "where backward needs self.inputs, the class says saves_inputs = True"


def test_an_error_in_a_backward_carries_the_line_of_the_forward():
    x = leaf([1.0])
    with tn.scope("encoder"):
        line = inspect.currentframe().f_lineno + 1
        y = Explosive()(x)
    with pytest.raises(ArithmeticError, match="boom") as caught:
        y.backward()
    assert caught.value.__notes__ == [f"in the backward of explosive in encoder ({__file__}:{line})"]


def test_an_operation_of_the_library_knows_the_line_of_the_user():
    x = leaf([1.0])
    for f in (lambda: tn.tanh(x), lambda: x + 1.0, lambda: x.expand_dims(0), lambda: x.squeeze(), lambda: x.T):
        assert f().creator.line() == f"{__file__}:{f.__code__.co_firstlineno}"


class Returns(Function):
    """A backward that returns what it is told to."""

    def __init__(self, *gradients):
        self.gradients = gradients

    def forward(self, a, b):
        return a + b

    def backward(self, gy):
        return self.gradients


def test_a_backward_that_returns_too_few_gradients_is_named():
    y = Returns(np.ones(2))(leaf([1.0, 2.0]), leaf([1.0, 2.0]))
    with pytest.raises(RuntimeError, match=r"^returns \(.*test_engine.py:\d+\): .*returned 1 gradients for 2 inputs"):
        y.sum().backward()


@pytest.mark.parametrize("shape", [(3,), (), (2, 3)])
def test_a_backward_that_returns_a_gradient_of_the_wrong_shape_is_named(shape):
    y = Returns(np.ones(2), np.ones(shape))(leaf([1.0, 2.0]), leaf([1.0, 2.0]))
    with pytest.raises(RuntimeError, match=r"^returns .*gradient of shape \(.*\) for input 1, whose shape is \(2,\)"):
        y.sum().backward()


@pytest.mark.parametrize("returned", [1.0, [np.ones(2)], [np.ones(2), np.ones(2)], (np.ones(2), 2.0)])
def test_a_backward_that_returns_a_number_or_a_list_is_named(returned):
    class Odd(Function):
        def forward(self, a, b):
            return a + b

        def backward(self, gy):
            return returned

    y = Odd()(leaf([1.0, 2.0]), leaf([1.0, 2.0]))
    with pytest.raises(TypeError, match=r"^odd \(.*test_engine.py:\d+\): backward returned a (float|list); it must"):
        y.sum().backward()


@pytest.mark.parametrize("run_backward", [False, True])
def test_a_function_that_is_applied_twice_is_refused(run_backward):
    x, f = leaf([1.0]), Cube()
    with tn.no_grad():
        f(x)
    f(np.ones(1))  # neither is recorded
    with tn.scope("first"):
        y = f(x)
    if run_backward:
        y.backward()
    with pytest.raises(RuntimeError, match=r"Cube: .*as cube in first \(.*test_engine.py:\d+\).*make a new one"):
        f(x)


def test_a_function_without_backward_says_so():
    class OneWay(Function):
        def forward(self, x):
            return x * 1.0

    with pytest.raises(NotImplementedError, match="OneWay has no backward"):
        OneWay()(leaf([1.0])).backward()


# --- Variables --------------------------------------------------------------------------------------------------------


def test_items_cannot_be_assigned():
    with pytest.raises(TypeError, match="does not support item assignment"):
        leaf([1.0])[0] = 2.0


def test_functions_of_numpy_refuse_a_variable():
    with pytest.raises(TypeError):
        np.tanh(leaf([1.0]))


@pytest.mark.parametrize(
    ("of_numpy", "ours"),
    [
        (lambda v: np.sum(v), "numpy.sum .* use tinygrad_nlp.sum,"),
        (lambda v: np.mean(v, axis=0), "numpy.mean .* use tinygrad_nlp.mean,"),
        (lambda v: np.max(v), "numpy.max .* use tinygrad_nlp.max,"),
        (lambda v: np.amax(v), "numpy.amax .* use tinygrad_nlp.max,"),
        (lambda v: np.ravel(v), "numpy.ravel .* use tinygrad_nlp.flatten,"),
        (lambda v: np.reshape(v, (2, 1)), "numpy.reshape .* use tinygrad_nlp.reshape,"),
        (lambda v: np.transpose(v), "numpy.transpose .* use tinygrad_nlp.transpose,"),
        (lambda v: np.concatenate([np.ones(2), v]), "numpy.concatenate .* use tinygrad_nlp.concatenate,"),
        (lambda v: np.where([True, False], 0.0, v), "numpy.where .* use tinygrad_nlp.where,"),
        (lambda v: np.linalg.norm(v), "numpy.linalg.norm .* use tinygrad_nlp.norm,"),
    ],
)
@pytest.mark.parametrize("requires_grad", [True, False])
def test_a_function_of_numpy_that_is_here_too_names_ours(of_numpy, ours, requires_grad):
    with pytest.raises(TypeError, match=ours):
        of_numpy(Variable([1.0, 2.0], requires_grad=requires_grad))


def test_what_only_numpy_has_takes_a_variable_without_gradient():
    x, w = Variable([1.0, 2.0]), leaf([1.0, 2.0])
    assert np.allclose(x, [1, 2])
    assert np.median(x) == 1.5
    assert type(np.vstack([x, x])) is np.ndarray
    assert np.shape(w) == (2,)
    for function in (np.median, np.zeros_like, lambda v: np.vstack([v, v])):
        with pytest.raises(TypeError, match=r"would lose it silently; use x.data or x.detach\(\)"):
            function(w)


def test_numpy_gets_the_array_only_of_a_variable_without_gradient():
    with pytest.raises(TypeError, match=r"would lose it silently; use x.data or x.detach\(\)"):
        np.asarray(leaf([1.0]))
    np.testing.assert_array_equal(np.asarray(Variable(np.ones(2))), [1, 1])


def test_numbers_and_lists_become_float32_and_arrays_stay_what_they_are():
    assert Variable([1.0, 2.0]).dtype == np.float32
    assert Variable(1.0).dtype == np.float32
    assert Variable(np.float64(1.0)).dtype == np.float64
    assert Variable([1, 2]).dtype.kind == "i"
    array = np.ones(2)
    assert Variable(array).data is array


@pytest.mark.parametrize("data", [[1, 2], np.array([True])], ids=["integers", "booleans"])
def test_only_floats_can_require_a_gradient(data):
    with pytest.raises(TypeError, match="gradients need a floating dtype"):
        Variable(data, requires_grad=True)


def test_a_variable_of_a_variable_is_refused():
    with pytest.raises(TypeError, match=r"use x.detach\(\)"):
        Variable(leaf([1.0]))


def test_ragged_lists_and_objects_are_refused():
    with pytest.raises(TypeError, match="regular nested list"):
        Variable(object())


def test_a_matrix_of_numpy_becomes_an_array_of_the_same_memory():
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.matrix([[1.0, 2.0], [3.0, 4.0]])
    x = Variable(matrix)
    assert type(x.data) is np.ndarray
    assert np.shares_memory(x.data, matrix)
    np.testing.assert_array_equal((x * x).data, [[1, 4], [9, 16]])


def test_requires_grad_can_be_set_on_leaves_only():
    x = Variable(np.ones(1))
    x.requires_grad = True
    y = x * 2.0
    assert y.requires_grad
    assert not y.is_leaf
    with pytest.raises(RuntimeError, match="on leaves only"):
        y.requires_grad = False
    x.requires_grad = False
    assert not (x * 2.0).requires_grad


def test_detach_shares_the_array_and_stops_the_gradient():
    x = leaf([1.0, 2.0])
    h = x * 3.0
    assert h.detach().data is h.data
    (h * h.detach()).sum().backward()
    np.testing.assert_array_equal(x.grad, 3 * h.data)


@pytest.mark.parametrize("carry", [copy.deepcopy, copy.copy, lambda v: pickle.loads(pickle.dumps(v))],
                         ids=["deepcopy", "copy", "pickle"])  # fmt: skip
@pytest.mark.parametrize("shape", [(), (2,)])
def test_copies_carry_the_data_and_not_the_graph(carry, shape):
    x = Variable(np.full(shape, 2.0), requires_grad=True, name="x")
    x.grad = np.ones(shape)
    twin = carry(x)
    assert (twin.name, twin.requires_grad, twin.grad, twin.dtype) == ("x", True, None, np.float64)
    np.testing.assert_array_equal(twin.data, x.data, strict=True)
    result = carry(tn.exp(x))
    assert result.is_leaf
    (twin * 3.0).sum().backward()
    np.testing.assert_array_equal(x.grad, 1)


def test_a_number_is_formatted_as_python_does_it():
    loss = Variable(np.float32(1.5), requires_grad=True) * 2
    assert f"{loss:.2f}|{loss:8.1e}" == "3.00| 3.0e+00"
    assert f"{loss}" == str(loss) == repr(loss)
    assert f"{Variable([1.0]):>16}" == "  Variable([1.])"


def test_lists_of_numbers_come_out_as_they_went_in():
    assert Variable([[1.0, 2.5], [3.0, 4.0]]).tolist() == [[1.0, 2.5], [3.0, 4.0]]
    assert Variable(2).tolist() == 2


def test_a_variable_is_a_key_whatever_its_values():
    a, b = leaf([1.0]), leaf([1.0])
    assert len({a, b, a}) == 2


def test_repr_shows_values_dtype_and_origin():
    x = leaf([1.0, 2.0], np.float32)
    assert repr(x) == "Variable([1., 2.], requires_grad=True)"
    assert repr(leaf([1.0]) + 1.0) == "Variable([2.], dtype=float64, creator=add)"


def test_a_change_after_forward_is_found_before_anything_is_freed():
    x = leaf([1.0, 2.0])
    h = x * x
    z = (h * 2.0).sum()
    x.data -= 1.0
    for _ in range(2):
        with pytest.raises(RuntimeError, match="changed in place"):
            z.backward()
    assert x.grad is None


def test_an_array_that_no_wanted_gradient_needs_may_change():
    x, w = np.ones((2, 3)), leaf(np.ones((4, 3)))
    y = ops.linear(x, w).sum()
    w.data -= 1.0
    y.backward()
    np.testing.assert_array_equal(w.grad, np.full((4, 3), 2.0))


def test_integers_have_no_graph():
    assert not leaf([1.0, 2.0]).astype(int).requires_grad


def test_moving_to_the_device_where_it_lies_is_nothing():
    x = leaf([1.0])
    assert x.to("cpu") is x


@pytest.mark.parametrize("data", ["abc", [[1.0], [1.0, 2.0]], [None], np.array([None]), np.array(["2020"], "M8[Y]")])
def test_what_makes_no_array_of_numbers_is_refused(data):
    with pytest.raises(TypeError, match=r"^Variable: "):
        Variable(data)


@pytest.mark.parametrize(
    "cut", [lambda x: tn.split(x, 2, axis=3), lambda x: tn.unstack(x, 3), lambda x: tn.squeeze(x, 3)]
)
def test_an_axis_that_is_not_there_is_named_with_the_operation(cut):
    with pytest.raises(ValueError, match=r"^(split|unstack|squeeze): shape \(2, 3\) has no axis 3"):
        cut(leaf(np.ones((2, 3))))
