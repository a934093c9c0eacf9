"""The doctor: what it says of parts that are there, of parts that are missing, and what it advises."""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import numpy as np
import pytest

from tinygrad_nlp import doctor
from tinygrad_nlp.__main__ import main
from tinygrad_nlp.doctor import Finding
from tinygrad_nlp.tuning import Tuning


def blas(architecture="SkylakeX", num_threads=2, internal_api="openblas"):
    return {
        "user_api": "blas",
        "internal_api": internal_api,
        "version": "0.3.31",
        "architecture": architecture,
        "num_threads": num_threads,
        "filepath": "/site-packages/numpy.libs/libscipy_openblas64_.so",
    }


@pytest.fixture
def machine(monkeypatch):
    """A machine of two cores with AVX-512; returns a function that sets the libraries that are loaded."""
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(doctor, "cpu_has_avx512", lambda: True)
    monkeypatch.setattr(doctor, "_available_cores", lambda: 2)
    return lambda *libraries: monkeypatch.setattr(doctor.threadpoolctl, "threadpool_info", lambda: list(libraries))


def absent(monkeypatch, *modules):
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)


def present(monkeypatch, name):
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    monkeypatch.setitem(sys.modules, name, module)


def test_the_command_prints_a_line_for_each_part(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "check_speed", lambda: Finding(True, "Speed: 400 GFLOP/s"))
    main(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(("✓ ", "– ")) for line in lines)
    for part in ("Python", f"NumPy {np.__version__}", "SciPy", "BLAS", "Speed", "Allocator", "GPU", "Graph"):
        assert any(line[2:].startswith(part) for line in lines), part
    assert lines[-1][2:].startswith("Data")


@pytest.mark.parametrize("arguments", [[], ["surgeon"]])
def test_no_command_or_an_unknown_one_prints_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert "usage: python -m tinygrad_nlp" in capsys.readouterr().err


def test_the_report_has_a_mark_the_finding_and_the_mend():
    findings = [Finding(True, "A"), Finding(False, "B", "do C")]
    assert doctor.report(findings) == "✓ A\n– B  → do C"


def test_avx512_kernels_are_well(machine):
    machine(blas("SkylakeX"))
    kernels, threads = doctor.check_blas()
    assert kernels == Finding(True, "BLAS in numpy.libs: openblas 0.3.31, SkylakeX kernels (AVX-512)")
    assert threads == Finding(True, "BLAS threads: 2, on 2 available cores")


def test_older_kernels_on_an_avx512_cpu(machine, monkeypatch):
    machine(blas("Haswell"))
    kernels, _ = doctor.check_blas()
    assert not kernels.ok
    assert kernels.mend.startswith("set OPENBLAS_CORETYPE=SkylakeX")
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    kernels, _ = doctor.check_blas()
    assert not kernels.ok
    assert kernels.mend.startswith("unset OPENBLAS_CORETYPE=Haswell")


def test_older_kernels_are_right_for_an_older_cpu(machine, monkeypatch):
    monkeypatch.setattr(doctor, "cpu_has_avx512", lambda: False)
    machine(blas("Haswell"))
    assert doctor.check_blas()[0].ok


def test_another_blas_is_not_judged(machine):
    machine(blas(architecture=None, internal_api="mkl"))
    assert doctor.check_blas()[0] == Finding(True, "BLAS in numpy.libs: mkl 0.3.31")
    machine()
    assert doctor.check_blas() == [Finding(True, "BLAS: none that threadpoolctl can look into")]


def test_fewer_threads_than_cores(machine, monkeypatch):
    machine(blas(num_threads=1))
    assert doctor.check_blas()[-1] == Finding(False, "BLAS threads: 1, on 2 available cores")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert doctor.check_blas()[-1].mend.startswith("unset OMP_NUM_THREADS=1")


def test_speed_is_measured():
    finding = doctor.check_speed(size=64)
    assert finding.ok
    assert "GFLOP/s in a float32 matrix product of 64 × 64" in finding.text


@pytest.mark.parametrize(
    ("tuning", "ok"),
    [
        (Tuning("allocator", True, "freed arrays are kept for the next step"), True),
        (Tuning("allocator", False, "not needed: the C library is not glibc"), True),
        (Tuning("collector", False, "switched off by TINYGRAD_NLP_TUNE=0"), False),
    ],
)
def test_tuning(monkeypatch, tuning, ok):
    monkeypatch.setattr(doctor.tuning, "apply", lambda: (tuning,))
    (finding,) = doctor.check_tuning()
    assert finding.ok is ok
    assert finding.text.startswith(tuning.what.capitalize())
    assert tuning.reason in finding.text


def test_gpu(monkeypatch):
    absent(monkeypatch, "cupy")
    assert "tinygrad_nlp[cuda12]" in doctor.check_gpu().mend
    present(monkeypatch, "cupy")
    monkeypatch.setattr(doctor.backend, "cuda_is_available", lambda: False)
    assert "nvidia-smi" in doctor.check_gpu().mend
    monkeypatch.setattr(doctor.backend, "cuda_is_available", lambda: True)
    monkeypatch.setattr(doctor.backend, "cuda_device_count", lambda: 2)
    assert doctor.check_gpu() == Finding(True, "GPU: CuPy can use 2")


def test_graph_drawing(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert doctor.check_graph_drawing() == Finding(True, "Graph drawing: /usr/bin/dot")
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    present(monkeypatch, "pygraphviz")
    assert doctor.check_graph_drawing() == Finding(True, "Graph drawing: pygraphviz")
    absent(monkeypatch, "pygraphviz")
    assert "tinygrad_nlp[viz]" in doctor.check_graph_drawing().mend


def test_optional_parts(monkeypatch):
    present(monkeypatch, "matplotlib")
    absent(monkeypatch, "pooch", "tokenizers", "tyro", "torch")
    matplotlib, pooch, tokenizers, tyro, torch = doctor.check_optional_parts()
    assert matplotlib.ok
    assert not any(part.ok for part in (pooch, tokenizers, tyro, torch))
    assert pooch.mend == 'pip install "tinygrad_nlp[data]"'
    assert tokenizers.mend == 'pip install "tinygrad_nlp[text]"'
    assert tyro.mend == 'pip install "tinygrad_nlp[examples]"'
    assert torch.mend == "pip install torch"


def test_data(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "find", lambda name: None)
    monkeypatch.setenv("TINYGRAD_NLP_DATA", "")
    assert "set TINYGRAD_NLP_DATA" in doctor.check_data().mend
    monkeypatch.setenv("TINYGRAD_NLP_DATA", str(tmp_path / "absent"))
    assert not doctor.check_data().ok
    monkeypatch.setenv("TINYGRAD_NLP_DATA", str(tmp_path))
    assert doctor.check_data() == Finding(True, f"Data: {tmp_path}")


def test_data_that_were_downloaded_before(monkeypatch, tmp_path):
    monkeypatch.delenv("TINYGRAD_NLP_DATA", raising=False)
    monkeypatch.setattr(doctor, "find", lambda name: tmp_path / name)
    assert doctor.check_data() == Finding(True, f"Data: {tmp_path / 'dlfs2/date.txt'}")


def test_cpu_detection_answers_on_this_machine():
    assert doctor.cpu_has_avx512() in (True, False)
