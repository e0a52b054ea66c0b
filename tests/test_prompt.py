"""The exact prompts: golden files of the seed, and what demonstrations look like in them."""

from pathlib import Path

import pytest

from crb_dspy.catalog import build_program
from crb_dspy.compile.artifacts import prompts
from crb_dspy.data.schema import load_schema
from crb_dspy.program.marks import defuse
from crb_dspy.program.prompt import ReportFirst, answer_schema

GOLDEN = Path(__file__).parent / "golden"
SCHEMA = load_schema("casereportbench")


@pytest.mark.parametrize("name", ["category_specific", "monolithic"])
def test_seed_prompts_are_the_golden_ones(name: str) -> None:
    """After a deliberate change: delete the file and run this test once."""
    program = build_program(name, SCHEMA, {})
    golden = GOLDEN / f"{name}.md"
    if not golden.exists():
        golden.write_text(prompts(program, program), "utf-8")
        pytest.fail(f"{golden} was written; look at it and run again")
    assert prompts(program, program) == golden.read_text("utf-8")


def test_demonstrations_stand_between_report_and_instruction() -> None:
    part = build_program("category_specific", SCHEMA.select(["GI"]), {}).parts["GI"]
    demos: list[dict[str, object]] = [
        {"report": "He vomited. He slept.", "GI": ["vomited"], "RESP": ["other gold"]},
        {"GI": ["bare finding without its text"]},
        {"report": "no output"},
    ]
    content = ReportFirst().format(part.predict.signature, demos, {"report": "R"})[1]["content"]
    assert content.index("R\n</report>") < content.index("He vomited.") < content.index("Task:")
    assert '</excerpt>\n{"GI": ["vomited"]}\n' in content
    for leaked in ("other gold", "bare finding", "no output"):
        assert leaked not in content


def test_an_answer_is_constrained_to_lists_of_its_categories() -> None:
    part = build_program("category_specific", SCHEMA.select(["GI"]), {"cot": True}).parts["GI"]
    schema = answer_schema(part.predict.signature)
    assert list(schema["properties"]) == ["reasoning", "GI"] == schema["required"]
    assert schema["properties"]["reasoning"] == {"type": "string"}
    assert schema["properties"]["GI"]["items"] == {"type": "string"}
    assert schema["additionalProperties"] is False


def test_clinical_text_is_left_alone_by_what_breaks_markup() -> None:
    for text in ("p<0.05, Na < 135, <5 mg, a > b, [3], x << y", "temp. 37 °C {a}"):
        assert defuse(text) == text
