"""Recurrent layers and cells: the formulas that they equal, layers, directions, lengths, dropout, state, bad input."""

import contextlib
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_nlp as tn
from tinygrad_nlp import Variable, backend, nn
from tinygrad_nlp.nn import functional as F
from tinygrad_nlp.nn import fused

KINDS = [nn.RNN, nn.LSTM, nn.GRU]
each_kind = pytest.mark.parametrize("kind", KINDS)


def normal(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def in_float64(module):
    for parameter in module.parameters():
        parameter.data = parameter.data.astype(float)
    return module


def parts(state):
    """A state as a list of arrays."""
    return list(state) if isinstance(state, tuple) else [state]


def numbers(y):
    return [x.data for x in (y[0], *parts(y[1]))]


def assert_all_close(actual, desired, rtol=1e-9, atol=1e-11):
    assert len(actual) == len(desired)
    for a, d in zip(actual, desired, strict=True):
        np.testing.assert_allclose(np.asarray(getattr(a, "data", a)), np.asarray(getattr(d, "data", d)), rtol, atol)


# --- the formulas, written out as the literature has them -------------------------------------------------------------
#
# x and h are rows; W and U are lists of one matrix for each gate, and so is b.


def split_weights(weights, gates):
    """W_ih, W_hh, b_ih, b_hh → for each gate U (for x), W (for h) and one bias."""
    u, w, b_ih, b_hh = (tn.split(weight, gates) for weight in weights)
    return [(u_k, w_k, b_k + c_k) for u_k, w_k, b_k, c_k in zip(u, w, b_ih, b_hh, strict=True)]


def affine(gate, x, h):
    u, w, b = gate
    return x @ u.T + h @ w.T + b


def elman(x, state, weights):
    (h,) = state
    (gate,) = split_weights(weights, 1)
    return (tn.tanh(affine(gate, x, h)),)


def lstm_without_a_forget_gate(x, state, weights):
    """Hochreiter and Schmidhuber (1997)."""
    h, s = state
    gate_i, gate_g, gate_o = split_weights(weights, 3)
    g = tn.tanh(affine(gate_g, x, h))
    i = tn.sigmoid(affine(gate_i, x, h))
    o = tn.sigmoid(affine(gate_o, x, h))
    s = s + g * i
    return tn.tanh(s) * o, s


def lstm(x, state, weights):
    """With the forget gate of Gers et al. (2000)."""
    h, s = state
    gate_i, gate_f, gate_g, gate_o = split_weights(weights, 4)
    g = tn.tanh(affine(gate_g, x, h))
    i = tn.sigmoid(affine(gate_i, x, h))
    o = tn.sigmoid(affine(gate_o, x, h))
    f = tn.sigmoid(affine(gate_f, x, h))
    s = f * s + g * i
    return tn.tanh(s) * o, s


def lstm_with_peepholes(x, state, weights):
    """Gers and Schmidhuber (2000): i and f see the cells before the step, o those after it."""
    h, s = state
    *weights, peepholes = weights
    p_i, p_f, p_o = tn.split(peepholes, 3)
    gate_i, gate_f, gate_g, gate_o = split_weights(weights, 4)
    i = tn.sigmoid(affine(gate_i, x, h) + p_i * s)
    f = tn.sigmoid(affine(gate_f, x, h) + p_f * s)
    s = f * s + tn.tanh(affine(gate_g, x, h)) * i
    o = tn.sigmoid(affine(gate_o, x, h) + p_o * s)
    return tn.tanh(s) * o, s


def gru_with_reset_before_the_product(x, state, weights):
    (h,) = state
    gate_r, gate_z, gate_n = split_weights(weights, 3)
    r, z = tn.sigmoid(affine(gate_r, x, h)), tn.sigmoid(affine(gate_z, x, h))
    candidate = tn.tanh(affine(gate_n, x, r * h))
    return ((1 - z) * candidate + z * h,)


def gru_with_reset_after_the_product(x, state, weights):
    (h,) = state
    gate_r, gate_z, _ = split_weights(weights, 3)
    u, w, b, b_h = (tn.split(weight, 3)[2] for weight in weights)
    r, z = tn.sigmoid(affine(gate_r, x, h)), tn.sigmoid(affine(gate_z, x, h))
    candidate = tn.tanh(x @ u.T + b + r * (h @ w.T + b_h))
    return ((1 - z) * candidate + z * h,)


FORMULAS = {
    elman: (nn.RNN, {}),
    lstm_without_a_forget_gate: (nn.LSTM, {"forget_gate": False}),
    lstm: (nn.LSTM, {}),
    lstm_with_peepholes: (nn.LSTM, {"peepholes": True}),
    gru_with_reset_before_the_product: (nn.GRU, {"reset_after": False}),
    gru_with_reset_after_the_product: (nn.GRU, {}),
}


def unrolled(formula, x, state, weights):
    """A layer by its formula: outputs (N, T, H) and the last state."""
    hs = []
    for x_t in tn.unstack(x, axis=1):
        state = formula(x_t, state, weights)
        hs.append(state[0])
    return tn.stack(hs, axis=1), *state


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("formula", FORMULAS, ids=lambda formula: formula.__name__)
def test_a_layer_is_its_formula_stacked_and_in_both_directions(formula, layers, bidirectional):
    kind, settings = FORMULAS[formula]
    layer = in_float64(kind(3, 4, layers, bidirectional=bidirectional, **settings))
    parameters = list(layer.parameters())
    directions = 1 + bidirectional
    x = Variable(normal(2, 5, 3), requires_grad=True)
    state = [Variable(normal(layers * directions, 2, 4, seed=k), requires_grad=True) for k in range(fused_states(kind))]

    hs, last = layer(x, tuple(state) if kind is nn.LSTM else state[0])

    each = len(parameters) // (layers * directions)
    y, lasts = x, []
    for index in range(0, layers * directions, directions):
        outputs = []
        for direction in range(directions):
            weights = parameters[(index + direction) * each : (index + direction + 1) * each]
            into = y[:, ::-1] if direction else y
            output, *after = unrolled(formula, into, tuple(part[index + direction] for part in state), weights)
            outputs.append(output[:, ::-1] if direction else output)
            lasts.append(after)
        y = tn.concatenate(outputs, axis=2)
    expected = [y, *(tn.stack(part) for part in zip(*lasts, strict=True))]

    assert_all_close([hs, *parts(last)], expected)
    leaves = [x, *state, *parameters]
    seeds = [normal(*y.shape, seed=k) for k, y in enumerate(expected)]
    assert_all_close(tn.grad([hs, *parts(last)], leaves, seeds), tn.grad(expected, leaves, seeds))


@pytest.mark.parametrize("formula", [lstm_without_a_forget_gate, lstm])
def test_the_output_of_a_network_of_lstms_is_softmax_of_v_h_and_c(formula):
    """Some texts leave V and c out: they are the unit matrix and zeros then."""
    kind, settings = FORMULAS[formula]
    layer, out = in_float64(kind(3, 4, **settings)), in_float64(nn.Linear(4, 5))
    x, zeros = normal(2, 6, 3), np.zeros((2, 4))
    hs, _, _ = unrolled(formula, Variable(x), (zeros, zeros), list(layer.parameters()))
    v, c = out.weight, out.bias
    e = tn.exp(hs @ v.T + c)
    y = e / e.sum(axis=-1, keepdims=True)
    ours = tn.softmax(out(layer(x)[0]))
    leaves = [*layer.parameters(), *out.parameters()]
    seed = normal(*y.shape)
    assert_all_close([ours, *tn.grad(ours, leaves, seed)], [y, *tn.grad(y, leaves, seed)])
    with_units = tn.softmax(F.linear(hs, np.eye(4), np.zeros(4)))
    e = tn.exp(hs)
    assert_all_close([with_units], [e / e.sum(axis=-1, keepdims=True)])


def fused_states(kind):
    return 2 if kind is nn.LSTM else 1


# --- kernels and definitions, layer by layer --------------------------------------------------------------------------


@contextlib.contextmanager
def by_definition():
    """Layers run the plain formulas in the place of their kernels."""
    with pytest.MonkeyPatch.context() as patch:
        for kernel in (fused.RNN, fused.LSTM, fused.GRU):
            patch.setattr(kernel, "__call__", kernel.definition)
        yield


SETTINGS = [
    (nn.RNN, {}), (nn.RNN, {"nonlinearity": "relu"}), (nn.LSTM, {}), (nn.LSTM, {"peepholes": True}),
    (nn.LSTM, {"forget_gate": False}), (nn.LSTM, {"forget_gate": False, "peepholes": True}), (nn.GRU, {}),
    (nn.GRU, {"reset_after": False}),
]  # fmt: skip


@given(st.data())
def test_layers_agree_with_their_definitions_to_second_order(data):
    kind, settings = data.draw(st.sampled_from(SETTINGS))
    layers, bidirectional = data.draw(st.integers(1, 2)), data.draw(st.booleans())
    n, steps, features, hidden = (data.draw(st.integers(1, 3)) for _ in range(4))
    mask = data.draw(st.none() | st.lists(st.booleans(), min_size=n * steps, max_size=n * steps))
    mask = None if mask is None else np.array(mask).reshape(n, steps)
    chances = {"variational": data.draw(st.booleans()), "recurrent_dropout": data.draw(st.sampled_from([0.0, 0.5]))}
    if layers > 1:
        chances["dropout"] = data.draw(st.sampled_from([0.0, 0.5]))
    tn.manual_seed(data.draw(st.integers(0, 99)))
    layer = in_float64(kind(features, hidden, layers, bidirectional=bidirectional, **settings, **chances))
    x = Variable(normal(n, steps, features), requires_grad=True)
    leaves = [x, *layer.parameters()]

    def to_second_order():
        tn.manual_seed(1)  # the same masks of dropout
        hs, state = layer(x, mask=mask)
        outputs = [hs, *parts(state)]
        seeds = [Variable(normal(*y.shape, seed=k), requires_grad=True) for k, y in enumerate(outputs)]
        first = tn.grad(outputs, leaves, seeds, create_graph=True, allow_unused=True)
        first = [g for g in first if g is not None]
        second = tn.grad(
            first, [*leaves, *seeds], [normal(*g.shape, seed=k) for k, g in enumerate(first)], allow_unused=True
        )
        return [*outputs, *first, *(g for g in second if g is not None)]

    with by_definition():
        expected = to_second_order()
    assert_all_close(to_second_order(), expected)


@each_kind
def test_a_long_large_batch_agrees_with_its_definition(kind):
    layer = in_float64(kind(3, 20, bidirectional=True))
    x = Variable(normal(200, 40, 3), requires_grad=True)
    mask = np.random.default_rng(0).random((200, 40)) < 0.9

    def outputs_and_gradients():
        hs, state = layer(x, mask=mask)
        outputs = [hs, *parts(state)]
        return [*outputs, *tn.grad(outputs, [x, *layer.parameters()], [normal(*y.shape) for y in outputs])]

    with by_definition():
        expected = outputs_and_gradients()
    assert_all_close(outputs_and_gradients(), expected)


@each_kind
def test_the_last_state_is_memory_of_its_own(kind):
    hs, state = kind(3, 4, bidirectional=True)(normal(2, 5, 3, dtype=np.float32))
    assert not any(np.shares_memory(hs.data, part.data) for part in parts(state))


@each_kind
def test_a_change_of_what_backward_reads_is_noticed(kind):
    layer = kind(4, 6)
    hs, state = layer(normal(3, 5, 4, dtype=np.float32))
    with tn.no_grad():
        hs.data *= 2
    with pytest.raises(RuntimeError, match="changed in place"):
        parts(state)[0].sum().backward()


# --- lengths and masks ------------------------------------------------------------------------------------------------


@each_kind
@given(data=st.data())
def test_a_padded_batch_is_its_sequences_one_by_one(kind, data):
    lengths = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=4))
    layers, bidirectional = data.draw(st.integers(1, 2)), data.draw(st.booleans())
    layer = in_float64(kind(3, 2, layers, bidirectional=bidirectional))
    n, steps = len(lengths), max(*lengths, 1)
    x = Variable(normal(n, steps, 3), requires_grad=True)
    count = layers * (1 + bidirectional)
    first = [Variable(normal(count, n, 2, seed=k), requires_grad=True) for k in range(fused_states(kind))]
    hs, state = layer(x, tuple(first) if kind is nn.LSTM else first[0], lengths=lengths)
    loss = sum((part * normal(*part.shape, seed=7)).sum() for part in parts(state))
    one_by_one = 0
    for row, length in enumerate(lengths):
        its = [part[:, row : row + 1] for part in first]
        if length:
            alone, its = layer(x[row : row + 1, :length], tuple(its) if kind is nn.LSTM else its[0])
            np.testing.assert_allclose(hs.data[row, :length], alone.data[0], rtol=1e-10)
            its = parts(its)
        for part, expected in zip(parts(state), its, strict=True):
            np.testing.assert_allclose(part.data[:, row], expected.data[:, 0], rtol=1e-10)
        one_by_one = one_by_one + sum(
            (part * normal(*whole.shape, seed=7)[:, row : row + 1]).sum()
            for part, whole in zip(its, parts(state), strict=True)
        )
    leaves = [x, *first, *layer.parameters()]

    def gradients(y):
        found = tn.grad(y, leaves, allow_unused=True)
        return [np.zeros(leaf.shape) if g is None else g for g, leaf in zip(found, leaves, strict=True)]

    assert_all_close(gradients(loss), gradients(one_by_one))


@each_kind
def test_behind_its_end_a_sequence_stands_still(kind):
    layer, x = kind(3, 2, bidirectional=True), normal(2, 5, 3, dtype=np.float32)
    hs, state = layer(x, lengths=[5, 2])
    h = parts(state)[0].data
    np.testing.assert_array_equal(hs.data[1, 1:, :2], np.stack([h[0, 1]] * 4))  # forwards: the last state
    np.testing.assert_array_equal(hs.data[1, 2:, 2:], np.zeros((3, 2)))  # backwards: the first, of zeros
    np.testing.assert_array_equal(hs.data[1, 0, 2:], h[1, 1])


@each_kind
def test_a_sequence_of_no_steps_keeps_its_first_state(kind):
    layer = kind(3, 2, num_layers=2)
    first = normal(2, 3, 2, dtype=np.float32)
    state = (first, first) if kind is nn.LSTM else first
    hs, last = layer(normal(3, 4, 3, dtype=np.float32), state, lengths=np.array([4, 0, 1]))
    for part in parts(last):
        np.testing.assert_array_equal(part.data[:, 1], first[:, 1])
    np.testing.assert_array_equal(hs.data[1], [first[1, 1]] * 4)


@each_kind
def test_lengths_are_the_mask_that_they_say(kind):
    layer, x = kind(3, 2), normal(2, 4, 3, dtype=np.float32)
    mask = np.array([[True, True, True, False], [True, False, False, False]])
    assert_all_close(numbers(layer(x, lengths=[3, 1])), numbers(layer(x, mask=mask)), rtol=0, atol=0)
    assert_all_close(numbers(layer(x, mask=mask.tolist())), numbers(layer(x, mask=mask)), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("lengths", "error", "message"),
    [
        ([4, 5], ValueError, "lstm in LSTM: lengths[1] is 5; x (2, 4, 3) has 4 steps"),
        ([-1, 2], ValueError, "lstm in LSTM: lengths[0] is -1; x (2, 4, 3) has 4 steps"),
        ([1, 2, 3], ValueError, "lstm in LSTM: lengths has the shape (3,); (2,) is needed"),
        ([1.0, 2.0], TypeError, "lstm in LSTM: lengths must be integers, not float64"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(lengths, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        nn.LSTM(3, 2)(normal(2, 4, 3, dtype=np.float32), lengths=lengths)


def test_a_mask_and_lengths_are_one_too_many():
    with pytest.raises(ValueError, match=r"^gru in GRU: pass a mask or lengths, not both$"):
        nn.GRU(3, 2)(normal(2, 4, 3, dtype=np.float32), mask=np.ones((2, 4), bool), lengths=[4, 4])


# --- state ------------------------------------------------------------------------------------------------------------


@each_kind
def test_a_layer_starts_from_zeros_and_returns_its_state(kind):
    layer = kind(3, 4)
    x = normal(2, 5, 3, dtype=np.float32)
    hs, state = layer(x)
    assert hs.shape == (2, 5, 4)
    assert {part.shape for part in parts(state)} == {(1, 2, 4)}
    np.testing.assert_array_equal(hs.data[:, -1], parts(state)[0].data[0])
    zeros = np.zeros((1, 2, 4), np.float32)
    np.testing.assert_array_equal(layer(x, (zeros, zeros) if kind is nn.LSTM else zeros)[0].data, hs.data)
    more, _ = layer(x[:, 3:], layer(x[:, :3])[1])
    np.testing.assert_allclose(more.data, hs.data[:, 3:], rtol=1e-5, atol=1e-6)


@each_kind
def test_a_detached_state_cuts_the_graph(kind):
    layer = kind(3, 4, num_layers=2)
    x = Variable(normal(2, 5, 3, dtype=np.float32), requires_grad=True)
    _, state = layer(x)
    detached = state.detach()
    assert type(detached) is type(state)
    for old, new in zip(parts(state), parts(detached), strict=True):
        assert old.data is new.data
    hs, _ = layer(Variable(normal(2, 5, 3, dtype=np.float32)), detached)
    hs.sum().backward()
    assert x.grad is None
    layer(x, state)[0].sum().backward()
    assert x.grad is not None


def test_the_state_of_an_lstm_is_a_pair_with_names():
    _, state = nn.LSTM(3, 4)(normal(2, 5, 3, dtype=np.float32))
    h, c = state
    assert state.h is h
    assert state.c is c


@each_kind
def test_a_batch_of_nothing_has_outputs_of_nothing(kind):
    layer = kind(3, 4, num_layers=2, bidirectional=True)
    x = Variable(np.empty((0, 5, 3), np.float32), requires_grad=True)
    hs, state = layer(x)
    assert hs.shape == (0, 5, 8)
    assert {part.shape for part in parts(state)} == {(4, 0, 4)}
    hs.sum().backward()
    assert x.grad.shape == (0, 5, 3)
    assert not layer.weight_hh_l0.grad.any()


# --- cells ------------------------------------------------------------------------------------------------------------

CELLS = [
    (nn.RNN, nn.RNNCell, {}), (nn.RNN, nn.RNNCell, {"nonlinearity": "relu"}), (nn.RNN, nn.RNNCell, {"bias": False}),
    (nn.LSTM, nn.LSTMCell, {}), (nn.LSTM, nn.LSTMCell, {"peepholes": True}),
    (nn.LSTM, nn.LSTMCell, {"forget_gate": False}), (nn.GRU, nn.GRUCell, {}),
    (nn.GRU, nn.GRUCell, {"reset_after": False}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "cell", "settings"), CELLS)
def test_a_cell_is_one_step_of_its_layer(kind, cell, settings):
    layer, cell = in_float64(kind(3, 4, **settings)), in_float64(cell(3, 4, **settings))
    cell.load_state_dict({name.removesuffix("_l0"): array for name, array in layer.state_dict().items()})
    x = Variable(normal(2, 5, 3), requires_grad=True)
    hs, last = layer(x)
    state = None
    for t in range(5):
        state = cell(x[:, t], state)
        np.testing.assert_allclose(parts(state)[0].data, hs.data[:, t], rtol=1e-10)
    assert_all_close(parts(state), [part.data[0] for part in parts(last)])
    seeds = [normal(2, 4, seed=k) for k in range(len(parts(state)))]
    ours = tn.grad(parts(state), [x, *cell.parameters()], seeds)
    theirs = tn.grad(parts(last), [x, *layer.parameters()], [seed[None] for seed in seeds])
    assert_all_close(ours, theirs)
    if kind is nn.LSTM:
        assert isinstance(state.detach(), nn.LSTMState)


def test_a_cell_names_what_does_not_fit():
    x = np.ones((2, 3), np.float32)
    for call, error, message in (
        (
            lambda: nn.LSTMCell(3, 4)(x[None]),
            ValueError,
            "lstm in LSTMCell: x has the shape (1, 2, 3); (N, D) is needed",
        ),
        (
            lambda: nn.GRUCell(4, 4)(x),
            ValueError,
            "gru in GRUCell: x has 3 features (2, 1, 3), weight_ih (12, 4) needs 4",
        ),
        (
            lambda: nn.RNNCell(3, 4)(x, x),
            ValueError,
            "rnn in RNNCell: h_0 has the shape (2, 3); (2, 4) is needed",
        ),
        (lambda: nn.RNNCell(3, 4)([[1.0]]), TypeError, "rnn in RNNCell: x must be an array or a Variable, not list"),
        (lambda: nn.GRUCell(0, 4), ValueError, "GRUCell: input_size must be 1 or more, not 0"),
    ):
        with pytest.raises(error, match=f"^{re.escape(message)}$"):
            call()


# --- dropout ----------------------------------------------------------------------------------------------------------


@each_kind
def test_in_evaluation_nothing_is_dropped(kind):
    plain = kind(3, 4, 2)
    layer = kind(3, 4, 2, dropout=0.5, variational=True, input_dropout=0.5, recurrent_dropout=0.5)
    layer.load_state_dict(plain.state_dict())
    x = normal(2, 5, 3, dtype=np.float32)
    stream = backend.generator().bit_generator.state
    assert_all_close(numbers(layer.eval()(x)), numbers(plain(x)), rtol=0, atol=0)
    assert backend.generator().bit_generator.state == stream
    assert not np.array_equal(layer.train()(x)[0].data, plain(x)[0].data)


@pytest.mark.parametrize("variational", [False, True])
def test_dropout_acts_between_layers_on_each_step_or_on_all_alike(variational):
    layer = nn.RNN(3, 50, 2, dropout=0.5, variational=variational)
    layer.weight_ih_l1.data = np.eye(50, dtype=np.float32)
    layer.weight_hh_l1.data = np.zeros((50, 50), np.float32)
    for bias in (layer.bias_ih_l1, layer.bias_hh_l1):
        bias.data = np.zeros(50, np.float32)
    x = normal(2, 5, 3, dtype=np.float32)
    hs, _ = layer(x)
    lower, _ = F.rnn(x, np.zeros((2, 50), np.float32), *[p.data for p in layer.parameters()][:4])
    dropped = hs.data == 0
    assert 0.3 < dropped.mean() < 0.7
    np.testing.assert_allclose(hs.data[~dropped], np.tanh(2 * lower[~dropped]), rtol=1e-5)
    assert (dropped == dropped[:, :1]).all() == variational
    assert not (dropped[0] == dropped[1]).all()


def test_input_dropout_drops_the_same_features_at_all_steps():
    layer = nn.RNN(50, 50, input_dropout=0.5)
    layer.load_state_dict({
        "weight_ih_l0": np.eye(50), "weight_hh_l0": np.zeros((50, 50)), "bias_ih_l0": np.zeros(50),
        "bias_hh_l0": np.zeros(50),
    })  # fmt: skip
    x = normal(2, 5, 50, dtype=np.float32)
    hs, _ = layer(x)
    dropped = hs.data == 0
    assert 0.3 < dropped.mean() < 0.7
    assert (dropped == dropped[:, :1]).all()
    np.testing.assert_allclose(hs.data[~dropped], np.tanh(2 * x[~dropped]), rtol=1e-5)


@each_kind
def test_recurrent_dropout_draws_one_mask_for_all_steps(kind):
    layer = kind(3, 4, recurrent_dropout=0.5)
    function = {nn.RNN: F.rnn, nn.LSTM: F.lstm, nn.GRU: F.gru}[kind]
    x, zeros = normal(2, 5, 3, dtype=np.float32), np.zeros((2, 4), np.float32)
    tn.manual_seed(5)
    hs, _ = layer(x)
    tn.manual_seed(5)
    mask = F.dropout_mask((2, 4), 0.5, zeros)
    assert set(mask.ravel().tolist()) == {0.0, 2.0}
    state = (zeros, zeros) if kind is nn.LSTM else zeros
    expected, _ = function(x, state, *layer.parameters(), recurrent_mask=mask)
    np.testing.assert_array_equal(hs.data, expected.data)
    assert not np.allclose(hs.data, function(x, state, *layer.parameters())[0].data)


def test_dropout_of_a_whole_axis_shares_its_draw():
    x = np.ones((3, 40, 5), np.float32)
    y = F.dropout(x, 0.5, shared_axis=1)
    assert (y == y[:, :1]).all()
    assert set(y.ravel().tolist()) == {0.0, 2.0}
    assert repr(nn.Dropout(0.5, shared_axis=1)) == "Dropout(0.5, shared_axis=1)"
    tn.manual_seed(0)
    first = nn.Dropout(0.5, shared_axis=-2)(x)
    tn.manual_seed(0)
    np.testing.assert_array_equal(F.dropout(x, shared_axis=1), first)
    with pytest.raises(ValueError, match=re.escape("dropout: x (3, 40, 5) has no axis 3 to share")):
        F.dropout(x, shared_axis=3)


def test_dropout_with_one_layer_is_warned_of_as_in_pytorch():
    with pytest.warns(UserWarning, match=r"LSTM: dropout=0.5 acts between layers, and here is only one"):
        nn.LSTM(3, 4, dropout=0.5)


# --- parameters -------------------------------------------------------------------------------------------------------


def test_parameters_have_the_names_of_pytorch_and_its_order():
    layer = nn.GRU(3, 4, 2, bidirectional=True)
    assert {name: p.shape for name, p in layer.named_parameters()} == {
        "weight_ih_l0": (12, 3), "weight_hh_l0": (12, 4), "bias_ih_l0": (12,), "bias_hh_l0": (12,),
        "weight_ih_l0_reverse": (12, 3), "weight_hh_l0_reverse": (12, 4), "bias_ih_l0_reverse": (12,),
        "bias_hh_l0_reverse": (12,), "weight_ih_l1": (12, 8), "weight_hh_l1": (12, 4), "bias_ih_l1": (12,),
        "bias_hh_l1": (12,), "weight_ih_l1_reverse": (12, 8), "weight_hh_l1_reverse": (12, 4),
        "bias_ih_l1_reverse": (12,), "bias_hh_l1_reverse": (12,),
    }  # fmt: skip
    layer = nn.LSTM(3, 4, bias=False, forget_gate=False, peepholes=True)
    assert {name: p.shape for name, p in layer.named_parameters()} == {
        "weight_ih_l0": (12, 3), "weight_hh_l0": (12, 4), "peepholes_l0": (8,)
    }  # fmt: skip


@each_kind
def test_constant_weights_get_no_gradient(kind):
    layer = kind(3, 4)
    for parameter in layer.parameters():
        parameter.requires_grad = False
    x = Variable(normal(2, 5, 3, dtype=np.float32), requires_grad=True)
    layer(x)[0].sum().backward()
    assert x.grad is not None
    assert all(parameter.grad is None for parameter in layer.parameters())


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@each_kind
def test_a_layer_keeps_its_dtype(kind, dtype):
    layer = kind(3, 4, 2, bidirectional=True, dropout=0.5, recurrent_dropout=0.5, input_dropout=0.5)
    for parameter in layer.parameters():
        parameter.data = parameter.data.astype(dtype)
    x = Variable(normal(2, 5, 3, dtype=dtype), requires_grad=True)
    hs, state = layer(x)
    hs.sum().backward()
    assert {y.dtype for y in (hs, *parts(state))} == {np.dtype(dtype)}
    assert {g.dtype for g in (x.grad, *(p.grad for p in layer.parameters()))} == {np.dtype(dtype)}


def test_not_a_number_goes_through_to_where_it_leads_and_no_further():
    for kind in KINDS:
        layer, x = kind(3, 4), normal(2, 5, 3, dtype=np.float32)
        x[0, 2, 1] = np.nan
        hs, _ = layer(x)
        assert np.isfinite(hs.data[0, :2]).all()
        assert np.isnan(hs.data[0, 2:]).all()
        assert np.isfinite(hs.data[1]).all()


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.LSTM(0, 4), "LSTM: input_size must be 1 or more, not 0"),
        (lambda: nn.GRU(3, -1), "GRU: hidden_size must be 1 or more, not -1"),
        (lambda: nn.RNN(3, 4, 0), "RNN: num_layers must be 1 or more, not 0"),
        (lambda: nn.RNN(3, 4, 2, dropout=1.0), "RNN: dropout must lie in [0, 1), not 1.0"),
        (lambda: nn.LSTM(3, 4, recurrent_dropout=-0.5), "LSTM: recurrent_dropout must lie in [0, 1), not -0.5"),
        (lambda: nn.GRU(3, 4, input_dropout=2), "GRU: input_dropout must lie in [0, 1), not 2"),
        (lambda: nn.RNN(3, 4, nonlinearity="sin"), 'RNN: nonlinearity must be "tanh" or "relu", not \'sin\''),
        (lambda: nn.RNNCell(3, 4, nonlinearity=""), 'RNNCell: nonlinearity must be "tanh" or "relu", not \'\''),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()


@each_kind
def test_settings_that_there_are_not_are_named_with_those_that_there_are(kind):
    with pytest.raises(TypeError, match=f"^{kind.__name__}: there is no setting 'batch_first'; x is .N, T, D. always$"):
        kind(3, 4, batch_first=True)
    with pytest.raises(TypeError, match=f"^{kind.__name__}: there is no setting 'proj_size'; there are bias, bidirect"):
        kind(3, 4, proj_size=2)
    own = {nn.RNN: ["nonlinearity"], nn.LSTM: ["forget_gate", "peepholes"], nn.GRU: ["reset_after"]}[kind]
    with pytest.raises(TypeError, match=f"'peephole'; there are bias, .*, recurrent_dropout, {', '.join(own)}$"):
        kind(3, 4, peephole=True)
    if kind is not nn.LSTM:
        with pytest.raises(TypeError, match="there is no setting 'peepholes'"):
            kind(3, 4, peepholes=True)


@each_kind
def test_a_layer_names_the_argument_that_does_not_fit(kind):
    name = kind.__name__.lower()
    layer, x = kind(3, 4, 2), normal(2, 5, 3, dtype=np.float32)

    def state(*shape):
        return (np.zeros(shape, np.float32),) * 2 if kind is nn.LSTM else np.zeros(shape, np.float32)

    for call, message in (
        (lambda: layer(x[0]), f"{name} in {kind.__name__}: x has the shape (5, 3); (N, T, D) is needed"),
        (lambda: layer(x, state(2, 4)), f"{name} in {kind.__name__}: h_0 has the shape (2, 4); (2, 2, 4) is needed"),
        (lambda: layer(x, state(1, 2, 4)), f"{name} in {kind.__name__}: h_0 has the shape (1, 2, 4); (2, 2, 4) is"),
        (lambda: layer(x[:, :, :2]), f"{name} in {kind.__name__}.l0: x has 2 features (2, 5, 2), weight_ih"),
        (lambda: layer(x[:, :0]), f"{name} in {kind.__name__}.l0: x has no steps (T = 0)"),
        (lambda: layer(x, mask=np.ones((2, 4), bool)), f"{name} in {kind.__name__}.l0: mask has the shape (2, 4); "),
    ):
        with pytest.raises(ValueError, match="^" + re.escape(message)):
            call()
    with pytest.raises(TypeError, match=f"^{name} in {kind.__name__}: x must be an array or a Variable, not list$"):
        layer(x.tolist())


def test_the_state_of_an_lstm_is_two_arrays():
    layer, cell = nn.LSTM(3, 4), nn.LSTMCell(3, 4)
    x, h = normal(5, 2, 3, dtype=np.float32), np.zeros((1, 5, 4), np.float32)
    weights = list(layer.parameters())
    for call, message in (
        (lambda: layer(x, h), "lstm in LSTM: the state must be h_0 and c_0, not 1 array"),
        (lambda: layer(x, (h, h, h)), "lstm in LSTM: the state must be h_0 and c_0, not 3 arrays"),
        (lambda: cell(x[:, 0], h[0]), "lstm in LSTMCell: the state must be h_0 and c_0, not 5 arrays"),
        (lambda: F.lstm(x, h[0], *weights), "lstm: the state must be h_0 and c_0, not 5 arrays"),
    ):
        with pytest.raises(ValueError, match=f"^{message}$"):
            call()


ARGUMENTS = {
    "x": (2, 5, 3),
    "h_0": (2, 4),
    "weight_ih": (12, 3),
    "weight_hh": (12, 4),
    "bias_ih": (12,),
    "bias_hh": (12,),
}


@pytest.mark.parametrize(
    ("argument", "came", "needed"),
    [
        ("x", (5, 3), "(N, T, D)"), ("weight_ih", (12,), "(3H, D)"), ("weight_ih", (16, 3), "(12, 3)"),
        ("weight_hh", (4, 4), "(12, 4)"), ("bias_ih", (4,), "(12,)"), ("bias_hh", (12, 1), "(12,)"),
        ("h_0", (2, 3), "(2, 4)"),
    ],
)  # fmt: skip
def test_functions_name_the_argument_whose_shape_is_wrong(argument, came, needed):
    arrays = [np.ones(shape, np.float32) for shape in {**ARGUMENTS, argument: came}.values()]
    message = re.escape(f"gru: {argument} has the shape {came}; {needed} is needed")
    with pytest.raises(ValueError, match=f"^{message}$"):
        F.gru(*arrays)


def test_peepholes_and_a_recurrent_mask_have_their_shapes_too():
    x, h = np.ones((2, 5, 3), np.float32), np.ones((2, 4), np.float32)
    w_ih, w_hh = np.ones((16, 3), np.float32), np.ones((16, 4), np.float32)
    with pytest.raises(ValueError, match=re.escape("lstm: peepholes has the shape (16,); (12,) is needed")):
        F.lstm(x, (h, h), w_ih, w_hh, peepholes=np.ones(16, np.float32))
    with pytest.raises(ValueError, match=re.escape("lstm: weight_ih has the shape (16, 3); (12, 3) is needed")):
        F.lstm(x, (h, h), w_ih, w_hh, forget_gate=False)
    with pytest.raises(ValueError, match=re.escape("lstm: recurrent_mask has the shape (4,); (2, 4) is needed")):
        F.lstm(x, (h, h), w_ih, w_hh, recurrent_mask=np.ones(4, np.float32))
    with pytest.raises(TypeError, match="are x float32, recurrent_mask bool"):
        F.lstm(x, (h, h), w_ih, w_hh, recurrent_mask=np.ones((2, 4), bool))
    with pytest.raises(ValueError, match="rnn: nonlinearity must be"):
        F.rnn(x, h, np.ones((4, 3), np.float32), np.ones((4, 4), np.float32), nonlinearity="sigmoid")
