# make demo   – set up and run the whole loop on synthetic portraits (about 10 minutes on 2 cores)
# make test   – set up and run the tests
# make check  – ruff, mypy and the allowed directions between packages
# make prove  – the gate: does preference tuning help, on 200 held-out conditions (about 25 minutes)
#
# Another PyTorch build: make demo TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

.PHONY: demo test check prove screenshots clean

demo: $(VENV)/.installed-all
	$(BIN)/prefkit demo demo

# The annotation page's tests measure how two clips keep in step, so nothing runs beside them.
test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --ignore tests/annotation_ui
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/annotation_ui

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

prove: $(VENV)/.installed-all
	$(BIN)/python benchmarks/prove.py

# The demo's comparisons are all answered, so the page is shown on a few open ones of its own.
screenshots: $(VENV)/.installed-dev demo
	rm -rf build/page
	$(BIN)/prefkit init build/page --synthetic 3
	$(BIN)/prefkit sample build/page --per-condition 2
	$(BIN)/prefkit compare build/page
	$(BIN)/python -m annotation_ui.screenshot build/page docs/annotate.png
	$(BIN)/python docs/screenshot_report.py demo/reports/report.html docs/report.png

# torch first and by itself: another package's range would pull in another build
$(VENV)/.installed-%: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) $(TORCH)
	$(PIP_INSTALL) -e '.[$*]'
	touch $@

clean:
	rm -rf demo prove pretraining learning .pytest_cache .mypy_cache .ruff_cache .hypothesis
