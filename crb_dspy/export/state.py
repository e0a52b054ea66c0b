"""DSPy's own state of a program, for code that uses DSPy and this package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crb_dspy.export._seam import (
    ALL,
    LOOKS,
    Call,
    Endpoint,
    Export,
    Exporter,
    Findings,
    Quotes,
    Render,
    messages_of,
    predictors,
)

if TYPE_CHECKING:
    from crb_dspy.data.cases import Case

FILE = "state.json"


class State(Exporter):
    """`state.json`: what `module.load` of DSPy reads; `crb_dspy` in it says of which program."""

    name = "state"
    about = "DSPy's own JSON state, for `program.load`"
    carries = ALL - LOOKS - {"classifier"}
    needs_dspy = True

    def write(self, export: Export, folder: Path) -> None:
        """Write the state of every predictor under DSPy's names."""
        from dspy.utils.saving import get_dependency_versions

        from crb_dspy.files import as_json

        saved = export.saved
        origin = saved.origin
        made = {
            "program": origin.program,
            "program_options": origin.program_options,
            "schema": origin.schema_,
            "categories": saved.schema.keys,
        }
        bare: dict[str, Any] = {"traces": [], "train": [], "lm": None}
        state: dict[str, Any] = {
            f"{name}.{label}": predictor.dump_state() | bare
            for name, part in saved.program.parts.items()
            for label, predictor in part.named_predictors()
        }
        state |= {"metadata": {"dependency_versions": get_dependency_versions()}, "crb_dspy": made}
        (folder / FILE).write_text(as_json(state, indent=1) + "\n", "utf-8")

    def reader(self, export: Export, folder: Path) -> Render:
        """Let DSPy load the file into a new program: no other tool reads it."""
        program = export.saved.seed
        program.load(str(folder / FILE))
        return rendered(program, export)

    def run(
        self, export: Export, folder: Path, cases: Sequence[Case], endpoint: Endpoint
    ) -> Findings:
        """Run the program that DSPy loads, in the context that is set."""
        from crb_dspy.evaluation.asking import evaluate

        program = export.saved.seed
        program.load(str(folder / FILE))
        found: dict[str, dict[str, Quotes]] = {case.id: {} for case in cases}
        for row in evaluate(program, cases):
            failed = row.failed
            found[row.case][row.category] = None if failed else row.predicted
        return found


def rendered(program: Any, export: Export) -> Render:
    """Return what a program that was read back would send."""
    places = {prompt.name: (prompt.part, prompt.label) for prompt in export.prompts}

    def render(prompt: str, report: str, found: Sequence[str]) -> Call:
        part, label = places[prompt]
        predictor = predictors(program.parts[part])[label]
        return {"messages": messages_of(predictor, report, found)}

    return render
