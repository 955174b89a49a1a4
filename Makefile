# make demo     run the example, from generated data to results reused across pipelines
# make test     run all tests
# make quick    run the tests that take less than a second each
# make check    check lint, format, types and layers
# make core     run the quick tests against the built wheel, installed without extras
# make lowest   run the quick tests with the oldest Python and the lowest allowed versions
# make latest   run the quick tests with Python 3.13 and the newest versions
# make coverage run all tests, and check that they reach 92 % of the branches (`make test COVERAGE=1` does the same)
# make driver-coverage  check that tests without threads reach every branch of the driver's core
# make mutants  make small changes in the source and see whether a test notices each
# make evidence run the long campaigns that are not part of the tests
# make changelog  print the changelog that the files in changes/ make
# make lock     lock the newest versions for the development environment (needs uv)
# make bench    run the benchmarks, save their results for this version and write them into the README
# make audit    look up advisories for the installed and for the lowest allowed versions
#
# All commands work in a fresh clone: they create .venv, install what they need, and repeat this when pyproject.toml changes.
# PYTHON=/path/to/python3.12 selects an interpreter. If uv is on the PATH, it is used to install packages.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Tests start hundreds of processes; none should have to compile everything again.
unexport PYTHONDONTWRITEBYTECODE

VENV ?= .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)

SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c '$(SUPPORTED)' >/dev/null 2>&1 && echo "$$p" && break; done)

# Tests of several processes wait as much as they compute, so four at a time pay even on two cores.
PYTEST := $(BIN)/python -m pytest -n 4

.PHONY: help demo test quick lowest latest coverage driver-coverage mutants evidence check core bench changelog lock audit clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo: $(VENV)/.demo
	$(BIN)/python -m examples.tpch.demo

test: $(VENV)/.dev
	@# Servers for tests, where there is apt: a test has a time limit, a download may take longer. What fails is told there.
	@if command -v apt-get >/dev/null; then $(BIN)/python -m tests.servers.packages radosgw ceph-mon ceph-osd || true; fi
	$(if $(COVERAGE),$(MAKE) --no-print-directory coverage,$(PYTEST))

quick: $(VENV)/.dev
	$(PYTEST) -m "not slow"

# Environments of their own, in build/versions. Where there is no such Python that is said, and in CI it is a failure.
lowest latest: $(VENV)/.dev
	$(BIN)/python -m tests.versions.quick $@ build/versions -n 2

# Takes longer than the tests alone: tracing doubles their time. Slow tests that reach few new branches are marked `untraced`.
# Worker processes are counted unless they are killed, which leaves half a file.
coverage: $(VENV)/.dev
	$(call install,$(VENV)) --group coverage
	rm -f .coverage .coverage.*
	mkdir -p build
	failed=0; $(BIN)/python -m coverage run -m pytest -n 4 || failed=1; \
	$(BIN)/python -W ignore -m coverage combine --quiet 2> build/coverage.log || failed=1; \
	$(BIN)/python -m coverage report > build/coverage.txt; \
	$(BIN)/python -m coverage json --quiet -o build/coverage.json; \
	$(BIN)/python -m tests.branches build/coverage.json 92 || failed=1; \
	exit $$failed

# Quick. The loop around the core and what it has carried out have threads, and are not in it.
driver-coverage: $(VENV)/.dev
	$(call install,$(VENV)) --group coverage
	mkdir -p build
	rm -f build/driver-coverage*
	export COVERAGE_FILE=build/driver-coverage; \
	$(BIN)/python -m coverage run -m pytest tests/driver && $(BIN)/python -m coverage combine --quiet && \
	$(BIN)/python -m coverage report --fail-under=100 \
		--include='penstock/driver/*' --omit='penstock/driver/effects/*,penstock/driver/loop.py,penstock/driver/inbox.py'

# About an hour. `$(BIN)/python -m tests.mutants --known --again` tries only what survived, see there.
mutants: $(VENV)/.dev
	$(call install,$(VENV)) --group coverage
	$(BIN)/python -m tests.mutants

evidence: $(VENV)/.dev
	PENSTOCK_EVIDENCE=1 $(PYTEST) -m evidence

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks --keep

changelog: $(VENV)/.dev
	$(BIN)/towncrier build --draft --version unreleased

lock:
	$(if $(UV),,$(error make lock needs uv))
	mkdir -p build
	echo '# The versions of the development environment; `make lock` updates them. For users pyproject.toml alone counts.' > build/lock
	"$(UV)" pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --all-extras --group dev pyproject.toml >> build/lock
	mv build/lock requirements-dev.lock

# Both are looked up before either failure counts. The lowest versions are resolved by uv, which alone can do that.
audit: $(VENV)/.dev
	$(if $(UV),"$(UV)" venv --quiet --clear build/audit && "$(UV)" pip install --quiet --python build/audit/bin/python pip-audit,\
		"$(PYTHON)" -m venv --clear build/audit && build/audit/bin/python -m pip install --quiet pip-audit)
	$(BIN)/python -m pip list --format=freeze --exclude penstock > build/audit/installed.txt
	failed=0; \
	build/audit/bin/pip-audit --no-deps --disable-pip -r build/audit/installed.txt || failed=1; \
	if [ -n "$(UV)" ]; then \
		"$(UV)" pip compile --quiet --resolution lowest-direct --all-extras pyproject.toml -o build/audit/lowest.txt; \
		build/audit/bin/pip-audit --no-deps --disable-pip -r build/audit/lowest.txt || failed=1; \
	else echo "the lowest versions were not looked up: there is no uv"; fi; \
	exit $$failed

# A copy of the tests in another folder finds no source tree beside it, only the wheel that is installed.
core: $(VENV)/.dev
	rm -rf build/core
	mkdir -p build/core
	$(BIN)/python -m hatchling build -t wheel -d "$(CURDIR)/build/core"
	$(MAKE) --no-print-directory build/core/venv/.made VENV=build/core/venv
	$(call install,build/core/venv) build/core/penstock-*.whl --group test
	cp -R tests pyproject.toml build/core/
	cd build/core && PENSTOCK_CORE_ONLY=1 venv/bin/python -m pytest -n 2 -m "not slow"

clean:
	rm -rf .venv build dist

# --- environments ----------------------------------------------------------------------------------------------------

install = $(if $(UV),"$(UV)" pip install --quiet --python $(1)/bin/python,$(1)/bin/python -m pip install --quiet)

$(VENV)/.made:
	@if [ -z "$(PYTHON)" ] || ! "$(PYTHON)" -c '$(SUPPORTED)'; then \
		echo "Penstock needs Python 3.11 to 3.14$(if $(PYTHON),; $(PYTHON) is another,; none was found)." >&2; \
		echo "Install one (apt install python3, brew install python), or say make PYTHON=/path/to/python3." >&2; \
		exit 1; \
	fi
	@rm -rf $(VENV)
ifneq ($(UV),)
	"$(UV)" venv --quiet --python "$(PYTHON)" $(VENV)
else
	@if ! "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null; then \
		version=$$("$(PYTHON)" -c 'import sys; print("{}.{}".format(*sys.version_info))'); \
		echo "$(PYTHON) cannot make virtual environments: its packages venv and ensurepip are missing." >&2; \
		echo "On Debian and Ubuntu: sudo apt install python$$version-venv. Or install uv, which needs neither." >&2; \
		exit 1; \
	fi
	"$(PYTHON)" -m venv $(VENV)
	@# The pip a Python brings may be older than dependency groups.
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
endif
	@touch $@

$(VENV)/.dev: pyproject.toml requirements-dev.lock | $(VENV)/.made
	$(call install,$(VENV)) --constraint requirements-dev.lock --editable . --group dev
	@touch $@ $(VENV)/.demo

$(VENV)/.demo: pyproject.toml | $(VENV)/.made
	$(call install,$(VENV)) --editable . --group demo
	@touch $@
