# One command each; `make help` lists them. Everything happens in .venv, nothing outside this folder is changed.
# pip's own configuration (indexes, proxies, certificates) stays in charge of where packages come from.

PYTHON ?= python3
# Further arguments for pytest, for example: make test ARGS="-k oracle"
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMPS := .make
PIP := $(BIN)/python -m pip --disable-pip-version-check
MEMBERS := ./drivers/event-model ./drivers/core ./drivers/source-fs ./drivers/pusher-fusion ./drivers/pusher-echo \
           ./drivers/fusion ./supervisor
DISTRIBUTIONS := $(MEMBERS) .
PROJECTS := pyproject.toml setup.cfg $(wildcard drivers/*/pyproject.toml) supervisor/pyproject.toml

# Two makes may start at once: the set-up is made by one of them, the other waits and finds it done.
LOCKED := $(if $(shell command -v flock 2>/dev/null),flock $(STAMPS)/lock)

# As given, without a second expansion: a path may hold spaces, quotes and dollars.
override WATCH := $(value WATCH)
export WATCH

ifneq ($(filter run,$(MAKECMDGOALS)),)
ifeq ($(WATCH),)
$(error WATCH is not set: name the directory to watch, for example `make run WATCH=/some/dir`)
endif
endif

# Whoever removed the environment wants it made again.
ifeq ($(wildcard $(BIN)/python),)
$(shell rm -f $(STAMPS)/venv $(STAMPS)/runtime $(STAMPS)/dev)
endif

.PHONY: help run test lint type bench chaos wheels pins clean setup setup-dev
.DEFAULT_GOAL := help

help:  ## list the commands
	@sed -n 's/^\([a-z][a-z-]*\):.*## /\1|/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{printf "make %-10s %s\n", $$1, $$2}'

run: setup  ## watch a directory in the foreground: make run WATCH=/some/dir
	@exec $(BIN)/fustor-agent start --watch "$$WATCH"

test: setup-dev  ## all tests but chaos and bench; ARGS goes to pytest
	$(BIN)/python $(if $(ARGS),-m pytest $(ARGS),tests/halves.py)

lint: setup-dev  ## ruff
	$(BIN)/ruff check .

type: setup-dev  ## mypy, strict
	$(BIN)/mypy

chaos: setup-dev  ## long random runs
	$(BIN)/python -m pytest -m chaos $(ARGS)

bench: setup-dev  ## every tests/bench/bench_*.py, one table after the other
	@set -e; for bench in tests/bench/bench_*.py; do PYTHONPATH=tests/lib:tests/peers $(BIN)/python "$$bench"; done

# build/ is emptied first: setuptools would pack what a deleted module left there.
wheels: setup  ## one wheel per distribution, in dist/
	rm -rf build $(addsuffix /build,$(MEMBERS)) dist
	$(PIP) wheel --quiet --no-deps --no-build-isolation --wheel-dir dist $(DISTRIBUTIONS)
	@ls dist

clean:  ## remove the environment and everything that was built
	rm -rf $(VENV) $(STAMPS) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*
	rm -rf $(addsuffix /build,$(MEMBERS)) *.egg-info $(addsuffix /src/*.egg-info,$(MEMBERS))
	find fustor_agent drivers supervisor tests -name __pycache__ -type d -prune -exec rm -rf {} +

# -- set-up ------------------------------------------------------------------------------

setup setup-dev: $(STAMPS)
	@$(LOCKED) $(MAKE) --silent --no-print-directory $(STAMPS)/$(if $(filter setup,$@),runtime,dev)

$(STAMPS):
	@mkdir -p $@

$(STAMPS)/venv:
	@$(PYTHON) -c '' || { echo "$(PYTHON) does not run; name another: make PYTHON=python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is $$($(PYTHON) -V 2>&1), 3.11 or newer is needed; name another: make PYTHON=python3.11 ..." >&2; exit 1; }
	@echo "Making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# setuptools comes first and alone: pyinotify is built from source, by the pinned setuptools.
$(STAMPS)/runtime: constraints.txt $(PROJECTS) $(STAMPS)/venv
	@echo "Installing what constraints.txt names ..."
	@awk '/^setuptools==/ {found = 1} found {print} found && !/\\$$/ {exit}' constraints.txt > $(STAMPS)/build.txt
	@$(PIP) install --quiet --require-hashes -r $(STAMPS)/build.txt
	@$(PIP) install --quiet --require-hashes --no-build-isolation -r constraints.txt
	@$(PIP) install --quiet --no-deps --no-build-isolation $(addprefix -e ,$(DISTRIBUTIONS))
	@touch $@

$(STAMPS)/dev: constraints-dev.txt $(STAMPS)/runtime
	@echo "Installing what constraints-dev.txt names ..."
	@$(PIP) install --quiet --require-hashes --no-build-isolation -r constraints-dev.txt
	@touch $@

# -- pins --------------------------------------------------------------------------------

# All wheels and the source archive of each version, so that one file serves every Python and machine.
# An index is never written down. The pins that stand are kept where they still fit; remove the files to renew all.
PIN := $(STAMPS)/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
       --no-header --no-annotate --no-emit-index-url \
       $(foreach member,$(MEMBERS),--no-emit-package fustor-$(notdir $(member)))

pins: $(STAMPS)  ## compute constraints.txt and constraints-dev.txt anew from the pyproject files
	@test -x $(STAMPS)/uv/bin/uv || { $(PYTHON) -m venv $(STAMPS)/uv && $(STAMPS)/uv/bin/python -m pip install --quiet uv; }
	@sed -n 's/^requires = \["\(setuptools==.*\)"\]$$/\1/p' pyproject.toml > $(STAMPS)/build.in
	$(PIN) pyproject.toml $(STAMPS)/build.in --output-file constraints.txt
	$(PIN) pyproject.toml $(STAMPS)/build.in --extra dev --constraints constraints.txt --output-file constraints-dev.txt
