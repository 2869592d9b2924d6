# Two commands for a fresh machine: `make demo` and `make test`. Both build .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# A process for each core; the tests of a file stay together, and share what its fixtures make.
WORKERS ?= -n auto --dist loadfile

.PHONY: demo test test-slow lint docs clean

demo: $(VENV)/demo.stamp
	$(BIN)/toptune demo --overwrite

test: $(VENV)/test.stamp
	$(BIN)/python -m pytest -m "not slow" $(WORKERS)

test-slow: $(VENV)/test.stamp
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/docs.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) .cache site .mypy_cache .ruff_cache .pytest_cache

# One stamp per extra: an environment is brought up to date when pyproject.toml changes.
$(VENV)/%.stamp: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	touch $@
