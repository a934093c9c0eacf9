"""Sequence to sequence with attention, for the date task (*Deep Learning from Scratch 2*, ch. 8, fig. 8-16 to 8-19)."""

from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_nlp as tn
from tinygrad_nlp import nn
from tinygrad_nlp.decoding import greedy
from tinygrad_nlp.nn import functional as F


class Encoder(nn.Module):
    """Reads a sequence; gives its states at all steps, and the last (the book's fig. 8-29).

    Args:
        vocab_size: V, how many different ids there are.
        embed_size: D, the size of the vector of an id.
        hidden_size: H, the size of the state.

    Raises:
        ValueError: embed_size or hidden_size is below 1.
    """

    def __init__(self, vocab_size: int, embed_size: int, hidden_size: int) -> None:
        self.embed = nn.Embedding(vocab_size, embed_size)
        self.lstm = nn.LSTM(embed_size, hidden_size)

    def forward(self, x: np.ndarray) -> tuple[Any, tuple[Any, Any]]:
        """Read a batch.

        Args:
            x: ids (N, S), integers in [0, V).

        Returns:
            The states at all steps (N, S, H), and the last (h, c), each (1, N, H), all float32.

        Raises:
            IndexError: an id outside the vocabulary.
            TypeError: ids that are no integers.
            ValueError: x has another number of axes, or no steps.
        """
        return self.lstm(self.embed(x))


class Decoder(nn.Module):
    """Writes a sequence, looking at the encoder's states at each step: LSTM → attention → affine (fig. 8-18).

    Args:
        vocab_size: V.
        embed_size: D.
        hidden_size: H, that of the encoder.

    Raises:
        ValueError: embed_size or hidden_size is below 1.
    """

    def __init__(self, vocab_size: int, embed_size: int, hidden_size: int) -> None:
        self.embed = nn.Embedding(vocab_size, embed_size)
        self.lstm = nn.LSTM(embed_size, hidden_size)
        self.attention = nn.DotAttention()
        self.out = nn.Linear(2 * hidden_size, vocab_size)

    def forward(self, t: np.ndarray, memory: Any, state: tuple[Any, Any]) -> tuple[Any, tuple[Any, Any], Any]:
        """Take some steps, all of an answer in training and one at a time in writing.

        Args:
            t: ids (N, T), integers in [0, V), each that before the one to be written.
            memory: the encoder's states (N, S, H), float32.
            state: (h, c) before the first step, each (1, N, H), float32.

        Returns:
            The scores (N, T, V), before any softmax; (h, c) after the last step; and the weights (N, T, S) with which
            each step looked at the memory. All float32.

        Raises:
            IndexError: an id outside the vocabulary.
            TypeError: ids that are no integers.
            ValueError: shapes that do not fit, or no steps.
        """
        hs, state = self.lstm(self.embed(t), state)
        context, weights = self.attention(hs, memory)
        return self.out(tn.concatenate((context, hs), axis=2)), state, weights


class AttentionSeq2seq(nn.Module):
    """Encoder and decoder with attention (Luong et al., 2015; *Deep Learning from Scratch 2*, ch. 8).

    The input is read backwards, which brings its start near to the output's (Sutskever et al., 2014; fig. 7-23).

    Args:
        vocab_size: V, of both languages together.
        embed_size: D.
        hidden_size: H.

    Raises:
        ValueError: embed_size or hidden_size is below 1.
    """

    def __init__(self, vocab_size: int, embed_size: int, hidden_size: int) -> None:
        self.encoder = Encoder(vocab_size, embed_size, hidden_size)
        self.decoder = Decoder(vocab_size, embed_size, hidden_size)

    def encode(self, x: np.ndarray) -> tuple[Any, tuple[Any, Any]]:
        """Read the questions.

        Args:
            x: questions (N, S), integers in [0, V).

        Returns:
            The encoder's states (N, S, H), that of the last id first, and the decoder's first state: the encoder's last
            h, and c = 0, each (1, N, H). All float32.

        Raises:
            IndexError, TypeError, ValueError: see `Encoder`.
        """
        hs, (h, _) = self.encoder(x[:, ::-1])
        return hs, (h, np.zeros_like(h.data))

    def forward(self, x: np.ndarray, t: np.ndarray) -> Any:
        """The loss, with the right answer's ids as the decoder's inputs (teacher forcing).

        Args:
            x: questions (N, S), integers in [0, V).
            t: answers (N, T + 1), integers in [0, V), which begin with the start symbol.

        Returns:
            The mean cross-entropy of the N T ids to be written, in nats, a float32 scalar.

        Raises:
            IndexError: an id outside the vocabulary.
            TypeError: ids that are no integers.
            ValueError: x and t of different N, or without steps.
        """
        memory, state = self.encode(x)
        scores, _, _ = self.decoder(t[:, :-1], memory, state)
        return F.cross_entropy(scores, t[:, 1:])

    def translate(self, x: np.ndarray, start: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Write answers greedily.

        Args:
            x: questions (N, S), integers in [0, V).
            start: id of the start symbol.
            length: of the answers, in ids, without it; 1 or more.

        Returns:
            The ids (N, length), int64, and where each looked: weights (N, length, S), float32, in the order of x.

        Raises:
            IndexError, TypeError, ValueError: see `Encoder`; a length below 1.
        """
        with tn.no_grad():
            memory, state = self.encode(x)
        looked: list[np.ndarray] = []

        def step(ids: np.ndarray, state: tuple[Any, Any]) -> tuple[Any, tuple[Any, Any]]:
            scores, state, weights = self.decoder(ids[:, None], memory, state)
            looked.append(weights.numpy()[:, 0, ::-1])
            return scores.data[:, 0], state

        ids = greedy(step, state, np.full(len(x), start), length)
        return ids, np.stack(looked, axis=1)
