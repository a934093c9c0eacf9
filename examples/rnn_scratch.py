"""C7 — an RNN of characters from scratch: one-hot vectors, parameters by hand (*Dive into Deep Learning*, 9.5).

    python -m examples.rnn_scratch

trains on The Time Machine as it is done there, on the windows that begin at its first 10,000 characters, and validates
on those that begin at the next 5,000. Prints the perplexity there and how a text goes on, and leaves the learning curve
in runs/rnn_scratch/. The concise form, with `nn.RNN`, is `python -m examples.language_model train --cell rnn …`
(examples/README.md has its settings).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tyro

import tinygrad_nlp as tn
from examples import cli
from examples.cli import command
from tinygrad_nlp import nn, optim, plot
from tinygrad_nlp.data import Corpus, DataLoader, load_time_machine
from tinygrad_nlp.text import Characters
from tinygrad_nlp.training import Evaluation, ProgressBar, Trainer, output_folder


@dataclass
class Settings:
    """Train an RNN written by hand on The Time Machine, character by character."""

    hidden: int = 32
    """H, size of the state"""
    sigma: float = 0.01
    """standard deviation of the weights at the start"""
    batch_size: int = 1024
    """windows in a mini-batch"""
    num_steps: int = 32
    """characters of a window"""
    lr: float = 1.0
    """learning rate of SGD"""
    max_norm: float = 1.0
    """the gradient is clipped to this norm"""
    train: int = 10_000
    """windows to train on, one from each character on"""
    valid: int = 5_000
    """windows to validate on, behind those"""
    epochs: int = 100
    """times through the windows"""
    prefix: str = "it has"
    """how the text begins that is written at the end"""
    seed: int = 0
    """of the weights and of the windows"""
    out: str = "runs/rnn_scratch"
    """folder for the picture"""
    quick: bool = False
    """to see that it runs, in seconds: two epochs"""


class RNN(nn.Module):
    """H_t = tanh(X_t W_xh + H_{t-1} W_hh + b_h), step by step.

    Args:
        inputs: D.
        hidden: H.
        sigma: standard deviation of the weights.
    """

    def __init__(self, inputs: int, hidden: int, sigma: float = 0.01) -> None:
        self.hidden = hidden
        self.W_xh = nn.Parameter(np.zeros((inputs, hidden), np.float32))
        self.W_hh = nn.Parameter(np.zeros((hidden, hidden), np.float32))
        self.b_h = nn.Parameter(np.zeros(hidden, np.float32))
        for weight in (self.W_xh, self.W_hh):
            nn.init.normal_(weight, sigma)

    def forward(self, inputs: Any, state: Any = None) -> tuple[list[Any], Any]:
        """T inputs (N, D) and the state (N, H) → T states, and the last."""
        if state is None:
            zeros: Any = tn.Variable(np.zeros((len(inputs[0]), self.hidden), np.float32))
            state = zeros.to(self.W_hh.device)
        outputs = []
        for t, X in enumerate(inputs):
            with tn.scope(t):
                state = tn.tanh(X @ self.W_xh + state @ self.W_hh + self.b_h)
                outputs.append(state)
        return outputs, state


class RNNLM(nn.Module):
    """One-hot → RNN → affine.

    Args:
        vocab_size: V.
        hidden: H.
        sigma: standard deviation of the weights.
    """

    def __init__(self, vocab_size: int, hidden: int, sigma: float = 0.01) -> None:
        self.vocab_size = vocab_size
        self.rnn = RNN(vocab_size, hidden, sigma)
        self.W_hq = nn.Parameter(np.zeros((hidden, vocab_size), np.float32))
        self.b_q = nn.Parameter(np.zeros(vocab_size, np.float32))
        nn.init.normal_(self.W_hq, sigma)

    def forward(self, ids: np.ndarray, state: Any = None) -> tuple[Any, Any]:
        """Ids (N, T) and the state → scores of the ids that follow (N, T, V), and the new state."""
        steps: Any = tn.Variable(ids.T)
        states, state = self.rnn([tn.one_hot(x, self.vocab_size) for x in steps.to(self.W_hq.device)], state)
        return tn.stack([H @ self.W_hq + self.b_q for H in states], axis=1), state

    def predict(self, prefix: str, n: int, corpus: Corpus) -> str:
        """The prefix, and the n characters that are most probable, one after the other."""
        ids = corpus.vocab.encode(corpus.tokenizer(prefix)).tolist()
        if not ids:
            raise ValueError("--prefix has no characters: give it one or more")
        with tn.no_grad():
            scores, state = self(np.array([ids]))
            for _ in range(n):
                ids.append(int(scores.data[0, -1].argmax()))
                scores, state = self(np.array([ids[-1:]]), state)
        return corpus.tokenizer.join(corpus.vocab.decode(ids))


def perplexity(model: RNNLM, windows: np.ndarray) -> float:
    """exp of the mean loss over windows (N, T + 1), each from a state of zeros."""
    with tn.no_grad():
        scores, _ = model(windows[:, :-1])
        return float(np.exp(nn.functional.cross_entropy(scores, windows[:, 1:]).item()))


@command
def main(settings: Settings) -> float:
    """Train, write and draw.

    Returns:
        The perplexity on the validation part after the last epoch.
    """
    out = output_folder(settings.out)
    tn.manual_seed(settings.seed)
    epochs = 2 if settings.quick else settings.epochs
    if min(epochs, settings.hidden, settings.train, settings.valid) < 1:
        raise ValueError("--epochs, --hidden, --train and --valid must be at least 1")
    corpus = load_time_machine(Characters())
    ids = np.concatenate((corpus.train, corpus.valid, corpus.test))
    windows = np.lib.stride_tricks.sliding_window_view(ids, settings.num_steps + 1)
    train, valid = np.split(windows[: settings.train + settings.valid], [settings.train])
    if not len(valid):
        raise ValueError(f"--train {settings.train} of {len(windows)} windows leaves none to validate on")
    model = RNNLM(len(corpus.vocab), settings.hidden, settings.sigma)
    print(f"before training: {model.predict(settings.prefix, 20, corpus)}")
    trainer = Trainer(
        model,
        optim.SGD(model.parameters(), lr=settings.lr),
        lambda x, y: nn.functional.cross_entropy(model(x)[0], y),
        settings.max_norm,
        callbacks=[
            Evaluation(lambda: {"validation perplexity": perplexity(model, valid)}),
            ProgressBar(unit="characters"),
        ],
    )
    trainer.fit(DataLoader((train[:, :-1], train[:, 1:]), settings.batch_size, seed=settings.seed), epochs)
    figure = trainer.history["validation perplexity"][-1][1]
    print(f"after epoch {epochs}: validation perplexity {figure:.2f}")
    print(f"after training: {model.predict(settings.prefix, 20, corpus)}")
    curves: dict[str, Any] = {
        "training perplexity": [(epoch, np.exp(loss)) for epoch, loss in trainer.history["loss"]],
        "validation perplexity": trainer.history["validation perplexity"],
    }
    print(plot.save(plot.learning_curve(curves), out / "learning_curve.png"))
    return figure


if __name__ == "__main__":
    cli.write_utf8()
    main(tyro.cli(Settings, prog="python -m examples.rnn_scratch", description=__doc__))
