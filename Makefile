# `make demo` and `make test` are the front door; each sets up .venv from requirements.lock where it is missing or stale.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UV := $(BIN)/uv
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := 1
# Images of Python like to set it. Without bytecode on disk every process compiles torch, timm and BentoML anew: 14 s until
# a service answers instead of 6.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test acceptance lint audit format lock env stack stack-check clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements.lock requirements-uv.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: install it, or name yours: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY)  ## generate a catalogue, train, evaluate, bundle, predict: a few minutes on two cores
	@set -e; \
	bundle=$$($(BIN)/python scripts/train.py); \
	$(BIN)/python scripts/predict.py bundle="$$bundle" >/dev/null; \
	echo; \
	echo "report       $$(dirname "$$bundle")/evaluation/test/report.html"; \
	echo "predictions  data/processed/demo/predictions.csv"; \
	echo "next         $(BIN)/python scripts/train.py --help"

test: $(READY)  ## the tests; with CI=true the slow ones too
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 3 --dist worksteal -m "$(if $(filter true,$(CI)),not acceptance,not slow and not acceptance)"

acceptance: $(READY)  ## every "must show" that a command can show; CATALOGUE=PATH for those on real products
	$(BIN)/pytest -m acceptance -s

lint: $(READY)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

audit: $(READY)  ## known holes in what requirements.lock names; asks the package index
	$(BIN)/pip-audit --strict --require-hashes --disable-pip --progress-spinner off -r requirements.lock

format: $(READY)  ## ruff, writing
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock:  ## renew requirements.lock from pyproject.toml, and from it the locks of the images
	$(UV) pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet -o requirements.lock
	echo uv | $(UV) pip compile - --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet -o requirements-uv.lock
	printf '%s\n' mlflow boto3 'psycopg[binary]' | $(UV) pip compile - -c requirements.lock --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet -o deploy/mlflow.lock
	$(UV) pip compile pyproject.toml --extra serve -c requirements.lock --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet -o deploy/serve.lock

env:  ## a .env for development: what is missing in it, with random passwords
	@$(PYTHON) deploy/make_env.py

stack: $(READY)  ## PostgreSQL, S3 and MLflow on this machine, without Docker; Ctrl-C ends them
	@$(BIN)/python -m deploy.stack

stack-check: $(READY)  ## does each part of the stack answer, with Docker or without?
	@$(BIN)/python -m deploy.check

clean:  ## remove .venv and all that is generated
	rm -rf $(VENV) data/demo data/generated data/cache data/interim data/processed models reports outputs/*/ outputs/mlflow.db
