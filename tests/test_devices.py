"""On a GPU everything is what it is on the CPU: values, gradients, steps of training, files.

Each test runs on a stand-in that refuses what CuPy refuses (`strict_cupy.py`), and, marked `gpu`, on CuPy itself where
there is a GPU: `pytest -m gpu`.
"""

import contextlib
import copy
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_nlp as tn
from examples import rnn_scratch
from examples.models.attention_seq2seq import AttentionSeq2seq
from examples.models.language_model import RecurrentLM, WindowLM
from examples.spiral import TwoLayerNet
from tests.op_table import ROWS
from tests.test_fused import KERNELS, several
from tinygrad_nlp import RowSparse, Variable, backend, nn, optim
from tinygrad_nlp.autograd import ops
from tinygrad_nlp.data import DataLoader, SequentialWindows, spiral
from tinygrad_nlp.decoding import beam_search, greedy, sample
from tinygrad_nlp.nn import functional as F
from tinygrad_nlp.training import BPTT, Callback, Checkpoint, Trainer, load_weights, perplexity, save_weights

each_op = pytest.mark.parametrize("row", [row for row in ROWS if row.differentiable], ids=lambda row: row.name)
each_plain_op = pytest.mark.parametrize(
    "row", [row for row in ROWS if not row.differentiable], ids=lambda row: row.name
)
each_kernel = pytest.mark.parametrize("cases", KERNELS.values(), ids=KERNELS)


# --- helpers ----------------------------------------------------------------------------------------------------------


def on(device, x):
    """What a test was given, with its arrays on a device, also those in tuples."""
    if isinstance(x, tuple):
        return tuple(on(device, part) for part in x)
    return backend.to_device(x, device) if backend.is_array(x) else x


def kernel_on(device, kernel, dtype):
    """A fused function with its masks and targets on a device, where its checks would bring them."""
    function = kernel()
    for name, x in vars(function).items():
        is_number = backend.is_array(x) and x.dtype.kind == "f"  # a mask of dropout has the dtype of all else
        setattr(function, name, on(device, x.astype(dtype) if is_number else x))
    return function


def host(x):
    """Anything that was computed, as an array of NumPy."""
    x = x.data if isinstance(x, Variable) else x
    if isinstance(x, RowSparse):
        x = x.to_dense()
    return np.asarray(backend.asnumpy(x))


def device_of(x):
    x = x.data if isinstance(x, Variable) else x
    return backend.device_of(x.values if isinstance(x, RowSparse) else x)


def assert_same(there, here, device, tolerance):
    """Arrays are on the device, and within `tolerance` of the largest element of those that the CPU made."""
    assert len(there) == len(here)
    for a, b in zip(there, here, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert device_of(a) == device
            a, b = host(a), host(b)
            finite = np.abs(b[np.isfinite(b)]) if b.dtype.kind == "f" else np.zeros(0)
            atol = tolerance * finite.max(initial=1)
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=atol, strict=True)


def derivatives(function, arrays, dtype, device):
    """Values of a function of Variables, its gradients, and gradients of these, as one list."""
    xs = [Variable(on(device, x.astype(dtype)), requires_grad=True) for x in arrays]
    ys = several(function(*xs))
    if not ys:
        return []

    def weights(of, seed):
        rng = np.random.default_rng(seed)
        return [on(device, np.asarray(rng.uniform(0.5, 1.5, y.shape)).astype(y.dtype)) for y in of]

    plain = tn.grad(ys, xs, weights(ys, 0), allow_unused=True, retain_graph=True)
    graph = tn.grad(ys, xs, weights(ys, 0), allow_unused=True, create_graph=True)
    connected = [g for g in graph if g is not None and g.requires_grad]
    second = tn.grad(connected, xs, weights(connected, 1), allow_unused=True) if connected else []
    return [*ys, *plain, *graph, *second]


# --- operations and kernels -------------------------------------------------------------------------------------------


@each_op
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 1e-5)])
@settings(max_examples=6)
@given(data=st.data())
def test_values_and_two_derivatives_are_those_of_the_cpu(gpu, row, dtype, tolerance, data):
    case = data.draw(row.cases)
    here, there = (
        derivatives(
            lambda *xs, device=device: row.op(*xs, **{k: on(device, v) for k, v in case.options.items()}),
            case.arrays,
            dtype,
            device,
        )
        for device in ("cpu", gpu)
    )
    assert_same(there, here, gpu, tolerance)


@each_op
@settings(max_examples=5)
@given(data=st.data())
def test_arrays_alone_give_arrays_there(gpu, row, data):
    case = data.draw(row.cases)
    here, there = (
        several(row.op(*on(device, case.arrays), **{k: on(device, v) for k, v in case.options.items()}))
        for device in ("cpu", gpu)
    )
    assert_same(there, here, gpu, 1e-9)


@each_plain_op
@settings(max_examples=6)
@given(data=st.data())
def test_indices_are_those_of_the_cpu(gpu, row, data):
    case = data.draw(row.cases)
    assert_same(
        [row.op(Variable(on(gpu, case.arrays[0])), **case.options)], [row.op(*case.arrays, **case.options)], gpu, 0
    )


@each_kernel
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 1e-5), (np.float16, 2e-2)])
@settings(max_examples=6)
@given(data=st.data())
def test_kernels_are_those_of_the_cpu(gpu, cases, dtype, tolerance, data):
    case = data.draw(cases)
    here, there = (
        derivatives(lambda *xs, device=device: kernel_on(device, case.kernel, dtype)(*xs), case.arrays, dtype, device)
        for device in ("cpu", gpu)
    )
    assert_same(there, here, gpu, tolerance)


def test_ids_masks_and_targets_may_stay_on_the_cpu(gpu):
    rng = np.random.default_rng(0)
    ids, mask = np.array([[1, 4, 4], [0, 2, 1]]), np.array([[True, True, False], [True, False, False]])

    def results(device):
        tn.manual_seed(0)
        table, layer = nn.Embedding(5, 3), nn.LSTM(3, 4, bidirectional=True)
        for module in (table, layer):
            module.to(device)
        x = table(ids)
        outputs = [
            F.cross_entropy(x, ids % 3),
            F.linear_cross_entropy(x, table.weight, ids),
            F.attention(x, x, x, mask[:, None])[0],
            layer(x, mask=mask)[0],
            layer(x, lengths=[3, 1])[0],
            x[:, ids[0] % 3],
            ops.take(x, ids % 3, axis=2),
            ops.take_along_axis(x, np.zeros((2, 1, 3), int), 1),
            ops.index_add(x, np.array([1, 1]), x),
            ops.tile(table.weight, (1, 1000))[ids],  # wide rows are added up in another way
        ]
        seeds = [on(device, rng.standard_normal(y.shape).astype(y.dtype)) for y in outputs]
        leaves = [*table.parameters(), *layer.parameters()]
        return [*outputs, *tn.grad(outputs, leaves, seeds)]

    here = results("cpu")
    rng = np.random.default_rng(0)
    assert_same(results(gpu), here, gpu, 1e-5)


@pytest.mark.parametrize("width", [(), (3,), (500,), (20, 25), (0,)])
@pytest.mark.parametrize("ids", [[], [2], [0, -1, 4, 0, 3, -5, -1]])
def test_rows_are_added_up(gpu, ids, width):
    rows, values = np.array(ids, int), np.random.default_rng(0).standard_normal((len(ids), *width))
    results = []
    for device in ("cpu", gpu):
        out = on(device, np.ones((5, *width)))
        backend.add_rows(out, on(device, rows), on(device, values))
        distinct, sums = backend.sum_duplicates(on(device, rows % 5), on(device, values))
        results.append([out, distinct, sums])
    assert_same(results[1], results[0], gpu, 1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int32, np.int64, np.uint8])
def test_numbers_of_any_kind_are_added_up(gpu, dtype):
    rng = np.random.default_rng(0)
    values, rows = rng.integers(0, 20, (40, 3)).astype(dtype), rng.integers(-5, 5, 40)
    y = ops.index_add(on(gpu, np.zeros((5, 3), dtype)), on(gpu, rows), on(gpu, values))
    assert_same([y], [ops.index_add(np.zeros((5, 3), dtype), rows, values)], gpu, 1e-2 if dtype is np.float16 else 0)


INDICES = {
    "rows": (np.array([[0, 3], [0, -1]]),),
    "second axis": (slice(None), np.array([1, 1, 2])),
    "third axis": (..., np.array([0, 0])),
    "pairs": (np.array([0, 3, 0]), np.array([2, 1, 2])),
    "pairs apart": (np.array([[0], [3]]), slice(None), np.array([1, 1])),
    "list": ([1, 1, 0],),
    "list and number": (2, [1, 1, 0]),
    "mask and ids": (np.array([True, False, True, True]), np.array([2, 2, 0])),
    "nothing": (slice(None), np.zeros(0, int)),
}


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
def test_what_an_index_names_twice_is_added_up(gpu, index):
    values = np.random.default_rng(0).standard_normal(np.ones((4, 3, 2))[index].shape)
    here = ops.put(values, index, (4, 3, 2))
    for of_device in (index, tuple(on(gpu, part) for part in index)):
        assert_same([ops.put(on(gpu, values), of_device, (4, 3, 2))], [here], gpu, 1e-12)
    assert_same(
        [ops.put(on(gpu, values[..., :1]), index, (4, 3, 2))], [ops.put(values[..., :1], index, (4, 3, 2))], gpu, 1e-12
    )


# --- devices ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def second_gpu(gpu):
    if tn.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    return "cuda:1"


def test_an_array_goes_to_the_gpu_and_back(gpu):
    x = np.arange(3.0)
    there = backend.to_device(x, "cuda")
    assert backend.is_array(there)
    assert backend.device_of(there) == gpu
    assert backend.get_array_module(there).__name__ == "cupy"
    assert backend.to_device(there, gpu) is there
    np.testing.assert_array_equal(backend.to_device(there, "cpu"), x)


def test_an_array_goes_from_one_gpu_to_another(gpu, second_gpu):
    there = backend.to_device(backend.to_device(np.arange(3.0), gpu), second_gpu)
    assert backend.device_of(there) == second_gpu
    np.testing.assert_array_equal(backend.asnumpy(there), np.arange(3.0))
    view = on(gpu, np.arange(12.0).reshape(3, 4))[::2, 1:3]
    np.testing.assert_array_equal(backend.asnumpy(backend.to_device(view, second_gpu)), [[1, 2], [9, 10]])


def test_the_gpu_without_a_number_is_the_current_one(gpu, second_gpu):
    x = Variable(np.arange(3.0))
    with tn.cuda.device(second_gpu):
        there = x.to("cuda")
        assert there.device == second_gpu
        assert there.to("cuda") is there
        with tn.cuda.device(gpu):
            assert there.to("cuda").device == gpu
    assert there.to("cuda").device == gpu
    with tn.cuda.device("cuda"):
        assert x.to("cuda").device == gpu


def test_work_with_what_lies_on_another_gpu_is_refused(gpu, second_gpu):
    """By CuPy: with an error where GPUs do not reach each other's memory, else with a warning."""
    x = Variable(np.arange(3.0)).to(second_gpu)
    mend = r'.*; work with what lies there inside `with tinygrad_nlp.cuda.device\("cuda:1"\):`'
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises((ValueError, Warning), match="is different from the current device") as found:
            tn.tanh(x)
    if found.type is ValueError:
        found.match(mend)
    with tn.cuda.device(second_gpu):
        np.testing.assert_allclose(tn.tanh(x).numpy(), np.tanh([0, 1, 2]))


@pytest.mark.parametrize("name", ["cpu", "cuda:", "gpu"])
def test_only_a_gpu_can_be_the_current_one(gpu, name):
    with pytest.raises(ValueError, match='device must be "cpu", "cuda" or'):
        tn.cuda.device(name)
    with pytest.raises(RuntimeError, match="cuda:99: the GPUs here are"):
        tn.cuda.device("cuda:99")


def test_gpus_are_counted(gpu):
    assert tn.cuda.is_available()
    assert tn.cuda.device_count() >= 1


def test_a_gpu_of_a_number_that_is_not_there_is_refused(gpu):
    with pytest.raises(RuntimeError, match=r"^cuda:99: the GPUs here are cuda:0 to cuda:\d+$"):
        backend.to_device(np.ones(2), "cuda:99")


def test_the_gradient_of_a_move_comes_back_to_where_x_lies(gpu):
    x = Variable(np.arange(1.0, 4.0), requires_grad=True)
    there = x.to(gpu)
    assert there.device == gpu
    assert there.to("cuda") is there
    (tn.tanh(there) * there).sum().backward()
    assert type(x.grad) is np.ndarray
    np.testing.assert_allclose(x.grad, np.tanh(x.data) + x.data * (1 - np.tanh(x.data) ** 2))


def test_a_variable_there_is_a_variable(gpu):
    x = Variable(on(gpu, np.array([1.0, 2.0], np.float32)), requires_grad=True)
    assert repr(x) == "Variable([1., 2.], requires_grad=True)"
    np.testing.assert_array_equal(x.numpy(), [1, 2])
    assert (x.sum().item(), float(x.sum()), len(x)) == (3.0, 3.0, 2)
    assert device_of(x > 1) == gpu
    assert [float(part) for part in x] == [1, 2]
    for y in (x + 1, 1 + x, x.data + x, x * x.data, np.float32(2) * x, -x, x @ x.data):
        assert isinstance(y, Variable)
        assert y.device == gpu
        assert y.dtype == np.float32
    assert Variable(on(gpu, np.zeros((2, 3)))).T.shape == (3, 2)


MIXED = {
    "add": lambda a, b: a + b,
    "matmul": lambda a, b: a @ b,
    "where": lambda a, b: ops.where(a.data > 0, b, 0.0),
    "maximum": ops.maximum,
    "linear": lambda a, b: F.linear(a, b, None),
    "concatenate": lambda a, b: ops.concatenate([a, b]),
    "layer_norm": lambda a, b: F.layer_norm(a, (2,), weight=b[0]),
    "attention": lambda a, b: F.attention(a, b, b),
    "rnn": lambda a, b: F.rnn(a[None], b[:1], b, b),
}


@pytest.mark.parametrize("mix", MIXED.values(), ids=MIXED)
def test_arguments_on_different_devices_are_named(gpu, mix):
    array = np.ones((2, 2), np.float32)
    for a, b in ((array, on(gpu, array)), (on(gpu, array), array)):
        with pytest.raises(TypeError, match=r'lie on different devices, cpu and cuda:0; move one .*x.to\("cuda"\)'):
            mix(Variable(a, requires_grad=True), Variable(b, requires_grad=True))


def test_a_change_in_place_is_noticed_there_too(gpu):
    x = Variable(on(gpu, np.ones(3)), requires_grad=True)
    for view in (x.data, x.data[1:], x.data.reshape(3, 1)):
        y = (x * x).sum()
        other = Variable(view)
        other.data += 1
        with pytest.raises(RuntimeError, match="changed in place"):
            y.backward()


def test_gradients_have_memory_of_their_own(gpu):
    x, y = (Variable(on(gpu, np.ones(3)), requires_grad=True) for _ in range(2))
    (x + y).sum().backward()
    x.grad += 1
    np.testing.assert_array_equal(host(y.grad), [1, 1, 1])


def test_the_search_for_nan_works_there(gpu):
    x = Variable(on(gpu, np.array([1.0, 800.0])), requires_grad=True)
    with tn.detect_anomaly():
        (x * x).sum().backward()
        with pytest.raises(FloatingPointError, match=r"exp .*forward gave Inf at \(1,\)"):
            tn.exp(x)


def test_recomputing_and_transforms_work_there(gpu):
    array = np.linspace(-1, 1, 4)

    def results(device):
        tn.manual_seed(1)
        x = Variable(on(device, array), requires_grad=True)
        tn.checkpoint(lambda x: F.dropout(tn.tanh(x) * x, 0.5), x).sum().backward()
        cube = lambda x: (x**3).sum()  # noqa: E731
        y, pull = tn.vjp(tn.tanh, x.data)
        return [
            x.grad,
            tn.jacobian(tn.tanh, x.data),
            tn.hessian(cube, x.data),
            *tn.value_and_grad(cube)(x.data),
            y,
            pull(y),
            *tn.jvp(tn.tanh, x.data, x.data),
            *tn.hvp(cube, x.data, x.data),
        ]

    assert_same(results(gpu), results("cpu"), gpu, 1e-12)


def test_copies_and_drawings_of_a_model_work_there(gpu):
    model = AttentionSeq2seq(20, 8, 16).to(gpu)
    twin = copy.deepcopy(model)
    twin.decoder.out.bias.data += 1
    assert_same([twin.decoder.out.bias], [host(model.decoder.out.bias) + 1], gpu, 0)
    loss = model(IDS[:18].reshape(2, 9), IDS[18:28].reshape(2, 5))
    assert "decoder" in str(tn.draw(loss).dot)


# --- layers, optimizers, training -------------------------------------------------------------------------------------


def test_dropout_drops_the_same_elements(gpu):
    layers = [nn.Dropout(0.5), nn.LSTM(3, 4, num_layers=2, dropout=0.5, input_dropout=0.2, recurrent_dropout=0.5)]
    x = np.random.default_rng(0).standard_normal((5, 4, 3)).astype(np.float32)
    for layer in layers:
        results = []
        for device in ("cpu", gpu):
            tn.manual_seed(3)
            layer.to(device)
            y = layer(Variable(on(device, x)))
            results.append([y[0] if isinstance(y, tuple) else y])
        assert_same(results[1], results[0], gpu, 1e-5)


RECURRENT = {
    "rnn": (nn.RNN, nn.RNNCell, {}),
    "rnn relu": (nn.RNN, nn.RNNCell, {"nonlinearity": "relu"}),
    "lstm": (nn.LSTM, nn.LSTMCell, {}),
    "lstm without forget gate": (nn.LSTM, nn.LSTMCell, {"forget_gate": False}),
    "lstm with peepholes": (nn.LSTM, nn.LSTMCell, {"peepholes": True}),
    "lstm with peepholes alone": (nn.LSTM, nn.LSTMCell, {"forget_gate": False, "peepholes": True}),
    "gru": (nn.GRU, nn.GRUCell, {}),
    "gru reset before": (nn.GRU, nn.GRUCell, {"reset_after": False}),
    "gru without biases": (nn.GRU, nn.GRUCell, {"bias": False}),
}


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-9), (np.float32, 1e-5), (np.float16, 2e-2)])
@pytest.mark.parametrize(("layer", "cell", "settings"), RECURRENT.values(), ids=RECURRENT)
def test_recurrent_layers_and_cells_of_every_kind(gpu, layer, cell, settings, dtype, tolerance):
    x = np.random.default_rng(0).standard_normal((5, 4, 3)).astype(dtype)

    def results(device):
        tn.manual_seed(0)
        model, last = layer(3, 4, num_layers=2, bidirectional=True, **settings), cell(3, 4, **settings)
        for parameter in (*model.parameters(), *last.parameters()):
            parameter.data = parameter.data.astype(dtype)
        v = Variable(on(device, x), requires_grad=True)
        y, state = model.to(device)(v, lengths=[4, 4, 3, 1, 0])
        outputs = [y, *several(state), *several(last.to(device)(v[:, 0]))]
        return [*outputs, *tn.grad([(y * y).sum() for y in outputs], [v, *model.parameters(), *last.parameters()])]

    assert_same(results(gpu), results("cpu"), gpu, tolerance)


@pytest.mark.parametrize("loss", ["linear", "adaptive", "tied"])
def test_losses_for_large_vocabularies(gpu, loss):
    x, targets = np.random.default_rng(0).standard_normal((6, 8)).astype(np.float32), np.array([0, 3, 9, 5, 5, -100])

    def results(device):
        tn.manual_seed(0)
        module = nn.AdaptiveSoftmaxLoss(8, 10, [3, 6], 2.0) if loss == "adaptive" else nn.LinearCrossEntropyLoss(8, 10)
        module.to(device)
        v = Variable(on(device, x), requires_grad=True)
        y = F.cross_entropy(module.linear(v), targets) if loss == "tied" else module(v, targets)
        y.backward()
        log_p = [module.log_prob(v)] if loss == "adaptive" else []
        return [y, v.grad, *log_p, *(p.grad for p in module.parameters())]

    assert_same(results(gpu), results("cpu"), gpu, 1e-5)


@pytest.mark.parametrize("rule", [optim.SGD, optim.Momentum, optim.Adam, optim.AdamW], ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("max_norm", [0.1, 100.0])
def test_optimizers_and_clipping(gpu, rule, max_norm):
    """A table with row-sparse gradients, a tied one, and a dense one."""

    def results(device):
        tn.manual_seed(0)
        table, layer = nn.Embedding(7, 3).to(device), nn.Linear(3, 3).to(device)
        optimizer = rule([*table.parameters(), *layer.parameters()], lr=0.1)
        norms = []
        for ids in ([1, 1, 5], [0, 5, 6], [2, 2, 2]):
            optimizer.zero_grad()
            y = table.as_linear(layer(table(ids))) if max_norm == 100 else layer(table(ids))
            (y * y).sum().backward()
            norms.append(optim.clip_grad_norm_(optimizer.parameters, max_norm))
            optimizer.step()
        state = optimizer.state_dict()["arrays"]
        return norms, [p.data for p in optimizer.parameters], [state[name] for name in sorted(state)]

    (norms, data, state), (norms_there, data_there, state_there) = results("cpu"), results(gpu)
    assert norms_there == pytest.approx(norms, rel=1e-5)
    assert_same(data_there + state_there, data + state, gpu, 1e-5)


IDS = np.random.default_rng(0).integers(20, size=400)


def make_spiral():
    model = TwoLayerNet(2, 10, 3)
    loss = lambda x, t: F.cross_entropy(model(x), t)  # noqa: E731
    return model, optim.SGD(model.parameters(), lr=1.0), loss, DataLoader(spiral(), 100)


def make_forecast():
    series = np.sin(0.1 * np.arange(200)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(series, 4)[:-1]
    model = nn.Linear(4, 1)
    loss = lambda x, y: ((model(x) - y) ** 2).mean()  # noqa: E731
    return model, optim.SGD(model.parameters(), lr=0.1), loss, DataLoader((windows, series[4:, None]), 50)


def make_rnn_from_scratch():
    model = rnn_scratch.RNNLM(20, 8, sigma=0.3)
    loss = lambda x, y: F.cross_entropy(model(x)[0], y)  # noqa: E731
    batches = DataLoader((IDS[:-1].reshape(21, 19), IDS[1:].reshape(21, 19)), 7)
    return model, optim.SGD(model.parameters(), lr=1.0), loss, batches


def make_dates():
    model = AttentionSeq2seq(20, 8, 16)
    x, t = IDS[:180].reshape(20, 9), IDS[180:280].reshape(20, 5)
    return model, optim.Adam(model.parameters(), lr=0.01), None, DataLoader((x, t), 8)


def make_language_model(cell, **settings):
    def make():
        model = WindowLM(4, 20, 8, 12, **settings) if cell == "mlp" else RecurrentLM(cell, 20, 12, 12, **settings)
        return model, optim.SGD(model.parameters(), lr=2.0), BPTT(model), SequentialWindows(IDS, 4, 10)

    return make


MODELS = {
    "spiral": make_spiral,
    "forecast": make_forecast,
    "rnn from scratch": make_rnn_from_scratch,
    "dates": make_dates,
    "mlp": make_language_model("mlp", dropout=0.2),
    "rnn": make_language_model("rnn"),
    "lstm": make_language_model("lstm", layers=2, dropout=0.3, tie=True),
    "gru": make_language_model("gru"),
}
each_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


class StopAfter(Callback):
    def __init__(self, steps):
        self.steps = steps

    def on_step(self, trainer):
        if trainer.steps == self.steps:
            raise StopIteration


def trained(make, device, epochs=1, steps=None):
    tn.manual_seed(0)
    model, optimizer, loss, loader = make()
    model.to(device)
    trainer = Trainer(model, optimizer, loss, max_norm=1.0, callbacks=[StopAfter(steps)])
    with contextlib.suppress(StopIteration):
        trainer.fit(loader, epochs)
    return trainer


@each_model
def test_the_models_of_the_examples_train_as_on_the_cpu(gpu, make):
    here, there = trained(make, "cpu"), trained(make, gpu)
    np.testing.assert_allclose(there.history["loss"], here.history["loss"], rtol=1e-5)
    assert_same([p.data for p in there.model.parameters()], [p.data for p in here.model.parameters()], gpu, 1e-4)


@each_model
def test_one_step_of_the_models_of_the_examples_is_that_of_the_cpu(gpu, make):
    here, there = trained(make, "cpu", steps=1), trained(make, gpu, steps=1)
    assert there.loss == pytest.approx(here.loss, rel=1e-5)
    assert there.grad_norm == pytest.approx(here.grad_norm, rel=1e-5)
    assert_same([p.data for p in there.model.parameters()], [p.data for p in here.model.parameters()], gpu, 1e-5)


@each_model
def test_a_run_goes_on_from_its_checkpoint_to_the_last_bit(gpu, make, tmp_path):
    path = tmp_path / "run.safetensors"
    whole = trained(make, gpu, epochs=2)
    trained(make, gpu, epochs=2, steps=len(make()[3]) + 2).checkpoint().save(path)  # within the second epoch
    tn.manual_seed(5)
    model, optimizer, loss, loader = make()
    model.to(gpu)
    resumed = Trainer(model, optimizer, loss, max_norm=1.0)
    resumed.fit(loader, 2, resume=Checkpoint.load(path))
    assert resumed.history["loss"] == whole.history["loss"]
    assert_same([p.data for p in model.parameters()], [p.data for p in whole.model.parameters()], gpu, 0)


@each_model
def test_the_second_gpu_trains_as_the_first_while_it_is_the_current_one(gpu, second_gpu, make):
    first = trained(make, gpu)
    with tn.cuda.device(second_gpu):
        second = trained(make, second_gpu)
    np.testing.assert_allclose(second.history["loss"], first.history["loss"], rtol=1e-5)
    there, here = ([p.data for p in trainer.model.parameters()] for trainer in (second, first))
    assert_same(there, [host(array) for array in here], second_gpu, 1e-4)


@pytest.mark.parametrize("rule", [optim.SGD, optim.Momentum, optim.Adam, optim.AdamW], ids=lambda rule: rule.__name__)
def test_a_model_may_be_moved_between_two_steps(gpu, rule):
    """What the optimizer keeps of its parameters follows them."""

    def results(devices):
        tn.manual_seed(0)
        model = nn.Sequential(nn.Embedding(7, 3), nn.Linear(3, 3))
        optimizer = rule(model.parameters(), lr=0.1)
        for device, ids in zip(devices, ([1, 1, 5], [0, 5, 6], [2, 2, 2]), strict=True):
            model.to(device)
            model.zero_grad()
            (model(np.array(ids)) ** 2).sum().backward()
            optimizer.step()
        state = optimizer.state_dict()["arrays"]
        return [p.data for p in optimizer.parameters] + [state[name] for name in sorted(state)]

    here = results(["cpu", "cpu", "cpu"])
    assert_same(results(["cpu", gpu, gpu]), here, gpu, 1e-5)
    assert_same(results(["cpu", gpu, "cpu"]), here, "cpu", 1e-5)


def test_weights_go_from_device_to_device_through_a_file(gpu, tmp_path):
    tn.manual_seed(0)
    model, other = RecurrentLM("lstm", 20, 4, 4, tie=True).to(gpu), RecurrentLM("lstm", 20, 4, 4, tie=True)
    save_weights(model, tmp_path / "weights.safetensors")
    load_weights(other, tmp_path / "weights.safetensors")
    assert_same([p.data for p in model.parameters()], [p.data for p in other.parameters()], gpu, 0)
    model.load_state_dict({name: array * 2 for name, array in other.state_dict().items()})
    np.testing.assert_array_equal(host(model.embed.weight), 2 * other.embed.weight.data)
    other.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(host(model.embed.weight), other.embed.weight.data)


@pytest.mark.parametrize("cell", ["mlp", "lstm"])
def test_decoding_writes_the_same_ids(gpu, cell):
    def results(device):
        tn.manual_seed(0)
        model = make_language_model(cell)()[0].to(device).eval()
        start = np.array([[1, 2], [3, 4]])
        beams = beam_search(model.step, None, start, 6, width=3, select=model.select)
        tn.manual_seed(1)
        return [
            greedy(model.step, None, start, 6),
            sample(model.step, None, start, 6, top_k=5, seed=2),
            sample(model.step, None, start, 6),
            *(hypothesis.ids for row in beams for hypothesis in row),
            np.array(perplexity(model, IDS)),
        ]

    for there, here in zip(results(gpu), results("cpu"), strict=True):
        assert type(there) is np.ndarray
        np.testing.assert_allclose(there, here, rtol=1e-5)


def test_a_date_is_translated_there(gpu):
    def results(device):
        tn.manual_seed(0)
        return AttentionSeq2seq(20, 8, 16).to(device).translate(IDS[:18].reshape(2, 9), 3, 4)

    for there, here in zip(results(gpu), results("cpu"), strict=True):
        assert type(there) is np.ndarray
        np.testing.assert_allclose(there, here, rtol=1e-4, atol=1e-6)
