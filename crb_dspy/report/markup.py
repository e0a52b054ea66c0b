"""A report as HTML: its text untouched, its quotes as nested marks that style sheets can tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from markupsafe import Markup

from crb_dspy.data.cases import Case
from crb_dspy.quotes.grounding import Span
from crb_dspy.report.placing import FOUND, Placed
from crb_dspy.report.segments import (
    GOLD,
    LOST_A,
    LOST_B,
    NEGATIVE,
    VIEWS,
    Layer,
    Segment,
    Stroke,
    segments,
)
from crb_dspy.scoring.tokens import Report, tokenized

_DEEPEST = 5
_HASH = "## "
# A parser would turn a carriage return into a line feed and drop a NUL.
_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;", "\r": "&#13;", "\0": "�"}
)


def body(case: Case, placed: Mapping[int, Placed], labels: Sequence[str]) -> Markup:
    """Return the text of a case, marked with the quotes of its categories (by their number)."""
    report = tokenized(case.text)
    strokes = [s for number, cell in placed.items() for s in _strokes(report, number, cell)]
    headings, cues = _headings(case), _cues(case.text, strokes)
    cuts = [at for span in (*headings, *cues) for at in span]
    cuts += [start + len(_HASH) for start, _ in headings]
    pieces = segments(len(case.text), strokes, cuts)
    html = _Html(case.text, labels, {start for start, _ in cues}, {at for at, _ in headings})
    return Markup("".join(html.lines(pieces, headings)))


def _strokes(report: Report, number: int, cell: Placed) -> Iterator[Stroke]:
    bits = ((cell.gold, GOLD), *zip(cell.predicted, (own for own, _ in VIEWS), strict=True))
    for quotes, bit in bits:
        for quote in quotes:
            for span in quote.spans:
                yield Stroke(*span, number, bit)
                if quote.negative:
                    yield Stroke(*span, number, NEGATIVE)
    for spans, bit in zip(cell.lost, (LOST_A, LOST_B), strict=True):
        yield from (Stroke(*span, number, bit) for span in spans)
    for run, (own, _) in enumerate(VIEWS):
        covered = [span for quote in cell.predicted[run] for span in quote.spans]
        gold = [q.spans for q in cell.gold if q.kinds[run] == FOUND]
        gaps = (gap for spans in gold for span in spans for gap in _gaps(span, covered))
        # What is left of a finding that was found, if it says nothing: "the", a comma.
        yield from (Stroke(*gap, number, own) for gap in gaps if not report.tokens(gap))


def _gaps(span: Span, covered: Sequence[Span]) -> Iterator[Span]:
    """Yield the pieces of a place that no other covers; nothing of a place that none touches."""
    at = span[0]
    inside = sorted(c for c in covered if c[0] < span[1] and span[0] < c[1])
    for start, end in inside:
        if at < start:
            yield at, start
        at = max(at, end)
    if inside and at < span[1]:
        yield at, span[1]


def _headings(case: Case) -> list[Span]:
    spans, end = [], 0
    for heading, section in case.sections.items():
        start, end = end, end + len(f"## {heading}\n")
        spans.append((start, end))
        end += len(section) + len("\n\n")
    return spans


def _cues(text: str, strokes: Sequence[Stroke]) -> list[Span]:
    """Return the words that negate and stand in a quote."""
    quoted = {at for stroke in strokes for at in range(stroke.start, stroke.end)}
    report = tokenized(text)
    spans = (report.spans[i] for i in sorted(report.cues))
    return [span for span in spans if span[0] in quoted]


class _Html:
    """Writes segments; remembers what the one before was, to label each passage once."""

    def __init__(self, text: str, labels: Sequence[str], cues: set[int], hashes: set[int]) -> None:
        self.text, self.labels, self.cues, self.hashes = text, labels, cues, hashes
        self.kinds: dict[int, tuple[str, str]] = {}

    def lines(self, pieces: Sequence[Segment], headings: Sequence[Span]) -> Iterator[str]:
        opening, closing = ({span[side] for span in headings} for side in (0, 1))
        for piece in pieces:
            if piece.start in closing:
                yield "</span>"
            if piece.start in opening:
                yield '<span class="heading" role="heading" aria-level="4">'
            yield self.segment(piece)
        if pieces and pieces[-1].end in closing:
            yield "</span>"

    def segment(self, piece: Segment) -> str:
        inner = self.text[piece.start : piece.end].translate(_ESCAPES)
        if piece.start in self.cues:
            inner = f'<b class="neg">{inner}</b>'
        if piece.start in self.hashes:
            inner = f'<span class="hash">{inner}</span>'
        opened = "".join(self.mark(layer) for layer in piece.layers)
        self.kinds = {layer.category: (layer.kind(0), layer.kind(1)) for layer in piece.layers}
        return opened + inner + "</mark>" * len(piece.layers)

    def mark(self, layer: Layer) -> str:
        number, kinds = layer.category, (layer.kind(0), layer.kind(1))
        before = self.kinds.get(number, ("", ""))
        classes = [f"c{number}", f"d{min(layer.level, _DEEPEST)}"]
        classes += ["n"] * bool(layer.bits & NEGATIVE)
        begins = False
        for view, kind, last in zip("ab", kinds, before, strict=True):
            if kind:
                classes.append(view + kind)
                if kind != last:
                    classes.append(f"t{view}")
                    begins = True
        label = f' data-t="{self.labels[number].translate(_ESCAPES)}"' if begins else ""
        return f'<mark class="{" ".join(classes)}"{label}>'
