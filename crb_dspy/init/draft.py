"""Categories for a person to edit: drafted by a model, or in plain words without one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from pydantic import ValidationError

from crb_dspy.convert.documents import Document
from crb_dspy.data.kind import Kind, find_kind, made, usual
from crb_dspy.data.schema import Category
from crb_dspy.errors import UserError

# Quotes of each category that a model is shown, and characters of each.
QUOTES, LONGEST = 6, 120
TOKENS = 2000
# Beginnings of words that a category may have; shorter ones begin too many words.
TERMS, SHORTEST = 20, 3
_ASK = """\
Findings are to be marked in clinical case reports, by category. What is wanted:
{description}
{known}
Write the categories. Answer with a JSON list only, an object a category, with these texts:
"key": a short identifier of letters, digits and underscores{fixed};
"title": two to five words;
"guidance": one sentence, what belongs there and what does not;
"instruction": one or two sentences that tell a reader {reader};
"terms": a list of up to {terms} beginnings of words that such findings often hold, as "vomit"."""


_QUOTING = "to quote every such finding word for word, negated findings included"


@dataclass(frozen=True)
class Holds:
    """What a category holds that holds no quotes, as its schema says it."""

    name: str
    options: Mapping[str, Any]
    kind: Kind


def holding(text: str) -> tuple[str, Holds]:
    """Read `KEY: KIND OPTIONS`; UserError for a kind or options that do not exist."""
    key, mark, rest = (part.strip() for part in text.partition(":"))
    name, _, words = rest.partition(" ")
    if not mark or not name:
        raise UserError(f"--category {text!r}: write --category 'KEY: KIND OPTIONS'")
    try:
        options = find_kind(name).briefly(words)
        return key, Holds(name, options, made(name, key, (), options))
    except (ValueError, UserError) as error:
        raise UserError(f"--category {text!r}: {error}") from error


@dataclass(frozen=True)
class Wish:
    """What a person wants to be found: a description, keys, and quotes that were marked so.

    `held` says of some keys what they hold in place of quotes.
    """

    description: str
    keys: tuple[str, ...]
    quotes: Mapping[str, Sequence[str]]
    held: Mapping[str, Holds]

    def kind(self, key: str) -> Kind:
        """Return what a category holds, the usual kind unless it is said."""
        return self.held[key].kind if key in self.held else usual()

    def category(self, key: object, **texts: object) -> Category:
        """Return a category that holds what is wanted."""
        own = self.held.get(str(key))
        more = {"kind": own.name, **own.options} if own else {}
        return Category.model_validate({"key": key, **texts, **more})

    @classmethod
    def of(
        cls,
        description: str,
        keys: Sequence[str],
        documents: Iterable[Document],
        held: Mapping[str, Holds],
    ) -> Self:
        """Return a wish with the keys that are given, else those of the marks.

        UserError for a key that is no identifier.
        """
        quotes: dict[str, list[str]] = {}
        for document in documents:
            for mark in document.marks or ():
                quote = document.text[mark.start : mark.end][:LONGEST]
                quotes.setdefault(mark.category, []).append(quote)
            for key, answer in document.answers.items():
                quotes.setdefault(key, []).extend(item[:LONGEST] for item in answer.items)
        wanted = tuple(dict.fromkeys([*(keys or quotes), *held]))
        for key in wanted:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", key):
                raise UserError(
                    f"category '{key}': letters, digits and underscores only, a letter first; "
                    "convert --rename LABEL=KEY renames it in the data"
                )
        shown = {key: list(dict.fromkeys(quotes.get(key, [])))[:QUOTES] for key in wanted}
        return cls(description, wanted, shown, held)


def plain(wish: Wish) -> list[Category]:
    """Return categories in plain words, without a model."""
    return [_plain(key, wish) for key in wish.keys]


def _plain(key: str, wish: Wish) -> Category:
    title = key.replace("_", " ")
    such = f", such as {', '.join(map(repr, wish.quotes[key][:3]))}" if wish.quotes[key] else ""
    kind = wish.kind(key)
    about = f"findings about {title}" if kind.verbatim else title
    instruction = kind.teaching.draft.replace("TITLE", title)
    guidance = f"{wish.description or about}{such}"
    return wish.category(key, title=title, guidance=guidance, instruction=instruction)


def draft(wish: Wish, model: str, api_base: str | None) -> list[Category]:
    """Ask a model for the categories; those that it leaves out are in plain words.

    UserError if it cannot be reached or writes none.
    """
    from crb_dspy.evaluation.session import session
    from crb_dspy.models.settings import Settings

    with session(Settings(model=model, api_base=api_base)) as opened:
        answer = opened.lm(messages=[{"role": "user", "content": _asked(wish)}], max_tokens=TOKENS)
    text = answer[0] if isinstance(answer[0], str) else str(answer[0].get("text") or "")
    written = read(text, wish)
    if not written and not wish.keys:
        raise UserError(f"model '{model}' wrote no categories; give --categories KEY,KEY")
    wanted = wish.keys or tuple(written)
    return [written.get(key) or _plain(key, wish) for key in wanted]


def _asked(wish: Wish) -> str:
    shown = [f"{key}: {'; '.join(quotes) or 'no example'}" for key, quotes in wish.quotes.items()]
    known = "Marked so far:\n" + "\n".join(shown) + "\n" if shown else ""
    if wish.held:
        answers = "\n".join(own.kind.asked([key]) for key, own in wish.held.items())
        known += f"What is no quote:\n{answers}\n"
    reader = f"what to answer, or, where quotes are wanted, {_QUOTING}" if wish.held else _QUOTING
    fixed = f", exactly these: {', '.join(wish.keys)}" if wish.keys else ""
    description = wish.description or "findings as in the examples below"
    asked = {"description": description, "known": known, "fixed": fixed, "reader": reader}
    return _ASK.format(**asked, terms=TERMS)


def read(text: str, wish: Wish) -> dict[str, Category]:
    """Read categories out of a model's answer, those of other keys or without a text left out."""
    import json_repair

    start = text.find("[")
    entries = json_repair.loads(text[start:]) if start >= 0 else []
    found: dict[str, Category] = {}
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict):
            continue
        wanted = {name: entry.get(name) for name in ("key", "title", "guidance", "instruction")}
        try:
            category = wish.category(**wanted, terms=_terms(entry.get("terms")))
        except ValidationError:
            continue
        if not wish.keys or category.key in wish.keys:
            found[category.key] = category
    return found


def _terms(written: object) -> list[str]:
    """Return the beginnings of words in what a model wrote, those that can be used."""
    texts = (
        text.strip(" *-")
        for text in (written if isinstance(written, list) else ())
        if isinstance(text, str)
    )
    return list(dict.fromkeys(text for text in texts if len(text) >= SHORTEST))[:TERMS]
