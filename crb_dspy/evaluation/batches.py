"""Programs asked by a batch API: what would be asked is noted, sent, and only then answered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import dspy
from dspy.lm15 import Request, Response

from crb_dspy.errors import RunError
from crb_dspy.evaluation.session import asking
from crb_dspy.models.batch import Batches
from crb_dspy.models.budget import Caps
from crb_dspy.models.lm import Model
from crb_dspy.models.wire import response_of
from crb_dspy.program import Part

# Rounds after which a program that always asks something new is given up: two suffice for all here.
ROUNDS = 5


def answer(
    model: Model,
    parts: Sequence[Part],
    items: Callable[[], Iterable[Any]],
    ask: Callable[[Part, Any], object],
    folder: Path,
    caps: Caps | None = None,
) -> None:
    """Get all answers about some items by batches, so that asking the model then finds them.

    A part that asks again about what it was answered takes a further round. Whoever waits may be
    ended: the batches under way are in `folder`, and the same call goes on. RunError if a cap
    does not allow what is to be sent.
    """
    server = model.engine.server
    batches = Batches(folder, server.connected())
    lm = dspy.LM(
        model.lm.model,
        engine=_Noting(model, batches),
        **model.lm.kwargs,
        num_retries=0,
        cache=False,
    )
    for _ in range(ROUNDS):
        batches.wait(_say)
        batches.begin()
        with asking(lm):
            for item in items():
                for part in parts:
                    ask(part, item)
        if not batches.wanted:
            break
        if caps and caps.calls is not None and batches.wanted > caps.calls:
            said = f"--max-calls {caps.calls}: a batch of {batches.wanted} is to be sent"
            raise RunError(f"{said}; nothing was sent")
        _say(f"{batches.wanted} requests are sent as a batch")
        batches.send()
    server.answer_by(batches)


class _Noting:
    """An engine that answers what was answered, and notes the rest."""

    supports_response_schema = True

    def __init__(self, model: Model, batches: Batches) -> None:
        self._model, self._batches = model, batches
        self.supports_response_schema = model.engine.supports_response_schema
        self.context, self.count = model.engine.context, model.engine.count

    def complete(self, request: Request) -> Response:
        """Return an answer that is there; LookupError where there is none yet."""
        engine = self._model.engine
        reply = self._batches.want({**engine.server.connected(), **engine.given(request)})
        if reply is None:
            raise LookupError("not answered yet")
        return response_of(reply, request.model)


def _say(line: str) -> None:
    import sys

    sys.stderr.write(f"{line}\n")
