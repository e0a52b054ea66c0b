"""What each program does that the others don't."""

import json

from crb_dspy.catalog import build_program
from crb_dspy.data.cases import Case
from crb_dspy.data.schema import load_schema
from tests.fake_model import fake_model, keys_of, nothing, report_of

SCHEMA = load_schema("casereportbench")
CASE = Case(
    "c1",
    {
        "Laboratory examinations": "Ammonia was 300.",
        "Case report": "He vomited and had seizures.",
        "Ophthalmologic examination": "Corneal clouding.",
    },
)


def shown(name: str, case: Case = CASE, **options: object) -> dict[str, str]:
    """The report that each category was shown."""
    with fake_model() as engine:
        build_program(name, SCHEMA, options)(case=case)
    texts = [str(request.messages[-1].text) for request in engine.requests]
    return {key: report_of(text) for text in texts for key in keys_of(text)}


def test_filtered_shows_general_sections_to_all_and_special_ones_to_their_owner() -> None:
    reports = shown("filtered")
    general = "## Case report\nHe vomited and had seizures."
    assert reports["GI"] == general
    assert reports["EENT"] == f"{general}\n\n## Ophthalmologic examination\nCorneal clouding."
    assert reports["Lab_Image"] == f"{general}\n\n## Laboratory examinations\nAmmonia was 300."


def test_filtered_does_not_ask_about_a_case_with_nothing_for_a_category() -> None:
    case = Case("c2", {"Genetic testing": "Homozygous."})
    assert list(shown("filtered", case)) == ["Lab_Image"]


def test_headings_of_several_systems_or_of_the_whole_patient_are_general() -> None:
    general = ["Case 1", "Imaging examinations and history of present illness", "Observation"]
    general += ["Clinical, laboratory and imaging examinations", "History", "Physical examination"]
    assert [SCHEMA.owner(heading) for heading in general] == [None] * len(general)
    owned = {"Mutation analysis": "Lab_Image", "NEUROLOGICAL EXAMINATION": "Neuro", "Eyes": "EENT"}
    assert {heading: SCHEMA.owner(heading) for heading in owned} == owned


def test_a_section_of_a_category_that_is_not_asked_for_stays_its_own() -> None:
    once = SCHEMA.select(["GI", "GU"])
    twice = once.select(["GI"])
    for schema in (once, twice):
        assert schema.owner("Laboratory examinations") == "Lab_Image"
        assert {c.key for c in schema.categories + schema.unselected} == set(SCHEMA.keys)
    assert twice.keys == ("GI",)


def test_grouped_asks_for_related_categories_together() -> None:
    with fake_model() as engine:
        build_program("grouped", SCHEMA, {})(case=CASE)
    groups = [keys_of(str(request.messages[-1].text)) for request in engine.requests]
    assert 1 < len(groups) < len(SCHEMA.keys)
    assert ["GI", "GU"] in groups


def test_review_adds_what_was_missed_and_repeats_nothing() -> None:
    def reply(prompt: str) -> str:
        second = "Already quoted:" in prompt
        return json.dumps({"GI": ["vomited", "seizures"] if second else ["vomited"]})

    with fake_model(reply) as engine:
        prediction = build_program("review", SCHEMA.select(["GI"]), {})(case=CASE)
    assert prediction.GI == ["vomited", "seizures"]
    assert 'Already quoted: ["vomited"]' in engine.prompts[1]


def test_findings_carry_their_place_and_status() -> None:
    program = build_program("category_specific", SCHEMA.select(["GI"]), {})
    with fake_model(lambda prompt: json.dumps({"GI": ["He  vomited", "made up"]})):
        findings = program(case=CASE).findings["GI"]
    (start, end) = findings[0].spans[0]
    assert CASE.text[start:end] == "He vomited"
    assert [finding.status for finding in findings] == ["normalised", "ungrounded"]


def test_what_is_not_in_the_report_can_be_dropped() -> None:
    options = {"keep_ungrounded": False}
    program = build_program("category_specific", SCHEMA.select(["GI"]), options)
    with fake_model(lambda prompt: json.dumps({"GI": ["vomited", "made up"]})):
        assert program(case=CASE).GI == ["vomited"]


def test_a_finding_that_a_demonstration_gave_away_is_flagged() -> None:
    program = build_program("category_specific", SCHEMA.select(["GI"]), {})
    other = Case("c3", {"Case report": "She had bloody stools."})
    part = program.parts["GI"]
    shown_demo = part.with_demonstrations([part.demonstration(other, {"GI": ["bloody stools"]})])
    with fake_model(lambda prompt: json.dumps({"GI": ["vomited", "bloody stools"]})):
        prediction = program.with_parts({"GI": shown_demo})(case=CASE)
    assert prediction.irregular == {"GI": "from a demonstration: 'bloody stools'"}


def test_a_report_that_does_not_fit_is_read_in_pieces_and_merged() -> None:
    long = " ".join(f"Sentence {i} tells of sign{i} here." for i in range(300))
    case = Case("long", {"Case report": long})

    def reply(prompt: str) -> str:
        return json.dumps({"GI": [f"sign{i}" for i in range(300) if f"sign{i} " in prompt]})

    with fake_model(reply) as engine:
        engine.context, engine.count = 1500, lambda text: len(text) // 4  # type: ignore[attr-defined]
        prediction = build_program("category_specific", SCHEMA.select(["GI"]), {})(case=case)
    assert len(engine.requests) > 2
    assert prediction.GI == [f"sign{i}" for i in range(300)]


def test_a_context_without_room_is_an_error_of_the_cell() -> None:
    with fake_model(nothing) as engine:
        engine.context, engine.count = 300, len  # type: ignore[attr-defined]
        prediction = build_program("category_specific", SCHEMA.select(["GI"]), {})(case=CASE)
    assert "leaves" in prediction.errors["GI"]
