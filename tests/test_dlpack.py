"""DLPack: arrays of other libraries without a copy, both ways, and no gradient lost silently."""

import numpy as np
import pytest

import tinygrad_nlp as tn


def test_numpy_takes_a_variable_without_a_copy():
    x = tn.Variable(np.arange(6.0).reshape(2, 3).T)
    array = np.from_dlpack(x)
    assert np.shares_memory(array, x.data)
    np.testing.assert_array_equal(array, x.data, strict=True)


def test_from_dlpack_takes_an_array_and_a_variable_without_a_copy():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::2]
    for source in (array, tn.Variable(array)):
        x = tn.from_dlpack(source)
        assert isinstance(x, tn.Variable)
        assert np.shares_memory(x.data, array)
        assert not x.requires_grad
        np.testing.assert_array_equal(x.data, array, strict=True)


@pytest.mark.parametrize("result", [False, True], ids=["leaf", "result"])
def test_a_gradient_is_not_lost_silently(result):
    x = tn.Variable(np.ones(3), requires_grad=True)
    x = x * 2.0 if result else x
    with pytest.raises(BufferError, match=r"would lose it silently; use x\.data or x\.detach\(\)"):
        tn.from_dlpack(x)
    assert np.shares_memory(tn.from_dlpack(x.detach()).data, x.data)


def test_negative_strides_are_refused_as_pytorch_would_end_the_process():
    x = tn.Variable(np.arange(4.0)[::-1])
    with pytest.raises(BufferError, match=r"negative strides.*np\.ascontiguousarray\(x\.data\)"):
        np.from_dlpack(x)
    assert tn.from_dlpack(x.data).data[0] == 3  # an array of NumPy, by NumPy


def test_what_does_not_follow_the_protocol_is_refused():
    with pytest.raises(AttributeError, match="__dlpack_device__"):
        tn.from_dlpack([1.0, 2.0])


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="needs PyTorch")


def test_pytorch_takes_a_variable_without_a_copy(torch):
    x = tn.Variable(np.arange(6, dtype=np.float32).reshape(2, 3))
    tensor = torch.from_dlpack(x)
    tensor[0, 1] = 7
    assert x.data[0, 1] == 7
    x.data[1, 2] = 8
    assert tensor[1, 2] == 8
    assert tensor.dtype == torch.float32
    assert tensor.data_ptr() == x.data.ctypes.data


@pytest.mark.parametrize("layout", [lambda t: t, lambda t: t.T, lambda t: t[:, ::2]], ids=["C", "transposed", "gaps"])
def test_a_variable_of_a_tensor_shares_its_memory(torch, layout):
    tensor = layout(torch.arange(6.0).reshape(2, 3))
    x = tn.from_dlpack(tensor)
    x.data[1, 1] = 7
    assert tensor[1, 1] == 7
    assert x.shape == tuple(tensor.shape)
    assert x.data.ctypes.data == tensor.data_ptr()
    np.testing.assert_array_equal(x.data, tensor.numpy(), strict=True)


def test_pytorch_refuses_too_to_lose_a_gradient(torch):
    with pytest.raises(BufferError, match="require gradient"):
        tn.from_dlpack(torch.ones(3, requires_grad=True))
    with pytest.raises(BufferError, match="would lose it silently"):
        torch.from_dlpack(tn.Variable(np.ones(3), requires_grad=True))


def test_the_memory_outlives_the_library_that_made_it(torch):
    x = tn.from_dlpack(torch.full((1000,), 3.0))
    tensor = torch.from_dlpack(tn.Variable(np.full(1000, 4.0)))
    assert float(x.sum()) == 3000
    assert float(tensor.sum()) == 4000
