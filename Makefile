# The commands of the project; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# What every Python from 3.11 on needs, on any platform; pins that are there stay unless UPGRADE is set.
LOCK := $(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command "make lock" $(if $(UPGRADE),--upgrade) --all-extras --group site
PACKAGES := PYTHON="$(PYTHON)" sh project/setup/packages.sh
# Tests wait for servers much of the time: one process more than there are processors, each with servers of its own.
AT_ONCE := -n $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1) --maxprocesses 4 --dist worksteal
# Tests that need nothing but Python's packages.
QUICK := tests/unit tests/test_layers.py
# Linters load the settings: as a production site has them, and without a file of this one.
PRODUCTION := env -u HTTPS -u DEBUG -u REDIS_URL DATABASE_URL=sqlite://:memory: ALLOWED_HOSTS=pubsub.example.org \
	SECRET_KEY=only-for-linters-which-look-at-its-length-0123456789-abcdef

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run test test-long unit lint docs translations screenshots lock oracle bench clean python-packages run-packages test-packages

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13

run: run-packages $(VENV)/run.stamp  ## serve the admin with the cache at work (XMPP_JID, XMPP_PASSWORD: your account)
	@exec $(BIN)/python -m project.run

test: test-packages lint  ## run the tests on SQLite, and those that depend on the database on PostgreSQL too
	$(BIN)/python -m pytest $(AT_ONCE)
	$(BIN)/python -m pytest $(AT_ONCE) --database=postgresql

test-long: test-packages lint  ## run every test on both databases with all its cases, before a release
	ORACLE_EXAMPLES=100 $(BIN)/python -m pytest $(AT_ONCE) --long
	ORACLE_EXAMPLES=100 $(BIN)/python -m pytest $(AT_ONCE) --long --database=postgresql

unit: $(VENV)/test.stamp  ## run the quick tests, which need no server
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal $(QUICK)

lint: $(VENV)/test.stamp  ## check style, types, migrations and deployment settings
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(PRODUCTION) $(BIN)/mypy
	$(PRODUCTION) $(BIN)/python manage.py makemigrations --check --dry-run
	$(PRODUCTION) $(BIN)/python manage.py check --deploy --fail-level WARNING

docs: $(VENV)/test.stamp  ## write the generated parts of docs/analysers.md
	$(PRODUCTION) $(BIN)/python -m docs.generate

translations: $(VENV)/test.stamp  ## collect the texts for the French translation, and compile it (needs gettext)
	$(PRODUCTION) $(BIN)/python manage.py makemessages --locale fr --no-obsolete --add-location file \
		--ignore tests --ignore docs --ignore var
	$(PRODUCTION) $(BIN)/python manage.py compilemessages --locale fr --ignore .venv --ignore var

screenshots: test-packages $(VENV)/test.stamp  ## take the pictures of the documentation from the sample site
	$(BIN)/python -m docs.screenshots

lock: $(VENV)/test.stamp  ## pin the requirements of pyproject.toml with hashes (UPGRADE=1: newest versions)
	$(LOCK) pyproject.toml --output-file requirements.txt
	$(LOCK) pyproject.toml --group dev --constraints requirements.txt --output-file requirements-dev.txt

oracle: export ORACLE_EXAMPLES := $(or $(EXAMPLES),100)
oracle: export ORACLE_SEED := $(or $(SEED),1)
oracle: export ORACLE_HISTORY := $(if $(HISTORY),$(abspath $(HISTORY)))
oracle: test-packages $(VENV)/test.stamp  ## test that random histories converge (EXAMPLES=100 SEED=1, or HISTORY=file)
	$(BIN)/python -m pytest $(AT_ONCE) tests/oracle
	$(BIN)/python -m pytest $(AT_ONCE) tests/oracle --database=postgresql

bench: test-packages $(VENV)/test.stamp  ## measure how fast the cache is
	$(BIN)/python -m tests.benchmarks

clean:  ## remove the virtual environment and the caches of tools; data in var/ stays
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis

python-packages:
	@$(PACKAGES) python

run-packages:
	@$(PACKAGES) run

test-packages:
	@$(PACKAGES) test

$(BIN)/python: | python-packages
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed.")'
	$(PYTHON) -m venv --clear $(VENV)

$(VENV)/run.stamp: requirements.txt | $(BIN)/python
	$(PIP) --require-hashes -r requirements.txt
	@touch $@

$(VENV)/test.stamp: requirements-dev.txt | $(BIN)/python
	$(PIP) --require-hashes -r requirements-dev.txt
	@touch $(VENV)/run.stamp $@
