"""What the exported script runs: this file without its imports from crb_dspy, and with prompts."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from crb_dspy.answers import Answer, parse
from crb_dspy.prompt import defuse

# Both are given their values at the end of an exported script.
SETTINGS: dict[str, Any] = {}
PROMPTS: list[dict[str, Any]] = []


def messages(
    prompt: Mapping[str, Any], report: str, found: Sequence[str] = ()
) -> list[dict[str, str]]:
    """Return the messages of a prompt about a report, byte for byte as they were tuned."""
    listed = json.dumps(list(found), ensure_ascii=False)
    again = f"Already quoted: {listed}\n\n" if found else ""
    user = prompt["before"] + defuse(report) + prompt["middle"] + again + prompt["after"]
    return [{"role": "system", "content": prompt["system"]}, {"role": "user", "content": user}]


def call(prompt: Mapping[str, Any], report: str, found: Sequence[str] = ()) -> dict[str, Any]:
    """Return the arguments of `litellm.completion` for a prompt."""
    return {
        "messages": messages(prompt, report, found),
        "max_tokens": prompt["max_tokens"],
        "temperature": SETTINGS["temperature"],
        "response_format": prompt["response_format"],
    }


class Client:
    """Asks one model; `structured` turns False once it refuses a response format."""

    def __init__(self, connection: Mapping[str, Any], structured: bool = True) -> None:
        import litellm
        import openai

        litellm.suppress_debug_info = True
        self._litellm, self._connection, self.structured = litellm, connection, structured
        # What may go wrong with one answer; LiteLLM's errors are kinds of OpenAI's.
        self.errors = (ValueError, openai.OpenAIError)

    def ask(self, prompt: Mapping[str, Any], report: str, found: Sequence[str] = ()) -> Answer:
        """Ask once and read the answer; ValueError if there is nothing in it to use."""
        choice = self._reply(call(prompt, report, found)).choices[0]
        truncated = choice.finish_reason == "length"
        answer = parse(choice.message.content or "", prompt["keys"], truncated=truncated)
        if answer.failed:
            raise ValueError(answer.failed)
        return answer

    def _reply(self, arguments: dict[str, Any]) -> Any:
        free = {name: value for name, value in arguments.items() if name != "response_format"}
        if not self.structured:
            return self._litellm.completion(**free, **self._connection)
        try:
            return self._litellm.completion(**arguments, **self._connection)
        except self._litellm.ContextWindowExceededError:
            raise
        except self._litellm.BadRequestError:
            reply = self._litellm.completion(**free, **self._connection)
            self.structured = False
            return reply


def extract(client: Client, report: str) -> dict[str, Any]:
    """Return what all prompts find in a report: quotes, what was mended, errors, by category."""
    found: dict[str, list[str]] = {}
    mended: dict[str, str] = {}
    errors: dict[str, str] = {}
    for prompt in PROMPTS:
        if prompt["repeats"] and prompt["keys"][0] in errors:
            continue
        try:
            _one(client, prompt, report, found, mended)
        except client.errors as error:
            for key in prompt["keys"]:
                found[key], errors[key] = [], " ".join(f"{type(error).__name__}: {error}".split())
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


def reports(paths: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield (id, text) of text files, of cases in JSONL files, and of standard input for "-"."""
    for path in paths:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        text = data.decode("utf-8-sig")
        if not path.endswith(".jsonl"):
            yield Path(path).stem if path != "-" else "stdin", f"## Report\n{text}"
            continue
        for line in filter(str.strip, text.split("\n")):
            case = json.loads(line)
            sections = case["sections"].items()
            yield case["id"], "\n\n".join(f"## {heading}\n{body}" for heading, body in sections)


def connection(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what every call carries; keys are LiteLLM's to find in the environment."""
    model = arguments.model or SETTINGS["model"]
    if model.startswith("local/"):
        raise SystemExit(f"tuned on {model}: serve it, and give --model openai/NAME --api-base URL")
    base = {"api_base": arguments.api_base} if arguments.api_base else {}
    keyless = base and model.startswith("openai/") and "OPENAI_API_KEY" not in os.environ
    key = {"api_key": "none"} if keyless else {}
    return {"model": model, "max_retries": 3, "timeout": 600.0, **base, **key}


def main() -> int:
    """Read reports, print a line of JSON for each."""
    parser = argparse.ArgumentParser(description="Quote findings from case reports, as JSON lines.")
    parser.add_argument("files", nargs="+", help="text files, JSONL cases, or - for standard input")
    parser.add_argument("--model", help="any model of LiteLLM (default: the one tuned for)")
    parser.add_argument("--api-base", default=SETTINGS["api_base"], help="address of a server")
    parser.add_argument("--no-schema", action="store_true", help="send no response format")
    arguments = parser.parse_args()
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    client = Client(connection(arguments), structured=not arguments.no_schema)
    failed = False
    for name, text in reports(arguments.files):
        row = {"id": name, **extract(client, text)}
        failed = failed or bool(row["errors"])
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()
    return 1 if failed else 0
