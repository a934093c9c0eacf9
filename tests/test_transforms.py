"""Derivatives of functions: against formulas, each other, differences and PyTorch; and recomputation."""

import functools
import gc
import math
import tracemalloc
import weakref

import numpy as np
import pytest

import tinygrad_nlp as tn
from tinygrad_nlp import Variable
from tinygrad_nlp.autograd import ops
from tinygrad_nlp.nn import functional as F

A = np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 0.25]])
X = np.array([0.3, -0.7])
Y = np.array([1.5, 0.2, -0.4])


def leaf(data):
    return Variable(np.array(data, np.float64), requires_grad=True)


def curve(x):
    """From 2 to 3 elements; nothing about it is linear."""
    return tn.tanh(A @ x) * tn.exp(x.sum())


def curve_jacobian(x):
    t, e = np.tanh(A @ x), np.exp(x.sum())
    return (1 - t * t)[:, None] * A * e + (t * e)[:, None]


def bilinear(x, y):
    return tn.tanh(curve(x) @ y) + (x * x).sum() * y[0]


def differences(f, x, step=1e-6):
    """The derivatives of an array function, one element of x at a time."""
    columns = []
    for i in range(x.size):
        u = np.zeros(x.size)
        u[i] = step
        u = u.reshape(x.shape)
        columns.append((f(x + u) - f(x - u)) / (2 * step))
    return np.stack(columns, axis=-1).reshape(*columns[0].shape, *x.shape)


# --- each transform ---------------------------------------------------------------------------------------------------


def test_value_and_grad_of_one_argument_and_of_several():
    value, gradient = tn.value_and_grad(bilinear)(X, Y)
    both = tn.value_and_grad(bilinear, (0, -1))(X, Y)[1]
    assert type(value) is type(gradient) is np.ndarray
    np.testing.assert_allclose(gradient, differences(lambda x: bilinear(Variable(x), Y).data, X), rtol=1e-8)
    np.testing.assert_array_equal(both[0], gradient)
    np.testing.assert_allclose(both[1], differences(lambda y: bilinear(X, Variable(y)).data, Y), rtol=1e-8)


def test_value_and_grad_passes_other_arguments_as_they_are():
    def f(w, words, *, scale):
        assert words == ["a", "b"]
        return (w * scale).sum()

    _, gradient = tn.value_and_grad(f)(X, ["a", "b"], scale=3.0)
    np.testing.assert_array_equal(gradient, [3, 3])


def test_the_gradient_of_a_table_that_is_looked_up_stays_row_sparse():
    _, gradient = tn.value_and_grad(lambda table: tn.embedding([1, 1], table).sum())(np.ones((5, 2)))
    assert isinstance(gradient, tn.RowSparse)


def test_vjp_can_be_pulled_often():
    y, pull = tn.vjp(curve, X)
    np.testing.assert_allclose(y, curve(Variable(X)).data)
    for v in np.eye(3):
        np.testing.assert_allclose(pull(v), v @ curve_jacobian(X), rtol=1e-12)


def test_jvp_is_the_jacobian_times_a_vector():
    u = np.array([0.4, -2.0])
    y, change = tn.jvp(curve, X, u)
    np.testing.assert_allclose(y, curve(Variable(X)).data)
    np.testing.assert_allclose(change, curve_jacobian(X) @ u, rtol=1e-12)


def test_jvp_and_vjp_are_transposes_of_each_other():
    rng = np.random.default_rng(0)
    u, w, v = rng.standard_normal(2), rng.standard_normal(3), rng.standard_normal(())
    _, change = tn.jvp(bilinear, (X, Y), (u, w))
    _, pull = tn.vjp(bilinear, X, Y)
    gx, gy = pull(v)
    np.testing.assert_allclose(v * change, gx @ u + gy @ w, rtol=1e-12)


def test_jacobian_of_one_argument_and_of_several():
    np.testing.assert_allclose(tn.jacobian(curve, X), curve_jacobian(X), rtol=1e-12)
    to_x, to_y = tn.jacobian(lambda x, y: curve(x) * y, X, Y)
    np.testing.assert_allclose(to_x, Y[:, None] * curve_jacobian(X), rtol=1e-12)
    np.testing.assert_allclose(to_y, np.diag(curve(Variable(X)).data), rtol=1e-12)


def test_jacobian_has_the_axes_of_the_output_before_those_of_the_argument():
    x = np.arange(6.0).reshape(2, 3)
    jacobian = tn.jacobian(lambda x: (x * x).T, x)
    assert jacobian.shape == (3, 2, 2, 3)
    np.testing.assert_array_equal(jacobian[2, 1], [[0, 0, 0], [0, 0, 10]])


def test_jacobian_of_a_look_up_is_dense():
    jacobian = tn.jacobian(lambda table: tn.embedding([1], table), np.ones((3, 2)))
    np.testing.assert_array_equal(jacobian[0, :, 1], np.eye(2))
    assert jacobian.shape == (1, 2, 3, 2)


def test_hessian_of_one_argument_and_of_several():
    gradient = lambda x: tn.value_and_grad(bilinear)(x, Y)[1]  # noqa: E731
    np.testing.assert_allclose(tn.hessian(lambda x: bilinear(x, Y), X), differences(gradient, X), rtol=1e-6, atol=1e-8)
    (xx, xy), (yx, yy) = tn.hessian(bilinear, X, Y)
    assert (xx.shape, xy.shape, yx.shape, yy.shape) == ((2, 2), (2, 3), (3, 2), (3, 3))
    np.testing.assert_allclose(xy, yx.T, rtol=1e-12)
    np.testing.assert_allclose(xx, xx.T, rtol=1e-12)


def test_hvp_is_the_hessian_times_a_vector():
    u, w = np.array([0.4, -2.0]), np.array([1.0, 0.5, -1.0])
    (xx, xy), (yx, yy) = tn.hessian(bilinear, X, Y)
    value, (to_x, to_y) = tn.hvp(bilinear, (X, Y), (u, w))
    np.testing.assert_allclose(value, bilinear(Variable(X), Y).data)
    np.testing.assert_allclose(to_x, xx @ u + xy @ w, rtol=1e-11)
    np.testing.assert_allclose(to_y, yx @ u + yy @ w, rtol=1e-11)


def test_what_does_not_depend_on_an_argument_has_a_derivative_of_zeros():
    constant = lambda x, y: (x * x).sum()  # noqa: E731
    linear = lambda x: x.sum()  # noqa: E731
    np.testing.assert_array_equal(tn.value_and_grad(constant, (0, 1))(X, Y)[1][1], np.zeros(3))
    np.testing.assert_array_equal(tn.jacobian(lambda x: Variable(Y), X), np.zeros((3, 2)))
    np.testing.assert_array_equal(tn.hessian(constant, X, Y)[1][1], np.zeros((3, 3)))
    np.testing.assert_array_equal(tn.hessian(linear, X), np.zeros((2, 2)))
    np.testing.assert_array_equal(tn.hvp(linear, X, X)[1], np.zeros(2))
    np.testing.assert_array_equal(tn.jvp(lambda x: Variable(Y), X, X)[1], np.zeros(3))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_derivatives_have_the_dtype_of_the_arguments(dtype):
    x = X.astype(dtype)
    f = lambda x: (tn.tanh(x) * x).sum()  # noqa: E731
    for result in (
        tn.value_and_grad(f)(x)[1], tn.vjp(tn.tanh, x)[1](x), tn.jvp(tn.tanh, x, x)[1], tn.jacobian(tn.tanh, x),
        tn.hessian(f, x), tn.hvp(f, x, x)[1],
    ):  # fmt: skip
        assert result.dtype == dtype


# --- arrays and Variables ---------------------------------------------------------------------------------------------


def test_transforms_touch_no_grad_and_work_under_no_grad():
    x = leaf(X)
    with tn.no_grad():
        gradient = tn.value_and_grad(lambda x: (x * x).sum())(x)[1]
        assert isinstance(gradient, Variable)
        assert not gradient.requires_grad
        np.testing.assert_allclose(tn.jacobian(curve, X), curve_jacobian(X), rtol=1e-12)
    assert x.grad is None


def test_constant_variables_give_constant_variables():
    value, gradient = tn.value_and_grad(lambda x: (x * x).sum())(Variable(X))
    assert isinstance(value, Variable)
    assert isinstance(gradient, Variable)
    assert not value.requires_grad
    assert not gradient.requires_grad


def test_transforms_nest():
    f = lambda x: (x**4).sum()  # noqa: E731
    gradient = lambda x: tn.value_and_grad(f)(x)[1]  # noqa: E731
    np.testing.assert_allclose(tn.jacobian(gradient, X), np.diag(12 * X**2), rtol=1e-12)
    np.testing.assert_allclose(tn.hessian(lambda x: (gradient(x) * X).sum(), X), np.diag(24 * X * X), rtol=1e-12)
    np.testing.assert_allclose(tn.jvp(gradient, X, Y[:2])[1], 12 * X**2 * Y[:2], rtol=1e-12)
    np.testing.assert_allclose(tn.jacobian(lambda x: tn.jacobian(tn.tanh, x), X)[0, 0, 0],
                               -2 * np.tanh(X[0]) / np.cosh(X[0]) ** 2, rtol=1e-12)  # fmt: skip


def test_gradients_flow_through_hvp_to_the_point_and_to_the_vector():
    def product(x, v):
        return tn.hvp(lambda x: (tn.tanh(x) * x * x).sum(), x, v)[1]

    tn.check_grads(product, [X, np.array([0.5, 2.0])])


def test_gradients_flow_through_vjp_to_the_weights():
    tn.check_grads(lambda x, v: tn.vjp(curve, x)[1](v), [X, Y])


def test_an_argument_that_is_also_used_elsewhere_counts_only_as_the_argument():
    x = leaf(X)
    y = tn.exp(x)
    _, gradient = tn.value_and_grad(lambda z: (z * y).sum())(y)
    np.testing.assert_array_equal(gradient.data, y.data)


# --- messages ---------------------------------------------------------------------------------------------------------


def test_errors_say_what_to_do():
    with pytest.raises(TypeError, match=r"argument 0 has the dtype int64, .*lambda x: f\(x, ids\)"):
        tn.jacobian(lambda x: x, np.arange(3))
    with pytest.raises(ValueError, match=r"hessian: .*one element, not the shape \(3,\); sum"):
        tn.hessian(curve, X)
    with pytest.raises(TypeError, match=r"vjp: the function must return one Variable, not tuple"):
        tn.vjp(lambda x: (x, x), X)
    with pytest.raises(ValueError, match="hvp: 1 vectors for 2 arguments"):
        tn.hvp(bilinear, (X, Y), (X,))
    with pytest.raises(ValueError, match=r"jvp: tangents 0 has the shape \(3,\); its argument has \(2,\)"):
        tn.jvp(curve, X, Y)
    with pytest.raises(TypeError, match=r"argnums \(0, -1\) name one of 1 arguments twice"):
        tn.value_and_grad(lambda x: (x * x).sum(), argnums=(0, -1))(np.ones(2))
    with pytest.raises(TypeError, match="argnums 2 for 1 positional"):
        tn.value_and_grad(curve, 2)(X)
    with pytest.raises(TypeError, match="no argument to differentiate"):
        tn.jacobian(curve)


# --- Hessian-vector products of models --------------------------------------------------------------------------------

VOCABULARY, BATCH, STEPS, WIDTH = 11, 3, 5, 4
IDS = np.random.default_rng(1).integers(0, VOCABULARY, (BATCH, STEPS))
TARGETS = np.random.default_rng(2).integers(0, VOCABULARY, (BATCH, STEPS))


def normal(*shapes, scale=0.5):
    rng = np.random.default_rng(3)
    return [scale * rng.standard_normal(shape) for shape in shapes]


def language_model_parameters():
    layer = [(4 * WIDTH, WIDTH), (4 * WIDTH, WIDTH), (4 * WIDTH,), (4 * WIDTH,)]
    return normal((VOCABULARY, WIDTH), *layer, *layer, (VOCABULARY, WIDTH), (VOCABULARY,))


def language_model(table, *parameters):
    """Embedding, two LSTMs, linear, cross-entropy."""
    first, second, head = parameters[:4], parameters[4:8], parameters[8:]
    zeros = np.zeros((BATCH, WIDTH), table.dtype)
    h, _ = F.lstm(tn.embedding(IDS, table), (zeros, zeros), *first)
    h, _ = F.lstm(h, (zeros, zeros), *second)
    return F.cross_entropy(tn.linear(h, *head), TARGETS)


def torch_language_model(torch, table, *parameters):
    first, second, head = parameters[:4], parameters[4:8], parameters[8:]
    h = torch.nn.functional.embedding(torch.tensor(IDS), table)
    for w_ih, w_hh, b_ih, b_hh in (first, second):
        state = cell = torch.zeros(BATCH, WIDTH, dtype=table.dtype)
        outputs = []
        for t in range(STEPS):
            gates = torch.nn.functional.linear(h[:, t], w_ih, b_ih) + torch.nn.functional.linear(state, w_hh, b_hh)
            i, f, g, o = gates.chunk(4, dim=1)
            cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
            state = torch.sigmoid(o) * torch.tanh(cell)
            outputs.append(state)
        h = torch.stack(outputs, dim=1)
    scores = torch.nn.functional.linear(h, *head)
    return torch.nn.functional.cross_entropy(scores.flatten(0, 1), torch.tensor(TARGETS.ravel()))


HEADS = 2
CAUSAL = np.tril(np.ones((STEPS, STEPS), bool))


def transformer_parameters():
    d = WIDTH
    shapes = [(VOCABULARY, d), (3 * d, d), (3 * d,), (d, d), (d,), (d,), (d,), (8, d), (8,), (d, 8), (d,), (d,), (d,)]
    return normal(*shapes)


def transformer(table, w_qkv, b_qkv, w_out, b_out, gain1, bias1, w1, b1, w2, b2, gain2, bias2):
    """Embedding, one causal block, and the table again as the head."""
    x = tn.embedding(IDS, table)
    qkv = tn.linear(F.layer_norm(x, (WIDTH,), gain1, bias1), w_qkv, b_qkv).reshape(BATCH, STEPS, 3, HEADS, -1)
    q, k, v = ops.unstack(qkv.transpose(2, 0, 3, 1, 4))
    context, _ = F.attention(q, k, v, CAUSAL)
    x = x + tn.linear(context.transpose(0, 2, 1, 3).reshape(BATCH, STEPS, -1), w_out, b_out)
    x = x + tn.linear(tn.gelu(tn.linear(F.layer_norm(x, (WIDTH,), gain2, bias2), w1, b1)), w2, b2)
    return F.cross_entropy(x @ table.T, TARGETS)


def torch_transformer(torch, table, w_qkv, b_qkv, w_out, b_out, gain1, bias1, w1, b1, w2, b2, gain2, bias2):
    f = torch.nn.functional

    def norm(x, gain, bias):
        return f.layer_norm(x, (WIDTH,), gain, bias, 1e-5)

    x = f.embedding(torch.tensor(IDS), table)
    qkv = f.linear(norm(x, gain1, bias1), w_qkv, b_qkv).reshape(BATCH, STEPS, 3, HEADS, -1)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    scores = (q @ k.transpose(-1, -2) / math.sqrt(WIDTH // HEADS)).masked_fill(~torch.tensor(CAUSAL), -math.inf)
    context = torch.softmax(scores, dim=-1) @ v
    x = x + f.linear(context.permute(0, 2, 1, 3).reshape(BATCH, STEPS, -1), w_out, b_out)
    x = x + f.linear(f.gelu(f.linear(norm(x, gain2, bias2), w1, b1)), w2, b2)
    return f.cross_entropy((x @ table.T).flatten(0, 1), torch.tensor(TARGETS.ravel()))


MODELS = {
    "language_model": (language_model, torch_language_model, language_model_parameters()),
    "transformer": (transformer, torch_transformer, transformer_parameters()),
}


def assert_close_as_a_whole(actual, desired, tolerance):
    scale = max(np.abs(d).max() for d in desired)
    assert scale > 1e-2
    for a, d in zip(actual, desired, strict=True):
        np.testing.assert_allclose(a, d, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", MODELS)
def test_hvp_of_a_model_is_that_of_pytorch(name, dtype):
    torch = pytest.importorskip("torch", reason="the oracle is PyTorch (the group oracle)")
    model, twin, parameters = MODELS[name]
    parameters = tuple(p.astype(dtype) for p in parameters)
    vectors = tuple(v.astype(dtype) for v in normal(*(p.shape for p in reversed(parameters)))[::-1])
    value, products = tn.hvp(model, parameters, vectors)
    expected_value, expected = torch.autograd.functional.hvp(
        lambda *ps: twin(torch, *ps), tuple(map(torch.tensor, parameters)), tuple(map(torch.tensor, vectors))
    )
    tolerance = 1e-4 if dtype is np.float32 else 1e-9
    np.testing.assert_allclose(value, expected_value.numpy(), rtol=tolerance)
    assert all(product.dtype == dtype for product in products)
    assert_close_as_a_whole(products, [e.numpy() for e in expected], tolerance)


@pytest.mark.parametrize("name", MODELS)
def test_hvp_of_a_model_is_the_difference_of_its_gradients(name):
    model, _, parameters = MODELS[name]
    vectors = normal(*(p.shape for p in reversed(parameters)))[::-1]

    def gradients(step):
        moved = [p + step * v for p, v in zip(parameters, vectors, strict=True)]
        found = tn.value_and_grad(model, tuple(range(len(moved))))(*moved)[1]
        return [np.asarray(g) for g in found]

    _, products = tn.hvp(model, tuple(parameters), tuple(vectors))
    quotients = [(p - m) / 2e-6 for p, m in zip(gradients(1e-6), gradients(-1e-6), strict=True)]
    assert_close_as_a_whole(products, quotients, 1e-7)


# --- recomputation ----------------------------------------------------------------------------------------------------


def test_a_checkpoint_gives_the_same_values_and_gradients():
    x, w = leaf(X), leaf(A)
    f = lambda x: tn.tanh(w @ x) * x.sum()  # noqa: E731
    plain, kept = f(x), tn.checkpoint(f, x)
    np.testing.assert_array_equal(plain.data, kept.data)
    expected = tn.grad(plain, [x, w], Y)
    for g, e in zip(tn.grad(kept, [x, w], Y, retain_graph=True), expected, strict=True):
        np.testing.assert_array_equal(g, e)
    kept.backward(Y)
    np.testing.assert_array_equal(w.grad, expected[1])


def test_a_checkpoint_keeps_derivatives_of_every_order():
    tn.check_grads(lambda x, w: tn.checkpoint(lambda x: tn.tanh(w @ x) * x.sum(), tn.exp(x)), [X, A], order=3)
    tn.check_grads(lambda x, w: tn.checkpoint(lambda x, w: tn.tanh(w @ x) * x.sum(), x, w), [X, A])


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("kind", ["leaf", "result", "argument", "argument within"])
@pytest.mark.parametrize("create_graph", [False, True])
def test_hooks_on_what_a_checkpoint_uses_run_once(kind, depth, create_graph):
    w, x, calls = Variable([2.0], requires_grad=True), Variable([3.0]), []
    h = w if kind == "leaf" else w * 1.0
    hook = lambda g: (calls.append(g), g * 10)[1]  # noqa: E731

    def product(h, x):
        if kind == "argument within":
            h.register_hook(hook)
        return h * x

    if kind != "argument within":
        h.register_hook(hook)
    given = (h, x) if "argument" in kind else (x,)
    f = product if "argument" in kind else functools.partial(product, h)
    for _ in range(depth):
        f = functools.partial(tn.checkpoint, f)
    f(*given).sum().backward(create_graph=create_graph)
    assert len(calls) == 1
    np.testing.assert_array_equal(w.grad.data if create_graph else w.grad, [30])


def test_checkpoints_nest():
    def f(x, w):
        inner = lambda h: tn.checkpoint(lambda h: tn.tanh(w @ h), h * h)  # noqa: E731
        return tn.checkpoint(lambda x: inner(x) * inner(tn.exp(x)), x)

    tn.check_grads(f, [X, A])


@pytest.mark.parametrize("name", MODELS)
def test_hvp_of_a_checkpointed_model_is_that_of_the_model(name):
    model, _, parameters = MODELS[name]
    vectors = tuple(normal(*(p.shape for p in reversed(parameters)))[::-1])

    def recomputed(table, *others):
        return tn.checkpoint(lambda table: model(table, *others), table)

    _, expected = tn.hvp(model, tuple(parameters), vectors)
    _, products = tn.hvp(recomputed, tuple(parameters), vectors)
    assert_close_as_a_whole([np.asarray(p) for p in products], [np.asarray(e) for e in expected], 1e-13)


def test_a_checkpoint_is_drawn_as_one_box():
    source = tn.draw(tn.checkpoint(lambda x: tn.tanh(x * x), leaf(X))).dot.source
    assert "checkpoint" in source
    assert "tanh" not in source


def test_what_a_checkpoint_captures_counts_once_and_apart_from_its_arguments():
    def f(x, w):
        h = tn.exp(x)  # an argument, and captured; and w is captured behind h and by itself
        k = h * w
        return tn.checkpoint(lambda h2: h2 * h * k * w, h)

    tn.check_grads(f, [X, X + 1.0])


def test_a_checkpoint_of_constants_finds_the_parameters():
    w = leaf(A)
    tn.checkpoint(lambda x: w @ x, X).sum().backward()
    np.testing.assert_array_equal(w.grad, np.tile(X, (3, 1)))
    w.grad = None
    tn.checkpoint(lambda x: w @ x.detach(), Variable(X)).sum().backward()
    np.testing.assert_array_equal(w.grad, np.tile(X, (3, 1)))


def test_a_checkpoint_passes_keywords_on_with_their_gradients():
    x, w = leaf(X), leaf(A)
    f = lambda x, *, w, power: tn.tanh(w @ x) ** power  # noqa: E731
    tn.checkpoint(f, x, w=w * 2.0, power=3).sum().backward()
    plain_x, plain_w = leaf(X), leaf(A)
    f(plain_x, w=plain_w * 2.0, power=3).sum().backward()
    np.testing.assert_array_equal(x.grad, plain_x.grad)
    np.testing.assert_array_equal(w.grad, plain_w.grad)
    with tn.no_grad():
        assert tn.checkpoint(f, x, w=w, power=2).shape == (3,)


def test_a_checkpoint_of_several_outputs_and_of_outputs_without_gradient():
    x = leaf(X)
    a, constant, b = tn.checkpoint(lambda x: (x * x, Variable(Y), tn.exp(x)), x)
    assert not constant.requires_grad
    (a * b).sum().backward()
    np.testing.assert_allclose(x.grad, (2 * X + X * X) * np.exp(X), rtol=1e-13)


def test_dropout_repeats_in_a_checkpoint_and_the_stream_goes_on():
    x = leaf(np.ones(100))
    f = lambda x: F.dropout(x, 0.5) * 2.0  # noqa: E731
    y = tn.checkpoint(f, x)
    after = tn.backend.generator().bit_generator.state
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, y.data)
    assert tn.backend.generator().bit_generator.state == after


def test_a_checkpoint_saves_memory():
    def deep(x):
        for _ in range(20):
            x = tn.tanh(x)
        return x

    def peak(run):
        x = leaf(np.ones(20_000))
        tracemalloc.start()
        try:
            y = x
            for _ in range(5):
                y = run(y)
            y.sum().backward()
            return tracemalloc.get_traced_memory()[1], x.grad
        finally:
            tracemalloc.stop()

    (plain, expected), (saved, gradient) = peak(deep), peak(lambda x: tn.checkpoint(deep, x))
    np.testing.assert_array_equal(gradient, expected)
    assert saved < 0.4 * plain


def test_the_graph_of_a_checkpoint_is_dropped_without_the_garbage_collector():
    gc.collect()
    gc.disable()
    try:
        inner = []

        def f(x):
            h = tn.exp(x)
            inner.append(weakref.ref(h.creator))
            return h * h

        y = tn.checkpoint(f, leaf(X))
        assert inner[0]() is None
        del y
    finally:
        gc.enable()


def test_a_parameter_that_was_changed_before_a_checkpoint_ran_again_is_an_error():
    w = leaf(A)
    y = tn.checkpoint(lambda x: w @ x, leaf(X))
    w.data -= 1
    with pytest.raises(RuntimeError, match=r"checkpoint .*changed in place"):
        y.sum().backward()


def test_a_checkpoint_records_nothing_under_no_grad_and_refuses_what_is_no_variable():
    x = leaf(X)
    with tn.no_grad():
        assert not tn.checkpoint(tn.exp, x).requires_grad
    with pytest.raises(TypeError, match="checkpoint: f must return a Variable or a tuple of them, not list"):
        tn.checkpoint(lambda x: [x], x)


def test_an_error_in_the_second_run_of_a_checkpoint_names_the_layer():
    calls = []

    def f(x):
        calls.append(1)
        return x @ np.ones(2 if len(calls) == 1 else 3)

    with tn.scope("encoder"):
        y = tn.checkpoint(f, leaf(X))
    with pytest.raises(ValueError, match="matmul in encoder") as caught:
        y.backward()
    assert "in the backward of checkpoint in encoder" in caught.value.__notes__[0]


def test_vjp_of_a_tracked_vector_can_be_differentiated_by_it():
    _, pull = tn.vjp(lambda x: x * x, np.array([1.0, 2.0]))
    v = Variable(np.ones(2), requires_grad=True)
    (pull(v) * np.array([1.0, 10.0])).sum().backward()
    np.testing.assert_array_equal(v.grad, [2, 40])
    assert isinstance(pull(np.ones(2)), np.ndarray)
    with tn.no_grad():
        assert not pull(v).requires_grad
