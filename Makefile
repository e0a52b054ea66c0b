# Set-up, checks and the main command; every target can be run again and does no work twice.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STORE ?= sqlite:///mlruns/mlflow.db
PORT ?= 5000

.PHONY: compile test check venv ui clean

compile: venv
	$(RUN) -m crb_dspy.compile $(ARGS)

# The slow ones one by one: the real model needs all cores.
test: check
	$(RUN) -m pytest -n auto -m "not slow"
	$(RUN) -m pytest -m slow

check: venv
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports

venv: $(VENV)/installed

# Debian's Python comes without ensurepip: there, virtualenv makes the environment.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV) || { \
	  $(PYTHON) -m pip install --quiet --target $(VENV)/bootstrap virtualenv && \
	  PYTHONPATH=$(VENV)/bootstrap $(PYTHON) -m virtualenv --clear-app-data $(VENV); }
	$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --editable '.[local,dev]'
	touch $@

# One worker and no job executor: up in seconds, where all of it takes minutes without a network.
ui: venv
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true $(VENV)/bin/mlflow ui \
	  --backend-store-uri $(STORE) --workers 1 --host 127.0.0.1 --port $(PORT)

clean:
	rm -rf $(VENV) build *.egg-info
