"""How an exported script asks, of which it carries this file: as a run does, by LiteLLM."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from crb_dspy.export._beside import yes_no
from crb_dspy.export._errors import ProviderError, own_error
from crb_dspy.models.faults import is_refused_form, known, through
from crb_dspy.models.http import patient
from crb_dspy.models.lacks import without
from crb_dspy.models.learnt import Learnt
from crb_dspy.models.reply import Reply, read
from crb_dspy.program.answers import Answer, listed, parse
from crb_dspy.program.marks import defuse
from crb_dspy.program.prompt import already_quoted, examples

# Given its values at the end of an exported script.
SETTINGS: dict[str, Any] = {}
# The fewest characters of what is taken for a secret.
SECRET = 8


def messages(
    prompt: Mapping[str, Any], report: str, found: Sequence[str] = (), nearest: Sequence[str] = ()
) -> list[dict[str, str]]:
    """Return the messages of a prompt about a report, byte for byte as they were tuned."""
    again = already_quoted(found)
    after = ""
    if nearest:
        after = examples([*prompt["shown"], *nearest], prompt["opening"], prompt["closing"])
        after += prompt["question"]
    rest = prompt["middle"] + again + (after or prompt["after"])
    user = prompt["before"] + defuse(report) + rest
    return [{"role": "system", "content": prompt["system"]}, {"role": "user", "content": user}]


def call(
    prompt: Mapping[str, Any], report: str, found: Sequence[str] = (), nearest: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the arguments of `litellm.completion` for a prompt."""
    return {
        "messages": messages(prompt, report, found, nearest),
        "max_tokens": prompt["max_tokens"],
        "temperature": SETTINGS["temperature"],
        **({"seed": SETTINGS["seed"]} if SETTINGS["temperature"] else {}),
        "response_format": prompt["response_format"],
        **({"logprobs": True, "top_logprobs": top} if (top := prompt.get("logprobs")) else {}),
    }


class Client:
    """Asks one model; `learnt` is what its server can't take: a response format, a temperature.

    `room` is the least number of tokens that an answer may take, for models that think first.
    """

    def __init__(
        self, connection: Mapping[str, Any], structured: bool = True, room: int = 0
    ) -> None:
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        import litellm
        import openai

        litellm.suppress_debug_info = True
        # Which warn of odd replies, and quote them.
        warnings.filterwarnings("ignore", message="Pydantic serializer warnings")
        self._connection, self._room, self._theirs = connection, room, openai.OpenAIError
        self._completion = patient(litellm.completion, connection)
        self.learnt = Learnt()
        self.replied: Any = None  # the last reply as it came
        if not structured:
            self.learnt.lacks({"response_format": "no schema was wanted"})
        # What may go wrong with one answer.
        self.errors = (ValueError, TimeoutError, ProviderError)

    def ask(
        self,
        prompt: Mapping[str, Any],
        report: str,
        found: Sequence[str] = (),
        nearest: Sequence[str] = (),
    ) -> Answer:
        """Ask once and read the answer; ValueError if there is nothing in it to use."""
        given = call(prompt, report, found, nearest)
        given["max_tokens"] = max(given["max_tokens"], self._room)
        if extra := self._connection.get("extra_body"):
            given["extra_body"] = dict(extra)
        reply = read(self._reply(given))
        if not (reply.text or reply.failed) and "response_format" not in self.learnt.lacking:
            reply = self._bare(given)
        self.learnt.read(sum(len(m["content"]) for m in given["messages"]), reply.sent)
        if reply.failed:
            raise ValueError(reply.failed)
        keys, whether = prompt["keys"], prompt["look"] == "whether"
        readers = dict.fromkeys(keys, yes_no if whether else listed)
        asked: Any = {"truncated": reply.cut, "titles": prompt["titles"], "readers": readers}
        answer = parse(reply.text, keys, **asked)
        if answer.failed and reply.text and whether:
            answer = Answer({key: yes_no(reply.text)[0] for key in keys})
        if answer.failed:
            raise ValueError(answer.failed)
        if reply.note:
            for key in prompt["keys"]:
                told = filter(None, [reply.note, answer.irregular.get(key)])
                answer.irregular[key] = "; ".join(told)
        return answer

    def _bare(self, given: Mapping[str, Any]) -> Reply:
        """Ask without a schema, under which some servers answer nothing."""
        reply = read(self._once(given, ["response_format"]))
        if reply.text:
            self.learnt.lacks({"response_format": "its answers are empty under a schema"})
        return reply

    def _reply(self, given: Mapping[str, Any]) -> Any:
        """Ask, and ask again without what the server may refuse: what helped is left out."""
        try:
            return self._once(given)
        except ProviderError as error:
            if not is_refused_form(error):
                raise
            form = without(given, (*self.learnt.lacking,))
            return self.learnt.reshaped(form, error, partial(self._once, given))

    def _once(self, given: Mapping[str, Any], left: Sequence[str] = ()) -> Any:
        sent = without(given, (*self.learnt.lacking, *left))
        try:
            reply = self._completion(**{**self._connection, **sent}, num_retries=0)
        except (self._theirs, ProviderError) as error:
            address = str(self._connection.get("api_base") or "")
            raise through(known(own_error(error)), address) from error
        self.learnt.answered(sent, estimated=False)
        self.replied = reply
        return reply

    def told(self, error: Exception) -> str:
        """Return an error in one line, without the keys, which some servers quote."""
        line = " ".join(f"{type(error).__name__}: {error}".split())
        keys = [value for name, value in os.environ.items() if name.endswith("_API_KEY")]
        headers = self._connection.get("extra_headers") or {}
        for key in (self._connection.get("api_key") or "", *keys, *headers.values()):
            line = line.replace(key, "***") if len(key) >= SECRET else line
        return line
