# make run: install and train the date model.  make test: the whole suite.  make lint: style, types, floors.
# make oracle: install PyTorch and HIPS autograd, and ask them whether values and gradients are right.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test oracle lint bench clean

run: .venv/.examples
	$(BIN)/python -m examples.dates train

test: .venv/.dev
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist=worksteal

oracle: .venv/.oracle
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest tests/oracle

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

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
