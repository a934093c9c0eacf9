"""The settings of the process: when they are made, when they are left alone, and what they save."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tinygrad_nlp import tuning

# Runs tuning.py by itself, as `import tinygrad_nlp` does before it loads anything else.
LOAD = f"import runpy, sys; tuning = runpy.run_path({str(Path(tuning.__file__))!r}, run_name='tuning')"
USER_SETTINGS = ("TINYGRAD_NLP_TUNE", "GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")


class Glibc:
    """Stands for glibc; notes what it is told."""

    def __init__(self, answer=1):
        self.calls = []
        self.answer = answer

    def gnu_get_libc_version(self):
        return b"2.40"

    def mallopt(self, parameter, value):
        self.calls.append((parameter, value))
        return self.answer


@pytest.fixture
def glibc(monkeypatch):
    for name in USER_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    libc = Glibc()
    monkeypatch.setattr(tuning.sys, "platform", "linux")
    monkeypatch.setattr(tuning.ctypes, "CDLL", lambda name: libc)
    return libc


@pytest.fixture
def thresholds(monkeypatch):
    """Python's own; what they were before comes back afterwards."""
    monkeypatch.delenv("TINYGRAD_NLP_TUNE", raising=False)
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*before)


def apply_anew():
    allocator, _ = tuning.apply.__wrapped__()
    return allocator


def test_both_thresholds_are_raised(glibc):
    tuned = apply_anew()
    assert tuned.applied
    assert dict(glibc.calls) == {-1: 2**31 - 1, -3: 32 * 2**20}


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("TINYGRAD_NLP_TUNE", "0", "TINYGRAD_NLP_TUNE=0"),
        ("MALLOC_TRIM_THRESHOLD_", "1000", "MALLOC_TRIM_THRESHOLD_"),
        ("MALLOC_MMAP_THRESHOLD_", "1000", "MALLOC_MMAP_THRESHOLD_"),
        ("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=1000", "glibc.malloc.mmap_threshold"),
    ],
)
def test_the_user_decides(glibc, monkeypatch, variable, value, reason):
    monkeypatch.setenv(variable, value)
    tuned = apply_anew()
    assert not tuned.applied
    assert reason in tuned.reason
    assert glibc.calls == []


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_have_no_glibc(glibc, monkeypatch, platform):
    monkeypatch.setattr(tuning.sys, "platform", platform)
    assert apply_anew() == tuning.Tuning("allocator", False, "not needed: the C library is not glibc")
    assert glibc.calls == []


def test_musl_is_not_glibc(glibc, monkeypatch):
    monkeypatch.setattr(tuning.ctypes, "CDLL", lambda name: object())
    assert apply_anew() == tuning.Tuning("allocator", False, "not needed: the C library is not glibc")


def test_a_refusal_is_recorded(glibc):
    glibc.answer = 0
    assert apply_anew() == tuning.Tuning("allocator", False, "glibc refused it")


def test_it_never_raises(glibc, monkeypatch):
    def fail(name):
        raise OSError("no such library")

    monkeypatch.setattr(tuning.ctypes, "CDLL", fail)
    tuned = apply_anew()
    assert not tuned.applied
    assert "no such library" in tuned.reason


def test_the_collector_runs_less_often(thresholds):
    _, collector = tuning.apply.__wrapped__()
    assert collector.applied
    assert gc.get_threshold() == (20_000, 10, 10)


def test_the_users_threshold_stays(thresholds):
    for own in (0, 5000):
        gc.set_threshold(own, 10, 10)
        _, collector = tuning.apply.__wrapped__()
        assert not collector.applied
        assert f"was set to {own}" in collector.reason
        assert gc.get_threshold() == (own, 10, 10)


def test_the_collector_is_left_alone_when_tuning_is_off(thresholds, monkeypatch):
    monkeypatch.setenv("TINYGRAD_NLP_TUNE", "0")
    assert not any(tuned.applied for tuned in tuning.apply.__wrapped__())
    assert gc.get_threshold() == (700, 10, 10)


def test_it_is_done_once_per_process():
    assert tuning.apply() is tuning.apply()


def run(code, **settings):
    environment = {k: v for k, v in os.environ.items() if k not in USER_SETTINGS} | settings
    command = [sys.executable, "-c", f"{LOAD}\n{code}"]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def test_it_loads_the_standard_library_only():
    loaded = run("print(*{name.partition('.')[0] for name in sys.modules})").split()
    assert "numpy" not in loaded
    assert "tinygrad_nlp" not in loaded


@pytest.mark.skipif(not tuning.apply()[0].applied, reason="the allocator was not tuned here")
def test_freed_arrays_are_used_again_without_page_faults():
    code = """
tuning["apply"]()
import numpy as np, resource
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    graph = [np.ones(10_000, np.float32) for _ in range(100)]  # 4 MB
    del graph
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    assert 5 * int(run(code)) < int(run(code, TINYGRAD_NLP_TUNE="0"))
