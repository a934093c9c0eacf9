"""A classifier of texts on the layers of a language model: many to one (Dai and Le, 2015)."""

from __future__ import annotations

import numpy as np

import tinygrad_nlp as tn
from examples.models.language_model import recurrent_layers
from tinygrad_nlp import nn
from tinygrad_nlp.data import lengths_to_mask


class TextClassifier(nn.Module):
    """Embedding → dropout → recurrent layers → the mean of their outputs → dropout → affine.

    Its `embed` and `rnn` are those of a `RecurrentLM`, and take that one's weights; `head` is new.

    Args:
        cell: "rnn", "lstm" or "gru".
        vocab_size: V.
        embed_size: D.
        hidden_size: H.
        classes: C.
        layers: one above the other.
        dropout: probability, in all places.
    """

    def __init__(
        self,
        cell: str,
        vocab_size: int,
        embed_size: int,
        hidden_size: int,
        classes: int,
        layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        self.embed = nn.Embedding(vocab_size, embed_size)
        self.drop = nn.Dropout(dropout)
        self.rnn = recurrent_layers(cell, embed_size, hidden_size, layers, dropout)
        self.head = nn.Linear(hidden_size, classes)
        nn.init.uniform_(self.embed.weight, 0.1)

    def forward(self, x: np.ndarray, lengths: np.ndarray) -> tn.Variable:
        """Ids (N, T), padded at their ends, and how many of each row are real (N,) → scores (N, C)."""
        x = x[:, : max(1, lengths.max())]
        hs, _ = self.rnn(self.drop(self.embed(x)), lengths=lengths)
        # Of each step in the mean: 0 for the padding, and for all of a text without tokens.
        share = lengths_to_mask(lengths, x.shape[1]) / np.maximum(lengths, 1)[:, None]
        mean = (hs * share[:, :, None].astype(hs.dtype)).sum(axis=1)
        return self.head(self.drop(mean))
