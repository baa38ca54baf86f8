PYTHON ?= python3
ARGS ?=
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup train report sync study test test-fast lint format bench peers clean

help:  ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/ready  ## create .venv with what training needs (done by the others when missing)

# torchquantum's declared requirements weigh gigabytes and do not import; its simulator needs none of them.
.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' || \
	  { echo "Python 3.11 or 3.12 is needed; name one: make setup PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e .
	$(BIN)/pip install --disable-pip-version-check --no-deps torchquantum==0.1.8
	@touch $@

# Every extra beside it: launchers, loggers, ONNX, and what tests and checks run on.
.venv/dev-ready: .venv/ready
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

train: .venv/ready  ## train on the embedded phantom images; more: make train ARGS="optim=adam seed=1"
	$(BIN)/python -m hqcnn_lab.train $(ARGS)

report: .venv/ready  ## one page of all runs so far, report.html; more: make report ARGS="multirun/mine"
	$(BIN)/python -m hqcnn_lab.report $(or $(ARGS),$(wildcard runs multirun))

sync: .venv/ready  ## upload W&B's offline runs (needs: wandb login)
	@find $(wildcard runs multirun) -type d -name 'offline-run-*' -exec $(BIN)/wandb sync {} +

study: .venv/ready  ## compare optimizers fairly, on the phantom; more: make study ARGS="study=noise scale=kaggle scale.root=…"
	$(BIN)/python -m hqcnn_lab.study $(ARGS)

# Tests start many processes: compiled files spare each of them half a second. The longest files come first.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: .venv/dev-ready  ## run the tests
	$(PYTEST) $(ARGS)

test-fast: .venv/dev-ready  ## run the tests that take no time, in a minute
	$(PYTEST) -m "not slow and not gpu" $(ARGS)

lint: .venv/dev-ready  ## check style, the rooms' imports and the types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/pyright -p pyproject.toml

format: .venv/dev-ready  ## mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/ready  ## measure: what a start costs, circuits against torchquantum, the optimizer's step and its skill, the hybrid's epoch against its twin's
	$(BIN)/python benchmarks/start.py
	$(BIN)/python benchmarks/quantum.py
	$(BIN)/python benchmarks/optimizer.py
	$(BIN)/python benchmarks/problems.py
	$(BIN)/python benchmarks/epoch.py

peers: .venv/ready  ## install PennyLane and pyqtorch beside it all, for benchmarks/ and a few tests
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e ".[peers]"

clean:  ## remove .venv and what tools left behind; runs and sweeps stay
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
