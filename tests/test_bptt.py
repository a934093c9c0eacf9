"""Back-propagation through time: cut, not cut, cut at random; perplexity; and how gradients vanish and explode."""

import itertools
import json
import math
import signal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_nlp as tn
from tinygrad_nlp import backend, nn, optim
from tinygrad_nlp.autograd.nested import map_nested
from tinygrad_nlp.data import SequentialWindows
from tinygrad_nlp.nn import functional as F
from tinygrad_nlp.training import (
    BPTT,
    Checkpoint,
    SaveCheckpoint,
    Trainer,
    loss_over_windows,
    perplexity,
    product_norms,
    random_factors,
    step_jacobians,
)

V = 7


class Model(nn.Module):
    """A small language model; its state has the form that the layer's has."""

    def __init__(self, layer=nn.LSTM, dropout=0.0, dtype=np.float32):
        self.embed, self.rnn, self.out = nn.Embedding(V, 3), layer(3, 4), nn.Linear(4, V)
        self.drop = nn.Dropout(dropout)
        self.before = lambda: None
        for parameter in self.parameters():
            parameter.data = parameter.data.astype(dtype)

    def forward(self, x, state=None):
        self.before()
        h, state = self.rnn(self.embed(x), state)
        return self.out(self.drop(h)), state


def batch(rows=2, steps=6, seed=0):
    ids = np.random.default_rng(seed).integers(V, size=(rows, steps + 1))
    return ids[:, :-1].copy(), ids[:, 1:].copy()


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return [np.array(p.grad.to_dense() if hasattr(p.grad, "to_dense") else p.grad) for p in model.parameters()]


def assert_equal(ours, theirs, **tolerance):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, **{"rtol": 1e-9, "atol": 1e-12, **tolerance})


# --- the strategies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("window", [1, 2, 4, 6, 9])
def test_with_factors_of_one_it_is_full_back_propagation(layer, window):
    model, (x, y) = Model(layer, dtype=np.float64), batch()
    y[1, 3:] = -100  # a row that ends early
    scores, state = model(x)
    full = F.cross_entropy(scores, y)
    loss, after = loss_over_windows(model, x, y, None, window, [1.0] * (-(-6 // window) - 1))
    assert float(loss) == pytest.approx(float(full), rel=1e-12)
    assert_equal(gradients(model, loss), gradients(model, full))
    parts, others = [], []
    map_nested(lambda part: parts.append(part.data), after)
    map_nested(lambda part: others.append(part.data), state)
    assert_equal(parts, others)


@pytest.mark.parametrize("layer", [nn.RNN, nn.LSTM, nn.GRU])
def test_with_factors_of_zero_it_is_truncated_back_propagation(layer):
    model, (x, y) = Model(layer, dtype=np.float64), batch()
    loss, _ = loss_over_windows(model, x, y, None, 2, [0.0, 0.0])
    ours = gradients(model, loss)
    state, by_hand = None, [0.0] * len(ours)
    for start in (0, 2, 4):
        scores, state = model(x[:, start : start + 2], state)
        part = gradients(model, F.cross_entropy(scores, y[:, start : start + 2]) / 3)
        by_hand = [a + b for a, b in zip(by_hand, part, strict=True)]
        state = map_nested(lambda h: h.detach(), state)
    assert_equal(ours, by_hand)
    full = gradients(model, F.cross_entropy(model(x)[0], y))
    assert max(abs(a - b).max() for a, b in zip(ours, full, strict=True)) > 1e-4  # what was cut off


@pytest.mark.parametrize("keep", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("layer", [nn.RNN, nn.LSTM])
def test_cutting_at_random_is_unbiased(layer, keep):
    model, (x, y) = Model(layer, dtype=np.float64), batch()
    expected = gradients(model, F.cross_entropy(model(x)[0], y))
    mean = [0.0] * len(expected)
    for factors in itertools.product([0.0, 1 / keep], repeat=5):  # all that can be drawn, with their probabilities
        probability = math.prod(keep if factor else 1 - keep for factor in factors)
        loss, _ = loss_over_windows(model, x, y, None, 1, factors)
        mean = [a + probability * b for a, b in zip(mean, gradients(model, loss), strict=True)]
    assert_equal(mean, expected)


@given(st.integers(0, 50), st.floats(0.05, 0.95))
def test_random_factors_are_zero_or_one_over_keep(count, keep):
    factors = random_factors(count, keep)
    assert len(factors) == count
    assert set(factors) <= {0.0, 1 / keep}


def test_random_factors_have_the_mean_one_and_come_from_the_librarys_stream():
    assert np.mean(random_factors(40_000, 0.2)) == pytest.approx(1, abs=0.05)
    before = backend.generator().bit_generator.state
    assert random_factors(3, 0) == [0.0] * 3
    assert random_factors(2, 1) == [1.0] * 2
    assert backend.generator().bit_generator.state == before


def test_bptt_carries_the_state_and_cuts_the_graph_between_batches():
    model = Model()
    bptt = BPTT(model)
    (x, y), (x2, y2) = batch(), batch(seed=1)
    first = bptt(x, y)
    scores, state = model(x)
    assert float(first) == float(F.cross_entropy(scores, y))
    carried = map_nested(lambda h: h.detach(), state)
    second = gradients(model, F.cross_entropy(model(x2, carried)[0], y2))
    assert_equal(gradients(model, bptt(x2, y2)), second, rtol=1e-6)
    bptt.on_epoch(None)
    assert bptt.state is None


@pytest.mark.parametrize(("window", "keep"), [(2, 0.0), (2, 1.0), (1, 0.5), (4, 0.5)])
def test_bptt_draws_its_factors(window, keep):
    model, (x, y) = Model(), batch()
    tn.manual_seed(3)
    factors = random_factors(-(-6 // window) - 1, keep)
    expected = gradients(model, loss_over_windows(model, x, y, None, window, factors)[0])
    tn.manual_seed(3)
    assert_equal(gradients(model, BPTT(model, window, keep)(x, y)), expected, rtol=0, atol=0)


def test_bptt_refuses():
    model, (x, y) = Model(), batch()
    with pytest.raises(ValueError, match="BPTT: window must be at least 1, not 0"):
        BPTT(model, 0)
    for keep in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"BPTT: keep must lie in \[0, 1\]"):
            BPTT(model, 2, keep)
    with pytest.raises(ValueError, match="3 windows need 2 factors between them, not 1"):
        loss_over_windows(model, x, y, None, 2, [1.0])


# --- in a Trainer -----------------------------------------------------------------------------------------------------

IDS = np.random.default_rng(5).integers(V, size=50).astype(np.uint8)


def run(path, layer=nn.LSTM, seed=0, stop_at=None, **options):
    """A trainer on 50 tokens: 4 steps an epoch."""
    tn.manual_seed(seed)
    model = Model(layer, dropout=0.2)
    trainer = Trainer(
        model, optim.Adam(model.parameters(), lr=0.01), BPTT(model, **options), 1.0, callbacks=[SaveCheckpoint(path)]
    )

    def interrupt():
        if trainer.steps + 1 == stop_at:
            model.before = lambda: None
            signal.raise_signal(signal.SIGINT)

    model.before = interrupt
    return trainer


def fit(trainer, resume=None):
    trainer.fit(SequentialWindows(IDS, 4, 3), 2, resume)


@pytest.mark.parametrize("layer", [nn.RNN, nn.LSTM])
@pytest.mark.parametrize("options", [{}, {"window": 1, "keep": 0.5}])
@pytest.mark.parametrize("step", [1, 3, 4, 6])
def test_an_interrupted_run_goes_on_with_the_state_that_it_carried(tmp_path, layer, options, step):
    whole = run(tmp_path / "whole", layer, **options)
    fit(whole)
    stopped = run(tmp_path / "part", layer, stop_at=step, **options)
    with pytest.raises(KeyboardInterrupt):
        fit(stopped)
    resumed = run(tmp_path / "part", layer, seed=9, **options)
    fit(resumed, Checkpoint.load(tmp_path / "part"))
    assert resumed.history == whole.history
    assert (tmp_path / "part").read_bytes() == (tmp_path / "whole").read_bytes()


def test_an_interrupted_run_begins_another_text_without_the_state_that_it_carried(tmp_path):
    stopped = run(tmp_path / "part", stop_at=2)
    with pytest.raises(KeyboardInterrupt):
        fit(stopped)
    carried = stopped.callbacks[0]
    assert carried.state is not None
    stopped.model.before = lambda: seen.append(carried.state)
    seen = []
    stopped.fit(SequentialWindows(IDS[::-1].copy(), 2, 3), 1)
    assert seen[0] is None


@pytest.mark.parametrize(
    "state",
    [None, np.ones((1, 2, 3), np.float32), (np.zeros(2), np.arange(3)), {"h": [np.ones(1)], "past": None, "steps": 3}],
)
def test_a_state_of_any_form_is_saved(state):
    bptt, other = BPTT(Model()), BPTT(Model())
    bptt.state = state
    saved = bptt.state_dict()
    form = json.loads(json.dumps({name: part for name, part in saved.items() if name != "arrays"}))
    other.load_state_dict({**form, "arrays": saved["arrays"]} if saved["arrays"] else form)
    assert json.dumps(other.state_dict()["form"]) == json.dumps(saved["form"])
    assert str(other.state).replace("(array([1.]),)", "[array([1.])]") == str(state)


def test_the_layer_is_named_with_the_state_that_the_step_began_with(tmp_path):
    trainer = run(tmp_path / "c")

    def spoil():
        if trainer.steps == 2:
            trainer.model.rnn.bias_hh_l0.data[0] = np.nan

    trainer.model.before = spoil
    with pytest.raises(FloatingPointError, match=r"is nan at step 3: .* in Model\.rnn.*argument . held it") as caught:
        fit(trainer)
    assert "linear" in str(caught.value)


# --- perplexity -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("steps", [1, 4, 100])
def test_the_perplexity_is_that_of_all_tokens_one_after_the_other(layer, steps):
    model = Model(layer, dropout=0.5, dtype=np.float64)
    ids = IDS[:23]
    losses, state = [], None
    model.eval()
    for before, after in itertools.pairwise(ids.tolist()):
        scores, state = model(np.array([[before]]), state)
        losses.append(float(F.cross_entropy(scores, np.array([[after]]))))
    model.train()
    assert perplexity(model, ids, 1, steps) == pytest.approx(np.exp(np.mean(losses)), rel=1e-12)
    assert model.training
    assert model.drop.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_perplexity_of_many_places_counts_every_token_once():
    class Uniform(nn.Module):
        def forward(self, x, state=None):
            asked.append(x.shape)
            return np.zeros((*x.shape, V), np.float32), state

    for length in (2, 3, 9, 50):
        asked = []
        assert perplexity(Uniform(), IDS[:length], 4, 5) == pytest.approx(V)
        assert all(rows == min(4, length - 1) for rows, _ in asked)


def test_the_perplexity_of_a_random_model_in_many_places_is_near_that_in_one():
    model = Model(dtype=np.float64)
    ids = np.random.default_rng(0).integers(V, size=400)
    assert perplexity(model, ids, 8, 7) == pytest.approx(perplexity(model, ids, 1), rel=0.02)


class WithLoss(Model):
    """The same, with a loss of its own that never makes the scores."""

    def forward(self, x, state=None):
        raise AssertionError("the scores were asked for")

    def loss(self, x, targets, state=None):
        h, state = self.rnn(self.embed(x), state)
        return F.linear_cross_entropy(self.drop(h), self.out.weight, targets, linear_bias=self.out.bias), state


@pytest.mark.parametrize("window", [None, 2])
def test_a_loss_of_the_model_s_own_takes_the_place_of_that_of_its_scores(window):
    model, other = Model(dtype=np.float64), WithLoss(dtype=np.float64)
    other.load_state_dict(model.state_dict())
    bptt, bptt_other = BPTT(model, window, keep=1.0), BPTT(other, window, keep=1.0)
    for seed in range(2):  # the second with a carried state
        x, y = batch(seed=seed)
        y[0, 3] = y[1, 4] = y[1, 5] = -100
        losses = bptt(x, y), bptt_other(x, y)
        assert float(losses[1]) == pytest.approx(float(losses[0]), rel=1e-12)
        assert_equal(gradients(other, losses[1]), gradients(model, losses[0]))
    assert perplexity(other, IDS[:50], 4, 5) == pytest.approx(perplexity(model, IDS[:50], 4, 5), rel=1e-12)


def test_a_text_without_a_second_token_has_no_perplexity():
    for few in (IDS[:0], IDS[:1]):
        with pytest.raises(ValueError, match="at least 2 are needed"):
            perplexity(Model(), few)
    with pytest.raises(TypeError, match="must be integers"):
        perplexity(Model(), np.zeros(5))


# --- vanishing and exploding ------------------------------------------------------------------------------------------

CELLS = {"rnn": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}


@pytest.mark.parametrize("name", CELLS)
def test_the_product_of_the_jacobians_is_the_derivative_of_the_last_state(name):
    cell = CELLS[name](2, 3)
    for parameter in cell.parameters():
        parameter.data = np.random.default_rng(1).normal(size=parameter.shape)
    xs = np.random.default_rng(2).normal(size=(5, 1, 2))
    h = np.random.default_rng(3).normal(size=(1, 3))
    state = (h, h - 0.5) if name == "lstm" else h
    jacobians = step_jacobians(cell, state, xs)
    size = 6 if name == "lstm" else 3
    assert jacobians.shape == (5, size, size)
    for k in range(5):
        product = np.linalg.multi_dot([*jacobians[: k - 1 if k else None : -1], np.eye(size)])

        def last(s, k=k):  # the state after all steps as a function of the one after k
            part = (s[:, :3], s[:, 3:]) if name == "lstm" else s
            for x in xs[k:]:
                part = cell(x, part)
            return tn.concatenate(list(part), axis=1) if name == "lstm" else part

        before = state
        for x in xs[:k]:
            before = cell(x, before)
        flat = np.concatenate([getattr(p, "_data", p) for p in before], axis=1) if name == "lstm" else before
        direct = tn.jacobian(last, flat.data if isinstance(flat, tn.Variable) else flat).reshape(size, size)
        np.testing.assert_allclose(product, direct, rtol=1e-9, atol=1e-12)
        assert product_norms(jacobians)[k] == pytest.approx(np.linalg.norm(direct, 2))


def test_the_norm_of_the_books_gradient_explodes_from_2_to_249():
    # Deep Learning from Scratch 2, ch. 6, rnn_gradient_graph.py: N 2, H 3, T 20, standard normal weights, seed 3.
    W = np.random.RandomState(3).randn(3, 3)
    jacobians = step_jacobians(lambda x, h: h @ W, np.zeros((1, 3)), [None] * 20)
    dh, norms = np.ones((2, 3)), []
    for step in jacobians:
        dh = dh @ step
        norms.append(float(np.sqrt((dh**2).sum()) / 2))
    assert norms[0] == pytest.approx(2.468, abs=1e-3)
    assert norms[-1] == pytest.approx(249, abs=1)
    assert product_norms(jacobians)[0] > 50 * product_norms(jacobians)[-1]


def test_a_step_over_nothing_has_no_jacobian():
    with pytest.raises(ValueError, match="no inputs to step over"):
        step_jacobians(nn.RNNCell(1, 1), np.zeros((1, 1)), [])


def test_nested_values_keep_their_form():
    pair = nn.recurrent.LSTMState(np.ones(2), np.zeros(3))
    found = map_nested(lambda part: part + 1, [pair, {"a": (np.ones(1), None)}, "text", 5])
    assert isinstance(found[0], nn.recurrent.LSTMState)
    assert found[0].h.tolist() == [2, 2]
    assert found[1]["a"][1] is None
    assert found[2:] == ["text", 5]
