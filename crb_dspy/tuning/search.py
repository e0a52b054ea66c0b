"""The search: a recipe tunes each part on its own; the parts that are better come together."""

from __future__ import annotations

import contextvars
import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from crb_dspy.data.cases import Case
from crb_dspy.data.splits import Sides
from crb_dspy.errors import one_line
from crb_dspy.models.budget import Budget, BudgetSpent
from crb_dspy.program import ExtractionProgram, Tunable, with_support
from crb_dspy.progress import Progress
from crb_dspy.recipe import Context, chooses, guided
from crb_dspy.recipe.reflection import Mistake, advised, taught_by
from crb_dspy.recipe.sampling import stratified
from crb_dspy.retrieval.support import Learnt, Support
from crb_dspy.scoring.halves import Halves, Weights
from crb_dspy.tuning import gate
from crb_dspy.tuning.adoption import Adopted, Found, Searched, by_expectation, by_proof
from crb_dspy.tuning.beside import ways
from crb_dspy.tuning.choice import Choice
from crb_dspy.tuning.contexts import Given, context_of
from crb_dspy.tuning.headroom import Headroom, hopeless, measured, probes, shared_out
from crb_dspy.tuning.judging import Judge
from crb_dspy.tuning.ledger import Ledger, Record
from crb_dspy.tuning.tuning import PROBED, Tuning


@dataclass(frozen=True)
class Tuned:
    """A tuned program, what became of each part, every candidate, and what all parts would do.

    `choice` is what was expected of the whole where expectation chose, `stages` what after each
    stage of the search.
    """

    program: ExtractionProgram
    verdicts: list[gate.Verdict]
    candidates: list[Record]
    together: gate.Verdict | None = None
    choice: Choice | None = None
    stages: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Search:
    """One search over the parts of a program, with the cases and the budget that it may use.

    `stages(name)` shows the progress of a stage. `holding` keeps back what the gate and the test
    need, `affordable` is what share of the recipe's estimate the caps leave room for.
    """

    tuning: Tuning
    sides: Sides
    budget: Budget
    stages: Callable[[str], AbstractContextManager[Progress]]
    holding: Callable[[], AbstractContextManager[Any]] = nullcontext
    affordable: Callable[[], float] = lambda: 1.0
    reflection: Any = None
    learnt: Learnt | None = None

    @cached_property
    def judge(self) -> Judge:
        """What scores answers: both halves of the score weigh alike while nothing else is known."""
        cases = (*self.sides.choose, *self.sides.confirm)
        kinds = self.tuning.program.kinds
        golds = [case.gold or {} for case in cases]
        cells = [kind.sought(g.get(key, ())) for g in golds for key, kind in kinds.items()]
        halves = Halves(n_filled=cells.count(True), n_empty=cells.count(False))
        objective = self.tuning.objective
        weights = Weights.balanced(0.5, halves) if objective.halved else Weights()
        return Judge(objective, weights, kinds)

    @cached_property
    def ledgers(self) -> dict[str, Ledger]:
        """The record of every candidate, by part."""
        weights, cases = self.judge.weights, self.sides.choose
        return {n: Ledger(n, part, cases, weights) for n, part in self.tuning.seeds.items()}

    @cached_property
    def supports(self) -> dict[str, Support]:
        """The ways of using a classifier that are tried, by name; known after the headroom."""
        return {}

    def run(self) -> Tuned:
        """Measure headroom, tune the parts that have some, choose, put them together."""
        seeds = self.tuning.seeds
        try:
            with self.holding():
                rooms, found = self._found(seeds)
        except BudgetSpent as error:
            rooms = [Headroom(name, 0, 0, 0, f"stopped: {error}") for name in seeds]
            found = {name: (ledger.best(), "") for name, ledger in self.ledgers.items()}
        with self.stages("gate") as progress:
            adopted = self._adopted(
                Searched(seeds, found, rooms, self.ledgers, frozenset(self.supports)), progress
            )
        rows = [row for ledger in self.ledgers.values() for row in ledger.rows()]
        program = self.tuning.assembled(adopted.kept)
        judged = adopted.verdicts, rows, adopted.together, adopted.choice, adopted.stages
        return Tuned(program, *judged)

    def _adopted(self, searched: Searched, progress: Progress) -> Adopted:
        if self.tuning.expected and self.sides.choose:
            self._judge_results(searched.found, progress)
            return by_expectation(searched, self.sides.choose)
        worth = partial(self._worth, progress=progress)
        return by_proof(searched, self.sides.confirm, self.tuning.gate, worth)

    def _judge_results(self, found: Found, progress: Progress) -> None:
        """Have what a recipe that judges nothing returned meet the validation cases."""
        ledgers = self.ledgers
        unknown = {n: part for n, (part, _) in found.items() if ledgers[n].score(part) is None}
        try:
            scores = self._scores(unknown, self.sides.choose, progress) if unknown else {}
        except BudgetSpent:
            return
        for name, part in unknown.items():
            self.ledgers[name].note("result", part, "seed")
            self._record(name, part, self.sides.choose, scores[name])

    def _found(self, seeds: Mapping[str, Tunable]) -> tuple[list[Headroom], Found]:
        with self.stages("headroom") as progress:
            rooms = self._headroom(seeds, progress)
        if self.learnt and self.tuning.supported and self.sides.choose:
            with self.stages("classifier") as progress:
                self._supported(seeds, self.learnt, progress)
        # Under a cap the little there is goes to the search itself.
        if self.tuning.probes(self.sides) and self.affordable() >= 1:
            with self.stages("headroom test") as progress:
                rooms = self._probed(seeds, rooms, progress)
        rooms = shared_out(rooms, self.affordable())
        with self.stages("search") as progress:
            guidance = self._guidance(seeds, progress)
            return rooms, self._tuned(seeds, rooms, guidance, progress)

    def _headroom(self, seeds: Mapping[str, Tunable], progress: Progress) -> list[Headroom]:
        sides = self.sides
        if not sides.choose:
            return [Headroom(name, 0.0, 0.0) for name in seeds]
        scores = self._scores(seeds, sides.choose, progress)
        for name, part in seeds.items():
            self._record(name, part, sides.choose, scores[name])
        force, weights = self.tuning.force, self.judge.weights
        return [
            measured(name, part, scores[name], sides, weights, force)
            for name, part in seeds.items()
        ]

    def _supported(self, seeds: Mapping[str, Tunable], learnt: Learnt, progress: Progress) -> None:
        """Try a classifier beside each part's model, in all ways: the answers are known by now.

        Parts that are not worth a search are tried too.
        """
        threads, cases = self.tuning.threads, self.sides.choose
        known = (*self.sides.train, *cases)
        self.supports.update(ways(learnt, seeds, cases, known, threads=threads, progress=progress))
        tried = {
            (name, use): with_support(part, support)
            for name, part in seeds.items()
            if any(kind.sentences for kind in part.kinds.values())
            for use, support in self.supports.items()
        }
        labels = {f"{name}/{use}": part for (name, use), part in tried.items()}
        scores = self._scores(labels, self.sides.choose, progress)
        for (name, use), part in tried.items():
            self.ledgers[name].note(use, part, "seed")
            self._record(name, part, self.sides.choose, scores[f"{name}/{use}"])

    def _probed(
        self, seeds: Mapping[str, Tunable], rooms: Sequence[Headroom], progress: Progress
    ) -> list[Headroom]:
        """Try strong candidates on a few cases before the large spending."""
        checked = []
        for room in rooms:
            seed, why = seeds[room.part], room.why
            if not why:
                chance = random.Random(f"{self.tuning.seed}/probe/{room.part}")
                cases = stratified(self.sides.choose, seed.keys, PROBED, chance)
                tried = {str(n): p for n, p in enumerate(probes(seed, self.sides.train), 1)}
                for number, probe in tried.items():
                    self.ledgers[room.part].note(f"headroom test {number}", probe, "seed")
                scores = self._scores({"": seed, **tried}, cases, progress)
                for label, part in {"": seed, **tried}.items():
                    self._record(room.part, part, cases, scores[label])
                worth = {label: self.judge.weights.by_case(own) for label, own in scores.items()}
                if hopeless(worth.pop(""), list(worth.values())):
                    why = f"{len(tried)} strong candidates gained on none of {len(cases)} cases"
            checked.append(Headroom(room.part, room.mean, room.spread, float(not why), why))
        return checked

    def _scores(
        self, parts: Mapping[str, Tunable], cases: Sequence[Case], progress: Progress
    ) -> dict[str, list[Halves]]:
        threads = self.tuning.threads
        return self.judge.scored(parts, cases, threads=threads, progress=progress)

    def _record(
        self, part: str, tried: Tunable, cases: Sequence[Case], scores: Sequence[Halves]
    ) -> None:
        for case, score in zip(cases, scores, strict=True):
            self.ledgers[part].saw(tried, case.id, score)

    def _guidance(self, seeds: Mapping[str, Tunable], progress: Progress) -> str:
        """Reflect once on the errors of all parts, if the experiment says so."""
        if not self.tuning.shared or not self.sides.choose:
            return ""
        chance = random.Random(f"{self.tuning.seed}/shared")
        mistakes = []
        for name, part in seeds.items():
            context = self._context(name, 1.0, "", progress)
            # One for each that is told, a whole program being many.
            wrong = context.mistakes(part, self.sides.train)[: len(part.units)]
            mistakes += [Mistake.of(part, case, answer) for case, answer in wrong]
        told = taught_by(self.judge.kinds)
        return advised(self.reflection, mistakes, rollout=chance.getrandbits(30), teaching=told)

    def _tuned(
        self,
        seeds: Mapping[str, Tunable],
        rooms: Sequence[Headroom],
        guidance: str,
        progress: Progress,
    ) -> Found:
        """Run the recipe on every part that can gain, side by side; a part and what went wrong."""
        contexts = {
            room.part: self._context(room.part, room.share, guidance, progress)
            for room in rooms
            if not room.why
        }
        found = {name: (part, "") for name, part in seeds.items()}
        # More side by side would only wait for the same slots, and hold answers not yet stored.
        pool = ThreadPoolExecutor(min(max(1, len(contexts)), self.tuning.threads))
        try:
            running = {
                name: pool.submit(
                    contextvars.copy_context().run, self._searched, name, seeds[name], context
                )
                for name, context in contexts.items()
            }
            return found | {name: future.result() for name, future in running.items()}
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _searched(self, name: str, seed: Tunable, context: Context) -> tuple[Tunable, str]:
        ledger, sides, tuning = self.ledgers[name], self.sides, self.tuning
        try:
            start = self._advised(seed, ledger, context)
            choose = sides.choose if chooses(tuning.recipe) else ()
            tuned = tuning.recipe(start, sides.train, choose, context, **tuning.options)
        except BudgetSpent as error:
            return ledger.best(), f"stopped: {error}"
        # What a person's own recipe or a library raises must not cost the other parts.
        except Exception as error:  # noqa: BLE001
            return ledger.best(), f"search broke off: {type(error).__name__}: {one_line(error)}"
        # An optimizer that judges nothing itself leaves its result unknown to the record.
        ledger.score(tuned)
        return tuned, ""

    def _advised(self, seed: Tunable, ledger: Ledger, context: Context) -> Tunable:
        """Return what a recipe starts from: with the shared advice where that scores better."""
        if not context.guidance or guided(self.tuning.recipe):
            return seed
        told = seed.with_units(
            {
                name: unit.with_instruction(f"{unit.instruction} {context.guidance}")
                for name, unit in seed.units.items()
            }
        )
        score = context.trial("shared advice", told, self.sides.choose, "seed")
        return told if score > (ledger.score(seed) or 0.0) else seed

    def _context(self, name: str, share: float, guidance: str, progress: Progress) -> Context:
        given = Given(
            self.tuning, self.judge, self.ledgers[name], self.sides, self.reflection, self.supports
        )
        return context_of(given, share, guidance, partial(self._say, name, progress))

    def _say(self, name: str, progress: Progress) -> None:
        ledger = self.ledgers[name]
        best = ledger.score(ledger.best())
        so_far = "" if best is None else f", best {best:.3f}"
        left = self.budget.left()
        progress.say(f"{name} {ledger.tried}{so_far}{f', {left}' if left else ''}")
        progress()

    def _worth(
        self, parts: Mapping[str, Tunable], cases: Sequence[Case], progress: Progress
    ) -> dict[str, list[float]]:
        """Return what parts score, case by case, as numbers whose mean is a part's score."""
        scores = self._scores(parts, cases, progress)
        return {name: self.judge.weights.by_case(own) for name, own in scores.items()}
