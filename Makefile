# Every target makes its own virtual environment first; `make clean` removes that, and nothing you made.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: run test lint bench soak storyteller clean

# open the workbench and begin to train the storyteller
run: $(READY)
	$(BIN)/rlhf-tui --preset animals --start

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# times and peak memory of rollouts and updates on this machine
bench: $(READY)
	$(BIN)/python -m benchmarks

# what CI has no time for: more examples of what is tested with any; mistakes in the mathematics, each of which a test must notice; every causal architecture of
# transformers; 500 random kills of a run, each resumed; storms against the screen; 5,000 damaged runs, checkpoints,
# presets and models, read by every command and screen
soak: $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "soak or scaled or hypothesis" --hypothesis-profile soak
	PYTHONPATH=.:tests $(BIN)/python -m faults.mutants
	PYTHONPATH=.:tests $(BIN)/python -m faults.architectures
	PYTHONPATH=.:tests $(BIN)/python -m faults.soak
	PYTHONPATH=.:tests $(BIN)/python -m faults.fuzz --cases 5000 --seed 0

# make the embedded model from nothing: words, tokenizer, 68 minutes of pre-training, export, measurement
storyteller: $(READY)
	$(BIN)/python -m storyteller_maker

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# constraints.txt pins what is known to work together; pip alone would take the newest of everything
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "rlhf-tui needs Python 3.11 or newer; this is " + sys.version.split()[0] + ": make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
