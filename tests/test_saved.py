"""Programs as files: the same after loading, to the byte, and refused when anything is off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from crb_dspy.catalog import build_program, code_of
from crb_dspy.data.benchmarks import load
from crb_dspy.data.schema import Schema, load_schema
from crb_dspy.errors import UserError
from crb_dspy.files import as_json
from crb_dspy.origin import Origin
from crb_dspy.saved import NAME, Saved, load_program, resolve, write_program

WHOLE = load_schema("casereportbench")
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("category_specific", {}),
    ("category_specific", {"cot": True, "keep_ungrounded": False}),
    ("monolithic", {"cot": True}),
    ("review", {}),
    ("filtered", {}),
    ("grouped", {}),
]


def tuned(
    name: str = "category_specific",
    options: dict[str, Any] | None = None,
    asked: Schema | None = None,
    **origin: Any,
) -> Saved:
    """A program with demonstrations and an instruction of its own in every part."""
    schema = asked or WHOLE.select(["GI", "Neuro"])
    program = build_program(name, schema, options or {})
    case = load("sample", WHOLE).cases[0]
    parts = {}
    for label, part in program.parts.items():
        shown = {**part.demonstration(case, case.gold or {}), "reasoning": 'Braces {x} "q" é \n'}
        changed = part.with_demonstrations([shown])
        changed.predict.demos[0]["case"] = case.id
        told = f"{{{{report}}}} of {label}: 5 × 10⁹/L"
        changed.predict.signature = changed.predict.signature.with_instructions(told)
        parts[label] = changed
    given = {"schema": "casereportbench", "model": "openai/fake", "code": code_of(name), **origin}
    about = Origin(
        program=name, program_options=options or {}, categories=list(schema.keys), **given
    )
    return Saved(program.with_parts(parts), schema, about)


@pytest.mark.parametrize(
    "demonstration",
    [
        {"report": 5, "GI": ["a"], "Neuro": ["a"]},
        {"report": ["a"], "GI": ["a"], "Neuro": ["a"]},
        {"report": "a", "GI": [5], "Neuro": [None]},
        {"report": "a", "GI": [["a"]], "Neuro": [{"a": 1}]},
        {"report": "a", "GI": True, "Neuro": 7},
    ],
)
def test_a_demonstration_that_no_prompt_can_show_is_refused(
    tmp_path: Path, demonstration: dict[str, Any]
) -> None:
    saved = tuned()
    for part in saved.program.parts.values():
        part.predict.demos = [demonstration]
    with pytest.raises(UserError, match="what this one cannot read or show"):
        load_program(write_program(tmp_path / NAME, saved))


def messages(saved: Saved) -> list[Any]:
    return [part.messages("A {report}.") for part in saved.program.parts.values()]


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_a_program_saved_loaded_and_saved_again_is_the_same_file(
    tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    first = tuned(name, options, api_base="http://127.0.0.1:1/v1", scores={"test/score": 0.1 + 0.2})
    path = write_program(tmp_path / "a" / NAME, first)
    again = load_program(path)
    second = write_program(tmp_path / "b" / NAME, again)
    assert path.read_bytes() == second.read_bytes()
    assert messages(again) == messages(first) != messages(Saved(first.seed, WHOLE, first.origin))
    assert again.schema == first.schema
    assert again.origin == first.origin
    assert again.fingerprint == first.fingerprint
    assert list((tmp_path / "a").iterdir()) == [path]
    demos = [p.demos for p in again.program.predictors() if p.demos]
    assert all(demo[0]["case"] == load("sample", WHOLE).cases[0].id for demo in demos)


def test_options_are_those_of_the_open_program(tmp_path: Path) -> None:
    saved = load_program(write_program(tmp_path / "p", tuned(options={"keep_ungrounded": False})))
    assert not any(part.keep_ungrounded for part in saved.program.parts.values())
    assert saved.seed.keys == ("Neuro", "GI")
    assert not any(part.predict.demos for part in saved.seed.parts.values())


def test_a_part_that_an_optimizer_marked_as_compiled_is_saved_too(tmp_path: Path) -> None:
    # DSPy leaves such parts out of the state of the program they are in.
    saved = tuned()
    for part in saved.program.parts.values():
        part._compiled = True
    assert messages(load_program(write_program(tmp_path / "p", saved))) == messages(saved)


def test_what_the_search_left_in_a_program_is_not_saved(tmp_path: Path) -> None:
    saved = tuned()
    for part in saved.program.parts.values():
        part.predict.traces = [{"report": "SECRET"}]
        part.predict.train = ["SECRET"]
    assert "SECRET" not in write_program(tmp_path / "p", saved).read_text()


def test_a_schema_of_ones_own_travels_with_its_program(tmp_path: Path) -> None:
    toml = tmp_path / "mine.toml"
    toml.write_text(
        'general_headings = ["Case"]\n'
        '[[category]]\nkey = "Rash"\ntitle = "Rashes"\nguidance = "skin"\ninstruction = "Quote."\n'
        'max_tokens = 99\nheadings = ["skin"]\ngroup = "g"\n'
        '[[category]]\nkey = "GI"\ntitle = "Gut"\nguidance = "gut"\ninstruction = "Quote."\n'
    )
    schema = load_schema(str(toml)).select(["Rash"])
    path = write_program(tmp_path / "p.json", tuned("filtered", {}, schema, schema=str(toml)))
    toml.unlink()
    again = load_program(path)
    assert again.schema == schema
    assert again.whole_schema.keys == ("Rash", "GI")


def test_a_program_of_ones_own_needs_its_file(tmp_path: Path) -> None:
    own = tmp_path / "mine.py"
    own.write_text(
        "from crb_dspy.program import ExtractionProgram, Part\n"
        "class Mine(ExtractionProgram):\n"
        "    def build(self, schema):\n"
        "        return {'everything': Part(schema.categories)}\n"
    )
    saved = tuned(f"{own}:Mine")
    path = write_program(tmp_path / "p.json", saved)
    assert "--trust" in refusal(path)
    assert messages(load_program(path, trust=True)) == messages(saved)
    assert messages(load_program(path)) == messages(saved)
    own.write_text(own.read_text() + f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(UserError, match=r"code of '.*mine\.py:Mine' is not what it was; compile"):
        load_program(path)
    assert not (tmp_path / "ran").exists()
    own.unlink()
    with pytest.raises(UserError, match=r"p\.json: '.*mine\.py:Mine': .* cannot be read: No such"):
        load_program(path)


def test_any_text_can_be_saved(tmp_path: Path) -> None:
    saved = tuned()
    demo = {"report": "half \ud800 of a pair, \u2028, \x00", "GI": [], "Neuro": []}
    for part in saved.program.parts.values():
        part.predict.demos = [demo]
    path = write_program(tmp_path / "p", saved)
    again = load_program(path)
    assert again.program.parts["GI"].predict.demos == [demo]
    assert path.read_bytes() == write_program(tmp_path / "q", again).read_bytes()


def test_undefined_scores_are_left_out() -> None:
    scores = {"a": float("nan"), "b": float("inf"), "c": 0.5}
    assert tuned(scores=scores).origin.scores == {"c": 0.5}


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_program(path)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}: ")


def changed(path: Path, change: Any, *, sealed: bool = False) -> str:
    """Write a saved program, change the table, seal it again if told, and load it."""
    import hashlib

    table = json.loads(write_program(path, tuned()).read_text())
    change(table)
    if sealed:
        del table["sha256"]
        table["sha256"] = hashlib.sha256(as_json(table).encode()).hexdigest()
    path.write_text(json.dumps(table))
    return refusal(path)


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    whole = write_program(tmp_path / "p", tuned()).read_bytes()
    for size in (0, 1, len(whole) // 2, len(whole) - 3):
        (tmp_path / "q").write_bytes(whole[:size])
        assert refusal(tmp_path / "q").startswith("not JSON, or cut off")


@pytest.mark.parametrize(
    "content", [b"\x80\x04pickle", b"\xff\xfe", b"[" * 100_000, b"hello", b"9" * 5000]
)
def test_what_is_not_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p").write_bytes(content)
    assert "not JSON" in refusal(tmp_path / "p")


def test_every_single_change_of_a_file_is_noticed(tmp_path: Path) -> None:
    def instruct(table: Any) -> None:
        table["state"]["GI.predict"]["signature"]["instructions"] += "!"

    def retell(table: Any) -> None:
        table["schema"]["category"][0]["guidance"] += "!"

    def score(table: Any) -> None:
        table["origin"]["scores"]["test/score"] = float("nan")

    def unseal(table: Any) -> None:
        del table["sha256"]

    for change in (instruct, retell, score, unseal):
        assert changed(tmp_path / "p", change).startswith("changed or damaged since")


def test_a_newer_format_is_named_before_anything_else(tmp_path: Path) -> None:
    said = changed(tmp_path / "p", lambda t: t.update(format=2, crb_dspy="9.0", new=1))
    assert said == "format 2, written by crb_dspy 9.0, is newer than this one's, 1; update crb_dspy"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ([], "not a program of crb_dspy"),
        ({}, "not a program of crb_dspy"),
        ({"a": 1}, "not a program of crb_dspy"),
        ({"crb_dspy": "0.1.0", "program": "x", "state": {}}, "written before programs had a"),
        ({"predict": {"signature": {}}, "metadata": {}}, "a plain DSPy state"),
    ],
)
def test_a_foreign_file_is_refused(tmp_path: Path, table: Any, said: str) -> None:
    (tmp_path / "p").write_text(json.dumps(table))
    assert refusal(tmp_path / "p").startswith(said)


def test_dspys_own_file_is_known_as_such(tmp_path: Path) -> None:
    tuned().program.save(str(tmp_path / "p.json"))
    assert refusal(tmp_path / "p.json").startswith("a plain DSPy state")


def forged(path: Path, change: Any) -> str:
    """What is said of a file that somebody changed and sealed again."""
    return changed(path, change, sealed=True)


def test_a_forged_state_sets_nothing_but_prompts(tmp_path: Path) -> None:
    path = tmp_path / "p"

    def predictor(**more: Any) -> Any:
        return lambda table: table["state"]["GI.predict"].update(more)

    assert "lm" in forged(path, predictor(lm={"model": "openai/x", "api_base": "http://evil"}))
    assert "forward" in forged(path, predictor(forward="x"))
    assert "extended_signature" in forged(path, predictor(extended_signature={}))
    assert "demos" in forged(path, predictor(demos="x"))
    assert "demos" in forged(path, predictor(demos=["x"]))


def test_fields_in_another_order_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p"
    said = forged(path, lambda t: t["fields"]["GI.predict"].reverse())
    assert said == "GI.predict has the fields report, GI now, not GI, report; compile again"
    said = forged(path, lambda t: t["state"]["GI.predict"]["signature"]["fields"].pop())
    assert "compile again" in said
    said = forged(path, lambda t: t["state"].pop("GI.predict"))
    assert "has other parts now" in said


def test_an_unfitting_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p"
    said = forged(path, lambda t: t["schema"]["category"][0].update(title="Another"))
    assert said.startswith("its schema is not the one it was tuned for")
    assert "key" in forged(path, lambda t: t["schema"]["category"][0].update(key="a b"))
    said = forged(path, lambda t: t["origin"].update(program="monolitic"))
    assert "did you mean 'monolithic'?" in said


def test_a_folder_means_the_program_in_it(tmp_path: Path) -> None:
    write_program(tmp_path / "run" / NAME, tuned())
    assert resolve(str(tmp_path / "run")) == tmp_path / "run" / NAME
    assert load_program(tmp_path / "run").schema.keys == ("Neuro", "GI")
    with pytest.raises(UserError, match="no such program"):
        resolve(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no program\.json in this folder"):
        resolve(tmp_path)


def test_a_link_out_of_a_folder_is_not_followed(tmp_path: Path) -> None:
    path = write_program(tmp_path / "elsewhere.json", tuned())
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / NAME).symlink_to(path)
    with pytest.raises(UserError, match="leads out of its folder"):
        load_program(tmp_path / "archive")
    inside = write_program(tmp_path / "other" / "kept.json", tuned())
    (tmp_path / "other" / NAME).symlink_to(inside)
    assert load_program(tmp_path / "other").origin.model == "openai/fake"


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_program(tmp_path / "file" / NAME, tuned())


def test_a_program_of_an_earlier_layout_of_this_project_loads_and_asks_the_same() -> None:
    saved = load_program(Path(__file__).parent / "fixtures" / "program_before_the_house.json")
    assert saved.origin.program_options == {"cot": True}
    assert (saved.origin.model, saved.origin.context) == ("openai/some-model", 4096)
    assert saved.program.parts["GI"].instruction.startswith("Quote every finding about the gut")
    assert len(saved.program.parts["GI"].predict.demos) == 2
    assert saved.seed.parts["GI"].instruction != saved.program.parts["GI"].instruction


def test_a_schema_without_terms_is_dumped_as_before_there_were_any() -> None:
    bare = WHOLE.model_copy(
        update={"categories": tuple(c.model_copy(update={"terms": []}) for c in WHOLE.categories)}
    )
    assert all("terms" not in own for own in bare.model_dump()["categories"])
    assert all(own["terms"] for own in WHOLE.model_dump()["categories"])
    dumped = WHOLE.model_dump(mode="json", by_alias=True)
    assert Schema.model_validate(dumped, strict=False) == WHOLE
