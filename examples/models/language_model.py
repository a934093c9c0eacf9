"""Language models: recurrent ones, and one that sees a window (Bengio et al., 2003).

The recurrent ones, with their figures and first values, are those of *Deep Learning from Scratch 2*, ch. 5 and 6.

Each is called with ids (N, T) and a state, None at the start, and returns the scores of the ids that follow, (N, T, V),
and the new state: what decoding asks of a language model. Training and perplexity use its `loss`, which never holds the
scores of all N T ids at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_nlp as tn
from tinygrad_nlp import nn
from tinygrad_nlp.decoding import take_rows
from tinygrad_nlp.nn.functional import linear_cross_entropy


def recurrent_layers(
    cell: str,
    input_size: int,
    hidden_size: int,
    layers: int = 1,
    dropout: float = 0.0,
    variational: bool = False,
) -> nn.RNN | nn.LSTM | nn.GRU:
    """Recurrent layers with one bias each that learns, 0 at first.

    The book's layers have one. PyTorch's have two that are added: both would get its gradient, and it would learn
    at twice the rate. So the second stays 0, but not a GRU's, part of which is multiplied by the reset gate.

    Args:
        cell: "rnn", "lstm" or "gru".
        input_size: D.
        hidden_size: H.
        layers: one above the other.
        dropout: probability, between layers.
        variational: whether all steps drop the same elements, and the state on its way to the recurrent product loses
            some too (Gal and Ghahramani, 2016).

    Returns:
        The layers.
    """
    rnn = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[cell](
        input_size,
        hidden_size,
        layers,
        dropout=dropout if layers > 1 else 0.0,
        variational=variational,
        recurrent_dropout=dropout if variational else 0.0,
    )
    for name, parameter in rnn.named_parameters():
        if "bias" in name:
            nn.init.zeros_(parameter)
            parameter.requires_grad = cell == "gru" or "bias_hh" not in name
    return rnn


class RecurrentLM(nn.Module):
    """Embedding → dropout → recurrent layers, with dropout between → dropout → affine (fig. 6-27 and 6-36).

    Args:
        cell: "rnn", "lstm" or "gru".
        vocab_size: V.
        embed_size: D.
        hidden_size: H.
        layers: one above the other.
        dropout: probability, in all places.
        tie: whether the affine layer has the embedding's weights; then D = H.
        variational: whether all steps drop the same elements; see `recurrent_layers`.

    Raises:
        ValueError: tied weights and D ≠ H.
    """

    def __init__(
        self,
        cell: str,
        vocab_size: int,
        embed_size: int,
        hidden_size: int,
        layers: int = 1,
        dropout: float = 0.0,
        tie: bool = False,
        variational: bool = False,
    ) -> None:
        if tie and embed_size != hidden_size:
            raise ValueError(f"tied weights need --embed-size = --hidden-size, not {embed_size} and {hidden_size}")
        self.embed = nn.Embedding(vocab_size, embed_size)
        self.drop = nn.Dropout(dropout, shared_axis=1 if variational else None)
        self.rnn = recurrent_layers(cell, embed_size, hidden_size, layers, dropout, variational)
        self.out = nn.Linear(hidden_size, vocab_size)
        if tie:
            self.out.weight = self.embed.weight
        for name, parameter in self.named_parameters():  # the book's own initial values, ch. 5 and 6
            if "bias" in name:
                nn.init.zeros_(parameter)
            elif "embed" in name:
                nn.init.normal_(parameter, 0.01)
            else:
                nn.init.fan_in_normal_(parameter)

    def forward(self, x: np.ndarray, state: Any = None) -> tuple[Any, Any]:
        """Ids (N, T) and the layers' state → scores (N, T, V) and the new state."""
        h, state = self.hidden(x, state)
        return self.out(h), state

    def loss(self, x: np.ndarray, targets: np.ndarray, state: Any = None) -> tuple[Any, Any]:
        """Ids (N, T), those that follow (N, T) and the layers' state → their mean loss and the new state."""
        h, state = self.hidden(x, state)
        return linear_cross_entropy(h, self.out.weight, targets, linear_bias=self.out.bias), state

    def hidden(self, x: np.ndarray, state: Any = None) -> tuple[Any, Any]:
        """Ids (N, T) and the layers' state → what the affine layer sees (N, T, H) and the new state."""
        h, state = self.rnn(self.drop(self.embed(x)), state)
        return self.drop(h), state

    def step(self, ids: np.ndarray, state: Any) -> tuple[Any, Any]:
        """Ids (N,) → the scores of the next (N, V), and the new state: a step for `decoding`."""
        scores, state = self(ids[:, None], state)
        return scores[:, 0], state

    def select(self, state: Any, rows: np.ndarray) -> Any:
        """Some rows of a state, for beam search."""
        return take_rows(state, rows, axis=1)


class WindowLM(nn.Module):
    """The embeddings of the last n - 1 ids side by side → tanh layer → affine (Bengio et al., 2003).

    Its state is the last n - 1 ids; before the start of a text stands an id of its own.

    Args:
        n: it sees n - 1 ids.
        vocab_size: V.
        embed_size: D.
        hidden_size: H.
        dropout: probability, of the embeddings and of the hidden layer.
    """

    def __init__(self, n: int, vocab_size: int, embed_size: int, hidden_size: int, dropout: float = 0.0) -> None:
        if n < 2:
            raise ValueError(f"--n must be at least 2, not {n}: the model sees n - 1 tokens")
        self.n, self.start = n, vocab_size
        self.embed = nn.Embedding(vocab_size + 1, embed_size)
        self.drop = nn.Dropout(dropout)
        self.hidden = nn.Linear((n - 1) * embed_size, hidden_size)
        self.out = nn.Linear(hidden_size, vocab_size)
        nn.init.uniform_(self.embed.weight, 0.1)

    def forward(self, x: np.ndarray, state: np.ndarray | None = None) -> tuple[Any, np.ndarray]:
        """Ids (N, T) and those before (N, n - 1) → scores (N, T, V), and the last n - 1 ids."""
        h, state = self.tanh_layer(x, state)
        return self.out(h), state

    def loss(
        self, x: np.ndarray, targets: np.ndarray, state: np.ndarray | None = None
    ) -> tuple[tn.Variable, np.ndarray]:
        """Ids (N, T), those that follow (N, T) and those before (N, n - 1) → the mean loss, and the last n - 1 ids."""
        h, state = self.tanh_layer(x, state)
        return linear_cross_entropy(h, self.out.weight, targets, linear_bias=self.out.bias), state

    def tanh_layer(self, x: np.ndarray, state: np.ndarray | None = None) -> tuple[Any, np.ndarray]:
        """Ids (N, T) and those before (N, n - 1) → what the affine layer sees (N, T, H), and the last n - 1 ids."""
        past = np.full((len(x), self.n - 1), self.start) if state is None else state
        ids = np.concatenate((past, x), axis=1)[:, 1:]
        windows = np.lib.stride_tricks.sliding_window_view(ids, self.n - 1, axis=1)
        seen = self.drop(self.embed(windows)).reshape(*x.shape, -1)
        return self.drop(tn.tanh(self.hidden(seen))), ids[:, ids.shape[1] - self.n + 1 :]

    def step(self, ids: np.ndarray, state: Any) -> tuple[Any, Any]:
        """Ids (N,) → the scores of the next (N, V), and the new state: a step for `decoding`."""
        scores, state = self(ids[:, None], state)
        return scores[:, 0], state

    def select(self, state: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Some rows of a state, for beam search."""
        return take_rows(state, rows)


LanguageModel = RecurrentLM | WindowLM
