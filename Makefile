# The venv is rebuilt when pyproject.toml or constraints.txt changes.
PYTHON ?= python3
BIN := .venv/bin

.venv/.ready: pyproject.toml constraints.txt
	@echo "Setting up .venv (a few minutes the first time: PyTorch is large)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --progress-bar on --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --progress-bar on --disable-pip-version-check -c constraints.txt -e ".[dev]"
	$(BIN)/fti models fetch
	@touch $@

.PHONY: setup demo test check serve bench bench-peers
setup: .venv/.ready                ## make .venv with everything pinned in constraints.txt
demo: setup                        ## the whole loop on the documents that ship, in minutes
	$(BIN)/fti demo
test: check                        ## lint, types, import rules and every test
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal -p no:benchmark
check: setup                       ## lint, formatting, types and import rules
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports \
	  && $(BIN)/python -m tests.support.house
serve: setup                       ## the chat API and page on http://127.0.0.1:8000
	$(BIN)/fti serve
bench: setup                       ## speed and memory, as ratios against baselines of the same run
	$(BIN)/python -m pytest tests/bench --benchmark-only
bench-peers: setup                 ## other frameworks on the same corpus: make bench-peers DATA=FOLDER
	$(BIN)/python -m tests.bench.peers.peer_run --data "$(DATA)"
