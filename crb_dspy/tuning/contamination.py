"""Text of validation and test reports in tuned prompts, where it has no business to be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crb_dspy.data.cases import Case
from crb_dspy.data.splits import Split
from crb_dspy.program import ExtractionProgram
from crb_dspy.tuning.identifying import LONG, Gram, Words, marks, words_of

# Training reports of so many groups make a figure of speech.
ORDINARY = 3


@dataclass(frozen=True)
class Hit:
    """A place of a tuned prompt whose text stands in a report that must not be in it.

    `place` is "instruction" or "demonstration N", `side` "validation" or "test", `kind`
    "wording", "number" or "name"; `text` begins at `offset` in the case's `text`.
    """

    part: str
    place: str
    case: str
    side: str
    kind: str
    text: str
    offset: int

    def __str__(self) -> str:
        shown = " ".join(self.text.split())
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        where = f"{self.part}, {self.place}: {self.kind} of {self.side} case {self.case}"
        return f"{where} at {self.offset}: {shown!r}"


@dataclass(frozen=True)
class Passage:
    """A text of a prompt: `place` is "instruction" or "demonstration N"."""

    part: str
    place: str
    text: str

    @property
    def told(self) -> bool:
        """Whether it is an instruction; demonstrations are copied from training cases."""
        return self.place == "instruction"


def scan(seed: ExtractionProgram, tuned: ExtractionProgram, split: Split) -> list[Hit]:
    """Return where prompts of a tuned program share text with validation and test reports."""
    written = [passage.text for passage in passages(seed) if passage.told]
    return hits(passages(tuned), written, split)


def passages(program: ExtractionProgram) -> list[Passage]:
    """Return every instruction, with its definitions, and every demonstration of a program."""
    found = []
    for name, part in program.parts.items():
        for label, predictor in part.named_predictors():
            shown = name if label == "predict" else f"{name} ({label})"
            found.append(Passage(shown, "instruction", _told(predictor.signature)))
            for number, demo in enumerate(predictor.demos, 1):
                text = "\n".join(_texts(dict(demo)))
                found.append(Passage(shown, f"demonstration {number}", text))
    return found


def _told(signature: Any) -> str:
    fields = signature.output_fields.values()
    defined = (str((field.json_schema_extra or {}).get("desc", "")) for field in fields)
    return "\n".join([signature.instructions, *defined])


def _texts(demo: Mapping[str, object]) -> Iterator[str]:
    for name, value in demo.items():
        if isinstance(value, str) and name != "case":  # which is an id
            yield value
        elif isinstance(value, list | tuple):
            yield from (item for item in value if isinstance(item, str))


def hits(shown: Sequence[Passage], seed: Iterable[str], split: Split) -> list[Hit]:
    """Return where passages share text with validation and test reports, by passage and case.

    No hits are: text of the seed's instructions, in instructions also text of training reports
    and headings, and words that reports of several groups share, as ordinary language is.
    """
    index = _Index(shown)
    for text in seed:
        index.know(text)
    for case in split.train:
        index.learn(case)
    found = [
        _Found(side, case, words, index.matches(words, case.group))
        for side in ("validation", "test")
        for case in getattr(split, side)
        for words in [words_of(case.text)]
    ]
    ordered: list[tuple[int, Hit]] = []
    for one in found:
        for number in sorted({number for number, _ in one.matches}):
            ordered += [(number, hit) for hit in one.hits(index, number)]
    return [hit for _, hit in sorted(ordered, key=lambda pair: pair[0])]


@dataclass(frozen=True)
class _Mark:
    """Words of a passage that would be a leak if they stood in a report."""

    passage: int
    start: int
    kind: str


@dataclass
class _Seen:
    """Where the words of some marks stand: in known text, and in reports of which groups."""

    marks: list[_Mark] = field(default_factory=list)
    known: bool = False
    training: set[str] = field(default_factory=set)
    held_out: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Match:
    """A mark's words in a report, from one word up to another."""

    start: int
    gram: Gram
    mark: _Mark


class _Index:
    """The marks of all passages by their words, and what else these words stand in."""

    def __init__(self, shown: Sequence[Passage]) -> None:
        self.shown = shown
        self.words = [words_of(passage.text) for passage in shown]
        self._seen: dict[Gram, _Seen] = {}
        for number, passage in enumerate(shown):
            for gram, start, kind in marks(self.words[number], passage.told):
                mark = _Mark(number, start, kind)
                self._seen.setdefault(gram, _Seen()).marks.append(mark)
        self._sizes = sorted({len(gram) for gram in self._seen})

    def know(self, text: str) -> None:
        """Take a text for known."""
        for _, _, seen in self._found(words_of(text)):
            seen.known = True

    def learn(self, case: Case) -> None:
        """Note what stands in a training report."""
        for _, _, seen in self._found(words_of(case.text)):
            seen.training.add(case.group)

    def matches(self, words: Words, group: str) -> dict[tuple[int, int], list[_Match]]:
        """Return the marks that stand in a report, by passage and by how far apart they stand."""
        found: dict[tuple[int, int], list[_Match]] = {}
        for start, gram, seen in self._found(words):
            seen.held_out.add(group)
            for mark in seen.marks:
                apart = start - mark.start
                found.setdefault((mark.passage, apart), []).append(_Match(start, gram, mark))
        return found

    def ordinary(self, match: _Match) -> bool:
        """Say whether words are no evidence that a report was seen."""
        seen, told = self._seen[match.gram], self.shown[match.mark.passage].told
        if seen.known or not told:
            return seen.known or len(seen.training) >= ORDINARY
        return bool(seen.training) or (len(match.gram) < LONG and len(seen.held_out) > 1)

    def _found(self, words: Words) -> Iterator[tuple[int, Gram, _Seen]]:
        for size in self._sizes:
            for start, gram in words.grams(size):
                if seen := self._seen.get(gram):
                    yield start, gram, seen


@dataclass(frozen=True)
class _Found:
    """What of the prompts stands in one report."""

    side: str
    case: Case
    words: Words
    matches: Mapping[tuple[int, int], Sequence[_Match]]

    def hits(self, index: _Index, number: int) -> list[Hit]:
        """Return the hits of one passage: no run of words twice, nor inside a longer one."""
        runs = [
            run
            for (passage, apart), matches in self.matches.items()
            if passage == number
            for run in _runs([m for m in matches if self._counts(index, m)], apart)
        ]
        covered: set[int] = set()
        found = []
        for start, end, apart, kind in sorted(runs, key=lambda run: (run[0] - run[1], run[0])):
            own = range(start - apart, end - apart)
            if covered.issuperset(own):
                continue
            covered.update(own)
            passage, text = index.shown[number], self.words.slice(start, end)
            offset = self.words.spans[start][0]
            where = (passage.part, passage.place, self.case.id, self.side)
            found.append(Hit(*where, kind, text, offset))
        return sorted(found, key=lambda hit: hit.offset)

    def _counts(self, index: _Index, match: _Match) -> bool:
        if index.ordinary(match):
            return False
        if match.mark.kind != "name":
            return True
        # As a name it must be written as one, and not be a heading.
        mark, size = match.mark, len(match.gram)
        here = self.words.slice(match.start, match.start + size)
        there = index.words[mark.passage].slice(mark.start, mark.start + size)
        return here.split() == there.split() and not any(here in h for h in self.case.sections)


def _runs(matches: Sequence[_Match], apart: int) -> Iterator[tuple[int, int, int, str]]:
    """Join matches that overlap: start, end, distance to the passage, and kind of each run."""
    run: tuple[int, int, str] | None = None
    for match in sorted(matches, key=lambda match: match.start):
        start, end, kind = match.start, match.start + len(match.gram), match.mark.kind
        if run and start < run[1]:
            kind = "wording" if "wording" in (kind, run[2]) else run[2]
            run = run[0], max(run[1], end), kind
            continue
        if run:
            yield run[0], run[1], apart, run[2]
        run = start, end, kind
    if run:
        yield run[0], run[1], apart, run[2]
