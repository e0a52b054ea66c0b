"""Why a cell scored as it did, in words short enough to steer an optimizer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

from crb_dspy.scoring.coverage import Coverage
from crb_dspy.scoring.places import Quotes
from crb_dspy.scoring.tokens import Report, tokenized

LIMIT = 300
_SNIPPET = 40
_SHOWN = 3


@dataclass(frozen=True)
class Negations:
    """The words that negate in gold: all, those found with their finding, those it lost."""

    all: tuple[int, ...]
    found: tuple[int, ...]
    lost: tuple[int, ...]


def negations(report: Report, coverage: Coverage, ungrounded: Iterable[str] = ()) -> Negations:
    """Sort the negations of gold by what became of them; of the rest the finding was missed.

    A finding is lost too where a quote that is not in the report says it without the negation.
    """
    cues = tuple(sorted(report.cues & coverage.gold))
    loose = [set(tokenized(quote, report.level).words) for quote in ungrounded]
    found, lost = [], []
    for cue in cues:
        scope = set(report.scope(cue)) & coverage.gold
        covered = 2 * len(scope & coverage.found) >= len(scope)
        if covered and cue in coverage.found:
            found.append(cue)
        elif scope and (covered or _denied(report, cue, scope, loose)):
            lost.append(cue)
    return Negations(cues, tuple(found), tuple(lost))


def _denied(report: Report, cue: int, scope: Set[int], quotes: Sequence[Set[str]]) -> bool:
    finding = {report.words[i] for i in scope}
    return any(finding <= words and report.words[cue] not in words for words in quotes)


def explain(
    report: Report, gold: Quotes, predicted: Quotes, coverage: Coverage, lost: Sequence[int]
) -> str:
    """Say in at most `LIMIT` characters what was lost, invented, missed and extra."""
    if not gold.count and not predicted.count:
        return "rightly empty"
    unknown = [quote for quote in gold.ungrounded if quote not in predicted.ungrounded]
    parts = [
        _part(
            "quoted without its negation", [_negated(report, cue, coverage.gold) for cue in lost]
        ),
        _part("not in the report", predicted.ungrounded),
        _part("missed", [*_runs(report, coverage.gold - coverage.found - set(lost)), *unknown]),
        _part("extra", _runs(report, coverage.extra)),
    ]
    if not gold.count:
        parts.insert(0, "nothing to quote here")
    if not predicted.count:
        parts.insert(0, "nothing was quoted")
    text = "; ".join(part for part in parts if part) or "complete, nothing extra"
    return text if len(text) <= LIMIT else f"{text[: LIMIT - 1]}…"


def _negated(report: Report, cue: int, gold: Set[int]) -> str:
    """Return a negation with the gold words that it belongs to, as they stand in the report."""
    words = (cue, *(i for i in report.scope(cue)[:2] if i in gold))
    return report.text[report.spans[min(words)][0] : report.spans[max(words)][1]]


def _runs(report: Report, tokens: Iterable[int]) -> list[str]:
    """Return the passages that some tokens form, joined across words that don't count."""
    runs: list[list[int]] = []
    for token in sorted(tokens):
        if runs and not any(report.counts[i] for i in range(runs[-1][1] + 1, token)):
            runs[-1][1] = token
        else:
            runs.append([token, token])
    return [report.text[report.spans[a][0] : report.spans[b][1]] for a, b in runs]


def _part(title: str, passages: Sequence[str]) -> str:
    """Name the longest passages, in their order, and how many more there are."""
    if not passages:
        return ""
    longest = sorted(range(len(passages)), key=lambda i: (-len(passages[i]), i))[:_SHOWN]
    shown = ", ".join(f'"{_short(passages[i])}"' for i in sorted(longest))
    more = len(passages) - len(longest)
    return f"{title}: {shown}" + (f" and {more} more" if more else "")


def _short(passage: str) -> str:
    text = " ".join(passage[: 4 * _SNIPPET].split())
    return text if len(text) <= _SNIPPET else f"{text[: _SNIPPET - 1]}…"
