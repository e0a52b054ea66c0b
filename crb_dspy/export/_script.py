"""What the exported script runs: this file without its imports from crb_dspy, and with prompts."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

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
    """Yield (id, text) of text files, of cases in JSONL files, and of standard input for "-".

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


def _of_file(path: str) -> Iterator[tuple[str, str]]:
    data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    text = data.decode("utf-8-sig")
    if not path.endswith(".jsonl"):
        yield Path(path).stem if path != "-" else "stdin", f"## Report\n{text}"
        return
    for line in filter(str.strip, text.split("\n")):
        case = json.loads(line)
        sections = case["sections"].items()
        yield case["id"], "\n\n".join(f"## {heading}\n{body}" for heading, body in sections)


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
    return {"model": model, "max_retries": 3, "timeout": 600.0, **base, **key}


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
    arguments = parser.parse_args()
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    # Before the first call, which may cost money.
    connected, read = connection(arguments), list(reports(arguments.files))
    client = Client(connected, structured=not arguments.no_schema)
    failed = False
    for name, text in read:
        row = {"id": name, **extract(client, text)}
        failed = failed or bool(row["errors"])
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()
    return 1 if failed else 0
