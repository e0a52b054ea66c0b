"""A free answer: a diagnosis, a phrase that fills a gap.

    [[category]]
    kind = "answer"
    reasons = true       # asks for the points that lead to it, too
    judge = true         # `judge_model` of the experiment says what means the same

Gold is one answer or several accepted ones, with points a mapping: {"answers": [...], "points":
[...]}. An item is an answer, or `because: ` and a point.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from crb_dspy.data.kind import COMMON, SAME, Cell, Guess, Items, Judged, Kind, KindOptions
from crb_dspy.data.words import Teaching
from crb_dspy.kinds._guess import guesses

if TYPE_CHECKING:
    from crb_dspy.data.cases import Case

BECAUSE = "because: "
# Token F1 from which on a point counts as named.
NAMED = 0.5
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
TEACHING = Teaching(
    rules=("what kind of answer is wanted", "how specific it is", "how it is written"),
    tips=(
        "Be short and precise.",
        "Say what kind of answer is wanted and what is none.",
        "Say how specific the answer is.",
        "Say how the answer is written: which name, which abbreviations.",
        "Tell the reader what to weigh before answering.",
        "Warn of the answer that comes to mind too soon.",
    ),
    draft="Answer, as briefly as can be: TITLE.",
)


class Options(KindOptions):
    """What is asked for beside the answer, and which answer is no merit."""

    reasons: bool = False
    judge: bool = False
    default: str = ""


class Answer(Kind):
    """One answer, scored by the best token F1 against those that are accepted (SQuAD 1.1)."""

    about = "a free answer, against a set of accepted ones; perhaps the points that lead to it"
    Options = Options
    teaching = TEACHING

    @property
    def annotation(self) -> Any:
        """A text, or an object of answer and reasons."""
        return dict[str, Any] if self.options.reasons else str

    def schema(self, max_tokens: int) -> dict[str, Any]:
        """Return a text, or an object of answer and reasons."""
        if not self.options.reasons:
            return {"type": "string"}
        most = max(4, max_tokens // 32)
        points = {"type": "array", "items": {"type": "string"}, "maxItems": most}
        return {
            "type": "object",
            # What is thought of first comes first.
            "properties": {"reasons": points, "answer": {"type": "string"}},
            "required": ["reasons", "answer"],
            "additionalProperties": False,
        }

    def asked(self, keys: Items) -> str:
        """Ask for a short answer."""
        one = "the answer, as short as it can be"
        if self.options.reasons:
            one = (
                "an object of reasons (a list of short points of the report that lead to it) and "
                "answer (the answer, as short as it can be)"
            )
        return f"{keys[0]} is {one}" if len(keys) == 1 else f"each of {', '.join(keys)} is {one}"

    def read(self, value: object) -> tuple[list[str], str]:
        """Return the answers in an answer, then its points."""
        points: list[str] = []
        answers: list[str] = []
        for one in value if isinstance(value, list | tuple) else [value]:
            given: object = one
            if isinstance(one, dict):
                told = next((one[n] for n in ("points", "reasons", "point") if n in one), None)
                points += [f"{BECAUSE}{text}" for text in _texts(told)]
                given = next((one[n] for n in ("answers", "answer", "value") if n in one), None)
            answers += _texts(given)
        items = list(dict.fromkeys([*answers, *points]))
        return items, "" if any(not item.startswith(BECAUSE) for item in items) else "no answer"

    def salvaged(self, text: str) -> object | None:
        """Return what follows `answer` or the key in broken JSON, or the first line of a text."""
        keys = f"answer|{re.escape(self.key)}"
        if match := re.search(rf'"(?:{keys})"\s*:\s*"((?:[^"\\]|\\.)*)', text):
            return match[1]
        line = text.strip().partition("\n")[0].strip("\"'`* ")
        return line if line and not re.search(r"[{}\[\]]", line) else None

    def merged(self, text: str, found: Sequence[Items]) -> list[str]:
        """Take the answer that most pieces give, the first of those, and all points."""
        said = [a for items in found for a in _answers(items)]
        counts = Counter(map(normalised, said))
        best = max(counts.values(), default=0)
        points = dict.fromkeys(i for items in found for i in items if i.startswith(BECAUSE))
        return [*next(([a] for a in said if counts[normalised(a)] == best), []), *points]

    def anchors(self, item: str, text: str) -> list[str]:
        """Return the answer, which may stand in the report."""
        return [item.removeprefix(BECAUSE), *super().anchors(item, text)]

    def gold(self, value: object) -> tuple[str, ...]:
        """Return accepted answers and points."""
        return () if value in (None, [], "") else super().gold(value)

    def plain(self, items: Items) -> Any:
        """Return the first answer, with its points if they are asked for."""
        first = (*_answers(items), "")[0]
        return {"reasons": _points(items), "answer": first} if self.options.reasons else first

    def told(self, item: str) -> dict[str, Any]:
        """Return an answer or a point."""
        point = item.startswith(BECAUSE)
        return {"point": item.removeprefix(BECAUSE)} if point else {"answer": item}

    def fitted(self, golds: Sequence[Items]) -> dict[str, Any]:
        """Take the most frequent answer, if any comes twice."""
        counts = Counter(normalised(_answers(gold)[0]) for gold in golds if _answers(gold))
        if self.options.default or not counts or max(counts.values()) < 2:
            return {}
        return {"default": min(counts, key=lambda answer: (-counts[answer], answer))}

    def sought(self, gold: Items) -> bool | None:
        """Say whether another answer than the most frequent one is right."""
        answers = {normalised(answer) for answer in _answers(gold)}
        return normalised(self.options.default) not in answers if answers else None

    def score(self, text: str, gold: Items, predicted: Items) -> Judged:
        """Return the best token F1 of the answer, the worst one's where there are several."""
        accepted, given = _answers(gold), _answers(predicted)
        worth = (max(self._worth(a, g) for g in accepted) for a in given)
        value = min(worth, default=0.0) if accepted else math.nan
        right = "right" if value == 1 else f"the answer is {' or '.join(accepted)}"
        reason = right if given else f"no answer; {right}"
        return Judged(
            score=value,
            reason=reason if accepted else "not annotated",
            predicted=len(set(given)),
            gold=int(bool(self.sought(gold))),
        )

    def hits(self, gold: Items, found: Items) -> tuple[set[str], set[str]]:
        """Return accepted answers that were given, and points that were named."""
        right, given = super().hits(_answers(gold), _answers(found))
        points = [(g, f) for g in _points(gold) for f in _points(found) if token_f1(f, g) >= NAMED]
        named = ({f"{BECAUSE}{pair[side]}" for pair in points} for side in (0, 1))
        return right | next(named), given | next(named)

    def judged(self, gold: Items, item: str) -> bool:
        """Points are, where gold has some."""
        return not item.startswith(BECAUSE) or bool(_points(gold))

    def _worth(self, answer: str, gold: str) -> float:
        """Return token F1, 1 where a model that judges says that both mean the same."""
        value, same = token_f1(answer, gold), SAME.get()
        if value == 1 or not (self.options.judge and same):
            return value
        return 1.0 if same(answer, gold) else value

    def metrics(self, cells: Sequence[Cell]) -> dict[str, float]:
        """Return exact match and token F1 as in SQuAD 1.1, and recall of points."""
        judged = [(gold, found) for _, gold, found in cells if _answers(gold)]
        exact = [
            {normalised(a) for a in _answers(found)} <= {normalised(g) for g in _answers(gold)}
            and bool(_answers(found))
            for gold, found in judged
        ]
        f1 = [self.score("", gold, found).score for gold, found in judged]
        points = [_recall(_points(g), _points(f)) for g, f in judged if _points(g)]
        known = {"answer_exact_match": _mean(exact), "answer_f1": _mean(f1)}
        return known | ({"reasoning_recall": _mean(points)} if points else {})

    def guesses(self, cases: Sequence[Case]) -> dict[str, Guess]:
        """Return the most frequent answer."""
        known = [
            (case.text, tuple(_answers((case.gold or {}).get(self.key, ()))[:1])) for case in cases
        ]
        found = guesses([pair for pair in known if pair[1]])
        return {name: guess for name, guess in found.items() if name == COMMON}

    def figure(self, cells: Sequence[Cell]) -> str:
        """Return accepted answers beside those given, with their F1."""
        row = Markup(
            '<tr><th scope="row" class="name">{}</th><td>{}</td><td>{}</td><td>{}</td></tr>'
        )
        rows = Markup("").join(
            row.format(
                case,
                " or ".join(_answers(gold)),
                ", ".join(_answers(found)) or "–",
                f"{self.score('', gold, found).score:.2f}",
            )
            for case, gold, found in cells
        )
        head = "<thead><tr><th>case</th><th>accepted</th><th>answer</th><th>F1</th></tr></thead>"
        table = '<table class="numbers texts">' + head + "<tbody>{}</tbody></table>"
        return Markup(table).format(rows)


def normalised(answer: str) -> str:
    """Return an answer as SQuAD 1.1 compares it: no case, punctuation, articles, white space."""
    bare = answer.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def token_f1(answer: str, gold: str) -> float:
    """Return F1 over the words of two answers, as SQuAD 1.1 does."""
    given, wanted = normalised(answer).split(), normalised(gold).split()
    common = sum((Counter(given) & Counter(wanted)).values())
    if not given or not wanted:
        return float(given == wanted)
    return 2 * common / (len(given) + len(wanted))


def _answers(items: Items) -> list[str]:
    return [item for item in items if not item.startswith(BECAUSE)]


def _points(items: Items) -> list[str]:
    return [item.removeprefix(BECAUSE) for item in items if item.startswith(BECAUSE)]


def _recall(gold: Sequence[str], found: Sequence[str]) -> float:
    return _mean([any(token_f1(point, g) >= NAMED for point in found) for g in gold])


def _texts(value: object) -> list[str]:
    values = value if isinstance(value, list | tuple) else [value]
    texts = (" ".join(str(one).split()) for one in values if one is not None)
    return [text for text in texts if text]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
