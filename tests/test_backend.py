"""The lowest floor: devices, random streams and scatter."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_nlp as tn
from tests import strict_cupy
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


def test_the_stand_in_has_no_functions_and_methods_that_cupy_has_not():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without a GPU and its libraries
        cupy = pytest.importorskip("cupy", reason="CuPy is not installed; it need not find a GPU here")
    assert cupy is not strict_cupy.cupy
    for stand_in, real in (
        (strict_cupy.cupy, cupy),
        (strict_cupy.cupy.linalg, cupy.linalg),
        (strict_cupy.cupy.lib.stride_tricks, cupy.lib.stride_tricks),
    ):
        names = [name for name in dir(stand_in._twin) if not name.startswith("_")]
        there = {name: getattr(stand_in, name, None) for name in names}
        functions = {name for name, x in there.items() if callable(x) and not isinstance(x, type)}
        assert functions - set(dir(real)) == set()
    methods = {name for name in dir(np.ndarray) if not name.startswith("_")} - strict_cupy.LACKING_METHODS
    assert {name for name in methods if callable(getattr(np.ndarray, name))} - set(dir(cupy.ndarray)) == set()


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


def in_thread(function):
    """What a function returns in a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def draw():
    return backend.generator().random()


def test_what_a_thread_draws_does_not_depend_on_other_threads():
    tn.manual_seed(7)
    expected = draw(), draw()
    tn.manual_seed(7)
    first = draw()
    in_thread(draw)
    assert (first, draw()) == expected


def test_a_thread_that_sets_its_seed_draws_what_the_main_thread_draws():
    def seeded():
        tn.manual_seed(7)
        return draw(), draw()

    state = backend.generator().bit_generator.state
    alone = in_thread(seeded)
    assert backend.generator().bit_generator.state == state
    assert seeded() == alone


def test_threads_without_a_seed_follow_that_of_the_main_thread():
    def two_threads(seed):
        tn.manual_seed(seed)
        return in_thread(draw), in_thread(draw), draw()

    first = two_threads(7)
    assert len(set(first)) == 3
    assert two_threads(7) == first
    assert not set(two_threads(8)) & set(first)


def test_a_negative_seed_is_refused_and_the_stream_goes_on():
    tn.manual_seed(7)
    first = draw()
    tn.manual_seed(7)
    with pytest.raises(ValueError, match="manual_seed: the seed must be 0 or more, not -1"):
        tn.manual_seed(-1)
    assert draw() == first


def test_a_thread_that_lives_on_starts_anew_with_the_seed_unless_it_set_its_own():
    with ThreadPoolExecutor(1) as pool:
        tn.manual_seed(7)
        first = [pool.submit(draw).result() for _ in range(2)]
        tn.manual_seed(7)
        assert [pool.submit(draw).result() for _ in range(2)] == first
        pool.submit(tn.manual_seed, 3).result()
        tn.manual_seed(7)
        own = pool.submit(draw).result()
    tn.manual_seed(3)
    assert draw() == own


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


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.complex64, np.int8, np.int64])
@pytest.mark.parametrize("shape", [(5000,), (700, 100), (90, 10, 20)])
def test_sum_duplicates_of_many_values_is_add_at(shape, dtype):
    rng = np.random.default_rng(0)
    rows, values = rng.integers(40, size=shape[0]) * 3, (9 * rng.standard_normal(shape)).astype(dtype)
    before = rows.copy(), values.copy()
    distinct, sums = backend.sum_duplicates(rows, values)
    expected = np.zeros((120, *shape[1:]), np.promote_types(dtype, np.float32) if dtype == np.float16 else dtype)
    np.add.at(expected, rows, values)
    np.testing.assert_array_equal(distinct, np.unique(rows))
    rounding = 0 if np.dtype(dtype).kind == "i" else 10 * np.finfo(dtype).eps
    np.testing.assert_allclose(sums, expected[distinct], rtol=rounding, atol=100 * rounding)
    assert sums.dtype == dtype
    np.testing.assert_equal((rows, values), before)


@pytest.mark.parametrize("copies", [3, 3000])
@pytest.mark.parametrize(("into", "of"), [("int64", "int8"), ("float32", "bool"), ("float32", "float16")])
def test_add_rows_adds_in_the_dtype_of_what_it_adds_to(into, of, copies):
    out = np.zeros((3, 300), into)
    backend.add_rows(out, np.arange(3 * copies) % 3, np.full((3 * copies, 300), 50).astype(of))
    assert np.all(out == copies * (1 if of == "bool" else 50))


@pytest.mark.parametrize("copies", [30, 3000])
@pytest.mark.parametrize("dtype", ["bool", "int8", "int32", "float16"])
def test_sum_duplicates_keeps_the_dtype(dtype, copies):
    _, sums = backend.sum_duplicates(np.arange(copies) % 3, np.ones((copies, 8), dtype))
    assert sums.dtype == dtype


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_sum_duplicates_keeps_rows_apart_that_are_not_finite(value):
    rows, values = np.arange(600) % 200, np.ones((600, 50), np.float32)
    values[7] = value
    _, sums = backend.sum_duplicates(rows, values)
    np.testing.assert_array_equal(sums[7], np.full(50, value))
    assert np.all(np.delete(sums, 7, axis=0) == 3)


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
