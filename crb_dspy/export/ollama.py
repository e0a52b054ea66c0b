"""Modelfiles for Ollama, one a prompt: whoever talks to the model sends the report and no more."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from crb_dspy.errors import RunError, UserError
from crb_dspy.export._seam import Call, Export, Exporter, Prompt, Render, beside
from crb_dspy.export._text import control

# How a message begins and ends, by words in a model's name.
_FAMILIES = {
    r"qwen|smollm|hermes|chatml": ("<|im_start|>{}\n", "<|im_end|>\n"),
    r"llama-?3": ("<|start_header_id|>{}<|end_header_id|>\n\n", "<|eot_id|>"),
}
# Its distilled models bear another family's name, and have a template of their own.
_DISTILLER = "deepseek"
_QUOTED = re.compile(r'^(SYSTEM|TEMPLATE) """(.*?)"""$', re.DOTALL | re.MULTILINE)
_PARAMETER = re.compile(r"^PARAMETER (\S+) (\S+)$", re.MULTILINE)
_RULE = re.compile(r"^# in it: (.*)$", re.MULTILINE)
# Go takes the first "{{" it meets for the beginning of an action, whatever follows.
_ACTION = re.compile(r'\{\{(?: (?:\.(System|Prompt|Response)|"((?:[^"\\]|\\.)*)") \}\})?')
# Braces at the end come before the action that shows the report.
_LITERAL = re.compile(r'\{*"""|\{{2,}|\{\Z')
# Ollama cuts off the beginning of what does not fit, which would be the report.
_CONTEXT = 8192


class Ollama(Exporter):
    """`NAME.Modelfile` and `NAME.schema.json`, which a request must carry as its `format`.

    A Modelfile holds the chat template, so it is written for known families of models only.
    """

    name = "ollama"
    about = "a Modelfile a prompt; whoever calls breaks control marks and sends the schema"
    carries = frozenset({"layout", "settings", "reasoning"})

    def write(self, export: Export, folder: Path) -> None:
        """Write both files of every prompt."""
        for prompt in export.first:
            file = folder / f"{prompt.name}.Modelfile"
            file.write_bytes(_modelfile(export, prompt).encode("utf-8", "replace"))
            schema = json.dumps(prompt.schema, indent=1) + "\n"
            (folder / f"{prompt.name}.schema.json").write_text(schema, "utf-8")

    def reader(self, export: Export, folder: Path) -> Render:
        """Read a Modelfile's instructions and fill its template; the marks are the caller's."""

        def render(prompt: str, report: str, found: Sequence[str]) -> Call:
            text = (folder / f"{prompt}.Modelfile").read_bytes().decode("utf-8")
            (pattern,) = _RULE.findall(text)
            plain = re.sub(pattern, lambda match: f"{match[0]} ", report)
            quoted, settings = dict(_QUOTED.findall(text)), dict(_PARAMETER.findall(text))
            filled = {"System": quoted["SYSTEM"], "Prompt": plain, "Response": ""}
            start, end = _family(export.saved.origin.model)
            turns = [
                quoted["TEMPLATE"].partition(start.format(role))[2].partition(end)[0]
                for role in ("system", "user")
            ]
            return {
                "messages": [
                    {"role": role, "content": _ACTION.sub(lambda m: _value(m, filled), turn)}
                    for role, turn in zip(("system", "user"), turns, strict=True)
                ],
                "max_tokens": int(settings["num_predict"]),
                "temperature": float(settings["temperature"]),
            }

        return render


def _family(model: str) -> tuple[str, str]:
    for names, marks in _FAMILIES.items():
        if re.search(names, model, re.IGNORECASE) and _DISTILLER not in model.lower():
            return marks
    raise UserError(
        f"ollama: the chat template of '{model}' is not known here, and a Modelfile has to hold "
        "it: choose --to messages, or a program tuned on a Qwen or Llama 3 model"
    )


def _modelfile(export: Export, prompt: Prompt) -> str:
    origin = export.saved.origin
    start, end = _family(origin.model)
    user = f"{_go(prompt.before)}{{{{ .Prompt }}}}{_go(prompt.after)}"
    turns = {"system": "{{ .System }}", "user": user}
    template = "".join(f"{start.format(role)}{turn}{end}" for role, turn in turns.items())
    template += f"{start.format('assistant')}{{{{ .Response }}}}{end}"
    return (
        f"# Asks for {', '.join(prompt.keys)}. Send the report as the whole message, a space after"
        f"\n# each match of this regular expression\n# in it: {control()}\n"
        f"# and {prompt.name}.schema.json as the request's `format`.\n"
        f"FROM {_base(origin.model)}\n"
        f"PARAMETER temperature {origin.temperature}\n"
        f"PARAMETER num_predict {prompt.max_tokens}\n"
        f"PARAMETER num_ctx {origin.sent.get('num_ctx') or origin.context or _CONTEXT}\n"
        f"{_parameters(export)}"
        f'SYSTEM """{prompt.system}"""\n'
        f'TEMPLATE """{template}"""\n'
    )


def _parameters(export: Export) -> str:
    """Return the lines of what else the program sends and a Modelfile knows."""
    sent = {name: its for name, its in beside(export).items() if name in _KNOWN}
    return "".join(f"PARAMETER {name} {its}\n" for name, its in sent.items())


# Parameters of a Modelfile that a request may set.
_KNOWN = ("top_p", "top_k", "min_p", "repeat_penalty", "repeat_last_n", "stop")


def _base(model: str) -> str:
    """Return the model to build on: Ollama's own name, or the file of an embedded one."""
    family, _, name = model.partition("/")
    if family != "local":
        return name or model
    return name if name.endswith(".gguf") else f"./{name}.gguf"


def _go(text: str) -> str:
    """Return a fixed text as a Go template that can stand in three quotation marks."""
    return _LITERAL.sub(lambda match: f"{{{{ {json.dumps(match[0])} }}}}", text)


def _value(action: re.Match[str], filled: dict[str, str]) -> str:
    name, literal = action.groups()
    if name is None and literal is None:
        at = action.string[action.start() :][:40]
        raise RunError(f"ollama: the template has no action at {at!r}; nothing was written")
    return filled[name] if name else str(json.loads(f'"{literal}"'))
