# make run: install and train the date model.  make test: the whole suite.  make lint: style, types, floors.
# make oracle: install PyTorch and HIPS autograd, and ask them whether values and gradients are right.
# make kernels: install NVIDIA's compiler (85 MB; Linux and Windows), and compile the kernels for all kinds of GPUs.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test oracle kernels lint bench clean

run: .venv/.examples
	$(BIN)/python -m examples.dates train

test: .venv/.dev
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist=worksteal

oracle: .venv/.oracle
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest tests/oracle

kernels: .venv/.kernels
	$(BIN)/python -m pytest tests/test_kernels.py

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.examples
	$(BIN)/python -m benchmarks

.venv/.examples: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[examples]"
	@touch $@

.venv/.dev: .venv/.examples
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group test --group dev
	@touch $@

.venv/.oracle: .venv/.dev
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group oracle
	@touch $@

.venv/.kernels: .venv/.dev
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group nvrtc
	@touch $@

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
