"""A full training step of the spiral classifier, so small that most of it is the framework's own overhead."""

import numpy as np

from benchmarks.harness import Product, Step, Workload

BATCH, FEATURES, HIDDEN, CLASSES = 30, 2, 10, 3


def _batch() -> tuple[np.ndarray, np.ndarray]:
    """Points (BATCH, FEATURES) float32 and their classes (BATCH,) int64."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((BATCH, FEATURES), dtype=np.float32), rng.integers(CLASSES, size=BATCH)


def ours() -> Step:
    """The step with tinygrad_nlp."""
    import tinygrad_nlp as tn
    from tinygrad_nlp import nn, optim
    from tinygrad_nlp.nn import functional as F

    class TwoLayers(nn.Module):
        def __init__(self) -> None:
            self.hidden = nn.Linear(FEATURES, HIDDEN)
            self.output = nn.Linear(HIDDEN, CLASSES)

        def forward(self, x: np.ndarray) -> tn.Variable:
            return self.output(tn.sigmoid(self.hidden(x)))

    model = TwoLayers()
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    x, t = _batch()

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), t).backward()
        optimizer.step()

    return step


def pytorch(compiled: bool = False) -> Step:
    """The step with PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.Sigmoid(), nn.Linear(HIDDEN, CLASSES))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    x, t = map(torch.from_numpy, _batch())

    def loss_of(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(model(x), t)

    if compiled:
        loss_of = torch.compile(loss_of)

    def step() -> None:
        optimizer.zero_grad()
        loss_of(x, t).backward()
        optimizer.step()

    return step


def floor() -> list[Product]:
    """Both layers forward, both weight gradients, and the hidden layer's gradient."""
    return [
        Product(BATCH, FEATURES, HIDDEN),
        Product(BATCH, HIDDEN, CLASSES),
        Product(CLASSES, BATCH, HIDDEN),
        Product(BATCH, CLASSES, HIDDEN),
        Product(HIDDEN, BATCH, FEATURES),
    ]


WORKLOAD = Workload(
    name="spiral",
    text="one training step of a 2-10-3 sigmoid network: batch 30, softmax cross-entropy, SGD",
    ours=ours,
    torch=pytorch,
    floor=floor,
)
