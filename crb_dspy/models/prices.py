"""LiteLLM's price list, read without importing LiteLLM, which takes seconds."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def price(model: str, prompt_tokens: int, completion_tokens: int) -> float:
    """Return what a call would cost in dollars, 0 for a model that is not on the list."""
    entry = _listed(model) or _listed(model.partition("/")[2])
    return _cost(entry, prompt_tokens, completion_tokens)


def dollars(model: str, usage: Mapping[str, Any]) -> float:
    """Return what a call costs that used such tokens, 0 for a model that is not on the list."""
    if not (entry := _listed(model)):
        return 0.0
    sent, written = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    kept = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return _cost(entry, sent, written, kept)


def _cost(entry: Mapping[str, Any], sent: int, written: int, kept: int = 0) -> float:
    """Return dollars for tokens; `kept` of those that were sent came from the server's cache."""
    each = entry.get("input_cost_per_token") or 0.0
    again = entry.get("cache_read_input_token_cost") or each
    last = entry.get("output_cost_per_token") or 0.0
    return float((sent - kept) * each + kept * again + written * last)


@lru_cache(maxsize=16)
def _listed(model: str) -> Mapping[str, Any]:
    loaded = getattr(sys.modules.get("litellm"), "model_cost", None)
    if loaded:
        return dict(loaded.get(model) or {})
    spec = find_spec("litellm")
    if not spec or not spec.origin:
        return {}
    path = Path(spec.origin).with_name("model_prices_and_context_window_backup.json")
    try:
        return dict(json.loads(path.read_bytes()).get(model) or {})
    except (OSError, ValueError):
        return {}
