"""What the stand-in for CuPy claims of CuPy: the same tests run on both, where there is a GPU."""

import sys
import warnings
import weakref

import numpy as np
import pytest


@pytest.fixture
def cupy(gpu):
    import cupy

    assert cupy is sys.modules["cupy"]
    return cupy


@pytest.fixture
def x(cupy):
    return cupy.asarray(np.arange(1.0, 7.0).reshape(2, 3))


HOST = np.ones((2, 3))

REFUSED = {
    "operator": lambda cupy, x: x + HOST,
    "operator the other way round": lambda cupy, x: HOST * x,
    "operator in place": lambda cupy, x: x.__iadd__(HOST),
    "comparison": lambda cupy, x: x > HOST,
    "matrix product": lambda cupy, x: x @ HOST.T,
    "function": lambda cupy, x: cupy.add(x, HOST),
    "function of NumPy": lambda cupy, x: np.maximum(x, HOST),
    "function of the host's array alone": lambda cupy, x: cupy.exp(HOST),
    "list": lambda cupy, x: cupy.add(x, [1.0, 2.0, 3.0]),
    "where of a ufunc": lambda cupy, x: np.exp(x, where=x > 2),
    "out on the host": lambda cupy, x: np.exp(x, out=HOST.copy()),
    "out on the device": lambda cupy, x: np.exp(HOST, out=x),
    "where": lambda cupy, x: np.where(HOST > 0, x, 0.0),
    "concatenate": lambda cupy, x: np.concatenate((x, HOST)),
    "conversion": lambda cupy, x: np.asarray(x),
    "conversion by a function without a twin": lambda cupy, x: np.frompyfunc(abs, 1, 1)(x),
    "float array in brackets": lambda cupy, x: HOST.__setitem__(0, x[0]),
    "index of a list": lambda cupy, x: [1, 2, 3][x[0, 0].astype(int)],
    "loop over a number": lambda cupy, x: list(x.sum()),
}


@pytest.mark.parametrize("use", REFUSED.values(), ids=REFUSED)
def test_host_and_device_do_not_meet(cupy, x, use):
    with pytest.raises(TypeError):
        use(cupy, x)


def test_an_array_of_the_host_cannot_be_assigned(cupy, x):
    with pytest.raises(ValueError, match="non-scalar"):
        x[...] = HOST
    x[0] = 7.0
    np.testing.assert_array_equal(cupy.asnumpy(x), [[7, 7, 7], [4, 5, 6]])


def test_reductions_give_arrays_without_axes(cupy, x):
    for y in (x.sum(), x.max(), np.mean(x), x.argmax(), x[0, 0], np.log(x.sum())):
        assert isinstance(y, cupy.ndarray)
        assert y.shape == ()
    assert x.sum().item() == float(x.sum()) == 21


def test_functions_of_numpy_come_here(cupy, x):
    for y in (np.exp(x), np.matmul(x, x.T), np.where(x > 2, x, 0.0), np.zeros_like(x), np.float32(2) * x, 1 - x):
        assert isinstance(y, cupy.ndarray)
    out = cupy.empty_like(x)
    assert np.exp(x, out=out) is out
    assert np.shape(x) == (2, 3)


def test_arrays_go_there_and_back(cupy, x):
    back = cupy.asnumpy(x)
    assert type(back) is np.ndarray
    back[0, 0] = 9  # a copy
    assert float(x[0, 0]) == 1
    assert cupy.asarray(x) is x
    assert cupy.get_array_module(x) is cupy
    assert cupy.get_array_module(back) is np


def test_views_know_whose_memory_they_look_at(cupy, x):
    assert x.base is None
    for view in (x[0], x.T, x.reshape(-1), x[0][1:], x[0, 0]):
        assert view.base is x
    assert x.copy().base is None
    assert x[cupy.asarray(np.array([0, 1]))].base is None
    assert weakref.ref(x)() is x
    row = x[0]
    row += 1
    assert float(x[0, 0]) == 2


def test_indices_may_lie_on_the_host(cupy, x):
    for index in (np.array([1, 0]), [1, 0], np.array([True, False]), (np.array([0]), np.array([2]))):
        np.testing.assert_array_equal(cupy.asnumpy(x[index]), cupy.asnumpy(x)[index])
    np.testing.assert_array_equal(cupy.asnumpy(x.take(np.array([1]), axis=0)), cupy.asnumpy(x)[[1]])


@pytest.mark.parametrize("name", ["einsum_path", "block", "vecdot", "insert"])
def test_functions_that_are_not_there_are_not_here(cupy, name):
    assert not hasattr(cupy, name)


def test_arrays_lie_on_the_current_device(cupy):
    x = cupy.zeros(2)
    assert (x.device.id, cupy.cuda.is_available()) == (0, True)
    if cupy.cuda.runtime.getDeviceCount() > 1:
        view = cupy.zeros((2, 3))[:, 1:]
        with cupy.cuda.Device(1):
            assert cupy.zeros(2).device.id == 1
            assert cupy.asarray(x).device.id == 1
            assert x.copy().device.id == 1
            assert x.reshape(2, 1).device.id == 0
            with pytest.raises(NotImplementedError, match="non-contiguous"):
                cupy.asarray(view)
            with warnings.catch_warnings():  # where GPUs reach each other's memory, CuPy warns
                warnings.simplefilter("error")
                for use in (lambda: x + 1, lambda: x.sum(), lambda: cupy.exp(x), lambda: x.__setitem__(0, 1.0)):
                    with pytest.raises((ValueError, Warning), match="is different from the current device"):
                        use()
        assert cupy.zeros(2).device.id == 0
