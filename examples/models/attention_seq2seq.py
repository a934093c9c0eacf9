"""Sequence to sequence with attention, for the date task (document 000, chapter 8, figures 8-16 to 8-19)."""

from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_nlp as tn
from tinygrad_nlp import nn
from tinygrad_nlp.decoding import greedy
from tinygrad_nlp.nn import functional as F


class Encoder(nn.Module):
    """Reads a sequence; gives its states at all steps, and the last.

    Args:
        vocab_size: V, how many different ids there are.
        embed_size: D, the size of the vector of an id.
        hidden_size: H, the size of the state.
    """

    def __init__(self, vocab_size: int, embed_size: int, hidden_size: int) -> None:
        self.embed = nn.Embedding(vocab_size, embed_size)
        self.lstm = nn.LSTM(embed_size, hidden_size)

    def forward(self, x: np.ndarray) -> tuple[Any, tuple[Any, Any]]:
        """Ids (N, S) → states (N, S, H), and (h, c)."""
        return self.lstm(self.embed(x))


class Decoder(nn.Module):
    """Writes a sequence, looking at the encoder's states at each step: LSTM → attention → affine.

    Args:
        vocab_size: V.
        embed_size: D.
        hidden_size: H.
    """

    def __init__(self, vocab_size: int, embed_size: int, hidden_size: int) -> None:
        self.embed = nn.Embedding(vocab_size, embed_size)
        self.lstm = nn.LSTM(embed_size, hidden_size)
        self.attention = nn.DotAttention()
        self.out = nn.Linear(2 * hidden_size, vocab_size)

    def forward(self, t: np.ndarray, memory: Any, state: tuple[Any, Any]) -> tuple[Any, tuple[Any, Any], Any]:
        """Ids (N, T), the encoder's states (N, S, H) and (h, c) → scores (N, T, V), (h, c), weights (N, T, S)."""
        hs, state = self.lstm(self.embed(t), state)
        context, weights = self.attention(hs, memory)
        return self.out(tn.concatenate((context, hs), axis=2)), state, weights


class AttentionSeq2seq(nn.Module):
    """Encoder and decoder with attention. The input is read backwards, which brings its start near to the output's.

    Args:
        vocab_size: V.
        embed_size: D.
        hidden_size: H.
    """

    def __init__(self, vocab_size: int, embed_size: int, hidden_size: int) -> None:
        self.encoder = Encoder(vocab_size, embed_size, hidden_size)
        self.decoder = Decoder(vocab_size, embed_size, hidden_size)

    def encode(self, x: np.ndarray) -> tuple[Any, tuple[Any, Any]]:
        """Ids (N, S) → the states (N, S, H), backwards, and the decoder's first state: the last h, and c = 0."""
        hs, (h, _) = self.encoder(x[:, ::-1])
        return hs, (h, np.zeros(h.shape, h.dtype))

    def forward(self, x: np.ndarray, t: np.ndarray) -> Any:
        """Questions (N, S) and answers (N, T + 1), which begin with the start symbol → the mean loss."""
        memory, state = self.encode(x)
        scores, _, _ = self.decoder(t[:, :-1], memory, state)
        return F.cross_entropy(scores, t[:, 1:])

    def translate(self, x: np.ndarray, start: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Write answers greedily.

        Args:
            x: questions (N, S).
            start: id of the start symbol.
            length: of the answers, without it.

        Returns:
            The ids (N, length), and where each of them looked (N, length, S), in the order of x.
        """
        with tn.no_grad():
            memory, state = self.encode(x)
        looked: list[np.ndarray] = []

        def step(ids: np.ndarray, state: tuple[Any, Any]) -> tuple[Any, tuple[Any, Any]]:
            scores, state, weights = self.decoder(ids[:, None], memory, state)
            looked.append(weights.data[:, 0, ::-1])
            return scores.data[:, 0], state

        ids = greedy(step, state, np.full(len(x), start), length)
        return ids, np.stack(looked, axis=1)
