"""Writes golden.safetensors: what PyTorch computes, for tests on machines that have no PyTorch.

Needs torch (`pip install --group oracle`). Run it from the root of the repository:

    python -m tests.golden.make

Every name is `<thing>.<quantity>`; a gradient is `<thing>.grad.<quantity>`. All values are float32, but ids (int64) and
masks (bool). Inputs come from NumPy's stream and not from PyTorch's, which may change with its version.
"""

from pathlib import Path

import numpy as np
import safetensors.numpy

FILE = Path(__file__).with_name("golden.safetensors")
STEPS = 20  # of each optimizer


def golden() -> dict[str, np.ndarray]:
    """All values, computed now."""
    import torch
    from torch.nn import functional as F

    rng = np.random.default_rng(0)
    values: dict[str, torch.Tensor] = {}

    def normal(*shape):
        return torch.from_numpy(rng.standard_normal(shape).astype(np.float32)).requires_grad_()

    def record(thing, inputs, outputs, differentiable=()):
        """Keep inputs, outputs, a random gradient of each output, and the gradients of the inputs that follow."""
        for name, tensor in {**inputs, **outputs}.items():
            values[f"{thing}.{name}"] = tensor
        for name in differentiable:
            values[f"{thing}.grad.{name}"] = torch.from_numpy(
                rng.standard_normal(tuple(outputs[name].shape)).astype(np.float32)
            )
        torch.autograd.backward(
            [outputs[name] for name in differentiable], [values[f"{thing}.grad.{name}"] for name in differentiable]
        )
        for name, tensor in inputs.items():
            if tensor.requires_grad:
                values[f"{thing}.grad.{name}"] = tensor.grad

    inputs = {"x": normal(2, 3, 4), "weight": normal(5, 4), "bias": normal(5)}
    record("linear", inputs, {"y": F.linear(*inputs.values())}, ["y"])

    inputs = {"ids": torch.tensor([[1, 0, 5], [1, 1, 3]]), "weight": normal(6, 4)}
    record("embedding", inputs, {"y": F.embedding(*inputs.values())}, ["y"])

    layer = torch.nn.LSTM(4, 6, batch_first=True)
    for parameter in layer.parameters():
        parameter.data = normal(*parameter.shape).data
    inputs = {"x": normal(3, 5, 4), "h_0": normal(1, 3, 6), "c_0": normal(1, 3, 6)}
    hs, (h, c) = layer(inputs["x"], (inputs["h_0"], inputs["c_0"]))
    record("lstm", {**inputs, **dict(layer.named_parameters())}, {"hs": hs, "h_n": h, "c_n": c}, ["hs", "h_n", "c_n"])

    inputs = {"logits": normal(6, 7), "targets": torch.tensor([0, 6, -1, 3, -1, 3])}
    record("cross_entropy", inputs, {"loss": F.cross_entropy(*inputs.values(), ignore_index=-1)}, ["loss"])

    inputs = {"query": normal(2, 3, 4), "key": normal(2, 5, 4), "value": normal(2, 5, 6)}
    mask = torch.from_numpy(rng.random((2, 3, 5)) < 0.6)
    mask[..., 0] = True
    context = F.scaled_dot_product_attention(*inputs.values(), attn_mask=mask)
    record("attention", {**inputs, "mask": mask}, {"context": context}, ["context"])

    start = normal(3, 4).detach()
    gradients = normal(STEPS, 3, 4).detach()
    values |= {"optim.start": start, "optim.gradients": gradients}
    for name, make in {
        "SGD": lambda p: torch.optim.SGD(p, lr=0.1),
        "Momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        "Adam": lambda p: torch.optim.Adam(p, lr=0.01),
        "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    }.items():
        parameter = start.clone().requires_grad_()
        optimizer = make([parameter])
        trajectory = []
        for gradient in gradients:
            parameter.grad = gradient
            optimizer.step()
            trajectory.append(parameter.detach().clone())
        values[f"optim.{name}"] = torch.stack(trajectory)

    settings = {"batch_first": True, "num_layers": 2, "bidirectional": True}
    for name, layer in {
        "rnn": torch.nn.RNN(3, 4, nonlinearity="relu", **settings),
        "gru": torch.nn.GRU(3, 4, **settings),
        "stacked_lstm": torch.nn.LSTM(3, 4, bias=False, **settings),
    }.items():
        for parameter in layer.parameters():
            parameter.data = normal(*parameter.shape).data
        inputs = {"x": normal(2, 3, 3), "h_0": normal(4, 2, 4), "c_0": normal(4, 2, 4)}
        if name != "stacked_lstm":
            del inputs["c_0"]
        hs, state = layer(inputs["x"], inputs["h_0"] if name != "stacked_lstm" else (inputs["h_0"], inputs["c_0"]))
        outputs = {"hs": hs, "h_n": state} if name != "stacked_lstm" else {"hs": hs, "h_n": state[0], "c_n": state[1]}
        record(name, {**inputs, **dict(layer.named_parameters())}, outputs, list(outputs))

    return {name: np.ascontiguousarray(tensor.detach().numpy()) for name, tensor in values.items()}


if __name__ == "__main__":
    safetensors.numpy.save_file(golden(), FILE)
    print(f"wrote {FILE}")
