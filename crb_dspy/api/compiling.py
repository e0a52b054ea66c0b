"""A compile from Python: an experiment's settings by name, its result as an object."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from crb_dspy.api.extractor import Extractor, load
from crb_dspy.api.found import in_notebook
from crb_dspy.compile.config import read_experiment
from crb_dspy.compile.flow import run
from crb_dspy.compile.plan import plan
from crb_dspy.compile.result import Result, headline, metrics

_PAGE = Markup('<iframe srcdoc="{page}" style="width:100%;height:40em;border:0"></iframe>')
_SUMMARY = Markup("<p><b>{headline}</b></p><table>{rows}</table>")
_ROW = Markup('<tr><td style="text-align:left">{name}</td><td>{verdict}</td></tr>')


def compile(
    data: str | Path | None = None, *, experiment: str | Path | None = None, **settings: Any
) -> Compiled:
    """Tune a program on annotated cases and return it with what it gained.

    `data` is what the command takes: by default that of the experiment's file, and without one the
    bundled sample. `settings` are keys of an experiment, such as `model`, `api_base`, `optimizer`,
    `categories`, `max_calls`. UserError for whatever is wrong before a
    model is asked, RunError where one stops answering.
    """
    changes = settings if data is None else {"data": str(data), **settings}
    return Compiled(run(plan(read_experiment(Path(experiment) if experiment else None, changes))))


@dataclass(frozen=True)
class Compiled:
    """A compile that is done: its program, its scores, its report."""

    result: Result

    @property
    def program(self) -> Extractor:
        """The tuned program with its model."""
        return load(self.result.folder)

    @property
    def scores(self) -> dict[str, float]:
        """The metrics of the test cases, under the names that MLflow has."""
        return metrics(self.result)

    @property
    def headline(self) -> str:
        """The gain, its interval, and the verdict."""
        return headline(self.result)

    @property
    def report(self) -> Path:
        """The page that shows every test report."""
        return self.result.folder / "report.html"

    def show(self) -> Path | None:
        """Show the report in a notebook; elsewhere return where it is."""
        if not in_notebook():
            return self.report
        from IPython.display import HTML, display

        display(HTML(_PAGE.format(page=self.report.read_text("utf-8"))))  # type: ignore[no-untyped-call]
        return None

    def _repr_html_(self) -> str:
        rows = (_ROW.format(name=name, verdict=verdict) for name, verdict in self.result.parts)
        return _SUMMARY.format(headline=self.headline, rows=Markup("").join(rows))
