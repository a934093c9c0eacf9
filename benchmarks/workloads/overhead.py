"""What a recorded operation costs besides its arithmetic: a chain of 100 on ten numbers, and its backward."""

import numpy as np

from benchmarks.harness import Product, Step, Workload

SIZE, REPEATS = 10, 25
OPERATIONS = 4 * REPEATS


def _numbers() -> tuple[np.ndarray, np.ndarray]:
    """Two arrays (SIZE,) float32: where the chain starts, and the constant that it multiplies by and adds."""
    x, w = np.random.default_rng(0).standard_normal((2, SIZE), dtype=np.float32)
    return x, w


def ours(repeats: int = REPEATS) -> Step:
    """The chain with tinygrad_nlp."""
    import tinygrad_nlp as tn

    start, w = _numbers()
    x = tn.Variable(start, requires_grad=True)
    ones = np.ones_like(start)

    def step() -> None:
        y = x
        for _ in range(repeats):
            y = tn.sigmoid(tn.tanh(y * w + w))
        x.grad = None
        y.backward(ones)

    return step


def pytorch(compiled: bool = False, repeats: int = REPEATS) -> Step:
    """The chain with PyTorch."""
    import torch

    start, w = map(torch.from_numpy, _numbers())
    x = start.requires_grad_()
    ones = torch.ones(SIZE)

    def chain(y: torch.Tensor) -> torch.Tensor:
        for _ in range(repeats):
            y = torch.sigmoid(torch.tanh(y * w + w))
        return y

    if compiled:
        chain = torch.compile(chain)

    def step() -> None:
        x.grad = None
        chain(x).backward(ones)

    return step


def floor() -> list[Product]:
    """None: there are no matrix products."""
    return []


WORKLOAD = Workload(
    name="overhead",
    text="one recorded elementwise operation on 10 numbers, forward and backward; mean of 25 times y * w, y + w, "
    "tanh, sigmoid",
    ours=ours,
    torch=pytorch,
    floor=floor,
    operations=OPERATIONS,
)
