# `make demo` and `make test` set up everything they need in .venv; nothing else has to be installed first.
PYTHON ?= python3
BIN := .venv/bin
PIP := -m pip install --quiet --disable-pip-version-check
INSTALL := $(BIN)/python $(PIP) --constraint constraints.txt
PYTEST := -m pytest -n 2 --dist worksteal

.PHONY: demo test test-slow test-newest newest-tests newest-commands newest-install test-next check pocket families grid study quick-study states again bench soak judges gpu clean

demo: .venv/runtime
	$(BIN)/s0 demo

test: .venv/dev
	$(BIN)/python $(PYTEST)

# Tests that take minutes, and the cases that the default tests leave out. Among them is every check of `s0 verify`, on one
# family of each recurrence; on all families with the newest transformers (`make test-newest`), or with both (`make families`).
test-slow: .venv/dev
	$(BIN)/python $(PYTEST) -m slow
	$(MAKE) .venv/slow
	$(BIN)/python -c "import torchao.quantization"
	$(BIN)/python -m pytest tests/ecosystem/test_quantised.py

# The newest transformers that is in our range, in an environment of its own, with this library installed as the README
# says: the core, training, decoding, other libraries, files of before, every check of `s0 verify` on every family, and the
# commands. Tests of what meets no model of transformers' (checkpoints, searches, damaged files, faults planted in checks)
# would find nothing that `make test` has not found.
NEWEST_TRAIN := $(addprefix tests/train/test_, baselines.py data.py fit.py prompts.py published.py token_losses.py trainer.py)
NEWEST_ADAPTER := $(addprefix tests/adapter/test_, load.py model.py patches.py)
NEWEST_TESTS := tests/core $(NEWEST_ADAPTER) $(NEWEST_TRAIN) tests/decode tests/ecosystem tests/golden tests/verify/test_published.py \
	tests/test_releases.py
NEWEST_CHECKS := -m slow tests/verify/test_suite.py tests/verify/test_published.py
test-newest: newest-tests newest-commands

newest-tests: newest-install
	.venv-newest/bin/python $(PYTEST) $(NEWEST_TESTS)
	.venv-newest/bin/python $(PYTEST) $(NEWEST_CHECKS)

newest-commands: newest-install
	rm -rf .venv-newest/runs
	cd .venv-newest && bin/s0 demo --data ../tests/golden/problems.jsonl --out runs/demo
	cd .venv-newest && bin/s0 train --model pocket:mamba2 --examples runs/demo/train.jsonl --n-steps 2 --out runs/state
	cd .venv-newest && bin/s0 eval --model pocket:mamba2 --state runs/state --task pocket-code --out runs/record.json
	cd .venv-newest && bin/s0 generate --model pocket:mamba2 --state runs/state "def add_two(n):"

newest-install: .venv-newest/dev
	.venv-newest/bin/python $(PIP) --no-deps --force-reinstall .

# Beyond our range: the newest transformers, peft and trl there are, to see what is coming. In no gate.
test-next: .venv-next/dev
	.venv-next/bin/python $(PIP) --upgrade --constraint .venv-next/torch.txt transformers peft trl
	.venv-next/bin/python $(PYTEST) $(NEWEST_TESTS)
	.venv-next/bin/python $(PYTEST) $(NEWEST_CHECKS)

check: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python benchmarks/pages.py --check
	$(BIN)/python benchmarks/measures.py --check

# Draws the pocket problems again and retrains the three models: about an hour and three quarters on one core.
pocket: .venv/runtime
	$(BIN)/python -m benchmarks.pocket.benchmark
	$(BIN)/python -m benchmarks.pocket.pretrain --model gdn --out src/s0/models/pocket_gdn
	$(BIN)/python -m benchmarks.pocket.pretrain --model mamba2 --out src/s0/models/pocket_mamba2
	$(BIN)/python -m benchmarks.pocket.pretrain --model transformer --out src/s0/models/pocket_transformer

# Records the checks of `s0 verify` on every family, with both ends of our range of transformers, for the README's table.
families: .venv/dev .venv-newest/dev
	rm -rf benchmarks/results/families
	$(BIN)/python -m benchmarks.families
	.venv-newest/bin/python $(PIP) --no-deps --force-reinstall .
	.venv-newest/bin/python -m benchmarks.families
	$(BIN)/python benchmarks/pages.py

# Chooses every method's settings on the select split. All studies go on where they stopped; `make again` starts over.
STUDY := $(BIN)/s0 study run --jobs 2 --records benchmarks/results/studies
GRIDS := $(sort $(wildcard benchmarks/studies/*grid.toml))
STUDIES := $(filter-out $(GRIDS),$(sort $(wildcard benchmarks/studies/*.toml)))
grid: .venv/runtime
	$(STUDY) $(GRIDS)

# The paper's studies and the results page; each tells before it begins how long it will take.
study: grid
	$(STUDY) $(STUDIES)
	$(BIN)/python benchmarks/pages.py

# All of them in small, to see that they run: five minutes on two cores.
quick-study: .venv/runtime
	$(BIN)/s0 study run --jobs 2 --quick $(GRIDS) $(STUDIES)

# The states that ship with the pocket models, from the study's settings and first seed; two minutes.
states: .venv/runtime
	$(BIN)/python benchmarks/pocket_states.py

again:
	rm -rf benchmarks/results/studies

# Makes every other number of benchmarks/README.md again.
bench: .venv/runtime
	$(BIN)/python benchmarks/training_speed.py --compiled --out benchmarks/results/training_speed.json
	$(BIN)/python benchmarks/inference_speed.py --out benchmarks/results/inference_speed.json
	$(BIN)/python benchmarks/loss_memory.py --out benchmarks/results/loss_memory.json
	$(BIN)/python -m benchmarks.step_memory --out benchmarks/results/step_memory.json
	$(BIN)/python benchmarks/import_cost.py --out benchmarks/results/import_cost.json
	$(BIN)/python benchmarks/sandbox_speed.py --out benchmarks/results/sandbox_speed.json
	$(BIN)/python benchmarks/serving_speed.py --out benchmarks/results/serving_speed.json
	$(BIN)/python benchmarks/decode_speed.py --out benchmarks/results/decode_speed.json
	$(BIN)/s0 demo --out runs/readme-$$(date +%s) 2>&1 | tail -n 80 | tee benchmarks/results/demo.txt
	$(BIN)/python benchmarks/pages.py

# A server under a mixed load for half an hour, every answer checked.
soak: .venv/dev
	$(BIN)/python -m benchmarks.soak.run

# Our verdicts beside other judges', who have an environment of their own; about ten minutes on two cores.
judges: .venv/runtime .venv-judges/peers
	$(BIN)/python -m benchmarks.judges --out benchmarks/results/judges.json
	$(BIN)/python benchmarks/pages.py

# On a machine with a GPU, in about ten minutes: the kernels' tests in one process, and the shapes of Qwen3.5-4B and
# Falcon-H1-7B. Triton keeps what it compiles and tunes; float32 products that it has compiled for the tests stay apart.
GPU := TRITON_CACHE_AUTOTUNING=1 TRITON_CACHE_DIR=runs/triton
gpu: .venv/dev
	$(GPU)/tests $(BIN)/python -m pytest -m gpu tests/gpu
	$(GPU)/models $(BIN)/python benchmarks/gpu.py --layers 8 --pairs 6 --minutes 5 --out runs/gpu_8_layers.json
	$(GPU)/models $(BIN)/python benchmarks/gpu.py --pairs 4 --minutes 5 --out runs/gpu.json

.venv/python:
	$(PYTHON) -m venv .venv
	touch $@

.venv/runtime: .venv/python pyproject.toml constraints.txt
	$(INSTALL) --editable .
	touch $@

.venv/dev: .venv/python pyproject.toml constraints.txt
	$(INSTALL) --editable '.[dev,ecosystem]'
	touch .venv/runtime $@

.venv/slow: .venv/dev
	$(INSTALL) --editable '.[torchao]'
	touch $@

.venv-newest/dev: pyproject.toml constraints-newest.txt
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python $(PIP) --constraint constraints-newest.txt '.[dev,ecosystem]'
	touch $@

.venv-next/dev: pyproject.toml constraints-newest.txt
	$(PYTHON) -m venv .venv-next
	grep '^torch==' constraints-newest.txt > .venv-next/torch.txt
	.venv-next/bin/python $(PIP) --constraint constraints-newest.txt --editable '.[dev,ecosystem]'
	touch $@

# Nothing but what judging needs: benchmarks/judges.txt says why.
.venv-judges/peers: benchmarks/judges.txt
	$(PYTHON) -m venv .venv-judges
	.venv-judges/bin/python $(PIP) --no-deps --requirement benchmarks/judges.txt
	touch $@

clean:
	rm -rf .venv .venv-newest .venv-next .venv-judges .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
