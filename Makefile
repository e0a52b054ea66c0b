# Set-up, checks and the main command; every target can be run again and does no work twice.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STORE ?= sqlite:///mlruns/mlflow.db
PORT ?= 5000

.PHONY: compile demo docs test check venv ui label-studio clean

compile: venv
	$(RUN) -m crb_dspy.compile $(ARGS)

# A recorded run, played back: no model. What it made is read in its report, or with `make ui`.
demo: venv
	$(RUN) -m crb_dspy.demo

# Without a network: nothing is fetched to build the pages or to read them.
docs: venv
	$(RUN) -m mkdocs build --quiet --strict
	@echo "build/docs/index.html; to search: $(RUN) -m http.server -d build/docs -b 127.0.0.1"

# Files are not split, since their tests share what takes long to make. The slow ones one by one: the real
# model needs all cores.
test: check
	$(RUN) -m pytest -n auto --dist loadfile -m "not slow"
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
	  --editable '.[local,ray,tools,dev]'
	touch $@

# One worker: up in seconds. The app of this package opens on runs, by a name that browsers know for this
# machine, at which MLflow's assistant doesn't lie over the page.
HOST := mlflow.localhost:$(PORT)
ui: venv
	@echo "http://$(HOST)/#/experiments; PORT=5001 takes another port"
	$(VENV)/bin/mlflow ui --app-name crb_dspy --backend-store-uri $(STORE) --workers 1 --host 127.0.0.1 --port $(PORT)

# A real Label Studio, for its test: it needs other versions of much, and so a place of its own.
label-studio: venv
	$(PYTHON) -m venv $(VENV)/label-studio
	$(VENV)/label-studio/bin/pip install --quiet label-studio
	CRB_LABEL_STUDIO=$(VENV)/label-studio/bin/label-studio $(RUN) -m pytest tests/test_label_studio.py

clean:
	rm -rf $(VENV) build *.egg-info
