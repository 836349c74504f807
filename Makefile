# Two commands on a fresh machine with python3.11+, git and make: `make run` and `make test`. Each does all set-up.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
SERVERS := .venv-serve/.ready .venv-triton/.ready

.PHONY: run test test-slow test-contracts servers images lint bench clean

run: $(READY)
	$(BIN)/compresslab run pipelines/fashion_mnist.yaml

test: $(READY)
	$(BIN)/python -m pytest

test-slow: $(READY) $(SERVERS)
	$(BIN)/python -m pytest -m slow

# Of the slow tests those that guard a contract and need nothing but this environment: what continuous integration runs.
# Left out: what asks a machine for a share of a tiny network's time, which a loaded one may not have; and the short
# pipelines whose data come from npm and apt, as pip is all that this environment is made with.
test-contracts: $(READY)
	$(BIN)/python -m pytest -m slow --ignore=tests/serving --ignore=tests/docker \
	  --deselect tests/test_design.py::test_own_images_a_timm_model_and_a_latency_budget \
	  --deselect tests/test_short_pipelines.py::test_minilm_retrieval --deselect tests/test_short_pipelines.py::test_emoji \
	  --deselect tests/test_short_pipelines.py::test_nothing_that_texts_are_judged_by_is_trained_on \
	  --deselect tests/test_short_pipelines.py::test_held_out_vendor_and_concepts_are_in_no_training_data

# Real servers to test with: MLServer and Triton need other versions of protobuf and numpy than the rest.
servers: $(SERVERS)

# Builds the three images and tries what they promise; needs docker or podman.
images: $(READY)
	$(BIN)/python -m benchmarks.images

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/hadolint docker/*Dockerfile

bench: $(READY) $(SERVERS)
	$(BIN)/python -m benchmarks.main_job --quick
	$(BIN)/python -m benchmarks.gate_quality --quick
	$(BIN)/python -m benchmarks.quantization_backends --quick
	$(BIN)/python -m benchmarks.serving --quick

clean:
	rm -rf .venv .venv-serve .venv-triton runs

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "python 3.11 or newer is needed: make PYTHON=python3.11 ..."'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	touch $(READY)

.venv-serve/.ready: pyproject.toml docker/serve-constraints.txt
	test -x .venv-serve/bin/python || $(PYTHON) -m venv .venv-serve
	.venv-serve/bin/python -m pip install --quiet --disable-pip-version-check -c docker/serve-constraints.txt -e '.[serve]'
	touch $@

.venv-triton/.ready: benchmarks/servers/triton-requirements.txt
	test -x .venv-triton/bin/python || $(PYTHON) -m venv .venv-triton
	.venv-triton/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/servers/triton-requirements.txt
	touch $@
