"""What every call to a server carries beside its prompt: a key, parameters, headers."""

from __future__ import annotations

import os
from typing import Any

from crb_dspy.errors import LEAST, UserError, hide
from crb_dspy.models import parameters
from crb_dspy.models.settings import Settings


def beside_of(settings: Settings) -> dict[str, Any]:
    """Return what is sent beside a prompt."""
    sent = parameters.resolved(settings.sent)
    if (settings.api_base or settings.embedded) and settings.model.startswith(
        ("openai/", "local/")
    ):
        # Some servers stream unless they are told not to.
        sent["extra_body"] = {"stream": False, **(sent.get("extra_body") or {})}
    return sent


def key_of(settings: Settings) -> dict[str, str]:
    """Return the key to pass on, nothing where LiteLLM finds it by itself."""
    if settings.api_base and "/" not in settings.model:
        raise UserError(
            f"model '{settings.model}' at {settings.api_base}: say how it is spoken to, "
            f"openai/{settings.model} for vLLM, SGLang, llama.cpp and most others"
        )
    if name := settings.api_key_env:
        if not (key := os.environ.get(name)):
            raise UserError(f"{name}: set this environment variable to the key of {settings.model}")
        if len(key) >= LEAST:  # else it is a word
            hide(key)
        return {"api_key": key}
    # OpenAI's client refuses to start without a key, which local servers don't ask for.
    keyless = settings.api_base and "OPENAI_API_KEY" not in os.environ
    return {"api_key": "none"} if keyless and settings.model.startswith("openai/") else {}
