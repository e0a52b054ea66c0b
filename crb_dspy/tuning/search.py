"""The search: a recipe tunes each part on its own; the parts that are better come together."""

from __future__ import annotations

import contextvars
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from crb_dspy import recipe
from crb_dspy.cases import Case
from crb_dspy.errors import one_line
from crb_dspy.evaluation import read
from crb_dspy.models.budget import Budget, BudgetSpent
from crb_dspy.models.tally import Tally, tallied
from crb_dspy.program import ExtractionProgram, Tunable
from crb_dspy.progress import Progress
from crb_dspy.running.plan import Plan, Sides
from crb_dspy.running.stages import Stages
from crb_dspy.tuning import gate, judging
from crb_dspy.tuning.headroom import (
    PROBED,
    Headroom,
    hopeless,
    measured,
    probes,
    probing,
    shared_out,
)
from crb_dspy.tuning.ledger import Ledger, identity
from crb_dspy.tuning.ledger import Row as CandidateRow
from crb_dspy.tuning.reflection import Mistake, advised
from crb_dspy.tuning.sampling import stratified

# A part by name, and what went wrong with its search.
Found = dict[str, tuple[Tunable, str]]


@dataclass(frozen=True)
class Tuned:
    """A tuned program, what became of each part, every candidate, and what all parts would do."""

    program: ExtractionProgram
    verdicts: list[gate.Verdict]
    candidates: list[CandidateRow]
    together: gate.Verdict | None = None


@dataclass
class Search:
    """One search over the parts of a program, with the cases and the budget that it may use."""

    planned: Plan
    sides: Sides
    budget: Budget
    stages: Stages
    # What the search must leave for the gate and the test.
    holding: Callable[[], AbstractContextManager[Any]] = nullcontext
    # What share of the recipe's estimate the caps leave room for.
    affordable: Callable[[], float] = lambda: 1.0
    reflection: Any = None
    guidance: str = ""
    ledgers: dict[str, Ledger] = field(default_factory=dict)
    progress: Progress = field(default_factory=lambda: Progress("", 0))

    def run(self) -> Tuned:
        """Measure headroom, tune the parts that have some, gate them, put them together."""
        seeds = self._seeds()
        self.ledgers = {n: Ledger(n, part, self.sides.choose) for n, part in seeds.items()}
        try:
            with self.holding():
                rooms, found = self._found(seeds)
        except BudgetSpent as error:
            rooms = [Headroom(name, 0, 0, 0, f"stopped: {error}") for name in seeds]
            found = {name: (ledger.best(), "") for name, ledger in self.ledgers.items()}
        with self._stage("gate"):
            verdicts, together = self._gated(seeds, found, rooms)
        kept = {v.part: found[v.part][0] for v in verdicts if v.kept}
        rows = [row for ledger in self.ledgers.values() for row in ledger.rows()]
        return Tuned(self._assembled(kept), verdicts, rows, together)

    def _found(self, seeds: Mapping[str, Tunable]) -> tuple[list[Headroom], Found]:
        with self._stage("headroom"):
            rooms = self._headroom(seeds)
        # Under a cap the little there is goes to the search itself.
        if probing(self.planned, self.sides) and self.affordable() >= 1:
            with self._stage("headroom test"):
                rooms = self._probed(seeds, rooms)
        rooms = shared_out(rooms, self.affordable())
        with self._stage("search"):
            self.guidance = self._guidance(seeds)
            return rooms, self._tuned(seeds, rooms)

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        with self.stages(name) as self.progress:
            yield

    def _seeds(self) -> dict[str, Tunable]:
        program = self.planned.program
        return {"program": program} if self.planned.experiment.joint else dict(program.parts)

    def _assembled(self, kept: Mapping[str, Any]) -> ExtractionProgram:
        program = self.planned.program
        if self.planned.experiment.joint:
            whole: ExtractionProgram = kept.get("program", program)
            return whole
        return program.with_parts(kept)

    def _headroom(self, seeds: Mapping[str, Tunable]) -> list[Headroom]:
        experiment, sides = self.planned.experiment, self.sides
        if not sides.choose:
            return [Headroom(name, 0.0, 0.0) for name in seeds]
        scores = self._scores(seeds, sides.choose)
        for name, part in seeds.items():
            self._record(name, part, sides.choose, scores[name])
        return [
            measured(name, part, scores[name], sides, force=experiment.force)
            for name, part in seeds.items()
        ]

    def _probed(self, seeds: Mapping[str, Tunable], rooms: Sequence[Headroom]) -> list[Headroom]:
        """Try strong candidates on a few cases before the large spending."""
        checked = []
        for room in rooms:
            seed, why = seeds[room.part], room.why
            if not why:
                chance = random.Random(f"{self.planned.experiment.seed}/probe/{room.part}")
                cases = stratified(self.sides.choose, seed.keys, PROBED, chance)
                tried = {str(n): p for n, p in enumerate(probes(seed, self.sides.train), 1)}
                for number, probe in tried.items():
                    self.ledgers[room.part].note(f"headroom test {number}", probe, "seed")
                scores = self._scores({"": seed, **tried}, cases)
                for label, part in {"": seed, **tried}.items():
                    self._record(room.part, part, cases, scores[label])
                if hopeless(scores.pop(""), list(scores.values())):
                    why = f"{len(tried)} strong candidates gained on none of {len(cases)} cases"
            checked.append(Headroom(room.part, room.mean, room.spread, float(not why), why))
        return checked

    def _scores(
        self, parts: Mapping[str, Tunable], cases: Sequence[Case]
    ) -> dict[str, list[float]]:
        threads = self.planned.experiment.threads
        return judging.scored(parts, cases, threads=threads, progress=self.progress)

    def _record(
        self, part: str, tried: Tunable, cases: Sequence[Case], scores: Sequence[float]
    ) -> None:
        for case, score in zip(cases, scores, strict=True):
            self.ledgers[part].saw(tried, case.id, score)

    def _guidance(self, seeds: Mapping[str, Tunable]) -> str:
        """Reflect once on the errors of all parts, if the experiment says so."""
        if not self.planned.experiment.shared or not self.sides.choose:
            return ""
        chance = random.Random(f"{self.planned.experiment.seed}/shared")
        mistakes = []
        for name, part in seeds.items():
            context = self._context(name, 1.0)
            # One for each that is told, a whole program being many.
            wrong = context.mistakes(part, self.sides.train)[: len(part.units)]
            mistakes += [
                Mistake({k: (c.gold or {}).get(k, ()) for k in part.keys}, a.quotes or {}, a.reason)
                for c, a in wrong
            ]
        return advised(self.reflection, mistakes, rollout=chance.getrandbits(30))

    def _tuned(self, seeds: Mapping[str, Tunable], rooms: Sequence[Headroom]) -> Found:
        """Run the recipe on every part that can gain, side by side; a part and what went wrong."""
        shares = {room.part: room.share for room in rooms if not room.why}
        found = {name: (part, "") for name, part in seeds.items()}
        # More side by side would only wait for the same slots, and spoil the reuse of prompts.
        pool = ThreadPoolExecutor(min(max(1, len(shares)), self.planned.experiment.threads))
        try:
            running = {
                name: pool.submit(
                    contextvars.copy_context().run, self._searched, name, seeds[name], share
                )
                for name, share in shares.items()
            }
            return found | {name: future.result() for name, future in running.items()}
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _searched(self, name: str, seed: Tunable, share: float) -> tuple[Tunable, str]:
        ledger, sides, context = self.ledgers[name], self.sides, self._context(name, share)
        try:
            start = self._advised(seed, ledger, context)
            tuned = self.planned.recipe(
                start, sides.train, sides.choose, context, **self.planned.experiment.options
            )
        except BudgetSpent as error:
            return ledger.best(), f"stopped: {error}"
        # What a person's own recipe or a library raises must not cost the other parts.
        except Exception as error:  # noqa: BLE001
            return ledger.best(), f"search broke off: {type(error).__name__}: {one_line(error)}"
        # An optimizer that judges nothing itself leaves its result unknown to the record.
        ledger.score(tuned)
        return tuned, ""

    def _advised(self, seed: Tunable, ledger: Ledger, context: recipe.Context) -> Tunable:
        """Return what a recipe starts from: with the shared advice where that scores better."""
        if not self.guidance or recipe.guided(self.planned.recipe):
            return seed
        told = seed.with_units(
            {
                name: unit.with_instruction(f"{unit.instruction} {self.guidance}")
                for name, unit in seed.units.items()
            }
        )
        score = context.trial("shared advice", told, self.sides.choose, "seed")
        return told if score > (ledger.score(seed) or 0.0) else seed

    def _context(self, name: str, share: float) -> recipe.Context:
        experiment, ledger = self.planned.experiment, self.ledgers[name]
        say, seed = self._said(name, ledger), self._seeds()[name]

        def candidate(part: Tunable) -> bool:
            # A unit of a whole program is none.
            return isinstance(part, ExtractionProgram) == isinstance(seed, ExtractionProgram)

        gold = {case.id: case for case in (*self.sides.train, *self.sides.choose)}

        def answers(part: Tunable, cases: Sequence[Case]) -> list[recipe.Answer]:
            found = []
            with tallied() as tally:
                readings = read(
                    list(part.units.values()), cases, threads=experiment.threads, progress=say
                )
            for case, own in zip(cases, readings, strict=True):
                rows = judging.rows(part, case, dict(zip(part.units, own, strict=True)))
                found.append(judging.answer(rows))
                if candidate(part):
                    ledger.saw(part, case.id, judging.mean(rows))
            ledger.spent(part if candidate(part) else seed, tally.calls, tally.tokens)
            return found

        def watch(part: Tunable, case: Case, prediction: Any, tally: Tally) -> None:
            ledger.saw(part, case.id, judging.mean(judging.predicted(gold[case.id], prediction)))
            ledger.spent(part, tally.calls, tally.tokens)
            say()

        return recipe.Context(
            answers=answers,
            random=random.Random(f"{experiment.seed}/{name}"),
            note=ledger.note,
            share=share,
            guidance=self.guidance,
            threads=experiment.threads,
            reflection=self.reflection,
            student=lambda part: judging.Watched(part, watch),
            metric=judging.metric,
        )

    def _said(self, name: str, ledger: Ledger) -> Callable[[], None]:
        def say() -> None:
            best = ledger.score(ledger.best())
            so_far = "" if best is None else f", best {best:.3f}"
            left = self.budget.left()
            self.progress.say(f"{name} {ledger.tried}{so_far}{f', {left}' if left else ''}")
            self.progress()

        return say

    def _gated(
        self, seeds: Mapping[str, Tunable], found: Found, rooms: Sequence[Headroom]
    ) -> tuple[list[gate.Verdict], gate.Verdict | None]:
        """Judge each tuned part against its seed on cases that did not choose it."""
        why = {room.part: room.why for room in rooms}
        changed = {
            name: part
            for name, (part, _) in found.items()
            if identity(part) != identity(seeds[name])
        }
        alpha = self.planned.experiment.gate
        verdicts, together = gate.confirmed(seeds, changed, self.sides.confirm, alpha, self._scores)
        for name, (_, trouble) in found.items():
            if why[name] or self.planned.experiment.optimizer == "none":
                verdict = gate.Verdict(name, "not searched", why[name])
            else:
                other = self.ledgers[name].tried > 1
                best = (
                    "the seed was best on validation" if other else "no other candidate was found"
                )
                verdict = gate.Verdict(name, gate.NO_GAIN, trouble or best)
            verdicts.setdefault(name, verdict)
        return [verdicts[name] for name in seeds], together
