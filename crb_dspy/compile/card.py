"""The card of a tuned program: what it is, what it was shown to do, and what it is weak at."""

from __future__ import annotations

import math
from collections.abc import Iterator

from crb_dspy.compile.plan import Plan
from crb_dspy.compile.price import per_report
from crb_dspy.compile.result import Result, headline, told
from crb_dspy.evaluation import figures
from crb_dspy.evaluation.rows import Row, score_of
from crb_dspy.program import ExtractionProgram

NAME = "card.md"
# A category of a lower score is told as a weakness, and so are test cases fewer than these.
WEAK, FEW = 0.5, 30
LICENCES = {
    "sample": "invented reports of this project, MIT",
    "casereportbench": "CaseReportBench, CC BY-NC 4.0: not for commercial use",
}
CAREFUL = "whatever licence and consent these reports have also bind the program"


def card(planned: Plan, tuned: ExtractionProgram, result: Result) -> str:
    """Return the card in Markdown; the same run gives the same text."""
    experiment, split = planned.experiment, planned.split
    sides = {side: len(getattr(split, side)) for side in ("train", "validation")}
    folds = f" in {experiment.folds} folds" if planned.folds else ""
    judged = f"{planned.tested} test cases{folds}"
    lines = [
        f"# {experiment.name}",
        "",
        f"Quotes findings of {len(planned.schema.keys)} categories from clinical case reports: "
        f"{', '.join(planned.schema.keys)}. A tool for research; its findings are to be read "
        "against the report, and no medical advice.",
        "",
        f"- **Program**: {experiment.program}, tuned by {experiment.optimizer}, for the model "
        f"`{experiment.model}`; another model needs another tuning",
        f"- **Data**: {planned.schema.name}, `{planned.loaded.fingerprint}`; split "
        f"`{split.fingerprint}`: {sides['train']} training, {sides['validation']} validation, "
        f"{judged}",
        *_cost(planned, tuned, result),
        "",
        "## Scores",
        "",
        "On the test cases, which chose nothing; 0 to 1, silence gets 0.",
        "",
        "| | score | 95 % interval |",
        "|---|---|---|",
        *_scores(result),
        "",
        f"Difference from the seed: {headline(result)}. {told(result)}",
        "",
        "| category | score | with gold | without | gold quotes |",
        "|---|---|---|---|---|",
        *_categories(result),
        "",
        "## Known weaknesses",
        "",
        *(f"- {line}" for line in weaknesses(planned, result)),
        "",
        "## Whose text it holds",
        "",
        *(f"- {line}" for line in held(planned, tuned)),
        "",
    ]
    return "\n".join(lines)


def weaknesses(planned: Plan, result: Result) -> list[str]:
    """Return what is known to be weak, in sentences; never nothing."""
    rows, cases = result.tuned, {row.case for row in result.tuned}
    found = []
    if len(cases) < FEW:
        found.append(f"Judged on {len(cases)} cases: scores of categories are hardly known.")
    by_key = figures.categories(rows)
    scores = {key: values["objective"] for key, values in by_key.items()}
    if low := [f"{key} ({score:.2f})" for key, score in scores.items() if score < WEAK]:
        found.append(f"Weak categories, score under {WEAK}: {', '.join(low)}.")
    if unseen := [key for key in scores if not any(r.gold for r in rows if r.category == key)]:
        found.append(f"Without gold in the test cases, so never seen to find: {', '.join(unseen)}.")
    return [*found, *_faults(rows), *_beyond(planned, result)]


def _faults(rows: list[Row]) -> Iterator[str]:
    """Tell what was wrong in answers beside what they missed."""
    whole = figures.metrics(rows)
    if lost := int(whole.get("polarity_errors") or 0):
        yield f"{lost} negative findings were quoted without their negation."
    if (loose := whole.get("ungrounded", 0.0)) > 0:
        yield f"{100 * loose:.0f} % of its quotes are not in their report."
    if failed := sum(row.failed for row in rows):
        yield f"{failed} of {len(rows)} cells had no usable answer."


def _beyond(planned: Plan, result: Result) -> Iterator[str]:
    """Tell what was not judged, and what does as well."""
    if left := planned.unannotated:
        yield f"Not asked for, since nobody annotated them: {', '.join(left)}."
    own = score_of(result.tuned)
    if beaten := [n for n, rows in result.systems.items() if score_of(rows) >= own]:
        yield f"It does not beat the {beaten[-1]}, which asks no model."
    yield "Reports of another kind, language or hospital were not tried."


def held(planned: Plan, tuned: ExtractionProgram) -> list[str]:
    """Return whose text demonstrations and classifiers hold, and under which licence."""
    units = [unit for part in tuned.parts.values() for unit in part.units.values()]
    predictors = [p for unit in units for _, p in unit.named_predictors()]
    shown = [demo for p in predictors for demo in p.demos if demo.get("report")]
    cases = sorted({str(demo.get("case") or "unknown") for demo in shown})
    lines = []
    if shown:
        lines.append(f"{len(shown)} demonstrations with text of reports: {', '.join(cases)}")
    if any(unit.support for unit in units):
        lines.append("a sentence classifier, with words and parts of words of annotated reports")
    if not lines:
        return ["of no report"]
    return [*lines, f"licence: {LICENCES.get(planned.experiment.data, CAREFUL)}"]


def _cost(planned: Plan, tuned: ExtractionProgram, result: Result) -> Iterator[str]:
    model = planned.experiment.model
    use = per_report(tuned, planned.loaded.cases, result.tuned, model)
    usd = use["cost/report_usd"]
    dollars = f", ${usd:.4f} by list price" if usd else ""
    yield f"- **Cost of one report**: about {use['cost/report_tokens']:,.0f} tokens{dollars}"


def _scores(result: Result) -> Iterator[str]:
    systems = {"seed": result.baseline, "tuned": result.tuned, **result.systems}
    for name, rows in systems.items():
        yield f"| {name} | {score_of(rows):.3f} | {_interval(rows)} |"


def _interval(rows: list[Row]) -> str:
    found = figures.interval(rows)
    known = not math.isnan(found.low)
    return f"{found.low:.3f} to {found.high:.3f}" if known else "none from a single group"


def _categories(result: Result) -> Iterator[str]:
    for key, values in figures.categories(result.tuned).items():
        gold = sum(len(row.gold) for row in result.tuned if row.category == key)
        parts = (values.get(name, math.nan) for name in ("nonempty_f1", "empty_agreement"))
        halves = " | ".join("–" if math.isnan(value) else f"{value:.3f}" for value in parts)
        yield f"| {key} | {values['objective']:.3f} | {halves} | {gold} |"
