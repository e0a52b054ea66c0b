"""What the exported script runs: this file without its imports from crb_dspy, and with prompts."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from crb_dspy.export._beside import asked_first, left_empty, looked_again
from crb_dspy.export._client import SETTINGS, Client
from crb_dspy.models.faults import spare_here
from crb_dspy.program.answers import Answer
from crb_dspy.program.prompt import example
from crb_dspy.quotes.excerpts import excerpt

# Given at the end of an exported script.
PROMPTS: list[dict[str, Any]] = []
# What stands beside the model, if anything does: `_beside.Beside`.
BESIDE: Any = None


def extract(client: Client, name: str, sections: Mapping[str, str]) -> dict[str, Any]:
    """Return what all prompts find in a report: quotes, what was mended, errors, by category."""
    report = "\n\n".join(f"## {heading}\n{body}" for heading, body in sections.items())
    beside = BESIDE.of(name, sections) if BESIDE else None
    found: dict[str, list[str]] = {}
    mended: dict[str, str] = {}
    errors: dict[str, str] = {}
    for prompt in PROMPTS:
        taught = beside and beside.has(prompt["part"])
        over = taught or prompt["keys"][0] in errors
        if prompt["look"] or (prompt["repeats"] and over):
            continue
        try:
            if taught:
                _beside_one(client, prompt, beside, found, mended)
            else:
                _one(client, prompt, report, found, mended)
        except client.errors as error:
            for key in prompt["keys"]:
                found[key], errors[key] = [], client.told(error)
    return {"findings": found, "mended": mended, "errors": errors}


def _one(
    client: Client,
    prompt: Mapping[str, Any],
    report: str,
    found: dict[str, list[str]],
    mended: dict[str, str],
) -> None:
    earlier = found.get(prompt["keys"][0], []) if prompt["repeats"] else []
    answer = client.ask(prompt, report, earlier) if report.strip() else Answer()
    for key in prompt["keys"]:
        found[key] = list(dict.fromkeys([*earlier, *answer.findings.get(key, [])]))
        if key in answer.irregular:
            mended[key] = "; ".join(filter(None, [mended.get(key), answer.irregular[key]]))


def _beside_one(
    client: Client,
    prompt: Mapping[str, Any],
    beside: Any,
    found: dict[str, list[str]],
    mended: dict[str, str],
) -> None:
    """Ask where the classifier sees something; what both find together is found."""
    part, keys = prompt["part"], prompt["keys"]
    quotes: dict[str, list[str]] = {key: [] for key in keys}
    text = beside.text(part, keys)
    asks = bool(text.strip()) and beside.asks(part, keys)
    own = [other for other in PROMPTS if other["part"] == part]
    before = [look for look in own if asks and look["look"] == "whether"]
    denied = [key for look in before for key in asked_first(client, look, text)]
    if asks and beside.asks(part, keys, denied):
        answer = client.ask(prompt, text, nearest=_nearest(prompt, beside))
        denied += left_empty(client.replied, keys, beside.silence(part))
        quotes = answer.findings
        mended |= answer.irregular
        for again in (other for other in own if other["repeats"]):
            _one(client, again, text, quotes, mended)
        quotes |= {key: [] for key in denied}
        for look in (other for other in own if other["look"] == "pruning"):
            (key,) = look["keys"]
            quotes[key] = looked_again(client, look, text, quotes[key])
    for key in keys:
        found[key] = beside.kept(part, key, quotes[key])


def _nearest(prompt: Mapping[str, Any], beside: Any) -> list[str]:
    """Return the examples that are chosen for a report, rendered."""
    keys, asked = prompt["keys"], prompt["response_format"]["json_schema"]["schema"]["properties"]
    before = {"reasoning": ""} if "reasoning" in asked else {}
    shown = []
    for demo in beside.nearest(prompt["part"], keys):
        text, found = excerpt(demo["report"], {key: list(demo[key]) for key in keys})
        shown.append(example(text, before | found))
    return shown


def reports(paths: Sequence[str]) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield (id, sections) of text files, of cases in JSONL files, and of standard input for "-".

    SystemExit, with a line on stderr, for a file that cannot be read.
    """
    for path in paths:
        try:
            yield from list(_of_file(path))
        except OSError as error:
            _stop(f"{path}: {error.strerror or error}")
        except UnicodeDecodeError as error:
            _stop(f"{path}: not UTF-8 (byte {error.start}); save it as UTF-8")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())
            _stop(f"{path}: not one JSON object with id and sections a line: {said}")


def _of_file(path: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    text = data.decode("utf-8-sig")
    if not path.endswith(".jsonl"):
        yield Path(path).stem if path != "-" else "stdin", {"Report": text}
        return
    for line in filter(str.strip, text.split("\n")):
        case = json.loads(line)
        yield case["id"], {heading: f"{body}" for heading, body in case["sections"].items()}


def _stop(reason: str) -> NoReturn:
    sys.stderr.write(f"error: {reason}\n")
    raise SystemExit(2)


def connection(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what every call carries; the address and key of the tuned model are its own alone."""
    model = arguments.model or SETTINGS["model"]
    if model.startswith("local/"):
        _stop(f"tuned on {model}: serve it, and give --model openai/NAME --api-base URL")
    own = SETTINGS if model == SETTINGS["model"] else {}
    address = arguments.api_base or own.get("api_base")
    base = {"api_base": address} if address else {}
    key = _key(model, arguments.api_key_env or own.get("api_key_env"), address)
    beside = _sent(own.get("request") or {})
    if address and model.startswith("openai/"):
        # Some servers stream unless they are told not to.
        beside["extra_body"] = {"stream": False, **(beside.get("extra_body") or {})}
    timed = {"max_retries": 3, "timeout": arguments.timeout}
    return {"model": model, **timed, **base, **key, **beside}


def _sent(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is sent beside a prompt: `$NAME` in a header is the variable's value."""
    names = ("headers", "extra_headers")
    headers = {
        name: os.path.expandvars(str(text))
        for group in names
        for name, text in (request.get(group) or {}).items()
    }
    sent = {name: value for name, value in request.items() if name not in names}
    return {**sent, **({"extra_headers": headers} if headers else {})}


def _key(model: str, variable: str | None, address: str | None) -> dict[str, str]:
    """Return the key to pass on, nothing where LiteLLM finds it by itself."""
    if variable:
        if not os.environ.get(variable):
            _stop(f"{variable}: set this environment variable to the key of {model}")
        return {"api_key": os.environ[variable]}
    keyless = address and model.startswith("openai/") and "OPENAI_API_KEY" not in os.environ
    return {"api_key": "none"} if keyless else {}


def main() -> int:
    """Read reports, print a line of JSON for each."""
    parser = argparse.ArgumentParser(description="Quote findings from case reports, as JSON lines.")
    parser.add_argument("files", nargs="+", help="text files, JSONL cases, or - for standard input")
    parser.add_argument("--model", help="any model of LiteLLM (default: the one tuned for)")
    parser.add_argument("--api-base", help="address of a server (default: that of its own model)")
    parser.add_argument("--api-key-env", metavar="NAME", help="variable that holds the key")
    parser.add_argument("--no-schema", action="store_true", help="send no response format")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for each question")
    parser.add_argument(
        "--max-answer-tokens", type=int, default=0, help="the least room of an answer"
    )
    arguments = parser.parse_args()
    spare_here()
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    # Before the first call, which may cost money.
    connected, read = connection(arguments), list(reports(arguments.files))
    room, structured = arguments.max_answer_tokens, not arguments.no_schema
    client = Client(connected, structured=structured, room=room)
    failed = False
    for name, sections in read:
        row = {"id": name, **extract(client, name, sections)}
        failed = failed or bool(row["errors"])
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()
    for line in client.learnt.lines():
        sys.stderr.write(f"server: {line}\n")
    return 1 if failed else 0
