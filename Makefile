# One command each. `make` alone lists them.
#
#   PYTHON    the Python that makes the virtual environment (3.11 or later)
#   PORT      where the server listens in `make run`      (8288)
#   APP_PORT  where the example app listens in `make run` (the first free of the usual ones, from 8000)
#   PARTS     which parts of the tests to run, such as PARTS="unit repo" (all)
#   ARGS      more options: of `perdure dev` in `make run`, and of `make bench`, `make sim`, `make kill`

PYTHON ?= python3
PORT ?= 8288
APP_PORT ?=
PARTS ?=
ARGS ?=

VENV_PYTHON := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help run test lint ui bench sim kill docs wheel lock clean python

help:
	@echo "make run    start the server and the example app"
	@echo "make test   lint, types and every test; PARTS=\"unit repo\" picks some"
	@echo "make lint   ruff, mypy --strict and the layers"
	@echo "make ui     build the pages anew, with the types of the server's API"
	@echo "make sim    simulate until stopped; ARGS=\"--seed 7\" replays one history"
	@echo "make kill   kill the server and the app ten times during 1,000 runs; ARGS=\"-k bare\" picks some"
	@echo "make bench  measure speed"
	@echo "make docs   check the documents: every link leads somewhere"
	@echo "make wheel  build the package into dist/"
	@echo "make lock   make the lock files anew, from pyproject.toml"
	@echo "make clean  remove the virtual environment and what was built"

python:
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { \
	  echo "'$(PYTHON)' was not found. Perdure needs Python 3.11 or later: install it, or name it with"; \
	  echo "  make $(or $(MAKECMDGOALS),run) PYTHON=/path/to/python3"; exit 1; }

run: python
	@$(PYTHON) scripts/environment.py run
	@exec $(VENV_PYTHON) scripts/run_example.py --port "$(PORT)" $(if $(APP_PORT),--app-port "$(APP_PORT)") $(ARGS)

test: python
	@$(PYTHON) scripts/environment.py test
	@exec $(VENV_PYTHON) scripts/run_tests.py $(PARTS)

lint: python
	@$(PYTHON) scripts/environment.py test --no-node
	@exec $(VENV_PYTHON) scripts/run_tests.py lint

ui: python
	@$(PYTHON) scripts/environment.py test
	@$(VENV_PYTHON) scripts/api_document.py
	@cd ui && PATH="$$PATH:$(CURDIR)/.venv/node/bin" npm run --silent types
	@$(PYTHON) scripts/environment.py test
	@echo "the pages are up to date"

bench: python
	@$(PYTHON) scripts/environment.py test
	@exec $(VENV_PYTHON) -m bench $(ARGS)

sim: python
	@$(PYTHON) scripts/environment.py test --no-node
	@exec $(VENV_PYTHON) -m tests.sim $(ARGS)

kill: python
	@$(PYTHON) scripts/environment.py test --no-node
	@exec env KILL_RUNS=1000 KILL_TIMES=10 EMBEDDED_RUNS=1000 EMBEDDED_KILLS=10 \
		$(VENV_PYTHON) -m pytest -q -s tests/integration/durability tests/integration/embedded/test_kill.py $(ARGS)

docs: python
	@$(PYTHON) scripts/environment.py test --no-node
	@exec $(VENV_PYTHON) -m pytest -q tests/repo/test_documents.py

wheel: python
	@$(PYTHON) scripts/environment.py test --no-node
	@$(VENV_PYTHON) -m hatchling build -t wheel
	@ls dist/*.whl

lock: python
	@$(PYTHON) scripts/environment.py lock
	@exec $(VENV_PYTHON) scripts/lock.py

clean:
	rm -rf .venv dist build ui/node_modules src/perdure/server/pages/static .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
