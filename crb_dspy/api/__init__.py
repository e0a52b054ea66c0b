"""What Python code uses: three functions, which the package itself offers by name."""

from crb_dspy.api.compiling import Compiled, compile
from crb_dspy.api.extractor import Extractor, load
from crb_dspy.api.found import Found
from crb_dspy.api.scored import score

__all__ = ["Compiled", "Extractor", "Found", "compile", "load", "score"]
