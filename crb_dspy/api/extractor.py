"""A tuned program with its model, for Python: called with a text, a case or a data frame."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dspy

from crb_dspy.api.found import Found
from crb_dspy.data.cases import Case
from crb_dspy.data.findings import findings_of
from crb_dspy.data.kind import Kind
from crb_dspy.errors import RunError, UserError, unknown
from crb_dspy.evaluation.session import CACHE, asking
from crb_dspy.models.engine import ModelGone
from crb_dspy.models.lm import Model, silence_libraries
from crb_dspy.models.settings import Settings
from crb_dspy.saved import Saved, open_program
from crb_dspy.trust import hosts

if TYPE_CHECKING:
    import pandas as pd

HEADING = "Report"
# What `load` takes beside the model.
_SETTINGS = ("max_answer_tokens", "request", "threads", "timeout")
# One for all: an extractor can be copied and saved, and a lock cannot.
_OPENING = threading.Lock()


def load(
    program: str | Path,
    *,
    model: str | None = None,
    api_base: str | Sequence[str] | None = None,
    trust: bool = False,
    **settings: Any,
) -> Extractor:
    """Return a tuned program that can be called, with the model it was tuned for or another.

    `program` is a program.json, the folder it is in, or the id of a run. It is asked with its own
    parameters, context and room for answers; `settings` add to them: `request` (a dict of what goes
    to the model as it is), `max_answer_tokens`, `timeout` (seconds), `threads` (calls under way at
    once). `trust` runs the code and asks the server that its file names. UserError if there is no
    such program or setting. The model is reached at the first call.
    """
    if odd := sorted(settings.keys() - _SETTINGS):
        raise UserError(unknown("setting", odd[0], _SETTINGS))
    saved = open_program(str(program), trust=trust)
    threads, room = settings.pop("threads", 1), settings.pop("max_answer_tokens", None)
    asked = saved.origin.settings(model, api_base, threads, trust=trust, room=room, **settings)
    return Extractor(saved, asked)


class Extractor(dspy.Module):  # type: ignore[misc]
    """A program that asks its own model in its own layout, whatever DSPy is configured with.

    It is a DSPy module with one input, `case`, so that `dspy.Evaluate` and larger programs take it.
    """

    def __init__(self, saved: Saved, settings: Settings) -> None:
        super().__init__()
        self.program, self.keys = saved.program, saved.schema.keys
        self._settings = settings
        self._model: Model | None = None

    def __call__(self, *given: Any, **named: Any) -> Any:
        """Ask about a text or case (Found), or about each row of a data frame (data frame)."""
        one: Any = given[0] if given else None
        if len(given) == 1 and not named and hasattr(one, "to_dict"):
            return self._frame(one)
        if given:
            named = {"case": one, **named} if len(given) == 1 else {"case": given, **named}
        return super().__call__(**named)

    def forward(self, case: str | Case | Mapping[str, str]) -> Found:
        """Ask every part about a text, a case, or sections by heading.

        What a model does wrong is in `errors`; TypeError for anything that is no report,
        UserError where the model cannot be reached, RunError where it stops answering.
        """
        known = _case(case)
        try:
            with asking(self._opened().lm):
                return Found.of(known, self.program(case=known))
        except ModelGone as error:
            raise RunError(f"model '{self._settings.model}' stopped answering: {error}") from error

    def close(self) -> None:
        """Let go of the model; an embedded one gives back its memory."""
        model, self._model = self._model, None
        if model:
            model.close()

    def _opened(self) -> Model:
        with _OPENING:
            if self._model is None:
                silence_libraries()
                places = (self._settings.api_base, *self._settings.beside)
                hosts.tell((self._settings.model, place) for place in places)
                model = Model(self._settings, CACHE)
                model.open()
                self._model = model
            return self._model

    def _frame(self, frame: pd.DataFrame) -> pd.DataFrame:
        import pandas as pd

        rows: list[dict[str, Any]] = []
        for index, row in zip(frame.index, frame.to_dict("records"), strict=True):
            case = _row(str(row.get("id", index)), row)
            rows += _rows(case, self(case=case), self.program.kinds)
        columns = ["id", "category", "quote", "status", "start", "end", "section", "error"]
        if not all(kind.verbatim for kind in self.program.kinds.values()):
            columns.insert(2, "value")
        return pd.DataFrame(rows, columns=columns)

    def __getstate__(self) -> dict[str, Any]:
        # A copy opens the model anew: locks and servers cannot be copied.
        return {**self.__dict__, "_model": None}


def _case(value: object) -> Case:
    if isinstance(value, Case):
        return value
    if isinstance(value, str):
        return Case("text", {HEADING: value})
    if isinstance(value, Mapping) and all(
        isinstance(v, str) for pair in value.items() for v in pair
    ):
        return Case("text", dict(value))
    kind = type(value).__name__
    raise TypeError(f"a text, a case, sections by heading or a data frame is wanted, not {kind}")


def _row(name: str, row: Mapping[Any, Any]) -> Case:
    for column in ("text", "report", "sections"):
        if column in row:
            return Case(name, _case(row[column]).sections)
    raise TypeError("the data frame has no column 'text', 'report' or 'sections'")


def _rows(case: Case, found: Found, kinds: Mapping[str, Kind]) -> list[dict[str, Any]]:
    """Return a row a finding, and one with the error for each part that has no answer."""
    rows: list[dict[str, Any]] = [
        {"id": case.id, "category": key, "value": kind.shown(item), **told, "error": ""}
        for key, kind in kinds.items()
        for item, told in zip(found[key], findings_of(case, kind, found[key]), strict=True)
    ]
    return rows + [
        {"id": case.id, "category": part, "error": error} for part, error in found.errors.items()
    ]
