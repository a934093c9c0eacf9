"""The lowest floor: devices, random streams and scatter."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_nlp as tn
from tinygrad_nlp import backend

# --- arrays and devices -----------------------------------------------------------------------------------------------


def test_only_arrays_are_arrays():
    assert backend.is_array(np.ones(2))
    for thing in (1.0, np.float64(1), [1.0], None, tn.Variable(1.0)):
        assert not backend.is_array(thing)


def test_an_array_of_numpy_lies_on_the_cpu():
    assert backend.device_of(np.ones(2)) == "cpu"
    assert backend.get_array_module(np.ones(2)) is np


def test_moving_to_where_an_array_lies_is_no_copy():
    x = np.ones(2)
    assert backend.to_device(x, "cpu") is x
    assert backend.asnumpy(x) is x


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:one", "cpu:0", "CUDA", "cuda:-1", ""])
def test_a_device_of_another_name_is_refused(device):
    with pytest.raises(ValueError, match='device must be "cpu", "cuda" or "cuda:<number>"'):
        backend.to_device(np.ones(2), device)


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there_is_explained(device, monkeypatch):
    monkeypatch.setattr(backend, "cuda_is_available", lambda: False)
    with pytest.raises(RuntimeError, match=rf"^{device}: no GPU can be used here; .*doctor.*tinygrad_nlp\[cuda12\]"):
        tn.Variable(np.ones(2)).to(device)


@pytest.mark.gpu
def test_an_array_goes_to_the_gpu_and_back():
    x = np.arange(3.0)
    there = backend.to_device(x, "cuda")
    assert backend.device_of(there) == "cuda:0"
    assert backend.get_array_module(there).__name__ == "cupy"
    np.testing.assert_array_equal(backend.asnumpy(there), x)


@pytest.mark.gpu
def test_a_graph_on_the_gpu_gives_gradients_there():
    x = tn.Variable(np.arange(1.0, 4.0), requires_grad=True).to("cuda")
    (tn.tanh(x) * x).sum().backward()
    assert backend.device_of(x.grad) == "cuda:0"
    values = np.arange(1.0, 4.0)
    expected = np.tanh(values) + values * (1 - np.tanh(values) ** 2)
    np.testing.assert_allclose(backend.asnumpy(x.grad), expected)


# --- random streams ---------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_numbers():
    tn.manual_seed(7)
    first = backend.generator().standard_normal(5)
    again = backend.generator().standard_normal(5)
    tn.manual_seed(7)
    np.testing.assert_array_equal(backend.generator().standard_normal(5), first)
    tn.manual_seed(8)
    assert not np.array_equal(backend.generator().standard_normal(5), first)
    assert not np.array_equal(again, first)


def test_a_generator_that_was_taken_before_follows_the_seed():
    generator = backend.generator()
    tn.manual_seed(7)
    first = generator.random()
    tn.manual_seed(7)
    assert generator.random() == first


# --- scatter ----------------------------------------------------------------------------------------------------------


@given(
    st.integers(0, 12).flatmap(lambda n: hnp.arrays(np.int64, n, elements=st.integers(0, 5))),
    st.sampled_from([(), (1,), (3,), (2, 2), (0,)]),
    st.sampled_from([np.float32, np.float64]),
)
def test_sum_duplicates_is_add_at_without_the_zeros(rows, width, dtype):
    values = np.random.default_rng(0).standard_normal((len(rows), *width)).astype(dtype)
    before = rows.copy(), values.copy()
    distinct, sums = backend.sum_duplicates(rows, values)
    expected = np.zeros((6, *width), dtype)
    np.add.at(expected, rows, values)
    result = np.zeros_like(expected)
    result[distinct] = sums
    np.testing.assert_array_equal(distinct, np.unique(rows))
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)
    assert sums.dtype == dtype
    np.testing.assert_equal((rows, values), before)


@pytest.mark.parametrize("width", [(), (1,), (3,), (500,), (20, 25), (0,)])
@pytest.mark.parametrize("ids", [[], [2], [0, -1, 4, 0, 3, -5, -1]])
def test_add_rows_is_add_at(ids, width):
    rows, values = np.array(ids, int), np.random.default_rng(0).standard_normal((len(ids), *width))
    out, expected = np.ones((5, *width)), np.ones((5, *width))
    backend.add_rows(out, rows, values)
    np.add.at(expected, rows, values)
    np.testing.assert_allclose(out, expected)


@pytest.mark.parametrize("width", [1, 2000])
@pytest.mark.parametrize("row", [5, -6])
def test_add_rows_refuses_rows_that_are_not_there(row, width):
    with pytest.raises(IndexError, match="out of bounds"):
        backend.add_rows(np.zeros((5, width)), np.array([row]), np.zeros((1, width)))
