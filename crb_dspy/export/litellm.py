"""Dotprompt files as LiteLLM's prompt management reads them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from crb_dspy.export._seam import Call, Export, Exporter, Prompt, Render, beside
from crb_dspy.export._text import jinja, jinja_marks

_ROLES = ("System:", "User:", "Assistant:")


class LiteLLM(Exporter):
    """`NAME.prompt` a prompt; LiteLLM finds it as `prompt_id` and wants the variable `report`.

    LiteLLM strips every line and takes a line that begins with a role for a new message, after
    the report is put in: so spaces at the ends of a report's lines are lost, and the template
    puts a space before the colon of such a line. Prompts that need such lines are refused.
    LiteLLM's proxy takes model, settings and schema from the file; `litellm.completion` takes
    messages and model only (so in 1.106), and has to be given the others.
    """

    name = "litellm"
    about = "dotprompt files for LiteLLM; lines of a report lose the spaces at their ends"
    carries = frozenset({"layout", "marks", "schema", "settings", "reasoning"})

    def write(self, export: Export, folder: Path) -> None:
        """Write one file a prompt."""
        for prompt in export.first:
            text = f"---\n{_front(export, prompt)}---\n{_template(prompt)}"
            (folder / f"{prompt.name}.prompt").write_text(text, "utf-8", newline="\n")

    def reader(self, export: Export, folder: Path) -> Render:
        """Render with LiteLLM itself."""
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        from litellm.integrations.dotprompt import DotpromptManager

        manager = DotpromptManager(prompt_directory=str(folder))

        def render(prompt: str, report: str, found: Sequence[str]) -> Call:
            _, messages, settings = manager.get_chat_completion_prompt(
                model="dotprompt/any",
                messages=[],
                non_default_params={},
                prompt_id=prompt,
                prompt_variables={"report": report},
                dynamic_callback_params={},
            )
            return {**settings, "messages": messages}

        return render

    def shown(self, report: str) -> str:
        """Return a report as LiteLLM leaves it."""
        lines = (line.strip() for line in report.split("\n"))
        return "\n".join(re.sub(r"^(System|User|Assistant):", r"\1 :", line) for line in lines)


def _front(export: Export, prompt: Prompt) -> str:
    """Return the settings as YAML, of which JSON is a part."""
    origin = export.saved.origin
    settings = {
        "temperature": origin.temperature,
        "max_tokens": prompt.max_tokens,
        "response_format": prompt.response_format,
        **beside(export),
        "input": {"schema": {"report": "string"}},
    }
    # LiteLLM knows no embedded model; without a name it takes the caller's.
    named = {} if origin.model.startswith("local/") else {"model": origin.model}
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in {**named, **settings}.items())


def _template(prompt: Prompt) -> str:
    roles = ", ".join(f'"{role}"' for role in _ROLES)
    lines = (
        f"{{% set text %}}{jinja_marks('report', ' | safe')}{{% endset %}}"
        '{% for line in text.split("\\n") %}'
        '{% if not loop.first %}{{ "\\n" }}{% endif %}'
        f"{{% if line.strip().startswith(({roles})) %}}"
        '{{ line.strip().replace(":", " :", 1) }}'
        "{% else %}{{ line }}{% endif %}{% endfor %}"
    )
    user = f"{jinja(prompt.before)}{lines}{jinja(prompt.after)}"
    return f"System: {jinja(prompt.system)}\nUser: {user}"
