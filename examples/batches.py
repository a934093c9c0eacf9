"""C2, C6 — from a text to batches: tokens, vocabulary, ids, and two ways to cut them.

    python -m examples.batches
    python -m examples.batches --text FILE --kind words --min-freq 3

prints how long the text is, which tokens are the most frequent (*Dive into Deep Learning*, 9.2), and the first batches
of each way: windows in random order (9.3.3 there), and windows that follow each other, in which each row of the batch
reads on from an offset of its own (*Deep Learning from Scratch 2*, fig. 5-15). Then it goes through a whole epoch of
both, and says how often a token was used.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
import tyro

from examples import cli
from examples.cli import command
from examples.corpora import Source, load_corpus
from tinygrad_nlp.data import DataLoader, RandomWindows, SequentialWindows


@dataclass
class Settings(Source):
    """Cut a text into tokens and batches."""

    data: Literal["ptb", "time_machine"] = "time_machine"
    """the Penn Treebank, or The Time Machine; downloaded where they are not at hand"""
    kind: Literal["words", "characters", "bpe"] = "characters"
    """what a token is: what lies between spaces, a character, or a piece of a word (bpe, for --text)"""
    batch_size: int = 2
    """windows in a mini-batch"""
    num_steps: int = 5
    """tokens of a window"""
    seed: int = 0
    """of the order of random windows"""


def uses(loader: DataLoader, length: int) -> np.ndarray:
    """How often each of the tokens (L,) is a target in an epoch; the loader reads the places 0 … L - 1 as ids."""
    found = np.zeros(length, int)
    for X, Y in loader:
        assert (Y[Y >= 0] == X[Y >= 0] + 1).all()  # y is what follows x
        np.add.at(found, Y[Y >= 0], 1)
    return found


@command
def main(settings: Settings) -> tuple[int, int]:
    """Print.

    Returns:
        The number of tokens, and of different ones.
    """
    corpus = load_corpus(settings)
    ids, vocab = np.concatenate((corpus.train, corpus.valid, corpus.test)), corpus.vocab
    most = np.argsort(-vocab.counts, kind="stable")[:5]
    frequent = ", ".join(f"{vocab.tokens[i]!r} {vocab.counts[i]:,}" for i in most)
    print(f"{len(ids):,} tokens, a vocabulary of {len(vocab):,}; the most frequent: {frequent}")
    begin = ids[:20]
    print(f"{corpus.tokenizer.join(vocab.decode(begin))!r} is {begin.tolist()}")
    for name, loader in (
        ("in random order", lambda ids: RandomWindows(ids, settings.batch_size, settings.num_steps, settings.seed)),
        ("one behind the other", lambda ids: SequentialWindows(ids, settings.batch_size, settings.num_steps)),
    ):
        print(f"windows {name}:")
        for X, Y in islice(loader(ids), 2):
            for x, y in zip(X, Y, strict=True):
                x, y = (corpus.tokenizer.join(vocab.decode(row[row >= 0])) for row in (x, y))
                print(f"  X {x!r}  Y {y!r}")
            print()
        counts = uses(loader(np.arange(len(ids))), len(ids))
        print(f"  of {len(ids):,} tokens {(counts == 1).sum():,} are foretold once in an epoch, "
              f"{(counts == 0).sum():,} never, {(counts > 1).sum():,} more often")  # fmt: skip
    return len(ids), len(vocab)


if __name__ == "__main__":
    cli.write_utf8()
    main(tyro.cli(Settings, prog="python -m examples.batches", description=__doc__))
