"""Parameters of a request that go to the model as they are: `[request]` of an experiment."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator

from crb_dspy.errors import LEAST, UserError, hide, suspicious

# Headers by any of the names that LiteLLM has for them.
HEADERS = ("headers", "extra_headers")
# What has a setting of its own, which the caches and the reports know.
_SETTINGS = {
    "model": "model",
    "api_base": "api_base",
    "base_url": "api_base",
    "api_key": "api_key_env",
    "temperature": "temperature",
    "seed": "seed",
    "timeout": "timeout",
    "request_timeout": "timeout",
    "max_tokens": "max_answer_tokens",
    "max_completion_tokens": "max_answer_tokens",
}
# What would change whom LiteLLM asks, or what becomes of an answer, and not what is asked.
_NAMES = """
    messages response_format stream n tools functions mock_response mock_tool_calls client
    custom_llm_provider fallbacks context_window_fallback_dict model_list callbacks
    success_callback failure_callback input_callback num_retries max_retries caching cache
    acompletion router deployment_id proxy_server_request litellm_params logger_fn hooks
    aws_access_key_id aws_secret_access_key vertex_credentials azure_ad_token
"""
_REFUSED = frozenset(_NAMES.split())
_VARIABLE = re.compile(r"\$\{?([A-Za-z_]\w*)\}?")


def _checked(given: dict[str, Any]) -> dict[str, Any]:
    """Return parameters; ValueError for what has another place, and for a secret in them."""
    for name in given:
        if own := _SETTINGS.get(name):
            raise ValueError(f"'{name}' has a setting of its own: {own}")
        if name in _REFUSED:
            raise ValueError(f"'{name}' is no parameter that a request may set")
    try:
        json.dumps(given, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise ValueError("only texts, numbers, booleans, lists and tables can be sent") from None
    if any(suspicious(text) for text in _texts(given)):
        raise ValueError("a key or password stands in it; name a variable: headers.NAME = '$VAR'")
    return given


Parameters = Annotated[dict[str, Any], AfterValidator(_checked)]


def resolved(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as they are sent: `$NAME` in a header is the variable's value.

    UserError if it is not set. The values count as secrets from then on.
    """
    sent = {name: value for name, value in given.items() if name not in HEADERS}
    headers = {
        str(header): _VARIABLE.sub(_value, str(text))
        for name in HEADERS
        for header, text in (given.get(name) or {}).items()
    }
    return {**sent, **({"extra_headers": headers} if headers else {})}


def _value(match: re.Match[str]) -> str:
    value = os.environ.get(match[1])
    if not value:
        raise UserError(
            f"{match[1]}: set this environment variable, which a header of [request] names"
        )
    if len(value) >= LEAST:
        hide(value)
    return value


def redirects(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that may change where a request goes, or with what credentials."""
    return {
        name: value
        for name, value in given.items()
        if name in HEADERS or any("://" in text or "$" in text for text in _texts(value))
    }


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, str):
        yield value
