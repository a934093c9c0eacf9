"""Runs one call twice, with PyTorch and with this library, and compares values, dtypes and gradients."""

import numpy as np
import torch

import tinygrad_nlp as tn
from tests.oracle.tally import Tally

# Relative to the element, and to the largest of the array or 1: sums in another order lose other digits.
TOLERANCE = {torch.float16: 1e-3, torch.float32: 1e-5, torch.float64: 1e-12}


class Otherwise(Exception):
    """This library refuses what a sample asks for, or says it in another way that is no test of the same thing."""


def to_ours(x, leaves):
    """`x` with the tensors in it as arrays of the same memory, or Variables where they require a gradient.

    Args:
        x: whatever PyTorch's samples hold.
        leaves: is given a pair (tensor, Variable) for each that requires a gradient.
    """
    if isinstance(x, torch.Tensor):
        array = x.detach().numpy()
        if not x.requires_grad:
            return array
        leaves.append((x, tn.Variable(array, requires_grad=True)))
        return leaves[-1][1]
    if isinstance(x, torch.dtype):
        return torch.empty(0, dtype=x).numpy().dtype
    if type(x) in (list, tuple, torch.Size):
        return (list if type(x) is list else tuple)(to_ours(part, leaves) for part in x)
    return {key: to_ours(part, leaves) for key, part in x.items()} if isinstance(x, dict) else x


def tensors(y):
    """What PyTorch returned, as a list of tensors."""
    return [t for part in y for t in tensors(part)] if isinstance(y, tuple | list) else [y]


def outputs(y):
    """What this library returned, as a list of Variables and arrays."""
    return [v for part in y for v in outputs(part)] if isinstance(y, tuple | list) else [y]


def compare(theirs, ours, leaves):
    """Raise AssertionError where values, dtypes or gradients differ.

    Args:
        theirs: tensors that PyTorch computed.
        ours: Variables, or arrays, that this library computed.
        leaves: pairs (tensor, Variable) that gradients are taken with respect to.
    """
    assert len(theirs) == len(ours), f"{len(ours)} outputs, PyTorch has {len(theirs)}"
    for theirs_i, ours_i in zip(theirs, ours, strict=True):
        _assert_close("the value", np.asarray(getattr(ours_i, "data", ours_i)), theirs_i)
    rng = np.random.default_rng(0)
    seeds = [rng.standard_normal(tuple(y.shape)) for y in theirs]
    pairs = [
        (y, torch.as_tensor(seed, dtype=y.dtype)) for y, seed in zip(theirs, seeds, strict=True) if y.requires_grad
    ]
    wanted = _gradients(torch.autograd.grad, pairs, [x for x, _ in leaves])
    pairs = [
        (y, seed.astype(y.dtype))
        for y, seed in zip(ours, seeds, strict=True)
        if isinstance(y, tn.Variable) and y.requires_grad
    ]
    found = _gradients(tn.grad, pairs, [x for _, x in leaves])
    for number, ((x, _), g, w) in enumerate(zip(leaves, found, wanted, strict=True)):
        g = np.zeros(tuple(x.shape), to_ours(x.dtype, [])) if g is None else np.asarray(g)
        _assert_close(f"gradient {number}", g, torch.zeros_like(x) if w is None else w)


def _gradients(grad, pairs, leaves):
    if not pairs or not leaves:
        return [None] * len(leaves)
    ys, seeds = zip(*pairs, strict=True)
    return grad(ys, leaves, seeds, allow_unused=True)


def _assert_close(what, ours, theirs):
    wanted = theirs.detach().to_dense().numpy()
    assert ours.dtype == wanted.dtype, f"{what} is {ours.dtype}, PyTorch's {wanted.dtype}"
    assert ours.shape == wanted.shape, f"{what} has the shape {ours.shape}, PyTorch's {wanted.shape}"
    tolerance = TOLERANCE.get(theirs.dtype, 0)  # 0 for integers
    scale = np.abs(wanted[np.isfinite(wanted)]).max(initial=1)
    np.testing.assert_allclose(ours, wanted, rtol=tolerance, atol=tolerance * scale, err_msg=what)


def tally_of(name, samples, run):
    """Run all samples and count.

    Args:
        name: of what is tried.
        samples: one after another is passed to `run`.
        run: raises Otherwise where the sample is no test of this library, anything else where it fails.
    """
    tally = Tally(name)
    for number, sample in enumerate(samples):
        tally.samples += 1
        try:
            with np.errstate(all="ignore"):
                run(sample)
        except Otherwise as reason:
            tally.otherwise.append(str(reason))
        except Exception as error:
            tally.wrong.append(f"sample {number}, {signature(sample)}: {type(error).__name__}: {error}")
        else:
            tally.agree += 1
    return tally


def signature(x):
    """A sample in a line."""
    if isinstance(x, torch.Tensor):
        return f"{str(x.dtype).removeprefix('torch.')}{list(x.shape)}"
    if isinstance(x, list | tuple):
        return "(" + ", ".join(map(signature, x)) + ")"
    if isinstance(x, dict):
        return ", ".join(f"{key}={signature(value)}" for key, value in x.items())
    if hasattr(x, "kwargs"):
        return signature([getattr(x, "input", ()), *x.args]) + signature(x.kwargs)
    return repr(x)
