"""What is learnt of the server that is asked, and said in a summary.

Exported scripts carry it, as they do all that it imports.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from crb_dspy.models.faults import is_refused_form, told
from crb_dspy.models.lacks import FEATURES, blamed, guesses, has

# Refusals in unknown words after which no more is tried to learn from them.
PUZZLES = 3
# Characters that a token has at most, on average, in prose of any language; a prompt of so many
# characters of which the server counts fewer tokens was cut.
LONGEST_TOKEN = 6.0
# Fewer are no measure: some servers count only what their cache lacked.
LEAST_READ = 500
Answered = TypeVar("Answered")


class Learnt:
    """What a server can't take (feature -> its words), and what its counts were worth.

    Thread-safe. `told` is called when something was learnt.
    """

    told: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.lacking: dict[str, str] = {}
        # Features that answered calls had, and those whose refusal was in vain.
        self.taken: set[str] = set()
        self.vain: set[str] = set()
        self.puzzles = 0
        # Answers counted by ourselves, and prompts of which the server read too little: how many,
        # and what it read and should have read of the last.
        self.estimated = self.cut = 0
        self._cut = (0, 0)

    def answered(self, given: Mapping[str, Any], *, estimated: bool) -> None:
        """Note the features of a call that was answered."""
        fresh = {name for name in FEATURES if name not in self.taken and has(given, name)}
        with self._lock:
            self.taken |= fresh
            self.estimated += estimated

    def lacks(self, features: Mapping[str, str]) -> None:
        """Note what a server can't take, with its own words."""
        with self._lock:
            for name, said in features.items():
                self.lacking.setdefault(name, said)
                self.taken.discard(name)
        self.told()

    def reshaped(
        self,
        given: Mapping[str, Any],
        refused: Exception,
        ask: Callable[[Sequence[str]], Answered],
    ) -> Answered:
        """Ask again without what the server may not take, and learn what it was.

        `ask(features)` asks without them. `refused` is raised where nothing helps. What answered
        calls had is at fault only where a refusal names it, and once; nothing is learnt from one in
        other words about one report.
        """
        left, said = list[str](), told(refused)
        while fresh := [
            name for name in blamed(said) if name not in (*left, *self.vain) and has(given, name)
        ]:
            left.append(fresh[0])
            try:
                return self._helped(left, refused, ask)
            except Exception as error:
                if not is_refused_form(error):
                    raise
                said = told(error)
        self.vain |= {name for name in left if name in self.taken}
        unknown = [name for name in FEATURES if name not in self.taken and has(given, name)]
        if unknown and self.puzzles < PUZZLES:
            for some in guesses(unknown):
                try:
                    return self._helped(some, refused, ask)
                except Exception as error:
                    if not is_refused_form(error):
                        raise
            self.puzzles += 1
        raise refused

    def _helped(
        self, some: Sequence[str], refused: Exception, ask: Callable[[Sequence[str]], Answered]
    ) -> Answered:
        answer = ask(some)
        if some:
            self.lacks(dict.fromkeys(some, " ".join(told(refused).split())))
        return answer

    def read(self, characters: int, tokens: int | None) -> None:
        """Note how much of a prompt was read."""
        least = characters / LONGEST_TOKEN
        if tokens is not None and LEAST_READ <= tokens < least:
            with self._lock:
                self.cut += 1
                self._cut = (tokens, round(characters / 4))

    def lines(self) -> list[str]:
        """Return what is worth knowing, one line each."""
        lines = [
            f"takes no {name.replace('_', ' ')}, asked without: {said[:120]}"
            for name, said in self.lacking.items()
        ]
        if self.cut:
            read, sent = self._cut
            lines.append(
                f"warning: of {self.cut} prompts fewer tokens were read than sent, as {read} of "
                f"about {sent}: raise the server's context window, and say it: context = TOKENS"
            )
        if self.estimated:
            lines.append(f"tokens of {self.estimated} answers estimated: no usage worth the name")
        return lines

    def handed(self) -> dict[str, Any]:
        """Return for `add` of another process what was learnt since this was called last."""
        with self._lock:
            counts = {"estimated": self.estimated, "cut": self.cut, "read": self._cut}
            self.estimated = self.cut = 0
        return {"lacking": dict(self.lacking), **counts}

    def add(self, handed: Mapping[str, Any]) -> None:
        """Take over what another process has learnt of the same server."""
        self.lacks(handed["lacking"])
        with self._lock:
            self.estimated += handed["estimated"]
            self.cut += handed["cut"]
            if handed["cut"]:
                read, sent = handed["read"]
                self._cut = (read, sent)

    def plain(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return {"lacking": dict(self.lacking), "estimated": self.estimated, "cut": self.cut}
