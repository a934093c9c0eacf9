"""Optimizers against their textbook formulas, on dense and row-sparse gradients; clipping; checkpoints."""

import json
import math
import re

import numpy as np
import pytest

import tinygrad_nlp as tn
from tinygrad_nlp import RowSparse, Variable, optim
from tinygrad_nlp.nn import Parameter
from tinygrad_nlp.optim import optimizer as optimizer_module

STEPS = 6


def parameter(*shape, dtype=np.float64, seed=0):
    return Parameter(np.random.default_rng(seed).standard_normal(shape).astype(dtype))


def gradients(shape, count=STEPS, seed=1):
    return np.random.default_rng(seed).standard_normal((count, *shape))


def train(optimizer, parameter, gradients):
    for gradient in gradients:
        parameter.grad = gradient if isinstance(gradient, RowSparse) else gradient.astype(parameter.dtype)
        optimizer.step()


# --- the formulas, as they stand in the books -------------------------------------------------------------------------


def sgd(p, gradients, lr):
    for g in gradients:
        p = p - lr * g
    return p


def momentum(p, gradients, lr, momentum=0.9):
    v = np.zeros_like(p)
    for g in gradients:
        v = momentum * v + g
        p = p - lr * v
    return p


def adam(p, gradients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    beta1, beta2 = betas
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(gradients, start=1):
        p = p - lr * weight_decay * p
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat = m / (1 - beta1**t)
        v_hat = v / (1 - beta2**t)
        p = p - lr * m_hat / (np.sqrt(v_hat) + eps)
    return p


def adamw(p, gradients, weight_decay=1e-2, **settings):
    return adam(p, gradients, weight_decay=weight_decay, **settings)


RULES = [
    pytest.param(optim.SGD, sgd, {"lr": 0.1}, id="SGD"),
    pytest.param(optim.Momentum, momentum, {"lr": 0.1}, id="Momentum"),
    pytest.param(optim.Momentum, momentum, {"lr": 0.1, "momentum": 0.5}, id="Momentum-0.5"),
    pytest.param(optim.Adam, adam, {}, id="Adam"),
    pytest.param(optim.Adam, adam, {"lr": 0.1, "betas": (0.5, 0.8), "eps": 1e-2}, id="Adam-other"),
    pytest.param(optim.Adam, adam, {"lr": 0.1, "betas": (0.0, 0.0)}, id="Adam-of-signs"),
    pytest.param(optim.AdamW, adamw, {}, id="AdamW"),
    pytest.param(optim.AdamW, adamw, {"lr": 0.1, "weight_decay": 0.3, "eps": 1e-3}, id="AdamW-other"),
]
each_rule = pytest.mark.parametrize(("make", "formula", "settings"), RULES)
each_optimizer = pytest.mark.parametrize(
    "make", [lambda ps, kind=kind: kind(ps, lr=0.1) for kind in (optim.SGD, optim.Momentum, optim.Adam, optim.AdamW)],
    ids=["SGD", "Momentum", "Adam", "AdamW"],
)  # fmt: skip


@each_rule
@pytest.mark.parametrize("shape", [(3, 4), (5,), (), (0, 3)])
def test_several_steps_follow_the_formula(make, formula, settings, shape):
    p, gs = parameter(*shape), gradients(shape)
    expected = formula(p.data.copy(), gs, **settings)
    array = p.data
    train(make([p], **settings), p, gs)
    assert p.data is array  # in place
    np.testing.assert_allclose(p.data, expected, rtol=1e-11)


@each_rule
def test_a_parameter_whose_first_gradient_comes_late_starts_as_any_other(make, formula, settings):
    early, late, gs = parameter(3), parameter(3), gradients((3,))
    expected = formula(late.data.copy(), gs[2:], **settings)
    optimizer = make([early, late], **settings)
    train(optimizer, early, gs[:2])
    for gradient in gs[2:]:
        early.grad = late.grad = gradient
        optimizer.step()
    np.testing.assert_allclose(late.data, expected, rtol=1e-11)
    assert optimizer.updates == ([STEPS, STEPS - 2] if optimizer.slots else [0, 0])


@each_rule
def test_float32_stays_float32(make, formula, settings):
    p, gs = parameter(3, 4, dtype=np.float32), gradients((3, 4))
    expected = formula(p.data.astype(float), gs, **settings)
    optimizer = make([p], **settings)
    train(optimizer, p, gs)
    assert p.dtype == np.float32
    assert {array.dtype for state in optimizer.state for array in state.values()} <= {np.dtype(np.float32)}
    np.testing.assert_allclose(p.data, expected, rtol=1e-4, atol=1e-6)


@each_rule
@pytest.mark.parametrize("layout", ["contiguous", "transposed", "gaps", "transposed gradient"])
def test_an_array_in_blocks_is_treated_as_a_small_one(make, formula, settings, layout, monkeypatch):
    monkeypatch.setattr(optimizer_module, "BLOCK", 8)
    p, gs = parameter(6, 7), gradients((6, 7))
    if layout == "transposed":
        p.data = p.data.T.copy().T
    elif layout == "gaps":
        p.data = np.repeat(p.data, 2, axis=1)[:, ::2]
    elif layout == "transposed gradient":
        gs = gs.transpose(0, 2, 1).copy().transpose(0, 2, 1)
    expected = formula(p.data.copy(), gs, **settings)
    train(make([p], **settings), p, gs)
    np.testing.assert_allclose(p.data, expected, rtol=1e-11)


def test_blocks_cover_a_large_array_once():
    size = 2 * optimizer_module.BLOCK + 5
    array = np.zeros(size)
    blocks = [block for (block,) in optimizer_module._blocks(array)]
    assert [len(block) for block in blocks] == [optimizer_module.BLOCK] * 2 + [5]
    for block in blocks:
        block += 1
    assert (array == 1).all()


@each_optimizer
def test_gradients_are_not_changed(make):
    p = parameter(3, 4)
    p.grad = gradients((3, 4))[0]
    p.grad.flags.writeable = False
    make([p]).step()


@each_optimizer
def test_a_parameter_without_a_gradient_is_left_alone(make):
    used, unused = parameter(2), parameter(2, seed=5)
    before = unused.data.copy()
    optimizer = make([unused, used])
    train(optimizer, used, gradients((2,)))
    np.testing.assert_array_equal(unused.data, before)
    assert optimizer.state[0] == {}


@each_optimizer
def test_a_gradient_with_a_graph_of_its_own_counts_as_its_array(make):
    p, q = parameter(3), parameter(3)
    (p * p * p).sum().backward(create_graph=True)
    assert isinstance(p.grad, Variable)
    q.grad = p.grad.data.copy()
    for each in (p, q):
        make([each]).step()
    np.testing.assert_array_equal(p.data, q.data)


@each_optimizer
def test_a_parameter_that_is_listed_twice_is_updated_once(make):
    p, q = parameter(3), parameter(3)
    p.grad = q.grad = gradients((3,))[0]
    make([p, p]).step()
    make([q]).step()
    np.testing.assert_array_equal(p.data, q.data)


def test_the_learning_rate_can_be_changed_between_steps():
    p, gs = parameter(3), gradients((3,), count=2)
    expected = p.data - 0.5 * gs[0] - 0.25 * gs[1]
    optimizer = optim.SGD([p], lr=0.5)
    train(optimizer, p, gs[:1])
    optimizer.lr = 0.25
    train(optimizer, p, gs[1:])
    np.testing.assert_allclose(p.data, expected)


def test_zero_grad_forgets_all_gradients():
    p, q = parameter(2), parameter(2)
    p.grad = np.ones(2)
    optim.SGD([p, q], lr=0.1).zero_grad()
    assert p.grad is None
    assert q.grad is None


@each_optimizer
def test_an_optimizer_without_parameters_is_refused(make):
    with pytest.raises(ValueError, match=r"^(SGD|Momentum|Adam|AdamW): no parameters$"):
        make([])


@pytest.mark.parametrize("lr", [-0.1, math.nan])
def test_a_learning_rate_that_makes_no_sense_is_refused(lr):
    with pytest.raises(ValueError, match=f"SGD: lr must not be negative, but is {lr}"):
        optim.SGD([parameter(2)], lr=lr)


@each_optimizer
def test_parameters_are_leaves_in_a_list(make):
    p = parameter(2)
    with pytest.raises(TypeError, match="one Variable was given; give a list of them"):
        make(p)
    with pytest.raises(TypeError, match=r"parameter 1 is no Variable, but of type ndarray$"):
        make([p, p.data])
    with pytest.raises(ValueError, match=r"parameter 1 is no leaf, but the result of mul$"):
        make([p, p * 2])


@pytest.mark.parametrize(
    ("rule", "settings", "message"),
    [
        (optim.Momentum, {"momentum": -0.1}, "Momentum: momentum must not be negative, but is -0.1"),
        (optim.Adam, {"betas": (0.9, 1.0)}, r"Adam: betas must lie in \[0, 1\), but are \(0.9, 1.0\)"),
        (optim.Adam, {"betas": (0.9, -0.1)}, "Adam: betas must lie in"),
        (optim.Adam, {"betas": (math.nan, 0.9)}, "Adam: betas must lie in"),
        (optim.Adam, {"eps": -1e-8}, "Adam: eps must not be negative, but is -1e-08"),
        (optim.AdamW, {"eps": math.nan}, "AdamW: eps must not be negative, but is nan"),
        (optim.AdamW, {"weight_decay": -1}, "AdamW: weight_decay must not be negative, but is -1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(rule, settings, message):
    with pytest.raises(ValueError, match=message):
        rule([parameter(2)], lr=0.1, **settings)


@each_optimizer
def test_a_step_between_forward_and_backward_is_an_error_of_the_graph(make):
    p = parameter(3)
    p.grad = np.ones(3)
    loss = (p * p).sum()
    make([p]).step()
    with pytest.raises(RuntimeError, match=r"^mul .*was changed in place since; run backward before the change"):
        loss.backward()
    (p * p).sum().backward()  # a graph that was made after the step is whole


def test_a_step_on_rows_between_forward_and_backward_is_an_error_too():
    p = parameter(3, 2)
    p.grad = RowSparse(np.array([1]), np.ones((1, 2)), (3, 2))
    loss = (p * p).sum()
    optim.SGD([p], lr=0.1).step()
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()


# --- groups, and frozen parameters ------------------------------------------------------------------------------------


@each_rule
def test_each_group_follows_the_formula_at_its_own_rate(make, formula, settings):
    ps, gs = [parameter(3, seed=seed) for seed in range(3)], gradients((3,))
    settings = {"lr": 1e-3, **settings}
    rates = [settings["lr"] / 4, settings["lr"] / 4, settings["lr"]]
    expected = [formula(p.data.copy(), gs, **{**settings, "lr": rate}) for p, rate in zip(ps, rates, strict=True)]
    optimizer = make([{"params": ps[:2], "lr": rates[0]}, {"params": iter(ps[2:])}], **settings)
    for gradient in gs:
        for p in ps:
            p.grad = gradient
        optimizer.step()
    for p, array in zip(ps, expected, strict=True):
        np.testing.assert_allclose(p.data, array, rtol=1e-11)
    assert [p is q for p, q in zip(optimizer.parameters, ps, strict=True)] == [True] * 3


@each_rule
def test_a_row_sparse_gradient_takes_the_rate_of_its_group(make, formula, settings):
    p, q = parameter(5, 3), parameter(5, 3)
    rate = {"lr": 1e-3, **settings}["lr"]
    grouped = make([{"params": [p], "lr": rate / 8}, {"params": [parameter(2)]}], **settings)
    train(grouped, p, [row_sparse([4, 1, 1])])
    train(make([q], **{**settings, "lr": rate / 8}), q, [row_sparse([4, 1, 1])])
    np.testing.assert_array_equal(p.data, q.data)


def test_a_schedule_scales_the_rates_of_all_groups():
    optimizer = optim.SGD([{"params": [parameter(2)], "lr": 0.2}, {"params": [parameter(2)]}], lr=0.8)
    schedule = optim.StepLR(optimizer, step_size=1, gamma=0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.2, 0.8]
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.4]
    optimizer.lr = 0.0  # as at the end of a straight line, and up again
    assert [group["lr"] for group in optimizer.param_groups] == [0.0, 0.0]
    optimizer.lr = 1.6
    assert [group["lr"] for group in optimizer.param_groups] == [0.4, 1.6]


def test_groups_are_for_reading():
    p = parameter(2)
    optimizer = optim.SGD([{"params": [p, p], "lr": 0.5}], lr=1.0)
    (group,) = optimizer.param_groups
    assert [q is p for q in group["params"]] == [True]  # listed twice is one
    with pytest.raises(TypeError, match="does not support item assignment"):
        group["lr"] = 0.1
    ((only),) = optim.SGD([p], lr=0.3).param_groups
    assert dict(only) == {"params": [p], "lr": 0.3}


w, tied = parameter(2), parameter(2)
tied.name = "weight"


@pytest.mark.parametrize(
    ("groups", "lr", "error", "message"),
    [
        ([{"params": [tied]}, {"params": [w, tied]}], 0.1, ValueError, r"parameter 1 of group 1, weight \(2,\), is in "
         "group 0, too: one parameter, tied or not, has one rate"),
        ([{"params": [w]}, tied], 0.1, TypeError, "some parameters are in groups and some are not"),
        ([{"params": [w]}, {"params": iter(())}], 0.1, ValueError, "no parameters in group 1$"),
        ([{"params": [w]}, {"params": tied}], 0.1, TypeError, "the params of group 1 are one Variable; give a list"),
        ([{"params": [w, w * 2]}], 0.1, ValueError, "parameter 1 of group 0 is no leaf, but the result of mul"),
        ([{"params": [w, w.data]}], 0.1, TypeError, "parameter 1 of group 0 is no Variable, but of type ndarray"),
        ([{"params": [w], "momentum": 0.9}], 0.1, ValueError, r"a group .* group 0 has \['params', 'momentum'\]"),
        ([{"lr": 0.1}], 0.1, ValueError, r"a group .* but group 0 has \['lr'\]"),
        ([{"params": [w], "lr": -1.0}], 0.1, ValueError, "the lr of a group must not be negative, but is -1.0"),
        ([{"params": [w], "lr": math.nan}], 0.1, ValueError, "the lr of a group must not be negative, but is nan"),
        ([{"params": [w], "lr": 0.5}], 0.0, ValueError, "the lr of a group, 0.5, stays in proportion to lr"),
    ],
)  # fmt: skip
def test_groups_that_make_no_sense_are_refused(groups, lr, error, message):
    with pytest.raises(error, match=f"^SGD: {message}"):
        optim.SGD(groups, lr)


def test_a_group_of_rate_0_stands_still():
    p, q = parameter(2), parameter(2)
    before = p.data.copy()
    p.grad = q.grad = np.ones(2)
    optim.SGD([{"params": [p], "lr": 0.0}, {"params": [q], "lr": 0.0}, {"params": [w]}], lr=0.0).step()
    optim.SGD([{"params": [p], "lr": 0.0}, {"params": [q]}], lr=0.5).step()
    np.testing.assert_array_equal(p.data, before)
    np.testing.assert_array_equal(q.data, before - 0.5)


@each_optimizer
def test_a_frozen_parameter_stands_still_and_goes_on_where_it_was(make):
    p, q, gs = parameter(3), parameter(3), gradients((3,))
    optimizer, other = make([p]), make([q])
    train(optimizer, p, gs[:3])
    p.requires_grad = False  # with the last gradient still there
    before, state = p.data.copy(), {slot: array.copy() for slot, array in optimizer.state[0].items()}
    optimizer.step()
    np.testing.assert_array_equal(p.data, before)  # no momentum and no weight decay either
    np.testing.assert_equal(optimizer.state[0], state)
    p.requires_grad = True
    train(optimizer, p, gs[3:])
    train(other, q, gs)
    np.testing.assert_array_equal(p.data, q.data)


# --- row-sparse gradients ---------------------------------------------------------------------------------------------


def row_sparse(rows, width=3, size=5, seed=0):
    values = np.random.default_rng(seed).standard_normal((len(rows), width))
    return RowSparse(np.array(rows, np.int64), values, (size, width))


@each_rule
@pytest.mark.parametrize("rows", [[1], [4, 1, 1, 0], [2, 2, 2], []])
def test_a_row_sparse_gradient_counts_as_the_dense_one(make, formula, settings, rows):
    p, q = parameter(5, 3), parameter(5, 3)
    sparse = [row_sparse(rows, seed=seed) for seed in range(STEPS)]
    train(make([p], **settings), p, sparse)
    train(make([q], **settings), q, [g.to_dense() for g in sparse])
    np.testing.assert_allclose(p.data, q.data, rtol=1e-12)


def test_sgd_touches_only_the_rows_that_were_looked_up():
    p = parameter(5, 3)
    before = p.data.copy()
    p.data[2] = np.nan  # nobody reads it
    train(optim.SGD([p], lr=0.1), p, [row_sparse([4, 1, 1])])
    np.testing.assert_array_equal(p.data[[0, 3]], before[[0, 3]])
    assert (p.data[[1, 4]] != before[[1, 4]]).all()


def test_moments_move_also_the_rows_that_were_looked_up_before():
    p = parameter(5, 3)
    optimizer = optim.Momentum([p], lr=0.1)
    train(optimizer, p, [row_sparse([1])])
    before = p.data.copy()
    train(optimizer, p, [row_sparse([2])])
    assert (p.data[[1, 2]] != before[[1, 2]]).all()
    np.testing.assert_array_equal(p.data[[0, 3, 4]], before[[0, 3, 4]])


def test_an_embedding_is_trained_by_rows():
    table = parameter(5, 3)
    tn.embedding(np.array([4, 1, 1]), table).sum().backward()
    assert isinstance(table.grad, RowSparse)
    expected = table.data.copy()
    expected[[1, 4]] -= [[0.2], [0.1]]
    optim.SGD([table], lr=0.1).step()
    np.testing.assert_allclose(table.data, expected)


# --- clipping ---------------------------------------------------------------------------------------------------------


def with_gradient(gradient):
    p = Parameter(np.zeros(gradient.shape, gradient.dtype))
    p.grad = gradient
    return p


def test_gradients_are_scaled_together_to_the_norm_that_is_allowed():
    a, b = with_gradient(np.array([3.0, 0.0])), with_gradient(np.array([[0.0], [4.0]]))
    assert optim.clip_grad_norm_([a, b], 1.0) == 5.0
    np.testing.assert_allclose(a.grad, [0.6, 0])
    np.testing.assert_allclose(b.grad, [[0], [0.8]])
    assert optim.clip_grad_norm_([a, b], 1.1) == pytest.approx(1)


def test_gradients_are_changed_in_place_and_keep_their_dtype():
    gradient = np.array([3.0, 4.0], np.float32)
    p = with_gradient(gradient)
    optim.clip_grad_norm_([p], 0.5)
    assert p.grad is gradient
    assert gradient.dtype == np.float32
    np.testing.assert_allclose(gradient, [0.3, 0.4], rtol=1e-6)


@pytest.mark.parametrize("max_norm", [5.0, 6.0, math.inf])
def test_below_the_limit_nothing_changes(max_norm):
    p = with_gradient(np.array([3.0, 4.0]))
    p.grad.flags.writeable = False
    assert optim.clip_grad_norm_([p], max_norm) == 5.0


def test_a_parameter_that_is_listed_twice_counts_once():
    p = with_gradient(np.array([3.0, 4.0]))
    assert optim.clip_grad_norm_([p, p], 1.0) == 5.0
    np.testing.assert_allclose(p.grad, [0.6, 0.8])


def test_one_parameter_is_clipped_as_a_list_of_it():
    p = with_gradient(np.array([3.0, 4.0]))
    assert optim.clip_grad_norm_(p, 1.0) == 5.0
    np.testing.assert_allclose(p.grad, [0.6, 0.8])


def test_small_gradients_of_float16_are_measured():
    """Their squares are 0 in float16."""
    p = with_gradient(np.full(2, 1e-4, np.float16))
    assert optim.clip_grad_norm_([p], 1e-5) == pytest.approx(1.41e-4, rel=1e-2)
    np.testing.assert_allclose(p.grad, 7e-6, rtol=2e-2)


def test_rows_that_are_named_twice_are_summed_before_the_norm():
    sparse = RowSparse(np.array([1, 0, 1]), np.array([[1.0, 0.0], [0.0, 4.0], [2.0, 0.0]]), (3, 2))
    p = with_gradient(np.zeros((3, 2)))
    p.grad = sparse
    expected = sparse.to_dense() / 5
    assert optim.clip_grad_norm_([p], 1.0) == 5.0
    assert isinstance(p.grad, RowSparse)
    np.testing.assert_allclose(p.grad.to_dense(), expected)


@pytest.mark.parametrize("make", [optim.SGD, optim.Momentum, optim.Adam])
@pytest.mark.parametrize("shape", [(3,), (2, 4, 3), (3, 2)])
def test_a_gradient_of_another_shape_is_refused_and_nothing_is_changed(make, shape):
    first, second = (Variable(np.ones((2, 3), np.float32), requires_grad=True) for _ in range(2))
    second.name = "weight"
    optimizer = make([first, second], lr=0.1)
    first.grad, second.grad = np.ones((2, 3), np.float32), np.ones(shape, np.float32)
    with pytest.raises(
        ValueError, match=rf"^{make.__name__}: .* parameter 1, weight, .*{re.escape(str(shape))}; \(2, 3\)"
    ):
        optimizer.step()
    np.testing.assert_array_equal(first.data, 1)
    assert optimizer.steps == 0
    assert optimizer.updates == [0, 0]


@pytest.mark.parametrize("gradient", [np.array(2.0), np.arange(6.0).reshape(2, 3).T, np.zeros((0, 2))])
def test_gradients_of_any_shape_and_layout_are_clipped(gradient):
    norm = np.sqrt((gradient**2).sum())
    expected = gradient / max(norm, 1)
    p = with_gradient(gradient)
    assert optim.clip_grad_norm_([p], 1.0) == pytest.approx(norm)
    np.testing.assert_allclose(p.grad, expected)


def test_a_gradient_with_a_graph_of_its_own_is_clipped_too():
    p = parameter(3)
    (p * p * 10.0).sum().backward(create_graph=True)
    assert isinstance(p.grad, Variable)
    norm = 20 * np.linalg.norm(p.data)
    assert optim.clip_grad_norm_([p], 1.0) == pytest.approx(norm)
    np.testing.assert_allclose(p.grad, 20 * p.data / norm)


def test_gradients_that_share_memory_under_create_graph_are_each_clipped_once():
    p, q = parameter(3), parameter(3)
    seed = np.full(3, 2.0)
    (p + q).backward(seed, create_graph=True)
    norm = optim.clip_grad_norm_([p, q], 1.0)
    assert norm == pytest.approx(math.sqrt(24))
    for gradient in (p.grad, q.grad):
        np.testing.assert_allclose(gradient, 2 / norm)
    assert (seed == 2).all()


def test_no_gradient_has_the_norm_zero():
    assert optim.clip_grad_norm_([parameter(2)], 1.0) == 0
    assert optim.clip_grad_norm_([], 1.0) == 0
    p = with_gradient(np.zeros(2))
    assert optim.clip_grad_norm_([p], 1.0) == 0
    np.testing.assert_array_equal(p.grad, [0, 0])


def test_a_norm_that_is_not_a_number_is_returned_and_changes_nothing():
    """The caller can see it and skip the step; scaling by it would spread it over all parameters."""
    broken, sound = with_gradient(np.array([math.nan, 3.0])), with_gradient(np.array([4.0]))
    assert math.isnan(optim.clip_grad_norm_([broken, sound], 1.0))
    np.testing.assert_array_equal(broken.grad, [math.nan, 3])
    np.testing.assert_array_equal(sound.grad, [4])


def test_an_infinite_norm_is_returned_and_changes_nothing():
    p = with_gradient(np.array([math.inf, 3.0]))
    assert optim.clip_grad_norm_([p], 1.0) == math.inf
    np.testing.assert_array_equal(p.grad, [math.inf, 3])


def test_gradients_whose_squares_overflow_are_clipped():
    p = with_gradient(np.array([3e20, 4e20], np.float32))
    assert optim.clip_grad_norm_([p], 1.0) == pytest.approx(5e20)
    assert p.grad.dtype == np.float32
    np.testing.assert_allclose(p.grad, [0.6, 0.8], rtol=1e-6)


@pytest.mark.parametrize("max_norm", [0, -1.0, math.nan])
def test_a_limit_that_is_not_above_zero_is_refused(max_norm):
    with pytest.raises(ValueError, match=f"clip_grad_norm_: max_norm must be above 0, not {max_norm}"):
        optim.clip_grad_norm_([parameter(2)], max_norm)


# --- checkpoints ------------------------------------------------------------------------------------------------------


@each_optimizer
def test_a_run_that_is_taken_up_again_continues_identically(make):
    p, gs = parameter(3, 4), gradients((3, 4))
    optimizer = make([parameter(2), p])  # the first never has a gradient
    train(optimizer, p, gs[:3])
    optimizer.lr = 0.03
    q = Parameter(p.data.copy())
    fresh = make([parameter(2), q])
    fresh.load_state_dict(optimizer.state_dict())
    train(optimizer, p, gs[3:])
    train(fresh, q, gs[3:])  # has arrays of its own: the first did not change them
    np.testing.assert_array_equal(p.data, q.data)
    assert fresh.steps == optimizer.steps == STEPS
    assert fresh.lr == 0.03


def in_groups(make, p, q, factor):
    """Two groups, of which the first has so much of the rate of the other, which `make` gives."""
    optimizer = make([p, q])
    return type(optimizer)([{"params": [p], "lr": optimizer.lr * factor}, {"params": [q]}], lr=optimizer.lr)


@each_optimizer
def test_a_run_with_groups_is_taken_up_again_with_its_proportions(make):
    first, second = [parameter(3), parameter(4)], [parameter(3), parameter(4)]
    optimizer, fresh = in_groups(make, *first, 0.3), in_groups(make, *second, 0.7)
    for step in range(6):
        if step == 3:
            optimizer.lr = 0.05
            state = json.loads(json.dumps({k: v for k, v in optimizer.state_dict().items() if k != "arrays"}))
            fresh.load_state_dict({**state, "arrays": optimizer.state_dict()["arrays"]})
            for p, q in zip(first, second, strict=True):
                q.data = p.data.copy()
        for ps, each in ((first, optimizer), (second, fresh)):
            for p in ps:
                p.grad = np.sin(np.arange(p.size) + step)
            each.step()
    for p, q in zip(first, second, strict=True):
        np.testing.assert_array_equal(p.data, q.data)
    assert fresh.param_groups[0]["lr"] == 0.05 * optimizer.state_dict()["groups"][0][1]


@each_optimizer
def test_the_state_of_other_groups_is_refused_and_changes_nothing(make):
    p, q = parameter(3), parameter(3)
    grouped, plain = in_groups(make, p, q, 0.5), make([p, q])
    assert "groups" not in plain.state_dict()
    plain.lr = 0.9
    for taker, giver, message in (
        (grouped, plain, r"groups of \[2\] parameters, not of \[1, 1\]"),
        (plain, grouped, r"groups of \[1, 1\] parameters, not of \[2\]"),
    ):
        before = taker.state_dict()
        with pytest.raises(ValueError, match=f"the state is of {message}"):
            taker.load_state_dict(giver.state_dict())
        assert taker.state_dict() == before


def test_a_state_has_a_name_for_every_array():
    p, q = parameter(2), parameter(3)
    optimizer = optim.Adam([p, q], lr=0.1)
    train(optimizer, q, gradients((3,), count=2))
    state = optimizer.state_dict()
    assert (state["steps"], state["lr"], list(state["arrays"])) == (2, 0.1, ["1.m", "1.v"])


def test_a_state_takes_the_dtype_of_the_parameters():
    p, q = parameter(3), parameter(3, dtype=np.float32)
    optimizer, other = optim.Momentum([p], lr=0.1), optim.Momentum([q], lr=0.1)
    train(optimizer, p, gradients((3,)))
    other.load_state_dict(optimizer.state_dict())
    assert other.state[0]["v"].dtype == np.float32


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"2.m": np.zeros(2), "2.v": np.zeros(2)}, r"the state 2\.m \(2,\) is not of these parameters"),
        ({"0.m": np.zeros(2), "0.w": np.zeros(2)}, r"the state 0\.w \(2,\)"),
        ({"0.m": np.zeros(3), "0.v": np.zeros(2)}, r"the state 0\.m \(3,\)"),
        ({"m": np.zeros(2)}, r"the state m \(2,\)"),
        ({"-1.m": np.zeros(2)}, r"the state -1\.m"),
        ({"0.m": np.ones(2), "0.v": np.ones(2), "1.v": np.zeros(3)}, r"the state of a parameter is not whole: \['v'\]"),
    ],
)
def test_a_foreign_state_is_refused_and_changes_nothing(arrays, message):
    p, q = parameter(2), parameter(3)
    optimizer = optim.Adam([p, q], lr=0.1)
    train(optimizer, p, gradients((2,)))
    before = {slot: array.copy() for slot, array in optimizer.state[0].items()}
    with pytest.raises(ValueError, match=f"^Adam: {message}"):
        optimizer.load_state_dict({"steps": 99, "lr": 9.0, "updates": [99, 99], "arrays": arrays})
    assert (optimizer.steps, optimizer.lr) == (STEPS, 0.1)
    np.testing.assert_equal(optimizer.state, [before, {}])


@each_optimizer
def test_a_state_that_is_not_whole_is_refused(make):
    optimizer = make([parameter(2)])
    with pytest.raises(ValueError, match=r"the state has no steps, lr, updates, arrays$"):
        optimizer.load_state_dict({})
    state = make([parameter(2), parameter(2)]).state_dict()
    with pytest.raises(ValueError, match=r"the state is of 2 parameters, not 1$"):
        optimizer.load_state_dict(state)


def test_the_state_of_another_rule_is_refused():
    p = parameter(2)
    momentum, adam, sgd = optim.Momentum([p], lr=0.1), optim.Adam([p], lr=0.1), optim.SGD([p], lr=0.1)
    for optimizer in (momentum, adam):
        train(optimizer, p, gradients((2,)))
    for taker, giver in ((adam, momentum), (momentum, adam), (sgd, adam), (sgd, momentum)):
        with pytest.raises(ValueError, match=f"^{type(taker).__name__}: the state"):
            taker.load_state_dict(giver.state_dict())


# --- schedules --------------------------------------------------------------------------------------------------------


def at(make, steps=6, lr=0.8):
    """The rates that a schedule sets, from the first step on."""
    optimizer = optim.SGD([parameter(1)], lr=lr)
    schedule, rates = make(optimizer), []
    for _ in range(steps):
        rates.append(optimizer.lr)
        schedule.step()
    return rates


SCHEDULES = {
    "LambdaLR": (lambda o: optim.LambdaLR(o, lambda t: 2.0**-t), [0.8, 0.4, 0.2, 0.1, 0.05, 0.025]),
    "StepLR": (lambda o: optim.StepLR(o, 2, gamma=0.5), [0.8, 0.8, 0.4, 0.4, 0.2, 0.2]),
    "LinearLR": (lambda o: optim.LinearLR(o, 1.0, 0.0, total_iters=4), [0.8, 0.6, 0.4, 0.2, 0.0, 0.0]),
    "CosineAnnealingLR": (
        lambda o: optim.CosineAnnealingLR(o, T_max=4, eta_min=0.2),
        [0.8, 0.5 + 0.3 * math.cos(math.pi / 4), 0.5, 0.5 - 0.3 * math.cos(math.pi / 4), 0.2],
    ),
    "Warmup": (lambda o: optim.Warmup(optim.StepLR(o, 1, gamma=0.5), 4), [0.2, 0.4, 0.6, 0.8, 0.8, 0.4]),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_sets_the_rates_of_its_formula(name):
    make, expected = SCHEDULES[name]
    np.testing.assert_allclose(at(make, len(expected)), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_schedule_goes_on_where_it_stood_bit_for_bit(name, steps):
    make, _ = SCHEDULES[name]
    whole = at(make)
    optimizer = optim.SGD([parameter(1)], lr=0.8)
    schedule = make(optimizer)
    for _ in range(steps):
        schedule.step()
    state = json.loads(json.dumps(schedule.state_dict()))
    resumed = optim.SGD([parameter(1)], lr=0.8)
    other = make(resumed)
    other.load_state_dict(state)
    rates = []
    for _ in range(6 - steps):
        rates.append(resumed.lr)
        other.step()
    assert rates == whole[steps:]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_any_figure_is_better_than_an_infinite_one(mode):
    optimizer = optim.SGD([with_gradient(np.zeros(1))], lr=1.0)
    schedule = optim.ReduceLROnPlateau(optimizer, mode=mode, patience=0)
    sign = 1 if mode == "min" else -1
    for figure in (math.inf, 5, 4, 3):
        schedule.step(sign * figure)
    assert optimizer.lr == 1.0
    assert schedule.best == sign * 3


def test_the_rate_falls_where_a_figure_does_not_get_better():
    optimizer = optim.SGD([parameter(1)], lr=16.0)
    schedule = optim.ReduceLROnPlateau(optimizer, factor=0.25, patience=1, min_lr=0.5)
    rates = []
    for value in [9, 8, 8, 8.5, 7, 7, math.nan, 7, 7, 7, 7]:
        schedule.step(value)
        rates.append(optimizer.lr)
    assert rates == [16, 16, 16, 4, 4, 4, 1, 1, 0.5, 0.5, 0.5]
    assert schedule.best == 7
    upwards = optim.ReduceLROnPlateau(optimizer, mode="max", patience=0)
    for value in [0.1, 0.2, 0.15]:
        upwards.step(value)
    assert optimizer.lr == 0.05
    fresh = optim.ReduceLROnPlateau(optimizer, patience=0)
    fresh.step(math.nan)
    assert fresh.best is None


def test_a_schedule_on_a_plateau_goes_on_where_it_stood():
    def run(values, state=None, lr=1.0):
        optimizer = optim.SGD([parameter(1)], lr=lr)
        schedule = optim.ReduceLROnPlateau(optimizer, patience=1)
        if state:
            schedule.load_state_dict(state)
        for value in values:
            schedule.step(value)
        return optimizer.lr, json.loads(json.dumps(schedule.state_dict()))

    values = [3.0, 3.0, 3.0, 2.0, 2.5, 2.5]
    for cut in range(len(values) + 1):
        lr, state = run(values[:cut])
        assert run(values[cut:], state, lr) == run(values)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda o: optim.StepLR(o, 0), "StepLR: step_size must be at least 1, not 0"),
        (lambda o: optim.LinearLR(o, total_iters=0), "LinearLR: total_iters must be at least 1, not 0"),
        (lambda o: optim.CosineAnnealingLR(o, T_max=0), "CosineAnnealingLR: T_max must be at least 1, not 0"),
        (lambda o: optim.Warmup(optim.StepLR(o, 1), 0), "Warmup: warmup_steps must be at least 1, not 0"),
        (lambda o: optim.ReduceLROnPlateau(o, mode="low"), 'mode must be "min" or "max", not \'low\''),
        (lambda o: optim.ReduceLROnPlateau(o, factor=1.0), r"factor must lie in \(0, 1\), not 1\.0"),
        (
            lambda o: optim.StepLR(o, 1).load_state_dict({"rule": "LinearLR"}),
            "LinearLR, the schedule is StepLR",
        ),
        (lambda o: optim.ReduceLROnPlateau(o).load_state_dict({"rule": "StepLR"}), "the schedule is ReduceLROnPlateau"),
    ],
)
def test_a_schedule_refuses_settings_that_make_no_sense_and_states_of_others(make, message):
    with pytest.raises(ValueError, match=message):
        make(optim.SGD([parameter(1)], lr=1.0))


def test_a_schedule_without_a_rule_says_so():
    with pytest.raises(NotImplementedError, match=r"LRScheduler\.lr_at"):
        optim.LRScheduler(optim.SGD([parameter(1)], lr=1.0))
