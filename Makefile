# Every target installs what it needs into .venv with plain pip, from the hashed locks in requirements/.
# PYTHON names the interpreter that .venv is made with: `make test PYTHON=python3.12`.

PYTHON ?= python3
UPGRADE ?=

VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip --disable-pip-version-check --no-input install --quiet
DEMO := $(VENV)/.demo-stamp
DEV := $(VENV)/.dev-stamp

# The rooms whose every branch has to be run by tests/.
CORE := resilience_kit/_checks.py,resilience_kit/errors.py,resilience_kit/events.py,resilience_kit/outcome.py,$\
resilience_kit/classification/*,resilience_kit/policies/*,resilience_kit/_drive/*,resilience_kit/orchestrator/*,resilience_kit/metrics.py

# What is type-checked; pyright looks at tests/typing, which stands for a user's code.
PROGRAMS := $(sort $(dir $(wildcard benchmarks/*.py examples/*.py tests/typing/*.py)))

UV := uv==0.13.8
COMPILE := $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' $(UPGRADE)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test integration bench lint type arrows docs ci lock clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  make %-12s %s\n' "$$name" "$$text"; done

demo: $(DEMO) ## show a plain client and a protected one through an outage, side by side
	@$(BIN)/resilience-kit demo $(ARGS)

test: $(DEV) ## run tests/: no network, no server, no sleep; every branch of the core must run
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest tests
	@$(BIN)/coverage report --include='$(CORE)' --skip-covered --fail-under=100

integration: $(DEV) ## run integration_tests/: real libraries and real servers on loopback
	@$(BIN)/python -m pytest integration_tests

bench: $(DEV) ## compare the cost of a call with the bare libraries
	@$(BIN)/python benchmarks/overhead.py $(ARGS)

lint: $(DEV) ## ruff, with every rule on that has no written reason to be off
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .

type: $(DEV) ## mypy strict, and pyright strict on the public face
	@$(BIN)/mypy resilience_kit $(PROGRAMS)
	@$(BIN)/pyright

arrows: $(DEV) ## the import arrows between the rooms
	@$(BIN)/lint-imports

docs: $(DEV) ## run the code blocks and check the links of README.md and docs/
	@$(BIN)/python -m pytest tests/test_docs.py integration_tests/test_docs_with_server.py

ci: lint type arrows test integration ## all that has to be green before a change goes in

lock: $(VENV)/.uv-stamp ## write requirements/ anew; UPGRADE=--upgrade takes the newest versions
	$(COMPILE) --output-file requirements/dev.txt --all-extras --group dev
	$(COMPILE) --output-file requirements/demo.txt --extra demo --group build --constraint requirements/dev.txt
	$(COMPILE) --output-file requirements/runtime.txt --constraint requirements/dev.txt
	$(COMPILE) --output-file requirements/peers.txt --group peers --constraint requirements/dev.txt

clean: ## remove .venv and everything that tools left behind
	rm -rf $(VENV) dist build .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made-stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "resilience_kit needs Python 3.11 or newer, and '$(PYTHON)' is not; try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "'$(PYTHON)' has no venv module; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# The dev set holds all of the demo's, so that whoever has it needs no second install.
$(VENV)/.dev-lock-stamp: requirements/dev.txt | $(VENV)/.made-stamp
	$(PIP_INSTALL) --require-hashes -r requirements/dev.txt
	@touch $@ $(VENV)/.demo-lock-stamp

$(VENV)/.demo-lock-stamp: requirements/demo.txt | $(VENV)/.made-stamp
	$(PIP_INSTALL) --require-hashes -r requirements/demo.txt
	@touch $@

$(DEV): $(VENV)/.dev-lock-stamp pyproject.toml
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@ $(DEMO)

$(DEMO): $(VENV)/.demo-lock-stamp pyproject.toml
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.uv-stamp: | $(VENV)/.made-stamp
	$(PIP_INSTALL) $(UV)
	@touch $@
