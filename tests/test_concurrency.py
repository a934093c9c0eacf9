"""Threads of the user: two models trained at once are the two models trained one after the other, to the bit."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import threadpoolctl

import tinygrad_nlp as tn
from tinygrad_nlp import nn, optim
from tinygrad_nlp.autograd.modes import modes

TIMEOUT = 60  # seconds: only a deadlock takes that long
WORDS = 20


class LanguageModel(nn.Module):
    """Predicts the next word; with tied weights, so that dense and row-sparse gradients meet in one table."""

    def __init__(self, width):
        self.embed = nn.Embedding(WORDS, width)
        self.lstm = nn.LSTM(width, width)
        self.out = nn.Linear(width, WORDS)
        self.out.weight = self.embed.weight

    def forward(self, ids, targets, state=None):
        hs, state = self.lstm(self.embed(ids), state)
        return nn.functional.cross_entropy(self.out(hs), targets), state


def train(seed, steps, batch=4, width=8, before_step=lambda: None):
    """Losses and parameters after some steps of truncated back-propagation, the same for the same seed."""
    rng = np.random.default_rng(seed)
    model = LanguageModel(width)
    for parameter in model.parameters():
        parameter.data = (rng.standard_normal(parameter.shape) / 4).astype(np.float32)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    losses, state = [], None
    for _ in range(steps):
        before_step()
        ids = rng.integers(WORDS, size=(batch, 6))
        loss, state = model(ids[:, :-1], ids[:, 1:], state)
        state = tuple(part.detach() for part in state)
        optimizer.zero_grad()
        loss.backward()
        optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss))
    return losses, {name: parameter.data for name, parameter in model.named_parameters()}


@pytest.fixture
def restless():
    """Python changes threads as often as it can, so that two of them meet everywhere."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def at_once(*functions):
    """The results of functions that each run in a thread of their own and start together."""
    start = threading.Barrier(len(functions), timeout=TIMEOUT)

    def run(function):
        start.wait()
        return function()

    with ThreadPoolExecutor(len(functions)) as pool:
        futures = [pool.submit(run, function) for function in functions]
        return [future.result(TIMEOUT) for future in futures]


def assert_same(result, expected):
    np.testing.assert_equal(result, expected)


@pytest.mark.usefixtures("restless")
def test_two_models_trained_at_once_are_those_trained_one_after_the_other():
    jobs = [lambda: train(seed=1, steps=30), lambda: train(seed=2, steps=30)]
    alone = [job() for job in jobs]
    for result, expected in zip(at_once(*jobs), alone, strict=True):
        assert_same(result, expected)
    assert alone[0][0][-1] < alone[0][0][0]  # it learned something
    assert alone[0][0] != alone[1][0]


@pytest.mark.parametrize("blas_threads", [1, 2])
def test_models_whose_kernels_use_the_threads_of_the_library_do_so_too(blas_threads):
    """64 rows of 128: with two threads the LSTM cuts the batch, and products are shared."""
    with threadpoolctl.threadpool_limits(blas_threads, "blas"):
        jobs = [lambda seed=seed: train(seed, steps=4, batch=64, width=128) for seed in (1, 2)]
        alone = [job() for job in jobs]
        for result, expected in zip(at_once(*jobs), alone, strict=True):
            assert_same(result, expected)


@pytest.mark.usefixtures("restless")
def test_one_thread_evaluates_without_a_graph_while_another_trains():
    """Each in its own mode at the same moment: they meet in the middle of `no_grad`, at every step."""
    steps = 10
    meeting = threading.Barrier(2, timeout=TIMEOUT)
    model = LanguageModel(8)
    ids = np.zeros((2, 5), int)

    def evaluate():
        losses = []
        with tn.no_grad():
            for _ in range(steps):
                meeting.wait()
                loss, _ = model(ids, ids)
                assert not modes.recording
                assert not loss.requires_grad
                losses.append(float(loss))
        assert modes.recording
        return losses

    expected = train(seed=3, steps=steps)
    losses, trained = at_once(evaluate, lambda: train(seed=3, steps=steps, before_step=meeting.wait))
    assert len(set(losses)) == 1
    assert_same(trained, expected)


def test_each_thread_begins_with_a_graph_and_outside_of_every_layer():
    with tn.no_grad(), tn.scope("outer"):
        ((recording, scope),) = at_once(lambda: (modes.recording, modes.scope))
    assert recording
    assert scope is None


def test_an_error_names_the_layer_of_its_own_thread():
    inside = threading.Barrier(2, timeout=TIMEOUT)

    class Layer(nn.Module):
        def __init__(self, name):
            self._name = name

        def forward(self, x):
            inside.wait()  # both threads are inside of their layer now
            return x @ np.ones((5, 5))

    def message(name):
        with pytest.raises(ValueError, match="matmul in") as caught:
            Layer(name)(tn.Variable(np.ones((2, 3)), requires_grad=True))
        return str(caught.value)

    left, right = at_once(lambda: message("left"), lambda: message("right"))
    assert "matmul in left" in left
    assert "matmul in right" in right


@pytest.mark.usefixtures("restless")
def test_second_derivatives_and_first_ones_at_once():
    array = np.linspace(-1, 1, 6)

    def of_second_order():
        x = tn.Variable(array, requires_grad=True)
        (g,) = tn.grad((tn.tanh(x) ** 3).sum(), x, create_graph=True)
        (h,) = tn.grad((g * g).sum(), x)
        return h

    def of_first_order():
        x = tn.Variable(array, requires_grad=True)
        (tn.tanh(x) ** 3).sum().backward()
        return x.grad

    expected = of_second_order(), of_first_order()
    repeated = at_once(lambda: [of_second_order() for _ in range(50)], lambda: [of_first_order() for _ in range(50)])
    for results, wanted in zip(repeated, expected, strict=True):
        for result in results:
            np.testing.assert_array_equal(result, wanted)


@pytest.mark.usefixtures("restless")
def test_a_change_by_one_thread_is_noticed_by_the_graph_of_another_only_where_it_is_its_own():
    """Optimizers in one thread stamp arrays all the time; graphs in another are not taken for stale."""
    stop = threading.Event()

    def change():
        x = tn.Variable(np.ones(100))
        while not stop.is_set():
            x.data += 1

    def differentiate():
        try:
            for _ in range(200):
                x = tn.Variable(np.full(3, 2.0), requires_grad=True)
                (x * x).sum().backward()
                np.testing.assert_array_equal(x.grad, [4, 4, 4])
            y = (x * x).sum()
            x.data += 1
            with pytest.raises(RuntimeError, match="changed in place"):
                y.backward()
        finally:
            stop.set()

    at_once(change, differentiate)
