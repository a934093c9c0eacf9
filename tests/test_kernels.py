"""Kernels of CUDA: compiled for every kind of GPU, and beside NumPy on the stand-in, and on a GPU where there is one.

That whole layers come out the same with them is in `test_devices.py`.
"""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

import tinygrad_nlp
from tests import nvrtc
from tinygrad_nlp import Variable, backend, optim
from tinygrad_nlp.nn import functional as F

FOLDER = Path(tinygrad_nlp.__file__).parent / "kernels"
FILES = sorted(path.stem for path in FOLDER.glob("*.cu"))
ARCHITECTURES = ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"]
TOLERANCES = {"float32": 1e-6, "float64": 1e-12}
both = pytest.mark.parametrize("dtype", TOLERANCES)


# --- compiled for GPUs ------------------------------------------------------------------------------------------------


@pytest.mark.skipif(nvrtc.LIBRARY is None, reason="needs NVIDIA's compiler: `make kernels` installs it")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("file", "dtype"), [*itertools.product(FILES, TOLERANCES), ("segments", "int64")])
def test_kernels_compile(file, dtype, architecture):
    cubin = nvrtc.compile(backend.kernel_source(file, dtype), architecture)
    functions = re.findall(r"__global__ void (\w+)", (FOLDER / f"{file}.cu").read_text(encoding="utf-8"))
    assert functions
    assert all(f".text.{name}\0".encode() in cubin for name in functions)


@pytest.mark.parametrize("file", FILES)
def test_kernels_are_plain_text_for_the_compiler(file):
    """CuPy writes them to a file in the encoding of the system."""
    source = backend.kernel_source(file, "float32")
    assert source.isascii()
    assert (
        source.count("\n") == (FOLDER / f"{file}.cu").read_text(encoding="utf-8").count("\n") + 2
    )  # lines as in the file
    with pytest.raises(TypeError, match=f"{file}.cu: kernels are for float32, float64, int64, not for float16"):
        backend.kernel_source(file, "float16")


@pytest.mark.skipif(nvrtc.LIBRARY is None, reason="needs NVIDIA's compiler: `make kernels` installs it")
def test_a_fault_in_a_kernel_is_told():
    with pytest.raises(RuntimeError, match="undefined"):
        nvrtc.compile("__global__ void f(float* x) { *x = y; }", "sm_90")


# --- beside NumPy -----------------------------------------------------------------------------------------------------


@pytest.fixture
def launched(gpu, monkeypatch):
    """The names of the kernels that a test has run."""
    names = []
    kernel = backend._kernel.__wrapped__
    monkeypatch.setattr(backend, "_kernel", lambda name, dtype: names.append(name) or kernel(name, dtype))
    return names


def results(function, arrays, device):
    """Value and gradients on a device, as arrays of NumPy."""
    xs = [Variable(backend.to_device(a, device), requires_grad=True) for a in arrays]
    ys = function(*xs)
    ys = ys if isinstance(ys, tuple) else (ys,)
    total = sum((y * y).sum() for y in ys if y.size)
    if isinstance(total, Variable):
        total.backward()
    return [backend.asnumpy(a) for a in [*(y.data for y in ys), *(x.grad for x in xs)] if a is not None]


def assert_twins(function, arrays, gpu, dtype):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in arrays]
    for there, here in zip(results(function, arrays, gpu), results(function, arrays, "cpu"), strict=True):
        assert there.dtype == here.dtype == dtype
        scale = max(1.0, float(np.abs(here).max(initial=0)))
        np.testing.assert_allclose(there, here, rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype] * scale)


@both
@pytest.mark.parametrize("threads", [1, 128, 129, 2**31, 2**37 + 1])
def test_a_launch_has_a_thread_for_each_element_and_the_types_of_the_kernel(gpu, monkeypatch, threads, dtype):
    calls = []
    monkeypatch.setattr(backend, "_kernel", lambda *which: lambda *call: calls.append((which, call)))
    like = backend.to_device(np.zeros(3, dtype), gpu)
    backend.launch("file.name", 0, like)  # CUDA refuses a grid without blocks
    backend.launch("file.name", threads, like, 7, np.int32(7), 0.5, np.float64(0.5), like)
    ((which, ((blocks,), (block,), (count, *given))),) = calls
    assert which == ("file.name", dtype)
    assert blocks * block - block < threads <= blocks * block
    assert blocks < 2**31
    assert count == threads
    assert [type(x) for x in (count, *given)] == [np.int64] * 3 + [np.dtype(dtype).type] * 2 + [type(like)]


SIZES = [(1, 1, 1, 1), (3, 5, 2, 7), (17, 3, 5, 13), (130, 2, 3, 3), (0, 2, 3, 3)]  # batch, steps, features, hidden


@both
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_recurrences_are_those_of_numpy(gpu, launched, cell, sizes, dtype):
    n, steps, features, hidden = sizes
    gates, states = (4, 2) if cell == "lstm" else (3, 1)
    shapes = [(n, steps, features), *[(n, hidden)] * states]
    shapes += [(gates * hidden, features), (gates * hidden, hidden), (gates * hidden,), (gates * hidden,)]
    function = CELLS[cell]
    assert_twins(function, shapes, gpu, dtype)
    assert set(launched) == ({f"{cell}.forward", f"{cell}.backward"} if n else set())


@both
@pytest.mark.parametrize(("cell", "states"), [("lstm", 2), ("gru", 1)])
def test_gradients_of_the_last_state_may_lie_in_memory_in_any_way(gpu, launched, cell, states, dtype):
    n, steps, features, hidden = 3, 4, 2, 5
    gates = 4 if cell == "lstm" else 3
    shapes = [(n, steps, features), *[(n, hidden)] * states, (gates * hidden, features), (gates * hidden, hidden)]
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    transposed = rng.standard_normal((hidden, n)).astype(dtype)

    def gradients(device):
        inputs = [Variable(backend.to_device(a, device), requires_grad=True) for a in arrays]
        *_, last = CELLS[cell](*inputs)
        return [backend.asnumpy(g) for g in tinygrad_nlp.grad(last, inputs, backend.to_device(transposed, device).T)]

    for there, here in zip(gradients(gpu), gradients("cpu"), strict=True):
        np.testing.assert_allclose(there, here, rtol=10 * TOLERANCES[dtype], atol=10 * TOLERANCES[dtype])
    assert f"{cell}.backward" in launched


CELLS = {
    "lstm": lambda x, h, c, *weights: tinygrad_nlp.nn.fused.LSTM()(x, h, c, *weights),
    "gru": lambda x, h, *weights: tinygrad_nlp.nn.fused.GRU()(x, h, *weights),
}


@both
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (7, 129), (0, 3)])
def test_cross_entropy_is_that_of_numpy(gpu, launched, shape, dtype):
    targets = np.arange(shape[0]) % shape[1]
    targets[1::3] = -100
    assert_twins(lambda x: F.cross_entropy(100 * x, targets), [shape], gpu, dtype)
    names = {"cross_entropy.exponentials", "cross_entropy.gradient"}
    assert set(launched) == (names if shape[0] else set())


LABELS = {  # the targets of six rows of five classes, and the label that does not count
    "none ignored": ([0, 4, 2, 2, 1, 0], -100),
    "all ignored": ([-100] * 6, -100),
    "a class ignored": ([0, 3, 3, 1, 4, 3], 3),
    "a number beyond the classes ignored": ([0, 99, 4, 99, 1, 2], 99),
}


@both
@pytest.mark.parametrize("kind", [np.int8, np.int64, np.uint8])
@pytest.mark.parametrize(("targets", "ignored"), LABELS.values(), ids=LABELS)
def test_cross_entropy_counts_what_is_not_ignored(gpu, launched, targets, ignored, kind, dtype):
    if ignored < 0 and kind is np.uint8:
        targets = [0] * 6  # a byte is never -100
    targets = np.array(targets, kind)
    for given in (targets, backend.to_device(targets, gpu), np.repeat(targets, 2)[::2]):
        assert_twins(lambda x, given=given: F.cross_entropy(x, here(given, x), ignored), [(6, 5)], gpu, dtype)
    assert len(launched) == 6


def here(array, like):
    """On the CPU for what lies there; on a GPU, wherever it is."""
    return backend.asnumpy(array) if like.device == "cpu" else array


@both
@pytest.mark.parametrize("wrong", [-1, 5, -99, 2**40])
def test_a_target_that_is_no_class_never_comes_to_a_kernel(gpu, launched, wrong, dtype):
    x, targets = backend.to_device(np.zeros((3, 5), dtype), gpu), np.array([0, wrong, 1])
    for given in (targets, backend.to_device(targets, gpu)):
        with pytest.raises(IndexError, match=f"cross_entropy: target {wrong} is outside the 5 classes of the logits"):
            F.cross_entropy(x, given)
    assert not launched


@both
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (2, 3, 129), (0, 3)])
def test_layer_norm_is_that_of_numpy(gpu, launched, shape, dtype):
    width = shape[-1:]
    function = lambda x, weight, bias: F.layer_norm(x, width, weight, bias)  # noqa: E731
    assert_twins(function, [shape, width, width], gpu, dtype)
    assert set(launched) == ({"layer_norm.forward", "layer_norm.backward"} if shape[0] else set())


@both
@pytest.mark.parametrize("shape", [(), (1,), (3, 43), (0, 3)])
def test_adam_is_that_of_numpy(gpu, launched, shape, dtype):
    after = []
    for device in (gpu, "cpu"):
        rng = np.random.default_rng(0)
        p = Variable(backend.to_device(rng.standard_normal(shape).astype(dtype), device), requires_grad=True)
        optimizer = optim.AdamW([p], lr=0.1)
        for _ in range(5):
            p.grad = backend.to_device(np.asarray(rng.standard_normal(shape), dtype), device)
            optimizer.step()
        after.append([backend.asnumpy(a) for a in (p.data, *optimizer.state[0].values())])
    for there, here in zip(*after, strict=True):
        assert there.dtype == here.dtype == dtype
        np.testing.assert_allclose(there, here, rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype])
    assert set(launched) == ({"adam.step"} if np.prod(shape) else set())


@both
@pytest.mark.parametrize(("ids", "shape"), [([2, 2], (2, 1)), ([5, 0, 5, 5, 9, 0], (6, 7)), ([3] * 131, (131, 2, 3))])
def test_sums_of_equal_rows_are_those_of_numpy(gpu, launched, ids, shape, dtype):
    values = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    rows, sums = backend.sum_duplicates(backend.to_device(np.array(ids), gpu), backend.to_device(values, gpu))
    expected_rows, expected = backend.sum_duplicates(np.array(ids), values)
    np.testing.assert_array_equal(backend.asnumpy(rows), expected_rows)
    scale = float(np.abs(expected).max())
    np.testing.assert_allclose(backend.asnumpy(sums), expected, rtol=0, atol=TOLERANCES[dtype] * max(1, scale))
    assert launched == ["segments.sum"]


def test_what_a_kernel_cannot_take_goes_to_numpys_functions(gpu, launched):
    x = backend.to_device(np.ones((4, 3), np.float32), gpu)
    assert backend.has_kernels(x)
    assert not backend.has_kernels(x.T)
    assert not backend.has_kernels(x.astype(np.float16))
    assert not backend.has_kernels(x, x.astype(np.float64))
    assert not backend.has_kernels(np.ones(3))
    F.cross_entropy(x.astype(np.float16), np.zeros(4, int))
    assert not launched
