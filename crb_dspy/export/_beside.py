"""What the exported script has beside the model: the classifier and its use, without numpy.

Written next to the script with the modules of this project that it names, to the letter.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from crb_dspy.data.cases import Case
from crb_dspy.program.silence import denies, silences
from crb_dspy.quotes.folding import fold
from crb_dspy.quotes.negation import speak
from crb_dspy.retrieval.examples import Examples
from crb_dspy.retrieval.features import features
from crb_dspy.retrieval.sentences import Size, Unit, units
from crb_dspy.retrieval.use import Use
from crb_dspy.retrieval.weighing import Views


def yes_no(value: object) -> tuple[list[str], str]:
    """Return nothing for a no."""
    return ([] if denies(value) else ["yes"]), ""


def asked_first(client: Any, look: Mapping[str, Any], text: str) -> list[str]:
    """Ask whether there is anything of some categories; return those of which there is nothing."""
    told = client.ask(look, text).findings
    return [key for key in look["keys"] if not told[key]]


def looked_again(
    client: Any, look: Mapping[str, Any], text: str, quotes: Sequence[str]
) -> list[str]:
    """Ask which quotes belong to a category, and keep those that the answer names."""
    (key,) = look["keys"]
    kept = client.ask(look, text, quotes).findings[key] if quotes else ()
    named = [fold(quote).text for quote in kept]
    return [quote for quote in quotes if fold(quote).text in named]


def left_empty(reply: Any, keys: Sequence[str], least: float) -> list[str]:
    """Return the categories of which the model itself thought, where a server tells it."""
    told = getattr(getattr(reply.choices[0], "logprobs", None), "content", None) or ()
    tokens: list[Any] = [
        SimpleNamespace(token=one.token, logprob=one.logprob, top=one.top_logprobs or ())
        for one in told
    ]
    return [key for key, silence in silences(tokens, keys).items() if silence >= least]


class Classifier:
    """Weights by feature and category, as they are stored."""

    def __init__(self, size: Size, table: Mapping[str, Any]) -> None:
        names, own = table["features"], table["categories"]
        self.size, self.embeddings = size, table.get("embeddings", "")
        self.terms = {key: category["terms"] for key, category in own.items()}
        self.bias = {key: category["bias"] for key, category in own.items()}
        self.weights = {
            key: {
                names[row]: tenths / 10
                for row, tenths in zip(
                    accumulate(category["steps"]), category["tenths"], strict=True
                )
            }
            for key, category in own.items()
        }

    def probabilities(self, case: Case) -> tuple[tuple[Unit, ...], dict[str, list[float]]]:
        """Return a report's units and the probabilities of every category for each."""
        found = units(case, self.size)
        rows = features(case, found, self.terms, self.size, self.embeddings)
        return found, {key: [self._probability(key, row) for row in rows] for key in self.weights}

    def _probability(self, key: str, row: Mapping[str, float]) -> float:
        known = self.weights[key]
        sums = math.fsum(known[name] * value for name, value in row.items() if name in known)
        return 1 / (1 + math.exp(-max(-500.0, min(500.0, self.bias[key] + sums))))


class Beside:
    """The classifiers of a program, and how each of its parts uses them."""

    def __init__(self, file: Path) -> None:
        table = json.loads(file.read_text("utf-8"))
        speak(table.get("negations", ()))  # by which quotes are placed in a report
        self.classifiers = {size: Classifier(size, t) for size, t in table["classifiers"].items()}
        self.uses = {part: Use.of(own) for part, own in table["parts"].items()}
        self.examples = Examples.from_plain(table.get("examples", ()))

    def of(self, name: str, sections: Mapping[str, str]) -> Seen:
        """Return what it says of a report."""
        return Seen(self, Case(name, sections))


class Seen:
    """A report as the classifiers see it."""

    def __init__(self, beside: Beside, case: Case) -> None:
        self._beside, self._case = beside, case
        self._known = lru_cache(maxsize=None)(self._seen)

    def has(self, part: str) -> bool:
        """Say whether a part uses a classifier."""
        return part in self._beside.uses

    def asks(self, part: str, keys: Sequence[str], denied: Sequence[str] = ()) -> bool:
        """Say whether the model has to be asked for a part, if it has nothing of some."""
        use = self._beside.uses[part]
        return any(not use.why_silent(self._views(part, key)) for key in keys if key not in denied)

    def silence(self, part: str) -> float:
        """Return the probability of an empty list from which on a category is left empty."""
        return self._beside.uses[part].silence

    def text(self, part: str, keys: Sequence[str]) -> str:
        """Return what the model reads."""
        use = self._beside.uses[part]
        views = [self._views(part, key) for key in keys]
        return use.excerpt(self._case, views) if use.reads else self._case.text

    def nearest(self, part: str, keys: Sequence[str]) -> list[dict[str, Any]]:
        """Return the demonstrations that are chosen for the report."""
        use = self._beside.uses[part]
        if not use.showing:
            return []
        told = use.told(self._case, [self._views(part, key) for key in keys])
        return self._beside.examples.nearest(self._case, told, keys, use.nearest, use.empty)

    def kept(self, part: str, key: str, quotes: Sequence[str]) -> list[str]:
        """Return what the model's quotes and the classifier's units come to together."""
        return self._beside.uses[part].kept(self._case, key, self._views(part, key), quotes)

    def _views(self, part: str, key: str) -> Views:
        found = {size: self._known(size) for size in self._beside.uses[part].sizes}
        return {size: (units, columns[key]) for size, (units, columns) in found.items()}

    def _seen(self, size: Size) -> tuple[tuple[Unit, ...], dict[str, list[float]]]:
        return self._beside.classifiers[size].probabilities(self._case)
