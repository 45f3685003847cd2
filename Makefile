PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PARALLEL := -n auto --dist worksteal

.PHONY: setup demo test test-slow tables check lint types benchmarks clean

setup: $(STAMP)  ## virtual environment with pinned versions

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[editors,embedded,fast,speech,sound,demo,dev,kafka,live,parity,tune,yolo]'
	touch $@

demo: setup  ## the main job, end to end, into demo-out/
	rm -rf demo-out
	$(BIN)/contentctr demo demo-out

test: setup  ## all tests but the slow ones
	$(BIN)/python -m pytest $(PARALLEL)

test-slow: setup  ## all tests
	$(BIN)/python -m pytest $(PARALLEL) -m ''

tables: setup  ## the paper's tables on simulated rooms and users, into tables-out/ (within two hours)
	$(BIN)/contentctr simulate features tables-out/data --rooms 600 --streamers 40 --seed 0
	$(BIN)/contentctr reproduce all tables-out/data --recipe tables --seeds 3 --jobs 2 -o tables-out/reproduction
	$(BIN)/contentctr simulate personal tables-out/personal --features --users 1000 --seed 1
	$(BIN)/contentctr reproduce all tables-out/personal --recipe highlights_small --seeds 3 --jobs 2 -o tables-out/highlights

check: lint types test  ## what the checks of a change run

lint: setup
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks

types: setup
	$(BIN)/mypy

benchmarks: setup  ## tables with ratios; minutes each
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

clean:
	rm -rf .venv demo-out
