"""The seam of kinds: what a category can hold, from the question to the score.

A cell is a tuple of items, texts that its kind alone reads and writes; everything else handles
cells without knowing what is in them. A kind is a subclass of `Kind`, one a file in `kinds/`.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from crb_dspy.data.own import own_object
from crb_dspy.data.words import CARE, GENERAL, Frame, Teaching
from crb_dspy.errors import UserError, explained, unknown
from crb_dspy.quotes.grounding import Placement, Status, ground

if TYPE_CHECKING:
    from crb_dspy.data.cases import Case

Items = Sequence[str]
# A cell of a result: the case's id, gold, and what was found.
Cell = tuple[str, Items, Items]
# From annotated cases to what a system that asks no model answers about any.
Guess = Callable[["Case"], Items]
# Says whether two names mean one thing: a model, where an experiment names one to judge.
Same = Callable[[str, str], bool]
SAME: ContextVar[Same | None] = ContextVar("same", default=None)
PACKAGE = "crb_dspy.kinds"
# Names of systems that ask no model.
COMMON, LEARNT = "most frequent answer", "text classifier"


class KindOptions(BaseModel):
    """What a category of this kind may say beside what all categories say: nothing."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The score of a cell, 0 to 1, NaN where it does not count, and why.

    `gold` counts items that were to be found, 0 where `Kind.sought` says that there were none.
    `ungrounded` counts items whose quote is not in the report.
    """

    score: float
    reason: str
    predicted: int
    gold: int
    ungrounded: int = 0


class Kind:
    """What one category holds. Subclasses say what differs; see `docs/kinds.md`.

    Laws, which `tests/test_kinds.py` checks of every kind: gold scores 1; silence, and one answer
    for all cases, score 0 over a set of cases; order and repetition of items change nothing; a
    wrong item more never helps.
    """

    about: ClassVar[str] = ""
    Options: ClassVar[type[KindOptions]] = KindOptions
    frame: ClassVar[Frame] = GENERAL
    # Items are copied from the report, word for word.
    verbatim: ClassVar[bool] = False
    # Whole sentences of the report can stand for items, so that a sentence classifier finds some.
    sentences: ClassVar[bool] = False
    # There may be several items, so that a second look can find more.
    listed: ClassVar[bool] = False
    # What an optimizer may add to an instruction, by what it is about.
    wordings: ClassVar[Mapping[str, Mapping[str, str]]] = {"care": CARE}
    # What a model that writes instructions is told.
    teaching: ClassVar[Teaching] = Teaching()

    def __init__(
        self, key: str = "", terms: Items = (), options: KindOptions | None = None
    ) -> None:
        self.key, self.terms = key, tuple(terms)
        self.options: Any = options if options is not None else self.Options()

    def __deepcopy__(self, memo: Any) -> Self:
        """Return itself: nothing in it changes, and parts are copied often."""
        return self

    # --- the question

    @property
    def annotation(self) -> Any:
        """The type of the field in a DSPy signature."""
        return list[str]

    def schema(self, max_tokens: int) -> dict[str, Any]:
        """Return the JSON schema of the answer, bounded by what so many tokens can hold."""
        raise NotImplementedError

    def asked(self, keys: Items) -> str:
        """Say in words what stands under the keys (in quotation marks) of such categories."""
        raise NotImplementedError

    # --- the answer

    def read(self, value: object) -> tuple[list[str], str]:
        """Return the items of a value from an answer, and what was wrong with it, "" if nothing.

        Tolerant, never raises; a list of its own items gives these. None: left out, or null.
        """
        raise NotImplementedError

    def salvaged(self, text: str) -> object | None:
        """Return what `read` can use of an answer that is no whole JSON, None for nothing."""
        return None

    def merged(self, text: str, found: Sequence[Items]) -> list[str]:
        """Return the items of several pieces of a report as those of the whole."""
        return list(dict.fromkeys(item for items in found for item in items))

    # --- the text

    def quoted(self, item: str) -> str | None:
        """Return what an item quotes from its report, None if nothing."""
        return item if self.verbatim else None

    def anchors(self, item: str, text: str) -> list[str]:
        """Return passages of a report near which an example for an item of it is cut out."""
        quote = self.quoted(item)
        if quote is not None:
            return [quote]
        found = (re.search(rf"\b{re.escape(term)}\w*", text, re.IGNORECASE) for term in self.terms)
        return [match[0] for match in found if match]

    def placed(self, text: str, items: Items) -> list[Placement]:
        """Return items with the places of what they quote; what quotes nothing has no place."""
        places = []
        for item in items:
            quote = self.quoted(item)
            found = Placement(item, Status.EXACT, ()) if quote is None else ground(text, quote)
            places.append(Placement(item, found.status, found.spans))
        return places

    # --- data

    def gold(self, value: object) -> tuple[str, ...]:
        """Return the items of an annotation as files hold it; ValueError says what is wrong.

        None: there is none for this category.
        """
        if value is None:
            return ()
        items, fault = self.read(value)
        if fault:
            raise ValueError(fault)
        return tuple(items)

    def plain(self, items: Items) -> Any:
        """Return items as an answer, or a file, holds them: `read` gives them back."""
        return list(items)

    def told(self, item: str) -> dict[str, Any]:
        """Return an item as a finding in a file, but for the place of what it quotes."""
        return {"value": item}

    def fitted(self, golds: Sequence[Items]) -> dict[str, Any]:
        """Return options that the annotated cases settle where the schema does not."""
        return {}

    # --- the score

    def sought(self, gold: Items) -> bool | None:
        """Say whether something is to be found; None where a cell without gold does not count."""
        return bool(gold)

    def score(self, text: str, gold: Items, predicted: Items) -> Judged:
        """Score a cell."""
        raise NotImplementedError

    def hits(self, gold: Items, found: Items) -> tuple[set[str], set[str]]:
        """Return which items of gold were found, and which of those that were found are right."""
        if self.score("", gold, found).score == 1:
            return set(gold), set(found)
        return set(gold) & set(found), set(gold) & set(found)

    def judged(self, gold: Items, item: str) -> bool:
        """Say whether gold has anything to say of an item that was found."""
        return True

    def metrics(self, cells: Sequence[Cell]) -> dict[str, float]:
        """Return the field's metrics over the cells of one category, NaN where undefined."""
        return {}

    def pooled(self, categories: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Return the metrics of several categories as one: means of those that are defined."""
        names = dict.fromkeys(name for own in categories for name in own)
        values = {n: [o[n] for o in categories if n in o and o[n] == o[n]] for n in names}
        return {n: sum(v) / len(v) if v else float("nan") for n, v in values.items()}

    def guesses(self, cases: Sequence[Case]) -> dict[str, Guess]:
        """Return systems that ask no model, learnt from annotated cases, by name."""
        return {}

    # --- a person

    @property
    def offered(self) -> Items:
        """What a person chooses from; nothing where it is written."""
        return ()

    @property
    def many(self) -> bool:
        """Whether several of what is offered can be chosen."""
        return False

    def chosen(self, item: str) -> str:
        """Return which of those that are offered an item is."""
        return item

    @classmethod
    def briefly(cls, words: str) -> dict[str, Any]:
        """Return the options that a few words mean: flags, then `named`; ValueError for none."""
        rest, flags = words.split(), dict[str, Any]()
        known = [n for n, own in cls.Options.model_fields.items() if own.annotation is bool]
        while rest and rest[0] in known:
            flags[rest.pop(0)] = True
        return flags | cls.named(" ".join(rest))

    @classmethod
    def named(cls, words: str) -> dict[str, Any]:
        """Return the options that words after the flags mean, of their own for each kind."""
        if words:
            raise ValueError(f"{words!r} is no option; options are {[*cls.Options.model_fields]}")
        return {}

    # --- the page

    def shown(self, item: str) -> str:
        """Return an item as people read it."""
        return item

    def figure(self, cells: Sequence[Cell]) -> str:
        """Return HTML that shows all cells of a category, "" for none.

        Whatever comes from items has to be escaped.
        """
        return ""


def kinds() -> list[str]:
    """Return the names of the kinds that come with the package."""
    package = importlib.import_module(PACKAGE)
    files = (file for folder in package.__path__ for file in Path(folder).glob("[a-z]*.py"))
    return sorted(file.stem for file in files)


def find_kind(name: str) -> type[Kind]:
    """Return a kind's class by name or `FILE.py:Class`, "" being the usual one.

    UserError if there is none, naming the nearest.
    """
    if ".py:" in name:
        path, _, attribute = name.rpartition(":")
        found = own_object("kind", Path(path), attribute)
    else:
        name = name or str(importlib.import_module(PACKAGE).USUAL)
        if name not in kinds():
            raise UserError(f"{unknown('kind', name, kinds())}, or name FILE.py:Class")
        values = vars(importlib.import_module(f"{PACKAGE}.{name}")).values()
        own = (v for v in values if isinstance(v, type) and v.__module__ == f"{PACKAGE}.{name}")
        found = next((value for value in own if issubclass(value, Kind)), None)
    if not (isinstance(found, type) and issubclass(found, Kind)):
        raise UserError(f"kind '{name}': must be a subclass of crb_dspy.data.kind.Kind")
    return found


def made(name: str, key: str, terms: Items, extra: Mapping[str, Any]) -> Kind:
    """Return the kind of a category; UserError for options that it does not have."""
    found = find_kind(name)
    try:
        return found(key, terms, found.Options.model_validate(dict(extra)))
    except ValidationError as error:
        # A name that is mistyped is what is missing.
        other = [str(e["loc"][0]) for e in error.errors() if e["type"] == "extra_forbidden"]
        known = [*found.Options.model_fields] or ["none beside those of all categories"]
        said = unknown("option", other[0], known) if other else explained(error)
        raise UserError(f"category '{key}': {said}") from error


@lru_cache(maxsize=1)
def usual() -> Kind:
    """Return the usual kind, of no category."""
    return find_kind("")()
