"""A model without a server: an engine object that DSPy takes as it takes a real one."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dspy
from dspy.lm15 import Message, Request, Response, Usage

from crb_dspy.program.prompt import ReportFirst

# From the user message to the text of the answer; what it raises is the failure of the call.
Reply = Callable[[str], str]


def keys_of(prompt: str) -> list[str]:
    """The categories that a prompt asks for: its last line is the format, names in quotes."""
    names = re.findall(r'"(\w+)"', prompt.strip().splitlines()[-1])
    return [name for name in names if name != "reasoning"]


def report_of(prompt: str) -> str:
    """The report that a prompt shows."""
    return prompt.split("\n</report>\n", 1)[0].removeprefix("<report>\n")


def nothing(prompt: str) -> str:
    """Find nothing in any report."""
    return json.dumps({key: [] for key in keys_of(prompt)})


class FakeEngine:
    """Answers by a function and keeps the requests."""

    supports_response_schema = True

    def __init__(self, reply: Reply = nothing) -> None:
        self.reply, self.requests = reply, list[Request]()
        self._lock = threading.Lock()

    def complete(self, request: Request) -> Response:
        with self._lock:
            self.requests.append(request)
        text = self.reply(str(request.messages[-1].text))
        return Response(
            id=None,
            model=request.model,
            message=Message.assistant(text),
            finish_reason="stop",
            usage=Usage(input_tokens=1, output_tokens=1),
        )

    @property
    def prompts(self) -> list[str]:
        """What was sent: system message and user message, joined."""
        return [f"{request.system}\n\n{request.messages[-1].text}" for request in self.requests]


@contextmanager
def fake_model(reply: Reply = nothing) -> Iterator[FakeEngine]:
    """Make DSPy ask a fake engine, through the layout of this project, without a cache."""
    engine = FakeEngine(reply)
    lm = dspy.LM("fake/model", engine=engine, cache=False, num_retries=0, temperature=0.0)
    with dspy.context(lm=lm, adapter=ReportFirst(), disable_history=True):
        yield engine
