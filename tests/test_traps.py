"""Traps of DSPy, GEPA and their caches that cost others a run: each must stay closed."""

from __future__ import annotations

import inspect
import json
import random
import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.teleprompt import simba_utils
from dspy.utils.parallelizer import ParallelExecutor
from hypothesis import given, settings
from hypothesis import strategies as st

from crb_dspy import recipe
from crb_dspy.catalog import build_program, find_recipe, names
from crb_dspy.data.cases import Case
from crb_dspy.errors import RunError
from crb_dspy.program import Part
from crb_dspy.recipe.bridge import tame
from crb_dspy.tuning.judging import Judge
from tests.fake_model import fake_model
from tests.fake_server import Body, Reply, serving
from tests.made_run import home
from tests.made_search import FULL, case, made_plan, made_split, run, text_of, with_recipe
from tests.scoring_reply import asks_for_findings, chance, sample, scoring

KEYS = ("GI", "GU")
SPLIT = made_split(KEYS)
CASES = (*SPLIT.train, *SPLIT.validation)


def example(of: Case) -> dspy.Example:
    (made,) = recipe.examples([of])
    return made


# Two parts whose SIMBA parses sources at once: one of them loses a rule, unseen.


def test_sources_are_parsed_by_one_thread_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    under_way: list[int] = []
    most = 0

    def parsed(kind: type) -> str:
        nonlocal most
        under_way.append(1)
        most = max(most, len(under_way))
        time.sleep(0.02)
        under_way.pop()
        return kind.__name__

    monkeypatch.setattr(inspect, "getsource", parsed)
    tame()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(simba_utils.inspect.getsource, [Part] * 8))
    assert (found, most) == (["Part"] * 8, 1)


# A prediction of score 0 counts as true.


def test_the_metric_gives_feedback_only_where_a_predictor_is_named() -> None:
    gold = example(SPLIT.train[0])
    wrong = dspy.Prediction(GI=["had-nothing"], GU=[], asked_for=KEYS)
    for trace in (None, [], [1]):
        score = Judge().metric(gold, wrong, trace)
        assert type(score) is float
        assert not score
    told = Judge().metric(gold, wrong, None, "part.GI.predict", None)
    assert told.score == 0
    assert told.feedback


def test_the_metric_of_a_student_is_what_evaluation_says() -> None:
    known = {key: list((SPLIT.train[0].gold or {})[key]) for key in KEYS}
    half = dspy.Prediction(GI=known["GI"], GU=[], asked_for=KEYS)
    assert Judge().metric(example(SPLIT.train[0]), half) == pytest.approx(0.5)
    # What failed is not what found nothing, even where there is nothing to find.
    empty = example(case("train9", KEYS, 0))
    assert Judge().metric(empty, dspy.Prediction(GI=[], GU=[], asked_for=KEYS)) == 1
    assert Judge().metric(empty, dspy.Prediction(GI=[], asked_for=KEYS)) == 0.5


def test_a_students_input_holds_no_gold() -> None:
    made = example(SPLIT.train[0])
    assert made.inputs()["case"].gold is None
    assert set(made.inputs()) == {"case"}


# GEPA tells predictors apart by their signatures, and its budget is a wish.


# `given` asks nothing: its predictions were made elsewhere.
@pytest.mark.parametrize("name", [name for name in names("programs") if name != "given"])
@pytest.mark.parametrize("cot", [False, True])
def test_every_predictor_of_a_program_has_a_signature_of_its_own(name: str, cot: bool) -> None:
    program = build_program(name, FULL, {"cot": cot} if cot else {})
    signatures = [predictor.signature for predictor in program.predictors()]
    same = [(a, b) for n, a in enumerate(signatures) for b in signatures[:n] if a.equals(b)]
    assert not same


@pytest.mark.parametrize("program", ["review", "category_specific", "grouped"])
def test_gepa_shows_a_predictor_the_mistakes_of_its_own_categories(program: str) -> None:
    planned = made_plan(
        SPLIT, KEYS, program=program, optimizer="gepa", joint=True, options={"rounds": 8}
    )
    result = run(planned, scoring(CASES))
    assert "broke off" not in result.tuned.verdicts[0].why
    assert result.reflections
    missed = 0
    for prompt in result.reflections:
        about = re.findall(r"\[\[ ## about ## \]\]\n(.*)", prompt)[-1]
        judged = " ".join(re.findall(r"judgement: (.*)", prompt))
        own = about.split(", ")
        missed += sum(f"-{key}-" in judged for key in own)
        assert not [key for key in KEYS if key not in own and f"-{key}-" in judged]
    assert missed
    # Each predictor in turn, and one at a time.
    first, *others = ([p["instruction"] for p in row["prompt"]] for row in
                      result.candidates("program"))  # fmt: skip
    changed = {n for told in others for n, text in enumerate(told) if text != first[n]}
    assert changed == set(range(len(first)))


@given(
    seed=st.integers(0, 2**16),
    train=st.integers(1, 9),
    validation=st.integers(1, 6),
    rounds=st.integers(1, 7),
    luck=st.floats(0, 1),
)
@settings(max_examples=25)
def test_gepa_never_exceeds_its_budget_of_metric_calls(
    seed: int, train: int, validation: int, rounds: int, luck: float
) -> None:
    split = made_split(["GI"], train, validation)
    metric_calls = Counter[str]()

    def metric(
        made: Any, prediction: Any, trace: Any = None, name: str | None = None, _: Any = None
    ) -> Any:
        instruction = prediction.instruction
        # Some instructions are better than others, in the part of cases that luck says.
        score = chance(instruction, made.gold.id) ** (1 + 3 * luck * chance(instruction))
        if name is None:
            metric_calls["all"] += 1
            return score
        return dspy.Prediction(score=score, feedback="invented")

    class Told(recipe.Student):
        def forward(self, case: Case) -> dspy.Prediction:
            prediction = self.part(case=case)
            prediction["instruction"] = self.part.instruction
            return prediction

    context = recipe.Context(
        lambda *_: [], random.Random(seed), lambda *_: "", student=Told, metric=metric
    )
    gepa = find_recipe("gepa", {})
    with fake_model(scoring([*split.train, *split.validation])):
        part = Part(FULL.select(["GI"]).categories)
        gepa(part, split.train, split.validation, context, rounds=rounds)
    most = recipe.calls(gepa, train, validation, {"rounds": rounds})
    assert most is not None
    assert metric_calls["all"] <= most


# Seed 0 becomes another in some of DSPy's optimizers, and fails in others.


@pytest.mark.parametrize("name", names("optimizers"))
def test_seed_0_works_whatever_is_drawn_from_it(name: str) -> None:
    class Zero(random.Random):
        def getrandbits(self, _: int, /) -> int:
            return 0

    planned = made_plan(made_split(["GI"]), optimizer=name)
    tuner = planned.tuning.recipe

    def zero(part: Any, train: Any, validation: Any, context: Any) -> Any:
        return tuner(part, train, validation, replace(context, random=Zero(0)))

    zero.chooses = recipe.chooses(tuner)  # type: ignore[attr-defined]
    result = run(with_recipe(planned, zero))
    assert "broke off" not in result.tuned.verdicts[0].why


# A server that dies is silent: optimizers take failures for scores.


@pytest.mark.parametrize("optimizer", ["gepa", "mipro", "simba", "bootstrap", "factors"])
def test_a_server_that_dies_in_a_search_ends_the_run_as_failed(
    tmp_path: Path, optimizer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    living = sample()

    def dying(body: Body) -> Reply:
        return living(body) if len(server.bodies) < 18 else 500

    few = ["--optimizer", optimizer, "--threads", 4, "--force", "--categories", "GI"]
    with serving(dying) as server, home(tmp_path) as place:
        with pytest.raises(RunError, match=r"'openai/fake' stopped answering: \d+ failures in a"):
            place.compile(server, *few)
        (run_,) = place.runs()
        assert run_.info.status == "FAILED"
        assert "failures in a row" in run_.data.tags["ended"]
        # What was judged before the server died is known; nothing tuned is.
        judged = {name for name in run_.data.metrics if name.startswith("test/")}
        assert judged <= {"test/score_baseline"}
        assert not (place.out / "program.json").exists()
    assert "tuned " not in capsys.readouterr().out


# The key of DSPy's cache leaves out the server.


def test_two_servers_with_one_models_name_share_no_answers(tmp_path: Path) -> None:
    few = ["--optimizer", "factors", "--categories", "GI", "--force"]
    with serving(sample()) as one, serving(sample()) as other, home(tmp_path) as place:
        for server in (one, other, one):
            place.compile(server, *few)
    assert len(other.bodies) == len(one.bodies) > 20
    assert sorted(other.prompts()) == sorted(one.prompts())


# Usage is lost in threads.


@pytest.mark.parametrize("optimizer", ["gepa", "simba", "mipro"])
def test_calls_and_tokens_of_all_threads_are_counted(tmp_path: Path, optimizer: str) -> None:
    few = ["--optimizer", optimizer, "--threads", 8, "--force"]
    with serving(sample(), delay=0.002) as server, home(tmp_path) as place:
        place.compile(server, *few)
        (run_,) = place.runs()
        rows = place.rows("candidates.jsonl")
    assert run_.data.metrics["cost/calls"] == len(server.bodies)
    assert run_.data.metrics["cost/tokens"] == server.tokens()
    assert server.most <= 8
    # What candidates took is part of what was asked, of the model or its cache.
    assert 0 < sum(row["calls"] for row in rows) <= run_.data.metrics["cost/asked"]
    assert all(bool(row["tokens"]) == bool(row["calls"]) for row in rows)
    # Each question is asked once.
    pairs = zip(server.prompts(), server.bodies, strict=True)
    cold = Counter(prompt for prompt, body in pairs if not body.get("temperature"))
    assert cold.total() == len(cold)


# Tasks that take over two minutes are sent a second time.


@pytest.mark.parametrize("optimizer", ["gepa", "simba"])
def test_slow_tasks_are_not_sent_twice(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = ParallelExecutor.__init__

    def hasty(self: Any, *args: Any, **given: Any) -> None:
        made(self, *args, **given)
        self.timeout = min(self.timeout, 0.02)

    monkeypatch.setattr(ParallelExecutor, "__init__", hasty)
    monkeypatch.setattr("dspy.utils.parallelizer.wait", briefly)
    split = made_split(["GI"], 4, 4)
    model = scoring([*split.train, *split.validation])

    def slow(prompt: str) -> str:
        time.sleep(0.1)
        return model(prompt)

    options = {"rounds": 1} if optimizer == "gepa" else {"steps": 1}
    result = run(made_plan(split, optimizer=optimizer, threads=8, options=options), slow)
    # GEPA samples nothing; SIMBA asks about each training case three times at temperature 1.
    temperature, times = (0, 1) if optimizer == "gepa" else (1, 3)
    asked = [r for r in result.requests if asks_for_findings(text_of(r))]
    sampled = Counter(text_of(r) for r in asked if r.config.temperature == temperature)
    assert max(sampled.values()) == times


def briefly(futures: Any, timeout: float, return_when: str) -> Any:
    from concurrent.futures import wait

    return wait(futures, 0.01, return_when)


# Bars of DSPy and GEPA would be taken for output.


@pytest.mark.parametrize("optimizer", ["gepa", "simba"])
def test_nothing_is_drawn_beside_the_progress_of_the_run(
    optimizer: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(*_: object, **__: object) -> None:
        raise AssertionError("a bar was made")

    monkeypatch.setattr("tqdm.std.tqdm.__init__", made)
    result = run(made_plan(made_split(["GI"]), optimizer=optimizer, threads=4))
    assert "broke off" not in result.tuned.verdicts[0].why
    assert "".join(capsys.readouterr()) == ""


# Bars that are forgotten while others are made fail whoever made them.


@pytest.mark.parametrize("optimizer", ["gepa", "simba"])
def test_parts_that_are_searched_side_by_side_do_not_disturb_each_other(optimizer: str) -> None:
    keys = ("GI", "GU", "Neuro", "EENT")
    split = made_split(keys, 3, 4)
    model = scoring([*split.train, *split.validation])
    options = {"rounds": 2} if optimizer == "gepa" else {"steps": 1}
    for _ in range(4):
        planned = made_plan(split, keys, optimizer=optimizer, threads=8, options=options)
        assert "broke off" not in str(run(planned, model).tuned.verdicts)


# Demonstrations carry every field of an example.


@pytest.mark.parametrize("optimizer", ["labeled", "bootstrap", "factors", "simba"])
@pytest.mark.parametrize("joint", [False, True])
def test_demonstrations_hold_no_other_categories_gold(optimizer: str, joint: bool) -> None:
    result = run(made_plan(SPLIT, KEYS, optimizer=optimizer, joint=joint), scoring(CASES))
    shown = Counter[str]()
    for row in result.tuned.candidates:
        for predictor in row["prompt"]:  # type: ignore[attr-defined]
            (key,) = {*KEYS} & {str(row["part"]), predictor["predictor"].partition("/")[0]}
            for demo in predictor["demonstrations"]:
                shown[key] += 1
                assert set(demo) <= {"case", "report", key}
                (other,) = {*KEYS} - {key}
                assert f"-{other}-" not in json.dumps(demo[key])
    assert shown
