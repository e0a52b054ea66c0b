"""A configuration for promptfoo: prompts, model, test cases."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crb_dspy.export._seam import Call, Export, Exporter, Prompt, Render, beside
from crb_dspy.export._text import jinja, jinja_marks

if TYPE_CHECKING:
    from jinja2 import Template

    from crb_dspy.data.cases import Case
    from crb_dspy.data.kind import Kind

FILE = "promptfooconfig.yaml"
_PROVIDERS = {
    "openai": "openai:chat:",
    "local": "openai:chat:",
    "hosted_vllm": "openai:chat:",
    "anthropic": "anthropic:messages:",
    # By Ollama's API in OpenAI's shape: promptfoo's provider for its own one reads no settings of
    # a prompt, and no address but that of the environment.
    "ollama": "openai:chat:",
    "ollama_chat": "openai:chat:",
}
# On several lines, which promptfoo takes for the body of a function.
_SHARE = """\
const answer = typeof output === "string" ? JSON.parse(output) : output;
const found = answer["KEY"] || [];
const gold = context.vars.gold.quotes;
const hits = found.filter((quote) => gold.includes(quote)).length;
return found.length + gold.length ? (2 * hits) / (found.length + gold.length) : 1;
"""
_EXAMPLE = "A 3-year-old girl had vomiting since birth. She had no seizures."


class Promptfoo(Exporter):
    """`promptfooconfig.yaml` and `prompts/`; test cases are those of --data.

    A report is the variable `report.text`, since promptfoo takes braces in plain variables for
    templates. The score of its tests is F1 over whole quotes, not this project's objective. A
    Claude model is sent the schema without bounds of its lists, which Anthropic refuses.
    """

    name = "promptfoo"
    about = "a promptfoo configuration with prompts and the test cases of --data"
    carries = frozenset({"layout", "marks", "schema", "settings", "reasoning"})
    wants_cases = True

    def write(self, export: Export, folder: Path) -> None:
        """Write the configuration as JSON, which is YAML, and one file a prompt."""
        from crb_dspy.files import as_json

        (folder / "prompts").mkdir()
        for prompt in export.first:
            text = as_json(_messages(prompt), indent=1) + "\n"
            (folder / "prompts" / f"{prompt.name}.json").write_text(text, "utf-8")
        origin = export.saved.origin
        config = {
            "description": f"{origin.program}, tuned on {origin.model}",
            "prompts": [_entry(export, prompt) for prompt in export.first],
            "providers": [_provider(origin.model, origin.api_base)],
            "tests": list(_tests(export)),
        }
        (folder / FILE).write_text(as_json(config, indent=1) + "\n", "utf-8")

    def reader(self, export: Export, folder: Path) -> Render:
        """Render with Jinja 2 what promptfoo renders with Nunjucks."""
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(keep_trailing_newline=True)
        config = json.loads((folder / FILE).read_text("utf-8"))
        entries = {entry["label"]: entry for entry in config["prompts"]}
        prompts = {prompt.name: prompt for prompt in export.first}

        @cache
        def templates(file: str) -> list[tuple[str, Template]]:
            messages = json.loads((folder / file.removeprefix("file://")).read_text("utf-8"))
            return [(one["role"], environment.from_string(one["content"])) for one in messages]

        def render(prompt: str, report: str, found: Sequence[str]) -> Call:
            entry = entries[prompt]
            messages = [
                {"role": role, "content": template.render(report={"text": report})}
                for role, template in templates(entry["id"])
            ]
            return {**_settings(entry["config"], prompts[prompt]), "messages": messages}

        return render


def _messages(prompt: Prompt) -> list[dict[str, str]]:
    user = f"{jinja(prompt.before)}{jinja_marks('report.text')}{jinja(prompt.after)}"
    return [
        {"role": "system", "content": jinja(prompt.system)},
        {"role": "user", "content": user},
    ]


def _entry(export: Export, prompt: Prompt) -> dict[str, Any]:
    origin = export.saved.origin
    claude = origin.model.startswith("anthropic/")
    schema = (
        {"output_format": _unbounded(prompt)}
        if claude
        else {"response_format": prompt.response_format}
    )
    config = {"temperature": origin.temperature, "max_tokens": prompt.max_tokens, **schema}
    if sent := beside(export):
        config["passthrough"] = sent
    return {"id": f"file://prompts/{prompt.name}.json", "label": prompt.name, "config": config}


def _unbounded(prompt: Prompt) -> dict[str, Any]:
    """Return the schema in the shape of Anthropic's API, which refuses bounds of lists."""
    properties = {
        name: {key: value for key, value in entry.items() if key != "maxItems"}
        for name, entry in prompt.schema["properties"].items()
    }
    return {"type": "json_schema", "schema": {**prompt.schema, "properties": properties}}


def _settings(config: Mapping[str, Any], prompt: Prompt) -> Call:
    """Return what a prompt's configuration sends, in the shape of OpenAI's API."""
    read = {name: its for name, its in config.items() if name != "passthrough"}
    if "output_format" in read:
        same = read.pop("output_format") == _unbounded(prompt)
        read["response_format"] = prompt.response_format if same else None
    return read


def _provider(model: str, api_base: str | None) -> dict[str, Any]:
    family, _, name = model.partition("/")
    # Behind promptfoo's "litellm" stands a LiteLLM proxy, which knows any model.
    known = _PROVIDERS.get(family)
    config: dict[str, Any] = {}
    if base := _base(family, api_base):
        config["apiBaseUrl"] = base
    if family == "local" or family.startswith("ollama"):
        config["apiKeyRequired"] = False
    return {"id": f"{known}{name}" if known and name else f"litellm:{model}", "config": config}


def _base(family: str, api_base: str | None) -> str | None:
    if family.startswith("ollama"):
        return f"{(api_base or 'http://127.0.0.1:11434').rstrip('/')}/v1"
    return api_base or ("http://127.0.0.1:8080/v1" if family == "local" else None)


def _tests(export: Export) -> Iterator[dict[str, Any]]:
    parts, kinds = export.saved.program.parts, export.saved.schema.kinds
    for prompt in export.first:
        for case in export.cases:
            shown = parts[prompt.part].shown(case)
            yield _test(prompt, f"{case.id}: {prompt.name}", shown) | _judged(
                prompt, case, shown, kinds
            )
        if not export.cases:
            yield _test(prompt, f"example: {prompt.name}", _EXAMPLE)


def _test(prompt: Prompt, description: str, report: str) -> dict[str, Any]:
    return {
        "description": description,
        "prompts": [prompt.name],
        "vars": {"report": {"text": report}},
        "assert": [{"type": "is-json", "value": prompt.schema}],
    }


def _judged(prompt: Prompt, case: Case, shown: str, kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """Add gold, where a case has it and a prompt asks for one category of quotes."""
    if case.gold is None or len(prompt.keys) > 1:
        return {}
    (key,) = prompt.keys
    if not kinds[key].verbatim:
        return {"vars": {"report": {"text": shown}}}
    checks = [
        {"type": "is-json", "value": prompt.schema},
        {"type": "javascript", "value": _SHARE.replace("KEY", key), "threshold": 0},
    ]
    gold = {"quotes": list(case.gold.get(key, ()))}
    return {"vars": {"report": {"text": shown}, "gold": gold}, "assert": checks}
