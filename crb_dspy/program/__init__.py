"""What a program is made of: the face that programs of one's own import."""

from crb_dspy.program.extraction import ExtractionProgram, Tunable, with_support
from crb_dspy.program.parts import Demonstration, Part, Reading, attempt
from crb_dspy.program.signatures import signature_for
from crb_dspy.retrieval.use import Use

__all__ = [
    "Demonstration",
    "ExtractionProgram",
    "Part",
    "Reading",
    "Tunable",
    "Use",
    "attempt",
    "signature_for",
    "with_support",
]
