"""Marks that chat templates take for their own, broken where a report or an answer has them."""

from __future__ import annotations

import re
import string

# Marks that chat templates take for their own, by the lists that tokenizers publish: those in
# angle brackets of nearly all families (DeepSeek's with a full-width bar, MiniMax's with another
# bracket), and words in square brackets, of Mistral's, GLM's, Kimi's and older ones.
_SIGNS = "|\uff5c/_]"
AFTER = _SIGNS + string.ascii_letters
WORDS = (
    *("INST", "SYSTEM_PROMPT", "AVAILABLE_TOOLS", "TOOL_RESULTS", "TOOL_CALLS", "TOOL_CONTENT"),
    *("MODEL_SETTINGS", "ARGS", "CALL_ID", "THINK", "PREFIX", "MIDDLE", "SUFFIX", "IMG"),
    *("IMG_BREAK", "IMG_END", "AUDIO", "BEGIN_AUDIO", "TRANSCRIBE", "gMASK", "sMASK"),
    *("BOS", "EOS", "EOT", "UNK", "PAD", "MASK", "CLS", "SEP", "start_header_id", "end_header_id"),
)
# EXAONE's, MiniMax's, InternLM's, those of DSPy's own prompts, and the ends of Falcon's words
# (">>TITLE<<"): each is broken after its first letter.
PAIRS = ("[|", "]~", "]!", "[e~[", "[UNUSED_TOKEN_", "[[ ##", *(f"{end}<<" for end in "ENRTXY"))
CONTROL = re.compile(
    rf"<(?=[{re.escape(_SIGNS)}A-Za-z])|\[(?=/?(?:{'|'.join(WORDS)})\])"
    + "".join(f"|{re.escape(pair[0])}(?={re.escape(pair[1:])})" for pair in PAIRS)
)


def defuse(text: str) -> str:
    """Break what looks like markup of a chat template, by one space, so that it stays text."""
    return CONTROL.sub(lambda match: f"{match.group()} ", text)
