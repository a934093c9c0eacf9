"""The examples of sequences, run as their readers run them: forecasts, small RNNs, gradients through time."""

import dataclasses
import itertools
import re

import numpy as np
import pytest

pytest.importorskip("tyro", reason="examples need the extra `examples`")
pytest.importorskip("matplotlib", reason="examples need the extra `examples`")

import tinygrad_nlp as tn
from examples import batches, forecast, gradients, rnn_scratch, rnnlm
from examples.models.language_model import RecurrentLM
from tinygrad_nlp import nn
from tinygrad_nlp.data import Corpus, find
from tinygrad_nlp.text import Characters, Vocab

NAMES = {module.__name__: module for module in (forecast, gradients, rnn_scratch, rnnlm)}


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_setting_ends_in_a_line(name, tmp_path):
    settings = NAMES[name].Settings(
        out=str(tmp_path), **({"steps": 0} if name.endswith("gradients") else {"epochs": 0})
    )
    with pytest.raises(SystemExit, match=r"error: --.* at least 1"):
        NAMES[name].main(settings)


# --- forecast ---------------------------------------------------------------------------------------------------------


def test_errors_of_the_forecast_grow_with_the_distance(tmp_path, capsys):
    errors = forecast.main(forecast.Settings(out=str(tmp_path / "new")))
    assert list(errors) == [1, 4, 16, 64]
    assert errors[1] < errors[16] < errors[64]
    assert 0.2 < errors[1] < 0.25  # the noise alone is 0.2
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"ahead.png", "free_running.png"}
    assert re.search(rf"64 steps ahead: error {errors[64]:.3f}", capsys.readouterr().out)


def test_a_forecast_feeds_on_itself():
    model = nn.Linear(2, 1)
    model.weight.data = np.array([[1.0, 1.0]], np.float32)  # Fibonacci's numbers
    model.bias.data = np.zeros(1, np.float32)
    found = forecast.forecast(model, np.array([[0, 1], [1, 1]], np.float32), 4)
    assert found.tolist() == [[1, 2, 3, 5], [2, 3, 5, 8]]


@pytest.mark.parametrize("changes", [{"train": 0}, {"train": 990}, {"ahead": ()}, {"tau": 0}])
def test_a_forecast_of_nothing_is_refused(changes, tmp_path):
    with pytest.raises(SystemExit, match="error: --"):
        forecast.main(dataclasses.replace(forecast.Settings(out=str(tmp_path)), **changes))


# --- batches ----------------------------------------------------------------------------------------------------------


def test_a_text_becomes_batches_that_use_every_token_once(tmp_path, capsys):
    (tmp_path / "text.txt").write_text("abcdefghij" * 10)
    settings = batches.Settings(text=str(tmp_path / "text.txt"))
    assert batches.main(settings) == (100, 11)  # <unk> is one
    printed = capsys.readouterr().out
    assert printed.startswith("100 tokens, a vocabulary of 11; the most frequent: 'a' 8, ")  # in the part to train on
    assert "X 'abcde'  Y 'bcdef'" in printed
    assert "  of 100 tokens 99 are foretold once in an epoch, 1 never, 0 more often" in printed
    with pytest.raises(SystemExit, match=r"error: .* tokens, but at least 102 are needed"):
        batches.main(dataclasses.replace(settings, num_steps=101))


@pytest.mark.skipif(not find("timemachine/timemachine.txt"), reason="The Time Machine is not at hand")
def test_the_time_machine_has_as_many_characters_as_the_document_says():
    assert batches.main(batches.Settings()) == (173_428, 28)


# --- RNN from scratch -------------------------------------------------------------------------------------------------


def test_the_rnn_from_scratch_is_the_librarys():
    tn.manual_seed(0)
    by_hand, ids = rnn_scratch.RNNLM(5, 4, sigma=0.5), np.random.default_rng(0).integers(5, size=(3, 6))
    layer = nn.RNN(5, 4)
    layer.load_state_dict(
        {
            "weight_ih_l0": by_hand.rnn.W_xh.data.T.copy(),
            "weight_hh_l0": by_hand.rnn.W_hh.data.T.copy(),
            "bias_ih_l0": by_hand.rnn.b_h.data,
            "bias_hh_l0": np.zeros(4, np.float32),
        }
    )
    ours, state = by_hand(ids)
    hs, last = layer(tn.one_hot(ids, 5))
    np.testing.assert_allclose(ours.data, (hs @ by_hand.W_hq + by_hand.b_q).data, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state.data, last.data[0], rtol=1e-5, atol=1e-6)
    for y in (ours, hs @ by_hand.W_hq + by_hand.b_q):
        (y * y).sum().backward()
    np.testing.assert_allclose(by_hand.rnn.W_hh.grad.T, layer.weight_hh_l0.grad, rtol=1e-4, atol=1e-5)


def test_the_rnn_from_scratch_learns_and_writes(tmp_path, monkeypatch, capsys):
    tokenizer = Characters()
    tokens = tokenizer("abcdefghij" * 200)
    vocab = Vocab(tokens)
    ids = vocab.encode(tokens)
    monkeypatch.setattr(
        rnn_scratch, "load_time_machine", lambda _: Corpus(tokenizer, vocab, *np.split(ids, [1500, 1700]))
    )
    settings = rnn_scratch.Settings(
        hidden=16, batch_size=32, num_steps=8, train=500, valid=100, epochs=8, prefix="abc", sigma=0.3,
        out=str(tmp_path),
    )  # fmt: skip
    assert rnn_scratch.main(settings) < 1.5
    printed = capsys.readouterr().out
    assert re.search(r"^before training: abc.{20}", printed, re.MULTILINE)
    assert "after training: abcdefghijabcdefghijabc\n" in printed
    assert (tmp_path / "learning_curve.png").is_file()
    with pytest.raises(SystemExit, match="--train 5000 of 1992 windows leaves none"):
        rnn_scratch.main(dataclasses.replace(settings, train=5000))
    with pytest.raises(SystemExit, match="--prefix has no characters"):
        rnn_scratch.main(dataclasses.replace(settings, prefix=""))


# --- RNNLM ------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not find("ptb/ptb.train.txt"), reason="the Penn Treebank is not at hand")
def test_the_rnnlm_learns_1000_words_by_heart(tmp_path, capsys):
    perplexities = rnnlm.main(rnnlm.Settings(out=str(tmp_path)))
    assert perplexities[0] > 300
    assert perplexities[-1] < 7.2
    assert "1,000 words, 418 different ones" in capsys.readouterr().out
    assert (tmp_path / "perplexity.png").is_file()


@pytest.mark.parametrize("example", [rnnlm, rnn_scratch])
def test_a_perplexity_beyond_all_numbers_is_infinite(example, tmp_path, monkeypatch):
    ids = np.random.default_rng(0).integers(9, size=300)
    corpus = Corpus(Characters(), Vocab("it has al"), ids[:200] % 7, ids[200:250] % 7, ids[250:] % 7)
    settings = example.Settings(lr=1e6, epochs=2, out=str(tmp_path), batch_size=10)
    if example is rnnlm:
        monkeypatch.setattr(rnnlm, "load_ptb", lambda: corpus)
    else:
        monkeypatch.setattr(rnn_scratch, "load_time_machine", lambda tokenizer: corpus)
        settings = dataclasses.replace(settings, max_norm=1e6, train=150, valid=50, num_steps=5)
    with pytest.warns(RuntimeWarning, match="overflow encountered in exp"):
        found = example.main(settings)
    assert np.max(found) == np.inf


# --- gradients --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """What the example prints on the whole, and leaves."""
    out = tmp_path_factory.mktemp("gradients")
    return out, gradients.main(gradients.Settings(steps=20, hidden=8, draws=100, out=str(out)))


def test_the_gradient_of_the_documents_chain_explodes_vanishes_and_is_clipped(followed):
    out, norms = followed
    large, small, clipped = norms.values()
    assert (round(large[0], 2), round(large[-1])) == (2.47, 249)  # Deep Learning from Scratch 2, ch. 6
    assert small == pytest.approx([norm * 0.5 ** (k + 1) for k, norm in enumerate(large)])
    assert clipped[0] == large[0]
    assert max(clipped) == pytest.approx(5.0)
    assert {path.name for path in out.iterdir()} == {
        "chain.png", "cells.png", "cells_clipped.png", "rnn.svg", "bptt.png"
    }  # fmt: skip


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.LSTMCell, nn.GRUCell])
def test_the_gradient_carried_back_through_a_cell_is_autograds_and_is_clipped(kind):
    tn.manual_seed(0)
    cell = kind(3, 4)
    for parameter in cell.parameters():
        parameter.data = np.random.default_rng(1).normal(size=parameter.shape) * 1.5
    xs = np.random.default_rng(0).standard_normal((6, 1, 3))
    zeros = np.zeros((1, 4))
    first = (zeros, zeros) if kind is nn.LSTMCell else zeros
    jacobians = gradients.step_jacobians(cell, first, xs)

    def norms(max_norm):
        """By autograd, one step after the other."""
        leaves = [tn.Variable(part, requires_grad=True) for part in (first if kind is nn.LSTMCell else [first])]
        state = tuple(leaves) if kind is nn.LSTMCell else leaves[0]
        states = [leaves]
        for x in xs:
            state = cell(x, state)
            states.append(list(state) if kind is nn.LSTMCell else [state])
        g, found = [np.full((1, 4), 0.5), zeros][: len(leaves)], []
        for before, after in reversed(list(itertools.pairwise(states))):
            g = [np.asarray(part) for part in tn.grad(after, before, g, retain_graph=True)]
            norm = np.sqrt(sum((part**2).sum() for part in g))
            g = [part * min(1, max_norm / norm) for part in g]
            found.append(min(norm, max_norm))
        return found

    free = gradients.carried_back(jacobians, 4, np.inf)
    assert free == pytest.approx(norms(np.inf))
    theta = sorted(free)[len(free) // 2]
    clipped = gradients.carried_back(jacobians, 4, theta)
    assert clipped == pytest.approx(norms(theta))
    assert max(clipped) == pytest.approx(theta)


def test_the_product_of_jacobians_is_the_jacobian(followed):
    cell = nn.GRUCell(3, 4)
    xs = np.random.default_rng(0).standard_normal((5, 1, 3)).astype(np.float32)
    h = np.zeros((1, 4), np.float32)
    jacobians = gradients.step_jacobians(cell, h, xs)
    assert gradients.identity(cell, h, xs, jacobians) < 1e-5
    assert gradients.identity(cell, h, xs, jacobians[:-1]) > 0.1


# --- language models --------------------------------------------------------------------------------------------------


def test_variational_dropout_drops_the_same_at_all_steps():
    tn.manual_seed(0)
    model = RecurrentLM("lstm", 9, 50, 50, layers=2, dropout=0.5, variational=True)
    dropped = []
    model.rnn.forward = lambda x, state: dropped.append(x.data == 0) or (x, state)
    model(np.ones((2, 7), int))
    (zeros,) = dropped
    assert 20 < zeros[0, 0].sum() < 80
    assert (zeros == zeros[:, :1]).all()
    assert model.rnn.variational


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_variational_dropout_acts_on_the_recurrent_product(cell):
    ids = np.array([[1, 2, 3]])
    for layers in (1, 2):
        usual, variational = (
            RecurrentLM(cell, 9, 5, 5, layers, dropout=0.4, variational=variational) for variational in (False, True)
        )
        assert (usual.rnn.recurrent_dropout, variational.rnn.recurrent_dropout) == (0.0, 0.4)
        for model, is_dropped in ((usual, False), (variational, True)):
            model.drop.p = model.rnn.dropout = 0.0  # what is left is the recurrent product
            tn.manual_seed(0)
            first, second = (model(ids)[0].data for _ in range(2))
            assert np.array_equal(first, second) != is_dropped
            assert np.array_equal(first[:, 0], second[:, 0])  # no state before it
            model.eval()
            assert np.array_equal(model(ids)[0].data, model(ids)[0].data)
