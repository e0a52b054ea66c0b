"""Versions in MLflow's prompt registry, with aliases for the tuned prompt and its seed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crb_dspy.export._seam import Call, Export, Exporter, Prompt, Render, beside, prompts_of
from crb_dspy.export._text import jinja, jinja_marks

FILE = "prompts.json"
_KEPT = ("template", "response_format", "model_config")


class MlflowPrompt(Exporter):
    """Chat prompts with the variable `report`; `prompts.json` holds what was registered.

    A prompt that stands in the registry already is not registered again.
    """

    name = "mlflow-prompt"
    about = "versions in MLflow's prompt registry, aliases `tuned` and `seed`"
    carries = frozenset({"layout", "marks", "schema", "settings", "reasoning"})

    def write(self, export: Export, folder: Path) -> None:
        """Write tuned prompts and seeds as they will be registered."""
        from crb_dspy.files import as_json
        from crb_dspy.saved import Saved

        saved = export.saved
        seeds = {p.name: p for p in prompts_of(Saved(saved.seed, saved.schema, saved.origin))}
        entries = {
            prompt.name: {
                "registered_as": f"crb_dspy.{_plain(saved.origin.program)}.{prompt.name}",
                "seed": _entry(export, seeds[prompt.name]),
                "tuned": _entry(export, prompt),
            }
            for prompt in export.first
        }
        (folder / FILE).write_text(as_json(entries, indent=1) + "\n", "utf-8")

    def reader(self, export: Export, folder: Path) -> Render:
        """Render with MLflow itself."""
        from mlflow.entities.model_registry import PromptVersion

        entries = json.loads((folder / FILE).read_text("utf-8"))

        def render(prompt: str, report: str, found: Sequence[str]) -> Call:
            tuned = entries[prompt]["tuned"]
            version = PromptVersion(entries[prompt]["registered_as"], 1, **tuned)
            settings = {key: version.model_config[key] for key in ("max_tokens", "temperature")}
            messages = version.format(report=report)
            return {**settings, "messages": messages, "response_format": version.response_format}

        return render

    def publish(self, export: Export, folder: Path) -> list[str]:
        """Register seed and tuned prompt, and point the aliases at them.

        UserError if the registry cannot be reached or refuses one.
        """
        from crb_dspy.tracking.store import connect, explained

        entries = json.loads((folder / FILE).read_text("utf-8"))
        done = []
        with explained():
            client = connect()
            for entry in entries.values():
                name = entry["registered_as"]
                for alias in ("seed", "tuned"):
                    version = _registered(client, name, entry[alias])
                    client.set_prompt_alias(name, alias, version)
                done.append(f"registered {name} version {version} as '{alias}'")
        return done


def _entry(export: Export, prompt: Prompt) -> dict[str, Any]:
    origin = export.saved.origin
    # Since it has blocks, MLflow takes it for a template of Jinja's.
    user = f"{jinja(prompt.before)}{jinja_marks('report')}{jinja(prompt.after)}"
    return {
        "template": [
            {"role": "system", "content": jinja(prompt.system)},
            {"role": "user", "content": user},
        ],
        "response_format": prompt.response_format,
        "model_config": {
            "model_name": origin.model,
            "temperature": origin.temperature,
            "max_tokens": prompt.max_tokens,
            **({"extra_params": sent} if (sent := beside(export)) else {}),
        },
    }


def _plain(program: str) -> str:
    """Return a program's name in the letters that MLflow takes."""
    return "".join(letter if letter.isalnum() else "_" for letter in Path(program).name)


def _registered(client: Any, name: str, entry: dict[str, Any]) -> int:
    """Return the version that holds an entry, made if there is none."""
    version = 1
    while found := _version(client, name, version):
        if all(getattr(found, key) == entry[key] for key in _KEPT):
            return version
        version += 1
    return int(client.register_prompt(name, **entry).version)


def _version(client: Any, name: str, version: int) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_prompt_version(name, version)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
