# `make help` lists the targets. Everything runs in .venv, which is made from requirements/dev.txt when that, or
# pyproject.toml, has changed. Python is found as `python3`; another is named by `make PYTHON=...`.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
SEEDS ?= 1000

export PYTHON
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo chat chat-classic test verify static quorate-static format lint types imports fix sim torture bench recovery lock clean
.NOTPARALLEL:
.DEFAULT_GOAL := help

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## watch three replicas lose their leader and lose nothing, in under a minute
	$(BIN)/quorate demo

chat: $(INSTALLED) ## run the chat as three copies behind Quorate, until Ctrl-C
	$(MAKE) -C apps/chat build
	apps/chat/run replicated

chat-classic: ## run the chat on Kafka, RabbitMQ, Redis, PostgreSQL, until Ctrl-C
	$(MAKE) -C apps/chat build servers
	apps/chat/run classic

test: $(INSTALLED) ## run all tests, real processes included (TESTS=... names some of Quorate's)
	@.ci/ensure node nft strace ip
ifdef TESTS
	$(BIN)/python -m pytest $(TESTS)
else
	@.ci/test
endif

verify: static test ## the whole gate; changes nothing

static: quorate-static ## the gate without the tests
	$(MAKE) -C apps/chat static

quorate-static: format lint types imports # without the chat's

format: $(INSTALLED)
	$(BIN)/ruff format --check .

lint: $(INSTALLED)
	$(BIN)/ruff check .

types: $(INSTALLED)
	$(BIN)/mypy

imports: $(INSTALLED)
	$(BIN)/lint-imports

fix: $(INSTALLED) ## format, and correct what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(MAKE) -C apps/chat fix

sim: $(INSTALLED) ## simulate SEEDS clusters of each core under faults (1000), and the planted bugs
	$(BIN)/quorate sim --core paxos --seeds $(SEEDS)
	$(BIN)/quorate sim --core raft --seeds $(SEEDS)
	$(BIN)/quorate sim --planted

recovery: $(INSTALLED) ## measure checkpoints, catch-up, fail-over and growth (20 minutes; RECOVERY=... names some)
	@.ci/ensure wrk
	$(BIN)/python -m bench.recovery $(RECOVERY)

torture: $(INSTALLED) ## hurt real clusters for an hour: kills, kill points, flips, networks, members
	@.ci/ensure node nft strace ip
	$(BIN)/python -m tests.faults.torture

bench: $(INSTALLED) ## measure against one app, nginx and bare copies; results go to bench/results
	@.ci/ensure wrk nginx
	$(BIN)/python -m bench.run $(BENCH)

lock: ## pin anew what pyproject.toml allows
	@.ci/ensure python
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --upgrade --group dev '.[all]' hatchling==1.33.0 editables
	sed -n '/^#/p' requirements/dev.txt > requirements/dev.new
	$(BIN)/python -m pip freeze --exclude quorate >> requirements/dev.new
	mv requirements/dev.new requirements/dev.txt

clean: ## remove what was made here
	rm -rf .venv build dist .*_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The lock holds hatchling too, so that nothing is fetched that it does not name.
$(INSTALLED): pyproject.toml requirements/dev.txt
	@.ci/ensure python
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable '.[fast,bench]'
	$(BIN)/python -m pip check
	@touch $@
