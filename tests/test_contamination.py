"""Text of validation and test reports is found in tuned prompts; ordinary language is not."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crb_dspy.catalog import build_program
from crb_dspy.data.benchmarks import load
from crb_dspy.data.cases import Case
from crb_dspy.data.schema import load_schema
from crb_dspy.data.splits import Split, split
from crb_dspy.tuning.contamination import Hit, Passage, hits, passages, scan
from crb_dspy.tuning.identifying import COPIED, LONG, words_of
from tests.real_data import real

SCHEMA = load_schema("casereportbench").select(["GI", "Neuro"])
PROGRAM = build_program("category_specific", SCHEMA, {})
SEED = "Quote every finding about the stomach, the bowel and the liver, with its values."
TRAIN = (
    "A boy of 6 years had vomiting for 3 days. There was no history of a like illness among "
    "his cousins, and the lactate was 4.5 mmol on admission in 2011."
)
VALIDATION = (
    "The ammonia rose to 1,243 umol and a liver biopsy was taken on 12 March in Uppsala; "
    "34-year-old."
)
TEST = (
    "Her younger brother Olof Lindqvist, seen at the Great Northern Hospital, carried the variant "
    "SLC25A15 in both alleles. Haemoglobin was 7.8 g. There was no history of travelling abroad, "
    "and she walked without any help until the autumn of that year."
)


def case(name: str, text: str, group: str = "") -> Case:
    return Case(name, {"Case Presentation": text}, {}, group or name)


SIDES = Split((case("a", TRAIN),), (case("v", VALIDATION),), (case("t", TEST),))


def found(text: str, place: str = "instruction", sides: Split = SIDES) -> list[Hit]:
    return hits([Passage("GI", place, text)], [SEED], sides)


@pytest.mark.parametrize(
    ("text", "side", "kind", "shared"),
    [
        (
            "Such as: SHE WALKED  without any help, until the autumn of that year!",
            "test",
            "wording",
            "she walked without any help until the autumn of that year",
        ),
        (
            "Quote that she walked without any help.",
            "test",
            "wording",
            "she walked without any help",
        ),
        ("An ammonia of 1243 is a finding.", "validation", "number", "1,243"),
        ("Quote it if haemoglobin was 7.8 g or so.", "test", "number", "Haemoglobin was 7.8 g"),
        ("What happened on 12 March counts.", "validation", "number", "12 March"),
        ("Ask Olof Lindqvist.", "test", "name", "Olof Lindqvist"),
        ("In Great Northern Hospital it is so.", "test", "name", "Great Northern Hospital"),
        ("Variants like SLC25A15 belong here.", "test", "name", "SLC25A15"),
    ],
)
def test_text_of_a_report_in_an_instruction_is_found(
    text: str, side: str, kind: str, shared: str
) -> None:
    (hit,) = found(text)
    (judged,) = getattr(SIDES, side)
    assert (hit.part, hit.place, hit.case, hit.side) == ("GI", "instruction", judged.id, side)
    assert (hit.kind in (kind, "number"), hit.text in shared) == (True, True)
    assert hit.text.split()[-1].strip(".,") in shared
    assert judged.text[hit.offset :].startswith(hit.text)


@pytest.mark.parametrize(
    "text",
    [
        SEED,
        TRAIN,
        "There was no history of anything.",
        "Quote ages such as 34-year-old or 6 years, doses such as 10 mg, and dates.",
        "Quote values such as 39.5 or 7.8, and years.",
        "Sections such as Case Presentation hold most findings.",
        "Quote what the brother had, and the haemoglobin, and that year.",
        "Great care is needed. Northern reports differ. Hospital stays count.",
        "",
    ],
)
def test_ordinary_language_is_no_hit(text: str) -> None:
    assert found(text) == []


def test_what_reports_of_several_groups_say_is_ordinary_unless_it_is_long() -> None:
    five, eight = (
        "reduced hearing on both sides",
        "she needed a hearing aid from her second birthday",
    )
    both = [case(name, f"{name} had {five} and {eight}.") for name in ("x", "y")]
    one_group = [case(name, f"{name} had {five}.", "kin") for name in ("x", "y")]
    assert found(f"Quote {five}.", sides=Split((), (both[0],), (both[1],))) == []
    assert len(found(f"Quote {five}.", sides=Split((), (), tuple(one_group)))) == 2
    assert len(found(f"Quote: {eight}.", sides=Split((), (both[0],), (both[1],)))) == 2


def test_a_demonstration_is_a_hit_only_where_training_and_test_share_a_passage() -> None:
    copied = " ".join(TEST.split()[:COPIED])
    twin = case("b", f"Another report. {copied} and so on.")
    sides = Split((*SIDES.train, twin), SIDES.validation, SIDES.test)
    (hit,) = found(twin.text, "demonstration 2", sides)
    assert (hit.place, hit.case, hit.kind, hit.text) == ("demonstration 2", "t", "wording", copied)
    assert found(" ".join(TEST.split()[: COPIED - 1]), "demonstration 1") == []
    # What several training reports say too is a figure of speech.
    others = [case(str(n), copied) for n in range(3)]
    assert found(copied, "demonstration 1", Split(tuple(others), (), SIDES.test)) == []


def test_a_number_in_a_shared_sentence_is_no_second_hit() -> None:
    sentence = "the ammonia rose to 1,243 umol and a liver biopsy was taken"
    (hit,) = found(f"Example: {sentence}.")
    assert (hit.kind, hit.text.lower()) == ("wording", sentence)


def test_a_hit_is_a_line_that_names_its_place() -> None:
    (hit,) = found("Variants like SLC25A15 belong here.")
    assert str(hit) == f"GI, instruction: name of test case t at {hit.offset}: 'SLC25A15'"
    assert set(asdict(hit)) == {"part", "place", "case", "side", "kind", "text", "offset"}


def test_a_program_is_read_instruction_by_instruction_and_demonstration_by_demonstration() -> None:
    shown = case("a", TRAIN)
    tuned = PROGRAM.with_parts({
        "GI": PROGRAM.parts["GI"].with_demonstrations([
            {"report": shown.text, "GI": ["vomiting"]},
            {"report": TEST, "GI": ["without any help"]},
        ]),
        "Neuro": PROGRAM.parts["Neuro"].deepcopy(),
    })  # fmt: skip
    predict = tuned.parts["Neuro"].predict
    predict.signature = predict.signature.with_instructions("Quote variants such as SLC25A15.")
    found = scan(PROGRAM, tuned, SIDES)
    assert [(hit.part, hit.place, hit.kind) for hit in found] == [
        ("Neuro", "instruction", "name"),
        ("GI", "demonstration 2", "wording"),
    ]
    places = [passage.place for passage in passages(tuned)]
    assert places == ["instruction", "instruction", "demonstration 1", "demonstration 2"]
    assert scan(PROGRAM, PROGRAM, SIDES) == []


VOCABULARY = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in ("ar", "el", "im") for c in "adeiou"]


def reports(chance: random.Random, names: Sequence[str]) -> tuple[Case, ...]:
    def word() -> str:
        return chance.choice(VOCABULARY) + chance.choice(VOCABULARY)

    return tuple(case(name, " ".join(word() for _ in range(60))) for name in names)


@given(st.integers(), st.integers(LONG, 30), st.booleans(), st.data())
def test_a_planted_leak_is_found_with_its_place(
    seed: int, size: int, told: bool, data: st.DataObject
) -> None:
    chance = random.Random(seed)
    train, judged = reports(chance, "ab"), reports(chance, "vwxy")
    sides = Split(train, judged[:2], judged[2:])
    size = max(size, LONG if told else COPIED)
    victim = data.draw(st.sampled_from(judged))
    words = words_of(victim.text)
    start = data.draw(st.integers(2, len(words.words) - size))
    leak = words.slice(start, start + size)
    changed = data.draw(st.sampled_from([leak, leak.upper(), leak.replace(" ", ",\n ")]))
    place = "instruction" if told else "demonstration 1"
    around = train[0].text
    (hit,) = hits([Passage("GI", place, f"{around} {changed}. {SEED}")], [SEED], sides)
    side = "validation" if victim in sides.validation else "test"
    assert (hit.case, hit.side, hit.place, hit.kind) == (victim.id, side, place, "wording")
    assert (hit.offset, hit.text) == (words.spans[start][0], leak)


@given(st.integers())
def test_seeds_and_text_of_training_reports_give_none(seed: int) -> None:
    chance = random.Random(seed)
    train, judged = reports(chance, "abc"), reports(chance, "vwxy")
    shown = [Passage("GI", "instruction", f"{SEED} {train[0].text}")]
    shown += [Passage("GI", f"demonstration {n}", c.text) for n, c in enumerate(train, 1)]
    assert hits(shown, [SEED], Split(train, judged[:2], judged[2:])) == []


@pytest.mark.parametrize("program", ["monolithic", "category_specific", "grouped", "review"])
def test_seeds_and_their_training_demonstrations_are_clean_on_the_sample(program: str) -> None:
    schema = load_schema("casereportbench")
    sides = split(load("sample", schema).cases)
    seed = build_program(program, schema, {})
    parts = {
        name: part.with_demonstrations([part.demonstration(c, c.gold or {}) for c in sides.train])
        for name, part in seed.parts.items()
    }
    assert scan(seed, seed.with_parts(parts), sides) == []


def test_unrelated_real_reports_give_no_hit() -> None:
    schema = load_schema("maccrobat")
    sides = split(load(str(real("maccrobat/cases.jsonl")), schema).cases)
    seed = build_program("category_specific", schema, {})
    parts = {
        name: part.with_demonstrations([part.demonstration(c, c.gold or {}) for c in sides.train])
        for name, part in seed.parts.items()
    }
    assert scan(seed, seed.with_parts(parts), sides) == []
