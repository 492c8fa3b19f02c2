# `make demo` and `make test` set up everything they need in .venv; nothing else has to be installed first.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test check pocket bench clean

demo: .venv/runtime
	$(BIN)/s0 demo

test: .venv/dev
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python benchmarks/pages.py --check

# Rebuilds the pocket problems and retrains the model: about 20 minutes on two cores.
pocket: .venv/runtime
	$(BIN)/python -m s0.pocket.benchmark
	$(BIN)/python -m s0.pocket.pretrain --out src/s0/models/pocket_gdn

# Makes every number of benchmarks/README.md again.
bench: .venv/runtime
	$(BIN)/python benchmarks/training_speed.py --out benchmarks/results/training_speed.json
	$(BIN)/python benchmarks/inference_speed.py --out benchmarks/results/inference_speed.json
	$(BIN)/python benchmarks/pocket_seeds.py --out benchmarks/results/pocket_seeds.json
	$(BIN)/s0 demo --out runs/readme-$$(date +%s) 2>&1 | tail -n 42 | tee benchmarks/results/demo.txt
	$(BIN)/python benchmarks/pages.py

.venv/python:
	$(PYTHON) -m venv .venv
	touch $@

.venv/runtime: .venv/python pyproject.toml constraints.txt
	$(INSTALL) --editable .
	touch $@

.venv/dev: .venv/runtime
	$(INSTALL) --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
