"""What a search tried for each part: scores, cost, cases better and worse, and why one won."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crb_dspy.report.diff import PromptDiff, compare

# Of a part, candidates that a page shows open, with their text; of the others numbers alone.
SHOWN = 8
# Characters of a demonstration's report that a page shows.
_CLIP = 600
_SAME = 1e-9

# A row of candidates.jsonl.
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Searched:
    """What a page is told of the search: what became of each part, all candidates, and of the end.

    `verdicts` are a part and a sentence, `candidates` the rows of candidates.jsonl, `taken` the
    name of the candidate that a part uses (none: its seed). `stays` are sentences for whoever
    gained nothing: what could have been seen, and what to do.
    """

    verdicts: Sequence[tuple[str, str]] = ()
    candidates: Sequence[Row] = ()
    taken: Mapping[str, str] = field(default_factory=dict)
    stays: Sequence[str] = ()


@dataclass(frozen=True)
class Candidate:
    """One candidate: score on validation (None: not met all), tokens sent of a case, outcomes."""

    name: str
    parent: str
    score: float | None
    gain: float | None
    cases: int
    calls: int
    tokens: float
    better: tuple[str, ...]
    worse: tuple[str, ...]
    taken: bool
    why: str
    text: PromptDiff | None


@dataclass(frozen=True)
class PartSearch:
    """A part, what became of it, and its candidates, the seed first, then the best first."""

    name: str
    verdict: str
    candidates: tuple[Candidate, ...]
    cases: int

    @property
    def points(self) -> list[tuple[float, float, str]]:
        """Where candidates lie in a plot of 100 by 40: tokens, score (upwards), what they are."""
        # What was taken and the seed last, over what lies in the same place.
        known = [c for c in reversed(self.candidates) if c.score is not None]
        known.sort(key=lambda c: c.taken)
        most = max((c.tokens for c in known), default=0.0) or 1.0
        return [
            (
                100 * c.tokens / most,
                40 * (1 - (c.score or 0.0)),
                "seed" if c is self.candidates[0] else "taken" if c.taken else "other",
            )
            for c in known
        ]


def searches(searched: Searched) -> tuple[PartSearch, ...]:
    """Return what was tried, part by part; nothing where no part met anything but its seed."""
    verdicts = dict(searched.verdicts)
    rows: dict[str, list[Row]] = {}
    for row in searched.candidates:
        rows.setdefault(str(row["part"]), []).append(row)
    if all(len(own) == 1 for own in rows.values()):
        return ()
    return tuple(
        _part(name, verdicts.get(name, ""), own, searched.taken.get(name, ""))
        for name, own in rows.items()
    )


def _part(name: str, verdict: str, rows: Sequence[Row], taken: str) -> PartSearch:
    seed, *others = rows
    ranked = sorted(others, key=lambda row: (row["candidate"] != taken, -_score(row)))
    known = {row["candidate"]: row for row in rows}
    best = _score(known[taken]) if taken in known else _score(seed)
    most = len(seed.get("by_case") or ())
    about = _About(seed, taken, best, verdict, most)
    shown = [seed, *ranked]
    candidates = tuple(about.candidate(row, text=n <= SHOWN) for n, row in enumerate(shown))
    return PartSearch(name, verdict, candidates, most)


@dataclass(frozen=True)
class _About:
    """What candidates of a part are held against."""

    seed: Row
    taken: str
    best: float
    verdict: str
    cases: int

    def candidate(self, row: Row, *, text: bool) -> Candidate:
        own, start = row.get("by_case") or {}, self.seed.get("by_case") or {}
        gains = {
            case: own[case] - start[case]
            for case in own
            if None not in (own[case], start.get(case))
        }
        score, met = row["validation"], int(row["cases"])
        first = row is self.seed
        seeds = self.seed["validation"]
        gain = None if first or score is None or seeds is None else score - seeds
        return Candidate(
            name=str(row["candidate"]),
            parent=str(row["parent"]),
            score=score,
            gain=gain,
            cases=met,
            calls=int(row["calls"]),
            tokens=float(row.get("sent", 0.0)),
            better=tuple(case for case, more in gains.items() if more > _SAME),
            worse=tuple(case for case, more in gains.items() if more < -_SAME),
            taken=(row["candidate"] == self.taken) if self.taken else first,
            why=self._why(row, gain),
            text=None if first or not text else compare("", _text(self.seed), _text(row)),
        )

    def _why(self, row: Row, gain: float | None) -> str:
        """Say why a candidate was taken, or why not."""
        if row["candidate"] == self.taken:
            return self.verdict
        if row is self.seed:
            return "replaced" if self.taken else self.verdict
        if row["validation"] is None:
            met = row["cases"]
            return f"given up after {met} of {self.cases} cases" if met else "not judged"
        if gain is None or gain <= _SAME:
            return "no gain on the validation cases"
        if not self.taken:
            return f"ahead of the seed here, yet not taken: {self.verdict}"
        if _score(row) >= self.best - _SAME:
            return (
                "no worse here than what was taken; less is expected of it by what its kind "
                "gained in all categories, or by fresh cases"
            )
        return "behind what was taken"


def _score(row: Row) -> float:
    return -1.0 if row["validation"] is None else float(row["validation"])


def _text(row: Row) -> str:
    return "\n\n".join([*_used(row), *_told(row.get("prompt") or ())])


def _used(row: Row) -> Iterator[str]:
    for use in row.get("classifier") or ():
        told = [f"the model is asked where it sees {use['floor']:g}"] if use["floor"] <= 1 else []
        told += [f"it quotes from {use['threshold']:g}"] if use["threshold"] <= 1 else []
        if use["floor"] > 1:
            told.append("the model is not asked")
        yield f"[classifier of {use['size']}] {'; '.join(told)}"


def _told(prompts: Iterable[Row]) -> Iterator[str]:
    for prompt in prompts:
        name = str(prompt["predictor"]).rpartition("/")[2]
        label = "" if name in ("", "predict") else f" ({name})"
        yield f"[instruction{label}]\n{prompt['instruction']}"
        for number, demo in enumerate(prompt["demonstrations"], 1):
            lines = (f"{key}: {_clipped(value)}" for key, value in demo.items())
            yield f"[demonstration {number}]\n" + "\n".join(lines)


def _clipped(value: object) -> str:
    text = "; ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= _CLIP else f"{text[: _CLIP - 1]}…"
