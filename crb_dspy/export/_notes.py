"""What an export says of itself: what it lacks, and whose text it holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crb_dspy.export._seam import NEEDS, Export, Exporter, lacking

LICENCE = (
    "Text of CaseReportBench is CC BY-NC 4.0: name the source, no commercial use. Text of your "
    "own patients is theirs: pass such an export on as you would the reports."
)


def readme(exporter: Exporter, export: Export, proof: dict[str, Any]) -> str:
    """Return the notes that go with every export."""
    origin = export.saved.origin
    lacks = [f"- {NEEDS[need]}" for need in lacking(exporter, export.saved)]
    return "\n".join([
        f"# {origin.program} as {exporter.name}",
        "",
        f"{exporter.about[0].upper()}{exporter.about[1:]}. Tuned on {origin.model}, exported with",
        "crb_dspy; `proof.json` holds the hashes of program, model, prompts and files.",
        "",
        "## What it is",
        "",
        "\n".join(line.strip() for line in (exporter.__doc__ or "").splitlines()).strip(),
        "",
        "## What it does not carry",
        "",
        *(lacks or ["Nothing of this program is missing."]),
        "",
        "## Checked",
        "",
        *checked(proof),
        "",
        "## Text of reports",
        "",
        *text_lines(export, proof["report_text"]),
        "",
    ])  # fmt: skip


def text_lines(export: Export, held: Mapping[str, Any]) -> list[str]:
    """Say in words whose text an export holds."""
    lines = []
    if export.dropped:
        lines.append("The demonstrations were dropped on request: this is not what was tuned.")
    elif held["demonstrations"]:
        lines.append(
            f"{_counted(held['demonstrations'], 'demonstration')}, {held['characters']} characters "
            f"of reports, from: {', '.join(held['cases'])}."
        )
    if held["reports_of_input"]:
        lines.append(
            f"The whole text of {_counted(held['reports_of_input'], 'report')} of --input."
        )
    if held["test_cases"]:
        lines.append(f"The whole text of the test cases {', '.join(held['test_cases'])}.")
    return [*lines, LICENCE] if len(lines) > export.dropped else [*lines, "No text of any report."]


def checked(proof: dict[str, Any]) -> list[str]:
    """Say in words what was checked."""
    check, cases = proof["check"], proof["cases"]
    lines = ["Not checked (--no-check)."]
    if check and check["messages"] == "identical":
        lines = [
            f"{_counted(check['prompts'], 'prompt')} on {len(check['reports'])} texts made to "
            "break them: byte for byte what the compiled program sends."
        ]
        if altered := check["altered"]:
            lines.append(
                f"The format alters the texts {', '.join(altered)}: there it is compared with "
                "what the program sends about the altered text."
            )
    elif check:
        lines = ["Instructions and demonstrations are the program's; messages are not comparable."]
    if cases:
        lines += _on_cases(cases)
    if (without := proof["score_without_report_text"]) is not None:
        both = proof["score_with_report_text"]
        lines.append(f"Score with the demonstrations {both}, without them {without}.")
    return lines


def report_text(export: Export, *, holding: bool) -> dict[str, Any]:
    """Say how much text of reports the demonstrations hold, and of which cases.

    `holding`: those too of which some are chosen for a report.
    """
    shown = [demo for prompt in export.prompts for demo in prompt.demonstrations]
    parts = export.saved.program.parts.values()
    showing = [part.support for part in parts if part.support and part.support.use.showing]
    if showing and holding:
        kept = showing[0].learnt.examples.sentences
        shown += [{"case": example.case, "report": example.text} for example in kept]
    return {
        "demonstrations": len(shown),
        "characters": sum(len(demo["report"]) for demo in shown),
        "cases": sorted({str(demo.get("case") or "unknown") for demo in shown}),
        "dropped_on_request": export.dropped,
        "reports_of_input": len(export.reports),
        "test_cases": [case.id for case in export.cases],
    }


def _on_cases(cases: Mapping[str, Any]) -> list[str]:
    where = f"{_counted(cases['k'], 'real case')} on {cases['model']}"
    failed = f"{_counted(cases['failed_cells'], 'cell')} had no answer"
    if cases["score_export"] is None:
        return [
            f"{where}: score {cases['score_program']} of the program, {failed}. The export was not "
            "asked: it has neither a program nor messages that could be sent as they are."
        ]
    how = "by DSPy, as the program" if cases["export_needs_dspy"] else "without DSPy"
    lines = [
        f"{where}: findings {cases['findings']}; score {cases['score_program']} of the program, "
        f"{cases['score_export']} of the export, run {how}; {failed}."
    ]
    if filled := cases["filled_in"]:
        lines.append(f"Asked with the program's {' and '.join(filled)}, which the format lacks.")
    return lines


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"
