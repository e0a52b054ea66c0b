"""What a run has asked of its models."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Usage:
    """Requests that reached a model, with tokens, dollars and model seconds.

    `prompt_tokens` were sent, `computed_tokens` of them computed anew (the server's own count;
    the rest it had kept from earlier prompts). `asked` counts all requests, those answered
    from the cache included, and `lost` those without an answer; `failures` are attempts.
    """

    asked: int = 0
    calls: int = 0
    lost: int = 0
    failures: int = 0
    prompt_tokens: int = 0
    computed_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0
    seconds: float = 0.0

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens together."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def cached(self) -> int:
        """Requests that were answered without the model."""
        return self.asked - self.calls - self.lost

    def __add__(self, other: Usage) -> Usage:
        mine, its = asdict(self), asdict(other)
        return Usage(**{name: mine[name] + its[name] for name in mine})

    def __sub__(self, earlier: Usage) -> Usage:
        mine, other = asdict(self), asdict(earlier)
        return Usage(**{name: mine[name] - other[name] for name in mine})


class Meter:
    """Counts what all threads ask of a model, and passes each amount on to `told`."""

    told: Callable[[Mapping[str, float]], None] = staticmethod(lambda amounts: None)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals = asdict(Usage())

    def add(self, **amounts: float) -> None:
        """Add to the named totals of `Usage`."""
        with self._lock:
            for name, amount in amounts.items():
                self._totals[name] += amount
        self.told(amounts)

    @property
    def usage(self) -> Usage:
        """All that was counted up to now."""
        with self._lock:
            return Usage(**self._totals)
