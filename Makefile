# The two commands: `make run` and `make test`. Everything else is a part or a relative of them.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python

.PHONY: run setup dev test test-slow test-browser screenshots lint judge bench bench-models bench-outpaint bench-workers miniature

run: setup
	$(PY) app.py $(ARGS)

setup: $(VENV)/.runtime

$(VENV)/.runtime: requirements.txt
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

dev: setup $(VENV)/.dev

$(VENV)/.dev: requirements-dev.txt
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

test: dev
	bash tests/install_chromium.sh
	$(PY) -m pytest --numprocesses 2 --dist loadfile --ignore tests/browser
	$(PY) -m pytest tests/browser

test-slow: dev
	$(PY) -m pytest -m slow

screenshots: dev
	bash tests/install_chromium.sh
	$(PY) -m tests.screenshots

test-browser: dev
	bash tests/install_chromium.sh
	$(PY) -m pytest -m "slow or not slow" tests/browser

lint: dev
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

judge: dev
	$(PY) -m tests.judge

bench: dev
	$(PY) -m benchmarks.bench

bench-outpaint: dev
	$(PY) -m benchmarks.bench_outpaint

bench-workers: dev
	$(PY) -m benchmarks.bench_workers

bench-models: dev
	$(PY) -m benchmarks.bench_models

miniature: setup
	$(PY) -m webui.training.miniature
