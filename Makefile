# Every target sets up what it needs in an environment of its own, at the versions of constraints.txt, and touches
# nothing else. Called again, it finds the environment as it is and fetches nothing.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3.14 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
# How many processes run tests at once: one more than there are processors, as tests also wait.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2) + 1)
PYTEST := -m pytest -n $(WORKERS)
# Modules are compiled once, by the first process that imports them.
unexport PYTHONDONTWRITEBYTECODE
SET_UP = @test -n "$(PYTHON)" || { \
	echo "error: no Python 3.11 to 3.14 is on the PATH: make $@ PYTHON=/path/to/python3.13" >&2; exit 1; }; \
	$(PYTHON) tools/environment.py

.PHONY: demo test proofs generated check bench lock latest lowest dist package format clean

demo:
	$(SET_UP) demo --venv $(VENV)
	$(BIN)/outspoken ask "Name a US state." --seed 1

test:
	$(SET_UP) test --venv $(VENV)
	$(BIN)/outspoken models get smollm2
	$(BIN)/outspoken models get minilm
	$(BIN)/python $(PYTEST)

# Too slow for every change: simulations of 500 repetitions, and the snippets of docs with the real model.
proofs:
	$(SET_UP) test --venv $(VENV)
	$(BIN)/outspoken models get smollm2
	$(BIN)/outspoken models get minilm
	OUTSPOKEN_PROOFS=1 $(BIN)/python $(PYTEST) -m proof --hypothesis-profile=random

check:
	$(SET_UP) check --venv $(VENV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/actionlint
	$(BIN)/zizmor --offline --quiet .github

# Write what derives from declarations: type stubs of lazily imported names, types and docstrings of options.
generated:
	$(SET_UP) check --venv $(VENV)
	$(BIN)/python tools/stubs.py
	$(BIN)/python tools/options.py

bench:
	$(SET_UP) bench --venv $(VENV)
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

# Rewrite constraints.txt: the newest versions that pyproject.toml allows, for every supported Python and system.
lock:
	$(SET_UP) lock --venv .venv-lock
	.venv-lock/bin/python tools/versions.py lock

# The tests with the newest version of everything, upper bounds left out. First it says what is newer than the lock.
latest:
	$(SET_UP) test --venv .venv-latest --latest
	.venv-latest/bin/python tools/versions.py newer
	.venv-latest/bin/outspoken models get smollm2
	.venv-latest/bin/outspoken models get minilm
	.venv-latest/bin/python $(PYTEST) --hypothesis-profile=random

# The tests of the core with the lowest versions that pyproject.toml allows.
lowest:
	$(SET_UP) lock --venv .venv-lock
	.venv-lock/bin/python tools/versions.py lowest .venv-lock/lowest.txt
	$(SET_UP) core --venv .venv-lowest --constraints .venv-lock/lowest.txt
	.venv-lowest/bin/python $(PYTEST) -m core

# Build what is shipped into dist/ and test the wheel in an empty environment, without extras.
dist:
	$(SET_UP) package --venv .venv-package
	.venv-package/bin/python tools/package.py

# The same, and each extra alone in an empty environment.
package: dist
	.venv-package/bin/python tools/package.py --extras

format:
	$(SET_UP) check --venv $(VENV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .venv-lock .venv-latest .venv-lowest .venv-package dist
