"""Prompts for people: what was tuned, as a difference from the seed, then every prompt whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import unified_diff
from itertools import pairwise
from pathlib import Path

from crb_dspy.export._seam import Call, Export, Exporter, Prompt, Render, prompts_of
from crb_dspy.export._text import PLACEHOLDER, control, fill

FILE = "prompts.md"
_BLOCK = re.compile(r"^(`{3,})(\w+)\n(.*?)\n\1$", re.DOTALL | re.MULTILINE)
_RULE = re.compile(r"^after each match of `(.*)`,", re.MULTILINE)


class Markdown(Exporter):
    """`prompts.md`: a section a prompt, its difference from the seed and both messages."""

    name = "markdown"
    about = "the prompts for people, seed against tuned"
    carries = frozenset({"layout", "marks", "reasoning"})

    def write(self, export: Export, folder: Path) -> None:
        """Write one document."""
        from crb_dspy.saved import Saved

        saved = export.saved
        seeds = {p.name: p for p in prompts_of(Saved(saved.seed, saved.schema, saved.origin))}
        head = (
            f"# Prompts of {saved.origin.program}\n\n"
            f"The report stands where the first `{PLACEHOLDER}` of a prompt is, with a space\n"
            f"after each match of `{control()}`, which a chat template could take for its own.\n"
        )
        sections = [_section(prompt, seeds[prompt.name]) for prompt in export.first]
        text = "\n".join([head, *sections])
        # A lone half of a character pair cannot be written; the check would tell.
        (folder / FILE).write_bytes(text.encode("utf-8", "replace"))

    def reader(self, export: Export, folder: Path) -> Render:
        """Take the fenced texts of a section by the rule at the top."""
        text = (folder / FILE).read_bytes().decode("utf-8")
        (pattern,) = _RULE.findall(text)
        starts = [text.index(f"\n## Prompt `{prompt.name}`\n") for prompt in export.first]
        sections = [text[start:end] for start, end in pairwise([*starts, len(text)])]
        named = dict(zip((prompt.name for prompt in export.first), sections, strict=True))

        def render(prompt: str, report: str, found: Sequence[str]) -> Call:
            blocks = {kind: content for _, kind, content in _BLOCK.findall(named[prompt])}
            user = fill(blocks["user"], report, pattern)
            return {
                "messages": [
                    {"role": "system", "content": blocks["system"]},
                    {"role": "user", "content": user},
                ]
            }

        return render


def _section(tuned: Prompt, seed: Prompt) -> str:
    before, after = _user(seed).split("\n"), _user(tuned).split("\n")
    lines = list(unified_diff(before, after, "seed", "tuned", lineterm=""))
    change = _fenced("diff", "\n".join(lines)) if lines else "As the seed.\n"
    keys = ", ".join(tuned.keys)
    return (
        f"## Prompt `{tuned.name}`\n\n"
        f"Asks for {keys}; answers have at most {tuned.max_tokens} tokens.\n\n"
        f"{change}\n{_fenced('system', tuned.system)}\n{_fenced('user', _user(tuned))}"
    )


def _user(prompt: Prompt) -> str:
    return f"{prompt.before}{PLACEHOLDER}{prompt.after}"


def _fenced(kind: str, text: str) -> str:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(4, longest + 1)
    return f"{fence}{kind}\n{text}\n{fence}\n"
