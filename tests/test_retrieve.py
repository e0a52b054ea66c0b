"""Retrieve, then quote: what is shown and asked, what is left unasked, and what is stored."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crb_dspy.catalog import build_program
from crb_dspy.data.cases import Case
from crb_dspy.evaluation.asking import evaluate
from crb_dspy.export._find import find
from crb_dspy.export._make import Request, make, without_text
from crb_dspy.export._seam import LOOKS
from crb_dspy.origin import Origin
from crb_dspy.program import ExtractionProgram
from crb_dspy.retrieval.examples import Examples
from crb_dspy.retrieval.support import Learnt, Support
from crb_dspy.retrieval.use import Use
from crb_dspy.retrieval.weighing import Weighing
from crb_dspy.retrieval.weighing_fit import weighed
from crb_dspy.saved import Saved, load_program, write_program
from crb_dspy.scoring.objective import score_cell
from crb_dspy.tuning.ledger import identity
from tests.export_trial import trial
from tests.fake_model import fake_model, keys_of, report_of
from tests.fake_server import Body, Raw, Reply, asked_keys, serving
from tests.made_search import made_plan, made_split, run
from tests.scoring_reply import scoring
from tests.test_support import CASES, LEARNT, NEW, QUIET, SCHEMA

LONG = Case(
    "long",
    {
        "History": "A boy was seen. There was severe vomiting. He went home. They sang. May.",
        "Family": "The garden was green. The dog slept. The sun shone.",
    },
)


def taught(learnt: Learnt = LEARNT, **options: object) -> ExtractionProgram:
    return build_program("retrieve", SCHEMA, {"reads": 0.5, **options}).taught(learnt)


def test_the_model_sees_sentences_with_neighbours_under_their_heading_and_nearest_examples() -> (
    None
):
    answer = json.dumps({"GI": ["severe vomiting"]})
    with fake_model(lambda prompt: answer) as engine:
        assert taught().parts["GI"](case=LONG).GI == ["severe vomiting"]
    (prompt,) = engine.prompts
    shown = report_of(prompt.partition("\n\n")[2])
    assert shown == ("## History\nA boy was seen.\nThere was severe vomiting.\nHe went home."), (
        shown
    )
    examples = prompt.partition("Examples, from other patients' reports")[2]
    assert examples.count("<excerpt>") == 3
    assert examples.count('{"GI": []}') == 1
    assert examples.rindex("There was severe vomiting") > examples.index('{"GI": []}')


def test_without_a_sentence_there_is_no_call_and_the_cell_says_why() -> None:
    with fake_model() as engine:
        rows = evaluate(taught(), [replace(QUIET, gold={"GI": ("green",), "Neuro": ()})])
    assert not engine.prompts
    assert [row.predicted for row in rows] == [(), ()]
    assert all("not asked: no sentence reaches 0.5" in row.reason for row in rows)
    assert not any(row.error for row in rows)


def test_without_a_model_whole_sentences_stand() -> None:
    with fake_model() as engine:
        assert taught(cut=False).parts["GI"](case=LONG).GI == ["There was severe vomiting."]
    assert not engine.prompts


def test_untaught_it_shows_whole_reports() -> None:
    part = build_program("retrieve", SCHEMA, {}).parts["GI"]
    assert part.shown(LONG) == LONG.text


def test_no_example_is_of_the_reports_own_group_or_of_a_text_that_it_has() -> None:
    examples = Examples.of(CASES)
    for case in CASES:
        told = [case.text]
        shown = examples.nearest(replace(case, gold=None), told, ["GI"], 5, 5)
        assert shown
        assert all(demo["case"] != case.id and demo["report"] not in case.text for demo in shown)
    copy = replace(CASES[0], id="other", group="other", gold=None)
    shown = examples.nearest(copy, [copy.text], ["GI"], 5, 5)
    assert not any(demo["report"] in copy.text for demo in shown)


@given(st.permutations(range(6)))
def test_the_order_of_the_cases_is_of_no_account(order: Sequence[int]) -> None:
    some = CASES[:6]
    assert Examples.of([some[n] for n in order]) == Examples.of(some)
    examples = Examples.of(some)
    assert Examples.from_plain(json.loads(json.dumps(examples.plain()))) == examples


def views(learnt: Learnt = LEARNT):  # type: ignore[no-untyped-def]
    return learnt.views


def score(text: str, gold: Sequence[str], predicted: Sequence[str]) -> float:
    return score_cell(text, gold, predicted).score


# A model that quotes the whole finding, and the family's move beside it.
FOUND = {
    case.id: {"GI": [*(case.gold or {})["GI"], "The family had moved here."], "Neuro": ["green"]}
    for case in CASES
}


def weighing(cases: Sequence[Case] = CASES, learnt: Learnt = LEARNT) -> Weighing:
    found = weighed(cases, SCHEMA.keys, FOUND, learnt.views, score)
    assert found is not None
    return found


def test_weighed_a_quote_goes_that_the_classifier_is_against_and_one_stays_that_it_is_for() -> None:
    one = weighing()
    told = LEARNT.views(NEW, "GI")
    assert one.quotes(NEW, "GI", told, ["severe vomiting", "A boy was seen"]) == ["severe vomiting"]
    assert one.quotes(NEW, "Neuro", LEARNT.views(NEW, "Neuro"), ["A boy was seen"]) == []


def test_a_weighing_is_stored_whole_and_says_the_same() -> None:
    one = weighing()
    again = Weighing.of(json.loads(json.dumps(one.plain())))
    for key in SCHEMA.keys:
        told = LEARNT.views(NEW, key)
        for quotes in ([], ["severe vomiting"], ["He went home", "nowhere"]):
            assert again.quotes(NEW, key, told, quotes) == one.quotes(NEW, key, told, quotes)


def test_a_report_is_weighed_by_what_was_learnt_without_its_group() -> None:
    poisoned = [replace(CASES[0], gold={"GI": (), "Neuro": ("A child came to us",)}), *CASES[1:]]
    one, two = weighing(), weighing(poisoned)
    group = CASES[0].group
    assert one.others[group] == two.others[group]
    assert one.weights != two.weights


def test_too_few_groups_teach_no_weighing() -> None:
    assert weighed(CASES[:2], SCHEMA.keys, FOUND, LEARNT.views, score) is None
    silent = [replace(case, gold={"GI": (), "Neuro": ()}) for case in CASES]
    assert weighed(silent, SCHEMA.keys, FOUND, LEARNT.views, score) is None


def test_pruned_what_a_second_look_does_not_name_is_left_out() -> None:
    def reply(prompt: str) -> str:
        both = ["severe vomiting", "He went home"]
        return json.dumps({"GI": ["Severe  vomiting"] if "Already quoted" in prompt else both})

    seed = build_program("category_specific", SCHEMA, {}).parts["GI"]
    pruned = seed.with_support(Support(LEARNT, Use("sentences", 0.0, Use.NEVER, pruned=True)))
    with fake_model(reply) as engine:
        assert pruned(case=LONG).GI == ["severe vomiting"]
    assert len(engine.prompts) == 2
    assert keys_of(engine.prompts[1]) == ["GI"]


VARIANTS = {
    "alone": Use("clauses", Use.NEVER, 0.3),
    "gate": Use("sentences", 0.1, Use.NEVER),
    "reading": Use("sentences", 0.1, Use.NEVER, reads=0.1, nearest=2, empty=1),
    "weighed": Use("sentences", 0.0, Use.NEVER, weighing=weighing()),
    "pruned": Use("sentences", 0.0, Use.NEVER, pruned=True),
    "silence": Use("sentences", 0.0, Use.NEVER, silence=0.5),
    "whether": Use("sentences", 0.0, Use.NEVER, whether=True, pruned=True),
}


def saved(use: Use, program: str = "category_specific", **options: object) -> Saved:
    seed = build_program(program, SCHEMA, options)
    parts = {n: part.with_support(Support(LEARNT, use)) for n, part in seed.parts.items()}
    origin = Origin(
        program=program,
        program_options=dict(options),
        schema="casereportbench",
        categories=list(SCHEMA.keys),
        model="openai/qwen2.5-test",
    )
    return Saved(seed.with_parts(parts), SCHEMA, origin)


@pytest.mark.parametrize("use", VARIANTS.values(), ids=VARIANTS)
def test_every_use_is_stored_whole_and_has_its_own_identity(use: Use, tmp_path: Path) -> None:
    one = saved(use)
    path = write_program(tmp_path / "program.json", one)
    loaded = load_program(path)
    assert loaded.fingerprint == one.fingerprint
    assert write_program(tmp_path / "again.json", loaded).read_bytes() == path.read_bytes()
    others = {identity(saved(other).program.parts["GI"]) for other in VARIANTS.values()}
    assert len(others) == len(VARIANTS)
    assert loaded.program.few_shot == bool(use.nearest)
    with fake_model(answered) as engine, fake_model(answered) as again:
        del engine
        for case in (NEW, LONG, QUIET):
            assert loaded.program(case=case).GI == one.program(case=case).GI
        assert bool(again.prompts) == use.asking


def answered(prompt: str) -> str:
    return json.dumps({key: ["severe vomiting", "went home. They"] for key in keys_of(prompt)})


def reply(body: Body) -> Reply:
    """Find the same everywhere; say no, think of silence and look again by what the report says."""
    prompt = body["messages"][-1]["content"]
    if "Task:" not in prompt:
        return '{"answer": ["yes"]}'
    told = "vomiting" in prompt.partition("</report>")[0]
    if "Does this report say anything" in prompt:
        return json.dumps(dict.fromkeys(asked_keys(body), "yes" if told else "no"))
    if "Already quoted" in prompt:
        return json.dumps({key: ["Severe vomiting"] for key in asked_keys(body)})
    if body.get("logprobs"):
        return thinking(asked_keys(body), 0.1 if told else 0.9)
    return json.dumps({key: ["severe vomiting", "A boy was seen"] for key in asked_keys(body)})


def thinking(keys: Sequence[str], silence: float) -> Reply:
    """Quotes, and how near they were to none."""
    shown = [
        (f'{{"{keys[0]}":', 1.0, {}),
        (' ["', 1 - silence, {" []": silence}),
        ('x"]}', 1.0, {}),
    ]
    content = [
        {
            "token": token,
            "logprob": math.log(own),
            "top_logprobs": [{"token": t, "logprob": math.log(p)} for t, p in rivals.items()],
        }
        for token, own, rivals in shown
    ]
    text = json.dumps({key: ["severe vomiting", "A boy was seen"] for key in keys})
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "usage": usage}
    return Raw(body | {"choices": [choice | {"logprobs": {"content": content}}]})


TRIED = tuple(replace(case, gold={"GI": ("severe vomiting",)}) for case in (NEW, LONG, QUIET))


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("program", ["category_specific", "monolithic", "review"])
@pytest.mark.parametrize("use", ["alone", "gate", "reading", "weighed", "silence", "whether"])
def test_the_exported_script_asks_and_finds_the_same_without_this_package(
    use: str,
    program: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.chdir(tmp_path)
    if (use, program) != ("weighed", "category_specific"):  # which needs all that stands beside it
        request.getfixturevalue("script_here")
    with serving(reply) as fake:
        one = saved(VARIANTS[use], program)
        proof, _ = make(find("python"), one, tmp_path / "out", Request(trial=trial(fake, TRIED)))
    assert proof["cases"]["findings"] == "identical"
    assert not {"classifier", *LOOKS} & set(proof["lacks"])
    # Else the answers would show nothing.
    assert any(body.get("logprobs") for body in fake.bodies) == (use == "silence")
    assert any("anything of" in prompt for prompt in fake.prompts()) == (use == "whether")
    assert any("Of what that reader quoted" in p for p in fake.prompts()) == (use == "whether")
    assert (tmp_path / "out" / "beside" / "classifier.json").is_file()
    texts = [path.read_text("utf-8") for path in (tmp_path / "out").rglob("*.py")]
    assert not any("from crb_dspy" in text or "import numpy" in text for text in texts)


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("name", ["mlflow-model", "markdown", "state", "python"])
def test_every_format_carries_what_stands_beside_the_model_or_says_that_it_does_not(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    use = replace(VARIANTS["reading"], pruned=True, silence=0.5, whether=True)
    with serving(reply) as fake:
        one = saved(use)
        proof, _ = make(find(name), one, tmp_path / "out", Request(trial=trial(fake, TRIED)))
    wanted = {"classifier", *LOOKS}
    carried = wanted if name in ("mlflow-model", "python") else set()
    assert wanted & set(proof["lacks"]) == wanted - carried
    if carried:
        assert proof["cases"]["findings"] == "identical"
    assert bool(proof["report_text"]["demonstrations"]) == bool(carried)


def test_without_text_no_sentence_of_a_training_report_is_left(tmp_path: Path) -> None:
    bare = without_text(saved(VARIANTS["reading"]))
    text = write_program(tmp_path / "program.json", bare).read_text("utf-8")
    assert "The family had moved here" not in text


def test_only_categories_with_a_sentence_are_asked_about() -> None:
    with fake_model() as engine:
        evaluate(taught(), [NEW, LONG, QUIET])
    assert len(engine.prompts) == 2


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        ("labeled", {}),
        ("bootstrap", {}),
        ("factors", {"trials": 2}),
        ("mipro", {}),
        ("gepa", {"rounds": 1}),
        ("auto", {"candidates": 2}),
    ],
)
def test_its_parts_are_tuned_by_every_recipe(optimizer: str, options: dict[str, int]) -> None:
    settings = {"program": "retrieve", "optimizer": optimizer, "options": options}
    planned = made_plan(made_split(["GI"], validation=6), ["GI"], **settings)
    found = run(planned, scoring(planned.loaded.cases))
    rows = found.candidates("GI")
    assert len(rows) > 1
    # The classifier stays, whatever the recipe makes of the prompt.
    assert all(row["classifier"] for row in rows)
    (used,) = [part.support for part in found.tuned.program.parts.values()]
    assert used
    assert not any("broke off" in str(verdict) for verdict in found.tuned.verdicts)
    assert len(found.tasks) <= planned.estimate.calls
