"""What every test gets: hypothesis profiles, a known random stream, Ctrl-C, and a GPU, or what stands in for one."""

import contextlib
import os
import signal

import pytest
import threadpoolctl
from hypothesis import HealthCheck, settings

import tinygrad_nlp
from tests import strict_cupy
from tinygrad_nlp import backend, threads

settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=True,
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("nightly", settings.get_profile("ci"), derandomize=False, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def random_stream():
    """Start every test with the same stream, and leave it to the next as it was."""
    stream = backend.generator().bit_generator
    before = stream.state
    tinygrad_nlp.manual_seed(0)
    yield
    stream.state = before


@pytest.fixture(scope="module", params=["stand-in", pytest.param("cupy", marks=pytest.mark.gpu)])
def gpu(request):
    """The name of a device that is not the CPU: of a stand-in that refuses what CuPy refuses, and of a real one."""
    with strict_cupy.installed() if request.param == "stand-in" else contextlib.nullcontext():
        yield "cuda:0"


@pytest.fixture
def blas_of_two_threads():
    """Two threads for BLAS, however many there are outside."""
    with threadpoolctl.threadpool_limits(2, "blas"):
        yield


@pytest.fixture
def blas_threads():
    """A function that tells how many threads each BLAS has."""
    return lambda: [library.get_num_threads() for library in threads.blas()]


def pytest_configure():
    # A shell starts what it puts into the background with Ctrl-C ignored, and tests of it would wait in vain.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    gpu_tests = [item for item in items if item.get_closest_marker("gpu")]
    if gpu_tests and not backend.cuda_is_available():
        for item in gpu_tests:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device and CuPy; there is none"))
