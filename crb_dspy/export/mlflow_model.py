"""A model for MLflow: `mlflow models serve` and `mlflow.pyfunc.load_model` run it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crb_dspy import __version__
from crb_dspy.export._seam import ALL, KEY, Endpoint, Export, Exporter, Findings, Render
from crb_dspy.export.state import rendered

if TYPE_CHECKING:
    from crb_dspy.data.cases import Case
    from crb_dspy.models.settings import Settings
    from crb_dspy.origin import Origin

_INPUTS = [
    {"name": "id", "type": "string", "required": False},
    {"name": "report", "type": "string", "required": False},
    {"name": "text", "type": "string", "required": False},
    {"name": "sections", "type": "string", "required": False},
]
_MODEL, _BASE = "CRB_DSPY_MODEL", "CRB_DSPY_API_BASE"
_KEY_ENV, _CONTEXT = "CRB_DSPY_API_KEY_ENV", "CRB_DSPY_CONTEXT"
# Set, it stands for `--trust`.
_TRUSTED = "CRB_DSPY_TRUST"


class MlflowModel(Exporter):
    """An MLflow model folder around `program.json`; needs this package where it is run.

    Rows have `report` or `text`, or `sections`, a JSON object of texts by heading, and perhaps
    `id`. Answers have findings with offsets and status, what was mended, errors. The model is
    the one tuned for, or by the environment: CRB_DSPY_MODEL, CRB_DSPY_API_BASE,
    CRB_DSPY_API_KEY_ENV (the variable that holds its key), CRB_DSPY_CONTEXT (its tokens).
    CRB_DSPY_TRUST lets the program run its own code and ask the server that its file names.
    """

    name = "mlflow-model"
    about = "a model for mlflow models serve and mlflow.pyfunc.load_model, with crb_dspy installed"
    carries = ALL
    needs_dspy = True

    def write(self, export: Export, folder: Path) -> None:
        """Write the folder by hand, since MLflow would put the time and a random id into it."""
        import sys

        from crb_dspy.saved import write_program

        write_program(folder / "program.json", export.saved)
        python = ".".join(map(str, sys.version_info[:3]))
        flavour = {
            "data": "program.json",
            "env": {"virtualenv": "python_env.yaml"},
            "loader_module": __name__,
            "python_version": python,
        }
        described = {
            "flavors": {"python_function": flavour},
            "signature": {"inputs": json.dumps(_INPUTS), "outputs": None, "params": None},
            "model_uuid": None,
            "utc_time_created": "1970-01-01 00:00:00.000000",
        }
        (folder / "MLmodel").write_text(json.dumps(described, indent=1) + "\n", "utf-8")
        requirements = f"mlflow>=3.17,<4\ncrb_dspy=={__version__}\n"
        (folder / "requirements.txt").write_text(requirements, "utf-8")
        environment = {"python": python, "dependencies": ["-r requirements.txt"]}
        (folder / "python_env.yaml").write_text(json.dumps(environment, indent=1) + "\n", "utf-8")

    def reader(self, export: Export, folder: Path) -> Render:
        """Load the program that MLflow would load: no other tool reads it."""
        from crb_dspy.saved import load_program

        return rendered(load_program(folder / "program.json", trust=True).program, export)

    def run(
        self, export: Export, folder: Path, cases: Sequence[Case], endpoint: Endpoint
    ) -> Findings:
        """Load it with MLflow and predict."""
        import mlflow

        rows = [{"id": case.id, "sections": json.dumps(dict(case.sections))} for case in cases]
        with _environment(endpoint):
            answers = mlflow.pyfunc.load_model(str(folder)).predict(rows)
        parts = export.saved.program.parts
        return {
            answer["id"]: {
                key: [finding["quote"] for finding in found]
                for key, found in answer["findings"].items()
            }
            | {key: None for name in answer["errors"] for key in parts[name].keys}
            for answer in answers
        }


class Extractor:
    """What MLflow asks: `predict(rows) -> answers`, in their order."""

    def __init__(self, path: Path) -> None:
        from crb_dspy.saved import load_program

        self._saved = load_program(path, trust=_TRUSTED in os.environ)
        self._model: Any = None

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> list[Any]:
        """Ask the program about every row of a data frame or list of mappings."""
        import dspy

        from crb_dspy.program.prompt import ReportFirst

        rows = model_input
        if hasattr(model_input, "to_dict"):
            # MLflow takes away columns that it does not know, and the rows with the last of them.
            rows = model_input.to_dict("records") if len(model_input.columns) else [{}]
        lm = self._connected().lm
        with dspy.context(lm=lm, adapter=ReportFirst(), disable_history=True):
            return [self._answer(number, row) for number, row in enumerate(rows)]

    def _answer(self, number: int, row: Mapping[str, Any]) -> dict[str, Any]:
        case = _case(str(number), row)
        prediction = self._saved.program(case=case)
        kinds = self._saved.program.kinds
        findings = {
            key: [
                {
                    **kinds[key].told(p.quote),
                    # Of a finding that is no quote, what it reads as.
                    "quote": p.quote,
                    "status": str(p.status),
                    "spans": [list(s) for s in p.spans],
                }
                for p in placements
            ]
            for key, placements in prediction.findings.items()
        }
        return {
            "id": case.id,
            "findings": findings,
            "mended": prediction.irregular,
            "errors": prediction.errors,
        }

    def _connected(self) -> Any:
        """Return the model, reached at the first request, so that a server starts at once."""
        if self._model is None:
            from crb_dspy.models.lm import Model

            settings = _settings(self._saved.origin)
            with tempfile.TemporaryDirectory() as folder:
                model = Model(settings, Path(folder))
                model.open()
            # Reports of others are not kept.
            model.lm.cache = False
            self._model = model
        return self._model


def _settings(origin: Origin) -> Settings:
    """Return how the model is reached that the environment names, or the tuned one."""
    from crb_dspy.errors import UserError
    from crb_dspy.models.settings import Settings

    given = {name: os.environ.get(name) or None for name in (_MODEL, _BASE, _KEY_ENV, _CONTEXT)}
    settings = origin.settings(given[_MODEL], given[_BASE], 1, trust=_TRUSTED in os.environ)
    context = given[_CONTEXT]
    if context and not context.isdecimal():
        raise UserError(f"{_CONTEXT}={context}: a number of tokens is wanted")
    own = {"api_key_env": given[_KEY_ENV], "context": int(context) if context else None}
    return Settings.of(settings, **{name: its for name, its in own.items() if its})


def _load_pyfunc(path: str) -> Extractor:
    return Extractor(Path(path))


def _case(number: str, row: Mapping[str, Any]) -> Case:
    from crb_dspy.data.cases import Case
    from crb_dspy.errors import UserError

    given = {key: value for key, value in row.items() if isinstance(value, str)}
    texts = [given[name] for name in ("report", "text") if name in given]
    if not texts and "sections" not in given:
        known = "`report` or `text`, or `sections`, a JSON object"
        raise UserError(f"row {number}: give {known}; columns of other names are not seen")
    sections = json.loads(given["sections"]) if "sections" in given else {"Report": texts[0]}
    return Case(given.get("id", number), sections)


@contextmanager
def _environment(endpoint: Endpoint) -> Iterator[None]:
    """Point the served program at an endpoint, for a while."""
    arguments = endpoint.arguments
    key = arguments.get("api_key")
    wanted = {
        _MODEL: arguments["model"],
        _BASE: arguments.get("api_base"),
        _KEY_ENV: KEY if key else None,
        KEY: key,
        _CONTEXT: endpoint.context,
        _TRUSTED: 1,
    }
    changes = {name: str(value) for name, value in wanted.items() if value}
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
