"""Articles in JATS XML, as PubMed Central gives them: a section for every heading.

Parsed by lxml with nothing resolved, fetched or loaded: an entity that a file declares, or a DTD
that it names, does nothing. JATS: ANSI/NISO Z39.96, https://jats.nlm.nih.gov.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html.entities import html5
from typing import Any

from crb_dspy.errors import UserError

# Where a line ends; what is inside a paragraph otherwise runs on.
_NAMES = (
    "p title list list-item def-item disp-quote disp-formula boxed-text sec fig table-wrap caption "
    "table thead tbody tr statement verse-line table-wrap-foot fn break"
)
_BLOCKS = frozenset(_NAMES.split())
_CELLS = frozenset(("td", "th"))
# Not text of the article, or a second form of it.
_DROPPED = frozenset(("tex-math", "object-id", "label", "graphic", "media", "alt-text"))
_IDS = ("pmcid", "pmc")
_RAISED = str.maketrans("0123456789+-−", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻")


def read(lines: Iterator[bytes], name: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield PMC number ("" without one) and sections of every article in a file.

    Sections are those of the body, each under its own heading, then tables and figures that
    stand apart; of the abstract where there is no body; none where there is no text. UserError
    for what is not XML or not JATS.
    """
    root = _parsed(b"".join(lines), name)
    articles = [root] if _local(root) == "article" else list(root.iter("{*}article"))
    if not articles:
        raise UserError(f"{name}: no article in it; JATS XML has an <article> element")
    for article in articles:
        yield _id(article), _article(article)


def _parsed(data: bytes, name: str) -> Any:
    from lxml import etree

    parser = etree.XMLParser(
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        dtd_validation=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        return etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise UserError(f"{name}: not well-formed XML: {error.msg}") from error


def _article(article: Any) -> dict[str, str]:
    sections: dict[str, str] = {}
    for path, heading in (("body", "Report"), ("floats-group", "Tables and figures")):
        for element in article.findall(f"{{*}}{path}"):
            _add(sections, heading, element)
    if not any(text.strip() for text in sections.values()):
        sections = {}
        for element in article.findall("{*}front/{*}article-meta/{*}abstract"):
            _add(sections, "Abstract", element)
    return sections


def _add(sections: dict[str, str], heading: str, element: Any) -> None:
    """Add an element's own text under a heading, then the sections in it.

    A section without text of its own keeps its heading, since it tells what is below it.
    """
    own = [child for child in element if _local(child) not in ("sec", "title")]
    text = _lines("\n".join(_text(child) for child in own))
    if text or _local(element) == "sec":
        sections[_free(sections, heading)] = text
    for child in element.iterchildren("{*}sec"):
        title = child.find("{*}title")
        named = " ".join(_text(title).split()) if title is not None else ""
        _add(sections, "".join(filter(str.isprintable, named)) or "Section", child)


def _free(sections: Mapping[str, str], heading: str) -> str:
    number, free = 1, heading
    while free in sections:
        number += 1
        free = f"{heading} ({number})"
    return free


def _lines(text: str) -> str:
    """Put every block on a line of its own, without blanks around it and the last cell's bar."""
    lines = (" ".join(line.split()).rstrip("| ") for line in text.split("\n"))
    return "\n".join(filter(None, lines))


def _text(element: Any) -> str:
    """Return the text of an element, line breaks around blocks only."""
    if not isinstance(element.tag, str):
        # A character by its name in HTML; any other entity stays as it is written.
        written = element.text or ""
        return html5.get(written.removeprefix("&"), written)
    local = _local(element)
    if local in _DROPPED:
        return ""
    if local == "sup":
        return _raised(element)
    inner = _running(element.text) + "".join(_text(e) + _tail(e) for e in element)
    if local in _CELLS:
        # Its row is a line, whatever paragraphs and lists stand in it.
        return f"{inner} | ".replace("\n", " ")
    return f"\n{inner}\n" if local in _BLOCKS else inner


def _tail(element: Any) -> str:
    """Return what follows an element, but no comma or dash between two raised references."""
    text, after = _running(element.tail), element.getnext()
    between = after is not None and _refers(element) and _refers(after)
    return "" if between and not _worded(text) else text


def _raised(element: Any) -> str:
    """Return 10⁹ for a raised 9, and nothing for a reference, which would run into the word."""
    if _refers(element) or _joins(element):
        return ""
    text = _running("".join(element.itertext()))
    raised = text.translate(_RAISED)
    return raised if not set(raised) & set(text) - {" "} else text


def _refers(element: Any) -> bool:
    """Say whether an element is a raised reference to a source or a footnote, or holds one."""
    local = _local(element)
    if local == "xref":
        whole = element.find(".//{*}sup") is not None and not _worded(_text(element))
        return whole or _within(element, "sup")
    inside = element.find(".//{*}xref") is not None
    return local == "sup" and (inside or _within(element, "xref"))


def _joins(element: Any) -> bool:
    """Say whether something raised only parts two references, as a comma does."""
    before, after = element.getprevious(), element.getnext()
    if before is None or after is None:
        return False
    text = "".join((before.tail or "", *element.itertext(), element.tail or ""))
    return not _worded(text) and _refers(before) and _refers(after)


def _within(element: Any, name: str) -> bool:
    return next(element.iterancestors(f"{{*}}{name}"), None) is not None


def _worded(text: str) -> bool:
    return any(map(str.isalnum, text))


def _running(text: str | None) -> str:
    return re.sub(r"\s+", " ", text or "")


def _local(element: Any) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _id(article: Any) -> str:
    ids = {
        element.get("pub-id-type"): "".join(element.itertext()).strip()
        for element in article.findall("{*}front/{*}article-meta/{*}article-id")
    }
    found = next((ids[kind] for kind in _IDS if ids.get(kind)), "")
    name = f"PMC{found}" if found.isdigit() else found
    return name if name.isprintable() else ""
