# Two commands set everything up: `make demo` and `make test`. The rest serves development.

PYTHON ?= python3
VENV ?= .venv
DEMO ?= .venv-demo
LOWEST ?= .venv-lowest

.PHONY: demo test lint types suite narrow lowest slow docs clean

# Trains, evaluates, tries and compiles the digits network on NumPy, in an environment of its own.
demo: $(DEMO)/ready
	$(DEMO)/bin/trine train zoo:vision/digits-mlp --out runs/demo --overwrite
	$(DEMO)/bin/trine eval runs/demo
	$(DEMO)/bin/trine predict runs/demo --limit 5
	$(DEMO)/bin/trine compile runs/demo -o runs/demo/digits.py

# Installs everything, then checks style and types and runs the suite.
test: lint types suite narrow

lint: $(VENV)/ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# The repository root is the package: a link by its name lets the type checker find it.
types: $(VENV)/ready
	mkdir -p build/types && ln -sfn ../.. build/types/trine
	MYPYPATH=build/types $(VENV)/bin/mypy -p trine.compiler -p trine.backends -p trine.runtime -p trine.cli -p trine.benchmarks -m trine -m trine.api -m trine.files -m trine.terminal -m trine.reference -m trine.views

suite: $(VENV)/ready
	$(VENV)/bin/python -m pytest tests -n 2 -m "not slow"

# What depends on the processor once more, with the instructions of AVX2 and on one thread: where there are no others,
# the suite has shown it.
NARROW = tests/backends/test_precision.py tests/backends/test_torch.py tests/backends/test_parity.py tests/compiler/test_budget.py
WIDE = import sys, torch; sys.exit(torch.backends.cpu.get_cpu_capability() != "AVX512")
narrow: $(VENV)/ready
	! $(VENV)/bin/python -c '$(WIDE)' || ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 TRINE_THREADS=1 $(VENV)/bin/python -m pytest $(NARROW) -n 2 -m "not slow"

# The suite with the lowest versions that are allowed, in an environment of its own.
lowest: $(LOWEST)/ready
	$(LOWEST)/bin/python -m pytest tests -n 2 -m "not slow" --ignore tests/test_packaging.py

# What takes minutes: quality of the shipped specs over several seeds.
slow: $(VENV)/ready
	$(VENV)/bin/python -m pytest tests -m slow

docs: $(VENV)/ready
	$(VENV)/bin/trine docs --write docs/reference

$(DEMO)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[report]'
	touch $@

# torch first, by its pin: what depends on it then finds it installed.
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet $$(grep '^torch==' constraints.txt)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	touch $@

$(LOWEST)/ready: pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet $$(grep '^torch==' constraints-lowest.txt)
	$(LOWEST)/bin/python -m pip install --quiet --constraint constraints-lowest.txt --editable '.[all,dev]'
	touch $@

clean:
	rm -rf $(VENV) $(DEMO) $(LOWEST) build dist *.egg-info runs
