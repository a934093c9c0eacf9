"""Ten common operations one by one, where they cost the framework (10 numbers) and where they compute (10,000)."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.harness import Product, Step, Workload

REPEATS = 100
WIDTH = 10
SIZES = (10, 10_000)
OPERATIONS = ("add", "mul", "tanh", "sigmoid", "relu", "matmul", "softmax", "sum", "reshape", "getitem")


def _ours() -> Mapping[str, Callable[[Any, Any], Any]]:
    import tinygrad_nlp as tn

    return {
        "add": lambda x, w: x + w,
        "mul": lambda x, w: x * w,
        "tanh": lambda x, w: tn.tanh(x),
        "sigmoid": lambda x, w: tn.sigmoid(x),
        "relu": lambda x, w: tn.relu(x),
        "matmul": lambda x, w: x @ w,
        "softmax": lambda x, w: tn.softmax(x),
        "sum": lambda x, w: x.sum(),
        "reshape": lambda x, w: x.reshape(-1),
        "getitem": lambda x, w: x[:, 1:],
    }


def _pytorch() -> Mapping[str, Callable[[Any, Any], Any]]:
    import torch

    return {
        "add": lambda x, w: x + w,
        "mul": lambda x, w: x * w,
        "tanh": lambda x, w: torch.tanh(x),
        "sigmoid": lambda x, w: torch.sigmoid(x),
        "relu": lambda x, w: torch.relu(x),
        "matmul": lambda x, w: x @ w,
        "softmax": lambda x, w: torch.softmax(x, -1),
        "sum": lambda x, w: x.sum(),
        "reshape": lambda x, w: x.reshape(-1),
        "getitem": lambda x, w: x[:, 1:],
    }


def _numbers(name: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """x (size / WIDTH, WIDTH), and the constant beside it: for a product (WIDTH, WIDTH), else as x. Float32."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((size // WIDTH, WIDTH), dtype=np.float32)
    w = rng.standard_normal((WIDTH, WIDTH) if name == "matmul" else x.shape, dtype=np.float32)
    return x, w


def workload(name: str, size: int) -> Workload:
    """One operation on one size: REPEATS of it on the same x, and one backward through all of them."""

    def ours() -> Step:
        import tinygrad_nlp as tn

        array, w = _numbers(name, size)
        x, operation = tn.Variable(array, requires_grad=True), _ours()[name]
        seeds = [np.ones_like(operation(array, w))] * REPEATS
        return lambda: tn.grad([operation(x, w) for _ in range(REPEATS)], x, seeds)

    def pytorch(compiled: bool = False) -> Step:
        import torch

        start, w = map(torch.from_numpy, _numbers(name, size))
        x, operation = start.requires_grad_(), _pytorch()[name]
        seeds = [torch.ones_like(operation(x.detach(), w))] * REPEATS

        def repeated(x: torch.Tensor) -> list[torch.Tensor]:
            return [operation(x, w) for _ in range(REPEATS)]

        if compiled:
            repeated = torch.compile(repeated)
        return lambda: torch.autograd.grad(repeated(x), x, seeds)

    def floor() -> list[Product]:
        return []

    return Workload(
        name=f"op_{name}_{size}",
        text=f"one {name} of {size:,} numbers, forward, backward, and the sum of its gradient with others'",
        ours=ours,
        torch=pytorch,
        floor=floor,
        operations=REPEATS,
        memory=False,
    )


WORKLOADS = [workload(name, size) for name in OPERATIONS for size in SIZES]
