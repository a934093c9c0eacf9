"""Two things to do with a multi-layer perceptron: backward through many layers, and a Hessian-vector product."""

import itertools
import math

import numpy as np

from benchmarks.harness import Product, Step, Workload

LAYERS, BATCH, WIDTH = 100, 1024, 256

HVP_BATCH, HVP_SIZES = 128, (64, 256, 256, 10)


# --- backward through 100 layers: a matter of memory ------------------------------------------------------------------


def _deep_numbers() -> tuple[np.ndarray, np.ndarray]:
    """Inputs (N, D), and the weights of all layers (LAYERS, D, D), float32.

    They have He's scale, with which neither values nor gradients fade away: with the usual one they would end as
    denormal numbers, which are slow.
    """
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((LAYERS, WIDTH, WIDTH), dtype=np.float32) * math.sqrt(2 / WIDTH)
    return rng.standard_normal((BATCH, WIDTH), dtype=np.float32), weights


def deep_ours() -> Step:
    """Gradients of all parameters with tinygrad_nlp."""
    import tinygrad_nlp as tn
    from tinygrad_nlp import nn

    x, weights = _deep_numbers()
    layers = [nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)]
    for layer, weight in zip(layers, weights, strict=True):
        layer.weight.data = weight.copy()

    def step() -> None:
        y = x
        for layer in layers:
            layer.zero_grad()
            y = tn.relu(layer(y))
        y.mean().backward()

    return step


def deep_pytorch(compiled: bool = False) -> Step:
    """The same with PyTorch."""
    import torch
    from torch import nn

    x, weights = map(torch.from_numpy, _deep_numbers())
    layers = [nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)]
    for layer, weight in zip(layers, weights, strict=True):
        layer.weight.data = weight.clone()
    model = nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU())))
    if compiled:
        model.compile()

    def step() -> None:
        model.zero_grad()
        model(x).mean().backward()

    return step


def deep_floor() -> list[Product]:
    """Forward, the gradient of the weight, and that of the input, which the first layer needs not."""
    return [
        Product(BATCH, WIDTH, WIDTH, count=2 * LAYERS - 1),
        Product(WIDTH, BATCH, WIDTH, count=LAYERS),
    ]


# --- Hessian times a vector -------------------------------------------------------------------------------------------


def _hvp_numbers() -> tuple[np.ndarray, np.ndarray]:
    """Inputs (N, D) float32 and classes (N,)."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((HVP_BATCH, HVP_SIZES[0]), dtype=np.float32)
    return x, rng.integers(HVP_SIZES[-1], size=HVP_BATCH)


def hvp_ours() -> Step:
    """Two calls of `tn.grad`, of which the first is recorded."""
    import tinygrad_nlp as tn
    from tinygrad_nlp import nn

    layers = [nn.Linear(*pair) for pair in itertools.pairwise(HVP_SIZES)]
    parameters: list[tn.Variable] = [parameter for layer in layers for parameter in layer.parameters()]
    directions = [np.ones_like(parameter.data) for parameter in parameters]
    x, t = _hvp_numbers()

    def step() -> None:
        y = x
        for layer in layers[:-1]:
            y = tn.tanh(layer(y))
        loss = nn.functional.cross_entropy(layers[-1](y), t)
        gradients = tn.grad(loss, parameters, create_graph=True)
        tn.grad(gradients, parameters, directions, allow_unused=True)

    return step


def hvp_pytorch(compiled: bool = False) -> Step:
    """The same two calls, which PyTorch's users write for the parameters of a module. They cannot be compiled."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.manual_seed(0)
    layers = [nn.Linear(*pair) for pair in itertools.pairwise(HVP_SIZES)]
    parameters = [parameter for layer in layers for parameter in layer.parameters()]
    directions = [torch.ones_like(parameter) for parameter in parameters]
    x, t = map(torch.from_numpy, _hvp_numbers())

    def step() -> None:
        y = x
        for layer in layers[:-1]:
            y = torch.tanh(layer(y))
        loss = F.cross_entropy(layers[-1](y), t)
        gradients = torch.autograd.grad(loss, parameters, create_graph=True)
        torch.autograd.grad(gradients, parameters, directions, allow_unused=True)

    return step


def no_floor() -> list[Product]:
    """None is given: which products of the second derivative could be saved is the question."""
    return []


WORKLOADS = [
    Workload(
        name="deep_mlp",
        text=f"forward and backward through {LAYERS} layers of {WIDTH} with relu, batch {BATCH:,}: look at the memory",
        ours=deep_ours,
        torch=deep_pytorch,
        floor=deep_floor,
    ),
    Workload(
        name="hvp",
        text="the Hessian of a 64-256-256-10 tanh network's cross-entropy times a vector, batch 128, by two gradients",
        ours=hvp_ours,
        torch=hvp_pytorch,
        floor=no_floor,
    ),
]
