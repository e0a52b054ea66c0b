"""What a run that shows no gain can say all the same, and what to try next."""

from __future__ import annotations

import math
from dataclasses import replace

from crb_dspy import stats
from crb_dspy.compile.plan import Plan
from crb_dspy.compile.result import Result
from crb_dspy.evaluation import figures
from crb_dspy.evaluation.rows import score_of
from crb_dspy.evaluation.systems import CLASSIFIER

# A gain that most would care for, and cases that nobody will annotate.
WORTH, MANY = 0.05, 10_000


def stays(planned: Plan, result: Result) -> list[str]:
    """Return sentences for a run that shows no gain, none for one that does; code in backticks."""
    if stats.verdict(result.difference) == "improved":
        return []
    return [*_reach(result), *_next(planned, result)]


def _reach(result: Result) -> list[str]:
    """Say which difference these cases could have shown, and how many cases would decide."""
    found = result.difference
    size = f"{found.cases} test cases" + (
        "" if found.groups == found.cases else f" in {found.groups} groups"
    )
    like = ""
    if not found.error > 0 and CLASSIFIER in result.systems:
        # Seed and tuned program are equal: another system says how much differences vary here.
        found = figures.difference(result.baseline, result.systems[CLASSIFIER])
        like = ", if it varies from case to case as that of the sentence classifier does"
    least = stats.detectable(found)
    if math.isnan(least) or found.groups < 2:
        return [f"{size}: a single group shows nothing."]
    if not least > 0:
        return [f"{size}."]
    told = [f"{size}: a true difference of {least:.3f} would have been likely to show{like}."]
    if result.difference.difference > 0:
        needed = stats.cases_needed(result.difference)
        told.append(f"To decide about {result.difference.difference:+.3f}, {_about(needed)}.")
    worth = stats.cases_needed(replace(found, difference=WORTH))
    return [*told, f"To show a true gain of {WORTH}, {_about(worth)}."]


def _about(cases: float) -> str:
    """Write a number of cases to two digits: more is not known."""
    if not cases < MANY:
        return f"more than {MANY:,} cases like these would be needed"
    whole = int(cases)
    return f"about {round(whole, min(2 - len(str(whole)), 0)):,} cases like these would do"


def _next(planned: Plan, result: Result) -> list[str]:
    """Name the commands that are likeliest to change the outcome, at most two."""
    experiment, told = planned.experiment, []
    again = f"python -m crb_dspy.compile {result.folder}/experiment.toml"
    own = score_of(result.tuned)
    if CLASSIFIER in result.systems and score_of(result.systems[CLASSIFIER]) > own:
        if experiment.optimizer != "auto":
            told.append(f"The sentence classifier scores more: `{again} --optimizer auto`")
    elif result.stopped:
        told.append(f"A cap ended the search; raise it: `{again}` with a higher cap")
    elif not experiment.expected and any(r["candidate"] != "seed" for r in result.candidates):
        told.append(f"Take what is expected to gain, unproved: `{again} --set adopt=expected`")
    elif experiment.optimizer in ("auto", "none", "labeled"):
        told.append(
            f"Let a strong model write prompts: `{again} --optimizer mipro --reflection-model NAME`"
        )
    if not experiment.folds and not experiment.test_data:
        told.append(f"Judge every case, by programs tuned without it: `{again} --folds 5`")
    more = f"python -m crb_dspy.suggest {result.folder} --input FOLDER --n 10 --out next.json"
    return [*told, f"Annotate the reports that teach most: `{more}`"][:2]
