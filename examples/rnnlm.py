"""C9 — an RNN language model on the first 1,000 words of the Penn Treebank (*Deep Learning from Scratch 2*, ch. 5).

    python -m examples.rnnlm

reads the words in order in ten places at once, with the state carried from window to window, prints the perplexity of
every tenth epoch, which falls from above 300 to below 7, and leaves its curve in runs/rnnlm/. So few words are learnt
by heart: the model is not meant for others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tyro

import tinygrad_nlp as tn
from examples import cli
from examples.cli import command
from examples.models.language_model import RecurrentLM
from tinygrad_nlp import optim, plot
from tinygrad_nlp.data import SequentialWindows, load_ptb
from tinygrad_nlp.training import BPTT, ProgressBar, Trainer, output_folder


@dataclass
class Settings:
    """Train an RNN language model on a few words."""

    words: int = 1000
    """how many, from the start of the Penn Treebank"""
    embed_size: int = 100
    """D, size of the vector of a word"""
    hidden_size: int = 100
    """H, size of the state"""
    batch_size: int = 10
    """places of the text that are read at once"""
    num_steps: int = 5
    """words of a window, at the end of which the gradient is cut"""
    lr: float = 0.1
    """learning rate of SGD"""
    epochs: int = 100
    """times through the words"""
    seed: int = 0
    """of the weights"""
    out: str = "runs/rnnlm"
    """folder for the picture"""


@command
def main(settings: Settings) -> list[float]:
    """Train and draw.

    Returns:
        The perplexity of each epoch, as exp of its mean training loss.
    """
    if settings.epochs < 1:
        raise ValueError(f"--epochs must be at least 1, not {settings.epochs}")
    out = output_folder(settings.out)
    tn.manual_seed(settings.seed)
    text, ids = np.unique(load_ptb().train[: settings.words], return_inverse=True)
    loader = SequentialWindows(ids, settings.batch_size, settings.num_steps)
    model = RecurrentLM("rnn", len(text), settings.embed_size, settings.hidden_size)
    trainer = Trainer(
        model,
        optim.SGD(model.parameters(), lr=settings.lr),
        BPTT(model),
        callbacks=[ProgressBar(unit="words")],
    )
    trainer.fit(loader, settings.epochs)
    losses = np.array([loss for _, loss in trainer.history["loss"]]).reshape(settings.epochs, -1)
    perplexities = np.exp(losses.mean(axis=1)).tolist()
    print(f"{len(ids):,} words, {len(text)} different ones")
    for epoch in sorted({1, *range(10, settings.epochs + 1, 10), settings.epochs}):
        print(f"epoch {epoch:3d}  perplexity {perplexities[epoch - 1]:7.2f}")
    curve: dict[str, Any] = {"perplexity": list(enumerate(perplexities, 1))}
    print(plot.save(plot.learning_curve(curve), out / "perplexity.png"))
    return perplexities


if __name__ == "__main__":
    cli.write_utf8()
    main(tyro.cli(Settings, prog="python -m examples.rnnlm", description=__doc__))
