# The two commands: `make run` serves and evolves layers, `make test` tests everything. Set-up is made once and
# again only when the dependencies change.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PRESET ?= quickstart
ARGS ?=
# A test dependency without its own: torchvision has no build for every machine that runs the tests.
TIMM := timm==1.0.31 huggingface_hub==0.36.2 safetensors==0.8.0 tqdm==4.67.1

.DEFAULT_GOAL := run
.PHONY: run test lint types reference bench soak search-study clean

run: $(VENV)/run.stamp
	$(BIN)/evosearch serve --start $(PRESET) $(ARGS)

# The slow files go first, so that no process waits long for the last one; many tests wait themselves,
# so three processes suit two cores, and a fourth only makes them wait for each other. Threads of their
# own would only get in each other's way.
test: export OMP_NUM_THREADS = 1
test: $(VENV)/test.stamp
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/test.stamp
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/mypy.ini

# The page of every command, setting, endpoint, primitive and code; a test compares it with the code.
reference: $(VENV)/test.stamp
	$(BIN)/python -m docs.make_reference

# Figures of speed: each script prints them and writes tests/benchmarks/results/NAME.json.
bench: $(VENV)/test.stamp
	@for script in tests/benchmarks/bench_*.py; do \
		echo "== $$script"; \
		$(BIN)/python -m tests.benchmarks.$$(basename $$script .py) $(ARGS) || exit 1; \
	done

# Long studies, hours on two cores. Those on other data sets need DATA=<folder of idx files>.
SIGNAL := $(BIN)/python -m tests.benchmarks.study_signal
soak: export EVOSEARCH_DATA_DIR = $(DATA)
soak: $(VENV)/test.stamp
	$(BIN)/python -m pytest -m soak tests
	$(BIN)/python -m tests.benchmarks.soak_quickstart
	$(BIN)/python -m tests.benchmarks.study_rates build/rates
	$(BIN)/python -m tests.benchmarks.study_kills
	EVOSEARCH_RACE_SECONDS=60 $(BIN)/python -m tests.benchmarks.study_race
ifdef DATA
	mkdir -p build
	$(SIGNAL) collect --seed 100 --random 2500 --children 560 --out build/polarity.json.gz
	$(SIGNAL) collect --seed 101 --random 3000 --children 1000 --out build/polarity2.json.gz
	$(SIGNAL) collect --dataset fashion-mnist --seed 500 --random 2500 --children 560 \
		--out build/fashion.json.gz
	$(SIGNAL) collect --dataset mnist --seed 901 --random 1500 --children 560 --out build/mnist.json.gz
	$(SIGNAL) fit build/polarity.json.gz build/polarity2.json.gz build/fashion.json.gz \
		--out build/bounds.json
	$(SIGNAL) judge build/mnist.json.gz --bounds build/bounds.json
	$(SIGNAL) fit build/polarity.json.gz build/polarity2.json.gz --out build/polarity_bounds.json
	$(SIGNAL) judge build/fashion.json.gz --bounds build/polarity_bounds.json --name signal_polarity
endif

# How much training the default search saves: searches on the shipped table (hours; it is built anew
# where it was removed, some three hours of one core), 200 of the default and each rival, 24 of it
# without each ingredient and 12 with a larger budget; and real searches on Fashion-MNIST where
# DATA=<folder of idx files> is given (hours more). Each goes on where it was stopped. Then the pages
# are written.
RESULTS := tests/benchmarks/results
TABLE := workers/table/quickstart.npz
ON_TABLE = $(BIN)/python -m tests.benchmarks.study_table $(TABLE) --processes 2
HARDEST := "random with hurdles" "paper with hurdles" "paper with hurdles, our population"
search-study: export EVOSEARCH_DATA_DIR = $(DATA)
search-study: export OMP_NUM_THREADS = 1
search-study: $(VENV)/test.stamp
	mkdir -p build
	test -e $(TABLE) || { $(BIN)/evosearch bench table build --out build/table.npz \
		&& cp build/table.npz $(TABLE); }
	$(BIN)/evosearch bench table show $(TABLE) --json > $(RESULTS)/table_figures.json
	$(BIN)/python -m docs.make_table
	$(ON_TABLE) --rows build/table.jsonl --variants default $(HARDEST) random paper \
		"paper, our population"
	$(ON_TABLE) --rows build/table.jsonl --seeds 24
	gzip -9nc build/table.jsonl > $(RESULTS)/table_rows.jsonl.gz
	$(ON_TABLE) --rows build/longer.jsonl --out build --steps 10000 --seeds 12 \
		--variants default $(HARDEST)
	cp build/table.json $(RESULTS)/table_longer.json
	gzip -9nc build/longer.jsonl > $(RESULTS)/table_longer_rows.jsonl.gz
ifdef DATA
	$(BIN)/python -m tests.benchmarks.study_search run --rows build/search.jsonl
	$(BIN)/python -m tests.benchmarks.study_search run --rows build/search.jsonl \
		--seeds $(shell seq 210 219) --variants default $(HARDEST)
	$(BIN)/python -m tests.benchmarks.study_search report build/search.jsonl
	gzip -9nc build/search.jsonl > $(RESULTS)/search_rows.jsonl.gz
endif
	$(BIN)/python -m docs.make_search_efficiency

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "evosearch needs Python 3.11 or newer, got $$($(PYTHON) --version); set PYTHON=..." >&2; \
		exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/test.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[postgres,export,dev]"
	$(BIN)/python -m pip install --quiet --no-deps $(TIMM)
	@touch $@ $(VENV)/run.stamp
