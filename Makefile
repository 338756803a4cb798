# Everything sets itself up in .venv: a fresh machine needs only Python >= 3.11 and make.
PYTHON ?= python3
SOURCE ?=
SECONDS ?=
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: demo demo-redis test fuzz soak lint fix bench clean
.DELETE_ON_ERROR:

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; say which: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# One stamp per extra: installed again only when pyproject.toml changed.
$(VENV)/.%: pyproject.toml | $(BIN)/python
	$(PIP) install -e '.[$*]'
	@touch $@

demo: $(VENV)/.uvloop
	$(BIN)/python -m examples.code_review $(SOURCE)

demo-redis: $(VENV)/.demo
	$(BIN)/python -m examples.code_review.redis $(SOURCE)

test: $(VENV)/.test
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

fuzz: $(VENV)/.test
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),300)

soak: $(VENV)/.test
	$(BIN)/python -m tests.redis.soak --seconds $(or $(SECONDS),600)

lint: $(VENV)/.lint
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

fix: $(VENV)/.lint
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* build dist
