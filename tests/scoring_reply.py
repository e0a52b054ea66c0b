"""A model for tests whose answers depend on how it is asked, so that candidates differ."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping

from crb_dspy.data.benchmarks import load
from crb_dspy.data.cases import Case
from crb_dspy.data.schema import load_schema
from tests.fake_model import keys_of, report_of
from tests.fake_server import Body

# What a model that reflects may be asked for, and how it answers.
WRITTEN = {
    "improved_instruction": "[[ ## improved_instruction ## ]]\n{}\n\n[[ ## completed ## ]]",
    "module_advice": (
        "[[ ## discussion ## ]]\nIt missed some.\n\n[[ ## module_advice ## ]]\n"
        '{{"part.predict": "{0}", "part.GI.predict": "{0}"}}\n\n[[ ## completed ## ]]'
    ),
    "advice": "[[ ## advice ## ]]\n{}\n\n[[ ## completed ## ]]",
}


def chance(*texts: str) -> float:
    """A number from 0 to 1 that hangs on texts alone."""
    return int(hashlib.md5("\n".join(texts).encode()).hexdigest()[:6], 16) / 0xFFFFFF


def asks_for_findings(prompt: str) -> bool:
    """Tell a question about a report from a request for an instruction."""
    return prompt.startswith("<report>") and "Task: " in prompt


def scoring(cases: Iterable[Case], better: str = "\0") -> Callable[[str], str]:
    """Return a model that finds 30 to 80 % of the gold, the more the better its prompt's hash.

    It finds all of it where the prompt has the words `better`, and knows a report by any of its
    sentences. As a writer of instructions it
    repeats words of the form had-this that it was shown: what it should not see shows.
    """
    known = {case.text: case for case in cases}

    def reply(prompt: str) -> str:
        if not asks_for_findings(prompt):
            return _written(prompt)
        gold = _shown(report_of(prompt), known).gold or {}
        question = prompt.partition("</report>")[2]
        share = 1.0 if better in question else 0.3 + 0.5 * chance(question)
        return json.dumps(
            {
                key: [q for q in gold.get(key, ()) if chance(q, question) <= share]
                for key in keys_of(prompt)
            }
        )

    return reply


def perfect(prompt: str) -> str:
    """Find all of an invented case's gold, whose quotes say what they are of."""
    words = [word for word in report_of(prompt).split() if word.startswith("had-")]
    return json.dumps({key: [w for w in words if f"-{key}-" in w] for key in keys_of(prompt)})


def _written(prompt: str) -> str:
    field = next((name for name in WRITTEN if name in prompt), "")
    if not field:
        return '{"answer": ["yes"]}'
    shown = sorted(set(re.findall(r"had-[\w-]+", prompt)))[:2]
    style = hashlib.md5(prompt.encode()).hexdigest()[:4]
    return WRITTEN[field].format(f"Quote every finding, style {style}. {' '.join(shown)}".strip())


def served(reply: Callable[[str], str]) -> Callable[[Body], str]:
    """Make such a model answer what a server is asked."""
    return lambda body: reply(body["messages"][-1]["content"])


def sample() -> Callable[[Body], str]:
    """Return a server's answers about the bundled cases."""
    return served(scoring(load("sample", load_schema("casereportbench")).cases))


def _shown(report: str, known: Mapping[str, Case]) -> Case:
    """Return the case of a report, or of the sentences that are shown of one."""
    if report in known:
        return known[report]
    longest = max(report.splitlines(), key=len)
    return next(case for text, case in known.items() if longest in text)
