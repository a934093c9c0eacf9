"""detect_anomaly: it names what made the first NaN or Inf, and finds arrays that were changed unseen."""

import inspect
import itertools
import threading

import numpy as np
import pytest

import tinygrad_nlp as tn
from tinygrad_nlp import Function, Variable, nn
from tinygrad_nlp.autograd import anomaly
from tinygrad_nlp.nn import functional as F


def leaf(data):
    return Variable(np.array(data, np.float64), requires_grad=True)


class Poison(Function):
    """The identity, whose gradient is not a number."""

    def forward(self, x):
        return x * 1.0

    def backward(self, gy):
        return gy * np.nan


def lstm_arguments():
    rng = np.random.default_rng(0)
    shapes = [(2, 5, 3), (2, 4), (2, 4), (16, 3), (16, 4), (16,), (16,)]
    x, h, c, *weights = (leaf(rng.standard_normal(shape)) for shape in shapes)
    return x, (h, c), *weights


def test_the_first_nan_of_a_forward_is_named():
    x = leaf([1.0, -1.0])
    line = inspect.currentframe().f_lineno + 2
    with tn.detect_anomaly(), tn.scope("head"), tn.scope(3), pytest.raises(FloatingPointError) as caught:
        tn.exp(tn.log(x))
    assert (
        str(caught.value)
        == f"log in head.t=3 ({__file__}:{line}): forward gave NaN at (1,) of its output of shape (2,)"
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_single_number_is_looked_at_in_every_dtype(dtype):
    """NumPy gives a scalar of its own kind for it, and no array."""
    largest = Variable(np.full(3, np.finfo(dtype).max), requires_grad=True)
    with tn.detect_anomaly():
        with pytest.raises(FloatingPointError, match=r"^sum .*forward gave Inf at \(\) of its output of shape \(\)"):
            largest.sum()
        with pytest.raises(FloatingPointError, match=r"^log_softmax in cross_entropy .*forward gave NaN"):
            F.cross_entropy(Variable(np.array([[0, np.inf]], dtype)), [1])
        product = Variable(dtype(1e-4), requires_grad=True) * largest.data[0]
        with pytest.raises(FloatingPointError, match=r"^mul .*backward gave Inf at \(\) of the gradient of input 0"):
            product.backward(np.full((), 2, dtype))


def test_a_nan_that_came_in_is_said_to_have_come_in():
    with tn.detect_anomaly(), pytest.raises(FloatingPointError, match=r"mul .*NaN at .*; argument 1 held it already"):
        leaf([1.0, 2.0]) * np.array([1.0, np.nan])


def test_an_inf_is_an_anomaly_where_it_arises_but_not_where_it_was_given():
    x = leaf([1.0, 2.0])
    with tn.detect_anomaly():
        y = tn.exp(tn.where(np.array([True, False]), x, -np.inf))  # masks are made so
        np.testing.assert_allclose(y.data, [np.e, 0])
        with pytest.raises(FloatingPointError, match=r"div .*forward gave Inf at \(0,\)"):
            x / np.array([0.0, 1.0])


def test_an_infinite_border_was_given():
    x = leaf(np.ones((1, 1, 2, 2)))
    with tn.detect_anomaly():
        tn.max_pool2d(x, 2, stride=1, padding=1).sum().backward()
        with pytest.raises(FloatingPointError, match=r"^pad .*forward gave NaN"):
            tn.pad(x, 1, np.nan)
    np.testing.assert_array_equal(x.grad.sum(), 9)


def test_operations_without_a_graph_are_looked_at_too():
    line = inspect.currentframe().f_lineno + 2
    with tn.detect_anomaly(), tn.no_grad(), pytest.raises(FloatingPointError, match=f"log .*test_anomaly.py:{line}"):
        tn.log(leaf([-1.0]))


def test_the_first_nan_of_a_backward_is_named_with_the_line_of_the_forward():
    x = leaf([1.0, 2.0])
    with tn.detect_anomaly(), tn.scope("encoder"):
        line = inspect.currentframe().f_lineno + 1
        y = Poison()(x * 2.0) * 3.0
        with pytest.raises(FloatingPointError) as caught:
            y.sum().backward()
    assert str(caught.value).startswith(f"poison in encoder ({__file__}:{line}): backward gave NaN at (0,) of")
    assert x.grad is None


def test_an_inf_of_a_backward_is_named():
    x = leaf([0.0, 1.0])
    with tn.detect_anomaly(), pytest.raises(FloatingPointError, match=r"sqrt .*backward gave Inf at \(0,\).*input 0"):
        tn.sqrt(x).sum().backward()


def test_a_recorded_backward_is_looked_at_too():
    x = leaf([0.0, 1.0])
    with tn.detect_anomaly(), pytest.raises(FloatingPointError) as caught:
        tn.grad(tn.sqrt(x).sum(), x, create_graph=True)
    assert "in the backward of sqrt" in caught.value.__notes__[0]


def test_a_nan_within_a_fused_forward_is_named_with_its_step_and_its_operation():
    x, state, *weights = lstm_arguments()
    x.data[1, 3, 0] = np.inf
    weights[0].data[:, 0] = 0  # their product is not a number
    line = inspect.currentframe().f_lineno + 2
    with tn.detect_anomaly(), tn.scope("encoder"), pytest.raises(FloatingPointError) as caught:
        F.lstm(x, state, *weights)
    assert str(caught.value).startswith(f"matmul in encoder.lstm.t=3.linear ({__file__}:{line}): forward gave")


def test_a_nan_within_a_fused_backward_is_named_with_its_step():
    x, state, *weights = lstm_arguments()
    with tn.detect_anomaly(), tn.scope("encoder"):
        hs, _ = F.lstm(x, state, *weights)
    seed = np.ones(hs.shape)
    seed[0, 2, 1] = np.nan
    with tn.detect_anomaly(), pytest.raises(FloatingPointError, match=r"in encoder\.lstm.*backward gave NaN"):
        hs.backward(seed)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_an_inf_that_arises_within_a_fused_backward_is_named_with_its_step_and_its_operation(kind):
    layer = getattr(nn, kind)(4, 4)
    for parameter in layer.parameters():
        parameter.data *= 0
    layer.weight_hh_l0.data[:] = 3e37 if kind == "RNN" else 3e30  # the state is 0, its gradient explodes
    with tn.detect_anomaly():
        line = inspect.currentframe().f_lineno + 1
        hs, _ = layer(Variable(np.zeros((2, 6, 4), np.float32), requires_grad=True))
        with pytest.raises(FloatingPointError) as caught:
            hs.sum().backward()
    where = f"matmul in {kind}.{kind.lower()}.t=4.linear ({__file__}:{line})"
    assert str(caught.value).startswith(f"{where}: backward gave Inf at (0, 0) of the gradient of input 0")


@pytest.mark.parametrize("change", ["input", "output", "saved"])
def test_a_saved_array_that_was_changed_unseen_is_found(change):
    class Scale(Function):
        saves_inputs = saves_output = True

        def forward(self, x):
            self.saved = np.full(x.shape, 3.0)
            return x * self.saved

        def backward(self, gy):
            return gy * self.saved

    x = leaf([1.0, 2.0])
    with tn.detect_anomaly():
        y = Scale()(x)
        {"input": x.data, "output": y.data, "saved": y.creator.saved}[change][0] = 7.0
        with pytest.raises(RuntimeError, match=r"scale \(.*changed since, not through the library"):
            y.sum().backward()
    assert x.grad is None


@pytest.mark.parametrize(
    ("cell", "kept"),
    [
        *itertools.product(["rnn", "lstm", "gru", "gru of Cho"], ["x", "h", "seen", "mask", "dropped"]),
        *itertools.product(["lstm", "gru", "gru of Cho"], ["states"]),
        ("gru of Cho", "reset"),
    ],
)
def test_what_a_recurrent_kernel_keeps_is_held_to_a_checksum_too(cell, kept):
    x, (h, c), w_ih, w_hh, *_ = lstm_arguments()
    mask, dropped = np.array([[True] * 5, [True] * 3 + [False] * 2]), np.full((2, 4), 2.0)

    def run():
        if cell == "lstm":
            return F.lstm(x, (h, c), w_ih, w_hh, mask=mask, recurrent_mask=dropped)[0]
        if cell == "rnn":
            return F.rnn(x, h, w_ih[:4], w_hh[:4], mask=mask, recurrent_mask=dropped)[0]
        settings = {"mask": mask, "recurrent_mask": dropped, "reset_after": cell == "gru"}
        return F.gru(x, h, w_ih[:12], w_hh[:12], **settings)[0]

    with tn.detect_anomaly():
        hs = run()
        hs.sum().backward(retain_graph=True)
        hs.sum().backward(retain_graph=True)  # what backward itself writes is no change
        (part,) = hs.creator.saved
        array = {"mask": mask, "dropped": dropped}.get(kept, getattr(part, kept))  # masks as the user holds them
        array[(0,) * array.ndim] = not array[(0,) * array.ndim]
        with pytest.raises(RuntimeError, match=rf"{hs.creator.name} \(.*changed since, not through the library"):
            hs.sum().backward()


def test_unchanged_arrays_of_every_kind_pass():
    x, state, *weights = lstm_arguments()
    with tn.detect_anomaly():
        hs, _ = F.lstm(x, state, *weights)
        y = F.attention(hs, hs[:, ::2].T.T, hs[:, ::2])[0].T.sum() + tn.embedding([0, 1], weights[0]).sum()
        y.backward(retain_graph=True)
        y.backward()
        tn.grad(tn.tanh(x[:0]).sum(), x)
    assert np.isfinite(x.grad).all()


def test_outside_nothing_is_looked_at():
    with np.errstate(invalid="ignore"):
        y = tn.log(leaf([-1.0]))
        y.backward()
    assert np.isnan(y.data)
    assert anomaly.active == 0
    with pytest.raises(KeyError), tn.detect_anomaly():
        raise KeyError
    assert anomaly.active == 0


def test_other_threads_are_left_alone():
    results = []
    with tn.detect_anomaly(), np.errstate(invalid="ignore"):

        def work():
            with np.errstate(invalid="ignore"):
                results.append(tn.log(leaf([-1.0])))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert np.isnan(results[0].data)


def test_it_nests():
    with tn.detect_anomaly():
        with tn.detect_anomaly():
            pass
        with pytest.raises(FloatingPointError):
            tn.log(leaf([-1.0]))
