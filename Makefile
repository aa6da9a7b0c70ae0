# netpress: `make demo` and `make test` need no other preparation. Each installs what it needs into .venv, once: as long as
# pyproject.toml and constraints.txt stay as they are, no package index is asked again, so that a second run works offline.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
DEMO_ARGS ?= -o demo-out

# Which torch: what .venv was made for; without one, cuda where there is an NVIDIA driver, else cpu.
ifndef TORCH
TORCH := $(patsubst $(VENV)/.made-for-%,%,$(firstword $(wildcard $(VENV)/.made-for-*)))
endif
ifeq ($(strip $(TORCH)),)
TORCH := $(shell nvidia-smi >/dev/null 2>&1 && echo cuda || echo cpu)
endif
ifeq ($(filter cpu cuda,$(TORCH)),)
$(error TORCH is '$(TORCH)'; allowed: cpu, cuda)
endif

# A further package index, for builds of torch that the default one does not carry (see README.md).
TORCH_INDEX ?=
ifeq ($(TORCH)$(strip $(TORCH_INDEX)),cuda)
# `===` is the build without a label, which on Linux is the one for CUDA, even where a labelled build is on offer, too.
TORCH_BUILD := 'torch===$(shell sed -n 's/^torch==//p' constraints.txt)'
endif

PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --constraint constraints.txt $(if $(strip $(TORCH_INDEX)),--extra-index-url $(TORCH_INDEX))
MADE := $(VENV)/.made-for-$(TORCH)
USER_READY := $(VENV)/.installed-data
DEV_READY := $(VENV)/.installed-dev
KERNELS := $(VENV)/.kernels-built

.DEFAULT_GOAL := help
.PHONY: help demo kernels test test-slow lint format build check-wheel clean distclean

help: ## Say what can be made
	@echo "usage: make TARGET [PYTHON=python3.12] [TORCH=cpu|cuda] [TORCH_INDEX=URL] [PYTEST_ARGS=...]"; echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' Makefile | while IFS='|' read -r name text; do printf '%-14s %s\n' "$$name" "$$text"; done

demo: $(USER_READY) $(KERNELS) ## Compress a small network and show what it cost: demo-out/report.html
	@$(BIN)/netpress demo $(DEMO_ARGS)

kernels: $(USER_READY) $(KERNELS) ## Compile what changed in src/netpress/kernels

test: $(DEV_READY) $(KERNELS) ## Run the tests, except those marked slow
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

test-slow: $(DEV_READY) $(KERNELS) ## Run the tests marked slow
	@$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

lint: $(DEV_READY) ## Check style, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(DEV_READY) ## Put the code into its format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

build: $(DEV_READY) ## Build the wheel and the source distribution: dist/
	@rm -rf dist build
	@$(BIN)/python -m build --no-isolation --outdir dist

check-wheel: build ## Install the wheel alone into a fresh environment and run it there
	@set -e; fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	$(BIN)/python -m venv "$$fresh/venv"; \
	"$$fresh/venv/bin/python" -m pip --disable-pip-version-check install --quiet --constraint constraints.txt \
	  $(if $(strip $(TORCH_INDEX)),--extra-index-url $(TORCH_INDEX)) $(TORCH_BUILD) dist/*.whl; \
	cd "$$fresh"; \
	venv/bin/netpress --help >/dev/null; \
	venv/bin/netpress methods --json >methods.json; \
	venv/bin/python -c "import json; print('the wheel runs alone;', len(json.load(open('methods.json'))['methods']), 'methods')"

clean: ## Remove what was built, and caches
	rm -rf build dist demo-out src/netpress/kernels/*.so src/*.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	rm -f $(KERNELS)
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## Remove the environment, too
	rm -rf $(VENV)

# The environment. One that was made for another torch is made anew; one that make did not make is used as it is.
$(MADE):
	@command -v "$(PYTHON)" >/dev/null || { echo "netpress needs Python 3.11 or later, and there is no '$(PYTHON)'; name yours: make PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "netpress needs Python 3.11 or later; '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1); name another: make PYTHON=python3.12" >&2; exit 1; }
	@if ls $(VENV)/.made-for-* >/dev/null 2>&1; then echo "$(VENV) was made for another torch: making it anew"; rm -rf $(VENV); fi
	@"$(PYTHON)" -m venv $(VENV) || { echo "'$(PYTHON) -m venv' failed; on Debian and Ubuntu it needs: apt install python3-venv" >&2; exit 1; }
	@touch $@

$(USER_READY): $(MADE) pyproject.toml constraints.txt
	@echo "installing netpress for its users into $(VENV) (torch for $(TORCH)), once; a minute or two where the index is near ..."
	@$(INSTALL) --quiet setuptools
	@$(INSTALL) --quiet --no-build-isolation $(TORCH_BUILD) --editable '.[data]'
	@touch $@

$(DEV_READY): $(MADE) pyproject.toml constraints.txt
	@echo "installing netpress for its developers into $(VENV) (torch for $(TORCH)), once; a minute or two where the index is near ..."
	@$(INSTALL) --quiet setuptools
	@$(INSTALL) --quiet --no-build-isolation $(TORCH_BUILD) --editable '.[dev]'
	@touch $@ $(USER_READY)

# After an installation they are compiled already; this is for what changed since. Needs a C compiler, as the installation did.
$(KERNELS): $(wildcard src/netpress/kernels/*.c src/netpress/kernels/*.h) setup.py | $(USER_READY)
	@$(BIN)/python setup.py --quiet build_ext --inplace
	@touch $@
