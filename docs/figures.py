"""Makes the pictures of the READMEs: `python -m docs.figures`.

Graphs are drawn from small models below. What a training run leaves, `make run` and `python -m examples.spiral`, is
copied where it is there.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

import tinygrad_nlp as tn
from tinygrad_nlp import nn
from tinygrad_nlp.data import spiral
from tinygrad_nlp.nn import functional as F

FIGURES = Path(__file__).parent / "figures"
FROM_RUNS = {
    "runs/better_lm/learning_curve.png": "better_lm_learning_curve.png",
    "runs/characters/learning_curve.png": "characters_learning_curve.png",
    "runs/characters_gru/learning_curve.png": "characters_gru_learning_curve.png",
    "runs/characters_gru_2/learning_curve.png": "characters_gru_2_learning_curve.png",
    "runs/characters_lstm/learning_curve.png": "characters_lstm_learning_curve.png",
    "runs/characters_rnn/learning_curve.png": "characters_rnn_learning_curve.png",
    "runs/dates/attention.png": "dates_attention.png",
    "runs/dates/learning_curve.png": "dates_learning_curve.png",
    "runs/dates/graph.svg": "dates_graph.svg",
    "runs/finetune/accuracy.png": "finetune_accuracy.png",
    "runs/forecast/ahead.png": "forecast_ahead.png",
    "runs/forecast/free_running.png": "forecast_free_running.png",
    "runs/gradients/bptt.png": "gradients_bptt.png",
    "runs/gradients/cells.png": "gradients_cells.png",
    "runs/gradients/cells_clipped.png": "gradients_cells_clipped.png",
    "runs/gradients/chain.png": "gradients_chain.png",
    "runs/gradients/rnn.svg": "gradients_rnn.svg",
    "runs/lstm_lm/learning_curve.png": "lstm_lm_learning_curve.png",
    "runs/ngram/perplexity.png": "ngram_perplexity.png",
    "runs/ngram/zipf.png": "ngram_zipf.png",
    "runs/rnn_scratch/learning_curve.png": "rnn_scratch_learning_curve.png",
    "runs/rnnlm/perplexity.png": "rnnlm_perplexity.png",
    "runs/spiral/boundary.png": "spiral_boundary.png",
    "runs/spiral/learning_curve.png": "spiral_learning_curve.png",
    "runs/window_lm/learning_curve.png": "window_lm_learning_curve.png",
}


class TwoLayerNet(nn.Module):
    """The model at the top of the README."""

    def __init__(self) -> None:
        self.hidden = nn.Linear(2, 10)
        self.out = nn.Linear(10, 3)

    def forward(self, x: Any, t: Any) -> Any:
        """Points (N, 2) and classes (N,) → the mean loss."""
        return nn.functional.cross_entropy(self.out(tn.sigmoid(self.hidden(x))), t)


class LanguageModel(nn.Module):
    """Two LSTM layers with dropout between."""

    def __init__(self, vocabulary: int, size: int) -> None:
        self.embed = nn.Embedding(vocabulary, size)
        self.drop = nn.Dropout(0.5)
        self.lstm1 = nn.LSTM(size, size)
        self.lstm2 = nn.LSTM(size, size)
        self.out = nn.Linear(size, vocabulary)

    def forward(self, ids: Any, targets: Any) -> Any:
        """Words (N, T) and those that follow them (N, T) → the mean loss."""
        h, _ = self.lstm1(self.drop(self.embed(ids)))
        h, _ = self.lstm2(self.drop(h))
        return F.cross_entropy(self.out(self.drop(h)), targets)


def readme() -> Any:
    """The model at the top of the README."""
    x, t = spiral()
    return tn.draw(named("loss", TwoLayerNet()(x[:30], t[:30])))


def rnn() -> Any:
    """One step of an RNN, the kernel's box opened, with the way back (*Deep Learning from Scratch 2*, fig. 5-20)."""
    weights = weight("W_x", 100, 100), weight("W_h", 100, 100), weight("b", 100)
    _, h_next = F.rnn(leaf("x", 20, 1, 100).data, leaf("h_prev", 20, 100), *weights)
    return tn.draw(named("h_next", h_next), open=True, gradient=True, rankdir="LR")


def lstm() -> Any:
    """One step of an LSTM, the kernel's box opened (*Deep Learning from Scratch 2*, fig. 6-21)."""
    x = leaf("x", 20, 1, 100)
    state = leaf("h_prev", 20, 100), leaf("c_prev", 20, 100)
    weights = weight("W_x", 400, 100), weight("W_h", 400, 100), weight("b", 400)
    _, (h, c) = F.lstm(x.data, state, *weights)
    return tn.draw((named("c_next", c), named("h_next", h)), open=True, rankdir="LR")


def attention_of_the_book() -> Any:
    """Attention of one state h over those of an encoder, as *Deep Learning from Scratch 2* writes it (fig. 8-16)."""
    h, hs = leaf("h", 10, 4), leaf("hs", 10, 5, 4)
    scores = (hs * tn.repeat(tn.reshape(h, (10, 1, 4)), 5, axis=1)).sum(axis=2)
    a = named("a", tn.softmax(scores))
    c = (hs * tn.repeat(tn.reshape(a, (10, 5, 1)), 4, axis=2)).sum(axis=1)
    return tn.draw((named("c", c), a), rankdir="LR")


def attention() -> Any:
    """The same as two matrix products, which is how the kernel defines it: its box opened."""
    h, hs = leaf("h", 10, 1, 4), leaf("hs", 10, 5, 4)
    c, a = F.attention(h, hs, hs, scale=1)
    return tn.draw((named("c", c), named("a", a)), open=True, rankdir="LR")


def language_model() -> Any:
    """35 steps of a language model, its LSTMs opened."""
    ids = np.random.default_rng(0).integers(0, 1000, (20, 36))
    return tn.draw(named("loss", LanguageModel(1000, 100)(ids[:, :-1], ids[:, 1:])), open="lstm")


def language_model_layers() -> Any:
    """The same model, one box for a layer."""
    ids = np.random.default_rng(0).integers(0, 1000, (20, 36))
    return tn.draw(named("loss", LanguageModel(1000, 100)(ids[:, :-1], ids[:, 1:])), depth=1)


def vanishing() -> Any:
    """An RNN with small weights: the gradient of the loss at its end fades on the way back through time."""
    xs = leaf("x", 4, 8, 16).data
    w_x, w_h = weight("W_x", 16, 16), weight("W_h", 16, 16, scale=0.1)
    h: Any = leaf("h_0", 4, 16)
    for t in range(8):
        with tn.scope(t):
            h = tn.tanh(F.linear(xs[:, t], w_x) + F.linear(h, w_h))
    return tn.draw(named("loss", (h * h).sum()), time="all", gradient=True, show=(), rankdir="LR")


def second_derivative() -> Any:
    """What `create_graph` records: the backward of x tanh x is a graph too."""
    x = leaf("x", 3)
    y = (x * tn.tanh(x)).sum()
    (gx,) = tn.grad(y, x, create_graph=True)
    return tn.draw((named("y", y), named("dy/dx", gx)))


def failed() -> Any:
    """A layer that does not fit: drawn from the exception."""
    model, ids = LanguageModel(1000, 100), np.zeros((20, 35), int)
    model.out = nn.Linear(64, 1000)
    try:
        return model(ids, ids)
    except ValueError as error:
        return tn.draw(error, depth=1)


def leaf(name: str, *shape: int) -> tn.Variable:
    """Standard normal, from a stream that begins anew for each name."""
    stream = np.random.default_rng(sum(map(ord, name)))
    return tn.Variable(stream.standard_normal(shape, np.float32), requires_grad=True, name=name)


def weight(name: str, *shape: int, scale: float = 0.25) -> nn.Parameter:
    """A parameter of standard deviation `scale`."""
    parameter = nn.Parameter(leaf(name, *shape).data * np.float32(scale))
    parameter.name = name
    return parameter


def named(name: str, y: tn.Variable) -> tn.Variable:
    """`y` with a name, which the drawing shows."""
    y.name = name
    return y


GRAPHS = {
    "readme_graph": readme,
    "rnn": rnn,
    "lstm": lstm,
    "attention": attention,
    "attention_of_the_book": attention_of_the_book,
    "language_model": language_model,
    "language_model_layers": language_model_layers,
    "vanishing": vanishing,
    "second_derivative": second_derivative,
    "failed": failed,
}


if __name__ == "__main__":
    FIGURES.mkdir(exist_ok=True)
    tn.manual_seed(0)
    for name, draw in GRAPHS.items():
        print(draw().save(FIGURES / f"{name}.svg"))
    for source, name in FROM_RUNS.items():
        print(shutil.copy(source, FIGURES / name) if Path(source).exists() else f"{source} is not there yet")
