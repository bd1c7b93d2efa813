# Every target installs what it needs into .venv with plain pip, from the hashed locks in requirements/.
# PYTHON names the interpreter that .venv is made with: `make test PYTHON=python3.12`.

PYTHON ?= python3
UPGRADE ?=

# How many processes share the tests: one a core. `make test WORKERS=0` takes none, so that a debugger can ask.
WORKERS ?= auto
PARALLEL := -n $(WORKERS) --dist worksteal

# Without its caches each process of each run compiles the package and rewrites the tests' assertions anew.
unexport PYTHONDONTWRITEBYTECODE

# Another environment, from another lock: `make lowest` is `make coverage integration VENV=.venv-lowest LOCK=lowest`.
VENV := .venv
LOCK := dev
# The lock is whole; older versions of pip look for another version where a pinned library is wanted with an extra.
LOCK_OPTIONS :=
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip --disable-pip-version-check --no-input install --quiet
DEMO := $(VENV)/.demo-stamp
DEV := $(VENV)/.dev-stamp
PEERS := .venv-peers
FOREIGN := .venv-foreign

# The rooms whose every branch has to be run by tests/.
CORE := resilience_kit/_checks.py,resilience_kit/errors.py,resilience_kit/events/*,resilience_kit/outcome.py,resilience_kit/guards.py,resilience_kit/clock.py,resilience_kit/_wait_queue.py,$\
resilience_kit/classification/*,resilience_kit/policies/*,resilience_kit/execution/*,resilience_kit/orchestrator/*,resilience_kit/metrics.py

# What `make integration` runs. `make ci` runs the late files after the tests without servers, beside the others: either half takes as long.
INTEGRATION := integration_tests
LATE := $(wildcard integration_tests/test_[s-z]*.py)
EARLY := $(filter-out $(LATE),$(wildcard integration_tests/test_*.py))

# What is type-checked; pyright looks at tests/typing, which stands for a user's code.
PROGRAMS := $(sort $(dir $(wildcard benchmarks/*.py examples/*.py tests/typing/*.py)))

UV := uv==0.13.8
COMPILE := $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' $(UPGRADE)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test coverage versions integration bench scale outage transport hedging limits adaptive-limit jobs-chaos jobs-throughput stress page peers simulate mutate foreign lint type arrows docs lowest newest freethreaded dist ci lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  make %-15s %s\n' "$$name" "$$text"; done

demo: $(DEMO) ## show a plain client, one with an SDK's retries and a protected one through an outage
	@$(BIN)/resilience-kit demo $(ARGS)

test: $(DEV) ## run tests/ but what is marked slow, with few examples: no network, no server, no sleep, a minute
	@HYPOTHESIS_PROFILE=$${HYPOTHESIS_PROFILE:-quick} $(BIN)/python -m pytest $(PARALLEL) -m 'not slow' tests $(ARGS)

coverage: $(DEV) ## run all of tests/; every branch of the core must run
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(PARALLEL) tests
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --include='$(CORE)' --skip-covered --fail-under=100

versions: ## run tests/ on every interpreter here from 3.11 on, and print a table: ARGS="3.12 3.13", ARGS="-- tests/config"
	@$(PYTHON) tests/versions.py $(ARGS)

integration: $(DEV) ## run integration_tests/: real libraries and real servers on loopback
	@$(BIN)/python -m pytest -m 'not live' $(INTEGRATION)

bench: $(DEV) ## compare the cost of a call with the bare libraries
	@$(BIN)/python benchmarks/overhead.py $(ARGS)

hedging: $(DEV) ## see what hedging does to the slowest calls; ARGS="--write docs/benchmarks/hedging.md"
	@$(BIN)/python benchmarks/hedging.py $(ARGS)

peers: $(PEERS)/.peers-stamp ## compare it with other libraries; ARGS="--write docs/benchmarks" renews the page
	@$(PEERS)/bin/python benchmarks/peers.py $(ARGS)

scale: $(DEV) ## see what becomes of cost and memory with more of everything; ARGS="--runs 2 --write docs/benchmarks/scale.md"
	@$(BIN)/python benchmarks/scale.py $(ARGS)

outage: $(DEV) ## count what retries add to the load of a service that is down
	@$(BIN)/python benchmarks/outage.py $(ARGS)

transport: $(DEV) ## see what a transport costs a request; ARGS="--write docs/benchmarks/transport.md" renews the page
	@$(BIN)/python benchmarks/transport.py $(ARGS)

limits: $(DEV) ## hold the limits to a provider that has some; ARGS="--write docs/benchmarks/limits.md --keep build/adaptive-limit.json" renews the page
	@$(BIN)/python benchmarks/limits.py $(ARGS)

adaptive-limit: $(PEERS)/.peers-stamp ## draw what `make limits` kept of the adaptive limit
	@$(PEERS)/bin/python benchmarks/plot.py build/adaptive-limit.json docs/benchmarks/limits.svg

jobs-chaos: $(DEV) ## kill workers and crash the database while jobs run; ARGS="--write docs/benchmarks/jobs.md"
	@$(BIN)/python benchmarks/jobs_chaos.py $(ARGS)

jobs-throughput: $(DEV) ## count jobs a second beside bare Procrastinate; ARGS="--write docs/benchmarks/jobs.md"
	@$(BIN)/python benchmarks/jobs_throughput.py $(ARGS)

stress: $(DEV) ## fifteen stress tests of the backoff and of the joke service; ARGS=--quick
	@$(BIN)/python benchmarks/stress_test_exponential_backoff.py $(ARGS)
	@$(BIN)/python benchmarks/stress_test_system.py $(ARGS)

page: $(DEV) ## look at the joke service's page with a headless browser, installing one where that is root's to do (apt)
	@INSTALL_BROWSER=1 $(BIN)/python -m pytest integration_tests/test_joke_page.py $(ARGS)

simulate: $(DEV) ## run 10 000 simulated worlds around the core, and find known faults: ARGS="--runs 1000000", ARGS="--seed 7 --trace"
	@$(BIN)/python -m tests.simulation $(ARGS)
	@$(if $(ARGS),,$(BIN)/python -m tests.simulation --faults --runs 3000)

mutate: ## change the core in thousands of ways and see whether a test notices: ARGS="--only breaker"
	@$(MAKE) --no-print-directory .venv-mutate/.dev-stamp VENV=.venv-mutate LOCK=mutate
	@.venv-mutate/bin/python tests/mutation/mutate.py $(ARGS)

foreign: $(FOREIGN)/.foreign-stamp ## run the test suites of other libraries against the kit: ARGS="circuitbreaker httpx"
	@$(FOREIGN)/bin/python integration_tests/foreign/run.py $(ARGS)

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

lowest: ## run both kinds of tests on the lowest versions that pyproject.toml admits
	@$(MAKE) --no-print-directory coverage integration VENV=.venv-lowest LOCK=lowest LOCK_OPTIONS=--no-deps

newest: ## run both on the newest versions that it admits, whatever the lock says
	@$(MAKE) --no-print-directory .venv-newest/.dev-stamp VENV=.venv-newest
	$(subst $(VENV),.venv-newest,$(PIP_INSTALL)) --upgrade --upgrade-strategy eager --no-build-isolation --editable .
	@$(MAKE) --no-print-directory coverage integration VENV=.venv-newest

freethreaded: ## run tests/ without the GIL: make freethreaded PYTHON=python3.14t
	@$(MAKE) --no-print-directory .venv-freethreaded/.dev-stamp VENV=.venv-freethreaded LOCK=freethreaded
	@.venv-freethreaded/bin/python -c 'import sys, pydantic; sys.exit(sys._is_gil_enabled())' 2>/dev/null || { \
		echo "'$(PYTHON)' runs with the GIL; try: make clean freethreaded PYTHON=python3.14t" >&2; exit 1; }
	@.venv-freethreaded/bin/python -m pytest $(PARALLEL) tests

dist: $(DEV) ## build sdist and wheel into dist/, and run the tests of the one on the other
	@rm -rf dist build && mkdir build
	@$(BIN)/python -m hatchling build --target sdist
	@$(BIN)/python -m pip --disable-pip-version-check wheel --quiet --no-deps --no-build-isolation --wheel-dir dist dist/*.tar.gz
	@$(MAKE) --no-print-directory .venv-dist/.dev-lock-stamp VENV=.venv-dist
	$(subst $(VENV),.venv-dist,$(PIP_INSTALL)) --no-deps --force-reinstall dist/*.whl
	@tar -xf dist/*.tar.gz -C build --strip-components 1 --exclude '*/resilience_kit'
	@cd build && ../.venv-dist/bin/python -m pytest $(PARALLEL) tests

ci: lint type arrows ## all that has to be green before a change goes in; all kinds of tests, two of them side by side
	@mkdir -p build
	@{ $(MAKE) --no-print-directory coverage simulate; unit=$$?; \
			$(MAKE) --no-print-directory integration INTEGRATION='$(LATE)'; exit $$((unit + $$?)); } >build/test.log 2>&1 & unit=$$!; \
		$(MAKE) --no-print-directory integration INTEGRATION='$(EARLY)'; integration=$$?; \
		wait $$unit; unit=$$?; cat build/test.log; exit $$((unit + integration))

lock: $(VENV)/.uv-stamp ## write requirements/ anew; UPGRADE=--upgrade takes the newest versions
	$(COMPILE) --output-file requirements/dev.txt --all-extras --group dev
	$(COMPILE) --output-file requirements/demo.txt --extra demo --group build --constraint requirements/dev.txt
	$(COMPILE) --output-file requirements/runtime.txt --constraint requirements/dev.txt
	$(COMPILE) --output-file requirements/freethreaded.txt --extra demo --extra watch --group build --group test --constraint requirements/dev.txt
	$(COMPILE) --output-file $(VENV)/lowest.txt --all-extras --resolution lowest-direct
	$(COMPILE) --output-file requirements/lowest.txt --all-extras --group build --group test --group clients --constraint $(VENV)/lowest.txt
	$(COMPILE) --output-file requirements/mutate.txt --all-extras --group mutate --constraint requirements/dev.txt
	$(COMPILE) --output-file requirements/peers.txt --group peers --constraint requirements/dev.txt
	$(COMPILE) --output-file requirements/foreign.txt --extra http --group foreign --constraint requirements/dev.txt

clean: ## remove the virtual environments and everything that tools left behind
	rm -rf $(VENV) .venv-* dist build .coverage .hypothesis .mutation .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

%/.made-stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "resilience_kit needs Python 3.11 or newer, and '$(PYTHON)' is not; try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "'$(PYTHON)' has no venv module; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $*
	@touch $@

# The dev set holds all of the demo's, so that whoever has it needs no second install.
$(VENV)/.dev-lock-stamp: requirements/$(LOCK).txt | $(VENV)/.made-stamp
	$(PIP_INSTALL) --require-hashes $(LOCK_OPTIONS) -r requirements/$(LOCK).txt
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

$(FOREIGN)/.foreign-stamp: requirements/foreign.txt pyproject.toml | $(FOREIGN)/.made-stamp
	$(subst $(BIN),$(FOREIGN)/bin,$(PIP_INSTALL)) --require-hashes -r requirements/foreign.txt
	$(subst $(BIN),$(FOREIGN)/bin,$(PIP_INSTALL)) --no-deps --no-build-isolation --editable .
	@touch $@

# What the peers need is kept from what the kit is developed with.
$(PEERS)/.peers-stamp: requirements/peers.txt pyproject.toml | $(PEERS)/.made-stamp
	$(subst $(BIN),$(PEERS)/bin,$(PIP_INSTALL)) --require-hashes -r requirements/peers.txt
	$(subst $(BIN),$(PEERS)/bin,$(PIP_INSTALL)) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.uv-stamp: | $(VENV)/.made-stamp
	$(PIP_INSTALL) $(UV)
	@touch $@
