"""A first experiment of one's own: what is written is what compile reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crb_dspy.compile.config import read_experiment
from crb_dspy.compile.plan import plan
from crb_dspy.data.schema import load_schema
from crb_dspy.errors import UserError
from crb_dspy.init import __main__ as command
from crb_dspy.init.draft import Wish, read
from tests import mixed_data
from tests.fake_server import Body, Reply, empty, serving
from tests.made_data import entry, save

DRAFT = [
    {
        "key": "Rash",
        "title": "Rashes",
        "guidance": "changes of the skin",
        "instruction": "Quote every rash.",
        "terms": ["rash", "erythem*", "rash", "a", 7, None],
    },
    {"key": "not a key", "title": "x", "guidance": "x", "instruction": "x"},
    {"key": "Fever", "title": "Fever"},
]


@pytest.fixture(autouse=True)
def standing_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def drafting(body: Body) -> Reply:
    asked = body["messages"][-1]["content"]
    if "Write the categories" in asked:
        return f"Here they are:\n```json\n{json.dumps(DRAFT)}\n```"
    return empty(body)


def test_categories_alone_make_an_experiment_that_can_be_planned(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command.main(["first", "--categories", "GI, Rash", "--describe", 'a "rash"\n']) == 0
    schema = load_schema("first/schema.toml")
    assert schema.keys == ("GI", "Rash")
    experiment = read_experiment(Path("first/experiment.toml"), {"optimizer": "none"})
    planned = plan(experiment)
    assert (experiment.name, len(planned.loaded.cases)) == ("first", 3)
    assert planned.loaded.ungrounded == ()
    assert any((case.gold or {}).get("GI") for case in planned.loaded.cases)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed[printed.index("next") + 1 :]) == 3


HELD = (
    "Smoking: choice smoker|former smoker|never|not mentioned",
    "Temperature: value number °C",
    "Course: events",
    "Diagnosis: answer judge",
)


def test_categories_of_every_kind_are_drafted(capsys: pytest.CaptureFixture[str]) -> None:
    mixed_data.written(Path(), 4)
    flags = [part for text in HELD for part in ("--category", text)]
    command.main(["first", "--categories", "Findings", *flags])
    schema = load_schema("first/schema.toml")
    assert schema.keys == mixed_data.KEYS
    smoking, temperature, *_, diagnosis = schema.categories[1:]
    assert smoking.model_extra == {"options": ["smoker", "former smoker", "never", "not mentioned"]}
    assert temperature.model_extra == {"type": "number", "unit": "°C"}
    assert diagnosis.model_extra == {"judge": True}
    assert [c.instruction.startswith("Quote") for c in schema.categories] == [True, *[False] * 4]
    assert plan(read_experiment(Path("first/experiment.toml"), {"optimizer": "none"})).loaded
    # The same of annotated cases, with what is in them.
    command.main(["second", "--data", "mixed.jsonl", *flags])
    assert (
        "such as 'smoker'"
        in load_schema("second/schema.toml").select(["Smoking"]).categories[0].guidance
    )
    planned = plan(read_experiment(Path("second/experiment.toml"), {"optimizer": "none"}))
    gold = planned.loaded.cases[0].gold
    assert gold and gold["Course"] == ("-24 h: fever",)
    assert len(Path("second/examples.jsonl").read_text().splitlines()) == 3


def test_a_model_that_drafts_is_told_what_is_no_quote() -> None:
    asked = []

    def drafts(body: Body) -> Reply:
        asked.append(body["messages"][-1]["content"])
        return drafting(body)

    with serving(drafts) as server:
        flags = ["--model", "openai/fake", "--api-base", server.address]
        command.main(
            ["first", "--categories", "Rash", "--category", "Fever: choice yes|no", *flags]
        )
        command.main(["second", "--categories", "Rash", *flags])
    rash, fever = load_schema("first/schema.toml").categories
    assert rash.kind == "" and fever.kind == "choice" and fever.holds.offered == ("yes", "no")
    told, other = (text for text in asked if "Write the categories" in text)
    assert "Fever is one of: yes / no" in told and "where quotes are wanted" in told
    assert "What is no quote" not in other


def test_annotated_cases_give_their_categories() -> None:
    data = save(Path("cases.jsonl"), *(entry(f"c{n}", gold={"GI": ["vomiting"]}) for n in range(5)))
    assert command.main(["first", "--data", data]) == 0
    (category,) = load_schema("first/schema.toml").categories
    assert category.key == "GI"
    assert "'vomiting'" in category.guidance
    assert plan(read_experiment(Path("first/experiment.toml"), {"optimizer": "none"})).loaded
    assert len(Path("first/examples.jsonl").read_text().splitlines()) == 3


def test_a_model_drafts_the_schema_and_what_it_leaves_out_is_plain() -> None:
    with serving(drafting) as server:
        flags = ["--model", "openai/fake", "--api-base", server.address]
        command.main(["first", "--categories", "Rash,Fever", "--describe", "skin", *flags])
        command.main(["second", "--describe", "skin", *flags])
    rash, fever = load_schema("first/schema.toml").categories
    assert (rash.instruction, fever.instruction[:30]) == (
        "Quote every rash.",
        "Quote every finding about Feve",
    )
    assert list(rash.terms) == ["rash", "erythem"]
    assert list(fever.terms) == []
    assert load_schema("second/schema.toml").keys == ("Rash",)
    assert read_experiment(Path("first/experiment.toml"), {}).api_base == server.address


@pytest.mark.parametrize("text", ["", "no list", "[", "[1, 2]", '{"key": "a"}', "[[]]"])
def test_an_answer_without_categories_gives_none(text: str) -> None:
    assert read(text, Wish.of("", (), (), {})) == {}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["first"], "no categories: give --categories"),
        (["first", "--describe", "skin"], "no categories: give --categories"),
        (["first", "--categories", "a b"], "category 'a b': letters, digits and underscores"),
        (["first", "--data", "nowhere.jsonl"], "nowhere.jsonl: cannot be read"),
        (["first", "--data", "bare.jsonl"], "bare.jsonl: no case has gold"),
        (["there", "--categories", "GI"], "schema.toml: is there already"),
        (["first", "--category", "Rash"], "--category 'Rash': write --category 'KEY: KIND"),
        (["first", "--category", "Rash: choise a|b"], "did you mean 'choice'?"),
        (["first", "--category", "Rash: choice"], "--category 'Rash: choice': category 'Rash'"),
        (["first", "--category", "T: value numbers"], "category 'T': type"),
        (["first", "--category", "T: events daily"], "'daily' is no option; options are"),
        (
            ["first", "--data", "mixed.jsonl"],
            "what stands under 'Smoking' is no list of quotes; say",
        ),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(arguments: list[str], said: str) -> None:
    save(Path("bare.jsonl"), entry(gold=...))
    mixed_data.written(Path(), 1)
    Path("there").mkdir()
    Path("there/schema.toml").write_text("")
    with pytest.raises(UserError) as caught:
        command.main(arguments)
    assert said in str(caught.value)
    assert not Path("first").exists()


def test_on_a_terminal_what_is_missing_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["", "GI", "the gut", ""])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda asked: next(answers))
    assert command.main(["first"]) == 0
    (category,) = load_schema("first/schema.toml").categories
    assert category.guidance == "the gut"
