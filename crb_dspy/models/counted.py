"""DSPy's model with a meter: what is asked of it, and what comes to nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dspy

from crb_dspy.models import tally
from crb_dspy.models.meter import Meter


class Counted(dspy.LM):  # type: ignore[misc]
    """Counts all requests, and those that come to nothing, whether the cache answers or not.

    A callback of DSPy would work out the signature of the call anew each time.
    """

    def __init__(self, meter: Meter, model: str, **given: Any) -> None:
        super().__init__(model, **given)
        self._meter = meter

    def __call__(self, *args: Any, **given: Any) -> Any:
        """Ask, and count what it took."""
        with self._counting() as took:
            took.append(super().__call__(*args, **given))
        return took[0]

    async def acall(self, *args: Any, **given: Any) -> Any:
        """Ask, and count what it took."""
        with self._counting() as took:
            took.append(await super().acall(*args, **given))
        return took[0]

    @contextmanager
    def _counting(self) -> Iterator[list[Any]]:
        self._meter.add(asked=1)
        took: list[Any] = []
        try:
            yield took
        finally:
            if not took:
                self._meter.add(lost=1)
            usage = getattr(took[0], "usage", None) if took else None
            tally.count((usage.input_tokens or 0) + (usage.output_tokens or 0) if usage else 0)
