"""A1 — three arms of a spiral: the smallest network that bends its boundaries (*Deep Learning from Scratch 2*, ch. 1).

    python -m examples.spiral

trains a 2-10-3 network with `Trainer`, prints the loss of the last epoch, and leaves in runs/spiral/ the learning
curve and the decision boundary. The book's figure: a loss of 0.11 at epoch 300.
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
from tinygrad_nlp.data import DataLoader, spiral
from tinygrad_nlp.training import ProgressBar, Trainer, output_folder


@dataclass
class Settings:
    """Train a small network on the spiral, and draw its decision boundary."""

    hidden: int = 10
    """units of the hidden layer"""
    lr: float = 1.0
    """learning rate of SGD"""
    batch_size: int = 30
    """points in a mini-batch"""
    epochs: int = 300
    """times through the 300 points"""
    seed: int = 1
    """of the weights and of the order of the points"""
    out: str = "runs/spiral"
    """folder for the pictures"""


class TwoLayerNet(nn.Module):
    """Affine → sigmoid → affine."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        self.affine1 = nn.Linear(inputs, hidden)
        self.affine2 = nn.Linear(hidden, outputs)

    def forward(self, x: Any) -> Any:
        """Points (N, 2) → scores (N, 3)."""
        return self.affine2(tn.sigmoid(self.affine1(x)))


@command
def main(settings: Settings) -> float:
    """Train and draw; returns the mean loss of the last epoch."""
    out = output_folder(settings.out)
    if settings.epochs < 1 or settings.hidden < 1:
        raise ValueError("--epochs and --hidden must be at least 1")
    tn.manual_seed(settings.seed)
    x, t = spiral()
    model = TwoLayerNet(2, settings.hidden, 3)
    trainer = Trainer(
        model,
        optim.SGD(model.parameters(), lr=settings.lr),
        lambda x, t: nn.functional.cross_entropy(model(x), t),
        callbacks=[ProgressBar(unit="points")],
    )
    loader = DataLoader((x, t), settings.batch_size, seed=settings.seed)
    trainer.fit(loader, settings.epochs)

    def predict(points: np.ndarray) -> np.ndarray:
        with tn.no_grad():
            return model(tn.Variable(points)).data

    loss = float(np.mean([value for _, value in trainer.history["loss"][-len(loader) :]]))
    accuracy = float((predict(x).argmax(axis=1) == t).mean())
    print(f"loss {loss:.2f} at epoch {settings.epochs}, accuracy {accuracy:.1%}")
    for figure, name in (
        (trainer.plot(), "learning_curve.png"),
        (plot.decision_boundary(predict, x, t), "boundary.png"),
    ):
        print(plot.save(figure, out / name))
    return loss


if __name__ == "__main__":
    cli.write_utf8()
    main(tyro.cli(Settings, prog="python -m examples.spiral", description=__doc__))
