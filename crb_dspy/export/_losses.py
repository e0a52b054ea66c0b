"""Where what a format lacks touched a finding: there, and nowhere else, an export may differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crb_dspy.export._seam import NEEDS, Exporter, Quotes, looks
from crb_dspy.quotes.grounding import Status, ground

if TYPE_CHECKING:
    from crb_dspy.data.cases import Case
    from crb_dspy.program import Part

SECTIONS = "the program was shown a choice of sections"
PIECES = "the program read the report in pieces"
ALTERED = "the format alters the text of the report"
SECOND = "the program looked a second time"
SILENCE = "the program left a category empty by the model's own probability"
WHETHER = "the program asked first whether there is anything of a category"
PRUNING = "the program left out quotes at a second look"
CLASSIFIER = "the program has a sentence classifier beside the model"
UNGROUNDED = "the program dropped quotes that are not in the report"
_LOOKS = {"whether": WHETHER, "pruning": PRUNING, "silence": SILENCE}


class Losses:
    """What one format lost of one part's reading of a case, in the context of the model asked.

    `alone` says that the artefact was given the whole case and cut no sections out of it.
    """

    def __init__(self, exporter: Exporter, part: Part, case: Case, *, alone: bool) -> None:
        self._lost = frozenset(NEEDS) - exporter.carries
        self._part, self._text = part, part.shown(case)
        self._chosen = alone and self._text != case.text
        self._altered = exporter.shown(self._text) != self._text

    def excuse(self, own: Quotes, other: Quotes) -> str:
        """Say why an export may have found `other` where the program found `own`, "" if not."""
        if "classifier" in self._lost and self._part.support:
            return CLASSIFIER
        if looked := sorted(looks(self._part) & self._lost):
            return _LOOKS[looked[0]]
        if self._chosen and "sections" in self._lost:
            return SECTIONS
        if not self._text.strip():
            return ""
        if self._altered:
            return ALTERED
        if "pieces" in self._lost and self._in_pieces():
            return PIECES
        return self._by_quotes(own, other)

    def _in_pieces(self) -> bool:
        try:
            return len(self._part.pieces(self._text)) > 1
        except ValueError:  # not even a piece has room
            return True

    def _by_quotes(self, own: Quotes, other: Quotes) -> str:
        """Compare answers that the losses must have left alike but for what was lost."""
        quoted = all(kind.verbatim for kind in self._part.kinds.values())
        dropped = "grounding" in self._lost and quoted and not self._part.keep_ungrounded
        kept = [quote for quote in other or () if not dropped or self._grounded(quote)]
        if self._twice() and (own is None or (other is not None and set(kept) <= set(own))):
            return SECOND
        alike = own is not None and other is not None and kept == list(own)
        return UNGROUNDED if dropped and alike else ""

    def _twice(self) -> bool:
        return "second_pass" in self._lost and self._part.twice

    def _grounded(self, quote: str) -> bool:
        return ground(self._text, quote).status is not Status.UNGROUNDED
