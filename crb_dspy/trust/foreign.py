"""What a program's file may not decide alone: which code is run, which server is asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from crb_dspy.errors import UserError
from crb_dspy.trust import consent
from crb_dspy.trust.hosts import is_here


def allow_code(program: str, *, trust: bool) -> None:
    """UserError unless there is or was trust in the code of FILE.py:Class as it is now.

    That is a program's, or that of a kind of its categories.
    """
    claim = f"it would run the Python code in {program.rpartition(':')[0]}"
    consent.allowed(claim, *_code(program), given=trust)


def allow_server(
    model: str, address: str | None, variable: str | None, *, chosen: bool, trust: bool
) -> None:
    """UserError unless there is or was trust in what a file says to ask, with which key.

    Not asked about: the usual server of a provider, one on this machine, an address that was
    `chosen` by who typed the command; but for a variable that the file names as the key's.
    """
    named = None if chosen or not address or is_here(address) else address
    named = model if "://" in model else named
    if named or variable:
        what = f"key in {variable}" if variable else "key of your environment (if there is one)"
        claim = f"the program's file says to send reports and the {what} to {named or model}"
        consent.allowed(claim, *_server(model, address, variable), given=trust)


def allow_weights(model: str, *, trust: bool) -> None:
    """UserError unless there is or was trust in a file of weights that a program's file names."""
    if model.startswith("local/") and model.endswith(".gguf"):
        named = model.removeprefix("local/")
        claim = f"the program's file says to load the weights in {named}"
        consent.allowed(claim, *_server(model, None, None), given=trust)


def allow_embeddings(models: Iterable[str], *, trust: bool) -> None:
    """UserError unless there is or was trust in the models of embeddings that a file names."""
    for model in models:
        claim = f"the program's file says to load embeddings of {model}, from a folder or the hub"
        consent.allowed(claim, "embeddings", model, given=trust)


def agree_embeddings(model: str) -> None:
    """Remember that this model of embeddings was chosen on this machine."""
    consent.agree("embeddings", model)


def allow_request(redirecting: Mapping[str, Any], *, trust: bool) -> None:
    """UserError unless there is or was trust in parameters that may change where a request goes.

    Headers, addresses and variables of the environment do; sampling parameters don't.
    """
    if redirecting:
        named = ", ".join(f"request.{name}" for name in redirecting)
        claim = f"the program's file says to send headers, addresses or variables along: {named}"
        consent.allowed(claim, *_request(redirecting), given=trust)


def agree_request(redirecting: Mapping[str, Any]) -> None:
    """Remember that these parameters were chosen on this machine."""
    if redirecting:
        consent.agree(*_request(redirecting))


def agree(program: str | None, model: str, address: str | None, variable: str | None) -> None:
    """Remember that code and server were chosen on this machine."""
    if program:
        agree_code(program)
    consent.agree(*_server(model, address, variable))


def agree_code(name: str) -> None:
    """Remember that this code was chosen on this machine."""
    consent.agree(*_code(name))


def _code(program: str) -> tuple[str, ...]:
    name, _, attribute = program.rpartition(":")
    return ("code", attribute, hashlib.sha256(Path(name).read_bytes()).hexdigest())


def _request(redirecting: Mapping[str, Any]) -> tuple[str, str]:
    return ("request", json.dumps(redirecting, sort_keys=True))


def _server(*values: str | None) -> tuple[str | None, ...]:
    return ("server", *values)


def allow_kinds(now: Mapping[str, str], then: Mapping[str, str], *, trust: bool) -> None:
    """UserError unless the code of a schema's own kinds is what it was, and trusted; runs none."""
    if now != then:
        raise UserError("the code of its own kinds is not what it was; compile again")
    for name in then:
        allow_code(name, trust=trust)
