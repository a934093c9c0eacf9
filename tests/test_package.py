"""The package as a whole: what an import costs, what is public, that all examples run and no machine leaks out."""

import builtins
import doctest
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import tarfile
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest

import tinygrad_nlp

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages(tinygrad_nlp.__path__, "tinygrad_nlp.")
    if not info.name.endswith("__main__")
)


def load(name):
    if name.startswith("tinygrad_nlp.plot"):
        pytest.importorskip("matplotlib", reason="pictures need matplotlib (the extra viz)")
    return importlib.import_module(name)


# --- importing --------------------------------------------------------------------------------------------------------


def loaded_by(statement):
    """The packages that a fresh interpreter has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == ""
    return set(done.stdout.split())


def test_importing_the_package_loads_no_heavy_and_no_optional_package():
    loaded = loaded_by("import tinygrad_nlp")
    assert {"numpy", "tinygrad_nlp"} <= loaded
    assert not loaded & {"matplotlib", "cupy", "scipy", "pygraphviz", "tqdm", "safetensors", "pooch", "tyro", "torch"}


def test_layers_data_and_training_load_no_pictures_and_no_gpu():
    loaded = loaded_by("from tinygrad_nlp import nn, optim, data, text, decoding, training")
    assert not loaded & {"matplotlib", "cupy", "pygraphviz", "tokenizers", "tyro", "torch"}


# --- public names -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tinygrad_nlp", *MODULES])
def test_public_names_exist_once_and_are_documented(name):
    module = load(name)
    names = getattr(module, "__all__", [])
    assert len(set(names)) == len(names)
    for public in names:
        value = getattr(module, public)
        if callable(value) or isinstance(value, types.ModuleType):
            assert inspect.getdoc(value), f"{name}.{public} has no docstring"


def test_the_names_that_hide_pythons_own_are_those_that_the_package_says():
    hidden = set(tinygrad_nlp.__all__) & set(dir(builtins))
    assert hidden == {"abs", "max", "min", "pow", "sum"}
    assert all(f"`{name}`" in tinygrad_nlp.__doc__ for name in hidden)


def test_star_import_gives_the_public_names():
    names = {}
    exec("from tinygrad_nlp import *", names)
    assert set(tinygrad_nlp.__all__) <= names.keys()


@pytest.mark.parametrize("name", ["tinygrad_nlp", *MODULES])
def test_every_module_says_what_it_is_for(name):
    assert load(name).__doc__


# --- examples in docstrings and documents -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    module = load(name)
    found = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert found.failed == 0


def code_blocks(document):
    """The code blocks of a Markdown file, with their languages."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / document).read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


PYTHON_BLOCKS = [code for language, code in code_blocks("README.md") if language == "python"]


@pytest.mark.parametrize("code", PYTHON_BLOCKS)
def test_the_code_of_the_readme_runs(code, tmp_path, monkeypatch):
    short = code.replace("range(300)", "range(3)")
    assert short != code
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "readme"}
    exec(compile(short, "README.md", "exec"), names)
    assert np.isfinite(float(names["loss"]))
    draw = 'tn.draw(model(x, t)).save("graph.svg")'
    assert f"`{draw}`" in (ROOT / "README.md").read_text("utf-8")
    exec(draw, names)
    assert [path.stem for path in tmp_path.iterdir()] == ["graph"]


def test_the_readme_has_code_to_run():
    assert PYTHON_BLOCKS


@pytest.mark.skipif(not (ROOT / "README.ko.md").exists(), reason="there is no Korean README")
def test_the_readme_says_the_same_code_in_both_languages():
    english, korean = (code_blocks(document) for document in ("README.md", "README.ko.md"))
    assert [language for language, _ in english] == [language for language, _ in korean]
    assert [code for language, code in korean if language == "python"] == PYTHON_BLOCKS
    assert commands(korean) == commands(english) != []


def commands(blocks):
    """The command lines in code blocks, without their comments, which are translated."""
    lines = [line for _, code in blocks for line in code.splitlines()]
    return [line.partition("#")[0].rstrip() for line in lines if line.startswith(("make ", "python ", ".venv/"))]


# --- the repository ---------------------------------------------------------------------------------------------------


def test_what_is_built_has_every_file_of_the_package(tmp_path):
    """The kernels for GPUs are no Python, and would be missed by nobody who has none."""
    pytest.importorskip("hatchling", reason="what is built is looked at where hatchling, which builds it, is installed")
    from hatchling.builders.sdist import SdistBuilder
    from hatchling.builders.wheel import WheelBuilder

    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tinygrad_nlp").rglob("*") if path.is_file()}
    package = {name for name in package if "__pycache__" not in name}
    assert {"tinygrad_nlp/kernels/lstm.cu", "tinygrad_nlp/py.typed"} <= package
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if ".dist-info/" not in name} == package
    (source,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path))
    with tarfile.open(source) as archive:
        assert package <= {name.partition("/")[2] for name in archive.getnames()}


# Put together here, so that this file does not contain them.
FOREIGN = [b"/" + b"work/", b"/tmp/" + b"dev", b"pypi" + b".org", b"files." + b"pythonhosted"]


def test_no_file_names_a_machine_or_an_index_host():
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs git and a checkout")
    files = [ROOT / name for name in listed.decode().split("\0") if name]
    assert files
    found = [
        f"{path.relative_to(ROOT)}: {word.decode()}"
        for path in files
        if path.is_file()
        for word in FOREIGN
        if word in path.read_bytes()
    ]
    assert found == []
