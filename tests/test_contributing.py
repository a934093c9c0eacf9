"""The recipes of CONTRIBUTING.md, followed to the letter in a copy of the library."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
RECIPES = {
    title: re.findall(r"^```python\n# (\S+)\n(.*?)^```$", body, flags=re.DOTALL | re.MULTILINE)
    for title, body in re.findall(r"^## How to add an? (.*?)\n(.*?)(?=^## )", TEXT, flags=re.DOTALL | re.MULTILINE)
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The library, its tests and examples, with every block of the recipes at the end of its file."""
    folder = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__")
    for part in ("tinygrad_nlp", "tests", "examples"):
        shutil.copytree(ROOT / part, folder / part, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    for blocks in RECIPES.values():
        for path, code in blocks:
            with (folder / path).open("a", encoding="utf-8") as file:
                file.write("\n\n" + code if file.tell() else code)
    return folder


def run(copy, *arguments):
    """pytest in the copy; gives its report."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-rA", *arguments],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_there_are_four_recipes_of_real_code():
    assert list(RECIPES) == ["operation", "layer", "fused kernel", "example"]
    assert all(len(blocks) >= 2 for blocks in RECIPES.values())


def test_the_operation_passes_every_test_of_the_table(copy):
    report = run(copy, "tests/test_ops.py", "-k", "squared_relu or one_row")
    assert report.count("PASSED") >= 8
    assert "test_every_public_operation_has_one_row" in report
    assert "test_first_and_second_derivative_are_those_of_the_definition[squared_relu]" in report


def test_the_operation_is_known_to_the_oracle(copy):
    if not (importlib.util.find_spec("torch") and importlib.util.find_spec("expecttest")):
        pytest.skip("the oracle needs PyTorch")
    assert "1 passed" in run(copy, "tests/oracle/test_torch_ops.py", "-k", "has_a_row_or_a_reason")


def test_the_layer_the_kernel_and_the_example_pass_the_tests_that_they_bring(copy):
    names = "highway_passes or gated_tanh_is_its"
    assert "2 passed" in run(copy, "tests/test_nn.py", "tests/test_fused.py", "-k", names)
    pytest.importorskip("tyro", reason="examples need the extra `examples`")
    assert "1 passed" in run(copy, "tests/test_examples.py", "-k", "xor")


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_code_is_written_as_the_house_writes(recipe, copy):
    if not importlib.util.find_spec("ruff"):
        pytest.skip("style is checked by ruff")
    files = {path for path, _ in RECIPES[recipe]}
    # A block at the end of a file has its imports there.
    rules = ["check", "--ignore", "E402,F811,I001,RUF100"], ["format", "--check"]
    for rule in rules:
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *rule, *files], cwd=copy, capture_output=True, encoding="utf-8"
        )
        assert done.returncode == 0, done.stdout
