"""Makes the pictures of the README: `python -m docs.figures`, after `make run` and `python -m examples.spiral`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import tinygrad_nlp as tn
from tinygrad_nlp import nn
from tinygrad_nlp.data import spiral

FIGURES = Path(__file__).parent / "figures"
FROM_RUNS = {
    "runs/dates/attention.png": "dates_attention.png",
    "runs/dates/learning_curve.png": "dates_learning_curve.png",
    "runs/dates/graph.svg": "dates_graph.svg",
    "runs/spiral/boundary.png": "spiral_boundary.png",
    "runs/spiral/learning_curve.png": "spiral_learning_curve.png",
}


class TwoLayerNet(nn.Module):
    """The model at the top of the README."""

    def __init__(self) -> None:
        self.hidden = nn.Linear(2, 10)
        self.out = nn.Linear(10, 3)

    def forward(self, x: Any, t: Any) -> Any:
        """Points (N, 2) and classes (N,) → the mean loss."""
        return nn.functional.cross_entropy(self.out(tn.sigmoid(self.hidden(x))), t)


if __name__ == "__main__":
    x, t = spiral()
    model = TwoLayerNet()
    print(tn.draw(model(x[:30], t[:30])).save(FIGURES / "readme_graph.svg"))
    for source, name in FROM_RUNS.items():
        print(shutil.copy(source, FIGURES / name))
