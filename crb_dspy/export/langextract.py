"""Prompt descriptions and examples for LangExtract, which lays prompts out in its own way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from crb_dspy.export._seam import Export, Exporter, Prompt, beside

_COPY = "Copy whole phrases from the text, word for word, with their values and negations."
_SCRIPT = '''#!/usr/bin/env python3
"""Quote findings with LangExtract: python extract.py MODEL_ID REPORT.txt [URL [KEY]] (JSON out).

LangExtract 1.7 or later. It holds no answers of Ollama's own API to a schema: give the URL of the
one that ends in /v1.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

# An environment that holds other packages back may have been given an old one.
found = version("langextract")
if tuple(map(int, found.split(".")[:2])) < (1, 7):
    print(f"LangExtract {found} is too old: pip install 'langextract>=1.7'", file=sys.stderr)
    sys.exit(2)

import langextract as lx  # noqa: E402
from langextract.prompt_validation import PromptValidationLevel  # noqa: E402


# The settings that LangExtract hands on to a server with a URL.
SENT = {"temperature", "max_output_tokens", "top_p", "frequency_penalty", "presence_penalty"}
SENT |= {"seed", "stop", "logprobs", "top_logprobs", "reasoning_effort"}


def examples(document):
    """Return the examples of a prompt as LangExtract's own."""
    return [
        lx.data.ExampleData(e["text"], [lx.data.Extraction(**x) for x in e["extractions"]])
        for e in document["examples"]
    ]


def main(model, report, url=None, key=None):
    """Ask every prompt beside this file about a report."""
    place = {"base_url": url, "api_key": key}
    given = {name: value for name, value in place.items() if value}
    folder, found = Path(__file__).parent, {}
    settings = json.loads((folder / "settings.json").read_text("utf-8"))
    lost = sorted({name for own in settings.values() for name in own} - SENT) if url else []
    if lost:
        print(f"LangExtract does not send: {', '.join(lost)}", file=sys.stderr)
    for path in sorted(folder.glob("*.prompt.json")):
        document = json.loads(path.read_text("utf-8"))
        schema = path.with_name(path.name.replace(".prompt.", ".schema."))
        config = lx.factory.ModelConfig(
            model_id=model,
            provider="OpenAILanguageModel" if url else None,
            provider_kwargs={**given, **settings[path.name]},
        )
        result = lx.extract(
            Path(report).read_text("utf-8"),
            prompt_description=document["description"],
            examples=examples(document),
            config=config,
            # Its own one allows no other categories than those of the examples.
            output_schema=json.loads(schema.read_text("utf-8")),
            show_progress=False,
            # It fails on an example with nothing to extract (1.7), and these come word for word.
            prompt_validation_level=PromptValidationLevel.OFF,
        )
        for extraction in result.extractions or []:
            quotes = found.setdefault(extraction.extraction_class, [])
            quotes.append(extraction.extraction_text)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
'''


class LangExtract(Exporter):
    """`NAME.prompt.json` a prompt, in LangExtract's structure, `extract.py`, which asks them.

    `NAME.schema.json` is LangExtract's `output_schema`, which also lets it ask without examples.
    `settings.json` holds temperature, token limit and the program's parameters of a request. To a
    server with a URL, LangExtract hands on those that OpenAI's API has of old; the script names
    the others, which it leaves out.
    """

    name = "langextract"
    about = "prompt description and examples; LangExtract has a layout and a parser of its own"
    carries = frozenset({"settings", "pieces"})
    quotes_only = True

    def write(self, export: Export, folder: Path) -> None:
        """Write a description with examples for each prompt, and a script that uses them."""
        from crb_dspy.files import as_json

        for prompt in export.first:
            document = {
                "description": _description(export, prompt),
                "examples": [_example(prompt, n) for n in range(len(prompt.demonstrations))],
            }
            for kind, content in (("prompt", document), ("schema", _schema(prompt))):
                text = as_json(content, indent=1) + "\n"
                (folder / f"{prompt.name}.{kind}.json").write_text(text, "utf-8")
        origin = export.saved.origin
        seed = {"seed": origin.seed} if origin.temperature else {}
        own = {"temperature": origin.temperature, **seed, **beside(export)}
        settings = {
            f"{prompt.name}.prompt.json": {**own, "max_output_tokens": prompt.max_tokens}
            for prompt in export.first
        }
        (folder / "settings.json").write_text(as_json(settings, indent=1) + "\n", "utf-8")
        (folder / "extract.py").write_text(_SCRIPT, "utf-8")

    def faults(self, export: Export, folder: Path) -> list[str]:
        """Compare instructions and demonstrations with the program's, there being no messages."""
        return [fault for prompt in export.first for fault in _faults(export, prompt, folder)]


def _description(export: Export, prompt: Prompt) -> str:
    """Return the instruction, and the categories: an answer names the one of each quote."""
    named = [c for c in export.saved.schema.categories if c.key in prompt.keys]
    lines = [f"- {c.key}: {c.title}. {c.guidance}" for c in named]
    return "\n".join([prompt.instruction, _COPY, "Name each by its category:", *lines])


def _schema(prompt: Prompt) -> dict[str, Any]:
    """Return what LangExtract reads from an answer: objects of a category and one quote."""
    items = [
        {
            "type": "object",
            "properties": {key: {"type": "string"}},
            "required": [key],
            "additionalProperties": False,
        }
        for key in prompt.keys
    ]
    return {
        "type": "object",
        "properties": {"extractions": {"type": "array", "items": {"anyOf": items}}},
        "required": ["extractions"],
        "additionalProperties": False,
    }


def _shown(prompt: Prompt, number: int) -> tuple[str, dict[str, list[str]]]:
    from crb_dspy.quotes.excerpts import excerpt

    demo = prompt.demonstrations[number]
    return excerpt(demo["report"], {key: list(demo[key]) for key in prompt.keys})


def _example(prompt: Prompt, number: int) -> dict[str, Any]:
    text, findings = _shown(prompt, number)
    extractions = [
        {"extraction_class": key, "extraction_text": quote}
        for key, quotes in findings.items()
        for quote in quotes
    ]
    return {"text": text, "extractions": extractions}


def _faults(export: Export, prompt: Prompt, folder: Path) -> list[str]:
    document = json.loads((folder / f"{prompt.name}.prompt.json").read_text("utf-8"))
    schema = json.loads((folder / f"{prompt.name}.schema.json").read_text("utf-8"))
    faults = []
    if document["description"] != _description(export, prompt):
        faults.append("the instruction is not the program's")
    if schema != _schema(prompt):
        faults.append("the schema does not allow its categories")
    shown, own = document["examples"], len(prompt.demonstrations)
    if len(shown) != own:
        faults.append(f"examples: {len(shown)}, where the program has {own}")
    else:
        wrong = [n + 1 for n in range(own) if _read(prompt, shown[n]) != _shown(prompt, n)]
        faults += [f"example {number} is not the program's" for number in wrong]
    return [f"{prompt.name}: {fault}" for fault in faults]


def _read(prompt: Prompt, example: dict[str, Any]) -> tuple[str, dict[str, list[str]]]:
    read: dict[str, list[str]] = {key: [] for key in prompt.keys}
    for extraction in example["extractions"]:
        read[extraction["extraction_class"]].append(extraction["extraction_text"])
    return example["text"], read
