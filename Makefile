# Everything here works in a virtual environment of its own. PYTHON names the interpreter to make it with.
PYTHON ?= python3
VENV ?= .venv
OUT ?= out
TESTS ?= tests/device tests/qemu
KERNEL ?=
STACKS ?= 6.1 6.12 6.12/13
ALONE := $(if $(filter tests/device,$(TESTS)),tests/device/test_link_taken_down.py)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# rdma-core-tests: rdma-core's own tests of pyverbs on simulated devices, fetched from the packages of Debian 12 (version 44)
# and 13 (56), on each profile; DEBIAN and PROFILE name fewer, SHOW=--list names what is skipped.
# pictures: makes those of README.md anew; notebooks: runs them and keeps what they give. test-device: the tests that
# need RDMA devices, in the lab (`simmig lab`); TESTS names fewer of them, KERNEL another kernel, e.g. 6.12. test-rules: the
# rules alone, on every stack that docs/deviations.md has a column for; STACKS names fewer.
# docs: the documentation as a site, in build/site; a broken link or name in it is an error.
.PHONY: demo test test-device test-rules rdma-core-tests bench lint pictures notebooks docs

demo: $(VENV)/.installed
	@$(BIN)/simmig demo --out $(OUT)

test: $(VENV)/.developing
	$(BIN)/python -m pytest -n auto

test-device: $(VENV)/.developing
	SIMMIG_TEST_DEVICE=required $(BIN)/simmig lab $(if $(KERNEL),--kernel $(KERNEL)) --timeout '60 min' -- \
	sh -c 'for tests in "$(TESTS)" $(ALONE); do $(abspath $(BIN))/python -m pytest -p no:xdist $$tests || exit; done'

# Each stack is a kernel, with the Debian whose user space and pyverbs go with it after a slash where it is not this system's.
test-rules: $(VENV)/.developing
	@for stack in $(STACKS); do echo "rules on $$stack"; kernel=$${stack%/*}; \
	case $$stack in */*) debian="--debian $${stack#*/}" python=/usr/bin/python3 ;; *) debian= python=$(abspath $(BIN))/python ;; esac; \
	$(BIN)/simmig lab --kernel $$kernel $$debian --timeout '30 min' -- env SIMMIG_TEST_DEVICE=required PYTHONPATH=$(CURDIR) \
	$$python -m pytest -p no:xdist -p no:cacheprovider --tb=short tests/device/test_rules_*.py || exit; done

rdma-core-tests: $(VENV)/.developing
	timeout 1800 $(BIN)/python -m tests.verbs.pyverbs.rdma_core $(if $(DEBIAN),--debian $(DEBIAN)) $(if $(PROFILE),--profile $(PROFILE)) $(SHOW)

bench: $(VENV)/.developing
	@set -e; for benchmark in benchmarks/[a-z]*.py; do echo "$$benchmark"; $(BIN)/python "$$benchmark"; done

lint: $(VENV)/.developing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

pictures: $(VENV)/.installed
	rm -rf build/pictures build/drain-question
	$(BIN)/simmig demo --out build/pictures
	$(BIN)/simmig sweep scenarios/sweeps/drain-question.toml --out build/drain-question
	$(BIN)/simmig plot build/drain-question --out build/pictures/drain-question
	cp build/pictures/*.png docs/images/
	cp build/pictures/drain-question/tradeoff.png docs/images/drain-question.png

notebooks: $(VENV)/.developing
	PYTHONPATH="$(CURDIR)" $(BIN)/python notebooks/execute.py

docs: $(VENV)/.documenting
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --fresh-env docs build/site
	@echo "the documentation is in build/site/index.html"

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; v = sys.version_info; \
	sys.exit(0 if v >= (3, 11) else "simmig needs Python 3.11 or newer, and " + sys.executable + \
	" is %d.%d. Name a newer one: make PYTHON=python3.12" % v[:2])'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.made
	$(PIP) --editable '.[plot,report,sweep,advise]'
	@touch $@

$(VENV)/.documenting: pyproject.toml $(VENV)/.made
	$(PIP) --editable '.[docs]'
	@touch $@

$(VENV)/.developing: pyproject.toml $(VENV)/.made
	$(PIP) --editable '.[plot,report,sweep,advise,notebooks,dev]'
	@touch $@ $(VENV)/.installed
