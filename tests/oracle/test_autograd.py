"""A second opinion, from HIPS autograd: whole Jacobians and Hessians of functions made of many operations."""

import numpy as np
import pytest

import tinygrad_nlp as tn

autograd = pytest.importorskip("autograd", reason="the second oracle is HIPS autograd: `make oracle` installs it")
import autograd.numpy as anp  # noqa: E402


def rows_of_the_jacobian(f, x, create_graph=False):
    """∂f_i/∂x for every element of f(x), one backward each."""
    y = f(x).reshape(-1)
    seeds = np.eye(y.size)
    return [tn.grad(y, x, seed, retain_graph=True, create_graph=create_graph)[0] for seed in seeds]


def jacobian(f, array):
    x = tn.Variable(array, requires_grad=True)
    return np.stack(rows_of_the_jacobian(f, x)).reshape(f(array).shape + array.shape)


def hessian(f, array):
    x = tn.Variable(array, requires_grad=True)
    (g,) = tn.grad(f(x), x, create_graph=True)
    return np.stack(rows_of_the_jacobian(lambda _: g, x)).reshape(array.shape * 2)


W = np.random.default_rng(1).standard_normal((3, 4))
B = np.linspace(-1, 1, 3)

# Each is written twice: with our operations and with those of autograd.numpy.
FUNCTIONS = {
    "two layers": (
        lambda x: tn.tanh(tn.linear(tn.sigmoid(x), W, B)) ** 2,
        lambda x: anp.tanh(1 / (1 + anp.exp(-x)) @ W.T + B) ** 2,
    ),
    "attention": (
        lambda x: tn.softmax(x @ tn.swapaxes(x, -1, -2) / 2.0) @ x,
        lambda x: _softmax(x @ x.T / 2.0) @ x,
    ),
    "layer norm": (
        lambda x: (x - x.mean(-1, keepdims=True)) / tn.sqrt(((x - x.mean(-1, keepdims=True)) ** 2).mean(-1, True) + 1),
        lambda x: (
            (x - anp.mean(x, -1, keepdims=True))
            / anp.sqrt(anp.mean((x - anp.mean(x, -1, keepdims=True)) ** 2, -1, keepdims=True) + 1)
        ),
    ),
    "recurrence": (
        lambda x: _recurrence(x, tn.tanh, tn.concatenate),
        lambda x: _recurrence(x, anp.tanh, anp.concatenate),
    ),
    "selection": (
        lambda x: tn.where(x.data > 0, tn.exp(x), x * x)[[0, 0, 4], ::-1] * tn.maximum(x, 0.1)[1:4],
        lambda x: anp.where(x > 0, anp.exp(x), x * x)[[0, 0, 4], ::-1] * anp.maximum(x, 0.1)[1:4],
    ),
    "log-likelihood": (
        lambda x: tn.logsumexp(x, axis=1) - x[np.arange(5), [0, 1, 2, 3, 0]],
        lambda x: anp.log(anp.sum(anp.exp(x), axis=1)) - x[anp.arange(5), [0, 1, 2, 3, 0]],
    ),
}


def _softmax(x):
    return anp.exp(x) / anp.sum(anp.exp(x), axis=-1, keepdims=True)


def _recurrence(x, tanh, concatenate):
    h, hs = x[0] * 0.0, []
    for t in range(len(x)):
        h = tanh(h * 0.5 + x[t] * h + x[t])
        hs.append(h)
    return concatenate(hs)


each_function = pytest.mark.parametrize(("ours", "theirs"), FUNCTIONS.values(), ids=FUNCTIONS)


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((5, 4))


def arrays_only(f):
    """`f` for arrays too, whose only use of `.data` is to compare."""
    return lambda x: f(x if isinstance(x, tn.Variable) else tn.Variable(x))


@each_function
def test_jacobians_are_those_of_autograd(ours, theirs, x):
    np.testing.assert_allclose(jacobian(arrays_only(ours), x), autograd.jacobian(theirs)(x), rtol=1e-10, atol=1e-12)


@each_function
def test_hessians_are_those_of_autograd(ours, theirs, x):
    mine = hessian(lambda x: (arrays_only(ours)(x) ** 2).sum(), x)
    np.testing.assert_allclose(mine, autograd.hessian(lambda x: anp.sum(theirs(x) ** 2))(x), rtol=1e-9, atol=1e-11)
